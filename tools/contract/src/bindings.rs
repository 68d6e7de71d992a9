//! C bindings of the plugin contract.

use std::path::Path;

use wit_bindgen_core::wit_parser::{PackageId, Resolve};
use wit_bindgen_core::{Files, WorldGenerator};

use crate::{C_FOLDER, C_WORLD, GeneratedFile};

/// Generates header, source, and the object file with the world's type information.
pub(crate) fn c_bindings(mut resolve: Resolve, package: PackageId) -> anyhow::Result<Vec<GeneratedFile>> {
    let world = resolve.select_world(&[package], Some(C_WORLD))?;
    let mut files = Files::default();
    let mut generator = wit_bindgen_c::Opts::default().build();
    WorldGenerator::generate(&mut *generator, &mut resolve, world, &mut files)?;
    let made = |(name, content): (&str, &[u8])| GeneratedFile { path: Path::new(C_FOLDER).join(name), content: content.to_vec() };
    Ok(files.iter().map(made).collect())
}
