//! The parts of a form (RFC 7578), read as they arrive.
//!
//! Clients write such forms by hand, so lines may end with LF, and file names have any form that
//! mail knows. A part is held in memory only as far as one piece of the body.

use std::pin::Pin;

use axum::{body::Body, http::header::CONTENT_TYPE};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt};
use memchr::{memchr, memmem};
use postrider_smtp::field;

use crate::error::ApiError;

/// The most bytes of the header of a part, and of the bytes before the first part.
const HEADER_MAX: usize = 1 << 20;
/// The most bytes of the headers of all parts.
const HEADERS_MAX: usize = 10 << 20;
/// The longest boundary. RFC 2046 §5.1.1 asks for 70.
const BOUNDARY_MAX: usize = 200;

/// The body of a request.
type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// Reads a form part by part.
pub(super) struct Parts {
    pieces: Pieces,
    /// All pieces have arrived.
    ended: bool,
    buffer: BytesMut,
    /// Two dashes and the boundary.
    delimiter: Vec<u8>,
    place: Place,
    /// The bytes left for headers.
    headers_left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first part.
    Preamble,
    /// At the first byte of a part's content.
    Begin,
    /// Within a part's content.
    Content,
    /// Behind a delimiter, before the header of a part.
    Header,
    /// Behind the last part.
    End,
}

/// The header of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PartHeader {
    /// The name of the field.
    pub(super) name: String,
    /// The name of the file without its folders. None for a field, and for a file that was not
    /// chosen.
    pub(super) file_name: Option<String>,
    /// Empty without one.
    pub(super) content_type: String,
    /// Empty without one.
    pub(super) content_id: String,
}

impl Parts {
    /// The parts of a body of this type.
    ///
    /// # Errors
    /// [`Code::Protocol`](crate::error::Code::Protocol) if the type has no usable boundary.
    pub(super) fn new(content_type: &[u8], body: Body) -> Result<Self, ApiError> {
        let kind = field::parameters(content_type);
        let boundary = kind.get("boundary").unwrap_or_default();
        if boundary.is_empty() || boundary.len() > BOUNDARY_MAX {
            let text = format!("{CONTENT_TYPE} needs a boundary of 1 to {BOUNDARY_MAX} bytes");
            return Err(unreadable(&text));
        }
        Ok(Self {
            pieces: Box::pin(body.into_data_stream().map_err(|error| error.to_string())),
            ended: false,
            buffer: BytesMut::new(),
            delimiter: format!("--{boundary}").into_bytes(),
            place: Place::Preamble,
            headers_left: HEADERS_MAX,
        })
    }

    /// The header of the next part. What is left of the part before is passed over. None behind the
    /// last part.
    pub(super) async fn next(&mut self) -> Result<Option<PartHeader>, ApiError> {
        let mut before = 0;
        while self.place != Place::Header {
            if self.place == Place::End {
                return Ok(None);
            }
            let is_preamble = self.place == Place::Preamble;
            let piece = self.chunk().await?;
            before += piece.map_or(0, |piece| piece.len());
            if is_preamble && before > HEADER_MAX {
                return Err(too_long("bytes before the first part"));
            }
        }
        self.header().await.map(Some)
    }

