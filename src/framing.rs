//! The framing of requests in HTTP/1 (RFC 9112).
//!
//! A proxy and a server that disagree on the end of a request, or on its host, let a client smuggle
//! requests past the proxy. So a request that leaves room for two readings is refused: it has two
//! Host fields or none, two Content-Length or Transfer-Encoding fields, or both kinds. The HTTP
//! library repairs some of these before its user sees them. So [`Framing`] reads along with it, on
//! the bytes of the connection.

/// The beginning of each connection in HTTP/2, and of no request in HTTP/1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// The end of the first line of a request that needs no Host field.
const VERSION: &[u8] = b"HTTP/1.0";
/// The bytes of a line that are kept: enough for the names and values that matter.
const KEPT: usize = 64;
/// The names of the fields that matter, in lower case.
const NAMES: [&[u8]; 3] = [b"host", b"transfer-encoding", b"content-length"];

/// The fault of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the request has no Host field")]
    NoHost,
    #[error("the request has two Host fields")]
    TwoHosts,
    #[error("the request has two Content-Length fields")]
    TwoLengths,
    #[error("the request has two Transfer-Encoding fields")]
    TwoEncodings,
    #[error("the request has a Content-Length and a Transfer-Encoding")]
    LengthAndEncoding,
    #[error("the length of the request is not clear")]
    Unclear,
}

/// Reads the requests of a connection.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    /// The number of heads that were read.
    requests: usize,
    /// The first fault, and the number of its request, from 0. Nothing is read after it.
    fault: Option<(usize, Fault)>,
}

#[derive(Debug)]
enum State {
    /// The first line of a request, or blank lines before it.
    Begin(Line),
    Fields(Line, Fields),
    /// The rest of a body with a length, in bytes.
    Body(u64),
    /// The rest of a chunk, in bytes.
    Chunk(u64),
    /// The line with the size of a chunk.
    Size(Line),
    /// The line end after a chunk.
    ChunkEnd(Line),
    /// The fields after the last chunk.
    Trailer(Line),
    /// A connection in HTTP/2, or one with a fault.
    Off,
}

/// The fields of a head that matter.
#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    needs_host: bool,
    hosts: usize,
    encodings: usize,
    lengths: usize,
    length: Option<u64>,
    /// A length or an encoding can't be read as every server reads it.
    unclear: bool,
}

/// The beginning and the end of a line that comes in pieces.
#[derive(Debug, Default)]
struct Line {
    begin: Vec<u8>,
    /// The last bytes, as many as [`VERSION`] and a CR have.
    end: Vec<u8>,
    /// The line is longer than the beginning that is kept.
    cut: bool,
}

impl Line {
    /// Takes bytes up to a line end. True: the line is complete.
    fn take(&mut self, bytes: &mut &[u8]) -> bool {
        let end = memchr::memchr(b'\n', bytes);
        let (line, rest) = match end {
            Some(end) => (
                bytes.get(..end).unwrap_or_default(),
                bytes.get(end + 1..).unwrap_or_default(),
            ),
            None => (*bytes, &[][..]),
        };
        let room = KEPT.saturating_sub(self.begin.len());
        self.begin.extend(line.iter().take(room));
        self.cut |= line.len() > room;
        let tail = line.len().saturating_sub(VERSION.len() + 1);
        self.end.extend(line.iter().skip(tail));
        let over = self.end.len().saturating_sub(VERSION.len() + 1);
        self.end.drain(..over);
        *bytes = rest;
        end.is_some()
    }

    /// The kept beginning, without the line end.
    fn text(&self) -> &[u8] {
        self.begin.strip_suffix(b"\r").unwrap_or(&self.begin)
    }

    /// The first line of a request of HTTP/1.0.
    fn is_old(&self) -> bool {
        let end = self.end.strip_suffix(b"\r").unwrap_or(&self.end);
        end.ends_with(VERSION)
    }
}

impl Fields {
    fn add(&mut self, line: &Line) {
        let mut parts = line.text().splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next();
        // The name may end behind the part that is kept.
        self.unclear |= line.cut && value.is_none() && may_matter(name);
        let value = value.unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            // Other servers may read another list in another way, and we know no other encoding.
            self.unclear |= line.cut || !value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            let digits = value.iter().all(u8::is_ascii_digit);
            let value = std::str::from_utf8(value).ok();
            self.length = value.and_then(|value| value.parse().ok());
            self.unclear |= line.cut || !digits;
        }
    }

    /// The state after the head.
    fn next(self) -> Result<State, Fault> {
        match self {
            Self { hosts: 2.., .. } => Err(Fault::TwoHosts),
            Self {
                encodings: 1..,
                lengths: 1..,
                ..
            } => Err(Fault::LengthAndEncoding),
            Self { encodings: 2.., .. } => Err(Fault::TwoEncodings),
            Self { lengths: 2.., .. } => Err(Fault::TwoLengths),
            Self {
                hosts: 0,
                needs_host: true,
                ..
            } => Err(Fault::NoHost),
            Self { unclear: true, .. } => Err(Fault::Unclear),
            Self { encodings: 1, .. } => Ok(State::Size(Line::default())),
            Self { lengths: 0, .. } => Ok(State::begin()),
            Self { length, .. } => length.map(State::Body).ok_or(Fault::Unclear),
        }
    }
}

