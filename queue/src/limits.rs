//! How much an account may send in a day.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_smtp::Address;
use postrider_store::{Sent, Store, StoreError};

use crate::Queue;

/// The time that the limits are for.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why an account may not send now.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// Too many recipients.
    #[error(
        "{sent} recipients in the last 24 hours and {new} more would be above the account's limit of {max} \
         (max_outgoing_messages_per_day)"
    )]
    Messages {
        /// In the last 24 hours.
        sent: u64,
        /// Now.
        new: u64,
        /// The limit.
        max: u32,
    },
    /// Too many recipients that it never sent to before.
    #[error(
        "{sent} recipients that were never sent to before in the last 24 hours and {new} more would be above the account's \
         limit of {max} (max_first_time_recipients_per_day)"
    )]
    FirstTime {
        /// In the last 24 hours.
        sent: u64,
        /// Now.
        new: u64,
        /// The limit.
        max: u32,
    },
    /// It can't be told.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is allowed and not added yet, by account.
pub(crate) type Reserved = HashMap<String, Arc<Mutex<Reservations>>>;

/// Of one account.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    calls: BTreeMap<u64, Reservation>,
    last: u64,
    /// How many ended so far: what they added is counted by the store.
    ended: u64,
}

/// What one who submits is going to add.
#[derive(Clone, Debug)]
struct Reservation {
    /// The idempotency key, if there is one: only one with the same will be added.
    key: Option<String>,
    recipients: Arc<[Address]>,
    /// To whom of them the account never sent before, once somebody had to know.
    unknown: Option<Arc<BTreeSet<String>>>,
}

/// How often it is looked who is unknown, while ever more calls come.
const LOOKS: usize = 5;
/// So few are looked up before other tasks get their turn.
const FEW: usize = 32;

impl Reservations {
    /// What others are going to add besides `call`. Of those with one key only one is added.
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

/// That messages may be added. Until this is dropped they count, so that those which are checked at the same moment are not
/// more than the limit together.
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

/// What is found of a call by the counts alone.
enum Glance {
    Reserved(u64),
    /// These must be looked up: a call's number, none for the one that is asked for.
    Look(Vec<(Option<u64>, Arc<[Address]>)>),
}

/// The limits of an account, and what counts for them.
struct Counts {
    max: u32,
    max_first: u32,
    sent: Sent,
}

impl Counts {
    /// Whether a call is within the limits; it is planned then. `unlooked`: who was not looked up counts as unknown.
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
        // As long as all of them could be new, nobody needs to look.
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
    /// To whom the account may never have sent before.
    fn unknown(&self) -> Arc<BTreeSet<String>> {
        match &self.unknown {
            Some(unknown) => Arc::clone(unknown),
            None => Arc::new(self.recipients.iter().map(name).collect()),
        }
    }
}

/// What a recipient is known by.
fn name(recipient: &Address) -> String {
    recipient.unicode().to_lowercase()
}

/// To whom of these an account never sent before.
async fn look(
    store: &Store,
    account: &str,
    recipients: &[Address],
) -> Result<Arc<BTreeSet<String>>, StoreError> {
    let mut unknown = BTreeSet::new();
    for (seen, recipient) in recipients.iter().enumerate() {
        if seen % FEW == FEW - 1 {
            // Each look-up is short, but a call may have thousands of recipients.
            tokio::task::yield_now().await;
        }
        if !store.is_known(account, recipient).await? {
            unknown.insert(name(recipient));
        }
    }
    Ok(Arc::new(unknown))
}

impl Queue {
    /// Checks that an account may send to these recipients now; `key` is the idempotency key, if there is one. What is sent is
    /// counted when it is added, by the hour. An account that is not configured has no limits, and no allowance.
    ///
    /// # Errors
    /// If a limit of the account would be passed.
    pub async fn allow(
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
                // A call that ended meanwhile may count in neither of the two, so both are read again.
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

    /// To whom of some calls an account never sent before.
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
