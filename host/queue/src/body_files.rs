//! Body files and the free space of their disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Directory of body files. All calls block. A file survives a power cut once file and directory have been synced.
pub trait BodyFiles: Send + Sync {
    /// Creates a file; fails if the name exists.
    fn create(&self, name: &str) -> io::Result<Box<dyn BodyFile>>;
    /// Opens a file for reading.
    fn open(&self, name: &str) -> io::Result<Box<dyn BodyFile>>;
    /// Makes file creations durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Removes a file by name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns the names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Returns the octets still available on the disk.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Open body file for appending or reading.
pub trait BodyFile: Send + Sync {
    /// Appends octets at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Fills the buffer from `offset`; returns [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Body files in a directory on disk.
#[derive(Debug)]
pub struct DiskBodyFiles {
    directory: PathBuf,
}

impl DiskBodyFiles {
    /// Opens the directory and creates a missing directory with mode 0700.
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

impl BodyFiles for DiskBodyFiles {
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
