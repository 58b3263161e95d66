//! Automatic answers (RFC 5230, RFC 3834): the request of a script, the decision whether an answer
//! goes out, and the answer itself.
//!
//! That a sender gets the same answer once in some days only is not decided here: the caller
//! remembers the handle and the sender for the days of the request.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Zoned, fmt::rfc2822};
use postrider_smtp::{Address, ReversePath, field};
use sha2::{Digest as _, Sha256};

use super::text::cut;

/// The days between two answers, if the script names none.
pub const DAYS: u8 = 7;
/// The most days between two answers.
pub const DAYS_MAX: u8 = 30;
/// The most bytes of a subject.
const SUBJECT_MAX: usize = 500;
/// The most references of an answer.
const REFERENCES_MAX: usize = 20;
/// The bytes of a line of base64, before they are encoded.
const BASE64_LINE: usize = 57;

/// The request of a script for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The same for answers that count as one: 64 hexadecimal digits.
    pub handle: String,
    /// A sender gets one answer in these days, from 1 to [`DAYS_MAX`].
    pub days: u8,
    /// The subject. None: it is made of that of the message.
    pub subject: Option<String>,
    /// The value of From. None: the address that the message was sent to.
    pub from: Option<String>,
    /// Further addresses that are the user's.
    pub addresses: Vec<String>,
    /// The content.
    pub answer: Answer,
}

/// The content of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Plain text.
    Text(String),
    /// A MIME entity: header fields, a blank line, and a body.
    Mime(String),
}

impl Request {
    /// A request. Without a handle the content makes it (RFC 5230 §4.2).
    #[must_use]
    pub(super) fn new(
        handle: Option<String>,
        days: Option<u64>,
        subject: Option<String>,
        from: Option<String>,
        addresses: Vec<String>,
        answer: Answer,
    ) -> Self {
        let (kind, text) = match &answer {
            Answer::Text(text) => ("text", text),
            Answer::Mime(text) => ("mime", text),
        };
        let parts = match &handle {
            Some(handle) => vec!["handle", handle],
            None => vec![
                kind,
                subject.as_deref().unwrap_or_default(),
                from.as_deref().unwrap_or_default(),
                text,
            ],
        };
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let hash = hash.finalize();
        let days = days.map_or(DAYS, |days| u8::try_from(days).unwrap_or(DAYS_MAX));
        Self {
            handle: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            days: days.clamp(1, DAYS_MAX),
            subject,
            from,
            addresses,
            answer,
        }
    }
}

/// The senders who get answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    #[default]
    All,
    /// Those in the address book of the account.
    Contacts,
    /// Those of a domain of this server.
    Internal,
}

/// The facts that decide about an answer.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The reverse-path of the message.
    pub sender: &'a ReversePath,
    /// The forward-path.
    pub recipient: &'a Address,
    /// The header section of the message.
    pub header: &'a [u8],
    /// The addresses of the account.
    pub own: &'a [Address],
    /// The account sends nothing to the sender.
    pub is_suppressed: bool,
    /// The message is junk.
    pub is_junk: bool,
    /// SPF or DMARC says that the sender is real.
    pub is_verified: bool,
    /// Who gets answers.
    pub audience: Audience,
    /// The sender is in the address book of the account.
    pub is_contact: bool,
    /// The domain of the sender is one of this server.
    pub is_internal: bool,
}

/// The reason why no answer goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// RFC 3834 §2.
    #[error("the message has the null reverse-path")]
    NullReversePath,
    /// The address belongs to a program, by its name.
    #[error("the sender is a program")]
    Program,
    /// The sender is the account itself.
    #[error("the sender is an address of the account")]
    Own,
    /// The address is suppressed.
    #[error("the sender is suppressed")]
    Suppressed,
    /// RFC 3834 §5.
    #[error("the message has Auto-Submitted")]
    AutoSubmitted,
    /// RFC 2369, RFC 2919.
    #[error("the message comes from a mailing list")]
    List,
    /// Precedence is `bulk`, `list` or `junk`.
    #[error("the message has a Precedence of mass mail")]
    Precedence,
    /// The message is junk.
    #[error("the message is junk")]
    Junk,
    /// The sender may be forged.
    #[error("neither SPF nor DMARC verified the sender")]
    Unverified,
    /// RFC 5230 §4.5.
    #[error("no address of the account is among the recipients in the header")]
    NotAddressed,
    /// The sender is not in the audience.
    #[error("the sender is not one of those who get answers")]
    Audience,
}

