//! `waxwing`, the server program: reads the configuration, builds and connects the services, runs and stops them.
//!
//! Owns: command line, startup and shutdown order, privileges, clock, log.
//! Uses: accounts, admin, config, control, delivery, intake, logging, mailbox, message, net, pipeline, plugins, queue,
//! sandbox, smtp, spool, state, store, tool, types.
//! Used by: administrators and process supervisors; no crate.
//! Never: a decision on mail.
//! Start reading at: [`run::run`], then `bootstrap.rs`.
#![forbid(unsafe_code)]

mod bootstrap;
mod bound_listener;
mod cli;
mod clock;
mod dev;
mod event_queue;
mod generation;
mod listener_settings;
mod listeners;
mod privilege;
mod reload;
mod rlimits;
mod run;
mod services;
mod signals;
mod simulation;
mod supervisor;
mod tls;
mod transports;

use std::process::ExitCode;

/// jemalloc replaces glibc's allocator: buffers are allocated and freed on different threads, and each plugin call allocates some dozen
/// times. With glibc the whole server takes a quarter more time and returns less memory to the system. `.cargo/config.toml` sets the
/// amount of memory kept.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main()
}
