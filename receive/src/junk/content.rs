//! The probability that a message is junk, by its words.

use postrider_store::{JunkCounts, TokenCount};

/// So many messages of junk have to be learnt before the filter judges.
pub const LEAST_SPAM: u32 = 20;
/// So many other messages have to be learnt before the filter judges.
pub const LEAST_HAM: u32 = 50;
/// The tokens of each side that count.
const DECIDING: usize = 10;
/// The threshold for a message with a [`Doubt`](super::Doubts).
const DOUBTFUL: f64 = 0.25;
/// No score is further from 0.
const SCORE_MAX: f64 = 20.0;
/// The score of a message whose probability is the threshold.
const SCORE_OF_THRESHOLD: f64 = 5.0;

/// What the filter says about a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Content {
    /// The probability that the message is junk, from 0 to 1.
    pub probability: f64,
    /// The probability above which the message is taken for junk.
    pub threshold: f64,
}

/// Neither number is ever NaN.
impl Eq for Content {}

impl Content {
    /// The filter takes the message for junk.
    #[must_use]
    pub fn is_junk(self) -> bool {
        self.probability > self.threshold
    }

    /// The score that tools show: 5 at the threshold, more for junk, within 20 of 0.
    #[must_use]
    pub fn score(self) -> f64 {
        let odds = |p: f64| (p / (1.0 - p)).ln();
        let score = SCORE_OF_THRESHOLD + odds(self.probability) - odds(self.threshold);
        score.clamp(-SCORE_MAX, SCORE_MAX)
    }
}

/// The threshold for a message. `configured` is the one for messages without a doubt.
#[must_use]
pub fn threshold(configured: f64, doubtful: bool) -> f64 {
    match doubtful {
        true => configured.min(DOUBTFUL),
        false => configured,
    }
}

/// Whether the filter may judge. Halved counts are less sure, but they are no less learnt. One of
/// them may have become 0: then nothing can be compared.
#[must_use]
pub const fn has_learnt_enough(counts: &JunkCounts) -> bool {
    counts.ever_spam >= LEAST_SPAM
        && counts.ever_ham >= LEAST_HAM
        && counts.spam > 0
        && counts.ham > 0
}

/// The probability that a message with these tokens is junk. None: too little was learnt.
#[must_use]
pub fn probability(counts: &JunkCounts) -> Option<f64> {
    if !has_learnt_enough(counts) {
        return None;
    }
    let (mut hammy, mut spammy) = (Vec::new(), Vec::new());
    for token in &counts.tokens {
        match value(*token, counts) {
            Some(value) if value < 0.5 => hammy.push((value, token.messages())),
            Some(value) => spammy.push((1.0 - value, token.messages())),
            None => {}
        }
    }
    let sum = deciding(hammy).map(eta).sum::<f64>() - deciding(spammy).map(eta).sum::<f64>();
    Some(1.0 / (1.0 + sum.exp()))
}

fn eta(value: f64) -> f64 {
    (1.0 - value).ln() - value.ln()
}

/// The tokens that say most: those with the smallest value, and of equal ones those that were seen
/// most often.
fn deciding(mut tokens: Vec<(f64, u32)>) -> impl Iterator<Item = f64> {
    tokens.sort_by(|(a, often_a), (b, often_b)| a.total_cmp(b).then(often_b.cmp(often_a)));
    tokens.into_iter().take(DECIDING).map(|(value, _)| value)
}

/// How much a token speaks for junk, from 0.01 to 0.99. None: it says nothing.
fn value(token: TokenCount, counts: &JunkCounts) -> Option<f64> {
    let seen = token.messages();
    if seen == 0 {
        return None;
    }
    let spam = f64::from(token.spam) / f64::from(counts.spam);
    let ham = f64::from(token.ham) / f64::from(counts.ham);
    let mut value = (spam / (spam + ham)).clamp(0.01, 0.99);
    if seen <= 2 {
        value += f64::from(3 - seen) * (0.5 - value) / 10.0;
    }
    ((value - 0.5).abs() >= 0.1).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(spam: u32, ham: u32, tokens: &[(u16, u16)]) -> JunkCounts {
        let tokens = tokens.iter().map(|(spam, ham)| TokenCount {
            spam: *spam,
            ham: *ham,
        });
        JunkCounts {
            spam,
            ham,
            ever_spam: spam,
            ever_ham: ham,
            tokens: tokens.collect(),
        }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn the_filter_judges_only_when_it_has_learnt_enough() {
        assert_eq!(probability(&counts(19, 1000, &[(9, 0)])), None);
        assert_eq!(probability(&counts(1000, 49, &[(9, 0)])), None);
        assert!(probability(&counts(20, 50, &[(9, 0)])).is_some());
        assert_eq!(probability(&counts(20, 50, &[])), Some(0.5));
        // 39 messages of junk among 19,961 others were halved.
        let halved = JunkCounts {
            ever_spam: 39,
            ever_ham: 19_961,
            ..counts(19, 9980, &[(9, 0)])
        };
        assert!(probability(&halved).is_some());
        let nothing_left = JunkCounts { spam: 0, ..halved };
        assert_eq!(probability(&nothing_left), None);
    }

    #[test]
    fn a_token_is_valued_by_its_share_of_messages() {
        let of = |spam, ham| value(TokenCount { spam, ham }, &counts(100, 200, &[]));
        close(of(50, 0).unwrap(), 0.99);
        close(of(0, 50).unwrap(), 0.01);
        // 0.3 of junk, 0.1 of other mail.
        close(of(30, 20).unwrap(), 0.75);
        assert_eq!(of(10, 20), None, "as often in both");
        assert_eq!(of(0, 0), None);
        // Seen once: 0.99 - 2 * 0.049; seen twice: 0.99 - 0.049.
        close(of(1, 0).unwrap(), 0.892);
        close(of(2, 0).unwrap(), 0.941);
        close(of(3, 0).unwrap(), 0.99);
    }

    #[test]
    fn the_ten_strongest_of_each_side_decide() {
        // One token of 0.75: the probability is its value.
        close(probability(&counts(100, 200, &[(30, 20)])).unwrap(), 0.75);
        // Two of them: 9 to 1.
        let two = counts(100, 200, &[(30, 20), (30, 20)]);
        close(probability(&two).unwrap(), 0.9);
        let even = counts(100, 200, &[(50, 0), (0, 50)]);
        close(probability(&even).unwrap(), 0.5);
        // Eleven spammy tokens count as ten.
        let ten = counts(100, 200, &[(30, 20); 10]);
        let eleven = counts(100, 200, &[(30, 20); 11]);
        close(probability(&ten).unwrap(), probability(&eleven).unwrap());
        // A strong one comes before the ten.
        let mut strong = eleven;
        strong.tokens.push(TokenCount { spam: 50, ham: 0 });
        assert!(probability(&strong) > probability(&ten));
    }

    #[test]
    fn a_score_of_five_is_the_threshold() {
        let score = |probability, threshold| {
            let content = Content {
                probability,
                threshold,
            };
            (content.score(), content.is_junk())
        };
        assert_eq!(score(0.95, 0.95), (5.0, false));
        assert_eq!(score(1.0, 0.95), (20.0, true));
        assert_eq!(score(0.0, 0.95), (-20.0, false));
        let (found, junk) = score(0.5, 0.25);
        close(found, 5.0 + 3_f64.ln());
        assert!(junk);
        close(threshold(0.95, true), 0.25);
        close(threshold(0.1, true), 0.1);
        close(threshold(0.95, false), 0.95);
    }
}
