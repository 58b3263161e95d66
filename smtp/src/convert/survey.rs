//! The first reading of a text: what is to be done with each part.

use super::{
    Form, LINE_MAX, Unconvertible, encode, header,
    part::{Encoding, Kind, Part},
    walk::{Sink, Walker},
};

/// What is to be done with the content of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Treatment {
    #[default]
    Keep,
    /// Encode it, and say so.
    Quoted(Charset),
    Base64(Charset),
    /// It is encoded. Its lines become short, and its 8-bit bytes are encoded or left out.
    MendQuoted,
    MendBase64,
}

/// The charset that a text without a Content-Type gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// It has a type, or is ASCII.
    None,
    Utf8,
    /// RFC 1428 §3.
    Unknown,
}

/// What a [`Conversion`](super::Conversion) of a text does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) form: Form,
    /// By part, in their order.
    pub(super) parts: Vec<Treatment>,
}

/// The first reading of a text.
#[derive(Debug)]
pub struct Survey {
    walker: Walker,
    look: Look,
}

impl Survey {
    /// A survey of a text that is to have this form.
    #[must_use]
    pub const fn new(form: Form) -> Self {
        Self {
            walker: Walker::new(),
            look: Look {
                form,
                parts: Vec::new(),
                content: None,
                changes: false,
                is_signed: false,
            },
        }
    }

    /// Takes the next piece of the text.
    ///
    /// # Errors
    /// If the text has no such form.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), Unconvertible> {
        let written = self.walker.write(piece, &mut self.look);
        self.look.result(written)
    }

    /// Ends the text. None: it has this form as it is.
    ///
    /// # Errors
    /// If the text has no such form.
    pub fn finish(mut self) -> Result<Option<Plan>, Unconvertible> {
        let finished = self.walker.finish(&mut self.look);
        self.look.result(finished)?;
        let Look {
            form,
            parts,
            changes,
            is_signed,
            ..
        } = self.look;
        match (changes, is_signed) {
            (false, _) => Ok(None),
            (true, true) => Err(Unconvertible::Signed),
            (true, false) => Ok(Some(Plan { form, parts })),
        }
    }
}

/// What was seen of a text.
#[derive(Debug)]
struct Look {
    form: Form,
    parts: Vec<Treatment>,
    content: Option<Content>,
    /// Something has to change.
    changes: bool,
    /// A signature covers the message.
    is_signed: bool,
}

impl Look {
    /// The reason that counts most is that somebody signed the message.
    fn result(&self, result: Result<(), Unconvertible>) -> Result<(), Unconvertible> {
        result.map_err(|error| match self.is_signed {
            true => Unconvertible::Signed,
            false => error,
        })
    }
}

/// The content of a part so far.
#[derive(Debug)]
struct Content {
    encoding: Encoding,
    is_text: bool,
    is_fixed: bool,
    is_protected: bool,
    bytes: u64,
    /// Bytes that quoted-printable encodes.
    escapes: u64,
    eight_bit: bool,
    binary: bool,
    long: bool,
    column: usize,
    /// Whether it is UTF-8. None: it has a charset.
    utf8: Option<Utf8>,
}

impl Sink for Look {
    fn section(&mut self, section: &[u8], part: &Part, _: bool) -> Result<(), Unconvertible> {
        if part.is_whole {
            self.is_signed = part.is_signed;
        }
        if !part.is_protected {
            self.changes |= header::changes(section, part, self.form)?;
        } else if header::has_odd_bytes(section)
            || self.form == Form::SevenBit && !section.is_ascii()
        {
            return Err(Unconvertible::Protected);
        }
        match part.kind {
            Kind::Multipart(_) | Kind::Message => self.parts.push(Treatment::Keep),
            Kind::Leaf | Kind::Fixed => {
                self.content = Some(Content {
                    encoding: part.encoding,
                    is_text: part.is_text,
                    is_fixed: part.kind == Kind::Fixed,
                    is_protected: part.is_protected,
                    bytes: 0,
                    escapes: 0,
                    eight_bit: false,
                    binary: false,
                    long: false,
                    column: 0,
                    utf8: (!part.has_type && part.is_message).then(Utf8::default),
                });
            }
        }
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) {
        if let Some(content) = &mut self.content {
            content.add(bytes);
        }
    }

