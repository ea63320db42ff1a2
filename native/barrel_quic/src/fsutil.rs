//! Small files that must be right: read with suspicion, written atomically.
//!
//! Used for keys, pins, certificates and endpoint files. Everything here
//! blocks; callers on an I/O thread hand it to another thread.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

/// Prefix of files that are being written. A crash may leave one behind; no
/// reader looks at it.
const TEMPORARY: &str = ".tmp-";

/// The lock file of a directory that several processes may change.
const LOCK: &str = ".lock";

/// How long a directory lock is waited for. Its holders write one small file;
/// one that needs longer is stopped or stuck.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Pause between two attempts to take a directory lock.
const LOCK_RETRY: Duration = Duration::from_millis(2);

/// What is wrong with a file or a directory.
#[derive(Debug)]
pub enum FileFault {
    /// The operating system refused.
    Io {
        /// What was tried, as "read" or "create".
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A symbolic link where none is taken.
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// Something else than a regular file.
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Something else than a directory.
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Other users may write there.
    WritableByOthers {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file of the wrong length.
    WrongSize {
        /// The file.
        path: PathBuf,
        /// The length that was found; for a long file at least this.
        found: u64,
        /// The only or greatest length that is taken.
        expected: u64,
    },
    /// Another process holds the lock of the directory.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The system's random generator failed.
    Random,
}

impl FileFault {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// A short name for the BEAM.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { source, .. } => io_code(source.kind()),
            Self::Symlink { .. } => "symlink",
            Self::NotAFile { .. } => "not_a_file",
            Self::NotADirectory { .. } => "not_a_directory",
            Self::WritableByOthers { .. } => "writable_by_others",
            Self::WrongSize { .. } => "wrong_size",
            Self::Locked { .. } => "locked",
            Self::Random => "no_random",
        }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io {
                action,
                path,
                source,
            } => {
                write!(
                    f,
                    "cannot {action} {}: {source}; {}",
                    path.display(),
                    io_remedy(source.kind())
                )
            }
            Self::Symlink { path } => {
                write!(
                    f,
                    "{} is a symbolic link; replace it by what it points to",
                    path.display()
                )
            }
            Self::NotAFile { path } => {
                write!(f, "{} is not a regular file; remove it", path.display())
            }
            Self::NotADirectory { path } => {
                write!(
                    f,
                    "{} is not a directory; remove it or configure another path",
                    path.display()
                )
            }
            Self::WritableByOthers { path, mode } => write!(
                f,
                "{} has mode {mode:04o}: other users may change it; run chmod go-w on it after a look at its content",
                path.display()
            ),
            Self::WrongSize {
                path,
                found,
                expected,
            } => write!(
                f,
                "{} holds {found} bytes instead of {expected}; restore it from a backup or remove it",
                path.display()
            ),
            Self::Locked { path } => {
                write!(
                    f,
                    "{} is locked by another process; end that process or wait for it",
                    path.display()
                )
            }
            Self::Random => {
                f.write_str("the system gives no random bytes; check getrandom(2) and /dev/urandom")
            }
        }
    }
}

impl std::error::Error for FileFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn io_code(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "not_found",
        io::ErrorKind::PermissionDenied => "permission_denied",
        io::ErrorKind::ReadOnlyFilesystem => "read_only",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk_full",
        io::ErrorKind::NotADirectory => "not_a_directory",
        io::ErrorKind::InvalidFilename => "name_too_long",
        _ => "io_error",
    }
}

fn io_remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "create it or configure another path",
        io::ErrorKind::PermissionDenied => {
            "give the user of this node access, or configure another directory"
        }
        io::ErrorKind::ReadOnlyFilesystem => "configure a directory on a writable file system",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        io::ErrorKind::NotADirectory => "a part of the path is a file: configure another path",
        io::ErrorKind::InvalidFilename => {
            "the file system takes no name of this length: use a shorter node name"
        }
        _ => "check the disk and the path",
    }
}

/// A file's content with its permission bits.
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) modified_secs: u64,
}

/// Whether a symbolic link is taken for what it points to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Refuse,
}

