//! A received message in answers.

use postrider_smtp::{Address, ReversePath};
use postrider_store::Mail;
use postrider_webhook::message::{NameAddress, Parsed, Structure};
use serde::{Deserialize, Serialize};

/// The flags with a meaning. All other flags are keywords.
pub(crate) const SYSTEM_FLAGS: [&str; 10] = [
    "$forwarded",
    "$junk",
    "$mdnsent",
    "$notjunk",
    "$phishing",
    "\\answered",
    "\\deleted",
    "\\draft",
    "\\flagged",
    "\\seen",
];

/// The answer of MessageGet: a received message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MessageGetResponse {
    /// The header and texts.
    pub message: MessageFields,
    /// The parts.
    pub structure: Structure,
    /// Facts about the arrival.
    pub meta: Meta,
}

/// The header and texts of a message, in the order of Send's request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are those of the header fields")]
pub struct MessageFields {
    pub from: Vec<NameAddress>,
    pub to: Vec<NameAddress>,
    #[serde(rename = "CC")]
    pub cc: Vec<NameAddress>,
    #[serde(rename = "BCC")]
    pub bcc: Vec<NameAddress>,
    pub reply_to: Vec<NameAddress>,
    /// With `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// With `<` and `>`, oldest first.
    pub references: Vec<String>,
    /// RFC 3339.
    pub date: Option<String>,
    pub subject: String,
    /// With LF as line end. Cut at 1 MiB.
    pub text: String,
    /// With LF as line end. Cut at 1 MiB.
    #[serde(rename = "HTML")]
    pub html: String,
}

/// Facts about the arrival of a message. Addresses are Unicode, and empty for mail that did not
/// come by SMTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Meta {
    /// In bytes.
    pub size: u64,
    /// The message is a delivery status notification.
    #[serde(rename = "DSN")]
    pub dsn: bool,
    /// First system flags, then keywords.
    pub flags: Vec<String>,
    /// The reverse-path.
    pub mail_from: String,
    /// SPF allows the client to use this reverse-path.
    pub mail_from_validated: bool,
    /// The recipient.
    pub rcpt_to: String,
    /// The address in From.
    pub msg_from: String,
    /// DMARC says that From is genuine.
    pub msg_from_validated: bool,
    /// The domains with a valid DKIM signature.
    #[serde(rename = "DKIMVerifiedDomains")]
    pub dkim_verified_domains: Vec<String>,
    /// The address of the SMTP client. Empty for mail that did not come by SMTP.
    #[serde(rename = "RemoteIP")]
    pub remote_ip: String,
    /// The mailbox of the message.
    pub mailbox_name: String,
}

impl MessageGetResponse {
    pub(crate) fn new(mail: Mail, parsed: Parsed) -> Self {
        let mut references = parsed.references;
        if !parsed.in_reply_to.is_empty() && !references.contains(&parsed.in_reply_to) {
            references.insert(0, parsed.in_reply_to);
        }
        Self {
            message: MessageFields {
                from: parsed.from,
                to: parsed.to,
                cc: parsed.cc,
                bcc: parsed.bcc,
                reply_to: parsed.reply_to,
                message_id: parsed.message_id,
                references,
                date: parsed.date,
                subject: parsed.subject,
                text: parsed.text,
                html: parsed.html,
            },
            structure: parsed.structure,
            meta: Meta::new(mail),
        }
    }
}

impl Meta {
    pub(crate) fn new(mail: Mail) -> Self {
        let arrival = mail.smtp.as_ref();
        let unicode = |address: Option<&Address>| address.map(Address::unicode).unwrap_or_default();
        Self {
            size: mail.size,
            dsn: mail.dsn,
            mail_from: unicode(arrival.and_then(|it| ReversePath::address(&it.mail_from))),
            mail_from_validated: arrival.is_some_and(|it| it.mail_from_validated),
            rcpt_to: unicode(arrival.map(|it| &it.rcpt_to)),
            msg_from: unicode(arrival.and_then(|it| it.msg_from.as_ref())),
            msg_from_validated: arrival.is_some_and(|it| it.msg_from_validated),
            dkim_verified_domains: arrival.map_or_else(Vec::new, |it| it.dkim_domains.clone()),
            remote_ip: arrival
                .and_then(|it| it.remote_ip)
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
            flags: in_order(mail.flags),
            mailbox_name: mail.mailbox,
        }
    }
}

/// System flags first, then keywords.
fn in_order(mut flags: Vec<String>) -> Vec<String> {
    let place = |flag: &String| SYSTEM_FLAGS.iter().position(|system| system == flag);
    flags.sort_by_cached_key(|flag| (place(flag).unwrap_or(SYSTEM_FLAGS.len()), flag.clone()));
    flags
}
