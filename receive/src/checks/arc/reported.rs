//! The results that a server reports in Authentication-Results (RFC 8601 §2.2), of a server that we
//! trust.

use postrider_smtp::{Address, Domain};

use crate::checks::dmarc::Identifier;

/// The result of one method.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reported {
    /// The method in lower case, without its version.
    method: String,
    /// The result in lower case.
    result: String,
    /// The properties, such as `header.from`: names in lower case, and values.
    properties: Vec<(String, String)>,
}

impl Reported {
    /// Reads the results behind the name of the server.
    pub(super) fn read(value: &[u8]) -> Vec<Self> {
        let value = String::from_utf8_lossy(value);
        let tokens = tokens(&value);
        let results = tokens.split(|token| *token == Token::Semicolon).skip(1);
        results.filter_map(Self::of_tokens).collect()
    }

    fn of_tokens(tokens: &[Token]) -> Option<Self> {
        let mut reported = Self::default();
        for (at, token) in tokens.iter().enumerate() {
            let (Token::Word(name), Some(Token::Equals), Some(Token::Word(value))) =
                (token, tokens.get(at + 1), tokens.get(at + 2))
            else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            if at == 0 {
                name.split('/').next()?.clone_into(&mut reported.method);
                reported.result = value.to_ascii_lowercase();
            } else {
                reported.properties.push((name, value.clone()));
            }
        }
        (!reported.method.is_empty()).then_some(reported)
    }

    /// The domain in the first of these properties that is there. Its value may be an address.
    fn domain(&self, names: &[&str]) -> Option<Domain> {
        let found = self
            .properties
            .iter()
            .find(|(name, _)| names.contains(&name.as_str()))?;
        let value = found.1.trim_start_matches('@');
        if let Ok(address) = Address::parse(value) {
            return address.host.domain().cloned();
        }
        Domain::parse(value).ok()
    }

    /// Whether the result is a pass for this author: of DMARC, or of DKIM or SPF for an aligned
    /// domain.
    pub(super) fn passes(
        &self,
        from: &Domain,
        is_aligned: &dyn Fn(Identifier, &Domain) -> bool,
    ) -> bool {
        let by_dmarc = self.result == "pass" && self.method == "dmarc";
        by_dmarc && self.domain(&["header.from"]).as_ref() == Some(from)
            || self
                .identifier()
                .is_some_and(|(kind, domain)| is_aligned(kind, &domain))
    }

    /// The domain for which SPF or DKIM passed.
    pub(super) fn identifier(&self) -> Option<(Identifier, Domain)> {
        if self.result != "pass" {
            return None;
        }
        let (kind, names) = match self.method.as_str() {
            "dkim" => (Identifier::Dkim, ["header.d", "header.i"]),
            "spf" => (Identifier::Spf, ["smtp.mailfrom", "smtp.mfrom"]),
            _ => return None,
        };
        Some((kind, self.domain(&names)?))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Equals,
    Semicolon,
}

/// The words and signs of a value, without comments and quotes.
fn tokens(value: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = value.chars();
    let mut depth = 0_usize;
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted || depth > 0 => {
                let next = chars.next();
                if quoted {
                    word.get_or_insert_default().extend(next);
                }
            }
            '"' if depth == 0 => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if quoted => word.get_or_insert_default().push(c),
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            '=' | ';' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(if c == '=' {
                    Token::Equals
                } else {
                    Token::Semicolon
                });
            }
            c if c.is_ascii_whitespace() => tokens.extend(word.take().map(Token::Word)),
            c => word.get_or_insert_default().push(c),
        }
    }
    tokens.extend(word.map(Token::Word));
    tokens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn check(value: &str, expected: bool) {
        let aligned = |_: Identifier, found: &Domain| *found == domain("a.test");
        let reported = Reported::read(value.as_bytes());
        let passes = reported
            .iter()
            .any(|one| one.passes(&domain("a.test"), &aligned));
        assert_eq!(passes, expected, "{value}: {reported:?}");
    }

    #[test]
    fn a_pass_for_the_author_is_found() {
        for results in [
            "dmarc=pass header.from=a.test",
            "none; dmarc = pass\r\n\t(p=reject dis=none) HEADER.From=\"A.test\"",
            "spf=fail; dkim/1=pass header.i=@a.test header.b=\"x/=\"",
            "dkim=pass header.d=a.test",
            "spf=pass (a; (b) \\) c) smtp.mailfrom=\"bounce@a.test\"",
            "spf=pass smtp.mfrom=a.test",
            "dkim=pass header.d=x.test; dkim=pass header.d=a.test",
        ] {
            check(&format!(" mx.test; {results}"), true);
        }
        for results in [
            "",
            "none",
            "dmarc=pass",
            "dmarc=fail header.from=a.test",
            "dmarc=pass header.from=b.test",
            "(dmarc=pass header.from=a.test)",
            "x=\"; dmarc=pass header.from=a.test\"",
            "dkim=pass header.d=b.test; spf=fail smtp.mailfrom=a.test",
            "spf=pass smtp.helo=a.test",
            "iprev=pass policy.iprev=a.test",
            "x y=z dmarc=pass header.from=a.test",
            "(",
            "\"",
            "dmarc=",
        ] {
            check(&format!(" mx.test; {results}"), false);
        }
        check(" dmarc=pass header.from=a.test", false);
    }

    proptest! {
        #[test]
        fn any_text_is_read(value in prop::collection::vec("[a=;()\"\\\\ \u{e4}]", 0..60)) {
            let value = value.concat();
            prop_assert!(Reported::read(value.as_bytes()).len() <= value.len());
        }
    }
}
