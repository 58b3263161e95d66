//! One message of the inbox: its header, texts and files.

use postrider_smtp::field;
use postrider_webhook::message::{self, Structure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    super::{
        Operation, Single, Sink, hex,
        queue::{Piece, send_pieces},
    },
    Entry, InboxId, InboxRow, WHOLE_MAX,
    change::note_read,
    hints::{self, HintItem},
    limits,
    links::{self, LinkItem},
    missing, read,
};
use crate::{AdminError, Context};

/// The most fields of a header section that are shown.
const FIELDS_MAX: usize = 1000;

/// Reads a message of the inbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The message.
    pub id: InboxId,
    /// Only of this account; None: of any account.
    #[serde(default)]
    pub account: Option<String>,
    /// Whoever asks reads it: it is unread no more.
    #[serde(default)]
    pub reads: bool,
    /// Give the SHA-256 digests of its files.
    #[serde(default)]
    pub digests: bool,
}

/// A message of the inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxMessage {
    /// What the list says of it.
    pub row: InboxRow,
    /// The message that was sent; None: it came without a login.
    pub sent: Option<u64>,
    /// The reverse-path; empty for the null reverse-path, or if it is not known.
    pub mail_from: String,
    /// The recipient of the envelope; empty if it is not known.
    pub rcpt_to: String,
    /// The address of the client; empty if it did not come by SMTP.
    pub remote_ip: String,
    /// The recipients and others by the header, each as `Name <address>`: To, Cc, Bcc, Reply-To.
    pub people: Vec<(String, Vec<String>)>,
    /// With `<` and `>`.
    pub message_id: String,
    /// The date by the header, in RFC 3339; empty: it has none.
    pub date: String,
    /// The fields of the header section, in order.
    pub headers: Vec<HeaderItem>,
    /// The readable text; empty: there is none.
    pub text: String,
    /// The readable HTML; empty: there is none.
    pub html: String,
    /// The files, also those that the HTML shows.
    pub files: Vec<FileItem>,
    /// Where its links lead.
    pub links: Vec<LinkItem>,
    /// What mail programs will not like.
    pub hints: Vec<HintItem>,
    /// Its bytes are kept no more: only what the queue noted of it is here.
    pub gone: bool,
    /// It is too large to be read as a whole: this is from its beginning.
    pub cut: bool,
}

/// A field of a header section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderItem {
    /// The name as written.
    pub name: String,
    /// The value on one line, decoded.
    pub value: String,
    /// The value as written.
    pub raw: String,
}

/// A file of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileItem {
    /// The places in the multiparts, from 0, with dots between; `body` for the whole body.
    pub part: String,
    /// The decoded name; empty: it has none.
    pub name: String,
    /// The type, such as `image/png`.
    pub content_type: String,
    /// Bytes without transfer encoding.
    pub size: u64,
    /// The id by which the HTML shows it, without `<` and `>`; empty: it has none.
    pub content_id: String,
    /// The disposition says that it is attached.
    pub attached: bool,
    /// The SHA-256 digest in hexadecimal; empty: it was not asked for.
    pub sha256: String,
}

impl Single for Get {
    type Output = InboxMessage;

