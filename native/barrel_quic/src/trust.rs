//! Which key belongs to which name, and who may come in.
//!
//! The truth is on the disk, so that an operator can look, place and remove
//! keys with ordinary tools while the node runs:
//!
//! ```text
//! <dir>/trusted/<node>.pub        32 bytes: the key of a member
//! <dir>/trusted/clients/<any>.pub 32 bytes: the key of a client, by value
//! ```
//!
//! A known member costs one file read. A first contact reads all pins once,
//! to find the key under another name: their number is bounded, and a peer
//! gets this far only after it has proven the cluster secret.
//!
//! The store judges keys that are already proven; it proves nothing itself.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};

use crate::fsutil::{self, DirLock, FileFault, Links};
use crate::identity::{BadKey, KEY_SIZE, PublicKey};
use crate::name::{NodeName, PeerName};

const TRUSTED: &str = "trusted";
const CLIENTS: &str = "clients";
const SUFFIX: &str = ".pub";

/// How keys are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The first key seen under a name is pinned.
    Tofu,
    /// Only keys that the operator placed.
    Strict,
    /// Pins are not consulted.
    Off,
}

/// Why a peer may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its key is pinned or placed.
    Known,
    /// Nobody had this name before: its key is to be pinned.
    FirstSeen,
    /// The mode asks for no pin: trust is off, or this is a client in `tofu`.
    Unchecked,
}

/// Why a peer may not come in.
#[derive(Debug)]
pub enum Distrust {
    /// Its name has another key.
    Changed {
        /// The key that its name has.
        pinned: PublicKey,
    },
    /// `strict`, and the operator placed no key for it.
    Unknown,
    /// Its key has another name.
    PinnedElsewhere(NodeName),
    /// First contact, and the store is full.
    TooManyPins {
        /// The limit that is reached.
        limit: usize,
    },
    /// The store cannot be read or written.
    Storage(FileFault),
}

/// Why a key was not written. Nothing was changed.
#[derive(Debug)]
pub enum PinError {
    /// The name has another key.
    KeyMismatch {
        /// The key that the name has.
        pinned: PublicKey,
    },
    /// The key has another name.
    PinnedElsewhere(NodeName),
    /// The store is full.
    TooManyPins {
        /// The limit that is reached.
        limit: usize,
    },
    /// The bytes cannot be anybody's key.
    BadKey(BadKey),
    /// The store cannot be read or written.
    Storage(FileFault),
}

/// One key of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trusted {
    /// The node name, or for a client the file name without its suffix.
    pub name: String,
    /// Whether it is a client's key.
    pub client: bool,
    /// The key.
    pub key: PublicKey,
    /// When it was placed, in seconds since the epoch.
    pub added_at_secs: u64,
}

/// A file that is no key of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, with a remedy.
    pub why: String,
}

/// Everything in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The keys: members before clients, by name.
    pub trusted: Vec<Trusted>,
    /// Files that were passed over, by path.
    pub skipped: Vec<Skipped>,
}

/// The keys of others.
#[derive(Debug)]
pub struct TrustStore {
    /// Guards the mode alone; read once for each judgement.
    mode: RwLock<Mode>,
    /// Guards the pins in memory, and on disk the order of look and write
    /// among the threads of this process. Other processes are kept out of a
    /// write by the directory lock.
    shelf: Mutex<Shelf>,
    max_pins: usize,
}

#[derive(Debug)]
enum Shelf {
    Disk(PathBuf),
    Memory(BTreeMap<NodeName, Pin>),
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    key: PublicKey,
    added_at_secs: u64,
}

/// Guards the table of open stores: one per directory, so that a change of
/// mode reaches every user of it.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<TrustStore>>> = Mutex::new(BTreeMap::new());

impl TrustStore {
    /// Opens the store of a key directory, or one in memory. The directory
    /// need not exist; it is made with the first pin.
    pub fn open(dir: Option<&Path>, mode: Mode, max_pins: usize) -> Result<Self, FileFault> {
        let shelf = match dir {
            None => Shelf::Memory(BTreeMap::new()),
            Some(dir) => {
                let trusted = absolute(dir)?.join(TRUSTED);
                fsutil::check_dir(&trusted)?;
                fsutil::check_dir(&trusted.join(CLIENTS))?;
                Shelf::Disk(trusted)
            }
        };
        Ok(Self {
            mode: RwLock::new(mode),
            shelf: Mutex::new(shelf),
            max_pins,
        })
    }

