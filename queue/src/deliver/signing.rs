//! Which messages need signatures, and the signatures that are known.
//!
//! A message is signed when it is first delivered. Its other recipients get the same signatures.
//!
//! A small message is read into memory and signed where the delivery runs. A large message is read
//! and hashed in pieces on a thread that may block, so that neither its size nor its disk holds up
//! other deliveries. Only a few large messages are hashed at once.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use postrider_config::{DkimSelector, Dynamic};
use postrider_smtp::{Address, Domain};
use postrider_store::{Message, Queued, TextId, Top};
use tokio::{sync::Semaphore, task::spawn_blocking};

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
        let Some((domain, keys)) = signing_keys(config, message.common.from.as_ref()) else {
            return Ok(Bytes::new());
        };
        if let Some(known) = self.signatures.find(message) {
            return Ok(known);
        }
        let stored = self.store.queued_message(message).await;
        let stored = stored.map_err(|error| error.to_string())?;
        let fields = if stored.len() <= SMALL_MAX {
            let whole = stored.whole().await.map_err(|error| error.to_string())?;
            let mut pieces = std::iter::once(Ok(whole));
            dkim::sign(domain, &keys, &mut pieces)
        } else {
            self.sign_large(domain, keys, stored).await?
        };
        let fields = fields.map_err(|error| error.to_string())?;
        self.signatures.add(message, fields.clone());
        Ok(fields)
    }

    async fn sign_large(
        &self,
        domain: &Domain,
        keys: Vec<(&Domain, &DkimSelector)>,
        stored: Message,
    ) -> Result<Result<Bytes, dkim::SignError>, String> {
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
