//! Compile cache: compiled plugins on disk.
//!
//! Loading compiled code executes the code, so only entries written by this server may be loaded. The directory must belong to
//! the server's user, without write permission for anybody else. The name of an entry is derived from the source and the
//! engine, and an entry carries a hash that is checked over the very bytes that are loaded.

use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;
use waxwing_types::hex;

use crate::PluginLoadError;

/// First bytes of an entry; the digit is the version of the format.
const MAGIC: &[u8; 8] = b"waxwasm1";
const HASH_BYTES: usize = blake3::OUT_LEN;
/// Version of the engine pinned by the workspace; part of the key, besides the engine's own compatibility hash.
const WASMTIME: &str = "48.0.8";
/// Maximum number of entries; adding an entry removes the oldest ones.
const ENTRIES_MAX: usize = 64;

/// Directory of compiled plugins.
#[derive(Debug)]
pub(crate) struct CompileCache {
    directory: PathBuf,
    engine_key: [u8; HASH_BYTES],
}

impl CompileCache {
    /// Opens the directory, or creates the directory with mode 0700.
    pub(crate) fn open(directory: PathBuf, engine: &Engine) -> Result<Self, PluginLoadError> {
        let io_error = |source| PluginLoadError::CacheFile { path: directory.clone(), source };
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
            Some(reason) => Err(PluginLoadError::CacheDirectory { path: directory, reason }),
            None => Ok(Self { directory, engine_key: engine_key(engine) }),
        }
    }

    /// Returns the compiled component, if present and intact. A damaged entry is removed.
    pub(crate) fn get(&self, engine: &Engine, source: &[u8]) -> Option<Component> {
        let key = self.key(source);
        let path = self.path(&key);
        let octets = fs::read(&path).ok()?;
        let loaded = verified_code(&key, &octets).and_then(|code| load(engine, code));
        if loaded.is_none() {
            tracing::warn!(file = %path.display(), "damaged entry in the compile cache; the plugin is compiled again");
            let _ = fs::remove_file(&path);
        }
        loaded
    }

    /// Stores a compiled component atomically, by a temporary file and a rename.
    pub(crate) fn put(&self, source: &[u8], code: &[u8]) -> io::Result<()> {
        let key = self.key(source);
        let temporary = self.directory.join(format!(".{}.{}", hex(&key), std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(MAGIC)?;
        file.write_all(entry_hash(&key, code).as_bytes())?;
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

/// Returns the compiled code of an entry, if the hash matches the key and the code.
fn verified_code<'o>(key: &[u8; HASH_BYTES], octets: &'o [u8]) -> Option<&'o [u8]> {
    let rest = octets.strip_prefix(MAGIC)?;
    let (hash, code) = rest.split_at_checked(HASH_BYTES)?;
    (hash == entry_hash(key, code).as_bytes()).then_some(code)
}

/// Hashes key and code together, so an entry renamed to another key is invalid.
fn entry_hash(key: &[u8; HASH_BYTES], code: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(code);
    hasher.finalize()
}

#[allow(unsafe_code, reason = "loading compiled code runs it; this is the one place")]
fn load(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: `code` was written by `CompileCache::put` from this engine's own compiler: the hash has just been checked over these
    // bytes, which nobody can change, and nobody else may write in the directory of the cache.
    unsafe { Component::deserialize(engine, code) }.ok()
}

/// Hashes everything that determines the compiler's output for a source.
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
