//! The measurements of the dialling process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use barrel_quic::seam::{LinkEnd, LinkId, Peer, SecretRequest, StreamEvents, Upper};
use barrel_quic::stream::Stream;

use crate::Failure;
use crate::args::Options;
use crate::far::{BULK, ECHO, LOOK, LOOK_SIZE, Look};
use crate::flow::{Asker, Source};
use crate::node::{Node, SECRET};
use crate::usage;

/// Names and values, in the order in which they are printed.
pub(crate) type Figures = Vec<(&'static str, u64)>;

/// Time for allocators and acknowledgements to come to rest before memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// Round trips on an idle link.
///
/// # Errors
/// The listener was not reached, or is gone.
pub(crate) fn rtt(to: SocketAddr, options: &Options) -> Result<Figures, Failure> {
    let near = Near::start(to, "near", options)?;
    let echo = near.asker(ECHO)?;
    echo.round_trips(options.warm)?;
    let figures = times(echo.round_trips(options.run)?);
    near.node.close();
    Ok(figures)
}

/// Bytes in one direction, as the listener counts them.
///
/// # Errors
/// The listener was not reached, or is gone.
pub(crate) fn bulk(to: SocketAddr, options: &Options) -> Result<Figures, Failure> {
    let near = Near::start(to, "near", options)?;
    let looking = near.asker(LOOK)?;
    let sources = near.sources(options)?;
    std::thread::sleep(options.warm);
    let first = (looked(&looking)?, usage::cpu_micros());
    std::thread::sleep(options.run);
    let last = (looked(&looking)?, usage::cpu_micros());
    sources.iter().for_each(|source| source.stop());
    let mut figures = vec![
        ("bytes", last.0.received - first.0.received),
        ("micros", (last.0.clock - first.0.clock).as_micros() as u64),
        (
            "cpu_micros",
            last.0.cpu_micros - first.0.cpu_micros + last.1 - first.1,
        ),
    ];
    figures.extend(near.path());
    near.node.close();
    Ok(figures)
}

/// Round trips on a stream of their own while others carry bulk.
///
/// # Errors
/// The listener was not reached, or is gone.
pub(crate) fn rtt_under_bulk(to: SocketAddr, options: &Options) -> Result<Figures, Failure> {
    let near = Near::start(to, "near", options)?;
    let echo = near.asker(ECHO)?;
    let sources = near.sources(options)?;
    std::thread::sleep(options.warm);
    let mut figures = times(echo.round_trips(options.run)?);
    sources.iter().for_each(|source| source.stop());
    figures.extend(near.path());
    near.node.close();
    Ok(figures)
}

/// Memory of the listener before and after so many more links, each with a stream.
///
/// # Errors
/// The listener was not reached, or is gone.
pub(crate) fn links(to: SocketAddr, options: &Options) -> Result<Figures, Failure> {
    let first = Near::start(to, "near", options)?;
    let looking = first.asker(LOOK)?;
    std::thread::sleep(SETTLE);
    let before = looked(&looking)?;
    let others = (0..options.count)
        .map(|n| {
            let near = Near::start(to, &format!("near{n}"), options)?;
            let stream = near.asker(ECHO)?;
            Ok((near, stream))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    std::thread::sleep(SETTLE);
    let after = looked(&looking)?;
    others.iter().for_each(|(near, _)| near.node.close());
    first.node.close();
    Ok(vec![
        ("links", others.len() as u64),
        ("kib_before", before.private_kib),
        ("kib_after", after.private_kib),
    ])
}

fn looked(looking: &Asker) -> Result<Look, Failure> {
    let answer = looking.ask(LOOK_SIZE)?;
    Look::decode(&answer).ok_or_else(|| "the listener sent something else".into())
}

/// Quantiles in nanoseconds, as the benchmark takes them of a node's round trips.
fn times(mut times: Vec<Duration>) -> Figures {
    times.sort_unstable();
    let quantile = |thousandths: usize| {
        let rank = (times.len() * thousandths).div_ceil(1000).max(1);
        times.get(rank - 1).map_or(0, |time| time.as_nanos() as u64)
    };
    vec![
        ("p50_ns", quantile(500)),
        ("p99_ns", quantile(990)),
        ("max_ns", quantile(1000)),
        ("count", times.len() as u64),
    ]
}

/// The dialling end: it accepts nothing.
struct Near {
    node: Node,
    to: SocketAddr,
}

impl Near {
    fn start(to: SocketAddr, name: &str, options: &Options) -> Result<Self, Failure> {
        let any = match to {
            SocketAddr::V4(_) => "0.0.0.0:0".parse()?,
            SocketAddr::V6(_) => "[::]:0".parse()?,
        };
        // Of its own: the listener pins a key to each name.
        let name = format!("{name}_{}", std::process::id());
        let node = Node::start(&any, &name, options, Arc::new(Nobody))?;
        Ok(Self { node, to })
    }

    fn asker(&self, tag: &'static [u8]) -> Result<Arc<Asker>, Failure> {
        let asker = Arc::new(Asker::new());
        self.node.open(self.to, tag, &asker)?;
        Ok(asker)
    }

    fn sources(&self, options: &Options) -> Result<Vec<Arc<Source>>, Failure> {
        let sources = (0..options.streams)
            .map(|_| {
                let source = Arc::new(Source::new(options.size));
                self.node.open(self.to, BULK, &source)?;
                Ok(source)
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        // Not before all are open: bulk that flows leaves a new stream little room.
        sources.iter().for_each(|source| source.start());
        Ok(sources)
    }

    /// What the path was like at the end.
    fn path(&self) -> Figures {
        let Some(link) = self.node.link() else {
            return Vec::new();
        };
        vec![
            ("mtu", u64::from(link.mtu)),
            ("sent_packets", link.sent_packets),
            ("lost_packets", link.lost_packets),
        ]
    }
}

struct Nobody;

impl Upper for Nobody {
    fn secret(&self, request: SecretRequest) {
        // Nobody waits for it when the handshake has ended.
        let _ = request.answer.send(SECRET.to_vec());
    }

    fn incoming(
        &self,
        _peer: &Peer,
        _tag: &[u8],
        _stream: Stream,
    ) -> Option<Arc<dyn StreamEvents>> {
        None
    }

    fn up(&self, _link: LinkId, _peer: &Peer) {}

    fn down(&self, _link: LinkId, _peer: &Peer, _end: &LinkEnd) {}

    fn failed(&self, _reason: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Figures {
        times(micros.into_iter().map(Duration::from_micros).collect())
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        assert_eq!(
            of((1..=200).rev()),
            [
                ("p50_ns", 100_000),
                ("p99_ns", 198_000),
                ("max_ns", 200_000),
                ("count", 200),
            ]
        );
        assert_eq!(
            of([7]),
            [
                ("p50_ns", 7000),
                ("p99_ns", 7000),
                ("max_ns", 7000),
                ("count", 1)
            ]
        );
        assert_eq!(of([])[3], ("count", 0));
    }
}
