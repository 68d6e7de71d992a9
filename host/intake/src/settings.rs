//! The names and limits of intake, named as Postfix names them.

use std::net::IpAddr;

use waxwing_config::{Config, Network};

/// What intake needs of the configuration.
#[derive(Clone, Debug)]
pub struct IntakeSettings {
    /// Our name in Received.
    pub myhostname: String,
    /// Completes addresses that have no domain and that no plugin completed.
    pub myorigin: String,
    /// Clients that may send anywhere.
    pub mynetworks: Vec<Network>,
    /// Clients that may say by XCLIENT for whom they speak.
    pub xclient_hosts: Vec<Network>,
    /// Those of them whose LOGIN is believed.
    pub xclient_login_hosts: Vec<Network>,
    /// Octets of a header block.
    pub header_size_limit: usize,
    /// Received fields after which a message is taken to loop.
    pub hopcount_limit: usize,
    /// Recipients that aliases may make of a message's.
    pub expansion_recipients_max: usize,
    /// Aliases of aliases of a recipient.
    pub expansion_depth_max: u32,
    /// Recipients that a trace names.
    pub trace_recipients_max: usize,
}

impl IntakeSettings {
    /// The keys of a configuration, and limits that have none.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            myhostname: config.myhostname.clone(),
            myorigin: config.myorigin.clone(),
            mynetworks: config.mynetworks.clone(),
            xclient_hosts: config.smtpd_authorized_xclient_hosts.clone(),
            xclient_login_hosts: config.smtpd_xclient_login_hosts.clone(),
            header_size_limit: usize::try_from(config.header_size_limit).unwrap_or(usize::MAX),
            hopcount_limit: config.hopcount_limit as usize,
            expansion_recipients_max: 1_000,
            expansion_depth_max: 50,
            trace_recipients_max: 20,
        }
    }

    /// A client at this address may send anywhere.
    #[must_use]
    pub fn in_mynetworks(&self, address: IpAddr) -> bool {
        holds(&self.mynetworks, address)
    }
}

/// One of the networks holds the address.
pub(crate) fn holds(networks: &[Network], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(address))
}
