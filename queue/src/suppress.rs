//! Suppression lists: which failures put an address on a list, and the base that stands for all
//! variants of an address.

use postrider_config::Account;
use postrider_smtp::{
    Address, EnhancedCode,
    bounce::{Class, Said, classify},
};
use postrider_store::{
    NewSuppression, Order, Queued, RetiredFilter, StoreError, Suppression, Time,
};

use crate::Queue;

/// How many of the latest messages to an address are looked at, to find a row of failures.
const LATEST: usize = 50;
/// Reply codes that blame the address, not this message or this moment (chapter 5 of the contract).
const AT_ONCE: [u16; 5] = [521, 550, 551, 553, 556];
/// Subjects and details of enhanced codes that blame the address, whatever the reply code.
const ADDRESS_FAULTS: [(u16, u16); 5] = [(1, 1), (1, 2), (1, 3), (1, 6), (2, 1)];

/// The source of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeardFrom {
    /// An attempt of ours.
    Queue,
    /// A DSN.
    Dsn,
    /// A complaint.
    Complaint,
}

impl HeardFrom {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Dsn => "DSN",
            Self::Complaint => "complaint",
        }
    }
}

/// The facts of a failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailureFacts<'a> {
    pub(crate) source: HeardFrom,
    /// The reply code. 0 without a reply.
    pub(crate) code: u16,
    pub(crate) enhanced: Option<EnhancedCode>,
    pub(crate) text: &'a str,
}

/// The base that stands for all variants of an address. Its local-part ends before the first `+` or
/// `-`, and is in lower case without dots. Its domain is in Unicode form. An address that begins
/// with `+` or `-` stands for itself.
#[must_use]
pub fn base_address(address: &Address) -> String {
    let local = address.local.as_str();
    let stem = local.split('+').next().unwrap_or(local);
    let stem = stem.split('-').next().unwrap_or(stem);
    let stem: String = stem.chars().filter(|c| *c != '.').collect();
    let base = if stem.is_empty() { local } else { &stem };
    format!("{}@{}", base.to_lowercase(), address.host.unicode())
}

/// When a failure puts the address on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListWhen {
    /// Never: the address is not to blame.
    Never,
    /// At once: the address is to blame.
    AtOnce,
    /// If it is the third failure in a row.
    IfRepeated,
}

fn list_when(failure: &FailureFacts<'_>, policy_blocks: bool) -> ListWhen {
    if failure.code == 0 {
        return ListWhen::Never;
    }
    let class = classify(&Said {
        stage: None,
        code: failure.code,
        enhanced: failure.enhanced,
        text: failure.text,
    });
    if is_about_us(class) && !policy_blocks {
        return ListWhen::Never;
    }
    let faulty = |enhanced: EnhancedCode| {
        let fault = (enhanced.subject, enhanced.detail);
        ADDRESS_FAULTS.contains(&fault) || fault == (7, 1)
    };
    let permanent = (500..600).contains(&failure.code);
    if AT_ONCE.contains(&failure.code) || (permanent && failure.enhanced.is_some_and(faulty)) {
        ListWhen::AtOnce
    } else {
        ListWhen::IfRepeated
    }
}

/// Whether the failure blames the sender or this message, not the address.
const fn is_about_us(class: Class) -> bool {
    matches!(
        class,
        Class::Policy
            | Class::Blocked
            | Class::Sender
            | Class::Spam
            | Class::Content
            | Class::Authentication
            | Class::RateLimited
            | Class::RecipientRate
            | Class::Greylisted
    )
}

impl Queue {
    /// The entry of the suppression list that keeps a message from being sent.
    pub(crate) async fn suppression_of(
        &self,
        message: &Queued,
    ) -> Result<Option<Suppression>, StoreError> {
        if self.store.counts().await.suppressions == 0 {
            return Ok(None);
        }
        let base = base_address(&message.recipient);
        let (account, list) = (&message.common.account, &message.common.list);
        match self.store.suppression(account, &base).await? {
            None if !list.is_empty() => {
                let name = postrider_store::base_in_list(&base, list);
                self.store.suppression(account, &name).await
            }
            found => Ok(found),
        }
    }

    /// The new entry of the account's list after a final failure. The store adds it unless the list
    /// has it already.
    pub(crate) async fn suppression_for(
        &self,
        account: &Account,
        message: &Queued,
        failure: &FailureFacts<'_>,
        now: Time,
    ) -> Option<NewSuppression> {
        let reason = match list_when(failure, account.suppress_policy_blocks) {
            ListWhen::Never => return None,
            ListWhen::AtOnce => {
                let enhanced = failure.enhanced.map(|code| format!(", {code}"));
                let enhanced = enhanced.unwrap_or_default();
                format!("{}: {}{enhanced}", failure.source.name(), failure.code)
            }
            ListWhen::IfRepeated if self.is_third_failure(message).await => {
                "three consecutive failures".to_owned()
            }
            ListWhen::IfRepeated => return None,
        };
        Some(new_suppression(message, reason, now))
    }

    /// Whether the last two messages to exactly this recipient have failed too.
    async fn is_third_failure(&self, message: &Queued) -> bool {
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
        latest.sort_by_key(|retired| std::cmp::Reverse(retired.last_activity));
        latest.truncate(2);
        latest.len() == 2 && latest.iter().all(|retired| !retired.success)
    }
}

/// The entry for the recipient of a message.
pub(crate) fn new_suppression(message: &Queued, reason: String, now: Time) -> NewSuppression {
    NewSuppression {
        account: message.common.account.clone(),
        base: base_address(&message.recipient),
        list: String::new(),
        original: message.recipient.unicode(),
        created: now,
        manual: false,
        reason,
    }
}

#[cfg(test)]
mod tests {
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
        ] {
            let address: Address = address.parse().unwrap();
            assert_eq!(base_address(&address), base);
        }
    }

    #[test]
    fn failures_that_list_an_address() {
        use ListWhen::{AtOnce, IfRepeated, Never};
        for (code, enhanced, text, expected) in [
            (0, None, "", Never),
            (550, Some((1, 1)), "no such user", AtOnce),
            (550, None, "no", AtOnce),
            (553, None, "no", AtOnce),
            (552, Some((2, 2)), "mailbox full", IfRepeated),
            (554, Some((2, 1)), "mailbox disabled", AtOnce),
            (554, Some((1, 1)), "no such user", AtOnce),
            (554, Some((0, 0)), "transaction failed", IfRepeated),
            (451, None, "try later", IfRepeated),
            // Our own address is blocked, or our mail is disliked.
            (550, Some((7, 1)), "192.0.2.1 is on our block list", Never),
            (550, Some((7, 1)), "user unknown", AtOnce),
            (550, Some((7, 26)), "unauthenticated mail", Never),
            (421, Some((7, 28)), "too many messages from you", Never),
        ] {
            let enhanced = enhanced.map(|(subject, detail)| EnhancedCode {
                class: u8::try_from(code / 100).unwrap(),
                subject,
                detail,
            });
            let failure = FailureFacts {
                source: HeardFrom::Queue,
                code,
                enhanced,
                text,
            };
            assert_eq!(list_when(&failure, false), expected, "{code} {text}");
        }
        let block = FailureFacts {
            source: HeardFrom::Queue,
            code: 550,
            enhanced: Some(EnhancedCode::NOT_AUTHORIZED),
            text: "192.0.2.1 is on our block list",
        };
        assert_eq!(list_when(&block, true), AtOnce);
    }
}
