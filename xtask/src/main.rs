//! The front door for checks, tests, campaigns and code generation.

fn main() {}
