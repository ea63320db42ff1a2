//! A path between UDP ports: a relay, for which nobody needs to be root.
//!
//! A *mapping* listens on an address of its own and stands for a target. Each
//! client of it gets a *flow*: a socket from which the target hears it, as a
//! NAT would give it a port. Rebinding gives every flow another socket.
//!
//! Sizes are those of the IP packets that the datagrams would be, so that a
//! limit means the same here as between two machines. ECN marks do not pass.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::driver::Carrier;
use crate::path::{Direction, Path};

/// Asked of the system for each socket; the default holds a tenth of a burst of QUIC.
const BUFFER: usize = 4 << 20;

/// Former sockets of a flow that stay open, so that what is sent to a lost
/// address vanishes instead of being answered by an ICMP error. Old ones beyond
/// that are closed.
const FORMER: usize = 8;

/// A port that stands for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Which way the datagrams of clients go. Clients of a `Forward` mapping are on the near side.
    pub clients: Direction,
    /// Where clients send to; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where their datagrams go.
    pub target: SocketAddr,
}

/// Bounds of the relay.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Flows at one time. Datagrams of further clients are dropped.
    pub flows: usize,
    /// A flow without datagrams for so long is forgotten; its client gets a new one.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // two nodes need two; a storm of connects by many processes some hundred
            flows: 512,
            // what many home routers give UDP that was answered
            idle: Duration::from_secs(180),
        }
    }
}

/// The relay.
pub struct Relay {
    path: Path<Datagram>,
    limits: Limits,
    ports: Vec<Port>,
    flows: BTreeMap<u64, Flow>,
    next_flow: u64,
    refused: u64,
    unsent: u64,
    buffer: Vec<u8>,
}

/// A mapping at work.
struct Port {
    mapping: Mapping,
    socket: UdpSocket,
}

struct Flow {
    port: usize,
    client: SocketAddr,
    socket: UdpSocket,
    former: Vec<UdpSocket>,
    used: Duration,
}

/// On its way.
#[derive(Clone)]
pub struct Datagram {
    flow: u64,
    bytes: Rc<[u8]>,
}

impl Relay {
    /// Binds the ports of all mappings.
    ///
    /// # Errors
    /// The address that cannot be bound, and why.
    pub fn new(mappings: &[Mapping], limits: Limits, seed: u64) -> io::Result<Self> {
        let ports = mappings.iter().map(|&mapping| {
            let socket = bind(mapping.listen).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!(
                        "cannot listen on UDP {}: {error}; choose another address, or port 0",
                        mapping.listen
                    ),
                )
            })?;
            Ok(Port { mapping, socket })
        });
        Ok(Self {
            path: Path::new(seed),
            limits,
            ports: ports.collect::<io::Result<_>>()?,
            flows: BTreeMap::new(),
            next_flow: 0,
            refused: 0,
            unsent: 0,
            buffer: vec![0; 65536],
        })
    }

    /// The addresses of the mappings, in their order.
    ///
    /// # Errors
    /// What the system says.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.ports
            .iter()
            .map(|port| port.socket.local_addr())
            .collect()
    }

    fn receive_from_client(&mut self, now: Duration, index: usize) -> io::Result<()> {
        let (count, client) = self.ports[index].socket.recv_from(&mut self.buffer)?;
        let Some(flow) = self.flow_of(now, index, client) else {
            self.refused += 1;
            return Ok(());
        };
        let direction = self.ports[index].mapping.clients;
        self.enter(now, direction, flow, count);
        Ok(())
    }

    fn receive_from_target(&mut self, now: Duration, id: u64) -> io::Result<()> {
        let Some(flow) = self.flows.get_mut(&id) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let count = flow.socket.recv(&mut self.buffer)?;
        flow.used = now;
        let direction = self.ports[flow.port].mapping.clients.reversed();
        self.enter(now, direction, id, count);
        Ok(())
    }

    fn enter(&mut self, now: Duration, direction: Direction, flow: u64, count: usize) {
        let bytes = Rc::from(&self.buffer[..count]);
        let size = count + self.headers(flow);
        let _ = self
            .path
            .queue(direction)
            .handle_packet(now, size, Datagram { flow, bytes });
    }

    /// Bytes of the headers of IP and UDP.
    fn headers(&self, flow: u64) -> usize {
        match self.flows.get(&flow).map(|flow| flow.client) {
            Some(SocketAddr::V6(_)) => 48,
            _ => 28,
        }
    }

    fn flow_of(&mut self, now: Duration, port: usize, client: SocketAddr) -> Option<u64> {
        let idle = self.limits.idle;
        let known = self
            .flows
            .iter_mut()
            .find(|(_, f)| f.port == port && f.client == client);
        if let Some((&id, flow)) = known
            && now.saturating_sub(flow.used) < idle
        {
            flow.used = now;
            return Some(id);
        }
        self.flows
            .retain(|_, flow| now.saturating_sub(flow.used) < idle);
        if self.flows.len() >= self.limits.flows {
            return None;
        }
        let socket = outward(self.ports[port].mapping.target).ok()?;
        let id = self.next_flow;
        self.next_flow += 1;
        let flow = Flow {
            port,
            client,
            socket,
            former: Vec::new(),
            used: now,
        };
        self.flows.insert(id, flow);
        Some(id)
    }

    fn send(&self, direction: Direction, datagram: &Datagram) -> io::Result<usize> {
        let Some(flow) = self.flows.get(&datagram.flow) else {
            // forgotten while this was on its way
            return Ok(0);
        };
        let port = &self.ports[flow.port];
        if direction == port.mapping.clients {
            // A socket tells the ICMP error of an earlier datagram instead of sending the next.
            match flow.socket.send(&datagram.bytes) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    flow.socket.send(&datagram.bytes)
                }
                result => result,
            }
        } else {
            port.socket.send_to(&datagram.bytes, flow.client)
        }
    }
}

