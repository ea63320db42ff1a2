//! `barrel_bare`: barrel_quic without the BEAM, for the benchmark.
//!
//! Two processes with the endpoint, socket, transport settings and hello of a
//! node. Above the seam there is next to nothing: what arrives is counted on the
//! I/O thread and dropped, what is sent is the same bytes again and again, an
//! answer is given where the question was read. What a dist channel does on top
//! of this is what the figures of a node show beside these.
//!
//! ```text
//! barrel_bare listen IP                 says `listening IP:PORT`; ends with its input
//! barrel_bare rtt IP:PORT               round trips
//! barrel_bare bulk IP:PORT              bytes in one direction
//! barrel_bare rtt_under_bulk IP:PORT    round trips on a stream beside those of bulk
//! barrel_bare links IP:PORT             memory of idle links at the listener
//!
//! --size BYTES         of a message of bulk (1048576)
//! --streams N          that carry bulk, each a sender of its own (1)
//! --warm-ms N          before the measurement (400)
//! --run-ms N           its length (1500)
//! --count N            links (50)
//! --max-datagram N     bytes of UDP payload (8900)
//! --congestion NAME    patient, cubic or bbr (patient)
//! ```
//!
//! A measurement prints one line: its name, then `key=value`, all integers.
#![forbid(unsafe_code)]

mod args;
mod far;
mod flow;
mod measure;
mod node;
mod usage;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use args::{Command, Options};
use measure::Figures;
use node::Node;

/// What a failure is, for the one who reads it.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when even this fails.
            let _ = writeln!(std::io::stderr(), "barrel_bare: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let (command, options) = args::parse(std::env::args().skip(1))?;
    match command {
        Command::Listen(ip) => listen(ip, &options),
        Command::Rtt(to) => say("rtt", &measure::rtt(to, &options)?),
        Command::Bulk(to) => say("bulk", &measure::bulk(to, &options)?),
        Command::RttUnderBulk(to) => say("rtt_under_bulk", &measure::rtt_under_bulk(to, &options)?),
        Command::Links(to) => say("links", &measure::links(to, &options)?),
    }
}

fn listen(ip: IpAddr, options: &Options) -> Result<(), Failure> {
    let far = far::Far::new();
    let node = Node::start(&SocketAddr::new(ip, 0), "bare", options, far)?;
    writeln!(std::io::stdout(), "listening {}", node.address())?;
    std::io::stdout().flush()?;
    // The process that started this one holds the other end.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    node.close();
    Ok(())
}

fn say(name: &str, figures: &Figures) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    write!(out, "{name}")?;
    for (key, value) in figures {
        write!(out, " {key}={value}")?;
    }
    writeln!(out)?;
    Ok(())
}
