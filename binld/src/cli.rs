//! What the command line of `binld` has of its own; the rest is in `driver::cli`.

use std::path::{Path, PathBuf};

use driver::cli::Program;
use driver::config::ConfigError;
use driver::host;

use crate::config::{self, Loaded};
use crate::shell;

/// The program `binld`.
#[derive(Debug)]
pub struct Binld;

impl Program for Binld {
    const NAME: &'static str = "binld";
    const ABOUT: &'static str =
        "Boot server: picks, clears and configures multicast addresses, and answers boot server discovery";
    const STATUS_ABOUT: &'static str = "Shows claims, files, marks, rests and counters of the running daemon";
    const CONFIG_FILE: &'static str = config::FILE;
    type Loaded = Loaded;

    fn load(file: &Path) -> Result<Loaded, ConfigError> {
        config::load(file)
    }

    fn warnings(loaded: &Loaded) -> Vec<String> {
        loaded.warnings.iter().map(ConfigError::to_string).collect()
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
