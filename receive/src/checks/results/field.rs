//! The Authentication-Results field (RFC 8601 §2.2).
//!
//! Each result has a line of its own. The values come from strangers: what is no token is quoted,
//! and characters other than printable ASCII become `?`.

use std::net::IpAddr;

use super::AuthenticationResults;
use crate::checks::{
    arc::ArcResult,
    dkim::DkimResult,
    dmarc::{DmarcOutcome, DmarcResult},
    iprev::IprevResult,
    spf::{SpfIdentity, SpfOutcome, SpfResult},
};

/// A line that would grow above this is folded.
const LINE_MAX: usize = 200;
/// The longest reason or comment in characters. The rest of a longer one is left out.
const WORDS_MAX: usize = 200;
/// The longest value of a property in characters. A longer one is left out.
const VALUE_MAX: usize = 255;
/// How many characters of a signature are enough, if no other signature begins with them (RFC 6008
/// §4).
const SIGNATURE_MIN: usize = 8;

impl AuthenticationResults {
    /// The field with its line end. `host` is our host name. `differs` is a word about why our
    /// decision differs from the DMARC policy, for example `junk: sent by a list`. None if it does
    /// not differ.
    #[must_use]
    pub fn field(&self, host: &str, differs: Option<&str>) -> String {
        let results = self.written(differs);
        let mut field = format!("Authentication-Results: {}", value(host));
        if results.is_empty() {
            field.push_str("; none");
        }
        for (at, result) in results.iter().enumerate() {
            field.push_str(if at == 0 { "; " } else { ";\r\n\t" });
            let mut line = field.len() - field.rfind('\n').map_or(0, |end| end + 1);
            for (at, piece) in result.pieces.iter().enumerate() {
                if at > 0 && line + piece.len() >= LINE_MAX {
                    field.push_str("\r\n\t");
                    line = 1;
                } else if at > 0 {
                    field.push(' ');
                    line += 1;
                }
                field.push_str(piece);
                line += piece.len();
            }
        }
        field.push_str("\r\n");
        field
    }

    fn written(&self, differs: Option<&str>) -> Vec<Written> {
        let mut all: Vec<Written> = Vec::new();
        all.extend(self.iprev.as_ref().map(iprev));
        all.extend(self.spf.as_ref().map(spf));
        all.extend(self.dkim.iter().enumerate().map(|(at, result)| {
            let length = self.shown_of_signature(at);
            dkim(result, length)
        }));
        all.extend(self.arc.as_ref().map(arc));
        all.extend(self.dmarc.as_ref().map(|result| dmarc(result, differs)));
        all
    }

    /// How many characters of a signature tell it from the others.
    fn shown_of_signature(&self, at: usize) -> usize {
        let Some(own) = self.dkim.get(at).map(|result| result.signature.as_bytes()) else {
            return SIGNATURE_MIN;
        };
        let others = self
            .dkim
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at);
        let shared = others.map(|(_, other)| {
            let pairs = own.iter().zip(other.signature.as_bytes());
            pairs.take_while(|(a, b)| a == b).count() + 1
        });
        shared.max().unwrap_or(0).max(SIGNATURE_MIN)
    }
}

/// A result in the pieces between which it may be folded.
struct Written {
    pieces: Vec<String>,
}

impl Written {
    fn new(method: &str, outcome: &str) -> Self {
        Self {
            pieces: vec![format!("{method}={outcome}")],
        }
    }

    fn comment(mut self, text: Option<&str>) -> Self {
        self.pieces.extend(text.map(comment));
        self
    }

    fn reason(mut self, text: Option<&str>) -> Self {
        let reason = |text: &str| format!("reason={}", quoted(text.chars().take(WORDS_MAX)));
        self.pieces.extend(text.map(reason));
        self
    }

    fn property(mut self, name: &str, text: &str) -> Self {
        if text.chars().count() <= VALUE_MAX {
            self.pieces.push(format!("{name}={}", value(text)));
        }
        self
    }

