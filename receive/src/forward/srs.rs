//! The sender rewriting scheme (SRS): reverse-paths of our own for mail that we forward.
//!
//! A server that forwards can't keep the reverse-path: SPF of the sender's domain does not know the
//! server. So the forward gets an address of ours that has the sender in it, and a report to that
//! address leads back.
//!
//! | local-part | what it stands for |
//! |---|---|
//! | `SRS0=H=TT=domain=local` | the address `local@domain` |
//! | `SRS0=H=TT==NAME` | a sender that is too long for a local-part, and is kept under this name |
//! | `SRS1=H=first.example==rest` | `SRS0=rest` at the server that forwarded the message first |
//!
//! `TT` is the day, and `H` proves that we wrote the address. Nothing here has I/O or a clock.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    hmac::{self, HMAC_SHA256},
};
use postrider_smtp::{Address, Host, LocalPart};
use postrider_store::Time;

/// The longest local-part that is written, in bytes (RFC 5321 §4.5.3.1.1).
const LOCAL_PART_MAX: usize = 64;
/// How many days an address leads back.
const DAYS_MAX: u64 = 21;
/// The days have so many numbers.
const DAY_NUMBERS: u64 = 1024;
/// The characters of `H`.
const HASH_LEN: usize = 6;
/// The characters of the name of a sender that is kept.
const NAME_LEN: usize = 24;
/// The characters behind `SRS0` or `SRS1`. We write the first one.
const SEPARATORS: [char; 3] = ['=', '+', '-'];
/// RFC 4648 §6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A day, counted from 1970 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day(u64);

impl From<Time> for Day {
    fn from(time: Time) -> Self {
        Self((time.0.max(0) / 86_400_000_000).cast_unsigned())
    }
}

/// The secret keys. Both prove an address; the first one writes new ones.
#[derive(Debug)]
pub struct Keys {
    newest: hmac::Key,
    before: Option<hmac::Key>,
}

impl Keys {
    /// Keys from their secrets: the newest one, and the one before it.
    #[must_use]
    pub fn new(newest: &[u8; 32], before: Option<&[u8; 32]>) -> Self {
        let key = |secret: &[u8; 32]| hmac::Key::new(HMAC_SHA256, secret);
        Self {
            newest: key(newest),
            before: before.map(key),
        }
    }

    /// Whether the hash of a text is right. It takes the same time for each wrong hash.
    fn proves(&self, hash: &str, kind: Kind, text: &str) -> bool {
        let hash = hash.to_ascii_uppercase();
        let is_right = |key: &hmac::Key| {
            let expected = kind.hash(key, text);
            verify_slices_are_equal(hash.as_bytes(), expected.as_bytes()).is_ok()
        };
        let newest = is_right(&self.newest);
        let before = self.before.as_ref().is_some_and(is_right);
        newest | before
    }
}

/// A kind of address. The hashes of one kind say nothing about the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Srs0,
    Srs1,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Srs0 => "SRS0",
            Self::Srs1 => "SRS1",
        }
    }

    /// Mail servers on the way may change the case, so that does not count.
    fn hash(self, key: &hmac::Key, text: &str) -> String {
        let text = text.to_lowercase();
        let covered = match self {
            Self::Srs0 => text,
            Self::Srs1 => format!("srs1={text}"),
        };
        base32(hmac::sign(key, covered.as_bytes()).as_ref(), HASH_LEN)
    }

    /// The text behind the word, with the separator. None if the local-part is of another kind.
    fn rest(self, local: &str) -> Option<&str> {
        let (word, rest) = local.split_at_checked(4)?;
        let is_kind = word.eq_ignore_ascii_case(self.word()) && rest.starts_with(SEPARATORS);
        is_kind.then_some(rest)
    }
}

/// The reverse-path of a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Its local-part. The domain is one of ours.
    pub local: LocalPart,
    /// The name under which the sender has to be kept. None if the local-part has it all.
    pub name: Option<String>,
}

/// What an address leads back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Original {
    /// This address.
    Address(Address),
    /// The sender that is kept under this name.
    Kept(String),
}

