//! Whether the real machine says clearly why it cannot start. Each refusal is brought about in a child process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use pinion_runtime::machine::{self, MachineConfig, MachineError};
use std::process::Command;

/// Tells a child which refusal to bring about.
const REFUSAL: &str = "PINION_TEST_REFUSAL";

/// Runs the test `name` again in a process of its own; what it printed between the marks.
fn in_child(name: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(REFUSAL, "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, rest) = text.split_once("<<<").unwrap_or_else(|| panic!("no report: {text}"));
    rest.split_once(">>>").unwrap().0.to_owned()
}

fn is_child() -> bool {
    std::env::var_os(REFUSAL).is_some()
}

/// What the check said, as the child reports it.
fn report(result: Result<(), MachineError>) {
    println!("\n<<<{}>>>", result.err().map_or_else(|| "started".to_owned(), |error| error.to_string()));
}

fn limit_locked_memory(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the pointer is valid through the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }, 0);
}

/// Makes io_uring_setup(2) fail with EPERM, as a container's seccomp profile does.
fn refuse_io_uring() {
    const LOAD_SYSCALL: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let mut program = [
        instruction(LOAD_SYSCALL, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, 0, 1, u32::try_from(libc::SYS_io_uring_setup).unwrap()),
        instruction(RETURN, 0, 0, refuse),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program =
        libc::sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives through the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn this_machine_starts() {
    machine::check().unwrap();
}

#[test]
fn a_processor_that_is_not_there_is_named() {
    let mut config = MachineConfig::unpinned(1);
    config.cpus = vec![Some(9999)];
    let error = machine::run(&config, |_| async {}).unwrap_err();
    assert!(error.to_string().contains("no processor 9999"), "{error}");
    assert!(error.get_ref().unwrap().is::<MachineError>());
    let none = machine::check_config(&MachineConfig { cpus: Vec::new(), io_memory_bytes: 0 });
    assert!(matches!(none, Err(MachineError::NoCores)));
}

#[test]
fn a_pinned_core_runs() {
    let mut config = MachineConfig::unpinned(1);
    config.cpus = vec![Some(0)];
    let found = machine::run(&config, |_| async { pinion_runtime::fs::exists("/").await.unwrap() }).unwrap();
    assert_eq!(found, [true]);
}

#[test]
fn a_refused_io_uring_says_what_to_set() {
    if is_child() {
        refuse_io_uring();
        return report(machine::check());
    }
    let said = in_child("a_refused_io_uring_says_what_to_set");
    assert!(said.contains("io_uring is refused") && said.contains("kernel.io_uring_disabled"), "{said}");
}

#[test]
fn too_little_lockable_memory_says_what_to_set() {
    if is_child() {
        limit_locked_memory(64 << 10);
        return report(machine::check());
    }
    let said = in_child("too_little_lockable_memory_says_what_to_set");
    assert!(said.contains("65536") && said.contains("RLIMIT_MEMLOCK"), "{said}");
}

#[test]
fn refused_buffers_say_how_much_is_needed() {
    if is_child() {
        limit_locked_memory(1 << 20);
        // SAFETY: the call takes no memory. Root may lock what it likes; anybody else is refused the call, and limited anyway.
        unsafe { libc::syscall(libc::SYS_setuid, 65534) };
        return report(machine::check_config(&MachineConfig::unpinned(2)));
    }
    let said = in_child("refused_buffers_say_how_much_is_needed");
    assert!(said.contains("refused to register buffers") && said.contains("6291456"), "{said}");
}
