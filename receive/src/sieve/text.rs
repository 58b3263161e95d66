//! Texts with encoded characters (RFC 5228 §2.4.2.4) and variables (RFC 5229 §3), and what `set`
//! does with a value.

use super::{limits::VALUE_MAX, program::Modifier};

/// A piece of a text as it is written: plain, or the name of a variable.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written<'a> {
    Plain(&'a str),
    /// What stands between `${` and `}`: a name, a number, or names with dots between them.
    Variable(&'a str),
}

/// Takes a text apart at its variables. A reference that has not the form of one is plain text.
pub(super) fn pieces(text: &str) -> Vec<Written<'_>> {
    let mut pieces = Vec::new();
    let mut plain = 0;
    let mut from = 0;
    while let Some(begin) = find(text, "${", from) {
        from = begin + 2;
        let rest = text.get(from..).unwrap_or_default();
        let length = rest
            .find(|letter: char| !is_of_name(letter))
            .unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or_default();
        if !is_reference(name) || !rest.get(length..).unwrap_or_default().starts_with('}') {
            continue;
        }
        let before = text.get(plain..begin).unwrap_or_default();
        if !before.is_empty() {
            pieces.push(Written::Plain(before));
        }
        pieces.push(Written::Variable(name));
        from += length + 1;
        plain = from;
    }
    let after = text.get(plain..).unwrap_or_default();
    if !after.is_empty() {
        pieces.push(Written::Plain(after));
    }
    pieces
}

fn find(text: &str, mark: &str, from: usize) -> Option<usize> {
    text.get(from..)?.find(mark).map(|at| from + at)
}

const fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.')
}

/// Whether a text is a number, a name, or names with dots between them.
fn is_reference(text: &str) -> bool {
    is_digits(text)
        || text
            .split('.')
            .all(|part| is_name(part) || is_digits(part) && text.contains('.'))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text is the name of a variable, without a namespace.
pub(super) fn is_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The text with its encoded characters decoded. The error is a sentence.
pub(super) fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, begun) = rest.split_at_checked(at).unwrap_or((rest, ""));
        bytes.extend_from_slice(before.as_bytes());
        let inside = begun.get(2..).unwrap_or_default();
        rest = match encoded(inside)? {
            Some((characters, after)) => {
                bytes.extend_from_slice(&characters);
                after
            }
            None => {
                bytes.extend_from_slice(b"${");
                inside
            }
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    if bytes.contains(&0) {
        return Err("An encoded character of this text is NUL. Remove it.".to_owned());
    }
    String::from_utf8(bytes)
        .map_err(|_| "The encoded bytes of this text are no UTF-8. Correct them.".to_owned())
}

/// Reads encoded characters behind `${`, and gives the text behind them. None for a text that has
/// another form.
fn encoded(inside: &str) -> Result<Option<(Vec<u8>, &str)>, String> {
    // Only letters, digits, the colon and white space stand before the brace that closes.
    let ends = |letter: char| {
        !letter.is_ascii_alphanumeric() && !letter.is_ascii_whitespace() && letter != ':'
    };
    let length = inside.find(ends).unwrap_or(inside.len());
    let (written, after) = inside.split_at_checked(length).unwrap_or((inside, ""));
    let Some(after) = after.strip_prefix('}') else {
        return Ok(None);
    };
    let Some((kind, digits)) = written.split_once(':') else {
        return Ok(None);
    };
    let is_hex = kind.eq_ignore_ascii_case("hex");
    let words: Vec<&str> = digits.split_ascii_whitespace().collect();
    let most = if is_hex { 2 } else { usize::MAX };
    let fits =
        |word: &&str| word.len() <= most && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_known = is_hex || kind.eq_ignore_ascii_case("unicode");
    if !is_known || words.is_empty() || !words.iter().all(fits) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    for word in words {
        let number = u32::from_str_radix(word.trim_start_matches('0'), 16);
        let number = if word.bytes().all(|byte| byte == b'0') {
            Ok(0)
        } else {
            number
        };
        match number.ok().and_then(char::from_u32) {
            Some(letter) if is_hex => bytes.extend(u8::try_from(u32::from(letter))),
            Some(letter) => bytes.extend(letter.to_string().into_bytes()),
            None => {
                return Err(format!(
                    "There is no character with the number {word}. Correct it."
                ));
            }
        }
    }
    Ok(Some((bytes, after)))
}

