// SPDX-License-Identifier: Apache-2.0

//! Ten thousand nodes in a thread.
//!
//! The gossip node has no socket, no clock and no dice of its own: all of these are brought
//! to it. Here they are brought by a simulator, so that the very code that ships runs
//! ten thousand times side by side, in virtual time, under one seed.
//!
//! [`kernel`] knows nothing of gossip. It moves bytes between machines over links that are
//! ordered and reliable while they are up, as QUIC connections are, and that take time to open and
//! to be noticed as dead. [`adapter`] makes a machine of the real node. [`measure`] looks at a world from
//! outside: how the overlay is knit, how far a broadcast came. [`scenarios`] has one file
//! for each family of questions, [`report`] writes the answers down.
//!
//! # What is promised
//! The same seed gives the same events in the same order on every platform, and the running
//! hash over them proves it ([`kernel::World::hash`]). Whatever decides is an integer; floating point
//! numbers appear in printed averages only. A world is `Clone`: many
//! experiments start from one converged overlay.
//!
//! A node that missed a message is *explained* only by the simulator's own link log: it was
//! down, or no path of usable links led to it in time ([`kernel::LinkLog`]). What is not
//! explained is a fault of the protocol.

#![forbid(unsafe_code)]

pub mod adapter;
pub mod cli;
pub mod kernel;
pub mod measure;
pub mod notary;
pub mod overlay;
mod overlay_fold;
pub mod report;
pub mod run;
pub mod scenarios;
pub mod subject;
