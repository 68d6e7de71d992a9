//! The files of each language, as they are in the repository and as they are in a plugin's own folder.

use std::borrow::Cow;

use super::{EXAMPLE, Language};

/// A file of a new plugin.
#[derive(Clone, Copy)]
pub(super) struct File {
    /// Where it is in the plugin's folder; the example's name in it becomes the plugin's.
    pub(super) path: &'static str,
    /// Where it was in the repository.
    pub(super) source: &'static str,
    octets: &'static [u8],
}

/// Texts of the examples that are another in a folder of its own, beside the name.
const MOVED: [(&str, &str); 3] =
    [("../../../wit/", "wit/"), ("path = \"../../sdk\"", "path = \"vendor/waxwing-sdk\""), ("/bindings/*.o\n", "")];
/// Lines of the SDK's manifest that only have a meaning in the workspace.
const OF_THE_WORKSPACE: [&str; 3] = ["[package.metadata.room]", "[lints]", "layer = "];

macro_rules! files {
    ($($folder:literal => $to:literal: $($file:literal),+;)+) => {
        &[$($(File {
            path: concat!($to, $file),
            source: concat!($folder, $file),
            octets: include_bytes!(concat!("../../../../", $folder, $file)),
        }),+),+]
    };
}

const CONTRACT: &[File] = files! {
    "wit/mail/0.1.0/" => "wit/mail/0.1.0/": "hooks.wit", "host.wit", "message.wit", "transaction.wit", "types.wit", "worlds.wit";
};
const RUST: &[File] = files! {
    "plugins/examples/rust/" => "": "Cargo.toml", "README.md", "build", "src/lib.rs";
    "plugins/sdk/" => "vendor/waxwing-sdk/": "Cargo.toml", "wit/worlds.wit", "src/lib.rs", "src/heap.rs", "src/hooks.rs", "src/panic.rs", "src/settings.rs",
        "src/words.rs", "src/testing/mod.rs", "src/testing/host.rs", "src/testing/reach.rs";
};
const JS: &[File] = files! {
    "plugins/examples/js/" => "": "README.md", "build", "checker.js", "componentize.mjs", "package.json";
};
const PYTHON: &[File] = files! {
    "plugins/examples/python/" => "": "README.md", "app.py", "build", "requirements.txt";
};
const C: &[File] = files! {
    "plugins/examples/c/" => "": "README.md", "build", "checker.c", "libc/libc.c", "libc/stdlib.h", "libc/string.h",
        "bindings/configured_filter.c", "bindings/configured_filter.h", "bindings/configured_filter_component_type.o";
};
const COMMON: &[File] = files! {
    "plugins/examples/" => "": ".gitignore";
};

/// Those of a language.
pub(super) fn of(language: Language) -> impl Iterator<Item = File> {
    let own = match language {
        Language::Rust => RUST,
        Language::Js => JS,
        Language::Python => PYTHON,
        Language::C => C,
    };
    own.iter().chain(CONTRACT).chain(COMMON).copied()
}

impl File {
    /// As it is in the folder of the plugin `name`.
    pub(super) fn content(&self, name: &str) -> Cow<'static, [u8]> {
        let Ok(text) = std::str::from_utf8(self.octets) else { return Cow::Borrowed(self.octets) };
        if self.path.starts_with("vendor/") {
            return if self.path.ends_with("Cargo.toml") { sdk_manifest(text).into_bytes().into() } else { self.octets.into() };
        }
        if !self.source.starts_with("plugins/examples/") || self.source.contains("/bindings/") {
            return Cow::Borrowed(self.octets);
        }
        let text = text.replace(EXAMPLE, name);
        MOVED.iter().fold(text, |text, (from, to)| text.replace(from, to)).into_bytes().into()
    }

    /// Whether it is a program.
    pub(super) fn runs(&self) -> bool {
        self.path == "build"
    }
}

/// The SDK's manifest outside of its workspace.
fn sdk_manifest(text: &str) -> String {
    let mut own = String::new();
    for line in text.lines() {
        own += match line {
            "version.workspace = true" => concat!("version = \"", env!("CARGO_PKG_VERSION"), "\""),
            "edition.workspace = true" => "edition = \"2024\"",
            "rust-version.workspace = true" => concat!("rust-version = \"", env!("CARGO_PKG_RUST_VERSION"), "\""),
            "license.workspace = true" => "license = \"MIT OR Apache-2.0\"",
            "publish.workspace = true" => "publish = false",
            "wit-bindgen.workspace = true" => WIT_BINDGEN,
            "workspace = true" => continue,
            line if OF_THE_WORKSPACE.iter().any(|other| line.starts_with(other)) => continue,
            line => line,
        };
        own.push('\n');
    }
    own
}

/// The generator that the contract's components are made with here; a test compares it with the workspace.
pub(super) const WIT_BINDGEN: &str = "wit-bindgen = { version = \"=0.60.0\", default-features = false, features = [\"macros\", \"realloc\", \"std\", \"bitflags\"] }";
