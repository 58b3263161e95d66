//! The operations of administrators on webhook calls.
//!
//! Operations by filter work page by page. So they take little memory for any number of calls, and
//! can end between two pages.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use postrider_config::Live;
use postrider_smtp::{EnhancedCode, ReversePath};
use postrider_store::{
    Accept, Arrival, Clock, Event, Hook, HookAttempt, HookFilter, HookId, HookKind, Mail, MailId,
    NewHook, NewHookKind, NextAttempt, Order, OutgoingEvent, QueueId, RecipientEvent, RetiredHook,
    RetiredHookFilter, Store, StoreError, TextId, Time, Top,
};
use tracing::debug;

use crate::{
    call::{Caller, shown_headers},
    outcome::{keep_until, no_attempt},
    payload,
};

/// The number of calls in a page.
const PAGE: usize = 200;

/// Changes waiting calls, replays ended calls, and tests webhooks.
pub struct Operator {
    pub(crate) caller: Arc<Caller>,
    pub(crate) store: Store,
    pub(crate) config: Live,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The result of a cancellation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CancelCount {
    /// The number of calls that ended.
    pub canceled: u64,
    /// The number of calls that run now. They go on.
    pub being_made: u64,
}

/// The result of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCount {
    /// The number of calls that will be made again.
    pub replayed: u64,
    /// The number of calls that will not be made again: the account has no such webhook any more,
    /// or the received message is gone.
    pub impossible: u64,
}

/// One of the two webhooks of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookKind {
    /// The webhook for events of sent messages.
    Outgoing,
    /// The webhook for received messages.
    Incoming,
}

/// Why a webhook can't be tested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// There is no such account.
    #[error("there is no account {0}")]
    NoAccount(String),
    /// The account has no such webhook.
    #[error("account {account} has no {which}; set accounts.{account}.{which} in domains.conf")]
    NoWebhook {
        /// The name of the account.
        account: String,
        /// The configuration key of the webhook.
        which: &'static str,
    },
    /// The payload can't be made.
    #[error("making the payload: {0}")]
    Payload(String),
}

/// What a call sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The fields of the header, in order. `***` stands for secrets.
    pub headers: Vec<(String, String)>,
    /// The body, or why it can't be made.
    pub body: Result<Vec<u8>, String>,
}

/// Whether a replay made the call. Such a call is younger than its event.
fn is_repeat(hook: &Hook) -> bool {
    let happened = match &hook.kind {
        HookKind::Outgoing(told) | HookKind::OutgoingV1(RecipientEvent { told, .. }) => told.queued,
        HookKind::Incoming(mail) => mail.received,
    };
    hook.submitted > happened
}

/// The current receiver of an account's events.
struct CurrentReceiver {
    url: String,
    authorization: String,
    /// The version of the payloads.
    version: u32,
}

