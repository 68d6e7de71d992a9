//! Blocking part: directories, the file in `tmp`, the rename into `new`, and the syncs.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::line_ends::LineEnds;
use crate::maildir::DeliverError;

/// Access for the owner only.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Created in this order: an existing `tmp` implies existing `new` and `cur`, even for two concurrent first deliveries.
const FOLDERS: [&str; 3] = ["new", "cur", "tmp"];

/// Message file of an unfinished delivery. Drop before [`MaildirFile::finish`] removes the file.
pub(crate) struct MaildirFile {
    maildir: PathBuf,
    /// Unique part of the file name.
    name: String,
    file: File,
    tmp: PathBuf,
    ends: LineEnds,
    buffer: Vec<u8>,
    /// Bytes on disk, and bytes with CRLF line endings.
    written: u64,
    wire: u64,
    finished: bool,
}

impl MaildirFile {
    /// Creates the file in `tmp`, after creating a missing Maildir.
    pub(crate) fn create(maildir: &Path, name: String) -> Result<Self, DeliverError> {
        let tmp = maildir.join("tmp").join(&name);
        let open = || OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&tmp);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_maildir(maildir)?;
                open()
            }
            other => other,
        };
        let file = file.map_err(|error| DeliverError::of(&tmp, error))?;
        let maildir = maildir.to_owned();
        Ok(Self { maildir, name, file, tmp, ends: LineEnds::default(), buffer: Vec::new(), written: 0, wire: 0, finished: false })
    }

    /// Writes message bytes with converted line endings.
    pub(crate) fn write(&mut self, pieces: &[&[u8]]) -> Result<(), DeliverError> {
        for piece in pieces {
            self.wire += piece.len() as u64;
            self.ends.push(piece, &mut self.buffer);
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), DeliverError> {
        self.file.write_all(&self.buffer).map_err(|error| DeliverError::of(&self.tmp, error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Syncs the file, renames into `new`, syncs `new`, and returns the final path.
    pub(crate) fn finish(mut self) -> Result<PathBuf, DeliverError> {
        self.ends.finish(&mut self.buffer);
        self.flush()?;
        self.file.sync_all().map_err(|error| DeliverError::of(&self.tmp, error))?;
        let new = self.maildir.join("new");
        // S: size on disk. W: size with CRLF line endings. Both are read by Dovecot.
        let path = new.join(format!("{},S={},W={}", self.name, self.written, self.wire));
        std::fs::rename(&self.tmp, &path).map_err(|error| DeliverError::of(&path, error))?;
        self.finished = true;
        sync_directory(&new)?;
        Ok(path)
    }
}

impl Drop for MaildirFile {
    fn drop(&mut self) {
        if !self.finished {
            // A failed removal is harmless: Maildir readers delete old files in `tmp`.
            drop(std::fs::remove_file(&self.tmp));
        }
    }
}

/// Creates `new`, `cur`, `tmp` and all missing parent directories, each synced into its parent.
fn make_maildir(maildir: &Path) -> Result<(), DeliverError> {
    make_directory(maildir)?;
    for folder in FOLDERS {
        make_directory(&maildir.join(folder))?;
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), DeliverError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let make = || DirBuilder::new().mode(DIRECTORY_MODE).create(path);
    let made = match (make(), parent) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(parent)?;
            make()
        }
        (made, _) => made,
    };
    match made {
        Ok(()) => sync_directory(parent.unwrap_or(Path::new("."))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(DeliverError::of(path, error)),
    }
}

fn sync_directory(path: &Path) -> Result<(), DeliverError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| DeliverError::of(path, error))
}
