//! Bounces in words, of systems that do not follow RFC 3464 or whose machine-readable part got
//! lost.
//!
//! First, phrases tell the system. Then the text before the returned message gives the addresses,
//! and the words on each of them. Mail that cannot come from a mailer daemon does not count.

use std::sync::LazyLock;

use mail_parser::Message;
use regex::Regex;

use super::{
    Format, RECIPIENTS_MAX, Recipient, Report, Said, System, address, classify, codes, one_line,
};
use crate::{Stage, dsn::Action};

/// The most bytes of a text.
const READ_MAX: usize = 64 * 1024;
/// The most lines of words on one address.
const SAID_MAX: usize = 12;

/// The phrases of a system's bounces, in lower case.
struct Words {
    system: System,
    /// A bounce has one of these phrases.
    text: &'static [&'static str],
}

const SYSTEMS: [Words; 9] = [
    Words {
        system: System::Qmail,
        text: &[
            "this is the qmail-send program",
            "i'm afraid i wasn't able to deliver your message to the following addresses",
            "i wasn't able to deliver your message to the following addresses",
        ],
    },
    Words {
        system: System::Exim,
        text: &[
            "this message was created automatically by mail delivery software",
            "a message that you sent could not be delivered to one or more of its recipients",
            "a message that you sent has not yet been delivered to one or more of its recipients",
        ],
    },
    Words {
        system: System::Postfix,
        text: &[
            "this is the mail system at host",
            "this is the postfix program at host",
            "i'm sorry to have to inform you that your message could not be delivered",
        ],
    },
    Words {
        system: System::Sendmail,
        text: &[
            "the following addresses had permanent fatal errors",
            "the following addresses had transient non-fatal errors",
            "transcript of session follows",
            "this is a warning message only",
        ],
    },
    Words {
        system: System::Exchange,
        text: &[
            "delivery has failed to these recipients or groups",
            "delivery has failed to these recipients or distribution lists",
            "did not reach some or all of the intended recipients",
            "the following recipient(s) could not be reached",
            "delivery is delayed to these recipients or groups",
            "fehler bei der nachrichtenzustellung an folgende empf\u{e4}nger oder gruppen",
            "\u{e9}chec de la remise aux destinataires ou groupes suivants",
            "error de entrega a estos destinatarios o grupos",
            "your message wasn't delivered to",
            "couldn't be delivered to",
        ],
    },
    Words {
        system: System::Gmail,
        text: &[
            "your message wasn't delivered to",
            "the response from the remote server was",
            "there was a temporary problem delivering your message to",
            "delivery to the following recipient failed permanently",
            "delivery to the following recipients failed permanently",
            "delivery to the following recipient has been delayed",
        ],
    },
    Words {
        system: System::Yahoo,
        text: &["sorry, we were unable to deliver your message to the following address"],
    },
    Words {
        system: System::Carrier,
        text: &[
            "\u{6b21}\u{306e}\u{3042}\u{3066}\u{5148}\u{3078}\u{306e}\u{30e1}\u{30c3}\u{30bb}\u{30fc}\u{30b8}\u{306f}\u{30a8}\u{30e9}\u{30fc}\u{306e}\u{305f}\u{3081}\u{9001}\u{4fe1}\u{3067}\u{304d}\u{307e}\u{305b}\u{3093}\u{3067}\u{3057}\u{305f}",
            "\u{5b9b}\u{5148}\u{4e0d}\u{660e}",
            "\u{9001}\u{4fe1}\u{3067}\u{304d}\u{307e}\u{305b}\u{3093}\u{3067}\u{3057}\u{305f}",
        ],
    },
    Words {
        system: System::Generic,
        text: &[
            "your message to the following recipients cannot be delivered",
            "could not deliver message to the following recipient",
            "had permanent fatal delivery errors",
        ],
    },
];

/// The phrases of other systems for a failure.
const GENERIC: [&str; 14] = [
    "could not be delivered",
    "couldn't be delivered",
    "cannot be delivered",
    "can not be delivered",
    "was not delivered",
    "wasn't delivered",
    "has not been delivered",
    "undeliverable",
    "undelivered",
    "delivery failed",
    "delivery failure",
    "failed to deliver",
    "unable to deliver",
    "returned to sender",
];

/// The phrases for a delay.
const DELAYS: [&str; 10] = [
    "has not yet been delivered",
    "is delayed",
    "has been delayed",
    "warning message only",
    "transient non-fatal errors",
    "you do not need to resend",
    "will continue to be attempted",
    "will keep trying",
    "delivery delayed",
    "delivery attempts will continue",
];

/// The phrases for a permanent failure. They count more than the phrases for a delay.
const ENDS: [&str; 5] = [
    "permanent error",
    "permanent fatal",
    "failed permanently",
    "giving up",
    "given up",
];

