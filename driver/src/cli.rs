//! The command line that both daemons have: `run`, `check`, `status`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{
    Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, value_parser,
};

use crate::config::ConfigError;
use crate::{control, host, watch};

/// The option that names a control socket.
const SOCKET: &str = "socket";
/// How long a daemon may take to answer `status`, or to carry out an order.
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
    /// Orders that only this daemon takes while it runs; each gets an option `--socket`.
    #[must_use]
    fn orders() -> Vec<Command> {
        Vec::new()
    }
    /// What the control socket is asked for the order of that name. The answer begins with [`DONE`] if it was carried
    /// out.
    #[must_use]
    fn request_of(_name: &str, _arguments: &ArgMatches) -> Option<String> {
        None
    }
    /// Carries out an order that takes more than a request and its answer; `None` if it is none of those.
    #[must_use]
    fn converse(_name: &str, _arguments: &ArgMatches, _socket: &Path) -> Option<anyhow::Result<()>> {
        None
    }
}

/// What the control socket is asked for a status as text.
pub const STATUS: &str = "status";
/// What it is asked for a status as JSON.
pub const STATUS_JSON: &str = "status json";
/// How the answer to an order begins that was carried out; any other answer says why not.
pub const DONE: &str = "done: ";

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
    /// As one JSON object on one line.
    #[arg(long)]
    json: bool,
    /// Again and again, every so many seconds (1 if not said), until it is interrupted or nobody reads any more; on a
    /// terminal as much of it as the screen holds.
    #[arg(
        long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "1",
        value_parser = value_parser!(u32).range(1..=3600)
    )]
    watch: Option<u32>,
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
    let socket = Arg::new(SOCKET)
        .long(SOCKET)
        .global(true)
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("The daemon's control socket, in place of the one in the configuration");
    Cli::command()
        .subcommands(P::orders().into_iter().map(|order| order.arg(socket.clone())))
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
    if let Some((name, arguments)) = matches.subcommand()
        && P::orders().iter().any(|order| order.get_name() == name)
    {
        let config = matches.get_one::<PathBuf>("config").map_or(Path::new(P::CONFIG_FILE), PathBuf::as_path);
        let socket = arguments.get_one::<PathBuf>(SOCKET).cloned();
        let socket = socket.map_or_else(|| P::socket_of(config), Ok)?;
        if let Some(outcome) = P::converse(name, arguments, &socket) {
            return Ok(outcome?);
        }
        if let Some(request) = P::request_of(name, arguments) {
            return Ok(host::print(&order(&socket, &request)?)?);
        }
    }
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
        Verb::Status(Status { json, watch, socket }) => {
            let socket = socket.map_or_else(|| P::socket_of(&config), Ok)?;
            let request = if json { STATUS_JSON } else { STATUS };
            let ask = || control::ask(&socket, request, STATUS_PATIENCE);
            match watch {
                None => host::print(&ask()?)?,
                Some(seconds) => watch::watch(Duration::from_secs(seconds.into()), json, ask)?,
            }
        }
    }
    Ok(())
}

/// Asks the daemon for something; gives what it says when that is done.
///
/// # Errors
/// The daemon's reason why not, or that it does not answer.
pub fn order(socket: &Path, request: &str) -> anyhow::Result<String> {
    let answer = control::ask(socket, request, STATUS_PATIENCE)?;
    match answer.strip_prefix(DONE) {
        Some(done) => Ok(done.to_owned()),
        None => Err(anyhow::anyhow!("{}", answer.trim_end())),
    }
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

        fn orders() -> Vec<Command> {
            vec![Command::new("wipe").arg(Arg::new("what").required(true))]
        }

        fn request_of(name: &str, arguments: &ArgMatches) -> Option<String> {
            (name == "wipe").then(|| format!("wipe {}", arguments.get_one::<String>("what").unwrap()))
        }
    }

    /// A daemon that takes `wipe this`, and nothing else.
    fn answering(path: &Path) -> std::thread::JoinHandle<()> {
        use std::io::{BufRead, BufReader};
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                BufReader::new(&stream).read_line(&mut request).unwrap();
                let answer =
                    if request == "wipe this\n" { "done: wiped\n" } else { "there is no such thing\n" };
                stream.write_all(answer.as_bytes()).unwrap();
            }
        })
    }

    #[test]
    fn an_order_is_carried_out_or_fails_with_the_daemons_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let daemon = answering(&path);
        let give = |what: &str| {
            let words = ["nothingd", "wipe", what, "--socket", path.to_str().unwrap()];
            let outcome = carry_out::<Nothing>(&command::<Nothing>().try_get_matches_from(words).unwrap());
            outcome.map_err(|failure| match failure {
                Failure::Config(error) => error.to_string(),
                Failure::Other(error) => error.to_string(),
            })
        };
        assert_eq!(give("this"), Ok(()));
        assert_eq!(give("that"), Err("there is no such thing".to_owned()));
        daemon.join().unwrap();
        assert!(command::<Nothing>().try_get_matches_from(["nothingd", "wipe"]).is_err());
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
    fn a_status_may_be_watched() {
        let every = |words: &[&str]| match parse(words).map(|cli| cli.verb) {
            Ok(Verb::Status(Status { watch, .. })) => watch,
            other => panic!("{other:?}"),
        };
        assert_eq!(every(&["nothingd", "status"]), None);
        assert_eq!(every(&["nothingd", "status", "--watch"]), Some(1));
        assert_eq!(every(&["nothingd", "status", "--watch=5", "--json"]), Some(5));
        for wrong in ["--watch=0", "--watch=x", "--watch=3601"] {
            assert!(parse(&["nothingd", "status", wrong]).is_err(), "{wrong}");
        }
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
