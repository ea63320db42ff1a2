//! The preamble of a stream: a length and a tag, and nothing of what follows.
#![no_main]

use barrel_quic::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let decoded = fuzzing::preamble(stream);
    assert!(decoded.widest <= 255);
    let Some(tag) = decoded.message else {
        let complete = stream
            .split_first()
            .is_some_and(|(len, rest)| rest.len() >= usize::from(*len));
        assert!(!complete || stream[0] == 0, "a whole preamble was refused");
        return;
    };
    assert!((1..=255).contains(&tag.len()));
    let again = [&[tag.len() as u8], tag.as_slice()].concat();
    let (read, left) = stream.split_at(stream.len() - decoded.left);
    assert_eq!(read, again, "not the bytes that were sent");
    // What follows makes no difference, and what is missing is noticed.
    assert_eq!(left.len(), decoded.left);
    assert_eq!(fuzzing::preamble(read).message, Some(tag));
    assert_eq!(fuzzing::preamble(&read[..read.len() - 1]).message, None);
});
