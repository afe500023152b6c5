//! `pinion inspect` on what a real server left when it was killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_types, reason = "the processes and files are real")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const PINION: &str = env!("CARGO_BIN_EXE_pinion");

/// Starts a server of one core; gives it and its address.
fn serve(directory: &Path) -> (Child, String) {
    let mut server = Command::new(PINION)
        .args(["server", "--listen", "127.0.0.1:0", "--cores", "1", "--cpus", "none", "--data-dir"])
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let address = ready.trim().rsplit_once("listen=").expect(&ready).1.to_owned();
    (server, address)
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PINION).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_killed_store_shows_its_keys_and_a_flipped_byte_is_named() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let directory = home.path().join("store");
    let shown = directory.to_str().unwrap();
    let (mut server, address) = serve(&directory);
    for value in ["first", "second"] {
        assert!(run(&["raw", "--connect", &address, "put", "name", value]).status.success());
    }
    let busy = run(&["inspect", shown]);
    assert_eq!(busy.status.code(), Some(3));
    assert!(text(&busy.stderr).contains("in use by another process"), "{}", text(&busy.stderr));
    server.kill().unwrap();
    server.wait().unwrap();

    let overview = text(&run(&["inspect", shown]).stdout);
    assert!(overview.contains("start=raw:") && overview.contains("core\tid=0"), "{overview}");
    let versions = text(&run(&["inspect", shown, "key", "name"]).stdout);
    let values: Vec<_> = versions.lines().filter_map(|line| line.split('\t').nth(3)).collect();
    assert_eq!(values, ["first", "second"]);
    assert_eq!(run(&["inspect", shown, "key", "nothing"]).status.code(), Some(1));
    assert!(run(&["inspect", shown, "verify"]).status.success());

    // Within the first group, which later ones say was durable.
    let file = directory.join("cores/0/log/0000000000000001.log");
    let log = std::fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    let mut byte = [0];
    log.read_exact_at(&mut byte, 4096 + 100).unwrap();
    log.write_all_at(&[byte[0] ^ 1], 4096 + 100).unwrap();
    let damaged = run(&["inspect", shown, "verify"]);
    assert_eq!(damaged.status.code(), Some(3));
    let said = text(&damaged.stdout);
    assert!(said.contains(file.to_str().unwrap()) && said.contains("byte 4096"), "{said}");
}

#[test]
fn what_is_no_store_is_refused() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for directory in [home.path().to_owned(), home.path().join("missing")] {
        let refused = run(&["inspect", directory.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(3));
        assert!(text(&refused.stderr).contains("not a data directory of Pinion"));
    }
}