    /// The next bytes of the content of the part. None at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if matches!(self.place, Place::Header | Place::End) {
                return Ok(None);
            }
            match self.find() {
                Found::Delimiter {
                    content,
                    after,
                    last,
                } => {
                    let content = self.buffer.split_to(content).freeze();
                    self.buffer.advance(after);
                    self.place = if last { Place::End } else { Place::Header };
                    return Ok(Some(content).filter(|content| !content.is_empty()));
                }
                Found::Content(length) if length > 0 => {
                    self.set_begun();
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
                Found::Content(_) if self.ended => {
                    return Err(unreadable("it ends before its last boundary"));
                }
                Found::Content(_) => self.more().await?,
            }
        }
    }

    fn set_begun(&mut self) {
        if self.place == Place::Begin {
            self.place = Place::Content;
        }
    }

    /// Looks for the next delimiter: a line that begins with two dashes and the boundary.
    fn find(&self) -> Found {
        let mut from = 0;
        loop {
            let rest = self.buffer.get(from..).unwrap_or_default();
            let at_begin = from == 0 && matches!(self.place, Place::Preamble | Place::Begin);
            let found = match at_begin && rest.starts_with(&self.delimiter) {
                true => Some((0, 0)),
                false => self.find_line(rest),
            };
            let Some((line_end, start)) = found else {
                // A delimiter may begin in the last bytes. All of it is content at the end.
                let kept = if self.ended {
                    0
                } else {
                    self.delimiter.len() + 2
                };
                return Found::Content(self.buffer.len().saturating_sub(kept));
            };
            let (content, name_end) = (from + line_end, from + start + self.delimiter.len());
            let behind = self.buffer.get(name_end..).unwrap_or_default();
            match self.behind_boundary(behind) {
                Behind::Line(length) => {
                    return Found::Delimiter {
                        content,
                        after: name_end + length - content,
                        last: false,
                    };
                }
                Behind::Last => {
                    return Found::Delimiter {
                        content,
                        after: name_end + 2 - content,
                        last: true,
                    };
                }
                // The line end and the line itself come together.
                Behind::Unknown => return Found::Content(content),
                Behind::Other => from = name_end,
            }
        }
    }

    /// The next line that begins with the delimiter: where the line end before it begins, and where
    /// the line begins.
    fn find_line(&self, text: &[u8]) -> Option<(usize, usize)> {
        memmem::find_iter(text, &self.delimiter).find_map(|start| {
            let before = text.get(..start)?;
            let before = before.strip_suffix(b"\n")?;
            let before = before.strip_suffix(b"\r").unwrap_or(before);
            Some((before.len(), start))
        })
    }

    /// What stands behind the boundary in its line.
    fn behind_boundary(&self, text: &[u8]) -> Behind {
        if text.starts_with(b"--") {
            return Behind::Last;
        }
        let padding = text
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        let padding = padding.count();
        match text.get(padding) {
            Some(b'\n') => Behind::Line(padding + 1),
            None if !self.ended && padding < HEADER_MAX => Behind::Unknown,
            Some(b'-') if text.len() == 1 && !self.ended => Behind::Unknown,
            _ => Behind::Other,
        }
    }

    async fn header(&mut self) -> Result<PartHeader, ApiError> {
        let mut looked = 0;
        let end = loop {
            if let Some(end) = blank_line(&self.buffer, &mut looked) {
                break end;
            }
            if self.buffer.len() > HEADER_MAX.min(self.headers_left) {
                return Err(too_long("a part's header"));
            }
            if self.ended {
                return Err(unreadable("it ends within the header of a part"));
            }
            self.more().await?;
        };
        if end > HEADER_MAX.min(self.headers_left) {
            return Err(too_long("the headers of parts"));
        }
        self.headers_left -= end;
        self.place = Place::Begin;
        Ok(PartHeader::read(&self.buffer.split_to(end)))
    }

    /// Waits for another piece of the body.
    async fn more(&mut self) -> Result<(), ApiError> {
        match self.pieces.next().await {
            Some(piece) => {
                let piece = piece.map_err(|error| unreadable(&error))?;
                self.buffer.extend_from_slice(&piece);
            }
            None => self.ended = true,
        }
        Ok(())
    }
}

enum Found {
    /// The bytes of content before a delimiter, and the bytes of the delimiter with its line ends.
    Delimiter {
        content: usize,
        after: usize,
        last: bool,
    },
    /// So many bytes are surely content.
    Content(usize),
}

enum Behind {
    /// So many bytes of white space and a line end: a part follows.
    Line(usize),
    /// Two dashes.
    Last,
    /// More bytes must arrive.
    Unknown,
    /// The line is content that looks similar.
    Other,
}

/// The place behind the blank line that ends a header. `looked` says how far it was looked for.
fn blank_line(text: &[u8], looked: &mut usize) -> Option<usize> {
    loop {
        let rest = text.get(*looked..)?;
        let length = memchr(b'\n', rest)? + 1;
        let line = rest.get(..length)?;
        *looked += length;
        if matches!(line, b"\n" | b"\r\n") {
            return Some(*looked);
        }
    }
}

impl PartHeader {
    fn read(section: &[u8]) -> Self {
        let first = |name| field::fields(section).find(|field| field.is(name));
        let text = |name| {
            let value = first(name).map(|field| field.value.trim_ascii());
            let value = value.filter(|value| value.is_ascii());
            String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
        };
        let disposition = first("Content-Disposition");
        let disposition = disposition.map(|field| field::parameters(field.value));
        let disposition = disposition.unwrap_or_default();
        let given = disposition.get("filename").filter(|name| !name.is_empty());
        let base = |path: &str| {
            let name = path.trim_end_matches('/').rsplit('/').next();
            name.unwrap_or_default().to_owned()
        };
        Self {
            name: disposition.get("name").unwrap_or_default().to_owned(),
            file_name: given.map(base),
            content_type: text("Content-Type"),
            content_id: text("Content-ID"),
        }
    }
}

fn too_long(what: &str) -> ApiError {
    unreadable(&format!("{what} have more than {HEADER_MAX} bytes"))
}

