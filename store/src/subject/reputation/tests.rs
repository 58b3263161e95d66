//! The history of senders on both engines.

use super::*;
use crate::{
    Accept, Lesson, MailChange, MailId, TextSource,
    tests::{
        samples::{inline, mail},
        verbs::on_both,
    },
};

const DAY: i64 = 86_400_000_000;

fn key(kind: HistoryKind, name: impl Into<String>) -> HistoryKey {
    HistoryKey {
        kind,
        name: name.into(),
        validated: false,
    }
}

/// Brings a mail of that day.
async fn brings(store: &Store, day: i64) -> MailId {
    let mut mail = mail("Inbox", TextSource::New);
    mail.received = Time(day * DAY);
    let accept = Accept {
        text: Some(inline("Hi\r\n")),
        mails: vec![mail],
        ..Accept::default()
    };
    store.accept(accept).await.unwrap().mails[0]
}

/// Calls a mail junk, or takes that back.
async fn call(store: &Store, id: MailId, junk: bool, senders: Vec<HistoryKey>) {
    let flags = vec!["$junk".to_owned()];
    let (add_flags, remove_flags) = match junk {
        true => (flags, Vec::new()),
        false => (Vec::new(), flags),
    };
    let change = MailChange {
        add_flags,
        remove_flags,
        mailbox: None,
    };
    let lesson = Lesson {
        senders,
        ..Lesson::default()
    };
    assert!(store.learn_mail("ann", id, change, lesson).await.unwrap());
}

async fn days(store: &Store, key: &HistoryKey) -> Vec<u32> {
    let rows = store.history("ann", std::slice::from_ref(key)).await;
    rows.unwrap()[0].iter().map(|mark| mark.day).collect()
}

#[tokio::test]
async fn a_row_keeps_the_last_marks_in_the_order_of_their_days() {
    on_both(|store| async move {
        let sender = key(HistoryKind::FromDomain, "x.example");
        let mut ids = Vec::new();
        for day in [100, 102, 101].into_iter().chain(200..248) {
            let id = brings(&store, day).await;
            call(&store, id, true, vec![sender.clone()]).await;
            ids.push(id);
        }
        store.checkpoint().await;
        let kept: Vec<u32> = [101, 102].into_iter().chain(200..248).collect();
        assert_eq!(days(&store, &sender).await, kept);
        call(&store, ids[1], false, vec![sender.clone()]).await;
        call(&store, ids[0], false, vec![sender.clone()]).await;
        assert_eq!(days(&store, &sender).await[..2], [101, 200]);
        let other = key(HistoryKind::Organisation, "x.example");
        assert!(days(&store, &other).await.is_empty());
        let validated = HistoryKey {
            validated: true,
            ..sender
        };
        assert!(days(&store, &validated).await.is_empty());
    })
    .await;
}

/// On the tables alone: an engine would take long for so many.
#[test]
fn an_account_has_so_many_rows_and_the_oldest_goes() {
    let network = |number: u64| key(HistoryKind::Network, format!("network {number}"));
    let mut state = State::new();
    let account: Name = "ann".into();
    let mut mark = |account: &Name, number, day| {
        let mark = Mark {
            day,
            junk: true,
            author: 0,
        };
        state
            .reputation
            .mark(account, &network(number), mark)
            .unwrap();
    };
    mark(&"abe".into(), 1, 1);
    mark(&"bob".into(), 1, 1);
    mark(&account, 7, 5);
    mark(&account, 8, 3);
    for number in 0..HISTORY_ROWS {
        mark(&account, number, 10);
    }
    mark(&account, HISTORY_ROWS, 11);
    let days = |state: &State, number| {
        let row = state
            .reputation
            .rows
            .get(&row_key(&account, &network(number)));
        let marks = row.unwrap().unwrap_or_default().0;
        marks.iter().map(|mark| mark.day).collect::<Vec<_>>()
    };
    assert_eq!(days(&state, 8), [3, 10]);
    assert_eq!(days(&state, 7), [5, 10]);
    assert_eq!(days(&state, 1), [10]);
    assert_eq!(days(&state, HISTORY_ROWS), [11]);
    // Of the rows of the oldest day, the first by its name.
    assert!(days(&state, 0).is_empty());
    assert_eq!(state.reputation.count(&account).unwrap(), HISTORY_ROWS);
    let mut faults = crate::table::Faults::default();
    state.reputation.check(&mut faults).unwrap();
    assert_eq!(faults.into_sentences(), [""; 0]);
}

#[tokio::test]
async fn an_account_may_be_forgotten() {
    on_both(|store| async move {
        let id = brings(&store, 5).await;
        let many = FORGOTTEN_AT_ONCE + 9;
        let networks = (0..many).map(|number| key(HistoryKind::Network, number.to_string()));
        call(&store, id, true, networks.collect()).await;
        assert_eq!(store.forget_history("bob").await.unwrap(), 0);
        let sender = key(HistoryKind::Network, "7");
        assert_eq!(days(&store, &sender).await, [5]);
        assert_eq!(store.forget_history("ann").await.unwrap(), many as u64);
        assert!(days(&store, &sender).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn rows_of_no_more_use_are_swept() {
    on_both(|store| async move {
        let names = ["a", "b", "c"].map(|name| key(HistoryKind::Helo, name));
        for (sender, day) in names.iter().zip([1, 2, 3]) {
            let id = brings(&store, day).await;
            call(&store, id, true, vec![sender.clone()]).await;
        }
        store.checkpoint().await;
        let over = Time((2 + i64::from(KEPT_DAYS)) * DAY);
        assert_eq!(store.expire(Time(9 * DAY), 10).await.unwrap(), 0);
        assert_eq!(store.expire(over, 1).await.unwrap(), 1);
        assert!(days(&store, &names[0]).await.is_empty());
        assert_eq!(store.expire(over, 10).await.unwrap(), 1);
        assert!(days(&store, &names[1]).await.is_empty());
        assert_eq!(days(&store, &names[2]).await, [3]);
    })
    .await;
}

/// These are stored keys: others need another version of the keys of this subject.
#[test]
fn the_numbers_of_the_kinds_are_fixed() {
    use HistoryKind as Kind;
    let kinds = [
        Kind::FromAddress,
        Kind::FromDomain,
        Kind::Organisation,
        Kind::Dkim,
        Kind::MailFrom,
        Kind::MailFromDomain,
        Kind::Helo,
        Kind::Network,
    ];
    assert_eq!(kinds.map(Kind::number), [1, 2, 3, 4, 5, 6, 7, 8]);
}
