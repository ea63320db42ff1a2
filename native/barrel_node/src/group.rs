// SPDX-License-Identifier: Apache-2.0

//! Who shares what it may force upon us.
//!
//! Keys are free: who has one machine can have a thousand of them. Public addresses are
//! not, so peers whose address has the same prefix count as one where the overlay bounds
//! forced evictions: 24 bits of IPv4, the smallest block that is routed, and 48 of IPv6,
//! what one customer gets. Private addresses and names say nothing about who owns them;
//! there each peer counts for itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

/// The group of a node, from its first address.
pub(crate) fn group_of(addresses: &[Bytes]) -> Option<u64> {
    let text = std::str::from_utf8(addresses.first()?).ok()?;
    let (host, _port) = text.rsplit_once(':')?;
    match host.trim_matches(['[', ']']).parse().ok()? {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or_else(|| v6(address), v4),
    }
}

fn v4(address: Ipv4Addr) -> Option<u64> {
    let private = address.is_private() || address.is_loopback() || address.is_link_local();
    (!private).then(|| u64::from(u32::from(address) >> 8))
}

fn v6(address: Ipv6Addr) -> Option<u64> {
    let private =
        address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local();
    (!private).then(|| 1 << 48 | (u128::from(address) >> 80) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(address: &'static str) -> Option<u64> {
        group_of(&[Bytes::from_static(address.as_bytes())])
    }

    #[test]
    fn neighbours_on_the_internet_are_one_group() {
        assert!(group("203.0.113.7:9100").is_some());
        assert_eq!(group("203.0.113.7:9100"), group("203.0.113.200:1"));
        assert_ne!(group("203.0.113.7:9100"), group("203.0.114.7:9100"));
        assert_eq!(
            group("[2001:db8:1::5]:9100"),
            group("[2001:db8:1:ffff::6]:9100")
        );
        assert_ne!(group("[2001:db8:1::5]:9100"), group("[2001:db8:2::5]:9100"));
        assert_eq!(
            group("[::ffff:203.0.113.7]:9100"),
            group("203.0.113.1:9100")
        );
    }

    #[test]
    fn what_says_nothing_about_its_owner_is_no_group() {
        for address in [
            "127.0.0.1:9100",
            "10.1.2.3:9100",
            "[fe80::1]:9100",
            "[fd00::1]:1",
            "host:9100",
            "9100",
            "",
        ] {
            assert_eq!(group(address), None, "{address}");
        }
        assert_eq!(group_of(&[]), None);
    }
}
