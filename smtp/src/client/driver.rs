//! The driver: moves a session's bytes over a socket and TLS, and keeps its deadline.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    net::IpAddr,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf, Bytes};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Sleep,
};
use tokio_rustls::TlsConnector;

use super::{
    Extensions, Link, MessageSource, Options, OutgoingMessage, OutgoingResult, Recorder, Remote,
    Security, SessionConfig, Tls, TlsFault, TlsFaultKind, TlsMode, Unopened,
    session::{MayBegin, Output, Session},
    tls::Stream,
};
use crate::{Address, Cause, DeliveryStatus, EnhancedCode, ReversePath, TlsInfo};

/// The bytes of a read. The replies to dozens of messages fit into them.
const READ_MAX: usize = 8192;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    session: Session,
    tls: Option<TlsInfo>,
    /// The bytes that are being written.
    pending: Bytes,
    /// The TLS layer may still have written bytes.
    unflushed: bool,
    /// The only timer of the connection. It rings at the session's deadline, or earlier.
    timer: Pin<Box<Sleep>>,
    /// The timer is set, and has not rung.
    armed: bool,
}

/// The end of a wait.
enum Progress {
    Read,
    Wrote,
    Deadline,
}

impl Connection {
    /// Opens a session on a new connection: TLS, greeting, EHLO and login.
    ///
    /// # Errors
    /// The server refuses, it does not meet the conditions of `options`, or the connection broke.
    /// The status names the server. After a failed handshake of opportunistic TLS the caller may
    /// connect again with [`TlsMode::Never`].
    pub async fn open(
        io: impl Into<Link>,
        remote: Remote,
        options: Options,
    ) -> Result<Self, Unopened> {
        let io = io.into();
        io.prepare();
        let remote = remote.to_string();
        if let (Some(recorder), Some(ip)) = (&options.recorder, io.local_ip()) {
            recorder.note(&format!("connected from {ip} to {remote}"), now());
        }
        let Options {
            helo,
            tls,
            login,
            timeouts,
            lmtp,
            chunking,
            recorder,
        } = options;
        let mut config = SessionConfig {
            helo: helo.to_string(),
            remote,
            security: Security::Never,
            login,
            timeouts,
            lmtp,
            chunking,
            recorder,
        };
        let (stream, start_tls) = match tls {
            TlsMode::Never => (Stream::Plain(io), None),
            TlsMode::Opportunistic(tls) => {
                config.security = Security::Opportunistic;
                (Stream::Plain(io), Some(tls))
            }
            TlsMode::Required(tls) => {
                config.security = Security::Required;
                (Stream::Plain(io), Some(tls))
            }
            TlsMode::Implicit(tls) => {
                config.security = Security::Active;
                let stream = handshake(io, tls, &config).await?;
                (stream, None)
            }
        };
        let now = now();
        let mut session = Session::new(config, now);
        session.bind_channel(stream.channel());
        let mut connection = Self {
            tls: stream.info(),
            stream,
            pending: Bytes::new(),
            unflushed: false,
            timer: Box::pin(tokio::time::sleep_until(
                session.deadline().unwrap_or(now).into(),
            )),
            armed: false,
            session,
        };
        connection.greet(start_tls).await?;
        Ok(connection)
    }

    async fn greet(&mut self, start_tls: Option<Tls>) -> Result<(), Unopened> {
        let mut start_tls = start_tls;
        loop {
            match (self.drive().await, start_tls.take()) {
                (Output::StartTls, Some(tls)) => {
                    let config = self.session.config().clone();
                    let Stream::Plain(io) = std::mem::replace(&mut self.stream, Stream::Upgrading)
                    else {
                        return Err(unexpected(&config, "TLS is active already"));
                    };
                    self.stream = handshake(io, tls, &config).await?;
                    self.tls = self.stream.info();
                    self.session.bind_channel(self.stream.channel());
                    self.session.tls_started(now());
                }
                (Output::Ready, _) => return Ok(()),
                (output, _) => {
                    let Some(status) = self.session.closed().cloned() else {
                        let text = format!("unexpected {output:?}");
                        return Err(unexpected(self.session.config(), &text));
                    };
                    let fault = self.session.tls_fault().map(TlsFault::new);
                    return Err(Unopened {
                        status,
                        tls: fault.map(Box::new),
                    });
                }
            }
        }
    }

