//! One message: its header, its texts, its attachments.

use axum::{
    body::Body,
    http::{
        HeaderValue,
        header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use futures_util::stream;
use postrider_store::{Located, MailRow, StoreError};
use postrider_webhook::message::{self as parsed, NameAddress, Parsed, Structure};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    asked::Asked,
    folder_name::shown,
    folders::missing,
    html::{Pictures, clean},
    problem::Problem,
    rows::{RowItem, summarized},
};
use crate::{
    call::{
        data::{Data, PIECE},
        run::blocking,
    },
    http::answer::ok,
    received::Meta,
};

/// The most copies of a message in memory while it is parsed.
const PARSED: u64 = 4;

/// The message in the path.
pub(super) async fn find(asked: &Asked) -> Result<MailRow, Problem> {
    let (folder, uid) = (asked.folder()?, asked.uid()?);
    find_at(asked, &folder, uid).await
}

/// The message with a UID of a mailbox.
pub(super) async fn find_at(asked: &Asked, folder: &str, uid: u32) -> Result<MailRow, Problem> {
    let store = &asked.context.store;
    match store.locate_mail(asked.account(), folder, uid).await? {
        Located::Here(row) => Ok(*row),
        Located::Moved { mailbox, uid } => Err(Problem::moved(shown(&mailbox), uid)),
        Located::Nowhere => {
            let text = format!("there is no message {uid} in {:?}", shown(folder));
            Err(Problem::not_found(text))
        }
        Located::NoFolder => Err(missing(folder)),
    }
}

/// A message as a whole.
#[derive(Debug, Serialize)]
struct MessageItem {
    folder: String,
    #[serde(flatten)]
    row: RowItem,
    cc: Vec<String>,
    bcc: Vec<String>,
    reply_to: Vec<String>,
    references: Vec<String>,
    in_reply_to: String,
    html: String,
    plain: String,
    attachments: Vec<Attachment>,
    auth: Value,
}

/// An attachment, or another part that is no text of the message.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Attachment {
    /// The places of the part and of those around it, from 1, with dots between (RFC 9051 §6.4.5).
    part: String,
    filename: String,
    content_type: String,
    size: i64,
    content_id: String,
}

/// Gives a message. Nothing changes: it is as unseen as before.
pub(super) async fn get(asked: Asked) -> Result<Response, Problem> {
    let row = find(&asked).await?;
    let row = summarized(&asked, vec![row]).await?.remove(0);
    let auth = auth(&Meta::new(row.mail.clone()));
    let folder = shown(&row.mail.mailbox).to_owned();
    let parsed = parse(&asked, &row).await?;
    let pictures = match asked.query.is_set("images") {
        true => Pictures::Kept,
        false => Pictures::Removed,
    };
    let html = match asked.query.text("html") {
        Some("raw") => parsed.html,
        _ => blocking(move || Ok(clean(&parsed.html, pictures))).await?,
    };
    let people = |list: &[NameAddress]| list.iter().map(ToString::to_string).collect();
    let mut attachments = Vec::new();
    collect(&parsed.structure, &mut Vec::new(), &mut attachments);
    Ok(ok(&MessageItem {
        folder,
        row: RowItem::new(row),
        cc: people(&parsed.cc),
        bcc: people(&parsed.bcc),
        reply_to: people(&parsed.reply_to),
        references: parsed.references,
        in_reply_to: parsed.in_reply_to,
        html,
        plain: parsed.text,
        attachments,
        auth,
    }))
}

/// What is known of the authenticity of a message that came by SMTP.
fn auth(meta: &Meta) -> Value {
    json!({
        "mail_from": meta.mail_from,
        "mail_from_validated": meta.mail_from_validated,
        "msg_from": meta.msg_from,
        "msg_from_validated": meta.msg_from_validated,
        "dkim_domains": meta.dkim_verified_domains,
    })
}

async fn parse(asked: &Asked, row: &MailRow) -> Result<Parsed, Problem> {
    let context = &asked.context;
    let stored = context.store.mail_message(&row.mail).await?;
    let limits = context.statics.limits.mime();
    let memory = &context.bounds.memory;
    let _share = memory.take(asked.account(), stored.len() * PARSED).await;
    let parsed = blocking(move || {
        let text = stored.read_blocking(0..stored.len())?;
        Ok(parsed::parse(&text, limits))
    });
    Ok(parsed.await?)
}

fn collect(part: &Structure, path: &mut Vec<usize>, found: &mut Vec<Attachment>) {
    for (at, inner) in part.parts.iter().enumerate() {
        path.push(at);
        collect(inner, path, found);
        path.pop();
    }
    let is_leaf = part.parts.is_empty() && !part.content_type.starts_with("multipart/");
    let is_picture = !part.content_id.is_empty();
    if is_leaf && (part.is_attachment() || is_picture) {
        let places = path.iter().map(|at| (at + 1).to_string());
        found.push(Attachment {
            part: places.collect::<Vec<_>>().join("."),
            filename: part.filename.clone(),
            content_type: part.content_type.clone(),
            size: part.decoded_size,
            content_id: part.content_id.clone(),
        });
    }
}

/// Gives a message byte by byte.
pub(super) async fn raw(asked: Asked) -> Result<Response, Problem> {
    let row = find(&asked).await?;
    let stored = asked.context.store.mail_message(&row.mail).await?;
    let kind = HeaderValue::from_static("message/rfc822");
    let length = HeaderValue::from(stored.len());
    // The end of a damaged text is an error of the connection.
    let pieces = stream::try_unfold((stored.into_pieces(), 0), |(pieces, at)| async move {
        let piece = pieces.piece(at, PIECE).await?;
        let end = at + piece.len() as u64;
        Ok::<_, StoreError>((!piece.is_empty()).then_some((piece, (pieces, end))))
    });
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_LENGTH, length),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Gives a part without its transfer encoding.
pub(super) async fn part(asked: Asked) -> Result<Response, Problem> {
    let row = find(&asked).await?;
    let name = asked.element(2).to_owned();
    let no_part = || Problem::not_found(format!("the message has no part {name:?}"));
    let path: Option<Vec<usize>> = name
        .split('.')
        .map(|place| place.parse::<usize>().ok()?.checked_sub(1))
        .collect();
    // A message without parts has the part 1.
    let mut path = path.ok_or_else(no_part)?;
    let context = &asked.context;
    let stored = context.store.mail_message(&row.mail).await?;
    let limits = context.statics.limits.mime();
    let memory = &context.bounds.memory;
    let _share = memory.take(asked.account(), stored.len() * PARSED).await;
    let found = blocking(move || {
        let text = stored.read_blocking(0..stored.len())?;
        let found = parsed::part(&text, &path, limits);
        if found.is_none() && path == [0] {
            path.clear();
            return Ok(parsed::part(&text, &path, limits));
        }
        Ok(found)
    });
    let found = found.await?.ok_or_else(no_part)?;
    // A slow client holds no memory.
    let found = Data::keep(context, &asked.user, found).await?;
    // The author decided the content, so no browser should show it as a page.
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (CONTENT_LENGTH, HeaderValue::from(found.len())),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, Body::from_stream(found.pieces(PIECE))).into_response())
}
