//! The second reading of a text: its new form.

use super::{
    Form, LINE_MAX, Plan, Unconvertible,
    encode::Encoder,
    header,
    part::Part,
    survey::Treatment,
    walk::{Sink, Walker},
};

/// Writes a text in its new form. The text is the one that the plan was made for.
#[derive(Debug)]
pub struct Conversion {
    walker: Walker,
    writer: Writer,
}

#[derive(Debug)]
struct Writer {
    form: Form,
    /// What is to be done with the parts that follow.
    parts: std::vec::IntoIter<Treatment>,
    encoder: Encoder,
    /// The characters of a line around parts.
    column: usize,
    /// The last line has no end yet.
    open_line: bool,
    out: Vec<u8>,
}

impl Conversion {
    /// A conversion by this plan.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            walker: Walker::new(),
            writer: Writer {
                form: plan.form,
                parts: plan.parts.into_iter(),
                encoder: Encoder::None,
                column: 0,
                open_line: false,
                out: Vec::new(),
            },
        }
    }

    /// Takes the next piece of the text. Gives the next piece of the new text, which may be empty.
    ///
    /// # Errors
    /// If the text is not that of the plan.
    pub fn write(&mut self, piece: &[u8]) -> Result<&[u8], Unconvertible> {
        self.writer.out.clear();
        self.walker.write(piece, &mut self.writer)?;
        Ok(&self.writer.out)
    }

    /// Ends the text. Gives the last piece of the new text.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(mut self) -> Result<Vec<u8>, Unconvertible> {
        self.writer.out.clear();
        self.walker.finish(&mut self.writer)?;
        if self.writer.open_line {
            self.writer.out.extend_from_slice(b"\r\n");
        }
        Ok(self.writer.out)
    }
}

impl Sink for Writer {
    fn section(&mut self, section: &[u8], part: &Part, blank: bool) -> Result<(), Unconvertible> {
        let treatment = self.parts.next().unwrap_or_default();
        if part.is_protected {
            self.out.extend_from_slice(section);
        } else {
            header::write(section, part, treatment, self.form, &mut self.out)?;
        }
        if blank {
            self.out.extend_from_slice(b"\r\n");
        }
        self.encoder = match treatment {
            Treatment::Keep => Encoder::None,
            Treatment::Quoted(_) => Encoder::Quoted(Default::default()),
            Treatment::Base64(_) => Encoder::Base64(Default::default()),
            Treatment::MendQuoted => Encoder::MendQuoted(Default::default()),
            Treatment::MendBase64 => Encoder::MendBase64(0),
        };
        (self.column, self.open_line) = (0, false);
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) {
        self.encoder.write(bytes, &mut self.out);
    }

    fn end(&mut self) -> Result<(), Unconvertible> {
        let encoder = std::mem::take(&mut self.encoder);
        self.open_line = encoder.finish(&mut self.out);
        Ok(())
    }

    fn around(&mut self, bytes: &[u8]) -> bool {
        self.open_line = false;
        if bytes == b"\r\n" || bytes == b"\n" {
            self.out.extend_from_slice(b"\r\n");
            self.column = 0;
            return false;
        }
        for byte in bytes {
            if self.column == LINE_MAX - 1 {
                // Neither line must look like a delimiter.
                self.out.extend_from_slice(b"?\r\n ");
                self.column = 1;
            }
            let stays =
                !matches!(byte, 0 | b'\r') && (byte.is_ascii() || self.form < Form::SevenBit);
            self.out.push(if stays { *byte } else { b'?' });
            self.column += 1;
        }
        false
    }

    fn delimiter(&mut self, before: &[u8], line: &[u8], after: &[u8]) {
        for bytes in [before, line, after] {
            match bytes {
                b"\n" => self.out.extend_from_slice(b"\r\n"),
                bytes => self.out.extend_from_slice(bytes),
            }
        }
        (self.column, self.open_line) = (0, false);
    }
}
