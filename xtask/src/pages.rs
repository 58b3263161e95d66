//! The time that the server takes for the web pages of administrators while its lists are long.
//!
//! Many messages are queued, part of them end, and nothing is delivered. Then each page comes
//! several times over one connection. Its time is from the request to the last byte of the answer.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args as ClapArgs;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::http::{Connection, Message};
use crate::ports::{free_port, wait_for_port};
use crate::programs::{finish, finish_within};
use crate::workspace::{
    Kept, Profile, build_postrider, serve, set_admin_password, set_password, warn_of_debug_build,
};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// How many messages are queued
    #[arg(long, default_value_t = 1_000_000)]
    queued: u64,
    /// How many messages are in the history
    #[arg(long, default_value_t = 1_000_000)]
    ended: u64,
    /// How many domains the recipients have
    #[arg(long, default_value_t = 100_000)]
    domains: u64,
    /// How many recipients the messages of the history have, all in one domain; with more of them
    /// the history is there sooner
    #[arg(long, default_value_t = 1)]
    recipients: u64,
    /// How often each page is got
    #[arg(long, default_value_t = 11)]
    times: usize,
    /// The postrider binary; without it the task builds one that is optimised
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// The time limit of a command that fills the store, or ends all that is queued.
const COMMAND_LIMIT: Duration = Duration::from_secs(3600);

const LOGIN: &str = "app@pages.example";
const PASSWORD: &str = "a password for a server that is measured";
const STATICS: &str = "hostname = \"mail.pages.example\"\nuser = \"\"\nlog.level = \"warn\"\n\
    admin_password_file = \"adminpasswd\"\npostmaster.account = \"app\"\n\
    resolver.servers = [\"127.0.0.1:9\"]\nlimits.messages_per_connection = 1000000000\n\
    [listeners.l]\nips = [\"127.0.0.1\"]\n";
const DYNAMICS: &str = r#"
[domains."pages.example"]
[accounts.app]
domain = "pages.example"
destinations."app@pages.example" = {}
max_outgoing_messages_per_day = 1000000000
max_first_time_recipients_per_day = 1000000000
keep_retired_message_period = "24h"
keep_retired_webhook_period = "24h"
[accounts.other]
domain = "pages.example"
destinations."other@pages.example" = {}
"#;

/// Pages, and what they look for. Braces stand for the number of a message in the middle of the
/// queue and of one in the middle of the history.
const PAGES: &[&str] = &[
    "",
    "queue",
    "queue?order=newest",
    "queue?rows=100",
    "queue?cursor={queued}",
    "queue?account=app",
    "queue?account=other",
    "queue?from=@pages.example",
    "queue?from=app@pages.example",
    "queue?from=pp@pages",
    "queue?to=@7.pages.test",
    "queue?to=x@7.pages.test",
    "queue?to=@none.test",
    "queue?to=x@7",
    "queue?q=nowhere",
    "queue?message_id=nowhere@pages.example",
    "queue?subject=nowhere",
    "queue?transport=nowhere",
    "queue?submitted=%3C-4h",
    "queue?chip=due",
    "queue?chip=held",
    "queue?chip=failed",
    "queue?chip=old",
    "queue/destinations",
    "queue/destinations?state=paused",
    "messages/{queued}",
    "messages/{ended}",
    "history",
    "history?cursor={ended}",
    "history?account=app",
    "history?account=other",
    "history?to=@7.pages.test",
    "history?to=x@7.pages.test",
    "history?from=app@pages.example",
    "history?subject=nowhere",
    "events",
    "events?account=app",
    "events?account=other",
    "events?event=delivered",
    "events?event=canceled",
    "events?recipient=x@7.pages.test",
    "suppressions",
    "webhooks",
    "webhooks/history",
    "domains",
    "accounts",
    "accounts/app",
    "traces",
    "logs",
    "audit",
    "metrics",
];

pub(crate) fn run(args: &Args) -> Result<()> {
    warn_of_debug_build();
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build_postrider(Profile::Release)?,
    };
    let server = Server::start(&binary)?;
    server.run(&["queue", "stop"])?;
    for (count, ends) in [(args.ended, true), (args.queued, false)] {
        let begun = Instant::now();
        let recipients = if ends { args.recipients.max(1) } else { 1 };
        server.queue(count, recipients, args.domains)?;
        if ends && count > 0 {
            server.run(&["queue", "drop", "--account", "app"])?;
        }
        let took = begun.elapsed().as_secs_f64();
        let what = if ends { "queued and ended" } else { "queued" };
        println!("{count} messages {what} in {took:.0} s");
    }
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    runtime.block_on(measure(&server, args))
}

