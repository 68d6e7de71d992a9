//! Files of a crate that import each other in a circle cannot be read, tested or moved one by one.
//!
//! The imports are read from the source: `use` declarations and paths with `crate::`, `super::`, `self::`, a module or an
//! imported name in front; test code is left out. The rules of the graph:
//! - An import leads to the file that defines the item. A re-export (`pub use`) is followed, so a file that imports
//!   through the crate root depends on the defining file and not on the root.
//! - A re-export makes its own file depend on the item only if the code of the file uses the name too: a facade is free.
//! - `mod child;` is no dependency. A parent module and its child are a circle only if both import items of each other.
//! - Methods are not seen: an `impl` block in another file than its type makes that file depend on the type, not the
//!   reverse.
//!
//! The rule holds for the crates of the server (`host/`). The list of the circles that are allowed is a ratchet: a circle may lose files
//! or go, and the list with it.
use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
use crate::imports::References;

/// Depth of re-exports that are followed; a longer chain is one that leads to itself.
const REEXPORTS_MAX: usize = 16;

/// Files of one crate, relative to its `src` folder.
pub type Circle = BTreeSet<String>;

/// Circles that are allowed, with their crates: `(folder, files)`.
pub type AllowedCircles = BTreeSet<(String, Circle)>;

/// A module: the names from the crate root on.
type ModulePath = Vec<String>;

/// Modules of one crate.
#[derive(Debug, Default)]
pub struct CrateModules {
    modules: BTreeMap<ModulePath, (String, References)>,
    defined: BTreeMap<String, BTreeSet<String>>,
}

/// Result of the resolution of a path.
enum Resolved<'a> {
    Module(&'a ModulePath),
    Item(&'a str),
}

impl CrateModules {
    /// Parses the files of a crate: paths relative to `src`, with their content.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut found = Self::default();
        for (path, source) in files {
            let references = References::parse(source);
            found.defined.insert(path.to_owned(), references.words.clone());
            found.modules.insert(module_of(path), (path.to_owned(), references));
        }
        let is_test = |module: &ModulePath| {
            (1..=module.len()).any(|length| {
                let (parent, name) = (module.get(..length - 1), module.get(length - 1));
                let parent = parent.and_then(|parent| found.modules.get(parent));
                name.zip(parent).is_some_and(|(name, (_, references))| references.test_modules.contains(name))
            })
        };
        let tests: Vec<ModulePath> = found.modules.keys().filter(|module| is_test(module)).cloned().collect();
        found.modules.retain(|module, _| !tests.contains(module));
        found
    }

    /// The files that each file imports items of.
    pub fn edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (module, (file, references)) in &self.modules {
            let targets = edges.entry(file).or_default();
            for import in &references.imports {
                if import.is_reexport && !references.words.contains(&import.name) {
                    continue;
                }
                match self.resolve(module, &import.path, REEXPORTS_MAX) {
                    Some(Resolved::Item(target)) => _ = targets.insert(target),
                    Some(Resolved::Module(target)) if import.name == "*" => targets.extend(self.file(target)),
                    _ => {}
                }
            }
            for path in &references.paths {
                if let Some(Resolved::Item(target)) = self.resolve(module, path, REEXPORTS_MAX) {
                    targets.insert(target);
                }
            }
            targets.remove(file.as_str());
        }
        edges
    }

    fn file(&self, module: &ModulePath) -> Option<&str> {
        self.modules.get(module).map(|(file, _)| file.as_str())
    }

    /// Finds what `path`, written in `module`, names; `None` for other crates.
    fn resolve(&self, module: &ModulePath, path: &[String], depth: usize) -> Option<Resolved<'_>> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.descend(Vec::new(), rest, depth),
            "self" => self.descend(module.clone(), rest, depth),
            "super" => self.descend(module.get(..module.len().checked_sub(1)?)?.to_vec(), rest, depth),
            name => {
                let mut child = module.clone();
                child.push(name.to_owned());
                if self.modules.contains_key(&child) {
                    return self.descend(child, rest, depth);
                }
                self.imported(module, name, rest, depth)
            }
        }
    }

    /// Follows `rest` from a module down to an item.
    fn descend(&self, mut module: ModulePath, rest: &[String], depth: usize) -> Option<Resolved<'_>> {
        for (at, name) in rest.iter().enumerate() {
            if name == "super" {
                module.pop();
                continue;
            }
            module.push(name.clone());
            if self.modules.contains_key(&module) {
                continue;
            }
            module.pop();
            let behind = rest.get(at + 1..).unwrap_or_default();
            return self.imported(&module, name, behind, depth).or_else(|| self.file(&module).map(Resolved::Item));
        }
        self.modules.get_key_value(&module).map(|(module, _)| Resolved::Module(module))
    }

    /// Follows a name that `module` imports itself.
    fn imported(&self, module: &ModulePath, name: &str, behind: &[String], depth: usize) -> Option<Resolved<'_>> {
        let depth = depth.checked_sub(1)?;
        let (_, references) = self.modules.get(module)?;
        if let Some(import) = references.imports.iter().find(|import| import.name == name) {
            let path = [import.path.as_slice(), behind].concat();
            return self.resolve(module, &path, depth);
        }
        for glob in references.imports.iter().filter(|import| import.name == "*" && import.is_reexport) {
            let Some(Resolved::Module(target)) = self.resolve(module, &glob.path, depth) else { continue };
            let file = self.file(target)?;
            if self.defined.get(file).is_some_and(|words| words.contains(name)) {
                return Some(Resolved::Item(file));
            }
        }
        None
    }
}

