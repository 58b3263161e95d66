//! What the filters of accounts know of a message that comes in.

use postrider_config::Ruleset;
use postrider_queue::header::Header;
use postrider_smtp::{ReversePath, server::Client};
use postrider_store::{NewText, StoreError};
use tokio::sync::OnceCell;

use super::{
    content::{Content, threshold},
    filter::{Filter, Letter},
    history::Opinion,
    senders::Senders,
    verdict::{Doubts, JunkFacts},
};
use crate::{
    SessionContext,
    checks::results::AuthenticationResults,
    facts::{Facts, RecipientFacts, Target},
};

/// A message that comes in, for the filters of all its recipients.
pub(crate) struct IncomingMail<'a> {
    context: &'a SessionContext,
    results: AuthenticationResults,
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
        let results = facts.authentication.clone().unwrap_or_default();
        let remote = client.remote.ip().to_canonical();
        let from = facts.header.as_ref().and_then(Header::from);
        Self {
            context,
            reverse_path,
            text,
            senders: Senders::of_incoming(from, reverse_path, Some(remote), &results),
            doubts: Doubts {
                // Mail of this machine needs no TLS.
                no_tls: client.tls.is_none() && !remote.is_loopback(),
                ..Doubts::of_client(&results)
            },
            results,
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
        recipient: &RecipientFacts,
        target: &Target,
        forwarding: Option<&Ruleset>,
    ) -> Result<Option<JunkFacts>, StoreError> {
        let config = self.context.dynamic();
        let Some(account) = config.accounts.get(&target.account) else {
            return Ok(None);
        };
        let filter = Filter {
            store: &self.context.store,
            limits: self.context.statics.limits.mime(),
        };
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
        if account.junk_filter && !is_decided && filter.has_learnt(&target.account).await? {
            let read = || filter.letter(self.reverse_path, self.text);
            let letter = self.letter.get_or_try_init(read).await?;
            doubts.not_addressed = !letter.is_addressed_to(&recipient.address.unicode());
            let configured = self.context.statics.policy.junk_threshold;
            let probability = filter.probability(&target.account, &letter.tokens).await?;
            content = probability.map(|probability| Content {
                probability,
                threshold: threshold(configured, doubts.lower_the_threshold()),
            });
        }
        let spf = self.results.spf.as_ref();
        Ok(Some(JunkFacts {
            trusted: false,
            history,
            good_domain_passes: judged.good_domain_passes,
            spf: spf.filter(|_| forwarding.is_none()).map(|spf| spf.outcome),
            doubts,
            content,
            listed: None,
        }))
    }
}
