//! The load drivers: one for any SMTP server, one for any webapi of the v0 kind.
//!
//! The drivers share the machine with the server that they measure. So they do little: one thread
//! unless told otherwise, one message in which only the number changes, and no parsing beyond the
//! reply code. Every message has a number of its own in Subject and Message-ID. So a counting sink
//! knows which messages arrived.

mod idle;
mod smtp;
mod stats;
mod webapi;

use std::fs;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use tokio::sync::Barrier;

pub(crate) use stats::mebibytes;
use stats::{Cost, Outcome, Tally};

use crate::duration::parse_duration;
use crate::process::Processes;
use crate::workspace::warn_of_debug_build;

#[derive(Subcommand)]
pub(crate) enum Load {
    /// Sends messages to an SMTP server
    Smtp(smtp::SmtpArgs),
    /// Calls Send of a webapi
    Webapi(webapi::WebapiArgs),
    /// Opens connections to an SMTP server, does nothing on them, and prints their memory use
    Idle(idle::IdleArgs),
}

/// The options of all drivers.
#[derive(Args, Clone)]
struct Common {
    /// How many messages to send; without it as many as fit into --time
    #[arg(long)]
    messages: Option<u64>,
    /// Stop starting new messages after this time
    #[arg(long, value_parser = parse_duration, required_unless_present = "messages")]
    time: Option<Duration>,
    /// Bytes of a message: over SMTP the whole message, with the webapi its text part
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// The number in the first message's Subject
    #[arg(long, default_value_t = 0)]
    first_number: u64,
    /// Write the numbers of the accepted messages into this file, one a line
    #[arg(long)]
    accepted: Option<PathBuf>,
    /// Processes whose CPU time and memory are measured, with all their descendants
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    pid: Vec<u32>,
    /// How long a session tries to connect again after it has lost its connection
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    patience: Duration,
    /// How long a session waits for one answer; then it gives the connection up
    #[arg(long, value_parser = parse_duration, default_value = "2m")]
    timeout: Duration,
    /// Threads of the driver
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// The numbers that are still to be sent. All sessions share them.
pub(crate) struct Supply {
    next: AtomicU64,
    end: u64,
    time: Option<Duration>,
    over: AtomicBool,
}

impl Supply {
    fn new(common: &Common) -> Self {
        Self {
            next: AtomicU64::new(common.first_number),
            end: common
                .messages
                .map_or(u64::MAX, |messages| common.first_number + messages),
            time: common.time,
            over: AtomicBool::new(false),
        }
    }

    /// The number of the next message. None if all are taken or the time is over.
    fn take(&self, started: Instant) -> Option<u64> {
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let late = self.time.is_some_and(|time| started.elapsed() >= time);
        if late || number >= self.end {
            self.over.store(true, Ordering::Relaxed);
            return None;
        }
        Some(number)
    }
}

pub(crate) fn run(load: Load) -> Result<()> {
    warn_of_debug_build();
    match load {
        Load::Smtp(args) => smtp::run(args),
        Load::Webapi(args) => webapi::run(args),
        Load::Idle(args) => idle::run(&args),
    }
}

/// Runs one task per session, spread over threads, and adds up their counts. Each session connects,
/// waits at the barrier twice, and only then begins. So the cost of the first connections is not
/// part of the figures.
fn drive<F, Fut>(common: &Common, sessions: usize, session: F) -> Result<()>
where
    F: Fn(Arc<Supply>, Arc<Barrier>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Tally> + Send + 'static,
{
    let supply = Arc::new(Supply::new(common));
    // The measuring thread waits at the barrier too. It then reads the clock and the CPU times.
    let barrier = Arc::new(Barrier::new(sessions + 1));
    let session = Arc::new(session);
    let threads = common.threads.clamp(1, sessions.max(1));
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            let (supply, barrier) = (Arc::clone(&supply), Arc::clone(&barrier));
            let session = Arc::clone(&session);
            // Session I runs on the thread with the number I modulo the number of threads.
            let mine = (sessions + threads - 1 - thread) / threads;
            std::thread::spawn(move || -> Result<Vec<Tally>> {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                Ok(runtime.block_on(async {
                    let tasks: Vec<_> = (0..mine)
                        .map(|_| tokio::spawn(session(Arc::clone(&supply), Arc::clone(&barrier))))
                        .collect();
                    let mut tallies = Vec::with_capacity(mine);
                    for task in tasks {
                        tallies.extend(task.await);
                    }
                    tallies
                }))
            })
        })
        .collect();

    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let ourselves = Processes::new(vec![std::process::id()]);
    runtime.block_on(barrier.wait());
    // All sessions are connected, and none has begun. Reading all of /proc takes longer than some
    // messages take.
    let own_cpu_before = ourselves.cpu_seconds();
    let cost = Cost::start(Processes::new(common.pid.clone()));
    let started = Instant::now();
    runtime.block_on(barrier.wait());

