//! What the command line of `mtftpd` has of its own; the rest is in `driver::cli`.

use std::path::{Path, PathBuf};

use driver::cli::Program;
use driver::config::ConfigError;
use driver::host;

use crate::config::{self, Loaded};
use crate::shell;

/// The program `mtftpd`.
#[derive(Debug)]
pub struct Mtftpd;

impl Program for Mtftpd {
    const NAME: &'static str = "mtftpd";
    const ABOUT: &'static str = "Boot file server: multicasts files on the addresses that BINLDs configure, and serves them by plain TFTP";
    const STATUS_ABOUT: &'static str =
        "Shows addresses with their references, sessions, rests and counters of the running daemon";
    const CONFIG_FILE: &'static str = config::FILE;
    type Loaded = Loaded;

    fn load(file: &Path) -> Result<Loaded, ConfigError> {
        config::load(file)
    }

    fn warnings(_: &Loaded) -> Vec<String> {
        Vec::new()
    }

    fn printed(loaded: &Loaded) -> String {
        loaded.config.to_string()
    }

    fn run(file: &Path, loaded: Loaded) -> anyhow::Result<()> {
        host::init_log(loaded.config.log.json, &loaded.config.log.level)?;
        shell::run(file, loaded)
    }

    fn socket_of(file: &Path) -> Result<PathBuf, ConfigError> {
        config::socket_of(file)
    }
}
