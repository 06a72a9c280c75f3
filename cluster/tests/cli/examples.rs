//! The commands that the tour shows are commands that work.

use std::{env, fs, path::Path};

use crate::cluster::{Cluster, bin_dir, text};

/// The lines of the blocks that are marked as shell.
fn shell_blocks(page: &str) -> Vec<String> {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => {
                inside = true;
                blocks.push(Vec::new());
            }
            "```" => inside = false,
            _ if inside => blocks.last_mut().expect("a block was begun").push(line),
            _ => {}
        }
    }
    blocks.into_iter().map(|lines| lines.join("\n")).collect()
}

#[test]
fn the_life_of_a_read_can_be_tried() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/life-of-a-read.md");
    let blocks = shell_blocks(&fs::read_to_string(page).expect("the page is there"));
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    assert!(blocks[0].lines().count() > 5, "{}", blocks[0]);
    let cluster = Cluster::start();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([bin_dir().to_owned()].into_iter().chain(env::split_paths(&path)));
    let shell = cluster.shell(&blocks[0]).env("PATH", path.expect("no colon in it")).output();
    let done = shell.expect("a shell");
    let said = text(&done.stdout);
    assert!(done.status.success(), "{said}\n{}", text(&done.stderr));
    assert!(said.matches("hello\n").count() >= 3, "{said}");
    assert!(said.contains("read level    bounded:500ms"), "{said}");
    let headers = text(&done.stderr);
    let headers: Vec<&str> = headers.lines().filter(|line| line.starts_with("node ")).collect();
    let [own, named, least] = headers[..] else { panic!("{headers:?}") };
    assert!(own.contains("read at bounded:2000ms: at most "), "{own}");
    assert!(named.contains("read at linearizable: at most "), "{named}");
    assert!(least.contains("read at eventual: "), "{least}");
}
