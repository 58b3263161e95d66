//! A connection to a filter: the conversation over a socket, with time limits.

#[cfg(test)]
mod tests;

use std::{io, time::Duration};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use postrider_config::{HookStage, Milter, MilterSocket};
use postrider_smtp::{Host, Reply};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::{Instant, timeout, timeout_at},
};

use super::{
    super::{
        answer::{Answer, Failure},
        asked::Asked,
        names::look_up,
    },
    negotiation::Negotiation,
    session::{MilterSession, Output, Question, Wait},
};

/// The bytes that are read at a time.
const READ: usize = 8 * 1024;

/// How much longer than a command a piece of the body and the end of the message may take. With the
/// usual 30 seconds these are 5 minutes.
const CONTENT_FACTOR: u32 = 10;

/// The longest time of a question, however often the filter asks for more. No client waits longer
/// (RFC 5321 §4.5.3.2.6 has 10 minutes).
const QUESTION_MAX: Duration = Duration::from_secs(3600);

/// A connection to a filter about one client. Another client needs another connection.
///
/// Dropping it tells the filter that the client is gone, as far as the socket takes that at once:
/// nobody waits for a filter at the end of a session.
#[derive(Debug)]
pub struct MilterConnection {
    place: Place,
    /// None after a failure, or if the connection was found closed.
    socket: Option<Box<dyn Socket>>,
    session: MilterSession,
}

/// Where the filter is, and the limits.
#[derive(Clone, Debug)]
struct Place {
    socket: MilterSocket,
    limit: Duration,
    body_max: usize,
}

/// A socket of either kind.
trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug {}
impl Socket for TcpStream {}
impl Socket for UnixStream {}

impl MilterConnection {
    /// Connects to a filter and negotiates. A new body that the filter gives has at most `body_max`
    /// bytes.
    ///
    /// # Errors
    /// If the filter can't be reached, is too slow, or refuses what is offered.
    pub async fn connect(milter: &Milter, body_max: usize) -> Result<Self, Failure> {
        let place = Place {
            socket: milter.socket.clone(),
            limit: milter.timeout,
            body_max,
        };
        place.open().await
    }

    /// Asks the filter. What it has not been told yet of the client and its message goes first, so
    /// that it may be asked from any stage on. If it has accepted the connection or the message
    /// already, the answer is there without a word to it. So it is at the stage auth, which filters
    /// do not have.
    ///
    /// If the filter closed the connection between two questions, there is another connection.
    ///
    /// # Errors
    /// If the filter goes away, is too slow, speaks out of turn or makes no sense. Each later
    /// question has the same failure.
    pub async fn ask(&mut self, asked: &Asked<'_>) -> Result<Answer, Failure> {
        let refused = None;
        self.question(&Question { asked, refused }).await
    }

    /// Tells the filter of a recipient that was refused with this reply, if it wants to know. The
    /// recipient is the last one of `asked`. What the filter says of the recipient does not matter.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub async fn tell_rejected(&mut self, asked: &Asked<'_>, reply: &Reply) -> Result<(), Failure> {
        if asked.stage != HookStage::Rcpt || !self.wants_rejected() {
            return Ok(());
        }
        let refused = Some(reply);
        self.question(&Question { asked, refused }).await?;
        Ok(())
    }

    /// Whether the filter wants to be told of recipients that were refused.
    #[must_use]
    pub const fn wants_rejected(&self) -> bool {
        self.session.wants_rejected()
    }

    async fn question(&mut self, question: &Question<'_>) -> Result<Answer, Failure> {
        if let Some(answer) = self.session.decided(question)? {
            return Ok(answer);
        }
        let result = match self.listen() {
            true => self.answer(question).await,
            false => self.answer_anew(question).await,
        };
        result.map_err(|failure| self.fail(failure))
    }

    /// Asks over another connection. The filter hears all that it must know again.
    async fn answer_anew(&mut self, question: &Question<'_>) -> Result<Answer, Failure> {
        *self = self.place.open().await?;
        self.answer(question).await
    }

    async fn answer(&mut self, question: &Question<'_>) -> Result<Answer, Failure> {
        let end = Instant::now() + QUESTION_MAX;
        let mut current: Option<(Wait, Instant)> = None;
        self.session.begin(question)?;
        loop {
            match self.session.poll(question)? {
                Output::Wait(wait) => {
                    let deadline = match current {
                        Some((known, deadline)) if known == wait => deadline,
                        _ => Instant::now() + self.place.limit_of(wait),
                    };
                    current = Some((wait, deadline));
                    let deadline = deadline.min(end);
                    self.flush(deadline).await?;
                    self.read(deadline).await?;
                }
                Output::Piece { at, max } => {
                    self.flush(Instant::now() + self.place.content()).await?;
                    let piece = match question.asked.draft {
                        Some(draft) => draft.body.piece(at, max).await.map_err(|error| {
                            Failure::Unavailable(format!("the message can't be read: {error}"))
                        })?,
                        None => Default::default(),
                    };
                    self.session.give(&piece);
                }
                Output::Done(answer) => {
                    self.flush(Instant::now() + self.place.limit).await?;
                    return Ok(answer);
                }
            }
        }
    }

    /// Whether the connection is open. The session gets what the filter has said without being
    /// asked.
    fn listen(&mut self) -> bool {
        let Some(socket) = &mut self.socket else {
            return false;
        };
        let mut bytes = BytesMut::with_capacity(READ);
        let read = socket.read_buf(&mut bytes).now_or_never();
        self.session.receive(&bytes);
        matches!(read, None | Some(Ok(1..)))
    }

    /// Sends all that waits.
    async fn flush(&mut self, deadline: Instant) -> Result<(), Failure> {
        let bytes = self.session.output();
        if bytes.is_empty() {
            return Ok(());
        }
        let socket = self.socket.as_mut().ok_or_else(closed)?;
        send(socket.as_mut(), &bytes, deadline).await
    }

    async fn read(&mut self, deadline: Instant) -> Result<(), Failure> {
        let socket = self.socket.as_mut().ok_or_else(closed)?;
        let bytes = receive(socket.as_mut(), deadline).await?;
        self.session.receive(&bytes);
        Ok(())
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        self.socket = None;
        self.session.fail(failure)
    }
}

