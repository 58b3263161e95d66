//! The SMTP load driver: hand-written SMTP over plain sockets or TLS.

mod connection;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tokio::sync::Barrier;
use tokio_rustls::TlsConnector;

use super::{Common, Patience, Supply, Tally, drive, filler, wait_for_start};
use connection::Connection;

#[derive(Args, Clone)]
pub(crate) struct SmtpArgs {
    #[command(flatten)]
    common: Common,
    /// The server's host name or address
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The server's port
    #[arg(long)]
    port: u16,
    /// Connections at the same time, each with one message in flight
    #[arg(long, default_value_t = 1)]
    sessions: usize,
    /// Recipients of each message; the local-parts of the further ones are --to with -2, -3, ...
    #[arg(long, default_value_t = 1)]
    recipients: usize,
    /// The reverse-path
    #[arg(long, default_value = "load@load.example")]
    from: String,
    /// The recipient
    #[arg(long, default_value = "sink@sink.example")]
    to: String,
    /// Send all messages of a session over one connection (the default)
    #[arg(long, conflicts_with_all = ["no_reuse", "messages_per_session"])]
    reuse: bool,
    /// A new connection for each message
    #[arg(long)]
    no_reuse: bool,
    /// A new connection after this many messages
    #[arg(long, conflicts_with = "no_reuse")]
    messages_per_session: Option<u64>,
    /// Send MAIL, RCPT and DATA in one group, together with the end of the message before (RFC
    /// 2920)
    #[arg(long)]
    pipelining: bool,
    /// Upgrade with STARTTLS; certificates are not checked
    #[arg(long, conflicts_with = "tls")]
    starttls: bool,
    /// TLS from the first byte; certificates are not checked
    #[arg(long)]
    tls: bool,
    /// Log in as this user with AUTH PLAIN
    #[arg(long, requires = "password")]
    login: Option<String>,
    #[arg(long, requires = "login")]
    password: Option<String>,
    /// Begin each connection as a proxy does (PROXY protocol), for a client with an address of its
    /// own from 11.0.0.0/8
    #[arg(long)]
    proxy: bool,
    /// Send each message to another recipient in turn, of this number: the local-part of --to with
    /// -1, -2, ...
    #[arg(long, conflicts_with = "recipients")]
    mailboxes: Option<usize>,
    /// Send each message to another domain in turn, of this number: 0, 1, ... before the domain of
    /// --to
    #[arg(long, conflicts_with_all = ["recipients", "mailboxes"])]
    domains: Option<usize>,
    /// Send the files of this folder in turn instead of made texts; their lines end with CRLF, and
    /// none begins with a dot
    #[arg(long)]
    texts: Option<PathBuf>,
}

/// Everything that the sessions share.
struct Job {
    args: SmtpArgs,
    tls: Option<TlsConnector>,
    /// The envelopes of the messages in turn.
    envelopes: Vec<Envelope>,
    /// The texts of the messages in turn, with the final dot. Empty: they are made.
    texts: Vec<Vec<u8>>,
    /// The number of the next client behind the proxy.
    clients: AtomicU32,
    /// Messages per connection.
    per_connection: u64,
}

/// The commands MAIL, RCPT... and DATA, with their line ends.
struct Envelope {
    commands: Vec<Vec<u8>>,
    /// All of them in one.
    group: Vec<u8>,
}

impl Envelope {
    fn new(from: &str, recipients: impl Iterator<Item = String>) -> Self {
        let mut commands = vec![format!("MAIL FROM:<{from}>\r\n").into_bytes()];
        commands.extend(recipients.map(|to| format!("RCPT TO:<{to}>\r\n").into_bytes()));
        commands.push(b"DATA\r\n".to_vec());
        Self {
            group: commands.concat(),
            commands,
        }
    }
}

impl Job {
    /// The envelope of the message with this number.
    #[expect(
        clippy::indexing_slicing,
        reason = "there is an envelope, and the place is below their number"
    )]
    fn envelope(&self, number: u64) -> &Envelope {
        &self.envelopes[in_turn(number, self.envelopes.len())]
    }
}

