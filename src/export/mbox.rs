//! mbox files, one for each mailbox, in the form mboxrd.
//!
//! A mail begins with a line `From SENDER DATE`, in UTC, and ends with a blank line. Lines end with
//! LF. A line of a mail that begins with `From `, or with that behind any number of `>`, has one
//! more `>` in front. So a reader that takes one `>` away has the mail as it was. The fields
//! `Status`, `X-Status` and `X-Keywords` before the mail's own have its flags. Fields of these
//! names in the mail itself are left out: readers would take them for its flags.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::PathBuf,
};

use postrider_admin::op::export::ExportedMail;

use super::{names::Names, new_file, new_folder};

/// The word that begins a mail.
const FROM: &[u8] = b"From ";
/// How much of a line is read to find the name of its field. White space may stand behind a name.
const NAME_MAX: usize = 128;
/// The flags with letters in `X-Status`.
const X_STATUS: [(&str, char); 4] = [
    ("\\answered", 'A'),
    ("\\flagged", 'F'),
    ("\\draft", 'T'),
    ("\\deleted", 'D'),
];

#[derive(Debug)]
pub(super) struct Mbox {
    root: PathBuf,
    names: Names,
    /// The file of each mailbox.
    files: HashMap<String, PathBuf>,
    /// The file of the present mail, with its mailbox.
    open: Option<(String, BufWriter<File>)>,
    /// Where the present mail begins in its file.
    begun: u64,
    /// Where in the mail its next byte is.
    place: Place,
    /// The beginning of a line that may need a `>`. None behind the beginning.
    start: Option<Vec<u8>>,
    /// The last byte was a CR, which is not written yet.
    cr: bool,
}

