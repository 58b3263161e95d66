//! Takes the content of files out of a large request, so that neither its base64 nor what it is decoded to is ever in memory
//! as a whole.

use std::io::{self, BufReader, Read, Write};

use base64::read::DecoderReader;
use postrider_store::{BodyWriter, Scratch, Store, StoreError};
use struson::{
    reader::{JsonReader, JsonStreamReader, ReaderError, TransferError, ValueType},
    writer::{JsonStreamWriter, JsonWriter},
};

use crate::{
    data::{Data, PIECE},
    error::{ApiError, Code},
    send::{BASE64, NewContent},
};

/// What splitting takes of memory.
pub(super) const MEMORY: u64 = 2 << 20;
/// Where files are.
const LISTS: [&str; 3] = ["AlternativeFiles", "InlineFiles", "AttachedFiles"];
/// The field with a file's content.
const CONTENT: &str = "Data";

/// A request in two.
#[derive(Debug)]
pub(super) struct Split {
    /// The JSON, in which the content of each file is its place in `files`.
    pub(super) json: Data,
    pub(super) files: Vec<NewContent>,
}

/// Splits a request whose JSON without the content of files has `most` bytes at most. Blocks.
///
/// # Errors
/// If it is no JSON, has too much of it, or the store fails.
pub(super) fn split(request: Data, most: u64, store: &Store) -> Result<Split, ApiError> {
    apart(request, most, store).map_err(|Failure(error)| error)
}

fn apart(request: Data, most: u64, store: &Store) -> Result<Split, Failure> {
    let source = Source {
        data: request,
        at: 0,
    };
    let source = BufReader::with_capacity(BUFFER, source);
    let mut reader = JsonStreamReader::new(source);
    let mut writer = JsonStreamWriter::new(Limited {
        writer: store.body_writer(),
        most,
    });
    let mut files = Files {
        writer: store.body_writer(),
        found: Vec::new(),
    };
    walk(&mut reader, &mut writer, &mut files)?;
    reader.consume_trailing_whitespace()?;
    let json = writer.finish_document()?.writer.into_scratch_blocking()?;
    Ok(Split {
        json: json.into(),
        files: files.finish()?,
    })
}

type Reader = JsonStreamReader<BufReader<Source>>;
type Writer = JsonStreamWriter<Limited>;

/// Why a request is not split.
struct Failure(ApiError);

impl Failure {
    /// Reading ended before the request did.
    fn read(error: &io::Error) -> Self {
        let of_store = error
            .get_ref()
            .is_some_and(|error| error.is::<StoreError>());
        let code = if of_store {
            Code::Server
        } else {
            Code::Protocol
        };
        Self(ApiError::new(code, format!("parsing the request: {error}")))
    }
}

impl From<ReaderError> for Failure {
    fn from(error: ReaderError) -> Self {
        match error {
            ReaderError::IoError { error, .. } => Self::read(&error),
            error => Self(ApiError::protocol(format!("parsing the request: {error}"))),
        }
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::ReaderError(error) => error.into(),
            TransferError::WriterError(error) => error.into(),
        }
    }
}

/// Of what is written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(match error.kind() {
            io::ErrorKind::FileTooLarge => {
                let text = "the request, without what is attached, has more bytes than it may";
                ApiError::new(Code::MessageTooLarge, text)
            }
            _ => ApiError::new(Code::Server, error.to_string()),
        })
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

fn walk(reader: &mut Reader, writer: &mut Writer, files: &mut Files) -> Result<(), Failure> {
    if reader.peek()? != ValueType::Object {
        return Ok(reader.transfer_to(writer)?);
    }
    members(reader, writer, |name, reader, writer| {
        if !LISTS.contains(&name) || reader.peek()? != ValueType::Array {
            return Ok(reader.transfer_to(writer)?);
        }
        reader.begin_array()?;
        writer.begin_array()?;
        while reader.has_next()? {
            if reader.peek()? != ValueType::Object {
                reader.transfer_to(writer)?;
                continue;
            }
            members(reader, writer, |name, reader, writer| {
                if name != CONTENT || reader.peek()? != ValueType::String {
                    return Ok(reader.transfer_to(writer)?);
                }
                let place = files.take(reader.next_string_reader()?)?;
                Ok(writer.string_value(&place.to_string())?)
            })?;
        }
        reader.end_array()?;
        Ok(writer.end_array()?)
    })
}

