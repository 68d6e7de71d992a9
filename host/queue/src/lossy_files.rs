//! Body files for tests that lose everything unsynced when killed, as in a power cut.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::body_files::{BodyFile, BodyFiles};

#[derive(Clone, Default)]
struct LossyContent {
    bytes: Vec<u8>,
    synced_bytes: usize,
    name_synced: bool,
}

#[derive(Default)]
struct LossyFilesState {
    files: BTreeMap<String, Arc<Mutex<LossyContent>>>,
    killed: bool,
    syncs_ignored: bool,
    free_bytes: Option<u64>,
}

/// In-memory body files; clones share the content. Removals are durable at once and creations as late as allowed, the worst
/// case for code that relies on their order.
#[derive(Clone, Default)]
pub struct LossyBodyFiles(Arc<Mutex<LossyFilesState>>);

impl LossyBodyFiles {
    /// Sets the result of [`BodyFiles::free_bytes`].
    pub fn set_free_bytes(&self, bytes: u64) {
        self.0.lock().free_bytes = Some(bytes);
    }

    /// Turns every sync into a no-op: a defect that tests must detect.
    pub fn ignore_syncs(&self) {
        self.0.lock().syncs_ignored = true;
    }

    /// Makes every later write fail.
    pub fn kill(&self) {
        self.0.lock().killed = true;
    }

    /// Returns the files that remain after a restart.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut state = self.0.lock();
        state.killed = true;
        let left = |(name, content): (&String, &Arc<Mutex<LossyContent>>)| {
            let mut content = content.lock().clone();
            content.bytes.truncate(content.synced_bytes);
            content.name_synced.then(|| (name.clone(), Arc::new(Mutex::new(content))))
        };
        let files = state.files.iter().filter_map(left).collect();
        Self(Arc::new(Mutex::new(LossyFilesState { files, free_bytes: state.free_bytes, ..LossyFilesState::default() })))
    }

    fn lock_unless_killed(&self) -> io::Result<parking_lot::MutexGuard<'_, LossyFilesState>> {
        let state = self.0.lock();
        if state.killed { Err(io::Error::other("the power is cut")) } else { Ok(state) }
    }
}

struct LossyBodyFile {
    files: LossyBodyFiles,
    content: Arc<Mutex<LossyContent>>,
}

impl BodyFiles for LossyBodyFiles {
    fn create(&self, name: &str) -> io::Result<Box<dyn BodyFile>> {
        let mut state = self.lock_unless_killed()?;
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::<Mutex<LossyContent>>::default();
        state.files.insert(name.to_owned(), content.clone());
        Ok(Box::new(LossyBodyFile { files: self.clone(), content }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn BodyFile>> {
        let content = self.0.lock().files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(LossyBodyFile { files: self.clone(), content }))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let state = self.lock_unless_killed()?;
        if state.syncs_ignored {
            return Ok(());
        }
        for content in state.files.values() {
            content.lock().name_synced = true;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock_unless_killed()?;
        state.files.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().files.keys().cloned().collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.0.lock().free_bytes.unwrap_or(u64::MAX))
    }
}

impl BodyFile for LossyBodyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _living = self.files.lock_unless_killed()?;
        self.content.lock().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let state = self.files.lock_unless_killed()?;
        if state.syncs_ignored {
            return Ok(());
        }
        let mut content = self.content.lock();
        content.synced_bytes = content.bytes.len();
        Ok(())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.content.lock();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let from = content.bytes.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(from);
        Ok(())
    }
}
