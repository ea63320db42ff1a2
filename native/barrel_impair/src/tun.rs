//! A path between two network namespaces, for every protocol on IP.
//!
//! ```text
//!   namespace near          this process           namespace far
//!   10.91.0.1, fd91::1  [tun] <-- path --> [tun]  10.91.0.2, fd91::2
//! ```
//!
//! The devices have no offload, so each packet is one that would go over a wire.
//! Nothing else is in the namespaces, so the addresses are always the same.
//!
//! Rebinding is a NAT in front of the near side: from then on the far side
//! hears it as 10.91.0.101 and fd91::1:1, then .102, and so on. What is sent to the
//! addresses before vanishes.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::driver::Carrier;
use crate::ip::{self, End};
use crate::path::{Direction, Path};
use crate::queue::Fate;

/// Packets that wait in a device for this process, which is to be the only one that drops.
const DEVICE_QUEUE: usize = 10_000;

/// Rebindings before the addresses come again.
const ALIASES: u16 = 100;

const DEVICE: &str = "impaired";

/// Who answers packets that are too large.
const ROUTER: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 91, 0, 254),
    Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0, 0xfe),
);

const NEAR: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 91, 0, 1),
    Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0, 1),
);

const FAR: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 91, 0, 2),
    Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0, 2),
);

/// What to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of the near side.
    pub near: String,
    /// That of the far side.
    pub far: String,
    /// Largest packet that the devices take.
    pub mtu: usize,
    /// Makes the namespaces, and removes them at the end.
    pub create: bool,
    /// Of the random decisions.
    pub seed: u64,
}

/// Both devices and what is between them. Dropping it removes what was made.
pub struct Tunnel {
    path: Path<Rc<[u8]>>,
    near: Side,
    far: Side,
    nat: Nat,
    unsent: u64,
    astray: u64,
    buffer: Vec<u8>,
}

/// A namespace and its device; the device goes first.
struct Side {
    device: SyncDevice,
    namespace: Namespace,
}

impl Tunnel {
    /// Makes the devices, gives them addresses and switches them on.
    ///
    /// # Errors
    /// What is missing, and what to do. What was made until then is removed.
    pub fn new(options: &Options) -> io::Result<Self> {
        let namespaces = [
            Namespace::new(&options.near, options.create)?,
            Namespace::new(&options.far, options.create)?,
        ];
        let [near, far] = namespaces;
        Ok(Self {
            path: Path::new(options.seed),
            near: Side::new(near, NEAR, options.mtu)?,
            far: Side::new(far, FAR, options.mtu)?,
            nat: Nat::default(),
            unsent: 0,
            astray: 0,
            buffer: vec![0; 65536],
        })
    }

    /// From where packets of this direction come.
    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Forward => &self.near,
            Direction::Backward => &self.far,
        }
    }

    fn enter(&mut self, now: Duration, direction: Direction, count: usize) {
        if direction == Direction::Forward {
            self.nat.outward(&mut self.buffer[..count]);
        }
        let packet: Rc<[u8]> = Rc::from(&self.buffer[..count]);
        let queue = self.path.queue(direction);
        let fate = queue.handle_packet(now, count, Rc::clone(&packet));
        let (icmp, mtu) = (queue.settings().icmp, queue.settings().mtu);
        if let (Fate::TooLarge, true, Some(mtu)) = (fate, icmp, mtu)
            && let Some(answer) = ip::too_large(&packet, mtu, ROUTER)
        {
            self.send(direction.reversed(), &answer);
        }
    }

    fn send(&mut self, direction: Direction, packet: &[u8]) {
        if direction == Direction::Backward && self.nat.rebindings > 0 {
            let mut packet = packet.to_vec();
            if self.nat.inward(&mut packet) {
                self.put(direction, &packet);
            } else {
                self.astray += 1;
            }
        } else {
            self.put(direction, packet);
        }
    }

    fn put(&mut self, direction: Direction, packet: &[u8]) {
        if self.side(direction.reversed()).device.send(packet).is_err() {
            self.unsent += 1;
        }
    }
}

impl Carrier for Tunnel {
    type Packet = Rc<[u8]>;

    fn path(&mut self) -> &mut Path<Rc<[u8]>> {
        &mut self.path
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.near.device.as_fd(), self.far.device.as_fd()]
    }

    fn receive(&mut self, now: Duration, index: usize) -> io::Result<bool> {
        let direction = match index {
            0 => Direction::Forward,
            _ => Direction::Backward,
        };
        let side = match direction {
            Direction::Forward => &self.near,
            Direction::Backward => &self.far,
        };
        match side.device.recv(&mut self.buffer) {
            Ok(count) => self.enter(now, direction, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => {
                let namespace = &side.namespace.name;
                return Err(explained(
                    &error,
                    format!("the device in {namespace} is gone"),
                ));
            }
        }
        Ok(true)
    }

    fn deliver(&mut self, now: Duration) {
        while let Some((direction, packet)) = self.path.poll_output(now) {
            self.send(direction, &packet);
        }
    }

    fn rebind(&mut self) -> Result<String, String> {
        self.nat.rebindings += 1;
        let (v4, v6) = self.nat.seen_as();
        Ok(format!("{v4} {v6}"))
    }

    fn more_stats(&self) -> String {
        format!(" unsent={} astray={}", self.unsent, self.astray)
    }
}

