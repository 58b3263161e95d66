//! Which messages need signatures, and the signatures that are known.
//!
//! A message is signed when it is first delivered. Its other recipients get the same signatures. A
//! host that needs another form of the message gets signatures over that form.
//!
//! A key that can't be used leaves the signing to the other keys of the domain. The log tells of
//! it. If no key is left, the message waits.
//!
//! A small message is read into memory. A large message is read and hashed in pieces. Large
//! messages, and those that an RSA key signs, are signed on threads that may block, so that neither
//! their size nor a slow key holds up other deliveries. Only a few are signed at once. A small
//! message that only Ed25519 keys sign takes less than the way to another thread and back costs in
//! all.
//!
//! A signature has an end. When half of its time is over, the next attempt makes a new one. So it
//! does when the keys that sign have changed: a key that was removed signs no longer.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use lru::LruCache;
use postrider_config::{Dkim, DkimAlgorithm, DkimSelector, Dynamic};
use postrider_smtp::{Address, Cause, DeliveryStatus, Domain, EnhancedCode, convert::Form};
use postrider_store::{Message, Origin, Queued, TextId, Time, Top};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
};
use tracing::error;

use super::{attempt::OngoingAttempt, conversion::Formed};
use crate::{
    Queue,
    dkim::{self, Selector},
    settle::Postponed,
    tracking::Track,
};

/// The wait of messages that can't be sent by a fault of ours.
const OWN_FAULT_PAUSE: Duration = Duration::from_secs(5 * 60);

/// How many messages' signatures are known at most.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(2048).unwrap();
/// A selector that signs, as the configuration has it.
type Signing<'a> = (&'a Domain, &'a Arc<DkimSelector>);

/// The largest message that is read into memory.
pub(super) const SMALL_MAX: u64 = 64 * 1024;
/// How much of a large message is in memory while it is signed.
pub(super) const PIECE: u64 = 64 * 1024;
/// How many large messages are hashed at once: enough for the cores of a small server.
const LARGE_AT_ONCE: usize = 4;

/// The signatures that are known, and the places for messages that are being signed.
#[derive(Debug)]
pub(crate) struct Signatures {
    /// By text, top and form, and by their last use.
    known: Mutex<LruCache<(TextId, Top, Form), Known>>,
    small: Semaphore,
    large: Semaphore,
    /// The keys that could not be used, by domain and selector, with the number of messages that
    /// have no signature by them.
    unusable: Mutex<BTreeMap<(Domain, Domain), u64>>,
}

#[derive(Clone, Debug)]
struct Known {
    fields: Bytes,
    /// The keys that were to sign.
    keys: Arc<[Selector]>,
    /// From then on the message is signed anew.
    until: Time,
}

impl Known {
    /// Whether these are the keys that were to sign, with the same settings.
    fn is_by(&self, keys: &[Signing<'_>]) -> bool {
        let same = |((name, settings), (now, settings_now)): (&Selector, &Signing<'_>)| {
            name == *now && (Arc::ptr_eq(settings, settings_now) || settings == *settings_now)
        };
        self.keys.len() == keys.len() && self.keys.iter().zip(keys).all(same)
    }
}

impl Default for Signatures {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            known: Mutex::new(LruCache::new(KNOWN_MAX)),
            small: Semaphore::new(cores),
            large: Semaphore::new(LARGE_AT_ONCE),
            unusable: Mutex::default(),
        }
    }
}

impl Signatures {
    fn find(
        &self,
        (message, form): (&Queued, Form),
        keys: &[Signing<'_>],
        now: Time,
    ) -> Option<Bytes> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(&(message.text, message.top.clone(), form))?;
        (now < found.until && found.is_by(keys)).then(|| found.fields.clone())
    }

    fn add(&self, message: &Queued, form: Form, known: Known) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.put((message.text, message.top.clone(), form), known);
    }

    /// A place for a message that takes long to read.
    pub(crate) async fn place(&self, is_small: bool) -> Result<SemaphorePermit<'_>, String> {
        let places = match is_small {
            true => &self.small,
            false => &self.large,
        };
        let place = places.acquire().await;
        place.map_err(|error| error.to_string())
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
}

impl OngoingAttempt<'_> {
    /// Makes the signatures before any connection is made. A message that can't be signed is not
    /// sent. It waits until the key is mended.
    pub(super) async fn sign_or_postpone(&mut self) {
        let messages = self.pending.iter().map(|(message, _)| message);
        // What a tracked message says is known only when it goes out.
        let messages = messages.filter(|message| Track::of(&message.top).is_none());
        let failed = self.queue.sign_all(self.config, messages).await;
        if failed.is_empty() {
            return;
        }
        for (message, status) in std::mem::take(&mut self.pending) {
            match failed.get(&(message.text, message.top.clone())) {
                Some(text) => {
                    let code = EnhancedCode::MISCONFIGURED;
                    let status = DeliveryStatus::transient(Cause::Local, code, text.clone());
                    self.postpone_for_us(message, status);
                }
                None => self.pending.push((message, status)),
            }
        }
    }

    /// Postpones a message that can't be sent by a fault of ours.
    pub(super) fn postpone_for_us(&mut self, message: Queued, status: DeliveryStatus) {
        let clock = &self.queue.clock;
        if self.queue.faults.tell(clock.moment()) {
            error!(queue = message.id.0, %status, "messages wait for a fault of ours; no attempt counts");
        }
        self.postponed.push(Postponed {
            message,
            status,
            until: clock.now().after(OWN_FAULT_PAUSE),
            failing: false,
        });
    }
}

