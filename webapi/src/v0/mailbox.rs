//! The methods of messages in mailboxes: read, flag, move, remove.

use axum::{
    body::Body,
    http::{
        HeaderValue,
        header::{CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use futures_util::stream;
use postrider_config::Account;
use postrider_store::{KeepDeleted, Mail, MailChange, MailId, StoreError};
use postrider_webhook::message;

use super::{
    json::{self, JsonError, Object},
    shape::Done,
};
use crate::{
    call::{
        auth::User,
        context::CallContext,
        data::{Data, PIECE},
        run::blocking,
    },
    changed::{self, FLAGS_MAX},
    error::{ApiError, Code},
    received::MessageGetResponse,
};

/// The most copies of a message in memory while it is parsed.
const PARSED: u64 = 4;

/// Describes a message: its texts, its structure, and its arrival.
pub(super) async fn get(
    context: &CallContext,
    user: &User,
    request: &str,
) -> Result<MessageGetResponse, ApiError> {
    let id = json::read(request, id)?;
    let mail = find(context, user, id).await?;
    let stored = context.store.mail_message(&mail).await?;
    let limits = context.statics.limits.mime();
    let memory = &context.bounds.memory;
    let _share = memory.take(&user.account, stored.len() * PARSED).await;
    blocking(move || {
        let text = stored.read_blocking(0..stored.len())?;
        Ok(MessageGetResponse::new(mail, message::parse(&text, limits)))
    })
    .await
}

/// Gives a message byte by byte.
pub(super) async fn raw(
    context: &CallContext,
    user: &User,
    request: &str,
) -> Result<Response, ApiError> {
    let id = json::read(request, id)?;
    let mail = find(context, user, id).await?;
    let stored = context.store.mail_message(&mail).await?;
    let kind = HeaderValue::from_static("text/plain");
    // The end of a damaged text is an error of the connection.
    let pieces = stream::try_unfold((stored.into_pieces(), 0), |(pieces, at)| async move {
        let piece = pieces.piece(at, PIECE).await?;
        let end = at + piece.len() as u64;
        Ok::<_, StoreError>((!piece.is_empty()).then_some((piece, (pieces, end))))
    });
    let text = Body::from_stream(pieces);
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

/// Gives a part without its transfer encoding.
pub(super) async fn part(
    context: &CallContext,
    user: &User,
    request: &str,
) -> Result<Response, ApiError> {
    let (id, path) = json::read(request, |fields| {
        Ok((id(fields)?, fields.list("PartPath", Object::index)?))
    })?;
    let mail = find(context, user, id).await?;
    let stored = context.store.mail_message(&mail).await?;
    let limits = context.statics.limits.mime();
    let memory = &context.bounds.memory;
    let _share = memory.take(&user.account, stored.len() * PARSED).await;
    let found = blocking(move || {
        let text = stored.read_blocking(0..stored.len())?;
        message::part(&text, &path, limits).ok_or_else(|| {
            let place = path.iter().map(ToString::to_string).collect::<Vec<_>>();
            let text = format!("the message has no part [{}]", place.join(", "));
            ApiError::new(Code::PartNotFound, text)
        })
    });
    // A slow client holds no memory.
    let found = Data::keep(context, user, found.await?).await?;
    // The author decided the content, so no browser should show it as a page.
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let length = [(CONTENT_LENGTH, HeaderValue::from(found.len()))];
    let part = Body::from_stream(found.pieces(PIECE));
    Ok((headers, length, part).into_response())
}

/// Deletes a message. Administrators can bring it back for a time.
pub(super) async fn delete(
    context: &CallContext,
    user: &User,
    request: &str,
) -> Result<Done, ApiError> {
    let id = json::read(request, id)?;
    let (undelete, now) = (context.statics.undelete, context.clock.now());
    let config = context.config.load_full();
    let keep = KeepDeleted {
        until: now.after(undelete.period_of(config.accounts.get(&user.account))),
        bytes: undelete.max_size.0,
    };
    let deleted = context.store.delete_mail(&user.account, id, now, keep);
    match deleted.await? {
        true => Ok(Done {}),
        false => Err(gone(context, id).await),
    }
}

/// Adds flags if `add` is true, else removes them.
pub(super) async fn flags(
    context: &CallContext,
    user: &User,
    request: &str,
    add: bool,
) -> Result<Done, ApiError> {
    let (id, names) = json::read(request, |fields| {
        Ok((id(fields)?, fields.list("Flags", json::text)?))
    })?;
    let flags = names
        .iter()
        .map(|name| changed::flag(name).map_err(ApiError::user));
    let flags = flags.collect::<Result<Vec<_>, _>>()?;
    if flags.len() > FLAGS_MAX {
        return Err(ApiError::user(format!("more than {FLAGS_MAX} flags")));
    }
    let mail = find_to_change(context, user, id).await?;
    if add && mail.flags.len() > FLAGS_MAX {
        return Err(ApiError::user("the message has too many flags"));
    }
    let change = if add {
        MailChange {
            add_flags: flags,
            ..MailChange::default()
        }
    } else {
        MailChange {
            remove_flags: flags,
            ..MailChange::default()
        }
    };
    self::change(context, &mail, change).await
}

/// Moves a message to another mailbox. Its number stays.
pub(super) async fn relocate(
    context: &CallContext,
    user: &User,
    request: &str,
) -> Result<Done, ApiError> {
    let (id, to) = json::read(request, |fields| {
        Ok((id(fields)?, fields.string("DestMailboxName")?))
    })?;
    let mail = find_to_change(context, user, id).await?;
    if !exists(context, user, &to).await? {
        let text = format!("the account has no mailbox {to:?}");
        return Err(ApiError::user(text));
    }
    if mail.mailbox == to {
        return Err(ApiError::user(format!("the message is in {to:?} already")));
    }
    let change = MailChange {
        mailbox: Some(to),
        ..MailChange::default()
    };
    self::change(context, &mail, change).await
}

/// Changes a message, and lets the filters learn what that says.
async fn change(context: &CallContext, mail: &Mail, change: MailChange) -> Result<Done, ApiError> {
    match changed::change(context, mail, change).await? {
        true => Ok(Done {}),
        false => Err(gone(context, mail.id).await),
    }
}

/// The number of the message.
fn id(fields: &mut Object) -> Result<MailId, JsonError> {
    // No message has a negative number.
    let id = fields.integer("MsgID")?;
    Ok(MailId(u64::try_from(id).unwrap_or(u64::MAX)))
}

async fn find(context: &CallContext, user: &User, id: MailId) -> Result<Mail, ApiError> {
    if id.0 == 0 {
        return Err(no_id());
    }
    let mail = context.store.mail(id).await?;
    mail.filter(|mail| mail.account == user.account)
        .ok_or_else(|| not_found(id))
}

async fn find_to_change(context: &CallContext, user: &User, id: MailId) -> Result<Mail, ApiError> {
    let mail = context.store.mail(id).await?;
    match mail.filter(|mail| mail.account == user.account) {
        Some(mail) => Ok(mail),
        None => Err(gone(context, id).await),
    }
}

/// Why a message of this number can't be changed.
async fn gone(context: &CallContext, id: MailId) -> ApiError {
    if id.0 == 0 {
        return no_id();
    }
    match context.store.mail(id).await {
        // The message of another account.
        Ok(Some(_)) => not_found(id),
        Ok(None) => match context.store.was_mail(id).await {
            Ok(true) => ApiError::user("message was removed"),
            Ok(false) => not_found(id),
            Err(error) => error.into(),
        },
        Err(error) => error.into(),
    }
}

fn no_id() -> ApiError {
    ApiError::user("MsgID is missing, or 0")
}

fn not_found(id: MailId) -> ApiError {
    ApiError::new(Code::MessageNotFound, format!("there is no message {id}"))
}

/// Whether the account has a mailbox: a default one, one that its mail is sorted into, or one that
/// was made.
async fn exists(context: &CallContext, user: &User, name: &str) -> Result<bool, ApiError> {
    let config = context.config.load();
    let account = config.accounts.get(&user.account);
    let sorted = account.is_some_and(|account| sorts_into(account, name));
    let usual = context.statics.default_mailboxes.iter();
    if name == "Inbox" || sorted || usual.into_iter().any(|usual| usual == name) {
        return Ok(true);
    }
    let folder = context.store.folder(&user.account, name).await?;
    Ok(folder.is_some())
}

fn sorts_into(account: &Account, name: &str) -> bool {
    account.rejects_mailbox == name
        || account.junk_mailbox == name
        || account.destinations.values().any(|destination| {
            let mut rulesets = destination.rulesets.iter();
            destination.mailbox == name || rulesets.any(|ruleset| ruleset.mailbox == name)
        })
}
