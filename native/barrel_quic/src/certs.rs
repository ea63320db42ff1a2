//! The TLS certificate of a node and its key.
//!
//! ```text
//! <dir>/node.crt   PEM, the certificate and what stands above it
//! <dir>/node.key   PEM, its private key, mode 0600
//! ```
//!
//! The certificate says nothing about who a node is: that is proven later, by
//! the signed hello. TLS needs one, and its signature proves that the two ends
//! of the handshake hold what they show. So a generated one is self-signed and
//! names neither the node nor its host: a stranger who opens a connection sees
//! it before he has proven anything.
//!
//! A generated certificate carries a mark and is renewed before it expires; an
//! operator's own is used as it is and never written to.
//!
//! The key is ECDSA on P-256: every TLS tool and library reads it, and it
//! cannot be taken for an identity, whose keys are Ed25519.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use time::OffsetDateTime;
use x509_parser::prelude::parse_x509_certificate;
use zeroize::Zeroizing;

use crate::fsutil::{self, DirLock, FileFault, Links};
use crate::identity::KEY_SIZE;

/// File name of the certificate.
pub const CERT_FILE: &str = "node.crt";
/// File name of its key.
pub const KEY_FILE: &str = "node.key";

/// Organisation in the subject of a certificate that was generated here.
const MARK: &str = "barrel_p2p generated";
/// The one subject name: the same on every node.
const COMMON_NAME: &str = "barrel-p2p";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a generated certificate is valid.
const LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A generated certificate with less than this left is renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Longest PEM file: TLS itself takes no longer chain than 64 KiB of DER.
const MAX_PEM: usize = 128 * 1024;

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made here.
    Generated,
    /// Placed by the operator.
    Operator,
}

/// Everything TLS needs of this node.
pub struct TlsMaterial {
    /// The node's certificate first, then what stands above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// End of the first certificate's validity.
    pub not_after: SystemTime,
    /// Who made it.
    pub origin: Origin,
    /// What the operator should know; the certificate is used nevertheless.
    pub warning: Option<CertWarning>,
}

/// Something to tell the operator that stops nothing: nodes do not judge each
/// other by the dates of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertWarning {
    /// The operator's certificate has expired.
    Expired {
        /// Its file.
        path: PathBuf,
    },
    /// A generated certificate is due and could not be renewed.
    NotRenewed {
        /// Why, with a remedy.
        why: String,
    },
}

/// Why there is no certificate to use.
#[derive(Debug)]
pub enum CertError {
    /// Others than the owner may read or write the key.
    InsecureKeyFile {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// One of the two files is missing.
    HalfPresent {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// The key is not that of the certificate.
    KeyMismatch {
        /// The directory.
        dir: PathBuf,
    },
    /// The file holds no certificate that can be read.
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file holds no private key that can be used.
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key file holds an Ed25519 identity.
    IdentityKey {
        /// The file.
        path: PathBuf,
    },
    /// A file or the directory is faulty.
    File(FileFault),
    /// No certificate could be made.
    Generate(String),
}

/// The certificate in `dir`, made when there is none, renewed when it was made
/// here and is due. Two nodes that start at once in one directory get the same.
pub fn load_or_generate(dir: &Path, now: SystemTime) -> Result<TlsMaterial, CertError> {
    // Without the lock first: the directory may be mounted read-only.
    let due = match find(dir, now)? {
        Found::Pair(material) if !material.renew_due(now) => return Ok(material),
        Found::Pair(material) => Some(material),
        Found::Nothing | Found::OursWithoutKey => None,
    };
    match (make(dir, now), due) {
        (Ok(material), _) => Ok(material),
        (Err(error), Some(mut old)) => {
            old.warning = Some(CertWarning::NotRenewed {
                why: error.to_string(),
            });
            Ok(old)
        }
        (Err(error), None) => Err(error),
    }
}

/// A certificate in memory, for a node without a directory.
pub fn ephemeral(now: SystemTime) -> Result<TlsMaterial, CertError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    certify(&key, now).map(|(material, _pem)| material)
}

impl TlsMaterial {
    /// Whether [`load_or_generate`] would renew it now.
    pub fn renew_due(&self, now: SystemTime) -> bool {
        self.origin == Origin::Generated && self.not_after < now + RENEW_BEFORE
    }
}

impl Clone for TlsMaterial {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            not_after: self.not_after,
            origin: self.origin,
            warning: self.warning.clone(),
        }
    }
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("certificates", &self.chain.len())
            .field("not_after", &self.not_after)
            .field("origin", &self.origin)
            .field("warning", &self.warning)
            .finish_non_exhaustive()
    }
}

