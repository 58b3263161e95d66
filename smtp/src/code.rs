//! Reply codes of three digits (RFC 5321 §4.2) and enhanced status codes (RFC 3463).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A reply code from 200 to 599 (RFC 5321 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ReplyCode(u16);

impl ReplyCode {
    /// The status of the system.
    pub const STATUS: Self = Self(211);
    /// Help.
    pub const HELP: Self = Self(214);
    /// The service is ready. This is the greeting, and the reply to STARTTLS.
    pub const READY: Self = Self(220);
    /// The server closes the connection.
    pub const CLOSING: Self = Self(221);
    /// The authentication succeeded (RFC 4954).
    pub const AUTHENTICATED: Self = Self(235);
    /// Done.
    pub const OK: Self = Self(250);
    /// The server will forward the message elsewhere.
    pub const WILL_FORWARD: Self = Self(251);
    /// The server cannot verify the user, but will accept the message.
    pub const CANNOT_VERIFY: Self = Self(252);
    /// A challenge of the authentication exchange (RFC 4954).
    pub const CHALLENGE: Self = Self(334);
    /// The message may come.
    pub const START_DATA: Self = Self(354);
    /// The service is not available, and the connection closes.
    pub const UNAVAILABLE: Self = Self(421);
    /// The mailbox is not available now.
    pub const MAILBOX_BUSY: Self = Self(450);
    /// The server had an error of its own.
    pub const LOCAL_ERROR: Self = Self(451);
    /// The server has not enough storage, or the transaction has too many recipients
    /// (RFC 5321 §4.5.3.1.10).
    pub const INSUFFICIENT_STORAGE: Self = Self(452);
    /// The authentication failed for now (RFC 4954), or TLS is not available now (RFC 3207).
    pub const TEMPORARY_FAILURE: Self = Self(454);
    /// The server cannot satisfy the parameters now.
    pub const PARAMETERS_BUSY: Self = Self(455);
    /// The server does not know the command.
    pub const SYNTAX_ERROR: Self = Self(500);
    /// The parameters have a syntax error.
    pub const PARAMETER_ERROR: Self = Self(501);
    /// The server does not implement the command.
    pub const NOT_IMPLEMENTED: Self = Self(502);
    /// The command comes at the wrong time.
    pub const BAD_SEQUENCE: Self = Self(503);
    /// The server does not implement the parameter.
    pub const PARAMETER_NOT_IMPLEMENTED: Self = Self(504);
    /// The message needs encryption (RFC 5248 §3, with 5.7.10).
    pub const ENCRYPTION_NEEDED: Self = Self(523);
    /// The credentials are right, and the account is disabled (RFC 5248 §3, with 5.7.13).
    pub const ACCOUNT_DISABLED: Self = Self(525);
    /// The command needs a login (RFC 4954) or STARTTLS (RFC 3207).
    pub const AUTHENTICATION_REQUIRED: Self = Self(530);
    /// The credentials are right, and too weak for this user (RFC 4954).
    pub const AUTHENTICATION_TOO_WEAK: Self = Self(534);
    /// The credentials are wrong (RFC 4954).
    pub const AUTHENTICATION_FAILED: Self = Self(535);
    /// The mechanism needs encryption (RFC 4954).
    pub const ENCRYPTION_REQUIRED: Self = Self(538);
    /// The mailbox does not exist, or the policy refuses.
    pub const MAILBOX_UNAVAILABLE: Self = Self(550);
    /// The user is not local.
    pub const NOT_LOCAL: Self = Self(551);
    /// The message is too big, or the mailbox is full.
    pub const STORAGE_EXCEEDED: Self = Self(552);
    /// The name of the mailbox is not allowed.
    pub const NAME_NOT_ALLOWED: Self = Self(553);
    /// The transaction failed. As a greeting: there is no SMTP service here.
    pub const TRANSACTION_FAILED: Self = Self(554);
    /// The server does not know the parameters of MAIL or RCPT.
    pub const PARAMETERS_UNKNOWN: Self = Self(555);
    /// The domain does not accept mail (RFC 7504).
    pub const NO_MAIL: Self = Self(556);