    /// Sends messages, as many at once as the server allows. The results are in the order of the
    /// messages.
    ///
    /// Afterwards [`Self::usable`] tells whether the connection takes more messages.
    pub async fn send<S: MessageSource>(
        &mut self,
        messages: Vec<OutgoingMessage<S>>,
    ) -> Vec<OutgoingResult> {
        let mut sources = Vec::with_capacity(messages.len());
        let envelopes = messages.into_iter().map(|message| {
            let size = message.source.size();
            sources.push(message.source);
            (message.envelope, size)
        });
        self.session.submit(envelopes, now());
        while let Output::Ask(request) = self.drive().await {
            let piece = match sources.get(request.message) {
                Some(source) => source.read(request.offset, request.max).await,
                None => Err(io::ErrorKind::NotFound.into()),
            };
            if let Err(error) = &piece {
                let offset = request.offset;
                tracing::error!(%error, offset, "cannot read a message that is being sent");
            }
            self.session.answer(piece.ok().as_deref(), now());
        }
        self.session.results()
    }

    /// Asks the server whether it takes mail from `from` for `to`: MAIL, RCPT and RSET, and no
    /// message. The result is the reply at RCPT, or why there was none.
    pub async fn probe(&mut self, from: ReversePath, to: Address) -> DeliveryStatus {
        self.session.probe(from, to, now());
        self.drive().await;
        let results = self.session.results().into_iter();
        let mut results = results.flat_map(|result| result.recipients);
        let result = results.next().map(|result| result.status);
        result.unwrap_or_else(|| unexpected(self.session.config(), "no result").status)
    }

    /// What is recorded of the connection.
    #[must_use]
    pub const fn recorder(&self) -> Option<&Recorder> {
        self.session.config().recorder.as_ref()
    }

    /// From now on, no message begins after this moment. Its result says [`Again::NewConnection`].
    /// A message that began goes on.
    ///
    /// [`Again::NewConnection`]: super::Again::NewConnection
    pub const fn begin_none_after(&mut self, last: Instant) {
        self.session.begin_none_after(last);
    }

    /// From now on, `may_begin` is asked just before the MAIL of each message, by its index in the
    /// list that is sent. If it says no, the result says [`Again::NewConnection`].
    ///
    /// [`Again::NewConnection`]: super::Again::NewConnection
    pub fn begin_if(&mut self, may_begin: MayBegin) {
        self.session.begin_if(may_begin);
    }

