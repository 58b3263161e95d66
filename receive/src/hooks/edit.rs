//! Changes of a header section.
//!
//! The three kinds of programs count fields in three ways. An [`Edit`] has all of them, so that one
//! section can be changed by one program after the other. Each edit sees the result of the one
//! before.

use bytes::{BufMut, Bytes, BytesMut};
use postrider_smtp::field;

/// A change of a header section. Names of fields compare without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A field on top of the section. Several in one answer stand in the order of the answer.
    OnTop(NewField),
    /// A field at the end of the section.
    AtEnd(NewField),
    /// A field before the field with this index, counted over the whole section from 0. Beyond the
    /// end of the section: at its end.
    At(usize, NewField),
    /// A field before the last so many fields of the section. Beyond its beginning: at the very
    /// top.
    FromEnd(usize, NewField),
    /// A field before the n-th field of the same name, counted from 1, or before the last one if
    /// there are fewer. At the very top if there is none, and for 0.
    Before(usize, NewField),
    /// Another value for the n-th field of the name, counted from 1.
    Set {
        /// The place.
        nth: usize,
        /// The field as it shall be. An empty value removes it.
        field: NewField,
        /// What becomes of the field if there are fewer of the name.
        missing: Missing,
    },
    /// Removes fields of a name.
    Remove(Vec<u8>, Which),
}

/// What becomes of a changed field if the section has no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// At the very top if there is no field of the name. Nothing if there are fewer.
    OnTopIfNone,
    /// At the end of the section.
    AtEnd,
}

/// Which fields of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// The n-th, counted from 1 from the top.
    FromTop(usize),
    /// The n-th, counted from 1 from the bottom.
    FromBottom(usize),
}

/// A field that a program wants to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewField {
    name: Vec<u8>,
    value: Vec<u8>,
    /// A space goes before a value that has no white space at its beginning.
    spaced: bool,
}

/// A name or a value is none of a header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    /// The name is not made of printable ASCII characters without a colon (RFC 5322 §3.6.8).
    #[error("the name of a header field is not one")]
    Name,
    /// The value has a line break that is no folding, or a NUL.
    #[error("the value of a header field has a line break that is no folding, or a NUL")]
    Value,
}

/// The longest name of a field. A line has room for it (RFC 5322 §2.1.1).
const NAME_MAX: usize = 900;

impl NewField {
    /// A field with this value. A line end in the value is CRLF or LF, and white space follows it.
    /// A line end at the end of the value does not count.
    ///
    /// # Errors
    /// If the name or the value is none.
    pub fn new(name: &[u8], value: &[u8]) -> Result<Self, InvalidField> {
        let is_name = |byte: &u8| byte.is_ascii_graphic() && *byte != b':';
        if name.is_empty() || name.len() > NAME_MAX || !name.iter().all(is_name) {
            return Err(InvalidField::Name);
        }
        let value = value.strip_suffix(b"\n").unwrap_or(value);
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        let mut lines = value.split(|byte| *byte == b'\n');
        let mut folded = Vec::with_capacity(value.len());
        folded.extend_from_slice(line(lines.next().unwrap_or_default())?);
        for next in lines {
            let next = line(next)?;
            // A line of white space alone would end the section for some readers.
            if !next.starts_with(b" ") && !next.starts_with(b"\t") || next.trim_ascii().is_empty() {
                return Err(InvalidField::Value);
            }
            folded.extend_from_slice(b"\r\n");
            folded.extend_from_slice(next);
        }
        Ok(Self {
            name: name.to_owned(),
            value: folded,
            spaced: true,
        })
    }

    /// A field whose value stands right behind the colon, with the space that it has or has not.
    /// Signatures may depend on that.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn exact(name: &[u8], value: &[u8]) -> Result<Self, InvalidField> {
        let field = Self::new(name, value)?;
        Ok(Self {
            spaced: false,
            ..field
        })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The value, without the space behind the colon. Its line ends are CRLF.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The field as it is written, with its CRLF.
    fn written(&self) -> Bytes {
        let mut written = BytesMut::with_capacity(self.name.len() + self.value.len() + 4);
        written.put_slice(&self.name);
        written.put_u8(b':');
        if self.spaced && !self.value.first().is_some_and(u8::is_ascii_whitespace) {
            written.put_u8(b' ');
        }
        written.put_slice(&self.value);
        written.put_slice(b"\r\n");
        written.freeze()
    }
}

