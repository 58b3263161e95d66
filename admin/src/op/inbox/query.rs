//! The search: words, `-word`, and words that name a field, such as `from:ann`.

use postrider_store::Time;
use postrider_webhook::message::{NameAddress, Parsed};

use super::{
    super::time_or_date,
    SEEN,
    list::{Facts, InboxState},
    message::{files, is_shown},
};
use crate::AdminError;

/// The most terms of a search.
const TERMS_MAX: usize = 50;

/// What is searched for. All terms have to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Query {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    /// The term must not hold.
    not: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Word(String),
    From(String),
    To(String),
    Subject(String),
    Login(String),
    MessageId(String),
    Before(Time),
    After(Time),
    Larger(u64),
    Smaller(u64),
    Unread,
    Is(Vec<InboxState>),
    HasFile,
}

impl Query {
    /// Reads a search.
    ///
    /// # Errors
    /// If a term has a value that its field does not take.
    pub(super) fn parse(text: &str) -> Result<Self, AdminError> {
        let words = words(text);
        if words.len() > TERMS_MAX {
            let text = format!("a search has {TERMS_MAX} words at most");
            return Err(AdminError::invalid(text).at("query"));
        }
        let terms: Result<Vec<Term>, AdminError> =
            words.iter().map(|word| Term::read(word)).collect();
        Ok(Self { terms: terms? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether the terms hold that need no bytes of the message. `unread` and the rest are of the
    /// record.
    pub(super) fn may_match(&self, facts: &Facts<'_>) -> bool {
        self.terms.iter().all(|term| {
            let holds = match &term.what {
                What::Before(time) => facts.time < *time,
                What::After(time) => facts.time >= *time,
                What::Larger(bytes) => facts.size > *bytes,
                What::Smaller(bytes) => facts.size < *bytes,
                What::Unread => facts
                    .flags
                    .is_some_and(|flags| !flags.iter().any(|it| it == SEEN)),
                What::Is(states) => states.contains(&facts.state),
                What::Login(login) => !facts.login.is_empty() && has(facts.login, login),
                _ => return true,
            };
            holds != term.not
        })
    }

    /// Whether the other terms hold.
    pub(super) fn matches(&self, facts: &Facts<'_>, parsed: &Parsed) -> bool {
        let anybody = |people: &[NameAddress], part: &str| {
            let mut people = people.iter();
            people.any(|it| has(&it.name, part) || has(&it.address, part))
        };
        let mut plain: Option<String> = None;
        self.terms.iter().all(|term| {
            let holds = match &term.what {
                What::From(part) => has(&facts.sender, part) || anybody(&parsed.from, part),
                What::To(part) => {
                    has(&facts.recipient, part)
                        || anybody(&parsed.to, part)
                        || anybody(&parsed.cc, part)
                }
                What::Subject(part) => has(&parsed.subject, part),
                What::MessageId(part) => has(&parsed.message_id, part),
                What::HasFile => files(&parsed.structure).iter().any(is_shown),
                What::Word(part) => {
                    let fields = [
                        &facts.sender,
                        &facts.recipient,
                        &parsed.subject,
                        &parsed.message_id,
                        &parsed.text,
                    ];
                    fields.into_iter().any(|field| has(field, part))
                        || [&parsed.from, &parsed.to, &parsed.cc]
                            .into_iter()
                            .any(|people| anybody(people, part))
                        || files(&parsed.structure)
                            .iter()
                            .any(|file| has(&file.name, part))
                        || has(
                            plain.get_or_insert_with(|| without_tags(&parsed.html)),
                            part,
                        )
                }
                _ => return true,
            };
            holds != term.not
        })
    }
}

/// Whether a text has a part, which is in lower case. The case does not matter.
fn has(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(part)
}

/// HTML without what stands in angle brackets.
fn without_tags(html: &str) -> String {
    let mut plain = String::with_capacity(html.len());
    let mut within = false;
    for letter in html.chars() {
        match letter {
            '<' => within = true,
            '>' => within = false,
            letter if !within => plain.push(letter),
            _ => {}
        }
    }
    plain
}

/// The words of a search. Spaces in double quotes belong to a word; the quotes do not.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            letter if letter.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            letter => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

impl Term {
    fn read(word: &str) -> Result<Self, AdminError> {
        let (not, word) = match word.strip_prefix('-') {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, word),
        };
        let what = match word.split_once(':') {
            Some((_, "")) | None => What::Word(word.to_lowercase()),
            Some((field, value)) => What::read(&field.to_lowercase(), value)?
                .unwrap_or_else(|| What::Word(word.to_lowercase())),
        };
        Ok(Self { not, what })
    }
}

impl What {
    /// Reads the value of a field. None: there is no such field.
    fn read(field: &str, value: &str) -> Result<Option<Self>, AdminError> {
        let part = value.to_lowercase();
        let wrong = |kinds: &str| {
            let text = format!("{field}:{value} is not known; there is {kinds}");
            AdminError::invalid(text).at("query")
        };
        Ok(Some(match field {
            "from" => Self::From(part),
            "to" | "cc" => Self::To(part),
            "subject" => Self::Subject(part),
            "login" => Self::Login(part),
            "message-id" => Self::MessageId(part),
            "before" => Self::Before(time(field, value)?),
            "after" => Self::After(time(field, value)?),
            "larger" => Self::Larger(bytes(field, value)?),
            "smaller" => Self::Smaller(bytes(field, value)?),
            "has" => match part.as_str() {
                "attachment" | "attachments" | "file" | "files" => Self::HasFile,
                _ => return Err(wrong("has:attachment")),
            },
            "is" => match part.as_str() {
                "unread" => Self::Unread,
                "sent" => Self::Is(InboxState::SENT.into()),
                "received" => Self::Is(vec![InboxState::Received, InboxState::Report]),
                name => {
                    let state = InboxState::ALL.into_iter().find(|it| it.name() == name);
                    let names = InboxState::ALL
                        .map(|it| format!("is:{}", it.name()))
                        .join(", ");
                    let kinds = format!("is:unread, is:sent, is:received, {names}");
                    Self::Is(vec![state.ok_or_else(|| wrong(&kinds))?])
                }
            },
            _ => return Ok(None),
        }))
    }
}

/// A day or a time: `2026-11-30` in UTC, or RFC 3339.
fn time(field: &str, value: &str) -> Result<Time, AdminError> {
    time_or_date(value).ok_or_else(|| {
        let text = format!("{field}:{value} is no time; write {field}:2026-11-30");
        AdminError::invalid(text).at("query")
    })
}

/// A number of bytes: `500`, `20k`, `5M`.
fn bytes(field: &str, value: &str) -> Result<u64, AdminError> {
    let lower = value.to_lowercase();
    let lower = lower.trim_end_matches('b');
    let (digits, unit) = match lower.char_indices().last() {
        Some((at, 'k')) => (lower.get(..at), 1000),
        Some((at, 'm')) => (lower.get(..at), 1_000_000),
        _ => (Some(lower), 1),
    };
    let number = digits.and_then(|digits| digits.parse::<u64>().ok());
    number
        .map(|number| number.saturating_mul(unit))
        .ok_or_else(|| {
            let text = format!("{field}:{value} is no size; write {field}:20k or {field}:5M");
            AdminError::invalid(text).at("query")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<(bool, What)> {
        let query = Query::parse(text).unwrap();
        query
            .terms
            .into_iter()
            .map(|it| (it.not, it.what))
            .collect()
    }

    #[test]
    fn a_search_has_words_and_fields() {
        let word = |text: &str| What::Word(text.to_owned());
        assert_eq!(
            terms("Hello -\"two words\" from:Ann \"subject:the bill\" - http://a.test/"),
            [
                (false, word("hello")),
                (true, word("two words")),
                (false, What::From("ann".into())),
                (false, What::Subject("the bill".into())),
                (false, word("-")),
                (false, word("http://a.test/")),
            ]
        );
        assert_eq!(
            terms("larger:20k -smaller:5MB is:unread has:attachment is:failed"),
            [
                (false, What::Larger(20_000)),
                (true, What::Smaller(5_000_000)),
                (false, What::Unread),
                (false, What::HasFile),
                (false, What::Is(vec![InboxState::Failed])),
            ]
        );
        let day = Time::from("2026-11-30T00:00:00Z".parse::<jiff::Timestamp>().unwrap());
        assert_eq!(
            terms("before:2026-11-30 after:2026-11-30T00:00:00Z"),
            [(false, What::Before(day)), (false, What::After(day))]
        );
        for wrong in ["before:soon", "larger:big", "is:blue", "has:wings"] {
            let error = Query::parse(wrong).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("query"), "{wrong}");
        }
    }
}
