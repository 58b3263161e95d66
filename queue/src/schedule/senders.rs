//! What a site says of the domains of senders: whose mail waits, and whose it does not believe.
//!
//! | the site says, of the mail of a domain | then |
//! |---|---|
//! | too much, by a rule of the provider with scope `domain` | it waits 1, 2, 4 to 30 minutes |
//! | blocked, by such a rule | it waits as at a site that has blocked us, doubling |
//! | SPF, DKIM or DMARC fail | an alert, once |
//!
//! All of it ends when the site takes a message of the domain.
//!
//! There is no I/O here, and the time is an argument.

use std::collections::HashMap;

use postrider_config::{ReplyRule, ReplyScope};
use postrider_smtp::{DeliveryStatus, bounce::Class};
use postrider_store::Moment;

use super::{pace::Wait, state::blocked_for, window::rest_for};

/// Of how many domains something is known at a site. When there is one more, the one that waits
/// least goes.
const DOMAINS_MAX: usize = 64;

/// The domains of senders at a site, as far as it has something against them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Senders(HashMap<String, Sender>);

#[derive(Clone, Debug)]
struct Sender {
    /// Its mail waits until then.
    until: Moment,
    /// When it began to wait last.
    began: Moment,
    /// How often it had to wait since the site took a message of it.
    rests: usize,
    blocks: u32,
    /// The site does not believe that its mail comes from it.
    unauthenticated: bool,
    /// The last reply that says so.
    status: DeliveryStatus,
}

/// What is to be told of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Its mail waits from now on.
    Waits,
    /// Its mail fails authentication from now on.
    Unauthenticated,
}

impl Senders {
    /// The site took a message of a domain, in a batch that began at `began`.
    pub(crate) fn taken(&mut self, domain: &str, began: Moment) {
        if self.0.get(domain).is_some_and(|it| it.began <= began) {
            self.0.remove(domain);
        }
    }

    /// The site refused a message of a domain, in a batch that ended now. Gives what is to be told.
    pub(crate) fn refused(
        &mut self,
        domain: &str,
        (class, rule): (Class, Option<&ReplyRule>),
        status: &DeliveryStatus,
        now: Moment,
    ) -> Option<Told> {
        let by_domain = rule.is_some_and(|rule| rule.scope == ReplyScope::Domain);
        match class {
            Class::Authentication => {
                let sender = self.sender(domain, status, now);
                let known = std::mem::replace(&mut sender.unauthenticated, true);
                (!known).then_some(Told::Unauthenticated)
            }
            Class::RateLimited | Class::Blocked if by_domain => {
                let sender = self.sender(domain, status, now);
                // The others of a batch say the same.
                if now < sender.until {
                    return None;
                }
                let time = if class == Class::Blocked {
                    sender.blocks = sender.blocks.saturating_add(1);
                    blocked_for(sender.blocks - 1, status.permanent)
                } else {
                    sender.rests = sender.rests.saturating_add(1);
                    rest_for(sender.rests - 1)
                };
                sender.until = now.after(time);
                sender.began = now;
                sender.status = status.clone();
                Some(Told::Waits)
            }
            _ => None,
        }
    }

    fn sender(&mut self, domain: &str, status: &DeliveryStatus, now: Moment) -> &mut Sender {
        if self.0.len() >= DOMAINS_MAX && !self.0.contains_key(domain) {
            let least = self.0.iter().min_by_key(|(_, sender)| sender.until);
            let least = least.map(|(domain, _)| domain.clone());
            if let Some(domain) = least {
                self.0.remove(&domain);
            }
        }
        self.0.entry(domain.to_owned()).or_insert_with(|| Sender {
            until: Moment::default(),
            began: now,
            rests: 0,
            blocks: 0,
            unauthenticated: false,
            status: status.clone(),
        })
    }

    /// Why mail of a domain waits. None: it does not.
    pub(crate) fn wait(&self, domain: &str, now: Moment) -> Option<Wait> {
        let sender = self.0.get(domain).filter(|sender| now < sender.until)?;
        Some(Wait {
            until: sender.until,
            failing: true,
            status: sender.status.clone(),
        })
    }

    /// Whether mail of any domain waits.
    pub(crate) fn any_waits(&self, now: Moment) -> bool {
        self.0.values().any(|sender| now < sender.until)
    }

