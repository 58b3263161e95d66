//! The driver: moves a session's bytes over TCP and TLS, and its questions to a [`Handler`].

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{error::Elapsed, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{Instrument, Span, error_span};

use super::{
    config::SessionConfig,
    event::{Event, Refused},
    handler::{Client, Handler},
    proof::Shown,
    session::{Answer, Output, Question, Session},
};
use crate::{HandshakeFailure, TlsInfo, sasl::TlsProof};

/// The bytes of a read while the session expects commands. They go through the stack, so a session
/// that waits has no memory for them.
const READ_COMMANDS: usize = 1024;
/// The bytes of a read after one that was full, since then the client pipelines.
const READ_PIPELINE: usize = 16 * 1024;
/// The bytes of the first read of a text. Each read that is full doubles the next one, up to
/// [`READ_TEXT`]. So a client that sends little at a time holds little memory.
const READ_TEXT_FIRST: usize = 16 * 1024;
/// The most bytes of a read while a text comes.
const READ_TEXT: usize = 64 * 1024;

/// Why a session ended early. The replies before that are as valid as ever.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The connection broke, or the client does not read.
    #[error(transparent)]
    Connection(#[from] io::Error),
}

impl ServeError {
    /// The kind of the handshake's failure. None: no handshake failed.
    #[must_use]
    pub fn handshake(&self) -> Option<HandshakeFailure> {
        match self {
            Self::Handshake(error) => Some(HandshakeFailure::of(error)),
            Self::Connection(_) => None,
        }
    }
}

impl From<Elapsed> for ServeError {
    fn from(elapsed: Elapsed) -> Self {
        Self::Connection(elapsed.into())
    }
}

/// Serves one connection to its end.
///
/// `client` has the addresses that count, which may be those that a proxy told. `tls` is for
/// STARTTLS, or for the whole connection with `implicit_tls`. When `shutdown` becomes true, the
/// session ends with 421 as soon as it waits for a command.
///
/// # Errors
/// The connection broke, or TLS failed.
pub fn serve<H: Handler>(
    mut client: Box<Client>,
    mut stream: TcpStream,
    config: Arc<SessionConfig>,
    tls: Option<Arc<ServerConfig>>,
    implicit_tls: bool,
    handler: H,
    shutdown: watch::Receiver<bool>,
) -> impl Future<Output = Result<(), ServeError>> + Send {
    client.connected = Timestamp::now();
    // It is made here and not in the future, which would have room for it twice.
    let mut driver = Driver {
        session: Session::new(config, client, implicit_tls, now()),
        handler,
        shutdown,
    };
    async move {
        driver.tell(&Event::Connected);
        if implicit_tls && let Err(reply) = driver.handler.connecting(driver.session.client()) {
            let refused = Refused::of_session(driver.session.client().name(), reply);
            driver.tell(&Event::Refused(Box::new(refused)));
            driver.tell(&Event::Ended);
            return Ok(());
        }
        stream.set_nodelay(true)?;
        match driver.converse(&mut stream).await? {
            End::Closed => close(driver.session.deadline(), &mut stream).await,
            // In a box, so that a connection without TLS has no room for it.
            End::StartTls => Box::pin(driver.secure(stream, tls)).await,
        }
    }
}

/// Serves one connection to its end, whose TLS handshake is done. `proof` is what that proved to
/// SASL. The rest is as in [`serve`].
///
/// # Errors
/// The connection broke.
pub fn serve_secured<H: Handler>(
    mut client: Box<Client>,
    mut stream: TlsStream<TcpStream>,
    proof: TlsProof,
    config: Arc<SessionConfig>,
    handler: H,
    shutdown: watch::Receiver<bool>,
) -> impl Future<Output = Result<(), ServeError>> + Send {
    client.connected = Timestamp::now();
    let mut session = Session::new(config, client, true, now());
    let connection = stream.get_ref().1;
    session.tls_started(TlsInfo::of(connection), now());
    if session.has_auth() {
        session.tls_proved(proof);
    }
    let mut driver = Driver {
        session,
        handler,
        shutdown,
    };
    async move {
        driver.tell(&Event::Connected);
        driver.converse(&mut stream).await?;
        close(driver.session.deadline(), &mut stream).await
    }
}

/// A session with its policy.
struct Driver<H> {
    session: Session,
    handler: H,
    shutdown: watch::Receiver<bool>,
}

/// The end of a conversation on one stream.
enum End {
    Closed,
    StartTls,
}

impl<H: Handler> Driver<H> {
    fn tell(&mut self, event: &Event) {
        self.handler.happened(self.session.client(), event);
    }

    /// Makes the handshake, and goes on under TLS.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn has room for its arguments twice"
    )]
    fn secure(
        mut self,
        stream: TcpStream,
        config: Option<Arc<ServerConfig>>,
    ) -> impl Future<Output = Result<(), ServeError>> + Send {
        async move {
            let config = config.ok_or_else(|| io::Error::other("no certificate for TLS"))?;
            // Only logins are bound to the certificate that the server shows.
            let has_auth = self.session.has_auth();
            let (config, shown) = match has_auth.then(|| Shown::beside(&config)) {
                Some((config, shown)) => (config, Some(shown)),
                None => (config, None),
            };
            let handshake = TlsAcceptor::from(config).accept(stream);
            let begun = now();
            let stream = within(self.session.deadline(), handshake).await;
            let stream = stream.map_err(io::Error::from).flatten();
            let mut stream = stream.map_err(|error| {
                self.tell(&Event::HandshakeFailed {
                    failure: HandshakeFailure::of(&error),
                    took: now().saturating_duration_since(begun),
                });
                self.tell(&Event::Ended);
                ServeError::Handshake(error)
            })?;
            let connection = stream.get_ref().1;
            self.session.tls_started(TlsInfo::of(connection), now());
            if let Some(shown) = shown {
                self.session.tls_proved(shown.proof(connection));
            }
            self.converse(&mut stream).await?;
            close(self.session.deadline(), &mut stream).await
        }
    }

    /// Moves bytes until the session closes or wants TLS.
    async fn converse<S>(&mut self, stream: &mut S) -> Result<End, ServeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let ended = self.exchange(stream).await;
        if !matches!(ended, Ok(End::StartTls)) {
            self.handler.reset();
            self.tell(&Event::Ended);
        }
        ended
    }

    async fn exchange<S>(&mut self, stream: &mut S) -> Result<End, ServeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut room = READ_COMMANDS;
        let mut transaction = Spanned::none();
        loop {
            if self.session.client().transaction == 0 {
                transaction = Spanned::none();
            }
            match self.session.poll_output() {
                Some(Output::Send(bytes)) => {
                    self.session.trace_sent(&bytes);
                    let sending = async {
                        stream.write_all(&bytes).await?;
                        stream.flush().await
                    };
                    within(self.session.deadline(), sending).await??;
                    self.session.wrote(now());
                }
                Some(Output::Ask(client, Question::Greeting)) => {
                    let span = span_of(client);
                    let answer = self.handler.greeting(client).instrument(span).await.into();
                    self.read_early(stream).await?;
                    self.session.answer(answer, now());
                }
                Some(Output::Ask(client, question)) => {
                    let span = transaction.enter(client);
                    let asking = ask(&mut self.handler, client, question);
                    let answer = asking.instrument(span).await;
                    self.session.answer(answer, now());
                }
                Some(Output::Text(piece)) => {
                    let span = transaction.span.clone();
                    if let Err(reply) = self.handler.text(&piece).instrument(span).await {
                        self.session.refuse_text(reply);
                    }
                }
                Some(Output::Reset) => self.handler.reset(),
                Some(Output::Restart) => self.handler.restart(),
                Some(Output::Happened(client, event)) => self.handler.happened(client, &event),
                Some(Output::StartTls) => return Ok(End::StartTls),
                Some(Output::Closed) => return Ok(End::Closed),
                None => {
                    let in_text = self.session.in_text();
                    let wanted = match in_text {
                        true => room.max(READ_TEXT_FIRST),
                        false => room.min(READ_PIPELINE),
                    };
                    room = match self.read(stream, wanted).await? {
                        Read::Bytes(count) => next_room(in_text, wanted, count),
                        Read::Nothing => room,
                        Read::End => return Ok(End::Closed),
                    };
                }
            }
        }
    }

    /// Takes what the client said before its greeting, without a wait for more.
    async fn read_early<S>(&mut self, stream: &mut S) -> io::Result<()>
    where
        S: AsyncRead + Unpin,
    {
        // Meanwhile the runtime learns whether there are bytes.
        tokio::task::yield_now().await;
        poll_fn(
            |context| match poll_commands(context, stream, &mut self.session) {
                Poll::Ready(read) => Poll::Ready(read.map(drop)),
                Poll::Pending => Poll::Ready(Ok(())),
            },
        )
        .await
    }

    /// Waits for the client, for the deadline, or for the end of the server.
    async fn read<S>(&mut self, stream: &mut S, room: usize) -> Result<Read, ServeError>
    where
        S: AsyncRead + Unpin,
    {
        let deadline = self.session.deadline();
        let in_text = self.session.in_text();
        if *self.shutdown.borrow() && !in_text {
            self.session.shut_down(now());
            return Ok(Read::Nothing);
        }
        let session = &mut self.session;
        let read = async {
            if room > READ_COMMANDS {
                let count = stream.read_buf(session.buffer(room)).await?;
                session.received(count, now());
                return Ok(count);
            }
            session.release();
            poll_fn(|context| poll_commands(context, stream, session)).await
        };
        let read = tokio::select! {
            biased;
            read = within(deadline, read) => read,
            Ok(_) = self.shutdown.wait_for(|stop| *stop), if !in_text => return Ok(Read::Nothing),
        };
        match read {
            Ok(Ok(0)) => Ok(Read::End),
            Ok(Ok(count)) => Ok(Read::Bytes(count)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                self.session.timeout(now());
                Ok(Read::Nothing)
            }
        }
    }
}

