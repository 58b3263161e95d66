//! The tokens of a message: the words by which the content filter judges it.
//!
//! A token is a word, two words, a word of a header field (`Subject:offer`), or the host of a link
//! (`host:shop.example`). Each stands once, however often the message has it. The store gets hashes
//! of them under a secret key, so nobody can make up words that count as other words.

use std::{collections::BTreeSet, hash::Hasher};

use mail_parser::{Message, PartType};
use postrider_smtp::{
    field,
    mime::{self, Limits},
};
use postrider_store::JunkKey;
use siphasher::sip::SipHasher13;

use super::{html, words::words};

/// The version of the tokens. It goes up when the same message gives other ones.
pub const TOKENIZER: u8 = 2;
/// The bytes of a message that are read.
pub const READ_MAX: usize = 512 << 10;
/// The most tokens of a message.
pub const TOKENS_MAX: usize = 2000;
/// The most bytes of a field that are read.
const FIELD_MAX: usize = 16 << 10;
/// The most bytes of a host name (RFC 1035 §2.3.4).
const HOST_MAX: usize = 253;

/// The fields whose addresses count.
const ADDRESS_FIELDS: [&str; 6] = ["From", "Sender", "Reply-To", "To", "Cc", "Return-Path"];

/// The hashes of the tokens of a message, each once, the smallest first. Only the first
/// [`READ_MAX`] bytes count. Of more than [`TOKENS_MAX`] tokens those with the smallest hashes
/// count: nobody without the key knows which these are, so no text in front hides what follows.
#[must_use]
pub fn tokens(message: &[u8], limits: Limits, key: &JunkKey) -> Vec<u64> {
    let message = message.get(..READ_MAX).unwrap_or(message);
    mime::parse(message, limits, |parsed| {
        let mut hashes = BTreeSet::new();
        let hasher = SipHasher13::new_with_key(key);
        read(parsed, limits.depth, &mut |token| {
            let mut hasher = hasher;
            hasher.write(token.as_bytes());
            let hash = hasher.finish();
            let is_full = hashes.len() >= TOKENS_MAX;
            if is_full && hashes.last().is_some_and(|last| *last <= hash) {
                return;
            }
            if hashes.insert(hash) && is_full {
                hashes.pop_last();
            }
        });
        hashes.into_iter().collect()
    })
}

/// Calls `each` with each token of a message.
fn read(message: Option<&Message<'_>>, depth: usize, each: &mut impl FnMut(&str)) {
    if let Some(message) = message {
        let mut reader = Reader {
            left: READ_MAX,
            token: String::new(),
            each,
        };
        reader.message(message, depth);
    }
}

struct Reader<'a, F> {
    /// The bytes of decoded text that are still read. Encoded messages within messages can't
    /// multiply them.
    left: usize,
    /// Room for a token.
    token: String,
    each: &'a mut F,
}

impl<F: FnMut(&str)> Reader<'_, F> {
    fn message(&mut self, message: &Message<'_>, depth: usize) {
        // A message within another has the bytes of both.
        let root = message.parts.first();
        let begin = root.map_or(0, |root| root.offset_header as usize);
        self.header(message.raw_message.get(begin..).unwrap_or_default());
        for part in &message.parts {
            match &part.body {
                PartType::Text(text) => self.text(text),
                PartType::Html(html) => self.html(html),
                PartType::Message(inner) if depth > 0 => self.message(inner, depth - 1),
                _ => {}
            }
        }
    }

    fn header(&mut self, text: &[u8]) {
        for field in field::fields(text) {
            let value = field.value.get(..FIELD_MAX).unwrap_or(field.value);
            if let Some(name) = ADDRESS_FIELDS.iter().find(|name| field.is(name)) {
                for mailbox in field::mailboxes(value) {
                    self.prefixed(name, &mailbox.name);
                    self.prefixed(name, &mailbox.address);
                }
            } else if field.is("Subject") {
                self.prefixed("Subject", &field::text(value));
            }
        }
    }

    /// The words of a field.
    fn prefixed(&mut self, name: &str, text: &str) {
        let text = self.take(text);
        let Self { token, each, .. } = self;
        words(text, &mut |word| {
            token.clear();
            token.push_str(name);
            token.push(':');
            token.push_str(word);
            each(token);
        });
    }

    fn text(&mut self, text: &str) {
        let text = self.take(text);
        links(text).for_each(|link| self.host(link));
        words(text, self.each);
    }

    fn html(&mut self, html: &str) {
        let found = html::read(self.take(html));
        for target in &found.targets {
            if let Some((_, link)) = target.split_once("//") {
                self.host(link);
            }
        }
        words(&found.text, self.each);
    }

    /// The host of a link, which begins behind `//`.
    fn host(&mut self, link: &str) {
        let authority = link.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        let host = host.trim_end_matches('.');
        let is_name = |c: char| c.is_alphanumeric() || c == '-' || c == '.' || c == '_';
        if host.len() > HOST_MAX || !host.contains('.') || !host.chars().all(is_name) {
            return;
        }
        self.token.clear();
        self.token.push_str("host:");
        self.token.extend(host.chars().flat_map(char::to_lowercase));
        (self.each)(&self.token);
    }

    /// The part of a text that is still read.
    fn take<'t>(&mut self, text: &'t str) -> &'t str {
        let mut end = text.len().min(self.left);
        // Not within a character.
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.left -= end;
        text.get(..end).unwrap_or_default()
    }
}

