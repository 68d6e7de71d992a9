//! `waxwing`, the one binary: reads the configuration, builds and wires the parts, runs them, shuts down.
//!
//! Owns: the command line, the order of start and end, privileges, the clock, the log, the server's side of the control socket.
//! Uses: everything.
//! Used by: people and supervisors.
//! Never: a decision on mail.
//! Start reading at: [`serve::run`], then `wire.rs`.
#![forbid(unsafe_code)]

mod cli;
mod clock;
mod control;
mod desk;
mod dev;
mod events;
mod limits;
mod listen;
mod log;
mod numbers;
mod outbound;
mod plugin_tables;
mod plugins;
mod ports;
mod privilege;
mod rehearsal;
mod reload;
mod serve;
mod signals;
mod supervisor;
mod tls;
mod wire;

use std::process::ExitCode;

/// Buffers are made on one thread and freed on another, and each call of a plugin makes and frees some dozen pieces: on that glibc's
/// allocator spends a quarter more of the whole server's time, and it returns less memory. `.cargo/config.toml` sets how much is kept.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main()
}
