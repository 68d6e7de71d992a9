//! Nothing but features: built beside the server it has the libraries below it compiled as the tests have them, so that the gate compiles the
//! WebAssembly runtime once and not twice.
//!
//! Owns: the features that only the tests' crates ask of what the runtime and its tools stand on.
//! Uses: those libraries, and nothing of them.
//! Used by: the gate's build of the server. The server itself does not know it.
//! Never: code. Where `server build` compiles wasmtime again, a feature is missing here.
//! Start reading at: `Cargo.toml`.
#![forbid(unsafe_code)]