/// Goes through an object, with the value of each member left to `value`.
fn members(
    reader: &mut Reader,
    writer: &mut Writer,
    mut value: impl FnMut(&str, &mut Reader, &mut Writer) -> Result<(), Failure>,
) -> Result<(), Failure> {
    reader.begin_object()?;
    writer.begin_object()?;
    while reader.has_next()? {
        let name = reader.next_name_owned()?;
        writer.name(&name)?;
        value(&name, reader, writer)?;
    }
    reader.end_object()?;
    Ok(writer.end_object()?)
}

/// The contents of files, one behind another.
struct Files {
    writer: BodyWriter,
    /// Where each begins and ends, or what is wrong with its base64.
    found: Vec<Result<(u64, u64), String>>,
}

impl Files {
    /// Decodes the next one; gives its place.
    fn take(&mut self, text: impl Read) -> Result<usize, Failure> {
        let start = self.writer.len();
        let mut decoder = DecoderReader::new(OneLine::new(text), &BASE64);
        let mut piece = vec![0; BUFFER];
        let found = loop {
            match decoder.read(&mut piece) {
                Ok(0) => break Ok((start, self.writer.len())),
                Ok(read) => self
                    .writer
                    .write_blocking(piece.get(..read).unwrap_or_default())?,
                Err(error) => break Err(error),
            }
        };
        let mut rest = decoder.into_inner();
        let found = match (found, rest.failed.take()) {
            (_, Some(error)) => return Err(Failure::read(&error)),
            (Ok(found), None) => Ok(found),
            (Err(error), None) => {
                // What is wrong with the rest of the JSON comes first.
                io::copy(&mut rest.text, &mut io::sink()).map_err(|error| Failure::read(&error))?;
                Err(error.to_string())
            }
        };
        self.found.push(found);
        Ok(self.found.len() - 1)
    }

    fn finish(self) -> Result<Vec<NewContent>, StoreError> {
        let all: Scratch = self.writer.into_scratch_blocking()?;
        let found = self.found.into_iter();
        let contents = found.map(|found| match found {
            Ok((start, end)) => NewContent::Decoded(Data::within(all.clone(), start..end)),
            Err(error) => NewContent::Wrong(error),
        });
        Ok(contents.collect())
    }
}

/// Bytes that are decoded at once.
const BUFFER: usize = 32 << 10;

/// Base64 without line ends.
struct OneLine<R> {
    text: R,
    /// Why it can't be read on.
    failed: Option<io::Error>,
}

impl<R: Read> OneLine<R> {
    const fn new(text: R) -> Self {
        Self { text, failed: None }
    }
}

impl<R: Read> Read for OneLine<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self.text.read(buf) {
                Ok(0) => return Ok(0),
                Ok(read) => read,
                Err(error) => {
                    self.failed = Some(error);
                    return Err(io::Error::other("it can't be read"));
                }
            };
            let mut kept = 0;
            for at in 0..read {
                if let Some(&byte) = buf.get(at)
                    && !matches!(byte, b'\r' | b'\n')
                    && let Some(to) = buf.get_mut(kept)
                {
                    *to = byte;
                    kept += 1;
                }
            }
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

/// A request as it is read.
struct Source {
    data: Data,
    at: u64,
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = PIECE.min(buf.len() as u64);
        let piece = self.data.read_blocking(self.at..self.at + most);
        let piece = piece.map_err(io::Error::other)?;
        if let Some(to) = buf.get_mut(..piece.len()) {
            to.copy_from_slice(&piece);
        }
        self.at += piece.len() as u64;
        Ok(piece.len())
    }
}

/// What is written up to a size.
struct Limited {
    writer: BodyWriter,
    most: u64,
}

impl Write for Limited {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.writer.len() + buf.len() as u64 > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.writer.write_blocking(buf).map_err(io::Error::other)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use bytes::Bytes;
    use proptest::{collection::vec, prelude::*};
    use serde_json::{Value, json};

    use super::*;

    fn split_text(text: &str, most: u64) -> Result<(Value, Vec<Result<Bytes, String>>), ApiError> {
        let request = Bytes::copy_from_slice(text.as_bytes()).into();
        let Split { json, files } = split(request, most, &Store::memory())?;
        let json = json.read_blocking(0..u64::MAX).unwrap();
        let files = files.into_iter().map(|content| match content {
            NewContent::Decoded(data) => Ok(data.read_blocking(0..u64::MAX).unwrap()),
            NewContent::Wrong(error) => Err(error),
            NewContent::Base64(text) => panic!("{text:?} is not decoded"),
        });
        Ok((serde_json::from_slice(&json).unwrap(), files.collect()))
    }

