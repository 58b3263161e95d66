//! What a trace can be found by.

use std::{hash::Hasher, net::IpAddr};

use siphasher::sip::SipHasher13;

use super::EventType;

/// A term of a search. Letters of addresses, message-ids and names of sessions are compared
/// without their case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term<'a> {
    /// A session, or with `.N` one transaction of it. A trace with `NAME.N` is found by `NAME` too.
    Session(&'a str),
    /// The number of a trace. Each trace has it by itself.
    Span(u64),
    /// The id of a queued message.
    Queue(u64),
    /// A Message-ID, with or without `<` and `>`.
    MessageId(&'a str),
    /// The reverse-path; empty for the null reverse-path.
    Sender(&'a str),
    /// A recipient.
    Recipient(&'a str),
    /// The address of the other side.
    RemoteIp(IpAddr),
    /// An account.
    Account(&'a str),
    /// A type that an event of the trace has. Each trace has those by itself.
    Type(EventType),
    /// The id of a webhook call.
    Hook(u64),
}

/// What of a term is kept beside its hash.
pub(super) enum Found<'a> {
    Session(&'a str),
    Queue(u64),
    Recipient(&'a str),
    Account(&'a str),
    Other,
}

impl<'a> Term<'a> {
    pub(super) const fn found(self) -> Found<'a> {
        match self {
            Self::Session(name) => Found::Session(name),
            Self::Queue(id) => Found::Queue(id),
            Self::Recipient(address) => Found::Recipient(address),
            Self::Account(account) => Found::Account(account),
            _ => Found::Other,
        }
    }

    /// The hash of the term. It is part of the format of the files.
    pub(super) fn hash(self) -> u64 {
        let mut hasher = SipHasher13::new();
        match self {
            Self::Session(name) => lower(&mut hasher, 1, name),
            Self::Span(span) => number(&mut hasher, 2, span),
            Self::Queue(id) => number(&mut hasher, 3, id),
            Self::MessageId(id) => {
                let id = id.trim();
                let inner = id.strip_prefix('<').unwrap_or(id);
                lower(&mut hasher, 4, inner.strip_suffix('>').unwrap_or(inner));
            }
            Self::Sender(address) => lower(&mut hasher, 5, address),
            Self::Recipient(address) => lower(&mut hasher, 6, address),
            Self::RemoteIp(address) => {
                hasher.write_u8(7);
                match address.to_canonical() {
                    IpAddr::V4(address) => hasher.write(&address.octets()),
                    IpAddr::V6(address) => hasher.write(&address.octets()),
                }
            }
            Self::Account(account) => {
                hasher.write_u8(8);
                hasher.write(account.as_bytes());
            }
            Self::Type(event) => number(&mut hasher, 9, u64::from(event.number())),
            Self::Hook(id) => number(&mut hasher, 10, id),
        }
        hasher.finish()
    }
}

fn number(hasher: &mut SipHasher13, kind: u8, number: u64) {
    hasher.write_u8(kind);
    hasher.write(&number.to_le_bytes());
}

/// Without a copy where the text has ASCII only, as nearly all have.
fn lower(hasher: &mut SipHasher13, kind: u8, text: &str) {
    hasher.write_u8(kind);
    if text.is_ascii() {
        let mut piece = [0; 64];
        for bytes in text.as_bytes().chunks(piece.len()) {
            for (to, from) in piece.iter_mut().zip(bytes) {
                *to = from.to_ascii_lowercase();
            }
            hasher.write(piece.get(..bytes.len()).unwrap_or_default());
        }
    } else {
        hasher.write(text.to_lowercase().as_bytes());
    }
}

/// The domain of an address; empty if it has none.
pub(super) fn address_domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_has_the_same_hash() {
        let long = format!("{}@Example.com", "A".repeat(70));
        let lowered = long.to_lowercase();
        for (one, other, is_same) in [
            (Term::Sender("A@b.test"), Term::Sender("a@B.test"), true),
            (Term::Sender("a@b.test"), Term::Recipient("a@b.test"), false),
            (Term::Sender(&long), Term::Sender(&lowered), true),
            (
                Term::Sender("\u{c4}@b.test"),
                Term::Sender("\u{e4}@b.test"),
                true,
            ),
            (Term::MessageId("<i@b>"), Term::MessageId("i@b"), true),
            (Term::MessageId("<i@b>"), Term::MessageId("j@b"), false),
            (Term::Queue(1), Term::Span(1), false),
            (Term::Queue(1), Term::Hook(1), false),
            (
                Term::RemoteIp("192.0.2.1".parse().unwrap()),
                Term::RemoteIp("::ffff:192.0.2.1".parse().unwrap()),
                true,
            ),
            (Term::Account("app"), Term::Account("App"), false),
        ] {
            assert_eq!(one.hash() == other.hash(), is_same, "{one:?} {other:?}");
        }
    }

    /// A change of the hashes needs a new version of the format.
    #[test]
    fn hashes_stay_as_they_are() {
        assert_eq!(Term::Queue(7301).hash(), 1_318_886_752_054_218_342);
    }
}
