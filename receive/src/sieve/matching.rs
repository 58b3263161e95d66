//! Comparisons of a value with a key: comparators (RFC 4790), match types (RFC 5228 §2.7.1),
//! relations (RFC 5231) and regular expressions.

use std::{borrow::Cow, cmp::Ordering};

use regex::{Regex, RegexBuilder};

use super::limits::{Effort, Exhausted};

/// The most bytes of a compiled regular expression, and of its memory while it runs.
const REGEX_MAX: usize = 256 << 10;
/// The sizes of compiled regular expressions, and the work for each byte of a value.
const SIZES: [(usize, usize); 3] = [(16 << 10, 64), (64 << 10, 256), (REGEX_MAX, 1024)];
/// The most groups of `:regex` and wildcards of `:matches` that are kept, the whole text included.
pub(super) const MATCHES_MAX: usize = 32;

/// How letters are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparator {
    /// `i;octet`: as they are.
    Octet,
    /// `i;ascii-casemap`: without the case of ASCII letters.
    AsciiCasemap,
    /// `i;ascii-numeric`: as numbers.
    AsciiNumeric,
}

impl Comparator {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "i;octet" => Some(Self::Octet),
            "i;ascii-casemap" => Some(Self::AsciiCasemap),
            "i;ascii-numeric" => Some(Self::AsciiNumeric),
            _ => None,
        }
    }

    fn folded(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::AsciiCasemap if text.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Cow::Owned(text.to_ascii_lowercase())
            }
            _ => Cow::Borrowed(text),
        }
    }

    pub(super) fn compare(self, a: &str, b: &str) -> Ordering {
        match self {
            Self::Octet => a.cmp(b),
            Self::AsciiCasemap => {
                let fold =
                    |text: &str| text.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
                let (a, b): (Vec<u8>, Vec<u8>) = (fold(a), fold(b));
                a.cmp(&b)
            }
            Self::AsciiNumeric => number(a).cmp(&number(b)),
        }
    }

    fn same(self, a: char, b: char) -> bool {
        match self {
            Self::AsciiCasemap => a.eq_ignore_ascii_case(&b),
            Self::Octet | Self::AsciiNumeric => a == b,
        }
    }
}

/// The number at the beginning of a text: whether it is infinite, the number of its digits, and
/// these. A text without a number is infinite (RFC 4790 §9.1).
fn number(text: &str) -> (bool, usize, &str) {
    let ends = |letter: char| !letter.is_ascii_digit();
    let digits = text.get(..text.find(ends).unwrap_or(text.len()));
    let digits = digits.unwrap_or_default();
    let short = digits.trim_start_matches('0');
    (digits.is_empty(), short.len(), short)
}

/// The relation of a value to a key (RFC 5231 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

impl Relation {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "gt" => Some(Self::Greater),
            "ge" => Some(Self::GreaterOrEqual),
            "lt" => Some(Self::Less),
            "le" => Some(Self::LessOrEqual),
            "eq" => Some(Self::Equal),
            "ne" => Some(Self::NotEqual),
            _ => None,
        }
    }

    pub(super) const fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
        }
    }
}

/// A match type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatchKind {
    Is,
    Contains,
    Matches,
    Regex,
    Value(Relation),
    Count(Relation),
}

/// What a value matched: the whole of it, then each wildcard or group. Empty for match types
/// without such.
pub(super) type Matched = Vec<String>;

/// Compares a value with a key by a match type other than `:regex` and `:count`.
pub(super) fn matches(
    comparator: Comparator,
    kind: MatchKind,
    value: &str,
    key: &str,
    effort: &mut Effort,
) -> Result<Option<Matched>, Exhausted> {
    effort.spend(value.len().saturating_add(key.len()))?;
    let holds = match kind {
        MatchKind::Is => comparator.compare(value, key).is_eq(),
        MatchKind::Contains => {
            let (value, key) = (comparator.folded(value), comparator.folded(key));
            memchr::memmem::find(value.as_bytes(), key.as_bytes()).is_some()
        }
        MatchKind::Value(relation) => relation.holds(comparator.compare(value, key)),
        MatchKind::Matches => return wildcards(comparator, value, key, effort),
        MatchKind::Regex | MatchKind::Count(_) => false,
    };
    Ok(holds.then(Matched::new))
}

/// A part of a pattern of `:matches`.
#[derive(Clone, Copy)]
enum Part {
    /// `*`.
    Any,
    /// `?`.
    One,
    Letter(char),
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut letters = pattern.chars();
    let mut parts = Vec::new();
    while let Some(letter) = letters.next() {
        parts.push(match letter {
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => Part::Letter(letters.next().unwrap_or('\\')),
            other => Part::Letter(other),
        });
    }
    parts
}