/// An answer that goes out with the null reverse-path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The recipient: the sender of the message.
    pub to: Address,
    /// The address in From.
    pub from: Address,
    /// The name in From. It may be empty.
    pub name: String,
    /// The subject, in one line.
    pub subject: String,
    /// The id of the message that is answered.
    pub in_reply_to: Option<String>,
    /// The ids of the conversation, that of the answered message last.
    pub references: Vec<String>,
    /// The content.
    pub answer: Answer,
}

/// Decides whether an answer goes out, and makes it.
///
/// # Errors
/// The first reason against the answer.
pub fn decide(request: &Request, of: &Circumstances<'_>) -> Result<Reply, NoAnswer> {
    let sender = of.sender.address().ok_or(NoAnswer::NullReversePath)?;
    let addresses = request.addresses.iter();
    let further: Vec<Address> = addresses
        .filter_map(|text| Address::parse(text).ok())
        .collect();
    let is_own = |address: &Address| {
        of.own
            .iter()
            .chain([of.recipient])
            .any(|own| same(own, address))
    };
    let is_users =
        |address: &Address| is_own(address) || further.iter().any(|it| same(it, address));
    if is_program(sender.local.as_str()) {
        return Err(NoAnswer::Program);
    } else if is_users(sender) {
        return Err(NoAnswer::Own);
    } else if of.is_suppressed {
        return Err(NoAnswer::Suppressed);
    }
    header_allows(of.header)?;
    if of.is_junk {
        return Err(NoAnswer::Junk);
    } else if !of.is_verified {
        return Err(NoAnswer::Unverified);
    } else if !is_addressed(of.header, is_users) {
        return Err(NoAnswer::NotAddressed);
    }
    match of.audience {
        Audience::Contacts if !of.is_contact => return Err(NoAnswer::Audience),
        Audience::Internal if !of.is_internal => return Err(NoAnswer::Audience),
        _ => {}
    }
    Ok(reply(request, of, sender, is_own))
}

/// Whether two addresses are one. The case of letters makes no difference here.
fn same(a: &Address, b: &Address) -> bool {
    a.host == b.host && a.local.as_str().eq_ignore_ascii_case(b.local.as_str())
}

/// Whether a local-part belongs to a program (RFC 3834 §2, RFC 5230 §4.6).
fn is_program(local: &str) -> bool {
    let local = local.to_ascii_lowercase();
    let bare: String = local
        .chars()
        .filter(|letter| !"-_.".contains(*letter))
        .collect();
    let begins = |name: &str| {
        let rest = bare.strip_prefix(name);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphabetic()))
    };
    local.starts_with("owner-")
        || local.ends_with("-owner")
        || local.ends_with("-request")
        || [
            "mailerdaemon",
            "noreply",
            "donotreply",
            "listserv",
            "majordomo",
        ]
        .into_iter()
        .any(begins)
}

/// Fails for a message that its header section marks as automatic or as mass mail.
fn header_allows(header: &[u8]) -> Result<(), NoAnswer> {
    for field in field::fields(header) {
        let value = field::text(field.value);
        let word = value.split([';', '(', ' ']).next().unwrap_or_default();
        if field.is("Auto-Submitted") && !word.eq_ignore_ascii_case("no") {
            return Err(NoAnswer::AutoSubmitted);
        }
        let list = field.name.get(..5);
        if list.is_some_and(|begin| begin.eq_ignore_ascii_case(b"List-")) {
            return Err(NoAnswer::List);
        }
        let is_mass = |mass: &str| word.eq_ignore_ascii_case(mass);
        if field.is("Precedence") && ["bulk", "list", "junk"].into_iter().any(is_mass) {
            return Err(NoAnswer::Precedence);
        }
    }
    Ok(())
}

/// Whether one of the user's addresses is among the recipients in the header (RFC 5230 §4.5).
fn is_addressed(header: &[u8], is_users: impl Fn(&Address) -> bool) -> bool {
    const NAMES: [&str; 6] = ["To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"];
    field::fields(header)
        .filter(|field| NAMES.iter().any(|name| field.is(name)))
        .flat_map(|field| field::mailboxes(field.value))
        .filter_map(|mailbox| Address::parse(&mailbox.address).ok())
        .any(|address| is_users(&address))
}

