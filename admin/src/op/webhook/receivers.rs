//! The receivers of calls: the webhooks of the accounts, and how they answer.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use postrider_config::shown_url;
use postrider_store::{HookAttempt, HookFilter, Order, RetiredHookFilter, Store, Time};
use serde::{Deserialize, Serialize};

use super::HookAttemptItem;
use crate::{
    AdminError, Context,
    op::{Single, pages::Pages},
};

/// The most waiting calls that are counted.
const COUNT_MAX: usize = 20_000;
/// How long they are counted.
const COUNT_TIME: Duration = Duration::from_millis(40);
/// How many ended calls of an account are looked at.
const PAST: usize = 20;

/// Lists the webhooks of the accounts, by the names of the accounts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receivers {
    /// The account; None: all accounts.
    pub account: Option<String>,
    /// The list begins behind this account; None: at the beginning.
    pub after: Option<String>,
    /// The most accounts.
    pub limit: usize,
}

/// A part of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverList {
    /// The webhooks.
    pub receivers: Vec<ReceiverItem>,
    /// The list goes on behind this account; None: it ends.
    pub next: Option<String>,
    /// All waiting calls were counted. Otherwise there may be more.
    pub counted: bool,
}

/// A webhook of an account. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverItem {
    /// The account.
    pub account: String,
    /// It gets received messages, instead of events of sent messages.
    pub incoming: bool,
    /// The URL, without a login.
    pub url: String,
    /// How many calls wait.
    pub waiting: u64,
    /// When the first of the attempts failed that came after the last success. None: the last
    /// attempt succeeded, or there was none.
    pub failing_since: Option<String>,
    /// The last attempt; None: none is known.
    pub last: Option<HookAttemptItem>,
}

/// What is known of a receiver.
#[derive(Default)]
struct Seen {
    waiting: u64,
    attempts: Vec<HookAttempt>,
}

/// What the attempts say.
#[derive(Default)]
struct Told {
    last: Option<HookAttempt>,
    /// The first failed attempt.
    failed: Option<Time>,
    /// The last successful attempt.
    succeeded: Option<Time>,
}

impl Told {
    fn see(&mut self, attempt: &HookAttempt) {
        let start = attempt.start;
        if self.last.as_ref().is_none_or(|last| last.start <= start) {
            self.last = Some(attempt.clone());
        }
        if attempt.success {
            self.succeeded = self.succeeded.max(Some(start));
        }
    }

    /// Sees a failure, when all successes are known.
    fn see_failure(&mut self, attempt: &HookAttempt) {
        let start = attempt.start;
        if !attempt.success && self.succeeded.is_none_or(|succeeded| start > succeeded) {
            self.failed = Some(self.failed.map_or(start, |failed| failed.min(start)));
        }
    }
}

/// By account and URL.
type AllSeen = HashMap<(String, String), Seen>;

impl Single for Receivers {
    type Output = ReceiverList;

    async fn answer(self, context: &Context) -> Result<ReceiverList, AdminError> {
        let config = context.config.load_full();
        let mut accounts = config.accounts.iter().filter(|(name, account)| {
            let has_one = account.outgoing_webhook.is_some() || account.incoming_webhook.is_some();
            let is_wanted = self.account.as_ref().is_none_or(|wanted| wanted == *name);
            let is_behind = self.after.as_ref().is_none_or(|after| *name > after);
            has_one && is_wanted && is_behind
        });
        let page: Vec<_> = accounts.by_ref().take(self.limit).collect();
        let last = page.last().map(|(name, _)| (*name).clone());
        let next = accounts.next().and(last);
        let (mut seen, counted) = waiting(&context.store, self.account.clone()).await?;
        let mut receivers = Vec::new();
        for (name, account) in page {
            see_past(&context.store, name, &mut seen).await?;
            let outgoing = account.outgoing_webhook.as_ref();
            let incoming = account.incoming_webhook.as_ref();
            let urls = outgoing.map(|it| (false, &it.url)).into_iter();
            for (is_incoming, url) in urls.chain(incoming.map(|it| (true, &it.url))) {
                let known = seen.get(&(name.clone(), url.clone()));
                receivers.push(item(name, is_incoming, url, known));
            }
        }
        Ok(ReceiverList {
            receivers,
            next,
            counted,
        })
    }
}

fn item(account: &str, incoming: bool, url: &str, known: Option<&Seen>) -> ReceiverItem {
    let attempts = known.map_or(&[][..], |known| &known.attempts);
    let mut told = Told::default();
    attempts.iter().for_each(|attempt| told.see(attempt));
    attempts
        .iter()
        .for_each(|attempt| told.see_failure(attempt));
    let failing = told.last.as_ref().is_some_and(|last| !last.success);
    ReceiverItem {
        account: account.to_owned(),
        incoming,
        url: shown_url(url),
        waiting: known.map_or(0, |known| known.waiting),
        failing_since: told.failed.filter(|_| failing).map(|time| time.to_string()),
        last: told.last.as_ref().map(HookAttemptItem::from),
    }
}

/// Counts the waiting calls. False: there may be more.
async fn waiting(store: &Store, account: Option<String>) -> Result<(AllSeen, bool), AdminError> {
    let filter = HookFilter {
        account,
        ..HookFilter::default()
    };
    let (mut seen, begun) = (AllSeen::new(), Instant::now());
    let mut pages = Pages::new(Some(COUNT_MAX));
    while let Some((after, count)) = pages.next() {
        if begun.elapsed() > COUNT_TIME {
            return Ok((seen, false));
        }
        let page = store.list_hooks(&filter, after, Order::Ascending, count);
        for hook in pages.pass(page.await?) {
            let known = seen.entry((hook.account, hook.url)).or_default();
            known.waiting += 1;
            known.attempts.extend(hook.results.first().cloned());
            known
                .attempts
                .extend(hook.results.into_iter().skip(1).next_back());
        }
    }
    Ok((seen, !pages.is_cut()))
}

/// Looks at the last ended calls of an account.
async fn see_past(store: &Store, account: &str, seen: &mut AllSeen) -> Result<(), AdminError> {
    let filter = RetiredHookFilter {
        account: Some(account.to_owned()),
        ..RetiredHookFilter::default()
    };
    let page = store.list_retired_hooks(&filter, None, Order::Descending, PAST);
    for retired in page.await?.items {
        let hook = retired.hook;
        let known = seen.entry((hook.account, hook.url)).or_default();
        known.attempts.extend(hook.results);
    }
    Ok(())
}