/// Matches a value with wildcards. Each `*` takes as little as it can, the first one first
/// (RFC 5229 §3.2).
fn wildcards(
    comparator: Comparator,
    value: &str,
    pattern: &str,
    effort: &mut Effort,
) -> Result<Option<Matched>, Exhausted> {
    let parts = parts(pattern);
    let (mut at, mut next) = (0, 0);
    // The begin and end of what each wildcard took.
    let mut taken: Vec<(usize, usize)> = Vec::new();
    // The last `*`: the part behind it, and how many wildcards there were, itself included.
    let mut star: Option<(usize, usize)> = None;
    loop {
        effort.spend(1)?;
        let letter = value.get(at..).and_then(|rest| rest.chars().next());
        match (parts.get(next), letter) {
            (None, None) => break,
            (Some(Part::Any), _) => {
                taken.push((at, at));
                next += 1;
                star = Some((next, taken.len()));
                if next == parts.len() {
                    if let Some(last) = taken.last_mut() {
                        last.1 = value.len();
                    }
                    break;
                }
                continue;
            }
            (Some(Part::One), Some(letter)) => {
                taken.push((at, at + letter.len_utf8()));
                (at, next) = (at + letter.len_utf8(), next + 1);
                continue;
            }
            (Some(Part::Letter(wanted)), Some(letter)) if comparator.same(*wanted, letter) => {
                (at, next) = (at + letter.len_utf8(), next + 1);
                continue;
            }
            _ => {}
        }
        // The last `*` takes one letter more.
        let Some((behind, count)) = star else {
            return Ok(None);
        };
        taken.truncate(count);
        let Some(last) = taken.last_mut() else {
            return Ok(None);
        };
        let Some(letter) = value.get(last.1..).and_then(|rest| rest.chars().next()) else {
            return Ok(None);
        };
        last.1 += letter.len_utf8();
        (at, next) = (last.1, behind);
    }
    let wildcards = taken.iter().map(|(begin, end)| value.get(*begin..*end));
    let matched = std::iter::once(Some(value)).chain(wildcards);
    let matched = matched
        .take(MATCHES_MAX)
        .map(|part| part.unwrap_or_default().to_owned());
    Ok(Some(matched.collect()))
}

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// The work for each byte of a value. It grows with the size of the expression.
    weight: usize,
}

impl Pattern {
    /// Compiles a pattern of `:regex`. The error is the reason in one line.
    pub(super) fn new(comparator: Comparator, pattern: &str) -> Result<Self, String> {
        let mut last = String::new();
        // The smallest size that is enough tells how much work the expression makes.
        for (size, weight) in SIZES {
            let built = RegexBuilder::new(pattern)
                .case_insensitive(comparator == Comparator::AsciiCasemap)
                .dot_matches_new_line(true)
                .size_limit(size)
                .dfa_size_limit(REGEX_MAX)
                .nest_limit(50)
                .build();
            match built {
                Ok(regex) => return Ok(Self { regex, weight }),
                Err(regex::Error::CompiledTooBig(_)) => {
                    "the pattern is too large".clone_into(&mut last);
                }
                Err(other) => {
                    // The last line has the reason. The others repeat the pattern.
                    let text = other.to_string();
                    let reason = text.lines().last().unwrap_or_default();
                    return Err(reason.trim().trim_start_matches("error: ").to_owned());
                }
            }
        }
        Err(last)
    }

