//! The daemons as an operator has them: programs with a configuration file, a log, signals and exit codes.
#![allow(clippy::print_stderr, reason = "a failed test shows the ends of its daemons' logs")]

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::disk::Disk;
use crate::lab::{Host, Lab, PATIENCE, eventually};

/// Lines of a daemon's log that a failed test shows.
const LOG_LINES_SHOWN: usize = 40;

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The boot server.
    Binld,
    /// The file server.
    Mtftpd,
}

impl Kind {
    /// The name of its program and of its files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Binld => "binld",
            Self::Mtftpd => "mtftpd",
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// That signal.
    pub signal: Option<i32>,
    /// All it wrote to standard error.
    pub log: String,
}

/// A place for one daemon: host, configuration, state; with the process when it runs. Dropping it kills the process.
#[derive(Debug)]
pub struct Daemon {
    kind: Kind,
    host: Host,
    name: String,
    folder: PathBuf,
    disk: Option<Disk>,
    child: Option<Child>,
}

/// A program of the workspace, which must have been built before the tests run.
///
/// # Panics
/// If it was not.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its program");
    // Tests lie in target/<profile>/deps, programs one above.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    let near = own.parent().unwrap_or(Path::new("?")).display();
    assert!(
        found.is_some(),
        "`{name}` is not built near {near}: run `cargo build --bins` first, or tests/run"
    );
    found.expect("just looked at")
}

/// A store that its daemon cannot write; see [`Daemon::hold_store`].
#[derive(Debug)]
pub struct StoreHeld {
    _connection: rusqlite::Connection,
}

impl Daemon {
    /// A daemon called `name` on `host`, not started yet, with this configuration. The keys for interface, state, run
    /// folder and boot folder are put in.
    ///
    /// # Panics
    /// If its files cannot be written.
    #[must_use]
    pub fn new(lab: &Lab, host: &Host, kind: Kind, name: &str, config: &str) -> Self {
        let folder = lab.folder().to_owned();
        let daemon =
            Self { kind, host: host.clone(), name: name.to_owned(), folder, disk: None, child: None };
        for path in [daemon.state_dir(), daemon.run_dir()] {
            fs::create_dir_all(path).expect("no folder for a daemon");
        }
        daemon.write_config(config);
        daemon
    }

