//! Passwords, app passwords and codes.

use tokio::task::JoinSet;

use super::*;
use postrider_store::{AppHash, AppPassword, CredentialChange, Otp};
use rand::{SeedableRng, rngs::StdRng};

use crate::login::{
    LoginLimiter, hash_password, hash_password_beside, make_app_password, make_otp, otp_code,
};

/// Checks a password that comes from a network without other logins.
async fn verify(logins: &Logins, account: &str, password: &str) -> bool {
    let source = source(&Arc::default());
    let check = logins.verify(account, Some(account), password, &source);
    check.await.unwrap() == PasswordCheck::Right
}

fn source(limiter: &Arc<LoginLimiter>) -> Source {
    Source {
        limiter: Arc::clone(limiter),
        ip: [192, 0, 2, 1].into(),
        behind_proxy: false,
        now: Time(0),
    }
}

async fn store(password: &str) -> Store {
    let store = Store::memory();
    set(&store, password).await;
    store
}

async fn set(store: &Store, password: &str) {
    let credential = Credential {
        argon2: hash_password(password).unwrap(),
        ..Credential::default()
    };
    store.set_credential("ann", Some(credential)).await.unwrap();
}

#[tokio::test]
async fn only_the_right_password_of_that_account_passes() {
    let logins = Logins::new(store("secret").await);
    assert!(verify(&logins, "ann", "secret").await);
    assert!(verify(&logins, "ann", "secret").await);
    assert!(!verify(&logins, "ann", "Secret").await);
    assert!(!verify(&logins, "bob", "secret").await);
    assert!(!verify(&logins, "ann", "").await);
}

