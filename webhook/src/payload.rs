//! The bodies of calls. Receivers of version 0 may refuse unknown fields, so no field may be added
//! to it. Version 1 of events has the recipient.

use std::collections::BTreeMap;

use postrider_smtp::{ReversePath, mime};
use postrider_store::{Event, Mail, OutgoingEvent, RecipientEvent};
use serde::Serialize;

use crate::{
    json,
    message::{self, Parsed},
};

/// The body of a call for a sent message. The fields have the order of the contract.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OutgoingPayload<'a> {
    version: u32,
    event: &'static str,
    #[serde(rename = "DSN")]
    dsn: bool,
    suppressing: bool,
    #[serde(rename = "QueueMsgID")]
    queue_msg_id: u64,
    #[serde(rename = "FromID")]
    from_id: &'a str,
    #[serde(rename = "MessageID")]
    message_id: &'a str,
    subject: &'a str,
    webhook_queued: String,
    #[serde(rename = "SMTPCode")]
    smtp_code: u16,
    #[serde(rename = "SMTPEnhancedCode")]
    smtp_enhanced_code: String,
    error: &'a str,
    extra: &'a BTreeMap<String, String>,
}

impl<'a> OutgoingPayload<'a> {
    fn new(version: u32, told: &'a OutgoingEvent) -> Self {
        let (smtp_code, smtp_enhanced_code) = codes(told);
        Self {
            version,
            event: told.event.name(),
            dsn: told.dsn,
            suppressing: told.suppressing,
            queue_msg_id: told.queue_id.0,
            from_id: &told.from_id,
            message_id: &told.message_id,
            subject: &told.subject,
            webhook_queued: told.queued.to_string(),
            smtp_code,
            smtp_enhanced_code,
            error: &told.error,
            extra: &told.extra,
        }
    }
}

/// The body of a call for a sent message, version 0.
///
/// # Errors
/// None in practice: an event has nothing that JSON can't express.
pub fn outgoing_payload(told: &OutgoingEvent) -> serde_json::Result<Vec<u8>> {
    json::to_vec(&OutgoingPayload::new(0, told))
}

/// The body of a call for a sent message, version 1. It has the recipient too.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OutgoingPayloadV1<'a> {
    #[serde(flatten)]
    told: OutgoingPayload<'a>,
    recipient: &'a str,
}

/// The body of a call for a sent message, version 1.
///
/// # Errors
/// None in practice: an event has nothing that JSON can't express.
pub fn outgoing_payload_v1(event: &RecipientEvent) -> serde_json::Result<Vec<u8>> {
    json::to_vec(&OutgoingPayloadV1 {
        told: OutgoingPayload::new(1, &event.told),
        recipient: &event.recipient,
    })
}

/// The SMTP code and the enhanced status code of an event, as applications see them. 0 and empty
/// without an SMTP reply that is an error.
#[must_use]
pub fn codes(outgoing: &OutgoingEvent) -> (u16, String) {
    // Only errors have codes, and only a reply has an enhanced code.
    let code = match outgoing.event {
        Event::Delivered => 0,
        _ => outgoing.code,
    };
    let enhanced = outgoing.enhanced.filter(|_| code != 0);
    let enhanced =
        enhanced.map(|enhanced| format!("{}.{}.{}", code / 100, enhanced.subject, enhanced.detail));
    (code, enhanced.unwrap_or_default())
}

/// The body of a call for a received message.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct IncomingPayload<'a> {
    version: u32,
    #[serde(flatten)]
    message: Parsed,
    meta: Meta<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Meta<'a> {
    #[serde(rename = "MsgID")]
    msg_id: u64,
    mail_from: String,
    mail_from_validated: bool,
    msg_from_validated: bool,
    rcpt_to: String,
    #[serde(rename = "DKIMVerifiedDomains")]
    dkim_verified_domains: &'a [String],
    #[serde(rename = "RemoteIP")]
    remote_ip: String,
    received: String,
    mailbox_name: &'a str,
    automated: bool,
}

/// The body of a call for a received message with this text.
///
/// # Errors
/// None in practice: a mail has nothing that JSON can't express.
pub fn incoming_payload(
    mail: &Mail,
    text: &[u8],
    limits: mime::Limits,
) -> serde_json::Result<Vec<u8>> {
    let arrival = mail.smtp.as_ref();
    let from = arrival.map(|arrival| &arrival.mail_from);
    let sender = from.and_then(ReversePath::address);
    json::to_vec(&IncomingPayload {
        version: 0,
        message: message::parse(text, limits),
        meta: Meta {
            msg_id: mail.id.0,
            mail_from: sender.map(|sender| sender.unicode()).unwrap_or_default(),
            mail_from_validated: arrival.is_some_and(|arrival| arrival.mail_from_validated),
            msg_from_validated: arrival.is_some_and(|arrival| arrival.msg_from_validated),
            rcpt_to: arrival
                .map(|arrival| arrival.rcpt_to.unicode())
                .unwrap_or_default(),
            dkim_verified_domains: arrival.map_or(&[], |arrival| &arrival.dkim_domains),
            remote_ip: arrival
                .and_then(|arrival| arrival.remote_ip)
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
            received: mail.received.to_string(),
            mailbox_name: &mail.mailbox,
            automated: from == Some(&ReversePath::Null) || message::is_automated(text),
        },
    })
}

#[cfg(test)]
mod tests {
    use postrider_smtp::EnhancedCode;
    use postrider_store::{Arrival, MailId, QueueId, TextId, Time, Top};

    use super::*;

