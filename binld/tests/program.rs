//! The program as an operator has it: verbs, exit codes, signals. On loopback, each test with an address of its own.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected is found")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a configuration.
struct Place {
    dir: TempDir,
    address: Ipv4Addr,
}

impl Place {
    /// `number` tells the tests of one run apart, the process id tells runs apart.
    fn new(number: u8) -> Self {
        let [high, low] = u16::try_from(std::process::id() & 0xffff).unwrap().to_be_bytes();
        let place = Self { dir: TempDir::new().unwrap(), address: Ipv4Addr::new(127, number, high, low) };
        place.write("");
        place
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("binld.toml")
    }

    fn write(&self, more: &str) {
        let (path, address) = (self.dir.path().display(), self.address);
        let text = format!(
            "interface = \"lo\"\naddress = \"{address}\"\nstate_dir = \"{path}/state\"\nrun_dir = \"{path}/run\"\n\
             [[mtftp]]\naddress = \"{address}\"\n\
             [[item]]\nname = \"debian\"\ntype = 0x8001\n[[item.boot]]\nfile = \"boot.ipxe\"\n{more}\n"
        );
        fs::write(self.file(), text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_binld"));
        command.args(words).arg("--config").arg(self.file());
        command
    }

    fn call(&self, words: &[&str]) -> (i32, String, String) {
        ended(self.command(words).output().unwrap())
    }

    fn status(&self) -> Value {
        let (code, printed, said) = self.call(&["status", "--json"]);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&printed).unwrap()
    }

    /// Starts the daemon and waits until it tells its service manager that it serves.
    fn start(&self) -> Running {
        let manager = self.dir.path().join("notify");
        let _ = fs::remove_file(&manager);
        let socket = UnixDatagram::bind(&manager).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = self.command(&["run"]);
        let mut child = command.env("NOTIFY_SOCKET", &manager).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let running = Running { child, log };
        let mut word = [0; 64];
        let len = socket.recv(&mut word).expect("the daemon says that it serves");
        assert_eq!(String::from_utf8_lossy(&word[..len]).trim(), "READY=1");
        running
    }
}

fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// A daemon; killed if the test fails.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Has the configuration read again; gives the line that says what came of it.
    fn reload(&mut self) -> String {
        self.signal("-HUP");
        let lines = self.log.by_ref().lines().map(Result::unwrap);
        lines.into_iter().find(|line| line.contains("configuration")).expect("a reload is logged")
    }

    /// Ends it; gives the exit code and the rest of the log.
    fn stop(mut self) -> (Option<i32>, String) {
        self.signal("-TERM");
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn check_prints_what_it_would_accept() {
    let place = Place::new(81);
    let (code, printed, said) = place.call(&["check"]);
    assert_eq!((code, said.as_str()), (0, ""));
    fs::write(place.file(), &printed).unwrap();
    assert_eq!(place.call(&["check"]), (0, printed, String::new()));
    assert!(!place.dir.path().join("state").exists(), "check makes nothing");
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    let place = Place::new(82);
    place.write("fil = \"x\"");
    let (code, printed, said) = place.call(&["run"]);
    assert_eq!((code, printed.as_str()), (78, ""));
    let expected = format!("binld: {}:12: unknown key `fil`; did you mean `file`?\n", place.file().display());
    assert_eq!(said, expected);
    assert_eq!(place.call(&["serve"]).0, 2);
    place.write("");
    let (code, _, said) = place.call(&["status"]);
    assert_eq!(code, 1);
    assert!(said.contains("no daemon answers on"), "{said}");
    let (code, printed, _) = place.call(&["--version"]);
    assert_eq!((code, printed), (0, format!("binld {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_daemon_serves_reloads_and_ends() {
    let place = Place::new(83);
    let running = place.start();
    let first = place.status();
    assert_eq!((&first["address"], &first["program"]), (&place.address.to_string().into(), &"binld".into()));
    assert_eq!(files(&first), ["boot.ipxe"]);
    let (code, text, _) = place.call(&["status"]);
    assert_eq!(code, 0);
    assert!(text.contains("boot.ipxe"), "{text}");

    // A second one, with directories of its own, shares only the address.
    let second = Place { dir: TempDir::new().unwrap(), ..Place::new(83) };
    second.write("");
    let (code, _, said) = second.call(&["run"]);
    assert_eq!(code, 1);
    assert!(said.contains(&format!("{}:4015", place.address)) && said.contains("one binld"), "{said}");
    assert!(!second.dir.path().join("state/binld.db").exists(), "it never got as far as the store");

    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!place.dir.path().join("run/binld.sock").exists());
    let again = place.start();
    let restarted = place.status();
    assert_eq!(restarted["server"], first["server"]);
    assert!(restarted["boot_epoch"].as_u64() > first["boot_epoch"].as_u64());
    assert_eq!(again.stop().0, Some(0));
}

fn files(status: &Value) -> Vec<String> {
    let files = status["files"].as_array().unwrap().iter();
    files.map(|file| file["file"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_reload_comes_into_force_as_a_whole_or_not_at_all() {
    let place = Place::new(84);
    let mut running = place.start();
    place.write("also = [\"vmlinuz\"]");
    let line = running.reload();
    assert!(line.contains("INFO") && line.contains("configuration read again"), "{line}");
    assert_eq!(files(&place.status()), ["boot.ipxe", "vmlinuz"]);

    place.write("also = [\"other\"]\n[query]\nport = 5015");
    let line = running.reload();
    assert!(line.contains("WARN") && line.contains("only read at a start: query;"), "{line}");
    place.write("alsa = [\"other\"]");
    let line = running.reload();
    assert!(line.contains("WARN") && line.contains("binld.toml:12: unknown key `alsa`"), "{line}");
    assert_eq!(files(&place.status()), ["boot.ipxe", "vmlinuz"]);

    // The log changes too, and its own line comes in the new form.
    place.write("[log]\nlevel = \"info\"\njson = true");
    let line: Value = serde_json::from_str(&running.reload()).unwrap();
    assert_eq!(line["message"], "configuration read again");
    assert_eq!(files(&place.status()), ["boot.ipxe"]);
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn a_store_that_is_not_one_is_left_alone() {
    let place = Place::new(85);
    let state = place.dir.path().join("state");
    fs::create_dir(&state).unwrap();
    let store: &Path = &state.join("binld.db");
    fs::write(store, "not a database, but somebody's").unwrap();
    let (code, _, log) = place.call(&["run"]);
    assert_eq!(code, 1);
    assert!(log.contains("binld.db"), "{log}");
    assert_eq!(fs::read_to_string(store).unwrap(), "not a database, but somebody's");
}
