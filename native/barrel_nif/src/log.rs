//! Log events on their way to Erlang: a bounded ring, and the bell.
//!
//! Every `tracing` event of our crates that the level lets through becomes one
//! entry; those of the libraries below only as warnings or errors. The ring
//! holds [`RING`] entries; what does not fit is counted, and the count is the
//! next entry.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use rustler::{Atom, Encoder, Env, Error, LocalPid, NifResult, Term};
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Event, Interest, Level, LevelFilter, Metadata, Subscriber, callsite};

use crate::signal::{self, atoms, text};

/// Entries that wait for Erlang at most.
const RING: usize = 512;

/// Entries that one call takes.
const PER_CALL: usize = 64;

struct Entry {
    level: Level,
    target: &'static str,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
}

struct Ring {
    entries: VecDeque<Entry>,
    lost: u64,
    pid: Option<LocalPid>,
    armed: bool,
}

/// Guards the entries and who is told about them.
static WAITING: Mutex<Ring> = Mutex::new(Ring {
    entries: VecDeque::new(),
    lost: 0,
    pid: None,
    armed: true,
});

/// The least severe level let through: 0 none, 1 error ... 5 debug.
static LEVEL: AtomicU8 = AtomicU8::new(3);

/// Makes this the subscriber of the process.
pub(crate) fn install() {
    // Fails when the library was loaded before; that subscriber serves on.
    let _ = tracing::subscriber::set_global_default(Bridge);
}

struct Bridge;

/// Rank of a level, as in [`LEVEL`]. `tracing` has no notice: its `info` is
/// what Erlang calls notice in what it is for, and info in its name.
fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 4,
        Level::DEBUG | Level::TRACE => 5,
    }
}

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("barrel_");
        let level = LEVEL.load(Ordering::Relaxed);
        metadata.is_event() && rank(*metadata.level()) <= if ours { level } else { level.min(2) }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 | 3 => LevelFilter::WARN,
            4 => LevelFilter::INFO,
            _ => LevelFilter::DEBUG,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut entry = Entry {
            level: *metadata.level(),
            target: metadata.target(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut entry);
        let tell = {
            let mut ring = WAITING.lock();
            if ring.entries.len() >= RING {
                ring.lost += 1;
            } else {
                ring.entries.push_back(entry);
            }
            if ring.armed {
                ring.pid.inspect(|_| ring.armed = false)
            } else {
                None
            }
        };
        if let Some(pid) = tell {
            ring_bell(pid);
        }
    }

    // Spans are not used.
    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

/// An event may come from a scheduler inside a NIF, which may not send without
/// its environment: then a thread that lives for one message does it.
fn ring_bell(pid: LocalPid) {
    let send = move || signal::send(&pid, atoms::log(), atoms::ready());
    if signal::on_own_thread() {
        send();
    } else {
        std::thread::spawn(send);
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.push((field.name(), Value::Text(text)));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields
            .push((field.name(), Value::Text(value.to_owned())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), Value::Number(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((
            field.name(),
            Value::Number(i64::try_from(value).unwrap_or(i64::MAX)),
        ));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), Value::Flag(value)));
    }
}

impl Entry {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let level = match self.level {
            Level::ERROR => atoms::error(),
            Level::WARN => atoms::warning(),
            Level::INFO => atoms::info(),
            Level::DEBUG | Level::TRACE => atoms::debug(),
        };
        let fields: Vec<Term<'a>> = self
            .fields
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    Value::Text(value) => text(env, value),
                    Value::Number(value) => value.encode(env),
                    Value::Flag(value) => value.encode(env),
                };
                (text(env, name), value).encode(env)
            })
            .collect();
        (
            level,
            text(env, self.target),
            text(env, &self.message),
            fields,
        )
            .encode(env)
    }
}

#[rustler::nif]
fn log_attach(env: Env<'_>, pid: LocalPid) -> Atom {
    let waiting = {
        let mut ring = WAITING.lock();
        ring.pid = Some(pid);
        ring.armed = ring.entries.is_empty();
        !ring.armed
    };
    if waiting {
        // A dead receiver is replaced by the next attach.
        let _ = env.send(&pid, (atoms::barrel_p2p(), atoms::log(), atoms::ready()));
    }
    atoms::ok()
}

#[rustler::nif]
fn log_drain(env: Env<'_>) -> Vec<Term<'_>> {
    let (entries, lost) = {
        let mut ring = WAITING.lock();
        let count = ring.entries.len().min(PER_CALL);
        let entries: Vec<Entry> = ring.entries.drain(..count).collect();
        let lost = if ring.entries.is_empty() {
            std::mem::take(&mut ring.lost)
        } else {
            0
        };
        ring.armed = entries.is_empty() && lost == 0;
        (entries, lost)
    };
    let mut terms: Vec<Term<'_>> = entries.iter().map(|entry| entry.encode(env)).collect();
    if lost > 0 {
        let entry = Entry {
            level: Level::WARN,
            target: "barrel_nif",
            message: "log entries were dropped".into(),
            fields: vec![(
                "count",
                Value::Number(i64::try_from(lost).unwrap_or(i64::MAX)),
            )],
        };
        terms.push(entry.encode(env));
    }
    terms
}

#[rustler::nif]
fn log_level(level: Atom) -> NifResult<Atom> {
    let levels = [
        (atoms::none(), 0),
        (atoms::error(), 1),
        (atoms::warning(), 2),
        (atoms::notice(), 3),
        (atoms::info(), 4),
        (atoms::debug(), 5),
    ];
    let (_, rank) = levels
        .into_iter()
        .find(|(name, _)| *name == level)
        .ok_or(Error::BadArg)?;
    LEVEL.store(rank, Ordering::Relaxed);
    callsite::rebuild_interest_cache();
    Ok(atoms::ok())
}