    async fn answer(self, context: &Context) -> Result<InboxMessage, AdminError> {
        let entry = Entry::find(context, self.id, self.account.as_deref()).await?;
        let content = entry.content(context).await?;
        let cut = content.as_ref().is_some_and(|it| it.len() > WHOLE_MAX);
        let (limits, digests) = (limits(context), self.digests);
        let bytes = read(content, move |bytes| {
            let mut parsed = message::parse(bytes, limits);
            let mut files = files(&parsed.structure);
            if digests {
                for file in &mut files {
                    let part =
                        path(&file.part).and_then(|path| message::part(bytes, &path, limits));
                    file.sha256 = part
                        .map(|part| hex(Sha256::digest(&part)))
                        .unwrap_or_default();
                }
            }
            let headers: Vec<HeaderItem> = field::fields(bytes)
                .take(FIELDS_MAX)
                .map(HeaderItem::from)
                .collect();
            let looked = links::look(&parsed.html);
            let hints = hints::hints(&parsed, &headers, &looked);
            let links = looked.with_text(&parsed.text);
            let text = std::mem::take(&mut parsed.text);
            let html = std::mem::take(&mut parsed.html);
            (parsed, text, html, headers, files, links, hints)
        });
        let read = bytes.await?;
        let gone = read.is_none();
        let (mut parsed, text, html, headers, files, links, hints) = read.unwrap_or_default();
        if gone {
            parsed.subject = entry.subject().to_owned();
        }
        let mut row = InboxRow::alone(&entry, &parsed);
        row.files = files.iter().filter(|file| is_shown(file)).count();
        row.more_files = cut;
        if self.reads && row.unread {
            note_read(context, &entry).await?;
        }
        let facts = super::list::Facts::of(&entry);
        let people = [
            ("To", &parsed.to),
            ("Cc", &parsed.cc),
            ("Bcc", &parsed.bcc),
            ("Reply-To", &parsed.reply_to),
        ];
        let people = people.into_iter().filter(|(_, people)| !people.is_empty());
        Ok(InboxMessage {
            sent: entry.sent().map(|id| id.0),
            mail_from: facts.sender,
            rcpt_to: facts.recipient,
            remote_ip: entry.remote_ip(),
            people: people
                .map(|(name, people)| {
                    (
                        name.to_owned(),
                        people.iter().map(ToString::to_string).collect(),
                    )
                })
                .collect(),
            message_id: match gone {
                true => entry.message_id().to_owned(),
                false => parsed.message_id,
            },
            date: parsed.date.unwrap_or_default(),
            row,
            headers,
            text,
            html,
            files,
            links,
            hints,
            gone,
            cut,
        })
    }
}

impl Entry {
    /// The address of the client; empty if it did not come by SMTP.
    fn remote_ip(&self) -> String {
        let arrival = match self {
            Self::Mail(mail) if self.sent().is_none() => mail.smtp.as_ref(),
            _ => None,
        };
        let ip = arrival.and_then(|arrival| arrival.remote_ip);
        ip.map(|ip| ip.to_string()).unwrap_or_default()
    }

    /// The Message-ID as the record has it.
    fn message_id(&self) -> &str {
        match self {
            Self::Mail(_) => "",
            Self::Queued(message) | Self::Ended(message, _) => &message.common.message_id,
        }
    }
}

impl From<field::Field<'_>> for HeaderItem {
    fn from(field: field::Field<'_>) -> Self {
        let raw = String::from_utf8_lossy(field.value);
        Self {
            name: String::from_utf8_lossy(field.name).into_owned(),
            value: field::text(field.value),
            raw: raw.trim_end().trim_start_matches([' ', '\t']).to_owned(),
        }
    }
}

/// The files of a message: all parts that are no text to be read.
pub(super) fn files(structure: &Structure) -> Vec<FileItem> {
    let mut files = Vec::new();
    collect(structure, &mut Vec::new(), &mut files);
    files
}

fn collect(part: &Structure, path: &mut Vec<usize>, files: &mut Vec<FileItem>) {
    for (at, inner) in part.parts.iter().enumerate() {
        path.push(at);
        collect(inner, path, files);
        path.pop();
    }
    let attached = part.content_disposition == "attachment";
    let is_text = matches!(part.content_type.as_str(), "" | "text/plain" | "text/html");
    let is_file = attached || !part.filename.is_empty() || !is_text;
    if !part.parts.is_empty() || part.content_type.starts_with("multipart/") || !is_file {
        return;
    }
    let places: Vec<String> = path.iter().map(usize::to_string).collect();
    files.push(FileItem {
        part: match places.is_empty() {
            true => "body".to_owned(),
            false => places.join("."),
        },
        name: part.filename.clone(),
        content_type: part.content_type.clone(),
        size: u64::try_from(part.decoded_size).unwrap_or_default(),
        content_id: part.content_id.trim_matches(['<', '>']).to_owned(),
        attached,
        sha256: String::new(),
    });
}

