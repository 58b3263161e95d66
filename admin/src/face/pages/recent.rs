//! What came lately, by its key. The oldest is forgotten when there is too much.

use std::collections::{HashMap, VecDeque};

/// At most `MAX` values with their keys, the newest ones.
pub(super) struct Recent<V, const MAX: usize> {
    values: HashMap<String, V>,
    /// The keys, the oldest first.
    order: VecDeque<String>,
}

impl<V, const MAX: usize> Default for Recent<V, MAX> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<V, const MAX: usize> Recent<V, MAX> {
    pub(super) fn get(&self, key: &str) -> Option<&V> {
        self.values.get(key)
    }

    /// Adds a value with a new key.
    pub(super) fn add(&mut self, key: String, value: V) {
        if self.order.len() >= MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
        self.values.insert(key.clone(), value);
        self.order.push_back(key);
    }

    /// Takes a value out.
    pub(super) fn take(&mut self, key: &str) -> Option<V> {
        self.order.retain(|known| known != key);
        self.values.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let mut recent = Recent::<u32, 2>::default();
        recent.add("a".to_owned(), 1);
        recent.add("b".to_owned(), 2);
        recent.add("c".to_owned(), 3);
        let found = ["a", "b", "c"].map(|key| recent.get(key).copied());
        assert_eq!(found, [None, Some(2), Some(3)]);
        // What was taken out leaves its place.
        assert_eq!((recent.take("b"), recent.take("b")), (Some(2), None));
        recent.add("d".to_owned(), 4);
        let found = ["b", "c", "d"].map(|key| recent.get(key).copied());
        assert_eq!(found, [None, Some(3), Some(4)]);
    }
}