    fn failed() -> OutgoingEvent {
        OutgoingEvent {
            event: Event::Failed,
            dsn: false,
            suppressing: true,
            queue_id: QueueId(42),
            from_id: "MDEyMzQ1Njc4OWFiY2RlZg".to_owned(),
            message_id: "<id@example.org>".to_owned(),
            subject: "Tom & \u{e9}va".to_owned(),
            queued: Time(1_700_000_000_120_000),
            code: 550,
            enhanced: Some(EnhancedCode::UNKNOWN_MAILBOX),
            error: "no such user".to_owned(),
            extra: BTreeMap::from([("UserID".to_owned(), "7".to_owned())]),
        }
    }

    fn text(outgoing: &OutgoingEvent) -> String {
        String::from_utf8(outgoing_payload(outgoing).unwrap()).unwrap()
    }

    #[test]
    fn a_failure() {
        assert_eq!(
            text(&failed()),
            concat!(
                r#"{"Version":0,"Event":"failed","DSN":false,"Suppressing":true,"QueueMsgID":42,"#,
                r#""FromID":"MDEyMzQ1Njc4OWFiY2RlZg","MessageID":"\u003cid@example.org\u003e","#,
                r#""Subject":"Tom \u0026 éva","WebhookQueued":"2023-11-14T22:13:20.12Z","#,
                r#""SMTPCode":550,"SMTPEnhancedCode":"5.1.1","Error":"no such user","Extra":{"UserID":"7"}}"#,
            )
        );
    }

    #[test]
    fn version_1_has_the_recipient() {
        let event = RecipientEvent {
            recipient: "b@example.com".to_owned(),
            told: failed(),
        };
        let json = String::from_utf8(outgoing_payload_v1(&event).unwrap()).unwrap();
        let expected = text(&failed()).replace(r#"{"Version":0"#, r#"{"Version":1"#);
        let expected = expected.trim_end_matches('}');
        assert_eq!(
            json,
            format!(r#"{expected}}},"Recipient":"b@example.com"}}"#)
        );
    }

    #[test]
    fn a_delivery_has_no_codes() {
        let outgoing = OutgoingEvent {
            event: Event::Delivered,
            suppressing: false,
            code: 250,
            enhanced: Some(EnhancedCode::OK),
            error: String::new(),
            extra: BTreeMap::new(),
            from_id: String::new(),
            ..failed()
        };
        assert_eq!(
            text(&outgoing),
            concat!(
                r#"{"Version":0,"Event":"delivered","DSN":false,"Suppressing":false,"QueueMsgID":42,"#,
                r#""FromID":"","MessageID":"\u003cid@example.org\u003e","#,
                r#""Subject":"Tom \u0026 éva","WebhookQueued":"2023-11-14T22:13:20.12Z","#,
                r#""SMTPCode":0,"SMTPEnhancedCode":"","Error":"","Extra":{}}"#,
            )
        );
    }

    #[test]
    fn the_class_is_that_of_the_code() {
        let mut outgoing = failed();
        outgoing.code = 451;
        assert!(text(&outgoing).contains(r#""SMTPCode":451,"SMTPEnhancedCode":"4.1.1""#));
        outgoing.code = 0;
        assert!(text(&outgoing).contains(r#""SMTPCode":0,"SMTPEnhancedCode":"""#));
        outgoing.enhanced = None;
        assert!(text(&outgoing).contains(r#""SMTPCode":0,"SMTPEnhancedCode":"""#));
    }

    #[test]
    fn a_received_message() {
        let mail = Mail {
            id: MailId(7),
            account: "ann".into(),
            mailbox: "Inbox".into(),
            top: Top::EMPTY,
            text: TextId::default(),
            size: 10,
            received: Time(1_700_000_000_000_000),
            flags: Vec::new(),
            dsn: false,
            smtp: Some(Arrival {
                mail_from: "bob@example.com".parse().unwrap(),
                rcpt_to: "ann+x@example.org".parse().unwrap(),
                msg_from: None,
                mail_from_validated: false,
                msg_from_validated: false,
                dkim_domains: vec!["example.com".into()],
                remote_ip: Some([192, 0, 2, 1].into()),
            }),
        };
        let text = b"From: Bob <bob@example.com>\r\nTo: ann@example.org\r\nSubject: a<b\r\nMessage-ID: <1@x>\r\n\r\nHi\r\n";
        let json =
            String::from_utf8(incoming_payload(&mail, text, mime::Limits::default()).unwrap())
                .unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"Version":0,"From":[{"Name":"Bob","Address":"bob@example.com"}],"#,
                r#""To":[{"Name":"","Address":"ann@example.org"}],"CC":[],"BCC":[],"ReplyTo":[],"#,
                r#""Subject":"a\u003cb","MessageID":"\u003c1@x\u003e","InReplyTo":"","References":[],"Date":null,"#,
                r#""Text":"Hi\n","HTML":"","Structure":{"ContentType":"text/plain","ContentTypeParams":{},"#,
                r#""ContentID":"","ContentDisposition":"","Filename":"","DecodedSize":4,"Parts":[]},"#,
                r#""Meta":{"MsgID":7,"MailFrom":"bob@example.com","MailFromValidated":false,"MsgFromValidated":false,"#,
                r#""RcptTo":"ann+x@example.org","DKIMVerifiedDomains":["example.com"],"RemoteIP":"192.0.2.1","#,
                r#""Received":"2023-11-14T22:13:20Z","MailboxName":"Inbox","Automated":false}}"#,
            )
        );
    }
}
