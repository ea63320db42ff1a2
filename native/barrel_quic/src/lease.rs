//! Endpoint files: how nodes of one user on one machine find each other.
//!
//! ```text
//! <dir>/<node>.endpoint    {"host", Port}.     one line
//! <dir>/.lock              held for a moment by whoever publishes
//! ```
//!
//! The file says where a node listens, and the exclusive lock on it says that
//! the node lives: the operating system drops the lock when the process ends,
//! however it ends. A file without a lock was left by a dead node; anybody may
//! replace it. (The lock is `flock`: it belongs to the open file, so that a
//! second look from the same process sees it too.)
//!
//! ```text
//! publish   lock `.lock`; locked file of that name -> duplicate; write a
//!           temporary file, lock it, rename it; unlock `.lock`
//! look up   open, try a shared lock: refused = alive, granted = stale
//! release   remove the file if it is still ours; closing it drops the lock
//! ```
//!
//! What a file says is a hint where to dial and proves nothing; but the name
//! of a node is claimed here, so the directory must be closed to other users.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fsutil::{self, DirLock, FileFault, Temporary};
use crate::name::{HostName, NodeName};

const SUFFIX: &str = ".endpoint";

/// Longest file that is read: a host of 255 bytes, a port and punctuation.
const MAX_FILE: u64 = 512;

/// How often a file is opened anew when it was replaced during the look.
const LOOKS: usize = 4;

/// A published endpoint file, ours until this is dropped.
#[derive(Debug)]
pub struct Lease {
    /// The open file holds the lock.
    file: File,
    dir: PathBuf,
    path: PathBuf,
}

/// A living node and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its name.
    pub name: NodeName,
    /// Its host, a name or an IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Why an endpoint file is not published or not believed.
#[derive(Debug)]
pub enum LeaseError {
    /// A living process holds the name.
    DuplicateName {
        /// Its file.
        path: PathBuf,
    },
    /// No such file.
    NotFound,
    /// The file was left by a node that has ended.
    Stale {
        /// The file.
        path: PathBuf,
    },
    /// The file is locked and holds something else.
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The host to publish is no host.
    BadHost {
        /// What was given.
        host: String,
    },
    /// The directory belongs to another user.
    ForeignDirectory {
        /// The directory.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user that this node runs as.
        own: u32,
    },
    /// Users other than its owner may write into the directory.
    OpenDirectory {
        /// The directory.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory is a symbolic link.
    LinkedDirectory {
        /// The link.
        dir: PathBuf,
    },
    /// A file or the directory is faulty.
    File(FileFault),
}

/// Claims `node` in `dir`, which is made when it is missing, and says where
/// the node listens. Either the file is there, locked, or nothing changed.
pub fn publish(dir: &Path, node: &NodeName, host: &str, port: u16) -> Result<Lease, LeaseError> {
    if HostName::parse(host).is_err() {
        return Err(LeaseError::BadHost {
            host: host.to_owned(),
        });
    }
    // A link is refused before anything is made behind it.
    if !check_dir(dir)? {
        fsutil::ensure_dir(dir)?;
        check_dir(dir)?;
    }
    let _lock = DirLock::take(dir)?;
    let path = dir.join(file_name(node));
    if held(&path)? {
        return Err(LeaseError::DuplicateName { path });
    }
    let temporary = Temporary::write(dir, render(host, port).as_bytes(), 0o600)?;
    match temporary.file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LeaseError::DuplicateName { path }),
        Err(TryLockError::Error(e)) => return Err(FileFault::io("lock", &path)(e).into()),
    }
    // No wait for the disk: after a power cut the node is not there either.
    let file = temporary.rename(&path)?;
    Ok(Lease {
        file,
        dir: dir.into(),
        path,
    })
}

/// Where the living node `node` listens.
pub fn lookup(dir: &Path, node: &NodeName) -> Result<(String, u16), LeaseError> {
    if !check_dir(dir)? {
        return Err(LeaseError::NotFound);
    }
    look(&dir.join(file_name(node)))
}

