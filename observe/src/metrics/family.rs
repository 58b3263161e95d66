//! The series of one metric.

use std::{
    ops::Deref,
    sync::{Arc, PoisonError, RwLock},
};

use super::cell::{Buckets, Counter, Gauge, Histogram};

/// A label whose values are an enum.
pub trait Label: Copy + 'static {
    /// All values, in the order of their places.
    const ALL: &'static [Self];

    /// The place of the value among all.
    fn place(self) -> usize;

    /// The value as it is written.
    fn text(self) -> &'static str;
}

/// The labels of a metric: none, a label, or several in a tuple.
pub trait Labels: Copy {
    /// The number of combinations.
    const COUNT: usize;

    /// The place of this combination, below [`COUNT`](Self::COUNT).
    fn place(self) -> usize;

    /// All combinations, in the order of their places, as texts.
    fn texts() -> Vec<Vec<&'static str>>;
}

impl Labels for () {
    const COUNT: usize = 1;

    fn place(self) -> usize {
        0
    }

    fn texts() -> Vec<Vec<&'static str>> {
        vec![Vec::new()]
    }
}

impl<A: Label> Labels for A {
    const COUNT: usize = A::ALL.len();

    fn place(self) -> usize {
        Label::place(self)
    }

    fn texts() -> Vec<Vec<&'static str>> {
        A::ALL.iter().map(|label| vec![label.text()]).collect()
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    const COUNT: usize = A::ALL.len() * B::ALL.len();

    fn place(self) -> usize {
        Label::place(self.0) * B::ALL.len() + Label::place(self.1)
    }

    fn texts() -> Vec<Vec<&'static str>> {
        let mut texts = Vec::new();
        for a in A::ALL {
            texts.extend(B::ALL.iter().map(|b| vec![a.text(), b.text()]));
        }
        texts
    }
}

impl<A: Label, B: Label, C: Label> Labels for (A, B, C) {
    const COUNT: usize = A::ALL.len() * B::ALL.len() * C::ALL.len();

    fn place(self) -> usize {
        let (a, b, c) = self;
        (a, b).place() * C::ALL.len() + Label::place(c)
    }

    fn texts() -> Vec<Vec<&'static str>> {
        let mut texts = Vec::new();
        for front in <(A, B)>::texts() {
            texts.extend(C::ALL.iter().map(|c| {
                let mut all = front.clone();
                all.push(c.text());
                all
            }));
        }
        texts
    }
}

/// The cells of a metric, one for each combination of its labels.
#[derive(Debug)]
pub struct Family<C, L> {
    cells: Box<[C]>,
    labels: std::marker::PhantomData<L>,
}

impl<C: Default, L: Labels> Default for Family<C, L> {
    fn default() -> Self {
        Self {
            cells: (0..L::COUNT).map(|_| C::default()).collect(),
            labels: std::marker::PhantomData,
        }
    }
}

impl<C, L: Labels> Family<C, L> {
    /// The cell of these labels.
    #[expect(
        clippy::indexing_slicing,
        reason = "there is a cell for each place of a label"
    )]
    pub fn with(&self, labels: L) -> &C {
        &self.cells[labels.place()]
    }
}

/// A metric without labels is its only cell.
impl<C> Deref for Family<C, ()> {
    type Target = C;

    fn deref(&self) -> &C {
        self.with(())
    }
}

/// The cells of a metric whose first `N` labels are names of the configuration.
///
/// A name that the configuration does not have counts as `other`.
#[derive(Debug)]
pub struct Named<C, L, const N: usize> {
    entries: RwLock<Vec<Entry<C, L, N>>>,
}

type Entry<C, L, const N: usize> = ([Box<str>; N], Arc<Family<C, L>>);

/// What stands for names that the configuration does not have, or beyond the limit.
pub(super) const OTHER: &str = "other";

impl<C, L, const N: usize> Default for Named<C, L, N> {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
        }
    }
}

impl<C: Default, L: Labels, const N: usize> Named<C, L, N> {
    /// Sets the names. The series of those that stay go on, those of others end. What was counted
    /// as `other` goes on too, but a state of `other` says nothing about what there is now. The
    /// callers keep the number of names within their limit.
    pub(super) fn set(&self, names: Vec<[Box<str>; N]>)
    where
        C: Read,
    {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let mut old = std::mem::take(&mut *entries);
        for name in names {
            let place = old.iter().position(|(known, _)| *known == name);
            let family = place.map(|place| old.swap_remove(place).1);
            entries.push((name, family.unwrap_or_default()));
        }
        let other = old
            .into_iter()
            .find(|(name, _)| C::ADDS_UP && is_other(name));
        let known = entries.iter().any(|(name, _)| is_other(name));
        if let Some(other) = other.filter(|_| !known) {
            entries.push(other);
        }
    }

    /// The name under which a name counts.
    pub(super) fn known<'a>(&self, name: [&'a str; N]) -> [&'a str; N] {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries = entries.iter();
        match entries.any(|(known, _)| known.iter().map(|part| &**part).eq(name)) {
            true => name,
            false => [OTHER; N],
        }
    }

    /// The cells of a name.
    pub fn named(&self, name: [&str; N]) -> Arc<Family<C, L>> {
        let find = |entries: &[Entry<C, L, N>], name: [&str; N]| {
            let mut entries = entries.iter();
            let found = entries.find(|(known, _)| known.iter().map(|part| &**part).eq(name));
            found.map(|(_, family)| Arc::clone(family))
        };
        let other = [OTHER; N];
        {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(family) = find(&entries, name).or_else(|| find(&entries, other)) {
                return family;
            }
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        find(&entries, other).unwrap_or_else(|| {
            let family = Arc::new(Family::default());
            entries.push((other.map(Into::into), Arc::clone(&family)));
            family
        })
    }
}

