//! TLS configuration of the listeners.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use waxwing_config::{ClientCertificateMode, Config, ListenerConfig, ListenerTlsMode, TlsProtocols};
use waxwing_net::{
    CertificateStore, ClientCertPolicy, Shutdown, ShutdownTrigger, TlsMode, TlsServer, load_authorities, self_signed, spawn,
};

/// Certificates and TLS server configuration by listener. Empty without TLS.
#[derive(Default)]
pub(crate) struct ListenerTls {
    store: Option<Arc<CertificateStore>>,
    /// By listener name; `true` for implicit TLS (RFC 8314).
    servers: HashMap<String, (bool, Arc<TlsServer>)>,
    /// Stops the polling of certificate files when dropped.
    polling: Mutex<Option<ShutdownTrigger>>,
}

impl ListenerTls {
    /// Reads the certificate files, as root if started by root: a key unreadable to `mail_owner` stays in use until the file changes.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        if config.listen.iter().all(|listen| config.listener_tls(listen) == ListenerTlsMode::None) {
            return Ok(Self::default());
        }
        let store = CertificateStore::open(&config.tls.smtpd_tls_chain_files).context("smtpd_tls_chain_files")?;
        let mut servers = HashMap::new();
        for listen in &config.listen {
            let first = match config.listener_tls(listen) {
                ListenerTlsMode::None => continue,
                ListenerTlsMode::Starttls => false,
                ListenerTlsMode::Implicit => true,
            };
            let server =
                tls_server(config, listen, &store).with_context(|| format!("TLS of the listener \"{}\"", listen.name))?;
            servers.insert(listen.name.clone(), (first, Arc::new(server)));
        }
        Ok(Self { store: Some(store), servers, polling: Mutex::default() })
    }

    /// Returns the TLS mode of a connection from `client` to `listener`.
    pub(crate) fn mode_for(&self, listener: &str, client: SocketAddr) -> TlsMode {
        match self.servers.get(listener) {
            None => TlsMode::None,
            Some((first, server)) => TlsMode::Accept { server: Arc::clone(server), implicit: *first, client },
        }
    }

    /// Returns the SHA-256 fingerprints of the certificates in use, the default certificate first.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        let certificates = self.store.as_ref().map(|store| store.current());
        certificates.iter().flat_map(|all| all.descriptions()).map(|info| info.fingerprint.clone()).collect()
    }

    /// Polls the certificate files for changes, as long as the value is in service.
    pub(crate) fn poll_certificates(&self) {
        if let Some(store) = &self.store {
            let (ends, ended) = Shutdown::new();
            drop(spawn("certificates", Arc::clone(store).watch_files(ended)));
            *self.polling.lock() = Some(ends);
        }
    }
}

fn tls_server(config: &Config, listen: &ListenerConfig, store: &Arc<CertificateStore>) -> anyhow::Result<TlsServer> {
    let only_13 = config.listener_tls_protocols(listen) == TlsProtocols::From13;
    let trusted = || match &config.tls.smtpd_tls_CAfile {
        Some(file) => load_authorities(file).context("smtpd_tls_CAfile"),
        None => Ok(Vec::new()),
    };
    let clients = match listen.client_certificates {
        ClientCertificateMode::None => ClientCertPolicy::None,
        ClientCertificateMode::Ask => ClientCertPolicy::Ask(trusted()?),
        ClientCertificateMode::Require => ClientCertPolicy::Require(trusted()?),
    };
    Ok(TlsServer::new(Arc::clone(store), clients, only_13)?.with_handshake_timeout(config.tls.smtpd_starttls_timeout))
}

/// Creates a self-signed certificate for `waxwing dev`, unless the file exists.
pub(crate) fn create_self_signed(file: &Path, names: &[String]) -> anyhow::Result<()> {
    if !file.exists() {
        std::fs::write(file, self_signed(names)?).with_context(|| file.display().to_string())?;
    }
    Ok(())
}
