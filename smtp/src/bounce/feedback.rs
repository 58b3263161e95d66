//! Complaints: the feedback reports of RFC 5965 (ARF).

use mail_parser::{Message, PartType};

use super::{Complaint, address};
use crate::params::xtext;

/// The most recipients of a complaint.
const RECIPIENTS_MAX: usize = 100;

pub(super) fn read(
    text: &[u8],
    mail: &Message<'_>,
    original_message_id: Option<String>,
) -> Complaint {
    let mut complaint = Complaint {
        feedback_type: "other".to_owned(),
        original_message_id,
        ..Complaint::default()
    };
    let text = String::from_utf8_lossy(text);
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "feedback-type" => complaint.feedback_type = value.to_ascii_lowercase(),
            "user-agent" => value.clone_into(&mut complaint.user_agent),
            "original-mail-from" => complaint.original_mail_from = address(value),
            "original-rcpt-to" if complaint.original_rcpt_to.len() < RECIPIENTS_MAX => {
                complaint.original_rcpt_to.extend(address(value));
            }
            "source-ip" => complaint.source_ip = Some(value.to_owned()),
            "original-envelope-id" => {
                let decoded = xtext::decode(value).unwrap_or_else(|_| value.to_owned());
                complaint.envid = Some(decoded);
            }
            _ => {}
        }
    }
    if complaint.original_rcpt_to.is_empty() {
        complaint.original_rcpt_to = returned_recipients(mail);
    }
    complaint
}

/// The recipients in the returned message. Many providers leave them out of the fields only.
fn returned_recipients(mail: &Message<'_>) -> Vec<String> {
    let returned = mail.parts.iter().find_map(|part| match &part.body {
        PartType::Message(inner) => Some(inner),
        _ => None,
    });
    let to = returned.and_then(|message| message.to());
    let addresses = to.iter().flat_map(|to| to.iter());
    addresses
        .filter_map(|to| to.address())
        .take(RECIPIENTS_MAX)
        .map(str::to_owned)
        .collect()
}
