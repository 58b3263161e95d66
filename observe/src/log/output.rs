//! What all threads of the process share of the log, and the thread that writes lines out.
//!
//! A thread that has a line joins floods, puts the line in the ring, and leaves it for the writer.
//! All that is under one lock, and none of it waits. When the reader of the output is slower than
//! the lines come, and [`PENDING_MAX`] bytes wait, further lines are counted instead of written.
//! The ring has them all the same.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, TryLockError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    floods::{Fate, FloodKey, Floods},
    form::Form,
    levels::{Effect, Orders},
    line::{Level, Line, Value},
    ring::Ring,
};
use crate::metrics::{LogLevel, Metrics};

/// The most bytes of lines that wait to be written.
pub(super) const PENDING_MAX: usize = 16 << 20;
/// The name of the thread that writes lines out.
pub(crate) const WRITER: &str = "log";
/// How often the writer looks whether a minute or an order is over.
const TICK: Duration = Duration::from_secs(1);
/// How often a thread that panics tries to get the lock, and how long it waits between.
const TRIES: u32 = 100;
const TRIED: Duration = Duration::from_millis(1);

/// Gives the time, in microseconds since 1970.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

pub(super) struct Shared {
    pub(super) now: Now,
    pub(super) orders: Mutex<Orders>,
    pub(super) effect: RwLock<Arc<Effect>>,
    state: Mutex<State>,
    /// There are lines to be written.
    pending: Condvar,
    /// All lines are written.
    written: Condvar,
    /// Orders change while this is set.
    has_orders: AtomicBool,
}

#[derive(Default)]
struct State {
    ring: Ring,
    floods: Floods,
    /// Whether somebody writes out what is pending, now or later.
    has_output: bool,
    /// The output, until a thread has it.
    output: Option<Output>,
    /// The writer has taken lines, and has not written them all.
    is_writing: bool,
    pending: Vec<Arc<Line>>,
    bytes: usize,
    /// How many lines were not left for the writer since it last wrote.
    lost: u64,
    exports: Option<mpsc::Sender<Arc<Line>>>,
    /// Where lines are counted.
    metrics: Arc<Metrics>,
}

