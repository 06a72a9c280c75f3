//! `jepsen serve`: the list of runs, a run's files, all of them as a ZIP archive; nothing from
//! outside of the store, and nothing for another site's page.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// The program, which dies with the test.
struct Server {
    process: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(store: &Path) -> Result<Self> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_jepsen"))
            .args(["serve", "--port", "0", "--store"])
            .arg(store)
            .stdout(Stdio::piped())
            .spawn()?;
        let out = process.stdout.take().context("it was asked for")?;
        let mut server = Self { process, address: String::new() };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = line.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
        server.address = address.context("no address was printed")?.0.to_owned();
        Ok(server)
    }

    /// Status line with headers, and body. The path is sent as it stands.
    fn get(&self, path: &str, host: &str) -> Result<(String, Vec<u8>)> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let end =
            bytes.windows(4).position(|four| four == b"\r\n\r\n").context("no end of head")?;
        let head = String::from_utf8(bytes[..end].to_vec())?;
        Ok((head, bytes[end + 4..].to_vec()))
    }

    fn page(&self, path: &str) -> Result<String> {
        let (head, body) = self.get(path, &self.address)?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        Ok(String::from_utf8(body)?)
    }

    fn refused(&self, path: &str, host: &str, status: u16) -> Result<()> {
        let (head, body) = self.get(path, host)?;
        ensure!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
        let said = String::from_utf8_lossy(&body).into_owned();
        ensure!(!said.contains("outside"), "{path}: {said}");
        Ok(())
    }
}

/// What is sent without a length comes in chunks.
fn without_chunks(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n").context("no chunk")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end])?, 16)?;
        let chunk = bytes.get(end + 2..end + 2 + length).context("a chunk is cut")?;
        if length == 0 {
            return Ok(whole);
        }
        whole.extend_from_slice(chunk);
        bytes = &bytes[end + 4 + length..];
    }
}

/// The files of an archive, by its directory.
fn unzip(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let number = |at: usize, length: usize| -> Result<usize> {
        let bytes = bytes.get(at..at + length).context("the archive is cut")?;
        Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let end = bytes.len().checked_sub(22).context("the archive is cut")?;
    ensure!(bytes[end..].starts_with(b"PK\x05\x06"), "no end of the directory");
    let (count, mut at) = (number(end + 10, 2)?, number(end + 16, 4)?);
    let mut files = Vec::new();
    for _ in 0..count {
        ensure!(bytes[at..].starts_with(b"PK\x01\x02"), "no entry at {at}");
        let (length, name) = (number(at + 24, 4)?, number(at + 28, 2)?);
        let local = number(at + 42, 4)?;
        ensure!(bytes[local..].starts_with(b"PK\x03\x04"), "no file at {local}");
        let from = local + 30 + number(local + 26, 2)? + number(local + 28, 2)?;
        let title = std::str::from_utf8(&bytes[at + 46..at + 46 + name])?.to_owned();
        files.push((title, bytes[from..from + length].to_vec()));
        at += 46 + name;
    }
    Ok(files)
}

#[test]
fn runs_are_listed_shown_and_packed() -> Result<()> {
    let exe = Path::new(env!("CARGO_BIN_EXE_jepsen"));
    let target = exe.parent().context("a program is in a folder")?;
    let top = target.join(format!("jepsen-runs/serve-{}", std::process::id()));
    let store = top.join("store");
    let run = store.join("append-kill/20260101T000000.000Z");
    fs::create_dir_all(run.join("node1"))?;
    fs::write(top.join("secret.txt"), "outside")?;
    fs::write(run.join("node1/data"), "no use")?;
    fs::write(run.join("index.html"), "<h1>the page</h1>")?;
    fs::write(run.join("node1.log"), "said n1\n".repeat(100_000))?;
    fs::write(run.join("empty.txt"), "")?;
    let results = r#"{"verdict": "INVALID", "seed": 17, "anomalies": [{"anomaly": "lost-append",
        "count": 3}], "failures": ["<nothing> came back"], "records": {"acknowledged": 5}}"#;
    fs::write(run.join("results.json"), results)?;
    fs::create_dir_all(store.join("append-kill/20260102T000000.000Z"))?;
    std::os::unix::fs::symlink(&top, store.join("way-out"))?;

    let server = Server::start(&store)?;
    let all = server.page("/")?;
    for word in ["INVALID", "lost-append × 3", "&lt;nothing&gt; came back", ">17<", "broke"] {
        ensure!(all.contains(word), "{word:?} is not in {all}");
    }
    let at = "append-kill/20260101T000000.000Z";
    ensure!(all.contains(&format!("/files/{at}/index.html")), "no link to the page");
    ensure!(server.page(&format!("/files/{at}/index.html"))? == "<h1>the page</h1>");
    ensure!(server.page(&format!("/files/{at}/node1.log"))?.len() == 800_000);
    ensure!(server.page(&format!("/files/{at}/"))?.contains("node1/"));
    let (head, body) = server.get(&format!("/zip/{at}"), &server.address)?;
    ensure!(head.contains("append-kill-20260101T000000.000Z.zip"), "{head}");
    let files = unzip(&without_chunks(&body)?)?;
    let names: Vec<_> = files.iter().map(|(name, _)| name.rsplit_once('/').map(|n| n.1)).collect();
    let expected = ["empty.txt", "index.html", "node1.log", "results.json"];
    ensure!(names == expected.map(Some), "{names:?}");
    ensure!(files[1].1 == b"<h1>the page</h1>" && files[2].1.len() == 800_000);

    for path in ["/files/../secret.txt", "/files/%2e%2e/secret.txt", "/files/way-out/secret.txt"] {
        server.refused(path, &server.address, 404)?;
    }
    server.refused("/zip/%2e%2e/store", &server.address, 404)?;
    server.refused("/zip/way-out/store", &server.address, 404)?;
    server.refused("/", "elsewhere.example", 403)?;
    server.refused("/files/absent", &server.address, 404)?;
    drop(server);
    fs::remove_dir_all(&top)?;
    Ok(())
}
