//! An outside program that a measured postrider asks about each message: a stage hook over HTTP
//! that accepts everything.

use std::thread;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::http::Connection;

/// The answer to each call.
const ANSWER: &[u8] = br#"{"action":"accept"}"#;

/// The program. It runs on a thread of its own until the value is dropped.
pub(super) struct Program {
    pub(super) port: u16,
    /// Its end is the end of the program.
    _running: oneshot::Sender<()>,
}

impl Program {
    pub(super) fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (running, end) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start the program that is asked")?;
        thread::spawn(move || runtime.block_on(serve(listener, end)));
        Ok(Self {
            port,
            _running: running,
        })
    }
}

async fn serve(listener: std::net::TcpListener, mut end: oneshot::Receiver<()>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        tokio::select! {
            _ = &mut end => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(session(stream))),
                Err(_) => return,
            },
        }
    }
}

async fn session(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut connection = Connection::new(stream);
    while let Ok(Some(request)) = connection.read_message().await {
        let answered = connection.answer("200 OK", "application/json", ANSWER);
        if answered.await.is_err() || !request.keep_alive {
            return;
        }
    }
}
