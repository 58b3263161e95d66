//! The last lines of the log, which the running server keeps in memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use postrider_store::Time;
use serde::{Deserialize, Serialize};

use super::{Operation, Sink};
use crate::{AdminError, Context};

/// The most lines that are kept.
const LINES_MAX: usize = 10_000;
/// The most bytes of all texts that are kept.
const BYTES_MAX: usize = 4 << 20;
/// The most bytes of a text of a line. The rest is cut off.
const TEXT_MAX: usize = 8 << 10;
/// How many lines are handed over at once.
const PORTION: usize = 500;

/// How severe a line is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Somebody has to do something.
    Error,
    /// Somebody should look at it.
    Warn,
    /// What the server does.
    Info,
    /// Details for those who look for a fault.
    Debug,
    /// Every step.
    Trace,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub time: Time,
    /// How severe it is.
    pub level: Level,
    /// What happened, in words.
    pub event: String,
    /// The name of the part that wrote it, for example `postrider.queue.deliver`.
    pub event_id: String,
    /// The facts, as `key = value, ...`.
    pub details: String,
}

impl LogLine {
    fn bytes(&self) -> usize {
        self.event.len() + self.event_id.len() + self.details.len()
    }
}

/// The last lines of the log. Clones are the same log. The number of lines and of bytes is bounded:
/// new lines push out the oldest.
#[derive(Clone, Debug, Default)]
pub struct Logs(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    /// The oldest first.
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    /// The number of lines that there have been. The last line has this number.
    count: u64,
}

impl Logs {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line. Long texts are cut off.
    pub fn add(&self, mut line: LogLine) {
        for text in [&mut line.event, &mut line.details] {
            text.truncate(text.floor_char_boundary(TEXT_MAX));
        }
        let bytes = line.bytes();
        let line = Arc::new(line);
        let mut ring = self.ring();
        ring.count += 1;
        ring.bytes += bytes;
        ring.lines.push_back(line);
        while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
            let oldest = ring.lines.pop_front();
            ring.bytes -= oldest.map_or(0, |line| line.bytes());
        }
    }

    /// The lines with their numbers, the newest first.
    #[must_use]
    pub fn lines(&self) -> Vec<(u64, Arc<LogLine>)> {
        let ring = self.ring();
        let numbers = (0..=ring.count).rev();
        numbers.zip(ring.lines.iter().rev().cloned()).collect()
    }
}

/// A line of the log, as a listing gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogItem {
    /// The number of the line since the start of the server.
    pub id: u64,
    /// When it was written, as RFC 3339.
    pub timestamp: String,
    /// How severe it is.
    pub level: Level,
    /// What happened, in words.
    pub event: String,
    /// The name of the part that wrote it, for example `postrider.queue.deliver`.
    pub event_id: String,
    /// The facts, as `key = value, ...`.
    pub details: String,
}

/// Lists the last lines of the log, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    /// Lines that have this text somewhere, in lower or upper case.
    pub filter: Option<String>,
}

impl List {
    fn matches(wanted: Option<&str>, line: &LogLine) -> bool {
        let has = |text: &str| wanted.is_none_or(|wanted| text.to_lowercase().contains(wanted));
        has(&line.event) || has(&line.details) || has(&line.event_id) || has(line.level.name())
    }
}

impl Operation for List {
    type Item = LogItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<LogItem>,
    ) -> Result<(), AdminError> {
        let wanted = self.filter.map(|text| text.to_lowercase());
        let lines = context.logs.lines();
        for portion in lines.chunks(PORTION) {
            let found = portion.iter();
            let found = found.filter(|(_, line)| Self::matches(wanted.as_deref(), line));
            let found = found.map(|(id, line)| LogItem {
                id: *id,
                timestamp: line.time.to_string(),
                level: line.level,
                event: line.event.clone(),
                event_id: line.event_id.clone(),
                details: line.details.clone(),
            });
            items.send(found.collect()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &str, details: String) -> LogLine {
        LogLine {
            time: Time(0),
            level: Level::Info,
            event: event.to_owned(),
            event_id: "postrider.queue".to_owned(),
            details,
        }
    }

    fn events(logs: &Logs) -> Vec<(u64, String)> {
        let lines = logs.lines().into_iter();
        lines.map(|(id, line)| (id, line.event.clone())).collect()
    }

    #[test]
    fn the_newest_lines_are_kept() {
        let logs = Logs::default();
        assert_eq!(events(&logs), []);
        for number in 1..=LINES_MAX + 2 {
            logs.add(line(&number.to_string(), String::new()));
        }
        let kept = events(&logs);
        assert_eq!(kept.len(), LINES_MAX);
        let (first, last) = (kept.first().unwrap(), kept.last().unwrap());
        let newest = LINES_MAX as u64 + 2;
        assert_eq!(first, &(newest, newest.to_string()));
        assert_eq!(last, &(3, "3".to_owned()));
    }

    #[test]
    fn long_lines_take_no_more_memory() {
        let logs = Logs::default();
        for _ in 0..2 * BYTES_MAX / TEXT_MAX {
            // Cut between two letters of two bytes each.
            logs.add(line("x", format!("x{}", "\u{e9}".repeat(TEXT_MAX))));
        }
        let ring = logs.ring();
        assert!(ring.bytes <= BYTES_MAX, "{}", ring.bytes);
        let bytes: usize = ring.lines.iter().map(|line| line.bytes()).sum();
        assert_eq!(ring.bytes, bytes);
        let last = ring.lines.back().unwrap();
        assert_eq!(last.details.len(), TEXT_MAX - 1);
    }

    #[test]
    fn a_text_is_found_anywhere_and_in_any_case() {
        let line = line("message queued", "to = Ann@a.test".to_owned());
        let found = |wanted: &str| List::matches(Some(wanted), &line);
        assert!(found("queued") && found("ann@a.test") && found("postrider.q") && found("info"));
        assert!(!found("bob") && List::matches(None, &line));
    }
}
