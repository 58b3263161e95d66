//! What can be downloaded of a message: its document for the frame, its texts, its source, files.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{
            CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::IntoResponse,
};
use bytes::Bytes;
use futures_util::StreamExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::mpsc;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::{Asked, header_value},
    },
    account,
    message::id,
};
use crate::{
    AdminError,
    face::task,
    op::{
        Gone, Operation, Sink,
        inbox::{Get, Html, InboxId, Part, Source},
        queue::Piece,
    },
};

/// What the document in the frame may do: nothing, but show itself.
const FRAME_POLICY: &str = "sandbox allow-popups allow-popups-to-escape-sandbox; \
    default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; \
    base-uri 'none'; frame-ancestors 'self'";
/// The most characters of a name that a download gets.
const NAME_MAX: usize = 100;
/// What stands in the name of a download as it is (RFC 8187 §3.2.1).
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// The document in the frame of the tab HTML.
pub(super) async fn framed(asked: &Asked, id: InboxId) -> Result<Answer, Trouble> {
    let account = account(asked);
    let html = asked.run(Html { id, account }).await?.html;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, FRAME_POLICY),
    ];
    Ok(Answer::Other((headers, html).into_response()))
}

/// The text or the HTML as a file.
pub(super) async fn text(asked: &Asked, id: InboxId) -> Result<Answer, Trouble> {
    let get = Get {
        id,
        account: account(asked),
        reads: false,
        digests: false,
    };
    let message = asked.run(get).await?;
    let (kind, ending, text) = match asked.element(1) {
        "message.html" => ("text/html; charset=utf-8", "html", message.html),
        _ => ("text/plain; charset=utf-8", "txt", message.text),
    };
    if text.is_empty() {
        return Err(Trouble::NoPage);
    }
    let headers = as_file(kind, &format!("{id}.{ending}"));
    Ok(Answer::Other((headers, text).into_response()))
}

/// The whole message as a file, piece by piece.
pub(super) async fn source(asked: &Asked, id: InboxId) -> Result<Answer, Trouble> {
    let source = Source {
        id,
        account: account(asked),
        max: None,
    };
    let (sender, mut pieces) = mpsc::channel(2);
    let context = asked.context.clone();
    let reading = task::begin(async move {
        let mut pieces = Pieces(sender);
        source.run(&context, &mut pieces).await
    });
    // What fails before the first piece has an answer of its own.
    let Some(first) = pieces.recv().await else {
        return match reading.await.map_err(AdminError::internal)? {
            Ok(()) => Err(Trouble::NoPage),
            Err(error) => Err(error.into()),
        };
    };
    let rest = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok::<_, AdminError>(piece), pieces))
    });
    let end = futures_util::stream::once(async move {
        match reading.await.map_err(AdminError::internal)? {
            Ok(()) => Ok(Bytes::new()),
            // The browser sees that the file is not whole.
            Err(error) => Err(error),
        }
    });
    let first = futures_util::stream::once(async move { Ok(first) });
    let body = Body::from_stream(first.chain(rest).chain(end));
    let headers = as_file("message/rfc822", &format!("{id}.eml"));
    Ok(Answer::Other((headers, body).into_response()))
}

/// Passes on the pieces of a message.
struct Pieces(mpsc::Sender<Bytes>);

impl Sink<Piece> for Pieces {
    async fn send(&mut self, items: Vec<Piece>) -> Result<(), AdminError> {
        for Piece(bytes) in items {
            self.0.send(bytes.into()).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}

/// A file of the message. Its author said what it is, so no browser shows it as a page.
pub(in super::super) async fn file(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let part = Part {
        id: id(&asked)?,
        account: account(&asked),
        part: asked.element(1).to_owned(),
    };
    let found = asked.run(part).await?;
    let name = match found.file.name.as_str() {
        "" => format!("part-{}", found.file.part),
        name => name.to_owned(),
    };
    let headers = as_file("application/octet-stream", &name);
    let Piece(content) = found.content;
    Ok(Answer::Other((headers, content).into_response()))
}

/// The header fields of a file that is saved, under a name that a stranger may have chosen.
fn as_file(kind: &'static str, name: &str) -> HeaderMap {
    let is_unsafe = |letter: char| letter.is_control() || matches!(letter, '/' | '\\' | '"');
    let name: String = name
        .chars()
        .map(|letter| if is_unsafe(letter) { '_' } else { letter })
        .take(NAME_MAX)
        .collect();
    let ascii: String = name
        .chars()
        .map(|letter| if letter.is_ascii() { letter } else { '_' })
        .collect();
    let encoded = utf8_percent_encode(&name, NAME);
    let disposition = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}");
    let fields: [(HeaderName, HeaderValue); 4] = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CONTENT_DISPOSITION, header_value(&disposition)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // A browser that shows it all the same runs nothing in it.
        (
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'"),
        ),
    ];
    HeaderMap::from_iter(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_harmless() {
        for (name, expected) in [
            (
                "a b.txt",
                "filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt",
            ),
            (
                "\u{e4}.pdf",
                "filename=\"_.pdf\"; filename*=UTF-8''%C3%A4.pdf",
            ),
            (
                "../\"x\"\r\n.exe",
                "filename=\"..__x___.exe\"; filename*=UTF-8''..__x___.exe",
            ),
        ] {
            let expected = format!("attachment; {expected}");
            assert_eq!(as_file("text/plain", name)[CONTENT_DISPOSITION], expected);
        }
    }
}
