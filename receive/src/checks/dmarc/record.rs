//! DMARC records (RFC 9989 §4.7 and §4.8).
//!
//! A tag with a wrong value counts as absent. Of a tag that is there twice, the first counts.

use postrider_store::DmarcPublished;

use super::{DmarcPolicy, Identifier};
use crate::checks::dkim::tags::name_and_value;

/// What a record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// `p=`. None if it is absent or wrong.
    policy: Option<DmarcPolicy>,
    /// `sp=`: for names below that exist.
    below: Option<DmarcPolicy>,
    /// `np=`: for names below that do not exist.
    missing: Option<DmarcPolicy>,
    /// `p=` is absent, or one of the policies is wrong.
    faulty: bool,
    /// An address for aggregate reports is valid.
    has_report_address: bool,
    /// `adkim=s`.
    dkim_strict: bool,
    /// `aspf=s`.
    spf_strict: bool,
    /// `t=y`, or `pct=0` of RFC 7489, which was used for the same.
    testing: bool,
    /// `psd=`.
    pub(super) suffix: Suffix,
}

/// Whether the domain is a public suffix (`psd=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Suffix {
    /// The domain is a public suffix.
    Yes,
    /// The domain is none: it is the organisation.
    No,
    /// The record does not say.
    #[default]
    Unknown,
}

/// Where the author's domain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    /// It has the record itself.
    Here,
    /// It is below the domain that has the record.
    Below,
    /// It is below, and does not exist.
    Missing,
}

impl Record {
    /// Reads a TXT record. None if it is no DMARC record: it must begin with `v=DMARC1`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut tags = text.split(|byte| *byte == b';').map(name_and_value);
        let (name, version) = tags.next()??;
        if !name.eq_ignore_ascii_case(b"v") || version != b"DMARC1" {
            return None;
        }
        let mut record = Self::default();
        let mut seen: Vec<Tag> = Vec::new();
        for (name, value) in tags.flatten() {
            let Some(tag) = Tag::named(name).filter(|tag| !seen.contains(tag)) else {
                continue;
            };
            seen.push(tag);
            record.read(tag, value);
        }
        record.faulty |= record.policy.is_none();
        Some(record)
    }

    fn read(&mut self, tag: Tag, value: &[u8]) {
        let is = |word: &[u8]| value.eq_ignore_ascii_case(word);
        let policy = [
            DmarcPolicy::None,
            DmarcPolicy::Quarantine,
            DmarcPolicy::Reject,
        ]
        .into_iter()
        .find(|policy| is(policy.as_str().as_bytes()));
        match tag {
            Tag::Policy => self.policy = policy,
            Tag::Below => {
                self.below = policy;
                self.faulty |= policy.is_none();
            }
            Tag::Missing => {
                self.missing = policy;
                self.faulty |= policy.is_none();
            }
            Tag::DkimAlignment => self.dkim_strict = is(b"s"),
            Tag::SpfAlignment => self.spf_strict = is(b"s"),
            Tag::Testing => self.testing |= is(b"y"),
            Tag::Percent => self.testing |= is(b"0"),
            Tag::Suffix if is(b"y") => self.suffix = Suffix::Yes,
            Tag::Suffix if is(b"n") => self.suffix = Suffix::No,
            Tag::Suffix => {}
            Tag::Reports => {
                self.has_report_address = value.split(|byte| *byte == b',').any(is_uri);
            }
        }
    }

    /// The policy for an author (RFC 9989 §4.10.1), lowered by one if the domain only tests it.
    /// None if there is no DMARC for the author: a policy is absent or wrong, and nobody gets
    /// reports.
    pub(super) fn policy_for(&self, author: Author) -> Option<DmarcPolicy> {
        if self.faulty {
            return self.has_report_address.then_some(DmarcPolicy::None);
        }
        let below = self.below.or(self.policy);
        let policy = match author {
            Author::Here => self.policy,
            Author::Below => below,
            Author::Missing => self.missing.or(below),
        };
        match self.testing {
            true => policy.map(DmarcPolicy::lowered),
            false => policy,
        }
    }

    /// What the record says, for reports to its domain.
    pub(super) fn published(&self) -> DmarcPublished {
        DmarcPublished {
            policy: self.policy.map(DmarcPolicy::action),
            below: self.below.map(DmarcPolicy::action),
            missing: self.missing.map(DmarcPolicy::action),
            dkim_strict: self.dkim_strict,
            spf_strict: self.spf_strict,
            testing: self.testing,
        }
    }

    /// Alignment is strict for domains that this check proves.
    pub(super) const fn is_strict(&self, identifier: Identifier) -> bool {
        match identifier {
            Identifier::Spf => self.spf_strict,
            Identifier::Dkim => self.dkim_strict,
        }
    }

    /// It matters for the policy whether a name below exists.
    pub(super) fn asks_for_existence(&self) -> bool {
        self.policy_for(Author::Below) != self.policy_for(Author::Missing)
    }
}