impl Shared {
    pub(super) fn new(orders: Orders, now: Now) -> Self {
        Self {
            now,
            effect: RwLock::new(Arc::new(orders.effect())),
            orders: Mutex::new(orders),
            state: Mutex::default(),
            pending: Condvar::new(),
            written: Condvar::new(),
            has_orders: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for a line. A thread that panics may have the lock itself, and would wait for
    /// ever: it waits a moment only. None: it did not get the lock.
    fn state_for_line(&self) -> Option<MutexGuard<'_, State>> {
        if !thread::panicking() {
            return Some(self.state());
        }
        for _ in 0..TRIES {
            match self.state.try_lock() {
                Ok(state) => return Some(state),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => thread::sleep(TRIED),
            }
        }
        None
    }

    /// Takes a line, with what comes before it.
    pub(super) fn add(&self, line: Line) {
        let line = Arc::new(line);
        // This takes longest, so it is done before the lock.
        let key = FloodKey::of(&line);
        let Some(mut state) = self.state_for_line() else {
            write_directly(&line);
            return;
        };
        match state.floods.fate(&line, key) {
            Fate::Joined => return,
            Fate::Written => {}
            Fate::WrittenAfter(before) => self.put(&mut state, before),
        }
        self.put(&mut state, line);
    }

    fn put(&self, state: &mut State, line: Arc<Line>) {
        if let Some(level) = counted(line.level) {
            state.metrics.log_lines_total.with(level).inc();
        }
        if let Some(exports) = &state.exports
            && exports.try_send(Arc::clone(&line)).is_err()
        {
            state.metrics.log_lines_dropped_total.with(()).inc();
        }
        state.ring.add(Arc::clone(&line));
        if !state.has_output {
            return;
        }
        let bytes = line.bytes();
        if state.bytes + bytes > PENDING_MAX {
            state.lost += 1;
            state.metrics.log_lines_dropped_total.with(()).inc();
            return;
        }
        state.bytes += bytes;
        state.pending.push(line);
        if state.pending.len() == 1 {
            self.pending.notify_one();
        }
    }

    pub(super) fn newest(&self, before: Option<u64>) -> Vec<(u64, Arc<Line>)> {
        self.state().ring.newest(before)
    }

    pub(super) fn len(&self) -> usize {
        self.state().ring.len()
    }

    pub(super) fn last(&self) -> u64 {
        self.state().ring.last()
    }

    /// Counts lines in these metrics from now on, with those so far.
    pub(super) fn count_in(&self, metrics: Arc<Metrics>) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.metrics, metrics);
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info] {
            let count = before.log_lines_total.with(level).get();
            state.metrics.log_lines_total.with(level).add(count);
        }
        let dropped = before.log_lines_dropped_total.with(()).get();
        state.metrics.log_lines_dropped_total.with(()).add(dropped);
    }

    pub(super) fn count_dropped(&self, count: u64) {
        let metrics = &self.state().metrics;
        metrics.log_lines_dropped_total.with(()).add(count);
    }

    /// From now on each line goes to the receiver too. It takes the place of an earlier one.
    pub(super) fn subscribe(&self, room: usize) -> mpsc::Receiver<Arc<Line>> {
        let (sender, receiver) = mpsc::channel(room.max(1));
        self.state().exports = Some(sender);
        receiver
    }

    /// Ends the minutes of floods and the orders whose time is over.
    pub(super) fn tick(&self) {
        let now = (self.now)();
        let mut state = self.state();
        for line in state.floods.end(now) {
            self.put(&mut state, line);
        }
        drop(state);
        if self.has_orders.load(Relaxed) {
            self.change(|orders| orders.expire(now), |_, expired| *expired);
        }
    }

    /// Changes orders by a function, and puts the result in force if `has_effect` says so.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Orders) -> T,
        has_effect: impl FnOnce(&Orders, &T) -> bool,
    ) -> T {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut orders);
        let has_effect = has_effect(&orders, &result);
        if has_effect {
            self.has_orders.store(!orders.all().is_empty(), Relaxed);
            let effect = Arc::new(orders.effect());
            *self.effect.write().unwrap_or_else(PoisonError::into_inner) = effect;
        }
        drop(orders);
        // Places in the code keep whether their lines are wanted. They have to ask again.
        if has_effect {
            tracing::callsite::rebuild_interest_cache();
        }
        result
    }

    pub(super) fn effect(&self) -> Arc<Effect> {
        let effect = self.effect.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&effect)
    }

    /// Writes what is left of floods, and waits until all lines are out, but not longer than
    /// `most`.
    pub(super) fn flush(&self, most: Duration) {
        let now = (self.now)();
        let mut state = self.state();
        for line in state.floods.end_all(now) {
            self.put(&mut state, line);
        }
        let is_busy = |state: &mut State| state.is_writing || !state.pending.is_empty();
        if let Some(mut output) = state.output.take() {
            output.write(&std::mem::take(&mut state.pending));
        } else if state.has_output {
            // A reader that takes nothing must not keep the process from ending.
            drop(self.written.wait_timeout_while(state, most, is_busy));
        }
    }

    /// Keeps lines for an output from now on.
    pub(super) fn keep_for(&self, form: Form, out: Box<dyn Write + Send>) {
        let mut state = self.state();
        state.has_output = true;
        state.output = Some(Output {
            form,
            out,
            buffer: Vec::new(),
        });
    }

    /// Starts the thread that writes lines out. It ends with the last owner of the log.
    pub(super) fn start_writer(self: &Arc<Self>) -> io::Result<()> {
        let Some(output) = self.state().output.take() else {
            return Ok(());
        };
        let shared = Arc::downgrade(self);
        let writer = thread::Builder::new().name(WRITER.to_owned());
        writer.spawn(move || write_all(&shared, output)).map(drop)
    }
}

/// The label of a line in the metrics. Lines below info are there only while somebody looks
/// closely.
const fn counted(level: Level) -> Option<LogLevel> {
    match level {
        Level::Error => Some(LogLevel::Error),
        Level::Warn => Some(LogLevel::Warn),
        Level::Info => Some(LogLevel::Info),
        Level::Debug | Level::Trace => None,
    }
}

