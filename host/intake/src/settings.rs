//! Host names and limits of intake, under their Postfix names.

use std::net::IpAddr;

use waxwing_config::{Config, Network};

/// Settings of intake from the configuration.
#[derive(Clone, Debug)]
pub struct IntakeSettings {
    /// Host name in Received header fields.
    pub myhostname: String,
    /// Domain added to addresses without a domain, after rewriting by plugins.
    pub myorigin: String,
    /// Networks of clients with relay permission.
    pub mynetworks: Vec<Network>,
    /// Networks of proxies authorized to send XCLIENT.
    pub xclient_hosts: Vec<Network>,
    /// Networks of proxies authorized to send the XCLIENT attribute LOGIN.
    pub xclient_login_hosts: Vec<Network>,
    /// Maximum bytes of a header block.
    pub header_size_limit: usize,
    /// Maximum number of Received fields before a message counts as looping.
    pub hopcount_limit: usize,
    /// Maximum number of recipients added to a message by alias expansion.
    pub expansion_recipients_max: usize,
    /// Maximum nesting depth of aliases.
    pub expansion_depth_max: u32,
    /// Maximum number of recipients in a trace record.
    pub trace_recipients_max: usize,
}

impl IntakeSettings {
    /// Reads the keys of a configuration; limits without a key get fixed values.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self {
            myhostname: config.general.myhostname.clone(),
            myorigin: config.general.myorigin.clone(),
            mynetworks: config.general.mynetworks.clone(),
            xclient_hosts: config.smtpd.smtpd_authorized_xclient_hosts.clone(),
            xclient_login_hosts: config.smtpd.smtpd_xclient_login_hosts.clone(),
            header_size_limit: usize::try_from(config.smtpd.header_size_limit).unwrap_or(usize::MAX),
            hopcount_limit: config.smtpd.hopcount_limit as usize,
            expansion_recipients_max: 1_000,
            expansion_depth_max: 50,
            trace_recipients_max: 20,
        }
    }

    /// Returns whether the address is in `mynetworks`, with permission to relay.
    #[must_use]
    pub fn in_mynetworks(&self, address: IpAddr) -> bool {
        contains_address(&self.mynetworks, address)
    }
}

/// Returns whether any network contains the address.
pub(crate) fn contains_address(networks: &[Network], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(address))
}
