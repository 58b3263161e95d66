//! How many connections are open from each address, for the programs that want to know.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The connections that are open. Clones count the same ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection. It counts until it is dropped.
#[derive(Debug)]
pub(super) struct Present {
    presence: Presence,
    ip: IpAddr,
}

impl Presence {
    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection from this address.
    pub(super) fn enter(&self, ip: IpAddr) -> Present {
        let ip = ip.to_canonical();
        *self.open().entry(ip).or_default() += 1;
        Present {
            presence: self.clone(),
            ip,
        }
    }
}

impl Present {
    /// The connections that are open from the same address, this one included.
    pub(super) fn count(&self) -> usize {
        self.presence.open().get(&self.ip).copied().unwrap_or(1)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut open = self.presence.open();
        if let Some(count) = open.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_counted_while_it_is_there() {
        let presence = Presence::default();
        let ip = |text: &str| text.parse().unwrap();
        let first = presence.enter(ip("192.0.2.1"));
        let same = presence.enter(ip("::ffff:192.0.2.1"));
        let other = presence.enter(ip("192.0.2.2"));
        assert_eq!((first.count(), same.count(), other.count()), (2, 2, 1));
        drop(same);
        assert_eq!(first.count(), 1);
        drop((first, other));
        assert!(presence.open().is_empty());
    }
}