    /// As [`TrustStore::open`], but one store for each directory however often
    /// it is opened. The newest `mode` holds for all; `max_pins` is that of
    /// the first.
    pub fn shared(dir: Option<&Path>, mode: Mode, max_pins: usize) -> Result<Arc<Self>, FileFault> {
        let Some(dir) = dir else {
            return Ok(Arc::new(Self::open(None, mode, max_pins)?));
        };
        let dir = absolute(dir)?;
        let mut open = OPEN.lock();
        open.retain(|_, store| store.strong_count() > 0);
        if let Some(store) = open.get(&dir).and_then(Weak::upgrade) {
            store.set_mode(mode);
            return Ok(store);
        }
        let store = Arc::new(Self::open(Some(&dir), mode, max_pins)?);
        open.insert(dir, Arc::downgrade(&store));
        Ok(store)
    }

    /// Changes the mode, for every judgement from now on.
    pub fn set_mode(&self, mode: Mode) {
        *self.mode.write() = mode;
    }

    /// The mode now.
    pub fn mode(&self) -> Mode {
        *self.mode.read()
    }

    /// Whether a peer with this proven name and key may come in. Changes
    /// nothing.
    pub fn judge(&self, name: &PeerName, key: &PublicKey) -> Result<Verdict, Distrust> {
        self.judge_on(&self.shelf.lock(), name, key)
    }

    /// Judges, and pins the key of a first contact: of two peers that come at
    /// once with one name and two keys, one gets in.
    pub fn admit(&self, name: &PeerName, key: &PublicKey) -> Result<Verdict, Distrust> {
        let mut shelf = self.shelf.lock();
        let verdict = self.judge_on(&shelf, name, key)?;
        if let (Verdict::FirstSeen, Some(node)) = (verdict, name.member()) {
            shelf
                .pin(node, key, self.max_pins)
                .map_err(|error| match error {
                    PinError::KeyMismatch { pinned } => Distrust::Changed { pinned },
                    PinError::PinnedElsewhere(other) => Distrust::PinnedElsewhere(other),
                    PinError::TooManyPins { limit } => Distrust::TooManyPins { limit },
                    PinError::BadKey(_) => Distrust::Unknown,
                    PinError::Storage(fault) => Distrust::Storage(fault),
                })?;
        }
        Ok(verdict)
    }

    /// Pins a key under a name that has none; the same key again is fine.
    pub fn pin(&self, node: &NodeName, key: &PublicKey) -> Result<(), PinError> {
        self.shelf.lock().pin(node, key, self.max_pins)
    }

    /// Places a key under a name, whatever was there: for an operator.
    pub fn replace(&self, node: &NodeName, key: &PublicKey) -> Result<(), PinError> {
        key.check().map_err(PinError::BadKey)?;
        let mut shelf = self.shelf.lock();
        let _lock = shelf.lock_for_write()?;
        // A file that cannot be read as a key may be replaced, not counted.
        if matches!(shelf.find(node), Ok(None)) && shelf.pins()?.0.len() >= self.max_pins {
            return Err(PinError::TooManyPins {
                limit: self.max_pins,
            });
        }
        Ok(shelf.write(node, key)?)
    }

    /// The key of a name.
    pub fn lookup(&self, node: &NodeName) -> Result<Option<PublicKey>, FileFault> {
        Ok(self.shelf.lock().find(node)?.map(|pin| pin.key))
    }

    /// Forgets the key of a name; one that has none is forgotten already.
    pub fn delete(&self, node: &NodeName) -> Result<(), FileFault> {
        match &mut *self.shelf.lock() {
            Shelf::Memory(pins) => {
                pins.remove(node);
                Ok(())
            }
            Shelf::Disk(trusted) if fsutil::check_dir(trusted)? => {
                fsutil::remove(trusted, &file_name(node))
            }
            Shelf::Disk(_) => Ok(()),
        }
    }

