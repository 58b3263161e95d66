//! The words of replies, and the classes that they tell.
//!
//! The file `words.txt` has the patterns. [`plain`] removes from a text all that is no word of the
//! server: addresses, host names, links and codes. A host may be called `spamfilter`, and a link
//! may lead to a page about quotas.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};

use super::{Class, cut_at, rules::Rules};

/// The most bytes of a text that count.
const READ_MAX: usize = 2000;

/// The classes that the words of a text tell, the first rule first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// By words that name one reason.
    pub(super) clear: Vec<Class>,
    /// By words that many replies have.
    pub(super) vague: Vec<Class>,
}

/// A rule of the file: its class, and whether its words are clear.
type Rule = (Class, bool);

#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static RULES: LazyLock<Rules<Rule>> =
    LazyLock::new(|| Rules::compile(include_str!("words.txt"), rule).expect("a file of rules"));

/// The rule of a head like `class` or `class, vague`.
fn rule(head: &str) -> Option<Rule> {
    let (name, clear) = match head.strip_suffix(", vague") {
        Some(name) => (name, false),
        None => (head, true),
    };
    Some((Class::named(name)?, clear))
}

/// The classes that the words of a text tell.
pub(super) fn told(text: &str) -> Told {
    let mut told = Told::default();
    for (class, clear) in RULES.find(&plain(text, READ_MAX)) {
        let list = if clear {
            &mut told.clear
        } else {
            &mut told.vague
        };
        list.push(class);
    }
    told
}

/// The names of block lists. Host names and links with them count as words.
const LISTS: [&str; 11] = [
    "spamhaus",
    "spamcop",
    "sorbs",
    "barracudacentral",
    "abuseat",
    "uceprotect",
    "dnsbl",
    "senderscore",
    "surbl",
    "uribl",
    "rbl.",
];

#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static NAMES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(https?://\S*)",
        r#"|([^\s<>()\[\]:;,"'=]+@[^\s<>()\[\]:;,"'=]*)"#,
        r"|((?:[a-z0-9_-]+\.){2,}[a-z][a-z0-9-]+(?-u:\b))",
        r"|(?-u:\b)((?:host|server|at|from|by|mx|mta|with|to|for) )([a-z0-9_-]+\.[a-z]{2,}(?-u:\b))",
        r"|((?-u:\b)[245]\d\d[ -]#?[245]\.\d{1,3}\.\d{1,3}(?-u:\b)|(?-u:\b)[45]\d\d-)",
        r"|(\(in reply to [^)]*\)|delivery temporarily suspended:?)",
    ))
    .expect("a pattern")
});

/// The host before its reply. `#` stands for its name.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static SAID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?-u:\b)(?:remote |smtp )?(?:host|server)(?: #)? ?(?:\[[^\]]{0,60}\]|\([^)]{0,60}\))?",
        r":? ?(?:said|says|replied|returned|responded)(?-u:\b)(?: with)?:?",
        r"|(?-u:\b)(?:host|server) #? ?\[[^\]]{0,60}\]:",
    ))
    .expect("a pattern")
});

/// Names of Exchange, which look like host names and are words.
const EXCHANGE: [&str; 5] = ["resolver.", "transport.", "stordrv", "storedrv", "routing."];

/// The text in lower case and on one line. `@` stands for each address, and `#` for each host name.
/// Links, codes and angle brackets are gone. No more than `max` bytes of the text count.
pub(super) fn plain(text: &str, max: usize) -> String {
    let lower = cut_at(text, max).to_lowercase();
    let lower = lower.replace(['\u{2019}', '\u{b4}', '`'], "'");
    let named = NAMES.replace_all(&lower, |found: &Captures<'_>| -> Cow<'static, str> {
        let whole = found.get(0).map_or("", |whole| whole.as_str());
        if LISTS.iter().any(|list| whole.contains(list)) {
            return whole.to_owned().into();
        }
        if found.get(2).is_some() {
            return "@".into();
        }
        if found.get(3).is_some() {
            let is_word = EXCHANGE.iter().any(|name| whole.starts_with(name));
            return if is_word {
                whole.to_owned().into()
            } else {
                "#".into()
            };
        }
        match found.get(4) {
            Some(before) => format!("{}#", before.as_str()).into(),
            None => " ".into(),
        }
    });
    let mut out = String::with_capacity(named.len());
    for word in SAID
        .replace_all(&named, " ")
        .replace("e-mail", "email")
        .split(|c: char| c.is_whitespace() || "<>\"".contains(c))
        .filter(|word| !word.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_words() {
        for (text, expected) in [
            (
                "host spamfilter.x.example[192.0.2.1] said: 550 5.1.1 <spam@x.example>: User unknown",
                "@ : user unknown",
            ),
            (
                "550-5.1.1 The email account 550-5.1.1 that you tried",
                "the email account that you tried",
            ),
            (
                "blocked using zen.spamhaus.org; see https://help.x.example/quota",
                "blocked using zen.spamhaus.org; see",
            ),
            ("E-Mail to relay.example isn\u{2019}t", "email to # isn't"),
            (
                "RESOLVER.ADR.RecipNotFound; not found",
                "resolver.adr.recipnotfound; not found",
            ),
            ("no (in reply to MAIL FROM command)", "no"),
        ] {
            assert_eq!(plain(text, READ_MAX), expected);
        }
    }
}
