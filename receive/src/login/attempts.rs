//! What became of logins: gathered in memory, and noted in the store every few seconds.
//!
//! A login never waits for its note. Logins that are alike are counted together, so that an attack
//! costs little memory and few writes. A crash loses the last seconds.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_observe::metrics::{Label, LoginMechanism, LoginResult, LoginService};
use postrider_store::{Clock, LoginAttempt, LoginAttemptId, LoginOf, Store, StoreError, Time};
use tokio::sync::watch;
use tracing::warn;

use super::{Logins, shown};
use crate::network::{Network, Size};

/// The time between two notes in the store.
const PAUSE: Duration = Duration::from_secs(5);
/// The most records that wait for the store. Logins that would be one more are left out.
const WAITING_MAX: usize = 2000;
/// The most records of one operation of the store.
const PORTION: usize = 200;

/// One login, right or wrong. Texts that are not known are empty.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The account that the login belongs to. None: to nobody, or to the administrator.
    pub account: Option<&'a str>,
    /// What became of it.
    pub result: LoginResult,
    /// Where it was. Logins of the service `admin` are those of the administrator.
    pub service: LoginService,
    /// How.
    pub mechanism: LoginMechanism,
    /// What the client calls itself.
    pub client: &'a str,
    /// The name of the key that was used.
    pub key: &'a str,
    /// The login as it was typed. Empty if it is no address: some clients send a password there.
    pub login: &'a str,
    /// The address of the client.
    pub ip: IpAddr,
    /// The version of TLS.
    pub tls: &'a str,
    /// The time.
    pub now: Time,
}

impl Attempt<'_> {
    fn record(&self) -> LoginAttempt {
        LoginAttempt {
            id: LoginAttemptId(0),
            of: match (self.service, self.account) {
                (LoginService::Admin, _) => LoginOf::Admin,
                (_, Some(account)) => LoginOf::Account(account.to_owned()),
                (_, None) => LoginOf::Nobody,
            },
            result: self.result.text().to_owned(),
            service: self.service.text().to_owned(),
            mechanism: self.mechanism.text().to_owned(),
            client: shown(self.client),
            network: Network::of(Size::Address, self.ip).to_string(),
            key: shown(self.key),
            login: shown(self.login),
            ip: self.ip.to_canonical(),
            tls: shown(self.tls),
            first: self.now,
            last: self.now,
            count: 1,
        }
    }
}

/// The logins that wait for the store.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// By a hash of what makes logins alike.
    waiting: Mutex<HashMap<u64, LoginAttempt>>,
    hasher: RandomState,
}

impl Attempts {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, LoginAttempt>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, attempt: &Attempt<'_>) {
        let alike = (
            (attempt.now.day(), attempt.account, attempt.key),
            (attempt.result, attempt.service, attempt.mechanism),
            (attempt.client, Network::of(Size::Address, attempt.ip)),
        );
        let hash = self.hasher.hash_one(alike);
        // Other logins wait for the lock, so the record is made before.
        let record = attempt.record();
        let mut waiting = self.waiting();
        if let Some(known) = waiting.remove(&hash) {
            waiting.insert(hash, known.joined(record));
        } else if waiting.len() < WAITING_MAX {
            waiting.insert(hash, record);
        }
    }

    /// Takes all, in the order of their last logins.
    fn take(&self) -> Vec<LoginAttempt> {
        let waiting = std::mem::take(&mut *self.waiting());
        let mut all: Vec<_> = waiting.into_values().collect();
        all.sort_by_key(|attempt| attempt.last);
        all
    }
}

/// Writes what waits to the store. False: the store failed, and what waited is lost.
async fn write(store: &Store, all: Vec<LoginAttempt>) -> bool {
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        let portion = all.by_ref().take(PORTION).collect();
        if let Err(error) = store.note_logins(portion).await {
            warn!(%error, "failed to note logins");
            return false;
        }
    }
    true
}

impl Logins {
    /// Notes what became of a login. It is in the store some seconds later, if somebody
    /// [keeps](Self::keep_attempts) notes.
    pub fn note(&self, attempt: &Attempt<'_>) {
        self.attempts().add(attempt);
    }

    /// Writes to the store what waits now. False: the store failed.
    pub async fn write_attempts(&self) -> bool {
        write(self.store(), self.attempts().take()).await
    }

    /// Forgets the logins of an account: those that wait, and those in the store.
    ///
    /// # Errors
    /// If the store can't forget them.
    pub async fn forget_attempts(&self, account: &str) -> Result<(), StoreError> {
        let of = LoginOf::Account(account.to_owned());
        let is_other = |attempt: &LoginAttempt| attempt.of != of;
        self.attempts().waiting().retain(|_, it| is_other(it));
        self.store().forget_logins(account).await?;
        Ok(())
    }

