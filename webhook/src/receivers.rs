//! How many calls each receiver may have at once, and which receiver gets the next free place at a
//! host.
//!
//! A receiver is a host (scheme, name, port) as one account calls it. There are three limits:
//!
//! | limit | reason |
//! |---|---|
//! | calls per receiver | a slow receiver delays no other account's calls |
//! | one call, until the receiver answers | receivers that are down leave places to the others |
//! | calls per host, of all accounts | a slow host is slow for each account that calls it |
//!
//! Receivers that find no place at their host wait in the order in which they came. Nothing here
//! waits or does I/O.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use postrider_config::WebhookConfig;
use postrider_store::hook_lane;
use reqwest::Url;
use tokio::sync::Semaphore;

/// The most receivers that are remembered as answering.
const ANSWERING_MAX: usize = 100_000;

/// The receivers that have calls or wait for a place.
pub(crate) struct Receivers {
    receivers: HashMap<Arc<ReceiverKey>, Receiver>,
    /// The number of calls to each host, for all accounts together.
    calls_per_host: HashMap<String, usize>,
    /// The receivers that answered their last call. All others may have one call at a time.
    answering: HashSet<Arc<ReceiverKey>>,
    /// The number of receivers whose place is not [`Place::NotAsked`].
    asking: usize,
    last_ticket: u64,
    max: MaxCalls,
}

/// The most calls at once.
#[derive(Clone, Copy)]
struct MaxCalls {
    per_receiver: usize,
    per_host: usize,
}

/// Identifies a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReceiverKey {
    account: String,
    /// Scheme, host and port of the URL.
    host: String,
}

/// A receiver with calls, or one that waits for a place at its host.
struct Receiver {
    /// The calls that run, and those that wait for a permit.
    calls: usize,
    /// Each call holds a permit while it runs.
    permits: Arc<Semaphore>,
    /// The lanes of the store that were claimed for this receiver since it last had no calls.
    lanes: HashSet<String>,
    place: Place,
}

/// Whether a receiver waits for a place at its host. Lower tickets go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    NotAsked,
    /// All places were taken. The receiver claims no calls until another call to the host ends.
    Waiting(u64),
    /// A place is reserved. If other calls take it after all, the receiver waits again with the
    /// same ticket.
    Reserved(u64),
}

impl Receiver {
    const fn has_reservation(&self) -> bool {
        matches!(self.place, Place::Reserved(_))
    }

    const fn is_waiting(&self) -> bool {
        matches!(self.place, Place::Waiting(_))
    }
}

impl Receivers {
    pub(crate) fn new(settings: &WebhookConfig) -> Self {
        let per_receiver = settings.per_receiver_concurrency.max(1);
        Self {
            receivers: HashMap::new(),
            calls_per_host: HashMap::new(),
            answering: HashSet::new(),
            asking: 0,
            last_ticket: 0,
            max: MaxCalls {
                per_receiver,
                per_host: per_receiver.max(settings.max_concurrency / 2),
            },
        }
    }

    /// The most calls of one lane that make sense to claim at once.
    pub(crate) const fn max_per_lane(&self) -> usize {
        self.max.per_receiver
    }

    /// The lanes from which no more calls should be claimed, because their receivers are full.
    pub(crate) fn full_lanes(&self) -> HashSet<String> {
        let receivers = self.receivers.iter();
        let full = receivers.filter(|(key, receiver)| self.is_full(key, receiver));
        full.flat_map(|(_, receiver)| receiver.lanes.iter().cloned())
            .collect()
    }

    /// Ends all waiting for permits.
    pub(crate) fn close(&self) {
        for receiver in self.receivers.values() {
            receiver.permits.close();
        }
    }

    fn calls_to(&self, host: &str) -> usize {
        self.calls_per_host.get(host).copied().unwrap_or_default()
    }

    fn is_full(&self, key: &ReceiverKey, receiver: &Receiver) -> bool {
        let most = match self.answering.contains(key) {
            true => self.max.per_receiver,
            false => 1,
        };
        let to_host = self.calls_to(&key.host);
        receiver.is_waiting() || receiver.calls >= most || to_host >= self.max.per_host
    }

    /// The number of places at a host that are reserved.
    fn reserved(&self, host: &str) -> usize {
        if self.asking == 0 {
            return 0;
        }
        let receivers = self.receivers.iter();
        let reserved = receivers.filter(|(key, it)| it.has_reservation() && key.host == host);
        reserved.count()
    }

    /// Gives up all reservations. To be called after a claim: receivers that did not use their
    /// reservation have no calls that are due.
    pub(crate) fn drop_reservations(&mut self) {
        if self.asking == 0 {
            return;
        }
        let asking = &mut self.asking;
        self.receivers.retain(|_, receiver| {
            if receiver.has_reservation() {
                receiver.place = Place::NotAsked;
                *asking -= 1;
            }
            receiver.calls > 0 || receiver.is_waiting()
        });
    }

