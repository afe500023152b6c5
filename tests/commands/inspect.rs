//! `pinion inspect` on what a real server left when it was killed.

use super::process::{Server, run, scratch, text};
use std::os::unix::fs::FileExt as _;

#[test]
fn a_killed_store_shows_its_keys_and_a_flipped_byte_is_named() {
    let home = scratch();
    let directory = home.path().join("store");
    let shown = directory.to_str().unwrap();
    let server = Server::start(&directory, &[]);
    let address = server.address.clone();
    for value in ["first", "second"] {
        assert!(run(&["raw", "--connect", &address, "put", "name", value]).status.success());
    }
    let busy = run(&["inspect", shown]);
    assert_eq!(busy.status.code(), Some(3));
    assert!(text(&busy.stderr).contains("in use by another process"), "{}", text(&busy.stderr));
    drop(server);

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
    let home = scratch();
    for directory in [home.path().to_owned(), home.path().join("missing")] {
        let refused = run(&["inspect", directory.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(3));
        assert!(text(&refused.stderr).contains("not a data directory of Pinion"));
    }
}
