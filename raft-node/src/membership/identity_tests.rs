//! Whose directory is it: made once, found again, and refused when it is anything else.

use super::*;

const CLUSTER: Uuid = Uuid::from_u128(7);

fn open(dir: &Path) -> Result<NodeIdentity, IdentityError> {
    open_dir(dir, CLUSTER, 1, 2)
}

#[test]
fn made_once_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a/b");
    let first = open(&data).unwrap();
    let uuid = first.node_uuid;
    assert_ne!(first.store_id(), uuid);
    drop(first);
    assert_eq!(open(&data).unwrap().node_uuid, uuid);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(IdentityError::InUse { .. })));
}

#[test]
fn what_belongs_elsewhere_is_refused_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    for (refused, word) in [
        (open_dir(dir.path(), Uuid::from_u128(8), 1, 2), "cluster_id"),
        (open_dir(dir.path(), CLUSTER, 2, 2), "swapped"),
        (open_dir(dir.path(), CLUSTER, 1, 3), "groups"),
    ] {
        let text = refused.expect_err("it is another's").to_string();
        assert!(text.contains(word), "{text}");
    }
    open(dir.path()).unwrap();
}

#[test]
fn data_without_identity_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("log")).unwrap();
    fs::write(dir.path().join("log/1"), "entries").unwrap();
    let text = open(dir.path()).expect_err("not ours").to_string();
    assert!(text.contains("log") && text.contains("empty directory"), "{text}");
}

#[test]
fn a_damaged_or_newer_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let path = dir.path().join(FILE);
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(matches!(open(dir.path()), Err(IdentityError::Damaged { .. })));
    fs::write(&path, good.replace("\"format\": 1", "\"format\": 9")).unwrap();
    assert!(matches!(open(dir.path()), Err(IdentityError::Newer { found: 9, .. })));
    fs::write(&path, good).unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn a_first_start_that_was_cut_off_is_repeated() {
    let steps = ["LOCK", "log/", "groups/", "groups/0/", "groups/1/", "identity.json.new"];
    for done in 1..=steps.len() {
        let dir = tempfile::tempdir().unwrap();
        for step in &steps[..done] {
            match step.strip_suffix('/') {
                Some(name) => fs::create_dir(dir.path().join(name)).unwrap(),
                None => fs::write(dir.path().join(step), "{").unwrap(),
            }
        }
        open(dir.path()).unwrap_or_else(|e| panic!("cut off after {done} steps: {e}"));
    }
}

#[test]
fn an_identity_without_its_data_is_refused() {
    for gone in ["log", "groups", "groups/1"] {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::remove_dir_all(dir.path().join(gone)).unwrap();
        let error = open(dir.path()).expect_err("it has forgotten");
        let text = error.to_string();
        assert!(matches!(error, IdentityError::Incomplete { .. }), "{text}");
        assert!(text.contains(gone) && text.contains("never used"), "{text}");
        assert!(!dir.path().join(gone).exists(), "nothing was changed");
    }
}

#[test]
fn a_log_that_was_emptied_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let begin = || {
        let log = log_store::LogStore::open(&dir.path().join(LOG_DIR), small()).unwrap();
        log.0.close();
    };
    drop(open(dir.path()).unwrap());
    // A start that was cut off before the log was noted.
    begin();
    drop(open(dir.path()).unwrap());
    begin();
    note_log(dir.path()).unwrap();
    drop(open(dir.path()).unwrap());

    fs::remove_dir_all(dir.path().join(LOG_DIR)).unwrap();
    fs::create_dir(dir.path().join(LOG_DIR)).unwrap();
    let text = open(dir.path()).expect_err("it has forgotten its votes").to_string();
    assert!(text.contains("everything in log") && text.contains("never used"), "{text}");
}

fn small() -> log_store::Options {
    log_store::Options { segment_bytes: 4096 * 16, spare_segments: 0, ..Default::default() }
}

#[test]
fn a_failing_disk_ends_differently_from_a_wrong_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file.join("data")).expect_err("a file is in the way");
    assert_eq!(error.exit_code(), ExitCode::Config, "{error}");
    let io = |e| IdentityError::Io { path: file.clone(), source: io::Error::from_raw_os_error(e) };
    assert_eq!(io(libc::EIO).exit_code(), ExitCode::Io);
    assert_eq!(io(libc::ENOSPC).exit_code(), ExitCode::Io);
    assert_eq!(io(libc::EROFS).exit_code(), ExitCode::Config);
}