    /// What the site has against domains, in words, by domain.
    pub(crate) fn in_words(&self, now: Moment) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for (domain, sender) in &self.0 {
            let status = &sender.status;
            if now < sender.until {
                words.push(format!("mail from {domain} waits: {status}"));
            } else if sender.unauthenticated {
                words.push(format!("mail from {domain} fails authentication: {status}"));
            }
        }
        words.sort_unstable();
        words
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::judge::tests::status;

    const RATE: &str = "421 4.7.28 unusual rate of mail from your DKIM domain [x.test]";

    fn at(minutes: u64) -> Moment {
        Moment(Duration::from_secs(60 * (100 + minutes)))
    }

    fn rule(class: Class, scope: ReplyScope) -> ReplyRule {
        ReplyRule {
            pattern: "x".to_owned(),
            class,
            scope,
            rest: None,
        }
    }

    fn left(senders: &Senders, domain: &str, minute: u64) -> Option<u64> {
        let wait = senders.wait(domain, at(minute))?;
        Some(wait.until.since(at(minute)).as_secs() / 60)
    }

    #[test]
    fn mail_of_one_domain_waits_longer_each_time_and_other_mail_does_not() {
        for (class, line, times) in [
            (Class::RateLimited, RATE, [1, 2, 4, 8, 16, 30, 30]),
            (Class::Blocked, RATE, [30, 60, 120, 240, 240, 240, 240]),
            (
                Class::Blocked,
                "550 x",
                [240, 480, 960, 1440, 1440, 1440, 1440],
            ),
        ] {
            let (rule, status) = (rule(class, ReplyScope::Domain), status("end of data", line));
            let told = (class, Some(&rule));
            let mut senders = Senders::default();
            let mut now = 0;
            for minutes in times {
                let refused = senders.refused("x.test", told, &status, at(now));
                assert_eq!(refused, Some(Told::Waits));
                assert_eq!(senders.refused("x.test", told, &status, at(now)), None);
                assert_eq!(left(&senders, "x.test", now), Some(minutes), "{class:?}");
                assert_eq!(left(&senders, "y.test", now), None);
                now += minutes;
                assert!(!senders.any_waits(at(now)));
            }
            senders.refused("x.test", told, &status, at(now));
            senders.taken("x.test", at(now - 1));
            assert!(senders.any_waits(at(now)), "it was under way");
            senders.taken("x.test", at(now));
            senders.refused("x.test", told, &status, at(now));
            assert_eq!(left(&senders, "x.test", now), Some(times[0]));
        }
    }

    #[test]
    fn only_what_a_rule_says_of_the_domain_makes_it_wait() {
        let mut senders = Senders::default();
        for rule in [
            None,
            Some(rule(Class::RateLimited, ReplyScope::Source)),
            Some(rule(Class::RateLimited, ReplyScope::Message)),
        ] {
            let told = (Class::RateLimited, rule.as_ref());
            assert_eq!(
                senders.refused("x.test", told, &status("MAIL", RATE), at(0)),
                None
            );
        }
        assert!(!senders.any_waits(at(0)) && senders.in_words(at(0)).is_empty());
    }

    #[test]
    fn mail_that_fails_authentication_is_told_of_once_for_each_domain() {
        let mut senders = Senders::default();
        let status = status("end of data", "550 5.7.26 unauthenticated");
        let refuse = |senders: &mut Senders, domain: &str, minute| {
            senders.refused(domain, (Class::Authentication, None), &status, at(minute))
        };
        for domain in ["x.test", "y.test"] {
            assert_eq!(refuse(&mut senders, domain, 0), Some(Told::Unauthenticated));
            assert_eq!(refuse(&mut senders, domain, 1), None);
        }
        let words = senders.in_words(at(1));
        assert!(words.len() == 2 && words[0].contains("x.test fails authentication"));
        assert_eq!(left(&senders, "x.test", 1), None, "it does not wait");
        senders.taken("x.test", at(2));
        assert_eq!(
            refuse(&mut senders, "x.test", 3),
            Some(Told::Unauthenticated)
        );
        for number in 0..2 * DOMAINS_MAX {
            refuse(&mut senders, &format!("{number}.test"), 4);
        }
        assert_eq!(senders.0.len(), DOMAINS_MAX);
    }
}
