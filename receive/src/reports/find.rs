//! The report in a mail.

use std::borrow::Cow;

use mail_parser::{
    Address, Encoding, Message, MessagePart, MimeHeaders, PartType,
    decoders::{base64::base64_decode, quoted_printable::quoted_printable_decode},
};
use postrider_smtp::mime;
use postrider_store::ReceivedKind;

use super::{
    arf::{self, Feedback},
    dmarc,
    fault::{Limit, MAIL_MAX, Patience, ReportFault},
    packed, tls,
};

/// The most bytes of a From or Subject field that are kept.
const FIELD_MAX: usize = 256;
/// So many bytes at the beginning of a file show what it is.
const SNIFF: usize = 4096;

/// A report of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// About DMARC.
    Dmarc(Box<dmarc::Report>),
    /// About TLS.
    Tls(tls::Report),
    /// About one message.
    Arf(Box<Feedback>),
}

impl Found {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ReceivedKind {
        match self {
            Self::Dmarc(_) => ReceivedKind::Dmarc,
            Self::Tls(_) => ReceivedKind::Tls,
            Self::Arf(_) => ReceivedKind::Arf,
        }
    }
}

/// What was found in a mail.
#[derive(Clone, Debug, PartialEq)]
pub struct MailReading {
    /// The From field, decoded.
    pub from: String,
    /// The Subject field, decoded.
    pub subject: String,
    /// The report. None: the mail has nothing that looks like one.
    pub report: Option<Result<Found, Faulty>>,
}

/// Something that looks like a report, and that has none that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faulty {
    /// The kind, as far as it can be told.
    pub kind: Option<ReceivedKind>,
    /// Why it can't be read.
    pub fault: ReportFault,
}

/// Reads a mail as a report. `size` is the size of the whole mail, of which `text` may be the
/// beginning.
#[must_use]
pub fn read(text: &[u8], size: u64, limits: mime::Limits, patience: Patience<'_>) -> MailReading {
    mime::parse(text, limits, |mail| {
        let Some(mail) = mail else {
            return MailReading {
                from: String::new(),
                subject: String::new(),
                report: None,
            };
        };
        let mut subject = mail.subject().unwrap_or_default().to_owned();
        subject.truncate(subject.floor_char_boundary(FIELD_MAX));
        let mut from = mail.from().map(written).unwrap_or_default();
        from.truncate(from.floor_char_boundary(FIELD_MAX));
        MailReading {
            from,
            subject,
            report: report(mail, size, patience),
        }
    })
}

/// The first address, with its name.
fn written(address: &Address<'_>) -> String {
    let Some(first) = address.first() else {
        return String::new();
    };
    match (first.name(), first.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => address.or(name).unwrap_or_default().to_owned(),
    }
}

fn report(mail: &Message<'_>, size: u64, patience: Patience<'_>) -> Option<Result<Found, Faulty>> {
    let kind = said_kind(mail);
    if size > MAIL_MAX {
        let fault = Limit::Mail.into();
        return Some(Err(Faulty { kind, fault }));
    }
    if kind == Some(ReceivedKind::Arf) {
        return Some(feedback(mail));
    }
    // The first report that can be read counts. If there is none, the first fault does.
    let mut faulty: Option<Faulty> = None;
    for part in &mail.parts {
        match in_part(mail, part, patience) {
            None => {}
            Some(Ok(found)) => return Some(Ok(found)),
            Some(Err(found)) => {
                let is_over = found.fault == Limit::Time.into();
                faulty.get_or_insert(found);
                if is_over {
                    break;
                }
            }
        }
    }
    // A mail that says what it is should have a report.
    let missing = kind.map(|kind| Faulty {
        kind: Some(kind),
        fault: ReportFault::Missing,
    });
    faulty.or(missing).map(|faulty| {
        Err(Faulty {
            kind: faulty.kind.or(kind),
            ..faulty
        })
    })
}

/// The kind of report that a mail calls itself, or one of its parts.
fn said_kind(mail: &Message<'_>) -> Option<ReceivedKind> {
    let has_feedback = mail.parts.iter().any(is_feedback);
    let kind = mail.content_type();
    let about = kind.and_then(|kind| kind.attribute("report-type"));
    match about.unwrap_or_default().to_ascii_lowercase().as_str() {
        "feedback-report" => Some(ReceivedKind::Arf),
        _ if has_feedback => Some(ReceivedKind::Arf),
        "tlsrpt" => Some(ReceivedKind::Tls),
        _ => None,
    }
}

fn is_feedback(part: &MessagePart<'_>) -> bool {
    part.is_content_type("message", "feedback-report")
}

/// The report about one message.
fn feedback(mail: &Message<'_>) -> Result<Found, Faulty> {
    let part = mail.parts.iter().find(|part| is_feedback(part));
    let part = part.ok_or(Faulty {
        kind: Some(ReceivedKind::Arf),
        fault: ReportFault::Missing,
    })?;
    let mut feedback = arf::parse(part.contents());
    let returned = mail.parts.iter().find_map(|part| match &part.body {
        PartType::Message(message) => Some((message.raw_message(), true)),
        _ if part.is_content_type("text", "rfc822-headers") => Some((part.contents(), false)),
        _ => None,
    });
    if let Some((text, is_whole)) = returned {
        feedback.add_message(text, is_whole);
    }
    Ok(Found::Arf(Box::new(feedback)))
}

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Xml,
    Json,
}

