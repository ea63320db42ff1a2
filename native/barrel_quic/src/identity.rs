//! Who a node is: an Ed25519 key pair, and the public keys of others.
//!
//! Not here: the files (`keydir`), and which keys are believed (`trust`).

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hkdf};
use zeroize::Zeroizing;

/// Length of a public key and of a secret seed in bytes.
pub const KEY_SIZE: usize = 32;

/// Length of a signature in bytes.
pub const SIGNATURE_SIZE: usize = 64;

/// Salt of every key derived from an identity: keeps them apart from whatever
/// else might be derived from the same seed.
const DERIVE_SALT: &[u8] = b"barrel_p2p derived key v1";

/// The public half of an identity: 32 bytes, as they came. Equal bytes are one
/// identity; whether they are a usable key says [`PublicKey::check`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; KEY_SIZE]);

/// The key pair of this node. The secret half leaves only by
/// [`Identity::secret_seed`], is wiped when dropped and never printed.
pub struct Identity {
    // Boxed so that a move copies a pointer and not the secret.
    key: Box<SigningKey>,
}

/// Why a public key cannot be an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// The bytes are no point of the curve, or not its one encoding.
    NotAPoint,
    /// A point of small order: signatures under it prove nothing.
    Weak,
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSignature {
    /// The key itself is refused.
    Key(BadKey),
    /// The key did not make this signature over this message.
    Wrong,
}

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandom;

impl Identity {
    /// A fresh identity.
    pub fn generate() -> Result<Self, NoRandom> {
        let mut seed = Zeroizing::new([0; KEY_SIZE]);
        SystemRandom::new()
            .fill(seed.as_mut_slice())
            .map_err(|_| NoRandom)?;
        Ok(Self::from_seed(&seed))
    }

    /// The identity of a secret seed. Every seed is one.
    pub fn from_seed(seed: &[u8; KEY_SIZE]) -> Self {
        Self {
            key: Box::new(SigningKey::from_bytes(seed)),
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// The secret half, for the one who writes it to its file.
    pub fn secret_seed(&self) -> Zeroizing<[u8; KEY_SIZE]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_SIZE] {
        self.key.sign(message).to_bytes()
    }

    /// A secret of its own for each `label`, the same after a restart: HKDF
    /// (RFC 5869) with SHA-256 from the secret seed.
    pub fn derive(&self, label: &[u8]) -> [u8; 32] {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, DERIVE_SALT);
        let mut derived = [0; 32];
        salt.extract(self.key.as_bytes())
            .expand(&[label], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut derived))
            .expect("HKDF gives up to 255 digests and one is asked");
        derived
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("public", &self.public())
            .finish_non_exhaustive()
    }
}

impl PublicKey {
    /// The SHA-256 digest of the key: its fingerprint as the published 0.1 API
    /// gives it, 32 bytes.
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        bytes
    }

    /// The printable fingerprint: that digest in 64 hexadecimal digits, what
    /// `sha256sum node.pub` prints too.
    pub fn fingerprint(&self) -> String {
        use fmt::Write;
        self.digest()
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                // Writing into a String cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
    }

    /// Whether the bytes can be an identity at all.
    pub fn check(&self) -> Result<(), BadKey> {
        self.verifying_key().map(|_| ())
    }

    fn verifying_key(&self) -> Result<VerifyingKey, BadKey> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| BadKey::NotAPoint)?;
        // The curve library also decodes a few points from a second, not
        // reduced encoding; one key must not have two byte strings.
        if key.to_edwards().compress().to_bytes() != self.0 {
            return Err(BadKey::NotAPoint);
        }
        if key.is_weak() {
            Err(BadKey::Weak)
        } else {
            Ok(key)
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

/// Checks a signature strictly: no malleable signature, no weak key.
pub fn verify(
    key: &PublicKey,
    message: &[u8],
    signature: &[u8; SIGNATURE_SIZE],
) -> Result<(), BadSignature> {
    key.verifying_key()
        .map_err(BadSignature::Key)?
        .verify_strict(message, &Signature::from_bytes(signature))
        .map_err(|_| BadSignature::Wrong)
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAPoint => "the bytes are not an Ed25519 public key",
            Self::Weak => "the Ed25519 public key has small order and proves nothing",
        })
    }
}

impl std::error::Error for BadKey {}

impl fmt::Display for BadSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(bad) => bad.fmt(f),
            Self::Wrong => f.write_str("the signature was not made by this key over this message"),
        }
    }
}

impl std::error::Error for BadSignature {}

impl fmt::Display for NoRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system gives no random bytes; check getrandom(2) and /dev/urandom")
    }
}

impl std::error::Error for NoRandom {}

