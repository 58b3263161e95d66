//! An SMTP server that takes every message, stores nothing and counts: the far end of a relay, and the floor against
//! which servers are measured.
//!
//! The load driver numbers its messages. The sink reads the number from the Subject and keeps a bit per number, so that it
//! can say how many different ones came and which.
//!
//! While it runs it can be asked over HTTP, on its control port: `/count` (a JSON object), `/wait?messages=N` (answers when
//! N have come), `/numbers` (one a line), `/reset`. SIGINT and SIGTERM end it; it then prints what it counted.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use memchr::{memchr, memmem};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::http;
use crate::load::write_numbers;
use crate::workspace::parse_duration;

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1")]
    ip: IpAddr,
    /// The SMTP port; 0: a free one, which is printed
    #[arg(long)]
    port: u16,
    /// A port for questions over HTTP; 0: a free one, which is printed
    #[arg(long)]
    control: Option<u16>,
    /// Offer PIPELINING
    #[arg(long)]
    pipelining: bool,
    /// Wait this long before the answer to the end of a message
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    delay: Duration,
    /// Wait this long before the greeting
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    greeting_delay: Duration,
    /// End when this many messages have come
    #[arg(long)]
    expect: Option<u64>,
    /// At the end, write the numbers that came to this file, one a line
    #[arg(long)]
    record: Option<PathBuf>,
}

/// What the driver puts before a number in the Subject.
pub(crate) const NUMBER_MARK: &[u8] = b"Subject: load ";
/// The number is looked for this far into a message.
const HEADER_MAX: usize = 16 << 10;
/// Numbers from here on are not told apart, so that a stray one does not take all memory.
const NUMBER_MAX: u64 = 1 << 30;

/// What came so far.
#[derive(Default)]
pub(crate) struct Counter {
    counts: Mutex<Counts>,
    /// `changed` is told when this many messages have come.
    awaited: AtomicU64,
    changed: Notify,
}

#[derive(Default)]
struct Counts {
    connections: u64,
    messages: u64,
    recipients: u64,
    bytes: u64,
    /// Messages with a number that had come before.
    repeated: u64,
    /// A bit per number.
    seen: Vec<u64>,
    distinct: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Counter {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connected(&self) {
        self.lock().connections += 1;
    }

    pub(crate) fn add(&self, number: Option<u64>, recipients: u64, bytes: u64) {
        let now = Instant::now();
        let mut counts = self.lock();
        counts.messages += 1;
        counts.recipients += recipients;
        counts.bytes += bytes;
        counts.first.get_or_insert(now);
        counts.last = Some(now);
        if let Some(number) = number.filter(|number| *number < NUMBER_MAX) {
            let (word, bit) = ((number / 64) as usize, 1u64 << (number % 64));
            if word >= counts.seen.len() {
                counts.seen.resize(word + 1, 0);
            }
            if let Some(word) = counts.seen.get_mut(word) {
                let new = *word & bit == 0;
                *word |= bit;
                counts.distinct += u64::from(new);
                counts.repeated += u64::from(!new);
            }
        }
        let messages = counts.messages;
        drop(counts);
        if messages >= self.awaited.load(Ordering::Relaxed) {
            self.changed.notify_waiters();
        }
    }

    /// Waits until this many messages have come. One caller at a time.
    pub(crate) async fn wait_for(&self, messages: u64) {
        loop {
            let changed = self.changed.notified();
            self.awaited.store(messages, Ordering::Relaxed);
            if self.lock().messages >= messages {
                return;
            }
            changed.await;
        }
    }

    fn reset(&self) {
        *self.lock() = Counts::default();
    }

    fn numbers(&self) -> Vec<u64> {
        let counts = self.lock();
        let words = (0u64..).zip(&counts.seen);
        words
            .flat_map(|(index, word)| {
                (0..64)
                    .filter(move |bit| word >> bit & 1 == 1)
                    .map(move |bit| index * 64 + bit)
            })
            .collect()
    }

    pub(crate) fn json(&self) -> Value {
        let counts = self.lock();
        let seconds = counts.seconds();
        json!({
            "messages": counts.messages,
            "distinct": counts.distinct,
            "repeated": counts.repeated,
            "recipients": counts.recipients,
            "bytes": counts.bytes,
            "connections": counts.connections,
            "seconds": seconds,
            "rate": counts.messages as f64 / seconds.max(1e-9),
        })
    }

    fn print(&self) {
        let counts = self.lock();
        let seconds = counts.seconds();
        println!(
            "{} messages ({} different numbers, {} repeated), {} recipients, {} connections",
            counts.messages,
            counts.distinct,
            counts.repeated,
            counts.recipients,
            counts.connections
        );
        println!(
            "from first to last {seconds:.3} s: {:.0} a second",
            counts.messages as f64 / seconds.max(1e-9)
        );
    }
}

impl Counts {
    fn seconds(&self) -> f64 {
        match (self.first, self.last) {
            (Some(first), Some(last)) => (last - first).as_secs_f64(),
            _ => 0.0,
        }
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> Result<()> {
    let counter = Arc::new(Counter::default());
    let listener = TcpListener::bind((args.ip, args.port))
        .await
        .with_context(|| format!("failed to listen on {}:{}", args.ip, args.port))?;
    println!("smtp {}", listener.local_addr()?);
    if let Some(port) = args.control {
        serve_control(args.ip, port, &counter).await?;
    }
    let behaviour = Arc::new(Behaviour {
        pipelining: args.pipelining,
        delay: args.delay,
        greeting_delay: args.greeting_delay,
    });
    let accepting = {
        let counter = Arc::clone(&counter);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.connected();
                tokio::spawn(session(
                    stream,
                    Arc::clone(&behaviour),
                    Arc::clone(&counter),
                ));
            }
        })
    };
    until_signal_or(&counter, args.expect).await?;
    accepting.abort();
    counter.print();
    if let Some(path) = &args.record {
        write_numbers(path, &counter.numbers())?;
    }
    Ok(())
}

