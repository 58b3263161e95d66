//! The server's side of SMTP without a socket: bytes in, replies and finished messages out.

use memchr::{memchr, memmem};

/// The text before the number in the Subject of the load driver.
const NUMBER_MARK: &[u8] = b"Subject: load ";
/// How much of a message is searched for the number.
const HEADER_MAX: usize = 16 << 10;

/// One connection.
pub(super) struct Protocol {
    pipelining: bool,
    /// Whether STARTTLS is offered.
    starttls: bool,
    /// Replies that are still to be written.
    pub(super) replies: Vec<u8>,
    /// Messages that came and are still to be counted.
    pub(super) finished: Vec<Finished>,
    /// Whether the client said QUIT.
    pub(super) quit: bool,
    /// Whether the client said STARTTLS. TLS begins behind the replies.
    pub(super) begins_tls: bool,
    recipients: u64,
    text: Option<Text>,
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) number: Option<u64>,
    pub(super) recipients: u64,
    pub(super) bytes: u64,
}

/// A message that is coming in.
#[derive(Default)]
struct Text {
    header: Vec<u8>,
    number: Option<u64>,
    bytes: u64,
}

impl Protocol {
    pub(super) fn new(pipelining: bool, starttls: bool) -> Self {
        Self {
            pipelining,
            starttls,
            replies: Vec::with_capacity(512),
            finished: Vec::new(),
            quit: false,
            begins_tls: false,
            recipients: 0,
            text: None,
        }
    }

    /// Takes as many bytes as are complete, and returns how many bytes that was.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            // Nothing in clear stands behind STARTTLS.
            if self.begins_tls {
                return bytes.len();
            }
            let step = if self.text.is_some() {
                self.take_text(rest)
            } else {
                self.take_line(rest)
            };
            if step == 0 {
                break;
            }
            used += step;
        }
        used
    }

    fn take_line(&mut self, bytes: &[u8]) -> usize {
        let Some(at) = memchr(b'\n', bytes) else {
            return 0;
        };
        let line = bytes.get(..at).unwrap_or_default();
        let mut verb = [0; 4];
        for (upper, letter) in verb.iter_mut().zip(line) {
            *upper = letter.to_ascii_uppercase();
        }
        let reply: &[u8] = match &verb {
            b"EHLO" => {
                self.greet();
                b""
            }
            b"STAR" if self.starttls => {
                self.begins_tls = true;
                b"220 2.0.0 Go on\r\n"
            }
            b"RCPT" => {
                self.recipients += 1;
                b"250 2.1.5 Ok\r\n"
            }
            b"MAIL" | b"RSET" | b"HELO" => {
                self.recipients = 0;
                b"250 2.0.0 Ok\r\n"
            }
            b"DATA" if self.recipients == 0 => b"503 5.5.1 No recipients\r\n",
            b"DATA" => {
                self.text = Some(Text::default());
                b"354 Go on\r\n"
            }
            b"NOOP" => b"250 2.0.0 Ok\r\n",
            b"QUIT" => {
                self.quit = true;
                b"221 2.0.0 Bye\r\n"
            }
            _ => b"502 5.5.1 Not known\r\n",
        };
        self.replies.extend_from_slice(reply);
        at + 1
    }

    /// Answers EHLO.
    fn greet(&mut self) {
        self.replies.extend_from_slice(b"250-sink.example\r\n");
        if self.pipelining {
            self.replies.extend_from_slice(b"250-PIPELINING\r\n");
        }
        if self.starttls {
            self.replies.extend_from_slice(b"250-STARTTLS\r\n");
        }
        let rest = b"250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 0\r\n";
        self.replies.extend_from_slice(rest);
    }

    /// Takes text up to its end. Without an end it leaves the last bytes, which may begin the end.
    fn take_text(&mut self, bytes: &[u8]) -> usize {
        const END: &[u8] = b"\r\n.\r\n";
        let Some(text) = &mut self.text else {
            return 0;
        };
        let only_dot = text.bytes == 0 && bytes.starts_with(b".\r\n");
        let (used, over) = match memmem::find(bytes, END) {
            _ if only_dot => (3, true),
            Some(at) => (at + END.len(), true),
            None => (bytes.len().saturating_sub(END.len() - 1), false),
        };
        let taken = bytes.get(..used).unwrap_or_default();
        text.bytes += taken.len() as u64;
        text.look_for_number(taken);
        if over {
            let finished = Finished {
                number: text.number,
                recipients: self.recipients,
                bytes: text.bytes,
            };
            self.finished.push(finished);
            self.replies.extend_from_slice(b"250 2.0.0 Taken\r\n");
            self.recipients = 0;
            self.text = None;
        }
        used
    }
}

impl Text {
    fn look_for_number(&mut self, taken: &[u8]) {
        if self.number.is_some() || self.header.len() >= HEADER_MAX {
            return;
        }
        // Most often the header section is in the first piece, and no copy is needed.
        if self.header.is_empty() {
            self.number = number_in(taken);
            if self.number.is_some() {
                return;
            }
        }
        let room = HEADER_MAX - self.header.len();
        self.header
            .extend_from_slice(taken.get(..room).unwrap_or(taken));
        self.number = number_in(&self.header);
    }
}

/// The number after [`NUMBER_MARK`], if all its digits are there.
fn number_in(bytes: &[u8]) -> Option<u64> {
    let at = memmem::find(bytes, NUMBER_MARK)? + NUMBER_MARK.len();
    let rest = bytes.get(at..)?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALOG: &[u8] = b"EHLO a\r\nmail FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\nDATA\r\n\
        Received: x\r\nSubject: load 000000000042\r\n\r\n..\r\n.\n.\r\n\r\n.\r\nMAIL FROM:<>\r\nDATA\r\n\
        RCPT TO:<a@b>\r\nDATA\r\n.\r\nQUIT\r\n";

    /// Feeds the dialog in pieces of this size, as a socket would give them.
    fn feed(size: usize) -> Protocol {
        let mut protocol = Protocol::new(true, false);
        let mut pending = Vec::new();
        for piece in DIALOG.chunks(size) {
            pending.extend_from_slice(piece);
            let used = protocol.take(&pending);
            pending.drain(..used);
        }
        assert!(pending.is_empty(), "{pending:?}");
        protocol
    }

    #[test]
    fn any_split_gives_the_same() {
        let whole = feed(DIALOG.len());
        let (first, second) = (&whole.finished[0], &whole.finished[1]);
        assert_eq!((first.number, first.recipients), (Some(42), 2));
        assert_eq!((second.number, second.recipients), (None, 1));
        assert!(whole.quit);
        let codes: Vec<_> = whole
            .replies
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.get(..4))
            .map(String::from_utf8_lossy)
            .collect();
        assert_eq!(
            codes,
            [
                "250-", "250-", "250-", "250-", "250 ", "250 ", "250 ", "250 ", "354 ", "250 ",
                "250 ", "503 ", "250 ", "354 ", "250 ", "221 "
            ]
        );
        for size in 1..DIALOG.len() {
            let split = feed(size);
            assert_eq!(split.replies, whole.replies, "{size}");
            assert_eq!(split.finished, whole.finished, "{size}");
        }
    }
}