impl Form {
    const fn kind(self) -> ReceivedKind {
        match self {
            Self::Xml => ReceivedKind::Dmarc,
            Self::Json => ReceivedKind::Tls,
        }
    }
}

/// The report in a part. None: there is nothing that looks like one.
fn in_part(
    mail: &Message<'_>,
    part: &MessagePart<'_>,
    patience: Patience<'_>,
) -> Option<Result<Found, Faulty>> {
    let packed;
    let (content, is_text) = match &part.body {
        PartType::Text(text) | PartType::Html(text) => match packed_text(mail, part, text) {
            Some(content) => {
                packed = content;
                (packed.as_slice(), false)
            }
            None => (text.as_bytes(), true),
        },
        PartType::Binary(content) | PartType::InlineBinary(content) => (&**content, false),
        PartType::Message(_) | PartType::Multipart(_) => return None,
    };
    let named = named_form(part);
    let is_packed = packed::is_packed(content);
    if is_packed && named.is_none() && !may_be_packed(part) {
        return None;
    }
    if !is_packed && form(content).is_none() {
        // It calls itself a report, and has none.
        let kind = Some(named?.kind());
        let fault = ReportFault::Missing;
        return Some(Err(Faulty { kind, fault }));
    }
    let kind = named.map(Form::kind);
    let files = match packed::unpack(content, patience) {
        Ok(files) => files,
        Err(fault) => return Some(Err(Faulty { kind, fault })),
    };
    let mut faulty = None;
    for file in &files {
        match in_file(file, is_text && !is_packed, patience) {
            None => {}
            Some(Ok(found)) => return Some(Ok(found)),
            Some(Err(found)) => drop(faulty.get_or_insert(found)),
        }
    }
    match faulty {
        Some(faulty) => Some(Err(faulty)),
        // Any other archive may come by mail.
        None if named.is_none() => None,
        None => Some(Err(Faulty {
            kind,
            fault: ReportFault::Missing,
        })),
    }
}

fn in_file(file: &[u8], is_text: bool, patience: Patience<'_>) -> Option<Result<Found, Faulty>> {
    let form = form(file)?;
    let found = match form {
        Form::Xml => dmarc::parse(file, is_text, patience).map(|it| Found::Dmarc(Box::new(it))),
        Form::Json => tls::parse(file, patience).map(Found::Tls),
    };
    Some(found.map_err(|fault| Faulty {
        kind: Some(form.kind()),
        fault,
    }))
}

/// The content of a part that calls itself a text, and that is packed. The parser has taken it for
/// characters, which is the end of most of its bytes.
fn packed_text(mail: &Message<'_>, part: &MessagePart<'_>, text: &str) -> Option<Vec<u8>> {
    if !text.starts_with('\u{1f}') && !text.starts_with("PK") {
        return None;
    }
    let place = usize::try_from(part.offset_body).ok()?..usize::try_from(part.offset_end).ok()?;
    let written = mail.raw_message.get(place)?;
    let content = match part.encoding {
        Encoding::None => written.to_vec(),
        Encoding::Base64 => base64_decode(written)?,
        Encoding::QuotedPrintable => quoted_printable_decode(written)?,
    };
    packed::is_packed(&content).then_some(content)
}

/// The form of a file by its first bytes. None: it is no report.
fn form(file: &[u8]) -> Option<Form> {
    let head = file.get(..file.len().min(SNIFF)).unwrap_or_default();
    let is_utf16 = head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff");
    let ascii: Cow<'_, [u8]> = match is_utf16 {
        // In these encodings each second byte of ASCII is zero.
        true => head
            .iter()
            .copied()
            .filter(|byte| *byte != 0)
            .skip(2)
            .collect(),
        false => head.into(),
    };
    let start = ascii.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&ascii);
    let start = start.trim_ascii_start();
    let has = |word: &[u8]| {
        let lower = start.to_ascii_lowercase();
        memchr::memmem::find(&lower, word).is_some()
    };
    match start.first()? {
        b'{' if has(b"\"date-range\"") || has(b"\"policies\"") || has(b"\"report-id\"") => {
            Some(Form::Json)
        }
        b'<' if start.starts_with(b"<?xml") || has(b"feedback") => Some(Form::Xml),
        _ => None,
    }
}

/// The form of the report that a part says to be, by its type or its name.
fn named_form(part: &MessagePart<'_>) -> Option<Form> {
    let subtype = part.content_type().and_then(|kind| kind.subtype());
    let subtype = subtype.unwrap_or_default().to_ascii_lowercase();
    let name = part.attachment_name().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    if subtype.starts_with("tlsrpt") || ends(&[".json", ".json.gz", ".json.zip"]) {
        return Some(Form::Json);
    }
    // Names of reports about DMARC: the receiver, the domain, begin and end (RFC 9990 §4).
    let is_report = name.matches('!').count() >= 3;
    (is_report || ends(&[".xml", ".xml.gz", ".xml.zip"])).then_some(Form::Xml)
}

/// The type or the name of a part says that it is packed.
fn may_be_packed(part: &MessagePart<'_>) -> bool {
    let subtype = part.content_type().and_then(|kind| kind.subtype());
    let subtype = subtype.unwrap_or_default().to_ascii_lowercase();
    let name = part.attachment_name().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let types = ["gzip", "zip", "octet-stream"];
    types.iter().any(|kind| subtype.contains(kind)) || name.ends_with("gz") || name.ends_with("zip")
}
