//! Compiled plugins on disk.
//!
//! Loading compiled code runs it: what is loaded must be what this server wrote. So the directory must be ours and nobody else
//! may write in it, the name of an entry says what it was made from and by which engine, and an entry carries a hash that is
//! checked over the very octets that are loaded.

use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;
use waxwing_types::hex;

use crate::LoadError;

/// The first octets of an entry; the digit is the version of this format.
const MAGIC: &[u8; 8] = b"waxwasm1";
const HASH_BYTES: usize = blake3::OUT_LEN;
/// The version of the engine that the workspace pins; a part of the key beside the engine's own.
const WASMTIME: &str = "48.0.8";
/// Entries that are kept; older ones are removed when one is added.
const ENTRIES_MAX: usize = 64;

/// The directory of compiled plugins.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    engine_key: [u8; HASH_BYTES],
}

impl Cache {
    /// Opens a directory, or makes it for us alone.
    pub(crate) fn open(directory: PathBuf, engine: &Engine) -> Result<Self, LoadError> {
        let io_error = |source| LoadError::CacheFile { path: directory.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(io_error)?;
        let about = fs::symlink_metadata(&directory).map_err(io_error)?;
        let reason = if !about.is_dir() {
            Some("it is not a directory".to_owned())
        } else if about.uid() != nix::unistd::geteuid().as_raw() {
            Some(format!("it belongs to user {}, not to the server's user {}", about.uid(), nix::unistd::geteuid()))
        } else if about.mode() & 0o022 != 0 {
            Some(format!("others may write in it (mode {:o}); chmod go-w it", about.mode() & 0o7777))
        } else {
            None
        };
        match reason {
            Some(reason) => Err(LoadError::CacheDirectory { path: directory, reason }),
            None => Ok(Self { directory, engine_key: engine_key(engine) }),
        }
    }

    /// The compiled form of a component, if it is here and whole. An entry that is not whole is removed.
    pub(crate) fn get(&self, engine: &Engine, source: &[u8]) -> Option<Component> {
        let key = self.key(source);
        let path = self.path(&key);
        let octets = fs::read(&path).ok()?;
        let loaded = verified(&key, &octets).and_then(|code| load(engine, code));
        if loaded.is_none() {
            tracing::warn!(file = %path.display(), "a compiled plugin was not what this server wrote; it is compiled again");
            let _ = fs::remove_file(&path);
        }
        loaded
    }

    /// Keeps the compiled form of a component: whole, or not at all.
    pub(crate) fn put(&self, source: &[u8], code: &[u8]) -> io::Result<()> {
        let key = self.key(source);
        let temporary = self.directory.join(format!(".{}.{}", hex(&key), std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(MAGIC)?;
        file.write_all(seal(&key, code).as_bytes())?;
        file.write_all(code)?;
        drop(file);
        fs::rename(&temporary, self.path(&key))?;
        self.prune();
        Ok(())
    }

    fn key(&self, source: &[u8]) -> [u8; HASH_BYTES] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.engine_key).update(source);
        hasher.finalize().into()
    }

    fn path(&self, key: &[u8; HASH_BYTES]) -> PathBuf {
        self.directory.join(format!("{}.cwasm", hex(key)))
    }

    fn prune(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let dated = entries.filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())));
        let mut dated: Vec<_> = dated.filter(|(_, path)| is_entry(path)).collect();
        dated.sort();
        for (_, path) in dated.iter().rev().skip(ENTRIES_MAX) {
            let _ = fs::remove_file(path);
        }
    }
}

fn is_entry(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "cwasm")
}

/// The compiled code of an entry, if the entry is what was written under this key.
fn verified<'o>(key: &[u8; HASH_BYTES], octets: &'o [u8]) -> Option<&'o [u8]> {
    let rest = octets.strip_prefix(MAGIC)?;
    let (hash, code) = rest.split_at_checked(HASH_BYTES)?;
    (hash == seal(key, code).as_bytes()).then_some(code)
}

/// Over the key too: an entry under another's name is not whole.
fn seal(key: &[u8; HASH_BYTES], code: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(code);
    hasher.finalize()
}

#[allow(unsafe_code, reason = "loading compiled code runs it; this is the one place")]
fn load(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: `code` was written by `Cache::put` from this engine's own compiler: its hash has just been checked over these octets,
    // which nobody can change, and nobody else may write in the directory that they came from.
    unsafe { Component::deserialize(engine, code) }.ok()
}

/// Everything that decides what the compiler makes of a source.
fn engine_key(engine: &Engine) -> [u8; HASH_BYTES] {
    struct Feed(blake3::Hasher);
    impl Hasher for Feed {
        fn finish(&self) -> u64 {
            0
        }

        fn write(&mut self, octets: &[u8]) {
            self.0.update(octets);
        }
    }
    let mut feed = Feed(blake3::Hasher::new());
    feed.write(WASMTIME.as_bytes());
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.0.finalize().into()
}
