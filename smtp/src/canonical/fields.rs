//! The header fields of a message, found by name from the bottom, as signatures name them.

use crate::field::{self, Field};
use bytes::Bytes;

/// The most fields of a header section that signatures are checked for.
pub const MAX_FIELDS: usize = 1000;

/// The most names of fields in a signature.
pub const MAX_NAMES: usize = 100;

/// The header section of a message, with an index of its fields. It is made once for all
/// signatures.
#[derive(Clone, Debug)]
pub struct HeaderFields {
    section: Bytes,
    /// Begin and end of each field in the section.
    spans: Vec<(usize, usize)>,
    /// The places of the fields in `spans`, ordered by name and then by place.
    by_name: Vec<usize>,
    too_many: bool,
}

impl HeaderFields {
    /// Reads a header section: all fields with their CRLFs, without the blank line behind them.
    /// Fields behind the first [`MAX_FIELDS`] are left out.
    #[must_use]
    pub fn new(section: Bytes) -> Self {
        let (mut spans, mut too_many, mut begin) = (Vec::new(), false, 0);
        for written in field::written(&section) {
            let end = begin + written.len();
            if Field::read(written).is_some() {
                if spans.len() == MAX_FIELDS {
                    too_many = true;
                    break;
                }
                spans.push((begin, end));
            }
            begin = end;
        }
        let mut fields = Self {
            section,
            spans,
            by_name: Vec::new(),
            too_many,
        };
        let mut by_name: Vec<usize> = (0..fields.spans.len()).collect();
        // The sort keeps the order of fields with the same name.
        by_name.sort_by(|a, b| lower(fields.name(*a)).cmp(lower(fields.name(*b))));
        fields.by_name = by_name;
        fields
    }

    /// Whether the section has more than [`MAX_FIELDS`] fields.
    #[must_use]
    pub const fn too_many(&self) -> bool {
        self.too_many
    }

    /// The bytes of the section.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.section.len()
    }

    /// A field as it is written. Empty if there is no such place.
    #[must_use]
    pub fn written(&self, place: usize) -> &[u8] {
        let span = self.spans.get(place).copied();
        let (begin, end) = span.unwrap_or_default();
        self.section.get(begin..end).unwrap_or_default()
    }

    /// Where in the field, as it is written, its value begins.
    #[must_use]
    pub fn value_begins(&self, place: usize) -> usize {
        let written = self.written(place);
        let colon = written.iter().position(|byte| *byte == b':');
        colon.map_or(written.len(), |colon| colon + 1)
    }

    /// The value of a field, with all line ends.
    #[must_use]
    pub fn value(&self, place: usize) -> &[u8] {
        let begin = self.value_begins(place);
        self.written(place).get(begin..).unwrap_or_default()
    }

    fn name(&self, place: usize) -> &[u8] {
        let name = Field::read(self.written(place)).map(|field| field.name);
        name.unwrap_or_default()
    }

    /// The places of all fields of this name, from the top. Case does not matter.
    #[must_use]
    pub fn named(&self, name: &[u8]) -> &[usize] {
        let (begin, end) = self.range(name);
        self.by_name.get(begin..end).unwrap_or_default()
    }

    /// The part of `by_name` that has this name.
    fn range(&self, name: &[u8]) -> (usize, usize) {
        let begin = self
            .by_name
            .partition_point(|place| lower(self.name(*place)).lt(lower(name)));
        let rest = self.by_name.get(begin..).unwrap_or_default();
        let count = rest.partition_point(|place| lower(self.name(*place)).eq(lower(name)));
        (begin, begin + count)
    }

    /// The places of the fields that a list of names means (RFC 6376 §5.4.2): each name takes the
    /// lowest field of its name that is left, or nothing. The field at `own` is never taken.
    #[must_use]
    pub fn select<'a>(
        &self,
        names: impl Iterator<Item = &'a [u8]>,
        own: Option<usize>,
    ) -> Vec<usize> {
        let mut selected = Vec::new();
        // How many fields are taken, at the first place of each name.
        let mut taken = vec![0_usize; self.by_name.len()];
        for name in names {
            let (begin, end) = self.range(name);
            let Some(taken) = taken.get_mut(begin) else {
                continue;
            };
            while begin + *taken < end {
                *taken += 1;
                let place = self.by_name.get(end - *taken).copied();
                if let Some(place) = place.filter(|place| Some(*place) != own) {
                    selected.push(place);
                    break;
                }
            }
        }
        selected
    }
}

fn lower(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(u8::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_fields_from_the_bottom() {
        let section = "A: 1\r\nno field\r\nB : 2\r\na: 3\r\n x\r\nab: 4\r\nA: 5\r\n";
        let fields = HeaderFields::new(section.into());
        assert!(!fields.too_many());
        let select = |names: &[&str], own| -> String {
            let names = names.iter().map(|name| name.as_bytes());
            let places = fields.select(names, own);
            let values = places.iter().map(|place| fields.value(*place));
            String::from_utf8(values.flatten().copied().collect()).unwrap()
        };
        assert_eq!(
            select(&["A", "b", "a", "A", "a"], None),
            " 5\r\n 2\r\n 3\r\n x\r\n 1\r\n"
        );
        assert_eq!(select(&["a", "a"], Some(4)), " 3\r\n x\r\n 1\r\n");
        assert_eq!(select(&["no", "", "no field", "zz"], None), "");
        assert_eq!(fields.named(b"a"), [0, 2, 4]);
        assert_eq!(fields.written(9), b"");
    }

    #[test]
    fn a_section_has_a_limit_of_fields() {
        let fields = HeaderFields::new("A: b\r\n".repeat(MAX_FIELDS).into());
        assert!(!fields.too_many());
        let fields = HeaderFields::new("A: b\r\n".repeat(MAX_FIELDS + 1).into());
        assert!(fields.too_many());
        assert_eq!(fields.named(b"a").len(), MAX_FIELDS);
    }
}
