//! The library itself: loading, and what it is.

use rustler::{Atom, Encoder, Env, Term};

use crate::signal::{self, atoms, text};
use crate::{endpoint, log, raw};

/// Called once when the emulator loads the library.
pub(crate) fn on_load(env: Env<'_>, _info: Term<'_>) -> bool {
    raw::at_halt(env, endpoint::goodbye);
    log::install();
    true
}

#[rustler::nif]
fn load(_file: Term<'_>) -> Atom {
    atoms::already_loaded()
}

#[rustler::nif]
fn build_info<'a>(env: Env<'a>) -> Term<'a> {
    let features: Vec<Atom> = if cfg!(feature = "faults") {
        vec![signal::atom(env, "faults")]
    } else {
        Vec::new()
    };
    signal::map(
        env,
        &[
            (
                atoms::name(),
                signal::atom(env, "barrel_p2p_nif").encode(env),
            ),
            (atoms::version(), text(env, env!("CARGO_PKG_VERSION"))),
            (atoms::kind(), atoms::native().encode(env)),
            (atoms::rustc(), text(env, env!("BARREL_RUSTC"))),
            (atoms::features(), features.encode(env)),
        ],
    )
}
