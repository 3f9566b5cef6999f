//! What decodes can be written and read again. (Not to the same bytes: ports of a plain configure are not kept.)
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::control::Envelope;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = Envelope::decode(bytes) {
        assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
    }
});
