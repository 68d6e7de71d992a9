//! Names, networks and directories of the server.

use std::path::PathBuf;

use crate::network::{Network, NetworkValue};
use crate::section::section;
use crate::value::{DomainValue, ListOf, OptionalValue, PathValue, TextValue};

section! {
    /// Names, networks and directories of the server.
    pub struct GeneralConfig (table, reader) {
        /// Fully qualified name of this server, used in the greeting, in EHLO and in Received fields.
        myhostname: String [DomainValue] = reader.environment.fully_qualified_hostname(), derived "the system's host name";
        /// Domain name of this server.
        mydomain: String [DomainValue] = parent_domain(&myhostname), derived "myhostname without its first label";
        /// Domain appended to addresses without a domain.
        myorigin: String [DomainValue] = myhostname.clone(), derived "myhostname";
        /// Networks of clients that may relay to any domain; other clients reach only the domains of this server.
        mynetworks: Vec<Network> [ListOf<NetworkValue>] = default_mynetworks();
        /// Separator between a user name and an address extension; empty: no extensions.
        recipient_delimiter: String [TextValue] = String::new();
        /// System user of the server process; required when the server is started as root.
        mail_owner: Option<String> [OptionalValue<TextValue>] = None;
        /// Directory of the queue and of all other persistent data of the server.
        queue_directory: PathBuf [PathValue] = PathBuf::from("/var/spool/waxwing");
    }
}

/// Removes the first label: `mail.example.com` -> `example.com`; a name with a single label stays unchanged.
fn parent_domain(hostname: &str) -> String {
    hostname.split_once('.').map_or(hostname, |(_, parent)| parent).to_owned()
}

fn default_mynetworks() -> Vec<Network> {
    ["127.0.0.0/8", "[::1]/128"].iter().filter_map(|text| text.parse().ok()).collect()
}
