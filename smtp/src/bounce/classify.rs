//! The meaning of a reply: its class, and whether it blames the recipient.
//!
//! These facts count, in this order:
//!
//! 1. The stage. Nothing that a server says before RCPT is about the recipient.
//! 2. The enhanced code, if it has the class of the reply code and names one reason.
//! 3. The words. Clear words count more than most enhanced codes, since many servers send one code
//!    for all.
//! 4. The enhanced codes that name no more than a subject, and the reply code.

use super::{
    Blame, Class,
    words::{self, Told},
};
use crate::{DeliveryStatus, EnhancedCode, Stage};

/// The statement of a server about one recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// The stage of the session. None if it is not known. The text may name it then.
    pub stage: Option<Stage>,
    /// The reply code. 400 or 500 stands for a status without a reply. 0 is neither.
    pub code: u16,
    /// The enhanced status code.
    pub enhanced: Option<EnhancedCode>,
    /// The text of the reply, or the words of a report. The beginning is enough.
    pub text: &'a str,
}

impl<'a> From<&'a DeliveryStatus> for Said<'a> {
    fn from(status: &'a DeliveryStatus) -> Self {
        Self {
            stage: status.stage(),
            code: status.code,
            enhanced: status.enhanced,
            text: &status.text,
        }
    }
}

/// The reason that a server gives.
#[must_use]
pub fn classify(said: &Said<'_>) -> Class {
    judge(said).class
}

/// Whether a final failure with these words blames the recipient's address.
///
/// Only a reply or a report can blame it (`code` is not 0). A reply before RCPT never does, and a
/// 4xx code or a text about a temporary state does on the third time at most. 550, 551 and 553
/// without a telling enhanced code or words blame at once only as a reply to RCPT or after the
/// data.
///
/// A refusal by policy ([`Class::Policy`]) blames nobody here. A caller may decide otherwise.
#[must_use]
pub fn blame(said: &Said<'_>) -> Blame {
    blame_for(said, &judge(said))
}

/// As [`blame`], if somebody who knows this server gives the class: a pattern of a known provider.
#[must_use]
pub fn blame_as(said: &Said<'_>, class: Class) -> Blame {
    let judged = Judged {
        class,
        evidence: Evidence::Words,
        stage: said.stage.or_else(|| Stage::in_text(said.text)),
    };
    blame_for(said, &judged)
}

fn blame_for(said: &Said<'_>, judged: &Judged) -> Blame {
    if said.code == 0 || judged.stage.is_some_and(Stage::is_without_recipient) {
        return Blame::No;
    }
    let surely = match judged.class {
        Class::UnknownMailbox => judged.evidence != Evidence::ReplyCode || judged.stage.is_some(),
        // The recipient's side sends its mail in a circle.
        Class::MailboxDisabled | Class::Loop => true,
        // The remote cannot route the message. The domain may be well for others.
        Class::Domain => said.enhanced.is_none_or(|code| code.subject != 4),
        Class::MailboxFull | Class::TooBig | Class::Unknown => false,
        _ => return Blame::No,
    };
    let for_now = said.code < 500 || {
        let lower = said.text.to_lowercase();
        lower.contains("temporar") || lower.contains("try again") || lower.contains("try later")
    };
    if surely && !for_now {
        Blame::Yes
    } else {
        Blame::OnThird
    }
}

/// The fact that gave the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    Enhanced,
    Words,
    ReplyCode,
}

struct Judged {
    class: Class,
    evidence: Evidence,
    stage: Option<Stage>,
}