/// Reads a regular file of at most `limit` bytes; `None` when nothing is there.
pub(crate) fn read(path: &Path, limit: usize, links: Links) -> Result<Option<Content>, FileFault> {
    // Looked at before it is opened: opening a FIFO would block.
    let seen = match links {
        Links::Refuse => fs::symlink_metadata(path),
        Links::Follow => fs::metadata(path),
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FileFault::io("look at", path)(e)),
    };
    if seen.is_symlink() {
        return Err(FileFault::Symlink { path: path.into() });
    }
    if !seen.is_file() {
        return Err(FileFault::NotAFile { path: path.into() });
    }
    let mut file = File::open(path).map_err(FileFault::io("open", path))?;
    let meta = file.metadata().map_err(FileFault::io("look at", path))?;
    let mut bytes = Vec::new();
    let most = limit as u64 + 1;
    Read::by_ref(&mut file)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(FileFault::io("read", path))?;
    if bytes.len() > limit {
        let found = meta.size().max(most);
        return Err(FileFault::WrongSize {
            path: path.into(),
            found,
            expected: limit as u64,
        });
    }
    let modified_secs = u64::try_from(meta.mtime()).unwrap_or(0);
    Ok(Some(Content {
        bytes,
        mode: meta.mode() & 0o7777,
        modified_secs,
    }))
}

/// Makes a directory and its missing parents, for this user alone. One that
/// exists is only checked to be a directory that not everybody may write to.
pub(crate) fn ensure_dir(dir: &Path) -> Result<(), FileFault> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => FileFault::NotADirectory { path: dir.into() },
            _ => FileFault::io("create directory", dir)(e),
        })?;
    check_dir(dir).map(|_| ())
}

/// Whether `dir` is there; one that is there must be a directory that not
/// everybody may write to.
pub(crate) fn check_dir(dir: &Path) -> Result<bool, FileFault> {
    match fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => Err(FileFault::NotADirectory { path: dir.into() }),
        Ok(meta) if meta.mode() & 0o002 != 0 => Err(FileFault::WritableByOthers {
            path: dir.into(),
            mode: meta.mode() & 0o7777,
        }),
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(FileFault::io("look at", dir)(e)),
    }
}

/// A file under a temporary name, removed again unless it is renamed.
pub(crate) struct Temporary {
    path: PathBuf,
    pub(crate) file: File,
    renamed: bool,
}

impl Temporary {
    /// Writes `bytes` into a new file of `dir`.
    pub(crate) fn write(dir: &Path, bytes: &[u8], mode: u32) -> Result<Self, FileFault> {
        let path = dir.join(format!("{TEMPORARY}{:016x}", random_u64()?));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(FileFault::io("create", &path))?;
        let mut temporary = Self {
            path,
            file,
            renamed: false,
        };
        temporary
            .file
            .write_all(bytes)
            .map_err(FileFault::io("write", &temporary.path))?;
        Ok(temporary)
    }

    /// Waits until the content is on the disk.
    pub(crate) fn sync(&self) -> Result<(), FileFault> {
        self.file
            .sync_all()
            .map_err(FileFault::io("write", &self.path))
    }

    /// Gives the file its name, in place of what has that name now.
    pub(crate) fn rename(mut self, to: &Path) -> Result<File, FileFault> {
        fs::rename(&self.path, to).map_err(FileFault::io("create", to))?;
        self.renamed = true;
        self.file.try_clone().map_err(FileFault::io("open", to))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // What cannot be removed is only litter: no reader looks at it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Replaces `dir/name` so that a reader, and a crash, finds the old content or
/// the new one and nothing else.
pub(crate) fn write_atomic(
    dir: &Path,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<(), FileFault> {
    let temporary = Temporary::write(dir, bytes, mode)?;
    temporary.sync()?;
    temporary.rename(&dir.join(name))?;
    sync_dir(dir)
}

/// Removes a file; one that is not there is removed already.
pub(crate) fn remove(dir: &Path, name: &str) -> Result<(), FileFault> {
    let path = dir.join(name);
    match fs::remove_file(&path) {
        Ok(()) => sync_dir(dir),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(FileFault::io("remove", &path)(e)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), FileFault> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(FileFault::io("write", dir))
}

/// The exclusive lock of a directory, among processes and among handles of
/// one process. Held while this lives.
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Waits at most [`LOCK_PATIENCE`].
    pub(crate) fn take(dir: &Path) -> Result<Self, FileFault> {
        Self::take_within(dir, LOCK_PATIENCE)
    }

    /// Waits at most `patience`.
    pub(crate) fn take_within(dir: &Path, patience: Duration) -> Result<Self, FileFault> {
        let path = dir.join(LOCK);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(FileFault::io("open", &path))?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(LOCK_RETRY)
                }
                Err(TryLockError::WouldBlock) => return Err(FileFault::Locked { path }),
                Err(TryLockError::Error(e)) => return Err(FileFault::io("lock", &path)(e)),
            }
        }
    }
}

