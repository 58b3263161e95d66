//! A labelled set of messages that a seeded generator makes, and how well the filter judges it.
//!
//! Most words of a message are of the common language, frequent ones more often. Junk comes in
//! campaigns, each with words of its own and hosts that change; good mail comes from people, each
//! with topics. Both sides use words of the other: offers that somebody asked for, junk that quotes
//! a book or the news.

use std::collections::HashSet;

use postrider_smtp::mime::Limits;
use postrider_store::{Store, Time};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Filter, Letter};

/// The threshold, and the one for mail with a doubt: without TLS, or to a list.
const THRESHOLDS: [f64; 2] = [0.95, 0.25];

const COMMON: usize = 3000;
const CAMPAIGNS: usize = 8;
const TOPICS: usize = 14;
/// The words of a campaign or of a topic.
const OWN: usize = 70;
/// Words of trade, which junk uses more often than other mail.
const TRADE: usize = 150;

struct Generator(StdRng);

/// The word of that number, of syllables.
fn word(number: usize) -> String {
    let mut rest = number * 7919 + 13;
    let mut word = String::new();
    for _ in 0..4 {
        word.push(char::from(b"bdfgklmnprstvz"[rest % 14]));
        word.push(char::from(b"aeiou"[rest / 14 % 5]));
        rest /= 70;
    }
    word
}

impl Generator {
    fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    fn chance(&mut self, share: f64) -> bool {
        self.0.random_range(0.0..1.0) < share
    }

    /// A word of the common language. The first ones are frequent.
    fn common(&mut self) -> usize {
        let (a, b) = (self.below(COMMON), self.below(COMMON));
        a * b / COMMON
    }

    fn of_campaign(&mut self, campaign: usize) -> usize {
        COMMON + campaign * OWN + self.below(OWN)
    }

    fn of_topic(&mut self, topic: usize) -> usize {
        COMMON + (CAMPAIGNS + topic) * OWN + self.below(OWN)
    }

    fn of_trade(&mut self) -> usize {
        COMMON + (CAMPAIGNS + TOPICS) * OWN + self.below(TRADE)
    }

    fn junk(&mut self) -> String {
        let campaign = self.below(CAMPAIGNS);
        // Some junk is short, and some hides in much other text.
        let own = [0.30, 0.18, 0.10][self.below(3)];
        let topic = self.below(TOPICS);
        let words = self.words(|all| {
            if all.chance(own) {
                all.of_campaign(campaign)
            } else if all.chance(0.12) {
                all.of_trade()
            } else if all.chance(0.05) {
                all.of_topic(topic)
            } else {
                all.common()
            }
        });
        let (from, host) = (word(self.below(90_000)), word(self.below(400) + 20_000));
        let link = format!("http://{host}.example/{}", self.below(99));
        message(&format!("{from}@{host}.example"), &words, &link)
    }

    fn good(&mut self) -> String {
        let person = self.below(40);
        let topic = (person + self.below(3)) % TOPICS;
        // Somebody writes about what junk is about too.
        let (campaign, is_offer) = (self.below(CAMPAIGNS), self.chance(0.06));
        let words = self.words(|all| {
            if all.chance(0.15) {
                all.of_topic(topic)
            } else if all.chance(if is_offer { 0.12 } else { 0.03 }) {
                all.of_trade()
            } else if all.chance(if is_offer { 0.04 } else { 0.005 }) {
                all.of_campaign(campaign)
            } else {
                all.common()
            }
        });
        let firm = word(30_000 + person % 12);
        let from = format!("{}@{firm}.example", word(40_000 + person));
        let link = format!("https://{firm}.example/{}", self.below(99));
        message(&from, &words, &link)
    }

    fn words(&mut self, mut next: impl FnMut(&mut Self) -> usize) -> Vec<String> {
        let count = 30 + self.below(120);
        (0..count).map(|_| word(next(self))).collect()
    }
}

fn message(from: &str, words: &[String], link: &str) -> String {
    let (subject, body) = words.split_at(5);
    format!(
        "From: {from}\r\nTo: ann@example.org\r\nSubject: {}\r\n\r\n{}\r\n{link}\r\n",
        subject.join(" "),
        body.join(" ")
    )
}

#[tokio::test]
async fn nearly_all_junk_is_caught_and_hardly_any_other_mail_is_lost() {
    let mut generator = Generator(StdRng::seed_from_u64(2026));
    let store = Store::memory();
    let filter = Filter {
        store: &store,
        limits: Limits::default(),
    };
    let key = filter.key().await.unwrap();
    let tokens = |message: &str| Letter::read(message.as_bytes(), filter.limits, &key).tokens;
    let mut seen = HashSet::new();
    for number in 0..1000 {
        let junk = number % 5 < 2;
        let message = match junk {
            true => generator.junk(),
            false => generator.good(),
        };
        let learnt = store.train_junk("ann", tokens(&message), junk, Time(0));
        learnt.await.unwrap();
        seen.insert(message);
    }
    let (mut caught, mut lost) = ([0; 2], [0; 2]);
    let count = 1000;
    for _ in 0..count {
        for (message, of) in [
            (generator.junk(), &mut caught),
            (generator.good(), &mut lost),
        ] {
            assert!(!seen.contains(&message), "it is held back");
            let probability = filter.probability("ann", &tokens(&message)).await.unwrap();
            for (count, threshold) in of.iter_mut().zip(THRESHOLDS) {
                *count += u32::from(probability.unwrap() > threshold);
            }
        }
    }
    for ((caught, lost), threshold) in caught.into_iter().zip(lost).zip(THRESHOLDS) {
        let junk = format!("{caught} of {count} are caught above {threshold}");
        assert!(caught * 100 >= count * 95, "{junk}");
        let good = format!("{lost} of {count} are lost above {threshold}");
        assert!(lost * 1000 <= count * 5, "{good}");
    }
}
