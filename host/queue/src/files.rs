//! Body files and the disk under them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where body files are kept. All calls block. A file survives a power cut once it and the directory have been synced.
pub trait BodyFiles: Send + Sync {
    /// Makes a file that must not exist.
    fn create(&self, name: &str) -> io::Result<Box<dyn BodyFile>>;
    /// Opens a file to read.
    fn open(&self, name: &str) -> io::Result<Box<dyn BodyFile>>;
    /// Makes creations durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Octets that may still be written to this disk.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One body file.
pub trait BodyFile: Send + Sync {
    /// Writes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Fills the buffer from `offset`; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Files in a directory.
#[derive(Debug)]
pub struct DiskFiles {
    directory: PathBuf,
}

impl DiskFiles {
    /// In that directory, which is made if it is not there.
    pub fn open(directory: &Path) -> io::Result<Self> {
        if !directory.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            if let Some(parent) = directory.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(Self { directory: directory.to_owned() })
    }
}

impl BodyFiles for DiskFiles {
    fn create(&self, name: &str) -> io::Result<Box<dyn BodyFile>> {
        let file = OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(self.directory.join(name))?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn BodyFile>> {
        Ok(Box::new(File::open(self.directory.join(name))?))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = nix::sys::statvfs::statvfs(&self.directory)?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }
}

impl BodyFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}