/// Whether a name that begins so may be one of a field that matters. Blanks before it are gone.
fn may_matter(begin: &[u8]) -> bool {
    let begins = |name: &[u8]| {
        let same = name.get(..begin.len());
        same.is_some_and(|same| same.eq_ignore_ascii_case(begin))
    };
    NAMES.into_iter().any(begins)
}

impl State {
    fn begin() -> Self {
        Self::Begin(Line::default())
    }
}

impl Framing {
    pub(crate) fn new() -> Self {
        Self {
            state: State::begin(),
            requests: 0,
            fault: None,
        }
    }

    /// The fault of a request, by its number on the connection. The requests after a faulty one
    /// have its fault too.
    pub(crate) fn fault(&self, request: usize) -> Option<Fault> {
        let (at, fault) = self.fault?;
        (request >= at).then_some(fault)
    }

    /// Reads the next bytes of the connection.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !matches!(self.state, State::Off) {
            let state = std::mem::replace(&mut self.state, State::Off);
            let at = self.requests;
            match self.step(state, &mut bytes) {
                Ok(next) => self.state = next,
                Err(fault) => self.fault = Some((at, fault)),
            }
        }
    }

    fn step(&mut self, mut state: State, bytes: &mut &[u8]) -> Result<State, Fault> {
        let line = match &mut state {
            State::Begin(line)
            | State::Fields(line, _)
            | State::Size(line)
            | State::ChunkEnd(line)
            | State::Trailer(line) => line,
            State::Body(left) => {
                return Ok(match skip(*left, bytes) {
                    0 => State::begin(),
                    left => State::Body(left),
                });
            }
            State::Chunk(left) => {
                return Ok(match skip(*left, bytes) {
                    0 => State::ChunkEnd(Line::default()),
                    left => State::Chunk(left),
                });
            }
            State::Off => return Ok(state),
        };
        if !line.take(bytes) {
            return Ok(state);
        }
        self.line(state)
    }

    /// The state after a complete line.
    fn line(&mut self, state: State) -> Result<State, Fault> {
        match state {
            State::Begin(line) if line.text().is_empty() => Ok(State::begin()),
            State::Begin(line) if line.text() == PREFACE => Ok(State::Off),
            State::Begin(line) => {
                let fields = Fields {
                    needs_host: !line.is_old(),
                    ..Fields::default()
                };
                Ok(State::Fields(Line::default(), fields))
            }
            State::Fields(line, fields) if line.text().is_empty() => {
                let next = fields.next()?;
                self.requests += 1;
                Ok(next)
            }
            State::Fields(line, mut fields) => {
                fields.add(&line);
                Ok(State::Fields(Line::default(), fields))
            }
            State::Size(line) => match chunk_size(&line) {
                Some(0) => Ok(State::Trailer(Line::default())),
                Some(size) => Ok(State::Chunk(size)),
                None => Err(Fault::Unclear),
            },
            State::ChunkEnd(line) if line.text().is_empty() => Ok(State::Size(Line::default())),
            State::ChunkEnd(_) => Err(Fault::Unclear),
            State::Trailer(line) if line.text().is_empty() => Ok(State::begin()),
            State::Trailer(_) => Ok(State::Trailer(Line::default())),
            State::Body(_) | State::Chunk(_) | State::Off => Ok(state),
        }
    }
}

/// Skips up to `left` bytes. Gives how many are left.
fn skip(left: u64, bytes: &mut &[u8]) -> u64 {
    let here = left.min(bytes.len() as u64);
    let skipped = usize::try_from(here).unwrap_or(bytes.len());
    *bytes = bytes.get(skipped..).unwrap_or_default();
    left - here
}

