// SPDX-License-Identifier: Apache-2.0

//! What makes a replica survive.
//!
//! A replica is a set of records, and every verb changes a few. [`LwwMap::poll_record`]
//! gives those that have changed; all that are given until it gives nothing belong
//! together and must become durable at once or not at all. A write may be acknowledged
//! after that. [`LwwMap::restore`] makes a replica of the records: with a new life, beside
//! whose log the old ones are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::delta::{Add, MAX_PAIR, MAX_SEQ};
use crate::hlc::{Hlc, Now};
use crate::key::OriginKey;
use crate::pair::Pair;
use crate::ranges::{Coverage, RangeSet};

use super::LwwMap;
use super::config::Config;
use super::entry::{Birth, Entry, LogName};
use super::log::{Log, MAX_RANGES};
use super::room::Restored;

/// Which record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordId {
    /// A live entry, by its dot.
    Entry(LogName, u64),
    /// What is known of a log beside its entries.
    Log(LogName),
    /// Up to which life the logs of a writer are finished.
    Floor(OriginKey),
    /// What concerns the map as a whole.
    Map,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A live entry.
    Entry {
        /// Key and value.
        pair: Pair,
        /// The time of its stamp.
        hlc: Hlc,
        /// Who wrote it, if not the origin of the log.
        writer: Option<OriginKey>,
        /// What belongs to it.
        births: Vec<Birth>,
        /// Its time has not come.
        parked: bool,
    },
    /// A log.
    Log {
        /// Which operations are applied.
        applied: Coverage,
        /// Operations beyond that are known to be dead.
        dead: RangeSet,
        /// The last operation whose removal was collected.
        collected: u64,
    },
    /// The last finished life.
    Floor(u64),
    /// The map.
    Map {
        /// See [`Collected`](super::Collected::epoch).
        epoch: u64,
    },
}

/// Records that no replica has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corrupt {
    /// This record and its content do not belong together, or the log of an entry is not
    /// there or has not applied it.
    Record(RecordId),
    /// The life that was to begin has been lived: this one is the latest known.
    Life(u64),
}

impl LwwMap {
    /// The next record that has changed and what it says now, or nothing if it is to be
    /// deleted. Only if the map is to persist.
    #[must_use]
    pub fn poll_record(&mut self) -> Option<(RecordId, Option<Record>)> {
        let id = self.unsaved.pop_first()?;
        Some((id, self.record(id)))
    }

    /// All records.
    pub fn snapshot(&self) -> impl Iterator<Item = (RecordId, Record)> {
        let entries = self.logs.iter().flat_map(|(name, log)| {
            let seqs = log.live.keys();
            seqs.map(|seq| RecordId::Entry(*name, *seq))
        });
        let logs = self.logs.keys().map(|name| RecordId::Log(*name));
        let floors = self.floors.keys().map(|origin| RecordId::Floor(*origin));
        let ids = entries.chain(logs).chain(floors).chain([RecordId::Map]);
        ids.filter_map(|id| Some((id, self.record(id)?)))
    }

    /// A replica of these records, in any order, in a new life. All that is shown comes as
    /// a change. Where the limits are lower than they were, all is kept, and what is new is
    /// refused until there is room.
    ///
    /// # Errors
    /// The records contradict each other, or the life is not new.
    pub fn restore(
        me: OriginKey,
        inc: u64,
        config: Config,
        now: Now,
        records: impl IntoIterator<Item = (RecordId, Record)>,
    ) -> Result<Self, Corrupt> {
        let mut map = Self::new(me, inc, config);
        map.now = now;
        let mut entries = BTreeMap::new();
        for (id, record) in records {
            match (id, record) {
                (RecordId::Entry(..), record @ Record::Entry { .. }) => {
                    entries.insert(id, record);
                }
                (id, record) => map.restore_frame(id, record)?,
            }
        }
        let lived = map.logs_of(me).last().map(|log| log.inc);
        let lived = lived.max(map.floors.get(&me).copied());
        if let Some(lived) = lived.filter(|lived| *lived >= inc) {
            return Err(Corrupt::Life(lived));
        }
        for (id, record) in entries {
            map.restore_entry(id, record)?;
        }
        map.restored = Restored {
            logs: map.logs.len(),
            floors: map.floors.len(),
            parked: map.parked.len(),
        };
        if map.epoch == 0 && map.logs.values().any(|log| log.collected > 0) {
            map.raise_epoch();
            map.be_unsure(me);
        }
        map.touched.extend(map.logs.keys());
        map.unsaved.clear();
        map.finish();
        Ok(map)
    }