    /// Its configuration anew; see [`Self::new`]. A running daemon sees it when it is told to.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn write_config(&self, config: &str) {
        let mut text = format!(
            "interface = \"eth0\"\nstate_dir = \"{}\"\nrun_dir = \"{}\"\n",
            self.state_dir().display(),
            self.run_dir().display(),
        );
        if self.kind == Kind::Mtftpd {
            text += &format!("boot_dir = \"{}\"\n", self.folder.join("boot").display());
        }
        self.write_raw_config(&(text + config));
    }

    /// Its configuration as it stands, nothing put in.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn write_raw_config(&self, text: &str) {
        fs::write(self.config_file(), text).expect("cannot write a configuration");
    }

    /// Where its configuration is.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.folder.join("conf").join(format!("{}.toml", self.name))
    }

    /// Where its store is.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.folder.join("state").join(&self.name)
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.join("run").join(&self.name)
    }

    /// Its store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.state_dir().join(format!("{}.db", self.kind.name()))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log").join(format!("{}.log", self.name))
    }

    /// Where it runs.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Puts its state folder on a disk of its own; before its first start.
    pub fn give_disk(&mut self, kib: u32) {
        self.disk = Some(Disk::new(&self.state_dir(), kib));
    }

    /// That disk.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("only a daemon that was given a disk has one")
    }

    fn with_disk(&self, command: Command) -> Command {
        match &self.disk {
            Some(disk) => disk.inside(&command),
            None => command,
        }
    }

    /// Starts it and does not wait.
    ///
    /// # Panics
    /// If it runs already, or cannot be started.
    pub fn spawn(&mut self) {
        let mut command = self.host.command(&program(self.kind.name()));
        command.args(["run", "--config"]).arg(self.config_file());
        self.run_command(self.with_disk(command));
    }

    /// Starts it, and does not wait, where its state folder is mounted read-only, for it alone.
    ///
    /// # Panics
    /// As [`Self::spawn`].
    pub fn spawn_read_only(&mut self) {
        // A command on a host has a mount namespace of its own (ip-netns(8)).
        let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
        let mut command = self.host.command(Path::new("sh"));
        command.args(["-c", script, "sh"]).arg(self.state_dir());
        command.arg(program(self.kind.name())).args(["run", "--config"]).arg(self.config_file());
        self.run_command(command);
    }

    fn run_command(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.log_file()).expect("no log file");
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        self.child = Some(command.spawn().expect("cannot start a daemon"));
    }

    /// Starts it and waits until it answers on its control socket.
    ///
    /// # Panics
    /// If it ends instead.
    #[track_caller]
    pub fn start(&mut self) {
        self.spawn();
        eventually(&format!("{} that answers", self.name), || {
            let gone = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(gone.is_none(), "{} ended at its start: {gone:?}\n{}", self.name, self.log());
            self.ask(&["status", "--json"]).status.success().then_some(())
        });
    }

    /// Starts it and waits for its end, for tests of what must not start.
    #[track_caller]
    pub fn start_in_vain(&mut self) -> Ended {
        let before = self.log().len();
        self.spawn();
        let mut ended = self.wait_end();
        ended.log = ended.log.get(before..).unwrap_or_default().to_owned();
        ended
    }

    /// Runs one of the daemon's verbs with its configuration, such as `["status", "--json"]`, on its host.
    #[must_use]
    pub fn ask(&self, verb: &[&str]) -> Output {
        let mut command = self.host.command(&program(self.kind.name()));
        command.args(verb).arg("--config").arg(self.config_file());
        command.output().expect("cannot run a program on a host")
    }

    /// What `status --json` says.
    ///
    /// # Panics
    /// If the daemon does not answer, or not in JSON.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> Value {
        let output = self.ask(&["status", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} status: {said}\n{}", self.name, self.log());
        serde_json::from_slice(&output.stdout).expect("status --json is JSON")
    }

    /// Holds the store as another program would that writes it, until the value is dropped. The daemon waits for it, 5 s
    /// at most: then what was to be written is not.
    ///
    /// # Panics
    /// If the store cannot be had.
    #[must_use]
    #[track_caller]
    pub fn hold_store(&self) -> StoreHeld {
        let connection = rusqlite::Connection::open(self.store()).expect("a store can be opened");
        connection.busy_timeout(PATIENCE).expect("a time-out can be set");
        connection.execute_batch("BEGIN IMMEDIATE").expect("a store can be held");
        StoreHeld { _connection: connection }
    }

    /// What `check` prints: exit code, output, errors.
    #[must_use]
    pub fn check(&self) -> (Option<i32>, String, String) {
        let output = self.ask(&["check"]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// The number of its process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("only what runs has a process").id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a signal needs a process");
        let pid = Pid::from_child(child);
        kill_process(pid, signal).expect("our child is there until we wait for it");
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(
            self.wait_end().signal,
            Some(Signal::KILL.as_raw()),
            "{} ended by itself before",
            self.name
        );
    }

    /// Ends it as systemd does, and waits.
    #[track_caller]
    pub fn stop(&mut self) -> Ended {
        self.signal(Signal::TERM);
        self.wait_end()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not run, or goes on running.
    #[track_caller]
    pub fn wait_end(&mut self) -> Ended {
        let mut child = self.child.take().expect("only a process ends");
        let status = eventually(&format!("the end of {}", self.name), || {
            child.try_wait().expect("our child can be waited for")
        });
        Ended { code: status.code(), signal: status.signal(), log: self.log() }
    }

    /// Whether its process is there.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// All it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The records of its store as `pxemc-db dump --json` prints them.
    ///
    /// # Panics
    /// If the program fails.
    #[must_use]
    #[track_caller]
    pub fn dump(&self) -> Vec<Value> {
        let mut command = Command::new(program("pxemc-db"));
        command.args(["dump", "--json"]).arg(self.store());
        let output = self.with_disk(command).output().expect("cannot run pxemc-db");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pxemc-db dump: {said}");
        let text = String::from_utf8(output.stdout).expect("a dump is text");
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let first = lines.len().saturating_sub(LOG_LINES_SHOWN);
            eprintln!(
                "--- end of the log of {}\n{}",
                self.name,
                lines.get(first..).unwrap_or_default().join("\n")
            );
        }
    }
}
