//! The key directory: where a node's identity lives between two starts.
//!
//! ```text
//! <dir>/node.pub           32 bytes, the public key
//! <dir>/node.key           32 bytes, the secret seed, mode 0600
//! <dir>/node.incarnation   the last incarnation used, in decimal
//! <dir>/trusted/           pins, see the module `trust`
//! ```
//!
//! Nothing is repaired here. A node that silently made itself a new identity
//! because a file looked odd would be a stranger to every peer that pinned the
//! old one; so each oddity is an error that names the file, the cause and the
//! remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::fsutil::{self, DirLock, FileFault, Links};
use crate::identity::{Identity, KEY_SIZE, NoRandom};

/// File name of the public key.
pub const PUBLIC_FILE: &str = "node.pub";
/// File name of the secret seed.
pub const SECRET_FILE: &str = "node.key";
/// File name of the last incarnation.
pub const INCARNATION_FILE: &str = "node.incarnation";

/// Twenty digits of a `u64` and a line end.
const MAX_INCARNATION_FILE: usize = 21;

/// Why a key directory is refused. Nothing was changed on disk, except that a
/// failed [`save`] may have replaced the secret file and not the public one.
#[derive(Debug)]
pub enum KeyDirError {
    /// Others than the owner may read or write the secret file.
    InsecureKeyFile {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The public key is not the one of the secret seed.
    KeyMismatch {
        /// The directory.
        dir: PathBuf,
    },
    /// One of the two files is missing.
    HalfPresent {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// Neither file is there.
    NotFound {
        /// The directory.
        dir: PathBuf,
    },
    /// The incarnation file holds something else than a number, or the
    /// greatest one.
    BadIncarnation {
        /// The file.
        path: PathBuf,
    },
    /// A file or the directory is faulty.
    File(FileFault),
    /// The system gave no random bytes.
    Random,
}

/// Reads and checks the identity in `dir`.
pub fn load(dir: &Path) -> Result<Identity, KeyDirError> {
    read_pair(dir)?.ok_or_else(|| KeyDirError::NotFound { dir: dir.into() })
}

/// Writes an identity into `dir`, which is made when it is missing; one that
/// is there already is replaced.
pub fn save(dir: &Path, identity: &Identity) -> Result<(), KeyDirError> {
    fsutil::ensure_dir(dir)?;
    let _lock = DirLock::take(dir)?;
    write_pair(dir, identity)
}

/// Reads the identity in `dir`, or makes one when there is none. Two nodes
/// that start at once with the same directory get the same identity.
pub fn load_or_generate(dir: &Path) -> Result<Identity, KeyDirError> {
    // Without the lock first: the directory may be mounted read-only.
    match read_pair(dir) {
        Ok(None) => fsutil::ensure_dir(dir)?,
        Ok(Some(identity)) => return Ok(identity),
        // Perhaps another process is between its two files: look again.
        Err(KeyDirError::HalfPresent { .. } | KeyDirError::KeyMismatch { .. }) => {}
        Err(error) => return Err(error),
    }
    let _lock = DirLock::take(dir)?;
    if let Some(identity) = read_pair(dir)? {
        return Ok(identity);
    }
    let identity = Identity::generate()?;
    write_pair(dir, &identity)?;
    Ok(identity)
}

/// A number greater than every one given before for this directory, at least
/// the wall clock in milliseconds: peers tell an older life of this node from
/// a newer one by it, also when the clock was set back. Without a directory
/// the clock is all there is.
pub fn next_incarnation(dir: Option<&Path>, wall_ms: u64) -> Result<u64, KeyDirError> {
    let Some(dir) = dir else { return Ok(wall_ms) };
    fsutil::ensure_dir(dir)?;
    let _lock = DirLock::take(dir)?;
    let path = dir.join(INCARNATION_FILE);
    let next = match fsutil::read(&path, MAX_INCARNATION_FILE, Links::Refuse)? {
        None => wall_ms,
        Some(content) => {
            let last = parse_incarnation(&content.bytes);
            let after = last.and_then(|n| n.checked_add(1));
            after
                .ok_or(KeyDirError::BadIncarnation { path })?
                .max(wall_ms)
        }
    };
    fsutil::write_atomic(dir, INCARNATION_FILE, format!("{next}\n").as_bytes(), 0o600)?;
    Ok(next)
}

fn parse_incarnation(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes)
        .ok()?
        .strip_suffix('\n')?
        .parse()
        .ok()
}

/// `None` when neither file is there.
fn read_pair(dir: &Path) -> Result<Option<Identity>, KeyDirError> {
    fsutil::check_dir(dir)?;
    let (secret_path, public_path) = (dir.join(SECRET_FILE), dir.join(PUBLIC_FILE));
    let secret = read_secret(&secret_path)?;
    let public = read_key(&public_path)?;
    match (secret, public) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(KeyDirError::HalfPresent {
            present: secret_path,
            missing: public_path,
        }),
        (None, Some(_)) => Err(KeyDirError::HalfPresent {
            present: public_path,
            missing: secret_path,
        }),
        (Some(secret), Some((public, _))) => {
            let identity = Identity::from_seed(&secret);
            if identity.public().0 == *public {
                Ok(Some(identity))
            } else {
                Err(KeyDirError::KeyMismatch { dir: dir.into() })
            }
        }
    }
}