    pub(super) fn note(&mut self, id: RecordId) {
        if self.config.persist {
            self.unsaved.insert(id);
        }
    }

    fn record(&self, id: RecordId) -> Option<Record> {
        Some(match id {
            RecordId::Entry(name, seq) => {
                let entry = self.logs.get(&name)?.live.get(&seq)?;
                let add = entry.add();
                Record::Entry {
                    pair: add.pair,
                    hlc: add.hlc,
                    writer: add.writer,
                    births: entry.births().to_vec(),
                    parked: self.parked.contains_key(&(entry.hlc, name, seq)),
                }
            }
            RecordId::Log(name) => {
                let log = self.logs.get(&name)?;
                Record::Log {
                    applied: log.applied.clone(),
                    dead: log.dead.clone(),
                    collected: log.collected,
                }
            }
            RecordId::Floor(origin) => Record::Floor(*self.floors.get(&origin)?),
            RecordId::Map => Record::Map {
                epoch: self.told_epoch(),
            },
        })
    }

    fn restore_frame(&mut self, id: RecordId, record: Record) -> Result<(), Corrupt> {
        match (id, record) {
            (
                RecordId::Log(name),
                Record::Log {
                    applied,
                    dead,
                    collected,
                },
            ) if is_sound(&applied, &dead, collected) => {
                let log = Log {
                    applied,
                    dead,
                    collected,
                    ..Log::new(name)
                };
                if self.logs.insert(name, log).is_some() {
                    return Err(Corrupt::Record(id));
                }
            }
            (RecordId::Floor(origin), Record::Floor(inc)) => {
                self.floors.insert(origin, inc);
            }
            (RecordId::Map, Record::Map { epoch }) => self.epoch = epoch,
            _ => return Err(Corrupt::Record(id)),
        }
        Ok(())
    }

    fn restore_entry(&mut self, id: RecordId, record: Record) -> Result<(), Corrupt> {
        let (
            RecordId::Entry(name, seq),
            Record::Entry {
                pair,
                hlc,
                writer,
                births,
                parked,
            },
        ) = (id, record)
        else {
            return Err(Corrupt::Record(id));
        };
        let log = self.logs.get(&name);
        let fits = pair.bytes() <= MAX_PAIR && seq <= MAX_SEQ;
        let Some(log) = log.filter(|log| fits && log.applied.contains(seq)) else {
            return Err(Corrupt::Record(id));
        };
        let add = Add {
            seq,
            hlc,
            writer,
            pair,
        };
        let entry = Entry::new(&Arc::clone(&log.name), add, births, self.now.mono);
        if parked {
            self.park(entry);
        } else {
            self.settle(entry);
        }
        Ok(())
    }
}

/// Whether a log can be in this state: what is applied beyond its base is, nothing is both
/// applied and dead, and no removal was collected that is not applied.
fn is_sound(applied: &Coverage, dead: &RangeSet, collected: u64) -> bool {
    let Coverage { base, cloud } = applied;
    let last = applied.top().max(dead.last().unwrap_or(0)).max(*base);
    let beyond = |first: u64| first.saturating_sub(1) > *base;
    let apart = |(first, last)| first > *base && cloud.missing(first, last) == [(first, last)];
    cloud.len() <= MAX_RANGES
        && dead.len() <= MAX_RANGES
        && last <= MAX_SEQ
        && collected <= applied.top()
        && cloud.iter().all(|(first, _)| beyond(first))
        && dead.iter().all(apart)
}