/// An error in the form.
pub(super) fn unreadable(what: &str) -> ApiError {
    ApiError::protocol(format!("reading the form: {what}"))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;

    type Read = Result<Vec<(PartHeader, Vec<u8>)>, String>;

    /// Reads a form that arrives in pieces of this size.
    fn read(form: &[u8], size: usize) -> Read {
        let pieces: Vec<_> = form.chunks(size).map(Bytes::copy_from_slice).collect();
        let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(stream::iter(pieces));
        let all = async {
            let mut parts = Parts::new(b"multipart/form-data; boundary=\"b:1\"", body)?;
            let mut all = Vec::new();
            while let Some(header) = parts.next().await? {
                let mut content = Vec::new();
                while let Some(chunk) = parts.chunk().await? {
                    content.extend_from_slice(&chunk);
                }
                all.push((header, content));
            }
            Ok(all)
        };
        let all: Result<_, ApiError> = futures_util::FutureExt::now_or_never(all).unwrap();
        all.map_err(|error| error.message)
    }

    fn header(name: &str, file_name: Option<&str>) -> PartHeader {
        PartHeader {
            name: name.into(),
            file_name: file_name.map(str::to_owned),
            ..PartHeader::default()
        }
    }

    const FORM: &str = "preamble\r\n--b:1x\r\n--b:1\r\nContent-Disposition: form-data; name=request\r\n\r\n\
        {}\r\n--b:12\r\n--b:1 is no boundary\r\n-\r\n--b:1 \t\r\ncontent-disposition: form-data; name=\"empty\"; \
        filename=\"\"\r\n\r\n\r\n--b:1\r\nContent-Disposition: form-data;\r\n name=a; filename=\"f\"\r\nContent-Type: image/png\r\n\
        Content-ID: <1>\r\n\r\n\r\n\n\r\n--b:1--\r\nepilogue";

    #[test]
    fn forms_in_pieces_of_any_size() {
        let lf = FORM.replace("\r\n", "\n");
        for size in 1..FORM.len() {
            let found = read(FORM.as_bytes(), size).unwrap();
            assert_eq!(found.len(), 3, "{size}");
            assert_eq!(found[0].0, header("request", None));
            assert_eq!(found[0].1, b"{}\r\n--b:12\r\n--b:1 is no boundary\r\n-");
            assert_eq!(found[1], (header("empty", None), Vec::new()));
            assert_eq!(found[2].0.file_name.as_deref(), Some("f"));
            assert_eq!(
                (&*found[2].0.content_type, &*found[2].0.content_id),
                ("image/png", "<1>")
            );
            assert_eq!(found[2].1, b"\r\n\n");
            let found = read(lf.as_bytes(), size).unwrap();
            assert_eq!(found[0].1, b"{}\n--b:12\n--b:1 is no boundary\n-");
            assert_eq!((found.len(), &*found[2].1), (3, &b"\n\n"[..]));
        }
        assert_eq!(read(b"--b:1--", 3).unwrap(), []);
        // A part without a line end before its boundary.
        let found = read(b"--b:1\r\nA: b\r\n\r\n--b:1--", 100).unwrap();
        assert_eq!(found, [(PartHeader::default(), Vec::new())]);
    }

    #[test]
    fn names_of_files() {
        for (parameters, expected) in [
            ("filename=x.txt", Some("x.txt")),
            ("filename=\"/etc/x.txt\"", Some("x.txt")),
            ("filename=\"dir/\"", Some("dir")),
            ("filename=\"a\\\\b\"", Some("a\\b")),
            ("filename=\"C:\\dir\\x.txt\"", Some("C:\\dir\\x.txt")),
            ("filename*=UTF-8''unic%C3%B8de.txt", Some("unicøde.txt")),
            ("filename=a; filename*=utf-8''b", Some("b")),
            ("FILENAME=a", Some("a")),
            ("filename=\"\u{fc}\"", Some("ü")),
            ("filename=\"\"", None),
            ("x=y", None),
        ] {
            let form = format!(
                "--b:1\r\nContent-Disposition: form-data; name*=utf-8''n; {parameters}\r\n\r\n\r\n--b:1--"
            );
            let found = read(form.as_bytes(), 10).unwrap();
            assert_eq!(found[0].0, header("n", expected), "{parameters}");
        }
        let latin = b"--b:1\r\nContent-Disposition: form-data; NAME=n; filename=\"\xfc\"\r\n\r\nx\r\n--b:1--";
        assert_eq!(read(latin, 10).unwrap()[0].0, header("n", Some("ü")));
    }

    #[test]
    fn incomplete_and_endless_forms_are_errors() {
        for form in [
            "",
            "--b:1",
            "--b:1\r\n",
            "--b:1\r\nA: b",
            "--b:1\r\nA: b\r\n\r\nx\r\n--b:",
        ] {
            assert!(read(form.as_bytes(), 2).is_err(), "{form}");
        }
        for form in [
            "x".repeat(HEADER_MAX * 2),
            format!("--b:1\r\nA: {}", "x".repeat(HEADER_MAX * 2)),
        ] {
            assert!(
                read(form.as_bytes(), 100_000)
                    .unwrap_err()
                    .contains("more than")
            );
        }
        let many = format!("--b:1\r\nA: {}\r\n\r\n\r\n", "x".repeat(1_000_000)).repeat(11);
        assert!(
            read(many.as_bytes(), 100_000)
                .unwrap_err()
                .contains("more than")
        );
        for kind in ["multipart/form-data", "x; boundary=", "x; boundary=\"\""] {
            assert!(Parts::new(kind.as_bytes(), Body::empty()).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_content_is_read_as_it_is(content in "[-b:1\r\n]{0,60}", size in 1_usize..40) {
            prop_assume!(!format!("\n{content}").contains("\n--b:1"));
            let form = format!("--b:1\r\nA: b\r\n\r\n{content}\r\n--b:1--\r\n");
            let found = read(form.as_bytes(), size).unwrap();
            prop_assert_eq!(&found[0].1, content.as_bytes());
        }
    }
}
