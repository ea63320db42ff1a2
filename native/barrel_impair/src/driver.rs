//! The one loop around a path: waits for packets, lines and due times.
//!
//! One thread does it all, so nothing is shared and no lock is needed.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::path::{Command, Path};

/// Packets taken from one descriptor before the others, and those that are
/// due, get their turn.
const BATCH: usize = 32;

/// Longest line of a command.
const MAX_LINE: usize = 4096;

/// A kind of path: where packets come from and where they go.
pub trait Carrier {
    /// A packet on its way.
    type Packet: Clone;

    /// The path itself.
    fn path(&mut self) -> &mut Path<Self::Packet>;

    /// What to wait for, in an order that stays until the next [`Self::rebind`] or
    /// [`Self::receive`].
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Takes one packet from the descriptor with this index. `false`: there was none.
    ///
    /// # Errors
    /// Nothing will ever come from there again.
    fn receive(&mut self, now: Duration, index: usize) -> io::Result<bool>;

    /// Sends what is due.
    fn deliver(&mut self, now: Duration);

    /// Gives the near side another address; answers what it is now.
    ///
    /// # Errors
    /// Why it cannot be.
    fn rebind(&mut self) -> Result<String, String>;

    /// Counts of its own, as ` key=value`.
    fn more_stats(&self) -> String;
}

/// Answers one line; `None` is the end.
pub fn answer<C: Carrier>(carrier: &mut C, line: &str) -> Option<String> {
    let done = match line.parse() {
        Ok(Command::Set {
            directions,
            key,
            value,
        }) => carrier
            .path()
            .set(&directions, &key, &value)
            .map(|()| String::new()),
        Ok(Command::Rebind) => carrier.rebind(),
        Ok(Command::Stats) => Ok(carrier.path().stats() + &carrier.more_stats()),
        Ok(Command::Quit) => return None,
        Err(said) => Err(said),
    };
    Some(match done {
        Ok(said) if said.is_empty() => "ok".into(),
        Ok(said) => format!("ok {said}"),
        Err(said) => format!("error {said}"),
    })
}

/// Runs until standard input ends, or says `quit`.
///
/// # Errors
/// What the system says when it cannot wait, read lines or write answers, or when
/// the path has broken.
pub fn run<C: Carrier>(carrier: &mut C) -> io::Result<()> {
    be_punctual();
    let start = Instant::now();
    let stdin = rustix::stdio::stdin();
    let mut lines = Lines::default();
    loop {
        carrier.deliver(start.elapsed());
        let timeout = carrier
            .path()
            .poll_timeout()
            .map(|due| timespec(due.saturating_sub(start.elapsed())));
        let ready = wait(stdin, &carrier.descriptors(), timeout.as_ref())?;
        for index in ready {
            let Some(index) = index.checked_sub(1) else {
                if lines.read(stdin)? == 0 {
                    return Ok(());
                }
                continue;
            };
            for _ in 0..BATCH {
                if !carrier.receive(start.elapsed(), index)? {
                    break;
                }
            }
        }
        while let Some(line) = lines.next()? {
            let Some(answer) = answer(carrier, &line) else {
                return Ok(());
            };
            writeln!(io::stdout(), "{answer}")?;
            io::stdout().flush()?;
        }
    }
}

/// The indexes of those that have something to read; that of standard input is 0.
fn wait(
    stdin: BorrowedFd<'_>,
    others: &[BorrowedFd<'_>],
    timeout: Option<&Timespec>,
) -> io::Result<Vec<usize>> {
    let mut polled: Vec<PollFd<'_>> = std::iter::once(&stdin)
        .chain(others)
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    match poll(&mut polled, timeout) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready = polled
        .iter()
        .enumerate()
        .filter(|(_, p)| !p.revents().is_empty());
    Ok(ready.map(|(index, _)| index).collect())
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs() as _,
        tv_nsec: duration.subsec_nanos() as _,
    }
}

/// A late path is a wrong one. Linux wakes a thread up to 50 us late to save power, unless it is
/// told not to; and what is tested takes all the processor that it can get, so
/// this goes first, as the hardware of a real path does not compete at all.
#[cfg(target_os = "linux")]
fn be_punctual() {
    // Without either the delays are less exact, as the counts of lateness show. The second
    // needs root; Linux leaves others a part of the processor in any case.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let _ = std::process::Command::new("chrt")
        .args(["--fifo", "--pid", "1", &std::process::id().to_string()])
        .stderr(std::process::Stdio::null())
        .status();
}

#[cfg(not(target_os = "linux"))]
fn be_punctual() {}

/// Whole lines out of what was read.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    /// Reads once; answers how many bytes.
    fn read(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        let mut chunk = [0; 1024];
        let count = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut chunk))?;
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn next(&mut self) -> io::Result<Option<String>> {
        let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') else {
            if self.bytes.len() > MAX_LINE {
                return Err(io::Error::other(format!(
                    "a line of more than {MAX_LINE} bytes"
                )));
            }
            return Ok(None);
        };
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        Ok(Some(String::from_utf8_lossy(&line).trim().to_string()))
    }
}
