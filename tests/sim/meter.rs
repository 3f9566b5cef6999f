//! What a server and all its children spend, also those that have ended: by a cgroup of its own if one can be made, else by
//! /proc, where a child counts once its parent has waited for it.
#![expect(clippy::disallowed_methods, reason = "processes end in real time")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

/// How long killed children may take to be gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process that we started, and its children. With the value the children end; the process itself is its owner's.
#[derive(Debug)]
pub struct Family {
    pid: u32,
    group: Option<PathBuf>,
}

impl Family {
    /// From now on; to be called before the process has children.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        let group =
            make_group().filter(|group| fs::write(group.join("cgroup.procs"), pid.to_string()).is_ok());
        Self { pid, group }
    }

    /// Whether its time is counted to the microsecond, with children that nobody waited for.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.group.is_some()
    }

    /// Binds it to one core, with all threads that it has; children and further threads follow.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn pin(&self, core: usize) {
        let mut cores = CpuSet::new();
        cores.set(core);
        for thread in numbers(&Path::new("/proc").join(self.pid.to_string()).join("task")) {
            let id = i32::try_from(thread).ok().and_then(Pid::from_raw);
            sched_setaffinity(id, &cores).expect("a process can be bound to a core");
        }
    }

    /// Time on a processor so far, in user and kernel.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let Some(group) = &self.group else { return self.cpu_by_proc() };
        let text = fs::read_to_string(group.join("cpu.stat")).unwrap_or_default();
        let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
        Duration::from_micros(used.and_then(|used| used.parse().ok()).unwrap_or(0))
    }

    fn cpu_by_proc(&self) -> Duration {
        let ticks: u64 =
            self.members().iter().filter_map(|&pid| Stat::read(pid)).map(|stat| stat.ticks).sum();
        Duration::from_millis(ticks * 1000 / clock_ticks_per_second().max(1))
    }

    /// Whether the process itself still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| !stat.is_dead)
    }

    fn members(&self) -> Vec<u32> {
        if let Some(group) = &self.group {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            return text.lines().filter_map(|line| line.parse().ok()).collect();
        }
        let mut members = vec![self.pid];
        let all = numbers(Path::new("/proc"));
        // Children have higher numbers than their parents, until numbers start over.
        for pid in all {
            if Stat::read(pid).is_some_and(|stat| members.contains(&stat.parent)) {
                members.push(pid);
            }
        }
        members
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let Some(group) = &self.group else {
            for pid in self.members().into_iter().filter(|&pid| pid != self.pid) {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            return;
        };
        let _ = fs::write(group.join("cgroup.kill"), "1");
        let end = Instant::now() + PATIENCE;
        while fs::remove_dir(group).is_err() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What /proc says about a process.
struct Stat {
    parent: u32,
    is_dead: bool,
    /// Of its own and of children it has waited for.
    ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
        // The name is in parentheses and may contain anything.
        let (_, rest) = text.rsplit_once(") ")?;
        let words: Vec<&str> = rest.split(' ').collect();
        let ticks = words.get(11..15)?.iter().filter_map(|word| word.parse::<u64>().ok()).sum();
        Some(Self { parent: words[1].parse().ok()?, is_dead: matches!(words[0], "Z" | "X"), ticks })
    }
}

/// The entries of a folder that are numbers, in order.
fn numbers(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    all.sort_unstable();
    all
}

/// A new cgroup below our own, of version 2: it counts time whatever controllers there are.
fn make_group() -> Option<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let root = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let at = words.next()?;
        (words.next()? == "cgroup2").then_some(at)
    })?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let group = Path::new(root).join(own).join(format!("pxemc-meter-{}-{number}", std::process::id()));
    fs::create_dir(&group).ok()?;
    if fs::metadata(group.join("cpu.stat")).is_ok() {
        return Some(group);
    }
    let _ = fs::remove_dir(&group);
    None
}
