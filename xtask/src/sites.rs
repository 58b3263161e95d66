//! Deliveries to many sites, of which some are dead and some greet late.
//!
//! A DNS server names one MX host for each domain, on addresses of loopback at port 25, so this
//! needs root. Messages are queued while deliveries are stopped. Then deliveries start, and the
//! time counts until the healthy hosts have all their messages. A second run leaves the sick
//! domains out. The ratio of both rates tells what the sick ones cost the others.
//!
//! With `--memory` many messages are queued, the server is killed and started, and its memory is
//! watched while it delivers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args as ClapArgs;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{
    compare::Work,
    lab::dns::{self, Record, Zone},
    load::mebibytes,
    postfix::{self, Postfix},
    postrider::{Instance, LOGIN_AND_PASSWORD, Setup},
    sink::{Behaviour, Counter, session},
    workspace::{Profile, build_postrider, refuse_debug_build},
};

/// The domain above those that get mail.
const DOMAIN: &str = "sites.example";
const DNS: Ipv4Addr = Ipv4Addr::new(127, 83, 2, 1);
/// One part of so many sites is dead, and one greets late. They are the last ones.
const PARTS: usize = 10;
/// How late.
const LATE: Duration = Duration::from_secs(300);
/// The longest time that deliveries take.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// How many sites there are
    #[arg(long, default_value_t = 1000)]
    sites: usize,
    /// How many domains there are; those of a site share its host
    #[arg(long)]
    domains: Option<usize>,
    /// How many messages the healthy sites get
    #[arg(long, default_value_t = 32_000)]
    messages: u64,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Watch the memory instead, with this many messages
    #[arg(long)]
    memory: Option<u64>,
    /// The postrider binary; without it the task builds the binary that is shipped
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The binary of an earlier postrider, which is measured too
    #[arg(long)]
    before: Option<PathBuf>,
    /// Measure Debian's Postfix too. It finds the hosts in a table, without DNS
    #[arg(long)]
    postfix: bool,
}

/// A server that is measured.
enum Server {
    Postrider(PathBuf),
    Postfix,
}

/// The health of a site.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Healthy,
    Dead,
    Late,
}

impl Health {
    const fn of(site: usize, sites: usize) -> Self {
        let part = sites / PARTS;
        if site < healthy(sites) {
            Self::Healthy
        } else if site < sites - part {
            Self::Dead
        } else {
            Self::Late
        }
    }
}

/// How many sites are healthy.
const fn healthy(sites: usize) -> usize {
    sites - 2 * (sites / PARTS)
}

fn address(site: usize, sites: usize) -> Ipv4Addr {
    let net = match Health::of(site, sites) {
        Health::Healthy => 1,
        Health::Late => 2,
        Health::Dead => 3,
    };
    let [high, low] = [site / 250 + 1, site % 250 + 1].map(|part| part.min(254) as u8);
    Ipv4Addr::new(127, net, high, low)
}

pub(crate) fn run(args: &Args) -> Result<()> {
    refuse_debug_build("sites")?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build_postrider(Profile::Dist)?,
    };
    let internet = Internet::start(args)?;
    if let Some(messages) = args.memory {
        return internet.watch_memory(&binary, messages);
    }
    let mut whos = vec![("postrider", Server::Postrider(binary))];
    let before = args.before.clone();
    whos.extend(before.map(|before| ("before", Server::Postrider(before))));
    if args.postfix {
        postfix::check()?;
        whos.push(("Postfix", Server::Postfix));
    }
    for round in 1..=args.rounds {
        for (name, server) in &whos {
            let deliver = |sick| match server {
                Server::Postrider(binary) => internet.deliver(binary, args.messages, sick),
                Server::Postfix => internet.deliver_by_postfix(args.messages, sick),
            };
            let (alone, beside) = (deliver(false)?, deliver(true)?);
            println!(
                "round {round}: {name}: healthy sites {alone:.0}/s without sick ones, \
                 {beside:.0}/s with them: {:.2}",
                beside / alone
            );
        }
    }
    Ok(())
}

