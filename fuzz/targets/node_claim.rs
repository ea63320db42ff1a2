//! A claim about a member: what is understood is written as it came.
#![no_main]

use barrel_node::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(again) = fuzzing::claim(bytes) {
        assert_eq!(again, bytes, "a claim written another way");
    }
});
