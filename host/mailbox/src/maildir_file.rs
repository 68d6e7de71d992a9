//! Blocking part: directories, the file in `tmp`, the rename into `new`, and the syncs.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::crlf_to_lf::CrlfToLf;
use crate::error::MaildirError;

/// Access for the owner only.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Created in this order: an existing `tmp` implies existing `new` and `cur`, even for two concurrent first deliveries.
const SUBDIRECTORIES: [&str; 3] = ["new", "cur", "tmp"];

/// Message file of an unfinished delivery. Drop before [`MaildirFile::finish`] removes the file.
pub(crate) struct MaildirFile {
    maildir: PathBuf,
    /// Unique part of the file name.
    name: String,
    file: File,
    tmp: PathBuf,
    line_ends: CrlfToLf,
    buffer: Vec<u8>,
    /// Bytes on disk, and bytes with CRLF line endings.
    disk_bytes: u64,
    wire_bytes: u64,
    finished: bool,
}

impl MaildirFile {
    /// Creates the file in `tmp`, after creating a missing Maildir.
    pub(crate) fn create(maildir: &Path, name: String) -> Result<Self, MaildirError> {
        let tmp = maildir.join("tmp").join(&name);
        let open = || OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&tmp);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_maildir(maildir)?;
                open()
            }
            other => other,
        };
        let file = file.map_err(|error| MaildirError::from_io(&tmp, error))?;
        let maildir = maildir.to_owned();
        Ok(Self {
            maildir,
            name,
            file,
            tmp,
            line_ends: CrlfToLf::default(),
            buffer: Vec::new(),
            disk_bytes: 0,
            wire_bytes: 0,
            finished: false,
        })
    }

    /// Writes message bytes with converted line endings.
    pub(crate) fn write(&mut self, pieces: &[&[u8]]) -> Result<(), MaildirError> {
        for piece in pieces {
            self.wire_bytes += piece.len() as u64;
            self.line_ends.push(piece, &mut self.buffer);
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), MaildirError> {
        self.file.write_all(&self.buffer).map_err(|error| MaildirError::from_io(&self.tmp, error))?;
        self.disk_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Syncs the file, renames into `new`, syncs `new`, and returns the final path.
    pub(crate) fn finish(mut self) -> Result<PathBuf, MaildirError> {
        self.line_ends.finish(&mut self.buffer);
        self.flush()?;
        self.file.sync_all().map_err(|error| MaildirError::from_io(&self.tmp, error))?;
        let new = self.maildir.join("new");
        // S: size on disk. W: size with CRLF line endings. Both are read by Dovecot.
        let path = new.join(format!("{},S={},W={}", self.name, self.disk_bytes, self.wire_bytes));
        std::fs::rename(&self.tmp, &path).map_err(|error| MaildirError::from_io(&path, error))?;
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
fn create_maildir(maildir: &Path) -> Result<(), MaildirError> {
    create_directory(maildir)?;
    for folder in SUBDIRECTORIES {
        create_directory(&maildir.join(folder))?;
    }
    Ok(())
}

fn create_directory(path: &Path) -> Result<(), MaildirError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let make = || DirBuilder::new().mode(DIRECTORY_MODE).create(path);
    let made = match (make(), parent) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            create_directory(parent)?;
            make()
        }
        (made, _) => made,
    };
    match made {
        Ok(()) => sync_directory(parent.unwrap_or(Path::new("."))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(MaildirError::from_io(path, error)),
    }
}

fn sync_directory(path: &Path) -> Result<(), MaildirError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| MaildirError::from_io(path, error))
}
