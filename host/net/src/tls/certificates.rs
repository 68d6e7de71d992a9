//! Server certificates: loading from PEM files, selection by SNI and signature scheme, reload on change.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::session_info::fingerprint;
use super::{TlsError, crypto_provider};
use crate::task::Shutdown;

/// Maximum size of a PEM file in bytes.
pub const PEM_FILE_BYTES_MAX: u64 = 1 << 20;
/// Interval between checks for changed files.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Description of a certificate, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// File of the certificate.
    pub file: PathBuf,
    /// Host names in lower case; `*.example.com` matches a single label.
    pub names: Vec<String>,
    /// Issuer of the certificate.
    pub issuer: String,
    /// Start of validity, in seconds since 1970.
    pub not_before: i64,
    /// End of validity, in seconds since 1970.
    pub not_after: i64,
    /// SHA-256 of the certificate in hexadecimal digits.
    pub fingerprint: String,
}

/// All certificates of a load, in the order of the files.
#[derive(Debug)]
pub struct Certificates {
    list: Vec<(CertificateInfo, Arc<CertifiedKey>)>,
    /// Indexes into `list` by host name; several for keys of several algorithms.
    by_name: HashMap<String, Vec<usize>>,
}

impl Certificates {
    /// Reads the files. Each private key needs a certificate in the files, followed by the intermediate certificates.
    pub fn load(files: &[PathBuf]) -> Result<Self, TlsError> {
        let mut certificates = Vec::new();
        let mut keys = Vec::new();
        for file in files {
            let unusable = |why: String| TlsError::Unusable(format!("{}: {why}", file.display()));
            let pem = read_pem(file)?;
            let broken = |error: rustls::pki_types::pem::Error| unusable(format!("no PEM: {error}"));
            let before = (certificates.len(), keys.len());
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(broken)?;
                // A malformed certificate is an error even without a matching key.
                parse_info(file, &certificate)?;
                certificates.push((file, certificate));
            }
            for key in PrivateKeyDer::pem_slice_iter(&pem) {
                keys.push((file, key.map_err(broken)?));
            }
            // A file is empty for a moment while being rewritten.
            if before == (certificates.len(), keys.len()) {
                return Err(unusable("no certificate or private key in the file".to_owned()));
            }
        }
        let mut found = Vec::new();
        for (file, key) in keys {
            let unusable = |why: String| TlsError::Unusable(format!("{}: {why}", file.display()));
            let key = crypto_provider().key_provider.load_private_key(key).map_err(|e| unusable(format!("private key: {e}")))?;
            let mut own = None;
            for (place, (_, certificate)) in certificates.iter().enumerate() {
                let pair = CertifiedKey::new(vec![certificate.clone()], Arc::clone(&key));
                if pair.keys_match().is_ok() {
                    own = Some((place, pair));
                    break;
                }
            }
            let (place, pair) = own.ok_or_else(|| unusable("the private key has no certificate in these files".to_owned()))?;
            found.push((place, pair));
        }
        found.sort_by_key(|(place, _)| *place);
        Self::from_pairs(&certificates, found)
    }

    /// Builds the list. A chain ends before the next certificate with a key.
    fn from_pairs(
        certificates: &[(&PathBuf, CertificateDer<'static>)],
        found: Vec<(usize, CertifiedKey)>,
    ) -> Result<Self, TlsError> {
        let mut all = Self { list: Vec::new(), by_name: HashMap::new() };
        let ends: Vec<usize> = found.iter().skip(1).map(|(place, _)| *place).chain([certificates.len()]).collect();
        for ((place, mut pair), end) in found.into_iter().zip(ends) {
            let chain = certificates.get(place..end).unwrap_or_default();
            let Some((file, first)) = chain.first() else { continue };
            let info = parse_info(file, first)?;
            pair.cert = chain.iter().map(|(_, certificate)| certificate.clone()).collect();
            for name in &info.names {
                all.by_name.entry(name.clone()).or_default().push(all.list.len());
            }
            all.list.push((info, Arc::new(pair)));
        }
        match all.list.is_empty() {
            true => Err(TlsError::Unusable("there is no private key with a certificate in the files".to_owned())),
            false => Ok(all),
        }
    }

    /// Returns the descriptions, the default certificate first.
    pub fn descriptions(&self) -> impl Iterator<Item = &CertificateInfo> {
        self.list.iter().map(|(info, _)| info)
    }

    /// Selects the certificate for the server name of a client: an exact match, a wildcard in place of the first
    /// label, or the first certificate.
    fn select(&self, name: Option<&str>, usable: impl Fn(&CertifiedKey) -> bool) -> Option<Arc<CertifiedKey>> {
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}")).unwrap_or_default();
        let named = [name, wildcard].into_iter().filter_map(|name| self.by_name.get(&name)).flatten();
        let named = named.filter_map(|place| self.list.get(*place)).chain(&self.list);
        let mut keys = named.map(|(_, key)| key);
        keys.find(|key| usable(key)).cloned()
    }
}