fn read_secret(path: &Path) -> Result<Option<Zeroizing<[u8; KEY_SIZE]>>, KeyDirError> {
    match read_key(path)? {
        Some((_, mode)) if mode & 0o077 != 0 => Err(KeyDirError::InsecureKeyFile {
            path: path.into(),
            mode,
        }),
        Some((secret, _)) => Ok(Some(secret)),
        None => Ok(None),
    }
}

/// The 32 bytes of a file, wiped when dropped, and its permission bits.
type KeyFile = (Zeroizing<[u8; KEY_SIZE]>, u32);

fn read_key(path: &Path) -> Result<Option<KeyFile>, KeyDirError> {
    let Some(content) = fsutil::read(path, KEY_SIZE, Links::Refuse)? else {
        return Ok(None);
    };
    let bytes = Zeroizing::new(content.bytes);
    let mut key = Zeroizing::new([0; KEY_SIZE]);
    if bytes.len() != KEY_SIZE {
        let (found, expected) = (bytes.len() as u64, KEY_SIZE as u64);
        return Err(FileFault::WrongSize {
            path: path.into(),
            found,
            expected,
        }
        .into());
    }
    key.copy_from_slice(&bytes);
    Ok(Some((key, content.mode)))
}

fn write_pair(dir: &Path, identity: &Identity) -> Result<(), KeyDirError> {
    // The secret first: a public key without its secret looks like a loss.
    fsutil::write_atomic(dir, SECRET_FILE, identity.secret_seed().as_slice(), 0o600)?;
    fsutil::write_atomic(dir, PUBLIC_FILE, &identity.public().0, 0o644)?;
    Ok(())
}

impl KeyDirError {
    /// A short name for the BEAM.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InsecureKeyFile { .. } => "insecure_key_file",
            Self::KeyMismatch { .. } => "key_mismatch",
            Self::HalfPresent { .. } => "key_pair_incomplete",
            Self::NotFound { .. } => "not_found",
            Self::BadIncarnation { .. } => "bad_incarnation",
            Self::File(fault) => fault.code(),
            Self::Random => "no_random",
        }
    }
}

