//! What a daemon and its host say to each other: log, readiness, exit codes.

use std::fs::DirBuilder;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, anyhow, bail};
use rustix::fs::Access;
use rustix::rand::{GetRandomFlags, getrandom};
use sd_notify::NotifyState;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// Ended as it was told to.
pub const EXIT_OK: u8 = 0;
/// Failed while running: a socket, the store, the host.
pub const EXIT_FAILURE: u8 = 1;
/// The command line is wrong (what `clap` exits with).
pub const EXIT_USAGE: u8 = 2;
/// The configuration is wrong (`EX_CONFIG` of `sysexits.h`): starting again without a change is pointless, so
/// the units name it in `RestartPreventExitStatus=`.
pub const EXIT_CONFIG: u8 = 78;

/// The exit codes, for the end of `--help`.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0   ended as it was told to; the configuration is right; the daemon answered
  1   failed while running: a socket, the store, the host; no daemon answers
  2   the command line is wrong
  78  the configuration is wrong: starting again without a change is pointless";

/// What the host is called; empty if it has no name that can be read.
#[must_use]
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Format = Box<dyn Layer<Filtered> + Send + Sync>;

struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    format: reload::Handle<Format, Filtered>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Sends the log to standard error: lines for people, or JSON objects, one a line, if `json`.
/// `level` is `error`, `warn`, `info`, `debug` or `trace`, or a list like `info,binld::engine=debug`.
///
/// # Errors
/// If `level` is not such a list, or if the log was set up before; nothing is changed then.
pub fn init_log(json: bool, level: &str) -> anyhow::Result<()> {
    let (filter, filter_handle) = reload::Layer::new(parse_level(level)?);
    let (format, format_handle) = reload::Layer::new(format(json));
    let done = Registry::default().with(filter).with(format).try_init();
    done.map_err(|error| anyhow!("cannot set up the log: {error}"))?;
    let _ = LOG.set(Log { filter: filter_handle, format: format_handle });
    Ok(())
}

/// Changes level and form of the log of a running daemon.
///
/// # Errors
/// If `level` is wrong, or [`init_log`] was not called; nothing is changed then.
pub fn change_log(json: bool, level: &str) -> anyhow::Result<()> {
    let filter = parse_level(level)?;
    let log = LOG.get().context("the log is not set up")?;
    log.filter.reload(filter)?;
    log.format.reload(format(json))?;
    Ok(())
}

/// Whether `level` will do for [`init_log`].
///
/// # Errors
/// The text says what will do.
pub fn check_log_level(level: &str) -> anyhow::Result<()> {
    parse_level(level).map(|_| ())
}

fn parse_level(level: &str) -> anyhow::Result<EnvFilter> {
    let wrong = || format!("log level `{level}`: write one like `info` or `info,binld::engine=debug`");
    // EnvFilter takes a misspelt level for the name of a module, and would then log nothing at all.
    let is_known = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    if !level.split(',').all(is_known) {
        return Err(anyhow!(wrong()));
    }
    EnvFilter::try_new(level).with_context(wrong)
}

fn format(json: bool) -> Format {
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if json {
        format.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        format.with_ansi(std::io::stderr().is_terminal()).boxed()
    }
}

/// Whether a daemon could write below `dir`, or could make it where it is not there yet. Makes nothing.
///
/// # Errors
/// The text says what is in the way and what to do.
pub fn check_writable(dir: &Path) -> anyhow::Result<()> {
    let wanted = dir.display();
    // The nearest that is there; of a relative path that is the working directory in the end.
    let there = dir.ancestors().find(|path| path.exists()).filter(|path| !path.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    if !there.is_dir() {
        bail!("{wanted}: {} is not a directory: move it, or name another directory", there.display());
    }
    rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        anyhow!(
            "{wanted} is not writable ({}: {error}): make it so, or name another directory",
            there.display()
        )
    })
}

/// Makes `dir`, with those above it, if it is not there: for its owner and group only (mode 0750).
///
/// # Errors
/// If it cannot be made, or is not a directory.
pub fn make_dir(dir: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o750).create(dir);
    made.with_context(|| format!("cannot make the directory {}", dir.display()))
}

/// Random bytes of the operating system: for names and seeds, once at start.
///
/// # Errors
/// If the system has none to give.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += getrandom(rest, GetRandomFlags::empty()).context("the system gives no random bytes")?;
    }
    Ok(bytes)
}

/// Names the boot of the host: another after each start of its kernel. Where the system does not tell, nobody else has
/// it either.
///
/// # Errors
/// If the system has neither that nor random bytes.
pub fn boot_id() -> anyhow::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    match u128::from_str_radix(&digits, 16) {
        Ok(number) if digits.len() == 32 => Ok(number.to_be_bytes()),
        Ok(_) | Err(_) => random(),
    }
}

/// Writes `text` to standard output. Who reads it may stop early, as `head` does.
///
/// # Errors
/// If it cannot be written for another reason.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_if_read(text).map(|_| ())
}

/// The same; false if nobody reads any more.
///
/// # Errors
/// If it cannot be written for another reason.
pub fn print_if_read(text: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        done => done.map(|()| true).context("cannot write the output"),
    }
}

/// Tells systemd, if it started us and asked to be told, that we serve.
pub fn notify_ready() {
    notify(NotifyState::Ready);
}

/// Tells systemd, if it started us and asked to be told, that we are ending.
pub fn notify_stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell systemd how we are");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_level_is_named_and_a_second_log_refused() {
        let message = format!("{:#}", init_log(false, "info,=loud=").unwrap_err());
        assert!(message.contains("`info,=loud=`"), "{message}");
        assert!(check_log_level("verbose").is_err());
        init_log(true, "warn,driver=trace").unwrap();
        assert!(init_log(false, "info").is_err());
        assert!(!tracing::enabled!(target: "other", tracing::Level::INFO));
        change_log(false, "info").unwrap();
        assert!(tracing::enabled!(target: "other", tracing::Level::INFO));
        assert!(change_log(false, "loud").is_err());
    }

    #[test]
    fn directories_are_looked_at_before_they_are_made() {
        let temp = tempfile::tempdir().unwrap();
        let deep = temp.path().join("a/b");
        check_writable(&deep).unwrap();
        assert!(!deep.exists());
        make_dir(&deep).unwrap();
        make_dir(&deep).unwrap();
        check_writable(&deep).unwrap();
        let file = deep.join("file");
        std::fs::write(&file, "").unwrap();
        let message = check_writable(&file.join("c")).unwrap_err().to_string();
        assert!(message.contains("is not a directory"), "{message}");
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random::<16>().unwrap(), random::<16>().unwrap());
    }

    #[test]
    fn a_boot_has_one_name() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_ne!(boot_id().unwrap(), [0; 16]);
    }
}
