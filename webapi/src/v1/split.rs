//! Takes the contents of files out of a large request. Neither the base64 nor the decoded content
//! is ever in memory as a whole.

use std::{
    cell::Cell,
    error::Error,
    io::{self, BufReader, Read, Write},
    rc::Rc,
};

use base64::read::DecoderReader;
use postrider_store::{Store, StoreError, TextWriter};
use struson::{
    reader::{JsonReader, JsonStreamReader, ReaderError, ReaderSettings, TransferError, ValueType},
    writer::{JsonStreamWriter, JsonWriter},
};

use crate::{
    call::{
        data::{Data, PIECE},
        json_size::JsonSize,
    },
    error::{ApiError, Code},
    send::{BASE64, NewContent},
};

/// The most files of a request.
const FILES_MAX: usize = 10_000;

/// The bytes of memory that splitting takes, if the JSON without the contents of files has at most
/// `most` bytes. All of it may be one name.
pub(super) const fn memory(most: u64) -> u64 {
    2 * most + (1 << 20)
}

/// The fields with lists of files.
const LISTS: [&str; 3] = ["AlternativeFiles", "InlineFiles", "AttachedFiles"];
/// The field with the content of a file.
const CONTENT: &str = "Data";

/// A request without its files, and the files.
#[derive(Debug)]
pub(super) struct Split {
    /// The JSON. In it, the content of each file is replaced by its place in `files`.
    pub(super) json: Data,
    /// The size of the JSON.
    pub(super) size: JsonSize,
    pub(super) files: Vec<NewContent>,
}

/// Splits a request whose JSON without the contents of files has at most `most` bytes. Blocks.
///
/// # Errors
/// If the request is no JSON, has too many bytes, or the store fails.
pub(super) fn split(request: Data, most: u64, store: &Store) -> Result<Split, ApiError> {
    let state = Rc::new(State {
        left: Cell::new(most + BUFFER as u64),
        failed: Cell::default(),
    });
    let split = apart(request, most, store, &state);
    // The parser wraps the errors of its source and its sink, so they are kept in `state`.
    split.map_err(|Failure(error)| state.failed.take().unwrap_or(error))
}

/// Shared by the source, the sink and the files.
struct State {
    /// The bytes that may still come besides the contents of files. Reading stops there, so memory
    /// is bounded.
    left: Cell<u64>,
    /// The error of the source or the sink.
    failed: Cell<Option<ApiError>>,
}

impl State {
    fn fail(&self, error: ApiError) -> io::Error {
        let text = error.to_string();
        self.failed.set(Some(error));
        io::Error::other(text)
    }

    fn too_long(&self) -> io::Error {
        let text = "the request has too many bytes besides its files";
        self.fail(ApiError::new(Code::MessageTooLarge, text))
    }
}

fn apart(request: Data, most: u64, store: &Store, state: &Rc<State>) -> Result<Split, Failure> {
    let source = RequestReader {
        data: request,
        at: 0,
        state: Rc::clone(state),
    };
    let settings = ReaderSettings {
        // Tracking the path copies names.
        track_path: false,
        // The JSON is checked again when it is read.
        restrict_number_values: false,
        ..ReaderSettings::default()
    };
    let source = BufReader::with_capacity(BUFFER, source);
    let mut reader = JsonStreamReader::new_custom(source, settings);
    let mut writer = JsonStreamWriter::new(JsonSink {
        writer: store.text_writer(),
        size: JsonSize::default(),
        most,
        state: Rc::clone(state),
    });
    let mut files = FileSink {
        writer: store.text_writer(),
        found: Vec::new(),
        piece: vec![0; BUFFER],
        state: Rc::clone(state),
    };
    walk(&mut reader, &mut writer, &mut files)?;
    reader.consume_trailing_whitespace()?;
    let JsonSink { writer, size, .. } = writer.finish_document()?;
    Ok(Split {
        json: writer.into_scratch_blocking()?.into(),
        size,
        files: files.finish()?,
    })
}

type Reader = JsonStreamReader<BufReader<RequestReader>>;
type Writer = JsonStreamWriter<JsonSink>;

/// The error of the parser.
struct Failure(ApiError);

impl Failure {
    fn read(error: &dyn Error) -> Self {
        Self(ApiError::protocol(format!("parsing the request: {error}")))
    }
}

