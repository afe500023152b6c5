//! Calls that cannot be done, and their exit statuses: 1 not found or not swapped, 2 wrong usage, 3 refused.

use super::process::{Server, assert_refused, run, scratch, text};

#[test]
fn every_refusal_has_its_status_and_says_why() {
    let home = scratch();
    let server = Server::start(&home.path().join("store"), &[]);
    assert!(server.raw(&["put", "kept", "value"]).status.success());

    assert_refused(&server.raw(&["put", "", "v"]), 3, &["the key is empty"]);
    assert_refused(&server.raw(&["get", ""]), 3, &["the key is empty"]);
    let long = "k".repeat(4097);
    assert_refused(&server.raw(&["put", &long, "v"]), 3, &["4097", "limit of 4096"]);
    assert!(server.raw(&["put", &long[1..], "v"]).status.success());
    let large = vec![b'v'; (8 << 20) + 1];
    assert_refused(
        &server.raw_with_input(&["put", "large", "-"], &large),
        3,
        &["8388609", "limit of 8388608"],
    );
    assert!(server.raw_with_input(&["put", "large", "-"], &large[1..]).status.success());
    assert_eq!(server.raw(&["get", "large"]).stdout.len(), (8 << 20) + 1);

    assert_refused(
        &server.raw(&["put", "--cf", "other", "k", "v"]),
        2,
        &["no such family", "default, lock and write"],
    );
    assert_refused(&server.raw(&["scan", "--start", "b", "--end", "a"]), 3, &["start is after its end"]);
    assert_refused(&server.raw(&["delete-range", "b", "a"]), 3, &["start is after its end"]);
    assert_refused(&server.raw(&["scan", "--limit", "many"]), 2, &["--limit"]);
    assert!(server.raw(&["scan", "--limit", "0"]).stdout.is_empty());
    assert_refused(&server.raw(&["put", "k", "v", "--hex"]), 2, &["k"]);
    assert_refused(&server.raw(&["get"]), 2, &["KEY"]);

    assert_refused(&server.raw(&["get", "missing"]), 1, &["no such key: missing"]);
    assert_refused(&server.raw(&["ttl", "missing"]), 1, &["no such key: missing"]);
    assert_eq!(server.raw(&["cas", "--expect", "other", "kept", "new"]).status.code(), Some(1));
    assert_eq!(text(&server.raw(&["get", "kept"]).stdout).trim(), "value");

    assert_refused(
        &run(&["raw", "--connect", "127.0.0.1:1", "get", "k"]),
        3,
        &["cannot reach a store at 127.0.0.1:1"],
    );
    assert_refused(&run(&["raw", "--connect", "nonsense", "get", "k"]), 3, &["`nonsense` is no address"]);
}

#[test]
fn keys_print_escaped_and_read_back() {
    let home = scratch();
    let server = Server::start(&home.path().join("store"), &[]);
    assert!(server.raw(&["put", "--hex", "00ff5c41", "0a"]).status.success());
    let listed = text(&server.raw(&["scan", "--keys-only"]).stdout);
    assert_eq!(listed.trim(), r"\x00\xff\\A");
    let json = text(&server.raw(&["--output", "json", "--hex", "get", "00ff5c41"]).stdout);
    assert!(json.contains("0a"), "{json}");
}