    /// Everything in the store, and the files in it that are no keys.
    pub fn list(&self) -> Result<Listing, FileFault> {
        let shelf = self.shelf.lock();
        let (pins, mut skipped) = shelf.pins()?;
        let (clients, more) = shelf.clients()?;
        skipped.extend(more);
        skipped.sort();
        let entry = |client| {
            move |(name, pin): (String, Pin)| Trusted {
                name,
                client,
                key: pin.key,
                added_at_secs: pin.added_at_secs,
            }
        };
        let members = pins
            .into_iter()
            .map(|(name, pin)| (name.to_string(), pin))
            .map(entry(false));
        let mut trusted: Vec<_> = members
            .chain(clients.into_iter().map(entry(true)))
            .collect();
        trusted.sort_by(|a, b| (a.client, &a.name).cmp(&(b.client, &b.name)));
        Ok(Listing { trusted, skipped })
    }

    fn judge_on(
        &self,
        shelf: &Shelf,
        name: &PeerName,
        key: &PublicKey,
    ) -> Result<Verdict, Distrust> {
        match (self.mode(), name) {
            (Mode::Off, _) | (Mode::Tofu, PeerName::Client(_)) => Ok(Verdict::Unchecked),
            (Mode::Strict, PeerName::Client(_)) => {
                let (clients, _) = shelf.clients()?;
                let placed = clients.values().any(|pin| pin.key == *key);
                if placed {
                    Ok(Verdict::Known)
                } else {
                    Err(Distrust::Unknown)
                }
            }
            (mode, PeerName::Member(node)) => match shelf.find(node)? {
                Some(pin) if pin.key == *key => Ok(Verdict::Known),
                Some(pin) => Err(Distrust::Changed { pinned: pin.key }),
                None if mode == Mode::Strict => Err(Distrust::Unknown),
                None => match shelf.room_for(key, self.max_pins)? {
                    Room::Free => Ok(Verdict::FirstSeen),
                    Room::Full => Err(Distrust::TooManyPins {
                        limit: self.max_pins,
                    }),
                    Room::Elsewhere(other) => Err(Distrust::PinnedElsewhere(other)),
                },
            },
        }
    }
}

/// Whether a key may be pinned under a new name.
enum Room {
    Free,
    Full,
    Elsewhere(NodeName),
}

impl Shelf {
    fn find(&self, node: &NodeName) -> Result<Option<Pin>, FileFault> {
        match self {
            Self::Memory(pins) => Ok(pins.get(node).copied()),
            Self::Disk(trusted) => {
                fsutil::check_dir(trusted)?;
                read_pin(&trusted.join(file_name(node)))
            }
        }
    }

    fn room_for(&self, key: &PublicKey, max_pins: usize) -> Result<Room, FileFault> {
        let (pins, _) = self.pins()?;
        if let Some((other, _)) = pins.iter().find(|(_, pin)| pin.key == *key) {
            return Ok(Room::Elsewhere(other.clone()));
        }
        Ok(if pins.len() < max_pins {
            Room::Free
        } else {
            Room::Full
        })
    }

    fn pin(&mut self, node: &NodeName, key: &PublicKey, max_pins: usize) -> Result<(), PinError> {
        key.check().map_err(PinError::BadKey)?;
        let _lock = self.lock_for_write()?;
        match self.find(node)? {
            Some(pin) if pin.key == *key => return Ok(()),
            Some(pin) => return Err(PinError::KeyMismatch { pinned: pin.key }),
            None => {}
        }
        match self.room_for(key, max_pins)? {
            Room::Free => Ok(self.write(node, key)?),
            Room::Full => Err(PinError::TooManyPins { limit: max_pins }),
            Room::Elsewhere(other) => Err(PinError::PinnedElsewhere(other)),
        }
    }

    fn lock_for_write(&self) -> Result<Option<DirLock>, FileFault> {
        match self {
            Self::Memory(_) => Ok(None),
            Self::Disk(trusted) => {
                fsutil::ensure_dir(trusted)?;
                DirLock::take(trusted).map(Some)
            }
        }
    }