/// The tags that we read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tag {
    Policy,
    Below,
    Missing,
    DkimAlignment,
    SpfAlignment,
    Testing,
    Percent,
    Suffix,
    Reports,
}

impl Tag {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_slice() {
            b"p" => Self::Policy,
            b"sp" => Self::Below,
            b"np" => Self::Missing,
            b"adkim" => Self::DkimAlignment,
            b"aspf" => Self::SpfAlignment,
            b"t" => Self::Testing,
            b"pct" => Self::Percent,
            b"psd" => Self::Suffix,
            b"rua" => Self::Reports,
            _ => return None,
        })
    }
}

/// An address for reports (RFC 9989 §4.6). RFC 7489 let a size stand behind it, after `!`.
fn is_uri(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let text = text.split(|byte| *byte == b'!').next().unwrap_or_default();
    let Some(colon) = text.iter().position(|byte| *byte == b':') else {
        return false;
    };
    let (scheme, rest) = text.split_at_checked(colon).unwrap_or_default();
    let rest = rest.get(1..).unwrap_or_default();
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    let has_mailbox = || {
        let at = rest.iter().position(|byte| *byte == b'@');
        at.is_some_and(|at| at > 0 && at + 1 < rest.len())
    };
    is_scheme
        && !rest.is_empty()
        && rest.iter().all(u8::is_ascii_graphic)
        && (!scheme.eq_ignore_ascii_case(b"mailto") || has_mailbox())
}

#[cfg(test)]
mod tests {
    use postrider_store::DmarcAction;
    use proptest::prelude::*;

    use super::*;

    /// The policies of a record: for its domain, for names below, and for missing names.
    fn check(text: &str, expected: &str) {
        let Some(record) = Record::parse(text.as_bytes()) else {
            assert_eq!(expected, "no record", "{text}");
            return;
        };
        let found = [Author::Here, Author::Below, Author::Missing].map(|author| {
            record
                .policy_for(author)
                .map_or("nothing", DmarcPolicy::as_str)
        });
        assert_eq!(found.join(" "), expected, "{text}");
        assert_eq!(record.asks_for_existence(), found[1] != found[2], "{text}");
    }

