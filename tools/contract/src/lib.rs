//! What is made from the plugin contract and kept in the repository: the reference of the hooks, and the bindings for C.
//!
//! Owns: how the comments of the WIT become a page for people; which world the C bindings are of.
//! Uses: wit-parser, wit-bindgen's generator for C.
//! Used by: its own test, which says whether the files are current and with `WAXWING_UPDATE=1` writes them.
//! Never: a fact of its own: what is to be said about a hook is said in the WIT.
//! Start reading at: [`generated`].
#![forbid(unsafe_code)]

mod bindings;
mod reference;

use std::path::{Path, PathBuf};

use wit_bindgen_core::wit_parser::{PackageId, Resolve};

/// The contract's folder below the root of the repository.
pub const CONTRACT: &str = "wit/mail/0.1.0";
/// The world of the C bindings: what a small filter with settings needs.
pub const C_WORLD: &str = "configured-filter";
/// Where the C bindings are.
pub const C_FOLDER: &str = "plugins/examples/c/bindings";
/// The reference of the hooks.
pub const REFERENCE: &str = "docs/hooks.md";

/// A file that is made from the contract.
#[derive(Debug)]
pub struct File {
    /// Its path below the root of the repository.
    pub path: PathBuf,
    /// What is in it.
    pub content: Vec<u8>,
}

/// All files that are made from the contract below `root`.
pub fn generated(root: &Path) -> anyhow::Result<Vec<File>> {
    let (resolve, package) = contract(root)?;
    let mut files = vec![File { path: REFERENCE.into(), content: reference::page(&resolve, package)?.into_bytes() }];
    files.extend(bindings::c(resolve, package)?);
    Ok(files)
}

fn contract(root: &Path) -> anyhow::Result<(Resolve, PackageId)> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root.join(CONTRACT))?;
    Ok((resolve, package))
}