impl Operator {
    /// Sets the time of the next attempt of all calls that match. Gives their number.
    ///
    /// # Errors
    /// If the store fails. The pages before stay done.
    pub async fn schedule(
        &self,
        store: &Store,
        filter: &HookFilter,
        next: NextAttempt,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        let mut after = None;
        loop {
            let order = Order::Ascending;
            let page = self.store.list_hooks(filter, after, order, PAGE).await?;
            let ids: Vec<HookId> = page.items.iter().map(|hook| hook.id).collect();
            if !ids.is_empty() {
                count += store.schedule_hooks(ids, next).await?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        debug!(?filter, ?next, count, "webhook calls moved");
        Ok(count)
    }

    /// Ends all calls that match, as failed.
    ///
    /// # Errors
    /// If the store fails. The pages before stay done.
    pub async fn cancel(
        &self,
        store: &Store,
        filter: &HookFilter,
    ) -> Result<CancelCount, StoreError> {
        let mut count = CancelCount::default();
        let mut after = None;
        loop {
            let order = Order::Ascending;
            let page = self.store.list_hooks(filter, after, order, PAGE).await?;
            let (config, now) = (self.config.load_full(), self.clock.now());
            let ends: Vec<(HookId, Option<Time>)> = page
                .items
                .iter()
                .map(|hook| (hook.id, keep_until(hook, &config, now)))
                .collect();
            let result = HookAttempt {
                start: now,
                duration: Duration::ZERO,
                success: false,
                code: 0,
                error: "canceled by admin".to_owned(),
                response: String::new(),
            };
            let all = ends.len() as u64;
            let ended = match all {
                0 => 0,
                _ => store.end_hooks(ends, &result).await?,
            };
            count.canceled += ended;
            count.being_made += all.saturating_sub(ended);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        debug!(?filter, canceled = count.canceled, "webhook calls canceled");
        Ok(count)
    }

    /// Makes new calls with the payloads of ended calls that match. They go to the account's
    /// current receivers.
    ///
    /// # Errors
    /// If the store fails. The pages before stay done.
    pub async fn replay(
        &self,
        store: &Store,
        filter: &RetiredHookFilter,
    ) -> Result<ReplayCount, StoreError> {
        let mut count = ReplayCount::default();
        let mut after = None;
        loop {
            let order = Order::Ascending;
            let page = self
                .store
                .list_retired_hooks(filter, after, order, PAGE)
                .await?;
            for retired in page.items {
                if filter.ids.is_empty() && is_repeat(&retired.hook) {
                    continue;
                }
                match self.again(store, retired).await? {
                    true => count.replayed += 1,
                    false => count.impossible += 1,
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        debug!(?filter, replayed = count.replayed, "webhook calls replayed");
        Ok(count)
    }

    async fn again(&self, store: &Store, retired: RetiredHook) -> Result<bool, StoreError> {
        let hook = retired.hook;
        let (which, kind) = match hook.kind {
            HookKind::Outgoing(outgoing) => {
                (WebhookKind::Outgoing, NewHookKind::Outgoing(outgoing))
            }
            HookKind::OutgoingV1(outgoing) => {
                (WebhookKind::Outgoing, NewHookKind::OutgoingV1(outgoing))
            }
            HookKind::Incoming(mail) => {
                let mail = Arc::unwrap_or_clone(mail);
                (WebhookKind::Incoming, NewHookKind::Again(Box::new(mail)))
            }
        };
        let Ok(receiver) = self.receiver(&hook.account, which) else {
            return Ok(false);
        };
        let now = self.clock.now();
        let hook = NewHook {
            account: hook.account,
            url: receiver.url,
            authorization: receiver.authorization,
            kind,
            submitted: now,
            next_attempt: now,
        };
        let accept = Accept {
            hooks: vec![hook],
            ..Accept::default()
        };
        match store.accept(accept).await {
            Ok(_) => Ok(true),
            Err(StoreError::NoText(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn receiver(&self, account: &str, which: WebhookKind) -> Result<CurrentReceiver, TestError> {
        let config = self.config.load();
        let found = config.accounts.get(account);
        let found = found.ok_or_else(|| TestError::NoAccount(account.to_owned()))?;
        let (key, receiver) = match which {
            WebhookKind::Outgoing => (
                "outgoing_webhook",
                found.outgoing_webhook.as_ref().map(|hook| CurrentReceiver {
                    url: hook.url.clone(),
                    authorization: hook.authorization.clone(),
                    version: hook.version,
                }),
            ),
            WebhookKind::Incoming => (
                "incoming_webhook",
                found.incoming_webhook.as_ref().map(|hook| CurrentReceiver {
                    url: hook.url.clone(),
                    authorization: hook.authorization.clone(),
                    version: 0,
                }),
            ),
        };
        receiver.ok_or_else(|| TestError::NoWebhook {
            account: account.to_owned(),
            which: key,
        })
    }

    /// What the last attempt at a call sent, or what the next one would send. Secrets are `***`.
    pub async fn describe(&self, hook: &Hook) -> Described {
        let config = self.config.load_full();
        let last = hook.results.last().map(|attempt| attempt.start);
        let at = last.unwrap_or_else(|| self.clock.now());
        Described {
            headers: shown_headers(hook, &config, at),
            body: self.caller.body(hook).await,
        }
    }

    /// The URL and the content of an example for a webhook.
    ///
    /// # Errors
    /// If the account has no such webhook.
    pub fn example(
        &self,
        account: &str,
        which: WebhookKind,
        event: Event,
    ) -> Result<(String, Described), TestError> {
        let (hook, body) = self.example_call(account, which, event)?;
        let config = self.config.load_full();
        let described = Described {
            headers: shown_headers(&hook, &config, hook.submitted),
            body: Ok(body),
        };
        Ok((hook.url, described))
    }

    /// Calls a webhook once, now, with an example, or with this body in its place. Nothing is
    /// recorded. Gives the URL and the result.
    ///
    /// # Errors
    /// If the account has no such webhook.
    pub async fn test(
        &self,
        account: &str,
        which: WebhookKind,
        event: Event,
        body: Option<Vec<u8>>,
    ) -> Result<(String, HookAttempt), TestError> {
        let (hook, example) = self.example_call(account, which, event)?;
        let config = self.config.load_full();
        let made = Some(Bytes::from(body.unwrap_or(example)));
        let called = self.caller.call(&hook, made, &config, &*self.clock).await;
        let attempt = match called {
            Ok((attempt, _)) => attempt,
            Err(used_up) => HookAttempt {
                error: used_up.to_string(),
                ..no_attempt(self.clock.now())
            },
        };
        Ok((hook.url, attempt))
    }

    /// An example of a call, and its body.
    fn example_call(
        &self,
        account: &str,
        which: WebhookKind,
        event: Event,
    ) -> Result<(Hook, Vec<u8>), TestError> {
        let receiver = self.receiver(account, which)?;
        let now = self.clock.now();
        let (kind, payload) = match which {
            WebhookKind::Outgoing => {
                let told = example(now, event);
                match receiver.version {
                    0 => {
                        let payload = payload::outgoing_payload(&told);
                        (HookKind::Outgoing(told), payload)
                    }
                    _ => {
                        let recipient = "you@postrider.invalid".to_owned();
                        let example = RecipientEvent { recipient, told };
                        let payload = payload::outgoing_payload_v1(&example);
                        (HookKind::OutgoingV1(example), payload)
                    }
                }
            }
            WebhookKind::Incoming => {
                let mail = example_mail(account, now);
                let payload = payload::incoming_payload(&mail, EXAMPLE_TEXT, self.caller.limits);
                (HookKind::Incoming(Arc::new(mail)), payload)
            }
        };
        let payload = payload.map_err(|error| TestError::Payload(error.to_string()))?;
        let hook = Hook {
            // Receivers ignore an id that they know, so each test has a new one.
            id: HookId(now.0.unsigned_abs()),
            account: account.to_owned(),
            url: receiver.url,
            authorization: receiver.authorization,
            kind,
            submitted: now,
            attempts: 1,
            next_attempt: now,
            fence: 0,
            results: Vec::new(),
        };
        Ok((hook, payload))
    }
}

fn example(now: Time, event: Event) -> OutgoingEvent {
    let (code, enhanced, error) = match event {
        Event::Failed | Event::Suppressed => (
            550,
            Some(EnhancedCode::UNKNOWN_MAILBOX),
            "no such user here",
        ),
        Event::Delayed => (452, Some(EnhancedCode::MAILBOX_FULL), "the mailbox is full"),
        _ => (250, None, ""),
    };
    OutgoingEvent {
        event,
        dsn: false,
        suppressing: event == Event::Failed,
        queue_id: QueueId(0),
        from_id: String::new(),
        message_id: "<test@postrider.invalid>".to_owned(),
        subject: "Test of your webhook".to_owned(),
        queued: now,
        code,
        enhanced,
        error: error.to_owned(),
        extra: [("Test".to_owned(), "true".to_owned())].into(),
    }
}

const EXAMPLE_TEXT: &[u8] = b"From: Test <test@postrider.invalid>\r\nTo: you@postrider.invalid\r\n\
    Subject: Test of your webhook\r\nMessage-ID: <test@postrider.invalid>\r\n\r\nThis is a test.\r\n";

fn example_mail(account: &str, now: Time) -> Mail {
    let address = |text: &str| text.parse().ok();
    let arrival = address("test@postrider.invalid").zip(address("you@postrider.invalid"));
    Mail {
        id: MailId(0),
        account: account.to_owned(),
        mailbox: "Inbox".to_owned(),
        top: Top::EMPTY,
        text: TextId::default(),
        size: EXAMPLE_TEXT.len() as u64,
        received: now,
        flags: Vec::new(),
        dsn: false,
        smtp: arrival.map(|(from, rcpt_to)| Arrival {
            mail_from: ReversePath::Mailbox(from),
            rcpt_to,
            msg_from: None,
            mail_from_validated: false,
            msg_from_validated: false,
            dkim_domains: Vec::new(),
            remote_ip: None,
        }),
    }
}
