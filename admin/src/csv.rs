//! Comma-separated values (RFC 4180), as tables for people: a spreadsheet takes a cell that begins
//! with `=`, `+`, `-` or `@` for a formula, so such a cell gets an apostrophe before it.

use std::borrow::Cow;

/// What a spreadsheet takes for the beginning of a formula.
const FORMULA: [char; 4] = ['=', '+', '-', '@'];

fn is_formula(text: &str) -> bool {
    text.trim_start_matches('\'').starts_with(FORMULA)
}

/// A cell of a table.
pub(crate) fn cell(text: &str) -> Cow<'_, str> {
    let apostrophe = if is_formula(text) { "'" } else { "" };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{apostrophe}{}\"", text.replace('"', "\"\"")).into(),
        false if apostrophe.is_empty() => text.into(),
        false => format!("{apostrophe}{text}").into(),
    }
}

/// A line of a table.
pub(crate) fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for (at, text) in cells.into_iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        line.push_str(&cell(text));
    }
    line.push_str("\r\n");
    line
}

/// A cell without the apostrophe that [`cell`] puts before it.
pub(crate) fn plain(cell: &str) -> String {
    let rest = cell.strip_prefix('\'').filter(|rest| is_formula(rest));
    rest.unwrap_or(cell).to_owned()
}

/// Reads records of comma-separated values (RFC 4180).
pub(crate) struct Reader<'a> {
    rest: &'a str,
    line: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            rest: text.strip_prefix('\u{feff}').unwrap_or(text),
            line: 1,
        }
    }

    /// The next record and its first line. A fault in it ends the record at the end of its line.
    pub(crate) fn next_record(&mut self) -> Option<(u64, Result<Vec<String>, String>)> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, mut fields) = (self.line, Vec::new());
        loop {
            match self.field() {
                Ok((field, ends)) => {
                    fields.push(field);
                    if ends {
                        return Some((line, Ok(fields)));
                    }
                }
                Err(error) => {
                    self.skip_line();
                    return Some((line, Err(error)));
                }
            }
        }
    }

    fn skip_line(&mut self) {
        let end = self.rest.find('\n').map_or(self.rest.len(), |end| end + 1);
        self.rest = self.rest.get(end..).unwrap_or_default();
        self.line += 1;
    }

    /// The next field, and whether it is the last one of its record.
    fn field(&mut self) -> Result<(String, bool), String> {
        let Some(mut quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
            let (field, rest) = self.rest.split_at(end);
            let field = field.trim().to_owned();
            self.rest = rest;
            return Ok((field, self.pass_separator()));
        };
        let mut field = String::new();
        loop {
            let Some((part, rest)) = quoted.split_once('"') else {
                return Err("a quotation mark does not end".to_owned());
            };
            field.push_str(part);
            match rest.strip_prefix('"') {
                Some(rest) => {
                    field.push('"');
                    quoted = rest;
                }
                None => {
                    let rest = rest.trim_start_matches([' ', '\r']);
                    if !(rest.is_empty() || rest.starts_with([',', '\n'])) {
                        return Err("there is text behind a quotation mark".to_owned());
                    }
                    self.line += field.matches('\n').count() as u64;
                    self.rest = rest;
                    return Ok((field.trim().to_owned(), self.pass_separator()));
                }
            }
        }
    }

    /// Passes a comma or a line end. True: the record ends.
    fn pass_separator(&mut self) -> bool {
        if let Some(rest) = self.rest.strip_prefix(',') {
            self.rest = rest;
            return false;
        }
        if let Some(rest) = self.rest.strip_prefix('\n') {
            self.rest = rest;
            self.line += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_back_as_they_were() {
        let texts = [
            "a@b.test",
            "=1+1",
            "+1",
            "-x",
            "@y",
            "'=z",
            "''@",
            "'plain",
            "a,b",
            "say \"no\"",
            "two\nlines",
            "",
        ];
        let written = line(texts);
        assert!(written.contains(",'=1+1,'+1,'-x,'@y,''=z,"), "{written}");
        let (at, read) = Reader::new(&written).next_record().unwrap();
        let read: Vec<String> = read.unwrap().iter().map(|cell| plain(cell)).collect();
        assert_eq!((at, read), (1, texts.map(str::to_owned).to_vec()));
    }
}
