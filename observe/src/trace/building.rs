//! A trace while it goes on.
//!
//! Events are written as bytes: the first ones to `head`, and when that is full, to `tail`. A full
//! tail loses its oldest event for each new one, so that a long trace keeps its beginning and its
//! end.
//!
//! All traces that go on share one budget of memory. When it is used up, each of them may have a
//! little still. Beyond that, buffers do not grow, and no terms are added.
//!
//! An event: length (u16, of all that follows), type (u16), microseconds since 1970 (i64), then
//! values. A value: key (u8), tag (u8), and as the tag says. All numbers are little-endian.

mod told;

use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use self::told::Told;
use super::{
    EVENT_MAX, EVENTS_MAX, EventType, Key, Kind, Record, TRACE_MAX, Term,
    term::{Found, address_domain},
    tracer::{SMALL, Shared},
};
use crate::millis;

/// The tags of values.
pub(super) const TEXT: u8 = 0;
pub(super) const NUMBER: u8 = 1;
pub(super) const FALSE: u8 = 2;
pub(super) const TRUE: u8 = 3;
pub(super) const TIME: u8 = 4;
pub(super) const LIST: u8 = 5;
/// The largest number of a value: JSON numbers are exact below this.
const NUMBER_MAX: u64 = (1 << 53) - 1;
/// How much of a trace its head may have, and its tail. Between them is the event about what was
/// left out.
const HALF: usize = TRACE_MAX / 2 - 64;
const HALF_EVENTS: usize = EVENTS_MAX / 2 - 1;
/// The buffer that a trace begins with.
const FIRST_BUFFER: usize = 1024;
/// An event is not begun with less room than this.
const LEAST: usize = 128;
/// The most bytes of the buffer of the tail. Its oldest events are in the way until they are moved.
const TAIL_BUFFER: usize = 2 * HALF;
/// The terms that a trace has room for at the beginning.
const FIRST_TERMS: usize = 16;
/// The most terms, queued messages and domains of recipients of a trace. A message with the usual
/// limit of 1000 recipients has room.
const TERMS_MAX: usize = 4096;
const QUEUES_MAX: usize = 2048;
const DOMAINS_MAX: usize = 64;
/// A trace with this share of what it may have is long, or with so many bytes: with one more
/// message of a session it still fits a buffer of 16 KiB.
const LONG: usize = 4;
const LONG_BYTES: usize = 12 << 10;

/// A trace that goes on: a value of the session, the attempt or the call that it is about.
///
/// One that is dropped without [`Tracer::finish`](super::Tracer::finish) is kept: something was cut
/// off there.
#[derive(Debug, Default)]
pub struct Trace {
    /// None: there are no traces, and nothing is kept.
    inner: Option<Box<Building>>,
}

#[derive(Debug)]
struct Building {
    shared: Arc<Shared>,
    record: Record,
    /// Which types the events have: a bit for each number.
    types: [u64; 4],
    /// How many events `record.events` has.
    head_events: usize,
    /// The newest events, when the head is full.
    tail: Vec<u8>,
    /// Where the oldest event of the tail starts.
    tail_start: usize,
    tail_events: usize,
    head_is_full: bool,
    /// The terms and the queued messages have no room, although none of them is there twice.
    terms_are_full: bool,
    queues_are_full: bool,
    left_out: u64,
    /// When the first event was that is left out.
    left_out_at: i64,
    /// The bytes of the names in the record.
    names: usize,
    /// How many bytes of memory the traces that go on count for this one.
    counted: usize,
    told: Told,
}