/// The results of these passwords, which arrive together.
async fn together(
    logins: &Logins,
    limiter: &Arc<LoginLimiter>,
    passwords: impl Iterator<Item = String>,
) -> Vec<PasswordCheck> {
    let mut guesses = JoinSet::new();
    for password in passwords {
        let (logins, source) = (logins.clone(), source(limiter));
        guesses.spawn(async move {
            let check = logins.verify("ann@x.test", Some("ann"), &password, &source);
            check.await.unwrap()
        });
    }
    guesses.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_wrong_passwords_that_arrive_together_ten_are_tried() {
    let logins = Logins::new(store("secret").await);
    let limiter = Arc::default();
    let guesses = (0..50).map(|n| format!("guess {n}"));
    let verdicts = together(&logins, &limiter, guesses).await;
    let wrong = verdicts.iter().filter(|it| **it == PasswordCheck::Wrong);
    assert_eq!(wrong.count(), 10, "{verdicts:?}");
    let too_many = PasswordCheck::TooMany(Duration::from_secs(60));
    let source = source(&limiter);
    let verdict = logins.verify("ann", Some("ann"), "secret", &source);
    assert_eq!(verdict.await.unwrap(), too_many);
    assert!(
        verdicts
            .iter()
            .all(|it| [PasswordCheck::Wrong, too_many].contains(it))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn right_passwords_that_arrive_together_all_pass() {
    let logins = Logins::new(store("secret").await);
    let rights = std::iter::repeat_n("secret".to_owned(), 100);
    let verdicts = together(&logins, &Arc::default(), rights).await;
    assert!(verdicts.iter().all(|it| *it == PasswordCheck::Right));
}

#[tokio::test]
async fn a_right_password_clears_the_count_and_is_refused_after_too_many() {
    let logins = Logins::new(store("secret").await);
    let limiter = Arc::default();
    let check = async |password: &str| {
        let source = source(&limiter);
        let check = logins.verify("ann", Some("ann"), password, &source);
        check.await.unwrap()
    };
    for _ in 0..2 {
        // The second time, the right password is remembered.
        for _ in 0..9 {
            assert_eq!(check("wrong").await, PasswordCheck::Wrong);
        }
        assert_eq!(check("secret").await, PasswordCheck::Right);
    }
    for _ in 0..10 {
        assert_eq!(check("wrong").await, PasswordCheck::Wrong);
    }
    assert!(matches!(check("secret").await, PasswordCheck::TooMany(_)));
}

#[tokio::test]
async fn a_wrong_password_counts_when_nobody_waits() {
    let logins = Logins::new(store("secret").await);
    let limiter = Arc::default();
    let source = source(&limiter);
    let ann = Identity::Account("ann");
    for n in 0..10 {
        let line = logins.shared.line(ann, &source);
        drop(line.acquire().await.unwrap());
        let password = format!("guess {n}");
        let mut verify = Box::pin(logins.verify("ann", Some("ann"), &password, &source));
        // The caller leaves as soon as the check has begun.
        tokio::select! {
            biased;
            _ = &mut verify => {}
            () = task::yield_now() => {}
        }
    }
    assert!(source.wait(ann).is_some());
}

#[tokio::test]
async fn a_new_password_ends_the_old_one_at_once() {
    let store = store("old").await;
    let logins = Logins::new(store.clone());
    assert!(verify(&logins, "ann", "old").await);
    set(&store, "new").await;
    assert!(!verify(&logins, "ann", "old").await);
    assert!(verify(&logins, "ann", "new").await);
    store.set_credential("ann", None).await.unwrap();
    assert!(!verify(&logins, "ann", "new").await);
}

#[tokio::test]
async fn a_right_password_is_remembered_for_a_while() {
    let logins = Logins::new(store("secret").await);
    let known = async || {
        let credential = logins.credential("ann").await.unwrap();
        let mac = logins.shared.mac("ann", "secret");
        logins.shared.known("ann", &mac, &credential).is_some()
    };
    assert!(!known().await);
    verify(&logins, "ann", "wrong").await;
    assert!(!known().await);
    verify(&logins, "ann", "secret").await;
    assert!(known().await);
    logins.forget("ann");
    assert!(!known().await);
    verify(&logins, "ann", "secret").await;
    tokio::time::pause();
    tokio::time::advance(REMEMBERED).await;
    assert!(!known().await);
}

#[tokio::test]
async fn the_memory_is_bounded() {
    let logins = Logins::new(Store::memory());
    for n in 0..=REMEMBERED_MAX {
        let account = n.to_string();
        logins
            .shared
            .remember(&account, logins.shared.mac(&account, "x"), String::new());
    }
    assert!(logins.shared.remembered().len() <= REMEMBERED_MAX);
    for n in 0..=REMEMBERED_OF_ACCOUNT {
        let mac = logins.shared.mac("ann", &n.to_string());
        logins.shared.remember("ann", mac, n.to_string());
    }
    let remembered = logins.shared.remembered();
    assert!(remembered.get("ann").unwrap().len() <= REMEMBERED_OF_ACCOUNT);
}

async fn change(store: &Store, change: CredentialChange) {
    let changed = store.change_credential("ann", change, Time(0));
    assert!(changed.await.unwrap());
}

/// Adds an app password that was made here, and one that somebody chose.
async fn add_app_passwords(store: &Store, chosen: &str) -> String {
    let (text, random) = make_app_password(&mut StdRng::seed_from_u64(1));
    let main = store.credential("ann").await.unwrap().unwrap().argon2;
    let chosen = hash_password_beside(chosen, &[&main]).unwrap();
    let add = [("made", random), ("chosen", AppHash::Chosen(chosen))];
    let add = add.map(|(name, hash)| AppPassword {
        name: name.into(),
        hash,
        created: Time(0),
        last_used: None,
        keys: None,
    });
    let added = CredentialChange {
        add: add.into(),
        ..CredentialChange::default()
    };
    change(store, added).await;
    text
}

#[tokio::test]
async fn app_passwords_pass_until_they_are_removed() {
    let store = store("secret").await;
    let logins = Logins::new(store.clone());
    let made = add_app_passwords(&store, "a chosen one with length").await;
    let used = async || {
        let credential = store.credential("ann").await.unwrap().unwrap();
        let used: Vec<Option<Time>> = credential
            .app_passwords
            .iter()
            .map(|it| it.last_used)
            .collect();
        used
    };
    assert!(verify(&logins, "ann", "secret").await);
    assert_eq!(used().await, [None, None]);
    // The second time, the chosen one is remembered.
    for _ in 0..2 {
        assert!(verify(&logins, "ann", &made).await);
        assert!(verify(&logins, "ann", "a chosen one with length").await);
        assert!(verify(&logins, "ann", "secret").await);
    }
    assert!(!verify(&logins, "bob", &made).await);
    assert_eq!(used().await, [Some(Time(0)), Some(Time(0))]);
    let late = Time(0).after(USE_NOTED);
    for (seconds, noted) in [(299, Time(0)), (300, late)] {
        let source = Source {
            now: Time(seconds * 1_000_000),
            ..source(&Arc::default())
        };
        let check = logins.verify("ann", Some("ann"), &made, &source);
        assert_eq!(check.await.unwrap(), PasswordCheck::Right);
        assert_eq!(used().await, [Some(noted), Some(Time(0))]);
    }
    let removed = CredentialChange {
        remove: vec!["made".into(), "chosen".into()],
        ..CredentialChange::default()
    };
    change(&store, removed).await;
    assert!(!verify(&logins, "ann", &made).await);
    assert!(!verify(&logins, "ann", "a chosen one with length").await);
    assert!(verify(&logins, "ann", "secret").await);
}

/// Has codes from now on.
async fn add_codes(store: &Store) -> Otp {
    let (otp, _) = make_otp("ann", "mail", &mut StdRng::seed_from_u64(2)).unwrap();
    let codes = CredentialChange {
        otp: Some(Some(otp.clone())),
        ..CredentialChange::default()
    };
    change(store, codes).await;
    otp
}

#[tokio::test]
async fn with_codes_the_main_password_alone_is_too_weak() {
    let store = store("secret").await;
    let logins = Logins::new(store.clone());
    let limiter = Arc::default();
    let check = async |password: &str| {
        let source = source(&limiter);
        let check = logins.verify("ann", Some("ann"), password, &source);
        check.await.unwrap()
    };
    assert_eq!(check("secret").await, PasswordCheck::Right);
    let otp = add_codes(&store).await;
    let made = add_app_passwords(&store, "a chosen one with length").await;
    for _ in 0..20 {
        assert_eq!(check("secret").await, PasswordCheck::TooWeak);
    }
    let code = otp_code(&otp, 0).unwrap();
    assert_eq!(check(&format!("secret${code}")).await, PasswordCheck::Wrong);
    assert_eq!(check("wrong").await, PasswordCheck::Wrong);
    assert_eq!(check(&made).await, PasswordCheck::Right);
    assert_eq!(
        check("a chosen one with length").await,
        PasswordCheck::Right
    );
}

#[tokio::test]
async fn a_code_is_taken_once_and_wrong_ones_are_counted() {
    let store = store("a$b").await;
    let logins = Logins::new(store.clone());
    let limiter = Arc::default();
    let check = async |password: &str, step: u64| {
        let source = Source {
            now: Time(i64::try_from(step).unwrap() * 30_000_000),
            ..source(&limiter)
        };
        let check = logins.verify_with_code("ann", Some("ann"), password, &source);
        check.await.unwrap()
    };
    assert_eq!(check("a$b", 5).await, CodeCheck::Password);
    assert_eq!(check("a$b$123456", 5).await, CodeCheck::Wrong);
    let otp = add_codes(&store).await;
    let made = add_app_passwords(&store, "a chosen one with length").await;
    let with = |step| format!("a$b${}", otp_code(&otp, step).unwrap());
    assert_eq!(check("a$b", 5).await, CodeCheck::CodeMissing);
    assert_eq!(check(&with(5), 5).await, CodeCheck::Password);
    assert_eq!(check(&with(5), 5).await, CodeCheck::Wrong);
    // One step of difference, either way, but never back.
    assert_eq!(check(&with(4), 5).await, CodeCheck::Wrong);
    assert_eq!(check(&with(6), 5).await, CodeCheck::Password);
    assert_eq!(check(&with(8), 9).await, CodeCheck::Password);
    assert_eq!(check(&with(12), 10).await, CodeCheck::Wrong);
    assert_eq!(check(&made, 9).await, CodeCheck::AppPassword);
    let other = format!("other${}", otp_code(&otp, 10).unwrap());
    assert_eq!(check(&other, 10).await, CodeCheck::Wrong);
    assert_eq!(check(&with(10), 10).await, CodeCheck::Password);
    // Right passwords do not take the failures of codes back.
    for _ in 0..10 {
        assert_eq!(check("a$b$000000", 20).await, CodeCheck::Wrong);
        assert_eq!(check("a$b", 20).await, CodeCheck::CodeMissing);
    }
    assert!(matches!(check(&with(20), 20).await, CodeCheck::TooMany(_)));
    // After a minute codes are checked again.
    assert_eq!(check(&with(22), 22).await, CodeCheck::Password);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_logins_with_one_code_that_arrive_together_one_passes() {
    let store = store("secret").await;
    let logins = Logins::new(store.clone());
    let otp = add_codes(&store).await;
    let password = format!("secret${}", otp_code(&otp, 1).unwrap());
    let limiter = Arc::default();
    let mut all = JoinSet::new();
    for _ in 0..5 {
        let (logins, source, password) = (logins.clone(), source(&limiter), password.clone());
        all.spawn(async move {
            let check = logins.verify_with_code("ann", Some("ann"), &password, &source);
            check.await.unwrap()
        });
    }
    let checks = all.join_all().await;
    let passed = checks.iter().filter(|it| **it == CodeCheck::Password);
    assert_eq!(passed.count(), 1, "{checks:?}");
}

/// The password of an account that was brought from elsewhere by its hash.
#[tokio::test]
async fn a_hash_of_another_program_lets_its_password_in() {
    let store = Store::memory();
    let hash = "$argon2id$v=19$m=65536,t=3,p=4$MIIRqgvgQbgj220jfp0MPA$\
                YfwJSVjtjSU0zzV/P3S9nnQ/USre2wvJMjfCIjrTQbg";
    let set = CredentialChange {
        argon2: Some(hash.into()),
        ..CredentialChange::default()
    };
    change(&store, set).await;
    let logins = Logins::new(store.clone());
    assert!(verify(&logins, "ann", "correct horse battery staple").await);
    assert!(!verify(&logins, "ann", "correct horse").await);
    // An account with app passwords alone has no main password, not even an empty one.
    store.set_credential("ann", None).await.unwrap();
    let made = make_app_password(&mut StdRng::seed_from_u64(1));
    let add = CredentialChange {
        add: vec![AppPassword {
            name: "made".into(),
            hash: made.1,
            created: Time(0),
            last_used: None,
            keys: None,
        }],
        ..CredentialChange::default()
    };
    change(&store, add).await;
    assert!(verify(&logins, "ann", &made.0).await);
    assert!(!verify(&logins, "ann", "").await);
}
