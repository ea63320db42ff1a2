//! Key pairs: the functions on Ed25519 keys and their directory.

use barrel_quic::identity::Identity;
use barrel_quic::keydir::{self, KeyDirError};
use rustler::{Binary, Encoder, Env, Error, NifResult, Term};

use crate::endpoint::path;
use crate::signal::{self, atoms, failure, text};
use crate::trust::public_key;

fn failed<'a>(env: Env<'a>, error: &KeyDirError) -> Term<'a> {
    failure(env, error.code(), &error.to_string())
}

#[rustler::nif]
fn generate_keypair<'a>(env: Env<'a>) -> NifResult<Term<'a>> {
    let identity = Identity::generate().map_err(|_| Error::RaiseAtom("no_random"))?;
    let seed = identity.secret_seed();
    Ok((
        signal::binary(env, &identity.public().0),
        signal::binary(env, seed.as_slice()),
    )
        .encode(env))
}

#[rustler::nif(schedule = "DirtyIo")]
fn load_keypair<'a>(env: Env<'a>, dir: Term<'a>) -> NifResult<Term<'a>> {
    Ok(match keydir::load(&path(dir)?) {
        Ok(identity) => {
            let seed = identity.secret_seed();
            let public = signal::binary(env, &identity.public().0);
            (atoms::ok(), public, signal::binary(env, seed.as_slice())).encode(env)
        }
        Err(error) => failed(env, &error),
    })
}

#[rustler::nif(schedule = "DirtyIo")]
fn save_keypair<'a>(
    env: Env<'a>,
    dir: Term<'a>,
    public: Binary<'a>,
    secret: Binary<'a>,
) -> NifResult<Term<'a>> {
    let public = public_key(&public)?;
    let seed: &[u8; 32] = secret.as_slice().try_into().map_err(|_| Error::BadArg)?;
    let identity = Identity::from_seed(seed);
    if identity.public() != public {
        return Ok(failure(
            env,
            "key_mismatch",
            "the public key is not that of the secret key",
        ));
    }
    Ok(match keydir::save(&path(dir)?, &identity) {
        Ok(()) => atoms::ok().encode(env),
        Err(error) => failed(env, &error),
    })
}

#[rustler::nif(schedule = "DirtyIo")]
fn ensure_keypair<'a>(env: Env<'a>, dir: Term<'a>) -> NifResult<Term<'a>> {
    Ok(match keydir::load_or_generate(&path(dir)?) {
        Ok(identity) => (atoms::ok(), signal::binary(env, &identity.public().0)).encode(env),
        Err(error) => failed(env, &error),
    })
}

#[rustler::nif]
fn fingerprint<'a>(env: Env<'a>, key: Binary<'a>) -> NifResult<Term<'a>> {
    Ok(text(env, &public_key(&key)?.fingerprint()))
}
