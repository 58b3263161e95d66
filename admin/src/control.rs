//! The socket in the data folder through which commands talk to the running server.
//!
//! A client sends one request as a line of JSON; the server answers with lines: any number of `{"item": ...}`, then
//! one `{"done": true}` or `{"error": "..."}`. Whoever may open the socket (mode 0600) is the administrator.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::watch,
};
use tracing::{info, warn};

use crate::request::{Parts, Request, RequestError};

/// The socket's name within the data folder.
pub const SOCKET_NAME: &str = "postrider.sock";

/// The longest request line, in bytes.
const REQUEST_MAX: u64 = 1 << 20;
/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Item(Value),
    Done(bool),
    Error(String),
}

/// Makes the socket in `data_dir`, readable by the owner only. A leftover of a dead server is replaced: the store's lock,
/// which the caller holds, proves that no other server uses this folder.
///
/// # Errors
/// If the socket can't be made.
pub fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;

    let path = data_dir.join(SOCKET_NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers requests until `shutdown` says so.
pub async fn serve(listener: UnixListener, parts: Parts, mut shutdown: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let parts = parts.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &parts).await {
                        info!(%error, "control connection ended early");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "failed to accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, parts: &Parts) -> io::Result<()> {
    let (read, write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(REQUEST_MAX));
    tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await??;
    let mut items = Items { write };
    let last = match serde_json::from_str::<Request>(&line) {
        Ok(request) => {
            let carried_out = tokio::select! {
                carried_out = request.carry_out(parts, &mut items) => carried_out,
                // Who does not wait for the answer any more does not want the rest done.
                gone = gone(&mut reader) => return gone,
            };
            match carried_out {
                Ok(()) => Line::Done(true),
                Err(RequestError::Gone(error)) => return Err(error),
                Err(RequestError::Refused(text)) => Line::Error(text),
            }
        }
        Err(error) => Line::Error(format!(
            "the server does not understand this request: {error}"
        )),
    };
    items.write_lines(&[last]).await?;
    items.write.shutdown().await
}

/// Waits until the other side closes.
async fn gone(reader: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<()> {
    loop {
        match reader.fill_buf().await?.len() {
            0 => return Err(io::ErrorKind::ConnectionAborted.into()),
            count => reader.consume(count),
        }
    }
}

/// Where the items of an answer go.
pub(crate) struct Items {
    write: OwnedWriteHalf,
}

impl Items {
    /// Sends items.
    pub(crate) async fn send(&mut self, items: Vec<Value>) -> io::Result<()> {
        let lines: Vec<Line> = items.into_iter().map(Line::Item).collect();
        self.write_lines(&lines).await
    }

    async fn write_lines(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, line)?;
            bytes.push(b'\n');
        }
        self.write.write_all(&bytes).await
    }
}

/// Why a request to the running server failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No server listens.
    #[error(
        "no server is running here: {path:?} can't be reached ({reason}); start it with \"postrider serve\""
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// The socket is not for this user.
    #[error(
        "{0:?} is for root and the user that the server runs as; run this command as one of them"
    )]
    NotAllowed(PathBuf),
    /// The server said no.
    #[error("{0}")]
    Refused(String),
    /// The connection broke, or an answer made no sense.
    #[error("failed to talk to the running server: {0}")]
    Io(#[from] io::Error),
}

/// Sends one request to the server of `data_dir` and hands its items to `item` as they come.
///
/// # Errors
/// If no server runs there, it refuses, or the connection breaks.
pub async fn call(
    data_dir: &Path,
    request: &Request,
    mut item: impl FnMut(Value) -> io::Result<()>,
) -> Result<(), ControlError> {
    let path = data_dir.join(SOCKET_NAME);
    let stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(reason) if reason.kind() == io::ErrorKind::PermissionDenied => {
            return Err(ControlError::NotAllowed(path));
        }
        Err(reason) => return Err(ControlError::NotRunning { path, reason }),
    };
    let (read, mut write) = stream.into_split();
    let mut bytes = serde_json::to_vec(request).map_err(io::Error::from)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line).map_err(io::Error::from)? {
            Line::Item(value) => item(value)?,
            Line::Done(_) => return Ok(()),
            Line::Error(text) => return Err(ControlError::Refused(text)),
        }
    }
    Err(ControlError::Io(io::ErrorKind::UnexpectedEof.into()))
}
