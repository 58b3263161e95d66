//! What the filters of accounts know of a message that comes in.

use std::collections::{HashMap, hash_map::Entry};

use postrider_config::Dynamic;
use postrider_queue::header::Header;
use postrider_smtp::{Domain, ReversePath, server::Client};
use postrider_store::{NewText, StoreError};

use super::{
    content::{Content, threshold},
    filter::{Judged, Letter},
    history::Opinion,
    senders::Senders,
    verdict::{Doubts, JunkFacts},
};
use crate::{
    SessionContext,
    checks::{results::AuthenticationResults, spf::SpfOutcome},
    decide::Role,
    facts::{Facts, RecipientFacts, Target},
    resolve::reports_to,
};

/// A message that comes in, for the filters of all its recipients. The store is asked once for each
/// account, however many of its addresses the transaction names.
pub(crate) struct IncomingMail<'a> {
    context: &'a SessionContext,
    spf: Option<SpfOutcome>,
    reverse_path: &'a ReversePath,
    text: &'a NewText,
    senders: Senders,
    /// Without what is in the message.
    doubts: Doubts,
    /// Its content. Read once, and only if a filter needs it.
    letter: Option<Letter>,
    /// What accounts know of it, by account and by the server of ours that forwards it.
    known: HashMap<(String, Option<Domain>), Known>,
    /// How probable it is that it is junk, by who has learnt the words.
    probabilities: HashMap<String, Option<f64>>,
}

/// What an account knows of a message.
#[derive(Clone, Copy)]
struct Known {
    judged: Judged,
    /// The probability that it is junk. None: the filter is off, needs not be asked, or has not
    /// learnt enough.
    probability: Option<f64>,
}

impl<'a> IncomingMail<'a> {
    pub(crate) fn new(
        context: &'a SessionContext,
        client: &Client,
        reverse_path: &'a ReversePath,
        facts: &Facts,
        text: &'a NewText,
    ) -> Self {
        let none = AuthenticationResults::default();
        let results = facts.authentication.as_deref().unwrap_or(&none);
        let remote = client.remote.ip().to_canonical();
        let from = facts.header.as_ref().and_then(Header::from);
        Self {
            context,
            reverse_path,
            text,
            senders: Senders::of_incoming(from, reverse_path, Some(remote), results),
            doubts: Doubts {
                // Mail of this machine needs no TLS.
                no_tls: client.tls.is_none() && !remote.is_loopback(),
                ..Doubts::of_client(results)
            },
            spf: results.spf.as_ref().map(|spf| spf.outcome),
            letter: None,
            known: HashMap::new(),
            probabilities: HashMap::new(),
        }
    }

    /// What the account of a target knows of the message. `forwarder` is another server of ours
    /// that forwards it: then the client says nothing. None: the account is gone.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn known_to(
        &mut self,
        config: &Dynamic,
        recipient: &RecipientFacts,
        target: &Target,
        forwarder: Option<&Domain>,
    ) -> Result<Option<JunkFacts>, StoreError> {
        let Some(account) = config.accounts.get(&target.account) else {
            return Ok(None);
        };
        let key = (target.account.clone(), forwarder.cloned());
        let known = match self.known.get(&key) {
            Some(known) => *known,
            None => {
                let senders = match forwarder {
                    Some(_) => self.senders.forwarded_by(forwarder),
                    None => self.senders.clone(),
                };
                let known = self.ask(&key.0, &senders, account.junk_filter).await?;
                *self.known.entry(key).or_insert(known)
            }
        };
        let is_forwarded = forwarder.is_some();
        let mut doubts = match is_forwarded {
            true => Doubts::default(),
            false => self.doubts,
        };
        // A forwarded message names another address of the account.
        if let Some(letter) = self.letter.as_ref().filter(|_| !is_forwarded) {
            doubts.not_addressed = !letter.is_addressed_to(&recipient.address.unicode());
        }
        let configured = self.context.statics.policy.junk_threshold;
        let author = self.senders.author.as_ref();
        let author_validated = author.is_some_and(|author| author.validated);
        let policy = self.context.policy(Role::Mx, config);
        Ok(Some(JunkFacts {
            trusted: author_validated && reports_to(&recipient.address, &policy).any(),
            history: known.judged.history,
            good_domain_passes: known.judged.good_domain_passes,
            author_validated,
            forwarded: is_forwarded,
            spf: self.spf.filter(|_| !is_forwarded),
            doubts,
            content: known.probability.map(|probability| Content {
                probability,
                threshold: threshold(configured, doubts.lower_the_threshold()),
            }),
            listed: None,
        }))
    }

    /// Asks the store what an account knows of a message of these senders.
    async fn ask(
        &mut self,
        account: &str,
        senders: &Senders,
        words: bool,
    ) -> Result<Known, StoreError> {
        let filter = self.context.filter();
        let today = self.context.clock.now().day();
        let judged = filter.history(account, senders, today).await?;
        let history = judged.history;
        let is_decided =
            history.is_conclusive(Opinion::Good) || history.is_conclusive(Opinion::Junk);
        let teacher = match words && !is_decided {
            true => filter.teacher(account).await?,
            false => None,
        };
        let probability = match teacher {
            Some(teacher) => self.probability_by(teacher).await?,
            None => None,
        };
        Ok(Known {
            judged,
            probability,
        })
    }

    /// The probability that the message is junk, by what a teacher has learnt.
    async fn probability_by(&mut self, teacher: &str) -> Result<Option<f64>, StoreError> {
        let filter = self.context.filter();
        let letter = match self.letter.take() {
            Some(letter) => letter,
            None => filter.letter(self.reverse_path, self.text).await?,
        };
        let letter = self.letter.insert(letter);
        match self.probabilities.entry(teacher.to_owned()) {
            Entry::Occupied(found) => Ok(*found.get()),
            Entry::Vacant(missing) => {
                let probability = filter.probability_by(teacher, &letter.tokens).await?;
                Ok(*missing.insert(probability))
            }
        }
    }
}
