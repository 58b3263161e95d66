//! The header section of a submission: the one change of its text (RFC 6409 §8).
//!
//! In this order:
//! 1. The application's own data is taken out.
//! 2. Fields that no recipient may see are taken out: Bcc, Resent-Bcc, Return-Path, and the field
//!    that asks for tracking.
//! 3. Texts in 8-bit characters are encoded.
//! 4. What is left is checked: this is what the recipients get.
//! 5. Missing fields are added.

use std::{borrow::Cow, collections::BTreeMap};

use postrider_queue::{
    TRACK, Track, extra,
    header::{self, Header},
};
use postrider_smtp::{
    Address, EnhancedCode, Reply, ReplyCode,
    field::{self, Field},
};

use crate::{
    SessionContext, checks,
    decide::{Refusal, Role, Stage, decide},
    facts::Facts,
    intake::HeaderEdit,
    refusals::reason,
    reply::no_message_reply,
};

/// The fields of the completed header section, as the queue needs them.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) author: Option<Address>,
    pub(super) message_id: String,
    pub(super) subject: String,
    /// The header section itself needs SMTPUTF8.
    pub(super) smtputf8: bool,
    /// The sender waives TLS.
    pub(super) waives_tls: bool,
    /// The application's own data.
    pub(super) extra: BTreeMap<String, String>,
    /// What of the message is tracked.
    pub(super) track: Track,
}

/// Changes the header section, adds it to the facts, decides about it, and gives the missing fields
/// to add.
pub(super) fn complete_header(
    context: &SessionContext,
    facts: &mut Facts,
    section: &[u8],
    fields: &mut Fields,
) -> Result<HeaderEdit, Reply> {
    let taken = extra::extract(section).map_err(|error| {
        Reply::new(
            ReplyCode::TRANSACTION_FAILED,
            Some(EnhancedCode::CONTENT),
            error.to_string(),
        )
        .because(reason::EXTRA_DATA)
    })?;
    let track = wanted_track(section)?;
    let mut edited = taken.section.map_or(Cow::Borrowed(section), Cow::Owned);
    if let Some(rest) = without_private(&edited) {
        edited = Cow::Owned(rest);
    }
    let encoded = field::in_ascii(&edited);
    if let Some(section) = encoded.section {
        edited = Cow::Owned(section);
    }
    facts.author = checks::author(&edited);
    let header = facts.header.insert(Header::scan(&edited));
    let message_id = header.message_id().to_owned();
    let subject = header.subject().to_owned();
    let waives_tls = header.waives_tls();
    let has_date = header.has("Date");
    let config = context.dynamic();
    let policy = context.policy(Role::Submission, &config);
    decide(Stage::Header, facts, &policy).answer()?;
    let mut added = String::new();
    let author = match &facts.author {
        Some(Ok(author)) => author.address.clone(),
        Some(Err(fault)) => return Err(Refusal::AuthorUnclear(*fault).reply()),
        None => {
            let login = facts.login.as_ref().ok_or_else(no_message_reply)?;
            added.push_str(&format!("From: <{}>\r\n", login.address));
            login.address.clone()
        }
    };
    let message_id = match message_id.as_str() {
        "" => {
            let made = header::message_id(&mut rand::rng(), context.statics.hostname.ascii());
            added.push_str(&format!("Message-Id: {made}\r\n"));
            made
        }
        _ => message_id,
    };
    if !has_date {
        added.push_str(&format!("Date: {}\r\n", header::date(context.clock.now())));
    }
    *fields = Fields {
        track: track.allowed(&config, Some(&author)),
        smtputf8: encoded.needs_smtputf8 || !added.is_ascii(),
        waives_tls,
        author: Some(author),
        message_id,
        subject,
        extra: taken.extra,
    };
    Ok(HeaderEdit {
        added: added.into_bytes(),
        section: match edited {
            Cow::Borrowed(_) => None,
            Cow::Owned(section) => Some(section),
        },
        ..HeaderEdit::default()
    })
}

/// What a message asks to be tracked, whether its domain allows that or not.
fn wanted_track(section: &[u8]) -> Result<Track, Reply> {
    let mut fields = field::written(section).filter_map(Field::read);
    let Some(field) = fields.find(|field| field.is(TRACK)) else {
        return Ok(Track::default());
    };
    Track::parse(&String::from_utf8_lossy(field.value)).map_err(|text| {
        let code = Some(EnhancedCode::CONTENT);
        let reply = Reply::new(ReplyCode::TRANSACTION_FAILED, code, text);
        reply.because(reason::EXTRA_DATA)
    })
}

/// The section without the fields that no recipient may see, whatever their values are. None: it
/// has none of them.
fn without_private(section: &[u8]) -> Option<Vec<u8>> {
    let is_private = |written: &&[u8]| {
        Field::read(written).is_some_and(|field| {
            let private = ["Bcc", "Resent-Bcc", "Return-Path", TRACK];
            private.iter().any(|name| field.is(name))
        })
    };
    field::written(section).find(is_private)?;
    let kept = field::written(section).filter(|written| !is_private(written));
    Some(kept.collect::<Vec<_>>().concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_fields_are_taken_out_in_each_form() {
        for private in [
            "Bcc: secret@remote.test,\r\n  other@remote.test\r\n",
            "bcc: <unparsable\r\n",
            "Bcc : x\r\n",
            "BCC\t:\r\n\tx\r\n",
            "Bcc\r\n : x\r\n",
            "Bcc:\r\n",
            "Bcc: =?utf-8?q?=?= \u{fc}\r\n \r\n\tx\r\n",
            "Resent-Bcc: x\r\nresent-BCC: y\r\n",
            "Return-Path: <a@x.test>\r\n",
        ] {
            let section = format!("{private}From: a@x.test\r\n{private}X-Bcc: b\r\n\tBcc: c\r\n");
            let rest = without_private(section.as_bytes()).unwrap();
            let rest = String::from_utf8(rest).unwrap();
            assert_eq!(
                rest, "From: a@x.test\r\nX-Bcc: b\r\n\tBcc: c\r\n",
                "{private}"
            );
        }
        assert_eq!(
            without_private(b"From: a@x.test\r\nBccs: x\r\nBcc\r\n"),
            None
        );
        assert_eq!(without_private(b""), None);
    }
}
