//! `mtftpd`: see [`mtftp::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    mtftp::cli::main()
}