fn judge(said: &Said<'_>) -> Judged {
    let stage = said.stage.or_else(|| Stage::in_text(said.text));
    let mut told = words::told(said.text);
    told.clear.retain(|class| fits(*class, stage));
    told.vague.retain(|class| fits(*class, stage));
    let enhanced = said
        .enhanced
        .filter(|code| said.code == 0 || said.code / 100 == u16::from(code.class));
    // Some servers refuse messages with the codes of AUTH.
    let login = stage == Some(Stage::Auth) || matches!(said.code, 525 | 530..=538);
    if login {
        // `Unknown user` is the user that logs in.
        told.clear.retain(|class| !class.is_of_recipient());
        told.vague.retain(|class| !class.is_of_recipient());
    }
    let telling = enhanced
        .and_then(telling)
        .filter(|class| fits(*class, stage) && (*class != Class::Login || login));
    let (class, evidence) = match (telling, told.clear.first().copied()) {
        (Some(code), Some(word)) => between(code, word, &told, enhanced),
        (Some(code), None) => (code, Evidence::Enhanced),
        (None, Some(word)) => (word, Evidence::Words),
        (None, None) => by_vague_facts(said.code, enhanced, &told, stage),
    };
    Judged {
        class,
        evidence,
        stage,
    }
}

/// Whether a reply at a stage can have this reason.
fn fits(class: Class, stage: Option<Stage>) -> bool {
    match stage {
        Some(Stage::Connect | Stage::Greeting | Stage::Ehlo | Stage::StartTls | Stage::Auth) => {
            !class.is_of_recipient()
                && !matches!(
                    class,
                    Class::Sender | Class::TooBig | Class::Spam | Class::Content
                )
        }
        Some(Stage::Mail) => !class.is_of_recipient(),
        Some(Stage::Rcpt | Stage::Data | Stage::EndOfData) | None => true,
    }
}

/// The class if enhanced code and words name different ones.
fn between(
    code: Class,
    word: Class,
    told: &Told,
    enhanced: Option<EnhancedCode>,
) -> (Class, Evidence) {
    let place = enhanced.map(|code| (code.subject, code.detail));
    if place == Some((2, 1)) && word == Class::RateLimited {
        return (Class::RecipientRate, Evidence::Words);
    }
    // The code 5.7.13 is for a login (RFC 5248 §3). Servers send it for a recipient too.
    if place == Some((7, 13)) && matches!(word, Class::Sender | Class::Login) {
        return (word, Evidence::Words);
    }
    let reliable = !matches!(
        place,
        Some((1, 1..=5 | 10) | (2, 1) | (4, _) | (5, 1 | 2 | 4..=6) | (7, 8..=12))
    );
    // The text may have more than one reason. A blocked host or a refused sender is the real one.
    let agreed = told.clear.contains(&code) && !matches!(word, Class::Blocked | Class::Sender);
    if reliable || agreed {
        (code, Evidence::Enhanced)
    } else {
        (word, Evidence::Words)
    }
}

/// The class of an enhanced code that names one reason (RFC 3463, RFC 5248 and its registry; 5xx
/// and above within a subject are Microsoft's).
fn telling(code: EnhancedCode) -> Option<Class> {
    Some(match (code.subject, code.detail) {
        (1, 1 | 3 | 6) => Class::UnknownMailbox,
        (1, 2 | 10) => Class::Domain,
        (1, 7 | 8) => Class::Sender,
        (2, 1) | (7, 13) => Class::MailboxDisabled,
        (2, 2) => Class::MailboxFull,
        (2, 3) | (3, 4) | (7, 16) => Class::TooBig,
        (2, 121 | 122) => Class::RecipientRate,
        (4, 1 | 2 | 316) => Class::Network,
        (4, 3 | 312) => Class::Dns,
        (4, 4) if code.class == 4 => Class::Dns,
        (4, 4 | 310) => Class::Domain,
        (4, 6 | 14) => Class::Loop,
        (5, 1 | 2 | 4 | 5 | 6) => Class::Protocol,
        (5, 3) => Class::Split,
        (7, 8 | 9 | 11 | 12) => Class::Login,
        // 7.30 tells nothing: it is for REQUIRETLS (RFC 8689), and Gmail's is about DKIM.
        (7, 10) => Class::Tls,
        // The mailbox or the domain has another owner than at the time that the message names (RFC
        // 7293 §7). Messages without such a demand arrive.
        (7, 17 | 18) => Class::Policy,
        (7, 20..=26 | 29 | 31 | 32 | 40 | 515) => Class::Authentication,
        (7, 27) => Class::Sender,
        (7, 28 | 705 | 708) => Class::RateLimited,
        (7, 511 | 606..=649) => Class::Blocked,
        _ => return None,
    })
}

