//! Standard output. Text and JSON are made safe for terminals, and JSON keeps its values. A message
//! stays as it is, except on a terminal.

use std::io::{self, Write};

use serde::{Serialize, de::DeserializeOwned};

use super::visible;

/// Writes a text to standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(visible::lines(text).as_bytes())
}

/// A number of things: `1 message`, `2 messages`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

/// A number of bytes: `17 bytes`, `3.1 GB`.
pub(super) fn bytes(number: u64) -> String {
    let mut unit = 1_000_u64;
    for name in ["kB", "MB", "GB", "TB", "PB"] {
        if number < unit {
            break;
        }
        if name == "PB" || number < unit.saturating_mul(1_000) {
            let tenths = number / (unit / 10);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        unit = unit.saturating_mul(1_000);
    }
    count(number, "byte", "bytes")
}

/// Writes bytes to standard output.
pub(super) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    Ok(until_closed(io::stdout().lock().write_all(bytes))?)
}

/// Writes a value to standard output, as one line of JSON.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut json = Vec::new();
    visible::write_json(&mut json, value)?;
    json.push(b'\n');
    print_bytes(&json)
}

/// Writes a value to standard output, as JSON on several lines.
pub(super) fn print_pretty_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut json = visible::pretty_json(value)?;
    json.push(b'\n');
    print_bytes(&json)
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

/// A message on its way to standard output, piece by piece. On a terminal, hidden characters are
/// shown as escapes. Elsewhere each byte stays as it is.
pub(super) struct MessageOutput<W> {
    out: W,
    terminal: bool,
    /// The beginning of a character whose other bytes are in the next piece.
    cut: Vec<u8>,
}

impl<W: Write> MessageOutput<W> {
    /// Writes to `out`, which may be a terminal.
    pub(super) const fn new(out: W, terminal: bool) -> Self {
        Self {
            out,
            terminal,
            cut: Vec::new(),
        }
    }

    /// Writes a piece.
    pub(super) fn add(&mut self, piece: &[u8]) -> io::Result<()> {
        if !self.terminal {
            return self.out.write_all(piece);
        }
        self.cut.extend_from_slice(piece);
        let whole = match std::str::from_utf8(&self.cut) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.cut.len(),
        };
        let rest = self.cut.split_off(whole);
        let bytes = std::mem::replace(&mut self.cut, rest);
        self.show(&bytes)
    }

    /// Writes the rest.
    pub(super) fn end(mut self) -> io::Result<()> {
        let cut = std::mem::take(&mut self.cut);
        self.show(&cut)?;
        self.out.flush()
    }

    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(bytes);
        self.out.write_all(visible::message(&text).as_bytes())
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
    pub(super) fn add<T: Serialize + DeserializeOwned>(&mut self, item: &T) -> io::Result<()>
    where
        R: Fn(&mut dyn Write, u64, &T) -> io::Result<()>,
    {
        match &self.row {
            Some(row) => row(&mut self.out, self.count, &visible::value(item)?)?,
            None => {
                let before: &[u8] = if self.count == 0 { b"[\n" } else { b",\n" };
                self.out.write_all(before)?;
                visible::write_json(&mut self.out, item)?;
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
    fn hidden_characters_are_shown_in_rows_and_escaped_in_json() {
        let written = |json| {
            let mut out = Vec::new();
            let row = |out: &mut dyn Write, _: u64, item: &String| writeln!(out, "{item}");
            let mut list = List::new(&mut out, json, row);
            list.add(&"a\u{1b}\n\u{202e}b".to_owned()).unwrap();
            list.end("none").unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(false), "a\\u{1b}\\n\\u{202e}b\n");
        assert_eq!(written(true), "[\n\"a\\u001b\\n\\u202eb\"\n]\n");
    }

    #[test]
    fn a_message_is_made_safe_on_a_terminal_only() {
        let text = "a\u{1b}\u{20ac}\r\n".as_bytes();
        let written = |terminal| {
            let mut out = Vec::new();
            let mut message = MessageOutput::new(&mut out, terminal);
            // The pieces cut a character into three.
            for byte in text {
                message.add(&[*byte]).unwrap();
            }
            message.end().unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(false).as_bytes(), text);
        assert_eq!(written(true), "a\\u{1b}\u{20ac}\r\n");
    }

    #[test]
    fn one_is_singular() {
        let messages = |number| count(number, "message", "messages");
        assert_eq!(messages(0), "0 messages");
        assert_eq!(messages(1), "1 message");
        assert_eq!(messages(2), "2 messages");
    }

    #[test]
    fn a_list_has_rows_or_is_a_json_array() {
        assert_eq!(written(false, &[7, 8]), "0: 7\n1: 8\n");
        assert_eq!(written(false, &[]), "none\n");
        assert_eq!(written(true, &[7, 8]), "[\n7,\n8\n]\n");
        assert_eq!(written(true, &[]), "[\n]\n");
    }

    #[test]
    fn bytes_have_a_unit() {
        for (number, shown) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (1_960, "1.9 kB"),
            (3_149_000_000, "3.1 GB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(bytes(number), shown);
        }
    }
}
