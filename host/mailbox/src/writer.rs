//! The blocking half: directories, the file in tmp, the rename into new, and the syncs between them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::line_ends::LineEnds;
use crate::maildir::DeliverError;

/// Only the owner reads mail.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// tmp comes last: who finds it finds the others, also when two deliveries meet that are the first.
const FOLDERS: [&str; 3] = ["new", "cur", "tmp"];

/// A message on its way into a Maildir. Dropped before [`MaildirFile::finish`], it leaves nothing behind.
pub(crate) struct MaildirFile {
    maildir: PathBuf,
    /// The unique part of the file's name.
    name: String,
    file: File,
    tmp: PathBuf,
    ends: LineEnds,
    buffer: Vec<u8>,
    /// Octets on disk, and octets with CRLF line ends.
    written: u64,
    wire: u64,
    finished: bool,
}

impl MaildirFile {
    /// Makes the Maildir if it is not there, and the file in its tmp.
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

    /// Writes octets of the message.
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

    /// Syncs the file, moves it into new, syncs new. Returns the path of the file: the message is safe.
    pub(crate) fn finish(mut self) -> Result<PathBuf, DeliverError> {
        self.ends.finish(&mut self.buffer);
        self.flush()?;
        self.file.sync_all().map_err(|error| DeliverError::of(&self.tmp, error))?;
        let new = self.maildir.join("new");
        // S is the size on disk, W the size with CRLF line ends, as Dovecot reads them.
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
            // Nothing is lost when this fails: readers of Maildirs remove what is old in tmp.
            drop(std::fs::remove_file(&self.tmp));
        }
    }
}

/// Makes new, cur and tmp, and every missing directory above them, each synced into its parent.
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