/// What a directory holds.
enum Found {
    Nothing,
    /// A crash between our two writes: the certificate came first, so that a
    /// key without one is never ours.
    OursWithoutKey,
    Pair(TlsMaterial),
}

fn find(dir: &Path, now: SystemTime) -> Result<Found, CertError> {
    fsutil::check_dir(dir)?;
    let (cert_path, key_path) = (dir.join(CERT_FILE), dir.join(KEY_FILE));
    let cert = fsutil::read(&cert_path, MAX_PEM, Links::Follow)?;
    let key = read_key(&key_path)?;
    let (cert, key) = match (cert, key) {
        (None, None) => return Ok(Found::Nothing),
        (None, Some(_)) => {
            return Err(CertError::HalfPresent {
                present: key_path,
                missing: cert_path,
            });
        }
        (Some(cert), key) => (Certificates::parse(&cert_path, &cert.bytes)?, key),
    };
    let Some(key) = key else {
        return match cert.origin {
            Origin::Generated => Ok(Found::OursWithoutKey),
            Origin::Operator => Err(CertError::HalfPresent {
                present: cert_path,
                missing: key_path,
            }),
        };
    };
    check_match(dir, &cert.chain, &key)?;
    let expired = cert.origin == Origin::Operator && cert.not_after < now;
    Ok(Found::Pair(TlsMaterial {
        chain: cert.chain,
        key,
        not_after: cert.not_after,
        origin: cert.origin,
        warning: expired.then_some(CertWarning::Expired { path: cert_path }),
    }))
}

/// Makes or renews what is in `dir`, unless another process has done so.
fn make(dir: &Path, now: SystemTime) -> Result<TlsMaterial, CertError> {
    fsutil::ensure_dir(dir)?;
    let _lock = DirLock::take(dir)?;
    let key = match find(dir, now)? {
        Found::Pair(material) if !material.renew_due(now) => return Ok(material),
        // The key stays: one file is replaced, and no moment sees a pair that
        // does not match.
        Found::Pair(material) => {
            KeyPair::from_der_and_sign_algo(&material.key, &PKCS_ECDSA_P256_SHA256)?
        }
        Found::Nothing | Found::OursWithoutKey => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
    };
    let (material, cert_pem) = certify(&key, now)?;
    let key_pem = Zeroizing::new(key.serialize_pem());
    fsutil::write_atomic(dir, CERT_FILE, cert_pem.as_bytes(), 0o644)?;
    fsutil::write_atomic(dir, KEY_FILE, key_pem.as_bytes(), 0o600)?;
    Ok(material)
}

/// A self-signed certificate of `key`, also in PEM.
fn certify(key: &KeyPair, now: SystemTime) -> Result<(TlsMaterial, String), CertError> {
    let not_after = now + LIFE;
    let mut params = CertificateParams::new([COMMON_NAME.to_owned()])?;
    // A day back, for a reader whose clock is behind.
    params.not_before = OffsetDateTime::from(now - DAY);
    params.not_after = OffsetDateTime::from(not_after);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, MARK);
    params
        .distinguished_name
        .push(DnType::CommonName, COMMON_NAME);
    let cert = params.self_signed(key)?;
    let material = TlsMaterial {
        chain: vec![cert.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|e| CertError::Generate(e.to_owned()))?,
        not_after,
        origin: Origin::Generated,
        warning: None,
    };
    Ok((material, cert.pem()))
}

fn read_key(path: &Path) -> Result<Option<PrivateKeyDer<'static>>, CertError> {
    let Some(content) = fsutil::read(path, MAX_PEM, Links::Follow)? else {
        return Ok(None);
    };
    let bytes = Zeroizing::new(content.bytes);
    if content.mode & 0o077 != 0 {
        return Err(CertError::InsecureKeyFile {
            path: path.into(),
            mode: content.mode,
        });
    }
    if bytes.len() == KEY_SIZE {
        return Err(CertError::IdentityKey { path: path.into() });
    }
    PrivateKeyDer::from_pem_slice(&bytes)
        .map(Some)
        .map_err(|e| CertError::BadKey {
            path: path.into(),
            why: e.to_string(),
        })
}

