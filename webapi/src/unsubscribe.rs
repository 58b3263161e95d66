//! One-click unsubscribing (RFC 8058): the signed link in a message, and the change when a
//! recipient follows it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use postrider_observe::metrics::{Event as EventLabel, SuppressedBy};
use postrider_queue::base_address;
use postrider_smtp::Address;
use postrider_store::{
    Accept, Event, NewEvent, NewSuppression, OutgoingEvent, QueueId, StoreError,
};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{
    call::{context::CallContext, key::UnsubscribeKey},
    error::ApiError,
};

/// The most bytes of the name of a list.
const LIST_MAX: usize = 100;
/// The bytes of a signature.
const SIGNATURE: usize = 16;

/// A recipient of a mailing list of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) account: String,
    pub(crate) list: String,
    pub(crate) address: Address,
}

/// Checks the name of a list.
pub(crate) fn check_list(list: &str) -> Result<(), ApiError> {
    let fine = (1..=LIST_MAX).contains(&list.len()) && !list.contains(char::is_control);
    match fine {
        true => Ok(()),
        false => Err(ApiError::user(format!(
            "the name of a list has 1 to {LIST_MAX} bytes and no control characters"
        ))),
    }
}

impl Subscription {
    /// The link that ends the subscription.
    pub(crate) fn link(&self, context: &CallContext) -> String {
        format!(
            "{}v1/unsubscribe/{}",
            context.endpoint.public_url,
            self.token(&context.unsubscribe_key)
        )
    }

    /// Three lines and a signature over them, encoded.
    fn token(&self, key: &UnsubscribeKey) -> String {
        let mut token = format!("{}\n{}\n{}", self.account, self.list, self.address).into_bytes();
        let signature = sign(key, &token);
        token.extend(signature);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Reads a token. None if this server did not sign it.
    pub(crate) fn read(token: &str, key: &UnsubscribeKey) -> Option<Self> {
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (text, signature) = token.split_last_chunk::<SIGNATURE>()?;
        if !bool::from(sign(key, text).ct_eq(signature)) {
            return None;
        }
        let mut lines = std::str::from_utf8(text).ok()?.splitn(3, '\n');
        Some(Self {
            account: lines.next()?.to_owned(),
            list: lines.next()?.to_owned(),
            address: lines.next()?.parse().ok()?,
        })
    }

    /// Whether the subscription has ended.
    pub(crate) async fn has_ended(&self, context: &CallContext) -> Result<bool, StoreError> {
        let name = postrider_store::base_in_list(&base_address(&self.address), &self.list);
        Ok(context
            .store
            .suppression(&self.account, &name, context.clock.now())
            .await?
            .is_some())
    }

    /// Ends the subscription: the address gets no more mail of this list. Ending it again changes
    /// nothing, and so does the end of one of an account that is gone: it sends nothing.
    pub(crate) async fn end(&self, context: &CallContext) -> Result<(), StoreError> {
        let now = context.clock.now();
        let base = base_address(&self.address);
        if self.has_ended(context).await? {
            return Ok(());
        }
        let Some(_held) = context.queue.hold_account(&self.account).await else {
            return Ok(());
        };
        let config = context.config.load_full();
        let account = config.accounts.get(&self.account);
        let told = OutgoingEvent {
            event: Event::Unsubscribed,
            dsn: false,
            suppressing: true,
            queue_id: QueueId(0),
            from_id: String::new(),
            message_id: String::new(),
            subject: String::new(),
            queued: now,
            code: 0,
            enhanced: None,
            error: String::new(),
            extra: [("List".to_owned(), self.list.clone())].into(),
        };
        let keep = account.map(|account| account.keep_retired_message_period);
        let logged = keep.filter(|keep| !keep.is_zero()).map(|keep| NewEvent {
            account: self.account.clone(),
            recipient: self.address.unicode(),
            told: told.clone(),
            keep_until: now.after(keep),
        });
        let hook = account.and_then(|account| {
            postrider_webhook::outgoing(&self.account, account, &self.address, told)
        });
        let suppression = NewSuppression {
            account: self.account.clone(),
            base,
            list: self.list.clone(),
            original: self.address.unicode(),
            created: now,
            manual: false,
            reason: "unsubscribed by one click".to_owned(),
            reply: None,
            until: None,
        };
        let accept = Accept {
            suppress: vec![suppression.clone()],
            events: logged.into_iter().collect(),
            hooks: hook.into_iter().collect(),
            ..Accept::default()
        };
        context.store.accept(accept).await?;
        let by = (SuppressedBy::Unsubscribe, "recipient");
        context
            .queue
            .see_suppression(&suppression, &self.address, by);
        let events = &context.metrics.events_total;
        events.with(EventLabel::Unsubscribed).inc();
        Ok(())
    }
}

/// The first half of an HMAC-SHA256 (RFC 2104).
fn sign(key: &UnsubscribeKey, text: &[u8]) -> [u8; SIGNATURE] {
    let mut half = [0; SIGNATURE];
    // An HMAC takes keys of any length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.bytes()) {
        mac.update(text);
        let whole = mac.finalize().into_bytes();
        half.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    }
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_tokens_are_read() {
        let subscription = Subscription {
            account: "ann".into(),
            list: "news".into(),
            address: "User@x.example".parse().unwrap(),
        };
        let token = subscription.token(&[7; 32].into());
        assert_eq!(
            Subscription::read(&token, &[7; 32].into()),
            Some(subscription)
        );
        assert_eq!(Subscription::read(&token, &[8; 32].into()), None);
        for at in 0..token.len() {
            let mut changed = token.clone();
            let other = if token.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            changed.replace_range(at..=at, other);
            // The last letter has unused bits. The decoder refuses them when they are set.
            assert_eq!(Subscription::read(&changed, &[7; 32].into()), None, "{at}");
        }
        assert_eq!(Subscription::read("", &[7; 32].into()), None);
    }
}