impl Drop for MilterConnection {
    fn drop(&mut self) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        if self.session.is_waiting() {
            return;
        }
        self.session.quit();
        let bytes = self.session.output();
        // The filter may be gone already. A socket that takes no more has a filter that does not
        // listen.
        let _ = socket.write_all(&bytes).now_or_never();
    }
}

impl Place {
    async fn open(&self) -> Result<MilterConnection, Failure> {
        let dialed = timeout(self.limit, self.dial()).await;
        let dialed = dialed.map_err(|_| Failure::Timeout)?;
        let socket = dialed.map_err(|error| {
            let place = self.shown();
            Failure::Unavailable(format!("the filter at {place} can't be reached: {error}"))
        })?;
        self.negotiate(socket).await
    }

    async fn negotiate(&self, mut socket: Box<dyn Socket>) -> Result<MilterConnection, Failure> {
        let end = Instant::now() + QUESTION_MAX;
        let mut negotiation = Negotiation::default();
        let mut deadline = Instant::now() + self.limit;
        send(socket.as_mut(), &Negotiation::offer(), deadline).await?;
        loop {
            let bytes = receive(socket.as_mut(), deadline.min(end)).await?;
            let before = negotiation.progress();
            negotiation.receive(&bytes);
            if let Some(agreed) = negotiation.poll()? {
                return Ok(MilterConnection {
                    place: self.clone(),
                    socket: Some(socket),
                    session: negotiation.into_session(agreed, self.body_max),
                });
            }
            if negotiation.progress() != before {
                deadline = Instant::now() + self.limit;
            }
        }
    }

    async fn dial(&self) -> io::Result<Box<dyn Socket>> {
        let tcp = match &self.socket {
            MilterSocket::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            MilterSocket::Inet(Host::Literal(ip), port) => TcpStream::connect((*ip, *port)).await?,
            MilterSocket::Inet(Host::Domain(name), port) => {
                TcpStream::connect(&*look_up(name.ascii(), *port).await?).await?
            }
        };
        // Each command waits for its reply.
        tcp.set_nodelay(true)?;
        Ok(Box::new(tcp))
    }

    fn shown(&self) -> String {
        match &self.socket {
            MilterSocket::Unix(path) => path.display().to_string(),
            MilterSocket::Inet(host, port) => format!("{host}:{port}"),
        }
    }

    const fn limit_of(&self, wait: Wait) -> Duration {
        match wait.content {
            true => self.content(),
            false => self.limit,
        }
    }

    const fn content(&self) -> Duration {
        self.limit.saturating_mul(CONTENT_FACTOR)
    }
}

async fn send(socket: &mut dyn Socket, bytes: &[u8], deadline: Instant) -> Result<(), Failure> {
    let sent = timeout_at(deadline, socket.write_all(bytes)).await;
    sent.map_err(|_| Failure::Timeout)?
        .map_err(|error| lost(&error))
}

async fn receive(socket: &mut dyn Socket, deadline: Instant) -> Result<BytesMut, Failure> {
    let mut bytes = BytesMut::with_capacity(READ);
    let read = timeout_at(deadline, socket.read_buf(&mut bytes)).await;
    match read.map_err(|_| Failure::Timeout)? {
        Ok(0) => Err(closed()),
        Ok(_) => Ok(bytes),
        Err(error) => Err(lost(&error)),
    }
}

fn closed() -> Failure {
    Failure::Unavailable("the filter closed the connection".to_owned())
}

fn lost(error: &io::Error) -> Failure {
    Failure::Unavailable(format!("the connection to the filter is lost: {error}"))
}