/// The text, cut at a character so that it has at most this many bytes.
pub(super) fn cut(mut text: String, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

impl Modifier {
    /// The modifier with this name, without its colon.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "lowerfirst" => Self::LowerFirst,
            "upperfirst" => Self::UpperFirst,
            "quotewildcard" => Self::QuoteWildcard,
            "quoteregex" => Self::QuoteRegex,
            "length" => Self::Length,
            _ => return None,
        })
    }

    /// Two modifiers of the same precedence can't stand together (RFC 5229 §4.1).
    pub(super) const fn precedence(self) -> u8 {
        match self {
            Self::Lower | Self::Upper => 40,
            Self::LowerFirst | Self::UpperFirst => 30,
            Self::QuoteWildcard | Self::QuoteRegex => 20,
            Self::Length => 10,
        }
    }

    /// The changed value.
    pub(super) fn apply(self, value: &str) -> String {
        let first = |change: fn(&mut str)| {
            let mut value = value.to_owned();
            let end = value.chars().next().map_or(0, char::len_utf8);
            if let Some(first) = value.get_mut(..end) {
                change(first);
            }
            value
        };
        let quoted = |special: &str| {
            let mut text = String::with_capacity(value.len());
            for letter in value.chars() {
                if special.contains(letter) {
                    text.push('\\');
                }
                text.push(letter);
            }
            cut(text, VALUE_MAX)
        };
        match self {
            Self::Lower => value.to_ascii_lowercase(),
            Self::Upper => value.to_ascii_uppercase(),
            Self::LowerFirst => first(str::make_ascii_lowercase),
            Self::UpperFirst => first(str::make_ascii_uppercase),
            Self::QuoteWildcard => quoted("*?\\"),
            Self::QuoteRegex => quoted("\\.^$*+?()[]{}|"),
            Self::Length => value.chars().count().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_the_form_of_names() {
        use Written::{Plain, Variable};
        for (text, expected) in [
            ("", vec![]),
            ("a", vec![Plain("a")]),
            ("${a}", vec![Variable("a")]),
            (
                "x${A_1}y${12}",
                vec![Plain("x"), Variable("A_1"), Plain("y"), Variable("12")],
            ),
            ("${a.b}${1.b}", vec![Variable("a.b"), Variable("1.b")]),
            (
                "${a b} ${} ${a ${1a} $a",
                vec![Plain("${a b} ${} ${a ${1a} $a")],
            ),
            ("$${a}", vec![Plain("$"), Variable("a")]),
            ("${${a}}", vec![Plain("${"), Variable("a"), Plain("}")]),
            ("${a", vec![Plain("${a")]),
        ] {
            assert_eq!(pieces(text), expected, "{text}");
        }
    }

    #[test]
    fn encoded_characters_are_decoded() {
        for (text, expected) in [
            ("a", Ok("a")),
            ("$${hex:40}", Ok("$@")),
            ("${hex: 40 20 }b", Ok("@ b")),
            ("${HEX:4}", Ok("\u{4}")),
            ("${hex:c3}${hex:A9}", Ok("\u{e9}")),
            ("${unicode:e9 1F600}", Ok("\u{e9}\u{1f600}")),
            ("${Unicode:0000040}", Ok("@")),
            ("${hex:400}", Ok("${hex:400}")),
            ("${hex:4g}", Ok("${hex:4g}")),
            ("${hex:}", Ok("${hex:}")),
            ("${hex 40}", Ok("${hex 40}")),
            ("${hex:40", Ok("${hex:40")),
            ("${x${hex:40}", Ok("${x@")),
            ("${hex:c3}", Err("no UTF-8")),
            ("${unicode:d800}", Err("number d800")),
            ("${unicode:110000}", Err("number 110000")),
            ("${hex:00}", Err("NUL")),
        ] {
            match (decoded(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn modifiers_change_a_value() {
        for (name, value, expected) in [
            ("lower", "jUMBLED lETTERS \u{c9}", "jumbled letters \u{c9}"),
            ("upper", "a\u{e9}", "A\u{e9}"),
            ("lowerfirst", "ABC", "aBC"),
            ("upperfirst", "abc", "Abc"),
            ("upperfirst", "", ""),
            ("upperfirst", "\u{e9}a", "\u{e9}a"),
            ("quotewildcard", "Rock*?\\", "Rock\\*\\?\\\\"),
            ("quoteregex", "a.b|c", "a\\.b\\|c"),
            ("length", "a\u{e9}", "2"),
        ] {
            assert_eq!(Modifier::named(name).unwrap().apply(value), expected);
        }
        let long = Modifier::QuoteWildcard.apply(&"*".repeat(VALUE_MAX));
        assert_eq!(long.len(), VALUE_MAX);
        assert_eq!(cut("a\u{e9}".to_owned(), 2), "a");
    }
}
