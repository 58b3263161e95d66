//! Names of selectors that tell their order: the year and letters, such as `2026a`, `2026b`.

use postrider_config::Dkim;
use postrider_smtp::Domain;

/// The place of a selector in the order: the year, then the letters. Names of another form come
/// before all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    year: i16,
    /// `z` comes before `aa`.
    length: usize,
    letters: String,
}

impl Rank {
    /// The place of a selector; None if the name has another form.
    pub(super) fn of(selector: &Domain) -> Option<Self> {
        let (year, letters) = selector.ascii().split_at_checked(4)?;
        let is_form = year.bytes().all(|b| b.is_ascii_digit())
            && !letters.is_empty()
            && letters.bytes().all(|b| b.is_ascii_lowercase());
        let year = year.parse().ok().filter(|_| is_form)?;
        Some(Self {
            year,
            length: letters.len(),
            letters: letters.to_owned(),
        })
    }

    /// The first place of a year.
    fn first(year: i16) -> Self {
        Self {
            year,
            length: 1,
            letters: "a".to_owned(),
        }
    }

    fn next(&self) -> Self {
        let mut letters = self.letters.clone().into_bytes();
        for letter in letters.iter_mut().rev() {
            if *letter < b'z' {
                *letter += 1;
                return Self {
                    letters: String::from_utf8_lossy(&letters).into_owned(),
                    ..self.clone()
                };
            }
            *letter = b'a';
        }
        Self {
            length: self.length + 1,
            letters: "a".repeat(self.length + 1),
            ..self.clone()
        }
    }

    fn selector(&self) -> Option<Domain> {
        Domain::parse(&format!("{:04}{}", self.year, self.letters)).ok()
    }
}

/// The next selectors of a domain in a year. They come after all that there are, also if the clock
/// has gone back.
pub(in super::super) fn next_selectors(dkim: &Dkim, year: i16, count: usize) -> Vec<Domain> {
    let last = dkim.selectors.keys().filter_map(Rank::of).max();
    let mut rank = match last {
        Some(last) if last.year >= year => last.next(),
        _ => Rank::first(year),
    };
    let mut next = Vec::with_capacity(count);
    while next.len() < count {
        next.extend(rank.selector());
        rank = rank.next();
    }
    next
}

/// The selectors that do not sign and come after all that sign: for each kind of key the first one.
/// Empty if there are none.
pub(in crate::op) fn waiting(dkim: &Dkim) -> Vec<Domain> {
    let last_signing = dkim.sign.iter().filter_map(Rank::of).max();
    let mut later: Vec<(Rank, &Domain)> = dkim
        .selectors
        .keys()
        .filter(|name| !dkim.sign.contains(name))
        .filter_map(|name| Some((Rank::of(name)?, name)))
        .filter(|(rank, _)| last_signing.as_ref().is_none_or(|last| rank > last))
        .collect();
    later.sort();
    let mut kinds = Vec::new();
    let mut waiting = Vec::new();
    for (_, name) in later {
        let kind = dkim.selectors.get(name).map(|key| key.algorithm);
        if !kinds.contains(&kind) {
            kinds.push(kind);
            waiting.push(name.clone());
        }
    }
    waiting
}

#[cfg(test)]
mod tests {
    use postrider_config::{Dynamic, Static, replace_private};

    use super::*;

    /// A domain with these selectors. Those in capitals sign, those with a minus are RSA keys.
    fn dkim(names: &str) -> Dkim {
        let keys = tempfile::tempdir().unwrap();
        let samples = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../testdata/config/dynamic/keys"
        );
        for kind in ["ed25519.pem", "rsa2048.pem"] {
            let text = std::fs::read(format!("{samples}/{kind}")).unwrap();
            replace_private(&keys.path().join(kind), &text).unwrap();
        }
        let keys = keys.path().display();
        let statics = "hostname = \"a.test\"\n[postmaster]\naccount = \"a\"\n\
            [listeners.l]\nips = [\"127.0.0.1\"]\n";
        let statics = Static::parse(statics, "postrider.conf").unwrap();
        let mut text = "[accounts.a]\ndomain = \"a.test\"\n[domains.\"a.test\".dkim]\n".to_owned();
        let mut sign = Vec::new();
        for name in names.split_whitespace() {
            let kind = if name.ends_with('-') {
                "rsa2048"
            } else {
                "ed25519"
            };
            let selector = name.trim_end_matches('-').to_lowercase();
            if name.contains(|c: char| c.is_ascii_uppercase()) {
                sign.push(selector.clone());
            }
            text += &format!("selectors.{selector:?}.private_key_file = \"{keys}/{kind}.pem\"\n");
        }
        text += &format!("sign = {sign:?}\n");
        let config = Dynamic::parse(&text, "domains.conf", &statics).unwrap();
        config.domains.values().next().unwrap().dkim.clone()
    }

    fn named(domains: &[Domain]) -> String {
        let names: Vec<&str> = domains.iter().map(Domain::ascii).collect();
        names.join(" ")
    }

    #[test]
    fn next_selectors_come_after_all_others() {
        for (names, year, next) in [
            ("", 2026, "2026a 2026b"),
            ("mail x2026a 2026a1", 2026, "2026a 2026b"),
            ("2026A 2026B-", 2026, "2026c 2026d"),
            ("2026A 2026C", 2026, "2026d 2026e"),
            ("2025Z 2026A", 2027, "2027a 2027b"),
            ("2027A", 2026, "2027b 2027c"),
            ("2026Y", 2026, "2026z 2026aa"),
            ("2026AZ 2026z", 2026, "2026ba 2026bb"),
            ("2026ZZ", 2026, "2026aaa 2026aab"),
        ] {
            assert_eq!(
                named(&next_selectors(&dkim(names), year, 2)),
                next,
                "{names}"
            );
        }
    }

    #[test]
    fn a_pair_waits_behind_those_that_sign() {
        for (names, expected) in [
            ("", ""),
            ("2026A 2026B-", ""),
            ("2026A 2026B- 2026c 2026d-", "2026c 2026d"),
            ("2026a 2026b- 2026C 2026D-", ""),
            ("2026A 2026B- 2026c 2026d- 2027a 2027b-", "2026c 2026d"),
            ("2026A 2026c", "2026c"),
            ("MAIL- 2026a 2026b-", "2026a 2026b"),
            ("2026a 2026b-", "2026a 2026b"),
            ("2026A other", ""),
            ("2026Z 2026aa", "2026aa"),
        ] {
            assert_eq!(named(&waiting(&dkim(names))), expected, "{names}");
        }
    }
}
