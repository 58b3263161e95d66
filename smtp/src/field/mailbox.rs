//! Lists of addresses (RFC 5322 §3.4), also in the obsolete forms and with common mistakes.

use memchr::{memchr, memrchr};

use super::{
    charset::decode,
    unfolded,
    word::{self, text},
};
use crate::Address;

/// A name and an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// The decoded name, else the comment beside the address. Empty without both.
    pub name: String,
    /// The address. The labels of its domain are Unicode in lower case. Empty for a name without an
    /// address.
    pub address: String,
}

/// The mailboxes of a value, those in groups too. The names of groups are left out.
///
/// A comma in a name without quotes is part of the name: `Doe, Joe <joe@example.com>` is one
/// mailbox.
#[must_use]
pub fn mailboxes(value: &[u8]) -> Vec<Mailbox> {
    let value = unfolded(value);
    let mut rest = &*value;
    let mut list = List::default();
    let mut in_group = false;
    while let Some(first) = rest.first() {
        let length = match first {
            b'"' => {
                let end = quoted_end(rest);
                list.quoted(rest.get(..end).unwrap_or_default());
                end
            }
            b'(' => {
                let end = comment_end(rest);
                list.comments.push(inner(rest, end, b')'));
                end
            }
            b'<' => {
                let end = angle_end(rest);
                list.angle = Some(inner(rest, end, b'>'));
                end
            }
            b',' => {
                list.end();
                1
            }
            b';' => {
                list.end();
                list.settle();
                in_group = false;
                1
            }
            b':' if !in_group && list.may_be_group() => {
                list.clear();
                list.settle();
                in_group = true;
                1
            }
            byte if byte.is_ascii_whitespace() => {
                list.in_word = false;
                1
            }
            other => {
                // Within an encoded word no sign has a meaning.
                let encoded = (*other == b'=').then(|| word::length(rest)).flatten();
                let length = encoded.unwrap_or(1);
                list.push(rest.get(..length).unwrap_or_default(), encoded.is_none());
                length
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    list.end();
    list.settle();
    list.done
}

/// The list so far, and the mailbox that is being read.
#[derive(Default)]
struct List {
    done: Vec<Mailbox>,
    words: Vec<Word>,
    in_word: bool,
    /// One of the words has an `@` that is not in quotes.
    has_address: bool,
    angle: Option<Vec<u8>>,
    comments: Vec<Vec<u8>>,
    /// A name without an address before the last comma, and its comment. If a name with an address
    /// follows, it is the beginning of that name.
    pending: Option<(Vec<u8>, Vec<u8>)>,
}

/// What stands between white space.
#[derive(Default)]
struct Word {
    /// As written.
    written: Vec<u8>,
    /// Without quotes and escapes.
    shown: Vec<u8>,
    /// It has an `@` that is not in quotes.
    is_address: bool,
}

impl List {
    /// Adds to the word that is being read, or begins one.
    fn add_to_word(&mut self, written: &[u8], shown: &[u8], is_address: bool) {
        if !self.in_word {
            self.words.push(Word::default());
            self.in_word = true;
        }
        if let Some(word) = self.words.last_mut() {
            word.written.extend_from_slice(written);
            word.shown.extend_from_slice(shown);
            word.is_address |= is_address;
        }
        self.has_address |= is_address;
    }

    fn push(&mut self, bytes: &[u8], may_be_address: bool) {
        self.add_to_word(bytes, bytes, may_be_address && bytes == b"@");
    }

    fn quoted(&mut self, written: &[u8]) {
        self.add_to_word(written, &inner(written, written.len(), b'"'), false);
    }

    fn may_be_group(&self) -> bool {
        self.angle.is_none() && !self.words.is_empty() && !self.has_address
    }

    fn clear(&mut self) {
        self.words.clear();
        self.comments.clear();
        self.angle = None;
        self.in_word = false;
        self.has_address = false;
    }

    /// Ends a mailbox.
    fn end(&mut self) {
        let comment = self.comments.join(&b' ');
        let words = std::mem::take(&mut self.words);
        if let Some(angle) = self.angle.take() {
            let mut name = shown(&words);
            if let Some((before, _)) = self.pending.take() {
                let comma: &[u8] = if name.is_empty() { b"" } else { b", " };
                name = [&before, comma, &name].concat();
            }
            self.add(&name, &comment, address(&angle));
        } else if let Some(at) = words.iter().position(|word| word.is_address) {
            self.settle();
            let (name, written) = around(&words, at);
            self.add(&name, &comment, address(&written));
        } else if !words.is_empty() {
            let name = shown(&words);
            match &mut self.pending {
                Some((before, _)) => {
                    before.extend_from_slice(b", ");
                    before.extend_from_slice(&name);
                }
                None => self.pending = Some((name, comment)),
            }
        }
        self.clear();
    }

    /// The pending name stands for itself.
    fn settle(&mut self) {
        if let Some((name, comment)) = self.pending.take() {
            // A name of our system or theirs: `MAILER-DAEMON (Mail Delivery System)`.
            let is_local = !comment.is_empty() && !name.contains(&b' ');
            match is_local {
                true => self.add(&comment, b"", decode(None, &name)),
                false => self.add(&name, b"", String::new()),
            }
        }
    }

    fn add(&mut self, name: &[u8], comment: &[u8], address: String) {
        let name = if name.is_empty() { comment } else { name };
        let name = text(name).trim().to_owned();
        if !name.is_empty() || !address.is_empty() {
            self.done.push(Mailbox { name, address });
        }
    }
}

fn shown(words: &[Word]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.shown.as_slice()).collect();
    words.join(&b' ')
}

/// An address without angle brackets, with an `@` in the word at `at`: the other words, and the
/// address. White space around the `@` is allowed.
fn around(words: &[Word], at: usize) -> (Vec<u8>, Vec<u8>) {
    let edge = |word: Option<&Word>, last: bool| {
        let edge = word.and_then(|word| match last {
            true => word.written.last(),
            false => word.written.first(),
        });
        edge == Some(&b'@')
    };
    let found = words.get(at);
    let from = if edge(found, false) {
        at.saturating_sub(1)
    } else {
        at
    };
    let to = if edge(found, true) { at + 2 } else { at + 1 };
    let to = to.min(words.len());
    let written = words.get(from..to).unwrap_or_default();
    let written = written.iter().flat_map(|word| word.written.iter().copied());
    let before = words.get(..from).unwrap_or_default();
    let after = words.get(to..).unwrap_or_default();
    let names: Vec<&[u8]> = before
        .iter()
        .chain(after)
        .map(|word| word.shown.as_slice())
        .collect();
    (names.join(&b' '), written.collect())
}

/// An address in its usual form. A text that is no address stays as it is.
fn address(written: &[u8]) -> String {
    // Of brackets within brackets the innermost count.
    let begin = memrchr(b'<', written).map_or(0, |at| at + 1);
    let written = written.get(begin..).unwrap_or_default();
    let end = memchr(b'>', written).unwrap_or(written.len());
    let written = written.get(..end).unwrap_or_default();
    let mut bare = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some(first) = rest.first() {
        let length = match first {
            b'"' => {
                let end = quoted_end(rest);
                bare.extend_from_slice(rest.get(..end).unwrap_or_default());
                end
            }
            b'(' => comment_end(rest),
            byte if byte.is_ascii_whitespace() => 1,
            other => {
                bare.push(*other);
                1
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    // A route (RFC 5322 §4.4).
    let route = match bare.first() {
        Some(b'@') => bare.iter().position(|byte| *byte == b':'),
        _ => None,
    };
    let bare = bare.get(route.map_or(0, |at| at + 1)..).unwrap_or_default();
    let text = decode(None, bare);
    Address::parse(&text).map_or(text, |address| address.unicode())
}

/// The length of the quoted string at the beginning.
fn quoted_end(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The length of the comment at the beginning, with the comments in it.
pub(super) fn comment_end(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' if depth == 1 => return at + 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The length of the address in angle brackets at the beginning, with the brackets in it.
fn angle_end(text: &[u8]) -> usize {
    let (mut at, mut depth) = (1, 1_usize);
    while let Some(byte) = text.get(at) {
        let rest = text.get(at..).unwrap_or_default();
        at += match byte {
            b'>' if depth == 1 => return at + 1,
            b'>' => {
                depth -= 1;
                1
            }
            b'<' => {
                depth += 1;
                1
            }
            b'"' => quoted_end(rest),
            b'(' => comment_end(rest),
            _ => 1,
        };
    }
    text.len()
}

/// The content of a text with a sign before and, if it is complete, `close` behind it. Escapes are
/// undone, except in angle brackets.
fn inner(text: &[u8], end: usize, close: u8) -> Vec<u8> {
    let content = text.get(1..end).unwrap_or_default();
    let content = content.strip_suffix(&[close]).unwrap_or(content);
    if close == b'>' {
        return content.to_vec();
    }
    let mut plain = Vec::with_capacity(content.len());
    let mut escaped = false;
    for byte in content {
        if *byte == b'\\' && !escaped {
            escaped = true;
        } else {
            plain.push(*byte);
            escaped = false;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists() {
        for (value, expected) in [
            ("a@x.test", &[("", "a@x.test")][..]),
            (
                "<a@x.test>, B <b@x.test>",
                &[("", "a@x.test"), ("B", "b@x.test")],
            ),
            (
                "\"Doe, \\\"J\\\"\" <a@x.test>",
                &[("Doe, \"J\"", "a@x.test")],
            ),
            // A comma in a name without quotes.
            (
                "Doe, Joe <joe@remote.test>",
                &[("Doe, Joe", "joe@remote.test")],
            ),
            (
                "Doe, Joe <j@x.test>, Roe, Jane <r@x.test>",
                &[("Doe, Joe", "j@x.test"), ("Roe, Jane", "r@x.test")],
            ),
            ("nobody, a@x.test", &[("nobody", ""), ("", "a@x.test")]),
            ("Joe Doe", &[("Joe Doe", "")]),
            // Comments.
            ("a@x.test (Ann (A) Lee)", &[("Ann (A) Lee", "a@x.test")]),
            (
                "MAILER-DAEMON (Mail System)",
                &[("Mail System", "MAILER-DAEMON")],
            ),
            (
                "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
                &[("Pete", "pete@silly.test")],
            ),
            (
                "c@(Chris's host.)public.example",
                &[("Chris's host.", "c@public.example")],
            ),
            ("(only a comment)", &[]),
            // Groups.
            (
                "A Group(Some people):a@x.test; (the end of the group)",
                &[("", "a@x.test")],
            ),
            ("Hidden recipients:(nobody(that I know));", &[]),
            (
                "(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;",
                &[],
            ),
            ("undisclosed-recipients:;", &[]),
            (
                "A:B <b@x.test>,c@x.test;, d@x.test",
                &[("B", "b@x.test"), ("", "c@x.test"), ("", "d@x.test")],
            ),
            // Obsolete forms.
            ("Joe <@a.test,@b.test:joe@x.test>", &[("Joe", "joe@x.test")]),
            (", a@x.test,,", &[("", "a@x.test")]),
            ("a @ x.test", &[("", "a@x.test")]),
            ("Joe Q. Public <j@x.test>", &[("Joe Q. Public", "j@x.test")]),
            // Mistakes.
            ("Joe Doe joe@x.test", &[("Joe Doe", "joe@x.test")]),
            ("<a@x.test", &[("", "a@x.test")]),
            ("\"Ann <a@x.test>", &[("Ann <a@x.test>", "")]),
            ("Ann <<a@x.test>>", &[("Ann", "a@x.test")]),
            ("Ann <>", &[("Ann", "")]),
            ("<>", &[]),
            ("a@x.test; b@x.test", &[("", "a@x.test"), ("", "b@x.test")]),
            // Encoded words, also around signs that need quotes.
            (
                "=?utf-8?Q?Doe,_J=C3=B6rg?= <j@x.test>",
                &[("Doe, Jörg", "j@x.test")],
            ),
            ("=?utf-8?Q?a@x?= <j@x.test>", &[("a@x", "j@x.test")]),
            (
                "\"=?utf-8?Q?J=C3=B6rg?=\" <j@x.test>",
                &[("Jörg", "j@x.test")],
            ),
            (
                "=?utf-8?Q?J=C3?=\r\n =?utf-8?Q?=B6rg?= <j@x.test>",
                &[("Jörg", "j@x.test")],
            ),
            ("Jörg <j@x.test>", &[("Jörg", "j@x.test")]),
            // Domains.
            ("A.B@XN--74H.Example", &[("", "A.B@☺.example")]),
            ("\"a b\"@X.test", &[("", "\"a b\"@x.test")]),
            ("a@[192.0.2.1]", &[("", "a@[192.0.2.1]")]),
            ("a@b@c", &[("", "a@b@c")]),
            ("", &[]),
        ] {
            let found = mailboxes(value.as_bytes());
            let found: Vec<_> = found.iter().map(|it| (&*it.name, &*it.address)).collect();
            assert_eq!(found, expected, "{value}");
        }
        assert_eq!(mailboxes(b"J\xf6rg <j@x.test>")[0].name, "Jörg");
    }

    /// Time in proportion to the square of the length would be too long.
    #[test]
    fn a_long_list_is_read_once() {
        let pieces = [
            "a,", "a ", "a:", "a;", "a@b.c,", "a@b.c:", "<", "(", "\"", "=?", "=?a?q?", "=?a?q?x ",
            "\\", "<\"", "<(",
        ];
        for piece in pieces {
            let list = piece.repeat((1 << 17) / piece.len());
            let _ = mailboxes(list.as_bytes());
        }
        // Words before an address, and colons that are no group.
        let list = format!("{}a@b.c {}", "a ".repeat(1 << 17), ": ".repeat(1 << 17));
        assert_eq!(mailboxes(list.as_bytes()).len(), 1);
        let names = format!("{}a <a@x.test>", "a,".repeat(1 << 20));
        assert_eq!(mailboxes(names.as_bytes())[0].address, "a@x.test");
    }

    proptest! {
        #[test]
        fn any_list_is_read(value in "[a@.:;,<>()\"\\\\ =?]{0,60}") {
            let found = mailboxes(value.as_bytes());
            prop_assert!(found.iter().all(|it| !(it.name.is_empty() && it.address.is_empty())));
        }
    }
}
