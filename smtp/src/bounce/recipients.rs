//! The failed recipients in the words of a system.
//!
//! Bounces name them in four ways. Each way is more certain than those below it:
//!
//! 1. at the beginning of a line, often with the reply behind or below;
//! 2. behind a label, like `Recipient: x@example.org`;
//! 3. in a reply or a transcript, like `550 <x@example.org>... User unknown`;
//! 4. within a sentence.
//!
//! Other addresses stand in the same places: the sender, people who help, Message-IDs. So an
//! address with a reply or clear words counts before all that have none.

use std::{collections::HashSet, sync::LazyLock};

use regex::Regex;

use super::{RECIPIENTS_MAX, address, codes, cut_at, returned, words};

/// The most lines of a text.
const LINES_MAX: usize = 3000;
/// The most lines of words on one address.
const SAID_MAX: usize = 12;
/// The most bytes of words on one address.
const SAID_BYTES_MAX: usize = 2000;

/// An address, and the words on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) address: String,
    pub(super) said: String,
    /// The words have a reply code, or name a reason.
    pub(super) strong: bool,
}

/// The addresses that the mail tells beside its text.
#[derive(Default)]
pub(super) struct Known {
    /// Author and addressees of the bounce, and the author of the message. In lower case.
    own: HashSet<String>,
    /// The recipients of the returned message, in lower case.
    to: HashSet<String>,
    /// X-Failed-Recipients, as written.
    failed: Vec<String>,
    /// The same in lower case.
    failed_lower: HashSet<String>,
}

impl Known {
    /// `own` is in lower case.
    pub(super) fn new(
        own: impl Iterator<Item = String>,
        to: impl Iterator<Item = String>,
        failed: Vec<String>,
    ) -> Self {
        let lower = failed.iter().map(|address| address.to_lowercase());
        Self {
            own: own.collect(),
            to: to.map(|address| address.to_lowercase()).collect(),
            failed_lower: lower.collect(),
            failed,
        }
    }

    fn is_own(&self, address: &str) -> bool {
        self.own.contains(&address.to_lowercase())
    }

    fn is_to(&self, address: &str) -> bool {
        self.to.contains(&address.to_lowercase()) || self.is_failed(address)
    }

    fn is_failed(&self, address: &str) -> bool {
        self.failed_lower.contains(&address.to_lowercase())
    }
}

/// The way in which a text names an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Line,
    Label,
    Reply,
    Sentence,
}

struct Candidate {
    address: String,
    place: Place,
    said: String,
    /// Another address follows directly. The words below that one are on this one too.
    listed: bool,
}

/// An address in a text. Quotes, brackets and punctuation end it.
macro_rules! address_pattern {
    () => {
        r#"(?:"[^"]{1,64}"|[^\s<>()\[\]:;,"'@|`][^\s<>()\[\]:;,"@|`]*)@(?:\[[0-9a-fA-F.:]+\]|[\p{L}0-9_-]+(?:\.[\p{L}0-9_-]+)*)"#
    };
}

#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(address_pattern!()).expect("a pattern"));

/// An address at the beginning of a line, with the marks of lists and links before it.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static LINE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"^(?:>>>)?[\s*\x{2022}\x{b7}\x{2013}#("'\[-]{0,20}(?:\d{1,3}[.)]\s+)?"#,
        r"(?i:(?:smtp|mailto|rfc822)[:;]\s*)?(<?)(",
        address_pattern!(),
        r#")(>?)["')\]]?"#,
    ))
    .expect("a pattern")
});

/// An address behind a label.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"^[\s*(-]{0,12}([\p{L}][^:;<>@]{0,70}?)[:;=]\s*(?i:(?:smtp|mailto|rfc822)[:;]\s*)?["'(<\[]{0,2}("#,
        address_pattern!(),
        ")",
    ))
    .expect("a pattern")
});

