//! What each listener shakes hands with.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use waxwing_config::{ClientCertificates, Config, Listen, ListenTls, TlsProtocols};
use waxwing_net::{CertificateStore, ClientTrust, Shutdown, Tls, TlsServer, authorities, self_signed, spawn};

/// Certificates, and what becomes of them at each listener. Empty where there is no TLS.
#[derive(Default)]
pub(crate) struct Handshakes {
    store: Option<Arc<CertificateStore>>,
    /// By the listener's name; `true`: before all else.
    servers: HashMap<String, (bool, Arc<TlsServer>)>,
}

impl Handshakes {
    /// Reads the files, as root where root started us: a key that the server's user can't read is used until it changes.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        if config.listen.iter().all(|listen| config.tls_of(listen) == ListenTls::None) {
            return Ok(Self::default());
        }
        let store = CertificateStore::open(&config.smtpd_tls_chain_files).context("smtpd_tls_chain_files")?;
        let mut servers = HashMap::new();
        for listen in &config.listen {
            let first = match config.tls_of(listen) {
                ListenTls::None => continue,
                ListenTls::Starttls => false,
                ListenTls::Implicit => true,
            };
            let server = server(config, listen, &store).with_context(|| format!("TLS of the listener \"{}\"", listen.name))?;
            servers.insert(listen.name.clone(), (first, Arc::new(server)));
        }
        Ok(Self { store: Some(store), servers })
    }

    /// What TLS means on a connection to `listener` from `client`.
    pub(crate) fn tls(&self, listener: &str, client: SocketAddr) -> Tls {
        match self.servers.get(listener) {
            None => Tls::None,
            Some((first, server)) => Tls::Accept { server: Arc::clone(server), first: *first, client },
        }
    }

    /// Of what is shown now, the default first.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        let certificates = self.store.as_ref().map(|store| store.current());
        certificates.iter().flat_map(|all| all.infos()).map(|info| info.fingerprint.clone()).collect()
    }

    /// Looks at the files until the shutdown.
    pub(crate) fn watch(&self, shutdown: &Shutdown) {
        if let Some(store) = &self.store {
            drop(spawn("certificates", Arc::clone(store).poll(shutdown.clone())));
        }
    }
}

fn server(config: &Config, listen: &Listen, store: &Arc<CertificateStore>) -> anyhow::Result<TlsServer> {
    let only_13 = config.tls_protocols_of(listen) == TlsProtocols::From13;
    let trusted = || match &config.smtpd_tls_CAfile {
        Some(file) => authorities(file).context("smtpd_tls_CAfile"),
        None => Ok(Vec::new()),
    };
    let clients = match listen.client_certificates {
        ClientCertificates::None => ClientTrust::None,
        ClientCertificates::Ask => ClientTrust::Ask(trusted()?),
        ClientCertificates::Require => ClientTrust::Require(trusted()?),
    };
    Ok(TlsServer::new(Arc::clone(store), clients, only_13)?.within(config.smtpd_starttls_timeout))
}

/// For `waxwing dev`: a certificate that nobody vouches for, made once.
pub(crate) fn make_certificate(file: &Path, names: &[String]) -> anyhow::Result<()> {
    if !file.exists() {
        std::fs::write(file, self_signed(names)?).with_context(|| file.display().to_string())?;
    }
    Ok(())
}
