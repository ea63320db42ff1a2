//! Whether a port is closed: a dial to a node that is not running ends at once.
//!
//! TCP answers a connection to a closed port with a reset. UDP answers with an
//! ICMP message, which the kernel reports on a *connected* socket only, and the
//! socket of the endpoint is connected to nobody. So each dial sends one byte
//! from a socket of its own and listens for the refusal. QUIC drops the byte: it
//! is too short for a packet.
//!
//! ICMP is not authenticated. A forged refusal, which must guess the port of the
//! probe, fails one dial to one address; it cannot touch a link.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::sleep;

/// The second probe, for a network that lost the first.
const AGAIN: Duration = Duration::from_millis(300);

/// Ends when the host of `address` says that its port is closed; never ends
/// otherwise.
pub(crate) async fn refused(address: SocketAddr) {
    match probe(address).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        // No socket, no route, a firewall that is silent: the dial will tell.
        _ => std::future::pending().await,
    }
}

async fn probe(address: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    socket.send(&[0]).await?;
    let mut answer = [0; 1];
    loop {
        tokio::select! {
            heard = socket.recv(&mut answer) => { heard?; }
            () = sleep(AGAIN) => {
                socket.send(&[0]).await?;
                break;
            }
        }
    }
    loop {
        socket.recv(&mut answer).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_noticed() {
        let address = {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.local_addr().unwrap()
        };
        tokio::time::timeout(Duration::from_secs(5), refused(address))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn an_open_port_is_not() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut heard = [0; 8];
        tokio::select! {
            () = refused(address) => panic!("an open port was called closed"),
            len = socket.recv(&mut heard) => assert_eq!(len.unwrap(), 1),
        }
    }
}
