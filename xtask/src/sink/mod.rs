//! An SMTP server that accepts every message, stores nothing and counts. It is the far end of a
//! relay, and the floor in comparisons.
//!
//! The load driver numbers its messages. The sink reads the number from the Subject and keeps a bit
//! per number. So it knows which messages came.
//!
//! A running sink answers questions over HTTP on its control port:
//!
//! | path | answer |
//! |---|---|
//! | `/count` | the counts as a JSON object |
//! | `/wait?messages=N` | the same, as soon as N messages have come |
//! | `/numbers` | the numbers that came, one a line |
//! | `/reset` | the counts, which are zero from then on |
//!
//! SIGINT and SIGTERM end the sink. It then prints its counts.

mod child;
mod counter;
mod protocol;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

pub(crate) use child::SinkProcess;
pub(crate) use counter::Counter;
use protocol::Protocol;

use crate::duration::parse_duration;
use crate::http;
use crate::keys;
use crate::load::write_numbers;

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    ip: IpAddr,
    /// The SMTP port; with 0 the sink takes a free port and prints it
    #[arg(long)]
    port: u16,
    /// A port for questions over HTTP; with 0 the sink takes a free port and prints it
    #[arg(long)]
    control: Option<u16>,
    /// Offer PIPELINING
    #[arg(long)]
    pipelining: bool,
    /// Offer STARTTLS, with a new certificate that nobody trusts
    #[arg(long)]
    starttls: bool,
    /// Wait this long before the answer to the end of a message
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    delay: Duration,
    /// Wait this long before the greeting
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    greeting_delay: Duration,
    /// End after this many messages
    #[arg(long)]
    expect: Option<u64>,
    /// At the end, write the numbers that came into this file, one a line
    #[arg(long)]
    record: Option<PathBuf>,
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
        tls: args.starttls.then(keys::acceptor).transpose()?,
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
    // The parent may be gone, and the pipe with it.
    let _ = io::stdout().write_all(counter.lines().as_bytes());
    if let Some(path) = &args.record {
        write_numbers(path, &counter.numbers())?;
    }
    Ok(())
}

/// Waits for SIGINT, for SIGTERM, or for this many messages.
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

/// Answers a question over HTTP: status, type and body.
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

/// How the sink answers.
pub(crate) struct Behaviour {
    pub(crate) pipelining: bool,
    /// For STARTTLS. None: it is not offered.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Before the answer to the end of a message.
    pub(crate) delay: Duration,
    pub(crate) greeting_delay: Duration,
}

/// Talks to one client.
pub(crate) async fn session(
    mut stream: TcpStream,
    behaviour: Arc<Behaviour>,
    counter: Arc<Counter>,
) {
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
    let mut protocol = Protocol::new(behaviour.pipelining, behaviour.tls.is_some());
    converse(&mut stream, &mut protocol, &behaviour, &counter).await;
    let Some(acceptor) = behaviour.tls.as_ref().filter(|_| protocol.begins_tls) else {
        return;
    };
    if let Ok(mut stream) = acceptor.accept(stream).await {
        let mut protocol = Protocol::new(behaviour.pipelining, false);
        converse(&mut stream, &mut protocol, &behaviour, &counter).await;
    }
}

/// Goes on until the client ends the connection or begins TLS.
async fn converse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    protocol: &mut Protocol,
    behaviour: &Behaviour,
    counter: &Counter,
) {
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
            let written = stream.write_all(&protocol.replies).await;
            // TLS may hold back what was written until it is flushed.
            if written.is_err() || stream.flush().await.is_err() {
                return;
            }
            protocol.replies.clear();
        }
        if protocol.quit || protocol.begins_tls {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
