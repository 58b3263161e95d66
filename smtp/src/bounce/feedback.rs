//! Complaints: the feedback reports of RFC 5965 (ARF).

use super::{Complaint, address, returned::Returned};
use crate::params::xtext;

/// The most recipients of a complaint.
const RECIPIENTS_MAX: usize = 100;

/// Reads the fields of a report. None for a report of a failed authentication (RFC 6591): a server
/// writes it, and its recipient did not complain.
pub(super) fn read(text: &[u8], returned: Option<Returned>) -> Option<Complaint> {
    let returned = returned.unwrap_or_default();
    let mut complaint = Complaint {
        original_message_id: returned.message_id,
        ..Complaint::default()
    };
    let mut authentication = false;
    let text = String::from_utf8_lossy(text);
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "feedback-type" => complaint.feedback_type = value.to_ascii_lowercase(),
            "auth-failure" => authentication = true,
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
    if complaint.feedback_type.is_empty() && !authentication {
        "other".clone_into(&mut complaint.feedback_type);
    }
    if complaint.original_rcpt_to.is_empty() {
        // Many providers leave the recipients out of the fields only.
        complaint.original_rcpt_to = returned.to;
        complaint.original_rcpt_to.truncate(RECIPIENTS_MAX);
    }
    (!["", "auth-failure"].contains(&complaint.feedback_type.as_str())).then_some(complaint)
}
