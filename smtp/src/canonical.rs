//! The canonical forms of header fields and bodies that DKIM and ARC sign (RFC 6376 §3.4).
//!
//! A server on the way may change white space and empty lines. A canonical form has what such
//! changes leave as it is. A body may come in pieces of any size.
//!
//! | module | what it has |
//! |---|---|
//! | `fields` | the header fields, found by name |
//! | `hash` | the hashes of a body |
//! | `tags` | the lines of a signature's field |

mod fields;
mod hash;
mod tags;

use memchr::memchr;

pub use self::{
    fields::{HeaderFields, MAX_FIELDS, MAX_NAMES},
    hash::{BodyForms, BodyHasher, BodyHashes},
    tags::TagLines,
};

/// A canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Nearly the bytes as they are (RFC 6376 §3.4.1 and §3.4.3).
    Simple,
    /// White space counts little (RFC 6376 §3.4.2 and §3.4.4).
    Relaxed,
}

/// Appends a header field in this form. `written` is the field with its continuations and its last
/// CRLF. The result has one CRLF at its end.
pub fn field(form: Form, written: &[u8], out: &mut Vec<u8>) {
    match form {
        Form::Simple => out.extend_from_slice(written),
        Form::Relaxed => relaxed_field(written, out),
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
}

fn relaxed_field(written: &[u8], out: &mut Vec<u8>) {
    let colon = memchr(b':', written).unwrap_or(written.len());
    let (name, value) = written.split_at_checked(colon).unwrap_or((written, &[]));
    out.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let begin = out.len();
    let mut space = false;
    for byte in value.get(1..).unwrap_or_default() {
        match byte {
            b'\r' | b'\n' => {}
            b' ' | b'\t' => space = true,
            other => {
                if std::mem::take(&mut space) && out.len() > begin {
                    out.push(b' ');
                }
                out.push(*other);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Many empty lines pass in a few steps.
const SIXTEEN_LINE_ENDS: &[u8; 32] =
    b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n";

/// A body on its way into a form. Its memory does not depend on the length of the body.
#[derive(Clone, Debug)]
pub struct Body {
    form: Form,
    /// Line ends that pass only if something comes after them.
    line_ends: u64,
    /// White space that passes, as one space, only if its line goes on. Only in the relaxed form.
    space: bool,
    /// A CR, which may be the first half of a line end.
    cr: bool,
    /// Something has passed.
    begun: bool,
}

impl Body {
    /// An empty body.
    #[must_use]
    pub const fn new(form: Form) -> Self {
        Self {
            form,
            line_ends: 0,
            space: false,
            cr: false,
            begun: false,
        }
    }

    /// Takes the next piece, and gives the canonical bytes to `out`.
    pub fn write(&mut self, piece: &[u8], out: &mut impl FnMut(&[u8])) {
        let mut rest = piece;
        while let Some(first) = rest.first() {
            let mut taken = 1;
            match (self.cr, first) {
                (true, b'\n') => {
                    self.cr = false;
                    self.space = false;
                    self.line_ends += 1;
                }
                (true, _) => {
                    // The CR stands alone, so it is no line end.
                    self.pass_held(out);
                    taken = 0;
                }
                (false, b'\r') => self.cr = true,
                (false, b' ' | b'\t') if self.form == Form::Relaxed => self.space = true,
                (false, _) => {
                    self.pass_held(out);
                    taken = match self.form {
                        Form::Simple => memchr(b'\r', rest).unwrap_or(rest.len()),
                        Form::Relaxed => unchanged(rest),
                    };
                    out(rest.get(..taken).unwrap_or_default());
                }
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// Ends the body.
    pub fn finish(mut self, out: &mut impl FnMut(&[u8])) {
        if self.cr {
            self.pass_held(out);
        }
        // A body without a line end gets one. An empty body has a line end in the simple form, and
        // none in the relaxed form.
        if self.begun || self.form == Form::Simple {
            out(b"\r\n");
        }
    }

    fn pass_held(&mut self, out: &mut impl FnMut(&[u8])) {
        while self.line_ends > 0 {
            let count = self.line_ends.min(16);
            self.line_ends -= count;
            let bytes = 2 * usize::try_from(count).unwrap_or(0);
            out(SIXTEEN_LINE_ENDS.get(..bytes).unwrap_or_default());
        }
        if std::mem::take(&mut self.space) {
            out(b" ");
        }
        if std::mem::take(&mut self.cr) {
            out(b"\r");
        }
        self.begun = true;
    }
}

/// How many of the first bytes the relaxed form leaves as they are. The first byte is one of them.
fn unchanged(bytes: &[u8]) -> usize {
    let changes = |at: usize| matches!(bytes.get(at), None | Some(b' ' | b'\t' | b'\r'));
    let mut end = 1;
    while let Some(byte) = bytes.get(end) {
        end += match byte {
            b' ' if !changes(end + 1) => 2,
            b'\r' if bytes.get(end + 1) == Some(&b'\n') && !changes(end + 2) => 3,
            b' ' | b'\t' | b'\r' => return end,
            _ => 1,
        };
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(form: Form, pieces: &[&[u8]]) -> Vec<u8> {
        let (mut body, mut passed) = (Body::new(form), Vec::new());
        for piece in pieces {
            body.write(piece, &mut |bytes| passed.extend_from_slice(bytes));
        }
        body.finish(&mut |bytes| passed.extend_from_slice(bytes));
        passed
    }

    fn check_body(form: Form, text: &str, expected: &str) {
        for cut in 0..=text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            let passed = String::from_utf8(body(form, &[first, second])).unwrap();
            assert_eq!(passed, expected, "{text:?} cut at {cut}");
        }
    }

    /// The example of RFC 6376 §3.4.5 and bodies at the edges.
    #[test]
    fn bodies_have_a_simple_form() {
        for (text, expected) in [
            (" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n"),
            ("", "\r\n"),
            ("\r\n\r\n", "\r\n"),
            ("a", "a\r\n"),
            ("a\r\n \r\n", "a\r\n \r\n"),
            ("\r\n\r\na", "\r\n\r\na\r\n"),
            ("a\rb\r", "a\rb\r\r\n"),
        ] {
            check_body(Form::Simple, text, expected);
        }
    }

    #[test]
    fn bodies_have_a_relaxed_form() {
        for (text, expected) in [
            (" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"),
            ("", ""),
            ("\r\n\r\n", ""),
            (" \t\r\n", ""),
            ("Hi\r\n \r\n\r\n\t\r\n", "Hi\r\n"),
            ("no end ", "no end\r\n"),
            ("a\r\n \t\r\n\r\n\t b\r\nc\r\n", "a\r\n\r\n\r\n b\r\nc\r\n"),
            ("a  b\tc d \r\ne\r\n", "a b c d\r\ne\r\n"),
            ("\rb \r c\r", "\rb \r c\r\r\n"),
        ] {
            check_body(Form::Relaxed, text, expected);
        }
        let many = "\r\n".repeat(1000);
        check_body(
            Form::Relaxed,
            &format!("a{many}b"),
            &format!("a{many}b\r\n"),
        );
    }

    #[test]
    fn fields_have_two_forms() {
        for (written, relaxed) in [
            ("A: X\r\n", "a:X\r\n"),
            ("B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n"),
            ("Subject:\r\n", "subject:\r\n"),
            ("Subject:  a \r\n \r\n b", "subject:a b\r\n"),
            ("X-a:b:c", "x-a:b:c\r\n"),
        ] {
            let mut out = Vec::new();
            field(Form::Relaxed, written.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), relaxed);
            let mut out = Vec::new();
            field(Form::Simple, written.as_bytes(), &mut out);
            let simple = format!("{}\r\n", written.strip_suffix("\r\n").unwrap_or(written));
            assert_eq!(String::from_utf8(out).unwrap(), simple);
        }
    }

    /// The relaxed form line by line, as RFC 6376 §3.4.4 words it.
    fn by_lines(text: &str) -> String {
        let mut lines: Vec<String> = text
            .split("\r\n")
            .map(|line| {
                let mut short = String::new();
                for c in line.chars() {
                    let c = if c == '\t' { ' ' } else { c };
                    if c != ' ' || !short.ends_with(' ') {
                        short.push(c);
                    }
                }
                short.trim_end_matches(' ').to_owned()
            })
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.iter().map(|line| format!("{line}\r\n")).collect()
    }

    proptest! {
        #[test]
        fn any_split_of_a_body_gives_the_relaxed_form(
            words in prop::collection::vec("\r\n| |\t|a|bc|\r\n\r\n", 0..40),
            size in 1_usize..9,
        ) {
            let text = words.concat();
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let found = String::from_utf8(body(Form::Relaxed, &pieces)).unwrap();
            prop_assert_eq!(found, by_lines(&text));
        }
    }
}
