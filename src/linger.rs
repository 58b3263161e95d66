//! Closing a connection whose client still sends, so that it hears why.
//!
//! A request may be answered before its body was read: it is too long, or nobody is logged in. Closing at once makes the kernel
//! answer what still comes with a reset, and a client that gets one while it writes may never read the answer (RFC 9112 §9.6).
//! So such a connection is closed for writing, and then read for a while until the client has closed it too. In HTTP/2 only the stream
//! is ended, by a reset without an error (RFC 9113 §8.1), which some clients take for one; so what is left of a body is read
//! first, if it is not much.

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

/// How long what a client still sends is read.
const LINGER: Duration = Duration::from_secs(30);

/// Whether a connection had a request whose body was not read to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

/// How much of a body that nobody wants is read in HTTP/2, in bytes.
const REST: usize = 64 << 10;
/// ... and for how long.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// What is left of the body of a request that was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Rest {
    fn take(&self) -> Option<Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Reads it, if it is not much.
    pub(crate) async fn read(self) {
        let Some(mut body) = self.take() else { return };
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
    }
}

/// A body that tells when it is given up before its end, and leaves its rest.
pub(crate) struct Watched {
    /// There until it is dropped.
    body: Option<Incoming>,
    unread: Unread,
    rest: Rest,
}

impl Watched {
    pub(crate) const fn new(body: Incoming, unread: Unread, rest: Rest) -> Self {
        Self {
            body: Some(body),
            unread,
            rest,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        if rest.is_some() {
            self.unread.0.store(true, Ordering::Relaxed);
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

/// Until so many bytes have come, nothing else limits how long they take: it may yet be HTTP/2 (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// A stream whose first bytes have a time limit, and that is read on after it was closed for writing, where a body is unread.
pub(crate) struct Lingering<S> {
    stream: S,
    unread: Unread,
    /// How many bytes are to come before then.
    begin: Option<(usize, Pin<Box<Sleep>>)>,
    /// Set once it is closed for writing.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    /// The first bytes may take so long.
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
                // The client closed too, or is gone.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