/// The content of a certificate file.
struct Certificates {
    chain: Vec<CertificateDer<'static>>,
    not_after: SystemTime,
    origin: Origin,
}

impl Certificates {
    fn parse(path: &Path, pem: &[u8]) -> Result<Self, CertError> {
        let bad = |why: String| CertError::BadCertificate {
            path: path.into(),
            why,
        };
        let chain = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| bad(e.to_string()))?;
        let first = chain
            .first()
            .ok_or_else(|| bad("no certificate in it".to_owned()))?;
        let (_, first) = parse_x509_certificate(first).map_err(|e| bad(e.to_string()))?;
        let seconds = u64::try_from(first.validity().not_after.timestamp()).unwrap_or(0);
        let not_after = UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .ok_or_else(|| bad("its end date is out of range".to_owned()))?;
        let ours = first
            .subject()
            .iter_organization()
            .any(|o| o.as_str() == Ok(MARK));
        let origin = if ours {
            Origin::Generated
        } else {
            Origin::Operator
        };
        Ok(Self {
            chain,
            not_after,
            origin,
        })
    }
}

fn check_match(
    dir: &Path,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), CertError> {
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider) {
        Ok(_) => Ok(()),
        Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(CertError::KeyMismatch { dir: dir.into() })
        }
        Err(TlsError::InvalidCertificate(why)) => Err(CertError::BadCertificate {
            path: dir.join(CERT_FILE),
            why: format!("{why:?}"),
        }),
        Err(why) => Err(CertError::BadKey {
            path: dir.join(KEY_FILE),
            why: why.to_string(),
        }),
    }
}

impl CertError {
    /// A short name for the BEAM.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InsecureKeyFile { .. } => "insecure_key_file",
            Self::HalfPresent { .. } => "certificate_incomplete",
            Self::KeyMismatch { .. } => "certificate_key_mismatch",
            Self::BadCertificate { .. } => "bad_certificate",
            Self::BadKey { .. } => "bad_certificate_key",
            Self::IdentityKey { .. } => "identity_key",
            Self::File(fault) => fault.code(),
            Self::Generate(_) => "certificate_not_generated",
        }
    }
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsecureKeyFile { path, mode } => write!(
                f,
                "the key {} has mode {mode:04o} and other users may have read it; run chmod 600 on \
                 it, and replace certificate and key if they are not trusted",
                path.display()
            ),
            Self::HalfPresent { present, missing } => write!(
                f,
                "{} is there but {} is missing; put it there, or remove the first one to have both \
                 generated",
                present.display(),
                missing.display()
            ),
            Self::KeyMismatch { dir } => write!(
                f,
                "{KEY_FILE} in {} is not the key of {CERT_FILE}; put the right pair there, or \
                 remove both to have them generated",
                dir.display()
            ),
            Self::BadCertificate { path, why } => write!(
                f,
                "{} is no certificate in PEM that can be used: {why}; replace it, or remove it and \
                 {KEY_FILE} to have both generated",
                path.display()
            ),
            Self::BadKey { path, why } => write!(
                f,
                "{} is no private key in PEM that can be used: {why}; replace it by an \
                 unencrypted ECDSA, Ed25519 or RSA key",
                path.display()
            ),
            Self::IdentityKey { path } => write!(
                f,
                "{} holds the identity of a node and no key in PEM; set quic_cert_dir to another \
                 directory than auth_key_dir",
                path.display()
            ),
            Self::File(fault) => fault.fmt(f),
            Self::Generate(why) => {
                write!(
                    f,
                    "no certificate could be made: {why}; put your own in place"
                )
            }
        }
    }
}

impl std::error::Error for CertError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<FileFault> for CertError {
    fn from(fault: FileFault) -> Self {
        Self::File(fault)
    }
}

impl From<rcgen::Error> for CertError {
    fn from(error: rcgen::Error) -> Self {
        Self::Generate(error.to_string())
    }
}

