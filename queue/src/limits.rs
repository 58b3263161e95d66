//! How much an account may send in a day.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_observe::metrics::AccountLimit;
use postrider_smtp::Address;
use postrider_store::{Sent, Store, StoreError};

use crate::Queue;

/// The period of the limits.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why an account may not send now.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The account would send to too many recipients.
    #[error(
        "{sent} recipients in the last 24 hours and {new} more would be above the account's limit of {max} \
         (max_outgoing_messages_per_day)"
    )]
    Messages {
        /// The recipients of the last 24 hours.
        sent: u64,
        /// The new recipients.
        new: u64,
        /// The limit.
        max: u32,
    },
    /// The account would send to too many recipients for the first time.
    #[error(
        "{sent} recipients that were never sent to before in the last 24 hours and {new} more would be above the account's \
         limit of {max} (max_first_time_recipients_per_day)"
    )]
    FirstTime {
        /// The recipients of the last 24 hours.
        sent: u64,
        /// The new recipients.
        new: u64,
        /// The limit.
        max: u32,
    },
    /// The counts can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The reservations by account.
pub(crate) type Reserved = HashMap<String, Arc<Mutex<Reservations>>>;

/// The reservations of one account.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    calls: BTreeMap<u64, Reservation>,
    last: u64,
    /// How many reservations ended so far. The store counts the messages that they added.
    ended: u64,
}

/// The recipients that one submission is going to add.
#[derive(Clone, Debug)]
struct Reservation {
    /// The idempotency key. Of several submissions with one key only one is added.
    key: Option<String>,
    recipients: Arc<[Address]>,
    /// The recipients that are new to the account. None until they had to be looked up.
    unknown: Option<Arc<BTreeSet<String>>>,
}

/// How often new recipients are looked up for one submission, while others come.
const LOOKS: usize = 5;
/// How many recipients are looked up before other tasks get their turn.
const FEW: usize = 32;

impl Reservations {
    /// The other reservations. Of those with one key, only one counts.
    fn besides<'a>(
        &'a self,
        call: &'a Reservation,
    ) -> impl Iterator<Item = (u64, &'a Reservation)> {
        let mut keys = BTreeSet::from_iter(call.key.as_deref());
        let others = self
            .calls
            .iter()
            .filter(move |(_, other)| match &other.key {
                Some(key) => keys.insert(key),
                None => true,
            });
        others.map(|(id, other)| (*id, other))
    }

    fn plan(&mut self, call: Reservation) -> u64 {
        self.last += 1;
        self.calls.insert(self.last, call);
        self.last
    }
}

/// The permission to add messages. Until it is dropped, its recipients count: so submissions that
/// are checked at the same time do not pass the limit together.
#[derive(Debug)]
#[must_use = "it is to be kept until the messages are added"]
pub struct Allowance {
    calls: Arc<Mutex<Reservations>>,
    id: u64,
}

impl Drop for Allowance {
    fn drop(&mut self) {
        let mut calls = locked(&self.calls);
        calls.calls.remove(&self.id);
        calls.ended += 1;
    }
}

fn locked(calls: &Mutex<Reservations>) -> MutexGuard<'_, Reservations> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The verdict of the counts alone about a reservation.
enum Glance {
    Reserved(u64),
    /// These recipients must be looked up first. The number is that of a reservation; None is the
    /// new one.
    Look(Vec<(Option<u64>, Arc<[Address]>)>),
}

/// The limits of an account, and what it sent.
struct Counts {
    max: u32,
    max_first: u32,
    sent: Sent,
}

impl Counts {
    /// Reserves if that is within the limits. `unlooked`: recipients that were not looked up count
    /// as new.
    fn glance(
        &self,
        calls: &mut Reservations,
        call: &Reservation,
        unlooked: bool,
    ) -> Result<Glance, LimitError> {
        let new = call.recipients.len() as u64;
        let others = calls
            .besides(call)
            .map(|(_, other)| other.recipients.len() as u64);
        let others: u64 = others.sum();
        let sent = self.sent.recipients + others;
        if sent + new > u64::from(self.max) {
            return Err(LimitError::Messages {
                sent,
                new,
                max: self.max,
            });
        }
        // If even all of them may be new, no look-up is needed.
        if self.sent.first_time + others + new <= u64::from(self.max_first) {
            return Ok(Glance::Reserved(calls.plan(call.clone())));
        }
        let all = calls.besides(call).map(|(id, other)| (Some(id), other));
        let look = all.chain([(None, call)]);
        let look = look.filter(|(_, call)| call.unknown.is_none());
        let look = look.map(|(id, call)| (id, Arc::clone(&call.recipients)));
        let look: Vec<_> = look.collect();
        if !look.is_empty() && !unlooked {
            return Ok(Glance::Look(look));
        }
        let planned: Vec<_> = calls.besides(call).map(|(_, it)| it.unknown()).collect();
        let planned: BTreeSet<&String> = planned.iter().flat_map(|it| it.iter()).collect();
        let unknown = call.unknown();
        let first_time = unknown.iter().filter(|to| !planned.contains(to));
        let first_time = first_time.count() as u64;
        let sent = self.sent.first_time + planned.len() as u64;
        if first_time > 0 && sent + first_time > u64::from(self.max_first) {
            return Err(LimitError::FirstTime {
                sent,
                new: first_time,
                max: self.max_first,
            });
        }
        Ok(Glance::Reserved(calls.plan(call.clone())))
    }
}

