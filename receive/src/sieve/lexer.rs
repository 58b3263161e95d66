//! The tokens of a script (RFC 5228 §8.1).

use super::error::{Position, SieveError, shown};

/// A token of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, as it is written.
    Identifier(String),
    /// A name behind a colon, in lower case, without the colon.
    Tag(String),
    /// A number, with its K, M or G applied.
    Number(u64),
    /// A quoted or multi-line text, without its escapes. Its lines end with CRLF.
    Text(String),
    /// One of `[](){},;`.
    Sign(char),
    /// The end of the script.
    End,
}

impl Token {
    /// The token for an error message.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Identifier(name) => shown(name),
            Self::Tag(name) => shown(&format!(":{name}")),
            Self::Number(number) => format!("the number {number}"),
            Self::Text(text) => format!("the text {}", shown(text)),
            Self::Sign(sign) => format!("\"{sign}\""),
            Self::End => "the end of the script".to_owned(),
        }
    }
}

/// Reads tokens from the beginning of a text.
pub(super) struct Lexer<'a> {
    rest: &'a str,
    at: Position,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(script: &'a str) -> Self {
        Self {
            rest: script,
            at: Position::START,
        }
    }

    /// The next token and its place.
    pub(super) fn next(&mut self) -> Result<(Token, Position), SieveError> {
        self.skip_blank()?;
        let at = self.at;
        let Some(first) = self.rest.chars().next() else {
            return Ok((Token::End, at));
        };
        let token = match first {
            '[' | ']' | '(' | ')' | '{' | '}' | ',' | ';' => {
                self.take(1);
                Token::Sign(first)
            }
            '"' => self.quoted()?,
            ':' => {
                self.take(1);
                let name = self.name();
                if name.is_empty() {
                    return Err(at.error("The colon has no name behind it. Write it as in :is."));
                }
                Token::Tag(name.to_ascii_lowercase())
            }
            '0'..='9' => self.number()?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let name = self.name();
                if name.eq_ignore_ascii_case("text") && self.rest.starts_with(':') {
                    self.multi_line(at)?
                } else {
                    Token::Identifier(name.to_owned())
                }
            }
            other => {
                let sign = shown(&other.to_string());
                return Err(at.error(format!(
                    "The character {sign} has no meaning here. Put texts in double quotes."
                )));
            }
        };
        Ok((token, at))
    }

    /// Goes on by this many bytes and gives them.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        self.at = self.at.behind(taken);
        taken
    }

    /// The letters, digits and underscores that come.
    fn name(&mut self) -> &'a str {
        let ends = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
        self.take(self.rest.find(ends).unwrap_or(self.rest.len()))
    }

    /// Goes past white space and comments.
    fn skip_blank(&mut self) -> Result<(), SieveError> {
        loop {
            let blank = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
            self.take(self.rest.len() - blank.len());
            if self.rest.starts_with('#') {
                self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if let Some(inside) = self.rest.strip_prefix("/*") {
                let Some(length) = inside.find("*/") else {
                    return Err(self
                        .at
                        .error("This comment does not end. Close it with */."));
                };
                self.take(length + 4);
            } else {
                return Ok(());
            }
        }
    }

    /// A number with its unit.
    fn number(&mut self) -> Result<Token, SieveError> {
        let at = self.at;
        let ends = |letter: char| !letter.is_ascii_digit();
        let digits = self.take(self.rest.find(ends).unwrap_or(self.rest.len()));
        let unit = self.name();
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" => 1,
            "k" => 1 << 10,
            "m" => 1 << 20,
            "g" => 1 << 30,
            _ => {
                return Err(at.error(format!(
                    "The number has the unit {}. Only K, M and G are units.",
                    shown(unit)
                )));
            }
        };
        let number = digits.parse::<u64>().ok();
        let Some(number) = number.and_then(|number| number.checked_mul(factor)) else {
            return Err(at.error("The number is too large."));
        };
        Ok(Token::Number(number))
    }

    /// A text in double quotes. A backslash stands before a character that is meant as it is.
    fn quoted(&mut self) -> Result<Token, SieveError> {
        let at = self.at;
        let mut text = String::new();
        let inside = self.rest.get(1..).unwrap_or_default();
        let mut letters = inside.char_indices();
        while let Some((index, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.take(index + 2);
                    return Ok(Token::Text(with_crlf(&text)));
                }
                '\\' => text.extend(letters.next().map(|(_, escaped)| escaped)),
                other => text.push(other),
            }
        }
        Err(at.error("This text does not end. Close it with a double quote."))
    }

    /// The text behind `text`, which ends with a line of one dot.
    fn multi_line(&mut self, at: Position) -> Result<Token, SieveError> {
        self.take(1);
        let first = self.rest.find('\n').map_or(self.rest.len(), |end| end + 1);
        let first = self.take(first).trim();
        if !first.is_empty() && !first.starts_with('#') {
            return Err(at.error(
                "The first line of the text stands behind \"text:\". Begin it on the next line.",
            ));
        }
        let mut text = String::new();
        while !self.rest.is_empty() {
            let length = self.rest.find('\n').map_or(self.rest.len(), |end| end + 1);
            let line = self.take(length);
            let bare = line.trim_end_matches(['\r', '\n']);
            if bare == "." {
                return Ok(Token::Text(text));
            }
            // A dot before a line that begins with a dot is no part of the text.
            let shown = bare.strip_prefix('.').filter(|rest| rest.starts_with('.'));
            text.push_str(shown.unwrap_or(bare));
            text.push_str("\r\n");
        }
        Err(at.error("This text does not end. Close it with a line that has only a dot."))
    }
}