/// The place in a list of this length whose turn it is.
fn in_turn(number: u64, length: usize) -> usize {
    (number % length.max(1) as u64) as usize
}

/// All envelopes of a job.
fn envelopes(args: &SmtpArgs) -> Result<Vec<Envelope>> {
    let Some((local, domain)) = args.to.rsplit_once('@') else {
        bail!("--to {:?} has no @", args.to);
    };
    let numbered = |number: usize| format!("{local}-{number}@{domain}");
    if let Some(domains) = args.domains {
        let to = |number: usize| format!("{local}@{number}.{domain}");
        let one = |number| Envelope::new(&args.from, std::iter::once(to(number)));
        return Ok((0..domains.max(1)).map(one).collect());
    }
    if let Some(mailboxes) = args.mailboxes {
        let one = |number| Envelope::new(&args.from, std::iter::once(numbered(number)));
        return Ok((1..=mailboxes.max(1)).map(one).collect());
    }
    let further = (2..=args.recipients).map(numbered);
    let recipients = std::iter::once(args.to.clone()).chain(further);
    Ok(vec![Envelope::new(&args.from, recipients)])
}

/// The texts in a folder, each with the final dot.
fn texts(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read {folder:?}"))?;
    let mut texts = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let mut text = fs::read(&path).with_context(|| format!("failed to read {path:?}"))?;
        text.extend_from_slice(b".\r\n");
        texts.push(text);
    }
    ensure!(!texts.is_empty(), "{folder:?} has no texts");
    Ok(texts)
}

pub(crate) fn run(args: SmtpArgs) -> Result<()> {
    let per_connection = match args.messages_per_session {
        Some(messages) => messages.max(1),
        None if args.no_reuse => 1,
        None => u64::MAX,
    };
    let job = Arc::new(Job {
        tls: (args.starttls || args.tls).then(connection::tls::connector),
        envelopes: envelopes(&args)?,
        texts: args.texts.as_deref().map_or(Ok(Vec::new()), texts)?,
        clients: AtomicU32::new(1),
        per_connection,
        args,
    });
    let common = job.args.common.clone();
    drive(&common, job.args.sessions.max(1), move |supply, barrier| {
        session(Arc::clone(&job), supply, barrier)
    })
}

/// One session: one connection after the other, and on each one message at a time.
async fn session(job: Arc<Job>, supply: Arc<Supply>, barrier: Arc<Barrier>) -> Tally {
    let mut tally = Tally::new(job.args.common.accepted.is_some());
    let mut template = Template::new(&job.args);
    let mut first = Some(Connection::open(&job).await);
    wait_for_start(&barrier).await;
    let started = Instant::now();
    // The next message to send. It outlives a connection that broke before its text was sent.
    let mut next = supply.take(started);
    let mut patience = Patience::new(job.args.common.patience);
    while next.is_some() {
        let opened = match first.take() {
            Some(opened) => opened,
            None => Connection::open(&job).await,
        };
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(error) if patience.ends().await => {
                tally.fail(format!("no connection: {error}"));
                break;
            }
            Err(_) => continue,
        };
        let mut sender = Sender {
            job: &job,
            supply: &supply,
            started,
            template: &mut template,
            tally: &mut tally,
        };
        let before = next;
        let sent = sender.send_all(&mut connection, &mut next).await;
        if next != before {
            patience.renew();
        }
        match sent {
            Ok(()) => connection.quit().await,
            Err(error) => {
                tally.fail(format!("connection lost: {error}"));
                // A server may log a client in and then refuse to go on, again and again.
                if next == before && patience.ends().await {
                    break;
                }
            }
        }
    }
    tally
}

struct Sender<'a> {
    job: &'a Job,
    supply: &'a Supply,
    started: Instant,
    template: &'a mut Template,
    tally: &'a mut Tally,
}

