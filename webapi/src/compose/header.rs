//! Header fields: folding (RFC 5322 §2.2.3), free text, addresses and parameters.

use postrider_smtp::field::{encoded_words, percent_encoded};

use super::Mailbox;

/// Lines are folded to this length where possible (RFC 5322 §2.1.1).
const WIDTH: usize = 77;
/// A longer word is encoded in parts, since no line may have more than 998 bytes (RFC 5322 §2.1.1).
const PLAIN_MAX: usize = 900;
/// The most bytes of a part of an encoded parameter.
const PARAMETER_MAX: usize = 50;

/// Writes header fields.
#[derive(Debug)]
pub(crate) struct HeaderWriter {
    out: Vec<u8>,
    column: usize,
    /// UTF-8 is written without encoding (RFC 6532).
    utf8: bool,
}

impl HeaderWriter {
    pub(crate) const fn new(utf8: bool) -> Self {
        Self {
            out: Vec::new(),
            column: 0,
            utf8,
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    fn begin(&mut self, name: &str) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b':');
        self.column = name.len() + 1;
    }

    fn end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    /// Writes a token after white space, on a new line if it does not fit.
    fn token(&mut self, token: &str) {
        let fits = self.column + 1 + token.len() <= WIDTH;
        self.out
            .extend_from_slice(if fits { b" " } else { b"\r\n " });
        self.column = if fits { self.column } else { 0 } + 1 + token.len();
        self.out.extend_from_slice(token.as_bytes());
    }

    /// Writes text that belongs to the token before.
    fn attach(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.column += text.len();
    }

    /// Writes a field on one line, without encoding.
    pub(crate) fn raw(&mut self, name: &str, value: &str) {
        self.begin(name);
        self.attach(" ");
        self.attach(value);
        self.end();
    }

    /// Writes a field of free text (RFC 5322 §2.2.1).
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.begin(name);
        self.words(value);
        self.end();
    }

    /// Writes words, encoded where necessary. White space between words stays the same.
    fn words(&mut self, text: &str) {
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = self.run(rest);
            let (run, after) = rest.split_at(end);
            if self.plain(run) {
                self.token(run);
            } else {
                for word in encoded_words(run) {
                    self.token(&word);
                }
            }
            rest = after.strip_prefix(' ').unwrap_or(after);
        }
    }

    /// The end of the first run of words: one plain word, or all words up to the next plain one. An
    /// empty word is one more space. Between plain words it would be lost, so it is encoded
    /// together with the word after it.
    fn run(&self, text: &str) -> usize {
        let mut words = text.split(' ');
        let mut before = words.next().unwrap_or_default();
        let mut end = before.len();
        if self.plain(before) {
            return end;
        }
        for word in words {
            if self.plain(word) && !before.is_empty() {
                break;
            }
            end += 1 + word.len();
            before = word;
        }
        end
    }

    fn plain(&self, word: &str) -> bool {
        !word.is_empty()
            && !word.contains(' ')
            && word.len() <= PLAIN_MAX
            && !word.contains("=?")
            && !word.chars().any(char::is_control)
            && (self.utf8 || word.is_ascii())
    }

    /// Writes a field of addresses.
    pub(crate) fn addresses(&mut self, name: &str, mailboxes: &[Mailbox]) {
        self.begin(name);
        for (number, mailbox) in mailboxes.iter().enumerate() {
            if number > 0 {
                self.attach(",");
            }
            self.phrase(&mailbox.name);
            self.token(&format!("<{}>", mailbox.address));
        }
        self.end();
    }

    /// Writes a display name.
    fn phrase(&mut self, name: &str) {
        let name = name.trim();
        if name.is_empty() {
            return;
        }
        let is_atom = |word: &str| !word.is_empty() && word.bytes().all(is_atext);
        if name
            .split(' ')
            .all(|word| self.plain(word) && is_atom(word))
        {
            name.split(' ').for_each(|word| self.token(word));
        } else if let Some(quoted) = self.quoted("", name).filter(|_| !name.contains("=?")) {
            self.token(&quoted);
        } else {
            encoded_words(name).iter().for_each(|word| self.token(word));
        }
    }

    /// A quoted string (RFC 5322 §3.2.4) after `before`. None if the text can't be in one, or does
    /// not fit in a line.
    fn quoted(&self, before: &str, text: &str) -> Option<String> {
        if text.chars().any(char::is_control) || !(self.utf8 || text.is_ascii()) {
            return None;
        }
        let mut quoted = String::with_capacity(before.len() + text.len() + 2);
        quoted.push_str(before);
        quoted.push('"');
        for letter in text.chars() {
            if matches!(letter, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(letter);
        }
        quoted.push('"');
        (quoted.len() <= PLAIN_MAX).then_some(quoted)
    }

    /// Writes a field with a value that may have a parameter.
    pub(crate) fn with_parameter(
        &mut self,
        name: &str,
        value: &str,
        parameter: Option<(&str, &str)>,
    ) {
        self.begin(name);
        self.token(value);
        if let Some((name, value)) = parameter {
            self.parameter(name, value);
        }
        self.end();
    }

    fn parameter(&mut self, name: &str, value: &str) {
        self.attach(";");
        let is_token = |byte| is_atext(byte) && !matches!(byte, b'\'' | b'%' | b'*');
        if !value.is_empty() && value.len() <= PARAMETER_MAX && value.bytes().all(is_token) {
            return self.token(&format!("{name}={value}"));
        }
        if let Some(quoted) = self.quoted(&format!("{name}="), value) {
            return self.token(&quoted);
        }
        let mut parts = vec![String::new()];
        for letter in value.chars() {
            let encoded = percent_encoded(letter);
            match parts.last_mut() {
                Some(part) if part.len() + encoded.len() <= PARAMETER_MAX => {
                    part.push_str(&encoded);
                }
                _ => parts.push(encoded),
            }
        }
        if let [only] = parts.as_slice() {
            return self.token(&format!("{name}*=utf-8''{only}"));
        }
        // Continuations (RFC 2231 §3), each of whole characters.
        for (number, part) in parts.iter().enumerate() {
            if number == 0 {
                self.token(&format!("{name}*0*=utf-8''{part}"));
            } else {
                self.attach(";");
                self.token(&format!("{name}*{number}*={part}"));
            }
        }
    }
}

const fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'/'
                | b'='
                | b'?'
                | b'^'
                | b'_'
                | b'`'
                | b'{'
                | b'|'
                | b'}'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders};
    use proptest::prelude::*;

    use super::*;

    fn text(value: &str, utf8: bool) -> String {
        let mut writer = HeaderWriter::new(utf8);
        writer.text("Subject", value);
        String::from_utf8(writer.into_bytes()).unwrap()
    }

    #[test]
    fn texts() {
        for (value, expected) in [
            ("Hello you", "Subject: Hello you\r\n"),
            (
                "gr\u{fc}\u{df} dich da",
                "Subject: =?utf-8?q?gr=C3=BC=C3=9F?= dich da\r\n",
            ),
            (
                "\u{fc} \u{fc} x",
                "Subject: =?utf-8?q?=C3=BC_=C3=BC?= x\r\n",
            ),
            ("=?x?= y", "Subject: =?utf-8?q?=3D=3Fx=3F=3D?= y\r\n"),
            (
                "\u{65e5}\u{672c}\u{8a9e}",
                "Subject: =?utf-8?b?5pel5pys6Kqe?=\r\n",
            ),
            ("", "Subject:\r\n"),
        ] {
            assert_eq!(text(value, false), expected);
        }
        assert_eq!(
            text("gr\u{fc}\u{df} dich", true),
            "Subject: gr\u{fc}\u{df} dich\r\n"
        );
        let long = text(&"word ".repeat(40), false);
        assert!(long.lines().all(|line| line.len() <= 77), "{long}");
    }

    #[test]
    fn names_and_addresses() {
        for (name, expected) in [
            ("", "To: <a@example.org>\r\n"),
            ("Ann Lee", "To: Ann Lee <a@example.org>\r\n"),
            (
                "Lee, Ann \"A\"",
                "To: \"Lee, Ann \\\"A\\\"\" <a@example.org>\r\n",
            ),
            ("a\u{1}", "To: =?utf-8?q?a=01?= <a@example.org>\r\n"),
            ("J\u{f6}rg", "To: =?utf-8?q?J=C3=B6rg?= <a@example.org>\r\n"),
        ] {
            let mut writer = HeaderWriter::new(false);
            writer.addresses(
                "To",
                &[Mailbox {
                    name: name.into(),
                    address: "a@example.org".parse().unwrap(),
                }],
            );
            assert_eq!(String::from_utf8(writer.into_bytes()).unwrap(), expected);
        }
    }

    #[test]
    fn long_file_names_are_read_back() {
        for name in [
            "a.txt",
            "a b.txt",
            "\u{e4}.txt",
            &"\u{65e5}".repeat(60),
            &"\"".repeat(600),
            &"x y".repeat(280),
            "semi;colon\"quote.txt",
            "100%'*.txt",
        ] {
            let mut writer = HeaderWriter::new(false);
            writer.with_parameter(
                "Content-Disposition",
                "attachment",
                Some(("filename", name)),
            );
            let mut field = writer.into_bytes();
            field.extend_from_slice(b"\r\nx");
            let message = MessageParser::default().parse(&field).unwrap();
            let disposition = message.parts[0].content_disposition().unwrap();
            assert_eq!(
                disposition.attribute("filename"),
                Some(name),
                "{}",
                String::from_utf8_lossy(&field)
            );
        }
    }

    proptest! {
        #[test]
        fn a_text_is_read_back(value in "[ a-z=?_\u{e4}\u{65e5}\u{1f600}]{0,200}") {
            let line = text(&value, false);
            prop_assert!(line.is_ascii());
            prop_assert!(line.lines().all(|line| line.len() < 998));
            let full = format!("{line}\r\nx");
            let message = MessageParser::default().parse(full.as_bytes()).unwrap();
            prop_assert_eq!(message.subject().unwrap_or_default(), value.trim(), "{}", line);
        }
    }
}
