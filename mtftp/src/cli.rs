//! The command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use driver::config::ConfigError;
use driver::{control, host};

use crate::{config, shell};

/// How long a daemon may take to answer `status`.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);

/// Boot file server: multicasts files on the addresses that BINLDs configure, and serves them by plain TFTP.
#[derive(Debug, Parser)]
#[command(name = "mtftpd", version, after_help = host::EXIT_CODES_HELP)]
struct Cli {
    /// The configuration.
    #[arg(long, value_name = "FILE", global = true, default_value = config::FILE)]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serves until SIGTERM or SIGINT; SIGHUP reads the configuration again.
    Run,
    /// Validates the configuration and prints it with every default filled in.
    Check,
    /// Shows addresses with their references, sessions, rests and counters of the running daemon.
    Status {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
        /// The daemon's control socket, in place of the one in the configuration.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
}

/// What went wrong, and how the program ends.
enum Failure {
    Config(ConfigError),
    Other(anyhow::Error),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { config, verb } = Cli::parse();
    let done = match verb {
        Verb::Run => run(&config),
        Verb::Check => check(&config),
        Verb::Status { json, socket } => status(&config, json, socket),
    };
    let code = match done {
        Ok(()) => host::EXIT_OK,
        Err(Failure::Config(error)) => {
            complain(&error.to_string());
            host::EXIT_CONFIG
        }
        Err(Failure::Other(error)) => {
            complain(&format!("{error:#}"));
            host::EXIT_FAILURE
        }
    };
    ExitCode::from(code)
}

fn run(file: &Path) -> Result<(), Failure> {
    let loaded = config::load(file)?;
    host::init_log(loaded.config.log.json, &loaded.config.log.level)?;
    Ok(shell::run(file, loaded)?)
}

fn check(file: &Path) -> Result<(), Failure> {
    let loaded = config::load(file)?;
    Ok(host::print(&loaded.config.to_string())?)
}

fn status(file: &Path, json: bool, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = match socket {
        Some(socket) => socket,
        None => config::socket_of(file)?,
    };
    let answer = control::ask(&socket, shell::status_request(json), STATUS_PATIENCE)?;
    Ok(host::print(&answer)?)
}

fn complain(text: &str) {
    // There is nobody to tell if this fails.
    let _ = writeln!(std::io::stderr(), "mtftpd: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_help_tells_the_exit_codes() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("78"), "{help}");
        assert_eq!(Cli::command().render_version(), format!("mtftpd {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn the_configuration_may_be_named_before_and_after_the_verb() {
        for words in [["mtftpd", "--config", "x", "check"], ["mtftpd", "check", "--config", "x"]] {
            assert_eq!(Cli::try_parse_from(words).unwrap().config, Path::new("x"));
        }
        assert_eq!(
            Cli::try_parse_from(["mtftpd", "run"]).unwrap().config,
            Path::new("/etc/pxemc/mtftpd.toml")
        );
        assert!(Cli::try_parse_from(["mtftpd"]).is_err());
    }
}