fn read_pem(file: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error: std::io::Error| TlsError::Unusable(format!("{}: {error}", file.display()));
    let mut octets = Vec::new();
    let opened = fs::File::open(file).map_err(failed)?;
    opened.take(PEM_FILE_BYTES_MAX + 1).read_to_end(&mut octets).map_err(failed)?;
    match octets.len() as u64 > PEM_FILE_BYTES_MAX {
        true => Err(TlsError::Unusable(format!("{}: larger than {PEM_FILE_BYTES_MAX} octets", file.display()))),
        false => Ok(octets),
    }
}

/// Reads a PEM file with certificate authorities.
pub fn load_authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_pem(file)?;
    let unusable = |why: String| TlsError::Unusable(format!("{}: {why}", file.display()));
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|e| unusable(format!("no PEM: {e}")))?;
    if all.is_empty() { Err(unusable("no certificate in the file".to_owned())) } else { Ok(all) }
}

fn parse_info(file: &Path, certificate: &CertificateDer<'_>) -> Result<CertificateInfo, TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| TlsError::Unusable(format!("{}: no X.509 certificate: {error}", file.display())))?;
    let mut names = Vec::new();
    if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
        for name in &alternative.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase());
            }
        }
    }
    if names.is_empty() {
        let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(str::to_ascii_lowercase));
    }
    Ok(CertificateInfo {
        file: file.to_owned(),
        names,
        issuer: parsed.issuer().to_string(),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        fingerprint: fingerprint(certificate),
    })
}

/// Metadata for detecting changes: inode, size, modification time.
type FileStamp = Option<(u64, u64, i64, i64)>;

fn file_stamp(file: &Path) -> FileStamp {
    let data = fs::metadata(file).ok()?;
    Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
}

/// The certificates in use. Handshakes read the current value, so a reload does not affect existing connections.
#[derive(Debug)]
pub struct CertificateStore {
    files: Vec<PathBuf>,
    current: ArcSwap<Certificates>,
    stamps: Mutex<Vec<FileStamp>>,
}

impl CertificateStore {
    /// Reads the files for the first time; any error is returned.
    pub fn open(files: &[PathBuf]) -> Result<Arc<Self>, TlsError> {
        let looks = files.iter().map(|file| file_stamp(file)).collect();
        let current = Certificates::load(files)?;
        Ok(Arc::new(Self { files: files.to_vec(), current: ArcSwap::from_pointee(current), stamps: Mutex::new(looks) }))
    }

    /// Returns the certificates in use.
    #[must_use]
    pub fn current(&self) -> Arc<Certificates> {
        self.current.load_full()
    }

    /// Reloads the files if any file has changed. On an error the previous certificates stay in use.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let now: Vec<FileStamp> = self.files.iter().map(|file| file_stamp(file)).collect();
        {
            let mut before = self.stamps.lock();
            if *before == now {
                return Ok(false);
            }
            *before = now;
        }
        self.current.store(Arc::new(Certificates::load(&self.files)?));
        warn_if_readable(&self.files);
        Ok(true)
    }

    /// Checks the files periodically until the shutdown.
    pub async fn watch_files(self: Arc<Self>, mut shutdown: Shutdown) {
        warn_if_readable(&self.files);
        while shutdown.sleep(POLL_INTERVAL).await {
            let store = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || store.reload_if_changed()).await {
                Ok(Ok(true)) => {
                    for info in self.current().descriptions() {
                        let (names, file) = (info.names.join(", "), info.file.display());
                        tracing::info!(target: "tls", names, %file, "new certificate in use");
                    }
                }
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => {
                    tracing::error!(target: "tls", %error, "changed certificates can't be used; the previous certificates stay in use");
                }
            }
        }
    }
}

/// Warns of files with private keys that other users can read.
fn warn_if_readable(files: &[PathBuf]) {
    for (file, mode) in readable_by_others(files) {
        let mode = format!("{mode:04o}");
        tracing::warn!(target: "tls", file = %file.display(), mode, "private key file is readable by other users");
    }
}

/// Returns files with private keys that are readable by the group or by all users, with the file modes.
pub fn readable_by_others(files: &[PathBuf]) -> Vec<(PathBuf, u32)> {
    let mode = |data: &Metadata| data.permissions().mode() & 0o7777;
    let has_key = |file: &Path| read_pem(file).is_ok_and(|pem| PrivateKeyDer::from_pem_slice(&pem).is_ok());
    let open = files.iter().filter_map(|file| Some((file, fs::metadata(file).ok().map(|data| mode(&data))?)));
    open.filter(|(file, mode)| mode & 0o044 != 0 && has_key(file)).map(|(file, mode)| (file.clone(), mode)).collect()
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        self.current.load().select(hello.server_name(), |key| key.key.choose_scheme(schemes).is_some())
    }
}