/// Where lines are written to.
struct Output {
    form: Form,
    out: Box<dyn Write + Send>,
    buffer: Vec<u8>,
}

impl Output {
    /// Writes lines. There is no place left to tell of an output that fails.
    fn write(&mut self, lines: &[Arc<Line>]) {
        self.buffer.clear();
        for line in lines {
            // Writing into memory does not fail.
            let _ = self.form.write(line, &mut self.buffer);
        }
        let _ = self.out.write_all(&self.buffer);
        let _ = self.out.flush();
        self.buffer.shrink_to(1 << 20);
    }
}

/// Writes a line that the log can't take to standard error.
fn write_directly(line: &Line) {
    let mut text = Vec::new();
    // Writing into memory does not fail.
    let _ = Form::default().write(line, &mut text);
    let _ = io::stderr().write_all(&text);
}

fn write_all(shared: &Weak<Shared>, mut output: Output) {
    let mut ticked = None;
    while let Some(shared) = shared.upgrade() {
        // Not at each burst of lines: a tick looks at all floods.
        let now = (shared.now)();
        if is_tick_due(ticked, now) {
            shared.tick();
            ticked = Some(now);
        }
        let (mut lines, lost) = {
            let state = shared.state();
            let is_idle = |state: &mut State| state.pending.is_empty();
            let waited = shared.pending.wait_timeout_while(state, TICK, is_idle);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.is_writing = true;
            state.bytes = 0;
            (
                std::mem::take(&mut state.pending),
                std::mem::take(&mut state.lost),
            )
        };
        if lost > 0 {
            lines.push(Arc::new(lines_lost(lost, (shared.now)())));
        }
        output.write(&lines);
        let mut state = shared.state();
        state.is_writing = false;
        if state.pending.is_empty() {
            shared.written.notify_all();
        }
    }
}

/// Whether floods and orders are to be looked at, when they were last at this moment. The clock may
/// also be set back.
fn is_tick_due(ticked: Option<i64>, now: i64) -> bool {
    ticked.is_none_or(|ticked| u128::from(now.abs_diff(ticked)) >= TICK.as_micros())
}

/// The line that tells of lines that are not in the output.
fn lines_lost(count: u64, now: i64) -> Line {
    Line {
        micros: now,
        level: Level::Warn,
        target: "postrider_observe::log".into(),
        message: "log lines dropped".to_owned(),
        event: None,
        fields: vec![("count", Value::Unsigned(count))],
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::mpsc::channel,
    };

    use super::{super::Levels, *};

    /// Adds a line when it goes, as the hook of panics does while a thread panics.
    struct AddsAtEnd<'a>(&'a Shared);

    impl Drop for AddsAtEnd<'_> {
        fn drop(&mut self) {
            self.0.add(lines_lost(1, 5));
        }
    }

    #[test]
    fn a_panic_under_the_lock_ends() {
        let orders = Orders::new(Levels::new(Some(Level::Info)));
        let shared = Arc::new(Shared::new(orders, Arc::new(|| 5)));
        let (ended, has_ended) = channel();
        thread::spawn(move || {
            let under_the_lock = catch_unwind(AssertUnwindSafe(|| {
                let _state = shared.state();
                let _line = AddsAtEnd(&shared);
                panic!("under the lock");
            }));
            let before = shared.len();
            let beside = catch_unwind(AssertUnwindSafe(|| {
                let _line = AddsAtEnd(&shared);
                panic!("beside it");
            }));
            assert!(under_the_lock.is_err() && beside.is_err());
            ended.send((before, shared.len())).unwrap();
        });
        let lines = has_ended.recv_timeout(Duration::from_secs(30));
        assert_eq!(lines, Ok((0, 1)), "only one could be taken");
    }

    #[test]
    fn floods_are_looked_at_once_a_second() {
        let second = 1_000_000;
        for (ticked, now, is_due) in [
            (None, 0, true),
            (Some(5 * second), 5 * second, false),
            (Some(5 * second), 6 * second - 1, false),
            (Some(5 * second), 6 * second, true),
            // The clock was set back.
            (Some(5 * second), 2 * second, true),
        ] {
            assert_eq!(is_tick_due(ticked, now), is_due, "{ticked:?} {now}");
        }
    }
}
