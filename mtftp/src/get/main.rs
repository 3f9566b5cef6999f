//! `mtftp-get`: see [`mtftp::get`].

use std::process::ExitCode;

fn main() -> ExitCode {
    mtftp::get::main()
}