/// The user that this process runs as: the owner of a pipe it makes. The
/// standard library has no `geteuid`, and no file is touched this way.
pub(crate) fn own_uid() -> io::Result<u32> {
    let (reader, _writer) = io::pipe()?;
    Ok(File::from(OwnedFd::from(reader)).metadata()?.uid())
}

fn random_u64() -> Result<u64, FileFault> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| FileFault::Random)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_atomic_write_leaves_one_file_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        write_atomic(dir.path(), "f", b"one", 0o600).unwrap();
        write_atomic(dir.path(), "f", b"two", 0o600).unwrap();
        let content = read(&dir.path().join("f"), 10, Links::Refuse)
            .unwrap()
            .unwrap();
        assert_eq!(
            (content.bytes.as_slice(), content.mode),
            (b"two".as_slice(), 0o600)
        );
        assert_eq!(files(dir.path()), ["f"]);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("f")).unwrap();
        assert!(write_atomic(dir.path(), "f", b"x", 0o600).is_err());
        assert_eq!(files(dir.path()), ["f"]);
        let long = "x".repeat(300);
        assert_eq!(
            write_atomic(dir.path(), &long, b"x", 0o600)
                .unwrap_err()
                .code(),
            "name_too_long"
        );
        assert_eq!(files(dir.path()), ["f"]);
    }

    #[test]
    fn a_missing_file_is_no_error_and_a_long_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(read(&path, 3, Links::Refuse).unwrap().is_none());
        fs::write(&path, b"abc").unwrap();
        assert_eq!(
            read(&path, 3, Links::Refuse).unwrap().unwrap().bytes,
            b"abc"
        );
        fs::write(&path, b"abcd").unwrap();
        let fault = read(&path, 3, Links::Refuse).err().unwrap();
        assert!(
            matches!(
                fault,
                FileFault::WrongSize {
                    found: 4,
                    expected: 3,
                    ..
                }
            ),
            "{fault}"
        );
    }

    #[test]
    fn links_are_followed_only_where_asked_and_directories_never() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("f"), dir.path().join("l"));
        fs::write(&path, b"abc").unwrap();
        symlink(&path, &link).unwrap();
        assert_eq!(
            read(&link, 3, Links::Refuse).err().unwrap().code(),
            "symlink"
        );
        assert_eq!(
            read(&link, 3, Links::Follow).unwrap().unwrap().bytes,
            b"abc"
        );
        assert_eq!(
            read(dir.path(), 3, Links::Follow).err().unwrap().code(),
            "not_a_file"
        );
    }

    #[test]
    fn a_new_directory_is_private_and_a_file_in_its_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        assert!(!check_dir(&deep).unwrap());
        ensure_dir(&deep).unwrap();
        assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o777, 0o700);
        assert_eq!(
            fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777,
            0o700
        );
        fs::write(dir.path().join("f"), b"").unwrap();
        let fault = ensure_dir(&dir.path().join("f")).unwrap_err();
        assert_eq!(fault.code(), "not_a_directory");
        assert!(fault.to_string().contains("configure another path"));
    }

    #[test]
    fn a_directory_open_to_everybody_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(
            ensure_dir(dir.path()).unwrap_err().code(),
            "writable_by_others"
        );
    }

    #[test]
    fn a_directory_lock_excludes_a_second_holder_in_the_same_process() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        assert_eq!(
            DirLock::take_within(dir.path(), Duration::ZERO)
                .err()
                .unwrap()
                .code(),
            "locked"
        );
        drop(held);
        assert!(DirLock::take(dir.path()).is_ok());
    }

    #[test]
    fn a_file_made_here_belongs_to_us() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(own_uid().unwrap(), file.metadata().unwrap().uid());
    }

    #[test]
    fn each_answer_of_the_system_has_a_code_and_a_remedy() {
        let kinds = [
            (
                io::ErrorKind::PermissionDenied,
                "permission_denied",
                "access",
            ),
            (io::ErrorKind::ReadOnlyFilesystem, "read_only", "writable"),
            (io::ErrorKind::StorageFull, "disk_full", "space"),
            (io::ErrorKind::NotFound, "not_found", "create"),
            (io::ErrorKind::Other, "io_error", "check"),
        ];
        for (kind, code, remedy) in kinds {
            let fault = FileFault::io("read", Path::new("/x/y"))(kind.into());
            assert_eq!(fault.code(), code);
            let text = fault.to_string();
            assert!(
                text.contains("cannot read /x/y") && text.contains(remedy),
                "{text}"
            );
        }
    }
}
