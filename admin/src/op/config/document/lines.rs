//! The lines of a text that belong to one entry.

use std::collections::BTreeSet;

use postrider_config::toml_edit::{Item, Table, TableLike, Value};

use super::head;

/// The lines of a text, and those of them that an entry has.
pub(super) struct Lines<'a> {
    pub(super) text: &'a str,
    /// The byte offsets at which lines begin.
    pub(super) starts: Vec<usize>,
    /// The lines of the entry, by number from 0.
    pub(super) own: BTreeSet<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let starts = std::iter::once(0)
            .chain(ends)
            .filter(|at| *at < text.len())
            .collect();
        let own = BTreeSet::new();
        Self { text, starts, own }
    }

    fn number(&self, at: usize) -> usize {
        self.starts
            .partition_point(|start| *start <= at)
            .saturating_sub(1)
    }

    fn line(&self, number: usize) -> Option<&'a str> {
        let start = *self.starts.get(number)?;
        let end = self.starts.get(number + 1).copied();
        self.text.get(start..end.unwrap_or(self.text.len()))
    }

    pub(super) fn is_comment(&self, number: usize) -> bool {
        self.line(number)
            .is_some_and(|line| line.trim_start().starts_with('#'))
    }

    fn is_blank(&self, number: usize) -> bool {
        self.line(number).is_none_or(|line| line.trim().is_empty())
    }

    /// Adds the lines of a range of bytes, and the comments right above.
    fn add(&mut self, range: std::ops::Range<usize>) {
        let first = self.number(range.start);
        let last = self.number(range.end.saturating_sub(1).max(range.start));
        self.own.extend(first..=last);
        let above = (0..first).rev();
        let comments: Vec<usize> = above.take_while(|line| self.is_comment(*line)).collect();
        self.own.extend(comments);
    }

    /// Adds the lines of an item with this key.
    pub(super) fn add_item(&mut self, key: Option<std::ops::Range<usize>>, item: &Item) {
        match item {
            Item::None => {}
            Item::Value(Value::InlineTable(table)) if table.is_dotted() => {
                self.add_entries(table);
            }
            Item::Value(value) => {
                if let Some((key, value)) = key.zip(value.span()) {
                    self.add(key.start..value.end);
                }
            }
            Item::Table(table) => self.add_table(table),
            Item::ArrayOfTables(tables) => {
                tables.iter().for_each(|table| self.add_table(table));
            }
        }
    }

    fn add_entries(&mut self, table: &dyn TableLike) {
        for (name, item) in table.iter() {
            let key = table.key(name).and_then(|key| key.span());
            self.add_item(key, item);
        }
    }

    pub(super) fn add_table(&mut self, table: &Table) {
        let header = table.span().filter(|_| !table.is_dotted());
        let Some(header) = header else {
            return self.add_entries(table);
        };
        let start = header.start;
        let values = table.get_values();
        let ends = values.iter().filter_map(|(_, value)| value.span());
        let end = ends.map(|span| span.end).max().unwrap_or(0);
        let first_line_end = start + head(self.text.get(start..).unwrap_or("")).len();
        self.add(start..end.max(first_line_end));
        // Comments right below belong to the table, such as keys that are switched off.
        let below = self.number(end.max(first_line_end)) + 1;
        let comments: Vec<usize> = (below..self.starts.len())
            .take_while(|line| self.is_comment(*line))
            .collect();
        let next = comments.last().map_or(below, |last| last + 1);
        // Comments right above a header belong to that header.
        if self.is_blank(next) {
            self.own.extend(comments);
        }
        for (name, item) in table.iter() {
            if !item.is_value() {
                let key = table.key(name).and_then(|key| key.span());
                self.add_item(key, item);
            }
        }
    }

    /// The text without the lines of the entry. Where a paragraph is gone, one blank line stays.
    pub(super) fn without(&self) -> String {
        let mut text = String::with_capacity(self.text.len());
        let mut was_removed = false;
        let mut is_blank_before = true;
        for number in 0..self.starts.len() {
            if self.own.contains(&number) {
                was_removed = true;
                continue;
            }
            let is_blank = self.is_blank(number);
            if !(was_removed && is_blank && is_blank_before) {
                text.push_str(self.line(number).unwrap_or(""));
                is_blank_before = is_blank;
            }
            was_removed &= is_blank;
        }
        if was_removed && is_blank_before {
            let length = text.trim_end().len();
            text.truncate(length);
            if length > 0 {
                text.push('\n');
            }
        }
        text
    }
}