impl fmt::Display for CertWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { path } => write!(
                f,
                "the certificate {} has expired and is used nevertheless; replace it",
                path.display()
            ),
            Self::NotRenewed { why } => {
                write!(f, "the certificate is due and was not renewed: {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::PKCS_ED25519;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::thread;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_900_000_000)
    }

    fn write_key(dir: &Path, pem: impl AsRef<[u8]>) {
        let path = dir.join(KEY_FILE);
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// An operator's certificate that ends at `not_after`, with its key.
    fn operator_pair(not_after: SystemTime) -> (String, String) {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(["node.example".to_owned()]).unwrap();
        params.not_before = OffsetDateTime::from(UNIX_EPOCH);
        params.not_after = OffsetDateTime::from(not_after);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn contents(dir: &Path) -> (Vec<u8>, Vec<u8>) {
        (
            fs::read(dir.join(CERT_FILE)).unwrap(),
            fs::read(dir.join(KEY_FILE)).unwrap(),
        )
    }

    fn refusal(dir: &Path, word: &str) -> &'static str {
        let before: Vec<_> = [CERT_FILE, KEY_FILE]
            .map(|f| fs::read(dir.join(f)).ok())
            .into();
        let error = load_or_generate(dir, now()).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        let after: Vec<_> = [CERT_FILE, KEY_FILE]
            .map(|f| fs::read(dir.join(f)).ok())
            .into();
        assert_eq!(before, after);
        error.code()
    }

    #[test]
    fn a_first_start_makes_a_pair_and_the_next_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let certs = dir.path().join("data/quic");
        let made = load_or_generate(&certs, now()).unwrap();
        let found = load_or_generate(&certs, now()).unwrap();
        assert_eq!((&found.chain, &found.key), (&made.chain, &made.key));
        assert_eq!(
            (found.origin, found.not_after),
            (Origin::Generated, now() + LIFE)
        );
        assert_eq!(found.warning, None);
        assert_eq!(
            fs::metadata(certs.join(KEY_FILE)).unwrap().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::metadata(&certs).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn two_first_starts_at_once_agree_on_one_pair() {
        let dir = tempfile::tempdir().unwrap();
        let starts: Vec<_> = (0..8)
            .map(|_| {
                let dir = dir.path().to_owned();
                thread::spawn(move || load_or_generate(&dir, now()).unwrap().chain)
            })
            .collect();
        let chains: Vec<_> = starts.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(chains.iter().all(|chain| *chain == chains[0]));
    }

    #[test]
    fn a_generated_certificate_is_renewed_before_it_expires_and_keeps_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let made = load_or_generate(dir.path(), now()).unwrap();
        let early = now() + LIFE - RENEW_BEFORE;
        assert!(!made.renew_due(early));
        assert_eq!(
            load_or_generate(dir.path(), early).unwrap().chain,
            made.chain
        );
        for late in [early + Duration::from_secs(1), now() + LIFE + DAY] {
            assert!(made.renew_due(late));
            let renewed = load_or_generate(dir.path(), late).unwrap();
            assert_ne!(renewed.chain, made.chain);
            assert_eq!(renewed.key, made.key);
            assert!(!renewed.renew_due(late));
            assert_eq!(
                load_or_generate(dir.path(), late).unwrap().chain,
                renewed.chain
            );
        }
    }

    #[test]
    fn an_operators_pair_is_used_and_never_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = operator_pair(now() + DAY);
        fs::write(dir.path().join(CERT_FILE), &cert).unwrap();
        write_key(dir.path(), &key);
        let found = load_or_generate(dir.path(), now()).unwrap();
        assert_eq!(
            (found.origin, found.warning.clone()),
            (Origin::Operator, None)
        );
        assert_eq!(found.not_after, now() + DAY);
        assert!(!found.renew_due(now() + LIFE));
        assert_eq!(contents(dir.path()), (cert.into_bytes(), key.into_bytes()));
    }

    #[test]
    fn an_operators_chain_is_kept_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = operator_pair(now() + DAY);
        let (above, _) = operator_pair(now() + DAY);
        fs::write(dir.path().join(CERT_FILE), format!("{cert}{above}")).unwrap();
        write_key(dir.path(), key);
        let found = load_or_generate(dir.path(), now()).unwrap();
        assert_eq!(found.chain.len(), 2);
        assert_eq!(
            found.chain[0],
            CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()
        );
    }

    #[test]
    fn an_expired_operators_certificate_is_used_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = operator_pair(now() - DAY);
        fs::write(dir.path().join(CERT_FILE), &cert).unwrap();
        write_key(dir.path(), &key);
        let found = load_or_generate(dir.path(), now()).unwrap();
        assert!(matches!(found.warning, Some(CertWarning::Expired { .. })));
        assert!(found.warning.unwrap().to_string().contains(CERT_FILE));
        assert_eq!(contents(dir.path()), (cert.into_bytes(), key.into_bytes()));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_generate(dir.path(), now()).unwrap();
        for open in [0o640, 0o604, 0o666] {
            let mode = fs::Permissions::from_mode(open);
            fs::set_permissions(dir.path().join(KEY_FILE), mode).unwrap();
            assert_eq!(refusal(dir.path(), "chmod 600"), "insecure_key_file");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_generate(dir.path(), now()).unwrap();
        write_key(dir.path(), operator_pair(now()).1);
        assert_eq!(
            refusal(dir.path(), "right pair"),
            "certificate_key_mismatch"
        );
    }

    #[test]
    fn half_an_operators_pair_is_refused() {
        let (cert, key) = operator_pair(now() + DAY);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CERT_FILE), cert).unwrap();
        assert_eq!(refusal(dir.path(), KEY_FILE), "certificate_incomplete");
        let dir = tempfile::tempdir().unwrap();
        write_key(dir.path(), key);
        assert_eq!(refusal(dir.path(), CERT_FILE), "certificate_incomplete");
    }

    #[test]
    fn half_a_generated_pair_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let made = load_or_generate(dir.path(), now()).unwrap();
        fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
        let again = load_or_generate(dir.path(), now()).unwrap();
        assert_ne!(again.key, made.key);
        assert_eq!(load_or_generate(dir.path(), now()).unwrap().key, again.key);
    }

    #[test]
    fn files_that_hold_something_else_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = operator_pair(now() + DAY);
        write_key(dir.path(), &key);
        let wrapped = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for broken in ["", "hello", key.as_str(), wrapped] {
            fs::write(dir.path().join(CERT_FILE), broken).unwrap();
            assert_eq!(refusal(dir.path(), CERT_FILE), "bad_certificate");
        }
        fs::write(dir.path().join(CERT_FILE), &cert).unwrap();
        let wrapped = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for broken in ["", "hello", cert.as_str(), wrapped] {
            write_key(dir.path(), broken);
            assert_eq!(refusal(dir.path(), KEY_FILE), "bad_certificate_key");
        }
    }

    #[test]
    fn an_identity_in_place_of_the_key_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        crate::keydir::load_or_generate(dir.path()).unwrap();
        assert_eq!(refusal(dir.path(), "quic_cert_dir"), "identity_key");
    }

    #[test]
    fn a_due_certificate_that_cannot_be_renewed_is_used_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let made = load_or_generate(dir.path(), now()).unwrap();
        // No lock, no write: holds for the super-user too.
        fs::remove_file(dir.path().join(".lock")).unwrap();
        fs::create_dir(dir.path().join(".lock")).unwrap();
        let found = load_or_generate(dir.path(), now() + LIFE).unwrap();
        assert_eq!(found.chain, made.chain);
        assert!(matches!(
            found.warning,
            Some(CertWarning::NotRenewed { .. })
        ));
    }

    #[test]
    fn a_certificate_in_memory_is_fresh_each_time() {
        let (one, two) = (ephemeral(now()).unwrap(), ephemeral(now()).unwrap());
        assert_ne!(one.key, two.key);
        assert_eq!(one.not_after, now() + LIFE);
    }

    #[test]
    fn certificates_of_two_nodes_name_neither() {
        let subject = |material: &TlsMaterial| {
            let (_, cert) = parse_x509_certificate(&material.chain[0]).unwrap();
            cert.subject().to_string()
        };
        let (one, two) = (ephemeral(now()).unwrap(), ephemeral(now()).unwrap());
        assert_eq!(subject(&one), subject(&two));
        assert!(subject(&one).contains(MARK));
    }

    #[test]
    fn the_key_is_not_printed() {
        let material = ephemeral(now()).unwrap();
        let secret = format!("{:?}", material.key.secret_der());
        assert!(!format!("{material:?}").contains(&secret[1..40]));
    }
}
