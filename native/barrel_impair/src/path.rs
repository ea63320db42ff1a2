//! Both directions of a path, and the lines that change them.
//!
//! | line | |
//! |---|---|
//! | `set forward\|backward\|both KEY VALUE` | one of the settings |
//! | `blackout on\|off` | short for `set both blackout` |
//! | `rebind` | the near side gets another address |
//! | `stats` | counts, since the start |
//! | `quit` | the end, as that of standard input |
//!
//! A line is answered by one line that begins with `ok` or `error`, `quit` by nothing.

use std::fmt::Write;
use std::str::FromStr;
use std::time::Duration;

use crate::queue::{Queue, Stats};

/// Which way a packet goes. The near side is the one whose address changes
/// when the path is rebound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the near side to the far one.
    Forward,
    /// From the far side to the near one.
    Backward,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::Forward => Self::Backward,
            Self::Backward => Self::Forward,
        }
    }
}

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A setting changes, in these directions.
    Set {
        /// One or both.
        directions: Vec<Direction>,
        /// See [`crate::Settings`].
        key: String,
        /// See [`crate::Settings`].
        value: String,
    },
    /// The near side gets another address.
    Rebind,
    /// The counts.
    Stats,
    /// The end.
    Quit,
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["set", which, key, value] => Ok(Self::Set {
                directions: directions(which)?,
                key: key.into(),
                value: value.into(),
            }),
            ["blackout", value] => Ok(Self::Set {
                directions: vec![Direction::Forward, Direction::Backward],
                key: "blackout".into(),
                value: value.into(),
            }),
            ["rebind"] => Ok(Self::Rebind),
            ["stats"] => Ok(Self::Stats),
            ["quit"] => Ok(Self::Quit),
            _ => Err(format!(
                "cannot understand {line:?}; known are: set forward|backward|both KEY VALUE, \
                 blackout on|off, rebind, stats, quit"
            )),
        }
    }
}

fn directions(word: &str) -> Result<Vec<Direction>, String> {
    match word {
        "forward" => Ok(vec![Direction::Forward]),
        "backward" => Ok(vec![Direction::Backward]),
        "both" => Ok(vec![Direction::Forward, Direction::Backward]),
        _ => Err(format!("{word:?} is none of forward, backward, both")),
    }
}

/// Both directions.
pub struct Path<P> {
    forward: Queue<P>,
    backward: Queue<P>,
}

impl<P: Clone> Path<P> {
    /// A path that lets everything pass.
    pub fn new(seed: u64) -> Self {
        Self {
            forward: Queue::new(seed, 0),
            backward: Queue::new(seed, 1),
        }
    }

    /// One direction.
    pub fn queue(&mut self, direction: Direction) -> &mut Queue<P> {
        match direction {
            Direction::Forward => &mut self.forward,
            Direction::Backward => &mut self.backward,
        }
    }

    /// When the next packet leaves.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let both = [self.forward.poll_timeout(), self.backward.poll_timeout()];
        both.into_iter().flatten().min()
    }

    /// The next packet that is due, and where it goes. Ask until there is none.
    #[must_use]
    pub fn poll_output(&mut self, now: Duration) -> Option<(Direction, P)> {
        let forward = self.forward.poll_output(now);
        forward
            .map(|packet| (Direction::Forward, packet))
            .or_else(|| {
                let packet = self.backward.poll_output(now)?;
                Some((Direction::Backward, packet))
            })
    }

    /// Changes a setting; in both directions or, after an error, in none.
    ///
    /// # Errors
    /// What is wrong with the setting.
    pub fn set(&mut self, directions: &[Direction], key: &str, value: &str) -> Result<(), String> {
        for &direction in directions {
            let mut tried = self.queue(direction).settings().clone();
            tried.set(key, value).map_err(|bad| bad.to_string())?;
        }
        for &direction in directions {
            let settings = self.queue(direction).settings_mut();
            settings.set(key, value).map_err(|bad| bad.to_string())?;
        }
        Ok(())
    }

    /// The counts of both directions as one line.
    pub fn stats(&self) -> String {
        let mut line = String::new();
        for (name, queue) in [("forward", &self.forward), ("backward", &self.backward)] {
            for (key, value) in fields(&queue.stats()) {
                let _ = write!(line, " {name}.{key}={value}");
            }
        }
        line.trim_start().to_string()
    }
}

fn fields(stats: &Stats) -> [(&'static str, u64); 13] {
    [
        ("received", stats.received),
        ("delivered", stats.delivered),
        ("lost", stats.lost),
        ("duplicated", stats.duplicated),
        ("reordered", stats.reordered),
        ("dropped", stats.dropped),
        ("too_large", stats.too_large),
        ("blackout", stats.blackout),
        ("held", stats.held),
        ("bytes", stats.bytes),
        ("largest", stats.largest),
        ("late_max_us", stats.late_max_us),
        ("late_mean_us", stats.late_mean_us),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        assert_eq!("  stats ".parse(), Ok(Command::Stats));
        assert_eq!("rebind".parse(), Ok(Command::Rebind));
        assert_eq!(
            "set forward loss 0.03".parse(),
            Ok(Command::Set {
                directions: vec![Direction::Forward],
                key: "loss".into(),
                value: "0.03".into(),
            })
        );
        assert_eq!(
            "blackout on".parse::<Command>(),
            "set both blackout on".parse()
        );
    }

    #[test]
    fn a_line_that_is_not_understood_is_repeated_in_the_answer() {
        for line in [
            "",
            "set",
            "set left loss 0.1",
            "set both loss",
            "stats now",
            "blackout",
        ] {
            let said = line.parse::<Command>().unwrap_err();
            assert!(
                said.contains(line.split(' ').nth(1).unwrap_or(line)),
                "{said}"
            );
        }
    }

    #[test]
    fn a_setting_that_one_direction_refuses_changes_neither() {
        let mut path = Path::<()>::new(1);
        path.set(&[Direction::Backward], "burst", "2").unwrap();
        let both = [Direction::Forward, Direction::Backward];
        assert!(path.set(&both, "loss", "0.9").is_err());
        assert_eq!(path.queue(Direction::Forward).settings().loss, 0.0);
    }

    #[test]
    fn the_directions_decide_independently_and_count_apart() {
        let mut path = Path::new(7);
        path.set(&[Direction::Forward, Direction::Backward], "loss", "0.5")
            .unwrap();
        let mut fates = |direction| -> Vec<_> {
            (0..64)
                .map(|n| path.queue(direction).handle_packet(Duration::ZERO, 100, n))
                .collect()
        };
        assert_ne!(fates(Direction::Forward), fates(Direction::Backward));
        let stats = path.stats();
        assert!(stats.starts_with("forward.received=64 "), "{stats}");
        assert!(stats.contains(" backward.received=64 "), "{stats}");
    }
}