/// Gets each page, and prints its times.
async fn measure(server: &Server, args: &Args) -> Result<()> {
    let mut visitor = Visitor::enter(server.http).await?;
    println!(
        "{:>9} {:>9} {:>8} {:>8}  page",
        "median", "most", "bytes", "gzip"
    );
    for page in PAGES {
        let path = page
            .replace("{queued}", &(args.ended + args.queued / 2).to_string())
            .replace("{ended}", &(args.ended / 2).to_string());
        let (mut times, mut body) = (Vec::new(), Vec::new());
        for _ in 0..args.times.max(1) {
            let begun = Instant::now();
            let answer = visitor.get(&path).await?;
            times.push(begun.elapsed());
            ensure!(
                answer.first_line.contains(" 200"),
                "/admin/{path}: {}",
                answer.first_line
            );
            body = answer.body;
        }
        times.sort_unstable();
        let [median, most] = [times.get(times.len() / 2), times.last()].map(milliseconds);
        let packed = packed(&body)?;
        let bytes = body.len();
        println!("{median:>6.2} ms {most:>6.2} ms {bytes:>8} {packed:>8}  /admin/{path}");
    }
    Ok(())
}

fn milliseconds(time: Option<&Duration>) -> f64 {
    time.map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// How many bytes gzip makes of a page.
fn packed(body: &[u8]) -> Result<usize> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(body)?;
    let mut gzip = Command::new("gzip");
    gzip.arg("-c").stdin(fs::File::open(file.path())?);
    Ok(finish(&mut gzip)?.stdout.len())
}

/// A server with an administrator and two accounts, of which one sends all.
struct Server {
    // It ends before its folder does.
    _child: Kept,
    folder: TempDir,
    binary: PathBuf,
    smtp: u16,
    http: u16,
}

impl Server {
    fn start(binary: &Path) -> Result<Self> {
        let folder = TempDir::new().context("failed to make a temporary folder")?;
        let config = folder.path().join("config");
        fs::create_dir(&config)?;
        let conf = config.join("postrider.conf");
        let (smtp, http) = (free_port()?, free_port()?);
        let ports = format!(
            "submission = {{ port = {smtp}, require_tls = false }}\nadmin_http = {{ port = {http} }}\n"
        );
        fs::write(&conf, format!("{STATICS}{ports}"))?;
        fs::write(config.join("domains.conf"), DYNAMICS)?;
        set_admin_password(binary, &conf, PASSWORD)?;
        let child = serve(binary, &conf).stdout(Stdio::null()).spawn();
        let child = Kept(child.with_context(|| format!("failed to run {binary:?}"))?);
        wait_for_port(http)?;
        set_password(binary, &conf, "app", PASSWORD)?;
        Ok(Self {
            _child: child,
            folder,
            binary: binary.to_owned(),
            smtp,
            http,
        })
    }

    /// Runs a command of the program.
    fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("--config");
        command.arg(self.folder.path().join("config/postrider.conf"));
        finish_within(COMMAND_LIMIT, command.args(arguments))?;
        Ok(())
    }

    /// Queues messages for this number of recipients.
    fn queue(&self, count: u64, recipients: u64, domains: u64) -> Result<()> {
        let count = count / recipients;
        if count == 0 {
            return Ok(());
        }
        let mut load = Command::new(std::env::current_exe()?);
        load.args(["load", "smtp", "--json", "--size=512", "--sessions=64"]);
        load.arg(format!("--port={}", self.smtp));
        load.arg(format!("--messages={count}"));
        load.arg(match recipients {
            1 => format!("--domains={domains}"),
            _ => format!("--recipients={recipients}"),
        });
        load.args(["--to=x@pages.test", "--from", LOGIN]);
        load.args(["--login", LOGIN, "--password", PASSWORD]);
        let report: Value =
            serde_json::from_slice(&finish_within(COMMAND_LIMIT, &mut load)?.stdout)?;
        let accepted = report.get("accepted").and_then(Value::as_u64);
        ensure!(accepted == Some(count), "not all were taken: {report}");
        Ok(())
    }
}

/// An administrator who is logged in.
struct Visitor {
    connection: Connection<TcpStream>,
    port: u16,
    cookie: String,
}

impl Visitor {
    async fn enter(port: u16) -> Result<Self> {
        let connection = Connection::new(TcpStream::connect(("127.0.0.1", port)).await?);
        let mut visitor = Self {
            connection,
            port,
            cookie: String::new(),
        };
        let form = format!("name=admin&password={}", PASSWORD.replace(' ', "+"));
        let answer = visitor.call("POST", "login", &form).await?;
        let cookie = answer.field("set-cookie").context("no cookie came")?;
        let cookie = cookie.split(';').next().unwrap_or_default();
        visitor.cookie = format!("Cookie: {cookie}\r\n");
        Ok(visitor)
    }

    async fn get(&mut self, path: &str) -> Result<Message> {
        self.call("GET", path, "").await
    }

    async fn call(&mut self, method: &str, path: &str, form: &str) -> Result<Message> {
        let (port, cookie) = (self.port, &self.cookie);
        let request = format!(
            "{method} /admin/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{cookie}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        self.connection.write(request.as_bytes()).await?;
        let answer = self.connection.read_message().await?;
        let Some(answer) = answer else {
            bail!("the server closed before it answered {method} /admin/{path}");
        };
        Ok(answer)
    }
}
