//! The mail of a day, or of some days.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};

use super::{
    kind::{End, Form, Kind, Rush},
    sites::Site,
};

/// The time in which messages are submitted.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

/// A submission: one text for some recipients at one site.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) at: Duration,
    pub(crate) site: usize,
    pub(crate) to: Vec<Recipient>,
    pub(crate) form: Form,
}

/// A recipient, and what is to become of the message.
#[derive(Clone, Debug)]
pub(crate) struct Recipient {
    pub(crate) address: String,
    pub(crate) end: End,
    /// The hosts ask for one more attempt on behalf of the mailbox, so often.
    pub(crate) put_off: usize,
}

/// The natures of mailboxes. The local-part tells the host.
const MAILBOXES: [(&str, u32, End, usize); 6] = [
    ("plain", 90, End::Delivered, 0),
    // RCPT is refused.
    ("ghost", 3, End::Fails(&["5.1.1"]), 0),
    ("full", 1, End::Fails(&["5.2.2"]), 0),
    ("later", 2, End::Delivered, 2),
    // The text is refused.
    ("unknown", 2, End::Fails(&["5.1.1"]), 0),
    ("spam", 2, End::Fails(&["5.6.0"]), 0),
];

/// Some letters for each site, and so many messages in all. Sites have different shares: the first
/// of those that are drawn get the most, as the law of Zipf says.
pub(crate) fn letters(
    sites: &[Site],
    (count, days): (usize, u32),
    rng: &mut StdRng,
) -> Vec<Letter> {
    let mut office = Office {
        sites,
        days,
        rng,
        letters: Vec::new(),
        number: 0,
    };
    for site in 0..sites.len() {
        office.first_letters(site);
    }
    let shares = office.shares();
    let total: f64 = shares.iter().sum();
    while office.number < count {
        let mut left = office.rng.random_range(0.0..total);
        let mut shares = shares.iter();
        let site = shares.position(|share| {
            left -= share;
            left <= 0.0
        });
        let at = office.time();
        office.write(site.unwrap_or_default(), at);
    }
    let mut letters = office.letters;
    letters.sort_by_key(|letter| letter.at);
    letters
}

struct Office<'a> {
    sites: &'a [Site],
    days: u32,
    rng: &'a mut StdRng,
    letters: Vec<Letter>,
    /// How many messages there are.
    number: usize,
}

impl Office<'_> {
    /// A time of a day. At some moments of it there is much mail.
    fn time(&mut self) -> Duration {
        let time = match self.rng.random_range(0..100) {
            0..6 => DAY / 6 * self.rng.random_range(1..6),
            _ => Duration::from_millis(self.rng.random_range(0..DAY.as_millis() as u64)),
        };
        match self.days {
            1 => time,
            days => DAY * self.rng.random_range(0..days) + time,
        }
    }

    /// The share of each site in the mail of the day.
    fn shares(&mut self) -> Vec<f64> {
        let mut ranks: Vec<usize> = (1..=self.sites.len()).collect();
        rand::seq::SliceRandom::shuffle(&mut *ranks, self.rng);
        let shares = ranks.iter().zip(self.sites);
        shares
            .map(|(rank, site)| site.kind.share() / *rank as f64)
            .collect()
    }

    /// The letters that show what is special about a site: they come while it is.
    fn first_letters(&mut self, site: usize) {
        let (from, to) = self.sites[site].span.unwrap_or_default();
        let at = from + (to - from) / 8;
        match self.sites[site].kind.rush() {
            Rush::Of(count) => {
                for _ in 0..count {
                    self.single(site, at, "plain");
                }
            }
            Rush::None => {
                self.single(site, at, "plain");
                self.single(site, at + MINUTE * 3, "plain");
                self.write(site, at + MINUTE * 5);
            }
        }
        let later = self.time();
        self.write(site, later);
        if self.sites[site].kind == Kind::FewRecipients {
            self.letter(site, at, &["plain"; 5]);
        }
        if self.sites[site].kind == Kind::Healthy {
            for (nature, ..) in MAILBOXES {
                self.single(site, at, nature);
            }
            self.single(site, at, "ghost");
            self.again(at + MINUTE * 30);
        }
    }

    /// Somebody writes again to a mailbox that does not exist.
    fn again(&mut self, at: Duration) {
        let Some(last) = self.letters.last() else {
            return;
        };
        let mut letter = last.clone();
        letter.at = at;
        letter.to[0].end = End::Suppressed;
        self.number += 1;
        self.letters.push(letter);
    }

    /// A letter of some kind.
    fn write(&mut self, site: usize, at: Duration) {
        let has_mailboxes = self.sites[site].kind.has_mailboxes();
        if self.rng.random_range(0..6) == 0 {
            let count = self.rng.random_range(2..6);
            return self.letter(site, at, &vec!["plain"; count]);
        }
        if !has_mailboxes {
            return self.single(site, at, "plain");
        }
        let total: u32 = MAILBOXES.iter().map(|(_, weight, ..)| weight).sum();
        let mut left = self.rng.random_range(0..total);
        let mut mailboxes = MAILBOXES.iter();
        let found = mailboxes.find(|(_, weight, ..)| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        });
        let nature = found.map_or("plain", |(nature, ..)| *nature);
        self.single(site, at, nature);
        if nature == "ghost" && self.rng.random_bool(0.5) {
            let again = at + MINUTE * self.rng.random_range(5..600);
            self.again(again);
        }
    }

    fn single(&mut self, site: usize, at: Duration, nature: &str) {
        self.letter(site, at, &[nature]);
    }

    fn letter(&mut self, site: usize, at: Duration, natures: &[&str]) {
        let Site { kind, domain, .. } = &self.sites[site];
        let mut to = Vec::with_capacity(natures.len());
        for nature in natures {
            self.number += 1;
            let known = MAILBOXES.iter().find(|(name, ..)| name == nature);
            let (_, _, end, put_off) = known.unwrap_or(&MAILBOXES[0]);
            to.push(Recipient {
                address: format!("{nature}_{}@{domain}", self.number),
                end: match *nature {
                    "plain" => kind.end(),
                    _ => *end,
                },
                put_off: *put_off,
            });
        }
        self.letters.push(Letter {
            at,
            site,
            to,
            form: kind.form(),
        });
    }
}

impl Letter {
    /// The text. Its subject names the letter.
    pub(crate) fn text(&self, number: usize) -> String {
        let mut text = format!(
            "From: ann@example.org\r\nSubject: letter {number}\r\n\
             Message-Id: <{number}@example.org>\r\n"
        );
        match self.form {
            Form::EightBit => {
                text.push_str(
                    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                     Content-Transfer-Encoding: 8bit\r\n\r\nGr\u{fc}\u{df}e\r\n",
                );
            }
            Form::Large => {
                text.push_str("\r\n");
                text.push_str(&"All work and no play.\r\n".repeat(2000));
            }
            Form::Plain | Form::RequireTls | Form::TlsNotRequired => {
                text.push_str("\r\nHi.\r\n.\r\n..and so on\r\n");
            }
        }
        text
    }
}
