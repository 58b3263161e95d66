//! The newest lines, in bounded memory.

use std::{collections::VecDeque, sync::Arc};

use super::line::Line;

/// The most bytes of lines that are kept.
pub const RING_MAX: usize = 16 << 20;

/// The newest lines. Each has a number, from 1 at the start of the process.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The oldest first.
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    /// The number of the last line.
    count: u64,
}

impl Ring {
    /// Adds a line. It pushes out the oldest, as far as it needs room.
    pub(super) fn add(&mut self, line: Arc<Line>) {
        self.count += 1;
        self.bytes += cost(&line);
        self.lines.push_back(line);
        while self.bytes > RING_MAX
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= cost(&oldest);
        }
    }

    /// The lines with their numbers, the newest first. Those with a number from `before` on are
    /// left out.
    pub(super) fn newest(&self, before: Option<u64>) -> Vec<(u64, Arc<Line>)> {
        let numbers = (0..=self.count).rev();
        let lines = numbers.zip(self.lines.iter().rev());
        let lines = lines.skip_while(|(number, _)| before.is_some_and(|before| *number >= before));
        lines
            .map(|(number, line)| (number, Arc::clone(line)))
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The number of the last line; 0: there was none.
    pub(super) const fn last(&self) -> u64 {
        self.count
    }
}

fn cost(line: &Line) -> usize {
    line.bytes() + size_of::<Arc<Line>>()
}

#[cfg(test)]
mod tests {
    use super::{
        super::line::{Level, Value},
        *,
    };

    fn line(number: u64, text: &str) -> Arc<Line> {
        Arc::new(Line {
            micros: 0,
            level: Level::Info,
            target: "postrider".into(),
            message: number.to_string(),
            event: None,
            fields: vec![("text", Value::Text(text.into()))],
        })
    }

    fn messages(ring: &Ring, before: Option<u64>) -> Vec<(u64, String)> {
        let lines = ring.newest(before).into_iter();
        lines
            .map(|(number, line)| (number, line.message.clone()))
            .collect()
    }

    #[test]
    fn the_newest_come_first() {
        let mut ring = Ring::default();
        assert_eq!(messages(&ring, None), []);
        for number in 1..=3 {
            ring.add(line(number, ""));
        }
        let named = |numbers: &[u64]| -> Vec<(u64, String)> {
            numbers.iter().map(|it| (*it, it.to_string())).collect()
        };
        assert_eq!(messages(&ring, None), named(&[3, 2, 1]));
        assert_eq!(messages(&ring, Some(3)), named(&[2, 1]));
        assert_eq!(messages(&ring, Some(1)), []);
        assert_eq!(messages(&ring, Some(9)), named(&[3, 2, 1]));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut ring = Ring::default();
        let text = "x".repeat(512);
        for number in 1..=40_000 {
            ring.add(line(number, &text));
        }
        let bytes: usize = ring.lines.iter().map(|it| cost(it)).sum();
        assert_eq!(ring.bytes, bytes);
        assert!(bytes <= RING_MAX && bytes > RING_MAX - 2048, "{bytes}");
        let kept = ring.newest(None);
        assert_eq!(kept.len(), ring.len());
        let (newest, oldest) = (kept.first().unwrap(), kept.last().unwrap());
        assert_eq!((newest.0, &*newest.1.message), (40_000, "40000"));
        assert_eq!(oldest.1.message, oldest.0.to_string());
    }
}
