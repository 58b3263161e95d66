//! Suppression lists: which failures put an address on a list, and the base that stands for all
//! variants of an address. `judge` says whether a failure blames the address.

use std::time::Duration;

use postrider_config::{Account, OnBlock};
use postrider_smtp::{
    Address, LocalPart,
    bounce::{Blame, Class, Said},
};
use postrider_store::{
    NewSuppression, Order, Queued, Retired, RetiredFilter, StoreError, SuppressingReply,
    Suppression, Time,
};

use crate::{Queue, judge, passed::is_sent};

/// How many of the latest messages to an address are looked at, to find a row of failures.
const LATEST: usize = 50;
/// How many failures in a row put an address on the list, if one alone does not.
const ROW: usize = 3;
/// The most characters of a reply in an entry.
const TEXT_MAX: usize = 300;

/// The source of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeardFrom {
    /// An attempt of ours.
    Queue,
    /// A DSN.
    Dsn,
}

impl HeardFrom {
    const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Dsn => "DSN",
        }
    }
}

/// The facts of a final failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure<'a> {
    pub(crate) source: HeardFrom,
    pub(crate) said: Said<'a>,
    /// The class that a rule of the provider gives.
    pub(crate) known: Option<Class>,
    /// What becomes of messages whose source is blocked.
    pub(crate) on_block: OnBlock,
    /// The host that replied. Empty if it is not known.
    pub(crate) host: &'a str,
}

impl Failure<'_> {
    /// The reply, for the entry that it causes.
    fn reply(&self) -> SuppressingReply {
        SuppressingReply {
            code: self.said.code,
            enhanced: self.said.enhanced,
            text: self.said.text.chars().take(TEXT_MAX).collect(),
            host: self.host.to_owned(),
        }
    }
}

/// What follows from a final failure for the recipient's address.
#[derive(Debug, Default)]
pub(crate) struct Consequence {
    /// The failure counts in a row of failures.
    pub(crate) blames: bool,
    /// The new entry of the account's list.
    pub(crate) entry: Option<NewSuppression>,
}

/// The base that stands for all variants of an address. Its local-part ends before the first `+` or
/// `-`, and is in lower case without dots. Its domain is in Unicode form. An address that begins
/// with `+` or `-` stands for itself. A local-part that needs quotes has them, so that the base is
/// an address too.
#[must_use]
pub fn base_address(address: &Address) -> String {
    let local = address.local.as_str();
    let stem = local.split('+').next().unwrap_or(local);
    let stem = stem.split('-').next().unwrap_or(stem);
    let stem: String = stem.chars().filter(|c| *c != '.').collect();
    let base = if stem.is_empty() { local } else { &stem };
    let base = base.to_lowercase();
    let written = LocalPart::from_decoded(&base).map_or(base, |local| local.to_string());
    format!("{written}@{}", address.host.unicode())
}

impl Queue {
    /// The entry of the suppression list that keeps a message from being sent.
    pub(crate) async fn suppression_of(
        &self,
        message: &Queued,
    ) -> Result<Option<Suppression>, StoreError> {
        if !is_sent(message) || self.store.counts().await.suppressions == 0 {
            return Ok(None);
        }
        let base = base_address(&message.recipient);
        let (account, list) = (&message.common.account, &message.common.list);
        let now = self.clock.now();
        match self.store.suppression(account, &base, now).await? {
            None if !list.is_empty() => {
                let name = postrider_store::base_in_list(&base, list);
                self.store.suppression(account, &name, now).await
            }
            found => Ok(found),
        }
    }

    /// What follows from a final failure. The store adds the entry unless the list has one already.
    pub(crate) async fn consequence(
        &self,
        account: &Account,
        message: &Queued,
        failure: &Failure<'_>,
        now: Time,
    ) -> Consequence {
        if !is_sent(message) {
            return Consequence::default();
        }
        if failure.source == HeardFrom::Queue
            && judge::is_deferred_block(&failure.said, failure.known, failure.on_block)
        {
            // The message waited for the end of the block, which says nothing of the recipient.
            return Consequence::default();
        }
        let blame = judge::blames(&failure.said, failure.known, account.suppress_policy_blocks);
        let wanted = match blame {
            Blame::Yes => true,
            Blame::OnThird => self.is_last_of_row(message).await,
            Blame::No => false,
        };
        let reply = failure.reply();
        let row = match blame {
            Blame::OnThird => "three consecutive failures; ",
            Blame::Yes | Blame::No => "",
        };
        let reason = format!("{row}{}: {}", failure.source.name(), describe(&reply));
        Consequence {
            blames: blame != Blame::No,
            entry: wanted.then(|| new_entry(account, message, reason, Some(reply), now)),
        }
    }

