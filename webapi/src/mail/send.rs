//! Sending, and drafts.

use axum::{http::StatusCode, response::Response};
use postrider_queue::TRACK;
use postrider_store::{Accept, MailChange, MailId, NewMail, TextSource, Top};
use postrider_webhook::message::{SUMMARY_READ, summary};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use std::mem;

use super::{
    asked::Asked, folder_name::shown, message::find_at, problem::Problem, signatures, templates,
};
use crate::{
    compose::Files,
    error::Code,
    http::answer::json as answer,
    send::{self, Draft, NameAddress, NewContent, NewFile, Sent},
};

/// The mailbox of drafts.
const DRAFTS: &str = "Drafts";

/// One address, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Addresses {
    One(String),
    Many(Vec<String>),
}

impl Default for Addresses {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Addresses {
    /// The mailboxes of all texts. A text may have several, with commas between them.
    fn read(self) -> Vec<NameAddress> {
        let texts = match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        };
        let mailboxes = texts.iter().flat_map(|text| {
            let read = postrider_smtp::field::mailboxes(text.as_bytes());
            match read.is_empty() {
                // Send says that it is no address.
                true if !text.trim().is_empty() => vec![(String::new(), text.clone())],
                _ => read.into_iter().map(|it| (it.name, it.address)).collect(),
            }
        });
        mailboxes
            .map(|(name, address)| NameAddress { name, address })
            .collect()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    from: Option<Addresses>,
    to: Addresses,
    cc: Addresses,
    bcc: Addresses,
    reply_to: Addresses,
    subject: String,
    html: String,
    plain: String,
    in_reply_to: String,
    references: Vec<String>,
    attachments: Vec<AttachedFile>,
    send_at: Option<String>,
    save_sent: Option<bool>,
    draft_uid: Option<u32>,
    signature: signatures::Wanted,
    track: Vec<String>,
    template: Option<u64>,
    variables: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct AttachedFile {
    filename: String,
    #[serde(default)]
    content_type: String,
    #[serde(default)]
    content_id: String,
    /// Base64.
    content: String,
}

impl Message {
    fn draft(self) -> Result<Draft, Problem> {
        let mut references = self.references;
        if !self.in_reply_to.is_empty() && !references.contains(&self.in_reply_to) {
            references.push(self.in_reply_to.clone());
        }
        let mut headers = Vec::new();
        if !self.track.is_empty() {
            headers.push((TRACK.to_owned(), self.track.join(", ")));
        }
        if !self.in_reply_to.is_empty() {
            headers.push(("In-Reply-To".to_owned(), self.in_reply_to));
        }
        let (mut attached, mut inline) = (Vec::new(), Vec::new());
        for file in self.attachments {
            let is_inline = !file.content_id.is_empty();
            let file = NewFile {
                name: file.filename,
                content_type: file.content_type,
                content_id: file.content_id,
                content: NewContent::Base64(file.content),
            };
            match is_inline {
                true => inline.push(file),
                false => attached.push(file),
            }
        }
        let send_at = self.send_at.map(|time| {
            crate::call::value::rfc3339(&time).map_err(|error| Problem::field("send_at", error))
        });
        Ok(Draft {
            from: self.from.unwrap_or_default().read(),
            to: self.to.read(),
            cc: self.cc.read(),
            bcc: self.bcc.read(),
            reply_to: self.reply_to.read(),
            references,
            subject: self.subject,
            text: self.plain,
            html: self.html,
            headers,
            inline,
            attached,
            future_release: send_at.transpose()?,
            save_sent: self.save_sent.unwrap_or(true),
            ..Draft::default()
        })
    }
}

/// Sends a message.
pub(super) async fn send(asked: Asked) -> Result<Response, Problem> {
    let mut message: Message = asked.json().await?;
    let (context, user) = (&asked.context, &asked.user);
    let draft_uid = message.draft_uid.take();
    let answered = reply(&asked, &mut message).await?;
    let once = match &asked.key {
        Some(key) => Some(send::Once::new(key, user, &asked.body, &Files::default()).await?),
        None => None,
    };
    let (signature, template) = (mem::take(&mut message.signature), message.template);
    let variables = mem::take(&mut message.variables);
    let mut draft = message.draft()?;
    if let Some(template) = template {
        templates::fill_in(&asked, template, variables, &mut draft).await?;
    }
    complete_text(&mut draft);
    signatures::add_to(&asked, &signature, &mut draft).await?;
    let wants_copy = draft.save_sent;
    let sent = send::send_and_keep(context, user, draft, Files::default(), once.as_ref()).await?;
    let Sent { response, copy } = sent;
    if let Some(id) = answered {
        let change = MailChange {
            add_flags: vec!["\\answered".to_owned()],
            ..MailChange::default()
        };
        context
            .store
            .change_mail(asked.account(), id, change)
            .await?;
    }
    if let Some(uid) = draft_uid {
        discard(&asked, uid).await?;
    }
    let submissions = response.submissions.into_iter();
    let mut sent = SentMessage {
        message_id: response.message_id,
        submissions: submissions
            .map(|it| SentTo {
                address: it.address,
                queue_msg_id: it.queue_msg_id,
            })
            .collect(),
        folder: None,
        uid: None,
        warning: None,
    };
    match copy {
        Ok(Some(id)) => {
            if let Some(row) = context.store.mail_row(id).await? {
                sent.folder = Some(shown(&row.mail.mailbox).to_owned());
                sent.uid = Some(row.uid);
            }
        }
        Ok(None) => {}
        Err(error) if error.code == Code::SentOverQuota && wants_copy => {
            sent.warning = Some("overQuota");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(answer(StatusCode::CREATED, &sent))
}

/// The answer to a message that is queued.
#[derive(Debug, Serialize)]
struct SentMessage {
    message_id: String,
    submissions: Vec<SentTo>,
    /// The mailbox with the copy. None: no copy was kept.
    folder: Option<String>,
    uid: Option<u32>,
    /// Why no copy was kept that was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct SentTo {
    address: String,
    queue_msg_id: u64,
}

/// Makes the plain text of a message that has HTML only.
fn complete_text(draft: &mut Draft) {
    if draft.text.is_empty() && !draft.html.is_empty() {
        draft.text = mail_parser::decoders::html::html_to_text(&draft.html);
    }
}

/// Completes the references of a reply, if the message that it answers is in a mailbox. Gives that
/// message.
async fn reply(asked: &Asked, message: &mut Message) -> Result<Option<MailId>, Problem> {
    if message.in_reply_to.is_empty() {
        return Ok(None);
    }
    if !message.in_reply_to.starts_with('<') {
        message.in_reply_to = format!("<{}>", message.in_reply_to);
    }
    let found = find_by_message_id(asked, &message.in_reply_to).await?;
    let Some(found) = found else {
        return Ok(None);
    };
    if message.references.is_empty() {
        let stored = asked.context.store.mail_message(&found).await?;
        let beginning = stored.beginning(stored.len().min(SUMMARY_READ)).await?;
        let limits = asked.context.statics.limits.mime();
        let parsed = postrider_webhook::message::parse(&beginning, limits);
        message.references = parsed.references;
    }
    Ok(Some(found.id))
}

/// The newest mail with this Message-ID among the last ones of each mailbox.
async fn find_by_message_id(
    asked: &Asked,
    message_id: &str,
) -> Result<Option<postrider_store::Mail>, Problem> {
    const LOOKED_AT: usize = 1000;
    let store = &asked.context.store;
    for folder in store.folders(asked.account()).await? {
        let mailbox = (asked.account(), folder.name.as_str());
        let page = store
            .list_rows(mailbox, Default::default(), None, (0, LOOKED_AT))
            .await?;
        let rows = page.unwrap_or_default().rows.into_iter();
        let mut found = rows.filter(|row| {
            let summary = row.summary.as_ref();
            summary.is_some_and(|summary| summary.message_id == message_id)
        });
        if let Some(row) = found.next() {
            return Ok(Some(row.mail));
        }
    }
    Ok(None)
}

/// Deletes a draft for good. One that is gone already is no error.
async fn discard(asked: &Asked, uid: u32) -> Result<(), Problem> {
    let uids = vec![uid];
    let keep = asked.keep_deleted();
    let store = &asked.context.store;
    store
        .delete_mails(asked.account(), DRAFTS, uids, asked.now(), keep)
        .await?;
    Ok(())
}

/// Keeps a draft.
pub(super) async fn make_draft(asked: Asked) -> Result<Response, Problem> {
    let message: Message = asked.json().await?;
    keep_draft(&asked, message, StatusCode::CREATED).await
}

/// Keeps a draft in the place of an earlier one. It gets another UID.
pub(super) async fn replace_draft(asked: Asked) -> Result<Response, Problem> {
    let text = asked.element(0);
    let uid = text
        .parse()
        .map_err(|_| Problem::not_found(format!("there is no draft {text:?}")))?;
    find_at(&asked, DRAFTS, uid).await?;
    let message: Message = asked.json().await?;
    let kept = keep_draft(&asked, message, StatusCode::OK).await?;
    discard(&asked, uid).await?;
    Ok(kept)
}

async fn keep_draft(
    asked: &Asked,
    message: Message,
    status: StatusCode,
) -> Result<Response, Problem> {
    let context = &asked.context;
    let mut draft = message.draft()?;
    complete_text(&mut draft);
    let text = send::write_draft(context, &asked.user, draft).await?;
    if !send::has_room(context, &asked.user, text.size).await? {
        return Err(Problem::conflict(
            "overQuota",
            "the account has no room for the draft",
        ));
    }
    let beginning = context.store.beginning(&text.body, SUMMARY_READ).await?;
    let accept = Accept {
        mails: vec![NewMail {
            account: asked.account().to_owned(),
            mailbox: DRAFTS.to_owned(),
            top: Top::EMPTY,
            text: TextSource::New,
            size: text.size,
            received: asked.now(),
            flags: vec!["\\draft".to_owned(), "\\seen".to_owned()],
            dsn: false,
            smtp: None,
            summary: Some(Box::new(summary(&beginning, context.statics.limits.mime()))),
        }],
        text: Some(text.body),
        ..Accept::default()
    };
    let accepted = context.store.accept(accept).await?;
    let row = match accepted.mails.first() {
        Some(id) => context.store.mail_row(*id).await?,
        None => None,
    };
    let uid = row.map(|row| row.uid);
    Ok(answer(status, &json!({"folder": DRAFTS, "uid": uid})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_as_a_text_or_as_a_list() {
        for json in [
            r#""Ann <ann@x.example>, bob@x.example""#,
            r#"["Ann <ann@x.example>", "bob@x.example"]"#,
        ] {
            let read: Addresses = serde_json::from_str(json).unwrap();
            let read: Vec<_> = read
                .read()
                .into_iter()
                .map(|it| (it.name, it.address))
                .collect();
            let expected = [("Ann", "ann@x.example"), ("", "bob@x.example")];
            assert_eq!(
                read,
                expected.map(|(name, it)| (name.to_owned(), it.to_owned()))
            );
        }
        let wrong: Addresses = serde_json::from_str(r#""nobody""#).unwrap();
        assert_eq!(wrong.read().len(), 1);
    }
}
