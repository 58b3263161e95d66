//! The socket in the data folder through which commands talk to the running server.
//!
//! A client sends one request as a line of JSON; the server answers with lines: any number of `{"item": ...}`, then
//! one `{"done": true}` or `{"error": "..."}`. Whoever may open the socket (mode 0600) is the administrator.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use postrider_config::Live;
use postrider_store::{Clock, QueueFilter, Store, login::Logins};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
};
use tracing::{info, warn};

use crate::{password, shape::QueueItem};

/// The socket's name within the data folder.
pub const SOCKET_NAME: &str = "postrider.sock";

/// The longest request line, in bytes.
const REQUEST_MAX: u64 = 1 << 20;
/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How many records are read at once for a listing.
const PAGE: usize = 500;

/// What a command asks of the running server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Is anybody there? One item: the version.
    Ping {},
    /// Sets an account's password.
    SetPassword {
        /// Which account.
        account: String,
        /// Its new password.
        password: String,
    },
    /// Lists queued messages as [`QueueItem`]s.
    QueueList {
        /// Which ones.
        filter: QueueFilter,
    },
}

/// A line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Item(Value),
    Done(bool),
    Error(String),
}

/// What the server's side needs.
#[derive(Clone)]
pub struct Parts {
    /// The store.
    pub store: Store,
    /// Remembered logins, told of changed passwords.
    pub logins: Arc<Logins>,
    /// The dynamic configuration.
    pub config: Live,
    /// The time.
    pub clock: Arc<dyn Clock>,
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
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(REQUEST_MAX));
    tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await??;
    let last = match serde_json::from_str(&line) {
        Ok(request) => match handle(request, parts, &mut write).await? {
            Ok(()) => Line::Done(true),
            Err(text) => Line::Error(text),
        },
        Err(error) => Line::Error(format!(
            "the server does not understand this request: {error}"
        )),
    };
    write_line(&mut write, &last).await?;
    write.shutdown().await
}

/// The outer error is the connection's, the inner one the request's.
async fn handle<W: AsyncWriteExt + Unpin>(
    request: Request,
    parts: &Parts,
    write: &mut W,
) -> io::Result<Result<(), String>> {
    match request {
        Request::Ping {} => {
            write_line(write, &Line::Item(env!("CARGO_PKG_VERSION").into())).await?;
            Ok(Ok(()))
        }
        Request::SetPassword { account, password } => {
            let config = parts.config.load_full();
            let set = password::set_account_password(
                &parts.store,
                Some(&parts.logins),
                &config,
                &account,
                &password,
                parts.clock.now(),
            )
            .await;
            if set.is_ok() {
                info!(account, "password set through the control socket");
            }
            Ok(set.map_err(|error| error.to_string()))
        }
        Request::QueueList { filter } => list_queue(&filter, parts, write).await,
    }
}

async fn list_queue<W: AsyncWriteExt + Unpin>(
    filter: &QueueFilter,
    parts: &Parts,
    write: &mut W,
) -> io::Result<Result<(), String>> {
    let mut after = None;
    loop {
        let page = match parts.store.list(filter, after, PAGE) {
            Ok(page) => page,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut lines = Vec::new();
        for message in &page.items {
            push_line(
                &mut lines,
                &Line::Item(serde_json::to_value(QueueItem::from(message))?),
            )?;
        }
        write.write_all(&lines).await?;
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(Ok(())),
        }
    }
}

fn push_line(lines: &mut Vec<u8>, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, line)?;
    lines.push(b'\n');
    Ok(())
}

async fn write_line<W: AsyncWriteExt + Unpin>(write: &mut W, line: &Line) -> io::Result<()> {
    let mut bytes = Vec::new();
    push_line(&mut bytes, line)?;
    write.write_all(&bytes).await
}

/// Why a request to the running server failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No server listens.
    #[error(
        "no server is running here: {path:?} can't be reached ({source}); start it with \"postrider serve\""
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
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
        Err(source) => return Err(ControlError::NotRunning { path, source }),
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
