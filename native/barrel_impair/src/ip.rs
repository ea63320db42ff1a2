//! What must be known of IP packets: addresses that change, and answers to
//! packets that are too large. Pure.
//!
//! Checksums are mended, not computed anew (RFC 1624), so a packet that was spoiled
//! stays spoiled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// Bytes of a refused packet that the answer repeats: with its own headers an answer may have
/// 576 bytes in IPv4, and 1280 in IPv6 (RFC 1812, RFC 4443).
const REPEATED_V4: usize = 548;
const REPEATED_V6: usize = 1232;

/// Which address of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Whom it is from.
    Source,
    /// Whom it is for.
    Destination,
}

/// The address of a packet; `None` when it is no IP packet.
pub fn address(packet: &[u8], end: End) -> Option<IpAddr> {
    let place = place(packet, end)?;
    let bytes = packet.get(place..)?;
    match packet[0] >> 4 {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        _ => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
    }
}

fn place(packet: &[u8], end: End) -> Option<usize> {
    let (header, source, length) = match packet.first()? >> 4 {
        4 => (V4_HEADER, 12, 4),
        6 => (V6_HEADER, 8, 16),
        _ => return None,
    };
    (packet.len() >= header).then_some(match end {
        End::Source => source,
        End::Destination => source + length,
    })
}

/// Puts another address of the same version into a packet and mends the checksums that cover
/// it. An ICMP error repeats a packet that came from where the error goes to; when
/// that destination changes, the repeated source changes with it. Answers
/// whether the packet could be changed.
pub fn readdress(packet: &mut [u8], end: End, to: IpAddr) -> bool {
    let Some(from) = address(packet, end) else {
        return false;
    };
    if from.is_ipv4() != to.is_ipv4() {
        return false;
    }
    let (old, new) = (octets(from), octets(to));
    if end == End::Destination {
        readdress_repeated(packet, from, to);
    }
    let Some(place) = place(packet, end) else {
        return false;
    };
    packet[place..place + new.len()].copy_from_slice(&new);
    if to.is_ipv4() {
        mend(packet, 10, &old, &new);
    }
    if let Some(place) = transport_checksum(packet) {
        mend(packet, place, &old, &new);
    }
    true
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Where what IP carries begins, and which protocol it is. `None` for later fragments
/// and for IPv6 with extension headers.
fn transport(packet: &[u8]) -> Option<(usize, u8)> {
    match packet[0] >> 4 {
        4 => {
            let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff;
            (fragment == 0).then_some((usize::from(packet[0] & 15) * 4, packet[9]))
        }
        _ => Some((V6_HEADER, packet[6])),
    }
}

/// The checksum that covers the addresses by way of the pseudo header.
fn transport_checksum(packet: &[u8]) -> Option<usize> {
    let (start, protocol) = transport(packet)?;
    let place = match (protocol, packet[0] >> 4) {
        (TCP, _) => start + 16,
        (UDP, _) => start + 6,
        (ICMPV6, 6) => start + 2,
        _ => return None,
    };
    let present = packet.get(place..place + 2)?;
    // UDP without a checksum
    (protocol != UDP || present != [0, 0]).then_some(place)
}

fn readdress_repeated(packet: &mut [u8], from: IpAddr, to: IpAddr) {
    let Some((start, protocol)) = transport(packet) else {
        return;
    };
    let error = match (protocol, packet.get(start)) {
        (ICMP, Some(kind)) => matches!(kind, 3 | 11 | 12),
        (ICMPV6, Some(kind)) => matches!(kind, 1..=4),
        _ => false,
    };
    let inner = start + 8;
    if !error || packet.get(inner..).and_then(|p| address(p, End::Source)) != Some(from) {
        return;
    }
    let (old, new) = (octets(from), octets(to));
    let Some(place) = place(&packet[inner..], End::Source).map(|place| inner + place) else {
        return;
    };
    packet[place..place + new.len()].copy_from_slice(&new);
    mend(packet, start + 2, &old, &new);
}

/// Mends the checksum at `place` after `old` became `new`.
fn mend(packet: &mut [u8], place: usize, old: &[u8], new: &[u8]) {
    let words = |bytes: &[u8]| -> Vec<u16> {
        bytes
            .chunks(2)
            .map(|c| u16::from_be_bytes([c[0], c[1]]))
            .collect()
    };
    let before = !u16::from_be_bytes([packet[place], packet[place + 1]]);
    let out = words(old).into_iter().map(|word| u32::from(!word));
    let sum =
        u32::from(before) + out.sum::<u32>() + words(new).into_iter().map(u32::from).sum::<u32>();
    packet[place..place + 2].copy_from_slice(&(!fold(sum)).to_be_bytes());
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 2] {
    let words = parts.into_iter().flat_map(|part| part.chunks(2));
    let sum = words
        .map(|c| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)])))
        .sum();
    (!fold(sum)).to_be_bytes()
}

