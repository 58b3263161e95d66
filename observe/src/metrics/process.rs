//! What the system says of the process, read at the time of asking.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::{
    family::{Series, Value},
    list::{Definition, Kind},
};

/// The definitions of the figures of a process. Their names are those of all programs, without our
/// prefix.
pub const PROCESS: [Definition; 7] = [
    figure(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Time of all processors that the process used.",
    ),
    figure(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Memory that the process takes.",
    ),
    figure(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "Addresses that the process has in use.",
    ),
    figure("process_open_fds", Kind::Gauge, "Open file descriptors."),
    figure(
        "process_max_fds",
        Kind::Gauge,
        "The most file descriptors that may be open.",
    ),
    figure("process_threads", Kind::Gauge, "Threads of the process."),
    figure(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, in seconds since 1970.",
    ),
];

const fn figure(name: &'static str, kind: Kind, help: &'static str) -> Definition {
    Definition {
        name,
        kind,
        help,
        labels: &[],
    }
}

/// The figures of a process, in the order of [`PROCESS`]. One that the system does not tell is
/// none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process([Option<f64>; 7]);

impl Process {
    /// The figures of this process now.
    #[must_use]
    pub fn read() -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
        let tick = sysconf(SysconfVar::CLK_TCK).ok().flatten();
        let files = Files {
            stat: &read("self/stat"),
            status: &read("self/status"),
            limits: &read("self/limits"),
            system: &read("stat"),
            descriptors: fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
        };
        #[expect(clippy::cast_precision_loss, reason = "a hundred, on all systems")]
        files.process(tick.map_or(100.0, |tick| tick as f64))
    }

    /// Memory that the process takes, in bytes.
    #[must_use]
    pub const fn memory(&self) -> Option<f64> {
        self.0[1]
    }

    pub(super) fn each(&self, visit: &mut dyn FnMut(Definition, &dyn Series)) {
        for (definition, figure) in PROCESS.into_iter().zip(self.0) {
            let figure = figure.map(|figure| Figure(definition.kind, figure));
            visit(definition, &figure);
        }
    }
}

/// A figure, as a series without labels.
struct Figure(Kind, f64);

impl Series for Option<Figure> {
    fn each(&self, visit: &mut dyn FnMut(&[&str], Value)) {
        match self {
            Some(Figure(Kind::Counter, figure)) => visit(&[], Value::Counter(*figure)),
            Some(Figure(_, figure)) => visit(&[], Value::Gauge(*figure)),
            None => {}
        }
    }
}

/// The texts of the files of /proc (proc(5)).
struct Files<'a> {
    stat: &'a str,
    status: &'a str,
    limits: &'a str,
    /// /proc/stat, of the whole system.
    system: &'a str,
    descriptors: Option<usize>,
}

impl Files<'_> {
    /// `tick` is how many ticks of the clock a second has.
    fn process(&self, tick: f64) -> Process {
        let seconds = |ticks: f64| ticks / tick;
        let cpu = self.stat(11).zip(self.stat(12));
        let start = self.stat(19).zip(number(self.system, "btime"));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let descriptors = self.descriptors.map(|open| open as f64);
        Process([
            cpu.map(|(user, system)| seconds(user + system)),
            number(self.status, "VmRSS:").map(|kib| kib * 1024.0),
            number(self.status, "VmSize:").map(|kib| kib * 1024.0),
            // The folder itself was open too.
            descriptors.map(|open| (open - 1.0).max(0.0)),
            number(self.limits, "Max open files"),
            number(self.status, "Threads:"),
            start.map(|(start, boot)| boot + seconds(start)),
        ])
    }

    /// A field of /proc/self/stat, counted from 0 behind the name of the program, which may have
    /// spaces and brackets.
    fn stat(&self, field: usize) -> Option<f64> {
        let (_, behind) = self.stat.rsplit_once(')')?;
        behind.split_ascii_whitespace().nth(field)?.parse().ok()
    }
}

/// The first number of the line that begins so.
fn number(text: &str, begin: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(begin));
    lines.next()?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn figures_are_read_from_the_files_of_the_system() {
        let files = Files {
            stat: "77 (a ) b) S 1 77 77 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 5 0 12300 1 2 3",
            status: "Name:\tx\nVmSize:\t   2048 kB\nVmRSS:\t   1024 kB\nThreads:\t5\n",
            limits: "Limit    Soft Limit  Hard Limit\nMax open files   1024   4096   files\n",
            system: "cpu 1 2\nbtime 1700000000\n",
            descriptors: Some(8),
        };
        let expected = [
            3.0,
            1_048_576.0,
            2_097_152.0,
            7.0,
            1024.0,
            5.0,
            1_700_000_123.0,
        ];
        assert_eq!(files.process(100.0), Process(expected.map(Some)));
        let none = Files {
            stat: "",
            status: "VmRSS: much",
            limits: "Max open files unlimited",
            system: "",
            descriptors: None,
        };
        assert_eq!(none.process(100.0), Process::default());
    }

    #[test]
    fn this_process_has_all_figures() {
        let process = Process::read();
        assert!(process.0.iter().all(Option::is_some), "{process:?}");
        assert!(process.memory().unwrap() > 100_000.0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let start = process.0[6].unwrap();
        let age = now.unwrap().as_secs_f64() - start;
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