    fn address(self, name: &str, address: IpAddr) -> Self {
        self.property(name, &address.to_string())
    }

    fn optional(self, name: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.property(name, text),
            None => self,
        }
    }
}

/// RFC 8601 §3.
fn iprev(result: &IprevResult) -> Written {
    Written::new("iprev", result.outcome.as_str())
        .reason(result.reason.as_deref())
        .address("policy.iprev", result.address)
}

/// RFC 8601 §2.7.2.
fn spf(result: &SpfResult) -> Written {
    let speaks = !matches!(
        result.outcome,
        SpfOutcome::Pass | SpfOutcome::None | SpfOutcome::Neutral
    );
    let property = match result.identity {
        SpfIdentity::Helo => "smtp.helo",
        SpfIdentity::MailFrom => "smtp.mailfrom",
    };
    let domain = result.domain.as_ref().map(|domain| domain.ascii());
    Written::new("spf", result.outcome.as_str())
        .reason(Some(result.reason.as_str()).filter(|_| speaks))
        .optional(property, domain)
}

/// RFC 8601 §2.7.1, RFC 6008.
fn dkim(result: &DkimResult, shown: usize) -> Written {
    let signature: String = result.signature.chars().take(shown).collect();
    let signature = Some(signature.as_str()).filter(|text| !text.is_empty());
    Written::new("dkim", result.outcome.as_str())
        .reason(result.reason.as_deref())
        .optional(
            "header.d",
            result.domain.as_ref().map(|domain| domain.ascii()),
        )
        .optional("header.i", result.identity.as_deref())
        .optional("header.s", result.selector.as_deref())
        .optional("header.a", result.algorithm.as_deref())
        .optional("header.b", signature)
}

/// RFC 8617 §10.2.
fn arc(result: &ArcResult) -> Written {
    let oldest = result.oldest_pass.map(|instance| instance.to_string());
    let written = Written::new("arc", result.outcome.as_str())
        .reason(result.reason.as_deref())
        .optional("header.oldest-pass", oldest.as_deref());
    match result.remote_ip {
        Some(address) => written.address("smtp.remote-ip", address.to_canonical()),
        None => written,
    }
}

/// RFC 9989 §9, RFC 8601 §2.7.7.
fn dmarc(result: &DmarcResult, overridden: Option<&str>) -> Written {
    let is_error = matches!(
        result.outcome,
        DmarcOutcome::TempError | DmarcOutcome::PermError
    );
    Written::new("dmarc", result.outcome.as_str())
        .comment(overridden)
        .reason(Some(result.reason.as_str()).filter(|_| is_error))
        .optional(
            "header.from",
            result.from.as_ref().map(|domain| domain.ascii()),
        )
        .optional("policy.dmarc", result.policy.map(|policy| policy.as_str()))
}

/// A token or an address as it is, another value as a quoted string (RFC 8601 §2.2, `pvalue`).
fn value(text: &str) -> String {
    let (local_part, domain) = text.split_once('@').unwrap_or(("", text));
    match local_part.bytes().all(is_of_token)
        && !domain.is_empty()
        && domain.bytes().all(is_of_token)
    {
        true => text.to_owned(),
        false => quoted(text.chars()),
    }
}

/// A byte of a token (RFC 2045 §5.1).
pub(super) fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte)
}

fn quoted(text: impl Iterator<Item = char>) -> String {
    framed('"', text, '"')
}

fn comment(text: &str) -> String {
    framed('(', text.chars().take(WORDS_MAX), ')')
}

/// The text with escapes, in its frame.
fn framed(open: char, text: impl Iterator<Item = char>, close: char) -> String {
    let mut framed = String::from(open);
    for c in text {
        if c == open || c == close || c == '\\' {
            framed.push('\\');
        }
        framed.push(if c.is_ascii_graphic() || c == ' ' {
            c
        } else {
            '?'
        });
    }
    framed.push(close);
    framed
}
