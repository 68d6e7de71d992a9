//! Feature unification: built together with the server, so that shared libraries compile with the same features as for the tests and the
//! WebAssembly runtime is compiled once instead of twice.
//!
//! Owns: features requested only by the test crates for libraries below the WebAssembly runtime and tools.
//! Uses: no crate of the workspace; the shared libraries, without calling them.
//! Used by: no crate; built with the server by `cargo ci` and `cargo dev`.
//! Never: code. If `server build` compiles wasmtime again, a feature is missing here.
//! Start reading at: `Cargo.toml`.
#![forbid(unsafe_code)]