impl Sender<'_> {
    /// Sends messages until none is left, or until the connection has sent its share. `next` is the
    /// first message to send. After an error or the end it is the first message that was not tried.
    async fn send_all(
        &mut self,
        connection: &mut Connection,
        next: &mut Option<u64>,
    ) -> io::Result<()> {
        let mut left = self.job.per_connection;
        let mut envelope_sent = false;
        let mut begun = Instant::now();
        while let Some(number) = *next {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            if !envelope_sent {
                begun = Instant::now();
            }
            let go_ahead = if self.job.args.pipelining {
                if !envelope_sent {
                    connection.write(&self.job.envelope(number).group).await?;
                }
                self.read_group(connection).await?
            } else {
                self.step_by_step(connection, number).await?
            };
            *next = self.supply.take(self.started);
            envelope_sent = false;
            if !go_ahead {
                // The envelope was refused and counted. The server must forget it before the next
                // one.
                connection.write(b"RSET\r\n").await?;
                connection.reply().await?;
                continue;
            }
            let given = &self.job.texts;
            let text = match given.get(in_turn(number, given.len())) {
                Some(text) => text,
                None => self.template.stamp(number),
            };
            let ahead = next.filter(|_| self.job.args.pipelining && left > 0);
            let mut following = begun;
            if let Some(ahead) = ahead {
                following = Instant::now();
                let group = &self.job.envelope(ahead).group;
                connection.write_two(text, group).await?;
                envelope_sent = true;
            } else {
                connection.write(text).await?;
            }
            match connection.reply().await? {
                250 => self.tally.accept(number, begun.elapsed()),
                _ => self.tally.fail(connection.last_text()),
            }
            begun = following;
        }
        Ok(())
    }

    /// Sends each command after the answer to the one before. True if the text may follow.
    async fn step_by_step(&mut self, connection: &mut Connection, number: u64) -> io::Result<bool> {
        for command in &self.job.envelope(number).commands {
            connection.write(command).await?;
            let code = connection.reply().await?;
            if code >= 400 {
                self.tally.fail(connection.last_text());
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the replies to a whole group. True if the text may follow. After a 354 the text must
    /// follow, whatever came before.
    async fn read_group(&mut self, connection: &mut Connection) -> io::Result<bool> {
        let mut refusal = None;
        let mut code = 0;
        // Each envelope has as many commands.
        for _ in &self.job.envelope(0).commands {
            code = connection.reply().await?;
            if code >= 400 && refusal.is_none() {
                refusal = Some(connection.last_text());
            }
        }
        if code != 354
            && let Some(text) = refusal
        {
            self.tally.fail(text);
        }
        Ok(code == 354)
    }
}

/// A message with its final dot, made once. Only its number changes.
struct Template {
    bytes: Vec<u8>,
    /// The positions of the number.
    places: Vec<usize>,
}

const DIGITS: usize = 12;

impl Template {
    fn new(args: &SmtpArgs) -> Self {
        // Each run of the driver has a text of its own here. So no Message-ID is used twice.
        let run = format!(
            "{:x}.{:x}",
            std::process::id(),
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |age| age.as_millis())
        );
        let mut bytes = Vec::with_capacity(args.common.size + 5);
        let mut places = Vec::new();
        bytes.extend_from_slice(
            format!("From: <{}>\r\nTo: <{}>\r\n", args.from, args.to).as_bytes(),
        );
        bytes.extend_from_slice(b"Subject: load ");
        places.push(bytes.len());
        bytes.extend_from_slice(&[b'0'; DIGITS]);
        bytes.extend_from_slice(format!("\r\nMessage-ID: <load.{run}.").as_bytes());
        places.push(bytes.len());
        bytes.extend_from_slice(&[b'0'; DIGITS]);
        bytes.extend_from_slice(b"@load.example>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\n");
        // The last two bytes of the size are the line end before the dot.
        let body = args.common.size.saturating_sub(bytes.len() + 2);
        bytes.extend_from_slice(&filler(body));
        bytes.extend_from_slice(b"\r\n.\r\n");
        Self { bytes, places }
    }

    /// The message with this number.
    fn stamp(&mut self, number: u64) -> &[u8] {
        for place in &self.places {
            let mut rest = number;
            if let Some(digits) = self.bytes.get_mut(*place..*place + DIGITS) {
                for digit in digits.iter_mut().rev() {
                    *digit = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
            }
        }
        &self.bytes
    }
}