impl Queue {
    /// The DKIM-Signature fields of a message, with CRLFs. Empty if the domain of its author has no
    /// keys that sign. `formed`: the message in the form that it goes out in, if that is not as it
    /// is stored.
    pub(super) async fn signature(
        &self,
        config: &Dynamic,
        message: &Queued,
        formed: Option<&Formed>,
    ) -> Result<Bytes, String> {
        // Anybody could get our signature under a message that is only passed on.
        let is_passed = matches!(message.common.origin, Origin::Passed { .. });
        let author = message.common.from.as_ref().filter(|_| !is_passed);
        let Some((domain, dkim)) = signing_domain(config, author, &message.common.origin) else {
            return Ok(Bytes::new());
        };
        let now = self.clock.now();
        let form = formed.map_or(Form::AsIs, Formed::form);
        let signing = dkim.signing();
        // A text of one recipient is signed each time that it is made.
        let is_own = formed.is_some_and(Formed::is_own);
        if !is_own && let Some(known) = self.signatures.find((message, form), &signing, now) {
            return Ok(known);
        }
        let keys: Arc<[Selector]> = signing
            .into_iter()
            .map(|(name, settings)| (name.clone(), Arc::clone(settings)))
            .collect();
        let half = keys
            .iter()
            .map(|(_, settings)| settings.expiration / 2)
            .filter(|half| !half.is_zero());
        let until = half.min().map_or(Time(i64::MAX), |half| now.after(half));
        let stored = match formed {
            Some(formed) => formed.message().clone(),
            None => {
                let stored = self.store.queued_message(message).await;
                stored.map_err(|error| error.to_string())?
            }
        };
        let signed = self.sign(domain, Arc::clone(&keys), now, stored).await?;
        let signed = signed.map_err(|error| error.to_string())?;
        for (selector, error) in &signed.unusable {
            let messages = self.signatures.count_unusable(domain, selector);
            // A key is told once, and again with the number of messages when that is much larger.
            if messages == 1 || (messages >= 1000 && messages.is_power_of_two()) {
                error!(%error, messages, "a DKIM key can't be used; the other keys of the domain sign");
            }
        }
        let known = Known {
            fields: signed.fields.clone(),
            keys,
            until,
        };
        if !is_own {
            self.signatures.add(message, form, known);
        }
        Ok(signed.fields)
    }

    async fn sign(
        &self,
        domain: &Domain,
        keys: Arc<[Selector]>,
        now: Time,
        stored: Message,
    ) -> Result<Result<dkim::Signed, dkim::SignError>, String> {
        let is_small = stored.len() <= SMALL_MAX;
        let is_quick = |(_, settings): &Selector| settings.algorithm == DkimAlgorithm::Ed25519;
        if is_small && keys.iter().all(is_quick) {
            let whole = stored.whole().await.map_err(|error| error.to_string())?;
            let mut pieces = std::iter::once(Ok(whole));
            return Ok(dkim::sign(domain, &keys, now, &mut pieces));
        }
        let domain = domain.clone();
        let _place = self.signatures.place(is_small).await?;
        let signing = if is_small {
            let whole = stored.whole().await.map_err(|error| error.to_string())?;
            spawn_blocking(move || {
                let mut pieces = std::iter::once(Ok(whole));
                dkim::sign(&domain, &keys, now, &mut pieces)
            })
        } else {
            spawn_blocking(move || {
                let pieces = stored.into_pieces().blocking(PIECE);
                let mut pieces = pieces.map(|piece| piece.map_err(|error| error.to_string()));
                dkim::sign(&domain, &keys, now, &mut pieces)
            })
        };
        signing.await.map_err(|error| error.to_string())
    }

    /// Makes the signatures of these messages, each text once. Gives those that can't be signed, by
    /// text and top, and why.
    pub(super) async fn sign_all<'a>(
        &self,
        config: &Dynamic,
        messages: impl Iterator<Item = &'a Queued>,
    ) -> HashMap<(TextId, Top), String> {
        let key = |message: &Queued| (message.text, message.top.clone());
        let distinct: HashMap<_, _> = messages.map(|message| (key(message), message)).collect();
        let signing = distinct.into_iter().map(async |(key, message)| {
            let signed = self.signature(config, message, None).await;
            signed.err().map(|error| (key, error))
        });
        join_all(signing).await.into_iter().flatten().collect()
    }
}

/// The domain that signs the messages of an author. What the server wrote is signed by the nearest
/// domain above its own name. None if nothing is to be signed.
fn signing_domain<'a>(
    config: &'a Dynamic,
    from: Option<&Address>,
    origin: &Origin,
) -> Option<(&'a Domain, &'a Dkim)> {
    let author = from?.host.domain()?;
    let (name, domain) = match origin {
        Origin::Server | Origin::Report(_) => nearest_domain(config, author)?,
        Origin::Sent | Origin::Passed { .. } => config.domains.get_key_value(author)?,
    };
    (!domain.dkim.sign.is_empty()).then_some((name, &domain.dkim))
}

/// Whether a domain has keys that sign the messages of an author.
pub(crate) fn signs(config: &Dynamic, from: &Address, origin: &Origin) -> bool {
    let domain = signing_domain(config, Some(from), origin);
    domain.is_some_and(|(_, dkim)| !dkim.signing().is_empty())
}

/// The domain of the configuration that is this one, or the nearest above it.
pub(crate) fn nearest_domain<'a>(
    config: &'a Dynamic,
    domain: &Domain,
) -> Option<(&'a Domain, &'a postrider_config::DomainConfig)> {
    let mut found = config.domains.get_key_value(domain);
    let mut above = domain.ascii();
    while found.is_none() {
        above = above.split_once('.')?.1;
        found = config.domains.get_key_value(&Domain::parse(above).ok()?);
    }
    found
}
