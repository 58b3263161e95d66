//! The extensions that a server offers in its reply to EHLO.

use crate::Reply;

/// The service extensions of a server (RFC 5321 §4.1.1.1). After HELO there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The server's name.
    pub name: String,
    /// SIZE (RFC 1870) with its limit in bytes. 0: the server offers SIZE without a limit.
    pub size: Option<u64>,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030).
    pub binary_mime: bool,
    /// REQUIRETLS (RFC 8689). It only counts under TLS.
    pub require_tls: bool,
    /// MT-PRIORITY (RFC 6710).
    pub mt_priority: bool,
    /// DELIVERBY (RFC 2852) with the fewest seconds for mode R. 0: there is no such limit.
    pub deliver_by: Option<u32>,
    /// STARTTLS (RFC 3207).
    pub start_tls: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// The mechanisms of AUTH (RFC 4954), in upper case.
    pub auth: Vec<String>,
    /// LIMITS RCPTMAX (RFC 9422): the most recipients of a transaction.
    pub rcpt_max: Option<u32>,
    /// LIMITS MAILMAX (RFC 9422): the most transactions of a connection.
    pub mail_max: Option<u32>,
}

impl Extensions {
    /// The extensions in a positive reply to EHLO. It skips unknown ones.
    #[must_use]
    pub fn parse(reply: &Reply) -> Self {
        let mut lines = reply.lines();
        let name = lines
            .next()
            .and_then(|line| line.split_ascii_whitespace().next());
        let mut extensions = Self {
            name: name.unwrap_or_default().to_owned(),
            ..Self::default()
        };
        lines.for_each(|line| extensions.line(line));
        extensions
    }

    fn line(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            // Nobody can keep a limit that is not a number.
            "SIZE" => {
                self.size = Some(
                    words
                        .next()
                        .and_then(|limit| limit.parse().ok())
                        .unwrap_or(0),
                )
            }
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "CHUNKING" => self.chunking = true,
            "BINARYMIME" => self.binary_mime = true,
            "REQUIRETLS" => self.require_tls = true,
            "MT-PRIORITY" => self.mt_priority = true,
            "DELIVERBY" => {
                // Options behind a comma may follow.
                let least = words
                    .next()
                    .and_then(|it| it.split(',').next()?.parse().ok());
                self.deliver_by = Some(least.unwrap_or(0));
            }
            "STARTTLS" => self.start_tls = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "AUTH" => self.mechanisms(words),
            "LIMITS" => words.for_each(|limit| self.limit(limit)),
            // Old servers write `AUTH=LOGIN PLAIN`, for old clients.
            _ => {
                if let Some(first) = keyword.strip_prefix("AUTH=") {
                    self.mechanisms(std::iter::once(first).chain(words));
                }
            }
        }
    }

    fn mechanisms<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for mechanism in words.map(str::to_ascii_uppercase) {
            if !self.auth.contains(&mechanism) {
                self.auth.push(mechanism);
            }
        }
    }

    /// A limit in LIMITS. RFC 9422 §4: a client ignores 0, and all that is not a number.
    fn limit(&mut self, limit: &str) {
        let Some((name, value)) = limit.split_once('=') else {
            return;
        };
        let value = value.parse().ok().filter(|value| *value > 0);
        match name.to_ascii_uppercase().as_str() {
            "RCPTMAX" => self.rcpt_max = value,
            "MAILMAX" => self.mail_max = value,
            _ => {}
        }
    }

    /// The server takes binary texts (RFC 3030 §3).
    #[must_use]
    pub const fn take_binary(&self) -> bool {
        self.binary_mime && self.chunking
    }

    /// The server does not take a message of this size (RFC 1870 §6.1).
    #[must_use]
    pub fn is_too_big(&self, size: u64) -> bool {
        self.size.is_some_and(|limit| limit > 0 && size > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_known() {
        let text = "mx.example.com at your service\nSIZE 35882577\npipelining\n8BITMIME\nSTARTTLS\nENHANCEDSTATUSCODES\n\
                    AUTH PLAIN login\nAUTH=LOGIN SCRAM-SHA-256\nCHUNKING\nBINARYMIME\nSMTPUTF8\nDSN\nREQUIRETLS\nMT-PRIORITY MIXER\nDELIVERBY 240\n\
                    LIMITS RCPTMAX=100 MAILMAX=0 X=1\nX-OTHER\n";
        let found = Extensions::parse(&Reply::new(crate::ReplyCode::OK, None, text));
        let expected = Extensions {
            name: "mx.example.com".to_owned(),
            size: Some(35_882_577),
            pipelining: true,
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            chunking: true,
            binary_mime: true,
            require_tls: true,
            mt_priority: true,
            deliver_by: Some(240),
            start_tls: true,
            enhanced_status_codes: true,
            auth: ["PLAIN", "LOGIN", "SCRAM-SHA-256"]
                .map(str::to_owned)
                .to_vec(),
            rcpt_max: Some(100),
            mail_max: None,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn size_limits() {
        let with = |size| Extensions {
            size,
            ..Extensions::default()
        };
        assert!(with(Some(10)).is_too_big(11) && !with(Some(10)).is_too_big(10));
        assert!(!with(Some(0)).is_too_big(u64::MAX) && !with(None).is_too_big(u64::MAX));
    }
}