/// A line of a value without its CR.
fn line(line: &[u8]) -> Result<&[u8], InvalidField> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.iter().any(|byte| matches!(byte, b'\r' | 0)) {
        true => Err(InvalidField::Value),
        false => Ok(line),
    }
}

/// A header section that is being changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The fields as they are written, each with its CRLF. Lines that are no fields are there too.
    fields: Vec<Bytes>,
}

impl Section {
    /// Reads a header section, which ends before its blank line.
    #[must_use]
    pub fn read(section: &Bytes) -> Self {
        let mut fields: Vec<Bytes> = field::written(section)
            .map(|written| section.slice_ref(written))
            .collect();
        // A text that is all header section may end within a line.
        if let Some(last) = fields.last_mut()
            && !last.ends_with(b"\r\n")
        {
            let mut ended = BytesMut::from(last.as_ref());
            ended.put_slice(b"\r\n");
            *last = ended.freeze();
        }
        Self { fields }
    }

    /// The section as it is written, without the blank line.
    #[must_use]
    pub fn written(&self) -> Vec<u8> {
        self.fields.concat()
    }

    /// The bytes of [`written`](Self::written).
    #[must_use]
    pub fn size(&self) -> usize {
        self.fields.iter().map(Bytes::len).sum()
    }

    /// The fields as they are written, each with its CRLF.
    pub fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().map(AsRef::as_ref)
    }

    /// Makes the changes of one answer, in their order.
    pub fn apply<'a>(&mut self, edits: impl IntoIterator<Item = &'a Edit>) {
        // The fields that this answer put on top, with `OnTop`.
        let mut on_top = 0;
        for edit in edits {
            match edit {
                Edit::OnTop(field) => {
                    self.insert(on_top, field);
                    on_top += 1;
                }
                Edit::AtEnd(field) => self.insert(usize::MAX, field),
                Edit::At(at, field) => self.insert_among(&mut on_top, *at, field),
                Edit::FromEnd(behind, field) => {
                    let at = self.fields.len().saturating_sub(*behind);
                    self.insert_among(&mut on_top, at, field);
                }
                Edit::Before(nth, field) => {
                    let at = self.place_before(*nth, field.name());
                    self.insert_among(&mut on_top, at, field);
                }
                Edit::Set {
                    nth,
                    field,
                    missing,
                } => self.set(&mut on_top, *nth, field, *missing),
                Edit::Remove(name, which) => self.remove(&mut on_top, name, *which),
            }
        }
    }

    fn insert(&mut self, at: usize, field: &NewField) {
        self.fields
            .insert(at.min(self.fields.len()), field.written());
    }

    fn insert_among(&mut self, on_top: &mut usize, at: usize, field: &NewField) {
        if at < *on_top {
            *on_top += 1;
        }
        self.insert(at, field);
    }

    fn delete(&mut self, on_top: &mut usize, at: usize) {
        if at < self.fields.len() {
            self.fields.remove(at);
            if at < *on_top {
                *on_top -= 1;
            }
        }
    }

    /// The places of the fields of a name, from the top.
    fn places(&self, name: &[u8]) -> Vec<usize> {
        let fields = self.fields.iter().enumerate();
        let named = fields.filter(|(_, written)| {
            let found = field::Field::read(written).map(|field| field.name);
            found.is_some_and(|found| found.eq_ignore_ascii_case(name))
        });
        named.map(|(at, _)| at).collect()
    }

    fn place_before(&self, nth: usize, name: &[u8]) -> usize {
        let places = self.places(name);
        match nth.checked_sub(1) {
            Some(index) => places.get(index).or(places.last()).copied().unwrap_or(0),
            None => 0,
        }
    }

    fn set(&mut self, on_top: &mut usize, nth: usize, field: &NewField, missing: Missing) {
        let places = self.places(field.name());
        let found = nth.checked_sub(1).and_then(|index| places.get(index));
        let removes = field.value().trim_ascii().is_empty();
        match (found, missing) {
            (Some(at), _) if removes => self.delete(on_top, *at),
            (Some(at), _) => {
                if let Some(written) = self.fields.get_mut(*at) {
                    *written = field.written();
                }
            }
            (None, _) if removes => {}
            (None, Missing::AtEnd) => self.insert(usize::MAX, field),
            (None, Missing::OnTopIfNone) if places.is_empty() => {
                self.insert_among(on_top, 0, field);
            }
            (None, Missing::OnTopIfNone) => {}
        }
    }

    fn remove(&mut self, on_top: &mut usize, name: &[u8], which: Which) {
        let places = self.places(name);
        let nth = |n: usize| n.checked_sub(1);
        let gone: &[usize] = match which {
            Which::All => &places,
            Which::FromTop(n) => one(nth(n).and_then(|index| places.get(index))),
            Which::FromBottom(n) => one(nth(n).and_then(|index| places.iter().rev().nth(index))),
        };
        for at in gone.iter().rev() {
            self.delete(on_top, *at);
        }
    }
}

