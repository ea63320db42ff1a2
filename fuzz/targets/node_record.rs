//! A signed record: what is understood is written as it came, and no part of it is one.
#![no_main]

use barrel_node::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(again) = fuzzing::record(bytes) {
        assert_eq!(again, bytes, "a record written another way");
    }
});
