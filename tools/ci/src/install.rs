//! Installation of missing tools: the wasm toolchain, a linker, the tools of the end-to-end tests.
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{is_installed, output_of, run_step};

/// Target of the plugins, and of the build that proves the pure crates pure.
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";
const WASI_TARGET: &str = "wasm32-wasip2";
/// Environment variable that forces a toolchain, `rustup` or `debian`; read by the build of the plugins too.
const TOOLCHAIN_VARIABLE: &str = "WAXWING_GUEST_TOOLCHAIN";
/// Debian packages of the fallback toolchain: a rustc with the sources of the standard library, to be built for wasm.
const DEBIAN_WASM: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "lld"];
/// Lockfile of the standard library sources, as installed by `rust-web-src`.
const DEBIAN_WASM_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/Cargo.lock";

/// Programs of the end-to-end tests, each with its Debian package.
const TEST_TOOLS: &[(&str, &str)] = &[
    ("python3", "python3"),
    ("swaks", "swaks"),
    ("msmtp", "msmtp"),
    ("curl", "curl"),
    ("strace", "strace"),
    ("eatmydata", "eatmydata"),
    ("postfix", "postfix"),
    ("smtp-source", "postfix"),
    ("ps", "procps"),
    ("unshare", "util-linux"),
    ("rspamd", "rspamd"),
    ("opendkim", "opendkim"),
    ("openssl", "openssl"),
    ("dovecot", "dovecot-lmtpd"),
    ("postgrey", "postgrey"),
    ("opendkim-genkey", "opendkim-tools"),
];

/// Policy file that forbids package scripts to start services (policy-rc.d).
const POLICY_RC_D: &str = "/usr/sbin/policy-rc.d";

/// Installs a linker for Rust, and a Rust toolchain that compiles the standard plugins to WebAssembly.
pub(crate) fn install_compilers() -> Result<(), String> {
    if !is_installed("cc") {
        apt_install(&["gcc", "libc6-dev"])
            .map_err(|error| format!("no C compiler (`cc`), which Rust needs as linker\n{error}"))?;
    }
    install_wasm_toolchain()?;
    // A single test compiles a guest that links WASI, and is skipped without the target.
    if is_installed("rustup") && run_step("rustup", &["target", "add", WASI_TARGET]).is_err() {
        eprintln!("without rustup's target {WASI_TARGET} the test of WASI is skipped");
    }
    Ok(())
}

/// Accepts either toolchain; `WAXWING_GUEST_TOOLCHAIN` forces a choice, as in the build.
fn install_wasm_toolchain() -> Result<(), String> {
    let forced = std::env::var(TOOLCHAIN_VARIABLE).unwrap_or_default();
    let (rustup, debian) = (forced != "debian", forced != "rustup");
    if rustup && has_rustup_target() || debian && has_debian_toolchain() {
        return Ok(());
    }
    let by_rustup = if !rustup {
        format!("{TOOLCHAIN_VARIABLE}={forced} forbids it")
    } else if !is_installed("rustup") {
        "rustup is not installed".to_owned()
    } else {
        match run_step("rustup", &["target", "add", WASM_TARGET]) {
            Ok(()) if has_rustup_target() => return Ok(()),
            Ok(()) => "rustup added the target, but not to the toolchain that `rustc` is".to_owned(),
            Err(error) => error,
        }
    };
    let by_apt = if debian { apt_install(DEBIAN_WASM) } else { Err(format!("{TOOLCHAIN_VARIABLE}={forced} forbids it")) };
    match by_apt {
        Ok(()) if has_debian_toolchain() => Ok(()),
        Ok(()) => Err(missing_wasm(&by_rustup, "the packages are installed but are not where they were expected")),
        Err(error) => Err(missing_wasm(&by_rustup, &error)),
    }
}

fn missing_wasm(by_rustup: &str, by_apt: &str) -> String {
    format!(
        "The plugins are compiled to WebAssembly, and no toolchain for that is installed. Either is enough:\n  \
         rustup target add {WASM_TARGET}\n    ({by_rustup})\n  \
         apt-get install {}\n    (Debian, as root; {by_apt})",
        DEBIAN_WASM.join(" ")
    )
}

/// Checks for the library of the target in the toolchain of `rustc`.
pub(crate) fn has_rustup_target() -> bool {
    let libraries = output_of("rustc", &["--print", "target-libdir", "--target", WASM_TARGET]);
    libraries.is_some_and(|folder| Path::new(&folder).is_dir())
}

/// Checks for Debian's compiler, the library sources, and a linker: rustup's or the package lld.
fn has_debian_toolchain() -> bool {
    let exists = |path: &str| Path::new(path).is_file();
    exists(DEBIAN_WASM_SOURCES)
        && exists("/usr/bin/rustc")
        && exists("/usr/bin/cargo")
        && (is_installed("wasm-ld") || has_rust_lld())
}