/// The beginnings of the line before the returned message.
const RETURNED: [&str; 17] = [
    "-- the header and top",
    "--- below this line is a copy of the message",
    "--- enclosed is a copy of the message",
    "------ this is a copy of the message",
    "------ this is a copy of your message",
    "----- original message",
    "-----original message",
    "--- original message",
    "original message headers",
    "original message header:",
    "----- message header follows",
    "----- unsent message follows",
    "----- returned message follows",
    "--- the header of the original",
    "--- the body of the message",
    "----- original message header",
    "original message follows",
];

const DAEMONS: [&str; 11] = [
    "mdaemon",
    "mailer-daemon",
    "mailerdaemon",
    "mail-daemon",
    "maildaemon",
    "mailer_daemon",
    "postmaster",
    "mail_delivery_subsystem",
    "bounce",
    "bounces",
    "microsoftexchange329e71ec88ae4615bbc36ab6ce41109e",
];

const SUBJECTS: [&str; 18] = [
    "undeliver",
    "deliver",
    "returned mail",
    "mail returned",
    "failure notice",
    "delivery status",
    "message not sent",
    "could not send",
    "mail system error",
    "mail error",
    "non remis",
    "unzustellbar",
    "no se puede entregar",
    "bounce",
    "failed",
    "warning: ",
    "mail delivery",
    "error",
];

#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static MESSAGE_ID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?im)^[ \t]*message-id:\s*(<[^<>\s]{1,900}>)").expect("a pattern")
});

pub(super) fn read(mail: &Message<'_>, returned: Option<String>) -> Option<Report> {
    if !may_be_a_daemons(mail) {
        return None;
    }
    let text = mail.body_text(0)?;
    let text = cut_at(&text, READ_MAX);
    let lower = text.to_lowercase();
    let system = system_of(mail, &lower)?;
    let (told, copy) = split_copy(text, &lower);
    let action = action_of(mail, &lower);
    let mut recipients = Vec::new();
    for (address, said) in recipients_of(mail, told) {
        let codes = codes::find(&said);
        if system == System::Generic && codes.code == 0 && codes.enhanced.is_none() {
            continue;
        }
        recipients.push(recipient(address, action, &said, codes));
    }
    if recipients.is_empty() {
        return None;
    }
    let in_copy = copy.and_then(|copy| MESSAGE_ID.captures(copy));
    let original_message_id = returned.or_else(|| {
        let found = in_copy?;
        Some(found.get(1)?.as_str().to_owned())
    });
    Some(Report {
        format: Format::Text(system),
        envid: None,
        reporting_mta: None,
        recipients,
        original_message_id,
    })
}

fn cut_at(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

/// A mailer daemon may have written the mail: it has the null reverse-path or the address of a
/// daemon, and is neither a reply nor from a list.
fn may_be_a_daemons(mail: &Message<'_>) -> bool {
    let raw = |name: &str| {
        let value = mail.header_raw(name);
        value.map(|value| value.trim().to_lowercase())
    };
    let is_daemon = from_local(mail).is_some_and(|local| is_daemon(&local));
    let others = [
        "List-Id",
        "List-Post",
        "List-Unsubscribe",
        "X-Autoreply",
        "X-Autorespond",
    ];
    if others.iter().any(|name| raw(name).is_some()) {
        return false;
    }
    let replied = raw("Auto-Submitted").is_some_and(|value| value.starts_with("auto-replied"));
    let null = raw("Return-Path").is_some_and(|path| path == "<>");
    // A vacation notice has the null reverse-path too.
    is_daemon || (null && !replied)
}

fn from_local(mail: &Message<'_>) -> Option<String> {
    let address = mail.from()?.first()?.address()?;
    let local = address.split('@').next()?;
    Some(local.to_lowercase())
}

fn is_daemon(local: &str) -> bool {
    DAEMONS.contains(&local)
}

fn system_of(mail: &Message<'_>, lower: &str) -> Option<System> {
    let has = |words: &&Words| words.text.iter().any(|phrase| lower.contains(phrase));
    let mut known = SYSTEMS.iter().filter(has).map(|words| words.system);
    let gmail = mail.header_raw("X-Google-DKIM-Signature").is_some()
        || mail.header_raw("X-Gm-Message-State").is_some()
        || lower.contains("googlemail");
    if let Some(first) = known.next() {
        return Some(if gmail { System::Gmail } else { first });
    }
    let daemon = from_local(mail).is_some_and(|local| is_daemon(&local));
    let subject = mail.subject().unwrap_or_default().to_lowercase();
    let fits = daemon
        && SUBJECTS.iter().any(|word| subject.contains(word))
        && (GENERIC.iter().any(|phrase| lower.contains(phrase))
            || DELAYS.iter().any(|phrase| lower.contains(phrase)));
    fits.then_some(System::Generic)
}

fn action_of(mail: &Message<'_>, lower: &str) -> Action {
    let subject = mail.subject().unwrap_or_default().to_lowercase();
    let delayed = DELAYS.iter().any(|phrase| lower.contains(phrase))
        || subject.contains("(delay)")
        || subject.contains("delayed");
    let for_good = ENDS.iter().any(|phrase| lower.contains(phrase));
    if delayed && !for_good {
        Action::Delayed
    } else {
        Action::Failed
    }
}

/// Splits the text into the words of the system and the returned message.
fn split_copy<'a>(text: &'a str, lower: &str) -> (&'a str, Option<&'a str>) {
    let mut at = 0;
    for (line, lower_line) in text.lines().zip(lower.lines()) {
        if RETURNED
            .iter()
            .any(|marker| lower_line.trim_start().starts_with(marker))
            || lower_line.trim() == "message header:"
        {
            return (text.get(..at).unwrap_or(text), text.get(at..));
        }
        at += line.len();
        // The line end has one byte or two.
        at += match text.get(at..) {
            Some(rest) if rest.starts_with("\r\n") => 2,
            Some("") | None => 0,
            Some(_) => 1,
        };
    }
    (text, None)
}