    fn write(&mut self, node: &NodeName, key: &PublicKey) -> Result<(), FileFault> {
        match self {
            Self::Memory(pins) => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                pins.insert(
                    node.clone(),
                    Pin {
                        key: *key,
                        added_at_secs: now.as_secs(),
                    },
                );
                Ok(())
            }
            Self::Disk(trusted) => fsutil::write_atomic(trusted, &file_name(node), &key.0, 0o600),
        }
    }

    /// All members, and what is no member's key.
    fn pins(&self) -> Result<(BTreeMap<NodeName, Pin>, Vec<Skipped>), FileFault> {
        match self {
            Self::Memory(pins) => Ok((pins.clone(), Vec::new())),
            Self::Disk(trusted) => scan(trusted, |stem| {
                NodeName::parse(stem).map_err(|e| format!("{e}; rename or remove it"))
            }),
        }
    }

    fn clients(&self) -> Result<(BTreeMap<String, Pin>, Vec<Skipped>), FileFault> {
        match self {
            Self::Memory(_) => Ok((BTreeMap::new(), Vec::new())),
            Self::Disk(trusted) => scan(&trusted.join(CLIENTS), |stem| Ok(stem.to_owned())),
        }
    }
}

/// Reads every `*.pub` of a directory. What is hidden is ours, and so is the
/// directory of the clients; everything else that is no key is reported.
fn scan<N: Ord>(
    dir: &Path,
    parse: impl Fn(&str) -> Result<N, String>,
) -> Result<(BTreeMap<N, Pin>, Vec<Skipped>), FileFault> {
    let (mut pins, mut skipped) = (BTreeMap::new(), Vec::new());
    if !fsutil::check_dir(dir)? {
        return Ok((pins, skipped));
    }
    for entry in fs::read_dir(dir).map_err(FileFault::io("read", dir))? {
        let entry = entry.map_err(FileFault::io("read", dir))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('.') || name == CLIENTS {
            continue;
        }
        let stem = name
            .strip_suffix(SUFFIX)
            .ok_or_else(|| format!("its name does not end in {SUFFIX}; remove it"));
        match stem.and_then(&parse).map(|stem| (stem, read_pin(&path))) {
            Ok((stem, Ok(Some(pin)))) => {
                pins.insert(stem, pin);
            }
            // Removed between the listing and the look.
            Ok((_, Ok(None))) => {}
            Ok((_, Err(fault))) => skipped.push(Skipped {
                path,
                why: fault.to_string(),
            }),
            Err(why) => skipped.push(Skipped { path, why }),
        }
    }
    Ok((pins, skipped))
}

/// Links are followed: public keys are often mounted that way.
fn read_pin(path: &Path) -> Result<Option<Pin>, FileFault> {
    let content = match fsutil::read(path, KEY_SIZE, Links::Follow) {
        // A name for which no file can exist has no pin.
        Err(FileFault::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidFilename => {
            return Ok(None);
        }
        content => content?,
    };
    let Some(content) = content else {
        return Ok(None);
    };
    if content.mode & 0o002 != 0 {
        return Err(FileFault::WritableByOthers {
            path: path.into(),
            mode: content.mode,
        });
    }
    let Ok(key) = <[u8; KEY_SIZE]>::try_from(content.bytes.as_slice()) else {
        let (found, expected) = (content.bytes.len() as u64, KEY_SIZE as u64);
        return Err(FileFault::WrongSize {
            path: path.into(),
            found,
            expected,
        });
    };
    Ok(Some(Pin {
        key: PublicKey(key),
        added_at_secs: content.modified_secs,
    }))
}

fn file_name(node: &NodeName) -> String {
    format!("{node}{SUFFIX}")
}

/// The same directory has one name, wherever the process stands later.
fn absolute(dir: &Path) -> Result<PathBuf, FileFault> {
    std::path::absolute(dir).map_err(FileFault::io("look at", dir))
}

impl Mode {
    /// Its name in the configuration.
    pub fn code(self) -> &'static str {
        match self {
            Self::Tofu => "tofu",
            Self::Strict => "strict",
            Self::Off => "off",
        }
    }
}

