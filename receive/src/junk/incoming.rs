//! What the filters of accounts know of a message that comes in.

use postrider_config::{Dynamic, Ruleset};
use postrider_queue::header::Header;
use postrider_smtp::{ReversePath, server::Client};
use postrider_store::{NewText, StoreError};
use tokio::sync::OnceCell;

use super::{
    content::{Content, threshold},
    filter::Letter,
    history::Opinion,
    senders::Senders,
    verdict::{Doubts, JunkFacts},
};
use crate::{
    SessionContext,
    checks::{results::AuthenticationResults, spf::SpfOutcome},
    facts::{Facts, RecipientFacts, Target},
};

/// A message that comes in, for the filters of all its recipients.
pub(crate) struct IncomingMail<'a> {
    context: &'a SessionContext,
    spf: Option<SpfOutcome>,
    reverse_path: &'a ReversePath,
    text: &'a NewText,
    senders: Senders,
    /// Without what is in the message.
    doubts: Doubts,
    /// Its content. Read once, and only if a filter needs it.
    letter: OnceCell<Letter>,
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
        let results = facts.authentication.as_ref().unwrap_or(&none);
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
            letter: OnceCell::new(),
        }
    }

    /// What the account of a target knows of the message. `forwarding` is a ruleset that says that
    /// another server of ours forwards it: then the client says nothing. None: the account is gone.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn known_to(
        &self,
        config: &Dynamic,
        recipient: &RecipientFacts,
        target: &Target,
        forwarding: Option<&Ruleset>,
    ) -> Result<Option<JunkFacts>, StoreError> {
        let Some(account) = config.accounts.get(&target.account) else {
            return Ok(None);
        };
        let filter = self.context.filter();
        let today = self.context.clock.now().day();
        let forwarded = forwarding.map(|ruleset| {
            let forwarder = ruleset.verified_domain.as_ref();
            self.senders.forwarded_by(forwarder)
        });
        let senders = forwarded.as_ref().unwrap_or(&self.senders);
        let judged = filter.history(&target.account, senders, today).await?;
        let (mut doubts, mut content) = (self.doubts, None);
        if forwarding.is_some() {
            doubts = Doubts::default();
        }
        let history = judged.history;
        let is_decided =
            history.is_conclusive(Opinion::Good) || history.is_conclusive(Opinion::Junk);
        let asks_words = account.junk_filter && !is_decided;
        let teacher = match asks_words {
            true => filter.teacher(&target.account).await?,
            false => None,
        };
        if let Some(teacher) = teacher {
            let read = || filter.letter(self.reverse_path, self.text);
            let letter = self.letter.get_or_try_init(read).await?;
            doubts.not_addressed = !letter.is_addressed_to(&recipient.address.unicode());
            let configured = self.context.statics.policy.junk_threshold;
            let probability = filter.probability_by(teacher, &letter.tokens).await?;
            content = probability.map(|probability| Content {
                probability,
                threshold: threshold(configured, doubts.lower_the_threshold()),
            });
        }
        Ok(Some(JunkFacts {
            trusted: false,
            history,
            good_domain_passes: judged.good_domain_passes,
            spf: self.spf.filter(|_| forwarding.is_none()),
            doubts,
            content,
            listed: None,
        }))
    }
}
