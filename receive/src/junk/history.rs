//! What earlier mail says about a mail: the first kind of sender that has a history decides.
//!
//! | kind | at most | says |
//! |---|---|---|
//! | From address, validated as this mail is | 2 of 3 years | junk if both (or the only one) were; conclusive if validated |
//! | not validated, but validated mail of the address exists | 2 of 3 years | junk; conclusive if that was junk |
//! | the account wrote to the address | | good; conclusive if validated, since anybody may write such a From |
//! | From domain, then its organisation | 20 of 2 years | more than 80 % good: good, conclusive; none good: junk, conclusive from 3 authors on; else open |
//! | not validated, but validated mail of the domain or the organisation exists | 2 of 3 years | junk; conclusive if that was junk |
//! | the account wrote to the domain | | good, never conclusive: anybody has an address at a large provider |
//! | DKIM domains; MAIL FROM address and domain, or EHLO name, that SPF validated | 50 of 6 months each | a share of junk below 0.1: good; above 0.9: junk. Only good: conclusive. Only junk: conclusive from 2 mails on. Both or neither: open |
//! | networks, narrow to wide | 50 of 3 months each | a share of junk below 0.25: good; above 0.75: junk; else open. Conclusive from 2, 5, 10 mails on with at most 0.1 or at least 0.9 |

use std::collections::HashSet;

use postrider_store::{HistoryKey, HistoryKind, Mark};

use super::senders::{Author, Senders};

/// Days of windows.
const THREE_YEARS: u32 = 3 * 365 + 1;
const TWO_YEARS: u32 = 2 * 365;
const SIX_MONTHS: u32 = 183;
const THREE_MONTHS: u32 = 92;

/// The kind of sender that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The author's address.
    Author,
    /// The account wrote to the author.
    WroteToAuthor,
    /// The author's domain, or its organisation.
    Domain,
    /// The account wrote to the author's domain.
    WroteToDomain,
    /// Domains and names that DKIM or SPF validated.
    Validated,
    /// A network of the client.
    Network,
    /// There is no history.
    Nothing,
}

/// What the history says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opinion {
    /// The sender is good.
    Good,
    /// The sender sends junk.
    Junk,
    /// Both or neither.
    Open,
}

/// What earlier mail says about a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct History {
    /// The kind of sender that decided.
    pub basis: Basis,
    /// What it says.
    pub opinion: Opinion,
    /// This alone decides about the mail.
    pub conclusive: bool,
}

impl History {
    /// There is no history.
    pub const NONE: Self = Self::new(Basis::Nothing, Opinion::Open, false);

    const fn new(basis: Basis, opinion: Opinion, conclusive: bool) -> Self {
        Self {
            basis,
            opinion,
            conclusive,
        }
    }

    /// The history says so, and this alone decides.
    #[must_use]
    pub fn is_conclusive(self, opinion: Opinion) -> bool {
        self.conclusive && self.opinion == opinion
    }
}

/// What an account knows about the senders of a mail.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The senders that were asked for, each with its marks, oldest first.
    pub marks: Vec<(HistoryKey, Vec<Mark>)>,
    /// The account wrote to the author.
    pub wrote_to_author: bool,
    /// The account wrote to an address in the author's domain.
    pub wrote_to_domain: bool,
}

impl Known {
    /// The last marks of a sender, at most so many, and not older than so many days.
    fn last(
        &self,
        kind: HistoryKind,
        name: &str,
        validated: bool,
        window: Window,
    ) -> Option<Tally> {
        let row = self
            .marks
            .iter()
            .find(|(key, _)| key.kind == kind && key.name == name && key.validated == validated);
        let (_, marks) = row?;
        let recent = marks.iter().rev().filter(|mark| mark.day >= window.since);
        let tally = Tally::new(recent.take(window.most));
        (tally.all > 0).then_some(tally)
    }
}

/// The marks that count.
#[derive(Clone, Copy)]
struct Window {
    /// The first day.
    since: u32,
    /// The most marks.
    most: usize,
}

impl Window {
    const fn new(today: u32, days: u32, most: usize) -> Self {
        Self {
            since: today.saturating_sub(days),
            most,
        }
    }
}

/// Counted marks.
struct Tally {
    all: usize,
    junk: usize,
    /// The different authors.
    authors: usize,
}

