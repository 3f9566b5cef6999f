//! What the command line of `mtftpd` has of its own; the rest is in `driver::cli`.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use driver::cli::Program;
use driver::config::ConfigError;
use driver::host;

use wire::{GroupAddr, ServerId};

use crate::config::{self, Loaded};
use crate::shell::{self, Forget, Start};

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

    fn orders() -> Vec<Command> {
        let address = Arg::new("address")
            .required(true)
            .value_name("ADDRESS")
            .value_parser(value_parser!(GroupAddr))
            .help("The multicast address");
        let binld = Arg::new("binld")
            .required(true)
            .value_name("BINLD-ID")
            .value_parser(value_parser!(ServerId))
            .help("The BINLD, by its id as `status` shows it");
        let force = Arg::new("force")
            .long("force")
            .action(ArgAction::SetTrue)
            .help("Even if the BINLD renewed lately, or mtftpd has just started");
        let about =
            "Deletes the stale reference of a dead BINLD on its behalf; the last one frees the address";
        let start = Command::new(Start::NAME)
            .about("Begins the transfer that waits on an address for more clients")
            .arg(address.clone());
        vec![Command::new(Forget::NAME).about(about).args([address, binld, force]), start]
    }

    fn request_of(name: &str, arguments: &ArgMatches) -> Option<String> {
        let group = || arguments.get_one::<GroupAddr>("address").copied();
        match name {
            Start::NAME => Some(Start { group: group()? }.to_string()),
            Forget::NAME => {
                let binld = *arguments.get_one::<ServerId>("binld")?;
                Some(Forget { group: group()?, binld, force: arguments.get_flag("force") }.to_string())
            }
            _ => None,
        }
    }

    fn socket_of(file: &Path) -> Result<PathBuf, ConfigError> {
        config::socket_of(file)
    }
}
