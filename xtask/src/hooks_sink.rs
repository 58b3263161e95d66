//! A receiver of webhooks that answers 200 to every POST. It counts calls, calls with a repeated
//! id, events by kind, and events that came out of order within their message.
//!
//! GET answers the questions of [`crate::sink`] on the same port.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::duration::parse_duration;
use crate::http;
use crate::sink::{Counter, control, until_signal_or};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    ip: IpAddr,
    /// The HTTP port; with 0 the receiver takes a free port and prints it
    #[arg(long)]
    port: u16,
    /// Wait this long before each answer
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    delay: Duration,
    /// End after this many calls
    #[arg(long)]
    expect: Option<u64>,
    /// Print the body of each call, one a line
    #[arg(long)]
    print: bool,
}

#[derive(Default)]
struct Receiver {
    counter: Counter,
    events: Mutex<EventCounts>,
}

#[derive(Default)]
struct EventCounts {
    kinds: BTreeMap<String, u64>,
    ids: HashSet<u64>,
    repeated_ids: u64,
    /// The time of the last event of each message.
    latest: HashMap<u64, String>,
    out_of_order: u64,
}

impl EventCounts {
    fn add(&mut self, id: Option<u64>, body: &[u8]) {
        if let Some(id) = id
            && !self.ids.insert(id)
        {
            // A call may come twice (at least once). It does not count for the order.
            self.repeated_ids += 1;
            return;
        }
        let Ok(payload) = serde_json::from_slice::<Value>(body) else {
            *self.kinds.entry("no JSON".to_owned()).or_default() += 1;
            return;
        };
        let kind = payload.get("Event").and_then(Value::as_str);
        *self
            .kinds
            .entry(kind.unwrap_or("incoming").to_owned())
            .or_default() += 1;
        let message = payload.get("QueueMsgID").and_then(Value::as_u64);
        let queued = payload.get("WebhookQueued").and_then(Value::as_str);
        if let (Some(message), Some(queued)) = (message, queued) {
            // RFC 3339 leaves out zeros at the end of a fraction. Without the Z the times compare
            // as text.
            let queued = queued.trim_end_matches('Z').to_owned();
            if self
                .latest
                .get(&message)
                .is_some_and(|latest| *latest > queued)
            {
                self.out_of_order += 1;
            }
            self.latest.insert(message, queued);
        }
    }
}

impl Receiver {
    fn events(&self) -> MutexGuard<'_, EventCounts> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> Result<()> {
    let receiver = Arc::new(Receiver::default());
    let listener = TcpListener::bind((args.ip, args.port))
        .await
        .with_context(|| format!("failed to listen on {}:{}", args.ip, args.port))?;
    println!("http://{}/", listener.local_addr()?);
    let (expect, args) = (args.expect, Arc::new(args));
    {
        let receiver = Arc::clone(&receiver);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                receiver.counter.connected();
                tokio::spawn(session(stream, Arc::clone(&args), Arc::clone(&receiver)));
            }
        });
    }
    until_signal_or(&receiver.counter, expect).await?;
    println!("{}", receiver.counter.json());
    let events = receiver.events();
    for (kind, count) in &events.kinds {
        println!("{count} {kind}");
    }
    println!(
        "{} calls with an id that had come before, {} events out of order",
        events.repeated_ids, events.out_of_order
    );
    Ok(())
}

async fn session(stream: TcpStream, args: Arc<Args>, receiver: Arc<Receiver>) {
    let _ = stream.set_nodelay(true);
    let mut connection = http::Connection::new(stream);
    while let Ok(Some(request)) = connection.read_message().await {
        let answered = if request.first_line.starts_with("POST ") {
            if !args.delay.is_zero() {
                tokio::time::sleep(args.delay).await;
            }
            let id = request
                .field("x-mox-webhook-id")
                .and_then(|id| id.parse().ok());
            receiver.events().add(id, &request.body);
            if args.print {
                println!("{}", String::from_utf8_lossy(&request.body).trim_end());
            }
            let answered = connection.answer("200 OK", "text/plain", b"").await;
            receiver
                .counter
                .add(subject_number(&request.body), 1, request.body.len() as u64);
            answered
        } else {
            let (status, kind, body) = control(request.target(), &receiver.counter).await;
            connection.answer(status, kind, body.as_bytes()).await
        };
        if answered.is_err() || !request.keep_alive {
            break;
        }
    }
}

/// The number of the load driver in the Subject of a payload.
fn subject_number(body: &[u8]) -> Option<u64> {
    const MARK: &[u8] = b"\"Subject\":\"load ";
    let at = memchr::memmem::find(body, MARK)? + MARK.len();
    let digits = body.get(at..at + 12)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart() {
        let mut events = EventCounts::default();
        let payload = |message: u64, kind: &str, queued: &str| {
            format!(r#"{{"Event":"{kind}","QueueMsgID":{message},"WebhookQueued":"{queued}"}}"#)
        };
        events.add(
            Some(1),
            payload(7, "delayed", "2026-01-01T00:00:00.1Z").as_bytes(),
        );
        events.add(
            Some(2),
            payload(7, "delivered", "2026-01-01T00:00:00.12Z").as_bytes(),
        );
        events.add(
            Some(3),
            payload(8, "failed", "2026-01-01T00:00:00Z").as_bytes(),
        );
        assert_eq!((events.repeated_ids, events.out_of_order), (0, 0));
        events.add(
            Some(3),
            payload(8, "failed", "2026-01-01T00:00:00Z").as_bytes(),
        );
        events.add(
            Some(4),
            payload(8, "delayed", "2025-12-31T23:59:59.9Z").as_bytes(),
        );
        events.add(None, b"{");
        assert_eq!((events.repeated_ids, events.out_of_order), (1, 1));
        assert_eq!(events.kinds["delayed"], 2);
        assert_eq!(events.kinds["no JSON"], 1);
    }

    #[test]
    fn the_number_is_in_the_subject() {
        let body = br#"{"Subject":"load 000000000042","Event":"delivered"}"#;
        assert_eq!(subject_number(body), Some(42));
        assert_eq!(subject_number(b"{}"), None);
    }
}
