//! A damaged block: an error that names file and offset, and never wrong data.

use super::process::{Server, run, scratch, text};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const KEYS: usize = 2000;

/// The tables that the manifests name; what a kill cut off is none.
fn tables(directory: &Path) -> Vec<PathBuf> {
    let listed = text(&run(&["inspect", directory.to_str().unwrap(), "tables"]).stdout);
    let files = listed.split_whitespace().filter_map(|field| field.strip_prefix("file="));
    files.map(PathBuf::from).collect()
}

/// Whether the store has a table, finished or not.
fn has_table(directory: &Path) -> bool {
    let regions = std::fs::read_dir(directory.join("regions")).unwrap();
    let mut files = regions.flat_map(|region| std::fs::read_dir(region.unwrap().path()).unwrap());
    files.any(|file| file.unwrap().path().extension().is_some_and(|end| end == "sst"))
}

#[test]
fn a_damaged_block_is_an_error_and_the_rest_is_answered() {
    let home = scratch();
    let directory = home.path().join("store");
    let settings = home.path().join("small.toml");
    std::fs::write(&settings, "[tree]\nmemtable_size = \"64K\"\ncompress = false\n").unwrap();
    let options = ["--config", settings.to_str().unwrap()];
    let filler = "x".repeat(100);
    let lines: Vec<String> = (0..KEYS).map(|n| format!("key{n:05}\tvalue-of-{n:05}-{filler}\n")).collect();
    let pairs = lines.concat();
    let file = home.path().join("pairs.tsv");
    std::fs::write(&file, pairs).unwrap();
    {
        let server = Server::start(&directory, &options);
        assert!(server.raw(&["batch-put", file.to_str().unwrap()]).status.success());
        let flushed = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            has_table(&directory)
        });
        assert!(flushed, "a memtable of 64 KiB is flushed");
        // Until that flush has ended, and a compaction after it.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    // One byte in the first data block of every table.
    let damaged = tables(&directory);
    assert!(!damaged.is_empty());
    for path in &damaged {
        let table = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        table.read_exact_at(&mut byte, 200).unwrap();
        table.write_all_at(&[byte[0] ^ 0x10], 200).unwrap();
    }
    let verified = run(&["inspect", directory.to_str().unwrap(), "verify"]);
    assert_eq!(verified.status.code(), Some(3));
    for path in &damaged {
        assert!(text(&verified.stdout).contains(path.to_str().unwrap()));
    }
    let server = Server::start(&directory, &options);
    let (mut answered, mut refused) = (0, 0);
    for number in (0..KEYS).step_by(10) {
        let got = server.raw(&["get", &format!("key{number:05}")]);
        match got.status.code() {
            Some(0) => {
                assert!(text(&got.stdout).starts_with(&format!("value-of-{number:05}-")));
                answered += 1;
            }
            Some(3) => {
                let said = text(&got.stderr);
                assert!(damaged.iter().any(|path| said.contains(path.to_str().unwrap())), "{said}");
                assert!(said.contains("at offset 16"), "{said}");
                refused += 1;
            }
            other => panic!("key{number:05}: {other:?} {}", text(&got.stderr)),
        }
    }
    assert!(refused > 0 && answered > refused, "{answered} answered, {refused} refused");
}
