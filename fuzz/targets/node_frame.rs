//! A frame between nodes: what is understood is written as it came.
#![no_main]

use barrel_node::fuzzing;
use libfuzzer_sys::fuzz_target;

/// The greeting; newer versions may add to its end.
const GREETING: u8 = 1;

fuzz_target!(|bytes: &[u8]| {
    let Some(again) = fuzzing::frame(bytes) else {
        return;
    };
    if bytes[0] == GREETING {
        assert!(bytes.starts_with(&again), "a greeting written another way");
    } else {
        assert_eq!(again, bytes, "a frame written another way");
    }
});
