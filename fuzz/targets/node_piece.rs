//! A piece of a log, of the registry and of a map: what is understood is written as it
//! came, and within its limit.
#![no_main]

use barrel_node::fuzzing;
use libfuzzer_sys::fuzz_target;

/// What a piece takes at most.
const MAX_CHUNK: usize = 64 * 1024;

fuzz_target!(|bytes: &[u8]| {
    for again in [fuzzing::log_piece(bytes), fuzzing::map_piece(bytes)].into_iter().flatten() {
        assert_eq!(again, bytes, "a piece written another way");
        assert!(bytes.len() <= MAX_CHUNK);
    }
});