/// A label of an address that is no failed recipient.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static OTHER_LABEL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)(?-u:\b)from(?-u:\b)|sender|reply|contact|return-path|message-?id|message id|originator|help|support",
        r"|postmaster|reported|abuse|subject|(?-u:\b)date(?-u:\b)|^id(?-u:\b)|author|administrator|question|^cc$|^x-",
        r"|^von$|absender|exp\x{e9}diteur|remitente|mittente|visit|write to|forward|queue|assist",
    ))
    .expect("a pattern")
});

/// Words before an address that is no failed recipient.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static OTHER_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)(?:(?-u:\b)(?:from|by|sender|contact|write to|mail from|reply to|help|assistance|support|id)",
        r"|(?:forward\w*|question\w*|request\w*|complain\w*|report it) to|please (?:mail|email|e-mail|send)",
        r"|message-id|return-path|administrator\w*|postmaster)[^.!?@]{0,24}$",
    ))
    .expect("a pattern")
});

/// A reply in a transcript, or a command with the recipient.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static REPLY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?-u:\b)[45]\d\d[ -]|rcpt to|(?-u:\b)[45]\.\d{1,3}\.\d{1,3}(?-u:\b)")
        .expect("a pattern")
});

/// A link to the address before it.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static LINK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)<mailto:[^<>]*>|\[mailto:[^\[\]]*\]").expect("a pattern"));

/// The failed recipients in a text, and the words on each.
pub(super) fn find(text: &str, known: &Known) -> Vec<Found> {
    let text = LINK.replace_all(text, " ");
    let lines: Vec<&str> = text.lines().take(LINES_MAX).collect();
    let mut reader = Reader::default();
    for (at, line) in lines.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| lines.get(before));
        let after = lines.get(at + 1);
        reader.line(line, before.copied(), after.copied());
    }
    reader.share_words();
    let mut candidates = reader.candidates;
    if candidates
        .iter()
        .all(|candidate| known.is_own(&candidate.address))
    {
        let mut others = in_sentences(&lines, known);
        others.retain(|other| !known.is_own(&other.address) || candidates.is_empty());
        candidates.append(&mut others);
    }
    select(candidates, known)
}

#[derive(Default)]
struct Reader {
    candidates: Vec<Candidate>,
    /// The address that the words of the next lines are on.
    current: Option<usize>,
    lines_left: usize,
}

impl Reader {
    fn line(&mut self, line: &str, before: Option<&str>, after: Option<&str>) {
        let trimmed = line.trim();
        let quoted = trimmed.starts_with('>') && !trimmed.starts_with(">>>");
        if quoted || trimmed.is_empty() || is_summary(line, before, after) {
            return;
        }
        if trimmed == "--" {
            // A signature (RFC 3676 §4.3).
            self.lines_left = 0;
            return;
        }
        if let Some((address, rest)) = leading(line) {
            let listed = rest.trim().is_empty();
            self.open(address, Place::Line, rest);
            if let Some(candidate) = self.current.and_then(|at| self.candidates.get_mut(at)) {
                candidate.listed = listed;
            }
        } else if let Some((address, rest)) = labelled(line) {
            self.open(address, Place::Label, rest);
        } else if let Some(address) = replied(line) {
            self.open(address, Place::Reply, line);
        } else {
            self.say(line);
        }
    }

    /// The next words are on this address.
    fn open(&mut self, address: String, place: Place, rest: &str) {
        let same = |known: &Candidate| known.address.eq_ignore_ascii_case(&address);
        let at = match self.candidates.iter().position(same) {
            Some(at) => at,
            None if self.candidates.len() >= RECIPIENTS_MAX => return,
            None => {
                self.candidates.push(Candidate {
                    address,
                    place,
                    said: String::new(),
                    listed: false,
                });
                self.candidates.len() - 1
            }
        };
        if let Some(candidate) = self.candidates.get_mut(at) {
            candidate.place = candidate.place.min(place);
        }
        self.current = Some(at);
        self.lines_left = SAID_MAX;
        if !rest.trim().is_empty() {
            self.say(rest);
        }
    }

