//! Endpoint files: the functions `lease_*`.

use barrel_quic::lease::{self, Lease, LeaseError};
use barrel_quic::name::NodeName;
use parking_lot::Mutex;
use rustler::{Atom, Binary, Encoder, Env, Error, NifResult, Resource, ResourceArc, Term};

use crate::endpoint::path;
use crate::signal::{atoms, failure, text};

/// Handle of a published endpoint file.
pub(crate) struct LeaseHandle {
    /// Guards the lease until it is released.
    lease: Mutex<Option<Lease>>,
}

#[rustler::resource_impl]
impl Resource for LeaseHandle {}

fn failed<'a>(env: Env<'a>, error: &LeaseError) -> Term<'a> {
    match error {
        LeaseError::DuplicateName { .. } => (atoms::error(), atoms::duplicate_name()).encode(env),
        LeaseError::NotFound => (atoms::error(), atoms::not_found()).encode(env),
        LeaseError::Stale { .. } => (atoms::error(), atoms::stale()).encode(env),
        other => failure(env, other.code(), &other.to_string()),
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn lease_publish<'a>(
    env: Env<'a>,
    dir: Term<'a>,
    name: Binary<'a>,
    host: Binary<'a>,
    port: u16,
) -> NifResult<Term<'a>> {
    let name = NodeName::parse(name.as_slice()).map_err(|_| Error::BadArg)?;
    let host = std::str::from_utf8(host.as_slice()).map_err(|_| Error::BadArg)?;
    Ok(match lease::publish(&path(dir)?, &name, host, port) {
        Ok(lease) => (
            atoms::ok(),
            ResourceArc::new(LeaseHandle {
                lease: Mutex::new(Some(lease)),
            }),
        )
            .encode(env),
        Err(error) => failed(env, &error),
    })
}

#[rustler::nif(schedule = "DirtyIo")]
fn lease_release(lease: ResourceArc<LeaseHandle>) -> Atom {
    let held = lease.lease.lock().take();
    if let Some(held) = held {
        held.release();
    }
    atoms::ok()
}

#[rustler::nif(schedule = "DirtyIo")]
fn lease_lookup<'a>(env: Env<'a>, dir: Term<'a>, name: Binary<'a>) -> NifResult<Term<'a>> {
    let Ok(name) = NodeName::parse(name.as_slice()) else {
        return Ok((atoms::error(), atoms::not_found()).encode(env));
    };
    Ok(match lease::lookup(&path(dir)?, &name) {
        Ok((host, port)) => (atoms::ok(), text(env, &host), port).encode(env),
        Err(error) => failed(env, &error),
    })
}

#[rustler::nif(schedule = "DirtyIo")]
fn lease_list<'a>(env: Env<'a>, dir: Term<'a>) -> NifResult<Term<'a>> {
    Ok(match lease::list(&path(dir)?) {
        Ok(living) => {
            let living: Vec<Term<'a>> = living
                .iter()
                .map(|one| {
                    (text(env, one.name.as_str()), text(env, &one.host), one.port).encode(env)
                })
                .collect();
            (atoms::ok(), living).encode(env)
        }
        Err(error) => failed(env, &error),
    })
}
