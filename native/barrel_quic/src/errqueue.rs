//! ICMP errors about datagrams that were sent, from the error queue of a socket.
//!
//! A host answers a datagram for a closed port with *port unreachable*. Linux
//! hands such an answer to a socket that asked for it (`IP_RECVERR`, ip(7)): it
//! queues a report, and fails the next call on the socket, whichever peer that
//! one is for. So whoever asks must empty the queue and repeat a send that
//! failed. Elsewhere nothing is asked for and nothing is ever reported.

use std::io;
use std::net::SocketAddr;

use crate::quotes::QUOTE;

/// One report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The host at that address said that its port is closed, about a datagram
    /// that began so. ICMP is not authenticated: anybody may have said it.
    PortClosed(SocketAddr, [u8; QUOTE]),
    /// Something else, such as a datagram too large for the path, or a report that
    /// does not quote enough.
    Other,
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{ask, next};
#[cfg(not(target_os = "linux"))]
pub(crate) use nowhere::{ask, next};

#[cfg(target_os = "linux")]
mod linux {
    use super::{QUOTE, Report, SocketAddr, io};
    use std::io::IoSliceMut;
    use std::net::{SocketAddrV4, SocketAddrV6};
    use std::os::fd::{AsFd, AsRawFd};

    use nix::libc::{
        SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, c_int, in_pktinfo, in6_pktinfo, sock_extended_err,
        sockaddr_in6,
    };
    use nix::sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage, recvmsg, setsockopt, sockopt,
    };

    /// Type and code of *port unreachable*: RFC 792, and RFC 4443 section 3.1.
    const ICMP: (u8, u8, u8) = (SO_EE_ORIGIN_ICMP, 3, 3);
    const ICMP6: (u8, u8, u8) = (SO_EE_ORIGIN_ICMP6, 1, 4);

    /// Has the errors of a bound socket reported.
    ///
    /// # Errors
    /// The system refuses; then there are no reports, and no other harm.
    pub(crate) fn ask(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
        // A dual-stack socket sends over IPv4 too.
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        if address.is_ipv6() {
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
        }
        Ok(())
    }

    /// Takes the oldest report.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub(crate) fn next(socket: &impl AsRawFd) -> io::Result<Report> {
        // With the report comes what the socket wants to know of all that arrives,
        // of either IP version: destination and type of service.
        let mut control = nix::cmsg_space!(
            (sock_extended_err, sockaddr_in6),
            (in6_pktinfo, in_pktinfo),
            [c_int; 4],
            [c_int; 4]
        );
        let mut quote = [0; QUOTE];
        let mut datagram = [IoSliceMut::new(&mut quote)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut datagram,
            Some(&mut control),
            MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
        )?;
        let closed = message.cmsgs()?.any(|one| match one {
            ControlMessageOwned::Ipv4RecvErr(error, _)
            | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                [ICMP, ICMP6].contains(&(error.ee_origin, error.ee_type, error.ee_code))
            }
            _ => false,
        });
        let quoted = message.bytes == QUOTE;
        // Of such a report the address is where the datagram was sent.
        Ok(match message.address.as_ref().and_then(address) {
            Some(address) if closed && quoted => Report::PortClosed(address, quote),
            _ => Report::Other,
        })
    }

    fn address(raw: &SockaddrStorage) -> Option<SocketAddr> {
        raw.family()?;
        let v4 = raw.as_sockaddr_in().map(|a| SocketAddrV4::from(*a).into());
        v4.or_else(|| raw.as_sockaddr_in6().map(|a| SocketAddrV6::from(*a).into()))
    }
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use super::{Report, SocketAddr, io};

    pub(crate) fn ask<S>(_socket: &S, _address: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn next<S>(_socket: &S) -> io::Result<Report> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    const DATAGRAM: &[u8; 30] = b"is anybody there who hears me?";

    /// The report about one datagram that nobody is there to receive.
    fn report(from: &str, to: &str) -> (SocketAddr, Report) {
        let socket = UdpSocket::bind(from).unwrap();
        ask(&socket, socket.local_addr().unwrap()).unwrap();
        let closed = UdpSocket::bind(to).unwrap().local_addr().unwrap();
        socket.send_to(DATAGRAM, closed).unwrap();
        // Loopback answers within the call.
        let report = next(&socket).unwrap();
        let left = next(&socket).unwrap_err();
        assert_eq!(left.kind(), io::ErrorKind::WouldBlock);
        // The queue is empty, so no error is left for the next call either.
        socket
            .send_to(b"to myself", socket.local_addr().unwrap())
            .unwrap();
        (closed, report)
    }

    fn port_closed(address: SocketAddr) -> Report {
        Report::PortClosed(address, *DATAGRAM.first_chunk().unwrap())
    }

    #[test]
    fn a_closed_port_is_reported_with_the_address_sent_to() {
        let (closed, report) = report("127.0.0.1:0", "127.0.0.1:0");
        assert_eq!(report, port_closed(closed));
    }

    #[test]
    fn a_closed_port_over_ipv6_is_reported_too() {
        if UdpSocket::bind("[::1]:0").is_err() {
            return; // no IPv6 on this host
        }
        let (closed, report) = report("[::1]:0", "[::1]:0");
        assert_eq!(report, port_closed(closed));
    }

    #[test]
    fn a_datagram_too_large_for_the_interface_is_no_closed_port() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        ask(&socket, socket.local_addr().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        assert!(socket.send_to(&[0; 65_600], own).is_err());
        while let Ok(report) = next(&socket) {
            assert_eq!(report, Report::Other);
        }
    }
}
