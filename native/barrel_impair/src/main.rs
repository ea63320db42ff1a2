//! `barrel_impair`: see `USAGE` and docs/impairment.md.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use barrel_impair::driver::{self, Carrier};
use barrel_impair::path::Direction;
#[cfg(target_os = "linux")]
use barrel_impair::tun::{Options, Tunnel};
use barrel_impair::udp::{Limits, Mapping, Relay};

const USAGE: &str = "\
usage: barrel_impair udp [OPTION]... MAPPING...
  --forward LISTEN=TARGET    a mapping whose clients are on the near side
  --backward LISTEN=TARGET   a mapping whose clients are on the far side
  --flows N                  clients at one time (512)
  --idle SECONDS             a client that is silent for so long is forgotten (180)
       barrel_impair tun [OPTION]... --near NAMESPACE --far NAMESPACE   (root, Linux)
  --create yes               make the namespaces now, and remove them at the end
  --mtu N                    largest packet of the devices (9000)
both:
  --seed N                   of the random decisions (1)
  --set 'WHICH KEY VALUE'    as the line `set WHICH KEY VALUE'; any number of times
Then lines on standard input are answered, until it ends:
  set forward|backward|both KEY VALUE, blackout on|off, rebind, stats, quit";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match start(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(said)) => {
            say(&format!("barrel_impair: {said}\n{USAGE}"));
            ExitCode::from(2)
        }
        Err(Failure::System(said)) => {
            say(&format!("barrel_impair: {said}"));
            ExitCode::FAILURE
        }
    }
}

/// Nobody is left to tell when standard error is closed.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

enum Failure {
    Usage(String),
    System(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error.to_string())
    }
}

fn start(words: &[String]) -> Result<(), Failure> {
    match words.split_first() {
        Some((mode, options)) if mode == "udp" => udp(options),
        Some((mode, options)) if mode == "tun" => tun(options),
        Some((mode, _)) => Err(Failure::Usage(format!("unknown mode {mode:?}"))),
        None => Err(Failure::Usage("which mode?".into())),
    }
}

/// What both modes take.
struct Common {
    seed: u64,
    /// Lines that are answered before anything else.
    lines: Vec<String>,
}

impl Common {
    fn new() -> Self {
        Self {
            seed: 1,
            lines: Vec::new(),
        }
    }

    /// Takes an option that is not of one mode only.
    fn take(&mut self, option: &str, value: &str) -> Result<(), Failure> {
        match option {
            "--seed" => self.seed = parse(option, value)?,
            "--set" => self.lines.push(format!("set {value}")),
            _ => return Err(Failure::Usage(format!("unknown option {option:?}"))),
        }
        Ok(())
    }
}

fn udp(words: &[String]) -> Result<(), Failure> {
    let mut common = Common::new();
    let mut limits = Limits::default();
    let mut mappings = Vec::new();
    for (option, value) in pairs(words)? {
        match option {
            "--forward" => mappings.push(mapping(Direction::Forward, value)?),
            "--backward" => mappings.push(mapping(Direction::Backward, value)?),
            "--flows" => limits.flows = parse(option, value)?,
            "--idle" => limits.idle = Duration::from_secs(parse(option, value)?),
            _ => common.take(option, value)?,
        }
    }
    if mappings.is_empty() {
        return Err(Failure::Usage(
            "no mapping: give --forward or --backward".into(),
        ));
    }
    let mut relay = Relay::new(&mappings, limits, common.seed)?;
    let ready: Vec<String> = relay.addresses()?.iter().map(ToString::to_string).collect();
    run(&mut relay, &common, &ready.join(" "))
}

#[cfg(target_os = "linux")]
fn tun(words: &[String]) -> Result<(), Failure> {
    let mut common = Common::new();
    let (mut near, mut far, mut mtu, mut create) = (None, None, 9000, false);
    for (option, value) in pairs(words)? {
        match option {
            "--near" => near = Some(value.to_string()),
            "--far" => far = Some(value.to_string()),
            "--mtu" => mtu = parse(option, value)?,
            "--create" => create = value == "yes",
            _ => common.take(option, value)?,
        }
    }
    let (Some(near), Some(far)) = (near, far) else {
        return Err(Failure::Usage("give --near and --far".into()));
    };
    let mut tunnel = Tunnel::new(&Options {
        near: near.clone(),
        far: far.clone(),
        mtu,
        create,
        seed: common.seed,
    })?;
    run(&mut tunnel, &common, &format!("{near} {far}"))
}

#[cfg(not(target_os = "linux"))]
fn tun(_words: &[String]) -> Result<(), Failure> {
    Err(Failure::System("tun needs Linux; use udp".into()))
}

/// Says that it is ready only when packets do pass, in the way that was asked for.
fn run<C: Carrier>(carrier: &mut C, common: &Common, ready: &str) -> Result<(), Failure> {
    for line in &common.lines {
        if let Some(said) = driver::answer(carrier, line)
            .as_deref()
            .and_then(|answer| answer.strip_prefix("error "))
        {
            return Err(Failure::Usage(said.into()));
        }
    }
    writeln!(io::stdout(), "ready {ready}")?;
    io::stdout().flush()?;
    Ok(driver::run(carrier)?)
}

fn pairs(words: &[String]) -> Result<Vec<(&str, &str)>, Failure> {
    let chunks = words.chunks(2).map(|chunk| match chunk {
        [option, value] => Ok((option.as_str(), value.as_str())),
        _ => Err(Failure::Usage(format!("{:?} has no value", chunk[0]))),
    });
    chunks.collect()
}

fn parse<T: std::str::FromStr>(option: &str, value: &str) -> Result<T, Failure> {
    let bad = |_| Failure::Usage(format!("{option}: {value:?} is not a number"));
    value.parse().map_err(bad)
}

fn mapping(clients: Direction, value: &str) -> Result<Mapping, Failure> {
    let bad = || {
        Failure::Usage(format!(
            "{value:?} is not LISTEN=TARGET, such as 127.0.0.1:0=127.0.0.1:9100"
        ))
    };
    let (listen, target) = value.split_once('=').ok_or_else(bad)?;
    let address = |text: &str| text.parse::<SocketAddr>().map_err(|_| bad());
    Ok(Mapping {
        clients,
        listen: address(listen)?,
        target: address(target)?,
    })
}
