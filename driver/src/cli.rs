//! The command line that both daemons have: `run`, `check`, `status`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::ConfigError;
use crate::{control, host};

/// How long a daemon may take to answer `status`.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);

/// What a daemon must say of itself to have a command line.
pub trait Program {
    /// Its name.
    const NAME: &'static str;
    /// What it is, in a line.
    const ABOUT: &'static str;
    /// What `status` shows, in a line.
    const STATUS_ABOUT: &'static str;
    /// Where its configuration is if not told otherwise.
    const CONFIG_FILE: &'static str;
    /// A configuration that was read and found right.
    type Loaded;

    /// Reads and validates.
    ///
    /// # Errors
    /// What is wrong, and where. Nothing was changed.
    fn load(file: &Path) -> Result<Self::Loaded, ConfigError>;
    /// What is not wrong but worth saying.
    fn warnings(loaded: &Self::Loaded) -> Vec<String>;
    /// The configuration in the form in which it is written, every default filled in.
    fn printed(loaded: &Self::Loaded) -> String;
    /// Serves until told to end.
    ///
    /// # Errors
    /// What the host refused.
    fn run(file: &Path, loaded: Self::Loaded) -> anyhow::Result<()>;
    /// The control socket, even if the rest of the file is wrong.
    ///
    /// # Errors
    /// The file cannot be read at all.
    fn socket_of(file: &Path) -> Result<PathBuf, ConfigError>;
}

/// What the control socket is asked for a status as text.
pub const STATUS: &str = "status";
/// What it is asked for a status as JSON.
pub const STATUS_JSON: &str = "status json";

#[derive(Debug, Parser)]
#[command(version, after_help = host::EXIT_CODES_HELP)]
struct Cli {
    /// The configuration.
    #[arg(long, value_name = "FILE", global = true)]
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
    Status(Status),
}

#[derive(Debug, Args)]
struct Status {
    /// As one JSON object.
    #[arg(long)]
    json: bool,
    /// The daemon's control socket, in place of the one in the configuration.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
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

fn command<P: Program>() -> Command {
    Cli::command()
        .name(P::NAME)
        .about(P::ABOUT)
        .mut_arg("config", |arg| arg.required(false).default_value(P::CONFIG_FILE))
        .mut_subcommand("status", |status| status.about(P::STATUS_ABOUT))
}

/// The whole program.
#[must_use]
pub fn main<P: Program>() -> ExitCode {
    let code = match carry_out::<P>(&command::<P>().get_matches()) {
        Ok(()) => host::EXIT_OK,
        Err(Failure::Config(error)) => {
            complain::<P>(&error.to_string());
            host::EXIT_CONFIG
        }
        Err(Failure::Other(error)) => {
            complain::<P>(&format!("{error:#}"));
            host::EXIT_FAILURE
        }
    };
    ExitCode::from(code)
}

fn carry_out<P: Program>(matches: &ArgMatches) -> Result<(), Failure> {
    let Cli { config, verb } = Cli::from_arg_matches(matches).map_err(anyhow::Error::from)?;
    match verb {
        Verb::Run => P::run(&config, P::load(&config)?)?,
        Verb::Check => {
            let loaded = P::load(&config)?;
            for warning in P::warnings(&loaded) {
                complain::<P>(&format!("warning: {warning}"));
            }
            host::print(&P::printed(&loaded))?;
        }
        Verb::Status(Status { json, socket }) => {
            let socket = socket.map_or_else(|| P::socket_of(&config), Ok)?;
            let request = if json { STATUS_JSON } else { STATUS };
            host::print(&control::ask(&socket, request, STATUS_PATIENCE)?)?;
        }
    }
    Ok(())
}

fn complain<P: Program>(text: &str) {
    // There is nobody to tell if this fails.
    let _ = writeln!(std::io::stderr(), "{}: {text}", P::NAME);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Program for Nothing {
        const NAME: &'static str = "nothingd";
        const ABOUT: &'static str = "Does nothing.";
        const STATUS_ABOUT: &'static str = "Shows nothing.";
        const CONFIG_FILE: &'static str = "/etc/nothing.toml";
        type Loaded = String;

        fn load(_: &Path) -> Result<String, ConfigError> {
            Ok(String::new())
        }

        fn warnings(_: &String) -> Vec<String> {
            Vec::new()
        }

        fn printed(loaded: &String) -> String {
            loaded.clone()
        }

        fn run(_: &Path, _: String) -> anyhow::Result<()> {
            Ok(())
        }

        fn socket_of(_: &Path) -> Result<PathBuf, ConfigError> {
            Ok(PathBuf::new())
        }
    }

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::from_arg_matches(&command::<Nothing>().try_get_matches_from(words)?)
    }

    #[test]
    fn the_command_line_is_sound_and_help_tells_the_exit_codes() {
        command::<Nothing>().debug_assert();
        let help = command::<Nothing>().render_long_help().to_string();
        assert!(help.contains("78") && help.contains("Shows nothing."), "{help}");
        assert_eq!(
            command::<Nothing>().render_version(),
            format!("nothingd {}\n", env!("CARGO_PKG_VERSION"))
        );
    }

    #[test]
    fn the_configuration_may_be_named_before_and_after_the_verb() {
        for words in [["nothingd", "--config", "x", "check"], ["nothingd", "check", "--config", "x"]] {
            assert_eq!(parse(&words).unwrap().config, Path::new("x"));
        }
        assert_eq!(parse(&["nothingd", "run"]).unwrap().config, Path::new("/etc/nothing.toml"));
        assert!(parse(&["nothingd"]).is_err());
    }
}