    /// The code of this number. None outside of 200 to 599.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 200 && code < 600 {
            Some(Self(code))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The first digit, 2 to 5.
    #[must_use]
    pub const fn class(self) -> u8 {
        match self.0 / 100 {
            2 => 2,
            3 => 3,
            4 => 4,
            _ => 5,
        }
    }

    /// 2xx: the command is done.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.class() == 2
    }

    /// 3xx: the server waits for more.
    #[must_use]
    pub const fn is_intermediate(self) -> bool {
        self.class() == 3
    }

    /// 4xx: the command may succeed later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        self.class() == 4
    }

    /// 5xx: the same command will fail again.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        self.class() == 5
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u16> for ReplyCode {
    type Error = InvalidCode;

    fn try_from(code: u16) -> Result<Self, InvalidCode> {
        Self::new(code).ok_or(InvalidCode)
    }
}

impl<'de> Deserialize<'de> for ReplyCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(u16::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A number or a text is neither a reply code nor an enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid status code")]
pub struct InvalidCode;

/// An enhanced status code (RFC 3463; registry of RFC 5248). Its serialized form is text like
/// `5.1.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedCode {
    /// The class: 2 success, 4 transient failure, 5 permanent failure.
    pub class: u8,
    /// The subject: 1 addressing, 2 mailbox, 3 mail system, 4 network and routing, 5 protocol, 6
    /// content, 7 security and policy.
    pub subject: u16,
    /// The condition within the subject.
    pub detail: u16,
}