/// The size in the line before a chunk. Extensions may follow it.
fn chunk_size(line: &Line) -> Option<u64> {
    let mut parts = line.text().split(|byte| *byte == b';');
    let size = parts.next()?.trim_ascii();
    // The rest of the digits may be behind the part that is kept.
    if line.cut && parts.next().is_none() {
        return None;
    }
    let size = std::str::from_utf8(size).ok()?;
    let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(size, 16).ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "Host: x\r\n";

    /// The number of requests, and the first fault, of these bytes in pieces of `split` bytes.
    fn read(wire: &str, split: usize) -> (usize, Option<(usize, Fault)>) {
        let mut framing = Framing::new();
        for piece in wire.as_bytes().chunks(split) {
            framing.read(piece);
        }
        (framing.requests, framing.fault)
    }

    fn check(wire: &str, requests: usize, fault: Option<(usize, Fault)>) {
        for split in [1, 2, 3, 7, 1000] {
            assert_eq!(read(wire, split), (requests, fault), "{wire:?} by {split}");
        }
    }

    #[test]
    fn requests_that_are_clear_have_no_fault() {
        let long = "x".repeat(500);
        let all = [
            format!("GET /{long} HTTP/1.1\r\n{HOST}X: {long}\r\n\r\n"),
            format!("\r\nPOST / HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nGET /"),
            "POST / HTTP/1.1\r\nhost:x\r\ncontent-length:0\r\n\r\n".to_owned(),
            format!(
                "POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n\
                 5;name=value\r\nHost:\r\nA \r\n0123456789\r\n0\r\nHost: trailer\r\n\r\n"
            ),
            format!("GET /{long} HTTP/1.0\r\n\r\n"),
            "GET / HTTP/1.0\n\n".to_owned(),
            format!("GET / HTTP/1.1\r\n{HOST}\r\n"),
        ];
        check(&all.concat(), all.len(), None);
        check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", 0, None);
        check("", 0, None);
    }

    #[test]
    fn a_long_size_of_a_chunk_is_not_read_in_part() {
        let head = format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
        let zeros = "0".repeat(70);
        let cut = format!("{head}{zeros}5\r\nhello\r\n0\r\n\r\n");
        check(&cut, 1, Some((1, Fault::Unclear)));
        let extension = "x".repeat(100);
        let whole = format!("{head}5;{extension}\r\nhello\r\n0\r\n\r\n{head}");
        check(&whole, 2, None);
    }

    #[test]
    fn requests_with_two_readings_have_a_fault() {
        let chunked = "Transfer-Encoding: chunked\r\n";
        for (fields, fault) in [
            (String::new(), Fault::NoHost),
            (format!("{HOST}{HOST}"), Fault::TwoHosts),
            (format!("{HOST}host:y\r\n"), Fault::TwoHosts),
            (format!("{HOST}{chunked}{chunked}"), Fault::TwoEncodings),
            (
                format!("{HOST}{chunked}transfer-encoding: identity\r\n"),
                Fault::TwoEncodings,
            ),
            (
                format!("{HOST}{chunked}Content-Length: 5\r\n"),
                Fault::LengthAndEncoding,
            ),
            (
                format!("{HOST}Content-Length: 5\r\n{chunked}"),
                Fault::LengthAndEncoding,
            ),
            (
                format!("{HOST}Content-Length: {}57\r\n", "0".repeat(60)),
                Fault::Unclear,
            ),
            (format!("{HOST}Content-Length: +5\r\n"), Fault::Unclear),
            (
                format!("{HOST}Transfer-Encoding: chunked, chunked\r\n"),
                Fault::Unclear,
            ),
            (
                format!("{HOST}Transfer-Encoding: gzip, chunked\r\n"),
                Fault::Unclear,
            ),
            (
                format!("{HOST}Content-Length: 5\r\nContent-Length: 5\r\n"),
                Fault::TwoLengths,
            ),
            (
                format!("{HOST}Content-Length: 5\r\nContent-Length: 6\r\n"),
                Fault::TwoLengths,
            ),
            (format!("{HOST}Content-Length: 5, 5\r\n"), Fault::Unclear),
            (format!("{HOST}Content-Length: -5\r\n"), Fault::Unclear),
        ] {
            let first = format!("GET / HTTP/1.1\r\n{HOST}\r\n");
            let wire = format!("{first}POST / HTTP/1.1\r\n{fields}\r\n{first}");
            check(&wire, 1, Some((1, fault)));
        }
        let mut framing = Framing::new();
        framing.read(b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        let faults = [0, 1, 2].map(|request| framing.fault(request));
        assert_eq!(faults, [None, Some(Fault::NoHost), Some(Fault::NoHost)]);
    }

    #[test]
    fn a_name_that_is_cut_is_not_passed_over() {
        let blanks = " ".repeat(64);
        let most = " ".repeat(60);
        for (field, fault) in [
            (format!("{blanks}Content-Length: 5"), Some(Fault::Unclear)),
            (format!("{blanks}X: y"), Some(Fault::Unclear)),
            (format!("{most}Host: y"), Some(Fault::TwoHosts)),
            (format!("\t{most}hOS"), Some(Fault::Unclear)),
            (format!("{most}Tran: y"), Some(Fault::Unclear)),
            (format!("Host{blanks}: y"), Some(Fault::TwoHosts)),
            (format!("Content-Length{blanks}: 5"), Some(Fault::Unclear)),
            (
                format!("Transfer-Encoding{blanks}: chunked"),
                Some(Fault::Unclear),
            ),
            (format!("{most}XHos: y"), None),
            (format!("Hosts-{}: y", "x".repeat(70)), None),
            (format!(" {}", "x".repeat(70)), None),
        ] {
            let wire = format!("GET / HTTP/1.1\r\n{HOST}{field}\r\n\r\n");
            let requests = usize::from(fault.is_none());
            check(&wire, requests, fault.map(|fault| (0, fault)));
        }
    }

    #[test]
    fn chunks_that_are_not_clear_are_the_fault_of_the_next_request() {
        let head = format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
        for chunks in ["x\r\n", "\r\n", "-1\r\n", "+1\r\n", "1\r\nab\r\n"] {
            check(&format!("{head}{chunks}"), 1, Some((1, Fault::Unclear)));
        }
    }
}
