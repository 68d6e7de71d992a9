//! Makes cargo resolve the build dependencies: build-time crates have a feature set of their own.

fn main() {}
