//! User source of a command: a file, or the store of the running server.

use std::path::PathBuf;

use waxwing_accounts::{Record, UserEntry, UserFile, UserName};
use waxwing_config::UserPlace;
use waxwing_control::{PasswordRecord, Request, Response};

use super::UserCommandError;
use crate::command::Options;
use crate::{Client, ToolError, locate};

pub(super) struct Place {
    pub(super) shown: String,
    means: Means,
}

enum Means {
    File(UserFile),
    /// Control socket of the server; only the server may open the store.
    Socket(PathBuf),
}

impl Place {
    /// Opens a user source. `owner`: user id and group id of a new file.
    pub(super) fn open(source: &UserPlace, owner: Option<(u32, u32)>, options: &Options) -> Result<Self, ToolError> {
        let means = match source {
            UserPlace::File(path) => Means::File(UserFile::new(path, owner)),
            UserPlace::Store => Means::Socket(locate::socket(options)?),
        };
        Ok(Self { shown: source.to_string(), means })
    }

    pub(super) fn has(&self, name: &UserName) -> Result<bool, ToolError> {
        match &self.means {
            Means::File(file) => Ok(file.has(name).map_err(UserCommandError::from)?),
            Means::Socket(socket) => {
                let request = Request::UserShow { name: name.to_string() };
                let Response::Users { users, .. } = Client::connect(socket)?.ask(&request)? else {
                    return Err(ToolError::OtherAnswer);
                };
                Ok(!users.is_empty())
            }
        }
    }

    pub(super) fn add(&self, name: &UserName, records: &[Record]) -> Result<(), ToolError> {
        match &self.means {
            Means::File(file) => Ok(file.add(name, records).map_err(UserCommandError::from)?),
            Means::Socket(socket) => change(socket, &Request::UserAdd { name: name.to_string(), records: hashed(records) }),
        }
    }

    pub(super) fn replace(&self, name: &UserName, records: &[Record]) -> Result<(), ToolError> {
        match &self.means {
            Means::File(file) => Ok(file.replace(name, records).map_err(UserCommandError::from)?),
            Means::Socket(socket) => change(socket, &Request::UserPasswd { name: name.to_string(), records: hashed(records) }),
        }
    }

    pub(super) fn delete(&self, name: &UserName) -> Result<(), ToolError> {
        match &self.means {
            Means::File(file) => Ok(file.delete(name).map_err(UserCommandError::from)?),
            Means::Socket(socket) => change(socket, &Request::UserDelete { name: name.to_string() }),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<UserEntry>, ToolError> {
        let socket = match &self.means {
            Means::File(file) => return Ok(file.list().map_err(UserCommandError::from)?),
            Means::Socket(socket) => socket,
        };
        let (mut client, mut all, mut after) = (Client::connect(socket)?, Vec::new(), None);
        loop {
            let Response::Users { users, next } = client.ask(&Request::UserList { after })? else {
                return Err(ToolError::OtherAnswer);
            };
            all.extend(users.into_iter().map(|user| UserEntry { name: user.name, schemes: user.schemes }));
            match next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }
}

fn change(socket: &std::path::Path, request: &Request) -> Result<(), ToolError> {
    let Response::UserChanged = Client::connect(socket)?.ask(request)? else { return Err(ToolError::OtherAnswer) };
    Ok(())
}

fn hashed(records: &[Record]) -> Vec<PasswordRecord> {
    records.iter().map(|record| PasswordRecord(record.to_text())).collect()
}
