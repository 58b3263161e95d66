//! The end of HTTP connections without work.
//!
//! A client of HTTP/2 that answers pings could keep a connection for ever, without a request or
//! with an answer that it never reads. So the server notes what happens on a connection, and ends
//! it when nothing happens for a while and no part of the server works for it.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body as Answer, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// The time after which a connection without work ends.
pub(crate) const IDLE: Duration = Duration::from_secs(90);

/// What happens on a connection. Clones note it together.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The parts of the server that work for the connection.
    busy: AtomicUsize,
    last: Mutex<Instant>,
}

/// Work for a connection. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Work(Activity);

impl Activity {
    /// A connection that begins now.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            busy: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
        }))
    }

    /// Something happens now.
    pub(crate) fn note(&self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// A part of the server begins to work.
    pub(crate) fn begin(&self) -> Work {
        self.0.busy.fetch_add(1, Ordering::Relaxed);
        Work(self.clone())
    }

    /// Waits until nothing has happened for [`IDLE`], and nothing is being done.
    pub(crate) async fn idle(&self) {
        loop {
            let last = *self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
            let quiet = last.elapsed();
            if quiet < IDLE {
                tokio::time::sleep(IDLE - quiet).await;
            } else if self.0.busy.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(IDLE).await;
            } else {
                return;
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.note();
        self.0.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer. While it waits for the server, the server works. While it waits for the
/// client, nothing happens.
pub(crate) struct Noted {
    body: Answer,
    activity: Activity,
    work: Option<Work>,
}

impl Noted {
    pub(crate) const fn new(body: Answer, activity: Activity) -> Self {
        Self {
            body,
            activity,
            work: None,
        }
    }
}

impl Body for Noted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_ready() {
            this.work = None;
            this.activity.note();
        } else if this.work.is_none() {
            this.work = Some(this.activity.begin());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_after_a_while_without_work() {
        let begun = Instant::now();
        let activity = Activity::new();
        activity.idle().await;
        assert_eq!(begun.elapsed(), IDLE);

        activity.note();
        let noted = Instant::now();
        let work = activity.begin();
        let working = async {
            tokio::time::sleep(10 * IDLE).await;
            drop(work);
        };
        tokio::join!(activity.idle(), working);
        assert_eq!(noted.elapsed(), 11 * IDLE);
    }
}
