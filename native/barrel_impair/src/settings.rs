//! What one direction of the path does to packets, and how it is written.
//!
//! A setting is a key and a value. The same text is taken on the command line
//! and while the tool runs.

use std::fmt;
use std::time::Duration;

/// Longest delay, jitter or hold: with more a typing error looks like a
/// blackout.
const MAX_DELAY_MS: f64 = 60_000.0;

/// What one direction does. The default lets everything pass at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Every packet is late by this.
    pub delay: Duration,
    /// On top of the delay, uniform between nothing and this, drawn for each
    /// packet. It never reorders: a packet that would overtake the one before
    /// it leaves together with that one.
    pub jitter: Duration,
    /// Fraction of the packets that are lost.
    pub loss: f64,
    /// Mean length of a run of losses; `None` is independent losses.
    pub burst: Option<f64>,
    /// Fraction of the packets that arrive twice, one right behind the other.
    pub duplicate: f64,
    /// Fraction of the packets that are held back, so that later ones overtake them.
    pub reorder: f64,
    /// How long a packet that is to be overtaken is held back.
    pub hold: Duration,
    /// Bits a second that the line carries; `None` is no limit.
    pub rate: Option<u64>,
    /// Bytes that may wait for the line; what comes beyond is dropped.
    pub queue: usize,
    /// Largest IP packet; larger ones are dropped. `None` is no limit.
    pub mtu: Option<usize>,
    /// Whether too large packets are answered by ICMP. In TUN mode only.
    pub icmp: bool,
    /// Everything is dropped.
    pub blackout: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: None,
            duplicate: 0.0,
            reorder: 0.0,
            hold: Duration::from_millis(10),
            rate: None,
            // a guess: 50 ms at 40 Mbit/s, what cheap routers have
            queue: 256 << 10,
            mtu: None,
            icmp: false,
            blackout: false,
        }
    }
}

/// Why a setting was not taken; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSetting(String);

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All keys, for messages.
pub const KEYS: &str =
    "delay, jitter, loss, burst, duplicate, reorder, hold, rate, queue, mtu, icmp, blackout";

impl Settings {
    /// Changes one setting.
    ///
    /// # Errors
    /// An unknown key, a bad value, or one that contradicts another setting. Nothing has changed then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), BadSetting> {
        let mut new = self.clone();
        match key {
            "delay" => new.delay = milliseconds(value)?,
            "jitter" => new.jitter = milliseconds(value)?,
            "hold" => new.hold = milliseconds(value)?,
            "loss" => new.loss = fraction(value)?,
            "duplicate" => new.duplicate = fraction(value)?,
            "reorder" => new.reorder = fraction(value)?,
            "burst" => new.burst = or_off(value, burst)?,
            "rate" => new.rate = or_off(value, rate)?,
            "queue" => new.queue = bytes(value)?,
            "mtu" => new.mtu = or_off(value, bytes)?,
            "icmp" => new.icmp = switch(value)?,
            "blackout" => new.blackout = switch(value)?,
            _ => {
                return Err(BadSetting(format!(
                    "unknown setting {key:?}; known are {KEYS}"
                )));
            }
        }
        new.consistent()?;
        *self = new;
        Ok(())
    }

    /// Runs of losses need room between them: with a mean of `burst` losses
    /// in a row, and at least one packet between two runs, no more than
    /// `burst / (burst + 1)` of all can be lost.
    fn consistent(&self) -> Result<(), BadSetting> {
        match self.burst {
            Some(burst) if self.loss > burst / (burst + 1.0) => Err(BadSetting(format!(
                "loss {} does not go with burst {burst}; at most {:.3} does, or set burst off",
                self.loss,
                burst / (burst + 1.0)
            ))),
            _ => Ok(()),
        }
    }
}

fn or_off<T>(
    value: &str,
    parse: fn(&str) -> Result<T, BadSetting>,
) -> Result<Option<T>, BadSetting> {
    match value {
        "off" => Ok(None),
        _ => parse(value).map(Some),
    }
}

fn number(
    value: &str,
    what: &str,
    range: std::ops::RangeInclusive<f64>,
) -> Result<f64, BadSetting> {
    match value.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(BadSetting(format!(
            "{value:?} is not {what} from {} to {}",
            range.start(),
            range.end()
        ))),
    }
}

fn milliseconds(value: &str) -> Result<Duration, BadSetting> {
    number(value, "a number of milliseconds", 0.0..=MAX_DELAY_MS)
        .map(|ms| Duration::from_secs_f64(ms / 1000.0))
}

fn fraction(value: &str) -> Result<f64, BadSetting> {
    number(value, "a fraction", 0.0..=1.0)
}

fn burst(value: &str) -> Result<f64, BadSetting> {
    number(value, "a mean length (or off)", 1.0..=10_000.0)
}

fn rate(value: &str) -> Result<u64, BadSetting> {
    number(value, "a number of bits a second (or off)", 1e3..=1e12).map(|bits| bits as u64)
}

fn bytes(value: &str) -> Result<usize, BadSetting> {
    number(value, "a number of bytes", 1.0..=1e9).map(|bytes| bytes as usize)
}

fn switch(value: &str) -> Result<bool, BadSetting> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(BadSetting(format!("{value:?} is neither on nor off"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_taken() {
        let mut settings = Settings::default();
        for (key, value) in [
            ("delay", "20"),
            ("jitter", "2.5"),
            ("loss", "0.03"),
            ("burst", "4"),
            ("duplicate", "0.01"),
            ("reorder", "0.02"),
            ("hold", "7"),
            ("rate", "1e7"),
            ("queue", "65536"),
            ("mtu", "1500"),
            ("icmp", "on"),
            ("blackout", "on"),
        ] {
            assert!(KEYS.contains(key));
            settings.set(key, value).unwrap();
        }
        let expected = Settings {
            delay: Duration::from_millis(20),
            jitter: Duration::from_micros(2500),
            loss: 0.03,
            burst: Some(4.0),
            duplicate: 0.01,
            reorder: 0.02,
            hold: Duration::from_millis(7),
            rate: Some(10_000_000),
            queue: 65536,
            mtu: Some(1500),
            icmp: true,
            blackout: true,
        };
        assert_eq!(settings, expected);
        for key in ["burst", "rate", "mtu"] {
            settings.set(key, "off").unwrap();
        }
        assert_eq!(
            (settings.burst, settings.rate, settings.mtu),
            (None, None, None)
        );
    }

    #[test]
    fn a_bad_value_is_named_and_changes_nothing() {
        let mut settings = Settings::default();
        for (key, value) in [
            ("loss", "1.1"),
            ("loss", "-0.1"),
            ("loss", "nan"),
            ("delay", "soon"),
            ("delay", "1e9"),
            ("rate", "0"),
            ("mtu", "0"),
            ("blackout", "yes"),
            ("burst", "0.5"),
        ] {
            let said = settings.set(key, value).unwrap_err().to_string();
            assert!(said.contains(value), "{said}");
        }
        assert!(
            settings
                .set("speed", "1")
                .unwrap_err()
                .to_string()
                .contains(KEYS)
        );
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn more_loss_than_its_bursts_leave_room_for_is_refused() {
        let mut settings = Settings::default();
        settings.set("burst", "2").unwrap();
        assert!(settings.set("loss", "0.7").is_err());
        settings.set("loss", "0.6").unwrap();
        assert!(settings.set("burst", "1").is_err());
        settings.set("burst", "off").unwrap();
        settings.set("loss", "1").unwrap();
    }
}
