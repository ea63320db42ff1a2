//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use barrel_quic::endpoint::Congestion;

/// What to do, and with whom.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Listen(IpAddr),
    Rtt(SocketAddr),
    Bulk(SocketAddr),
    RttUnderBulk(SocketAddr),
    Links(SocketAddr),
}

/// How to do it; see the crate's documentation.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) size: usize,
    pub(crate) streams: usize,
    pub(crate) warm: Duration,
    pub(crate) run: Duration,
    pub(crate) count: usize,
    pub(crate) max_datagram: u16,
    pub(crate) congestion: Congestion,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: 1 << 20,
            streams: 1,
            warm: Duration::from_millis(400),
            run: Duration::from_millis(1500),
            count: 50,
            max_datagram: 8900,
            congestion: Congestion::Patient,
        }
    }
}

/// Reads a command line without the name of the program.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<(Command, Options), String> {
    let mut args = args.into_iter();
    let verb = args.next().ok_or("a command is missing")?;
    let place = args.next().ok_or("an address is missing")?;
    let command = match verb.as_str() {
        "listen" => Command::Listen(number(&place, "listen")?),
        "rtt" => Command::Rtt(number(&place, "rtt")?),
        "bulk" => Command::Bulk(number(&place, "bulk")?),
        "rtt_under_bulk" => Command::RttUnderBulk(number(&place, "rtt_under_bulk")?),
        "links" => Command::Links(number(&place, "links")?),
        other => return Err(format!("no such command: {other}")),
    };
    let mut options = Options::default();
    while let Some(name) = args.next() {
        let value = args.next().ok_or(format!("{name} wants a value"))?;
        match name.as_str() {
            "--size" => options.size = at_least_one(&value, &name)?,
            "--streams" => options.streams = at_least_one(&value, &name)?,
            "--count" => options.count = at_least_one(&value, &name)?,
            "--warm-ms" => options.warm = Duration::from_millis(number(&value, &name)?),
            "--run-ms" => options.run = Duration::from_millis(number(&value, &name)?),
            "--max-datagram" => options.max_datagram = number(&value, &name)?,
            "--congestion" => options.congestion = congestion(&value)?,
            other => return Err(format!("no such option: {other}")),
        }
    }
    Ok((command, options))
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("bad value for {what}: {text}"))
}

fn at_least_one(text: &str, what: &str) -> Result<usize, String> {
    match number(text, what)? {
        0 => Err(format!("{what} must be at least 1")),
        n => Ok(n),
    }
}

fn congestion(text: &str) -> Result<Congestion, String> {
    match text {
        "patient" => Ok(Congestion::Patient),
        "cubic" => Ok(Congestion::Cubic),
        "bbr" => Ok(Congestion::Bbr),
        other => Err(format!("no such congestion controller: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<(Command, Options), String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_command_without_options_has_the_defaults() {
        let address = "127.0.0.1:9".parse().expect("an address");
        assert_eq!(
            of("rtt 127.0.0.1:9"),
            Ok((Command::Rtt(address), Options::default()))
        );
    }

    #[test]
    fn every_option_is_understood() {
        let line = "listen ::1 --size 1 --streams 2 --count 3 --warm-ms 4 --run-ms 5 \
                    --max-datagram 1452 --congestion bbr";
        let options = Options {
            size: 1,
            streams: 2,
            warm: Duration::from_millis(4),
            run: Duration::from_millis(5),
            count: 3,
            max_datagram: 1452,
            congestion: Congestion::Bbr,
        };
        let ip = "::1".parse().expect("an address");
        assert_eq!(of(line), Ok((Command::Listen(ip), options)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, names) in [
            ("", "command"),
            ("fly 127.0.0.1:9", "fly"),
            ("rtt", "address"),
            ("rtt here", "here"),
            ("rtt 127.0.0.1:9 --streams 0", "--streams"),
            ("rtt 127.0.0.1:9 --streams", "--streams"),
            ("rtt 127.0.0.1:9 --speed 1", "--speed"),
            ("rtt 127.0.0.1:9 --congestion reno", "reno"),
        ] {
            let said = of(line).expect_err(line);
            assert!(said.contains(names), "{line}: {said}");
        }
    }
}
