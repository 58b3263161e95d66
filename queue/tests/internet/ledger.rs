//! What happened in the world, as its hosts saw it.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// A message that a host took for a recipient.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) host: usize,
    pub(crate) tls: bool,
    /// The client got the reply that says so.
    pub(crate) told: bool,
    /// MAIL had REQUIRETLS.
    pub(crate) require_tls: bool,
    pub(crate) text: Vec<u8>,
}

/// A RCPT command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) age: Duration,
    pub(crate) host: usize,
    pub(crate) source: IpAddr,
    pub(crate) tls: bool,
}

/// What is noted of one host.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostNotes {
    /// Connections that are open, and the most at once.
    pub(crate) open: usize,
    pub(crate) most: usize,
    /// Connections that were more than the host takes.
    pub(crate) refused: usize,
    /// When each connection was asked for.
    pub(crate) dialed: Vec<Duration>,
    /// When each MAIL came.
    pub(crate) mails: Vec<Duration>,
    /// The most messages of one connection.
    pub(crate) most_messages: usize,
}

#[derive(Debug, Default)]
struct Entries {
    taken: BTreeMap<String, Vec<Taken>>,
    tried: BTreeMap<String, Vec<Tried>>,
    hosts: BTreeMap<usize, HostNotes>,
    seen: BTreeMap<String, u64>,
    faults: Vec<String>,
    /// All RCPT commands and taken messages, in their order.
    trace: Vec<String>,
    at_each_try: Option<AtEachTry>,
}

/// What is done at each RCPT command.
struct AtEachTry(Box<dyn Fn() + Send>);

impl fmt::Debug for AtEachTry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtEachTry")
    }
}

/// The notes of all hosts. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Entries>>);

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap()
    }

    /// Counts something that was seen. Its name is what the world was to show.
    pub(crate) fn see(&self, what: impl fmt::Display) {
        *self.entries().seen.entry(what.to_string()).or_default() += 1;
    }

    /// Notes that a rule is broken.
    pub(crate) fn fault(&self, what: String) {
        self.entries().faults.push(what);
    }

    /// Notes for one host.
    pub(crate) fn at_host<T>(&self, host: usize, note: impl FnOnce(&mut HostNotes) -> T) -> T {
        note(self.entries().hosts.entry(host).or_default())
    }

    /// Has this done at each RCPT command.
    pub(crate) fn at_each_try(&self, act: impl Fn() + Send + 'static) {
        self.entries().at_each_try = Some(AtEachTry(Box::new(act)));
    }

    pub(crate) fn tried(&self, recipient: &str, tried: Tried) {
        let mut entries = self.entries();
        if let Some(AtEachTry(act)) = &entries.at_each_try {
            act();
        }
        let Tried {
            age, host, source, ..
        } = &tried;
        let line = format!("{age:?}: {recipient} comes to {host} from {source}");
        entries.trace.push(line);
        let all = entries.tried.entry(recipient.to_owned()).or_default();
        all.push(tried);
    }

    pub(crate) fn taken(&self, recipient: &str, taken: Taken) {
        let mut entries = self.entries();
        let line = format!("{recipient} is taken at {}: {}", taken.host, taken.told);
        entries.trace.push(line);
        let all = entries.taken.entry(recipient.to_owned()).or_default();
        all.push(taken);
    }

    /// How often hosts took a message for a recipient.
    pub(crate) fn taken_for(&self, recipient: &str) -> Vec<Taken> {
        let entries = self.entries();
        entries.taken.get(recipient).cloned().unwrap_or_default()
    }

    /// The RCPT commands with a recipient.
    pub(crate) fn tried_for(&self, recipient: &str) -> Vec<Tried> {
        let entries = self.entries();
        entries.tried.get(recipient).cloned().unwrap_or_default()
    }

    /// All recipients that a host took something for.
    pub(crate) fn recipients(&self) -> Vec<String> {
        self.entries().taken.keys().cloned().collect()
    }

    /// What was seen, with how often.
    pub(crate) fn seen(&self) -> BTreeMap<String, u64> {
        self.entries().seen.clone()
    }

    /// The broken rules so far.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.entries().faults.clone()
    }

    /// All RCPT commands and taken messages, in their order.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.entries().trace.clone()
    }
}