    /// Whether enough messages before this one, to exactly this recipient, have failed in a row by
    /// the recipient's fault. A message that arrived ends the row. A failure for another reason,
    /// like a block of our host, says nothing of the recipient and is passed over.
    async fn is_last_of_row(&self, message: &Queued) -> bool {
        let filter = RetiredFilter {
            account: Some(message.common.account.clone()),
            recipient: Some(message.recipient.unicode()),
            ..RetiredFilter::default()
        };
        let listed = self
            .store
            .list_retired(&filter, None, Order::Descending, LATEST)
            .await;
        let Ok(page) = listed else {
            return false;
        };
        let mut latest = page.items;
        latest.retain(|retired| retired.message.id != message.id);
        // By the time of the attempt, which no report can change.
        latest.sort_by_key(|retired| std::cmp::Reverse(retired.message.last_attempt));
        let row = latest.iter().filter_map(counts);
        row.take(ROW - 1).filter(|failed| *failed).count() == ROW - 1
    }
}

/// How a message counts in a row of failures: true as a failure, false as a success. None: not at
/// all. A message that was accepted and came back later counts as a failure.
fn counts(retired: &Retired) -> Option<bool> {
    let blames = retired.message.results.iter().any(|result| result.blames);
    (blames || retired.success).then_some(blames)
}

/// The entry for the recipient of a message. It expires after the account's `suppression_period`.
pub(crate) fn new_entry(
    account: &Account,
    message: &Queued,
    reason: String,
    reply: Option<SuppressingReply>,
    now: Time,
) -> NewSuppression {
    NewSuppression {
        account: message.common.account.clone(),
        base: base_address(&message.recipient),
        list: String::new(),
        original: message.recipient.unicode(),
        created: now,
        manual: false,
        reason,
        reply,
        until: account
            .suppression_period
            .map(|period: Duration| now.after(period)),
    }
}

/// A reply in words: `550, 5.1.1 from mx.example.org [192.0.2.1]: no such user`.
fn describe(reply: &SuppressingReply) -> String {
    let enhanced = reply.enhanced.map(|code| format!(", {code}"));
    let from = match reply.host.as_str() {
        "" => String::new(),
        host => format!(" from {host}"),
    };
    let text = match reply.text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    };
    format!("{}{}{from}{text}", reply.code, enhanced.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use postrider_smtp::EnhancedCode;

    use super::*;

    #[test]
    fn bases() {
        for (address, base) in [
            ("user@example.org", "user@example.org"),
            (
                "Remote.Last-catchall@xn--74h.localhost",
                "remotelast@\u{263a}.localhost",
            ),
            ("a.b+c-d@example.org", "ab@example.org"),
            ("a-b+c@example.org", "a@example.org"),
            ("+x@example.org", "+x@example.org"),
            ("-x@example.org", "-x@example.org"),
            ("x@[192.0.2.1]", "x@[192.0.2.1]"),
            ("\"A b\"@example.org", "\"a b\"@example.org"),
            ("\"a@b\\\"+c\"@example.org", "\"a@b\\\"\"@example.org"),
            ("a..b.@example.org", "ab@example.org"),
            ("...@example.org", "\"...\"@example.org"),
        ] {
            let address: Address = address.parse().unwrap();
            assert_eq!(base_address(&address), base);
            assert!(Address::parse(base).is_ok(), "{base}");
        }
    }

    #[test]
    fn a_reply_is_described_with_what_is_known() {
        let mut reply = SuppressingReply {
            code: 550,
            enhanced: Some(EnhancedCode::UNKNOWN_MAILBOX),
            text: "no such user".into(),
            host: "mx.a.example [192.0.2.1]".into(),
        };
        assert_eq!(
            describe(&reply),
            "550, 5.1.1 from mx.a.example [192.0.2.1]: no such user"
        );
        reply.enhanced = None;
        reply.host.clear();
        reply.text.clear();
        assert_eq!(describe(&reply), "550");
        let long = "\u{e4}".repeat(TEXT_MAX + 1);
        let failure = Failure {
            source: HeardFrom::Dsn,
            said: Said {
                text: &long,
                ..Said::default()
            },
            known: None,
            on_block: OnBlock::Defer,
            host: "",
        };
        assert_eq!(failure.reply().text.chars().count(), TEXT_MAX);
    }
}