/// Why an address leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrsFault {
    /// We did not write it.
    #[error("the address is not one that this server wrote")]
    Forged,
    /// We wrote it too long ago.
    #[error("the address is older than {DAYS_MAX} days")]
    Old,
}

/// Whether the local-part has the form of a rewritten sender.
#[must_use]
pub fn is_rewritten(local: &str) -> bool {
    Kind::Srs0.rest(local).is_some() || Kind::Srs1.rest(local).is_some()
}

/// The reverse-path of a forward for mail of this sender.
#[must_use]
pub fn rewrite(keys: &Keys, sender: &Address, today: Day) -> Rewritten {
    let local = sender.local.as_str();
    let host = sender.host.ascii();
    let (kind, text) = if let Some(rest) = Kind::Srs0.rest(local) {
        (Kind::Srs1, format!("{host}={rest}"))
    } else if let Some(further) = Kind::Srs1.rest(local).and_then(behind_hash) {
        (Kind::Srs1, further.to_owned())
    } else {
        (Kind::Srs0, format!("{}={host}={local}", day_text(today)))
    };
    if let Some(local) = written(keys, kind, &text) {
        return Rewritten { local, name: None };
    }
    let name = base32(
        hmac::sign(&keys.newest, sender.to_string().as_bytes()).as_ref(),
        NAME_LEN,
    );
    let text = format!("{}=={name}", day_text(today));
    match written(keys, Kind::Srs0, &text) {
        Some(local) => Rewritten {
            local,
            name: Some(name),
        },
        // It is short, and made of letters, digits and `=`.
        None => Rewritten {
            local: sender.local.clone(),
            name: None,
        },
    }
}

/// A local-part with its proof. None if it is too long.
fn written(keys: &Keys, kind: Kind, text: &str) -> Option<LocalPart> {
    let hash = kind.hash(&keys.newest, text);
    let local = format!("{}={hash}={text}", kind.word());
    (local.len() <= LOCAL_PART_MAX)
        .then(|| LocalPart::from_decoded(&local).ok())
        .flatten()
}

/// The text of an SRS1 address of another server behind its hash, if it has the form of one:
/// `first.example==rest`.
fn behind_hash(rest: &str) -> Option<&str> {
    let (_, text) = rest.get(1..)?.split_once('=')?;
    let (first, opaque) = text.split_once('=')?;
    (Host::parse(first).is_ok() && opaque.starts_with(SEPARATORS)).then_some(text)
}

/// What a rewritten sender leads back to. `local` is the local-part of the address that a report
/// came to.
///
/// # Errors
/// We did not write the address, or it is too old.
pub fn original(keys: &Keys, local: &str, today: Day) -> Result<Original, SrsFault> {
    let (kind, rest) = match (Kind::Srs0.rest(local), Kind::Srs1.rest(local)) {
        (Some(rest), _) => (Kind::Srs0, rest),
        (None, Some(rest)) => (Kind::Srs1, rest),
        (None, None) => return Err(SrsFault::Forged),
    };
    let parts = rest.get(1..).and_then(|rest| rest.split_once('='));
    let (hash, text) = parts.ok_or(SrsFault::Forged)?;
    if !keys.proves(hash, kind, text) {
        return Err(SrsFault::Forged);
    }
    let (first, behind) = text.split_once('=').ok_or(SrsFault::Forged)?;
    let address = |host: &str, local: &str| {
        let host = Host::parse(host).map_err(|_| SrsFault::Forged)?;
        let local = LocalPart::from_decoded(local).map_err(|_| SrsFault::Forged)?;
        Ok(Original::Address(Address { local, host }))
    };
    if kind == Kind::Srs1 {
        return address(first, &format!("SRS0{behind}"));
    }
    let day = day_of(first).ok_or(SrsFault::Forged)?;
    let age = (today.0 + DAY_NUMBERS - day) % DAY_NUMBERS;
    if age > DAYS_MAX {
        return Err(SrsFault::Old);
    }
    match behind.split_once('=').ok_or(SrsFault::Forged)? {
        ("", name) => Ok(Original::Kept(name.to_ascii_uppercase())),
        (host, local) => address(host, local),
    }
}