/// The registered codes that postrider uses, by number. A name without a class in it stands for the
/// class that is usual for the condition. [`EnhancedCode::with_class`] gives the same condition in
/// another class.
impl EnhancedCode {
    /// 2.0.0: done.
    pub const OK: Self = Self::success(0, 0);
    /// 4.0.0: a failure without a known cause.
    pub const TRANSIENT: Self = Self::transient(0, 0);
    /// 5.0.0: a failure without a known cause.
    pub const PERMANENT: Self = Self::permanent(0, 0);
    /// 2.1.0: the sender is accepted.
    pub const SENDER_OK: Self = Self::success(1, 0);
    /// 5.1.1: no such mailbox.
    pub const UNKNOWN_MAILBOX: Self = Self::permanent(1, 1);
    /// 5.1.2: no such domain.
    pub const UNKNOWN_SYSTEM: Self = Self::permanent(1, 2);
    /// 5.1.3: the syntax of the recipient's address is wrong.
    pub const BAD_RECIPIENT_SYNTAX: Self = Self::permanent(1, 3);
    /// 2.1.5: the recipient is accepted.
    pub const RECIPIENT_OK: Self = Self::success(1, 5);
    /// 5.1.7: the syntax of the sender's address is wrong.
    pub const BAD_SENDER_SYNTAX: Self = Self::permanent(1, 7);
    /// 5.1.8: the sender's domain cannot receive mail.
    pub const BAD_SENDER_SYSTEM: Self = Self::permanent(1, 8);
    /// 5.1.10: the recipient's domain has a null MX (RFC 7505).
    pub const NULL_MX: Self = Self::permanent(1, 10);
    /// 5.2.1: the mailbox is disabled.
    pub const MAILBOX_DISABLED: Self = Self::permanent(2, 1);
    /// 4.2.2: the mailbox is full.
    pub const MAILBOX_FULL: Self = Self::transient(2, 2);
    /// 4.2.4: mailing list expansion problem (RFC 3463 §3.3).
    pub const LIST_PROBLEM: Self = Self::transient(2, 4);
    /// 4.3.0: another failure of the mail system.
    pub const SYSTEM_TRANSIENT: Self = Self::transient(3, 0);
    /// 5.3.0: another failure of the mail system.
    pub const SYSTEM: Self = Self::permanent(3, 0);
    /// 4.3.1: the storage is full.
    pub const SYSTEM_FULL: Self = Self::transient(3, 1);
    /// 4.3.2: the system takes no mail now.
    pub const NOT_ACCEPTING: Self = Self::transient(3, 2);
    /// 5.3.4: the message is too big for the system.
    pub const TOO_BIG: Self = Self::permanent(3, 4);
    /// 4.3.5: the system is configured wrongly.
    pub const MISCONFIGURED: Self = Self::transient(3, 5);
    /// 4.4.1: the host does not answer.
    pub const NO_ANSWER: Self = Self::transient(4, 1);
    /// 4.4.2: the connection broke, or was too slow.
    pub const BAD_CONNECTION: Self = Self::transient(4, 2);
    /// 4.4.3: a directory (the DNS) did not answer.
    pub const DIRECTORY_FAILURE: Self = Self::transient(4, 3);
    /// 4.4.4: there is no route to the domain.
    pub const NO_ROUTE_TRANSIENT: Self = Self::transient(4, 4);
    /// 5.4.4: there is no route to the domain.
    pub const NO_ROUTE: Self = Self::permanent(4, 4);
    /// 5.4.6: the message is in a loop.
    pub const LOOP: Self = Self::permanent(4, 6);
    /// 4.4.7: the time for the delivery is over. Class 5 when nobody tries again.
    pub const EXPIRED: Self = Self::transient(4, 7);
    /// 2.5.0: the command was understood.
    pub const PROTOCOL_OK: Self = Self::success(5, 0);
    /// 5.5.0: another failure of the protocol.
    pub const PROTOCOL: Self = Self::permanent(5, 0);
    /// 5.5.1: the command is unknown, or comes at the wrong time.
    pub const INVALID_COMMAND: Self = Self::permanent(5, 1);
    /// 5.5.2: the syntax of the command is wrong.
    pub const SYNTAX: Self = Self::permanent(5, 2);
    /// 4.5.3: too many recipients.
    pub const TOO_MANY_RECIPIENTS: Self = Self::transient(5, 3);
    /// 5.5.4: the arguments of the command are wrong.
    pub const INVALID_ARGUMENTS: Self = Self::permanent(5, 4);
    /// A line of an authentication exchange is too long (RFC 4954 §6).
    pub const AUTH_LINE_TOO_LONG: Self = Self::permanent(5, 6);
    /// 2.6.0: the content is accepted.
    pub const CONTENT_OK: Self = Self::success(6, 0);
    /// 5.6.0: another failure of the content.
    pub const CONTENT: Self = Self::permanent(6, 0);
    /// 5.6.3: a conversion is needed and not supported.
    pub const CONVERSION: Self = Self::permanent(6, 3);
    /// 5.6.7: addresses must be ASCII (RFC 6531).
    pub const NON_ASCII_ADDRESS: Self = Self::permanent(6, 7);
    /// 5.6.9: a header section in UTF-8 can't be sent on (RFC 6531).
    pub const UTF8_HEADER: Self = Self::permanent(6, 9);
    /// 2.7.0: the client is authenticated.
    pub const SECURITY_OK: Self = Self::success(7, 0);
    /// 4.7.0: another refusal for security or policy.
    pub const SECURITY_TRANSIENT: Self = Self::transient(7, 0);
    /// 5.7.0: another refusal for security or policy.
    pub const SECURITY: Self = Self::permanent(7, 0);
    /// 5.7.1: the delivery is not authorised.
    pub const NOT_AUTHORIZED: Self = Self::permanent(7, 1);
    /// 5.7.2: mailing list expansion prohibited (RFC 3463 §3.8).
    pub const LIST_PROHIBITED: Self = Self::permanent(7, 2);
    /// 4.7.4: a needed security feature is not supported (RFC 3463 §3.8).
    pub const NO_SECURITY_FEATURE: Self = Self::transient(7, 4);
    /// 4.7.5: a cryptographic failure.
    pub const CRYPTOGRAPHIC_FAILURE: Self = Self::transient(7, 5);
    /// 5.7.8: the credentials are wrong (RFC 4954).
    pub const BAD_CREDENTIALS: Self = Self::permanent(7, 8);
    /// 5.7.9: the credentials are too weak for this user (RFC 4954).
    pub const AUTHENTICATION_TOO_WEAK: Self = Self::permanent(7, 9);
    /// 5.7.10: encryption is needed.
    pub const ENCRYPTION_NEEDED: Self = Self::permanent(7, 10);
    /// 5.7.11: the mechanism of authentication needs encryption.
    pub const ENCRYPTION_REQUIRED: Self = Self::permanent(7, 11);
    /// 5.7.13: the user's account is disabled.
    pub const ACCOUNT_DISABLED: Self = Self::permanent(7, 13);
    /// 5.7.26: neither SPF nor DKIM passed (RFC 7372 §3.3).
    pub const AUTHOR_NOT_PROVED: Self = Self::permanent(7, 26);
    /// 5.7.27: the sender's domain has a null MX (RFC 7505 §4.2).
    pub const SENDER_NULL_MX: Self = Self::permanent(7, 27);
    /// 4.7.28: too much mail comes from a network (registry of RFC 5248).
    pub const RATE_LIMITED: Self = Self::transient(7, 28);
    /// 5.7.30: the server must support REQUIRETLS (RFC 8689).
    pub const REQUIRETLS_NEEDED: Self = Self::permanent(7, 30);