    /// Counts one more call if there is a place for it. Gives the receiver, and the permits of
    /// which the call needs one.
    pub(crate) fn begin_call(
        &mut self,
        account: &str,
        url: &str,
    ) -> Option<(Arc<ReceiverKey>, Arc<Semaphore>)> {
        let key = Arc::new(ReceiverKey {
            account: account.to_owned(),
            host: host(url),
        });
        // As many calls may wait for a permit as run, so that the next one is at hand.
        let most = match self.answering.contains(&key) {
            true => 2 * self.max.per_receiver,
            false => 1,
        };
        let to_host = self.calls_to(&key.host);
        let reserved = self.reserved(&key.host);
        let receiver = self.receivers.entry(Arc::clone(&key));
        let receiver = receiver.or_insert_with(|| Receiver {
            calls: 0,
            permits: Arc::new(Semaphore::new(self.max.per_receiver)),
            lanes: HashSet::new(),
            place: Place::NotAsked,
        });
        receiver.lanes.insert(hook_lane(account, url));
        let reserved_for_others = match receiver.has_reservation() {
            true => 0,
            false => reserved,
        };
        if to_host + reserved_for_others >= self.max.per_host {
            let ticket = match receiver.place {
                Place::Waiting(ticket) | Place::Reserved(ticket) => ticket,
                Place::NotAsked => {
                    self.asking += 1;
                    self.last_ticket += 1;
                    self.last_ticket
                }
            };
            receiver.place = Place::Waiting(ticket);
            return None;
        }
        if receiver.calls >= most {
            return None;
        }
        receiver.calls += 1;
        self.asking -= usize::from(receiver.place != Place::NotAsked);
        receiver.place = Place::NotAsked;
        let permits = Arc::clone(&receiver.permits);
        self.calls_per_host.insert(key.host.clone(), to_host + 1);
        Some((key, permits))
    }

    /// Records whether a receiver answered its last call.
    pub(crate) fn set_answering(&mut self, key: &Arc<ReceiverKey>, answered: bool) {
        if !answered {
            self.answering.remove(key);
        } else if !self.answering.contains(key) {
            if self.answering.len() >= ANSWERING_MAX {
                self.answering.clear();
            }
            self.answering.insert(Arc::clone(key));
        }
    }

    /// Counts one call less.
    pub(crate) fn end_call(&mut self, key: &ReceiverKey) {
        if let Some(receiver) = self.receivers.get_mut(key) {
            receiver.calls = receiver.calls.saturating_sub(1);
            if receiver.calls == 0 && receiver.place == Place::NotAsked {
                self.receivers.remove(key);
            }
        }
        let left = self.calls_to(&key.host).saturating_sub(1);
        if left == 0 {
            self.calls_per_host.remove(&key.host);
            self.forget_waiting(&key.host);
        } else {
            self.calls_per_host.insert(key.host.clone(), left);
            self.reserve_places(&key.host, left);
        }
    }

    /// Lets all receivers of a host without calls ask for a place again: no call is left whose end
    /// would tell them.
    fn forget_waiting(&mut self, host: &str) {
        if self.asking == 0 {
            return;
        }
        let asking = &mut self.asking;
        self.receivers.retain(|key, receiver| {
            let there = key.host == host;
            *asking -= usize::from(there && receiver.place != Place::NotAsked);
            !there
        });
    }

    /// Reserves the free places at a host for the receivers that waited longest. The host has
    /// `calls` calls.
    fn reserve_places(&mut self, host: &str, calls: usize) {
        if self.asking == 0 {
            return;
        }
        let taken = calls + self.reserved(host);
        let free = self.max.per_host.saturating_sub(taken);
        let receivers = self.receivers.iter_mut();
        let there = receivers.filter(|(key, _)| key.host == host);
        let mut waiting: Vec<(u64, &mut Receiver)> = there
            .filter_map(|(_, receiver)| match receiver.place {
                Place::Waiting(ticket) => Some((ticket, receiver)),
                Place::NotAsked | Place::Reserved(_) => None,
            })
            .collect();
        waiting.sort_unstable_by_key(|(ticket, _)| *ticket);
        for (ticket, receiver) in waiting.into_iter().take(free) {
            receiver.place = Place::Reserved(ticket);
        }
    }
}