/// Reads commands. Their bytes go through the stack, so a session that waits holds no buffer.
fn poll_commands<S>(
    context: &mut Context<'_>,
    stream: &mut S,
    session: &mut Session,
) -> Poll<io::Result<usize>>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = [MaybeUninit::uninit(); READ_COMMANDS];
    let mut buffer = ReadBuf::uninit(&mut bytes);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    let read = buffer.filled();
    session.receive(read, now());
    Poll::Ready(Ok(read.len()))
}

/// Closes the stream. Under TLS this sends close_notify, which a client may not read.
async fn close<S>(deadline: Option<Instant>, stream: &mut S) -> Result<(), ServeError>
where
    S: AsyncWrite + Unpin,
{
    Ok(within(deadline, stream.shutdown()).await??)
}

/// The bytes of the next read, after a read of `count` bytes with room for `room`.
fn next_room(in_text: bool, room: usize, count: usize) -> usize {
    match (in_text, count >= room) {
        (true, true) => (2 * room).min(READ_TEXT),
        // Pieces of the network are smaller than the buffer at times.
        (true, false) if 4 * count >= room => room,
        (true, false) => READ_TEXT_FIRST,
        (false, true) => READ_PIPELINE,
        (false, false) => READ_COMMANDS,
    }
}

/// A transaction with the span of its lines of the log.
struct Spanned {
    /// The number of the transaction. Zero without one.
    number: u32,
    span: Span,
}

