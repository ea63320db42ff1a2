// SPDX-License-Identifier: Apache-2.0

//! A signed record.
//!
//! ```text
//! label       "barrel_p2p node record 1\0", not sent, only signed
//! key         32 bytes, Ed25519
//! incarnation varint
//! seq         varint
//! ttl         seconds, varint, at least 1
//! versions    oldest u16, newest u16
//! name        length varint (1..=255) + bytes, UTF-8
//! addresses   count varint (at most 4), length varint (1..=260) + bytes each
//! signature   64 bytes over the label and all before
//! ```

use std::time::Duration;

use bytes::Bytes;

use super::reader::{Malformed, Read, Reader};
use super::writer::Writer;
use crate::keys::Signature;
use crate::record::{Claims, MAX_ADDRESS, MAX_ADDRESSES, MAX_NAME};

/// No other signature of the same key can be taken for a record's.
const LABEL: &[u8] = b"barrel_p2p node record 1\0";

/// The longest time to live: a week. A record is renewed long before; this only bounds
/// what a broken clock can write.
const MAX_TTL_SECONDS: u64 = 7 * 24 * 3600;

/// What is signed, the label first.
pub(super) fn signed_bytes(body: &[u8]) -> Vec<u8> {
    [LABEL, body].concat()
}

pub(super) fn write(claims: &Claims) -> Vec<u8> {
    debug_assert!(!claims.name.is_empty() && claims.name.len() <= MAX_NAME);
    debug_assert!(claims.addresses.len() <= MAX_ADDRESSES);
    debug_assert!(
        claims
            .addresses
            .iter()
            .all(|address| (1..=MAX_ADDRESS).contains(&address.len()))
    );
    let mut out = Writer::default();
    out.raw(&claims.key)
        .varint(claims.incarnation)
        .varint(claims.seq);
    out.varint(claims.ttl.as_secs().clamp(1, MAX_TTL_SECONDS));
    out.u16(claims.versions.0).u16(claims.versions.1);
    out.blob(claims.name.as_bytes());
    out.list(&claims.addresses, |out, address| {
        out.blob(address);
    });
    out.into_vec()
}

/// The claims and where the signed part ends.
pub(super) fn read(bytes: &Bytes) -> Read<(Claims, Signature)> {
    let signed = bytes.len().checked_sub(64).ok_or(Malformed)?;
    let mut from = Reader::new(bytes.slice(..signed));
    let claims = Claims {
        key: from.array()?,
        incarnation: from.varint()?,
        seq: from.varint()?,
        ttl: Duration::from_secs(match from.varint()? {
            seconds @ 1..=MAX_TTL_SECONDS => seconds,
            _ => return Err(Malformed),
        }),
        versions: (from.u16()?, from.u16()?),
        name: from.text(MAX_NAME)?.into(),
        addresses: from.list(MAX_ADDRESSES, |from| from.blob(MAX_ADDRESS))?,
    };
    from.end()?;
    let sound = !claims.name.is_empty()
        && claims.versions.0 <= claims.versions.1
        && claims.addresses.iter().all(|address| !address.is_empty());
    if !sound {
        return Err(Malformed);
    }
    let mut signature = [0; 64];
    signature.copy_from_slice(&bytes[signed..]);
    Ok((claims, signature))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::MAX_RECORD;
    use super::super::samples::*;
    use super::*;

    fn claims() -> impl Strategy<Value = Claims> {
        let address = vec(any::<u8>(), 1..=MAX_ADDRESS).prop_map(Bytes::from);
        let key = any::<[u8; 32]>();
        let numbers = (number(), number(), 1..=MAX_TTL_SECONDS, any::<(u16, u16)>());
        let name = "[a-z]{1,8}@[a-z.]{1,80}";
        (key, numbers, name, vec(address, 0..=MAX_ADDRESSES)).prop_map(
            |(key, numbers, name, addresses)| {
                let (incarnation, seq, ttl, (one, other)) = numbers;
                Claims {
                    key,
                    name: name.into(),
                    addresses,
                    incarnation,
                    seq,
                    ttl: Duration::from_secs(ttl),
                    versions: (one.min(other), one.max(other)),
                }
            },
        )
    }

    fn signed(claims: &Claims) -> Bytes {
        let mut bytes = write(claims);
        bytes.extend_from_slice(&[9; 64]);
        bytes.into()
    }

    fn largest() -> Claims {
        Claims {
            key: [0xff; 32],
            name: "n".repeat(MAX_NAME).into(),
            addresses: vec![Bytes::from(vec![b'h'; MAX_ADDRESS]); MAX_ADDRESSES],
            incarnation: u64::MAX,
            seq: u64::MAX,
            ttl: Duration::from_secs(MAX_TTL_SECONDS),
            versions: (u16::MAX, u16::MAX),
        }
    }

    #[test]
    fn the_largest_record_is_within_the_limit() {
        assert!(signed(&largest()).len() <= MAX_RECORD);
        assert_eq!(read(&signed(&largest())), Ok((largest(), [9; 64])));
    }

    #[test]
    fn what_no_node_says_of_itself_is_refused() {
        let nameless = Claims {
            name: "".into(),
            ..largest()
        };
        let backwards = Claims {
            versions: (2, 1),
            ..largest()
        };
        let nowhere = Claims {
            addresses: vec![Bytes::new()],
            ..largest()
        };
        for bad in [nameless, backwards, nowhere] {
            let mut out = Writer::default();
            out.raw(&bad.key)
                .varint(1)
                .varint(1)
                .varint(1)
                .u16(bad.versions.0)
                .u16(bad.versions.1);
            out.blob(bad.name.as_bytes())
                .list(&bad.addresses, |out, address| {
                    out.blob(address);
                });
            out.raw(&[9; 64]);
            assert_eq!(read(&out.finish()), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn what_is_signed_begins_with_the_label() {
        assert_eq!(signed_bytes(b"body"), b"barrel_p2p node record 1\0body");
    }

    proptest! {
        #[test]
        fn a_record_comes_back(claims in claims()) {
            let bytes = signed(&claims);
            prop_assert!(bytes.len() <= MAX_RECORD);
            comes_back_whole(&(claims, [9; 64]), &bytes, |bytes| read(&bytes));
        }

        #[test]
        fn any_bytes_are_a_record_or_none(bytes in vec(any::<u8>(), 0..400)) {
            if let Ok((claims, signature)) = read(&bytes.clone().into()) {
                prop_assert_eq!([&write(&claims)[..], &signature].concat(), bytes);
            }
        }
    }
}
