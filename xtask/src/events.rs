//! A receiver of webhooks. Checks wait for its events.

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::http;

/// The time limit for anything that should happen at once. A loaded machine needs some of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The events that came.
pub(crate) struct Events {
    /// The URL of the receiver.
    pub(crate) url: String,
    came: Receiver<Value>,
    /// Events that came while a check waited for another event.
    unclaimed: Vec<Value>,
}

impl Events {
    /// Listens in a thread of its own.
    pub(crate) fn listen() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}/events", listener.local_addr()?);
        let (sender, came) = channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                    return;
                };
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(receive(stream, sender.clone()));
                }
            });
        });
        Ok(Self {
            url,
            came,
            unclaimed: Vec::new(),
        })
    }

    /// Waits for an event that fits. `what` names the event in the error.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        if let Some(index) = self.unclaimed.iter().position(&wanted) {
            return Ok(self.unclaimed.swap_remove(index));
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.came.recv_timeout(left) else {
                bail!("no event came for {what}; others: {:?}", self.unclaimed);
            };
            if wanted(&event) {
                return Ok(event);
            }
            self.unclaimed.push(event);
        }
    }
}

async fn receive(stream: tokio::net::TcpStream, sender: Sender<Value>) {
    let mut connection = http::Connection::new(stream);
    while let Ok(Some(request)) = connection.read_message().await {
        if let Ok(payload) = serde_json::from_slice(&request.body) {
            let _ = sender.send(payload);
        }
        if connection
            .answer("200 OK", "text/plain", b"")
            .await
            .is_err()
            || !request.keep_alive
        {
            return;
        }
    }
}
