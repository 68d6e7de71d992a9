//! User source of a command: a file, or the store of the running server.

use std::path::PathBuf;

use waxwing_accounts::{StoredPassword, UserEntry, UserFile, UserName};
use waxwing_config::UserSourceConfig;
use waxwing_control::{ControlRequest, ControlResponse, PasswordRecordText};

use crate::options::GlobalOptions;
use crate::{ControlClient, ToolError, UserCommandError, paths};

pub(super) struct UserBackend {
    pub(super) label: String,
    kind: UserBackendKind,
}

enum UserBackendKind {
    File(UserFile),
    /// Control socket of the server; only the server may open the store.
    Socket(PathBuf),
}

impl UserBackend {
    /// Opens a user source. `owner`: user id and group id of a new file.
    pub(super) fn open(source: &UserSourceConfig, owner: Option<(u32, u32)>, options: &GlobalOptions) -> Result<Self, ToolError> {
        let means = match source {
            UserSourceConfig::File(path) => UserBackendKind::File(UserFile::new(path, owner)),
            UserSourceConfig::Store => UserBackendKind::Socket(paths::control_socket(options)?),
        };
        Ok(Self { label: source.to_string(), kind: means })
    }

    pub(super) fn contains(&self, name: &UserName) -> Result<bool, ToolError> {
        match &self.kind {
            UserBackendKind::File(file) => Ok(file.contains(name).map_err(UserCommandError::from)?),
            UserBackendKind::Socket(socket) => {
                let request = ControlRequest::UserShow { name: name.to_string() };
                let ControlResponse::Users { users, .. } = ControlClient::connect(socket)?.request(&request)? else {
                    return Err(ToolError::UnexpectedResponse);
                };
                Ok(!users.is_empty())
            }
        }
    }

    pub(super) fn add(&self, name: &UserName, records: &[StoredPassword]) -> Result<(), ToolError> {
        match &self.kind {
            UserBackendKind::File(file) => Ok(file.add(name, records).map_err(UserCommandError::from)?),
            UserBackendKind::Socket(socket) => {
                request_change(socket, &ControlRequest::UserAdd { name: name.to_string(), records: record_texts(records) })
            }
        }
    }

    pub(super) fn replace(&self, name: &UserName, records: &[StoredPassword]) -> Result<(), ToolError> {
        match &self.kind {
            UserBackendKind::File(file) => Ok(file.replace(name, records).map_err(UserCommandError::from)?),
            UserBackendKind::Socket(socket) => {
                request_change(socket, &ControlRequest::UserPasswd { name: name.to_string(), records: record_texts(records) })
            }
        }
    }

    pub(super) fn delete(&self, name: &UserName) -> Result<(), ToolError> {
        match &self.kind {
            UserBackendKind::File(file) => Ok(file.delete(name).map_err(UserCommandError::from)?),
            UserBackendKind::Socket(socket) => request_change(socket, &ControlRequest::UserDelete { name: name.to_string() }),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<UserEntry>, ToolError> {
        let socket = match &self.kind {
            UserBackendKind::File(file) => return Ok(file.list().map_err(UserCommandError::from)?),
            UserBackendKind::Socket(socket) => socket,
        };
        let (mut client, mut all, mut after) = (ControlClient::connect(socket)?, Vec::new(), None);
        loop {
            let ControlResponse::Users { users, next } = client.request(&ControlRequest::UserList { after })? else {
                return Err(ToolError::UnexpectedResponse);
            };
            all.extend(users.into_iter().map(|user| UserEntry { name: user.name, schemes: user.schemes }));
            match next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }
}

fn request_change(socket: &std::path::Path, request: &ControlRequest) -> Result<(), ToolError> {
    let ControlResponse::UserChanged = ControlClient::connect(socket)?.request(request)? else {
        return Err(ToolError::UnexpectedResponse);
    };
    Ok(())
}

fn record_texts(records: &[StoredPassword]) -> Vec<PasswordRecordText> {
    records.iter().map(|record| PasswordRecordText(record.to_text())).collect()
}