/// Public keys of small order, the ones that a library without strict checks
/// accepts for any message: the identity, the point of order two and points
/// of order four and eight.
#[cfg(test)]
pub(crate) fn weak_keys() -> Vec<PublicKey> {
    let mut keys = Vec::new();
    let mut push = |hex: &str| {
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
        }
        keys.push(PublicKey(bytes));
    };
    push("0100000000000000000000000000000000000000000000000000000000000000");
    push("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    push("0000000000000000000000000000000000000000000000000000000000000000");
    push("0000000000000000000000000000000000000000000000000000000000000080");
    push("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
    push("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85");
    push("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");
    push("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa");
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 8032 section 7.1, test 1: the secret seed and its public key.
    const RFC_SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const RFC_PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn bytes(hex: &str) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
        }
        bytes
    }

    #[test]
    fn a_seed_gives_the_key_of_rfc_8032() {
        assert_eq!(
            Identity::from_seed(&bytes(RFC_SEED)).public(),
            PublicKey(bytes(RFC_PUBLIC))
        );
    }

    #[test]
    fn two_generated_identities_differ() {
        let (a, b) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(a.public(), b.public());
        assert_eq!(Identity::from_seed(&a.secret_seed()).public(), a.public());
    }

    #[test]
    fn a_signature_counts_for_its_key_and_message_alone() {
        let (a, b) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let signature = a.sign(b"message");
        assert_eq!(verify(&a.public(), b"message", &signature), Ok(()));
        assert_eq!(
            verify(&a.public(), b"massage", &signature),
            Err(BadSignature::Wrong)
        );
        assert_eq!(
            verify(&b.public(), b"message", &signature),
            Err(BadSignature::Wrong)
        );
    }

    #[test]
    fn a_malleable_signature_does_not_count() {
        // S + L verifies too unless S is demanded below the group order L.
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let a = Identity::from_seed(&[1; 32]);
        let mut signature = a.sign(b"message");
        let mut carry = 0;
        for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(
            verify(&a.public(), b"message", &signature),
            Err(BadSignature::Wrong)
        );
    }

    #[test]
    fn weak_keys_are_refused_whatever_the_signature() {
        // R = identity, S = 0 satisfies the equation for keys of small order.
        let mut forged = [0; 64];
        forged[0] = 1;
        for key in weak_keys() {
            assert_eq!(key.check(), Err(BadKey::Weak), "{key:?}");
            assert_eq!(
                verify(&key, b"any", &forged),
                Err(BadSignature::Key(BadKey::Weak)),
                "{key:?}"
            );
        }
    }

    #[test]
    fn a_second_encoding_of_a_point_is_refused() {
        // y = p + 1 is the identity again, y = p the point with y = 0.
        let mut second = [0xff; 32];
        (second[0], second[31]) = (0xee, 0x7f);
        assert_eq!(PublicKey(second).check(), Err(BadKey::NotAPoint));
        second[0] = 0xed;
        assert_eq!(PublicKey(second).check(), Err(BadKey::NotAPoint));
    }

    #[test]
    fn bytes_that_are_no_point_are_refused() {
        let mut bytes = [0; 32];
        bytes[0] = 2;
        assert_eq!(PublicKey(bytes).check(), Err(BadKey::NotAPoint));
    }

    #[test]
    fn derived_keys_are_stable_and_differ_by_label_and_identity() {
        let (a, b) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        assert_eq!(
            a.derive(b"reset"),
            Identity::from_seed(&[1; 32]).derive(b"reset")
        );
        assert_ne!(a.derive(b"reset"), a.derive(b"cid"));
        assert_ne!(a.derive(b"reset"), b.derive(b"reset"));
        assert_ne!(&a.derive(b"reset"), &*a.secret_seed());
    }

    #[test]
    fn the_fingerprint_is_the_sha256_of_the_key_in_hex() {
        // Computed with sha256sum over 32 zero bytes.
        let zeros = PublicKey([0; 32]);
        assert_eq!(
            zeros.fingerprint(),
            "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
        );
        assert_eq!(zeros.to_string(), zeros.fingerprint());
        assert_eq!(zeros.digest()[..2], [0x66, 0x68]);
    }

    #[test]
    fn the_secret_is_never_printed() {
        let identity = Identity::from_seed(&[0xab; 32]);
        let text = format!("{identity:?}");
        assert!(text.contains(&identity.public().fingerprint()));
        for secret in ["171", "ab, ab", "abab", "0xab"] {
            assert!(
                !text
                    .replace(&identity.public().fingerprint(), "")
                    .contains(secret),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_key_and_signature_is_judged_without_panic(key: [u8; 32], half: [u8; 32], other: [u8; 32]) {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&half);
            signature[32..].copy_from_slice(&other);
            prop_assert!(verify(&PublicKey(key), b"message", &signature).is_err());
        }
    }
}
