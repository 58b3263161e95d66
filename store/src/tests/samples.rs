//! Records to test with.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use crate::{
    Accept, Attempt, Claim, ClaimHooks, Claimed, Common, Event, HookAttempt, Moment, NewHook,
    NewHookKind, NewMail, NewMessage, NewRecipient, NewText, Notify, Outcome, OutgoingEvent, Party,
    QueueId, Queued, Settle, SettleHook, Store, TextSource, Time, Top, Which,
};

/// A moment, in seconds.
pub(crate) fn at(seconds: i64) -> Time {
    Time(seconds * 1_000_000)
}

/// The moment of a time, if nobody sets the wall clock.
pub(crate) fn moment(time: Time) -> Moment {
    Moment(time.since(at(0)))
}

pub(crate) fn common() -> Common {
    Common {
        account: "ann".into(),
        queued: at(1),
        from: Some("ann@example.org".parse().unwrap()),
        message_id: "<1@example.org>".into(),
        subject: "Hi".into(),
        size: 5,
        needs: Default::default(),
        smtputf8: false,
        require_tls: None,
        future_release: String::new(),
        ret_full: None,
        envid: String::new(),
        list: String::new(),
        extra: BTreeMap::from([("k".into(), "v".into())]),
        origin: crate::Origin::Sent,
        urgency: Default::default(),
    }
}

pub(crate) fn recipient(address: &str, next_attempt: Time) -> NewRecipient {
    NewRecipient {
        reverse_path: "ann@example.org".parse().unwrap(),
        from_id: String::new(),
        recipient: address.parse().unwrap(),
        notify: Notify::default(),
        orcpt: String::new(),
        transport: String::new(),
        route: String::new(),
        hold: false,
        next_attempt,
    }
}

pub(crate) fn inline(text: &str) -> NewText {
    NewText::Inline(Bytes::copy_from_slice(text.as_bytes()))
}

/// A message to these recipients, due at once.
pub(crate) fn message(recipients: &[&str]) -> Accept {
    Accept {
        text: Some(inline("Hi!\r\n")),
        queue: vec![NewMessage {
            common: common(),
            top: Top::EMPTY,
            text: TextSource::New,
            recipients: recipients
                .iter()
                .map(|address| recipient(address, at(1)))
                .collect(),
        }],
        ..Accept::default()
    }
}

pub(crate) fn mail(mailbox: &str, text: TextSource) -> NewMail {
    NewMail {
        account: "ann".into(),
        mailbox: mailbox.into(),
        top: Top::EMPTY,
        text,
        size: 5,
        received: at(2),
        flags: vec!["\\seen".into()],
        dsn: false,
        smtp: None,
        summary: None,
    }
}

pub(crate) fn hook(url: &str, kind: NewHookKind, next_attempt: Time) -> NewHook {
    NewHook {
        account: "ann".into(),
        url: url.into(),
        authorization: String::new(),
        kind,
        submitted: at(2),
        next_attempt,
    }
}

/// An event of a message.
pub(crate) fn event(event: Event, queue_id: QueueId) -> NewHookKind {
    NewHookKind::Outgoing(OutgoingEvent {
        event,
        dsn: false,
        suppressing: false,
        queue_id,
        from_id: String::new(),
        message_id: "<1@example.org>".into(),
        subject: "Hi".into(),
        queued: at(2),
        code: 0,
        enhanced: None,
        error: String::new(),
        extra: BTreeMap::new(),
    })
}

/// For everything that is due.
pub(crate) fn claim(now: Time) -> Claim {
    Claim {
        now,
        moment: moment(now),
        max: 100,
        max_per_lane: 100,
        which: Which::All,
        lease: Duration::from_secs(60),
    }
}

pub(crate) fn claim_hooks(now: Time) -> ClaimHooks {
    ClaimHooks {
        now,
        max: 100,
        max_per_lane: 100,
        except: [].into(),
    }
}

pub(crate) fn attempt(start: Time, success: bool) -> Attempt {
    Attempt {
        start,
        duration: Duration::from_millis(5),
        success,
        code: if success { 250 } else { 451 },
        enhanced: None,
        remote: "mx.example.net [192.0.2.1]".into(),
        error: String::new(),
        blames: false,
    }
}

pub(crate) fn settle(queued: &Queued, outcome: Outcome) -> Settle {
    Settle {
        id: queued.id,
        fence: queued.fence,
        party: Party::Claimant,
        attempt: Some(attempt(at(3), true)),
        outcome,
        route: None,
        delay_told: false,
        text: None,
        queue: Vec::new(),
        mails: Vec::new(),
        hooks: Vec::new(),
        suppress: Vec::new(),
        events: Vec::new(),
        reports: Vec::new(),
    }
}

pub(crate) const GONE: Outcome = Outcome::Retire {
    success: true,
    now: Time(4_000_000),
    keep_until: None,
};
pub(crate) const KEPT: Outcome = Outcome::Retire {
    success: true,
    now: Time(4_000_000),
    keep_until: Some(Time(100_000_000)),
};

pub(crate) fn settle_hook(hook: &crate::Hook, outcome: Outcome) -> SettleHook {
    SettleHook {
        id: hook.id,
        fence: hook.fence,
        attempt: hook_attempt(at(3)),
        outcome,
    }
}

/// The result of a call.
pub(crate) fn hook_attempt(start: Time) -> HookAttempt {
    HookAttempt {
        start,
        duration: Duration::from_millis(5),
        success: true,
        code: 200,
        error: String::new(),
        response: "ok".into(),
    }
}

/// The ids of what was claimed.
pub(crate) fn ids(claimed: &Claimed) -> Vec<u64> {
    claimed.messages.iter().map(|queued| queued.id.0).collect()
}

/// All of a stored text.
pub(crate) async fn text(store: &Store, id: crate::TextId) -> Option<Bytes> {
    let text = store.text(id).await.ok()?;
    Some(text.read(0..text.len()).await.unwrap())
}