    fn end(&mut self) -> Result<(), Unconvertible> {
        let Some(content) = self.content.take() else {
            return Ok(());
        };
        let treatment = content.treatment(self.form)?;
        self.changes |= treatment != Treatment::Keep;
        self.parts.push(treatment);
        Ok(())
    }

    fn around(&mut self, bytes: &[u8]) -> bool {
        let eight_bit = self.form == Form::SevenBit && !bytes.is_ascii();
        let changes = eight_bit || has_odd_bytes(bytes) || bytes.len() > LINE_MAX;
        self.changes |= changes;
        changes
    }

    fn delimiter(&mut self, before: &[u8], _: &[u8], after: &[u8]) {
        self.changes |= before == b"\n" || after == b"\n";
    }
}

/// Whether bytes within a line, or a line end, are none that DATA can carry.
fn has_odd_bytes(bytes: &[u8]) -> bool {
    bytes == b"\n" || bytes != b"\r\n" && memchr::memchr2(b'\r', 0, bytes).is_some()
}

impl Content {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.binary = self.binary || has_odd_bytes(bytes);
        if let Some(utf8) = &mut self.utf8 {
            utf8.add(bytes);
        }
        if bytes == b"\r\n" || bytes == b"\n" {
            self.column = 0;
            return;
        }
        self.column += bytes.len();
        self.long = self.long || self.column > LINE_MAX;
        self.eight_bit = self.eight_bit || !bytes.is_ascii();
        let escapes = bytes.iter().filter(|byte| !encode::is_literal(**byte));
        self.escapes += escapes.count() as u64;
    }

    fn treatment(self, form: Form) -> Result<Treatment, Unconvertible> {
        let must = self.eight_bit && form == Form::SevenBit || self.binary;
        if !must && !self.long {
            return Ok(Treatment::Keep);
        }
        let cannot = match (self.is_protected, self.is_fixed, self.encoding) {
            (true, ..) => Some(Unconvertible::Protected),
            (_, true, _) | (.., Encoding::Other) => Some(Unconvertible::Part),
            _ => None,
        };
        match cannot {
            Some(reason) if must => return Err(reason),
            // Long lines are sent as they are.
            Some(_) => return Ok(Treatment::Keep),
            None => {}
        }
        let charset = match &self.utf8 {
            Some(utf8) if self.eight_bit => match utf8.is_whole() {
                true => Charset::Utf8,
                false => Charset::Unknown,
            },
            _ => Charset::None,
        };
        Ok(match self.encoding {
            Encoding::QuotedPrintable => Treatment::MendQuoted,
            Encoding::Base64 => Treatment::MendBase64,
            _ if self.is_text && self.is_smaller_quoted() => Treatment::Quoted(charset),
            _ => Treatment::Base64(charset),
        })
    }

    fn is_smaller_quoted(&self) -> bool {
        // Both have line ends of their own.
        let quoted = self.bytes + 2 * self.escapes;
        let quoted = quoted + quoted / 73 * 3;
        let base64 = self.bytes.div_ceil(3) * 4;
        let base64 = base64 + base64 / 76 * 2;
        quoted <= base64
    }
}

/// Whether a text is UTF-8.
#[derive(Debug, Default)]
struct Utf8 {
    /// The beginning of a character.
    rest: Vec<u8>,
    fails: bool,
}

impl Utf8 {
    fn add(&mut self, bytes: &[u8]) {
        if self.fails || self.rest.is_empty() && bytes.is_ascii() {
            return;
        }
        self.rest.extend_from_slice(bytes);
        match std::str::from_utf8(&self.rest) {
            Ok(_) => self.rest.clear(),
            Err(error) if error.error_len().is_none() => {
                self.rest.drain(..error.valid_up_to());
            }
            Err(_) => {
                self.fails = true;
                self.rest = Vec::new();
            }
        }
    }

    const fn is_whole(&self) -> bool {
        !self.fails && self.rest.is_empty()
    }
}
