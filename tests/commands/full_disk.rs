//! A full disk: writes are refused, reads go on, and writes too once there is room again. On a file system of its own, which takes root.

use super::process::{Server, assert_refused, scratch, text};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small ext4 on a loop device.
struct Mounted(PathBuf);

impl Mounted {
    fn new(home: &Path, mebibytes: u64) -> Self {
        let (image, directory) = (home.join("image"), home.join("mounted"));
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        std::fs::create_dir(&directory).unwrap();
        let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&directory));
        Self(directory)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn is_root() -> bool {
    // SAFETY: it has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    if !is_root() {
        eprintln!("skipped: mounting a small file system takes root");
        return;
    }
    let home = scratch();
    let mounted = Mounted::new(home.path(), 600);
    let ballast = mounted.0.join("ballast");
    std::fs::write(&ballast, vec![1; 128 << 20]).unwrap();
    let server = Server::start(&mounted.0.join("store"), &[]);
    assert!(server.raw(&["put", "before", "kept"]).status.success());
    let value = vec![b'v'; 4 << 20];
    let mut written = 0;
    let refused = loop {
        let put = server.raw_with_input(&["put", &format!("large{written:04}"), "-"], &value);
        if !put.status.success() {
            break put;
        }
        written += 1;
        assert!(written < 1000, "the disk never filled");
    };
    assert_refused(&refused, 3, &["disk"]);
    assert!(text(&refused.stderr).to_lowercase().contains("full"), "{}", text(&refused.stderr));
    assert!(written > 10, "{written}");
    assert_eq!(text(&server.raw(&["get", "before"]).stdout).trim(), "kept");
    assert_eq!(server.raw(&["get", "large0000"]).stdout.len(), value.len() + 1);

    std::fs::remove_file(&ballast).unwrap();
    let again = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        server.raw(&["put", "after", "room"]).status.success()
    });
    assert!(again, "writes go on when there is room");
    drop(server);
    let server = Server::start(&mounted.0.join("store"), &[]);
    assert_eq!(text(&server.raw(&["get", "after"]).stdout).trim(), "room");
    for number in 0..written {
        assert_eq!(server.raw(&["get", &format!("large{number:04}")]).stdout.len(), value.len() + 1);
    }
}
