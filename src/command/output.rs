//! Standard output.

use std::io::{self, Write};

use serde::Serialize;

/// Writes a text to standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to standard output.
pub(super) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    Ok(until_closed(io::stdout().lock().write_all(bytes))?)
}

/// Writes a value to standard output, as one line of JSON.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string(value)?))
}

/// A reader such as `head` may close the pipe when it has enough. That is no failure.
pub(super) fn until_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// An address, or `<>` for the null reverse-path.
pub(super) const fn or_null(address: &str) -> &str {
    if address.is_empty() { "<>" } else { address }
}

/// A code with a blank before it; nothing for 0, which stands for no answer.
pub(super) fn code(code: u16) -> String {
    match code {
        0 => String::new(),
        code => format!(" {code}"),
    }
}

/// A list on its way to standard output: as rows, or as a JSON array.
pub(super) struct List<W, R> {
    out: W,
    /// None: JSON.
    row: Option<R>,
    count: u64,
}

impl<W: Write, R> List<W, R> {
    /// A list with JSON, or with rows that `row` writes.
    pub(super) fn new(out: W, json: bool, row: R) -> Self {
        let row = (!json).then_some(row);
        Self { out, row, count: 0 }
    }

    /// Writes an item. Rows get their number, from 0.
    pub(super) fn add<T: Serialize>(&mut self, item: &T) -> io::Result<()>
    where
        R: Fn(&mut dyn Write, u64, &T) -> io::Result<()>,
    {
        match &self.row {
            Some(row) => row(&mut self.out, self.count, item)?,
            None => {
                let before: &[u8] = if self.count == 0 { b"[\n" } else { b",\n" };
                self.out.write_all(before)?;
                serde_json::to_writer(&mut self.out, item)?;
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Ends the list. If it is empty and has rows, writes `none` instead.
    pub(super) fn end(mut self, none: &str) -> io::Result<()> {
        match (&self.row, self.count) {
            (None, 0) => self.out.write_all(b"[\n]\n")?,
            (None, _) => self.out.write_all(b"\n]\n")?,
            (Some(_), 0) => writeln!(self.out, "{none}")?,
            (Some(_), _) => {}
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: bool, items: &[u32]) -> String {
        let mut out = Vec::new();
        let row = |out: &mut dyn Write, number: u64, item: &u32| writeln!(out, "{number}: {item}");
        let mut list = List::new(&mut out, json, row);
        for item in items {
            list.add(item).unwrap();
        }
        list.end("none").unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_list_has_rows_or_is_a_json_array() {
        assert_eq!(written(false, &[7, 8]), "0: 7\n1: 8\n");
        assert_eq!(written(false, &[]), "none\n");
        assert_eq!(written(true, &[7, 8]), "[\n7,\n8\n]\n");
        assert_eq!(written(true, &[]), "[\n]\n");
    }
}
