//! Intake: connects SMTP sessions, hooks and the queue, and takes responsibility for messages by committing to the spool.
//!
//! Owns: relay control, restrictions and address verification, the path of a message from MAIL to the commit, alias expansion, hooks for
//! internally generated mail, the session guard and the session log line.
//! Uses: config, generated, message, net, pipeline, smtp, spool, types.
//! Used by: admin, daemon.
//! Never: a socket, WebAssembly, a delivery.
//! Start reading at: `session_handler.rs` (questions of an SMTP session), then `transaction.rs`.
#![forbid(unsafe_code)]

mod alias_expansion;
mod commit;
mod end_of_data;
mod expanded_aliases;
mod expanded_dsn;
mod guard;
mod intake;
mod recording;
mod relay_control;
mod replies;
mod restrictions;
mod session_handler;
mod settings;
mod submissions;
mod submit;
mod transaction;
mod verify;

pub use guard::{Guard, GuardAnswer, GuardQuestion, GuardSettings, GuardState, GuardedSession, GuardedSessionHandler};
pub use intake::{Intake, IntakeServices};
pub use restrictions::Policy;
pub use session_handler::SmtpSessionHandler;
pub use settings::IntakeSettings;
pub use verify::Verifier;

#[cfg(test)]
mod tests;
