//! Older shapes of queued messages.
//!
//! - Before version 6 they had no route: only a forced transport stood in their lanes.
//! - Before version 5 they only said whether the text is 8-bit, in the byte that says now what it
//!   needs. So versions 4 and 5 have one shape.
//! - Before version 4 their urgency did not say whether they were one of many.
//! - Before version 3 they had no origin: accounts sent all of them.
//! - Before version 2 they were without the ENVIDs of our own transactions, without the blame of an
//!   attempt, and without the time when a message was first due. One random ENVID stood for all
//!   recipients of a message.
//!
//! Also the operations before version 3, in which changes had no time.

use std::{sync::Arc, time::Duration};

use postrider_smtp::{Address, EnhancedCode, ReversePath, convert::TextNeeds};
use serde::{Deserialize, Serialize};

use super::{
    Attempt, Change, Common, NewMessage, NewRecipient, Note, Notify, Op, Origin, QueueId, Queued,
    Retired, Urgency,
};
use crate::{Deadline, TextId, TextSource, Time, Top};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum OpV2 {
    Claim {
        now: Time,
        lapsed: Vec<QueueId>,
        claimed: Vec<QueueId>,
    },
    Change {
        ids: Vec<QueueId>,
        change: Change,
    },
    Undue {
        entries: Vec<(String, Time, QueueId)>,
    },
}

