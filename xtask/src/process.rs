//! The cost of processes: CPU time and memory of a process and all its descendants, from `/proc`.
//!
//! A mail server may be one process or forty, and some end while a measurement runs. The times of a
//! child that ended and was waited for are in `cutime` and `cstime` of its parent. So the sum over
//! the living tree never loses any time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// `USER_HZ`, the unit of the times in `/proc/PID/stat`: 100 a second on every usual architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processes of a measured server: some roots, and all their descendants at the time of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes {
    roots: Vec<u32>,
}

/// The memory use of a set of processes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    /// Resident pages. A shared page counts in each process.
    pub(crate) rss: u64,
    /// Proportional set size: each shared page is divided among the processes that share it. So the
    /// sum over several processes counts no page twice.
    pub(crate) pss: u64,
}

impl Processes {
    /// The processes with these ids, and their descendants.
    pub(crate) fn new(roots: Vec<u32>) -> Self {
        Self { roots }
    }

    /// Whether there is nothing to measure.
    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// User and system time used so far, in seconds, with the time of children that ended.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stats = all_stats();
        let ticks: u64 = self
            .tree(&stats)
            .iter()
            .filter_map(|pid| stats.get(pid))
            .map(|stat| stat.ticks)
            .sum();
        ticks as f64 / TICKS_PER_SECOND
    }

    /// Memory use now. A process of another user counts as nothing if we may not read its figures.
    pub(crate) fn memory(&self) -> MemoryUse {
        let stats = all_stats();
        let mut memory = MemoryUse::default();
        for pid in self.tree(&stats) {
            let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
                continue;
            };
            memory.rss += kibibytes(&text, "Rss:") * 1024;
            memory.pss += kibibytes(&text, "Pss:") * 1024;
        }
        memory
    }

    /// Kills all of them with SIGKILL, and also the children that they start meanwhile.
    pub(crate) fn kill(&self) {
        let mut killed = BTreeSet::new();
        loop {
            let tree = self.tree(&all_stats());
            // A process that ended stays in the table until its parent waits for it, perhaps for
            // ever.
            let left: Vec<u32> = tree.difference(&killed).copied().collect();
            if left.is_empty() {
                return;
            }
            for pid in left {
                if let Ok(id) = i32::try_from(pid) {
                    let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
                }
                killed.insert(pid);
            }
        }
    }

    /// Kills the descendants with SIGKILL, and not the roots. Returns the command lines of the
    /// killed processes.
    pub(crate) fn kill_descendants(&self) -> Vec<String> {
        let mut descendants = self.tree(&all_stats());
        descendants.retain(|pid| !self.roots.contains(pid));
        let line = |pid: &u32| {
            let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&text)
                .replace('\0', " ")
                .trim_end()
                .to_owned()
        };
        let lines = descendants.iter().map(line).collect();
        Self::new(descendants.into_iter().collect()).kill();
        lines
    }

    fn tree(&self, stats: &BTreeMap<u32, Stat>) -> BTreeSet<u32> {
        let mut tree: BTreeSet<u32> = self.roots.iter().copied().collect();
        // A parent may have a higher id than its child. So the loop runs until it adds nothing.
        loop {
            let before = tree.len();
            for (pid, stat) in stats {
                if tree.contains(&stat.parent) {
                    tree.insert(*pid);
                }
            }
            if tree.len() == before {
                return tree;
            }
        }
    }
}

/// The threads of a process: the name of each, its state (proc(5)), and the function of the kernel
/// in which it waits. Equal ones are counted.
pub(crate) fn threads(pid: u32) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let read = |name| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let stat = read("stat");
        let state = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest.trim_start());
        let state = state.get(..1).unwrap_or("?");
        let thread = format!("{} {state} {}", read("comm").trim(), read("wchan").trim());
        *counts.entry(thread).or_default() += 1;
    }
    let threads: Vec<String> = counts
        .into_iter()
        .map(|(thread, count)| format!("{count} {}", thread.trim_end()))
        .collect();
    threads.join(", ")
}

/// Waits for a process. After the limit the process and all its descendants are killed, and the
/// result is None.
pub(crate) fn within<T>(limit: Duration, pid: u32, wait: impl FnOnce() -> T) -> Option<T> {
    let (ended, hear) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let hangs = hear.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if hangs {
            Processes::new(vec![pid]).kill();
        }
        hangs
    });
    let waited = wait();
    drop(ended);
    (!watch.join().unwrap_or_default()).then_some(waited)
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn all_stats() -> BTreeMap<u32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse_stat(&text)?))
        })
        .collect()
}

/// Reads the parent, and the sum of utime, stime, cutime and cstime, from `/proc/PID/stat`
/// (proc(5)).
fn parse_stat(text: &str) -> Option<Stat> {
    // The command's name stands in parentheses and may contain spaces and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let ticks = fields
        .get(11..15)?
        .iter()
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Some(Stat { parent, ticks })
}

fn kibibytes(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b (c)) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.parent, 7);
        assert_eq!(stat.ticks, 127);
    }

    #[test]
    fn threads_have_names_and_states() {
        let ourselves = threads(std::process::id());
        assert!(
            ourselves.starts_with("1 ") && ourselves.contains(" R"),
            "{ourselves}"
        );
        assert_eq!(threads(u32::MAX), "");
    }

    #[test]
    fn a_child_belongs_to_the_tree() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let processes = Processes::new(vec![std::process::id()]);
        let count = processes.tree(&all_stats()).len();
        let memory = processes.memory();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(count >= 2, "{count}");
        assert!(memory.pss > 0 && memory.rss >= memory.pss, "{memory:?}");
    }
}