    #[test]
    fn contents_of_files_are_taken_out_and_all_else_stays() {
        let text = r#" {"To": [{"Address": "a@example.org"}], "Data": "aGk=", "AttachedFiles": [
            {"Name": "\u00e4\n", "Data": "aG\r\nk="}, {"Data": null}, 1, null, {"Data": 5}, {"\u0044ata": "\u0061Gk="}, {"More": {"Data": "aGk="}}],
            "InlineFiles": {"Data": "aGk="}, "AlternativeFiles": [{"Data": ""}], "Date": null, "Number": 1.50} "#;
        let (json, files) = split_text(text, 10_000).unwrap();
        let expected = json!({
            "To": [{"Address": "a@example.org"}],
            "Data": "aGk=",
            "AttachedFiles": [
                {"Name": "\u{e4}\n", "Data": "0"}, {"Data": null}, 1, null, {"Data": 5}, {"Data": "1"}, {"More": {"Data": "aGk="}}
            ],
            "InlineFiles": {"Data": "aGk="},
            "AlternativeFiles": [{"Data": "2"}],
            "Date": null,
            "Number": 1.5
        });
        assert_eq!(json, expected);
        assert_eq!(files, [Ok("hi".into()), Ok("hi".into()), Ok("".into())]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (_, files) = split_text(r#"{"InlineFiles": [{"Data": "a!"}, {"Data": "aGk"}, {"Data": "aGk=aGk="}, {"Data": "\u00e4"}]}"#, 1000).unwrap();
        assert!(files.iter().all(Result::is_err), "{files:?}");
        for text in [
            r#"{"InlineFiles": [{"Data": "aGk="}]} more"#,
            r#"{"InlineFiles": [{"Data": "aGk="}]"#,
            r#"{"InlineFiles": [{"Data": "aGk=}]}"#,
            r#"{"InlineFiles": [{"Data": "! \x"}]}"#,
            "{\"InlineFiles\": [{\"Data\": \"aG\nk=\"}]}",
            "",
            "nul",
        ] {
            assert_eq!(
                split_text(text, 1000).unwrap_err().code,
                Code::Protocol,
                "{text}"
            );
        }
        for bytes in [
            &b"{\"Text\": \"\xff\"}"[..],
            b"{\"InlineFiles\": [{\"Data\": \"\xff\"}]}",
        ] {
            let request = Bytes::copy_from_slice(bytes).into();
            let error = split(request, 1000, &Store::memory()).unwrap_err();
            assert_eq!(error.code, Code::Protocol, "{error}");
        }
        let deep = format!("{{\"To\": {}", "[".repeat(100_000));
        assert_eq!(
            split_text(&deep, 1_000_000).unwrap_err().code,
            Code::Protocol
        );
    }

    #[test]
    fn only_what_is_not_a_file_counts() {
        let file = BASE64.encode([7; 10_000]);
        let text = format!(
            "{{\"InlineFiles\": [{{\"Data\": \"{file}\"}}], \"Text\": \"{}\"}}",
            "x".repeat(900)
        );
        assert_eq!(
            split_text(&text, 1000).unwrap().1,
            [Ok(Bytes::from(vec![7; 10_000]))]
        );
        let error = split_text(&text, 900).unwrap_err();
        assert_eq!(error.code, Code::MessageTooLarge);
    }

    proptest! {
        #[test]
        fn as_if_they_were_read_at_once(files in vec((vec(any::<u8>(), 0..200), "[A-Za-z0-9+/=\r\n !]{0,40}", any::<bool>()), 0..5)) {
            let texts = files.into_iter().map(|(data, junk, valid)| if valid { BASE64.encode(data) } else { junk });
            let texts: Vec<String> = texts.collect();
            let list: Vec<Value> = texts.iter().map(|text| json!({"Data": text})).collect();
            let request = json!({"AttachedFiles": list}).to_string();
            let (_, found) = split_text(&request, 10_000).unwrap();
            for (text, found) in texts.iter().zip(&found) {
                let bare: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
                let at_once = BASE64.decode(bare);
                prop_assert_eq!(found.as_ref().ok().map(|data| &data[..]), at_once.as_deref().ok(), "{:?}", text);
            }
            prop_assert_eq!(texts.len(), found.len());
        }
    }
}