/// All living nodes of the directory, by name. What is stale, malformed or
/// foreign is passed over.
pub fn list(dir: &Path) -> Result<Vec<Endpoint>, LeaseError> {
    if !check_dir(dir)? {
        return Ok(Vec::new());
    }
    let mut living = Vec::new();
    for entry in fs::read_dir(dir).map_err(FileFault::io("read", dir))? {
        let entry = entry.map_err(FileFault::io("read", dir))?;
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        let Some(Ok(name)) = stem.map(NodeName::parse) else {
            continue;
        };
        if let Ok((host, port)) = look(&entry.path()) {
            living.push(Endpoint { name, host, port });
        }
    }
    living.sort();
    Ok(living)
}

impl Lease {
    /// The published file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Withdraws the file. The same as dropping the lease.
    pub fn release(self) {}
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Under the directory lock nobody publishes between look and removal.
        // It is not waited for, since this may run on a scheduler of the BEAM:
        // as long as our file is there and locked, nobody replaces it anyway.
        let _lock = DirLock::take_within(&self.dir, Duration::ZERO);
        let ours = self.file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let there = fs::symlink_metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
        if let (Ok(ours), Ok(there)) = (ours, there)
            && ours == there
        {
            // What cannot be removed is stale as soon as the lock is gone.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `false` when the directory is not there.
fn check_dir(dir: &Path) -> Result<bool, LeaseError> {
    let meta = match fs::symlink_metadata(dir) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(FileFault::io("look at", dir)(e).into()),
    };
    if meta.is_symlink() {
        return Err(LeaseError::LinkedDirectory { dir: dir.into() });
    }
    if !meta.is_dir() {
        return Err(FileFault::NotADirectory { path: dir.into() }.into());
    }
    let own = fsutil::own_uid().map_err(FileFault::io("ask for the owner of", dir))?;
    if meta.uid() != own {
        return Err(LeaseError::ForeignDirectory {
            dir: dir.into(),
            owner: meta.uid(),
            own,
        });
    }
    if meta.mode() & 0o022 != 0 {
        return Err(LeaseError::OpenDirectory {
            dir: dir.into(),
            mode: meta.mode() & 0o7777,
        });
    }
    Ok(true)
}

/// Whether a living process holds the file. A shared lock is tried, so that
/// two who only look do not take each other for the owner.
fn held(path: &Path) -> Result<bool, LeaseError> {
    match open(path)? {
        Some(file) => locked(&file, path),
        None => Ok(false),
    }
}

fn look(path: &Path) -> Result<(String, u16), LeaseError> {
    for _ in 0..LOOKS {
        let Some(file) = open(path)? else {
            return Err(LeaseError::NotFound);
        };
        if locked(&file, path)? {
            let mut bytes = Vec::new();
            file.take(MAX_FILE)
                .read_to_end(&mut bytes)
                .map_err(FileFault::io("read", path))?;
            return parse(&bytes).ok_or_else(|| LeaseError::Malformed { path: path.into() });
        }
        // A new owner may have put its own file there since.
        let opened = file.metadata().map_err(FileFault::io("look at", path))?;
        match fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (opened.dev(), opened.ino()) => break,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(LeaseError::NotFound),
            Err(e) => return Err(FileFault::io("look at", path)(e).into()),
        }
    }
    Err(LeaseError::Stale { path: path.into() })
}

fn open(path: &Path) -> Result<Option<File>, LeaseError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => {
            return Err(FileFault::Symlink { path: path.into() }.into());
        }
        Ok(meta) if !meta.is_file() => return Err(FileFault::NotAFile { path: path.into() }.into()),
        Ok(_) => {}
        // A name for which no file can exist is published by nobody.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(FileFault::io("look at", path)(e).into()),
    }
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FileFault::io("open", path)(e).into()),
    }
}