    fn say(&mut self, line: &str) {
        if self.lines_left == 0 {
            return;
        }
        self.lines_left -= 1;
        if let Some(candidate) = self.current.and_then(|at| self.candidates.get_mut(at)) {
            candidate.listed = candidate.listed && candidate.said.is_empty();
            if candidate.said.len() < SAID_BYTES_MAX {
                if !candidate.said.is_empty() {
                    candidate.said.push(' ');
                }
                candidate.said.push_str(cut_at(line.trim(), SAID_BYTES_MAX));
            }
        }
    }

    /// Words below the last of several addresses are on all of them.
    fn share_words(&mut self) {
        let mut below = String::new();
        for candidate in self.candidates.iter_mut().rev() {
            if !candidate.said.is_empty() {
                below.clone_from(&candidate.said);
            } else if candidate.listed {
                candidate.said.clone_from(&below);
            }
        }
    }
}

/// A line of a summary of the message: a header field beside another one, or one that never names a
/// failed recipient.
fn is_summary(line: &str, before: Option<&str>, after: Option<&str>) -> bool {
    if !returned::is_field(line) {
        return false;
    }
    let name = line.split(':').next().unwrap_or_default().trim();
    let alone = ["to", "cc"].iter().any(|to| name.eq_ignore_ascii_case(to));
    !alone
        || [before, after]
            .into_iter()
            .flatten()
            .any(returned::is_field)
}

/// An address at the beginning of a line: alone, or before the words on it.
fn leading(line: &str) -> Option<(String, &str)> {
    let found = LINE.captures(line)?;
    let whole = found.get(0)?;
    let rest = line.get(whole.end()..)?;
    let bracket = found.get(1).is_some_and(|bracket| !bracket.is_empty());
    let words = rest.trim_start();
    let apart = words.is_empty()
        || words.starts_with([':', ';', ',', '(', '<', '-', '[', '.', '=', '|', '#'])
        || words.starts_with(|c: char| c.is_ascii_digit())
        || rest.starts_with("  ")
        || rest.starts_with('\t')
        || words.to_lowercase().starts_with("on ")
        || bracket && !words.starts_with(char::is_alphabetic)
        // In running text, words follow an address too. Then they must name a reason.
        || rest.starts_with(' ') && words.len() < 300 && is_strong(words);
    if !apart {
        return None;
    }
    let rest = words.trim_start_matches([':', ';', ',', ' ', '.', '=']);
    Some((bare(found.get(2)?.as_str())?, rest))
}

fn labelled(line: &str) -> Option<(String, &str)> {
    let found = LABEL.captures(line)?;
    let label = found.get(1)?.as_str();
    if OTHER_LABEL.is_match(label) && !label.to_lowercase().contains("expanded from") {
        return None;
    }
    let address = bare(found.get(2)?.as_str())?;
    // The label may be the reason: `Unknown user: x@example.org`.
    Some((address, line))
}

/// The address in a reply or in a RCPT command.
fn replied(line: &str) -> Option<String> {
    let reply = REPLY.find(line)?;
    let rest = line.get(reply.end()..)?;
    for found in ADDRESS.find_iter(rest) {
        let before = rest.get(..found.start()).unwrap_or_default();
        if !OTHER_BEFORE.is_match(last_chars(before, 80)) {
            return bare(found.as_str());
        }
    }
    None
}

/// The addresses in paragraphs that tell of a failure.
fn in_sentences(lines: &[&str], known: &Known) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let paragraphs = lines.split(|line| line.trim().is_empty());
    for paragraph in paragraphs {
        let mut text = String::new();
        for line in paragraph {
            let trimmed = line.trim();
            if !trimmed.starts_with('>') && !returned::is_field(line) {
                text.push_str(trimmed);
                text.push(' ');
            }
        }
        for found in ADDRESS.find_iter(&text) {
            let before = text.get(..found.start()).unwrap_or_default();
            let Some(address) = bare(found.as_str()) else {
                continue;
            };
            let other = OTHER_BEFORE.is_match(last_chars(before, 80)) && !known.is_to(&address);
            let local = address.split('@').next().unwrap_or_default();
            if other || is_role(local) || candidates.len() >= RECIPIENTS_MAX {
                continue;
            }
            if !candidates
                .iter()
                .any(|known| known.address.eq_ignore_ascii_case(&address))
            {
                candidates.push(Candidate {
                    address,
                    place: Place::Sentence,
                    said: cut_at(&text, SAID_BYTES_MAX).to_owned(),
                    listed: false,
                });
            }
        }
    }
    candidates
}