/// The time of a change is not known. At the beginning of time, a hold that ends puts nothing off,
/// and a hold that begins puts off all until its end.
impl From<OpV2> for Op {
    fn from(old: OpV2) -> Self {
        match old {
            OpV2::Claim {
                now,
                lapsed,
                claimed,
            } => Self::Claim {
                now,
                lapsed,
                claimed,
            },
            OpV2::Change { ids, change } => Self::Change {
                ids,
                change,
                now: Time(0),
            },
            OpV2::Undue { entries } => Self::Undue { entries },
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CommonV1 {
    account: String,
    queued: Time,
    from: Option<Address>,
    message_id: String,
    subject: String,
    size: u64,
    eight_bit: bool,
    smtputf8: bool,
    require_tls: Option<bool>,
    future_release: String,
    ret_full: Option<bool>,
    envid: String,
    own_envid: String,
    list: String,
    extra: std::collections::BTreeMap<String, String>,
}

/// The servers of all recipients know the message's random ENVID. So it proves as little as one of
/// the submitter, and becomes that.
impl From<CommonV1> for Common {
    fn from(old: CommonV1) -> Self {
        let envid = [old.envid, old.own_envid];
        Self::from(CommonV2 {
            account: old.account,
            queued: old.queued,
            from: old.from,
            message_id: old.message_id,
            subject: old.subject,
            size: old.size,
            eight_bit: old.eight_bit,
            smtputf8: old.smtputf8,
            require_tls: old.require_tls,
            future_release: old.future_release,
            ret_full: old.ret_full,
            envid: envid
                .into_iter()
                .find(|envid| !envid.is_empty())
                .unwrap_or_default(),
            list: old.list,
            extra: old.extra,
            end: (),
        })
    }
}

pub(crate) type CommonV2 = CommonWith<()>;
pub(crate) type CommonV3 = CommonWith<(Origin, UrgencyV3)>;

/// The common data with this at its end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CommonWith<T> {
    account: String,
    queued: Time,
    from: Option<Address>,
    message_id: String,
    subject: String,
    size: u64,
    eight_bit: bool,
    smtputf8: bool,
    require_tls: Option<bool>,
    future_release: String,
    ret_full: Option<bool>,
    envid: String,
    list: String,
    extra: std::collections::BTreeMap<String, String>,
    end: T,
}

/// The end of the common data, as it is today.
pub(crate) trait CommonEnd {
    fn today(self) -> (Origin, Urgency);
}

impl CommonEnd for () {
    fn today(self) -> (Origin, Urgency) {
        (Origin::Sent, Urgency::default())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UrgencyV3 {
    priority: i8,
    deadline: Option<Deadline>,
}

impl CommonEnd for (Origin, UrgencyV3) {
    fn today(self) -> (Origin, Urgency) {
        let (origin, urgency) = self;
        let urgency = Urgency {
            priority: urgency.priority,
            deadline: urgency.deadline,
            bulk: false,
        };
        (origin, urgency)
    }
}

impl<T: CommonEnd> From<CommonWith<T>> for Common {
    fn from(old: CommonWith<T>) -> Self {
        let (origin, urgency) = old.end.today();
        Self {
            account: old.account,
            queued: old.queued,
            from: old.from,
            message_id: old.message_id,
            subject: old.subject,
            size: old.size,
            needs: TextNeeds::from(u8::from(old.eight_bit)),
            smtputf8: old.smtputf8,
            require_tls: old.require_tls,
            future_release: old.future_release,
            ret_full: old.ret_full,
            envid: old.envid,
            list: old.list,
            extra: old.extra,
            origin,
            urgency,
        }
    }
}

pub(crate) type QueuedV2 = QueuedWith<CommonV2>;
pub(crate) type QueuedV3 = QueuedWith<CommonV3>;
/// Also that of version 4.
pub(crate) type QueuedV5 = QueuedWith<Common>;
pub(crate) type RetiredV2 = RetiredWith<CommonV2>;
pub(crate) type RetiredV3 = RetiredWith<CommonV3>;
pub(crate) type RetiredV5 = RetiredWith<Common>;
pub(crate) type NewMessageV2 = NewMessageWith<CommonV2>;
pub(crate) type NewMessageV3 = NewMessageWith<CommonV3>;
pub(crate) type NewMessageV5 = NewMessageWith<Common>;

/// A message with this shape of the common data.
#[derive(Serialize, Deserialize)]
pub(crate) struct QueuedWith<C> {
    id: QueueId,
    base: QueueId,
    top: Top,
    text: TextId,
    common: C,
    reverse_path: ReversePath,
    from_id: String,
    recipient: Address,
    notify: Notify,
    orcpt: String,
    transport: String,
    hold: bool,
    held_since: Option<Time>,
    first_due: Time,
    attempts: u32,
    last_attempt: Option<Time>,
    next_attempt: Time,
    delay_told: bool,
    fence: u64,
    results: Vec<Attempt>,
    envids: Vec<String>,
}

impl<C: Into<Common>> From<QueuedWith<C>> for Queued {
    fn from(old: QueuedWith<C>) -> Self {
        Self {
            id: old.id,
            base: old.base,
            top: old.top,
            text: old.text,
            common: Arc::new(old.common.into()),
            reverse_path: old.reverse_path,
            from_id: old.from_id,
            recipient: old.recipient,
            notify: old.notify,
            orcpt: old.orcpt,
            transport: old.transport,
            route: String::new(),
            hold: old.hold,
            held_since: old.held_since,
            first_due: old.first_due,
            attempts: old.attempts,
            last_attempt: old.last_attempt,
            next_attempt: old.next_attempt,
            delay_told: old.delay_told,
            fence: old.fence,
            results: old.results,
            envids: old.envids,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RetiredWith<C> {
    message: QueuedWith<C>,
    success: bool,
    last_activity: Time,
    keep_until: Time,
}

impl<C: Into<Common>> From<RetiredWith<C>> for Retired {
    fn from(old: RetiredWith<C>) -> Self {
        Self {
            message: old.message.into(),
            success: old.success,
            last_activity: old.last_activity,
            keep_until: old.keep_until,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewRecipientV5 {
    reverse_path: ReversePath,
    from_id: String,
    recipient: Address,
    notify: Notify,
    orcpt: String,
    transport: String,
    hold: bool,
    next_attempt: Time,
}

impl From<NewRecipientV5> for NewRecipient {
    fn from(old: NewRecipientV5) -> Self {
        Self {
            reverse_path: old.reverse_path,
            from_id: old.from_id,
            recipient: old.recipient,
            notify: old.notify,
            orcpt: old.orcpt,
            transport: old.transport,
            route: String::new(),
            hold: old.hold,
            next_attempt: old.next_attempt,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewMessageWith<C> {
    common: C,
    top: Top,
    text: TextSource,
    recipients: Vec<NewRecipientV5>,
}

impl<C: Into<Common>> From<NewMessageWith<C>> for NewMessage {
    fn from(old: NewMessageWith<C>) -> Self {
        Self {
            common: old.common.into(),
            top: old.top,
            text: old.text,
            recipients: old.recipients.into_iter().map(NewRecipient::from).collect(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AttemptV1 {
    start: Time,
    duration: Duration,
    success: bool,
    code: u16,
    enhanced: Option<EnhancedCode>,
    remote: String,
    error: String,
}

impl From<AttemptV1> for Attempt {
    fn from(old: AttemptV1) -> Self {
        Self {
            start: old.start,
            duration: old.duration,
            success: old.success,
            code: old.code,
            enhanced: old.enhanced,
            remote: old.remote,
            error: old.error,
            blames: false,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct QueuedV1 {
    id: QueueId,
    base: QueueId,
    top: Top,
    text: TextId,
    common: CommonV1,
    reverse_path: ReversePath,
    from_id: String,
    recipient: Address,
    notify: Notify,
    orcpt: String,
    transport: String,
    hold: bool,
    attempts: u32,
    last_attempt: Option<Time>,
    next_attempt: Time,
    delay_told: bool,
    fence: u64,
    results: Vec<AttemptV1>,
}

impl From<QueuedV1> for Queued {
    fn from(old: QueuedV1) -> Self {
        let queued = old.common.queued;
        // The first attempt came when the message was due, or soon after.
        let first_due = match old.results.first() {
            Some(first) => first.start,
            None if old.attempts > 0 => queued,
            None => old.next_attempt.max(queued),
        };
        Self {
            id: old.id,
            base: old.base,
            top: old.top,
            text: old.text,
            common: Arc::new(old.common.into()),
            reverse_path: old.reverse_path,
            from_id: old.from_id,
            recipient: old.recipient,
            notify: old.notify,
            orcpt: old.orcpt,
            transport: old.transport,
            route: String::new(),
            hold: old.hold,
            held_since: old.hold.then_some(queued),
            first_due,
            attempts: old.attempts,
            last_attempt: old.last_attempt,
            next_attempt: old.next_attempt,
            delay_told: old.delay_told,
            fence: old.fence,
            results: old.results.into_iter().map(Attempt::from).collect(),
            envids: Vec::new(),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RetiredV1 {
    message: QueuedV1,
    success: bool,
    last_activity: Time,
    keep_until: Time,
}

impl From<RetiredV1> for Retired {
    fn from(old: RetiredV1) -> Self {
        Self {
            message: old.message.into(),
            success: old.success,
            last_activity: old.last_activity,
            keep_until: old.keep_until,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewMessageV1 {
    common: CommonV1,
    top: Top,
    text: TextSource,
    recipients: Vec<NewRecipientV5>,
}

impl From<NewMessageV1> for NewMessage {
    fn from(old: NewMessageV1) -> Self {
        Self {
            common: old.common.into(),
            top: old.top,
            text: old.text,
            recipients: old.recipients.into_iter().map(NewRecipient::from).collect(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NoteV1 {
    id: QueueId,
    result: AttemptV1,
}

impl From<NoteV1> for Note {
    fn from(old: NoteV1) -> Self {
        Self {
            id: old.id,
            result: old.result.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        subject::Operations,
        table::value::{Value, append},
    };

    /// A message of version 1 whose transactions had one ENVID.
    fn queued() -> QueuedV1 {
        let new = crate::tests::samples::recipient("x@a.example", Time(1));
        QueuedV1 {
            id: QueueId(1),
            base: QueueId(1),
            top: Top::EMPTY,
            text: TextId(1),
            common: CommonV1 {
                account: "ann".into(),
                queued: Time(1),
                from: None,
                message_id: "<1@example.org>".into(),
                subject: String::new(),
                size: 5,
                eight_bit: false,
                smtputf8: false,
                require_tls: None,
                future_release: String::new(),
                ret_full: None,
                envid: String::new(),
                own_envid: "one for all".into(),
                list: String::new(),
                extra: std::collections::BTreeMap::new(),
            },
            reverse_path: new.reverse_path,
            from_id: new.from_id,
            recipient: new.recipient,
            notify: new.notify,
            orcpt: new.orcpt,
            transport: new.transport,
            hold: false,
            attempts: 1,
            last_attempt: Some(Time(2)),
            next_attempt: Time(3),
            delay_told: false,
            fence: 2,
            results: vec![AttemptV1 {
                start: Time(2),
                duration: Duration::ZERO,
                success: false,
                code: 451,
                enhanced: None,
                remote: "mx.a.example".into(),
                error: "later".into(),
            }],
        }
    }

    fn bytes(record: &impl Serialize) -> Vec<u8> {
        let mut bytes = vec![1];
        append(record, &mut bytes);
        bytes
    }

    #[test]
    fn operations_before_version_3_are_read() {
        let change = OpV2::Change {
            ids: vec![QueueId(1)],
            change: Change::default(),
        };
        let mut bytes = Vec::new();
        append(&change, &mut bytes);
        for version in [1, 2] {
            let read = <Op as Operations>::older(version, &bytes).unwrap();
            let Op::Change { ids, now, .. } = read else {
                panic!("another operation: {read:?}");
            };
            assert_eq!((ids, now), (vec![QueueId(1)], Time(0)));
        }
    }

    #[test]
    fn messages_of_version_1_are_read() {
        let message = Queued::decode(&bytes(&queued())).unwrap();
        assert_eq!(message.common.envid, "one for all");
        assert_eq!(message.results[0].error, "later");
        assert!(message.envids.is_empty() && !message.results[0].blames);
        assert_eq!((message.first_due, message.held_since), (Time(2), None));
        let never_tried = QueuedV1 {
            attempts: 0,
            hold: true,
            results: Vec::new(),
            ..queued()
        };
        let never_tried = Queued::decode(&bytes(&never_tried)).unwrap();
        let times = (never_tried.first_due, never_tried.held_since);
        assert_eq!(times, (Time(3), Some(Time(1))));
        let retired = RetiredV1 {
            message: queued(),
            success: true,
            last_activity: Time(4),
            keep_until: Time(5),
        };
        let retired = Retired::decode(&bytes(&retired)).unwrap();
        assert_eq!((retired.message, retired.keep_until), (message, Time(5)));
    }

    /// The retired form of a message, with the common data in another shape.
    fn retired<C>(now: &Queued, common: C) -> RetiredWith<C> {
        RetiredWith {
            message: QueuedWith {
                id: now.id,
                base: now.base,
                top: Top::EMPTY,
                text: now.text,
                common,
                reverse_path: now.reverse_path.clone(),
                from_id: now.from_id.clone(),
                recipient: now.recipient.clone(),
                notify: now.notify,
                orcpt: now.orcpt.clone(),
                transport: now.transport.clone(),
                hold: now.hold,
                held_since: now.held_since,
                first_due: now.first_due,
                attempts: now.attempts,
                last_attempt: now.last_attempt,
                next_attempt: now.next_attempt,
                delay_told: now.delay_told,
                fence: now.fence,
                results: now.results.clone(),
                envids: now.envids.clone(),
            },
            success: true,
            last_activity: Time(4),
            keep_until: Time(5),
        }
    }

    fn common<T>(now: &Common, end: T) -> CommonWith<T> {
        CommonWith {
            account: now.account.clone(),
            queued: now.queued,
            from: now.from.clone(),
            message_id: now.message_id.clone(),
            subject: now.subject.clone(),
            size: now.size,
            eight_bit: now.needs.eight_bit,
            smtputf8: now.smtputf8,
            require_tls: now.require_tls,
            future_release: now.future_release.clone(),
            ret_full: now.ret_full,
            envid: now.envid.clone(),
            list: now.list.clone(),
            extra: now.extra.clone(),
            end,
        }
    }

    #[test]
    fn messages_of_version_2_are_read() {
        let now = Queued::decode(&bytes(&queued())).unwrap();
        let mut bytes = vec![2];
        append(&retired(&now, common(&now.common, ())), &mut bytes);
        let retired = Retired::decode(&bytes).unwrap();
        assert_eq!((retired.message, retired.keep_until), (now, Time(5)));
        assert!(Queued::decode(&bytes[..5]).is_err());
    }

    /// The bool of version 4 is the lowest bit of the byte of version 5.
    #[test]
    fn messages_of_versions_4_and_5_are_read() {
        let mut now = Queued::decode(&bytes(&queued())).unwrap();
        Arc::make_mut(&mut now.common).needs.eight_bit = true;
        for version in [4, 5] {
            let mut bytes = vec![version];
            append(&retired(&now, Common::clone(&now.common)), &mut bytes);
            let retired = Retired::decode(&bytes).unwrap();
            assert_eq!((&retired.message, retired.keep_until), (&now, Time(5)));
            assert!(Queued::decode(&bytes[..5]).is_err());
        }
        let (mut as_bool, mut as_needs) = (Vec::new(), Vec::new());
        append(&true, &mut as_bool);
        append(&now.common.needs, &mut as_needs);
        assert_eq!(as_bool, as_needs);
    }

    #[test]
    fn messages_of_version_3_are_read() {
        let mut now = Queued::decode(&bytes(&queued())).unwrap();
        let new = Arc::make_mut(&mut now.common);
        new.origin = Origin::Server;
        new.urgency = Urgency {
            priority: 4,
            deadline: Some(Deadline {
                at: Time(9),
                fails: true,
                trace: false,
            }),
            bulk: false,
        };
        let urgency = UrgencyV3 {
            priority: new.urgency.priority,
            deadline: new.urgency.deadline,
        };
        let common = common(new, (Origin::Server, urgency));
        let mut bytes = vec![3];
        append(&retired(&now, common), &mut bytes);
        let retired = Retired::decode(&bytes).unwrap();
        assert_eq!((retired.message, retired.keep_until), (now, Time(5)));
        assert!(Queued::decode(&bytes[..5]).is_err());
    }
}
