//! The trust store: the functions `trust_*`.

use std::sync::Arc;

use barrel_quic::identity::PublicKey;
use barrel_quic::name::{NodeName, PeerName};
use barrel_quic::trust::{Mode, PinError, TrustStore};
use rustler::{Atom, Binary, Encoder, Env, Error, NifResult, Resource, ResourceArc, Term};

use crate::endpoint::directory;
use crate::signal::{self, atoms, failure, text};

/// Handle of a trust store.
pub(crate) struct TrustHandle(Arc<TrustStore>);

#[rustler::resource_impl]
impl Resource for TrustHandle {}

impl TrustHandle {
    pub(crate) fn store(&self) -> &Arc<TrustStore> {
        &self.0
    }
}

fn mode(atom: Atom) -> NifResult<Mode> {
    [
        (atoms::tofu(), Mode::Tofu),
        (atoms::strict(), Mode::Strict),
        (atoms::off(), Mode::Off),
    ]
    .into_iter()
    .find(|(name, _)| *name == atom)
    .map(|(_, mode)| mode)
    .ok_or(Error::BadArg)
}

/// A public key from its 32 bytes.
pub(crate) fn public_key(binary: &Binary<'_>) -> NifResult<PublicKey> {
    binary
        .as_slice()
        .try_into()
        .map(PublicKey)
        .map_err(|_| Error::BadArg)
}

#[rustler::nif(schedule = "DirtyIo")]
fn trust_open<'a>(
    env: Env<'a>,
    dir: Term<'a>,
    mode_atom: Atom,
    max_pins: usize,
) -> NifResult<Term<'a>> {
    let dir = directory(dir)?;
    Ok(
        match TrustStore::shared(dir.as_deref(), mode(mode_atom)?, max_pins) {
            Ok(store) => (atoms::ok(), ResourceArc::new(TrustHandle(store))).encode(env),
            Err(fault) => failure(env, fault.code(), &fault.to_string()),
        },
    )
}

#[rustler::nif]
fn trust_set_mode(trust: ResourceArc<TrustHandle>, mode_atom: Atom) -> NifResult<Atom> {
    trust.0.set_mode(mode(mode_atom)?);
    Ok(atoms::ok())
}

#[rustler::nif]
fn trust_mode(trust: ResourceArc<TrustHandle>) -> Atom {
    match trust.0.mode() {
        Mode::Tofu => atoms::tofu(),
        Mode::Strict => atoms::strict(),
        Mode::Off => atoms::off(),
    }
}

/// A name that cannot be one has no key.
fn bad_name<'a>(env: Env<'a>, name: &Binary<'a>) -> Result<NodeName, Term<'a>> {
    NodeName::parse(name.as_slice()).map_err(|error| failure(env, "bad_name", &error.to_string()))
}

#[rustler::nif(schedule = "DirtyIo")]
fn trust_lookup<'a>(env: Env<'a>, trust: ResourceArc<TrustHandle>, name: Binary<'a>) -> Term<'a> {
    let node = match bad_name(env, &name) {
        Ok(node) => node,
        Err(error) => return error,
    };
    match trust.0.lookup(&node) {
        Ok(Some(key)) => (atoms::ok(), signal::binary(env, &key.0)).encode(env),
        Ok(None) => (atoms::error(), atoms::not_found()).encode(env),
        Err(fault) => failure(env, fault.code(), &fault.to_string()),
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn trust_store<'a>(
    env: Env<'a>,
    trust: ResourceArc<TrustHandle>,
    name: Binary<'a>,
    key: Binary<'a>,
    how: Atom,
) -> NifResult<Term<'a>> {
    let key = public_key(&key)?;
    let node = match bad_name(env, &name) {
        Ok(node) => node,
        Err(error) => return Ok(error),
    };
    let stored = if how == atoms::new() {
        trust.0.pin(&node, &key)
    } else if how == atoms::replace() {
        trust.0.replace(&node, &key)
    } else {
        return Err(Error::BadArg);
    };
    Ok(match stored {
        Ok(()) => atoms::ok().encode(env),
        Err(PinError::Storage(fault)) => failure(env, fault.code(), &fault.to_string()),
        Err(error) => (atoms::error(), signal::atom(env, error.code())).encode(env),
    })
}

#[rustler::nif(schedule = "DirtyIo")]
fn trust_delete<'a>(env: Env<'a>, trust: ResourceArc<TrustHandle>, name: Binary<'a>) -> Term<'a> {
    let node = match bad_name(env, &name) {
        Ok(node) => node,
        Err(error) => return error,
    };
    match trust.0.delete(&node) {
        Ok(()) => atoms::ok().encode(env),
        Err(fault) => failure(env, fault.code(), &fault.to_string()),
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn trust_check(
    trust: ResourceArc<TrustHandle>,
    name: Binary<'_>,
    key: Binary<'_>,
) -> NifResult<bool> {
    let key = public_key(&key)?;
    let Ok(node) = NodeName::parse(name.as_slice()) else {
        return Ok(false);
    };
    Ok(trust.0.judge(&PeerName::Member(node), &key).is_ok())
}

#[rustler::nif(schedule = "DirtyIo")]
fn trust_list<'a>(env: Env<'a>, trust: ResourceArc<TrustHandle>) -> Term<'a> {
    let listing = match trust.0.list() {
        Ok(listing) => listing,
        Err(fault) => return failure(env, fault.code(), &fault.to_string()),
    };
    for skipped in &listing.skipped {
        tracing::warn!(file = %skipped.path.display(), cause = %skipped.why, "a file in the trust store is no key");
    }
    let keys: Vec<Term<'a>> = listing
        .trusted
        .iter()
        .map(|trusted| {
            signal::map(
                env,
                &[
                    (atoms::name(), text(env, &trusted.name)),
                    (atoms::client(), trusted.client.encode(env)),
                    (atoms::key(), signal::binary(env, &trusted.key.0)),
                    (atoms::fingerprint(), text(env, &trusted.key.fingerprint())),
                    (atoms::added_at(), trusted.added_at_secs.encode(env)),
                ],
            )
        })
        .collect();
    (atoms::ok(), keys).encode(env)
}
