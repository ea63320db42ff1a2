//! A record of a persistent map, key and value: what is understood is written as it was,
//! and a map is made of it or refuses it.
#![no_main]

use barrel_node::fuzzing::{self, Fire};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // several records, each with the lengths of its key and its value before it
    let mut records = Vec::new();
    let mut left = input;
    while let Some(([key, high, low], rest)) = left.split_first_chunk() {
        let (key, rest) = rest.split_at(rest.len().min(usize::from(*key)));
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at(rest.len().min(len));
        if let Some(again) = fuzzing::kept(key, value) {
            assert_eq!(again, (key.to_vec(), value.to_vec()), "a record written another way");
            records.push(again);
        }
        left = rest;
    }
    Fire::new().restore(records);
});
