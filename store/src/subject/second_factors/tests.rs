//! Second factors on both engines.

use super::{SecondFactorChange as Change, *};
use crate::{
    CredentialChange, OtpAlgorithm,
    tests::{samples::at, verbs::on_both},
};

/// A generator with a secret of this byte. It waits until second 100.
pub(super) fn pending(byte: u8) -> PendingOtp {
    PendingOtp {
        otp: Otp {
            secret: vec![byte; 20],
            algorithm: OtpAlgorithm::Sha1,
            digits: 6,
            period: 30,
            last_step: 0,
        },
        until: at(100),
    }
}

fn confirm(byte: u8, now: i64) -> Change {
    Change::Confirm {
        secret: vec![byte; 20],
        step: 7,
        recovery: vec![[1; 32], [2; 32]],
        now: at(now),
    }
}

fn ann() -> WebSessionOwner {
    WebSessionOwner::Account("ann".into())
}

#[tokio::test]
async fn codes_are_needed_from_the_first_right_one_on() {
    on_both(|store| async move {
        for owner in [WebSessionOwner::Admin, ann()] {
            let change = async |change| {
                let made = store.change_second_factor(owner.clone(), change).await;
                store.checkpoint().await;
                made.unwrap()
            };
            let now = async || store.second_factor(&owner).await.unwrap();
            assert_eq!(now().await, SecondFactor::default());
            assert!(!change(confirm(1, 5)).await && !change(Change::TakeStep(9)).await);
            assert!(!change(Change::Renew(vec![[1; 32]])).await && !change(Change::Reset).await);
            assert!(change(Change::Begin(pending(1))).await);
            assert!(now().await.otp.is_none() && now().await.pending.is_some());
            // Not with the code of another secret, and not too late.
            assert!(!change(confirm(2, 5)).await && !change(confirm(1, 100)).await);
            assert!(change(confirm(1, 5)).await);
            let on = now().await;
            let otp = Otp {
                last_step: 7,
                ..pending(1).otp
            };
            assert_eq!((on.otp.as_ref(), on.pending.as_ref()), (Some(&otp), None));
            // Each code once.
            assert!(!change(Change::TakeStep(7)).await);
            assert!(change(Change::TakeStep(8)).await && !change(Change::TakeStep(8)).await);
            assert!(change(Change::TakeRecovery([1; 32])).await);
            assert!(!change(Change::TakeRecovery([1; 32])).await);
            assert_eq!(now().await.recovery, [[2; 32]]);
            assert!(change(Change::Renew(vec![[3; 32]])).await);
            assert!(!change(Change::TakeRecovery([2; 32])).await);
            // Another generator may wait while this one is needed.
            assert!(change(Change::Begin(pending(4))).await);
            assert_eq!(now().await.otp.unwrap().secret, [1; 20]);
            assert!(change(Change::Reset).await);
            assert_eq!(now().await, SecondFactor::default());
        }
    })
    .await;
}

#[tokio::test]
async fn the_codes_of_an_account_are_in_its_credential() {
    on_both(|store| async move {
        let change = async |change| {
            let made = store.change_second_factor(ann(), change).await;
            assert!(made.unwrap());
        };
        let otp = |otp| CredentialChange {
            otp: Some(otp),
            ..CredentialChange::default()
        };
        let amend = async |change| {
            let made = store.change_credential("ann", change, at(1)).await;
            assert!(made.unwrap());
        };
        change(Change::Begin(pending(1))).await;
        change(confirm(1, 5)).await;
        let credential = store.credential("ann").await.unwrap().unwrap();
        assert_eq!(credential.otp.unwrap().last_step, 7);
        assert!(store.take_otp_step("ann", 8).await.unwrap());
        let left = async || store.second_factor(&ann()).await.unwrap().recovery.len();
        assert_eq!(left().await, 2);
        // A new password leaves them, and other codes have no recovery codes yet.
        let password = CredentialChange {
            argon2: Some("$argon2id$".into()),
            ..CredentialChange::default()
        };
        amend(password).await;
        assert_eq!(left().await, 2);
        amend(otp(Some(pending(2).otp))).await;
        assert_eq!(left().await, 0);
        change(Change::Renew(vec![[1; 32]])).await;
        amend(otp(None)).await;
        let off = store.second_factor(&ann()).await.unwrap();
        assert_eq!(off, SecondFactor::default());
        change(Change::Begin(pending(1))).await;
        store.set_credential("ann", None).await.unwrap();
        let gone = store.second_factor(&ann()).await.unwrap();
        assert_eq!(gone, SecondFactor::default());
    })
    .await;
}