impl Mbox {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            names: Names::default(),
            files: HashMap::new(),
            open: None,
            begun: 0,
            place: Place::Name(Vec::new(), false),
            start: Some(Vec::new()),
            cr: false,
        }
    }

    pub(super) fn begin(&mut self, mail: &ExportedMail) -> io::Result<()> {
        self.choose(&mail.mailbox)?;
        if let Some((_, file)) = &mut self.open {
            self.begun = file.stream_position()?;
        }
        self.place = Place::Name(Vec::new(), false);
        (self.start, self.cr) = (Some(Vec::new()), false);
        let date = mail.received.timestamp().to_zoned(jiff::tz::TimeZone::UTC);
        let date = date.strftime("%a %b %e %H:%M:%S %Y");
        // The line has no other spaces.
        let sender = mail.sender.replace(char::is_whitespace, "_");
        let sender = match sender.as_str() {
            "" => "MAILER-DAEMON",
            sender => sender,
        };
        let has = |flag: &str| mail.flags.iter().any(|known| known == flag);
        let status = if has("\\seen") { "RO" } else { "O" };
        let mut head = format!("From {sender} {date}\nStatus: {status}\n");
        let letters = X_STATUS.iter().filter(|(flag, _)| has(flag));
        let letters: String = letters.map(|(_, letter)| letter).collect();
        if !letters.is_empty() {
            head.push_str(&format!("X-Status: {letters}\n"));
        }
        let keywords = mail.flags.iter().filter(|flag| !flag.starts_with('\\'));
        let keywords: Vec<&str> = keywords.map(String::as_str).collect();
        if !keywords.is_empty() {
            head.push_str(&format!("X-Keywords: {}\n", keywords.join(" ")));
        }
        self.put(head.as_bytes())
    }

    /// Opens the file of a mailbox. Only one is open, however many mailboxes there are.
    fn choose(&mut self, mailbox: &str) -> io::Result<()> {
        if let Some((name, _)) = &self.open
            && name == mailbox
        {
            return Ok(());
        }
        if let Some((_, mut file)) = self.open.take() {
            file.flush()?;
        }
        let file = match self.files.get(mailbox) {
            Some(path) => {
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.seek(SeekFrom::End(0))?;
                file
            }
            None => {
                new_folder(&self.root)?;
                let path = self.root.join(format!("{}.mbox", self.names.name(mailbox)));
                let file = new_file(&path)?;
                self.files.insert(mailbox.to_owned(), path);
                file
            }
        };
        self.open = Some((mailbox.to_owned(), BufWriter::new(file)));
        Ok(())
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        for byte in piece {
            self.byte(*byte)?;
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> io::Result<()> {
        // A CR that is no part of a line end stays.
        if std::mem::take(&mut self.cr) && byte != b'\n' {
            self.within(b'\r')?;
        }
        match byte {
            b'\r' => {
                self.cr = true;
                Ok(())
            }
            b'\n' => self.end_line(),
            byte => self.within(byte),
        }
    }

    /// Takes a byte that is no line end.
    fn within(&mut self, byte: u8) -> io::Result<()> {
        match &mut self.place {
            // A line that begins with white space belongs to the field above it.
            Place::Name(name, left_out) if name.is_empty() && matches!(byte, b' ' | b'\t') => {
                self.place = Place::Value(*left_out);
                self.within(byte)
            }
            Place::Name(name, _) => {
                name.push(byte);
                let is_complete = byte == b':' || name.len() > NAME_MAX;
                if is_complete {
                    let name = std::mem::take(name);
                    let left_out = has_flags(&name);
                    self.place = Place::Value(left_out);
                    if !left_out {
                        return self.write_all(&name);
                    }
                }
                Ok(())
            }
            Place::Value(true) => Ok(()),
            Place::Value(false) | Place::Body => self.quote(byte),
        }
    }

    /// Writes bytes without line ends.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.iter().try_for_each(|byte| self.quote(*byte))
    }

    /// Writes a byte that is no line end, and the `>` that its line may need.
    fn quote(&mut self, byte: u8) -> io::Result<()> {
        let Some(mut start) = self.start.take() else {
            return self.put(&[byte]);
        };
        start.push(byte);
        match quoted(&start) {
            Quoted::Perhaps => {
                self.start = Some(start);
                Ok(())
            }
            Quoted::No => self.put(&start),
            Quoted::Yes => {
                start.insert(0, b'>');
                self.put(&start)
            }
        }
    }

    fn end_line(&mut self) -> io::Result<()> {
        let next = Place::Name(Vec::new(), self.place == Place::Value(true));
        match std::mem::replace(&mut self.place, next) {
            Place::Value(true) => return Ok(()),
            Place::Value(false) => {}
            Place::Body => self.place = Place::Body,
            Place::Name(name, _) if name.is_empty() => self.place = Place::Body,
            // A line that is no field.
            Place::Name(name, _) => self.write_all(&name)?,
        }
        self.break_line()
    }

    fn break_line(&mut self) -> io::Result<()> {
        if let Some(start) = self.start.replace(Vec::new()) {
            self.put(&start)?;
        }
        self.put(b"\n")
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.cr) {
            self.within(b'\r')?;
        }
        if let Place::Name(name, _) = std::mem::replace(&mut self.place, Place::Body) {
            self.write_all(&name)?;
        }
        if self.start.as_ref().is_none_or(|start| !start.is_empty()) {
            self.break_line()?;
        }
        self.put(b"\n")
    }

    /// Takes the present mail away.
    pub(super) fn discard(&mut self) -> io::Result<()> {
        let Some((_, file)) = &mut self.open else {
            return Ok(());
        };
        file.seek(SeekFrom::Start(self.begun))?;
        file.get_ref().set_len(self.begun)
    }

    /// Ends all files. No reader looks for one of them.
    pub(super) fn finish(&mut self) -> io::Result<Option<&'static str>> {
        new_folder(&self.root)?;
        if let Some((_, mut file)) = self.open.take() {
            file.flush()?;
        }
        for path in self.files.values() {
            File::open(path)?.sync_all()?;
        }
        Ok(None)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.open {
            Some((_, file)) => file.write_all(bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Where in a mail a byte is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// At the beginning of a line of the header section, behind these bytes. True: the field above
    /// is left out.
    Name(Vec<u8>, bool),
    /// In the rest of such a line. True: it is left out.
    Value(bool),
    /// In the body.
    Body,
}

/// Whether a field, up to its colon, is one of those with flags.
fn has_flags(name: &[u8]) -> bool {
    let Some(name) = name.strip_suffix(b":") else {
        return false;
    };
    let name = name.trim_ascii_end();
    let own = ["Status", "X-Status", "X-Keywords"];
    own.iter()
        .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

/// Whether a line needs one more `>`.
enum Quoted {
    Yes,
    No,
    /// The next byte decides.
    Perhaps,
}

fn quoted(start: &[u8]) -> Quoted {
    let word = start.iter().position(|byte| *byte != b'>');
    let word = start.get(word.unwrap_or(start.len())..).unwrap_or_default();
    match word {
        FROM => Quoted::Yes,
        word if FROM.starts_with(word) => Quoted::Perhaps,
        _ => Quoted::No,
    }
}
