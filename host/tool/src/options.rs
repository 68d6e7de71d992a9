//! Options common to all commands.

use std::path::PathBuf;

use clap::Args;

/// Options common to all commands.
#[derive(Args, Clone, Debug, Default)]
pub struct GlobalOptions {
    /// Configuration file [default: /etc/waxwing/waxwing.toml, else the file of `waxwing dev`]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Control socket of the running server [default: from the configuration]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    pub json: bool,
}