impl Spanned {
    const fn none() -> Self {
        Self {
            number: 0,
            span: Span::none(),
        }
    }

    /// The span of a question: that of the transaction, which is made once, or one of its own.
    fn enter(&mut self, client: &Client) -> Span {
        let number = client.transaction;
        if number == 0 {
            return span_of(client);
        }
        if self.number != number {
            *self = Self {
                number,
                span: span_of(client),
            };
        }
        self.span.clone()
    }
}

/// A span for the lines that are about a session, or about its transaction. A session that waits
/// has none.
fn span_of(client: &Client) -> Span {
    // At this level it is there for all lines, whatever the level of the log is.
    let remote = client.remote.ip().to_canonical();
    error_span!("session", session = %client.name(), %remote)
}

/// The result of a wait for input.
enum Read {
    Bytes(usize),
    /// The deadline has come, or the server stops.
    Nothing,
    /// The client closed its side.
    End,
}

async fn ask<H: Handler>(handler: &mut H, client: &Client, question: Question<'_>) -> Answer {
    // The large futures are in a box while they run, so that a connection that waits has no room
    // for them.
    match question {
        Question::Greeting => handler.greeting(client).await.into(),
        Question::Hello(name) => Box::pin(handler.hello(client, name)).await.into(),
        Question::ScramKeys(request) => Box::pin(handler.scram_keys(client, request)).await.into(),
        Question::Login(login) => Box::pin(handler.login(client, login)).await.into(),
        Question::Mail(mail) => Box::pin(handler.mail(client, mail)).await.into(),
        Question::Rcpt(transaction, rcpt) => Box::pin(handler.rcpt(client, transaction, rcpt))
            .await
            .into(),
        Question::Data(transaction) => handler.data(client, transaction).await.into(),
        Question::End(transaction) => {
            Answer::Reply(Box::pin(handler.end(client, transaction)).await)
        }
    }
}

/// Waits for `work` until the deadline. A session has one whenever the driver waits for the client.
fn within<F: Future>(
    deadline: Option<Instant>,
    work: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    timeout_at(deadline.unwrap_or_else(now).into(), work)
}

/// The only place of the server that asks for the time. Tests can pause it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_for_a_text_grows_with_full_reads_only() {
        for (in_text, room, count, next) in [
            (false, READ_COMMANDS, 10, READ_COMMANDS),
            (false, READ_COMMANDS, READ_COMMANDS, READ_PIPELINE),
            (true, READ_TEXT_FIRST, READ_TEXT_FIRST, 2 * READ_TEXT_FIRST),
            (true, READ_TEXT, READ_TEXT, READ_TEXT),
            (true, READ_TEXT, READ_TEXT / 4, READ_TEXT),
            (true, READ_TEXT, 1, READ_TEXT_FIRST),
        ] {
            assert_eq!(next_room(in_text, room, count), next, "{room} {count}");
        }
    }
}