    /// The extensions of the server.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        self.session.extensions()
    }

    /// The TLS of the connection.
    #[must_use]
    pub const fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_ref()
    }

    /// The address of ours that the connection comes from. None over a Unix socket.
    #[must_use]
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.stream.local_ip()
    }

    /// The certificates of the server, its own first. Empty in clear. A resumed session has those
    /// of the session that it resumes.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.stream.peer_certificates()
    }

    /// The connection can take more messages.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.session.usable(now())
    }

    /// Sends QUIT (RFC 5321 §4.1.1.10), and closes. A server that does not read has
    /// [`Timeouts::quit`] for each of both.
    ///
    /// [`Timeouts::quit`]: super::Timeouts::quit
    pub async fn quit(mut self) {
        self.session.quit(now());
        self.drive().await;
        // Under TLS this writes what is left, and close_notify. Nothing depends on whether the
        // server reads it.
        let limit = self.session.config().timeouts.quit;
        let _ = tokio::time::timeout(limit, self.stream.shutdown()).await;
    }

    /// Moves bytes until the session asks for something that is not bytes on the wire.
    async fn drive(&mut self) -> Output {
        loop {
            // The session makes new output when the last is sent. So a slow server costs one
            // buffer, not the size of a message.
            while self.pending.is_empty() && !self.unflushed {
                match self.session.poll_output() {
                    Some(Output::Send(bytes)) => self.pending = bytes,
                    Some(output) => return output,
                    None => break,
                }
            }
            if self.session.closed().is_some() {
                // The session writes nothing any more, and has a last output.
                self.pending = Bytes::new();
                self.unflushed = false;
                continue;
            }
            self.arm();
            match self.wait().await {
                Ok(Progress::Wrote) => self.session.wrote(now()),
                Ok(Progress::Read) => {}
                Ok(Progress::Deadline) => self.session.timeout(now()),
                Err(error) => self.session.lost(&error.to_string()),
            }
        }
    }

    /// Sets the timer, unless it rings early enough. Most deadlines move to a later time, and then
    /// it is cheaper to look again.
    fn arm(&mut self) {
        if let Some(deadline) = self.session.deadline().map(tokio::time::Instant::from_std)
            && (!self.armed || deadline < self.timer.deadline())
        {
            self.timer.as_mut().reset(deadline);
            self.armed = true;
        }
    }

    async fn wait(&mut self) -> io::Result<Progress> {
        poll_fn(|cx| {
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(Progress::Wrote)),
                // A server that refuses a text closes the connection. Its reply came before that.
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(match self.poll_read(cx) {
                        Poll::Ready(Ok(())) => Ok(Progress::Read),
                        _ => Err(error),
                    });
                }
                Poll::Pending => {}
            }
            if let Poll::Ready(read) = self.poll_read(cx) {
                return Poll::Ready(read.map(|()| Progress::Read));
            }
            if self.armed {
                ready!(self.timer.as_mut().poll(cx));
                self.armed = false;
                return Poll::Ready(Ok(Progress::Deadline));
            }
            Poll::Pending
        })
        .await
    }

    /// Ready when all that waits is written, so that the session's deadline is for a block as a
    /// whole.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
            self.unflushed = true;
            if self.pending.is_empty() {
                // Even a piece without bytes would keep the memory of all that was written.
                self.pending = Bytes::new();
            } else {
                self.session.wrote_some(written, now());
            }
        }
        if !self.unflushed {
            return Poll::Pending;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = [const { MaybeUninit::uninit() }; READ_MAX];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
            // Many servers close without close_notify, and so does every server that crashes.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.session.lost(""),
            Err(error) => return Poll::Ready(Err(error)),
            Ok(()) if buffer.filled().is_empty() => self.session.lost(""),
            Ok(()) => self.session.receive(buffer.filled(), now()),
        }
        Poll::Ready(Ok(()))
    }
}

async fn handshake(io: Link, tls: Tls, config: &SessionConfig) -> Result<Stream, Unopened> {
    let connector = TlsConnector::from(tls.config);
    let handshake = pin!(connector.connect(tls.name, io));
    let record = |fault: Option<&TlsFault>| {
        if let Some(recorder) = &config.recorder {
            recorder.handshake(fault, now());
        }
    };
    let fault = match tokio::time::timeout(config.timeouts.tls, handshake).await {
        Ok(Ok(stream)) => {
            record(None);
            return Ok(Stream::Tls(Box::new(stream)));
        }
        Ok(Err(error)) => TlsFault::of_handshake(&error),
        Err(_) => TlsFault::new(TlsFaultKind::TimedOut),
    };
    record(Some(&fault));
    Err(Unopened {
        status: tls_failure(config, &fault.to_string()),
        tls: Some(Box::new(fault)),
    })
}

/// The failure of a session that asks for something at the wrong time.
fn unexpected(config: &SessionConfig, text: &str) -> Unopened {
    Unopened {
        status: tls_failure(config, text),
        tls: Some(Box::new(TlsFault::new(TlsFaultKind::Protocol))),
    }
}

/// The status of a failed handshake. RFC 3207 §4.1 has no code for it.
fn tls_failure(config: &SessionConfig, text: &str) -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Tls, EnhancedCode::CRYPTOGRAPHIC_FAILURE, text)
        .with_command("STARTTLS")
        .with_remote(&config.remote)
}

/// The only place of the client that asks for the time. Tests can pause it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
