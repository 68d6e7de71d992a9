//! Toolchain for WebAssembly: detection, environment and linker.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{BuildError, TARGET};

/// Environment variable that forces a toolchain, `rustup` or `debian`. Without the variable the first toolchain found is used, in this
/// order.
pub const TOOLCHAIN_VARIABLE: &str = "WAXWING_GUEST_TOOLCHAIN";

/// Debian's second compiler (packages `rustc-web`, `cargo-web`, `rust-web-src`).
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// Stack of a guest in bytes, instead of rustc's 1 MiB. Most plugins then touch only memory that the server keeps resident, and a fresh
/// instance costs a third.
const STACK_BYTES: usize = 64 << 10;

/// Variables of the outer cargo to hide from the nested cargo: flags for another target, wrappers, directories.
const CLEARED_VARIABLES: [&str; 12] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "MFLAGS",
    "CLIPPY_ARGS",
];

/// A toolchain that compiles to WebAssembly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The current compiler, with the standard library of the target installed.
    Installed {
        /// Path of cargo.
        cargo: OsString,
        /// Path of rustc.
        rustc: OsString,
    },
    /// Debian's compiler, with the standard library built from source; comes without a linker for WebAssembly.
    Debian {
        /// Linker: rustup's `rust-lld`, or `wasm-ld` of the package `lld`.
        linker: PathBuf,
    },
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed { .. } => write!(f, "the installed target {TARGET}"),
            Self::Debian { .. } => f.write_str("Debian's rustc-web and -Zbuild-std"),
        }
    }
}

impl Toolchain {
    /// Finds the toolchain to use on this machine.
    pub fn find() -> Result<Self, BuildError> {
        let missing = |why: &str| BuildError::NoToolchain(why.to_owned());
        match std::env::var(TOOLCHAIN_VARIABLE).as_deref() {
            Ok("rustup") => Self::installed().ok_or_else(|| missing(&format!(" ({TOOLCHAIN_VARIABLE}=rustup forbids Debian's)"))),
            Ok("debian") => Self::debian().ok_or_else(|| missing(&format!(" ({TOOLCHAIN_VARIABLE}=debian forbids rustup's)"))),
            Ok(other) => Err(missing(&format!(" ({TOOLCHAIN_VARIABLE} is `{other}`, and can be `rustup` or `debian`)"))),
            Err(_) => Self::installed().or_else(Self::debian).ok_or_else(|| missing("")),
        }
    }

    fn installed() -> Option<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let libraries = command_output(Path::new(&rustc), &["--print", "target-libdir", "--target", TARGET])?;
        let mut entries = std::fs::read_dir(libraries).ok()?.flatten();
        entries.any(|e| e.file_name().to_string_lossy().starts_with("libstd-")).then_some(Self::Installed { cargo, rustc })
    }

    fn debian() -> Option<Self> {
        let sysroot = command_output(Path::new(DEBIAN_RUSTC), &["--print", "sysroot"])?;
        let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock");
        let linker = find_linker()?;
        (source.is_file() && Path::new(DEBIAN_CARGO).is_file()).then_some(Self::Debian { linker })
    }

    /// Name of the directory below the target directory: two compilers in the same directory would rebuild everything each time.
    #[must_use]
    pub fn target_subdirectory(&self) -> &'static str {
        match self {
            Self::Installed { .. } => "guests",
            Self::Debian { .. } => "guests-debian",
        }
    }

    /// Returns the command of the nested cargo, without subcommand.
    #[must_use]
    pub fn cargo(&self) -> Command {
        let mut command = match self {
            Self::Installed { cargo, rustc } => {
                let mut command = Command::new(cargo);
                command.env("RUSTC", rustc);
                command
            }
            Self::Debian { linker } => {
                let mut command = Command::new(DEBIAN_CARGO);
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                command.args(["-Z", "build-std=std,panic_abort"]);
                command
            }
        };
        for name in CLEARED_VARIABLES {
            command.env_remove(name);
        }
        command.env("RUSTFLAGS", format!("-C link-arg=-zstack-size={STACK_BYTES}"));
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CARGO_PROFILE_")
                || name_text.starts_with("CARGO_FEATURE_")
                || name_text.starts_with("CARGO_CFG_")
            {
                command.env_remove(&name);
            }
        }
        command
    }
}

/// Finds a linker for WebAssembly: of any rustup toolchain, or else of the package `lld`.
fn find_linker() -> Option<PathBuf> {
    let sysroot = command_output(Path::new("rustc"), &["--print", "sysroot"]).map(PathBuf::from);
    let host = sysroot.as_ref().map(|s| s.join("lib/rustlib"));
    let hosts = host.and_then(|h| std::fs::read_dir(h).ok()).into_iter().flatten().flatten();
    let rust_lld = hosts.map(|h| h.path().join("bin/rust-lld"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let wasm_ld: Vec<PathBuf> = std::env::split_paths(&path).map(|d| d.join("wasm-ld")).collect();
    rust_lld.chain(wasm_ld).find(|p| p.is_file())
}

fn command_output(rustc: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(rustc).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
