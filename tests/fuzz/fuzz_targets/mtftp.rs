//! See `fuzz::file_server::play`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = fuzz::file_server::play(bytes);
});
