//! The control socket, the server's side. Everybody who may open the socket (mode 0600) is the
//! administrator.

use std::{io, path::Path, time::Duration};

use nix::unistd::User;
use postrider_observe::metrics::{Accepted, Listener, OpenConnection};
use postrider_store::Actor;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::watch,
};
use tracing::{debug, warn};

use super::{AnswerLine, SOCKET_NAME};
use crate::{
    AdminError, Caller, Context,
    op::{Gone, Operation, Sink, operations},
};

/// The longest request line in bytes.
const REQUEST_MAX: u64 = 1 << 20;
/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

macro_rules! request {
    ($($variant:ident($operation:ty) = $name:literal,)+) => {
        /// A request, as the server reads it.
        #[derive(Debug, Deserialize)]
        #[serde(tag = "operation", content = "input", deny_unknown_fields)]
        enum Request {
            $(#[serde(rename = $name)] $variant($operation),)+
        }

        impl Request {
            async fn run(self, context: &Context, lines: &mut Lines) -> Result<(), AdminError> {
                match self {
                    $(Self::$variant(operation) => operation.run(context, lines).await,)+
                }
            }
        }
    };
}
operations!(request);

/// Makes the socket in `data_dir`, for the owner only. A socket that a dead server left is
/// replaced: the caller holds the lock of the store, so no other server uses this folder.
///
/// # Errors
/// If the socket cannot be made.
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

/// Answers requests until `shutdown` becomes true.
pub async fn serve(listener: UnixListener, context: Context, mut shutdown: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let context = context.clone();
                let labels = (Listener::Control, Accepted::Ok);
                context.metrics.connections_total.with(labels).inc();
                let open = OpenConnection::new(&context.metrics, Listener::Control);
                tokio::spawn(async move {
                    let _open = open;
                    if let Err(error) = answer(stream, context).await {
                        debug!(%error, "control connection ended early");
                    }
                });
            }
            Err(error) => {
                let labels = (Listener::Control, Accepted::Failed);
                context.metrics.connections_total.with(labels).inc();
                warn!(%error, "control connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The system user at the other side.
fn caller(stream: &UnixStream) -> Caller {
    let uid = stream.peer_cred().map(|peer| peer.uid());
    let name = uid.map_or_else(
        |_| String::new(),
        |uid| match User::from_uid(uid.into()) {
            Ok(Some(user)) => user.name,
            _ => format!("uid {uid}"),
        },
    );
    Caller {
        actor: Actor::Socket,
        name,
        from: None,
    }
}

async fn answer(stream: UnixStream, mut context: Context) -> io::Result<()> {
    context.caller = caller(&stream);
    let context = &context;
    let (read, write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(REQUEST_MAX));
    tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await??;
    let mut lines = Lines {
        write,
        broken: None,
    };
    let result = match serde_json::from_str::<Request>(&line) {
        Ok(request) => tokio::select! {
            result = request.run(context, &mut lines) => result,
            // A client that does not wait for the answer does not want the rest done.
            gone = gone(&mut reader) => return gone,
        },
        Err(error) => Err(AdminError::invalid(format!(
            "the server does not understand this request: {error}"
        ))),
    };
    if let Some(error) = lines.broken {
        return Err(error);
    }
    let mut bytes = Vec::new();
    match result {
        Ok(()) => add_line::<()>(&mut bytes, &AnswerLine::Done(true))?,
        Err(error) => add_line::<()>(&mut bytes, &AnswerLine::Error(error))?,
    }
    lines.write.write_all(&bytes).await?;
    lines.write.shutdown().await
}

/// Waits until the client closes the connection.
async fn gone(reader: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<()> {
    loop {
        match reader.fill_buf().await?.len() {
            0 => return Err(io::ErrorKind::ConnectionAborted.into()),
            count => reader.consume(count),
        }
    }
}

/// The lines of an answer. A write waits until the client has read enough.
struct Lines {
    write: OwnedWriteHalf,
    /// Why no more can be written.
    broken: Option<io::Error>,
}

impl Lines {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        match self.write.write_all(bytes).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.broken = Some(error);
                Err(Gone)
            }
        }
    }
}

impl<T: Serialize + Send> Sink<T> for Lines {
    async fn send(&mut self, items: Vec<T>) -> Result<(), AdminError> {
        let mut bytes = Vec::new();
        for item in items {
            add_line(&mut bytes, &AnswerLine::Item(item)).map_err(AdminError::internal)?;
        }
        Ok(self.write(&bytes).await?)
    }
}

fn add_line<T: Serialize>(bytes: &mut Vec<u8>, line: &AnswerLine<T>) -> serde_json::Result<()> {
    serde_json::to_writer(&mut *bytes, line)?;
    bytes.push(b'\n');
    Ok(())
}
