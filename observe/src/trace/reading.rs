//! The events of a record, read from its bytes.

use super::{
    EventType, Key,
    building::{FALSE, LIST, NUMBER, TEXT, TIME, TRUE},
};

/// How deep arrays may be in each other. Nobody writes as deep.
const DEPTH_MAX: usize = 8;

/// An event of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened, in microseconds since 1970.
    pub micros: i64,
    /// What happened.
    pub event: EventType,
    /// Its values, in the order in which they were added.
    pub values: Vec<(Key, Value)>,
}

impl Event {
    /// The first value with a key.
    #[must_use]
    pub fn value(&self, key: Key) -> Option<&Value> {
        let found = self.values.iter().find(|(it, _)| *it == key);
        found.map(|(_, value)| value)
    }

    /// The text of a key. None: there is none, or it is not a text.
    #[must_use]
    pub fn text(&self, key: Key) -> Option<&str> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number of a key. None: there is none, or it is not a number.
    #[must_use]
    pub fn number(&self, key: Key) -> Option<u64> {
        match self.value(key)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// A value of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number below 2^53.
    Number(u64),
    /// Whether something is so.
    Bool(bool),
    /// A moment, in microseconds since 1970.
    Time(i64),
    /// An array.
    List(Vec<Self>),
}

/// The events of a record, oldest first. Those that a newer program wrote, and what is damaged, is
/// left out.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    rest: Reader<'a>,
}

impl<'a> Events<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: Reader(bytes),
        }
    }
}

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let mut bytes = self.rest.counted()?;
            if let Some(event) = bytes.event() {
                return Some(event);
            }
        }
    }
}

/// Reads from the front of some bytes. None: they end too early.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// What follows a length.
    pub(super) fn counted(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(usize::from(length)).map(Self)
    }

    fn text(&mut self) -> Option<String> {
        let bytes = self.counted()?.0;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    pub(super) fn event(&mut self) -> Option<Event> {
        let event = self.u16()?;
        let micros = self.i64()?;
        Some(Event {
            micros,
            event: EventType::from_number(event)?,
            values: self.values(),
        })
    }

    fn values(&mut self) -> Vec<(Key, Value)> {
        let mut values = Vec::new();
        while let Some(key) = self.u8() {
            // The end of a value with an unknown tag is unknown too.
            let Some(value) = self.tagged(0) else {
                break;
            };
            values.extend(Key::from_number(key).map(|key| (key, value)));
        }
        values
    }

    fn tagged(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        Some(match self.u8()? {
            TEXT => Value::Text(self.text()?),
            NUMBER => Value::Number(self.u64()?),
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            TIME => Value::Time(self.i64()?),
            LIST => {
                let mut list = Vec::new();
                let mut bytes = self.counted()?;
                while let Some(value) = bytes.tagged(depth + 1) {
                    list.push(value);
                }
                Value::List(list)
            }
            _ => return None,
        })
    }
}
