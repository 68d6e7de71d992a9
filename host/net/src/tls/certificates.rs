//! The certificates of this server: from PEM files to the one that a client is shown.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::session::fingerprint;
use super::{TlsError, provider};
use crate::task::Shutdown;

/// Octets of one PEM file.
pub const PEM_FILE_BYTES_MAX: u64 = 1 << 20;
/// Between two looks at the files.
const POLL_PERIOD: Duration = Duration::from_secs(2);

/// What a person wants to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The file in which it stands.
    pub file: PathBuf,
    /// Host names for which it is shown, in lower case; `*.example.com` stands for one label.
    pub names: Vec<String>,
    /// Who vouches for it.
    pub issuer: String,
    /// Since when it is valid, in seconds since 1970.
    pub not_before: i64,
    /// How long, in seconds since 1970.
    pub not_after: i64,
    /// SHA-256 in hexadecimal digits.
    pub fingerprint: String,
}

/// All certificates of one moment, in the order of the files.
#[derive(Debug)]
pub struct Certificates {
    list: Vec<(CertificateInfo, Arc<CertifiedKey>)>,
    /// By name: where in the list; several for keys of several kinds.
    by_name: HashMap<String, Vec<usize>>,
}

impl Certificates {
    /// Reads the files. Each private key needs its certificate in one of them, followed by those that lead from it to an authority.
    pub fn load(files: &[PathBuf]) -> Result<Self, TlsError> {
        let mut certificates = Vec::new();
        let mut keys = Vec::new();
        for file in files {
            let unusable = |why: String| TlsError::Unusable(format!("{}: {why}", file.display()));
            let pem = read(file)?;
            let broken = |error: rustls::pki_types::pem::Error| unusable(format!("no PEM: {error}"));
            let before = (certificates.len(), keys.len());
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(broken)?;
                // What nobody could read is a mistake even where no key belongs to it.
                describe(file, &certificate)?;
                certificates.push((file, certificate));
            }
            for key in PrivateKeyDer::pem_slice_iter(&pem) {
                keys.push((file, key.map_err(broken)?));
            }
            // A file that is being written anew is empty for a moment.
            if before == (certificates.len(), keys.len()) {
                return Err(unusable("there is neither a certificate nor a private key in it".to_owned()));
            }
        }
        let mut found = Vec::new();
        for (file, key) in keys {
            let unusable = |why: String| TlsError::Unusable(format!("{}: {why}", file.display()));
            let key = provider().key_provider.load_private_key(key).map_err(|e| unusable(format!("private key: {e}")))?;
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
        Self::of(&certificates, found)
    }