    #[test]
    fn policies_are_read() {
        for (text, expected) in [
            ("v=DMARC1; p=reject", "reject reject reject"),
            ("v=DMARC1;p=reject;", "reject reject reject"),
            (" V = DMARC1 ; P = Reject ; SP=none ", "reject none none"),
            (
                "v=DMARC1; p=none; sp=quarantine; np=reject",
                "none quarantine reject",
            ),
            ("v=DMARC1; p=none; np=reject", "none none reject"),
            (
                "v=DMARC1; p=reject; sp=quarantine; t=y",
                "quarantine none none",
            ),
            (
                "v=DMARC1; p=reject; pct=0",
                "quarantine quarantine quarantine",
            ),
            ("v=DMARC1; p=reject; pct=99; t=n", "reject reject reject"),
            (
                "v=DMARC1; p=reject; t=y; pct=0",
                "quarantine quarantine quarantine",
            ),
            ("v=DMARC1; p=reject; p=none", "reject reject reject"),
            (
                "v=DMARC1; ; x; =; p=reject; \u{e4}=\u{e4}",
                "reject reject reject",
            ),
            ("v=DMARC1", "nothing nothing nothing"),
            ("v=DMARC1; p=", "nothing nothing nothing"),
            ("v=DMARC1; p=block; sp=reject", "nothing nothing nothing"),
            ("v=DMARC1; p=reject; sp=block", "nothing nothing nothing"),
            (
                "v=DMARC1; p=reject; np=block; rua=mailto:a@b.test",
                "none none none",
            ),
            ("v=DMARC1; rua=mailto:a@b.test", "none none none"),
            ("v=DMARC1; rua= x, mailto:a@b.test!10m ;", "none none none"),
            ("v=DMARC1; rua=https://b.test/r", "none none none"),
            ("v=DMARC1; rua=a@b.test", "nothing nothing nothing"),
            ("v=DMARC1; rua=mailto:a", "nothing nothing nothing"),
            ("v=DMARC1; rua=mailto:@b.test", "nothing nothing nothing"),
            ("v=DMARC1; rua=1:a", "nothing nothing nothing"),
            ("v=DMARC1; rua=mailto:", "nothing nothing nothing"),
            ("v=dmarc1; p=reject", "no record"),
            ("v=DMARC1 p=reject", "no record"),
            ("v=DMARC10; p=reject", "no record"),
            ("p=reject; v=DMARC1", "no record"),
            ("; v=DMARC1; p=reject", "no record"),
            ("v=spf1 -all", "no record"),
            ("", "no record"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn flags_are_read() {
        let record = |text: &str| Record::parse(text.as_bytes()).unwrap();
        let strict = record("v=DMARC1; p=none; adkim=S; aspf=s; psd=Y");
        assert!(strict.dkim_strict && strict.spf_strict && strict.suffix == Suffix::Yes);
        let relaxed = record("v=DMARC1; p=none; adkim=r; aspf=x; psd=n");
        assert!(!relaxed.dkim_strict && !relaxed.spf_strict && relaxed.suffix == Suffix::No);
        assert_eq!(record("v=DMARC1; p=none; psd=u").suffix, Suffix::Unknown);
    }

    #[test]
    fn a_report_shows_what_the_record_says() {
        for (text, expected) in [
            ("v=DMARC1; p=reject", "reject - - r r n"),
            (
                "v=DMARC1; p=none; sp=quarantine; np=reject; adkim=s; t=y",
                "none quarantine reject s r y",
            ),
            (
                "v=DMARC1; p=block; rua=mailto:a@b.test; aspf=s",
                "- - - r s n",
            ),
        ] {
            let published = Record::parse(text.as_bytes()).unwrap().published();
            let word = |action: Option<DmarcAction>| action.map_or("-", DmarcAction::name);
            let mode = |strict: bool| if strict { "s" } else { "r" };
            let found = [
                word(published.policy),
                word(published.below),
                word(published.missing),
                mode(published.dkim_strict),
                mode(published.spf_strict),
                if published.testing { "y" } else { "n" },
            ];
            assert_eq!(found.join(" "), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(
            begin in prop::bool::ANY,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            tags in "([a-z]{1,4} ?= ?[a-zA-Z0-9:@!,.]{0,12} ?; ?){0,8}",
        ) {
            let version: &[u8] = if begin { b"v=DMARC1;" } else { b"" };
            let _ = Record::parse(&[version, &bytes].concat());
            let read = Record::parse(&[b"v=DMARC1;", tags.as_bytes()].concat());
            prop_assert!(read.is_some());
        }
    }
}
