//! Measures how fast the store accepts messages, claims due messages and starts again, with an
//! empty queue and with a million messages in it.
//!
//! `cargo bench -p postrider-store`
//!
//! | environment variable | meaning |
//! |---|---|
//! | `STORE_BENCH_DIR` | the folder for the data, by default that for temporary files |
//! | `STORE_BENCH_QUEUED` | the number of queued messages. The default is a million |

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a program for developers: it prints its results and ends when something fails"
)]

mod common;

use std::{
    env,
    fs::OpenOptions,
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{MEASURE, SMALL_TEXT, TEXT, count, memory, produce, rate, runtime};
use postrider_store::{Claim, Moment, Options, Store, Time, Which};

fn for_a_while(_: u64, begun: Instant) -> bool {
    begun.elapsed() >= MEASURE
}

/// Measures the disk alone: overwrites 4 KiB of a file of zeros and syncs, again and again.
fn disk(dir: &Path) {
    let file = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .open(dir.join("disk"))
        .unwrap();
    file.write_all_at(&vec![0; 64 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let begun = Instant::now();
    let mut latencies = Vec::new();
    while begun.elapsed() < MEASURE {
        let start = Instant::now();
        let place = latencies.len() as u64 * TEXT as u64 % (64 << 20);
        file.write_all_at(&[1; TEXT], place).unwrap();
        file.sync_data().unwrap();
        latencies.push(start.elapsed());
    }
    rate(
        latencies,
        "the disk, one write of 4 KiB and one sync at a time",
    );
    std::fs::remove_file(dir.join("disk")).unwrap();
}

fn claim(max: usize) -> Claim {
    Claim {
        now: Time(1_000_000),
        moment: Moment::default(),
        max,
        max_per_lane: max,
        which: Which::All,
        lease: Duration::from_secs(600),
    }
}

/// Queues `count` messages, then goes on until it is killed.
fn fill(dir: &Path, count: u64) {
    let store = Store::open(Options::new(dir)).unwrap();
    // The first 20000 messages are due, the others are not.
    let due = |number: u64| Time(if number < 20_000 { 0 } else { 1 << 60 });
    let begun = Instant::now();
    produce(&store, 100, SMALL_TEXT, due, 0, move |number, _| {
        number >= count
    });
    println!(
        "{count} queued in {:.1} s, {}",
        begun.elapsed().as_secs_f64(),
        memory()
    );
    println!("ready");
    produce(&store, 8, SMALL_TEXT, due, count, |_, _| false);
}

/// Opens the folder that a killed process left, and measures.
fn open(dir: &Path, empty_rate: f64) {
    let begun = Instant::now();
    let store = Store::open(Options::new(dir)).unwrap();
    println!(
        "start after kill -9 with {} queued: {:.3} s, {}",
        runtime().block_on(store.counts()).queued,
        begun.elapsed().as_secs_f64(),
        memory()
    );
    let begun = Instant::now();
    let rounds = 5000;
    runtime().block_on(async {
        for _ in 0..rounds {
            assert_eq!(store.claim(claim(1)).await.unwrap().messages.len(), 1);
        }
    });
    println!(
        "claim of one due message, with the way to the writer and back: {:.1} us",
        begun.elapsed().as_secs_f64() / f64::from(rounds) * 1e6
    );
    let begun = Instant::now();
    let mut claimed = 0;
    runtime().block_on(async {
        while claimed < 10_000 {
            claimed += store.claim(claim(100)).await.unwrap().messages.len();
        }
    });
    println!(
        "claims of 100 at once, per message: {:.2} us",
        begun.elapsed().as_secs_f64() / claimed as f64 * 1e6
    );
    let latencies = produce(&store, 100, TEXT, |_| Time(1 << 60), 1 << 40, for_a_while);
    let rate = rate(latencies, "100 producers with this queue");
    println!(
        "that is {:.2} of the rate with an empty queue; {}",
        rate / empty_rate,
        memory()
    );
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn again(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(arguments);
    command
}

fn main() {
    let arguments: Vec<String> = env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let count = count();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["fill", dir] => return fill(Path::new(dir), count),
        ["open", dir, empty_rate] => return open(Path::new(dir), empty_rate.parse().unwrap()),
        _ => {}
    }
    let parent = env::var_os("STORE_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new()
        .prefix("store-bench-")
        .tempdir_in(parent)
        .unwrap();
    disk(dir.path());
    let mut last = 0.0;
    for producers in [1, 8, 32, 100] {
        let data = dir.path().join(format!("empty-{producers}"));
        let store = Store::open(Options::new(&data)).unwrap();
        let latencies = produce(&store, producers, TEXT, |_| Time(1 << 60), 0, for_a_while);
        last = rate(latencies, &format!("{producers} producers"));
        runtime().block_on(store.close());
        std::fs::remove_dir_all(&data).unwrap();
    }
    let data = dir.path().join("million");
    let data = data.to_str().unwrap();
    let mut filler = Killed(
        again(&["fill", data])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    for line in BufReader::new(filler.0.stdout.take().unwrap()).lines() {
        match line.unwrap().as_str() {
            "ready" => break,
            line => println!("{line}"),
        }
    }
    // Kill it in the middle of its work.
    drop(filler);
    assert!(
        again(&["open", data, &last.to_string()])
            .status()
            .unwrap()
            .success()
    );
}
