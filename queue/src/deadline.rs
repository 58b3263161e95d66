//! The time within which a submitter wants its message delivered (DELIVERBY, RFC 2852), and its
//! priority (MT-PRIORITY, RFC 6710).

use std::{cmp::Reverse, time::Duration};

use postrider_smtp::{
    ByMode, Cause, DeliverBy, DeliveryOptions, DeliveryStatus, EnhancedCode, Priority,
};
use postrider_store::{Deadline, Notify, Queued, Time};

/// The result of a message that was to fail at its deadline, and whose deadline is over.
pub(crate) fn missed(message: &Queued, now: Time) -> Option<DeliveryStatus> {
    let deadline = message.common.urgency.deadline?;
    if !deadline.fails || now < deadline.at {
        return None;
    }
    let last = message.results.last().map(|last| last.error.as_str());
    let last = last.filter(|last| !last.is_empty());
    let last = last.map_or_else(String::new, |last| format!("; last: {last}"));
    let text = format!(
        "not delivered by {}, as the sender wanted{last}",
        deadline.at
    );
    let code = EnhancedCode::permanent(4, 7);
    Some(DeliveryStatus::permanent(Cause::Local, code, text))
}

/// The next attempt: at this time, or at the deadline if that comes first.
pub(crate) fn not_after(message: &Queued, next: Time, now: Time) -> Time {
    match message.common.urgency.deadline {
        Some(deadline) if now < deadline.at => next.min(deadline.at),
        _ => next,
    }
}

/// When a message fails that would fail at this time without a deadline.
pub(crate) fn ends_at(message: &Queued, usual: Time) -> Time {
    match message.common.urgency.deadline {
        Some(deadline) if deadline.fails => usual.min(deadline.at),
        _ => usual,
    }
}

/// When the sender is told that the message is late. `usual` is the time for messages without a
/// deadline. The deadline of a message that goes on after it takes the place of that time.
pub(crate) fn told_at(message: &Queued, usual: Duration) -> Time {
    match notifies(message) {
        Some(deadline) => deadline.at,
        None => message.first_due.after(usual),
    }
}

/// The sender is told of the deadline, whatever it usually wants to be told of a delay.
pub(crate) fn tells(message: &Queued) -> bool {
    notifies(message).is_some()
}

fn notifies(message: &Queued) -> Option<Deadline> {
    let deadline = message.common.urgency.deadline;
    deadline.filter(|deadline| !deadline.fails && message.notify != Notify::NEVER)
}

/// The sender wants to hear of each server that takes the message.
pub(crate) fn is_traced(message: &Queued) -> bool {
    let deadline = message.common.urgency.deadline;
    deadline.is_some_and(|deadline| deadline.trace) && message.notify != Notify::NEVER
}

/// The parameters of MAIL for the next hop. The time that is left goes along.
pub(crate) fn options(message: &Queued, now: Time) -> DeliveryOptions {
    let urgency = message.common.urgency;
    let deliver_by = urgency.deadline.map(|deadline| DeliverBy {
        seconds: deadline.at.0.saturating_sub(now.0).div_euclid(1_000_000),
        mode: match deadline.fails {
            true => ByMode::Return,
            false => ByMode::Notify,
        },
        trace: deadline.trace,
    });
    DeliveryOptions {
        hold: None,
        priority: Priority::new(urgency.priority),
        deliver_by,
    }
}

/// How many messages of an account follow each other while others wait.
const TURN: usize = 8;

