//! Reads payloads strictly: every field of the contract is known, and other fields are errors.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The payload, with all of its fields checked.
pub fn payload(text: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(text).unwrap();
    let read = if value.get("Event").is_some() {
        serde_json::from_slice(text).map(|payload: Outgoing| match payload.recipient {
            None => payload.version == 0,
            Some(_) => payload.version == 1,
        })
    } else {
        serde_json::from_slice(text).map(|payload: Incoming| payload.version == 0)
    };
    let right = read.unwrap_or_else(|error| panic!("{error}: {value}"));
    assert!(right, "not the fields of this version: {value}");
    value
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the test is whether the fields can be read")]
struct Outgoing {
    version: u8,
    event: String,
    #[serde(rename = "DSN")]
    dsn: bool,
    suppressing: bool,
    #[serde(rename = "QueueMsgID")]
    queue_msg_id: u64,
    #[serde(rename = "FromID")]
    from_id: String,
    #[serde(rename = "MessageID")]
    message_id: String,
    subject: String,
    webhook_queued: String,
    #[serde(rename = "SMTPCode")]
    smtp_code: u16,
    #[serde(rename = "SMTPEnhancedCode")]
    smtp_enhanced_code: String,
    error: String,
    extra: BTreeMap<String, String>,
    /// Version 1 has it.
    recipient: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the test is whether the fields can be read")]
struct Incoming {
    version: u8,
    from: Vec<NameAddress>,
    to: Vec<NameAddress>,
    #[serde(rename = "CC")]
    cc: Vec<NameAddress>,
    #[serde(rename = "BCC")]
    bcc: Vec<NameAddress>,
    reply_to: Vec<NameAddress>,
    subject: String,
    #[serde(rename = "MessageID")]
    message_id: String,
    in_reply_to: String,
    references: Vec<String>,
    date: Option<String>,
    text: String,
    #[serde(rename = "HTML")]
    html: String,
    structure: Structure,
    meta: Meta,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the test is whether the fields can be read")]
struct NameAddress {
    name: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the test is whether the fields can be read")]
struct Structure {
    content_type: String,
    content_type_params: BTreeMap<String, String>,
    #[serde(rename = "ContentID")]
    content_id: String,
    content_disposition: String,
    filename: String,
    decoded_size: i64,
    parts: Vec<Self>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the test is whether the fields can be read")]
struct Meta {
    #[serde(rename = "MsgID")]
    msg_id: u64,
    mail_from: String,
    mail_from_validated: bool,
    msg_from_validated: bool,
    rcpt_to: String,
    #[serde(rename = "DKIMVerifiedDomains")]
    dkim_verified_domains: Vec<String>,
    #[serde(rename = "RemoteIP")]
    remote_ip: String,
    received: String,
    mailbox_name: String,
    automated: bool,
}
