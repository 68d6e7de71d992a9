//! Compiles plugins to component files: `component MANIFEST FOLDER PACKAGE ...`. The end-to-end tests load what comes out.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [manifest, folder, packages @ ..] = arguments.as_slice() else {
        eprintln!("usage: component MANIFEST FOLDER PACKAGE ...");
        return ExitCode::from(2);
    };
    match write(Path::new(manifest), Path::new(folder), packages) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write(manifest: &Path, folder: &Path, packages: &[String]) -> Result<(), String> {
    // This program lies in TARGET/PROFILE/examples.
    let me = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
    let target = me.ancestors().nth(3).ok_or("own path has no target directory")?;
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    for built in waxwing_builder::build(manifest, &packages, target).map_err(|e| e.to_string())? {
        let file = folder.join(&built.package).with_extension("wasm");
        std::fs::write(&file, built.component).map_err(|e| format!("{}: {e}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(())
}