impl fmt::Display for KeyDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsecureKeyFile { path, mode } => write!(
                f,
                "the secret key {} has mode {mode:04o} and other users may have read it; run chmod 600 on it, and \
                 make a new identity if they are not trusted",
                path.display()
            ),
            Self::KeyMismatch { dir } => write!(
                f,
                "{PUBLIC_FILE} in {} is not the public key of {SECRET_FILE}; restore both from one backup, or remove \
                 both to make a new identity",
                dir.display()
            ),
            Self::HalfPresent { present, missing } => write!(
                f,
                "{} is there but {} is missing; restore it from a backup, or remove both to make a new identity",
                present.display(),
                missing.display()
            ),
            Self::NotFound { dir } => {
                write!(
                    f,
                    "no key pair in {}; start the node once or save one there",
                    dir.display()
                )
            }
            Self::BadIncarnation { path } => write!(
                f,
                "{} does not hold a usable incarnation number; remove it once the clock of this machine is right",
                path.display()
            ),
            Self::File(fault) => fault.fmt(f),
            Self::Random => NoRandom.fmt(f),
        }
    }
}

impl std::error::Error for KeyDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<FileFault> for KeyDirError {
    fn from(fault: FileFault) -> Self {
        Self::File(fault)
    }
}

impl From<NoRandom> for KeyDirError {
    fn from(_: NoRandom) -> Self {
        Self::Random
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::thread;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The error's code; its text must name `word`.
    fn refusal(dir: &Path, word: &str) -> &'static str {
        for answer in [load(dir), load_or_generate(dir)] {
            let error = answer.unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        load(dir).unwrap_err().code()
    }

    fn populated() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &Identity::from_seed(&[7; 32])).unwrap();
        dir
    }

    #[test]
    fn a_first_start_makes_an_identity_and_the_next_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("data/keys");
        assert_eq!(load(&keys).unwrap_err().code(), "not_found");
        let made = load_or_generate(&keys).unwrap();
        assert_eq!(load_or_generate(&keys).unwrap().public(), made.public());
        assert_eq!(load(&keys).unwrap().public(), made.public());
        assert_eq!((mode(&keys), mode(&keys.join(SECRET_FILE))), (0o700, 0o600));
        assert_eq!(fs::read(keys.join(PUBLIC_FILE)).unwrap(), made.public().0);
        assert_eq!(
            fs::read(keys.join(SECRET_FILE)).unwrap(),
            *made.secret_seed()
        );
    }

    #[test]
    fn two_first_starts_at_once_agree_on_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let starts: Vec<_> = (0..8)
            .map(|_| {
                let keys = keys.clone();
                thread::spawn(move || load_or_generate(&keys).unwrap().public())
            })
            .collect();
        let keys: Vec<_> = starts.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(keys.iter().all(|k| *k == keys[0]));
    }

    #[test]
    fn saving_replaces_the_pair() {
        let dir = populated();
        save(dir.path(), &Identity::from_seed(&[8; 32])).unwrap();
        assert_eq!(
            load(dir.path()).unwrap().public(),
            Identity::from_seed(&[8; 32]).public()
        );
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = populated();
        for open in [0o640, 0o604, 0o660, 0o610] {
            chmod(&dir.path().join(SECRET_FILE), open);
            assert_eq!(refusal(dir.path(), "chmod 600"), "insecure_key_file");
        }
        chmod(&dir.path().join(SECRET_FILE), 0o400);
        assert!(load(dir.path()).is_ok());
    }

    #[test]
    fn a_file_of_the_wrong_size_is_refused() {
        for (file, size) in [
            (SECRET_FILE, 31),
            (SECRET_FILE, 0),
            (PUBLIC_FILE, 33),
            (PUBLIC_FILE, 64),
        ] {
            let dir = populated();
            fs::write(dir.path().join(file), vec![7; size]).unwrap();
            assert_eq!(refusal(dir.path(), file), "wrong_size");
        }
    }

    #[test]
    fn a_public_key_of_another_secret_is_refused() {
        let dir = populated();
        fs::write(dir.path().join(PUBLIC_FILE), [0; 32]).unwrap();
        assert_eq!(refusal(dir.path(), "backup"), "key_mismatch");
    }

    #[test]
    fn half_a_pair_is_refused_and_not_completed() {
        for (gone, kept) in [(SECRET_FILE, PUBLIC_FILE), (PUBLIC_FILE, SECRET_FILE)] {
            let dir = populated();
            fs::remove_file(dir.path().join(gone)).unwrap();
            assert_eq!(refusal(dir.path(), gone), "key_pair_incomplete");
            assert!(dir.path().join(kept).exists() && !dir.path().join(gone).exists());
        }
    }

    #[test]
    fn a_symbolic_link_is_refused() {
        let dir = populated();
        let (key, moved) = (dir.path().join(SECRET_FILE), dir.path().join("elsewhere"));
        fs::rename(&key, &moved).unwrap();
        symlink(&moved, &key).unwrap();
        assert_eq!(refusal(dir.path(), SECRET_FILE), "symlink");
    }

    #[test]
    fn a_directory_in_place_of_a_key_is_refused() {
        let dir = populated();
        fs::remove_file(dir.path().join(SECRET_FILE)).unwrap();
        fs::create_dir(dir.path().join(SECRET_FILE)).unwrap();
        assert_eq!(refusal(dir.path(), SECRET_FILE), "not_a_file");
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        fs::write(&file, b"").unwrap();
        assert_eq!(refusal(&file, "keys"), "not_a_directory");
        assert_eq!(
            load_or_generate(&file.join("below")).unwrap_err().code(),
            "not_a_directory"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_written_serves_a_pair_and_makes_none() {
        // The super-user may write everywhere except where the kernel itself
        // has no files to make.
        let answer = load_or_generate(Path::new("/proc/self/barrel_p2p")).unwrap_err();
        assert!(
            matches!(
                answer,
                KeyDirError::File(FileFault::Io { .. } | FileFault::NotADirectory { .. })
            ),
            "{answer}"
        );
        let dir = populated();
        chmod(dir.path(), 0o500);
        let served = load_or_generate(dir.path());
        chmod(dir.path(), 0o700);
        assert_eq!(
            served.unwrap().public(),
            Identity::from_seed(&[7; 32]).public()
        );
    }

    #[test]
    fn a_directory_that_everybody_may_write_is_refused() {
        let dir = populated();
        chmod(dir.path(), 0o777);
        assert_eq!(refusal(dir.path(), "chmod go-w"), "writable_by_others");
    }

    #[test]
    fn an_incarnation_grows_even_when_the_clock_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let next = |wall| next_incarnation(Some(dir.path()), wall).unwrap();
        assert_eq!(
            [next(1000), next(1000), next(5), next(2000)],
            [1000, 1001, 1002, 2000]
        );
        assert_eq!(next_incarnation(None, 5).unwrap(), 5);
    }

    #[test]
    fn a_broken_incarnation_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for broken in [
            "",
            "12",
            "x\n",
            "-1\n",
            "18446744073709551615\n",
            "18446744073709551616\n",
        ] {
            fs::write(dir.path().join(INCARNATION_FILE), broken).unwrap();
            let error = next_incarnation(Some(dir.path()), 1).unwrap_err();
            assert!(
                ["bad_incarnation", "wrong_size"].contains(&error.code()),
                "{error}"
            );
            assert!(error.to_string().contains(INCARNATION_FILE));
            assert_eq!(
                fs::read_to_string(dir.path().join(INCARNATION_FILE)).unwrap(),
                broken
            );
        }
    }

    proptest! {
        #[test]
        fn any_incarnation_file_is_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            let parsed = parse_incarnation(&bytes);
            prop_assert!(parsed.is_none() || bytes.ends_with(b"\n"));
        }

        #[test]
        fn every_incarnation_is_read_back(n: u64) {
            prop_assert_eq!(parse_incarnation(format!("{n}\n").as_bytes()), Some(n));
        }
    }
}
