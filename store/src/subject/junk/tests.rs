//! The content filter on both engines.

use super::*;
use crate::tests::verbs::on_both;

const DAY: i64 = 86_400_000_000;

async fn train(store: &Store, tokens: &[u64], junk: bool, day: i64) {
    let learnt = store.train_junk("ann", tokens.to_vec(), junk, Time(day * DAY));
    learnt.await.unwrap();
}

async fn counts(store: &Store, tokens: &[u64]) -> Vec<(u16, u16)> {
    let counts = store.junk_counts("ann", tokens.to_vec()).await.unwrap();
    let counts = counts.tokens.into_iter();
    counts.map(|count| (count.spam, count.ham)).collect()
}

#[tokio::test]
async fn the_key_is_set_once() {
    on_both(|store| async move {
        assert_eq!(store.junk_key(|| [1; 16]).await.unwrap(), [1; 16]);
        store.checkpoint().await;
        assert_eq!(store.junk_key(|| [2; 16]).await.unwrap(), [1; 16]);
    })
    .await;
}

#[tokio::test]
async fn words_are_counted_by_account() {
    on_both(|store| async move {
        train(&store, &[1, 2], true, 1).await;
        train(&store, &[2, u64::MAX], false, 1).await;
        store.checkpoint().await;
        train(&store, &[2], true, 1).await;
        let found = counts(&store, &[u64::MAX, 2, 3, 1]).await;
        assert_eq!(found, [(0, 1), (2, 1), (0, 0), (1, 0)]);
        let other = store.junk_counts("bob", vec![1]).await.unwrap();
        assert_eq!((other.spam, other.ham), (0, 0));
        assert_eq!(other.tokens, [TokenCount::default()]);
        assert_eq!(store.forget_junk("ann").await.unwrap(), 3);
        let none = store.junk_counts("ann", vec![2]).await.unwrap();
        assert_eq!((none.spam, none.ham), (0, 0));
        assert_eq!(none.tokens, [TokenCount::default()]);
    })
    .await;
}

#[tokio::test]
async fn all_counts_are_halved_when_there_are_many_messages() {
    let store = Store::memory();
    for number in 1..JUNK_MESSAGES {
        let token = u64::from(number % 2);
        train(&store, &[token], number % 4 == 0, 1).await;
    }
    let before = store.junk_counts("ann", vec![0, 1]).await.unwrap();
    assert_eq!((before.spam, before.ham), (4999, 15_000));
    let seen = |count: TokenCount| (count.spam, count.ham);
    assert_eq!(
        before.tokens.into_iter().map(seen).collect::<Vec<_>>(),
        [(4999, 5000), (0, 10_000)]
    );
    train(&store, &[9], true, 1).await;
    let after = store.junk_counts("ann", vec![0, 1, 9]).await.unwrap();
    assert_eq!((after.spam, after.ham), (2500, 7500));
    // The last message is halved with the others.
    assert_eq!(
        after.tokens.into_iter().map(seen).collect::<Vec<_>>(),
        [(2499, 2500), (0, 5000), (0, 0)]
    );
    assert_eq!((after.ever_spam, after.ever_ham), (5000, 15_000));
    // A halved token is counted on from its half.
    train(&store, &[0], false, 1).await;
    assert_eq!(counts(&store, &[0]).await, [(2499, 2501)]);
}

#[test]
fn a_token_is_halved_once_for_each_time() {
    let token = Token {
        count: TokenCount { spam: 40, ham: 3 },
        day: 0,
        halved: 2,
    };
    let seen = [2, 3, 4, 8, 40].map(|halved| token.count(halved));
    let seen = seen.map(|count| (count.spam, count.ham));
    assert_eq!(seen, [(40, 3), (20, 1), (10, 0), (0, 0), (0, 0)]);
}

/// Singles of long ago go first, then other singles, then the rest, each oldest first.
#[test]
fn tokens_go_in_this_order() {
    let mut account = Account {
        tokens: JUNK_TOKENS + 3,
        halved: 1,
        ..Account::default()
    };
    let token = |spam, day, halved| Token {
        count: TokenCount { spam, ham: 0 },
        day,
        halved,
    };
    let all = [
        (1, token(9, 1, 1)),
        (2, token(1, 100, 1)),
        (3, token(1, 9, 1)),
        (4, token(1, 100, 0)),
        (5, token(1, 8, 1)),
        (6, token(8, 2, 1)),
    ];
    let next = || all.into_iter().map(Ok);
    // 4 counts for nothing since it was halved.
    assert_eq!(account.choose(next(), 100).unwrap(), [4, 5, 3]);
    assert_eq!(account.hand, 6);
    account.tokens = JUNK_TOKENS + 5;
    assert_eq!(account.choose(next(), 100).unwrap(), [4, 5, 3, 2, 1]);
    account.tokens = JUNK_TOKENS + 1;
    // What is of no use goes all the same.
    assert_eq!(account.choose(next(), 100).unwrap(), [4, 5, 3]);
    // One token too many: sixteen are looked at, from the hand on.
    let many = (10..40).map(|hash| Ok((hash, token(2, 1, 1))));
    assert_eq!(account.choose(many, 100).unwrap(), [10]);
    assert_eq!(account.hand, 25);
}

/// On the tables alone: an engine would take long for so many.
#[test]
fn an_account_has_so_many_tokens() {
    let mut state = State::new();
    let account: Name = "ann".into();
    let learn = Learn {
        junk: true,
        forget: false,
    };
    let often: Vec<u64> = (0..1000).map(|number| number << 50).collect();
    for _ in 0..2 {
        state.junk.learn(&account, &often, learn, 1).unwrap();
    }
    for from in (1..=JUNK_TOKENS / 2000).map(|part| part * 2000) {
        let singles: Vec<u64> = (from..from + 2000).map(|number| number * 37).collect();
        state.junk.learn(&account, &singles, learn, 50).unwrap();
    }
    let key = |hash| (Arc::clone(&account), hash);
    let kept = often
        .iter()
        .filter(|hash| state.junk.tokens.contains(&key(**hash)).unwrap());
    let kept = kept.count();
    assert!(kept > 950, "singles go before the others: {kept}");
    assert_eq!(state.junk.tokens.count().unwrap(), JUNK_TOKENS);
    let mut faults = Faults::default();
    state.junk.check(&mut faults).unwrap();
    assert_eq!(faults.into_sentences(), [""; 0]);
}

#[test]
fn an_account_of_an_earlier_program_is_read() {
    use crate::table::value::{Value, append};
    let old = AccountV1 {
        spam: 19,
        ham: 9981,
        tokens: 7,
        halved: 1,
        hand: 5,
    };
    let mut bytes = vec![1];
    append(&old, &mut bytes);
    let read = Account::decode(&bytes).unwrap();
    let expected = Account {
        spam: 19,
        ham: 9981,
        tokens: 7,
        halved: 1,
        hand: 5,
        epoch: 0,
        ever_spam: 38,
        ever_ham: 19_962,
    };
    assert_eq!(read, expected);
}