fn by_vague_facts(
    code: u16,
    enhanced: Option<EnhancedCode>,
    told: &Told,
    stage: Option<Stage>,
) -> (Class, Evidence) {
    let hint = enhanced
        .and_then(|enhanced| hint(enhanced, code))
        .filter(|class| fits(*class, stage));
    if let Some(class @ (Class::Policy | Class::RateLimited)) = hint {
        return (class, Evidence::Enhanced);
    }
    let mut vague = told.vague.iter().copied();
    if let Some(word) = vague.find(|class| *class != Class::Unknown) {
        // At MAIL, a refusal without a clear reason is about the sender.
        let word = match word {
            Class::Policy if stage == Some(Stage::Mail) => Class::Sender,
            word => word,
        };
        return (word, Evidence::Words);
    }
    if let Some(class) = hint {
        return (class, Evidence::Enhanced);
    }
    let class = by_reply(code, stage);
    let refused = !told.vague.is_empty();
    match class {
        // The server refuses, and does not say why.
        Class::UnknownMailbox if refused => (Class::Unknown, Evidence::Words),
        class => (class, Evidence::ReplyCode),
    }
}

/// The class of an enhanced code that names no more than a subject.
fn hint(enhanced: EnhancedCode, code: u16) -> Option<Class> {
    // These codes stand for a mailbox. Servers send them with any enhanced code of their choice.
    let mailbox = matches!(code, 550 | 551 | 553);
    Some(match (enhanced.subject, enhanced.detail) {
        (1, 0 | 4) => Class::UnknownMailbox,
        (3, _) | (5, 0) if mailbox => return None,
        (3, 3) | (5, _) => Class::Protocol,
        (3, _) | (4, 5) => Class::System,
        (4, 0) if mailbox => return None,
        (4, _) => Class::Network,
        (6, _) => Class::Content,
        (7, 500..=599) if enhanced.class == 4 => Class::RateLimited,
        (7, _) => Class::Policy,
        _ => return None,
    })
}

/// The class of a reply code alone, at a stage.
const fn by_reply(code: u16, stage: Option<Stage>) -> Class {
    match stage {
        Some(Stage::Connect) => Class::Network,
        Some(Stage::StartTls) => Class::Tls,
        Some(Stage::Auth) if code >= 500 => Class::Login,
        Some(Stage::Greeting | Stage::Ehlo | Stage::Auth) => match code {
            0 => Class::Network,
            400..=499 => Class::System,
            500..=504 => Class::Protocol,
            _ => Class::Policy,
        },
        Some(Stage::Mail) => match code {
            0 => Class::Network,
            400..=499 => Class::System,
            500 | 502..=504 | 555 => Class::Protocol,
            525 | 530..=538 => Class::Login,
            552 => Class::TooBig,
            _ => Class::Sender,
        },
        Some(Stage::Data) => match code {
            0 => Class::Network,
            400..=499 => Class::System,
            500..=504 | 554 => Class::Protocol,
            _ => Class::Unknown,
        },
        Some(Stage::Rcpt | Stage::EndOfData) | None => match code {
            550 | 551 | 553 => Class::UnknownMailbox,
            510 | 511 | 513 => Class::UnknownMailbox,
            422 => Class::MailboxFull,
            441 | 442 | 447 => Class::Network,
            446 => Class::Loop,
            512 => Class::Domain,
            541 => Class::Spam,
            571 => Class::Policy,
            523 => Class::TooBig,
            552 if matches!(stage, Some(Stage::EndOfData)) => Class::TooBig,
            552 => Class::MailboxFull,
            554 if matches!(stage, Some(Stage::EndOfData)) => Class::Spam,
            521 | 556 => Class::Domain,
            500 if stage.is_some() => Class::Protocol,
            501..=504 | 555 => Class::Protocol,
            525 | 530 | 534 | 535 | 538 => Class::Login,
            421 | 431 | 432 | 451 | 452 | 454 => Class::System,
            _ => Class::Unknown,
        },
    }
}
