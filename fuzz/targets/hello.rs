//! The hello: any bytes, and any body under a right signature and proof.
#![no_main]

use barrel_quic::fuzzing;
use barrel_quic::hello::{
    Context, EXPORTER_SIZE, MAX_HELLO, Proven, Reject, Role, Secret, SignedHello,
};
use barrel_quic::identity::Identity;
use barrel_quic::name::{NodeName, PeerName};
use libfuzzer_sys::fuzz_target;

/// Where docs/wire.md puts the exporter and the key.
const EXPORTER_AT: usize = 26;
const KEY_AT: usize = EXPORTER_AT + EXPORTER_SIZE;
const BODY_MIN: usize = KEY_AT + 32;

/// Bytes of the signature and the proof.
const SEALS: usize = 64 + 32;

const EXPORTER: [u8; EXPORTER_SIZE] = [0x5a; EXPORTER_SIZE];

fuzz_target!(|bytes: &[u8]| {
    framed(bytes);
    bare(bytes);
    sealed(bytes);
});

/// The length before a hello bounds what is read and what is allocated.
fn framed(bytes: &[u8]) {
    let decoded = fuzzing::hello(bytes);
    assert!(decoded.widest <= MAX_HELLO);
    let Some(hello) = decoded.message else {
        return;
    };
    let again = [&(hello.len() as u16).to_be_bytes(), hello.as_slice()].concat();
    let (read, left) = bytes.split_at(bytes.len() - decoded.left);
    assert_eq!(read, again, "not the bytes that were sent");
    assert_eq!(left.len(), decoded.left);
    bare(&hello);
}

/// What is well-formed has one length, and names that are safe everywhere.
fn bare(bytes: &[u8]) {
    let Ok(claim) = SignedHello::decode(bytes) else {
        return;
    };
    assert!(bytes.len() <= MAX_HELLO);
    let (name, _) = claim.unproven();
    harmless(name);
    assert!(SignedHello::decode(&bytes[..bytes.len() - 1]).is_err());
    let longer = [bytes, &[0]].concat();
    assert_eq!(SignedHello::decode(&longer).err(), Some(Reject::Trailing));
    // Nobody signed this for a connection of ours.
    assert!(heard(bytes, Role::Dialler, &[0; EXPORTER_SIZE]).is_err());
}

/// A member of the cluster may say what it likes: whatever is accepted is
/// written in the one way that there is.
fn sealed(body: &[u8]) {
    if body.len() < BODY_MIN || body.len() + SEALS > MAX_HELLO {
        return;
    }
    let peer = Identity::from_seed(&[1; 32]);
    let mut bytes = body.to_vec();
    bytes[EXPORTER_AT..KEY_AT].copy_from_slice(&EXPORTER);
    bytes[KEY_AT..BODY_MIN].copy_from_slice(&peer.public().0);
    // Signing is dear: only what the grammar lets through.
    let unsigned = [bytes.as_slice(), &[0; SEALS]].concat();
    if SignedHello::decode(&unsigned).is_err() {
        return;
    }
    let role = if bytes[EXPORTER_AT - 1] == 1 {
        Role::Dialler
    } else {
        Role::Acceptor
    };
    bytes.extend_from_slice(&peer.sign(&bytes));
    bytes.extend_from_slice(&fuzzing::proof(&secret(), role, &EXPORTER, &bytes));
    match heard(&bytes, role, &EXPORTER) {
        Ok(proven) => {
            harmless(proven.name());
            assert_eq!(
                proven.hello().seal(&peer, &secret()),
                bytes,
                "two ways to write one hello"
            );
        }
        Err(reject) => assert!(
            matches!(reject, Reject::OwnName | Reject::NotMe),
            "{reject}"
        ),
    }
    assert_eq!(
        heard(&bytes, role.other(), &EXPORTER).err(),
        Some(Reject::Role)
    );
}

/// As node b@h hears it.
fn heard(bytes: &[u8], role: Role, exporter: &[u8; EXPORTER_SIZE]) -> Result<Proven, Reject> {
    let own_name = NodeName::parse("b@h").unwrap().into();
    let context = Context {
        expected_role: role,
        exporter,
        own_key: &Identity::from_seed(&[2; 32]).public(),
        own_name: &own_name,
    };
    SignedHello::decode(bytes)?
        .verify(&context)?
        .prove(&secret())
}

fn secret() -> Secret {
    Secret::new(*b"the secret of this cluster").unwrap()
}

/// No name leaves its directory, its line or its atom.
fn harmless(name: &PeerName) {
    let text = name.as_str();
    assert!((1..=255).contains(&text.len()));
    assert!(
        text.bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/')
    );
    assert!(text.bytes().any(|byte| byte != b'.'));
    assert!(!text.starts_with('.') || name.is_client());
    assert_eq!(PeerName::parse(name.is_client(), text).as_ref(), Ok(name));
}