fn has_rust_lld() -> bool {
    let sysroot = output_of("rustc", &["--print", "sysroot"]).unwrap_or_default();
    let hosts = std::fs::read_dir(Path::new(&sysroot).join("lib/rustlib")).into_iter().flatten().flatten();
    hosts.map(|host| host.path().join("bin/rust-lld")).any(|linker| linker.is_file())
}

/// Installs compilers for plugins in other languages into the target directory. Returns the notice of tests skipped for want of a
/// compiler.
pub(crate) fn install_guest_compilers(target: &Path) -> Option<String> {
    if !is_installed("clang") || !is_installed("wasm-ld") {
        // Without clang and lld the script tries the clang of PyPI.
        let _ = apt_install(&["clang", "lld"]);
    }
    let folder = target.join("guest-compilers");
    if let Err(error) = run_step("plugins/examples/compilers", &[&folder.display().to_string()]) {
        eprintln!("{error}");
    }
    let exists = |path: &str| folder.join(path).exists();
    let c = is_installed("clang") && is_installed("wasm-ld") || exists("bin/zig-cc");
    let javascript = is_installed("node") && exists("js/node_modules/@bytecodealliance/componentize-js/src/componentize.js");
    let all = [("C", c), ("JavaScript", javascript), ("Python", exists("python/bin/componentize-py"))];
    let missing: Vec<&str> =
        all.into_iter().filter(|(_, is_installed_here)| !is_installed_here).map(|(language, _)| language).collect();
    (!missing.is_empty()).then(|| format!("NOT TESTED, no compiler available: plugins in {}", missing.join(", ")))
}

/// Installs the programs of the end-to-end tests.
pub(crate) fn install_test_tools() -> Result<(), String> {
    let mut packages: Vec<&str> =
        TEST_TOOLS.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() { Ok(()) } else { apt_install(&packages) }
}

/// Unpacks Debian's Exim and OpenSMTPD beside Postfix, since their packages conflict with Postfix; returns the folder for `PEERS`, or the
/// notice of the tests skipped.
pub(crate) fn fetch_peers(target: &Path) -> Result<PathBuf, String> {
    let folder = target.join("peers");
    let name = folder.display().to_string();
    if is_unpacked(&folder) {
        return Ok(folder);
    }
    let fetched = run_step("tests/e2e/fetch-peers", &[&name]).or_else(|_| {
        run_step("apt-get", &["--yes", "--quiet", "-o", "DPkg::Lock::Timeout=300", "update"])?;
        run_step("tests/e2e/fetch-peers", &[&name])
    });
    match fetched {
        Ok(()) if is_unpacked(&folder) => Ok(folder),
        Ok(()) => Err("NOT TESTED, not where they were expected: Exim and OpenSMTPD as peers".to_owned()),
        Err(error) => Err(format!("NOT TESTED, not available: Exim and OpenSMTPD as peers ({error})")),
    }
}

fn is_unpacked(folder: &Path) -> bool {
    folder.join(".whole").is_file()
}

/// Installs packages as root, without starting any service; as another user returns the command to run.
fn apt_install(packages: &[&str]) -> Result<(), String> {
    let list = packages.join(" ");
    if !is_installed("apt-get") {
        return Err(format!("missing, and apt-get is not available: {list}"));
    }
    if output_of("id", &["-u"]).as_deref() != Some("0") {
        return Err(format!("missing, and only root can install them: apt-get install {list}"));
    }
    let _guard = ServiceStartBlock::create()?;
    if packages.contains(&"postfix") {
        // Preseeds the package's question; otherwise the script would prompt, or write a configuration.
        let answer = "echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections";
        run_step("sh", &["-c", answer])?;
    }
    run_apt_get(packages).or_else(|_| {
        run_step("apt-get", &["--yes", "--quiet", "-o", "DPkg::Lock::Timeout=300", "update"])?;
        run_apt_get(packages)
    })
}

fn run_apt_get(packages: &[&str]) -> Result<(), String> {
    eprintln!("+ apt-get install {}", packages.join(" "));
    let status = Command::new("apt-get")
        .args(["--yes", "--quiet", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`apt-get install {}` ended with {status}", packages.join(" "))),
        Err(error) => Err(format!("apt-get: {error}")),
    }
}

/// Blocks the start of services by invoke-rc.d while alive; an existing policy file stays unchanged.
struct ServiceStartBlock {
    created: bool,
}

impl ServiceStartBlock {
    fn create() -> Result<Self, String> {
        if Path::new(POLICY_RC_D).exists() {
            return Ok(Self { created: false });
        }
        std::fs::write(POLICY_RC_D, "#!/bin/sh\nexit 101\n").map_err(|error| format!("{POLICY_RC_D}: {error}"))?;
        let guard = Self { created: true };
        run_step("chmod", &["755", POLICY_RC_D])?;
        Ok(guard)
    }
}

impl Drop for ServiceStartBlock {
    fn drop(&mut self) {
        if self.created
            && let Err(error) = std::fs::remove_file(POLICY_RC_D)
        {
            eprintln!("{POLICY_RC_D}: {error}; remove it, or services will not start");
        }
    }
}