/// The module of a file: `lib.rs` and `main.rs` are the root, `a/mod.rs` and `a.rs` are `a`.
fn module_of(path: &str) -> ModulePath {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut names: ModulePath = path.split('/').map(str::to_owned).collect();
    let is_root = names.len() == 1 && ["lib", "main"].contains(&path);
    if is_root || names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    names
}

/// The strongly connected components of more than one file.
pub fn circles(edges: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Circle> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|file| (*file, reachable(edges, file))).collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|files| files.contains(to));
    let mut found: BTreeSet<Circle> = BTreeSet::new();
    for file in edges.keys().filter(|file| reaches(file, file)) {
        let together = edges.keys().filter(|other| reaches(file, other) && reaches(other, file));
        found.insert(together.map(|other| (*other).to_owned()).collect());
    }
    found.into_iter().collect()
}

fn reachable<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = vec![from];
    while let Some(file) = open.pop() {
        for next in edges.get(file).into_iter().flatten() {
            if reached.insert(*next) {
                open.push(next);
            }
        }
    }
    reached
}

/// Reads the list: `folder file file …: reason`, one circle a line, `#` begins a comment.
///
/// # Errors
/// With the line that is not of that form.
pub fn read_allowed(text: &str) -> Result<AllowedCircles, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (place, _) =
                line.split_once(": ").filter(|(_, reason)| !reason.trim().is_empty()).ok_or_else(|| line.to_owned())?;
            let mut words = place.split_whitespace().map(str::to_owned);
            let folder = words.next().ok_or_else(|| line.to_owned())?;
            let files: Circle = words.collect();
            if files.len() > 1 { Ok((folder, files)) } else { Err(line.to_owned()) }
        })
        .collect()
}

/// Compares the circles of a crate with the list; the advice names the imports to cut.
pub fn against_allowed(folder: &str, modules: &CrateModules, allowed: &AllowedCircles) -> Vec<Finding> {
    let edges = modules.edges();
    let found = circles(&edges);
    let allowed: Vec<&Circle> = allowed.iter().filter(|(of, _)| of == folder).map(|(_, files)| files).collect();
    let mut findings = Vec::new();
    for circle in found.iter().filter(|circle| !allowed.contains(circle)) {
        let names = circle.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let advice = if allowed.iter().any(|listed| circle.is_subset(listed)) {
            format!("the circle has shrunk to `{names}`: write that into circles.txt")
        } else {
            format!(
                "circle of imports `{names}`: move the shared items into a file below both; {}",
                imports_within(circle, &edges)
            )
        };
        findings.push(Finding::new(folder, advice));
    }
    for listed in allowed.iter().filter(|listed| !found.iter().any(|circle| circle.is_subset(listed) || listed.is_subset(circle)))
    {
        let names = listed.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        findings.push(Finding::new(folder, format!("the circle `{names}` is gone: take it out of circles.txt")));
    }
    findings
}

