//! Template files of new plugins by language, taken from the repository.

use std::borrow::Cow;

use super::{EXAMPLE_NAME, PluginLanguage};

/// Template file of a new plugin.
#[derive(Clone, Copy)]
pub(super) struct TemplateFile {
    /// Path in the plugin's folder; the name of the example becomes the name of the plugin.
    pub(super) path: &'static str,
    /// Path in the repository.
    pub(super) source: &'static str,
    bytes: &'static [u8],
}

/// Replacements, beside the name, in the files of an example outside of the repository.
const REPLACEMENTS: [(&str, &str); 3] =
    [("../../../wit/", "wit/"), ("path = \"../../sdk\"", "path = \"vendor/waxwing-sdk\""), ("/bindings/*.o\n", "")];
/// Lines of the SDK's manifest with a meaning only inside the workspace.
const WORKSPACE_ONLY_LINES: [&str; 3] = ["[package.metadata.waxwing]", "[lints]", "layer = "];

macro_rules! files {
    ($($folder:literal => $to:literal: $($file:literal),+;)+) => {
        &[$($(TemplateFile {
            path: concat!($to, $file),
            source: concat!($folder, $file),
            bytes: include_bytes!(concat!("../../../../", $folder, $file)),
        }),+),+]
    };
}

const CONTRACT: &[TemplateFile] = files! {
    "wit/mail/0.1.0/" => "wit/mail/0.1.0/": "hooks.wit", "host.wit", "message.wit", "transaction.wit", "types.wit", "worlds.wit";
};
const RUST: &[TemplateFile] = files! {
    "plugins/examples/rust/" => "": "Cargo.toml", "README.md", "build", "src/lib.rs";
    "plugins/sdk/" => "vendor/waxwing-sdk/": "Cargo.toml", "wit/worlds.wit", "src/lib.rs", "src/allocator.rs", "src/hooks.rs", "src/panic_hook.rs", "src/settings.rs",
        "src/constructors.rs", "src/testing/mod.rs", "src/testing/fake_host.rs", "src/testing/fake_services.rs";
};
const JS: &[TemplateFile] = files! {
    "plugins/examples/js/" => "": "README.md", "build", "checker.js", "componentize.mjs", "package.json";
};
const PYTHON: &[TemplateFile] = files! {
    "plugins/examples/python/" => "": "README.md", "app.py", "build", "requirements.txt";
};
const C: &[TemplateFile] = files! {
    "plugins/examples/c/" => "": "README.md", "build", "checker.c", "libc/libc.c", "libc/stdlib.h", "libc/string.h",
        "bindings/configured_filter.c", "bindings/configured_filter.h", "bindings/configured_filter_component_type.o";
};
const COMMON: &[TemplateFile] = files! {
    "plugins/examples/" => "": ".gitignore";
};

/// Returns the template files of a language.
pub(super) fn for_language(language: PluginLanguage) -> impl Iterator<Item = TemplateFile> {
    let templates = match language {
        PluginLanguage::Rust => RUST,
        PluginLanguage::Js => JS,
        PluginLanguage::Python => PYTHON,
        PluginLanguage::C => C,
    };
    templates.iter().chain(CONTRACT).chain(COMMON).copied()
}

impl TemplateFile {
    /// Returns the content for the plugin `name`.
    pub(super) fn content(&self, name: &str) -> Cow<'static, [u8]> {
        let Ok(text) = std::str::from_utf8(self.bytes) else { return Cow::Borrowed(self.bytes) };
        if self.path.starts_with("vendor/") {
            return if self.path.ends_with("Cargo.toml") { sdk_manifest(text).into_bytes().into() } else { self.bytes.into() };
        }
        if !self.source.starts_with("plugins/examples/") || self.source.contains("/bindings/") {
            return Cow::Borrowed(self.bytes);
        }
        let text = text.replace(EXAMPLE_NAME, name);
        REPLACEMENTS.iter().fold(text, |text, (from, to)| text.replace(from, to)).into_bytes().into()
    }

    /// True for an executable file.
    pub(super) fn is_executable(&self) -> bool {
        self.path == "build"
    }
}

/// Converts the SDK's manifest for use outside of the workspace.
fn sdk_manifest(text: &str) -> String {
    let mut manifest = String::new();
    for line in text.lines() {
        manifest += match line {
            "version.workspace = true" => concat!("version = \"", env!("CARGO_PKG_VERSION"), "\""),
            "edition.workspace = true" => "edition = \"2024\"",
            "rust-version.workspace = true" => concat!("rust-version = \"", env!("CARGO_PKG_RUST_VERSION"), "\""),
            "license.workspace = true" => "license = \"MIT OR Apache-2.0\"",
            "publish.workspace = true" => "publish = false",
            "wit-bindgen.workspace = true" => WIT_BINDGEN,
            "workspace = true" => continue,
            line if WORKSPACE_ONLY_LINES.iter().any(|other| line.starts_with(other)) => continue,
            line => line,
        };
        manifest.push('\n');
    }
    manifest
}

/// Version of wit-bindgen in new plugins; a test compares the line with the workspace.
pub(super) const WIT_BINDGEN: &str = "wit-bindgen = { version = \"=0.60.0\", default-features = false, features = [\"macros\", \"realloc\", \"std\", \"bitflags\"] }";
