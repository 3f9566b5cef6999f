//! `binld`: see [`binld::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    driver::cli::main::<binld::cli::Binld>()
}