/// The DNS server and the hosts. They live as long as this process.
struct Internet {
    domains: usize,
    sites: usize,
    counter: Arc<Counter>,
    resolver: SocketAddr,
}

impl Internet {
    fn start(args: &Args) -> Result<Self> {
        let sites = args.sites.max(PARTS);
        let domains = args.domains.unwrap_or(sites).max(sites);
        let mut zone = Zone::default();
        for site in 0..sites {
            zone.add(
                &format!("mx.{site}.{DOMAIN}"),
                Record::A(address(site, sites)),
            );
        }
        for domain in 0..domains {
            let host = format!("mx.{}.{DOMAIN}", domain % sites);
            zone.add(&format!("{domain}.{DOMAIN}"), Record::Mx(10, host));
        }
        let resolver = dns::serve_aside((DNS, 53).into(), zone)?;
        let counter = Arc::new(Counter::default());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let counted = Arc::clone(&counter);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let served = { runtime }.enable_all().build().map(|runtime| {
                runtime.block_on(async {
                    let bound = listen(sites, &counted).await;
                    let is_bound = bound.is_ok();
                    let _ = ready.send(bound);
                    if is_bound {
                        std::future::pending::<()>().await;
                    }
                });
            });
            drop(served);
        });
        is_ready.recv().context("the hosts did not start")??;
        Ok(Self {
            domains,
            sites,
            counter,
            resolver,
        })
    }

    fn server(&self, binary: &std::path::Path) -> Result<Instance> {
        let setup = Setup {
            hook: None,
            work: Work::Relay,
            relay: 9,
            tls: false,
            relay_tls: false,
            dkim: None,
            resolver: Some(self.resolver),
        };
        Instance::create(&std::env::temp_dir(), binary, setup)
    }

    /// Queues messages while nothing is delivered, for the first so many domains.
    fn queue(&self, port: u16, login: bool, messages: u64, domains: usize) -> Result<()> {
        let mut load = Command::new(std::env::current_exe()?);
        load.args(["load", "smtp", "--json", "--size=4096", "--sessions=32"]);
        load.arg(format!("--port={port}"));
        load.arg(format!("--messages={messages}"));
        load.arg(format!("--domains={domains}"));
        load.arg(format!("--to=x@{DOMAIN}"));
        let (name, password) = LOGIN_AND_PASSWORD;
        load.arg(format!("--from={name}"));
        if login {
            load.args(["--login", name, "--password", password]);
        }
        let output = load.output()?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let accepted = report.get("accepted").and_then(Value::as_u64);
        ensure!(
            accepted == Some(messages),
            "the queue did not take all: {report}"
        );
        Ok(())
    }

    /// How many messages are queued for how many sites, so that the healthy ones get so many.
    const fn share(&self, messages: u64, sick: bool) -> (u64, usize) {
        let healthy = healthy(self.sites);
        match sick {
            true => (messages * self.sites as u64 / healthy as u64, self.sites),
            false => (messages, healthy),
        }
    }

    /// The rate of messages to the healthy sites, in messages a second.
    fn deliver(&self, binary: &std::path::Path, messages: u64, sick: bool) -> Result<f64> {
        let instance = self.server(binary)?;
        let running = instance.start()?;
        instance.set_password()?;
        instance.queue("stop")?;
        let (all, domains) = self.share(messages, sick);
        self.queue(instance.port, true, all, domains)?;
        self.counter.reset();
        instance.queue("start")?;
        let rate = self.rate(messages)?;
        running.kill()?;
        Ok(rate)
    }

    /// The same by Postfix. It holds the messages until the time counts from its next start. All
    /// of its processes may deliver, and no more than three to a site at once, so that the late
    /// sites do not hold all processes.
    fn deliver_by_postfix(&self, messages: u64, sick: bool) -> Result<f64> {
        let hosts = tempfile::NamedTempFile::new()?;
        let line = |domain| {
            let host = address(domain % self.sites, self.sites);
            format!("{domain}.{DOMAIN} smtp:[{host}]:25\n")
        };
        let table: String = (0..self.domains).map(line).collect();
        std::fs::write(hosts.path(), table)?;
        // Postfix's own user reads the table.
        let readable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(hosts.path(), readable)?;
        let more = [
            format!("transport_maps = texthash:{}", hosts.path().display()),
            "relayhost =".to_owned(),
            "default_process_limit = 1000".to_owned(),
            "default_destination_concurrency_limit = 3".to_owned(),
            "smtp_destination_concurrency_limit = 3".to_owned(),
            "initial_destination_concurrency = 3".to_owned(),
        ];
        let mut server = Postfix::start(&std::env::temp_dir(), Work::Accept, 9, false, &more)?;
        let (all, domains) = self.share(messages, sick);
        self.queue(server.port(), false, all, domains)?;
        server.stop()?;
        server.release()?;
        self.counter.reset();
        server.start_again()?;
        self.rate(messages)
    }

    /// Waits until the healthy sites have so many messages. The rate in messages a second.
    fn rate(&self, messages: u64) -> Result<f64> {
        let begun = Instant::now();
        while self.counter.messages() < messages {
            ensure!(
                begun.elapsed() < PATIENCE,
                "only {} of {messages} messages came",
                self.counter.messages()
            );
            thread::sleep(Duration::from_millis(10));
        }
        Ok(messages as f64 / begun.elapsed().as_secs_f64())
    }

    fn watch_memory(&self, binary: &std::path::Path, messages: u64) -> Result<()> {
        let instance = self.server(binary)?;
        let running = instance.start()?;
        instance.set_password()?;
        instance.queue("stop")?;
        let begun = Instant::now();
        self.queue(instance.port, true, messages, self.domains)?;
        println!(
            "{messages} messages queued over {} domains in {:.0} s",
            self.domains,
            begun.elapsed().as_secs_f64()
        );
        running.kill()?;
        let begun = Instant::now();
        let running = instance.start()?;
        let processes = instance.target(&running).processes;
        println!(
            "start after kill -9: {:.2} s; memory {}",
            begun.elapsed().as_secs_f64(),
            mebibytes(processes.memory().rss)
        );
        self.counter.reset();
        instance.queue("start")?;
        let begun = Instant::now();
        let mut most = 0;
        while begun.elapsed() < Duration::from_secs(60) && self.counter.messages() < messages {
            most = most.max(processes.memory().rss);
            thread::sleep(Duration::from_millis(200));
        }
        println!(
            "{} messages delivered in {:.0} s; the most memory meanwhile: {}",
            self.counter.messages(),
            begun.elapsed().as_secs_f64(),
            mebibytes(most)
        );
        running.kill()
    }
}

/// Listens at the addresses of the sites that are not dead.
async fn listen(sites: usize, counter: &Arc<Counter>) -> Result<()> {
    for site in 0..sites {
        let greeting_delay = match Health::of(site, sites) {
            Health::Healthy => Duration::ZERO,
            Health::Late => LATE,
            Health::Dead => continue,
        };
        let address = address(site, sites);
        let listener = TcpListener::bind((address, 25))
            .await
            .with_context(|| format!("{address}:25 is not free, or this needs root"))?;
        let behaviour = Arc::new(Behaviour {
            pipelining: true,
            tls: None,
            delay: Duration::ZERO,
            greeting_delay,
        });
        let counter = Arc::clone(counter);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (behaviour, counter) = (Arc::clone(&behaviour), Arc::clone(&counter));
                tokio::spawn(session(stream, behaviour, counter));
            }
        });
    }
    Ok(())
}
