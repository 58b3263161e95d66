//! Downloads that are made while they are sent, however long they are.

use std::io;

use axum::{
    body::{Body, Bytes},
    http::{
        HeaderValue,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use futures_util::stream;
use postrider_observe::{metrics::PanicIn, panics};
use tokio::sync::mpsc;

use super::super::{answer::Answer, asked::Asked};
use crate::{
    AdminError,
    op::{Gone, Operation, Sink},
};

/// Portions of items that wait for a slow client.
const WAITING: usize = 2;

/// Writes items as lines.
struct Lines<F> {
    sender: mpsc::Sender<io::Result<Bytes>>,
    line: F,
}

impl<T: Send, F: FnMut(&T) -> String + Send> Sink<T> for Lines<F> {
    async fn send(&mut self, items: Vec<T>) -> Result<(), AdminError> {
        let text: String = items.iter().map(&mut self.line).collect();
        if text.is_empty() {
            return Ok(());
        }
        let sent = self.sender.send(Ok(text.into())).await;
        sent.map_err(|_| Gone.into())
    }
}

/// A file with a line for each item of an operation. The operation runs while the file is sent, and
/// ends when its client goes. `head` stands before all lines.
pub(super) fn file<O: Operation + 'static>(
    asked: &Asked,
    (name, kind): (&str, &'static str),
    head: String,
    operation: O,
    line: impl FnMut(&O::Item) -> String + Send + 'static,
) -> Answer {
    let (sender, receiver) = mpsc::channel(WAITING);
    let context = asked.context.clone();
    let work = async move {
        let begun = head.is_empty() || sender.send(Ok(head.into())).await.is_ok();
        let mut lines = Lines { sender, line };
        if begun && let Err(error) = operation.run(&context, &mut lines).await {
            // The client learns that the file is not whole.
            let _ = lines.sender.send(Err(io::Error::other(error))).await;
        }
    };
    tokio::spawn(panics::within(PanicIn::Http, work));
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    Answer::Other(attached(name, kind, Body::from_stream(pieces)))
}

/// An answer that a browser saves as a file.
pub(super) fn attached(name: &str, kind: &'static str, body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let name = format!("attachment; filename=\"{name}\"");
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    response
}

/// The types of files.
pub(super) const CSV: &str = "text/csv; charset=utf-8";
pub(super) const JSON_LINES: &str = "application/jsonl; charset=utf-8";