impl Trace {
    /// A trace that keeps nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self { inner: None }
    }

    pub(super) fn new(shared: &Arc<Shared>, kind: Kind, span: u64, micros: i64) -> Self {
        let mut record = Record::new(kind, span, micros);
        record.terms.reserve_exact(FIRST_TERMS);
        record.terms.push(Term::Span(span).hash());
        let mut inner = Box::new(Building {
            shared: Arc::clone(shared),
            record,
            types: [0; 4],
            head_events: 0,
            tail: Vec::new(),
            tail_start: 0,
            tail_events: 0,
            head_is_full: false,
            terms_are_full: false,
            queues_are_full: false,
            left_out: 0,
            left_out_at: 0,
            names: 0,
            counted: 0,
            told: Told::default(),
        });
        inner.count_memory();
        Self { inner: Some(inner) }
    }

    /// The number of the trace: the span. 0 if nothing is kept.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.record.span)
    }

    /// Whether something is kept. A caller may leave out work for events otherwise.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Whether the trace has about a quarter of the events, bytes, terms or queued messages that a
    /// trace may have. What comes then by itself, such as another message of the same session, is
    /// better told by another trace: here the middle would be left out in the end.
    #[must_use]
    pub fn is_long(&self) -> bool {
        let is_long = |inner: &Building| {
            inner.head_is_full
                || inner.head_events >= EVENTS_MAX / LONG
                || inner.record.events.len() >= LONG_BYTES
                || inner.record.terms.len() >= TERMS_MAX / LONG
                || inner.record.queues.len() >= QUEUES_MAX / LONG
        };
        self.inner.as_deref().is_some_and(is_long)
    }

    /// Adds an event that happened at `micros`, in microseconds since 1970. `fill` adds its values;
    /// it is not called if nothing is kept. Values are cut so that the event has at most
    /// [`EVENT_MAX`] bytes.
    pub fn event(&mut self, micros: i64, event: EventType, fill: impl FnOnce(&mut Data<'_>)) {
        if let Some(inner) = &mut self.inner {
            inner.event(micros, event, fill);
        }
    }

    /// Makes the trace known under a term. Accounts of attempts, webhooks and API calls are also
    /// those that it [belongs to](Self::belongs_to).
    pub fn index(&mut self, term: Term<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.index(term);
        }
    }

    /// Says whose trace it is: the account of the login of a session, of the message of an attempt,
    /// of an event or of a call. Tenants see the traces of their accounts.
    pub fn belongs_to(&mut self, account: &str) {
        if let Some(inner) = &mut self.inner {
            inner.add_term(Term::Account(account).hash());
            inner.belongs_to(account);
        }
    }

    /// The record of the trace, and those that take it. None: it is not kept.
    pub(super) fn end(mut self) -> Option<(Arc<Shared>, Record)> {
        self.inner.take().and_then(|inner| inner.end())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some((shared, record)) = self.inner.take().and_then(|inner| inner.end())
            && !record.events.is_empty()
        {
            shared.hand_over(record, super::Keep::Always);
        }
    }
}

