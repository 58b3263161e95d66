//! The keys of accounts and of nobody, and verdicts on proofs.

use std::sync::Arc;

use postrider_store::{AppPassword, CredentialChange, Store, Time};
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::login::{LoginLimiter, hash_password, make_app_password, make_otp};

const PASSWORD: &str = "correct horse";

fn source(limiter: &Arc<LoginLimiter>) -> Source {
    Source {
        limiter: Arc::clone(limiter),
        ip: [192, 0, 2, 1].into(),
        behind_proxy: false,
        now: Time(0),
    }
}

async fn change(store: &Store, change: CredentialChange) {
    let changed = store.change_credential("ann", change, Time(0)).await;
    assert!(changed.unwrap());
}

/// A store with an account whose password was set before there was SCRAM.
async fn store() -> Store {
    let store = Store::memory();
    let set = CredentialChange {
        argon2: Some(hash_password(PASSWORD).unwrap()),
        ..CredentialChange::default()
    };
    change(&store, set).await;
    store
}

async fn offer(logins: &Logins, account: Option<&str>, hash: ScramHash) -> ScramOffered {
    let offered = logins.scram_offer("ann@x.test", account, hash);
    offered.await.unwrap()
}

/// The keys that a client with this password proves.
fn keys(offered: &ScramOffered, hash: ScramHash, password: &str) -> ScramKeys {
    let offer = &offered.offer;
    let rounds = NonZeroU32::new(offer.rounds).unwrap();
    ScramKeys::derive(hash, password.as_bytes(), &offer.salt, rounds)
}

#[tokio::test]
async fn keys_are_made_at_the_next_use_of_a_password() {
    let store = store().await;
    let logins = Logins::new(store.clone());
    let limiter = Arc::default();
    let before = offer(&logins, Some("ann"), ScramHash::Sha256).await;
    assert!(before.offer.keys.is_empty());
    let salt = before.offer.salt;
    let from = source(&limiter);
    let wrong = logins.verify("ann@x.test", Some("ann"), "wrong", &from);
    assert_eq!(wrong.await.unwrap(), PasswordCheck::Wrong);
    let (app, hash) = make_app_password(&mut StdRng::seed_from_u64(1));
    let added = CredentialChange {
        add: vec![AppPassword {
            name: "phone".into(),
            hash,
            created: Time(0),
            last_used: None,
            keys: None,
        }],
        ..CredentialChange::default()
    };
    change(&store, added).await;
    for password in [PASSWORD, &app, PASSWORD] {
        let check = logins.verify("ann@x.test", Some("ann"), password, &from);
        assert_eq!(check.await.unwrap(), PasswordCheck::Right);
    }
    for hash in [ScramHash::Sha256, ScramHash::Sha1] {
        let offered = offer(&logins, Some("ann"), hash).await;
        // All passwords of the account have one salt, and the rounds of RFC 7677 at least.
        let expected = [PASSWORD, &app].map(|it| keys(&offered, hash, it));
        assert_eq!(offered.offer.keys, expected);
        assert_eq!(offered.offer.rounds, 16_384);
    }
    // The first keys changed nothing that strangers see.
    let after = offer(&logins, Some("ann"), ScramHash::Sha256).await;
    assert_eq!(after.offer.salt, salt);
    let credential = store.credential("ann").await.unwrap().unwrap();
    assert!(!format!("{credential:?}").contains("stored_key"));
}

#[tokio::test]
async fn a_user_that_nobody_has_looks_like_others() {
    let store = store().await;
    let logins = Logins::new(store.clone());
    let salt = async |logins: &Logins, user: &str, hash| {
        let offered = logins.scram_offer(user, None, hash).await.unwrap();
        assert!(offered.offer.keys.is_empty());
        assert_eq!(
            (offered.offer.salt.len(), offered.offer.rounds),
            (16, 16_384)
        );
        offered.offer.salt
    };
    let first = salt(&logins, "bob@x.test", ScramHash::Sha256).await;
    assert_ne!(salt(&logins, "bob@x.test", ScramHash::Sha1).await, first);
    assert_ne!(salt(&logins, "rob@x.test", ScramHash::Sha256).await, first);
    // A restart changes nothing.
    let again = Logins::new(store);
    assert_eq!(salt(&again, "bob@x.test", ScramHash::Sha256).await, first);
    let nonces = [(); 2].map(|()| make_nonce());
    assert_ne!(nonces[0], nonces[1]);
    assert!(nonces[0].len() == 24 && !nonces[0].contains(','));
}

#[tokio::test]
async fn proofs_are_judged_as_passwords_are() {
    let store = store().await;
    let logins = Logins::new(store.clone());
    let limiter = Arc::default();
    let (user, account) = ("ann@x.test", Some("ann"));
    let from = source(&limiter);
    let verify = logins.verify(user, account, PASSWORD, &from);
    assert_eq!(verify.await.unwrap(), PasswordCheck::Right);
    let offered = offer(&logins, account, ScramHash::Sha256).await;
    let prove = async |proven, limiter: &Arc<LoginLimiter>| {
        let from = source(limiter);
        let check = logins.prove(user, account, &offered, proven, &from);
        check.await.unwrap()
    };
    assert_eq!(prove(Some(0), &limiter).await, PasswordCheck::Right);
    assert_eq!(prove(None, &limiter).await, PasswordCheck::Wrong);
    assert_eq!(prove(Some(7), &limiter).await, PasswordCheck::Wrong);
    // A right proof takes the count back.
    assert_eq!(prove(Some(0), &limiter).await, PasswordCheck::Right);
    for _ in 0..10 {
        assert_eq!(prove(None, &limiter).await, PasswordCheck::Wrong);
    }
    let refused = prove(Some(0), &limiter).await;
    assert!(matches!(refused, PasswordCheck::TooMany(_)), "{refused:?}");

    let fresh = Arc::default();
    let (otp, _) = make_otp("ann", "x.test", &mut StdRng::seed_from_u64(1)).unwrap();
    let codes = CredentialChange {
        otp: Some(Some(otp)),
        ..CredentialChange::default()
    };
    change(&store, codes).await;
    assert_eq!(prove(Some(0), &fresh).await, PasswordCheck::TooWeak);
    let other = CredentialChange {
        argon2: Some(hash_password("another horse").unwrap()),
        ..CredentialChange::default()
    };
    change(&store, other).await;
    // The password was changed since the offer.
    assert_eq!(prove(Some(0), &fresh).await, PasswordCheck::Wrong);
}

#[tokio::test]
async fn the_use_of_an_app_password_is_noted() {
    let store = store().await;
    let logins = Logins::new(store.clone());
    let (app, hash) = make_app_password(&mut StdRng::seed_from_u64(1));
    let none = Credential::default();
    let salts = scram_salts(&store, "ann", &none).await.unwrap();
    let added = CredentialChange {
        add: vec![AppPassword {
            name: "phone".into(),
            hash,
            created: Time(0),
            last_used: None,
            keys: Some(scram_keys(&app, &salts)),
        }],
        scram: Some(salts),
        ..CredentialChange::default()
    };
    change(&store, added).await;
    let offered = offer(&logins, Some("ann"), ScramHash::Sha1).await;
    assert_eq!(offered.offer.keys, [keys(&offered, ScramHash::Sha1, &app)]);
    let from = source(&Arc::default());
    let proven = logins.prove("ann@x.test", Some("ann"), &offered, Some(0), &from);
    assert_eq!(proven.await.unwrap(), PasswordCheck::Right);
    let credential = store.credential("ann").await.unwrap().unwrap();
    assert_eq!(credential.app_passwords[0].last_used, Some(Time(0)));
}
