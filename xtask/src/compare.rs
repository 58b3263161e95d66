//! Side by side: postrider and another server under the same load on the same machine, in alternating rounds.
//!
//! A machine's disk and neighbours change from minute to minute, so absolute rates of two sittings say little about each
//! other. What holds is the ratio of two runs that follow each other at once; so every round measures all, in turn, each
//! freshly made in an empty folder and warmed up, and the ratios are taken within the round. The table shows medians.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::Value;

use crate::load::mebibytes;
use crate::postfix::{self, Postfix};
use crate::postrider;
use crate::process::Processes;
use crate::workspace::{Profile, build_postrider, parse_duration, refuse_debug_build};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The other server
    #[arg(value_enum)]
    peer: Peer,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Numbers of sessions
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,100")]
    sessions: Vec<usize>,
    /// What is measured
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "accept,relay"
    )]
    work: Vec<Work>,
    /// Who is measured
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "sink,peer,postrider"
    )]
    only: Vec<Who>,
    /// How long messages are sent in one measurement
    #[arg(long, value_parser = parse_duration, default_value = "4s")]
    time: Duration,
    /// How long the warm-up before it is
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    warm_up: Duration,
    /// Bytes of a message
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Send envelopes in groups
    #[arg(long)]
    pipelining: bool,
    /// Submit with TLS from the first byte, on kept connections
    #[arg(long)]
    tls: bool,
    /// postrider signs what it relays, with Ed25519 (the other server does not)
    #[arg(long)]
    dkim: bool,
    /// A setting of the other server that replaces or adds to ours, such as max_use=100
    #[arg(long, value_name = "NAME=VALUE")]
    peer_set: Vec<String>,
    /// Where the servers' folders are made; its disk is what is measured
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The postrider binary; without it the workspace's is built
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    /// Debian's Postfix
    Postfix,
}

/// What a server is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Work {
    /// Take messages and keep them; nothing is delivered meanwhile
    Accept,
    /// Take messages and pass them on to a sink; counted when the sink has them
    Relay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Who {
    /// The disk: one message at a time written and synced, into a file that has its size
    Disk,
    /// The sink itself, as the floor: it stores nothing
    Sink,
    /// The other server
    Peer,
    Postrider,
    /// postrider, which gets the messages by its webapi
    Webapi,
}

impl Who {
    fn name(self, peer: Peer) -> &'static str {
        match (self, peer) {
            (Self::Disk, _) => "disk",
            (Self::Sink, _) => "sink",
            (Self::Peer, Peer::Postfix) => "postfix",
            (Self::Postrider, _) => "postrider",
            (Self::Webapi, _) => "its webapi",
        }
    }

    /// Whether it is the one that is compared with the others.
    fn is_ours(self) -> bool {
        matches!(self, Self::Postrider | Self::Webapi)
    }

    /// What an answer of 250 is worth, to be read beside its rate.
    fn durability(self) -> &'static str {
        match self {
            Self::Sink => "nothing stored",
            Self::Disk => "A: synced, without SMTP",
            Self::Peer | Self::Postrider => "A: synced before 250",
            Self::Webapi => "A: synced before 200",
        }
    }
}

/// A server to put load on.
pub(crate) struct Target {
    pub(crate) port: u16,
    /// Of the webapi, if that is to be used.
    pub(crate) webapi: Option<u16>,
    /// The reverse-path that it takes.
    pub(crate) from: String,
    pub(crate) login: Option<(String, String)>,
    pub(crate) processes: Processes,
}

/// One measurement.
#[derive(Clone, Debug)]
struct Figures {
    /// Messages a second: accepted, or come to the sink.
    rate: f64,
    p50: f64,
    p99: f64,
    /// CPU seconds of the server per 1000 messages.
    cpu: f64,
    /// Bytes, proportional.
    pss: u64,
    errors: String,
}

type Cell = (Work, usize, Who);