impl Building {
    fn event(&mut self, micros: i64, event: EventType, fill: impl FnOnce(&mut Data<'_>)) {
        let length = self.add(micros, event, fill);
        self.told(length);
    }

    /// Adds an event. Gives the number of its bytes, which are the last ones; 0: it was left out.
    fn add(&mut self, micros: i64, event: EventType, fill: impl FnOnce(&mut Data<'_>)) -> usize {
        self.note(micros, event);
        let Some((to_head, most)) = self.place() else {
            self.count_left_out(micros);
            return 0;
        };
        let buffer = match to_head {
            true => &mut self.record.events,
            false => &mut self.tail,
        };
        let before = buffer.len();
        write_event(buffer, most, micros, event, fill);
        let length = buffer.len() - before;
        match to_head {
            true => self.head_events += 1,
            false => self.tail_events += 1,
        }
        self.count_memory();
        length
    }

    /// Adds the events behind those of the head.
    fn end_of_events(&self, events: &mut Vec<u8>) {
        if self.left_out > 0 {
            let (at, total) = (self.left_out_at, self.left_out);
            write_event(events, EVENT_MAX, at, EventType::PostriderLeftOut, |data| {
                data.number(Key::Total, total);
            });
        }
        let tail = self.tail.get(self.tail_start..).unwrap_or_default();
        events.extend_from_slice(tail);
    }

    fn note(&mut self, micros: i64, event: EventType) {
        self.record.ended = self.record.ended.max(micros);
        let number = event.number();
        if let Some(types) = self.types.get_mut(usize::from(number / 64)) {
            *types |= 1 << (number % 64);
        }
    }

    /// Where the next event goes: whether to the head, and how many bytes it may have. None: there
    /// is no memory.
    fn place(&mut self) -> Option<(bool, usize)> {
        if !self.head_is_full {
            let head = &mut self.record.events;
            if head.len() + EVENT_MAX <= HALF && self.head_events < HALF_EVENTS {
                let room = room(head, &self.shared, self.counted);
                if room >= LEAST {
                    return Some((true, room));
                }
            }
            self.head_is_full = true;
        }
        while self.tail_events > 0
            && (self.tail_length() + EVENT_MAX > HALF || self.tail_events >= HALF_EVENTS)
        {
            self.leave_out();
        }
        if self.tail.len() + EVENT_MAX > TAIL_BUFFER {
            self.close_gap();
        }
        let mut most = room(&mut self.tail, &self.shared, self.counted);
        if most < LEAST {
            while self.tail_events > 0 && self.tail_length() > self.tail.capacity() / 2 {
                self.leave_out();
            }
            self.close_gap();
            most = room(&mut self.tail, &self.shared, self.counted);
        }
        (most >= LEAST).then_some((false, most))
    }

    const fn tail_length(&self) -> usize {
        self.tail.len() - self.tail_start
    }

    /// Takes the oldest event out of the tail.
    fn leave_out(&mut self) {
        let oldest = self.tail.get(self.tail_start..).unwrap_or_default();
        let Some((length, rest)) = oldest.split_first_chunk::<2>() else {
            return;
        };
        let length = 2 + usize::from(u16::from_le_bytes(*length));
        let time = rest.get(2..).and_then(|rest| rest.first_chunk::<8>());
        self.count_left_out(time.map_or(0, |time| i64::from_le_bytes(*time)));
        self.tail_start += length;
        self.tail_events -= 1;
    }

    /// Counts an event at `micros` that is left out.
    const fn count_left_out(&mut self, micros: i64) {
        if self.left_out == 0 {
            self.left_out_at = micros;
        }
        self.left_out += 1;
    }

    /// Moves the tail to the beginning of its buffer.
    fn close_gap(&mut self) {
        self.tail.drain(..self.tail_start);
        self.tail_start = 0;
    }

    /// What it takes: itself, and all that it has.
    fn memory(&self) -> usize {
        let numbers = self.record.terms.capacity() + self.record.queues.capacity();
        size_of::<Self>()
            + self.record.events.capacity()
            + self.tail.capacity()
            + numbers * size_of::<u64>()
            + self.names
    }

    fn count_memory(&mut self) {
        let now = self.memory();
        if now != self.counted {
            self.shared.count_memory(self.counted, now);
            self.counted = now;
        }
    }

    /// Whether it may take so many bytes more.
    fn may_take(&self, more: usize) -> bool {
        self.counted + more <= SMALL || self.shared.has_memory()
    }

    fn index(&mut self, term: Term<'_>) {
        match term.found() {
            Found::Session(name) => self.session(name),
            Found::Queue(id) => self.queue(id),
            Found::Recipient(address) => self.recipient(address),
            Found::Account(account) => {
                if self.record.kind != Kind::Session {
                    self.belongs_to(account);
                }
            }
            Found::Other => {}
        }
        self.add_term(term.hash());
    }

    fn session(&mut self, name: &str) {
        let base = session_of(name);
        // All transactions of a session have the same.
        if self.record.session.is_empty() || session_of(&self.record.session) != base {
            self.add_term(Term::Session(base).hash());
        }
        if self.record.session.is_empty() {
            self.record.session = short(name);
            self.names += self.record.session.capacity();
            self.count_memory();
        }
    }

    fn queue(&mut self, id: u64) {
        let queues = &mut self.record.queues;
        if is_full(queues, QUEUES_MAX, &mut self.queues_are_full)
            || !may_push(queues, queues.capacity(), &self.shared, self.counted)
        {
            return;
        }
        queues.push(id);
        self.count_memory();
    }

    fn recipient(&mut self, address: &str) {
        let domain = address_domain(address);
        let domains = &mut self.record.domains;
        let is_known = domains.iter().any(|it| it.eq_ignore_ascii_case(domain));
        if is_known || self.record.has_more_domains {
            return;
        }
        let more = domain.len() + size_of::<String>();
        if domains.len() < DOMAINS_MAX && self.may_take(more) {
            self.record.domains.push(short(domain).to_ascii_lowercase());
            self.names += more;
            self.count_memory();
        } else {
            self.record.has_more_domains = true;
        }
    }

    /// Owners are noted without a look at the memory: they say who may see the trace. A trace has
    /// hardly ever more than one.
    fn belongs_to(&mut self, account: &str) {
        let owners = &mut self.record.owners;
        if owners.len() < DOMAINS_MAX && !owners.iter().any(|owner| owner == account) {
            owners.push(short(account));
            self.names += account.len() + size_of::<String>();
            self.count_memory();
        }
    }

    fn add_term(&mut self, hash: u64) {
        let terms = &mut self.record.terms;
        if is_full(terms, TERMS_MAX, &mut self.terms_are_full)
            || !may_push(terms, terms.capacity(), &self.shared, self.counted)
        {
            return;
        }
        terms.push(hash);
        self.count_memory();
    }

    /// None: the trace is not kept.
    fn end(mut self: Box<Self>) -> Option<(Arc<Shared>, Record)> {
        self.tell_end();
        if self.told.is_preview {
            self.shared.count_memory(self.counted, 0);
            return None;
        }
        let mut events = std::mem::take(&mut self.record.events);
        self.end_of_events(&mut events);
        self.record.events = events;
        let has = |number: u16| {
            let types = self.types.get(usize::from(number / 64));
            types.is_some_and(|types| types & (1 << (number % 64)) != 0)
        };
        let types = EventType::ALL.iter().filter(|it| has(it.number()));
        let types = types.map(|event| Term::Type(*event).hash());
        self.record.terms.extend(types);
        self.record.terms.sort_unstable();
        self.record.terms.dedup();
        self.record.queues.sort_unstable();
        self.record.queues.dedup();
        self.shared.count_memory(self.counted, 0);
        Some((Arc::clone(&self.shared), self.record))
    }
}

/// How many bytes an event may have at the end of this buffer. Without memory that is what the
/// buffer has, and a little if the trace is small.
fn room(buffer: &mut Vec<u8>, shared: &Shared, counted: usize) -> usize {
    let left = buffer.capacity() - buffer.len();
    if left >= EVENT_MAX {
        return EVENT_MAX;
    }
    if shared.has_memory() {
        if buffer.capacity() == 0 {
            buffer.reserve_exact(FIRST_BUFFER);
        }
        return EVENT_MAX;
    }
    if left < LEAST && counted + FIRST_BUFFER <= SMALL {
        buffer.reserve_exact(FIRST_BUFFER);
    }
    (buffer.capacity() - buffer.len()).min(EVENT_MAX)
}

/// Whether a list with at most `max` numbers has no room. What is there twice gives room; `gave_up`
/// says that nothing is.
fn is_full(numbers: &mut Vec<u64>, max: usize, gave_up: &mut bool) -> bool {
    if numbers.len() < max {
        return false;
    }
    if !*gave_up {
        numbers.sort_unstable();
        numbers.dedup();
        *gave_up = numbers.len() > max - max / 16;
    }
    *gave_up
}

/// Whether there is memory for one more number.
fn may_push(numbers: &[u64], capacity: usize, shared: &Shared, counted: usize) -> bool {
    // A full list doubles its room.
    let more = capacity.max(4) * size_of::<u64>();
    numbers.len() < capacity || counted + more <= SMALL || shared.has_memory()
}

/// The name of the session without the number of a transaction.
fn session_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(name, _)| name)
}