/// The hosts of the links in a plain text, each from behind its `//` on, with what stands around
/// them. No piece of the text is in two of them, so all of them together take one pass.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || "<>\"'()[]{}|^`,;/?#\\".contains(c);
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, link) = rest.split_once("://")?;
        let end = link.find(ends).unwrap_or(link.len());
        let (link, behind) = link.split_at(end);
        rest = behind;
        Some(link)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(message: &str) -> Vec<String> {
        let message = message.replace('\n', "\r\n");
        mime::parse(message.as_bytes(), Limits::default(), |parsed| {
            let mut found = Vec::new();
            read(parsed, Limits::default().depth, &mut |token| {
                found.push(token.to_owned());
            });
            found
        })
    }

    /// Single words; the tests of words show the pairs.
    fn check(message: &str, expected: &[&str]) {
        let found = all(message);
        let single = found.iter().filter(|token| !token.contains(' '));
        assert_eq!(single.collect::<Vec<_>>(), expected, "{message}");
    }

    #[test]
    fn fields_give_words_with_their_names() {
        check(
            "Return-Path: <bounce@news.example>\nFrom: =?utf-8?q?J=C3=A4ne?= Roe <jane@shop.example>\n\
             Received: from unseen.example\nSubject: Great\n offer\nCc: group: max@x.example;\n\nbody\n",
            &[
                "Return-Path:bounce",
                "Return-Path:news",
                "Return-Path:example",
                "From:j\u{e4}ne",
                "From:roe",
                "From:jane",
                "From:shop",
                "From:example",
                "Subject:great",
                "Subject:offer",
                "Cc:max",
                "Cc:example",
                "body",
            ],
        );
    }

    #[test]
    fn links_give_their_hosts() {
        check(
            "Subject: x\n\nsee https://user@Shop.Example:8080/path?to=1 and ftp://a_b.example. \
             http://localhost/ (http://paren.example)\n",
            &[
                "host:shop.example",
                "host:a_b.example",
                "host:paren.example",
                "see",
                "https",
                "user",
                "shop",
                "example",
                "path",
                "and",
                "ftp",
                "example",
                "http",
                "localhost",
                "http",
                "paren",
                "example",
            ],
        );
        check(
            "Content-Type: text/html\n\n<a href='//Evil.example/x'>go now</a><img src=cid:1 \
             alt='big sale'><a href='http://[::1]/'>\n",
            &["host:evil.example", "now", "big", "sale"],
        );
    }

    #[test]
    fn all_parts_count_and_messages_within_the_message() {
        check(
            "Subject: outer\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: \
             text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n\
             f=FCr\n--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n\
             cGljdHVyZQ==\n--b\nContent-Type: message/rfc822\n\nSubject: inner\n\ndeep\n--b--\n",
            &["Subject:outer", "f\u{fc}r", "Subject:inner", "deep"],
        );
    }

    #[test]
    fn a_token_counts_once_and_so_many_in_all() {
        let key = [3; 16];
        let once = tokens(b"Subject: x\r\n\r\nsame\r\n", Limits::default(), &key);
        let often = tokens(
            b"Subject: x\r\n\r\nsame. same! same\r\n",
            Limits::default(),
            &key,
        );
        assert_eq!(once.len(), 1);
        assert!(often.contains(&once[0]));
        assert_eq!(often.len(), 2, "and the pair");
        let other = tokens(b"Subject: x\r\n\r\nsame\r\n", Limits::default(), &[4; 16]);
        assert_ne!(other, once, "the key matters");
        let mut many = String::from("Subject: x\r\n\r\n");
        for number in 0..3000 {
            let word: String = format!("{number:04}")
                .chars()
                .map(|digit| char::from(b'a' + digit as u8 - b'0'))
                .flat_map(|letter| [letter, 'e'])
                .collect();
            many += &format!("{word} ");
        }
        assert_eq!(
            tokens(many.as_bytes(), Limits::default(), &key).len(),
            TOKENS_MAX
        );
    }

    /// What stands in front says nothing about which tokens count.
    #[test]
    fn much_harmless_text_hides_no_junk() {
        let word = |number: usize| -> String {
            let digits = [number / 196 % 14, number / 14 % 14, number % 14];
            let letters = digits.map(|digit| char::from(b"bdfgklmnprstvz"[digit]));
            letters
                .into_iter()
                .flat_map(|letter| [letter, 'e'])
                .collect()
        };
        let text = |range: std::ops::Range<usize>| range.map(word).collect::<Vec<_>>().join(" ");
        let (harmless, junk) = (text(0..1300), text(1300..2600));
        let front = format!("Content-Type: text/plain\r\n\r\n{harmless}\r\n");
        let behind = format!("Content-Type: text/html\r\n\r\n<p>{junk}</p>\r\n");
        let of = |parts: &[&String]| {
            let mut message = "Content-Type: multipart/alternative; boundary=b\r\n\r\n".to_owned();
            for part in parts {
                message += &format!("--b\r\n{part}");
            }
            message += "--b--\r\n";
            tokens(message.as_bytes(), Limits::default(), &[5; 16])
        };
        let (both, hidden) = (of(&[&front, &behind]), of(&[&behind]));
        assert_eq!((both.len(), hidden.len()), (TOKENS_MAX, TOKENS_MAX));
        let seen = both.iter().filter(|hash| hidden.contains(hash)).count();
        assert!(seen > TOKENS_MAX / 3, "{seen} of the second part count");
        assert!(both.is_sorted());
    }

    /// Each of these has as many marks as fit. A pass for each of them would be too long.
    #[test]
    fn a_text_of_marks_is_read_once() {
        for piece in [
            "://",
            "://a",
            "://@",
            "x://a.b/://",
            "://:",
            "<a href=//",
            " \u{a0}",
            "</style",
            "<",
            "&",
        ] {
            let text = piece.repeat(READ_MAX / piece.len() - 40);
            for kind in ["plain", "html"] {
                let begin = if kind == "html" { "<a " } else { "" };
                let message = format!("Content-Type: text/{kind}\r\n\r\n{begin}{text}");
                assert!(all(&message).len() <= message.len(), "{piece}");
            }
            let linked: usize = links(&text).map(str::len).sum();
            assert!(linked <= text.len(), "{piece}");
        }
    }

    #[test]
    fn only_the_beginning_of_a_large_message_is_read() {
        let mut message = String::from("Subject: x\r\n\r\n");
        message += &"1 ".repeat(READ_MAX / 2);
        message += "\r\nlast\r\n";
        assert!(tokens(message.as_bytes(), Limits::default(), &[0; 16]).is_empty());
        let nothing = tokens(b"", Limits::default(), &[0; 16]);
        assert!(nothing.is_empty());
    }

    /// These are stored: another hash of the same word needs another [`TOKENIZER`].
    #[test]
    fn the_hashes_are_fixed() {
        let key = std::array::from_fn(|at| at as u8);
        let found = tokens(b"Subject: Offer\r\n\r\n", Limits::default(), &key);
        let mut hasher = SipHasher13::new_with_key(&key);
        hasher.write(b"Subject:offer");
        assert_eq!(found, [hasher.finish()]);
        // The value for these bytes in the reference implementation of SipHash-1-3 is stable.
        let mut empty = SipHasher13::new_with_key(&key);
        empty.write(b"");
        assert_eq!(empty.finish(), 0xabac_0158_050f_c4dc);
    }

    proptest! {
        #[test]
        fn any_message_gives_tokens_within_the_limits(
            body in proptest::collection::vec(any::<u8>(), 0..400),
            kind in prop::sample::select(vec!["text/plain", "text/html", "message/rfc822", "multipart/mixed; boundary=a"]),
        ) {
            let mut message = format!("Subject: x\r\nContent-Type: {kind}\r\n\r\n").into_bytes();
            message.extend(body);
            let found = tokens(&message, Limits::default(), &[1; 16]);
            prop_assert!(found.is_sorted_by(|a, b| a < b));
        }
    }
}