    /// A chain ends where the next certificate with a key begins.
    fn of(certificates: &[(&PathBuf, CertificateDer<'static>)], found: Vec<(usize, CertifiedKey)>) -> Result<Self, TlsError> {
        let mut all = Self { list: Vec::new(), by_name: HashMap::new() };
        let ends: Vec<usize> = found.iter().skip(1).map(|(place, _)| *place).chain([certificates.len()]).collect();
        for ((place, mut pair), end) in found.into_iter().zip(ends) {
            let chain = certificates.get(place..end).unwrap_or_default();
            let Some((file, first)) = chain.first() else { continue };
            let info = describe(file, first)?;
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

    /// What they are, the one that is shown by default first.
    pub fn infos(&self) -> impl Iterator<Item = &CertificateInfo> {
        self.list.iter().map(|(info, _)| info)
    }

    /// The certificate for a name that a client gives: its own, that of `*` in place of its first label, or the first of all.
    fn find(&self, name: Option<&str>, usable: impl Fn(&CertifiedKey) -> bool) -> Option<Arc<CertifiedKey>> {
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}")).unwrap_or_default();
        let named = [name, wildcard].into_iter().filter_map(|name| self.by_name.get(&name)).flatten();
        let named = named.filter_map(|place| self.list.get(*place)).chain(&self.list);
        let mut keys = named.map(|(_, key)| key);
        keys.find(|key| usable(key)).cloned()
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error: std::io::Error| TlsError::Unusable(format!("{}: {error}", file.display()));
    let mut octets = Vec::new();
    let opened = fs::File::open(file).map_err(failed)?;
    opened.take(PEM_FILE_BYTES_MAX + 1).read_to_end(&mut octets).map_err(failed)?;
    match octets.len() as u64 > PEM_FILE_BYTES_MAX {
        true => Err(TlsError::Unusable(format!("{}: larger than {PEM_FILE_BYTES_MAX} octets", file.display()))),
        false => Ok(octets),
    }
}

/// The certificates of a file of authorities.
pub fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let unusable = |why: String| TlsError::Unusable(format!("{}: {why}", file.display()));
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|e| unusable(format!("no PEM: {e}")))?;
    if all.is_empty() { Err(unusable("there is no certificate in it".to_owned())) } else { Ok(all) }
}

fn describe(file: &Path, certificate: &CertificateDer<'_>) -> Result<CertificateInfo, TlsError> {
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

/// What can be seen of a file without opening it.
type Seen = Option<(u64, u64, i64, i64)>;

fn seen(file: &Path) -> Seen {
    let data = fs::metadata(file).ok()?;
    Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
}

/// The certificates that are shown now. Handshakes look here, so that a swap needs no new sessions.
#[derive(Debug)]
pub struct CertificateStore {
    files: Vec<PathBuf>,
    current: ArcSwap<Certificates>,
    seen: Mutex<Vec<Seen>>,
}

impl CertificateStore {
    /// Reads the files for the first time: here a mistake is an error.
    pub fn open(files: &[PathBuf]) -> Result<Arc<Self>, TlsError> {
        let looks = files.iter().map(|file| seen(file)).collect();
        let current = Certificates::load(files)?;
        Ok(Arc::new(Self { files: files.to_vec(), current: ArcSwap::from_pointee(current), seen: Mutex::new(looks) }))
    }

    /// Those of now.
    #[must_use]
    pub fn current(&self) -> Arc<Certificates> {
        self.current.load_full()
    }

    /// Reads the files again if one of them has changed. What can't be used is said, and what there was stays.
    pub fn look(&self) -> Result<bool, TlsError> {
        let now: Vec<Seen> = self.files.iter().map(|file| seen(file)).collect();
        {
            let mut before = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *before == now {
                return Ok(false);
            }
            *before = now;
        }
        self.current.store(Arc::new(Certificates::load(&self.files)?));
        warn_of_readers(&self.files);
        Ok(true)
    }

    /// Looks at the files until the shutdown.
    pub async fn poll(self: Arc<Self>, mut shutdown: Shutdown) {
        warn_of_readers(&self.files);
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL_PERIOD) => {}
                () = shutdown.wait() => return,
            }
            let store = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || store.look()).await {
                Ok(Ok(true)) => {
                    for info in self.current().infos() {
                        let (names, file) = (info.names.join(", "), info.file.display());
                        tracing::info!(target: "tls", names, %file, "new certificate in use");
                    }
                }
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => tracing::error!(target: "tls", %error, "changed certificates can't be used; the old ones stay"),
            }
        }
    }
}

/// A private key that others can read is no secret of ours.
fn warn_of_readers(files: &[PathBuf]) {
    for (file, mode) in readable_by_others(files) {
        let mode = format!("{mode:04o}");
        tracing::warn!(target: "tls", file = %file.display(), mode, "this file has a private key, and others than its owner can read it");
    }
}

/// Files with private keys that their group or everyone can read, with their modes.
pub fn readable_by_others(files: &[PathBuf]) -> Vec<(PathBuf, u32)> {
    let mode = |data: &Metadata| data.permissions().mode() & 0o7777;
    let has_key = |file: &Path| read(file).is_ok_and(|pem| PrivateKeyDer::from_pem_slice(&pem).is_ok());
    let open = files.iter().filter_map(|file| Some((file, fs::metadata(file).ok().map(|data| mode(&data))?)));
    open.filter(|(file, mode)| mode & 0o044 != 0 && has_key(file)).map(|(file, mode)| (file.clone(), mode)).collect()
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        self.current.load().find(hello.server_name(), |key| key.key.choose_scheme(schemes).is_some())
    }
}