pub(crate) fn run(args: &Args) -> Result<()> {
    refuse_debug_build("compare")?;
    let bench = Bench::new(args)?;
    let mut results: BTreeMap<Cell, Vec<Figures>> = BTreeMap::new();
    for round in 1..=args.rounds {
        for &work in &args.work {
            for &sessions in &args.sessions {
                for &who in &args.only {
                    // The floors relay nothing, the disk has no sessions, and the sink no TLS.
                    let floor = match who {
                        Who::Disk => {
                            work == Work::Relay || Some(&sessions) != args.sessions.first()
                        }
                        Who::Sink => work == Work::Relay || args.tls,
                        // It is asked in plain HTTP.
                        Who::Webapi => args.tls,
                        Who::Peer | Who::Postrider => false,
                    };
                    if floor {
                        continue;
                    }
                    let figures = bench
                        .measure(work, sessions, who)
                        .with_context(|| format!("{} failed", who.name(args.peer)))?;
                    eprintln!(
                        "round {round}: {work:?} {sessions} sessions {}: {:.0}/s{}",
                        who.name(args.peer),
                        figures.rate,
                        figures.errors
                    );
                    results
                        .entry((work, sessions, who))
                        .or_default()
                        .push(figures);
                }
            }
        }
    }
    print_table(args, &results);
    Ok(())
}

/// What all measurements share.
struct Bench<'a> {
    args: &'a Args,
    dir: PathBuf,
    binary: Option<PathBuf>,
}

impl<'a> Bench<'a> {
    fn new(args: &'a Args) -> Result<Self> {
        if args.only.contains(&Who::Peer) {
            ensure!(
                args.peer_set.iter().all(|setting| setting.contains('=')),
                "--peer-set takes NAME=VALUE"
            );
            match args.peer {
                Peer::Postfix => postfix::check()?,
            }
        }
        let binary = match &args.binary {
            Some(binary) => Some(binary.clone()),
            None if args.only.iter().any(|who| who.is_ours()) => {
                Some(build_postrider(Profile::Release)?)
            }
            None => None,
        };
        Ok(Self {
            args,
            dir: args.dir.clone().unwrap_or_else(std::env::temp_dir),
            binary,
        })
    }

    /// One measurement of one server, freshly made.
    fn measure(&self, work: Work, sessions: usize, who: Who) -> Result<Figures> {
        if who == Who::Disk {
            return self.measure_disk();
        }
        // While postrider only accepts, its smarthost must keep it waiting; Postfix has a queue of its own for that.
        let stalled = work == Work::Accept && who.is_ours();
        let sink = Sink::start(stalled)?;
        match who {
            Who::Disk => bail!("the disk takes no mail"),
            Who::Sink => {
                let target = Target {
                    port: sink.port,
                    webapi: None,
                    from: "load@load.example".to_owned(),
                    login: None,
                    processes: Processes::new(vec![sink.child.id()]),
                };
                self.load(work, sessions, &target, &sink)
            }
            Who::Peer => {
                let server = Postfix::start(
                    &self.dir,
                    work,
                    sink.port,
                    self.args.tls,
                    &self.args.peer_set,
                )?;
                self.load(work, sessions, &server.target(), &sink)
            }
            Who::Postrider | Who::Webapi => {
                let binary = self.binary.as_deref().context("no postrider binary")?;
                let setup = postrider::Setup {
                    work,
                    relay: sink.port,
                    tls: self.args.tls,
                    dkim: self.args.dkim,
                };
                let instance = postrider::Instance::create(&self.dir, binary, setup)?;
                let running = instance.start()?;
                instance.set_password()?;
                let mut target = instance.target(&running);
                target.webapi = (who == Who::Webapi).then_some(instance.http);
                let figures = self.load(work, sessions, &target, &sink)?;
                running.kill()?;
                Ok(figures)
            }
        }
    }