/// The start of a name that is stored as it is.
fn short(name: &str) -> String {
    name.get(..name.floor_char_boundary(255))
        .unwrap_or_default()
        .to_owned()
}

/// Adds an event with at most `most` bytes.
fn write_event(
    bytes: &mut Vec<u8>,
    most: usize,
    micros: i64,
    event: EventType,
    fill: impl FnOnce(&mut Data<'_>),
) {
    let start = bytes.len();
    let [one, other] = event.number().to_le_bytes();
    let [a, b, c, d, e, f, g, h] = micros.to_le_bytes();
    bytes.extend_from_slice(&[0, 0, one, other, a, b, c, d, e, f, g, h]);
    let end = start + most;
    fill(&mut Data { bytes, end });
    set_length(bytes, start);
}

/// Writes how many bytes follow a length.
fn set_length(bytes: &mut [u8], at: usize) {
    let length = bytes.len() - at - 2;
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&length);
    }
}

/// The values of an event that is being added. What has no room is cut, or left out.
pub struct Data<'a> {
    bytes: &'a mut Vec<u8>,
    /// Where the event has to end.
    end: usize,
}

impl Data<'_> {
    /// Adds a text.
    pub fn text(&mut self, key: Key, text: &str) {
        if self.begin(key, TEXT, 2) {
            let room = self.end.saturating_sub(self.bytes.len() + 2);
            let text = cut(text, room).as_bytes();
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(text);
        }
    }

    /// Adds a text that is made on the way.
    pub fn display(&mut self, key: Key, text: impl fmt::Display) {
        if self.begin(key, TEXT, 2) {
            write_text(self.bytes, self.end, text);
        }
    }

    /// Adds a text, unless it is empty.
    pub fn text_if_any(&mut self, key: Key, text: &str) {
        if !text.is_empty() {
            self.text(key, text);
        }
    }

    /// Adds a number. Larger ones than JSON can tell exactly become the largest.
    pub fn number(&mut self, key: Key, number: u64) {
        if self.begin(key, NUMBER, 8) {
            write_number(self.bytes, number);
        }
    }

    /// Adds how long something took, as [`Key::Elapsed`].
    pub fn elapsed(&mut self, took: Duration) {
        self.number(Key::Elapsed, millis(took));
    }

    /// Adds whether something is so.
    pub fn flag(&mut self, key: Key, flag: bool) {
        self.begin(key, if flag { TRUE } else { FALSE }, 0);
    }

    /// Adds a moment, in microseconds since 1970.
    pub fn time(&mut self, key: Key, micros: i64) {
        if self.begin(key, TIME, 8) {
            self.bytes.extend_from_slice(&micros.to_le_bytes());
        }
    }

    /// Adds an array of texts.
    pub fn texts<T: fmt::Display>(&mut self, key: Key, texts: impl IntoIterator<Item = T>) {
        if !self.begin(key, LIST, 2) {
            return;
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        for text in texts {
            // The tag and the length of a text.
            if self.bytes.len() + 3 > self.end {
                break;
            }
            self.bytes.push(TEXT);
            write_text(self.bytes, self.end, text);
        }
        set_length(self.bytes, at);
    }

    /// Begins a value, if it has room for itself and `more` bytes.
    fn begin(&mut self, key: Key, tag: u8, more: usize) -> bool {
        let fits = self.bytes.len() + 2 + more <= self.end;
        if fits {
            self.bytes.extend_from_slice(&[key.number(), tag]);
        }
        fits
    }
}

fn write_number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.min(NUMBER_MAX).to_le_bytes());
}

fn write_text(bytes: &mut Vec<u8>, end: usize, text: impl fmt::Display) {
    let at = bytes.len();
    bytes.extend_from_slice(&[0; 2]);
    // A text that is cut ends the writing with an error, which means nothing else here.
    let _ = write!(Cut { bytes, end }, "{text}");
    set_length(bytes, at);
}

/// As much of a text as has room, up to the end of a character.
fn cut(text: &str, room: usize) -> &str {
    match text.len() <= room {
        true => text,
        false => text
            .get(..text.floor_char_boundary(room))
            .unwrap_or_default(),
    }
}

/// Writes as much as has room, up to the end of a character.
struct Cut<'a> {
    bytes: &'a mut Vec<u8>,
    end: usize,
}

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.end.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(cut(text, room).as_bytes());
        if text.len() <= room {
            return Ok(());
        }
        // Nothing may follow what was cut.
        self.end = self.bytes.len();
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests;