fn reply(
    request: &Request,
    of: &Circumstances<'_>,
    sender: &Address,
    is_own: impl Fn(&Address) -> bool,
) -> Reply {
    // Nobody writes in the name of others.
    let from = request.from.as_ref().and_then(|from| {
        let mailbox = field::mailboxes(from.as_bytes()).into_iter().next()?;
        let address = Address::parse(&mailbox.address).ok()?;
        is_own(&address).then_some((address, mailbox.name))
    });
    let (from, name) = from.unwrap_or_else(|| (of.recipient.clone(), String::new()));
    let subject = request.subject.clone().unwrap_or_else(|| {
        let original = value(of.header, "Subject")
            .map(field::text)
            .unwrap_or_default();
        format!("Auto: {}", original.trim())
    });
    let in_reply_to = ids(of.header, "Message-ID").into_iter().next();
    let mut references = ids(of.header, "References");
    references.extend(in_reply_to.clone());
    let surplus = references.len().saturating_sub(REFERENCES_MAX);
    references.drain(..surplus);
    Reply {
        to: sender.clone(),
        from,
        name: one_line(&name),
        subject: cut(one_line(&subject), SUBJECT_MAX),
        in_reply_to,
        references,
        answer: request.answer.clone(),
    }
}

/// The value of the first field with this name.
fn value<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    field::fields(header)
        .find(|field| field.is(name))
        .map(|field| field.value)
}

/// The message ids of a field that can be written as they are.
fn ids(header: &[u8], name: &str) -> Vec<String> {
    let is_written = |id: &String| {
        id.len() <= 250
            && id.starts_with('<')
            && id.ends_with('>')
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let ids = value(header, name).map(field::ids).unwrap_or_default();
    ids.into_iter().filter(is_written).collect()
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ").trim().to_owned()
}

impl Reply {
    /// The message. `id` is its Message-ID with angle brackets.
    #[must_use]
    pub fn message(&self, id: &str, date: &Zoned) -> Vec<u8> {
        let from = match self.name.as_str() {
            "" => self.from.unicode(),
            name => format!("{} <{}>", phrase(name), self.from.unicode()),
        };
        let mut text = format!(
            "From: {from}\r\nTo: {}\r\nSubject: {}\r\n",
            self.to.unicode(),
            unstructured(&self.subject)
        );
        if let Ok(date) = rfc2822::to_string(date) {
            text.push_str(&format!("Date: {date}\r\n"));
        }
        text.push_str(&format!("Message-ID: {id}\r\n"));
        if let Some(answered) = &self.in_reply_to {
            text.push_str(&format!("In-Reply-To: {answered}\r\n"));
        }
        if !self.references.is_empty() {
            let references = self.references.join("\r\n ");
            text.push_str(&format!("References: {references}\r\n"));
        }
        text.push_str("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
        match &self.answer {
            Answer::Text(plain) => text.push_str(&entity("text/plain", plain)),
            Answer::Mime(entity) => text.push_str(&content_fields(entity)),
        }
        text.into_bytes()
    }
}

/// A name for From: as it is, in quotes, or encoded.
fn phrase(name: &str) -> String {
    if !name.is_ascii() {
        return field::encoded_words(name).join("\r\n ");
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A text for Subject: as it is, or encoded.
fn unstructured(text: &str) -> String {
    match text.is_ascii() && !text.contains("=?") {
        true => text.to_owned(),
        false => field::encoded_words(text).join("\r\n "),
    }
}

/// A MIME entity with a text in base64.
pub(super) fn entity(kind: &str, text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
    let lines = text.as_bytes().chunks(BASE64_LINE);
    let lines: String = lines.map(|line| STANDARD.encode(line) + "\r\n").collect();
    format!(
        "Content-Type: {kind}; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{lines}"
    )
}

/// An entity of a script, with only those fields in its header that describe its content. An entity
/// without one is plain text.
fn content_fields(written: &str) -> String {
    let written = written.replace("\r\n", "\n").replace('\n', "\r\n");
    let section: Vec<&[u8]> = field::written(written.as_bytes()).collect();
    let length = section.iter().map(|field| field.len()).sum();
    let is_content = |field: &&&[u8]| {
        let begin = field.get(..8);
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(b"Content-"))
    };
    let content: Vec<&[u8]> = section.iter().filter(is_content).copied().collect();
    if content.is_empty() {
        return entity("text/plain", &written);
    }
    let fields = String::from_utf8_lossy(&content.concat())
        .trim_end()
        .to_owned();
    let body = written.get(length..).unwrap_or_default();
    let body = body.strip_prefix("\r\n").unwrap_or(body);
    format!("{fields}\r\n\r\n{body}")
}
