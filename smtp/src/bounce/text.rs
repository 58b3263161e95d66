//! Bounces in words, of systems that do not follow RFC 3464 or whose machine-readable part got
//! lost.
//!
//! A mail counts as such a bounce if its header section may come from a mailer daemon, its words
//! tell of a failure, and a failed recipient is found. The more certain the first two are, the less
//! must be said of the recipient.

use std::{borrow::Cow, cell::OnceCell, collections::HashMap};

use super::{
    Class, Format, Recipient, Report, Said, System, classify,
    codes::{self, Codes},
    letter::{Letter, Origin},
    one_line,
    phrases::{self, Phrases},
    recipients::{self, Found, Known},
    returned::{self, Returned},
};
use crate::{Stage, dsn::Action};

/// How sure it is that the mail is a bounce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Certainty {
    /// A recipient with a reply must be found.
    Unlikely,
    /// A recipient with a reply or clear words must be found.
    Maybe,
    /// The same, or the returned message must be there.
    Likely,
    /// Any recipient will do.
    Known,
}

/// The text of a mail, and what it says of recipients.
pub(super) struct Text<'a> {
    /// The words of the system.
    told: Cow<'a, str>,
    /// The returned message.
    returned: Returned,
    /// The mail has the returned message, not only words about it.
    has_copy: bool,
    found: Vec<Found>,
    /// What the whole text says, for all recipients without words of their own. It is read once.
    on_all: OnceCell<Heard>,
}

/// What words say.
#[derive(Clone)]
struct Heard {
    codes: Codes,
    stage: Option<Stage>,
    diagnostic: String,
}

impl Heard {
    fn in_words(said: &str) -> Self {
        Self {
            codes: codes::find(said),
            stage: Stage::in_text(said),
            diagnostic: one_line(said),
        }
    }
}

impl<'a> Text<'a> {
    pub(super) fn of(letter: &'a Letter<'_>) -> Self {
        let (told, copy) = returned::split(&letter.text);
        let in_text = copy.map(returned::in_text);
        let has_copy = letter.returned.is_some()
            || in_text
                .as_ref()
                .is_some_and(|copy| copy.message_id.is_some());
        let returned = letter.returned.clone().or(in_text).unwrap_or_default();
        let own = letter.own.iter().chain(&returned.from).cloned();
        let to = returned.to.iter().chain(&returned.cc).cloned();
        let known = Known::new(own, to, letter.failed_recipients());
        let mut found = recipients::find(&told, &known);
        if found.is_empty() && copy.is_some() {
            // A summary of the message may stand before the words on its recipients.
            found = recipients::find(&letter.text, &known);
            found.retain(|found| found.strong);
        }
        Self {
            told,
            returned,
            has_copy,
            found,
            on_all: OnceCell::new(),
        }
    }

    /// The Message-ID of the returned message.
    pub(super) fn message_id(&self) -> Option<String> {
        self.returned.message_id.clone()
    }

    /// The text has a reply or clear words on a recipient.
    pub(super) fn has_reasons(&self) -> bool {
        self.found.iter().any(|found| found.strong)
    }

    /// The report in the text. `is_report` says that the mail is a multipart/report of delivery
    /// status, so it is a bounce in any case. None if the mail is no bounce, or without a
    /// recipient.
    pub(super) fn report(&self, letter: &Letter<'_>, is_report: bool) -> Option<Report> {
        let phrases = phrases::of_text(&self.told);
        let certainty = certainty(letter, &phrases, is_report)?;
        let enough = match certainty {
            Certainty::Known => true,
            Certainty::Likely if self.has_copy && letter.subject.fits => true,
            Certainty::Likely => {
                self.has_reasons() || self.found.len() == 1 && recipients::is_strong(&self.told)
            }
            Certainty::Maybe => {
                let hidden = self.found.is_empty() && self.has_copy;
                self.has_reasons() || hidden && recipients::is_strong(&self.told)
            }
            Certainty::Unlikely => self
                .found
                .iter()
                .any(|found| codes::find(&found.said).code != 0),
        };
        if !enough {
            return None;
        }
        let mut found = self.found.clone();
        if found.is_empty()
            && (certainty == Certainty::Known || self.has_copy)
            && let Some(only) = self.returned.only()
        {
            found.push(Found {
                address: only.clone(),
                said: String::new(),
                strong: false,
            });
        }
        if found.is_empty() {
            return None;
        }
        let delayed = phrases.delay || letter.subject.delay;
        let action = if delayed {
            Action::Delayed
        } else {
            Action::Failed
        };
        let recipients = found.iter().map(|found| self.result(found, action));
        Some(Report {
            format: Format::Text(system(letter, &phrases)),
            envid: None,
            reporting_mta: None,
            recipients: recipients.collect(),
            original_message_id: self.message_id(),
        })
    }

