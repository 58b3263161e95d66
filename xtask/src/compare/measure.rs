//! One measurement: a new server, a warm-up, the load, and the figures.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::internet::{AUTHOR, Internet, MAILBOX_DOMAIN, MAILBOXES, check_refusal};
use super::program::Program;
use super::{Args, Peer, Target, Who, Work};
use crate::milters;
use crate::postfix::{self, Postfix};
use crate::postrider;
use crate::process::Processes;
use crate::sink::SinkProcess;
use crate::workspace::{Profile, build_postrider};

/// The figures of one measurement.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// Messages a second: accepted ones, or for a relay the ones at the sink.
    pub(super) rate: f64,
    /// Latencies of acceptance, in seconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// CPU seconds of the server per 1000 messages.
    pub(super) cpu: f64,
    /// Proportional memory use in bytes.
    pub(super) pss: u64,
    /// The errors of the load driver as text, or nothing.
    pub(super) errors: String,
}

/// The settings that all measurements share.
pub(super) struct Bench<'a> {
    args: &'a Args,
    dir: PathBuf,
    binary: Option<PathBuf>,
    /// For [`Work::Receive`].
    internet: Option<Internet>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(args: &'a Args) -> Result<Self> {
        if args.only.contains(&Who::Peer) {
            ensure!(
                args.peer_set.iter().all(|setting| setting.contains('=')),
                "--peer-set takes NAME=VALUE"
            );
            match args.peer {
                Peer::Postfix => postfix::check()?,
            }
            if args.work.contains(&Work::Receive) {
                milters::check()?;
            }
        }
        let internet = match args.work.contains(&Work::Receive) {
            true => Some(Internet::new(args.size)?),
            false => None,
        };
        let binary = match &args.binary {
            Some(binary) => Some(binary.clone()),
            None if args.only.iter().any(|who| who.is_ours()) => {
                Some(build_postrider(Profile::Dist)?)
            }
            None => None,
        };
        Ok(Self {
            args,
            dir: args.dir.clone().unwrap_or_else(std::env::temp_dir),
            binary,
            internet,
        })
    }

    /// Makes a new server and measures it once.
    pub(super) fn measure(&self, work: Work, sessions: usize, who: Who) -> Result<Figures> {
        if who == Who::Disk {
            return self.measure_disk();
        }
        // While postrider only accepts, its smarthost must never greet. Postfix uses its hold
        // queue.
        let stalled = work == Work::Accept && (who.is_ours() || who.is_before());
        let sink = match self.args.relay_tls && !stalled {
            true => SinkProcess::with_tls()?,
            false => SinkProcess::start(stalled)?,
        };
        match who {
            Who::Disk => bail!("the disk takes no mail"),
            Who::Sink => {
                let target = Target {
                    port: sink.port,
                    webapi: None,
                    from: "load@load.example".to_owned(),
                    login: None,
                    processes: Processes::new(vec![sink.id()]),
                };
                self.load(work, sessions, &target, &sink)
            }
            Who::Peer => {
                let mut more = self.args.peer_set.clone();
                if self.args.relay_tls {
                    more.push("smtp_tls_security_level = encrypt".to_owned());
                }
                let tls = self.args.tls;
                let server = Postfix::start(&self.dir, work, sink.port, tls, &more)?;
                self.load(work, sessions, &server.target(), &sink)
            }
            Who::Postrider | Who::Hook | Who::Webapi | Who::Before | Who::WebapiBefore => {
                let binary = if who.is_before() {
                    let before = self.args.before.as_deref();
                    before.context("--before names the earlier binary")?
                } else {
                    self.binary.as_deref().context("no postrider binary")?
                };
                let program = match who {
                    Who::Hook => Some(Program::start()?),
                    _ => None,
                };
                let setup = postrider::Setup {
                    work,
                    hook: program.as_ref().map(|program| program.port),
                    relay: sink.port,
                    tls: self.args.tls,
                    relay_tls: self.args.relay_tls,
                    dkim: self.args.dkim,
                    resolver: None,
                };
                let instance = postrider::Instance::create(&self.dir, binary, setup)?;
                let running = instance.start()?;
                instance.set_password()?;
                let mut target = instance.target(&running);
                target.webapi = who.is_webapi().then_some(instance.http);
                let figures = self.load(work, sessions, &target, &sink)?;
                running.kill()?;
                Ok(figures)
            }
        }
    }

    /// Writes and syncs one message after the other, for a quarter of the time.
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

    /// Warms up and sends messages. A relay also waits until the sink has all of them.
    fn load(
        &self,
        work: Work,
        sessions: usize,
        target: &Target,
        sink: &SinkProcess,
    ) -> Result<Figures> {
        let internet = self.internet.as_ref().filter(|_| work == Work::Receive);
        if internet.is_some() {
            check_refusal(target.port)?;
        }
        let warmed = self.drive(sessions, target, internet, self.args.warm_up)?;
        if work == Work::Relay {
            sink.wait_for(accepted(&warmed)?)?;
        }
        sink.ask("/reset")?;
        let cpu_before = target.processes.cpu_seconds();
        let begun = Instant::now();
        let report = self.drive(sessions, target, internet, self.args.time)?;
        let messages = accepted(&report)?;
        let rate = match work {
            Work::Accept | Work::Receive => number(&report, "rate")?,
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

    /// Runs the load driver as a process of its own, and returns its report.
    fn drive(
        &self,
        sessions: usize,
        target: &Target,
        internet: Option<&Internet>,
        time: Duration,
    ) -> Result<Value> {
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
                let from = internet.map_or(target.from.as_str(), |_| AUTHOR);
                command.arg(format!("--from={from}"));
                if self.args.tls {
                    command.arg("--tls");
                }
                if self.args.pipelining {
                    command.arg("--pipelining");
                }
                if let Some(internet) = internet {
                    command.arg("--proxy").arg("--texts").arg(internet.texts());
                    command.arg(format!("--to=sink@{MAILBOX_DOMAIN}"));
                    command.arg(format!("--mailboxes={MAILBOXES}"));
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
