//! The fields of a query or of a form.

use std::str::FromStr;

use crate::AdminError;

/// The longest body of a form, in bytes.
pub(super) const FORM_MAX: usize = 8 << 20;

/// The fields of a query or of a form, in order. A field that is left empty is as if it was absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pairs: Vec<(String, String)>,
}

impl Fields {
    /// Reads `application/x-www-form-urlencoded`.
    pub(super) fn parse(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text);
        let pairs = pairs.filter(|(_, value)| !value.is_empty());
        Self {
            pairs: pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        }
    }

    /// Reads the body of a form: the same, or `multipart/form-data` (RFC 7578) as browsers write
    /// it. A file counts as a field with its text.
    pub(super) fn of_body(kind: &str, body: &[u8]) -> Self {
        let boundary = kind
            .strip_prefix("multipart/form-data")
            .and_then(|rest| rest.split_once("boundary="))
            .map(|(_, boundary)| boundary.trim().trim_matches('"'));
        let Some(boundary) = boundary else {
            return Self::parse(body);
        };
        let text = String::from_utf8_lossy(body);
        let begin = format!("--{boundary}");
        let end = format!("\r\n{begin}");
        let first = text.strip_prefix(begin.as_str());
        let parts = first.map(|first| first.split(end.as_str()));
        let pairs = parts.into_iter().flatten().filter_map(|part| {
            let (header, value) = part.split_once("\r\n\r\n")?;
            let name = header.split_once(" name=\"")?.1.split('"').next()?;
            (!value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        });
        Self {
            pairs: pairs.collect(),
        }
    }

    /// A field, without the space around it.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let value = self.raw(name)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// A field as it was typed, for passwords and texts of several lines.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter();
        let found = pairs.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A field as it was typed; empty if it is absent. For a form that is shown again.
    pub(super) fn shown(&self, name: &str) -> &str {
        self.raw(name).unwrap_or_default()
    }

    /// All values of a field, such as those of ticked boxes.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.pairs.iter();
        let pairs = pairs.filter(move |(known, _)| known == name);
        pairs.map(|(_, value)| value.trim())
    }

    /// A box is ticked.
    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), Some("1" | "true" | "on" | "yes"))
    }

    /// A field of any type.
    ///
    /// # Errors
    /// If the text is none of that type. `kind` says of which: "a number".
    pub(super) fn parsed<T: FromStr>(
        &self,
        name: &str,
        kind: &str,
    ) -> Result<Option<T>, AdminError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let wrong = |_| AdminError::invalid(format!("{text:?} is not {kind}")).at(name);
        text.parse().map(Some).map_err(wrong)
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// If it is empty.
    pub(super) fn needed(&self, name: &str) -> Result<&str, AdminError> {
        let missing = || AdminError::invalid("this field must not be empty").at(name);
        self.text(name).ok_or_else(missing)
    }

    /// The same fields without those named.
    pub(super) fn without(&self, names: &[&str]) -> Self {
        let pairs = self.pairs.iter();
        let kept = pairs.filter(|(name, _)| !names.contains(&name.as_str()));
        Self {
            pairs: kept.cloned().collect(),
        }
    }

    /// The same fields as a query, without those named, and with `more` at the end.
    pub(super) fn query(&self, without: &[&str], more: &[(&str, &str)]) -> String {
        let kept = self.iter().filter(|(name, _)| !without.contains(name));
        query(kept.chain(more.iter().copied()))
    }

    /// Names and values, for hidden fields.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.pairs.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// These fields as a query.
pub(super) fn query<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields).finish()
}

/// What is wrong with a form that is shown again.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// The names of fields, and what is wrong with them. A fault of no single field has no name.
    pub(super) list: Vec<(String, String)>,
}

impl Faults {
    /// The fault of this error.
    pub(super) fn of(error: &AdminError) -> Self {
        let field = error.field.clone().unwrap_or_default();
        Self {
            list: vec![(field, error.text.clone())],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What is wrong with a field; empty: nothing.
    pub(super) fn at(&self, name: &str) -> &str {
        let mut list = self.list.iter();
        let found = list.find(|(field, _)| field == name);
        found.map_or("", |(_, text)| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_written_as_a_query() {
        let fields = Fields::parse(b"to=+a%40b.test+&empty=&id=1&id=2&hold=on");
        assert_eq!(fields.text("to"), Some("a@b.test"));
        assert_eq!(fields.raw("to"), Some(" a@b.test "));
        assert_eq!(fields.text("empty"), None);
        assert_eq!(fields.all("id").collect::<Vec<_>>(), ["1", "2"]);
        assert!(fields.flag("hold") && !fields.flag("to"));
        assert_eq!(
            fields.query(&["id", "to"], &[("after", "x y")]),
            "hold=on&after=x+y"
        );
        let error = fields.parsed::<u64>("to", "a number").unwrap_err();
        assert_eq!(error.text, "\"a@b.test\" is not a number");
        assert_eq!(Faults::of(&error).at("to"), error.text);
    }

    #[test]
    fn a_form_with_a_file_has_its_text() {
        let kind = "multipart/form-data; boundary=----x7";
        let body = "------x7\r\nContent-Disposition: form-data; name=\"account\"\r\n\r\nann\r\n\
            ------x7\r\nContent-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n\r\n\
            ------x7\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\
            Content-Type: text/csv\r\n\r\na@b.test,x\r\n\r\nc@d.test\r\n------x7--\r\n";
        let fields = Fields::of_body(kind, body.as_bytes());
        assert_eq!(fields.text("account"), Some("ann"));
        assert_eq!(fields.raw("none"), None);
        assert_eq!(fields.raw("file"), Some("a@b.test,x\r\n\r\nc@d.test"));
        let plain = Fields::of_body("application/x-www-form-urlencoded", b"a=1");
        assert_eq!(plain.text("a"), Some("1"));
    }
}
