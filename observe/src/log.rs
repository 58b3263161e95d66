//! The log: one line for each thing that happens, on standard error and in memory.
//!
//! | file | content |
//! |---|---|
//! | `line` | a line as a value, with texts that are safe to show |
//! | `levels` | which lines are written, and how that changes while the process runs |
//! | `modules` | the modules that write lines |
//! | `floods` | equal lines are joined |
//! | `layer` | the layer of `tracing` that makes lines of events |
//! | `output` | what all threads share, and the thread that writes lines out |
//! | `form` | how a line is written out |
//! | `ring` | the newest lines |
//!
//! Absent on purpose: files of our own. The service manager takes what comes on standard error.

mod floods;
mod form;
mod layer;
mod levels;
mod line;
mod modules;
mod name;
mod output;
mod ring;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;

pub use form::Form;
pub use layer::LogLayer;
pub use levels::{
    About, Levels, ORDERS_MAX, Order, Remotes, Threshold, TooManyOrders, is_of_module, threshold,
};
pub use line::{Level, Line, TEXT_MAX, Value, is_hidden, part};
pub use modules::{is_known_module, known_modules};
pub use output::Now;
pub(crate) use output::WRITER;
pub use ring::RING_MAX;

use levels::Orders;
use output::Shared;

use crate::Metrics;

/// The log of a process. Clones are the same log. It holds the newest lines, and says which lines
/// are wanted.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

impl Log {
    /// A log with its configured levels, and a clock. Lines come by its [`layer`](Self::layer).
    #[must_use]
    pub fn new(configured: Levels, now: Now) -> Self {
        Self(Arc::new(Shared::new(Orders::new(configured), now)))
    }

    /// Has all further lines written out: by a thread from [`start_writing`](Self::start_writing)
    /// on, or by [`flush`](Self::flush) if there is no thread yet.
    pub fn write_to(&self, form: Form, out: Box<dyn Write + Send>) {
        self.0.keep_for(form, out);
    }

    /// Starts the thread that writes lines out. The thread has the rights of the caller.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start_writing(&self) -> io::Result<()> {
        self.0.start_writer()
    }

    /// The layer that makes lines of events.
    #[must_use]
    pub fn layer(&self) -> LogLayer {
        LogLayer(Arc::clone(&self.0))
    }

    /// Adds a line, as if an event had made it.
    pub fn add(&self, line: Line) {
        self.0.add(line);
    }

    /// The newest lines with their numbers, the newest first, with numbers below `before`.
    #[must_use]
    pub fn newest(&self, before: Option<u64>) -> Vec<(u64, Arc<Line>)> {
        self.0.newest(before)
    }

    /// The number of the newest line; 0: there was none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.0.last()
    }

    /// How many lines [`newest`](Self::newest) gives.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there has been no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts lines, and those that a slow reader does not get, in these metrics. Lines that were
    /// there before count too.
    pub fn count_in(&self, metrics: Arc<Metrics>) {
        self.0.count_in(metrics);
    }

    /// Counts lines that somebody who [subscribed](Self::subscribe) could not use.
    pub fn count_dropped(&self, count: u64) {
        self.0.count_dropped(count);
    }

    /// The further lines, also for somebody else. Lines that find `room` lines waiting are dropped
    /// and counted. There is one subscription: a second one ends the first.
    #[must_use]
    pub fn subscribe(&self, room: usize) -> mpsc::Receiver<Arc<Line>> {
        self.0.subscribe(room)
    }

    /// The configured levels.
    #[must_use]
    pub fn configured(&self) -> Levels {
        let orders = self.0.orders.lock();
        orders
            .unwrap_or_else(PoisonError::into_inner)
            .configured
            .clone()
    }

    /// The orders that hold, in the order in which they were given.
    #[must_use]
    pub fn orders(&self) -> Vec<Order> {
        self.0.tick();
        let orders = self.0.orders.lock();
        orders
            .unwrap_or_else(PoisonError::into_inner)
            .all()
            .to_vec()
    }

    /// Adds an order. It takes the place of one about the same. All orders end with the process.
    ///
    /// # Errors
    /// If there are [`ORDERS_MAX`] orders.
    pub fn order(&self, order: Order) -> Result<(), TooManyOrders> {
        self.0.tick();
        let add = |orders: &mut Orders| orders.add(order);
        self.0.change(add, |_, added| added.is_ok())
    }

    /// Takes back all orders, so that the configured levels hold. Gives how many there were.
    pub fn reset(&self) -> usize {
        self.0.change(Orders::clear, |_, count| *count > 0)
    }

    /// Writes what is left of floods, and waits until all lines are out, but not longer than
    /// `most`. Call it when the process ends.
    pub fn flush(&self, most: Duration) {
        self.0.flush(most);
    }
}

/// An empty log without a layer, at the level info. Its time stands still at 1970.
impl Default for Log {
    fn default() -> Self {
        Self::new(Levels::new(Some(Level::Info)), Arc::new(|| 0))
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}