fn one(place: Option<&usize>) -> &[usize] {
    place.map_or(&[], std::slice::from_ref)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> NewField {
        NewField::new(name.as_bytes(), value.as_bytes()).unwrap()
    }

    fn set(nth: usize, name: &str, value: &str, missing: Missing) -> Edit {
        Edit::Set {
            nth,
            field: field(name, value),
            missing,
        }
    }

    fn changed(section: &str, edits: &[Edit]) -> String {
        let mut read = Section::read(&Bytes::copy_from_slice(section.as_bytes()));
        read.apply(edits);
        String::from_utf8(read.written()).unwrap()
    }

    #[test]
    fn each_edit_has_its_place() {
        let on_top = |name: &str| Edit::OnTop(field(name, "n"));
        let before = |nth: usize, name: &str| Edit::Before(nth, field(name, "n"));
        let at = |at: usize| Edit::At(at, field("N", "n"));
        let from_end = |behind: usize| Edit::FromEnd(behind, field("N", "n"));
        let set_top = |nth, name: &str, value: &str| set(nth, name, value, Missing::OnTopIfNone);
        let set_end = |nth, name: &str, value: &str| set(nth, name, value, Missing::AtEnd);
        let remove = |which| Edit::Remove(b"a".to_vec(), which);
        let section = "A: 1\r\nB: 1\r\nA: 2\r\na: 3\r\n";
        let rest = "B: 1\r\nA: 2\r\na: 3\r\n";
        let whole = |before: &str| format!("{before}{section}");
        for (edits, expected) in [
            (vec![], whole("")),
            (vec![on_top("X"), on_top("Y")], whole("X: n\r\nY: n\r\n")),
            (
                vec![on_top("X"), at(0), on_top("Y")],
                whole("N: n\r\nX: n\r\nY: n\r\n"),
            ),
            (vec![at(0), on_top("Y")], whole("Y: n\r\nN: n\r\n")),
            (
                vec![Edit::AtEnd(field("X", "n"))],
                format!("{section}X: n\r\n"),
            ),
            (vec![at(1)], format!("A: 1\r\nN: n\r\n{rest}")),
            (vec![at(99)], format!("{section}N: n\r\n")),
            (vec![from_end(0)], format!("{section}N: n\r\n")),
            (
                vec![from_end(1)],
                "A: 1\r\nB: 1\r\nA: 2\r\nN: n\r\na: 3\r\n".into(),
            ),
            (vec![from_end(9)], whole("N: n\r\n")),
            (
                vec![before(2, "A")],
                "A: 1\r\nB: 1\r\nA: n\r\nA: 2\r\na: 3\r\n".into(),
            ),
            (
                vec![before(9, "a")],
                "A: 1\r\nB: 1\r\nA: 2\r\na: n\r\na: 3\r\n".into(),
            ),
            (vec![before(0, "A")], whole("A: n\r\n")),
            (vec![before(3, "X")], whole("X: n\r\n")),
            (vec![set_top(1, "a", "n")], format!("a: n\r\n{rest}")),
            (vec![set_top(4, "A", "n")], whole("")),
            (vec![set_top(0, "A", "n")], whole("")),
            (vec![set_top(1, "X", "n")], whole("X: n\r\n")),
            (vec![set_top(1, "A", "")], rest.into()),
            (vec![set_top(1, "X", "")], whole("")),
            (vec![set_end(4, "A", "n")], format!("{section}A: n\r\n")),
            (vec![set_end(4, "A", "")], whole("")),
            // The second field is the first one behind the removal.
            (
                vec![set_top(1, "A", ""), set_top(1, "A", "n")],
                "B: 1\r\nA: n\r\na: 3\r\n".into(),
            ),
            (vec![remove(Which::All)], "B: 1\r\n".into()),
            (vec![remove(Which::FromTop(1))], rest.into()),
            (
                vec![remove(Which::FromBottom(1))],
                "A: 1\r\nB: 1\r\nA: 2\r\n".into(),
            ),
            (vec![remove(Which::FromTop(0))], whole("")),
            (vec![remove(Which::FromBottom(9))], whole("")),
        ] {
            assert_eq!(changed(section, &edits), expected, "{edits:?}");
        }
    }

    #[test]
    fn a_section_is_written_as_it_was_read() {
        for (section, written) in [
            ("", ""),
            (
                "A: 1\r\n\tmore\r\nno field\r\nB:2\r\n",
                "A: 1\r\n\tmore\r\nno field\r\nB:2\r\n",
            ),
            ("A: 1", "A: 1\r\n"),
        ] {
            assert_eq!(changed(section, &[]), written);
        }
    }

    #[test]
    fn names_and_values_are_those_of_fields() {
        use InvalidField::{Name, Value};
        let long = "x".repeat(NAME_MAX + 1);
        for (name, value, expected) in [
            ("X-A", "v", Ok("X-A: v\r\n")),
            ("X-A", " v", Ok("X-A: v\r\n")),
            ("X-A", "", Ok("X-A: \r\n")),
            ("X-A", "v\r\n", Ok("X-A: v\r\n")),
            ("X-A", "v\n", Ok("X-A: v\r\n")),
            ("X-A", "v\r\n w\n\tx", Ok("X-A: v\r\n w\r\n\tx\r\n")),
            ("X-A", "\r\n v", Ok("X-A:\r\n v\r\n")),
            ("X-A", "v\r\nw", Err(Value)),
            ("X-A", "v\r\n\r\nw", Err(Value)),
            ("X-A", "v\r\n \r\n w", Err(Value)),
            ("X-A", "v\rw", Err(Value)),
            ("X-A", "v\0w", Err(Value)),
            ("", "v", Err(Name)),
            ("X A", "v", Err(Name)),
            ("X:A", "v", Err(Name)),
            ("X\r\nA", "v", Err(Name)),
            ("Ä", "v", Err(Name)),
            (&long, "v", Err(Name)),
        ] {
            let made = NewField::new(name.as_bytes(), value.as_bytes());
            let made = made.map(|field| String::from_utf8(field.written().to_vec()).unwrap());
            assert_eq!(
                made.as_deref(),
                expected.as_ref().map(|it| *it),
                "{value:?}"
            );
        }
        for (value, written) in [
            ("v", "X:v\r\n"),
            (" v", "X: v\r\n"),
            ("  v\n w", "X:  v\r\n w\r\n"),
            ("", "X:\r\n"),
        ] {
            let field = NewField::exact(b"X", value.as_bytes()).unwrap();
            assert_eq!(field.written(), written, "{value:?}");
        }
        assert_eq!(NewField::exact(b"X", b"v\nw"), Err(Value));
    }
}
