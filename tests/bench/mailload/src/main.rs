//! SMTP load client and sink that account for every message.
//!
//! Owns: messages with unique Message-IDs and incompressible bodies; the lists of acknowledged and
//! received messages.
//! Uses: the standard library. No code is shared with the measured server.
//! Used by: `tests/bench` and `tests/e2e`.
//! Never: connections to addresses other than 127.0.0.1.
//! Start reading at: [`main`]; both subcommands print one JSON object as their last line.
#![forbid(unsafe_code)]

mod message;
mod options;
mod percentile;
mod send;
mod sink;

use std::process::ExitCode;

use options::Options;

const USAGE: &str = "\
usage: mailload send --port N [--messages N] [--sessions N] [--bytes N] [--sender A] [--recipient A] [--pipeline 0|1]
                     [--per-connection N] [--pause-ms N] [--run NAME] [--acknowledged FILE]
       mailload sink --port N [--expect N] [--timeout SECONDS] [--linger-ms N] [--received FILE]
send: --per-connection 0 keeps a connection for all its messages; each session rests --pause-ms after a message; FILE gets the Message-ID of each message that the
      server took with a 250, one a line.
sink: ends once --expect messages came and --linger-ms more passed without one; FILE gets the Message-ID of each.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let result = Options::read(arguments).and_then(|options| match command.as_deref() {
        Some("send") => send::run(&options),
        Some("sink") => sink::run(&options),
        _ => Err(USAGE.to_owned()),
    });
    match result {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}
