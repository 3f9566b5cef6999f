//! Option 43: what decodes can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::pxe::VendorOptions;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(options) = VendorOptions::decode(bytes) {
        assert_eq!(VendorOptions::decode(&options.encode()), Ok(options));
    }
});