    /// Finds the pattern in a value.
    pub(super) fn find(
        &self,
        value: &str,
        effort: &mut Effort,
    ) -> Result<Option<Matched>, Exhausted> {
        effort.spend(value.len().saturating_add(1).saturating_mul(self.weight))?;
        let Some(captures) = self.regex.captures(value) else {
            return Ok(None);
        };
        let groups = captures.iter().take(MATCHES_MAX);
        let groups = groups.map(|group| group.map_or("", |group| group.as_str()).to_owned());
        Ok(Some(groups.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effort() -> Effort {
        Effort::new(1 << 20)
    }

    fn matched(value: &str, pattern: &str) -> Option<String> {
        let kind = MatchKind::Matches;
        let found = matches(
            Comparator::AsciiCasemap,
            kind,
            value,
            pattern,
            &mut effort(),
        );
        found.unwrap().map(|parts| parts[1..].join("|"))
    }

    #[test]
    fn wildcards_take_as_little_as_they_can() {
        for (value, pattern, expected) in [
            ("", "", Some("")),
            ("", "*", Some("")),
            ("", "?", None),
            ("abc", "abc", Some("")),
            ("ABC", "abc", Some("")),
            ("abcd", "abc", None),
            ("abc", "a?c", Some("b")),
            ("a\u{e9}c", "a?c", Some("\u{e9}")),
            ("abc", "*", Some("abc")),
            ("abc", "**", Some("|abc")),
            ("abcabc", "*b*", Some("a|cabc")),
            ("abcabc", "*bc", Some("abca")),
            ("a-b-c", "*-*", Some("a|b-c")),
            ("a-b-c", "*-?", Some("a-b|c")),
            ("aab", "*ab", Some("a")),
            ("a*c", "a\\*c", Some("")),
            ("abc", "a\\*c", None),
            ("a\\c", "a\\\\c", Some("")),
            ("ab", "a\\b", Some("")),
            ("[x] y z", "[*] * *", Some("x|y|z")),
            ("aXbXc", "*x?x*", Some("a|b|c")),
        ] {
            assert_eq!(
                matched(value, pattern).as_deref(),
                expected,
                "{value} {pattern}"
            );
        }
    }

    #[test]
    fn many_wildcards_take_a_bounded_time() {
        let value = "a".repeat(1 << 16);
        let pattern = format!("*{}b", "a".repeat(1 << 15));
        let kind = MatchKind::Matches;
        let found = matches(Comparator::Octet, kind, &value, &pattern, &mut effort());
        assert!(found.is_err());
    }

    #[test]
    fn comparators_and_relations_are_those_of_the_registry() {
        use Comparator::{AsciiCasemap, AsciiNumeric, Octet};
        for (comparator, a, b, expected) in [
            (Octet, "a", "A", Ordering::Greater),
            (AsciiCasemap, "a", "A", Ordering::Equal),
            (AsciiCasemap, "a", "B", Ordering::Less),
            (AsciiCasemap, "\u{e9}", "\u{c9}", Ordering::Greater),
            (AsciiNumeric, "10", "9", Ordering::Greater),
            (AsciiNumeric, "010", "10", Ordering::Equal),
            (AsciiNumeric, "10x", "10", Ordering::Equal),
            (
                AsciiNumeric,
                "x",
                "99999999999999999999999",
                Ordering::Greater,
            ),
            (AsciiNumeric, "x", "", Ordering::Equal),
            (AsciiNumeric, "0", "000", Ordering::Equal),
            (AsciiNumeric, "-1", "5", Ordering::Greater),
        ] {
            assert_eq!(comparator.compare(a, b), expected, "{comparator:?} {a} {b}");
        }
        let all = ["gt", "ge", "lt", "le", "eq", "ne"];
        for (order, holding) in [
            (Ordering::Less, &["lt", "le", "ne"]),
            (Ordering::Equal, &["ge", "le", "eq"]),
            (Ordering::Greater, &["gt", "ge", "ne"]),
        ] {
            let found: Vec<_> = all
                .into_iter()
                .filter(|name| Relation::named(name).unwrap().holds(order))
                .collect();
            assert_eq!(found, holding);
        }
        assert!(Relation::named("xx").is_none() && Comparator::named("x").is_none());
    }

    #[test]
    fn regular_expressions_have_groups_and_limits() {
        let found = |pattern: &str, value: &str| {
            let regex = Pattern::new(Comparator::AsciiCasemap, pattern).unwrap();
            regex.find(value, &mut effort()).unwrap()
        };
        assert_eq!(found("(b)(x)?(.)", "ABC").unwrap(), ["BC", "B", "", "C"]);
        assert_eq!(found("^b", "abc"), None);
        assert_eq!(found("[[:digit:]]+", "a42b").unwrap(), ["42"]);
        let octet = Pattern::new(Comparator::Octet, "b").unwrap();
        assert_eq!(octet.find("B", &mut effort()).unwrap(), None);
        assert_eq!(
            Pattern::new(Comparator::Octet, "(a").unwrap_err(),
            "unclosed group"
        );
        let large = Pattern::new(Comparator::Octet, "(\\w{200}){200}").unwrap_err();
        assert_eq!(large, "the pattern is too large");
        assert!(Pattern::new(Comparator::Octet, &"(".repeat(5000)).is_err());
        let weight = |pattern| Pattern::new(Comparator::Octet, pattern).unwrap().weight;
        assert_eq!(weight("^a.*(b|c)[0-9]{2,4}$"), 64);
        assert!(weight("^\\w+ <\\w+@\\w+\\.\\w+>$") > 64);
        let text = "a".repeat(1 << 16);
        assert!(octet.find(&text, &mut effort()).is_err());
    }
}