/// Waits for SIGINT or SIGTERM, or for a number of messages if one was given.
pub(crate) async fn until_signal_or(counter: &Counter, expect: Option<u64>) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = counter.wait_for(expect.unwrap_or(u64::MAX)) => {}
    }
    Ok(())
}

async fn serve_control(ip: IpAddr, port: u16, counter: &Arc<Counter>) -> Result<()> {
    let listener = TcpListener::bind((ip, port))
        .await
        .with_context(|| format!("failed to listen on {ip}:{port}"))?;
    println!("control http://{}/count", listener.local_addr()?);
    let counter = Arc::clone(counter);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut connection = http::Connection::new(stream);
                while let Ok(Some(request)) = connection.read_message().await {
                    let (status, kind, body) = control(request.target(), &counter).await;
                    if connection
                        .answer(status, kind, body.as_bytes())
                        .await
                        .is_err()
                    {
                        break;
                    }
                }
            });
        }
    });
    Ok(())
}

/// Answers a question that came over HTTP.
pub(crate) async fn control(
    target: &str,
    counter: &Counter,
) -> (&'static str, &'static str, String) {
    const JSON: &str = "application/json";
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/count" => {}
        "/wait" => {
            let Some(messages) = query
                .strip_prefix("messages=")
                .and_then(|number| number.parse().ok())
            else {
                return ("400 Bad Request", "text/plain", "messages=N\n".to_owned());
            };
            counter.wait_for(messages).await;
        }
        "/reset" => counter.reset(),
        "/numbers" => {
            let mut text = String::new();
            for number in counter.numbers() {
                let _ = writeln!(text, "{number}");
            }
            return ("200 OK", "text/plain", text);
        }
        _ => {
            let text = "/count /wait?messages=N /numbers /reset\n".to_owned();
            return ("404 Not Found", "text/plain", text);
        }
    }
    ("200 OK", JSON, format!("{}\n", counter.json()))
}

struct Behaviour {
    pipelining: bool,
    delay: Duration,
    greeting_delay: Duration,
}