/// What a router says to the sender of a packet that is larger than `mtu`. IPv4 packets that may
/// be fragmented get no answer; they are not fragmented either.
pub fn too_large(packet: &[u8], mtu: usize, router: (Ipv4Addr, Ipv6Addr)) -> Option<Vec<u8>> {
    match address(packet, End::Source)? {
        IpAddr::V4(sender) => {
            let dont_fragment = packet[6] & 0x40 != 0;
            dont_fragment.then(|| too_large_v4(packet, sender, mtu, router.0))
        }
        IpAddr::V6(sender) => Some(too_large_v6(packet, sender, mtu, router.1)),
    }
}

/// Destination unreachable, fragmentation needed (RFC 1191).
fn too_large_v4(packet: &[u8], sender: Ipv4Addr, mtu: usize, router: Ipv4Addr) -> Vec<u8> {
    let repeated = &packet[..packet.len().min(REPEATED_V4)];
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend(u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes());
    icmp.extend(repeated);
    let sum = checksum([icmp.as_slice()]);
    icmp[2..4].copy_from_slice(&sum);
    let length = (V4_HEADER + icmp.len()) as u16;
    let mut answer = vec![0x45, 0];
    answer.extend(length.to_be_bytes());
    answer.extend([0, 0, 0, 0, 64, ICMP, 0, 0]);
    answer.extend(router.octets());
    answer.extend(sender.octets());
    let sum = checksum([answer.as_slice()]);
    answer[10..12].copy_from_slice(&sum);
    answer.extend(icmp);
    answer
}