fn imports_within(circle: &Circle, edges: &BTreeMap<&str, BTreeSet<&str>>) -> String {
    let within = circle.iter().map(|file| {
        let targets = edges.get(file.as_str()).into_iter().flatten().filter(|target| circle.contains(**target));
        format!("{file} imports {}", targets.copied().collect::<Vec<_>>().join(" "))
    });
    within.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<String> {
        let modules = CrateModules::parse(files.iter().copied());
        circles(&modules.edges()).into_iter().map(|circle| circle.into_iter().collect::<Vec<_>>().join(" ")).collect()
    }

    const ROOT: (&str, &str) = ("lib.rs", "mod a; mod b; mod c; pub use a::A; pub use b::B; pub use c::C;");

    #[test]
    fn a_circle_through_the_root_is_found() {
        let files = [ROOT, ("a.rs", "use crate::B;"), ("b.rs", "fn f(c: crate::C) {}"), ("c.rs", "use crate::a::A;")];
        assert_eq!(of(&files), ["a.rs b.rs c.rs"]);
        assert_eq!(of(&[ROOT, ("a.rs", "use crate::B;"), ("b.rs", "use crate::C;"), ("c.rs", "use std::a;")]), [""; 0]);
    }

    #[test]
    fn a_facade_is_no_dependency_but_one_that_uses_the_name_is() {
        let child = ("a/x.rs", "use super::A; pub struct X;");
        assert_eq!(of(&[("a.rs", "mod x; pub use x::X; pub struct A;"), child]), [""; 0]);
        assert_eq!(of(&[("a.rs", "mod x; pub use x::X; pub struct A(X);"), child]), ["a.rs a/x.rs"]);
        assert_eq!(of(&[("a/mod.rs", "mod x; pub struct A(x::X);"), child]), ["a/mod.rs a/x.rs"]);
    }

    #[test]
    fn a_name_that_the_parent_imports_leads_to_its_file() {
        let files =
            [("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b; mod x; fn f() { b::g() }"), ("a/x.rs", "use super::b::H;")];
        assert_eq!(of(&[files[0], files[1], files[2], ("b.rs", "use crate::a::x::X;")]), ["a/x.rs b.rs"]);
    }

    #[test]
    fn test_code_makes_no_circle() {
        let a = ("a.rs", "use crate::b::B; #[cfg(test)] mod fakes;");
        assert_eq!(of(&[a, ("b.rs", "#[cfg(test)] mod tests { use crate::a::A; }")]), [""; 0]);
        assert_eq!(of(&[a, ("b.rs", "fn f() {}"), ("a/fakes.rs", "use super::A; use crate::a::fakes::B;")]), [""; 0]);
    }

    #[test]
    fn the_list_only_goes_down() {
        let modules = |c: &str| CrateModules::parse([("a.rs", "use crate::b::B;"), ("b.rs", "use crate::a::A;"), ("c.rs", c)]);
        let against = |list: &str, c: &str| against_allowed("host/x", &modules(c), &read_allowed(list).unwrap());
        assert_eq!(against("host/x a.rs b.rs: why", ""), []);
        assert!(against("", "")[0].advice.contains("a.rs imports b.rs"));
        assert!(against("host/x a.rs b.rs c.rs: why", "")[0].advice.contains("has shrunk"));
        assert!(against("host/x a.rs b.rs: why\nhost/x c.rs d.rs: why", "")[0].advice.contains("is gone"));
        assert!(read_allowed("host/x a.rs b.rs:").is_err() && read_allowed("host/x a.rs: why").is_err());
    }
}
