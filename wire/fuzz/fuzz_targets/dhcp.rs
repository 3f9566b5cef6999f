//! Boot server requests are only read: nothing may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::dhcp::BootRequest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = BootRequest::decode(bytes) {
        let _ = request.has_user_class(b"iPXE");
    }
});