/// The text with CRLF for each line end.
fn with_crlf(text: &str) -> String {
    if !text.contains('\n') {
        return text.to_owned();
    }
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(script: &str) -> Result<Vec<Token>, SieveError> {
        let mut lexer = Lexer::new(script);
        let mut tokens = Vec::new();
        loop {
            match lexer.next()?.0 {
                Token::End => return Ok(tokens),
                token => tokens.push(token),
            }
        }
    }

    fn text(text: &str) -> Token {
        Token::Text(text.to_owned())
    }

    #[test]
    fn each_kind_of_token_is_read() {
        let name = |name: &str| Token::Identifier(name.to_owned());
        let tag = |name: &str| Token::Tag(name.to_owned());
        for (script, expected) in [
            ("", vec![]),
            (" \r\n\t", vec![]),
            ("# a; \"b\n", vec![]),
            ("# a", vec![]),
            ("/* a \n ** */ b_1", vec![name("b_1")]),
            ("/**//* */a/**/b", vec![name("a"), name("b")]),
            (":Is:x", vec![tag("is"), tag("x")]),
            ("[](){},;", "[](){},;".chars().map(Token::Sign).collect()),
            ("\"\"", vec![text("")]),
            (r#""a\"b\\c\d""#, vec![text("a\"b\\cd")]),
            ("\"a\nb\r\nc\"", vec![text("a\r\nb\r\nc")]),
            ("text:\n.\n", vec![text("")]),
            (
                "TEXT: # x\r\na\r\n..b\r\n.c\r\n.\r\n;",
                vec![text("a\r\n.b\r\n.c\r\n"), Token::Sign(';')],
            ),
            ("text: \na\n.", vec![text("a\r\n")]),
            ("textual", vec![name("textual")]),
            ("\"\u{e9}\" x", vec![text("\u{e9}"), name("x")]),
        ] {
            assert_eq!(all(script), Ok(expected), "{script}");
        }
        let numbers = [0, 12, 1 << 10, 2 << 20, 3 << 30].map(Token::Number);
        assert_eq!(all("0 12 1k 2M 3G").unwrap(), numbers);
    }

    #[test]
    fn what_is_no_token_is_an_error_with_its_place() {
        for (script, line, column, words) in [
            ("a\n  'b'", 2, 3, "double quotes"),
            ("a \"b\nc", 1, 3, "double quote"),
            ("\"b\\", 1, 1, "double quote"),
            ("\n /* a * /", 2, 2, "*/"),
            ("a 5x", 1, 3, "K, M and G"),
            ("99999999999999999999", 1, 1, "too large"),
            ("99999999999999G", 1, 1, "too large"),
            (": x", 1, 1, "colon"),
            ("text: a\n.\n", 1, 1, "next line"),
            ("x\n text:\na\n", 2, 2, "only a dot"),
            ("\u{e9}", 1, 1, "no meaning"),
        ] {
            let error = all(script).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{script}");
            assert!(error.text.contains(words), "{error}");
        }
    }
}
