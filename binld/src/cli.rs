//! What the command line of `binld` has of its own; the rest is in `driver::cli`.

mod console;
mod talk;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use driver::cli::Program;
use driver::config::ConfigError;
use driver::host;
use wire::ServerId;

use crate::config::{self, Loaded};
use crate::shell::{self, Order};

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

    fn orders() -> Vec<Command> {
        let server = Arg::new("server")
            .required(true)
            .value_name("SERVER-ID")
            .value_parser(value_parser!(ServerId))
            .help("The boot server, by its id as `status` shows it");
        let leave = "Leaves the domain for good: all addresses are given back, then the daemon ends";
        let strike =
            "Says that another boot server is gone for good, so that the others may use its part of the pool";
        let drain =
            "Leaves the clients that all boot servers hear to the others, before this server is stopped";
        let undrain = "Takes its share of the clients again";
        let orders = [
            Command::new(Order::DRAIN).about(drain),
            Command::new(Order::UNDRAIN).about(undrain),
            Command::new(Order::LEAVE).about(leave),
            Command::new(Order::STRIKE_OFF).about(strike).arg(server),
        ];
        let about = "Shows notes and domains as they come and go, and takes lines to be said; on a terminal";
        let console = Command::new(console::CONSOLE).about(about);
        orders.into_iter().chain(talk::commands()).chain([console]).collect()
    }

    fn request_of(name: &str, arguments: &ArgMatches) -> Option<String> {
        let order = match name {
            Order::DRAIN => Order::Drain,
            Order::UNDRAIN => Order::Undrain,
            Order::LEAVE => Order::Leave,
            Order::STRIKE_OFF => Order::StrikeOff(*arguments.get_one::<ServerId>("server")?),
            _ => return None,
        };
        Some(order.to_string())
    }

    fn converse(name: &str, arguments: &ArgMatches, socket: &Path) -> Option<anyhow::Result<()>> {
        if name == console::CONSOLE {
            return Some(console::run(socket));
        }
        talk::carry_out(name, arguments, socket)
    }

    fn socket_of(file: &Path) -> Result<PathBuf, ConfigError> {
        config::socket_of(file)
    }
}
