//! The pieces of a value of addresses (RFC 5322 §3.2 and §3.4), as they are written.

use super::word;

/// A piece of a value of addresses. All pieces together are the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// White space.
    Space(&'a str),
    /// A quoted string, with its quotes.
    Quoted(&'a str),
    /// A comment, with its parentheses and the comments in it.
    Comment(&'a str),
    /// An address in angle brackets, with the brackets.
    Angle(&'a str),
    /// Other characters up to white space or the next piece: an atom, an encoded word, or an
    /// address.
    Word(&'a str),
    /// One of `,` `;` `:` and a bracket or parenthesis that closes nothing.
    Sign(char),
    /// The rest of the value, which begins with a quoted string, a comment or an angle bracket
    /// that is not closed.
    Open(&'a str),
}

type Make<'a> = fn(&'a str) -> Piece<'a>;

/// The pieces of a value that is unfolded.
#[must_use]
pub fn pieces(value: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        let (length, make): (Option<usize>, Make<'_>) = match first {
            '"' => (quoted(rest), Piece::Quoted),
            '(' => (comment(rest), Piece::Comment),
            '<' => (angle(rest), Piece::Angle),
            ',' | ';' | ':' | '>' | ')' => {
                pieces.push(Piece::Sign(first));
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            c if c.is_ascii_whitespace() => {
                let end = rest.find(|c: char| !c.is_ascii_whitespace());
                (end.or(Some(rest.len())), Piece::Space)
            }
            _ => (Some(word(rest)), Piece::Word),
        };
        let Some(length) = length else {
            pieces.push(Piece::Open(rest));
            break;
        };
        let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        pieces.push(make(piece));
        rest = after;
    }
    pieces
}

/// The text of a quoted string or a comment, without its frame and its escapes.
#[must_use]
pub fn unquoted(framed: &str) -> String {
    let mut inner = framed.chars();
    inner.next();
    inner.next_back();
    let mut text = String::with_capacity(framed.len());
    let mut escaped = false;
    for c in inner {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            text.push(c);
            escaped = false;
        }
    }
    text
}

/// The length of the quoted string at the beginning. None if it is not closed.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The length of the comment at the beginning. None if it is not closed.
fn comment(text: &str) -> Option<usize> {
    let (mut depth, mut escaped) = (0_usize, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' if depth == 1 => return Some(at + 1),
            b')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The length of the address in angle brackets at the beginning, up to the first bracket that
/// closes. None if there is none.
fn angle(text: &str) -> Option<usize> {
    let (mut in_quotes, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_quotes => escaped = true,
            b'"' => in_quotes = !in_quotes,
            b'>' if !in_quotes => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The length of the word at the beginning. In an encoded word no sign has a meaning.
fn word(text: &str) -> usize {
    let mut at = 0;
    while let Some(rest) = text.get(at..)
        && let Some(c) = rest.chars().next()
    {
        let encoded = rest.starts_with("=?");
        if let Some(length) = encoded.then(|| word::length(rest.as_bytes())).flatten() {
            at += length;
        } else if c.is_ascii_whitespace() || "\"(<,;:>)".contains(c) {
            break;
        } else {
            at += c.len_utf8();
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Piece::*, *};

    #[test]
    fn values_have_pieces() {
        for (value, expected) in [
            ("", &[][..]),
            (
                "\"a \\\" <b>\" (c (d) \\) ) <e@\"f>\"g>",
                &[
                    Quoted("\"a \\\" <b>\""),
                    Space(" "),
                    Comment("(c (d) \\) )"),
                    Space(" "),
                    Angle("<e@\"f>\"g>"),
                ],
            ),
            (
                "a@b,\tc:d;",
                &[
                    Word("a@b"),
                    Sign(','),
                    Space("\t"),
                    Word("c"),
                    Sign(':'),
                    Word("d"),
                    Sign(';'),
                ],
            ),
            (
                "=?utf-8?q?a,_b<c?=<d>",
                &[Word("=?utf-8?q?a,_b<c?="), Angle("<d>")],
            ),
            (
                "a>)\u{e4}",
                &[Word("a"), Sign('>'), Sign(')'), Word("\u{e4}")],
            ),
            ("x \"a", &[Word("x"), Space(" "), Open("\"a")]),
            ("(a (b)", &[Open("(a (b)")]),
            ("<a", &[Open("<a")]),
        ] {
            assert_eq!(pieces(value), expected, "{value}");
        }
        assert_eq!(unquoted("\"a\\\"\\\\b\""), "a\"\\b");
        assert_eq!(unquoted("\""), "");
    }

    proptest! {
        #[test]
        fn pieces_are_the_value(value in "[a@.:;,<>()\"\\\\ =?q\u{e4}]{0,60}") {
            let written = pieces(&value).into_iter().map(|piece| match piece {
                Space(text) | Quoted(text) | Comment(text) | Angle(text) | Word(text) | Open(text) => {
                    text.to_owned()
                }
                Sign(sign) => sign.to_string(),
            });
            prop_assert_eq!(written.collect::<String>(), value);
        }
    }
}