/// The day as two characters.
fn day_text(day: Day) -> String {
    let number = day.0 % DAY_NUMBERS;
    let bits = u16::try_from(number).unwrap_or_default() << 6;
    base32(&bits.to_be_bytes(), 2)
}

/// The number of a day.
fn day_of(text: &str) -> Option<u64> {
    let digit = |c: u8| {
        let place = BASE32
            .iter()
            .position(|known| *known == c.to_ascii_uppercase())?;
        u64::try_from(place).ok()
    };
    match text.as_bytes() {
        [high, low] => Some(digit(*high)? * 32 + digit(*low)?),
        _ => None,
    }
}

/// The first `len` characters of bytes in base32.
fn base32(bytes: &[u8], len: usize) -> String {
    let bit = |at: usize| {
        let byte = bytes.get(at / 8).copied().unwrap_or_default();
        usize::from(byte >> (7 - at % 8) & 1)
    };
    let character = |at: usize| {
        let value = (0..5).fold(0, |value, offset| value * 2 + bit(at * 5 + offset));
        BASE32.get(value).copied().unwrap_or(b'A')
    };
    (0..len).map(|at| char::from(character(at))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TODAY: Day = Day(20_786);

    fn keys() -> Keys {
        Keys::new(&[1; 32], Some(&[2; 32]))
    }

    fn rewritten(sender: &str) -> Rewritten {
        rewrite(&keys(), &sender.parse().unwrap(), TODAY)
    }

    fn back(local: &str) -> Result<String, SrsFault> {
        match original(&keys(), local, TODAY)? {
            Original::Address(address) => Ok(address.to_string()),
            Original::Kept(name) => Ok(format!("kept {name}")),
        }
    }

    #[test]
    fn base32_is_that_of_the_rfc() {
        assert_eq!(base32(b"foobar", 10), "MZXW6YTBOI");
        assert_eq!(day_text(Day(0)), "AA");
        assert_eq!(day_text(Day(33)), "BB");
        assert_eq!(day_text(Day(1023)), "77");
        for day in 0..DAY_NUMBERS {
            assert_eq!(day_of(&day_text(Day(day))), Some(day));
        }
    }

    #[test]
    fn a_sender_comes_back() {
        let local = rewritten("Ann@a.example").local;
        let parts: Vec<&str> = local.as_str().split('=').collect();
        assert_eq!(parts[0], "SRS0");
        assert_eq!(parts[1].len(), HASH_LEN);
        assert_eq!(parts[2..], [&*day_text(TODAY), "a.example", "Ann"]);
        assert_eq!(back(local.as_str()).unwrap(), "Ann@a.example");
        // A server on the way changed the case.
        let lower = local.as_str().to_lowercase();
        assert_eq!(back(&lower).unwrap(), "ann@a.example");
        assert_eq!(
            back(&local.as_str().to_uppercase()).unwrap(),
            "ANN@a.example"
        );
        for sender in ["a=b@a.example", "\"a b\"@a.example", "a@[192.0.2.1]"] {
            assert_eq!(back(rewritten(sender).local.as_str()).unwrap(), sender);
        }
    }

    #[test]
    fn addresses_of_other_servers_get_shorter_ones() {
        let first = rewritten("SRS0=abcd=TT=orig.example=joe@first.example").local;
        assert!(first.as_str().starts_with("SRS1="), "{first}");
        let end = "=first.example==abcd=TT=orig.example=joe";
        assert!(first.as_str().ends_with(end), "{first}");
        let expected = "SRS0=abcd=TT=orig.example=joe@first.example";
        assert_eq!(back(first.as_str()).unwrap(), expected);
        // Another separator of the first server stays.
        let plus = rewritten("SRS0+abcd=TT=orig.example=joe@first.example").local;
        let expected = "SRS0+abcd=TT=orig.example=joe@first.example";
        assert_eq!(back(plus.as_str()).unwrap(), expected);
        // The third server keeps the first one.
        let third = rewritten("SRS1=hash=first.example==abcd=TT=orig.example=joe@second.example");
        assert!(third.local.as_str().ends_with(end), "{third:?}");
        let expected = "SRS0=abcd=TT=orig.example=joe@first.example";
        assert_eq!(back(third.local.as_str()).unwrap(), expected);
        // What only looks like one is a sender as any other.
        let odd = rewritten("SRS1=x@a.example").local;
        assert_eq!(back(odd.as_str()).unwrap(), "SRS1=x@a.example");
    }

    #[test]
    fn long_senders_are_kept_under_a_name() {
        let long = format!("{}@a.example", "x".repeat(60));
        let short = rewritten(&long);
        let name = short.name.clone().unwrap();
        assert!(short.local.as_str().len() <= LOCAL_PART_MAX);
        assert_eq!(back(short.local.as_str()).unwrap(), format!("kept {name}"));
        let lower = short.local.as_str().to_lowercase();
        assert_eq!(back(&lower).unwrap(), format!("kept {name}"));
        assert_eq!(rewritten(&long), short, "a sender has one name");
        assert_ne!(rewritten(&format!("y{long}")).name, short.name);
    }

    #[test]
    fn old_and_forged_addresses_lead_nowhere() {
        let local = rewritten("ann@a.example").local;
        let local = local.as_str();
        let at = |day: u64| original(&keys(), local, Day(day)).map(drop);
        assert_eq!(at(TODAY.0 + 21), Ok(()));
        assert_eq!(at(TODAY.0 + 22), Err(SrsFault::Old));
        assert_eq!(at(TODAY.0 - 1), Err(SrsFault::Old), "it is of tomorrow");
        let older = Keys::new(&[3; 32], Some(&[1; 32]));
        assert!(original(&older, local, TODAY).is_ok(), "the key before");
        let other = Keys::new(&[3; 32], Some(&[4; 32]));
        assert_eq!(original(&other, local, TODAY), Err(SrsFault::Forged));
        for forged in [
            local.replacen("ann", "bob", 1),
            local.replacen("a.example", "b.example", 1),
            local.replacen("SRS0", "SRS1", 1),
            "SRS0=".to_owned(),
            "SRS0=AAAAAA".to_owned(),
            "SRS1=AAAAAA=x".to_owned(),
            "ann".to_owned(),
            String::new(),
        ] {
            assert_eq!(back(&forged), Err(SrsFault::Forged), "{forged}");
        }
        assert!(is_rewritten("srs0+x") && is_rewritten("SRS1-") && !is_rewritten("SRS0"));
    }

    proptest! {
        #[test]
        fn each_sender_comes_back(
            local in "[a-zA-Z0-9=+ .-]{1,64}|SRS[01][=+-][a-z.=+]{0,40}",
            host in "[a-z]{1,20}\\.[a-z]{2,10}",
            day in 0_u64..4000,
            later in 0_u64..=21,
        ) {
            let sender = Address {
                local: LocalPart::from_decoded(&local).unwrap(),
                host: Host::parse(&host).unwrap(),
            };
            let keys = keys();
            let rewritten = rewrite(&keys, &sender, Day(day));
            prop_assert!(rewritten.local.as_str().len() <= LOCAL_PART_MAX);
            prop_assert!(is_rewritten(rewritten.local.as_str()));
            let found = original(&keys, rewritten.local.as_str(), Day(day + later));
            match rewritten.name {
                Some(name) => prop_assert_eq!(found, Ok(Original::Kept(name))),
                None if Kind::Srs1.rest(&local).and_then(behind_hash).is_some() => {
                    prop_assert!(found.is_ok());
                }
                None => prop_assert_eq!(found, Ok(Original::Address(sender))),
            }
        }

        #[test]
        fn no_text_is_taken_by_chance(text in "(?i)SRS[01][=+-].{0,60}|.{0,80}") {
            prop_assert!(original(&keys(), &text, TODAY).is_err());
        }
    }
}
