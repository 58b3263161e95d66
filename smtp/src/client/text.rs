//! The text of a message on its way out by DATA (RFC 5321 §4.5.2).

use bytes::{BufMut, BytesMut};

/// Makes a text ready for DATA: doubles the dot at the beginning of a line.
///
/// Only CRLF ends a line on the wire. A bare CR or LF becomes CRLF. Otherwise a server that takes
/// it for a line end could see the end of the message in it (SMTP smuggling). A text that postrider
/// accepted has neither.
#[derive(Debug)]
pub(crate) struct Stuffer {
    line_start: bool,
    /// The last piece ended with a CR, which is not written yet.
    cr: bool,
}

impl Stuffer {
    pub(crate) const fn new() -> Self {
        Self {
            line_start: true,
            cr: false,
        }
    }

    /// Appends the next piece of the text.
    pub(crate) fn push(&mut self, mut rest: &[u8], out: &mut BytesMut) {
        if rest.is_empty() {
            return;
        }
        out.reserve(rest.len().saturating_add(rest.len() / 64).saturating_add(8));
        if std::mem::take(&mut self.cr) {
            self.end_line(out);
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        // The first `clean` bytes of `rest` need no change. For speed they are written at once.
        let mut clean = 0;
        loop {
            let (head, tail) = rest.split_at(clean);
            if self.line_start && tail.first() == Some(&b'.') {
                out.put_slice(head);
                out.put_u8(b'.');
                (rest, clean) = (tail, 0);
            }
            let tail = rest.get(clean..).unwrap_or_default();
            let Some(at) = memchr::memchr2(b'\r', b'\n', tail) else {
                self.line_start = self.line_start && tail.is_empty();
                out.put_slice(rest);
                return;
            };
            let end = clean.saturating_add(at);
            match tail.get(at..) {
                Some([b'\r', b'\n', ..]) => {
                    clean = end.saturating_add(2);
                    self.line_start = true;
                }
                Some([b'\r']) => {
                    out.put_slice(rest.get(..end).unwrap_or_default());
                    self.cr = true;
                    self.line_start = false;
                    return;
                }
                _ => {
                    out.put_slice(rest.get(..end).unwrap_or_default());
                    self.end_line(out);
                    (rest, clean) = (rest.get(end.saturating_add(1)..).unwrap_or_default(), 0);
                }
            }
        }
    }

    /// Appends the end of the last line if it has none, and the line with the dot.
    pub(crate) fn finish(mut self, out: &mut BytesMut) {
        if self.cr || !self.line_start {
            self.end_line(out);
        }
        out.put_slice(b".\r\n");
    }

    fn end_line(&mut self, out: &mut BytesMut) {
        out.put_slice(b"\r\n");
        self.line_start = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuff(body: &[u8], step: usize) -> Vec<u8> {
        let mut out = BytesMut::new();
        let mut stuffer = Stuffer::new();
        body.chunks(step)
            .for_each(|chunk| stuffer.push(chunk, &mut out));
        stuffer.finish(&mut out);
        out.to_vec()
    }

    fn check(body: &str, expected: &str) {
        for step in 1..=body.len().max(1) {
            assert_eq!(
                String::from_utf8(stuff(body.as_bytes(), step)).unwrap(),
                expected,
                "{body:?} by {step}"
            );
        }
    }

    #[test]
    fn dots_and_ends() {
        check("", ".\r\n");
        check("a\r\n", "a\r\n.\r\n");
        check("a", "a\r\n.\r\n");
        check(".", "..\r\n.\r\n");
        check("..\r\n.\r\n", "...\r\n..\r\n.\r\n");
        check("a.\r\n.b\r\nc\r\n\r\n", "a.\r\n..b\r\nc\r\n\r\n.\r\n");
    }

    #[test]
    fn nothing_smuggles_an_end_of_data() {
        check("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n");
        check("a\r.\rb\r", "a\r\n..\r\nb\r\n.\r\n");
        check("a\r\n.\rb", "a\r\n..\r\nb\r\n.\r\n");
        check("a\n\r\nb\r\r\n", "a\r\n\r\nb\r\n\r\n.\r\n");
    }

    proptest! {
        #[test]
        fn unstuffing_gives_the_body(lines in proptest::collection::vec("[.a]{0,5}", 0..20), step in 1usize..50) {
            let body: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let wire = String::from_utf8(stuff(body.as_bytes(), step)).unwrap();
            let (inside, dot) = wire.split_at(wire.len() - 3);
            prop_assert_eq!(dot, ".\r\n");
            let back: String = inside
                .split_inclusive("\r\n")
                .map(|line| line.strip_prefix('.').unwrap_or(line))
                .collect();
            prop_assert_eq!(back, body);
        }

        #[test]
        fn the_end_is_only_at_the_end(body in "[.ab\r\n]{0,40}", step in 1usize..50) {
            let wire = format!("\r\n{}", String::from_utf8(stuff(body.as_bytes(), step)).unwrap());
            prop_assert_eq!(wire.find("\r\n.\r\n"), Some(wire.len() - 5));
            prop_assert!(!wire.replace("\r\n", "").contains(['\r', '\n']));
        }
    }
}
