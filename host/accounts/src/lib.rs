//! Lookup tables, address classes, users and mailbox locations.
//!
//! Owns: the formats of `texthash:` and aliases files with their reloading, the classes of domains, the existence of recipients, the paths
//! of mailboxes; the users, changes of user files, and the SASL logins of clients.
//! Uses: auth, config, pipeline, types.
//! Used by: tool, daemon.
//! Never: writes a mailbox, expands an alias (the plugin `aliases` does).
//! Start reading at: [`Accounts`], then [`Users`] and [`SaslAuthenticator`].
#![forbid(unsafe_code)]

mod accounts;
mod aliases;
mod classes;
mod file_table;
mod lines;
mod login;
mod mailbox_path;
mod passwords;
mod tables;
mod texthash;
mod user_file;
mod users;
mod watched;

pub use accounts::Accounts;
pub use aliases::parse_aliases;
pub use classes::Classes;
pub use file_table::{Entries, FileTable, Format};
pub use login::{
    FAILURE_CLIENTS_MAX, HASH_WAIT, HASHES_MAX, LoginDesk, LoginMemory, LoginSettings, RENEWALS_MAX, VERIFIED_AGE, VERIFIED_MAX,
};
pub use mailbox_path::{PathError, mailbox_path};
pub use passwords::{Keeping, random};
pub use tables::{InlineTable, TableList};
pub use texthash::parse_texthash;
pub use user_file::{LOCK_WAIT, UserEntry, UserError, UserFile, UserName, UserNameError};
pub use users::{Found, Users};
pub use watched::TABLE_BYTES_MAX;
pub use waxwing_auth::{PasswordCost, Record, SECRET_BYTES_MAX};
