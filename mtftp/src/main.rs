//! `mtftpd`: see [`mtftp::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    driver::cli::main::<mtftp::cli::Mtftpd>()
}