    /// Writes notes to the store every few seconds, until `stop` is true, and once more then.
    pub async fn keep_attempts(&self, clock: Arc<dyn Clock>, mut stop: watch::Receiver<bool>) {
        loop {
            let pause = clock.sleep_until_moment(clock.moment().after(PAUSE));
            let stops = tokio::select! {
                () = pause => false,
                changed = stop.wait_for(|stops| *stops) => {
                    drop(changed);
                    true
                }
            };
            self.write_attempts().await;
            if stops {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_store::{LoginAttemptFilter, Order};

    use super::*;

    fn attempt(now: i64) -> Attempt<'static> {
        Attempt {
            account: Some("ann"),
            result: LoginResult::Wrong,
            service: LoginService::Submission,
            mechanism: LoginMechanism::Plain,
            client: "client.test",
            key: "",
            login: "ann@example.org",
            ip: [192, 0, 2, 1].into(),
            tls: "TLSv1.3",
            now: Time(now),
        }
    }

    async fn noted(store: &Store) -> Vec<LoginAttempt> {
        let all = LoginAttemptFilter::default();
        store
            .list_logins(&all, None, Order::Descending, 9999)
            .await
            .unwrap()
            .items
    }

    #[tokio::test]
    async fn logins_are_gathered_and_written_together() {
        let store = Store::memory();
        let logins = Logins::new(store.clone());
        let other = Attempt {
            ip: "2001:db8::1".parse().unwrap(),
            client: "bad\r\nname",
            ..attempt(2)
        };
        let same_network = Attempt {
            ip: "2001:db8::2".parse().unwrap(),
            ..other
        };
        let admin = Attempt {
            account: None,
            service: LoginService::Admin,
            ..attempt(5)
        };
        let nobody = Attempt {
            account: None,
            ..attempt(6)
        };
        for attempt in [attempt(1), other, attempt(3), same_network, admin, nobody] {
            logins.note(&attempt);
        }
        assert!(noted(&store).await.is_empty());
        assert!(logins.write_attempts().await);
        let found = noted(&store).await;
        let shown: Vec<_> = found
            .iter()
            .map(|it| (it.of.clone(), it.count, it.first.0, it.last.0))
            .collect();
        let ann = || LoginOf::Account("ann".into());
        assert_eq!(
            shown,
            [
                (LoginOf::Nobody, 1, 6, 6),
                (LoginOf::Admin, 1, 5, 5),
                (ann(), 2, 1, 3),
                (ann(), 2, 2, 2),
            ]
        );
        let [_, _, _, other] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(other.client, "badname");
        assert_eq!(other.network, "2001:db8::/64");
        assert_eq!(other.ip.to_string(), "2001:db8::2");
        // Nothing is noted twice.
        logins.note(&attempt(7));
        assert!(logins.write_attempts().await && logins.write_attempts().await);
        let counts: Vec<_> = noted(&store).await.iter().map(|it| it.count).collect();
        assert_eq!(counts, [3, 1, 1, 2]);
    }

    #[tokio::test]
    async fn an_attack_has_its_bound_until_the_next_note() {
        let store = Store::memory();
        let logins = Logins::new(store);
        let clients: Vec<_> = (0..WAITING_MAX + 9).map(|it| it.to_string()).collect();
        for client in &clients {
            let account = None;
            logins.note(&Attempt {
                account,
                client,
                ..attempt(1)
            });
        }
        assert_eq!(logins.attempts().waiting().len(), WAITING_MAX);
    }

    #[tokio::test]
    async fn the_logins_of_an_account_are_forgotten_wherever_they_are() {
        let store = Store::memory();
        let logins = Logins::new(store.clone());
        let bob = Attempt {
            account: Some("bob"),
            ..attempt(2)
        };
        logins.note(&attempt(1));
        logins.note(&bob);
        assert!(logins.write_attempts().await);
        logins.note(&attempt(3));
        logins.forget_attempts("ann").await.unwrap();
        assert!(logins.write_attempts().await);
        let left: Vec<_> = noted(&store).await.into_iter().map(|it| it.of).collect();
        assert_eq!(left, [LoginOf::Account("bob".into())]);
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_written() {
        let store = Store::memory();
        let logins = Logins::new(store.clone());
        let (stop, stopped) = watch::channel(false);
        let clock = Arc::new(postrider_store::ManualClock::new(Time(0)));
        let keeping = logins.clone();
        let kept = tokio::spawn(async move { keeping.keep_attempts(clock, stopped).await });
        logins.note(&attempt(1));
        stop.send_replace(true);
        kept.await.unwrap();
        assert_eq!(noted(&store).await.len(), 1);
    }
}