    /// A code of class 2.
    #[must_use]
    pub const fn success(subject: u16, detail: u16) -> Self {
        Self {
            class: 2,
            subject,
            detail,
        }
    }

    /// A code of class 4.
    #[must_use]
    pub const fn transient(subject: u16, detail: u16) -> Self {
        Self {
            class: 4,
            subject,
            detail,
        }
    }

    /// A code of class 5.
    #[must_use]
    pub const fn permanent(subject: u16, detail: u16) -> Self {
        Self {
            class: 5,
            subject,
            detail,
        }
    }

    /// The same condition in another class.
    #[must_use]
    pub const fn with_class(self, class: u8) -> Self {
        Self { class, ..self }
    }

    /// Splits a reply's text into the code at its beginning and the rest.
    pub(crate) fn split(text: &str) -> Option<(Self, &str)> {
        let (first, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        Some((first.parse().ok()?, rest.trim_start_matches([' ', '\t'])))
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl FromStr for EnhancedCode {
    type Err = InvalidCode;

    /// RFC 3463 §2: the class is 2, 4 or 5. Subject and detail have one to three digits.
    fn from_str(text: &str) -> Result<Self, InvalidCode> {
        let number = |part: Option<&str>| -> Result<u16, InvalidCode> {
            let part = part.filter(|part| {
                (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
            });
            part.and_then(|part| part.parse().ok()).ok_or(InvalidCode)
        };
        let mut parts = text.split('.');
        let class = match parts.next() {
            Some("2") => 2,
            Some("4") => 4,
            Some("5") => 5,
            _ => return Err(InvalidCode),
        };
        let code = Self {
            class,
            subject: number(parts.next())?,
            detail: number(parts.next())?,
        };
        if parts.next().is_some() {
            Err(InvalidCode)
        } else {
            Ok(code)
        }
    }
}

impl Serialize for EnhancedCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EnhancedCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = EnhancedCode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an enhanced status code like 5.1.1")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<EnhancedCode, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes_as_text() {
        for good in ["2.0.0", "5.1.1", "4.7.30", "5.999.999"] {
            assert_eq!(good.parse::<EnhancedCode>().unwrap().to_string(), good);
        }
        for bad in [
            "", "5", "5.1", "5.1.", "5.1.1.1", "3.1.1", "5.1.1000", "5.+1.1", "5. 1.1", "x.1.1",
        ] {
            assert!(bad.parse::<EnhancedCode>().is_err(), "{bad}");
        }
    }
}
