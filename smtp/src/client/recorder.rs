//! A recorder: keeps the dialog of a connection, so that people can read what was said.
//!
//! | part | what it has | at most |
//! |---|---|---|
//! | head | the lines before the session is ready | [`HEAD_MAX`] |
//! | tail | the lines of the messages that were submitted last | [`BATCH_MAX`]; the oldest lines go |
//!
//! The transcript of one message has the head, and the last [`TAIL_MAX`] of those lines of the tail
//! that belong to it or to no message. What is said of other messages is not in it.
//!
//! Passwords and texts never get here: the session gives `***` for what a login sends, and the size
//! of a text. A line needs no memory of its own, so a recorder costs little when nobody asks for
//! the transcript.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::TlsFault;
use crate::{DeliveryStatus, Reply};

/// The bytes of the first lines that a transcript keeps.
const HEAD_MAX: usize = 2 * 1024;
/// The bytes of the last lines that a transcript keeps.
const TAIL_MAX: usize = 6 * 1024;
/// The bytes of the lines of all messages of a batch.
const BATCH_MAX: usize = 32 * 1024;
/// The longest line. The rest of a longer one is cut off.
const LINE_MAX: usize = 1024;
/// What a line counts beside its text.
const LINE_COST: usize = 8;

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// We sent it.
    Sent,
    /// The server sent it.
    Received,
    /// Nobody sent it. It tells what happened.
    Note,
}

/// A line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was, counted from the beginning of the recording.
    pub at: Duration,
    /// Who wrote it.
    pub direction: Direction,
    /// The line without its end, on one line, 1 KiB at most.
    pub text: String,
}

/// What was said on a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// The lines. Together they have 8 KiB at most, where each counts 8 bytes beside its text.
    pub lines: Vec<Line>,
    /// So many lines are missing behind the first ones.
    pub left_out: u64,
}