impl Tally {
    fn new<'a>(marks: impl Iterator<Item = &'a Mark>) -> Self {
        let (mut all, mut junk, mut authors) = (0, 0, HashSet::new());
        for mark in marks {
            all += 1;
            junk += usize::from(mark.junk);
            authors.insert(mark.author);
        }
        Self {
            all,
            junk,
            authors: authors.len(),
        }
    }

    const fn all_junk(&self) -> bool {
        self.junk == self.all
    }

    #[expect(clippy::cast_precision_loss, reason = "there are at most 50 marks")]
    fn junk_share(&self) -> f64 {
        self.junk as f64 / self.all as f64
    }
}

/// Judges the senders of a mail by what an account knows about them. `today` is in days since 1970.
#[must_use]
pub fn judge(senders: &Senders, known: &Known, today: u32) -> History {
    let author = senders.author.as_ref();
    author
        .and_then(|author| by_author(author, known, today))
        .or_else(|| by_validated(senders, known, today))
        .or_else(|| by_network(senders, known, today))
        .unwrap_or(History::NONE)
}

fn by_author(author: &Author, known: &Known, today: u32) -> Option<History> {
    let window = Window::new(today, THREE_YEARS, 2);
    let last = |validated| {
        let kind = HistoryKind::FromAddress;
        known.last(kind, &author.address, validated, window)
    };
    if let Some(tally) = last(author.validated) {
        let opinion = match tally.all_junk() {
            true => Opinion::Junk,
            false => Opinion::Good,
        };
        return Some(History::new(Basis::Author, opinion, author.validated));
    }
    if !author.validated
        && let Some(tally) = last(true)
    {
        let conclusive = tally.all_junk();
        return Some(History::new(Basis::Author, Opinion::Junk, conclusive));
    }
    if known.wrote_to_author {
        let conclusive = author.validated;
        return Some(History::new(
            Basis::WroteToAuthor,
            Opinion::Good,
            conclusive,
        ));
    }
    let domain = (HistoryKind::FromDomain, author.domain.as_str());
    let organisation = (HistoryKind::Organisation, author.organisation.as_str());
    let by_domain = |(kind, name)| by_domain(kind, name, author.validated, known, today);
    let history = by_domain(domain).or_else(|| by_domain(organisation));
    history.or_else(|| {
        let wrote = History::new(Basis::WroteToDomain, Opinion::Good, false);
        known.wrote_to_domain.then_some(wrote)
    })
}

fn by_domain(
    kind: HistoryKind,
    name: &str,
    validated: bool,
    known: &Known,
    today: u32,
) -> Option<History> {
    let window = Window::new(today, TWO_YEARS, 20);
    if let Some(tally) = known.last(kind, name, validated, window) {
        let (opinion, conclusive) = if tally.junk_share() < 0.2 {
            (Opinion::Good, true)
        } else if tally.all_junk() {
            (Opinion::Junk, tally.authors >= 3)
        } else {
            (Opinion::Open, false)
        };
        return Some(History::new(Basis::Domain, opinion, conclusive));
    }
    if validated {
        return None;
    }
    let window = Window::new(today, THREE_YEARS, 2);
    let tally = known.last(kind, name, true, window)?;
    let conclusive = tally.all_junk();
    Some(History::new(Basis::Domain, Opinion::Junk, conclusive))
}

fn by_validated(senders: &Senders, known: &Known, today: u32) -> Option<History> {
    let window = Window::new(today, SIX_MONTHS, 50);
    let dkim = senders.dkim.iter();
    let dkim = dkim.map(|domain| (HistoryKind::Dkim, domain));
    let mail_from = senders.mail_from.iter().flat_map(|(address, domain)| {
        [
            (HistoryKind::MailFrom, address),
            (HistoryKind::MailFromDomain, domain),
        ]
    });
    let helo = senders.helo.iter().map(|helo| (HistoryKind::Helo, helo));
    let all = dkim.chain(mail_from).chain(helo);
    let tallies: Vec<Tally> = all
        .filter_map(|(kind, name)| known.last(kind, name, true, window))
        .collect();
    if tallies.is_empty() {
        return None;
    }
    let good = tallies.iter().any(|tally| tally.junk_share() < 0.1);
    let junk = tallies.iter().filter(|tally| tally.junk_share() > 0.9);
    let most_junk = junk.map(|tally| tally.all).max();
    let (opinion, conclusive) = match (good, most_junk) {
        (true, None) => (Opinion::Good, true),
        (false, Some(mails)) => (Opinion::Junk, mails >= 2),
        _ => (Opinion::Open, false),
    };
    Some(History::new(Basis::Validated, opinion, conclusive))
}