/// Puts urgent messages first. Among those of equal priority the accounts take turns, and those of
/// an account keep their order.
pub(crate) fn sort(messages: Vec<Queued>) -> Vec<Queued> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    let mut keyed = Vec::with_capacity(messages.len());
    for message in messages {
        let account = &message.common.account;
        let known = counts.iter_mut().find(|(name, _)| name == account);
        let number = match known {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                counts.push((account.clone(), 0));
                0
            }
        };
        let key = (Reverse(message.common.urgency.priority), number / TURN);
        keyed.push((key, message));
    }
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, message)| message).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postrider_store::Urgency;

    use super::*;
    use crate::schedule::test_message;

    fn message(urgency: Urgency) -> Queued {
        let mut message = test_message(1, "x@a.example");
        Arc::make_mut(&mut message.common).urgency = urgency;
        message
    }

    fn by(seconds: i64, fails: bool) -> Queued {
        message(Urgency {
            deadline: Some(Deadline {
                at: at(seconds),
                fails,
                trace: false,
            }),
            ..Urgency::default()
        })
    }

    const fn at(seconds: i64) -> Time {
        Time(seconds * 1_000_000)
    }

    #[test]
    fn a_message_fails_at_its_deadline_if_its_sender_wants_that() {
        let late = by(100, true);
        assert_eq!(missed(&late, at(99)), None);
        let status = missed(&late, at(100)).unwrap();
        assert!(status.permanent);
        assert_eq!(status.enhanced, Some(EnhancedCode::permanent(4, 7)));
        let text = "not delivered by 1970-01-01T00:01:40Z, as the sender wanted";
        assert_eq!(status.text, text);
        assert_eq!(missed(&by(100, false), at(200)), None);
        assert_eq!(missed(&message(Urgency::default()), at(200)), None);
    }

    #[test]
    fn an_attempt_comes_no_later_than_the_deadline() {
        let late = by(100, true);
        assert_eq!(not_after(&late, at(450), at(10)), at(100));
        assert_eq!(not_after(&late, at(50), at(10)), at(50));
        assert_eq!(not_after(&by(100, false), at(450), at(100)), at(450));
        assert_eq!(
            not_after(&message(Urgency::default()), at(450), at(10)),
            at(450)
        );
    }

    #[test]
    fn a_message_ends_at_its_deadline_at_the_latest() {
        assert_eq!(ends_at(&by(100, true), at(500)), at(100));
        assert_eq!(ends_at(&by(100, true), at(50)), at(50));
        assert_eq!(ends_at(&by(100, false), at(500)), at(500));
    }

    #[test]
    fn the_sender_is_told_at_the_deadline() {
        let usual = Duration::from_secs(3600);
        assert_eq!(told_at(&by(100, false), usual), at(100));
        assert_eq!(told_at(&by(100, true), usual), at(3600));
        assert!(tells(&by(100, false)) && !tells(&by(100, true)));
        let mut silent = by(100, false);
        silent.notify = Notify::NEVER;
        assert!(!tells(&silent));
        assert_eq!(told_at(&silent, usual), at(3600));
    }

    #[test]
    fn the_next_hop_gets_the_time_that_is_left() {
        let left = |message: &Queued, seconds| {
            let by = options(message, at(seconds)).deliver_by;
            by.map(|by| by.to_string()).unwrap_or_default()
        };
        assert_eq!(left(&by(100, true), 40), "60;R");
        assert_eq!(left(&by(100, false), 160), "-60;N");
        assert_eq!(left(&message(Urgency::default()), 1), "");
    }

    #[test]
    fn urgent_messages_come_first_and_accounts_take_turns() {
        let all: Vec<Queued> = [(1, 0), (2, -4), (3, 4), (4, 0), (5, 4)]
            .into_iter()
            .map(|(id, priority)| {
                let mut message = message(Urgency {
                    priority,
                    ..Urgency::default()
                });
                message.id.0 = id;
                message
            })
            .collect();
        let ids = |all: Vec<Queued>| -> Vec<u64> {
            let all = sort(all);
            all.iter().map(|message| message.id.0).collect()
        };
        assert_eq!(ids(all), [3, 5, 1, 4, 2]);
        let of = |account: &str, id| {
            let mut message = message(Urgency::default());
            Arc::make_mut(&mut message.common).account = account.into();
            message.id.0 = id;
            message
        };
        let mut many: Vec<Queued> = (1..=20).map(|id| of("a", id)).collect();
        many.push(of("b", 99));
        let order = ids(many);
        assert_eq!(order[..10], [1, 2, 3, 4, 5, 6, 7, 8, 99, 9]);
    }
}
