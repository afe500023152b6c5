//! Lets glommio's rings be opened by `pinion_runtime`, which sets a flag that halves the cost of a message: see its
//! `glommio_machine/ring.rs`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,--wrap=__sys_io_uring_setup");
}
