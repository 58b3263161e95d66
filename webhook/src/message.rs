//! Describes a received message as the v0 contract does: addresses, texts, structure.
//!
//! `part` reads the header of a part and undoes its encoding, `readable` finds the texts, and
//! `summary` has the parts that lists show.

mod part;
mod readable;
mod summary;

use std::{collections::BTreeMap, fmt};

use mail_parser::{Message, PartType};
use postrider_smtp::{
    field::{self, Field},
    mime::{self, Limits},
};
use serde::{Deserialize, Serialize};

use self::part::PartView;
pub use self::summary::{SUMMARY_READ, summary};

/// A name and an address from the header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NameAddress {
    /// Decoded. Empty without a name.
    pub name: String,
    /// `user@host`, with the domain in Unicode and lower case. Empty for a name without an address.
    pub address: String,
}

/// `Name <address>`, or one of both alone.
impl fmt::Display for NameAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name.is_empty(), self.address.is_empty()) {
            (true, _) => f.write_str(&self.address),
            (false, true) => f.write_str(&self.name),
            (false, false) => write!(f, "{} <{}>", self.name, self.address),
        }
    }
}

/// A part of a message, with the parts inside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Structure {
    /// Lower-case, for example `text/plain`.
    pub content_type: String,
    /// The names are lower-case.
    pub content_type_params: BTreeMap<String, String>,
    /// As in the header.
    #[serde(rename = "ContentID")]
    pub content_id: String,
    /// Lower-case. Empty without the field.
    pub content_disposition: String,
    /// The name in the disposition, else the name in the type. Decoded.
    pub filename: String,
    /// Bytes without transfer encoding. 0 for a multipart.
    pub decoded_size: i64,
    /// The parts of a multipart, in order.
    pub parts: Vec<Self>,
}

/// The description of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are those of the header fields")]
pub struct Parsed {
    pub from: Vec<NameAddress>,
    pub to: Vec<NameAddress>,
    #[serde(rename = "CC")]
    pub cc: Vec<NameAddress>,
    #[serde(rename = "BCC")]
    pub bcc: Vec<NameAddress>,
    pub reply_to: Vec<NameAddress>,
    pub subject: String,
    /// With `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// The first id of the field, as written: with `<` and `>` in a correct message.
    pub in_reply_to: String,
    /// As written: with `<` and `>` in a correct message. Oldest first.
    pub references: Vec<String>,
    /// RFC 3339.
    pub date: Option<String>,
    /// The readable text, with LF as line end. Cut at 1 MiB.
    pub text: String,
    /// The readable HTML, with LF as line end. Cut at 1 MiB.
    #[serde(rename = "HTML")]
    pub html: String,
    /// The parts.
    pub structure: Structure,
}

/// Describes a message. Fields that can't be read are empty.
#[must_use]
pub fn parse(text: &[u8], limits: Limits) -> Parsed {
    let described = |message: Option<&Message<'_>>| {
        message.map_or_else(Parsed::default, |message| {
            let mut parsed = header(&message.raw_message);
            (parsed.text, parsed.html) = readable::texts(message, limits.depth);
            parsed.structure = structure(message, 0, limits.depth);
            parsed
        })
    };
    mime::parse(text, limits, described)
}

/// The header of a message. Of addresses and references all fields count, of the others the first.
fn header(text: &[u8]) -> Parsed {
    let fields: Vec<Field<'_>> = field::fields(text).collect();
    let all = |name: &'static str| fields.iter().filter(move |field| field.is(name));
    let first = |name| all(name).next().map(|field| field.value);
    let people = |name| {
        let mailboxes = all(name).flat_map(|field| field::mailboxes(field.value));
        mailboxes.map(NameAddress::from).collect()
    };
    Parsed {
        from: people("From"),
        to: people("To"),
        cc: people("Cc"),
        bcc: people("Bcc"),
        reply_to: people("Reply-To"),
        subject: first("Subject").map(field::text).unwrap_or_default(),
        message_id: first("Message-ID").map(id).unwrap_or_default(),
        in_reply_to: first("In-Reply-To").map(answered_id).unwrap_or_default(),
        references: all("References")
            .flat_map(|field| field::ids(field.value))
            .collect(),
        date: first("Date").and_then(field::date),
        ..Parsed::default()
    }
}

impl From<field::Mailbox> for NameAddress {
    fn from(mailbox: field::Mailbox) -> Self {
        Self {
            name: mailbox.name,
            address: mailbox.address,
        }
    }
}

/// An id in angle brackets, which are added if the field has none.
fn id(value: &[u8]) -> String {
    let ids = field::ids(value);
    match ids.iter().find(|id| id.starts_with('<')) {
        Some(id) => id.clone(),
        None if ids.is_empty() => String::new(),
        None => format!("<{}>", ids.join(" ")),
    }
}

/// The id of the message that is answered. Old programs wrote words around it (RFC 5322 §4.5.4).
fn answered_id(value: &[u8]) -> String {
    let ids = field::ids(value);
    let id = ids.iter().find(|id| id.starts_with('<'));
    id.or(ids.first()).cloned().unwrap_or_default()
}

/// The content of a part, without its transfer encoding but with its charset and line ends. None if
/// there is no such part.
///
/// `path` has the places, from 0, in [`Structure::parts`]. The empty path is the body of the whole
/// message.
#[must_use]
pub fn part(text: &[u8], path: &[usize], limits: Limits) -> Option<Vec<u8>> {
    mime::parse(text, limits, |message| {
        let message = message?;
        let mut at = 0;
        for place in path {
            let PartType::Multipart(parts) = &message.parts.get(at)?.body else {
                return None;
            };
            at = *parts.get(*place)? as usize;
        }
        Some(PartView::new(message, at)?.content().into_owned())
    })
}

/// Whether the header says that a program wrote the message: a mailing list, a report, an automatic
/// reply.
#[must_use]
pub(crate) fn is_automated(text: &[u8]) -> bool {
    field::fields(text).any(|field| {
        let value = field.value.trim_ascii();
        let lists = [
            "List-Id",
            "List-Unsubscribe",
            "List-Unsubscribe-Post",
            "Precedence",
        ];
        if lists.iter().any(|name| field.is(name)) {
            !value.is_empty()
        } else if field.is("Auto-Submitted") {
            let word = field::parameters(value).value;
            !word.is_empty() && word != "no"
        } else {
            field.is("Content-Type") && field::parameters(value).value == "multipart/report"
        }
    })
}

fn structure(message: &Message<'_>, at: usize, depth: usize) -> Structure {
    let Some(view) = PartView::new(message, at) else {
        return Structure::default();
    };
    let parts = match &view.part.body {
        PartType::Multipart(parts) if depth > 0 => parts
            .iter()
            .map(|at| structure(message, *at as usize, depth - 1))
            .collect(),
        // An attached message is one part, whatever it contains. Paths lead through multiparts
        // only.
        _ => Vec::new(),
    };
    Structure {
        content_type: view.kind().to_owned(),
        content_id: view.first("Content-ID").map(id).unwrap_or_default(),
        filename: view.file_name().unwrap_or_default().to_owned(),
        content_disposition: view.disposition.value.clone(),
        decoded_size: view.decoded_size(),
        content_type_params: view.content_type.parameters,
        parts,
    }
}

#[cfg(test)]
mod tests;