/// Whether a reader sees a file as one. Images that the HTML shows are none.
pub(super) fn is_shown(file: &FileItem) -> bool {
    file.attached || file.content_id.is_empty() || !file.content_type.starts_with("image/")
}

/// The places of a part in the multiparts.
pub(super) fn path(part: &str) -> Option<Vec<usize>> {
    match part {
        "body" => Some(Vec::new()),
        part => part.split('.').map(|place| place.parse().ok()).collect(),
    }
}

/// Reads a file of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The message.
    pub id: InboxId,
    /// Only of this account; None: of any account.
    #[serde(default)]
    pub account: Option<String>,
    /// The part, as in [`FileItem::part`].
    pub part: String,
}

/// A file with its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartItem {
    /// The file.
    pub file: FileItem,
    /// Its content without transfer encoding.
    pub content: Piece,
}

impl Single for Part {
    type Output = PartItem;

    async fn answer(self, context: &Context) -> Result<PartItem, AdminError> {
        let no_part = || AdminError::not_found("the message has no such file").at("part");
        let wanted = path(&self.part).ok_or_else(no_part)?;
        let entry = Entry::find(context, self.id, self.account.as_deref()).await?;
        let content = entry.content(context).await?;
        let limits = limits(context);
        let part = self.part;
        let found = read(content, move |bytes| {
            let parsed = message::parse(bytes, limits);
            let mut files = files(&parsed.structure).into_iter();
            let file = files.find(|file| file.part == part)?;
            Some((file, message::part(bytes, &wanted, limits)?))
        });
        let (file, content) = found.await?.flatten().ok_or_else(no_part)?;
        let content = Piece(content);
        Ok(PartItem { file, content })
    }
}

/// Reads the bytes of a message, piece by piece.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The message.
    pub id: InboxId,
    /// Only of this account; None: of any account.
    #[serde(default)]
    pub account: Option<String>,
    /// The most bytes; None: all.
    #[serde(default)]
    pub max: Option<u64>,
}

impl Operation for Source {
    type Item = Piece;

    async fn run(self, context: &Context, items: &mut impl Sink<Piece>) -> Result<(), AdminError> {
        let entry = Entry::find(context, self.id, self.account.as_deref()).await?;
        let content = entry.content(context).await?;
        let content = content.ok_or_else(|| missing(self.id))?;
        let end = content.len().min(self.max.unwrap_or(u64::MAX));
        send_pieces(content, end, items).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_what_is_no_text_to_be_read() {
        let text = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n\
            --a\r\nContent-Type: multipart/related; boundary=b\r\n\r\n\
            --b\r\nContent-Type: text/html\r\n\r\n<img src=\"cid:x@y\">\r\n\
            --b\r\nContent-Type: image/png; name=x.png\r\nContent-ID: <x@y>\r\n\
            Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n\
            --a\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=\"a b.txt\"\r\n\r\nHi\r\n\
            --a--\r\n";
        let parsed = message::parse(text, Default::default());
        let files = files(&parsed.structure);
        let seen = |file: &FileItem| {
            let part = message::part(text, &path(&file.part).unwrap(), Default::default());
            (
                file.name.clone(),
                file.part.clone(),
                is_shown(file),
                part.unwrap(),
            )
        };
        let seen: Vec<_> = files.iter().map(seen).collect();
        assert_eq!(seen.len(), 2);
        assert_eq!(
            seen[0],
            ("x.png".into(), "0.1".into(), false, vec![0, 1, 2])
        );
        assert_eq!((seen[1].0.as_str(), seen[1].2), ("a b.txt", true));
        assert_eq!(path("0.x"), None);
    }
}
