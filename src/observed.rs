//! A stream that tells what passes: what it reads goes to the [`Framing`], and what it writes to
//! the [`Activity`].

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{framing::Framing, idle::Activity};

/// The fewest bytes of a write that are an answer. Pings and other small frames of HTTP/2 are
/// written for a client that does nothing.
const ANSWER: usize = 1024;

/// The framing of a connection, as its stream and its service use it.
#[derive(Clone, Debug)]
pub(crate) struct Requests(Arc<Mutex<Framing>>);

impl Requests {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Framing::new())))
    }

    pub(crate) fn framing(&self) -> MutexGuard<'_, Framing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that tells what passes. It holds something until it is dropped.
pub(crate) struct Observed<S, H> {
    stream: S,
    _held: H,
    requests: Requests,
    activity: Activity,
}

impl<S, H> Observed<S, H> {
    pub(crate) const fn new(stream: S, requests: Requests, activity: Activity, held: H) -> Self {
        Self {
            stream,
            _held: held,
            requests,
            activity,
        }
    }

    fn wrote(&self, result: io::Result<usize>) -> Poll<io::Result<usize>> {
        if matches!(result, Ok(ANSWER..)) {
            self.activity.note();
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + Unpin, H: Unpin> AsyncRead for Observed<S, H> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        this.requests.framing().read(new);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, H: Unpin> AsyncWrite for Observed<S, H> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes));
        this.wrote(wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, parts));
        this.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