/// Which addresses the far side sees instead of those of the near one.
#[derive(Default)]
struct Nat {
    rebindings: u16,
}

impl Nat {
    fn seen_as(&self) -> (Ipv4Addr, Ipv6Addr) {
        if self.rebindings == 0 {
            return NEAR;
        }
        let number = (self.rebindings - 1) % ALIASES + 1;
        (
            Ipv4Addr::new(10, 91, 0, 100 + number as u8),
            Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 1, number),
        )
    }

    fn outward(&self, packet: &mut [u8]) {
        let (v4, v6) = self.seen_as();
        match ip::address(packet, End::Source) {
            Some(IpAddr::V4(ip)) if ip == NEAR.0 && v4 != NEAR.0 => {
                ip::readdress(packet, End::Source, v4.into());
            }
            Some(IpAddr::V6(ip)) if ip == NEAR.1 && v6 != NEAR.1 => {
                ip::readdress(packet, End::Source, v6.into());
            }
            _ => {}
        }
    }

    /// Answers whether it is for the near side as it is seen now.
    fn inward(&self, packet: &mut [u8]) -> bool {
        let (v4, v6) = self.seen_as();
        match ip::address(packet, End::Destination) {
            Some(IpAddr::V4(ip)) if ip == v4 => {
                ip::readdress(packet, End::Destination, NEAR.0.into())
            }
            Some(IpAddr::V6(ip)) if ip == v6 => {
                ip::readdress(packet, End::Destination, NEAR.1.into())
            }
            _ => false,
        }
    }
}

/// A network namespace as `ip netns` knows it. Removed when dropped, if it was made here.
struct Namespace {
    name: String,
    made: bool,
}

impl Namespace {
    fn new(name: &str, create: bool) -> io::Result<Self> {
        if create {
            ip(&["netns", "add", name])?;
        }
        let namespace = Self {
            name: name.into(),
            made: create,
        };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    fn ip(&self, words: &[&str]) -> io::Result<()> {
        ip(&[&["-n", &self.name], words].concat())
    }

    /// Runs a function on a thread within the namespace.
    fn run<T: Send>(&self, inside: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let handle = File::open(&path).map_err(|error| {
            explained(
                &error,
                format!(
                    "no network namespace {path}; make it with `ip netns add {}`, or give --create",
                    self.name
                ),
            )
        })?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|error| {
                        explained(&error.into(), format!("cannot enter {path}; run as root"))
                    })?;
                inside()
            });
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.made {
            // Nobody is left to tell.
            let _ = ip(&["netns", "delete", &self.name]);
        }
    }
}

impl Side {
    fn new(namespace: Namespace, address: (Ipv4Addr, Ipv6Addr), mtu: usize) -> io::Result<Self> {
        let device = namespace.run(|| {
            let device = DeviceBuilder::new()
                .name(DEVICE)
                .offload(false)
                .build_sync();
            device.map_err(|error| {
                explained(
                    &error,
                    "cannot make a TUN device; run as root, with /dev/net/tun (modprobe tun)"
                        .into(),
                )
            })
        })?;
        device.set_nonblocking(true)?;
        let (mtu, queue) = (mtu.to_string(), DEVICE_QUEUE.to_string());
        namespace.ip(&[
            "link",
            "set",
            DEVICE,
            "mtu",
            &mtu,
            "txqueuelen",
            &queue,
            "up",
        ])?;
        let (v4, v6) = (format!("{}/24", address.0), format!("{}/64", address.1));
        namespace.ip(&["addr", "add", &v4, "dev", DEVICE])?;
        namespace.ip(&["addr", "add", &v6, "dev", DEVICE, "nodad"])?;
        Ok(Self { device, namespace })
    }
}

fn explained(error: &io::Error, said: String) -> io::Error {
    io::Error::new(error.kind(), format!("{said} ({error})"))
}

/// Runs `ip`; what it says is part of the error.
fn ip(words: &[&str]) -> io::Result<()> {
    // who is not root has no sbin in PATH, and is to hear that root is needed
    let places = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new("ip")
        .args(words)
        .env("PATH", places)
        .output()
        .map_err(|error| explained(&error, "cannot run `ip`; install iproute2".into()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let forbidden = ["Operation not permitted", "Permission denied"];
    let remedy = if forbidden.iter().any(|no| said.contains(no)) {
        "; run as root"
    } else if said.contains("Cannot open network namespace") {
        "; make it with `ip netns add`, or give --create"
    } else if said.contains("File exists") {
        "; choose another name, or remove it with `ip netns delete`"
    } else {
        ""
    };
    Err(io::Error::other(format!(
        "ip {}: {}{remedy}",
        words.join(" "),
        said.trim()
    )))
}
