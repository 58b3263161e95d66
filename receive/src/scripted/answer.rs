//! Automatic answers: the decision, the memory and the message.
//!
//! An answer goes out after the message that it answers is durable, and before the sender hears
//! that. The memory and the answer are one operation of the store. So a crash in between makes the
//! sender try again, and the answer goes out once.

use std::time::Duration;

use jiff::tz::TimeZone;
use postrider_config::{Account, DestinationAddress, Dynamic};
use postrider_queue::{base_address, header};
use postrider_smtp::{Address, ReversePath};
use postrider_store::{NewSieveAnswer, NewText, StoreError, TextSource};
use sha2::{Digest as _, Sha256};
use tracing::{debug, info, warn};

use super::{Asking, Loaded};
use crate::{
    SessionContext,
    decide::{Delivery, Outcome},
    facts::{RecipientFacts, Target},
    forward::is_proven,
    sieve::{
        self,
        ready::RESPONDER,
        vacation::{Audience, Circumstances, NoAnswer, Reply, Request, decide},
    },
};

/// The most answers of an account on a day.
const MOST: u32 = 100;
const DAY: Duration = Duration::from_hours(24);

impl SessionContext {
    /// Sends the automatic answers to a message that was taken. A failure is in the log, and costs
    /// the answer.
    pub(crate) async fn send_answers(
        &self,
        asking: &Asking<'_>,
        deliveries: &[Delivery],
        loaded: &Loaded,
    ) {
        for delivery in deliveries {
            let Some(scripted) = &delivery.scripted else {
                continue;
            };
            let taken = matches!(delivery.outcome, Outcome::Mailbox { junk: None, .. });
            let (Some(request), true) = (&scripted.vacation, taken) else {
                continue;
            };
            let Some(party) = delivery.target(asking.facts) else {
                continue;
            };
            let account = party.1.account.as_str();
            if let Err(error) = self.answer(asking, party, scripted, request, loaded).await {
                warn!(account, %error, "failed to send an automatic answer");
            }
        }
    }

    async fn answer(
        &self,
        asking: &Asking<'_>,
        (recipient, target): (&RecipientFacts, &Target),
        scripted: &sieve::Outcome,
        request: &Request,
        loaded: &Loaded,
    ) -> Result<(), StoreError> {
        let name = target.account.as_str();
        let sender = &asking.transaction.mail.reverse_path;
        let (Some(account), Some(to)) = (asking.config.accounts.get(name), sender.address()) else {
            return Ok(());
        };
        let audience = match scripted.answering.as_deref() {
            Some(RESPONDER) => match self.scripts.of(name).await? {
                Some(ready) => ready.audience,
                None => Audience::default(),
            },
            _ => Audience::default(),
        };
        let now = self.clock.now();
        let base = base_address(to);
        let suppression = self.store.suppression(name, &base, now);
        let own = own_addresses(account);
        let decided = decide(
            request,
            &Circumstances {
                sender,
                recipient: target.member.as_ref().unwrap_or(&recipient.address),
                header: loaded.header(),
                own: &own,
                is_suppressed: suppression.await?.is_some(),
                is_junk: false,
                // Localserve has no DNS.
                is_verified: is_proven(sender, asking.facts) || self.simulate,
                audience,
                is_contact: self.store.is_known(name, to).await?,
                is_internal: asking.config.is_local(&to.host),
            },
        );
        match decided {
            Ok(reply) => self.send_answer(asking.config, name, request, &reply).await,
            Err(reason) => {
                let script = scripted.answering.as_deref();
                tell_of_none(name, script, sender, reason);
                Ok(())
            }
        }
    }

    async fn send_answer(
        &self,
        config: &Dynamic,
        account: &str,
        request: &Request,
        reply: &Reply,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let id = header::message_id(&mut rand::rng(), self.statics.hostname.ascii());
        let date = now.timestamp().to_zoned(TimeZone::UTC);
        let text = reply.message(&id, &date);
        let staged = self
            .store
            .stage(NewText::Inline(text.clone().into()))
            .await?;
        let source = (text.as_slice(), TextSource::Existing(staged));
        let message = self
            .queue
            .answer_from(account, &reply.from, &reply.to, source, now);
        let answer = NewSieveAnswer {
            account: account.to_owned(),
            hash: hash_of(config, request, &reply.to),
            now,
            until: now.after(DAY.saturating_mul(u32::from(request.days))),
            most: MOST,
            message,
        };
        let goes_out = self.store.answer_once(answer).await?;
        match goes_out {
            true => info!(account, to = %reply.to, message_id = id, "automatic answer queued"),
            false => debug!(account, to = %reply.to, "no automatic answer: there was one before"),
        }
        Ok(())
    }
}

/// The same for all that counts as one answer to one sender.
fn hash_of(config: &Dynamic, request: &Request, to: &Address) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(&request.handle);
    hash.update([0]);
    hash.update(config.plain(to).to_lowercase());
    hash.update([b'@']);
    hash.update(to.host.unicode().to_lowercase());
    hash.finalize().into()
}

fn own_addresses(account: &Account) -> Vec<Address> {
    let addresses = account.destinations.keys();
    let addresses = addresses.filter_map(|address| match address {
        DestinationAddress::Address(address) => Some(address.clone()),
        DestinationAddress::CatchAll(_) => None,
    });
    addresses.collect()
}

fn tell_of_none(account: &str, script: Option<&str>, sender: &ReversePath, reason: NoAnswer) {
    debug!(account, script, from = %sender, %reason, "no automatic answer");
}