/// Packet too big (RFC 4443).
fn too_large_v6(packet: &[u8], sender: Ipv6Addr, mtu: usize, router: Ipv6Addr) -> Vec<u8> {
    let repeated = &packet[..packet.len().min(REPEATED_V6)];
    let mut icmp = vec![2, 0, 0, 0];
    icmp.extend((mtu as u32).to_be_bytes());
    icmp.extend(repeated);
    let length = icmp.len() as u16;
    let pseudo = [
        0,
        0,
        length.to_be_bytes()[0],
        length.to_be_bytes()[1],
        0,
        0,
        0,
        ICMPV6,
    ];
    let parts: [&[u8]; 4] = [&router.octets(), &sender.octets(), &pseudo, &icmp];
    let sum = checksum(parts);
    icmp[2..4].copy_from_slice(&sum);
    let mut answer = vec![0x60, 0, 0, 0];
    answer.extend(length.to_be_bytes());
    answer.extend([ICMPV6, 64]);
    answer.extend(router.octets());
    answer.extend(sender.octets());
    answer.extend(icmp);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: [IpAddr; 3] = [
        IpAddr::V4(Ipv4Addr::new(10, 91, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(10, 91, 0, 2)),
        IpAddr::V4(Ipv4Addr::new(10, 91, 0, 101)),
    ];
    const V6: [IpAddr; 3] = [
        IpAddr::V6(Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0, 2)),
        IpAddr::V6(Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 1, 1)),
    ];

    /// A packet with right checksums.
    fn packet(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = match from {
            IpAddr::V4(_) => {
                let length = ((V4_HEADER + body.len()) as u16).to_be_bytes();
                vec![
                    0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0,
                ]
            }
            IpAddr::V6(_) => {
                let length = (body.len() as u16).to_be_bytes();
                vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64]
            }
        };
        packet.extend(octets(from));
        packet.extend(octets(to));
        packet.extend(body);
        if from.is_ipv4() {
            let sum = checksum([&packet[..V4_HEADER]]);
            packet[10..12].copy_from_slice(&sum);
        }
        if let Some(place) = checksum_place(&packet) {
            packet[place..place + 2].fill(0);
            let sum = sum_of_transport(&packet);
            packet[place..place + 2].copy_from_slice(&sum);
        }
        packet
    }

    fn checksum_place(packet: &[u8]) -> Option<usize> {
        let (start, protocol) = transport(packet).unwrap();
        match protocol {
            TCP => Some(start + 16),
            UDP => Some(start + 6),
            ICMP | ICMPV6 => Some(start + 2),
            _ => None,
        }
    }

    /// Over all of it: zero when a checksum in it is right.
    fn sum_of_transport(packet: &[u8]) -> [u8; 2] {
        let (start, protocol) = transport(packet).unwrap();
        let body = &packet[start..];
        if protocol == ICMP {
            return checksum([body]);
        }
        let (source, destination) = (
            address(packet, End::Source).unwrap(),
            address(packet, End::Destination).unwrap(),
        );
        let pseudo = [[0, protocol], (body.len() as u16).to_be_bytes()].concat();
        checksum([
            &octets(source)[..],
            &octets(destination)[..],
            &pseudo[..],
            body,
        ])
    }

    fn is_right(packet: &[u8]) -> bool {
        let header = packet[0] >> 4 == 6 || checksum([&packet[..V4_HEADER]]) == [0, 0];
        header && (checksum_place(packet).is_none() || sum_of_transport(packet) == [0, 0])
    }

    proptest! {
        #[test]
        fn another_address_keeps_every_checksum_right(
            v6: bool, source: bool, protocol in prop::sample::select(vec![TCP, UDP, ICMP, ICMPV6, 99]),
            body in prop::collection::vec(any::<u8>(), 32..200),
        ) {
            let all = if v6 { V6 } else { V4 };
            // each belongs to one version
            prop_assume!(!(v6 && protocol == ICMP || !v6 && protocol == ICMPV6));
            let mut changed = packet(all[0], all[1], protocol, &body);
            prop_assert!(is_right(&changed));
            let end = if source { End::Source } else { End::Destination };
            prop_assert!(readdress(&mut changed, end, all[2]));
            prop_assert_eq!(address(&changed, end), Some(all[2]));
            prop_assert!(is_right(&changed));
        }

        #[test]
        fn garbage_is_left_alone_or_changed_but_never_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..100), v6: bool, source: bool,
        ) {
            let all = if v6 { V6 } else { V4 };
            let end = if source { End::Source } else { End::Destination };
            let _ = readdress(&mut bytes, end, all[2]);
            let _ = too_large(&bytes, 1400, router());
        }
    }

    fn router() -> (Ipv4Addr, Ipv6Addr) {
        (
            Ipv4Addr::new(10, 91, 0, 254),
            Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0, 0xfe),
        )
    }

    #[test]
    fn a_packet_that_is_too_large_is_answered_with_the_size_that_fits() {
        for (all, kind, place) in [(V4, [3, 4], 20), (V6, [2, 0], 40)] {
            let refused = packet(all[0], all[1], UDP, &[7; 3000]);
            let answer = too_large(&refused, 1400, router()).unwrap();
            assert!(is_right(&answer));
            assert_eq!(address(&answer, End::Destination), Some(all[0]));
            assert_eq!(answer[place..place + 2], kind);
            assert_eq!(answer[place + 6..place + 8], 1400u16.to_be_bytes());
            assert_eq!(answer[place + 8..], refused[..answer.len() - place - 8]);
        }
    }

    #[test]
    fn who_allows_fragments_gets_no_answer() {
        let mut refused = packet(V4[0], V4[1], UDP, &[7; 3000]);
        refused[6] = 0;
        assert_eq!(too_large(&refused, 1400, router()), None);
    }

    #[test]
    fn an_error_about_a_readdressed_packet_reaches_its_sender_with_the_address_it_knows() {
        for (all, place) in [(V4, 28), (V6, 48)] {
            let refused = packet(all[2], all[1], UDP, &[7; 3000]);
            let mut answer = too_large(&refused, 1400, router()).unwrap();
            assert!(readdress(&mut answer, End::Destination, all[0]));
            assert!(is_right(&answer));
            assert_eq!(address(&answer[place..], End::Source), Some(all[0]));
        }
    }

    #[test]
    fn udp_without_a_checksum_stays_without_one() {
        let mut changed = packet(V4[0], V4[1], UDP, &[0; 16]);
        changed[26..28].fill(0);
        assert!(readdress(&mut changed, End::Source, V4[2]));
        assert_eq!(changed[26..28], [0, 0]);
    }
}