/// Whether a client is no stranger: its network, the domain of MAIL FROM or its name in EHLO has a
/// good history. Each of these is enough.
#[must_use]
pub fn is_met(senders: &Senders, known: &Known, today: u32) -> bool {
    let window = Window::new(today, SIX_MONTHS, 50);
    let domain = senders.mail_from.iter();
    let domain = domain.map(|(_, domain)| (HistoryKind::MailFromDomain, domain));
    let helo = senders.helo.iter().map(|helo| (HistoryKind::Helo, helo));
    let mut names = domain.chain(helo);
    names.any(|(kind, name)| {
        let tally = known.last(kind, name, true, window);
        tally.is_some_and(|tally| tally.junk_share() < 0.1)
    }) || by_network(senders, known, today).is_some_and(|it| it.opinion == Opinion::Good)
}

/// A domain that DKIM or SPF validated has a good history, whoever the author is.
#[must_use]
pub fn good_domain_passes(senders: &Senders, known: &Known, today: u32) -> bool {
    let window = Window::new(today, SIX_MONTHS, 50);
    let dkim = senders.dkim.iter();
    let dkim = dkim.map(|domain| (HistoryKind::Dkim, domain));
    let mail_from = senders.mail_from.iter();
    let mail_from = mail_from.map(|(_, domain)| (HistoryKind::MailFromDomain, domain));
    let tallies = dkim
        .chain(mail_from)
        .filter_map(|(kind, name)| known.last(kind, name, true, window));
    tallies.into_iter().any(|tally| tally.junk_share() < 0.1)
}

