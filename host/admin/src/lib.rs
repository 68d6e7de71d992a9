//! Administration of the server: handles the requests of the control socket, and renders the metrics.
//!
//! Owns: the server side of the control socket; the answer to each request; the text of the metrics.
//! Uses: accounts, config, control, delivery, intake, net, pipeline, plugins, spool, state, types.
//! Used by: daemon.
//! Never: the building of a service; a change of the configuration (behind [`ReloadHandler`]); a decision on mail.
//! Start reading at: [`AdminService`], then `control_server.rs`.
#![forbid(unsafe_code)]

mod control_server;
mod handler;
mod metrics;
mod service;

pub use control_server::{ControlSocketError, bind, serve};
pub use handler::{ControlHandler, ListenerCertificates, ReloadHandler};
pub use metrics::{MetricsSources, render};
pub use service::AdminService;