impl Distrust {
    /// A short name for the BEAM.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "key_changed",
            Self::Unknown => "key_unknown",
            Self::PinnedElsewhere(_) => "key_of_another",
            Self::TooManyPins { .. } => "too_many_pins",
            Self::Storage(_) => "trust_storage",
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { pinned } => write!(
                f,
                "its name is pinned to another key ({pinned}); if the change is wanted, delete the pin in \
                 {TRUSTED}/ or with barrel_p2p_dist_keys:delete_key/1, else somebody uses its name"
            ),
            Self::Unknown => write!(
                f,
                "trust is strict and its key is not placed; if it belongs here, put its node.pub into {TRUSTED}/ as \
                 <node>{SUFFIX}, for a client into {TRUSTED}/{CLIENTS}/"
            ),
            Self::PinnedElsewhere(other) => write!(
                f,
                "its key is pinned as that of {other}; if the node was renamed, delete that pin, else give each node \
                 a key directory of its own"
            ),
            Self::TooManyPins { limit } => write!(
                f,
                "{limit} keys are pinned, as many as max_pins allows; delete pins of nodes that are gone, or raise \
                 max_pins"
            ),
            Self::Storage(fault) => write!(f, "the trust store fails: {fault}"),
        }
    }
}

impl std::error::Error for Distrust {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<FileFault> for Distrust {
    fn from(fault: FileFault) -> Self {
        Self::Storage(fault)
    }
}

impl PinError {
    /// A short name for the BEAM.
    pub fn code(&self) -> &'static str {
        match self {
            Self::KeyMismatch { .. } => "key_mismatch",
            Self::PinnedElsewhere(_) => "key_of_another",
            Self::TooManyPins { .. } => "too_many_pins",
            Self::BadKey(_) => "bad_key",
            Self::Storage(fault) => fault.code(),
        }
    }
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyMismatch { pinned } => {
                write!(
                    f,
                    "the name has another key ({pinned}); delete that one first if the change is wanted"
                )
            }
            Self::PinnedElsewhere(other) => {
                write!(
                    f,
                    "the key is that of {other}; delete that pin first if the node was renamed"
                )
            }
            Self::TooManyPins { limit } => {
                write!(
                    f,
                    "{limit} keys are pinned, as many as max_pins allows; delete some or raise max_pins"
                )
            }
            Self::BadKey(bad) => write!(f, "{bad}; give the content of the node's node.pub"),
            Self::Storage(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for PinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<FileFault> for PinError {
    fn from(fault: FileFault) -> Self {
        Self::Storage(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, weak_keys};
    use crate::name::HostName;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn key(n: u8) -> PublicKey {
        Identity::from_seed(&[n; 32]).public()
    }

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    fn member(name: &str) -> PeerName {
        node(name).into()
    }

    fn client() -> PeerName {
        HostName::parse("h").unwrap().into()
    }

    /// One store on disk and one in memory; the first with its directory.
    fn both(mode: Mode, max_pins: usize) -> [(Option<tempfile::TempDir>, TrustStore); 2] {
        let dir = tempfile::tempdir().unwrap();
        let disk = TrustStore::open(Some(dir.path()), mode, max_pins).unwrap();
        [
            (Some(dir), disk),
            (None, TrustStore::open(None, mode, max_pins).unwrap()),
        ]
    }

    fn on_disk(mode: Mode) -> (tempfile::TempDir, TrustStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = TrustStore::open(Some(dir.path()), mode, 16).unwrap();
        (dir, store)
    }

    fn place(dir: &tempfile::TempDir, file: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.path().join(TRUSTED).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn tofu_pins_the_first_key_and_refuses_another() {
        for (_dir, store) in both(Mode::Tofu, 16) {
            assert_eq!(
                store.judge(&member("a@h"), &key(1)).unwrap(),
                Verdict::FirstSeen
            );
            assert_eq!(store.lookup(&node("a@h")).unwrap(), None);
            assert_eq!(
                store.admit(&member("a@h"), &key(1)).unwrap(),
                Verdict::FirstSeen
            );
            assert_eq!(
                store.admit(&member("a@h"), &key(1)).unwrap(),
                Verdict::Known
            );
            assert_eq!(store.lookup(&node("a@h")).unwrap(), Some(key(1)));
            let changed = store.admit(&member("a@h"), &key(2)).unwrap_err();
            assert!(matches!(changed, Distrust::Changed { pinned } if pinned == key(1)));
            assert!(changed.to_string().contains(&key(1).fingerprint()));
        }
    }

    #[test]
    fn one_key_does_not_get_two_names() {
        for (_dir, store) in both(Mode::Tofu, 16) {
            store.pin(&node("a@h"), &key(1)).unwrap();
            let elsewhere = store.judge(&member("b@h"), &key(1)).unwrap_err();
            assert!(
                matches!(&elsewhere, Distrust::PinnedElsewhere(other) if *other == node("a@h"))
            );
            let pin = store.pin(&node("b@h"), &key(1)).unwrap_err();
            assert!(matches!(&pin, PinError::PinnedElsewhere(other) if *other == node("a@h")));
            store.delete(&node("a@h")).unwrap();
            store.pin(&node("b@h"), &key(1)).unwrap();
        }
    }

    #[test]
    fn pins_are_bounded_and_known_peers_still_come_in() {
        for (_dir, store) in both(Mode::Tofu, 2) {
            store.pin(&node("a@h"), &key(1)).unwrap();
            store.pin(&node("b@h"), &key(2)).unwrap();
            for answer in [
                store.judge(&member("c@h"), &key(3)),
                store.admit(&member("c@h"), &key(3)),
            ] {
                assert!(matches!(
                    answer.unwrap_err(),
                    Distrust::TooManyPins { limit: 2 }
                ));
            }
            assert_eq!(
                store.pin(&node("c@h"), &key(3)).unwrap_err().code(),
                "too_many_pins"
            );
            assert_eq!(
                store.replace(&node("c@h"), &key(3)).unwrap_err().code(),
                "too_many_pins"
            );
            assert_eq!(
                store.judge(&member("a@h"), &key(1)).unwrap(),
                Verdict::Known
            );
            store.replace(&node("a@h"), &key(3)).unwrap();
            store.delete(&node("b@h")).unwrap();
            assert_eq!(
                store.admit(&member("c@h"), &key(2)).unwrap(),
                Verdict::FirstSeen
            );
        }
    }

    #[test]
    fn a_pin_is_not_replaced_by_pinning_again() {
        for (_dir, store) in both(Mode::Tofu, 16) {
            store.pin(&node("a@h"), &key(1)).unwrap();
            store.pin(&node("a@h"), &key(1)).unwrap();
            let mismatch = store.pin(&node("a@h"), &key(2)).unwrap_err();
            assert!(matches!(mismatch, PinError::KeyMismatch { pinned } if pinned == key(1)));
            store.replace(&node("a@h"), &key(2)).unwrap();
            assert_eq!(store.lookup(&node("a@h")).unwrap(), Some(key(2)));
        }
    }

    #[test]
    fn strict_takes_placed_keys_and_no_others() {
        let (dir, store) = on_disk(Mode::Strict);
        assert!(matches!(
            store.judge(&member("a@h"), &key(1)),
            Err(Distrust::Unknown)
        ));
        assert!(!dir.path().join(TRUSTED).exists());
        place(&dir, "a@h.pub", &key(1).0);
        assert_eq!(
            store.judge(&member("a@h"), &key(1)).unwrap(),
            Verdict::Known
        );
        assert!(matches!(
            store.judge(&member("a@h"), &key(2)),
            Err(Distrust::Changed { .. })
        ));
        assert!(matches!(
            store.admit(&member("b@h"), &key(1)),
            Err(Distrust::Unknown)
        ));
        assert_eq!(store.lookup(&node("b@h")).unwrap(), None);
    }

    #[test]
    fn strict_looks_a_client_up_by_its_key() {
        let (dir, store) = on_disk(Mode::Strict);
        assert!(matches!(
            store.judge(&client(), &key(1)),
            Err(Distrust::Unknown)
        ));
        place(&dir, "clients/laptop.pub", &key(1).0);
        assert_eq!(store.judge(&client(), &key(1)).unwrap(), Verdict::Known);
        assert!(matches!(
            store.judge(&client(), &key(2)),
            Err(Distrust::Unknown)
        ));
        // A client's key makes no member, and a member's no client.
        assert!(matches!(
            store.judge(&member("laptop@h"), &key(1)),
            Err(Distrust::Unknown)
        ));
        place(&dir, "a@h.pub", &key(3).0);
        assert!(matches!(
            store.judge(&client(), &key(3)),
            Err(Distrust::Unknown)
        ));
    }

    #[test]
    fn a_client_is_never_pinned() {
        for (_dir, store) in both(Mode::Tofu, 16) {
            assert_eq!(store.admit(&client(), &key(1)).unwrap(), Verdict::Unchecked);
            assert_eq!(store.admit(&client(), &key(2)).unwrap(), Verdict::Unchecked);
            assert!(store.list().unwrap().trusted.is_empty());
        }
    }

    #[test]
    fn off_consults_no_pin_and_writes_none() {
        for (_dir, store) in both(Mode::Off, 16) {
            store.pin(&node("a@h"), &key(1)).unwrap();
            assert_eq!(
                store.admit(&member("a@h"), &key(2)).unwrap(),
                Verdict::Unchecked
            );
            assert_eq!(
                store.admit(&member("b@h"), &key(3)).unwrap(),
                Verdict::Unchecked
            );
            assert_eq!(store.list().unwrap().trusted.len(), 1);
        }
    }

    #[test]
    fn a_change_of_mode_holds_at_once() {
        let (_dir, store) = on_disk(Mode::Tofu);
        assert_eq!(
            store.judge(&member("a@h"), &key(1)).unwrap(),
            Verdict::FirstSeen
        );
        store.set_mode(Mode::Strict);
        assert_eq!(store.mode(), Mode::Strict);
        assert!(matches!(
            store.judge(&member("a@h"), &key(1)),
            Err(Distrust::Unknown)
        ));
    }

    #[test]
    fn the_disk_is_the_truth_while_the_store_is_open() {
        let (dir, store) = on_disk(Mode::Tofu);
        store.pin(&node("a@h"), &key(1)).unwrap();
        let path = place(&dir, "a@h.pub", &key(2).0);
        assert_eq!(
            store.judge(&member("a@h"), &key(2)).unwrap(),
            Verdict::Known
        );
        fs::remove_file(path).unwrap();
        assert_eq!(
            store.judge(&member("a@h"), &key(1)).unwrap(),
            Verdict::FirstSeen
        );
    }

    #[test]
    fn pins_survive_the_store_and_are_private() {
        let (dir, store) = on_disk(Mode::Tofu);
        store.pin(&node("a@h"), &key(1)).unwrap();
        drop(store);
        let store = TrustStore::open(Some(dir.path()), Mode::Tofu, 16).unwrap();
        assert_eq!(store.lookup(&node("a@h")).unwrap(), Some(key(1)));
        let trusted = dir.path().join(TRUSTED);
        assert_eq!(fs::metadata(&trusted).unwrap().mode() & 0o777, 0o700);
        assert_eq!(
            fs::metadata(trusted.join("a@h.pub")).unwrap().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_broken_pin_admits_nobody_until_it_is_replaced() {
        let (dir, store) = on_disk(Mode::Tofu);
        place(&dir, "a@h.pub", &[1; 31]);
        assert!(matches!(
            store.admit(&member("a@h"), &key(1)),
            Err(Distrust::Storage(_))
        ));
        assert_eq!(
            store.pin(&node("a@h"), &key(1)).unwrap_err().code(),
            "wrong_size"
        );
        store.replace(&node("a@h"), &key(1)).unwrap();
        assert_eq!(
            store.admit(&member("a@h"), &key(1)).unwrap(),
            Verdict::Known
        );
    }

    #[test]
    fn a_pin_that_everybody_may_write_counts_for_nothing() {
        let (dir, store) = on_disk(Mode::Strict);
        let path = place(&dir, "a@h.pub", &key(1).0);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(
            store.judge(&member("a@h"), &key(1)),
            Err(Distrust::Storage(_))
        ));
    }

    #[test]
    fn a_linked_key_is_taken() {
        let (dir, store) = on_disk(Mode::Strict);
        let path = place(&dir, "..data", &key(1).0);
        symlink(path, dir.path().join(TRUSTED).join("a@h.pub")).unwrap();
        assert_eq!(
            store.judge(&member("a@h"), &key(1)).unwrap(),
            Verdict::Known
        );
    }

    #[test]
    fn the_list_is_sorted_and_reports_what_it_passes_over() {
        let (dir, store) = on_disk(Mode::Tofu);
        place(&dir, "clients/0.pub", &key(9).0);
        store.pin(&node("b@h"), &key(2)).unwrap();
        store.pin(&node("a@h"), &key(1)).unwrap();
        place(&dir, "short@h.pub", b"x");
        place(&dir, "no-name.pub", &key(3).0);
        place(&dir, "README", b"hello");
        let listing = store.list().unwrap();
        let names: Vec<_> = listing
            .trusted
            .iter()
            .map(|t| (t.name.as_str(), t.client, t.key))
            .collect();
        assert_eq!(
            names,
            [
                ("a@h", false, key(1)),
                ("b@h", false, key(2)),
                ("0", true, key(9))
            ]
        );
        assert!(listing.trusted.iter().all(|t| t.added_at_secs > 0));
        let skipped: Vec<_> = listing
            .skipped
            .iter()
            .map(|s| s.path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(skipped, ["README", "no-name.pub", "short@h.pub"]);
        assert!(listing.skipped.iter().all(|s| s.why.contains("remove")));
    }

    #[test]
    fn a_name_too_long_for_a_file_is_refused_and_not_half_written() {
        let (dir, store) = on_disk(Mode::Tofu);
        let long = node(&format!("a@{}", "h".repeat(253)));
        assert_eq!(
            store.pin(&long, &key(1)).unwrap_err().code(),
            "name_too_long"
        );
        assert!(matches!(
            store.admit(&long.clone().into(), &key(1)),
            Err(Distrust::Storage(_))
        ));
        store.set_mode(Mode::Strict);
        assert!(matches!(
            store.judge(&long.into(), &key(1)),
            Err(Distrust::Unknown)
        ));
        let left: Vec<_> = fs::read_dir(dir.path().join(TRUSTED))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, [".lock"]);
    }

    #[test]
    fn a_weak_key_is_not_pinned() {
        for (_dir, store) in both(Mode::Tofu, 16) {
            for weak in weak_keys() {
                assert_eq!(
                    store.pin(&node("a@h"), &weak).unwrap_err().code(),
                    "bad_key"
                );
                assert_eq!(
                    store.replace(&node("a@h"), &weak).unwrap_err().code(),
                    "bad_key"
                );
            }
        }
    }

    #[test]
    fn deleting_what_is_not_there_is_fine() {
        for (_dir, store) in both(Mode::Tofu, 16) {
            store.delete(&node("a@h")).unwrap();
            store.pin(&node("a@h"), &key(1)).unwrap();
            store.delete(&node("a@h")).unwrap();
            store.delete(&node("a@h")).unwrap();
            assert_eq!(store.lookup(&node("a@h")).unwrap(), None);
        }
    }

    #[test]
    fn a_directory_has_one_store_and_each_memory_store_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let one = TrustStore::shared(Some(dir.path()), Mode::Tofu, 4).unwrap();
        let two = TrustStore::shared(Some(dir.path()), Mode::Strict, 4).unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(one.mode(), Mode::Strict);
        let memory = [(); 2].map(|()| TrustStore::shared(None, Mode::Tofu, 4).unwrap());
        assert!(!Arc::ptr_eq(&memory[0], &memory[1]));
    }

    #[test]
    fn of_two_first_contacts_with_one_name_one_gets_in() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let name = member(&format!("n{round}@h"));
            let comers: Vec<_> = (0..4)
                .map(|n| {
                    // Stores of their own, as in processes of their own.
                    let store = TrustStore::open(Some(dir.path()), Mode::Tofu, 1000).unwrap();
                    let (name, key) = (name.clone(), key(round * 8 + n));
                    std::thread::spawn(move || store.admit(&name, &key).is_ok())
                })
                .collect();
            assert_eq!(
                comers
                    .into_iter()
                    .map(|t| t.join().unwrap())
                    .filter(|ok| *ok)
                    .count(),
                1
            );
        }
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(TRUSTED), b"").unwrap();
        let fault = TrustStore::open(Some(dir.path()), Mode::Tofu, 4).unwrap_err();
        assert_eq!(fault.code(), "not_a_directory");
    }
}
