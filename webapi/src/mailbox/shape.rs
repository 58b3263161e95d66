//! The answer of MessageGet.

use postrider_smtp::{Address, ReversePath};
use postrider_store::Mail;
use postrider_webhook::message::{NameAddress, Parsed, Structure};
use serde::Serialize;

use super::SYSTEM_FLAGS;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Shown {
    message: Message,
    structure: Structure,
    meta: Meta,
}

/// In the order of Send's request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    from: Vec<NameAddress>,
    to: Vec<NameAddress>,
    #[serde(rename = "CC")]
    cc: Vec<NameAddress>,
    #[serde(rename = "BCC")]
    bcc: Vec<NameAddress>,
    reply_to: Vec<NameAddress>,
    #[serde(rename = "MessageID")]
    message_id: String,
    references: Vec<String>,
    date: Option<String>,
    subject: String,
    text: String,
    #[serde(rename = "HTML")]
    html: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    size: u64,
    #[serde(rename = "DSN")]
    dsn: bool,
    flags: Vec<String>,
    mail_from: String,
    mail_from_validated: bool,
    rcpt_to: String,
    msg_from: String,
    msg_from_validated: bool,
    #[serde(rename = "DKIMVerifiedDomains")]
    dkim_verified_domains: Vec<String>,
    #[serde(rename = "RemoteIP")]
    remote_ip: String,
    mailbox_name: String,
}

impl Shown {
    pub(crate) fn new(mail: Mail, parsed: Parsed) -> Self {
        let mut references = parsed.references;
        if !parsed.in_reply_to.is_empty() && !references.contains(&parsed.in_reply_to) {
            references.insert(0, parsed.in_reply_to);
        }
        Self {
            message: Message {
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
    fn new(mail: Mail) -> Self {
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