impl Reservation {
    /// The recipients that may be new to the account.
    fn unknown(&self) -> Arc<BTreeSet<String>> {
        match &self.unknown {
            Some(unknown) => Arc::clone(unknown),
            None => Arc::new(self.recipients.iter().map(name).collect()),
        }
    }
}

/// The form of an address by which recipients are compared.
fn name(recipient: &Address) -> String {
    recipient.unicode().to_lowercase()
}

/// The recipients that are new to an account.
async fn look(
    store: &Store,
    account: &str,
    recipients: &[Address],
) -> Result<Arc<BTreeSet<String>>, StoreError> {
    let mut unknown = BTreeSet::new();
    for (seen, recipient) in recipients.iter().enumerate() {
        if seen % FEW == FEW - 1 {
            // Each look-up is short, but a submission may have thousands of recipients.
            tokio::task::yield_now().await;
        }
        if !store.is_known(account, recipient).await? {
            unknown.insert(name(recipient));
        }
    }
    Ok(Arc::new(unknown))
}

impl Queue {
    /// Checks that an account may send to these recipients now. `key` is the idempotency key. The
    /// store counts recipients when they are added, by the hour. An account that is not configured
    /// has no limits, and gets no allowance.
    ///
    /// # Errors
    /// If the account would pass a limit.
    pub async fn allow(
        &self,
        account: &str,
        recipients: Vec<Address>,
        key: Option<&str>,
    ) -> Result<Option<Allowance>, LimitError> {
        let allowed = self.reserve(account, recipients, key).await;
        let limit = match &allowed {
            Err(LimitError::Messages { .. }) => Some(AccountLimit::Messages),
            Err(LimitError::FirstTime { .. }) => Some(AccountLimit::FirstTime),
            Ok(_) | Err(LimitError::Store(_)) => None,
        };
        if let Some(limit) = limit {
            self.metrics.account_limits_total.with(limit).inc();
        }
        allowed
    }

    async fn reserve(
        &self,
        account: &str,
        recipients: Vec<Address>,
        key: Option<&str>,
    ) -> Result<Option<Allowance>, LimitError> {
        let limits = {
            let config = self.config.load();
            let account = config.accounts.get(account);
            account.map(|account| {
                (
                    account.max_outgoing_messages_per_day,
                    account.max_first_time_recipients_per_day,
                )
            })
        };
        let Some((max, max_first)) = limits else {
            return Ok(None);
        };
        let mut call = Reservation {
            key: key.map(str::to_owned),
            recipients: recipients.into(),
            unknown: None,
        };
        let shared = self.reserved_by(account);
        let mut looks = 0;
        loop {
            let ended = locked(&shared).ended;
            let sent = self
                .store
                .sent(account, self.clock.now().before(DAY))
                .await?;
            let counts = Counts {
                max,
                max_first,
                sent,
            };
            let glance = {
                let mut calls = locked(&shared);
                // A reservation that ended meanwhile may count in neither of the two, so both are
                // read again.
                if calls.ended != ended {
                    continue;
                }
                counts.glance(&mut calls, &call, looks >= LOOKS)?
            };
            match glance {
                Glance::Reserved(id) => return Ok(Some(Allowance { calls: shared, id })),
                Glance::Look(list) => {
                    looks += 1;
                    for (id, unknown) in self.look_up(account, list).await? {
                        match id {
                            None => call.unknown = Some(unknown),
                            Some(id) => {
                                if let Some(call) = locked(&shared).calls.get_mut(&id) {
                                    call.unknown = Some(unknown);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The recipients of some reservations that are new to an account.
    async fn look_up(
        &self,
        account: &str,
        calls: Vec<(Option<u64>, Arc<[Address]>)>,
    ) -> Result<Vec<(Option<u64>, Arc<BTreeSet<String>>)>, StoreError> {
        let mut looked = Vec::with_capacity(calls.len());
        for (id, recipients) in calls {
            looked.push((id, look(&self.store, account, &recipients).await?));
        }
        Ok(looked)
    }

    fn reserved_by(&self, account: &str) -> Arc<Mutex<Reservations>> {
        let mut planned = self.reserved();
        match planned.get(account) {
            Some(calls) => Arc::clone(calls),
            None => {
                let calls = Arc::<Mutex<Reservations>>::default();
                let account = account.to_owned();
                planned.insert(account, Arc::clone(&calls));
                calls
            }
        }
    }
}