/// Something that a listener hears while it happens.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// A command was sent. It has this name, like `EHLO`.
    Command(&'static str),
    /// The reply to a command, or the greeting.
    Reply(&'static str, &'a Reply),
    /// The TLS handshake has ended: None if it worked.
    Handshake(Option<&'a TlsFault>),
    /// The connection is over.
    Closed(&'a DeliveryStatus),
}

/// Hears what happens on a connection. It must not wait.
pub type Listener = Box<dyn FnMut(Instant, Heard<'_>) + Send>;

/// Records a connection. A clone records on the same tape, so the owner of a connection can read
/// the tape when the connection is lost.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Tape>>);

struct Tape {
    start: Instant,
    head: Lines,
    tail: Lines,
    /// The session is not ready yet.
    opening: bool,
    /// So many lines of the opening did not fit, and so many of the tail went.
    left_out: u64,
    /// The memory for a line that is made.
    scratch: BytesMut,
    listener: Option<Listener>,
}

/// Lines in one piece of memory.
#[derive(Default)]
struct Lines {
    marks: VecDeque<Mark>,
    text: VecDeque<u8>,
}

/// A line whose text lies elsewhere.
#[derive(Clone, Copy)]
struct Mark {
    at: Duration,
    direction: Direction,
    /// The index of its message in the batch.
    message: Option<usize>,
    length: usize,
}

impl Mark {
    const fn cost(&self) -> usize {
        self.length + LINE_COST
    }
}

impl Lines {
    fn cost(&self) -> usize {
        self.text.len() + self.marks.len() * LINE_COST
    }

    fn push(&mut self, mark: Mark, text: &[u8]) {
        self.text.extend(text);
        self.marks.push_back(mark);
    }

    /// Forgets the oldest line.
    fn pop(&mut self) {
        if let Some(mark) = self.marks.pop_front() {
            self.text.drain(..mark.length.min(self.text.len()));
        }
    }

    fn clear(&mut self) {
        self.marks.clear();
        self.text.clear();
    }

    /// The lines, with their messages.
    fn read(&self) -> impl Iterator<Item = (Option<usize>, Line)> {
        let mut offset = 0;
        self.marks.iter().map(move |mark| {
            let text = self.text.iter().skip(offset).take(mark.length);
            let text: Vec<u8> = text.copied().collect();
            offset += mark.length;
            let line = Line {
                at: mark.at,
                direction: mark.direction,
                text: shown(&text),
            };
            (mark.message, line)
        })
    }
}

/// The text of a line. Strangers write lines, so control characters become spaces.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let chars = text.chars();
    chars
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

impl Recorder {
    /// A recorder whose time begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self::make(now, None)
    }

    /// A recorder with a listener.
    #[must_use]
    pub fn with_listener(now: Instant, listener: Listener) -> Self {
        Self::make(now, Some(listener))
    }

    fn make(start: Instant, listener: Option<Listener>) -> Self {
        Self(Arc::new(Mutex::new(Tape {
            start,
            head: Lines::default(),
            tail: Lines::default(),
            opening: true,
            left_out: 0,
            scratch: BytesMut::new(),
            listener,
        })))
    }

    /// The lock is held for a moment, never over a wait.
    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the recording began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.tape().start
    }

    /// Notes what happened beside the dialog.
    pub fn note(&self, text: &str, now: Instant) {
        self.tape()
            .line(now, Direction::Note, None, text.as_bytes());
    }

    /// The TLS handshake has ended.
    pub(super) fn handshake(&self, fault: Option<&TlsFault>, now: Instant) {
        let mut tape = self.tape();
        let text = fault.map_or_else(|| "the TLS handshake is done".into(), ToString::to_string);
        tape.line(now, Direction::Note, None, text.as_bytes());
        tape.tell(now, Heard::Handshake(fault));
    }

    /// A command was sent. `text` has no secrets.
    pub(super) fn command(
        &self,
        name: &'static str,
        message: Option<usize>,
        text: &[u8],
        now: Instant,
    ) {
        let mut tape = self.tape();
        tape.line(now, Direction::Sent, message, text);
        tape.tell(now, Heard::Command(name));
    }

    /// What the text of a message is shown as.
    pub(super) fn text(&self, message: usize, shown: fmt::Arguments<'_>, now: Instant) {
        let mut tape = self.tape();
        let mut bytes = std::mem::take(&mut tape.scratch);
        bytes.clear();
        // Writing into memory cannot fail.
        let _ = bytes.write_fmt(shown);
        tape.line(now, Direction::Sent, Some(message), &bytes);
        tape.scratch = bytes;
    }

    /// A reply came to a command of this name. `hidden`: only its code is shown.
    pub(super) fn reply(
        &self,
        name: &'static str,
        message: Option<usize>,
        (reply, hidden): (&Reply, bool),
        now: Instant,
    ) {
        let mut tape = self.tape();
        let mut bytes = std::mem::take(&mut tape.scratch);
        let mut lines = reply.lines().peekable();
        while let Some(line) = lines.next() {
            bytes.clear();
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            // Writing into memory cannot fail.
            let _ = write!(bytes, "{}{separator}", reply.code());
            match (hidden, reply.enhanced()) {
                (true, _) => bytes.extend_from_slice(b"***"),
                (false, enhanced) => {
                    let _ = enhanced.map_or(Ok(()), |code| write!(bytes, "{code} "));
                    let line = line.as_bytes();
                    bytes.extend_from_slice(line.get(..LINE_MAX).unwrap_or(line));
                }
            }
            tape.line(now, Direction::Received, message, &bytes);
        }
        tape.scratch = bytes;
        tape.tell(now, Heard::Reply(name, reply));
    }

    /// The connection is over for a reason that is not a reply.
    pub(super) fn closed(&self, status: &DeliveryStatus, is_reply: bool, now: Instant) {
        let mut tape = self.tape();
        if !is_reply {
            tape.line(now, Direction::Note, None, status.text.as_bytes());
        }
        tape.tell(now, Heard::Closed(status));
    }

    /// The session is ready: the head ends.
    pub(super) fn opened(&self) {
        self.tape().opening = false;
    }

    /// Other messages are sent from now on.
    pub(super) fn begin_batch(&self) {
        let mut tape = self.tape();
        tape.tail.clear();
        tape.left_out = 0;
    }

    /// What was said, as far as it concerns this message of the batch. None: no message, but what
    /// concerns the connection.
    #[must_use]
    pub fn recording(&self, message: Option<usize>) -> Recording {
        let tape = self.tape();
        let concerning = |part: &Lines| -> Vec<Line> {
            let lines = part.read();
            let lines = lines.filter(|(of, _)| of.is_none() || *of == message);
            lines.map(|(_, line)| line).collect()
        };
        let (mut lines, mut tail) = (concerning(&tape.head), concerning(&tape.tail));
        let cost = |line: &Line| line.text.len() + LINE_COST;
        let head: usize = lines.iter().map(cost).sum();
        let mut room = (HEAD_MAX + TAIL_MAX).saturating_sub(head);
        let mut kept = 0;
        for line in tail.iter().rev() {
            match room.checked_sub(cost(line)) {
                Some(left) => room = left,
                None => break,
            }
            kept += 1;
        }
        let over = tail.len() - kept;
        lines.extend(tail.drain(over..));
        Recording {
            lines,
            left_out: tape.left_out + over as u64,
        }
    }
}

impl Tape {
    fn line(&mut self, now: Instant, direction: Direction, message: Option<usize>, text: &[u8]) {
        let text = text.get(..LINE_MAX).unwrap_or(text);
        let mark = Mark {
            at: now.saturating_duration_since(self.start),
            direction,
            message,
            length: text.len(),
        };
        let fits = self.head.cost() + mark.cost() <= HEAD_MAX;
        // Lines never go back into the head: they would stand before earlier ones.
        if self.opening && fits && self.tail.marks.is_empty() {
            return self.head.push(mark, text);
        }
        while self.tail.cost() + mark.cost() > BATCH_MAX {
            self.tail.pop();
            self.left_out += 1;
        }
        self.tail.push(mark, text);
    }

    fn tell(&mut self, now: Instant, heard: Heard<'_>) {
        if let Some(listener) = &mut self.listener {
            listener(now, heard);
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ReplyCode;

    /// What a recording counts.
    fn cost(recording: &Recording) -> usize {
        let lines = recording.lines.iter();
        lines.map(|line| line.text.len() + LINE_COST).sum()
    }

    fn texts(recording: &Recording) -> Vec<&str> {
        let lines = recording.lines.iter();
        lines.map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn head_and_tail_have_their_bounds() {
        for (opening, batch, kept, left_out) in [
            (0, 0, 0, 0),
            (3, 4, 7, 0),
            // A line costs 128 bytes: 16 fit into the head, and 48 more behind it.
            (16, 48, 64, 0),
            (16, 49, 64, 1),
            (20, 40, 56, 0),
            (10, 60, 64, 6),
            (0, 1000, 64, 936),
        ] {
            let now = Instant::now();
            let recorder = Recorder::new(now);
            let line = |at: usize| format!("{at:0120}");
            for at in 0..opening {
                recorder.note(&line(at), now);
            }
            recorder.opened();
            recorder.begin_batch();
            for at in opening..opening + batch {
                recorder.command("RCPT", Some(0), line(at).as_bytes(), now);
            }
            let found = recorder.recording(Some(0));
            let case = format!("{opening} {batch}");
            assert_eq!(found.lines.len(), kept, "{case}");
            assert_eq!(found.left_out, left_out, "{case}");
            assert!(cost(&found) <= HEAD_MAX + TAIL_MAX, "{case}");
            let last = line((opening + batch).saturating_sub(1));
            assert!(kept == 0 || found.lines[kept - 1].text == last, "{case}");
        }
    }

    #[test]
    fn a_transcript_has_the_lines_of_its_message_and_of_the_connection() {
        let now = Instant::now();
        let recorder = Recorder::new(now);
        let greeting = Reply::new(ReplyCode::READY, None, "mx.test\nready\u{7}");
        recorder.reply("greeting", None, (&greeting, false), now);
        let later = now + Duration::from_millis(1500);
        recorder.opened();
        recorder.begin_batch();
        recorder.command("MAIL", Some(0), b"MAIL FROM:<a@one.test>", later);
        recorder.command("MAIL", Some(1), b"MAIL FROM:<b@two.test>", later);
        recorder.note("the server closed the connection", later);
        let one = recorder.recording(Some(0));
        let expected = [
            "220-mx.test",
            "220 ready ",
            "MAIL FROM:<a@one.test>",
            "the server closed the connection",
        ];
        assert_eq!(texts(&one), expected);
        assert_eq!(one.lines[0].direction, Direction::Received);
        assert_eq!(one.lines[2].at, Duration::from_millis(1500));
        let two = recorder.recording(Some(1));
        assert_eq!(two.lines[2].text, "MAIL FROM:<b@two.test>");
        assert_eq!(recorder.recording(None).lines.len(), 3);
        recorder.begin_batch();
        assert_eq!(texts(&recorder.recording(Some(0))), expected[..2]);
    }

    #[test]
    fn a_hidden_reply_shows_its_code_only() {
        let now = Instant::now();
        let recorder = Recorder::new(now);
        let challenge = Reply::new(ReplyCode::CHALLENGE, None, "c2VjcmV0");
        recorder.reply("AUTH", None, (&challenge, true), now);
        assert_eq!(texts(&recorder.recording(None)), ["334 ***"]);
    }

    proptest! {
        /// Whatever is recorded, memory and transcripts have their bounds, and the last line that
        /// concerns a message is in its transcript.
        #[test]
        fn bounds_hold(lines in proptest::collection::vec(
            (0usize..3000, proptest::option::of(0usize..4), 0u8..20), 0..400)
        ) {
            let now = Instant::now();
            let recorder = Recorder::new(now);
            let mut last: [Option<Option<usize>>; 4] = [None; 4];
            for (number, (length, message, what)) in lines.into_iter().enumerate() {
                match what {
                    0 => recorder.opened(),
                    1 => {
                        recorder.opened();
                        recorder.begin_batch();
                        last = [None; 4];
                    }
                    _ => {
                        let text = format!("{number} {}", "x".repeat(length));
                        recorder.command("NOOP", message, text.as_bytes(), now);
                        for (of, last) in last.iter_mut().enumerate() {
                            if message.is_none() || message == Some(of) {
                                *last = Some(Some(number));
                            }
                        }
                    }
                }
                let tape = recorder.tape();
                prop_assert!(tape.head.cost() <= HEAD_MAX && tape.tail.cost() <= BATCH_MAX);
            }
            for (of, last) in last.into_iter().enumerate() {
                let found = recorder.recording(Some(of));
                prop_assert!(cost(&found) <= HEAD_MAX + TAIL_MAX);
                // The tail of the batch may be full of lines of others.
                if let (Some(Some(number)), Some(line)) = (last, found.lines.last())
                    && recorder.tape().left_out == 0
                {
                    let begin = format!("{number} ");
                    prop_assert!(line.text.starts_with(&begin), "{} {begin}", line.text);
                }
            }
        }
    }
}
