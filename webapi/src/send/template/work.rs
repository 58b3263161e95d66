//! The work of filling in a template, counted in bytes.
//!
//! The engine counts its steps. One step may go through a whole value: a comparison, a search, a
//! filter. So values of lists and objects count each access to their items, filters count the texts
//! that they make, and long texts leave fewer steps.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use minijinja::{
    Error, ErrorKind, Value as Any,
    value::{Enumerator, Object, ObjectRepr},
};
use postrider_store::{Clock, Moment};
use serde_json::{Map, Value};

/// The most steps of a template.
const FUEL: u64 = 50_000;
/// The most bytes that all steps may go through together, if each goes through the longest text.
const STEP_BYTES: u64 = 400_000_000;
/// The most bytes of work besides the steps.
const WORK: u64 = 8 << 20;
/// The work of one access to an item of a list or an object.
const ITEM: u64 = 16;

/// The work and the time that are left for a text.
pub(super) struct Work {
    left: AtomicU64,
    clock: Arc<dyn Clock>,
    until: Mutex<Moment>,
    late: AtomicBool,
}

impl Work {
    /// No work and no time is left yet.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            left: AtomicU64::new(0),
            clock,
            until: Mutex::default(),
            late: AtomicBool::new(false),
        }
    }

    /// Allows new work, for the next text, until this moment.
    pub(super) fn refill(&self, until: Moment) {
        self.left.store(WORK, Ordering::Relaxed);
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.late.store(false, Ordering::Relaxed);
    }

    /// Takes the work for so many bytes. False if that is too much, or the time is over; then
    /// nothing is left.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let left = match self.check_time() {
            Ok(()) => self.left.load(Ordering::Relaxed).saturating_sub(bytes),
            Err(_) => 0,
        };
        self.left.store(left, Ordering::Relaxed);
        left > 0
    }

    /// Fails if the time is over.
    pub(super) fn check_time(&self) -> Result<(), Error> {
        let in_time = || {
            let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
            self.clock.moment() < until
        };
        if !self.is_late() && in_time() {
            return Ok(());
        }
        self.late.store(true, Ordering::Relaxed);
        Err(Error::new(ErrorKind::InvalidOperation, "the time is over"))
    }

    /// The time was over at some step.
    pub(super) fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Takes the work for a text that a filter made.
    pub(super) fn made(&self, text: &str) -> Result<(), Error> {
        match self.take(text.len() as u64) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::InvalidOperation, TOO_MUCH)),
        }
    }

    /// Too much work was asked for.
    pub(super) fn is_used_up(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

/// The error for too much work.
pub(super) const TOO_MUCH: &str =
    "the template goes through its variables too often, or makes too much text";

/// Variables for the engine.
pub(super) struct Variables {
    pub(super) root: Any,
    /// The bytes of the longest text.
    longest: u64,
    /// The bytes of all texts.
    all: u64,
}

impl Variables {
    pub(super) fn new(variables: &Map<String, Value>, work: &Arc<Work>) -> Self {
        let mut made = Self {
            root: Any::UNDEFINED,
            longest: 0,
            all: 0,
        };
        made.root = made.object(variables, work);
        made
    }

    /// The steps that a template may take. `joins`: it can make one text of all.
    pub(super) fn fuel(&self, joins: bool) -> u64 {
        let longest = if joins { self.all } else { self.longest };
        FUEL.min(STEP_BYTES / longest.max(1))
    }

    fn value(&mut self, value: &Value, work: &Arc<Work>) -> Any {
        match value {
            Value::Null => Any::from(()),
            Value::Bool(value) => Any::from(*value),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(whole), ..) => Any::from(whole),
                (_, Some(whole), _) => Any::from(whole),
                (.., Some(number)) => Any::from(number),
                _ => Any::from(()),
            },
            Value::String(text) => {
                self.longest = self.longest.max(text.len() as u64);
                self.all += text.len() as u64;
                Any::from(text.as_str())
            }
            Value::Array(items) => {
                let items = items.iter().map(|item| self.value(item, work));
                Any::from_object(List {
                    items: items.collect(),
                    work: Arc::clone(work),
                })
            }
            Value::Object(fields) => self.object(fields, work),
        }
    }

    fn object(&mut self, fields: &Map<String, Value>, work: &Arc<Work>) -> Any {
        let names = fields.keys().map(|name| Any::from(name.as_str()));
        let names = names.collect();
        let values = fields.iter();
        let values = values.map(|(name, value)| (name.clone(), self.value(value, work)));
        Any::from_object(Fields {
            names,
            values: values.collect(),
            work: Arc::clone(work),
        })
    }
}

/// A list that counts the accesses to its items. It is empty when all work is used up.
struct List {
    items: Vec<Any>,
    work: Arc<Work>,
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.fmt(f)
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Any) -> Option<Any> {
        let item = self.items.get(key.as_usize()?)?;
        self.work.take(ITEM).then(|| item.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.work.take(ITEM) {
            true => Enumerator::Seq(self.items.len()),
            false => Enumerator::Empty,
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }
}

/// An object that counts the accesses to its fields. It is empty when all work is used up.
struct Fields {
    /// In the order of the request.
    names: Vec<Any>,
    values: BTreeMap<String, Any>,
    work: Arc<Work>,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.fmt(f)
    }
}

impl Object for Fields {
    fn get_value(self: &Arc<Self>, key: &Any) -> Option<Any> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Any> {
        let value = self.values.get(key)?;
        self.work.take(ITEM).then(|| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.work.take(ITEM * (self.names.len() as u64 + 1)) {
            true => Enumerator::Values(self.names.clone()),
            false => Enumerator::Empty,
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.names.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider_store::SystemClock;
    use serde_json::json;

    use super::*;

    fn work() -> Work {
        Work::new(Arc::new(SystemClock))
    }

    #[test]
    fn long_texts_leave_fewer_steps() {
        let fuel = |variables: Value, joins| {
            let variables = variables.as_object().unwrap().clone();
            Variables::new(&variables, &Arc::new(work())).fuel(joins)
        };
        assert_eq!(fuel(json!({}), true), FUEL);
        assert_eq!(fuel(json!({"a": "x".repeat(40_000)}), false), 10_000);
        let many = json!({"a": vec!["x".repeat(400); 100]});
        assert_eq!(
            (fuel(many.clone(), false), fuel(many, true)),
            (FUEL, 10_000)
        );
    }

    #[test]
    fn work_ends() {
        let work = work();
        assert!(work.is_used_up() && !work.take(1));
        work.refill(Moment(Duration::MAX));
        assert!(work.take(WORK - 1) && !work.is_used_up());
        assert!(work.made("x").is_err() && work.is_used_up() && !work.take(0));
    }

    #[test]
    fn no_work_is_left_when_the_time_is_over() {
        let work = work();
        work.refill(Moment(Duration::MAX));
        assert!(work.check_time().is_ok() && work.take(1) && !work.is_late());
        work.refill(Moment::default());
        assert!(!work.take(1) && work.is_late() && work.is_used_up());
        assert!(work.check_time().is_err());
    }
}