/// The candidates that failed.
fn select(candidates: Vec<Candidate>, known: &Known) -> Vec<Found> {
    let mut all: Vec<(Place, Found)> = Vec::new();
    for candidate in candidates {
        let strong = is_strong(&candidate.said);
        let local = candidate.address.split('@').next().unwrap_or_default();
        if is_role(local) && !strong && !known.is_to(&candidate.address) {
            continue;
        }
        let found = Found {
            address: candidate.address,
            said: candidate.said,
            strong,
        };
        all.push((candidate.place, found));
    }
    for address in &known.failed {
        let same = |found: &Found| found.address.eq_ignore_ascii_case(address);
        let named = all.iter().position(|(_, found)| same(found));
        if let Some((place, _)) = named.and_then(|at| all.get_mut(at)) {
            *place = Place::Line;
        } else if all.len() < RECIPIENTS_MAX {
            let found = Found {
                address: address.clone(),
                said: String::new(),
                strong: false,
            };
            all.push((Place::Line, found));
        }
    }
    if !known.failed.is_empty() {
        all.retain(|(place, found)| {
            known.is_to(&found.address) || *place == Place::Line && found.strong
        });
    }
    let others = all.iter().any(|(_, found)| !known.is_own(&found.address));
    if others {
        all.retain(|(_, found)| !known.is_own(&found.address) || known.is_failed(&found.address));
    } else {
        // Some people write to themselves.
        all.retain(|(place, found)| {
            *place != Place::Sentence && found.strong || known.is_to(&found.address)
        });
    }
    best(all, known)
}

fn best(all: Vec<(Place, Found)>, known: &Known) -> Vec<Found> {
    let places = [Place::Line, Place::Label, Place::Reply, Place::Sentence];
    let strong = |place: Place| {
        let mut of_place = all.iter().filter(|(found, _)| *found == place);
        of_place.any(|(_, found)| found.strong)
    };
    let chosen = places.into_iter().find(|place| strong(*place));
    let chosen = chosen.or_else(|| all.iter().map(|(place, _)| *place).min());
    let of_place = |(place, found): (Place, Found)| (Some(place) == chosen).then_some(found);
    let mut found: Vec<Found> = all.into_iter().filter_map(of_place).collect();
    let fits = |found: &Found| found.strong || known.is_to(&found.address);
    if found.iter().any(fits) {
        found.retain(fits);
    } else if chosen == Some(Place::Sentence) && !known.to.is_empty() {
        // The returned message tells more.
        found.clear();
    }
    found
}

/// The words have a reply code, or name a reason.
pub(super) fn is_strong(said: &str) -> bool {
    let codes = codes::find(said);
    codes.code != 0
        || codes.enhanced.is_some_and(|code| code.class != 2)
        || !words::told(said).clear.is_empty()
}

/// The local-part of somebody who helps, not of a recipient.
fn is_role(local: &str) -> bool {
    let lower = local.to_lowercase();
    [
        "postmaster",
        "mailer-daemon",
        "abuse",
        "support",
        "help",
        "helpdesk",
        "hostmaster",
    ]
    .contains(&lower.as_str())
}

/// The address without the marks around it.
fn bare(found: &str) -> Option<String> {
    address(found.trim_end_matches(['.', '-', '_', '\'']))
}

fn last_chars(text: &str, max: usize) -> &str {
    let mut from = text.len().saturating_sub(max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or(text)
}
