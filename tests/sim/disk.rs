//! A disk of a daemon's own, as small as a test wants it: a tmpfs in a mount namespace that a process of ours holds. It is
//! gone with that process, whatever becomes of the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The disk; dropping it makes it vanish when the last program that uses it has ended.
#[derive(Debug)]
pub struct Disk {
    holder: Child,
    folder: PathBuf,
}

impl Disk {
    /// An empty disk of so many KiB, mounted on `folder` where only its users see it.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn new(folder: &Path, kib: u32) -> Self {
        let script =
            format!("mount -t tmpfs -o size={kib}k none \"$1\" && echo mounted && exec sleep infinity");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "setpriv", "--pdeathsig", "KILL"]);
        command.args(["sh", "-c", &script, "sh"]).arg(folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("cannot run `unshare`: install util-linux");
        let mut line = String::new();
        let out = holder.stdout.take().expect("a pipe was asked for");
        let _ = BufReader::new(out).read_line(&mut line);
        let disk = Self { holder, folder: folder.to_owned() };
        assert_eq!(line, "mounted\n", "no tmpfs on {}", folder.display());
        disk
    }

    /// The same command, run where the disk is seen.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        inside.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        inside
    }

    fn shell(&self, script: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&self.folder);
        let status = self.inside(&command).status().expect("cannot run `nsenter`: install util-linux");
        assert!(status.success(), "`{script}` failed in {}", self.folder.display());
    }

    /// Fills it to the last byte.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn fill(&self) {
        self.shell("! cat /dev/zero >\"$1/filler\" 2>/dev/null");
    }

    /// Takes away what [`Self::fill`] put there.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn free(&self) {
        self.shell("rm \"$1/filler\"");
    }

    /// Lets nobody write any more; only while no program writes there.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn make_read_only(&self) {
        self.shell("mount -o remount,ro \"$1\"");
    }

    /// Undoes [`Self::make_read_only`].
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn make_writable(&self) {
        self.shell("mount -o remount,rw \"$1\"");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