fn locked(file: &File, path: &Path) -> Result<bool, LeaseError> {
    match file.try_lock_shared() {
        Ok(()) => {
            file.unlock().map_err(FileFault::io("unlock", path))?;
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(FileFault::io("lock", path)(e).into()),
    }
}

fn file_name(node: &NodeName) -> String {
    format!("{node}{SUFFIX}")
}

fn render(host: &str, port: u16) -> String {
    format!("{{\"{host}\", {port}}}.\n")
}

/// Exactly what [`render`] writes.
fn parse(bytes: &[u8]) -> Option<(String, u16)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let inside = text.strip_prefix("{\"")?.strip_suffix("}.\n")?;
    let (host, port) = inside.split_once("\", ")?;
    let host = HostName::parse(host).ok()?;
    let port: u16 = port.parse().ok()?;
    let exact = render(host.as_str(), port) == text;
    exact.then(|| (host.as_str().to_owned(), port))
}

impl LeaseError {
    /// A short name for the BEAM.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DuplicateName { .. } => "duplicate_name",
            Self::NotFound => "not_found",
            Self::Stale { .. } => "stale",
            Self::Malformed { .. } => "malformed",
            Self::BadHost { .. } => "bad_host",
            Self::ForeignDirectory { .. } => "foreign_directory",
            Self::OpenDirectory { .. } => "insecure_directory",
            Self::LinkedDirectory { .. } => "linked_directory",
            Self::File(fault) => fault.code(),
        }
    }
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateName { path } => {
                write!(
                    f,
                    "{} is held by a living node of that name; stop it or take another name",
                    path.display()
                )
            }
            Self::NotFound => f.write_str(
                "no node of that name has published an endpoint; start it or name its port",
            ),
            Self::Stale { path } => {
                write!(
                    f,
                    "{} was left by a node that has ended; start that node again",
                    path.display()
                )
            }
            Self::Malformed { path } => {
                write!(
                    f,
                    "{} is locked but holds no endpoint; end the process that holds it",
                    path.display()
                )
            }
            Self::BadHost { host } => {
                write!(f, "{host:?} is no host; give a host name or an IP address")
            }
            Self::ForeignDirectory { dir, owner, own } => write!(
                f,
                "{} belongs to user {owner} and this node runs as user {own}; set discovery_dir to a directory of \
                 its own user",
                dir.display()
            ),
            Self::OpenDirectory { dir, mode } => write!(
                f,
                "{} has mode {mode:04o} and other users may write there; run chmod 700 on it or set discovery_dir to \
                 another directory",
                dir.display()
            ),
            Self::LinkedDirectory { dir } => write!(
                f,
                "{} is a symbolic link, which somebody else may have made; set discovery_dir to the real directory",
                dir.display()
            ),
            Self::File(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for LeaseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<FileFault> for LeaseError {
    fn from(fault: FileFault) -> Self {
        Self::File(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::{Arc, Barrier};
    use std::thread;

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        list(dir)
            .unwrap()
            .into_iter()
            .map(|e| e.name.to_string())
            .collect()
    }

    #[test]
    fn a_published_node_is_found_by_its_own_process_too() {
        let dir = tempfile::tempdir().unwrap();
        let lease = publish(dir.path(), &node("a@h"), "127.0.0.1", 9100).unwrap();
        assert_eq!(
            lookup(dir.path(), &node("a@h")).unwrap(),
            ("127.0.0.1".to_owned(), 9100)
        );
        assert_eq!(
            fs::read_to_string(lease.path()).unwrap(),
            "{\"127.0.0.1\", 9100}.\n"
        );
        assert_eq!(fs::metadata(lease.path()).unwrap().mode() & 0o777, 0o600);
        lease.release();
        assert!(matches!(
            lookup(dir.path(), &node("a@h")),
            Err(LeaseError::NotFound)
        ));
    }

    #[test]
    fn a_name_in_use_is_refused_and_free_again_after_its_release() {
        let dir = tempfile::tempdir().unwrap();
        let lease = publish(dir.path(), &node("a@h"), "h", 1).unwrap();
        let error = publish(dir.path(), &node("a@h"), "h", 2).unwrap_err();
        assert!(
            matches!(&error, LeaseError::DuplicateName { .. }),
            "{error}"
        );
        assert_eq!(lookup(dir.path(), &node("a@h")).unwrap().1, 1);
        drop(lease);
        let _lease = publish(dir.path(), &node("a@h"), "h", 3).unwrap();
        assert_eq!(lookup(dir.path(), &node("a@h")).unwrap().1, 3);
    }

    #[test]
    fn a_file_left_by_a_dead_node_is_stale_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a@h.endpoint"), render("h", 7)).unwrap();
        assert!(matches!(
            lookup(dir.path(), &node("a@h")),
            Err(LeaseError::Stale { .. })
        ));
        assert!(names(dir.path()).is_empty());
        let _lease = publish(dir.path(), &node("a@h"), "h", 8).unwrap();
        assert_eq!(lookup(dir.path(), &node("a@h")).unwrap().1, 8);
    }

    #[test]
    fn one_who_only_looks_at_a_stale_file_does_not_block_its_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a@h.endpoint");
        fs::write(&path, render("h", 7)).unwrap();
        let looking = File::open(&path).unwrap();
        looking.try_lock_shared().unwrap();
        assert!(publish(dir.path(), &node("a@h"), "h", 8).is_ok());
    }

    #[test]
    fn a_release_leaves_the_file_of_another_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = publish(dir.path(), &node("a@h"), "h", 1).unwrap();
        fs::remove_file(first.path()).unwrap();
        let _second = publish(dir.path(), &node("a@h"), "h", 2).unwrap();
        drop(first);
        assert_eq!(lookup(dir.path(), &node("a@h")).unwrap().1, 2);
    }

    #[test]
    fn nobody_publishes_while_another_is_about_to() {
        let dir = tempfile::tempdir().unwrap();
        let _about_to = DirLock::take(dir.path()).unwrap();
        assert_eq!(
            publish(dir.path(), &node("a@h"), "h", 1)
                .unwrap_err()
                .code(),
            "locked"
        );
        assert!(matches!(
            lookup(dir.path(), &node("a@h")),
            Err(LeaseError::NotFound)
        ));
    }

    #[test]
    fn of_many_publishers_at_once_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        for stale in [false, true] {
            let name = node(if stale { "s@h" } else { "f@h" });
            if stale {
                fs::write(dir.path().join(file_name(&name)), render("h", 1)).unwrap();
            }
            let start = Arc::new(Barrier::new(8));
            let publishers: Vec<_> = (0..8)
                .map(|port| {
                    let (dir, name, start) = (dir.path().to_owned(), name.clone(), start.clone());
                    thread::spawn(move || {
                        start.wait();
                        publish(&dir, &name, "h", port).ok()
                    })
                })
                .collect();
            // All leases are kept until the last publisher has its answer.
            let leases: Vec<_> = publishers.into_iter().map(|t| t.join().unwrap()).collect();
            assert_eq!(leases.iter().flatten().count(), 1);
        }
    }

    #[test]
    fn the_list_names_the_living_in_order_and_passes_over_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        assert!(names(&dir.path().join("none")).is_empty());
        let _b = publish(dir.path(), &node("b@h"), "::1", 2).unwrap();
        let _a = publish(dir.path(), &node("a@h"), "h", 1).unwrap();
        fs::write(dir.path().join("dead@h.endpoint"), render("h", 7)).unwrap();
        fs::write(dir.path().join("no-name.endpoint"), render("h", 7)).unwrap();
        fs::write(dir.path().join("README"), "hello").unwrap();
        symlink(
            dir.path().join("a@h.endpoint"),
            dir.path().join("link@h.endpoint"),
        )
        .unwrap();
        assert_eq!(names(dir.path()), ["a@h", "b@h"]);
        assert_eq!(
            list(dir.path()).unwrap()[1],
            Endpoint {
                name: node("b@h"),
                host: "::1".into(),
                port: 2
            }
        );
    }

    #[test]
    fn a_living_file_with_other_content_is_malformed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a@h.endpoint");
        fs::write(&path, "{\"h\", 70000}.\n").unwrap();
        let owner = File::open(&path).unwrap();
        owner.try_lock().unwrap();
        assert!(matches!(
            lookup(dir.path(), &node("a@h")),
            Err(LeaseError::Malformed { .. })
        ));
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_new_directory_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x/y");
        let _lease = publish(&deep, &node("a@h"), "h", 1).unwrap();
        assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o777, 0o700);
    }

    /// The error's code for publishing, looking and listing; its text must
    /// name the setting to change.
    fn refusal(dir: &Path) -> &'static str {
        let errors = [
            publish(dir, &node("a@h"), "h", 1).unwrap_err(),
            lookup(dir, &node("a@h")).unwrap_err(),
            list(dir).unwrap_err(),
        ];
        assert!(
            errors
                .iter()
                .all(|e| e.to_string().contains("discovery_dir")),
            "{errors:?}"
        );
        errors[0].code()
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o770, 0o702, 0o1777] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(refusal(dir.path()), "insecure_directory");
        }
    }

    #[test]
    fn a_linked_directory_is_refused_and_nothing_is_made_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link, dangling) = (
            dir.path().join("real"),
            dir.path().join("link"),
            dir.path().join("dangling"),
        );
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        symlink(dir.path().join("nowhere"), &dangling).unwrap();
        assert_eq!(refusal(&link), "linked_directory");
        assert_eq!(refusal(&dangling), "linked_directory");
        assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        // The super-user may give a directory away; everybody else finds one
        // that belongs to the super-user.
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let given = std::os::unix::fs::chown(dir.path(), Some(12_345), None).is_ok();
        let foreign = if given { dir.path() } else { Path::new("/") };
        assert_eq!(refusal(foreign), "foreign_directory");
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, b"").unwrap();
        assert_eq!(
            publish(&file, &node("a@h"), "h", 1).unwrap_err().code(),
            "not_a_directory"
        );
    }

    #[test]
    fn what_is_no_host_is_not_published() {
        let dir = tempfile::tempdir().unwrap();
        for host in ["", "a\"b", "a b", "..", "h\n"] {
            assert_eq!(
                publish(dir.path(), &node("a@h"), host, 1)
                    .unwrap_err()
                    .code(),
                "bad_host"
            );
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_too_long_for_a_file_is_refused_and_found_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let long = node(&format!("a@{}", "h".repeat(253)));
        assert_eq!(
            publish(dir.path(), &long, "h", 1).unwrap_err().code(),
            "name_too_long"
        );
        assert!(matches!(
            lookup(dir.path(), &long),
            Err(LeaseError::NotFound)
        ));
        assert!(names(dir.path()).is_empty());
    }

    proptest! {
        #[test]
        fn any_content_is_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some((host, port)) = parse(&bytes) {
                prop_assert_eq!(render(&host, port).into_bytes(), bytes);
            }
        }

        #[test]
        fn what_is_nearly_an_endpoint_is_parsed_exactly(text in "\\{\"[a-z.:]{0,3}\", ?[+0-9]{0,6}\\}\\.\n{0,2}") {
            if let Some((host, port)) = parse(text.as_bytes()) {
                prop_assert_eq!(render(&host, port), text);
            }
        }

        #[test]
        fn every_endpoint_is_read_back(host in "[0-9A-Za-z_:-][0-9A-Za-z._:-]{0,60}", port: u16) {
            prop_assert_eq!(parse(render(&host, port).as_bytes()), Some((host, port)));
        }
    }
}
