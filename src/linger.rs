//! The end of a connection whose client still sends, so that the client can read the answer.
//!
//! A request may be answered before its body was read: the body is too long, or the login is
//! missing. If the server closes at once, the kernel answers further bytes with a reset. A client
//! that gets a reset while it writes may never read the answer (RFC 9112 §9.6). So the server
//! closes only its writing side, and reads for a while until the client closes too. The answer says
//! so (`Connection: close`): a client that has written its whole body would else send its next
//! request on this connection. In HTTP/2 only the stream ends, by a reset without an error (RFC
//! 9113 §8.1). Some clients treat that as an error. So the server first reads the rest of a short
//! body, and the connection stays open.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// The time for which the server reads after its answer.
const LINGER: Duration = Duration::from_secs(30);

/// The mark of a connection with a request whose body was not read to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The largest rest of a body, in bytes, that is read before the answer.
const REST: usize = 64 << 10;
/// The time for which that rest is read.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// The rest of the body of an answered request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Rest {
    fn take(&self) -> Option<Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Reads a short rest. Tells whether nothing is left then.
    pub(crate) async fn read(self) -> bool {
        let Some(mut body) = self.take() else {
            return true;
        };
        // No byte of a body that says that it is long needs to be read.
        if body.size_hint().lower() > REST as u64 {
            return false;
        }
        let read = async {
            let mut left = REST;
            while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let Some(less) = left.checked_sub(length) else {
                    return;
                };
                left = less;
            }
        };
        let _ = tokio::time::timeout(REST_TIMEOUT, read).await;
        body.is_end_stream()
    }

    /// Reads nothing. Tells whether nothing was left.
    pub(crate) fn leave(self) -> bool {
        self.take().is_none()
    }
}

/// A body that hands over its rest when it is dropped before its end.
pub(crate) struct Watched {
    /// Present until the drop.
    body: Option<Incoming>,
    rest: Rest,
}

impl Watched {
    pub(crate) const fn new(body: Incoming, rest: Rest) -> Self {
        Self {
            body: Some(body),
            rest,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        if rest.is_some() {
            *self.rest.0.lock().unwrap_or_else(PoisonError::into_inner) = rest;
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.as_ref().map(Body::size_hint);
        hint.unwrap_or_default()
    }
}

/// The length of the HTTP/2 preface (RFC 9113 §3.4). No other time limit covers these first bytes.
const PREFACE: usize = 24;

/// A stream with a time limit on its first bytes. If a body is unread, the stream reads on after
/// its writing side closed.
pub(crate) struct Lingering<S> {
    stream: S,
    unread: Unread,
    /// The bytes that are still missing.
    begin: Option<(usize, Pin<Box<Sleep>>)>,
    /// Set once the writing side is closed.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    /// The time limit of the first bytes.
    pub(crate) fn new(stream: S, unread: Unread, begin: Duration) -> Self {
        Self {
            stream,
            unread,
            begin: Some((PREFACE, Box::pin(tokio::time::sleep(begin)))),
            until: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let Some((wanted, limit)) = &mut this.begin else {
            return read;
        };
        *wanted = wanted.saturating_sub(buffer.filled().len() - before);
        if *wanted == 0 {
            this.begin = None;
        } else if read.is_pending() && limit.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.until.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if !this.unread.0.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let until = this
            .until
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let mut scratch = [0; 8192];
        while until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // The client closed too, or has left.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
