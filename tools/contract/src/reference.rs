//! The page about the hooks.
use wit_bindgen_core::wit_parser::{PackageId, Resolve};
pub(crate) fn page(_resolve: &Resolve, _package: PackageId) -> anyhow::Result<String> {
    Ok(String::new())
}
