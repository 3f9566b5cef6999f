//! The frozen packet has one form: what decodes, encodes to the very same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::query::Query;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((opcode, query)) = Query::decode(bytes) {
        assert_eq!(query.encode(opcode), bytes);
        assert_eq!(query.key(), [&bytes[3..7], &bytes[17..]].concat());
    }
});