async fn session(mut stream: TcpStream, behaviour: Arc<Behaviour>, counter: Arc<Counter>) {
    let _ = stream.set_nodelay(true);
    if !behaviour.greeting_delay.is_zero() {
        tokio::time::sleep(behaviour.greeting_delay).await;
    }
    if stream
        .write_all(b"220 sink.example ESMTP\r\n")
        .await
        .is_err()
    {
        return;
    }
    let mut protocol = Protocol::new(behaviour.pipelining);
    let mut buffer = vec![0; 64 << 10];
    let mut end = 0;
    loop {
        let Some(room) = buffer.get_mut(end..).filter(|room| !room.is_empty()) else {
            return;
        };
        let Ok(read) = stream.read(room).await else {
            return;
        };
        if read == 0 {
            return;
        }
        end += read;
        let used = protocol.take(buffer.get(..end).unwrap_or_default());
        buffer.copy_within(used..end, 0);
        end -= used;
        if !protocol.finished.is_empty() && !behaviour.delay.is_zero() {
            tokio::time::sleep(behaviour.delay).await;
        }
        for message in protocol.finished.drain(..) {
            counter.add(message.number, message.recipients, message.bytes);
        }
        if !protocol.replies.is_empty() {
            if stream.write_all(&protocol.replies).await.is_err() {
                return;
            }
            protocol.replies.clear();
        }
        if protocol.quit {
            return;
        }
    }
}

/// The server's side of SMTP without its socket: bytes in, replies and finished messages out.
struct Protocol {
    pipelining: bool,
    replies: Vec<u8>,
    finished: Vec<Finished>,
    quit: bool,
    recipients: u64,
    text: Option<Text>,
}

#[derive(Debug, PartialEq, Eq)]
struct Finished {
    number: Option<u64>,
    recipients: u64,
    bytes: u64,
}

/// A message that is coming in.
#[derive(Default)]
struct Text {
    header: Vec<u8>,
    number: Option<u64>,
    bytes: u64,
}

impl Protocol {
    fn new(pipelining: bool) -> Self {
        Self {
            pipelining,
            replies: Vec::with_capacity(512),
            finished: Vec::new(),
            quit: false,
            recipients: 0,
            text: None,
        }
    }

    /// Takes what can be taken of these bytes, and gives how many those are.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            let step = if self.text.is_some() {
                self.take_text(rest)
            } else {
                self.take_line(rest)
            };
            if step == 0 {
                break;
            }
            used += step;
        }
        used
    }

    fn take_line(&mut self, bytes: &[u8]) -> usize {
        let Some(at) = memchr(b'\n', bytes) else {
            return 0;
        };
        let line = bytes.get(..at).unwrap_or_default();
        let mut verb = [0; 4];
        for (upper, letter) in verb.iter_mut().zip(line) {
            *upper = letter.to_ascii_uppercase();
        }
        let reply: &[u8] = match &verb {
            b"EHLO" if self.pipelining => {
                b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 0\r\n"
            }
            b"EHLO" => b"250-sink.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 0\r\n",
            b"RCPT" => {
                self.recipients += 1;
                b"250 2.1.5 Ok\r\n"
            }
            b"MAIL" | b"RSET" | b"HELO" => {
                self.recipients = 0;
                b"250 2.0.0 Ok\r\n"
            }
            b"DATA" if self.recipients == 0 => b"503 5.5.1 No recipients\r\n",
            b"DATA" => {
                // As if the line end of DATA stood before the text, so that a text of only a dot is found too.
                self.text = Some(Text::default());
                b"354 Go on\r\n"
            }
            b"NOOP" => b"250 2.0.0 Ok\r\n",
            b"QUIT" => {
                self.quit = true;
                b"221 2.0.0 Bye\r\n"
            }
            _ => b"502 5.5.1 Not known\r\n",
        };
        self.replies.extend_from_slice(reply);
        at + 1
    }

    /// Takes text up to its end, or all but what might be the beginning of the end.
    fn take_text(&mut self, bytes: &[u8]) -> usize {
        const END: &[u8] = b"\r\n.\r\n";
        let Some(text) = &mut self.text else {
            return 0;
        };
        let only_dot = text.bytes == 0 && bytes.starts_with(b".\r\n");
        let (used, over) = match memmem::find(bytes, END) {
            _ if only_dot => (3, true),
            Some(at) => (at + END.len(), true),
            None => (bytes.len().saturating_sub(END.len() - 1), false),
        };
        let taken = bytes.get(..used).unwrap_or_default();
        text.bytes += taken.len() as u64;
        text.look_for_number(taken);
        if over {
            let finished = Finished {
                number: text.number,
                recipients: self.recipients,
                bytes: text.bytes,
            };
            self.finished.push(finished);
            self.replies.extend_from_slice(b"250 2.0.0 Taken\r\n");
            self.recipients = 0;
            self.text = None;
        }
        used
    }
}

