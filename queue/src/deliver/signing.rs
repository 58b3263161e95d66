//! Which messages need signatures, and the signatures that are known.
//!
//! A message is signed when it is first delivered. Its other recipients get the same signatures.
//!
//! A key that can't be used leaves the signing to the other keys of the domain. The log tells of
//! it. If no key is left, the message waits.
//!
//! A small message is read into memory and signed where the delivery runs. A large message is read
//! and hashed in pieces on a thread that may block, so that neither its size nor its disk holds up
//! other deliveries. Only a few large messages are hashed at once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use postrider_config::{DkimSelector, Dynamic};
use postrider_smtp::{Address, Domain};
use postrider_store::{Message, Origin, Queued, TextId, Top};
use tokio::{sync::Semaphore, task::spawn_blocking};
use tracing::error;

use crate::{Queue, dkim};

/// How many messages' signatures are known at most.
const KNOWN_MAX: usize = 256;
/// The largest message that is signed where the delivery runs.
const SMALL_MAX: u64 = 64 * 1024;
/// How much of a large message is in memory while it is signed.
const PIECE: u64 = 64 * 1024;
/// How many large messages are hashed at once: enough for the cores of a small server.
const LARGE_AT_ONCE: usize = 4;

/// The signatures that are known, and the places for messages that are being signed.
#[derive(Debug)]
pub(crate) struct Signatures {
    known: Mutex<VecDeque<Known>>,
    large: Semaphore,
    /// The keys that could not be used, by domain and selector, with the number of messages that
    /// have no signature by them.
    unusable: Mutex<BTreeMap<(Domain, Domain), u64>>,
}

#[derive(Debug)]
struct Known {
    text: TextId,
    top: Top,
    fields: Bytes,
}

impl Default for Signatures {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            large: Semaphore::new(LARGE_AT_ONCE),
            unusable: Mutex::default(),
        }
    }
}

impl Signatures {
    fn known(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, message: &Queued) -> Option<Bytes> {
        let known = self.known();
        let mut latest_first = known.iter().rev();
        latest_first
            .find(|known| known.text == message.text && known.top == message.top)
            .map(|known| known.fields.clone())
    }

    /// Counts a message without a signature by this key. Gives the number of such messages so far.
    fn count_unusable(&self, domain: &Domain, selector: &Domain) -> u64 {
        let unusable = self.unusable.lock();
        let mut unusable = unusable.unwrap_or_else(PoisonError::into_inner);
        let key = (domain.clone(), selector.clone());
        let count = unusable.entry(key).or_default();
        *count += 1;
        *count
    }

    fn add(&self, message: &Queued, fields: Bytes) {
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.pop_front();
        }
        known.push_back(Known {
            text: message.text,
            top: message.top.clone(),
            fields,
        });
    }
}

impl Queue {
    /// The DKIM-Signature fields of a message, with CRLFs. Empty if the domain of its author has no
    /// keys that sign.
    pub(super) async fn signature(
        &self,
        config: &Dynamic,
        message: &Queued,
    ) -> Result<Bytes, String> {
        // Anybody could get our signature under a message that is only passed on.
        let is_passed = matches!(message.common.origin, Origin::Passed { .. });
        let author = message.common.from.as_ref().filter(|_| !is_passed);
        let Some((domain, keys)) = signing_keys(config, author) else {
            return Ok(Bytes::new());
        };
        if let Some(known) = self.signatures.find(message) {
            return Ok(known);
        }
        let stored = self.store.queued_message(message).await;
        let stored = stored.map_err(|error| error.to_string())?;
        let signed = if stored.len() <= SMALL_MAX {
            let whole = stored.whole().await.map_err(|error| error.to_string())?;
            let mut pieces = std::iter::once(Ok(whole));
            dkim::sign(domain, &keys, &mut pieces)
        } else {
            self.sign_large(domain, keys, stored).await?
        };
        let signed = signed.map_err(|error| error.to_string())?;
        for (selector, error) in &signed.unusable {
            let messages = self.signatures.count_unusable(domain, selector);
            // A key is told once, and again with the number of messages when that is much larger.
            if messages == 1 || (messages >= 1000 && messages.is_power_of_two()) {
                error!(%error, messages, "a DKIM key can't be used; the other keys of the domain sign");
            }
        }
        self.signatures.add(message, signed.fields.clone());
        Ok(signed.fields)
    }

    async fn sign_large(
        &self,
        domain: &Domain,
        keys: Vec<(&Domain, &DkimSelector)>,
        stored: Message,
    ) -> Result<Result<dkim::Signed, dkim::SignError>, String> {
        let place = self.signatures.large.acquire().await;
        let _place = place.map_err(|error| error.to_string())?;
        let domain = domain.clone();
        let keys: Vec<(Domain, DkimSelector)> = keys
            .into_iter()
            .map(|(selector, settings)| (selector.clone(), settings.clone()))
            .collect();
        let work = move || {
            let keys: Vec<_> = keys
                .iter()
                .map(|(name, settings)| (name, settings))
                .collect();
            let pieces = stored.into_pieces().blocking(PIECE);
            let mut pieces = pieces.map(|piece| piece.map_err(|error| error.to_string()));
            dkim::sign(&domain, &keys, &mut pieces)
        };
        spawn_blocking(work)
            .await
            .map_err(|error| error.to_string())
    }
}

/// The domain that signs the messages of an author, and its selectors that sign. None if nothing is
/// to be signed.
fn signing_keys<'a>(
    config: &'a Dynamic,
    from: Option<&Address>,
) -> Option<(&'a Domain, Vec<(&'a Domain, &'a DkimSelector)>)> {
    let (name, domain) = config.domains.get_key_value(from?.host.domain()?)?;
    let keys: Vec<_> = domain.dkim.signing().collect();
    (!keys.is_empty()).then_some((name, keys))
}