    /// Adds the reply and the stage in the text to results whose fields have none.
    pub(super) fn add_to(&self, recipients: &mut [Recipient]) {
        let named: HashMap<String, &Found> = self
            .found
            .iter()
            .map(|found| (found.address.to_lowercase(), found))
            .collect();
        let only = match (self.found.as_slice(), recipients.len()) {
            ([only], 1) => Some(only),
            _ => None,
        };
        for result in recipients {
            if !matches!(result.action, Action::Failed | Action::Delayed) {
                continue;
            }
            let of = |address: &Option<String>| {
                let address = address.as_ref()?.to_lowercase();
                named.get(&address).copied()
            };
            let found = of(&result.final_recipient).or_else(|| of(&result.original_recipient));
            if let Some(found) = found.or(only).filter(|found| found.strong) {
                complete_by_words(result, self.result(found, result.action));
            }
        }
    }

    /// The result for one recipient. The words on all recipients count if those on this one say
    /// nothing.
    fn result(&self, found: &Found, action: Action) -> Recipient {
        let said = if found.strong {
            found.said.as_str()
        } else {
            &self.told
        };
        let mut heard = if found.strong {
            Heard::in_words(said)
        } else {
            let on_all = self.on_all.get_or_init(|| Heard::in_words(said));
            on_all.clone()
        };
        if heard.codes == Codes::default() && self.found.len() == 1 {
            // The reply stands elsewhere. It can only be on this recipient.
            let begins = |line: &str| line.contains(':') || !line.starts_with(char::is_alphabetic);
            let lines = self.told.lines().filter(|line| begins(line.trim_start()));
            let mut replies = lines.map(|line| (line, codes::find(line)));
            if let Some((line, codes)) = replies.find(|(_, codes)| codes.code != 0) {
                heard = Heard {
                    codes,
                    ..Heard::in_words(&format!("{said} {line}"))
                };
            }
        }
        let Heard {
            codes,
            stage,
            diagnostic,
        } = heard;
        let code = match (codes.code, codes.enhanced, action) {
            (0, Some(enhanced), _) if enhanced.class >= 4 => u16::from(enhanced.class) * 100,
            (0, _, Action::Delayed) => 400,
            (0, ..) => 500,
            (code, ..) => code,
        };
        let class = classify(&Said {
            stage,
            code,
            enhanced: codes.enhanced,
            text: &diagnostic,
        });
        Recipient {
            final_recipient: Some(found.address.clone()),
            original_recipient: None,
            action,
            code,
            enhanced: codes.enhanced,
            remote_mta: None,
            stage,
            diagnostic: if diagnostic.is_empty() {
                action.name().to_owned()
            } else {
                diagnostic
            },
            class,
        }
    }
}

/// Adds the words of the text to a result from fields.
fn complete_by_words(result: &mut Recipient, words: Recipient) {
    let generic = result
        .enhanced
        .is_none_or(|code| (code.subject, code.detail) == (0, 0));
    let no_reply = result.code.is_multiple_of(100);
    let same_kind = result.code / 100 == words.code / 100;
    if no_reply && !words.code.is_multiple_of(100) && (generic || same_kind)
        || result.class == Class::Unknown && words.class != Class::Unknown && same_kind
    {
        result.code = words.code;
        if words.enhanced.is_some() || !same_kind {
            result.enhanced = words.enhanced;
        }
        result.diagnostic = words.diagnostic;
    }
    result.stage = result.stage.or(words.stage);
    result.class = classify(&result.said());
}

/// Adds the fields of a result without an address to the recipient that the text names.
pub(super) fn complete(recipient: &mut Recipient, result: Recipient) {
    recipient.action = result.action;
    recipient.remote_mta = result.remote_mta;
    if !result.code.is_multiple_of(100) || recipient.code.is_multiple_of(100) {
        recipient.code = result.code;
    }
    let generic = result
        .enhanced
        .is_none_or(|code| (code.subject, code.detail) == (0, 0));
    if recipient.enhanced.is_none() || !generic {
        recipient.enhanced = result.enhanced;
    }
    if !result.code.is_multiple_of(100) {
        recipient.diagnostic = result.diagnostic;
    }
    recipient.class = classify(&recipient.said());
}

fn certainty(letter: &Letter<'_>, phrases: &Phrases, report: bool) -> Option<Certainty> {
    if report {
        return Some(Certainty::Known);
    }
    if letter.origin == Origin::Other || letter.subject.notice || phrases.notice {
        return None;
    }
    let words = phrases.system.is_some() || phrases.failure || phrases.delay;
    let failed = letter.mail.header_raw("X-Failed-Recipients").is_some();
    match letter.origin {
        _ if failed => Some(Certainty::Known),
        Origin::Daemon if phrases.system.is_some() => Some(Certainty::Known),
        Origin::Daemon if letter.subject.fits || words => Some(Certainty::Likely),
        Origin::Daemon if letter.null => Some(Certainty::Unlikely),
        Origin::Program if phrases.system.is_some() || letter.subject.fits && words => {
            Some(Certainty::Maybe)
        }
        _ => None,
    }
}

fn system(letter: &Letter<'_>, phrases: &Phrases) -> System {
    let mail = letter.mail;
    let gmail = mail.header_raw("X-Google-DKIM-Signature").is_some()
        || mail.header_raw("X-Gm-Message-State").is_some()
        || letter.text.contains("googlemail");
    match phrases.system {
        Some(_) if gmail => System::Gmail,
        Some(system) => system,
        None => System::Generic,
    }
}