fn by_network(senders: &Senders, known: &Known, today: u32) -> Option<History> {
    let window = Window::new(today, THREE_MONTHS, 50);
    let networks = senders.networks.iter().zip([2, 5, 10]);
    let mut histories = networks.filter_map(|(network, least)| {
        let tally = known.last(HistoryKind::Network, network, true, window)?;
        let share = tally.junk_share();
        let opinion = if share < 0.25 {
            Opinion::Good
        } else if share > 0.75 {
            Opinion::Junk
        } else {
            Opinion::Open
        };
        let clear = share <= 0.1 || share >= 0.9;
        Some(History::new(
            Basis::Network,
            opinion,
            clear && tally.all >= least,
        ))
    });
    histories.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: u32 = 20_000;

    fn senders(validated: bool) -> Senders {
        Senders {
            author: Some(Author {
                from: "jane@mail.shop.example".parse().unwrap(),
                address: "jane@mail.shop.example".into(),
                domain: "mail.shop.example".into(),
                organisation: "shop.example".into(),
                validated,
                number: 1,
            }),
            dkim: vec!["d.example".into(), "e.example".into()],
            mail_from: Some(("b@bounce.example".into(), "bounce.example".into())),
            helo: None,
            networks: vec!["1/32".into(), "1/26".into(), "1/21".into()],
        }
    }

    /// Marks, oldest first: `g` for good mail and `j` for junk of one author, `J` for junk of a new
    /// one each time. The last is so many days old, each before it one day older.
    fn marks(said: &str, age: u32) -> Vec<Mark> {
        let count = said.len() as u32;
        let marks = said.chars().zip(0..).map(|(said, at)| Mark {
            day: TODAY - age - (count - 1 - at),
            junk: said != 'g',
            author: if said == 'J' { at + 10 } else { 1 },
        });
        marks.collect()
    }

    fn known(rows: &[(HistoryKind, &str, bool, &str, u32)]) -> Known {
        let rows = rows.iter().map(|(kind, name, validated, said, age)| {
            let key = HistoryKey {
                kind: *kind,
                name: (*name).to_owned(),
                validated: *validated,
            };
            (key, marks(said, *age))
        });
        Known {
            marks: rows.collect(),
            ..Known::default()
        }
    }

    fn check(
        validated: bool,
        rows: &[(HistoryKind, &str, bool, &str, u32)],
        expected: (Basis, Opinion, bool),
    ) {
        let found = judge(&senders(validated), &known(rows), TODAY);
        let found = (found.basis, found.opinion, found.conclusive);
        assert_eq!(found, expected, "{validated} {rows:?}");
    }

    use Basis::{Author as ByAuthor, Domain, Network, Nothing, Validated};
    use HistoryKind as Kind;
    use Opinion::{Good, Junk, Open};

    const FROM: (Kind, &str) = (Kind::FromAddress, "jane@mail.shop.example");
    const DOMAIN: (Kind, &str) = (Kind::FromDomain, "mail.shop.example");
    const ORGANISATION: (Kind, &str) = (Kind::Organisation, "shop.example");

    fn row(
        (kind, name): (Kind, &'static str),
        validated: bool,
        said: &'static str,
    ) -> (Kind, &'static str, bool, &'static str, u32) {
        (kind, name, validated, said, 0)
    }

    #[test]
    fn the_last_two_mails_of_the_author_decide_first() {
        for (said, opinion) in [
            ("j", Junk),
            ("g", Good),
            ("gjj", Junk),
            ("jjg", Good),
            ("gj", Good),
        ] {
            check(true, &[row(FROM, true, said)], (ByAuthor, opinion, true));
            check(false, &[row(FROM, false, said)], (ByAuthor, opinion, false));
        }
        // Other rows do not count then.
        let rows = [row(FROM, true, "g"), row(DOMAIN, true, "JJJJ")];
        check(true, &rows, (ByAuthor, Good, true));
        // Mail that was not validated says nothing about validated mail.
        check(true, &[row(FROM, false, "j")], (Nothing, Open, false));
        let old = |age| [(FROM.0, FROM.1, true, "j", age)];
        check(true, &old(1096), (ByAuthor, Junk, true));
        check(true, &old(1097), (Nothing, Open, false));
    }

    #[test]
    fn an_author_who_was_validated_before_should_be_validated_now() {
        check(false, &[row(FROM, true, "gg")], (ByAuthor, Junk, false));
        check(false, &[row(FROM, true, "jj")], (ByAuthor, Junk, true));
        // Mail of the same kind comes first.
        let both = [row(FROM, true, "j"), row(FROM, false, "g")];
        check(false, &both, (ByAuthor, Good, false));
    }

    #[test]
    fn people_whom_the_account_wrote_to_are_good() {
        let wrote_by = |validated, to_author, to_domain, rows: &[_]| {
            let known = Known {
                wrote_to_author: to_author,
                wrote_to_domain: to_domain,
                ..known(rows)
            };
            judge(&senders(validated), &known, TODAY)
        };
        let wrote = |to_author, to_domain, rows: &[_]| wrote_by(true, to_author, to_domain, rows);
        let to_author = History::new(Basis::WroteToAuthor, Good, true);
        assert_eq!(wrote(true, true, &[row(DOMAIN, true, "JJJ")]), to_author);
        let junk = History::new(ByAuthor, Junk, true);
        assert_eq!(wrote(true, true, &[row(FROM, true, "j")]), junk);
        let to_domain = History::new(Basis::WroteToDomain, Good, false);
        assert_eq!(wrote(false, true, &[]), to_domain);
        assert_eq!(wrote_by(false, false, true, &[]), to_domain);
        // Anybody may write the address of somebody else into From.
        let unproved = History::new(Basis::WroteToAuthor, Good, false);
        assert_eq!(wrote_by(false, true, true, &[]), unproved);
        let by_domain = History::new(Domain, Junk, true);
        assert_eq!(
            wrote(false, true, &[row(ORGANISATION, true, "JJJ")]),
            by_domain
        );
    }

    #[test]
    fn the_domain_comes_before_its_organisation() {
        for of in [DOMAIN, ORGANISATION] {
            check(true, &[row(of, true, "jggggg")], (Domain, Good, true));
            // 80 % is not more than 80 %.
            check(true, &[row(of, true, "jgggg")], (Domain, Open, false));
            check(true, &[row(of, true, "gJJJ")], (Domain, Open, false));
            check(true, &[row(of, true, "jjjj")], (Domain, Junk, false));
            check(true, &[row(of, true, "JJ")], (Domain, Junk, false));
            check(true, &[row(of, true, "JJJ")], (Domain, Junk, true));
            check(false, &[row(of, false, "JJJ")], (Domain, Junk, true));
            check(false, &[row(of, true, "ggg")], (Domain, Junk, false));
            check(false, &[row(of, true, "jjj")], (Domain, Junk, true));
            check(
                true,
                &[(of.0, of.1, true, "g", 731)],
                (Nothing, Open, false),
            );
            // Of validated mail, an author who is not validated is held against the last two.
            check(false, &[row(of, true, "gggjj")], (Domain, Junk, true));
            check(false, &[row(of, true, "jjjg")], (Domain, Junk, false));
            let old = |age| [(of.0, of.1, true, "j", age)];
            check(false, &old(1096), (Domain, Junk, true));
            check(false, &old(1097), (Nothing, Open, false));
            // Only the last twenty.
            let said = "gggggggggJJJJJJJJJJJJJJJJJJJJ";
            check(true, &[row(of, true, said)], (Domain, Junk, true));
        }
        let rows = [row(DOMAIN, true, "g"), row(ORGANISATION, true, "JJJ")];
        check(true, &rows, (Domain, Good, true));
    }

    #[test]
    fn validated_names_decide_together() {
        let dkim = (Kind::Dkim, "d.example");
        let other = (Kind::Dkim, "e.example");
        let address = (Kind::MailFrom, "b@bounce.example");
        let domain = (Kind::MailFromDomain, "bounce.example");
        for of in [dkim, other, address, domain] {
            check(true, &[row(of, true, "g")], (Validated, Good, true));
            check(true, &[row(of, true, "j")], (Validated, Junk, false));
            check(true, &[row(of, true, "jj")], (Validated, Junk, true));
            check(true, &[row(of, true, "gj")], (Validated, Open, false));
            check(
                true,
                &[(of.0, of.1, true, "g", 184)],
                (Nothing, Open, false),
            );
        }
        let both = [row(dkim, true, "g"), row(address, true, "jj")];
        check(true, &both, (Validated, Open, false));
        let one = [row(dkim, true, "gj"), row(address, true, "jj")];
        check(true, &one, (Validated, Junk, true));
        let helo = Senders {
            helo: Some("mx.example".into()),
            ..Senders::default()
        };
        let known = known(&[(Kind::Helo, "mx.example", true, "jj", 0)]);
        let expected = History::new(Validated, Junk, true);
        assert_eq!(judge(&helo, &known, TODAY), expected);
    }

    #[test]
    fn the_narrowest_network_with_a_history_decides() {
        let [narrow, middle, wide] = ["1/32", "1/26", "1/21"].map(|name| (Kind::Network, name));
        check(true, &[row(narrow, true, "j")], (Network, Junk, false));
        check(true, &[row(narrow, true, "jj")], (Network, Junk, true));
        check(true, &[row(narrow, true, "gg")], (Network, Good, true));
        check(true, &[row(narrow, true, "gj")], (Network, Open, false));
        check(true, &[row(narrow, true, "jjjjg")], (Network, Junk, false));
        check(true, &[row(narrow, true, "gjjj")], (Network, Open, false));
        check(true, &[row(middle, true, "gggg")], (Network, Good, false));
        check(true, &[row(middle, true, "ggggg")], (Network, Good, true));
        check(
            true,
            &[row(wide, true, "jjjjjjjjj")],
            (Network, Junk, false),
        );
        check(
            true,
            &[row(wide, true, "jjjjjjjjjj")],
            (Network, Junk, true),
        );
        let both = [row(narrow, true, "g"), row(middle, true, "jjjjjj")];
        check(true, &both, (Network, Good, false));
        check(
            true,
            &[(narrow.0, narrow.1, true, "jj", 93)],
            (Nothing, Open, false),
        );
    }

    #[test]
    fn a_validated_domain_may_be_good_whoever_the_author_is() {
        let passes = |rows: &[_]| good_domain_passes(&senders(false), &known(rows), TODAY);
        assert!(passes(&[row((Kind::Dkim, "e.example"), true, "ggg")]));
        assert!(passes(&[
            row((Kind::MailFromDomain, "bounce.example"), true, "g"),
            row(FROM, true, "jj"),
        ]));
        assert!(!passes(&[row((Kind::Dkim, "e.example"), true, "gj")]));
        assert!(!passes(&[row((Kind::Dkim, "f.example"), true, "g")]));
        assert!(!passes(&[row((Kind::Network, "1/32"), true, "g")]));
    }

    #[test]
    fn each_name_of_a_client_and_its_network_tell_that_it_was_met() {
        let client = Senders {
            author: None,
            dkim: Vec::new(),
            helo: Some("mx.example".into()),
            ..senders(false)
        };
        let met = |rows: &[_]| is_met(&client, &known(rows), TODAY);
        let domain = (Kind::MailFromDomain, "bounce.example");
        let (helo, network) = ((Kind::Helo, "mx.example"), (Kind::Network, "1/26"));
        for of in [domain, helo, network] {
            assert!(met(&[row(of, true, "g")]), "{of:?}");
            assert!(!met(&[row(of, true, "jj")]), "{of:?}");
        }
        // One that is good is enough.
        assert!(met(&[row(domain, true, "jj"), row(network, true, "gg")]));
        assert!(met(&[row(helo, true, "gg"), row(network, true, "jj")]));
        assert!(!met(&[row(
            (Kind::MailFrom, "b@bounce.example"),
            true,
            "g"
        )]));
        assert!(!met(&[]));
    }

    #[test]
    fn a_stranger_has_no_history() {
        let history = judge(&Senders::default(), &Known::default(), TODAY);
        assert_eq!(history, History::NONE);
    }
}
