//! The boundary between the BEAM and `barrel_quic`: a thin NIF library.
//!
//! `barrel_p2p_nif.erl` has the contract: every function with its spec, every
//! message with its meaning. Here each file holds the functions of one noun.
//!
//! * No function blocks: try-send, try-receive, short locks. Those that touch a
//!   file or a socket are `DirtyIo`.
//! * Messages go up from the I/O thread alone, as `{barrel_p2p, Handle, Signal}`.
//! * A handle has owner processes; they die, the stream or the endpoint closes.
//! * `unsafe` lives in `raw`, and nowhere else.

mod endpoint;
mod identity;
mod lease;
mod library;
mod log;
mod raw;
mod signal;
mod stream;
mod trust;

rustler::init!("barrel_p2p_nif", load = library::on_load);

/// Datagrams are allocated by the I/O thread and freed by schedulers. glibc gives such
/// memory back to the system and faults it in again, for each burst: up to a seventh
/// of the processor time of a bulk transfer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
