//! The phrases that tell a bounce, and the system that wrote it.
//!
//! The file `phrases.txt` has the patterns.

use std::sync::LazyLock;

use super::{System, rules::Rules, words::plain};

/// The most bytes of a text that count.
const READ_MAX: usize = 8 * 1024;

/// The meaning of a phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phrase {
    /// A system begins its bounces so.
    Of(System),
    /// Something was not delivered.
    Failure,
    /// Something is late.
    Delay,
    /// The delivery has ended.
    End,
    /// A subject of bounces.
    Subject,
    /// Other mail about mail.
    Notice,
    /// Something was delivered.
    Success,
}

#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static RULES: LazyLock<Rules<Phrase>> =
    LazyLock::new(|| Rules::compile(include_str!("phrases.txt"), phrase).expect("a file of rules"));

fn phrase(head: &str) -> Option<Phrase> {
    Some(match head {
        "qmail" => Phrase::Of(System::Qmail),
        "exim" => Phrase::Of(System::Exim),
        "postfix" => Phrase::Of(System::Postfix),
        "sendmail" => Phrase::Of(System::Sendmail),
        "exchange" => Phrase::Of(System::Exchange),
        "gmail" => Phrase::Of(System::Gmail),
        "yahoo" => Phrase::Of(System::Yahoo),
        "carrier" => Phrase::Of(System::Carrier),
        "generic" => Phrase::Of(System::Generic),
        "failure" => Phrase::Failure,
        "delay" => Phrase::Delay,
        "end" => Phrase::End,
        "subject" => Phrase::Subject,
        "notice" => Phrase::Notice,
        "success" => Phrase::Success,
        _ => return None,
    })
}

/// The statements of a text's phrases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Phrases {
    /// The system whose bounces begin like this text.
    pub(super) system: Option<System>,
    /// The text tells of a failure.
    pub(super) failure: bool,
    /// The text tells of a delay, and not of the end of a delivery.
    pub(super) delay: bool,
    /// The text is about mail, and is not a bounce.
    pub(super) notice: bool,
}

/// The phrases of a text.
pub(super) fn of_text(text: &str) -> Phrases {
    let found = RULES.find(&plain(text, READ_MAX));
    let has = |phrase| found.contains(&phrase);
    let system = found.iter().find_map(|phrase| match phrase {
        Phrase::Of(system) => Some(*system),
        _ => None,
    });
    let success = has(Phrase::Success) && !has(Phrase::Failure);
    Phrases {
        system,
        failure: has(Phrase::Failure),
        delay: has(Phrase::Delay) && !has(Phrase::End),
        notice: has(Phrase::Notice) || success,
    }
}

/// The phrases of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    /// Bounces have such a subject. An empty one is one too.
    pub(super) fits: bool,
    /// The message is late.
    pub(super) delay: bool,
    /// The mail is about mail, and is not a bounce.
    pub(super) notice: bool,
}

/// The phrases of a subject.
pub(super) fn of_subject(subject: &str) -> Subject {
    let found = RULES.find(&plain(subject, READ_MAX));
    let late = ["(delay)", "delayed", "delay)", "still being retried"];
    let lower = subject.to_lowercase();
    Subject {
        fits: found.contains(&Phrase::Subject),
        delay: late.iter().any(|word| lower.contains(word)),
        notice: found.contains(&Phrase::Notice),
    }
}
