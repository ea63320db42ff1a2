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
    debug_assert!(claims.addresses.iter().all(|address| (1..=MAX_ADDRESS).contains(&address.len())));
    let mut out = Writer::default();
    out.raw(&claims.key).varint(claims.incarnation).varint(claims.seq);
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