    /// What one message's write and sync cost, one after the other, for a part of the time.
    fn measure_disk(&self) -> Result<Figures> {
        const FILE: u64 = 16 << 20;
        let mut file = tempfile::tempfile_in(&self.dir)?;
        file.write_all(&vec![0; FILE as usize])?;
        file.sync_all()?;
        let message = vec![b'x'; self.args.size];
        let mut times = Vec::new();
        let begun = Instant::now();
        let mut at = 0;
        while begun.elapsed() < self.args.time / 4 {
            let before = Instant::now();
            file.write_all_at(&message, at)?;
            file.sync_data()?;
            times.push(before.elapsed().as_secs_f64());
            at = (at + self.args.size as u64) % (FILE / 2);
        }
        times.sort_unstable_by(f64::total_cmp);
        let quantile = |share: f64| {
            let index = (times.len() as f64 * share) as usize;
            times.get(index).copied().unwrap_or(f64::NAN)
        };
        Ok(Figures {
            rate: times.len() as f64 / begun.elapsed().as_secs_f64(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            cpu: f64::NAN,
            pss: 0,
            errors: String::new(),
        })
    }

    /// Warms up, sends, and for a relay waits until the sink has all.
    fn load(&self, work: Work, sessions: usize, target: &Target, sink: &Sink) -> Result<Figures> {
        let warmed = self.drive(sessions, target, self.args.warm_up)?;
        if work == Work::Relay {
            sink.wait_for(accepted(&warmed)?)?;
        }
        sink.ask("/reset")?;
        let cpu_before = target.processes.cpu_seconds();
        let begun = Instant::now();
        let report = self.drive(sessions, target, self.args.time)?;
        let messages = accepted(&report)?;
        let rate = match work {
            Work::Accept => number(&report, "rate")?,
            Work::Relay => {
                sink.wait_for(messages)?;
                messages as f64 / begun.elapsed().as_secs_f64()
            }
        };
        let cpu = target.processes.cpu_seconds() - cpu_before;
        let errors = match report.get("errors") {
            Some(Value::Object(errors)) if !errors.is_empty() => {
                format!(" ERRORS: {}", Value::Object(errors.clone()))
            }
            _ => String::new(),
        };
        Ok(Figures {
            rate,
            p50: number(&report, "p50")?,
            p99: number(&report, "p99")?,
            cpu: cpu * 1000.0 / messages as f64,
            pss: target.processes.memory().pss,
            errors,
        })
    }

    /// Runs the load driver as its own process, as a person would, and gives its report.
    fn drive(&self, sessions: usize, target: &Target, time: Duration) -> Result<Value> {
        let mut command = Command::new(std::env::current_exe()?);
        match target.webapi {
            Some(port) => {
                command.args(["load", "webapi", "--json"]);
                command.arg(format!("--url=http://127.0.0.1:{port}/webapi/v0/"));
                command.arg(format!("--concurrency={sessions}"));
            }
            None => {
                command.args(["load", "smtp", "--json"]);
                command.arg(format!("--port={}", target.port));
                command.arg(format!("--sessions={sessions}"));
                command.arg(format!("--from={}", target.from));
                if self.args.tls {
                    command.arg("--tls");
                }
                if self.args.pipelining {
                    command.arg("--pipelining");
                }
            }
        }
        command.arg(format!("--time={}ms", time.as_millis()));
        command.arg(format!("--size={}", self.args.size));
        if let Some((login, password)) = &target.login {
            command.args(["--login", login, "--password", password]);
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        let report: Value =
            serde_json::from_slice(&output.stdout).context("the load driver printed no report")?;
        ensure!(
            output.status.success(),
            "the load driver failed: {}",
            report.get("errors").unwrap_or(&Value::Null)
        );
        Ok(report)
    }
}

fn accepted(report: &Value) -> Result<u64> {
    report
        .get("accepted")
        .and_then(Value::as_u64)
        .context("the report lacks accepted")
}

fn number(report: &Value, key: &str) -> Result<f64> {
    report
        .get(key)
        .and_then(Value::as_f64)
        .with_context(|| format!("the report lacks {key}"))
}

/// The sink as its own process.
pub(crate) struct Sink {
    pub(crate) child: Child,
    pub(crate) port: u16,
    control: String,
}

impl Sink {
    /// Starts a sink; one that is stalled takes connections and never greets.
    pub(crate) fn start(stalled: bool) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["sink", "--port=0", "--control=0", "--pipelining"]);
        if stalled {
            command.arg("--greeting-delay=24h");
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("the sink has no output")?;
        let mut lines = BufReader::new(output).lines();
        let mut port = None;
        let mut control = None;
        while port.is_none() || control.is_none() {
            let line = lines.next().context("the sink ended")??;
            if let Some(address) = line.strip_prefix("smtp 127.0.0.1:") {
                port = Some(address.parse()?);
            }
            if let Some(url) = line.strip_prefix("control http://") {
                control = Some(url.trim_end_matches("/count").to_owned());
            }
        }
        let (Some(port), Some(control)) = (port, control) else {
            bail!("the sink did not say where it listens");
        };
        Ok(Self {
            child,
            port,
            control,
        })
    }

    /// Asks a question on the control port.
    pub(crate) fn ask(&self, target: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.control)?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        write!(stream, "GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .with_context(|| format!("the sink did not answer {target}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        ensure!(
            head.contains(" 200 "),
            "the sink answered {target}: {answer}"
        );
        Ok(body.to_owned())
    }

    /// Waits until this many messages came, for up to five minutes.
    pub(crate) fn wait_for(&self, messages: u64) -> Result<()> {
        self.ask(&format!("/wait?messages={messages}")).map(drop)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something answers on a port of 127.0.0.1, for up to 20 seconds.
pub(crate) fn wait_for_port(port: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("nothing answers on port {port}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn print_table(args: &Args, results: &BTreeMap<Cell, Vec<Figures>>) {
    println!(
        "Medians of {} rounds of {:?}, {} bytes a message, {}, {}{}. In brackets: lowest to highest rate. Latencies are \
         those of acceptance.",
        args.rounds,
        args.time,
        args.size,
        if args.pipelining {
            "envelopes pipelined"
        } else {
            "each command answered before the next"
        },
        if args.tls { "TLS" } else { "no TLS" },
        if args.dkim { ", postrider signs" } else { "" },
    );
    println!();
    println!(
        "| work | sessions | server | messages/s | p50 ms | p99 ms | CPU s/1000 | PSS MiB | durability |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for ((work, sessions, who), rounds) in results {
        let of = |value: fn(&Figures) -> f64| median(rounds.iter().map(value));
        let rates = || rounds.iter().map(|figures| figures.rate);
        println!(
            "| {} | {sessions} | {} | {:.0} ({:.0}-{:.0}) | {:.2} | {:.2} | {} | {} | {} |",
            format!("{work:?}").to_lowercase(),
            who.name(args.peer),
            median(rates()),
            rates().fold(f64::INFINITY, f64::min),
            rates().fold(0.0, f64::max),
            of(|figures| figures.p50 * 1000.0),
            of(|figures| figures.p99 * 1000.0),
            known(of(|figures| figures.cpu), 3),
            known(of(|figures| mebibytes(figures.pss)), 1),
            who.durability()
        );
    }
    print_ratios(args, results);
}

/// postrider's figures divided by the others', each within its round.
fn print_ratios(args: &Args, results: &BTreeMap<Cell, Vec<Figures>>) {
    let mut heading = false;
    for ((work, sessions, who), rounds) in results {
        if !who.is_ours() {
            continue;
        }
        for other in [Who::Peer, Who::Sink] {
            let Some(others) = results.get(&(*work, *sessions, other)) else {
                continue;
            };
            if !heading {
                println!("\n| work | sessions | of | against | rate | p99 | CPU |");
                println!("|---|---|---|---|---|---|---|");
                heading = true;
            }
            let ratio = |value: fn(&Figures) -> f64| {
                let pairs = rounds.iter().zip(others);
                median(pairs.map(|(ours, theirs)| value(ours) / value(theirs)))
            };
            println!(
                "| {} | {sessions} | {} | {} | {:.2} | {:.2} | {:.2} |",
                format!("{work:?}").to_lowercase(),
                who.name(args.peer),
                other.name(args.peer),
                ratio(|figures| figures.rate),
                ratio(|figures| figures.p99),
                ratio(|figures| figures.cpu)
            );
        }
    }
}

/// A figure, or a dash for what has none, such as the memory of a disk.
fn known(figure: f64, decimals: usize) -> String {
    if figure.is_nan() || figure == 0.0 {
        return "-".to_owned();
    }
    format!("{figure:.decimals$}")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(upper), 0) => (upper + values.get(middle - 1).unwrap_or(upper)) / 2.0,
        (Some(value), _) => *value,
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
        assert!(median([].into_iter()).is_nan());
    }

    #[test]
    fn figures_that_there_are_none_of() {
        assert_eq!(known(1.2346, 3), "1.235");
        assert_eq!(known(f64::NAN, 3), "-");
        assert_eq!(known(0.0, 1), "-");
    }

    #[test]
    fn a_port_that_answers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        wait_for_port(listener.local_addr().unwrap().port()).unwrap();
    }
}
