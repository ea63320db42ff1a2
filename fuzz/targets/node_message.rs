//! A node with two neighbours, services and a map, told anything by either: it survives,
//! stays sound, and holds no more than it may.
#![no_main]

use barrel_node::fuzzing::Fire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| Fire::new().feed(input));