    let mut tally = Tally::new(common.accepted.is_some());
    for worker in workers {
        let tallies = worker
            .join()
            .map_err(|_| anyhow::anyhow!("a thread of the driver panicked"))??;
        tallies.into_iter().for_each(|one| tally.add(one));
    }
    let outcome = Outcome {
        elapsed: started.elapsed(),
        cost: cost.end(),
        own_cpu: ourselves.cpu_seconds() - own_cpu_before,
        tally,
    };
    if let (Some(path), Some(numbers)) = (&common.accepted, &outcome.tally.numbers) {
        write_numbers(path, numbers)?;
    }
    if common.json {
        println!("{}", outcome.json());
    } else {
        outcome.print();
    }
    anyhow::ensure!(outcome.tally.accepted > 0, "no message was accepted");
    Ok(())
}

/// Waits until all sessions are connected, and until the measuring thread has read its first
/// figures.
async fn wait_for_start(barrier: &Barrier) {
    barrier.wait().await;
    barrier.wait().await;
}

/// How long a session goes on without progress.
struct Patience {
    limit: Duration,
    /// When it ends. None while there is progress.
    deadline: Option<Instant>,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            deadline: None,
        }
    }

    /// There was progress.
    fn renew(&mut self) {
        self.deadline = None;
    }

    /// Call this after an attempt without progress. True if the patience is at its end; otherwise
    /// it returns after the pause before the next attempt.
    async fn ends(&mut self) -> bool {
        let now = Instant::now();
        let ended = now >= *self.deadline.get_or_insert(now + self.limit);
        if !ended {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ended
    }
}

/// The result of an exchange with the server, or an error if it takes longer than the limit.
///
/// A crash of the server can leave a client with a connection that nobody closes: the client waits
/// for the greeting, and so sends nothing that could be refused.
async fn within<T>(
    limit: Duration,
    exchange: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match tokio::time::timeout(limit, exchange).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {limit:?}"),
        )),
    }
}

/// Writes numbers into a file, one a line.
pub(crate) fn write_numbers(path: &Path, numbers: &[u64]) -> Result<()> {
    let file = fs::File::create(path).with_context(|| format!("failed to create {path:?}"))?;
    let mut file = io::BufWriter::new(file);
    for number in numbers {
        writeln!(file, "{number}")?;
    }
    file.flush()
        .with_context(|| format!("failed to write {path:?}"))
}

/// The header that a proxy puts in front of the connection of the client with this number (PROXY
/// protocol, version 1).
fn proxy_header(number: u32) -> String {
    // Each client is in a network of its own (/21), so no limit of a network counts.
    let address = Ipv4Addr::from_bits(0x0b00_0001_u32.wrapping_add(number << 11));
    format!("PROXY TCP4 {address} 198.51.100.25 4711 25\r\n")
}

/// Text that fills a message, in lines of a usual length.
pub(crate) fn filler(size: usize) -> Vec<u8> {
    const LINE: &[u8] =
        b"The quick brown fox jumps over the lazy dog, and the post is carried on.  \r\n";
    let mut text: Vec<u8> = LINE.iter().copied().cycle().take(size).collect();
    // The cut at the end must not leave half a line end.
    if text.ends_with(b"\r") {
        text.pop();
        text.push(b'.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(messages: Option<u64>, time: Option<Duration>) -> Common {
        Common {
            messages,
            time,
            size: 100,
            first_number: 5,
            accepted: None,
            pid: Vec::new(),
            patience: Duration::ZERO,
            timeout: Duration::from_secs(1),
            threads: 1,
            json: false,
        }
    }

    #[test]
    fn the_supply_gives_each_number_once() {
        let supply = Supply::new(&common(Some(3), None));
        let now = Instant::now();
        let taken: Vec<_> = std::iter::from_fn(|| supply.take(now)).collect();
        assert_eq!(taken, [5, 6, 7]);
        assert_eq!(supply.take(now), None);
        let over = Supply::new(&common(None, Some(Duration::ZERO)));
        assert_eq!(over.take(now), None);
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_an_error() {
        let never = within(
            Duration::from_millis(1),
            std::future::pending::<io::Result<()>>(),
        );
        assert_eq!(never.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let now = within(Duration::from_secs(3600), async { Ok(1) });
        assert_eq!(now.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn patience_ends_unless_there_is_progress() {
        assert!(Patience::new(Duration::ZERO).ends().await);
        let mut patience = Patience::new(Duration::from_secs(3600));
        assert!(!patience.ends().await);
        assert!(patience.deadline.is_some());
        patience.renew();
        assert!(patience.deadline.is_none());
    }

    #[test]
    fn filler_has_the_size_and_no_lone_carriage_return() {
        for size in 0..400 {
            let text = filler(size);
            assert_eq!(text.len(), size);
            assert!(!text.ends_with(b"\r"));
            assert!(!text.starts_with(b"."));
        }
    }
}
