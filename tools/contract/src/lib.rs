//! Generator of the files derived from the plugin contract and kept in the repository: the hook reference and the C bindings.
//!
//! Owns: conversion of the WIT comments to a page; choice of the world for the C bindings.
//! Uses: no crate of the workspace; wit-parser and wit-bindgen's generator for C.
//! Used by: no crate; its own test checks that the files are current, and writes them with `WAXWING_UPDATE=1`.
//! Never: facts about hooks; all of them are stated in the WIT.
//! Start reading at: [`generated_files`].
#![forbid(unsafe_code)]

mod bindings;
mod reference;

use std::path::{Path, PathBuf};

use wit_bindgen_core::wit_parser::{PackageId, Resolve};

/// Folder of the contract, below the root of the repository.
pub const CONTRACT: &str = "wit/mail/0.1.0";
/// World of the C bindings: the imports of a small filter with settings.
pub const C_WORLD: &str = "configured-filter";
/// Folder of the C bindings.
pub const C_FOLDER: &str = "plugins/examples/c/bindings";
/// Path of the hook reference.
pub const REFERENCE: &str = "docs/hooks.md";

/// A file generated from the contract.
#[derive(Debug)]
pub struct GeneratedFile {
    /// Path below the root of the repository.
    pub path: PathBuf,
    /// Content of the file.
    pub content: Vec<u8>,
}

/// Generates all files from the contract below `root`.
pub fn generated_files(root: &Path) -> anyhow::Result<Vec<GeneratedFile>> {
    let (resolve, package) = read_contract(root)?;
    let mut files =
        vec![GeneratedFile { path: REFERENCE.into(), content: reference::hooks_page(&resolve, package)?.into_bytes() }];
    files.extend(bindings::c_bindings(resolve, package)?);
    Ok(files)
}

fn read_contract(root: &Path) -> anyhow::Result<(Resolve, PackageId)> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root.join(CONTRACT))?;
    Ok((resolve, package))
}
