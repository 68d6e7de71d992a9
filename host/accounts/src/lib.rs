//! Lookup tables, address classes, users and mailbox locations.
//!
//! Owns: the formats of `texthash:` and aliases files with their reloading, the classes of domains, the existence of recipients, the paths
//! of mailboxes; the users, changes of user files, and the SASL logins of clients.
//! Uses: auth, config, pipeline, types.
//! Used by: admin, daemon, plugins, tool.
//! Never: writes a mailbox, expands an alias (the plugin `aliases` does).
//! Start reading at: [`Accounts`], then [`Users`] and [`SaslAuthenticator`].
#![forbid(unsafe_code)]

mod accounts;
mod aliases;
mod authenticator;
mod domain_classes;
mod file_table;
mod logical_lines;
mod mailbox_path;
mod password_policy;
mod table_entries;
mod table_list;
mod texthash;
mod user_file;
mod users;
mod watched_file;

pub use accounts::Accounts;
pub use aliases::parse_aliases;
pub use authenticator::{
    FAILURE_CLIENTS_MAX, HASH_WAIT, HASHES_MAX, LoginCache, REHASH_QUEUE_MAX, SaslAuthenticator, VERIFIED_AGE, VERIFIED_MAX,
};
pub use domain_classes::DomainClasses;
pub use file_table::{FileTable, TableFormat};
pub use mailbox_path::{MailboxPathError, mailbox_path};
pub use password_policy::{PasswordPolicy, random_bytes};
pub use table_entries::TableEntries;
pub use table_list::{InlineTable, TableList};
pub use texthash::parse_texthash;
pub use user_file::{LOCK_WAIT, UserEntry, UserError, UserFile, UserName, UserNameError};
pub use users::{UserRecords, Users};
pub use watched_file::TABLE_BYTES_MAX;
pub use waxwing_auth::{PasswordCost, SECRET_BYTES_MAX, StoredPassword};