fn is_other<const N: usize>(name: &[Box<str>; N]) -> bool {
    name.iter().all(|part| &**part == OTHER)
}

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter.
    Counter(f64),
    /// Of a gauge.
    Gauge(f64),
    /// Of a histogram: for each bucket its upper bound and the observations in it alone, and the
    /// sum of all observations.
    Histogram(Vec<(Option<f64>, u64)>, f64),
}

/// A cell that can be read.
pub(super) trait Read {
    /// Whether it counts what happened, and does not tell how something stands.
    const ADDS_UP: bool = true;

    fn read(&self) -> Value;
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has floating numbers; above 2^53 the last digits may be lost"
)]
impl Read for Counter {
    fn read(&self) -> Value {
        Value::Counter(self.get() as f64)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has floating numbers; above 2^53 the last digits may be lost"
)]
impl Read for Gauge {
    const ADDS_UP: bool = false;

    fn read(&self) -> Value {
        Value::Gauge(self.get() as f64)
    }
}

impl<B: Buckets> Read for Histogram<B> {
    fn read(&self) -> Value {
        Value::Histogram(self.buckets(), self.sum())
    }
}

/// All series of a metric.
pub trait Series {
    /// Calls `visit` with the values of the labels and the value of each series.
    fn each(&self, visit: &mut dyn FnMut(&[&str], Value));
}

impl<C: Read, L: Labels> Series for Family<C, L> {
    fn each(&self, visit: &mut dyn FnMut(&[&str], Value)) {
        for (labels, cell) in L::texts().iter().zip(&self.cells) {
            visit(labels, cell.read());
        }
    }
}

impl<C: Read, L: Labels, const N: usize> Series for Named<C, L, N> {
    fn each(&self, visit: &mut dyn FnMut(&[&str], Value)) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in &*entries {
            family.each(&mut |labels, value| {
                let name = name.iter().map(|part| &**part);
                let all: Vec<&str> = name.chain(labels.iter().copied()).collect();
                visit(&all, value);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::labels::{HookResult, Reason, Service, Success};

    fn read(series: &impl Series) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        series.each(&mut |labels, value| {
            if value != Value::Counter(0.0) {
                all.push((labels.join(" "), value));
            }
        });
        all
    }

    #[test]
    fn each_combination_has_a_cell_of_its_own() {
        let family = Family::<Counter, (Service, Reason)>::default();
        let mut count = 0;
        for service in Service::ALL {
            for reason in Reason::ALL {
                count += 1;
                family.with((*service, *reason)).add(count);
            }
        }
        let all = read(&family);
        assert_eq!(all.len(), Service::ALL.len() * Reason::ALL.len());
        for ((at, (_, value)), count) in all.iter().enumerate().zip(1_u32..) {
            assert_eq!(*value, Value::Counter(count.into()), "{at}");
        }
        assert_eq!(all.first().unwrap().0, "smtp stopping");
        assert_eq!(all.last().unwrap().0, "submission other");
    }

    #[test]
    fn three_labels_and_none() {
        let family = Family::<Counter, (Service, Success, Service)>::default();
        let labels = (Service::Submission, Success::Ok, Service::Submission);
        family.with(labels).inc();
        let expected = ("submission ok submission".to_owned(), Value::Counter(1.0));
        assert_eq!(read(&family), [expected]);
        let family = Family::<Counter, ()>::default();
        family.inc();
        assert_eq!(read(&family), [(String::new(), Value::Counter(1.0))]);
    }

    #[test]
    fn unknown_names_are_one() {
        let named = Named::<Counter, HookResult, 1>::default();
        named.set(vec![["a".into()], ["b".into()]]);
        named.named(["a"]).with(HookResult::Accept).inc();
        for name in ["x", "y", "\" } 1\n"] {
            named.named([name]).with(HookResult::Error).inc();
        }
        let one = |name: &str, count| (name.to_owned(), Value::Counter(count));
        assert_eq!(
            read(&named),
            [one("a accept", 1.0), one("other error", 3.0)]
        );
        // What stays goes on.
        named.set(vec![["c".into()], ["a".into()]]);
        assert_eq!(
            read(&named),
            [one("a accept", 1.0), one("other error", 3.0)]
        );
        named.set(vec![["c".into()]]);
        assert_eq!(read(&named), [one("other error", 3.0)]);
    }

    /// A hook beyond the limit that was down, or a certificate that ended, would alert for ever.
    #[test]
    fn a_state_of_other_names_ends_with_them() {
        let named = Named::<Gauge, (), 1>::default();
        named.set(vec![["a".into()]]);
        named.named(["a"]).set(1);
        named.named(["x"]).set(7);
        let one = |name: &str, state| (name.to_owned(), Value::Gauge(state));
        assert_eq!(read(&named), [one("a", 1.0), one("other", 7.0)]);
        named.set(vec![["b".into()], ["a".into()]]);
        assert_eq!(read(&named), [one("b", 0.0), one("a", 1.0)]);
        named.set(vec![["a".into()], [OTHER.into()]]);
        assert_eq!(read(&named), [one("a", 1.0), one("other", 0.0)]);
    }
}