impl Carrier for Relay {
    type Packet = Datagram;

    fn path(&mut self) -> &mut Path<Datagram> {
        &mut self.path
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let ports = self.ports.iter().map(|port| port.socket.as_fd());
        ports
            .chain(self.flows.values().map(|flow| flow.socket.as_fd()))
            .collect()
    }

    fn receive(&mut self, now: Duration, index: usize) -> io::Result<bool> {
        let received = match index.checked_sub(self.ports.len()) {
            None => self.receive_from_client(now, index),
            Some(nth) => match self.flows.keys().nth(nth).copied() {
                Some(id) => self.receive_from_target(now, id),
                None => return Ok(false),
            },
        };
        // Any other error is an ICMP one about an earlier datagram, and told once: the
        // target is not there now.
        Ok(!received.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
    }

    fn deliver(&mut self, now: Duration) {
        while let Some((direction, datagram)) = self.path.poll_output(now) {
            if self.send(direction, &datagram).is_err() {
                self.unsent += 1;
            }
        }
    }

    fn rebind(&mut self) -> Result<String, String> {
        let mut addresses = Vec::new();
        for flow in self.flows.values_mut() {
            let target = self.ports[flow.port].mapping.target;
            let new =
                outward(target).map_err(|error| format!("cannot bind another port: {error}"))?;
            let address = new.local_addr().map_err(|error| error.to_string())?;
            addresses.push(address.to_string());
            if flow.former.len() == FORMER {
                flow.former.remove(0);
            }
            flow.former.push(std::mem::replace(&mut flow.socket, new));
        }
        Ok(addresses.join(" "))
    }

    fn more_stats(&self) -> String {
        format!(
            " flows={} refused={} unsent={}",
            self.flows.len(),
            self.refused,
            self.unsent
        )
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_nonblocking(true)?;
    let reference = SockRef::from(&socket);
    // A smaller one loses bursts; nothing better can be had.
    let _ = reference.set_recv_buffer_size(BUFFER);
    let _ = reference.set_send_buffer_size(BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket from which the target hears a client.
fn outward(target: SocketAddr) -> io::Result<UdpSocket> {
    let any = match target {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = bind(any)?;
    socket.connect(target)?;
    Ok(socket)
}