impl Text {
    fn look_for_number(&mut self, taken: &[u8]) {
        if self.number.is_some() || self.header.len() >= HEADER_MAX {
            return;
        }
        // Mostly the header section is in the first piece, and nothing needs to be kept.
        if self.header.is_empty() {
            self.number = number_in(taken);
            if self.number.is_some() {
                return;
            }
        }
        let room = HEADER_MAX - self.header.len();
        self.header
            .extend_from_slice(taken.get(..room).unwrap_or(taken));
        self.number = number_in(&self.header);
    }
}

/// The number after [`NUMBER_MARK`], when all its digits are there.
pub(crate) fn number_in(bytes: &[u8]) -> Option<u64> {
    let at = memmem::find(bytes, NUMBER_MARK)? + NUMBER_MARK.len();
    let rest = bytes.get(at..)?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALOG: &[u8] = b"EHLO a\r\nmail FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\nDATA\r\n\
        Received: x\r\nSubject: load 000000000042\r\n\r\n..\r\n.\n.\r\n\r\n.\r\nMAIL FROM:<>\r\nDATA\r\n\
        RCPT TO:<a@b>\r\nDATA\r\n.\r\nQUIT\r\n";

    /// Feeds the dialog in pieces of this size, as a socket would give them.
    fn feed(size: usize) -> Protocol {
        let mut protocol = Protocol::new(true);
        let mut pending = Vec::new();
        for piece in DIALOG.chunks(size) {
            pending.extend_from_slice(piece);
            let used = protocol.take(&pending);
            pending.drain(..used);
        }
        assert!(pending.is_empty(), "{pending:?}");
        protocol
    }

    #[test]
    fn any_split_gives_the_same() {
        let whole = feed(DIALOG.len());
        let (first, second) = (&whole.finished[0], &whole.finished[1]);
        assert_eq!((first.number, first.recipients), (Some(42), 2));
        assert_eq!((second.number, second.recipients), (None, 1));
        assert!(whole.quit);
        let codes: Vec<_> = whole
            .replies
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.get(..4))
            .map(String::from_utf8_lossy)
            .collect();
        assert_eq!(
            codes,
            [
                "250-", "250-", "250-", "250-", "250 ", "250 ", "250 ", "250 ", "354 ", "250 ",
                "250 ", "503 ", "250 ", "354 ", "250 ", "221 "
            ]
        );
        for size in 1..DIALOG.len() {
            let split = feed(size);
            assert_eq!(split.replies, whole.replies, "{size}");
            assert_eq!(split.finished, whole.finished, "{size}");
        }
    }

    #[tokio::test]
    async fn the_counter_knows_numbers_apart() {
        let counter = Arc::new(Counter::default());
        let waiting = tokio::spawn({
            let counter = Arc::clone(&counter);
            async move { counter.wait_for(4).await }
        });
        for number in [Some(3), Some(200), None, Some(3)] {
            counter.add(number, 1, 10);
            tokio::task::yield_now().await;
        }
        waiting.await.unwrap();
        assert_eq!(counter.numbers(), [3, 200]);
        let json = counter.json();
        assert_eq!(json["messages"], 4);
        assert_eq!(json["distinct"], 2);
        assert_eq!(json["repeated"], 1);
        let (status, _, body) = control("/numbers", &counter).await;
        assert_eq!((status, body.as_str()), ("200 OK", "3\n200\n"));
        control("/reset", &counter).await;
        assert_eq!(counter.json()["messages"], 0);
        assert!(
            control("/wait?messages=x", &counter)
                .await
                .0
                .starts_with("400")
        );
        assert!(control("/other", &counter).await.0.starts_with("404"));
    }
}