/// The addresses, and the words on each.
fn recipients_of(mail: &Message<'_>, told: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut lines_left = 0;
    let own = own_addresses(mail);
    for line in told.lines() {
        if line.trim_start().starts_with('>') {
            continue;
        }
        if let Some((address, rest)) = leading_address(line)
            && !own.contains(&address.to_lowercase())
        {
            let known = found
                .iter()
                .position(|(known, _)| known.eq_ignore_ascii_case(&address));
            match known {
                Some(at) => {
                    // The next words are on that address.
                    let again = found.remove(at);
                    found.push(again);
                }
                None if found.len() >= RECIPIENTS_MAX => break,
                None => found.push((address, String::new())),
            }
            lines_left = SAID_MAX;
            say(&mut found, rest);
        } else if lines_left > 0 && !line.trim().is_empty() {
            lines_left -= 1;
            say(&mut found, line);
        }
    }
    let failed = mail.header_raw("X-Failed-Recipients").unwrap_or_default();
    for address in failed.split(',').filter_map(address) {
        let known = found
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(&address));
        if !known && found.len() < RECIPIENTS_MAX {
            found.push((address, one_line(told)));
        }
    }
    found
}

fn say(found: &mut [(String, String)], line: &str) {
    if let Some((_, said)) = found.last_mut() {
        said.push(' ');
        said.push_str(line.trim());
    }
}

/// The addresses of the author. They are no recipients.
fn own_addresses(mail: &Message<'_>) -> Vec<String> {
    let from = mail.from().and_then(|from| from.first());
    let from = from.and_then(|from| from.address());
    from.into_iter().map(str::to_lowercase).collect()
}

/// An address at the beginning of a line: alone, before a colon, or before the words on it.
fn leading_address(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    let line = line
        .trim_start_matches(['*', '-', '>', '\u{2022}', '\u{b7}'])
        .trim_start();
    for word in [
        "to:",
        "recipient:",
        "failed recipient:",
        "rcpt to:",
        "final-recipient: rfc822;",
        "smtp:",
        "mailto:",
    ] {
        if let Some(rest) = line.get(..word.len())
            && rest.eq_ignore_ascii_case(word)
        {
            return leading_address(line.get(word.len()..)?);
        }
    }
    let (first, rest) = match line.strip_prefix('<') {
        Some(inner) => inner.split_once('>')?,
        None => line.split_once([' ', '\t']).unwrap_or((line, "")),
    };
    let rest = rest.trim_start();
    let bare = !line.starts_with('<');
    // In running text, words follow an address at the beginning of a line.
    let alone = rest.is_empty()
        || rest.starts_with([':', '(', '<', '-'])
        || first.ends_with(':')
        || (!bare && !rest.starts_with(char::is_alphabetic))
        || rest.to_lowercase().starts_with("on ")
        || rest.starts_with("...");
    if !alone {
        return None;
    }
    Some((address(first)?, rest.trim_start_matches([':', ' '])))
}

fn recipient(address: String, action: Action, said: &str, codes: codes::Codes) -> Recipient {
    let mut code = codes.code;
    if code == 0
        && let Some(enhanced) = codes.enhanced
    {
        code = u16::from(enhanced.class) * 100;
    }
    let said = one_line(said);
    let stage = Stage::in_text(&said);
    let class = classify(&Said {
        stage,
        code,
        enhanced: codes.enhanced,
        text: &said,
    });
    Recipient {
        final_recipient: Some(address),
        original_recipient: None,
        action,
        code,
        enhanced: codes.enhanced,
        remote_mta: None,
        stage,
        diagnostic: if said.is_empty() {
            action.name().to_owned()
        } else {
            said
        },
        class,
    }
}
