//! Starts: those that must be refused, each with a message that says what to do, and one that must not end by itself.

use super::process::{Server, assert_refused, run, scratch, server, text};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

#[test]
fn a_directory_that_is_not_its_own_is_left_alone() {
    let home = scratch();
    let store = home.path().join("store");
    let running = Server::start(&store, &[]);
    let second = server(&store, "127.0.0.1:0", &[]).output().unwrap();
    assert_refused(&second, 3, &["in use by another process"]);
    drop(running);

    let foreign = home.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter"), "dear").unwrap();
    let refused = server(&foreign, "127.0.0.1:0", &[]).output().unwrap();
    assert_refused(&refused, 3, &["letter", "not a data directory"]);
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);

    let format = store.join("PINION");
    let kept = std::fs::read(&format).unwrap();
    std::fs::write(&format, b"hello").unwrap();
    assert_refused(&server(&store, "127.0.0.1:0", &[]).output().unwrap(), 3, &["PINION", "5 bytes"]);
    let mut newer = kept.clone();
    newer[8] = 200;
    let checksum = crc32fast::hash(&newer[..12]).to_le_bytes();
    newer[12..].copy_from_slice(&checksum);
    std::fs::write(&format, &newer).unwrap();
    assert_refused(&server(&store, "127.0.0.1:0", &[]).output().unwrap(), 3, &["format 200"]);
    std::fs::write(&format, &kept).unwrap();
    drop(Server::start(&store, &[]));
}

#[test]
fn a_port_belongs_to_one_process() {
    let home = scratch();
    let running = Server::start(&home.path().join("one"), &[]);
    // SO_REUSEPORT must not hide another store.
    let second = server(&home.path().join("two"), &running.address, &[]).output().unwrap();
    assert_refused(&second, 3, &[&running.address, "another process does already"]);
    assert!(running.raw(&["put", "k", "v"]).status.success());
}

#[test]
fn a_start_waits_for_a_port_that_is_about_to_be_free() {
    let home = scratch();
    // A killed process keeps its listener for a moment: the kernel has yet to take its rings apart.
    let killed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = killed.local_addr().unwrap().to_string();
    let gone = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(killed);
    });
    let mut child = server(&home.path().join("store"), &address, &[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    gone.join().unwrap();
    assert!(said.starts_with("ready "), "{said:?}");
}

#[test]
fn settings_that_cannot_be_used_are_all_named() {
    let home = scratch();
    let directory = home.path().join("store");
    let many = ["--cores", "300", "--cpus", "auto", "--memory", "1M", "--data-dir"];
    let refused = run(&[&["server"], &many[..], &[directory.to_str().unwrap()]].concat());
    assert_refused(&refused, 2, &["cores is 300", "memory is 1M", "need at least"]);
    let more = format!("{}", std::thread::available_parallelism().unwrap().get() + 1);
    let refused =
        run(&["server", "--cores", &more, "--memory", "64G", "--data-dir", directory.to_str().unwrap()]);
    assert_refused(&refused, 2, &["processors", "set cpus to none"]);
    let refused = server(&directory, "127.0.0.1:0", &["--memory", "63M"]).output().unwrap();
    assert_refused(&refused, 2, &["memory is 63M", "at least 64M"]);
    assert_refused(&run(&["server"]), 2, &["--data-dir"]);
    let file = home.path().join("settings.toml");
    std::fs::write(&file, "memry = \"1G\"\n").unwrap();
    let config = ["config", "check", "--config", file.to_str().unwrap()];
    assert_refused(&run(&config), 2, &["memry", "settings.toml"]);
    std::fs::write(&file, "[raft]\nlog_entries_max = 1\nlog_size_max = \"1K\"\nsnapshot_rate = \"1K\"\n")
        .unwrap();
    let said = ["raft.log_entries_max is 1", "raft.log_size_max is 1K", "raft.snapshot_rate is 1K"];
    assert_refused(&run(&config), 2, &said);
    assert!(!directory.exists());
}

#[test]
fn a_store_that_logs_little_serves_until_it_is_told_to_stop() {
    let home = scratch();
    for level in ["error", "trace"] {
        let running = Server::start(&home.path().join(level), &["--log-level", level]);
        for key in ["a", "b", "c"] {
            let put = running.raw(&["put", key, "v"]);
            assert!(put.status.success(), "{level}: {}", text(&put.stderr));
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

#[test]
fn too_little_lockable_memory_says_what_to_set() {
    let home = scratch();
    let mut limited = server(&home.path().join("store"), "127.0.0.1:0", &[]);
    // SAFETY: setrlimit is safe to call between fork and exec.
    unsafe {
        limited.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 65536, rlim_max: 65536 };
            match libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    assert_refused(
        &limited.output().unwrap(),
        3,
        &["65536 bytes may be locked", "ulimit -l", "LimitMEMLOCK"],
    );
}

/// Has a system call refused with EPERM to what the command runs, as containers' seccomp profiles do.
fn refuse_system_call(command: &mut Command, number: libc::c_long) {
    let number = u32::try_from(number).unwrap();
    let step = |code: u32, yes: u8, no: u8, value: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: yes,
        jf: no,
        k: value,
    };
    // Loads the call's number, and compares.
    let filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: prctl is safe to call between fork and exec, and the filter outlives the calls.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: 4, filter: filter.as_ptr().cast_mut() };
            let refused = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0;
            if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

#[test]
fn io_uring_that_is_refused_says_what_to_allow() {
    let home = scratch();
    let mut refused = server(&home.path().join("store"), "127.0.0.1:0", &[]);
    refuse_system_call(&mut refused, libc::SYS_io_uring_setup);
    assert_refused(&refused.output().unwrap(), 3, &["io_uring_setup", "seccomp"]);
}

#[test]
fn buffers_that_cannot_be_registered_are_said_to_be() {
    let home = scratch();
    let mut refused = server(&home.path().join("store"), "127.0.0.1:0", &[]);
    refuse_system_call(&mut refused, libc::SYS_io_uring_register);
    assert_refused(&refused.output().unwrap(), 3, &["io_uring_register"]);
}
