//! Makes cargo take up the build dependencies: what runs while other crates are built has features of its own.

fn main() {}