impl From<ReaderError> for Failure {
    fn from(error: ReaderError) -> Self {
        Self::read(&error)
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

/// Errors of writing.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(ApiError::new(Code::Server, error.to_string()))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

fn walk(reader: &mut Reader, writer: &mut Writer, files: &mut FileSink) -> Result<(), Failure> {
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

/// Goes through an object. `value` handles the value of each member.
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

/// Takes the contents of files, one after another.
struct FileSink {
    writer: TextWriter,
    /// The range of each content, or the error in its base64.
    found: Vec<Result<(u64, u64), String>>,
    piece: Vec<u8>,
    state: Rc<State>,
}

impl FileSink {
    /// Decodes the next content. Gives its place.
    fn take(&mut self, text: impl Read) -> Result<usize, Failure> {
        if self.found.len() >= FILES_MAX {
            let text = format!("the request has more than {FILES_MAX} files");
            return Err(Failure(ApiError::protocol(text)));
        }
        let left = self.state.left.replace(u64::MAX);
        let found = self.decode(text);
        self.state.left.set(left);
        self.found.push(found?);
        Ok(self.found.len() - 1)
    }

    /// Decodes a content. Gives its range, or the error in its base64.
    fn decode(&mut self, text: impl Read) -> Result<Result<(u64, u64), String>, Failure> {
        let start = self.writer.len();
        let mut decoder = DecoderReader::new(OneLine::new(text), &BASE64);
        let found = loop {
            match decoder.read(&mut self.piece) {
                Ok(0) => break Ok((start, self.writer.len())),
                Ok(read) => {
                    let piece = self.piece.get(..read).unwrap_or_default();
                    self.writer.write_blocking(piece)?;
                }
                Err(error) => break Err(error),
            }
        };
        let mut rest = decoder.into_inner();
        match (found, rest.failed.take()) {
            (_, Some(error)) => Err(Failure::read(&error)),
            (Ok(found), None) => Ok(Ok(found)),
            (Err(error), None) => {
                // An error in the rest of the JSON has precedence.
                let copied = io::copy(&mut rest.text, &mut io::sink());
                copied.map_err(|error| Failure::read(&error))?;
                Ok(Err(error.to_string()))
            }
        }
    }

    fn finish(self) -> Result<Vec<NewContent>, StoreError> {
        let all = Data::from(self.writer.into_scratch_blocking()?);
        let found = self.found.into_iter();
        let contents = found.map(|found| match found {
            Ok((start, end)) => NewContent::Decoded(all.part(start..end)),
            Err(error) => NewContent::Wrong(error),
        });
        Ok(contents.collect())
    }
}

/// The bytes that are decoded at once.
const BUFFER: usize = 32 << 10;

/// Base64 without line ends.
struct OneLine<R> {
    text: R,
    /// The error that ended reading.
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

/// Reads the bytes of a request.
struct RequestReader {
    data: Data,
    at: u64,
    state: Rc<State>,
}

impl Read for RequestReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.state.left.get() == 0 {
            return Err(self.state.too_long());
        }
        let most = PIECE.min(buf.len() as u64);
        let piece = self.data.read_blocking(self.at..self.at + most);
        let piece = piece.map_err(|error| self.state.fail(error.into()))?;
        if let Some(to) = buf.get_mut(..piece.len()) {
            to.copy_from_slice(&piece);
        }
        let read = piece.len() as u64;
        self.at += read;
        let left = &self.state.left;
        left.set(left.get().saturating_sub(read));
        Ok(piece.len())
    }
}

/// Takes the JSON without the contents of files, up to a limit.
struct JsonSink {
    writer: TextWriter,
    size: JsonSize,
    most: u64,
    state: Rc<State>,
}

impl Write for JsonSink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.writer.len() + buf.len() as u64 > self.most {
            return Err(self.state.too_long());
        }
        self.size.add(buf);
        let size = self.size.memory();
        size.map_err(|error| self.state.fail(error))?;
        let written = self.writer.write_blocking(buf);
        written.map_err(|error| self.state.fail(error.into()))?;
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
        let Split { json, files, .. } = split(request, most, &Store::memory())?;
        let json = json.read_blocking(0..u64::MAX).unwrap();
        let files = files.into_iter().map(|content| match content {
            NewContent::Decoded(data) => Ok(data.read_blocking(0..u64::MAX).unwrap()),
            NewContent::Wrong(error) => Err(error),
            NewContent::Base64(text) => panic!("{text:?} is not decoded"),
        });
        Ok((serde_json::from_slice(&json).unwrap(), files.collect()))
    }

    #[test]
    fn only_contents_of_files_are_taken_out() {
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
    fn errors_are_reported() {
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
    fn contents_of_files_do_not_count() {
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

    #[test]
    fn names_blanks_files_and_values_are_limited() {
        // The parser reads a name as a whole.
        let long = format!(r#"{{"Extra": {{"{}": ""}}}}"#, "x".repeat(1_000_000));
        assert_eq!(
            split_text(&long, 1000).unwrap_err().code,
            Code::MessageTooLarge
        );
        let blank = format!("{{{}}}", " ".repeat(1_000_000));
        assert_eq!(
            split_text(&blank, 1000).unwrap_err().code,
            Code::MessageTooLarge
        );
        let many = format!(
            r#"{{"InlineFiles": [{{"Data": ""}}{}]}}"#,
            r#",{"Data":"!"}"#.repeat(FILES_MAX)
        );
        let error = split_text(&many, 1_000_000).unwrap_err();
        assert!(
            error.code == Code::Protocol && error.message.contains("files"),
            "{error}"
        );
        let values = format!("[{}]", "0,".repeat(1_000_001));
        let error = split_text(&values, 10_000_000).unwrap_err();
        assert!(
            error.code == Code::Protocol && error.message.contains("values"),
            "{error}"
        );
    }

    #[test]
    fn numbers_stay_as_they_are() {
        let text = r#"{"A": 1e200, "B": 123456789012345678901234567890}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(split_text(text, 1000).unwrap().0, expected);
    }

    proptest! {
        #[test]
        fn contents_are_the_same_as_decoded_at_once(files in vec((vec(any::<u8>(), 0..200), "[A-Za-z0-9+/=\r\n !]{0,40}", any::<bool>()), 0..5)) {
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
