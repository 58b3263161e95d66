//! The method Send: reads the JSON of its request.

use serde_json::Value;

use super::{
    form::Form,
    json::{self, JsonError, Object},
};
use crate::{
    call::{auth::User, context::CallContext, run::blocking_with},
    error::ApiError,
    send::{self, Draft, NameAddress, NewContent, NewFile, Once, SendResponse},
};

/// Sends a message.
pub(super) async fn send(
    context: &CallContext,
    user: &User,
    form: Form,
    key: Option<String>,
) -> Result<SendResponse, ApiError> {
    let (json, _share) = form.request.json(context, user).await?;
    let once = match key {
        Some(key) => Some(Once::new(&key, user, &form.request, &form.files).await?),
        None => None,
    };
    let draft = blocking_with(form.request.len(), move || json::read(json.text()?, draft));
    send::send(context, user, draft.await?, form.files, once.as_ref()).await
}

fn draft(fields: &mut Object) -> Result<Draft, JsonError> {
    Ok(Draft {
        from: fields.list("From", person)?,
        to: fields.list("To", person)?,
        cc: fields.list("CC", person)?,
        bcc: fields.list("BCC", person)?,
        reply_to: fields.list("ReplyTo", person)?,
        message_id: fields.string("MessageID")?,
        references: fields.list("References", json::text)?,
        date: fields.time("Date")?,
        subject: fields.string("Subject")?,
        text: fields.string("Text")?,
        html: fields.string("HTML")?,
        extra: fields.strings("Extra")?,
        headers: fields.list("Headers", json::pair)?,
        alternative: fields.list("AlternativeFiles", file)?,
        inline: fields.list("InlineFiles", file)?,
        attached: fields.list("AttachedFiles", file)?,
        require_tls: fields.bool("RequireTLS")?,
        future_release: fields.time("FutureRelease")?,
        save_sent: fields.bool("SaveSent")?.unwrap_or_default(),
        list: String::new(),
    })
}

fn person(value: Value, place: String) -> Result<NameAddress, JsonError> {
    let mut fields = Object::new(value, place)?;
    let (name, address) = (fields.string("Name")?, fields.string("Address")?);
    fields.finish()?;
    Ok(NameAddress { name, address })
}

fn file(value: Value, place: String) -> Result<NewFile, JsonError> {
    let mut fields = Object::new(value, place)?;
    let file = NewFile {
        name: fields.string("Name")?,
        content_type: fields.string("ContentType")?,
        content_id: fields.string("ContentID")?,
        content: NewContent::Base64(fields.string("Data")?),
    };
    fields.finish()?;
    Ok(file)
}
