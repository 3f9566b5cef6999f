//! `binld`: see [`binld::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    binld::cli::main()
}