/// Scheme, host and port of a URL. A URL without them stands for itself: a call to it fails anyway.
fn host(url: &str) -> String {
    match Url::parse(url).map(|url| url.origin()) {
        Ok(origin) if origin.is_tuple() => origin.ascii_serialization(),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use super::*;

    /// The number of receivers that wait for a place.
    fn waiting(receivers: &Receivers) -> usize {
        let all = receivers.receivers.values();
        all.filter(|receiver| receiver.is_waiting()).count()
    }

    fn settings() -> WebhookConfig {
        WebhookConfig {
            retry_intervals: Vec::new(),
            timeout: Duration::ZERO,
            max_concurrency: 8,
            per_receiver_concurrency: 3,
            proxy: None,
            allow_private_addresses: false,
        }
    }

    fn receivers() -> Receivers {
        Receivers::new(&settings())
    }

    /// Whether a receiver is full while it has one call. That call has ended afterwards.
    fn is_full_with_one(
        receivers: &mut Receivers,
        account: &str,
        url: &str,
    ) -> (Arc<ReceiverKey>, bool) {
        let (key, _) = receivers.begin_call(account, url).unwrap();
        let full = receivers.is_full(&key, &receivers.receivers[&key]);
        receivers.end_call(&key);
        (key, full)
    }

    #[test]
    fn a_receiver_has_one_call_at_a_time_until_it_answers() {
        let mut receivers = receivers();
        let (key, full) = is_full_with_one(&mut receivers, "ann", "https://a.example/1");
        assert!(full);
        receivers.set_answering(&key, true);
        assert!(!is_full_with_one(&mut receivers, "ann", "https://a.example/2").1);
        assert!(is_full_with_one(&mut receivers, "ann", "https://b.example/").1);
        assert!(is_full_with_one(&mut receivers, "bob", "https://a.example/").1);
        receivers.set_answering(&key, false);
        assert!(is_full_with_one(&mut receivers, "ann", "https://a.example/1").1);
        assert!(receivers.receivers.is_empty() && receivers.calls_per_host.is_empty());
    }

    #[test]
    fn a_host_has_a_part_of_all_places_however_many_accounts_call_it() {
        let mut receivers = receivers();
        let mut begin = |account: &str| {
            receivers
                .begin_call(account, "https://a.example/")
                .map(|it| it.0)
        };
        let keys: Vec<_> = ["1", "2", "3", "4"]
            .into_iter()
            .filter_map(&mut begin)
            .collect();
        assert_eq!(keys.len(), 4);
        assert!(begin("5").is_none());
        assert!(begin("6").is_none());
        let (fifth, receiver) = receivers
            .receivers
            .iter()
            .find(|(_, it)| it.calls == 0)
            .unwrap();
        assert!(
            receivers.is_full(fifth, receiver),
            "its calls are not claimed again"
        );
        assert!(receivers.begin_call("5", "https://b.example/").is_some());
        receivers.end_call(&keys[0]);
        assert_eq!(waiting(&receivers), 1, "one place is free for one of them");
        // When no call to the host is left, all may ask again.
        for key in &keys[1..] {
            receivers.end_call(key);
        }
        assert_eq!((waiting(&receivers), receivers.asking), (0, 0));
        let all = receivers.receivers.keys();
        assert_eq!(
            all.map(|key| &key.host[..]).collect::<Vec<_>>(),
            ["https://b.example"]
        );
    }

    #[test]
    fn a_waiting_receiver_that_gets_a_place_by_another_url_waits_no_more() {
        let mut receivers = receivers();
        let accounts = ["1", "2", "3", "4", "5", "6"];
        let begin = |account: &&str| receivers.begin_call(account, "https://a.example/");
        let keys: Vec<_> = accounts.iter().filter_map(begin).map(|it| it.0).collect();
        assert_eq!((keys.len(), receivers.asking), (4, 2));
        receivers.end_call(&keys[0]);
        // The place is reserved for 5, which has no more calls.
        receivers.drop_reservations();
        assert_eq!(waiting(&receivers), 1);
        let (key, _) = receivers
            .begin_call("6", "https://a.example/other")
            .unwrap();
        assert_eq!((waiting(&receivers), receivers.asking), (0, 0));
        for key in keys[1..].iter().chain([&key]) {
            receivers.end_call(key);
        }
        assert!(receivers.receivers.is_empty() && receivers.calls_per_host.is_empty());
    }

    #[test]
    fn the_receiver_that_waited_longest_gets_the_next_place_at_a_host() {
        let settings = WebhookConfig {
            max_concurrency: 4,
            per_receiver_concurrency: 1,
            ..settings()
        };
        let mut receivers = Receivers::new(&settings);
        let accounts = ["1", "2", "3", "4"];
        let mut made = [0; 4];
        let mut running: VecDeque<Arc<ReceiverKey>> = VecDeque::new();
        for _ in 0..400 {
            // Each account has calls that are due. The accounts come in the same order each time.
            for (account, made) in accounts.into_iter().zip(&mut made) {
                let all = receivers.receivers.iter();
                let mut full = all.filter(|(key, it)| receivers.is_full(key, it));
                if full.any(|(key, _)| key.account == account) {
                    continue;
                }
                if let Some((key, _)) = receivers.begin_call(account, "https://a.example/") {
                    *made += 1;
                    running.push_back(key);
                }
            }
            receivers.drop_reservations();
            receivers.end_call(&running.pop_front().unwrap());
        }
        assert!(
            made.iter().all(|made| (90..=110).contains(made)),
            "{made:?}"
        );
        for key in running {
            receivers.end_call(&key);
        }
        assert_eq!((waiting(&receivers), receivers.asking), (0, 0));
        assert!(receivers.receivers.is_empty());
    }
}
