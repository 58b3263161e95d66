//! The shapes of queued messages of version 2: without a priority and without a deadline.

use std::{collections::BTreeMap, sync::Arc};

use postrider_smtp::{Address, ReversePath};
use serde::{Deserialize, Serialize};

use super::{
    Attempt, Common, NewMessage, NewRecipient, Notify, QueueId, Queued, Retired, Urgency,
    older::NewMessageV1,
};
use crate::{TextId, TextSource, Time, Top};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CommonV2 {
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
    extra: BTreeMap<String, String>,
}

impl From<CommonV2> for Common {
    fn from(old: CommonV2) -> Self {
        Self {
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
            envid: old.envid,
            list: old.list,
            extra: old.extra,
            urgency: Urgency::default(),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct QueuedV2 {
    id: QueueId,
    base: QueueId,
    top: Top,
    text: TextId,
    common: CommonV2,
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

impl From<QueuedV2> for Queued {
    fn from(old: QueuedV2) -> Self {
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
pub(crate) struct RetiredV2 {
    message: QueuedV2,
    success: bool,
    last_activity: Time,
    keep_until: Time,
}

impl From<RetiredV2> for Retired {
    fn from(old: RetiredV2) -> Self {
        Self {
            message: old.message.into(),
            success: old.success,
            last_activity: old.last_activity,
            keep_until: old.keep_until,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewMessageV2 {
    common: CommonV2,
    top: Top,
    text: TextSource,
    recipients: Vec<NewRecipient>,
}

impl From<NewMessageV2> for NewMessage {
    fn from(old: NewMessageV2) -> Self {
        Self {
            common: old.common.into(),
            top: old.top,
            text: old.text,
            recipients: old.recipients,
        }
    }
}

impl From<NewMessageV1> for NewMessageV2 {
    fn from(old: NewMessageV1) -> Self {
        let new = NewMessage::from(old);
        let common = new.common;
        Self {
            common: CommonV2 {
                account: common.account,
                queued: common.queued,
                from: common.from,
                message_id: common.message_id,
                subject: common.subject,
                size: common.size,
                eight_bit: common.eight_bit,
                smtputf8: common.smtputf8,
                require_tls: common.require_tls,
                future_release: common.future_release,
                ret_full: common.ret_full,
                envid: common.envid,
                list: common.list,
                extra: common.extra,
            },
            top: new.top,
            text: new.text,
            recipients: new.recipients,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::value::{Value, append};

    #[test]
    fn messages_of_version_2_are_read() {
        let new = crate::tests::samples::recipient("x@a.example", Time(1));
        let queued = || QueuedV2 {
            id: QueueId(1),
            base: QueueId(1),
            top: Top::EMPTY,
            text: TextId(1),
            common: CommonV2 {
                account: "ann".into(),
                queued: Time(1),
                from: None,
                message_id: "<1@example.org>".into(),
                subject: "Hi".into(),
                size: 5,
                eight_bit: false,
                smtputf8: false,
                require_tls: None,
                future_release: String::new(),
                ret_full: None,
                envid: "id".into(),
                list: "list".into(),
                extra: BTreeMap::new(),
            },
            reverse_path: new.reverse_path.clone(),
            from_id: String::new(),
            recipient: new.recipient.clone(),
            notify: new.notify,
            orcpt: String::new(),
            transport: String::new(),
            hold: false,
            held_since: None,
            first_due: Time(1),
            attempts: 1,
            last_attempt: Some(Time(2)),
            next_attempt: Time(3),
            delay_told: false,
            fence: 2,
            results: Vec::new(),
            envids: vec!["own".into()],
        };
        let mut bytes = vec![2];
        append(&queued(), &mut bytes);
        let read = Queued::decode(&bytes).unwrap();
        assert_eq!((read.common.list.as_str(), read.fence), ("list", 2));
        assert_eq!(read.common.urgency, Urgency::default());
        let retired = RetiredV2 {
            message: queued(),
            success: true,
            last_activity: Time(4),
            keep_until: Time(5),
        };
        let mut bytes = vec![2];
        append(&retired, &mut bytes);
        let retired = Retired::decode(&bytes).unwrap();
        assert_eq!((retired.message, retired.keep_until), (read, Time(5)));
    }
}
