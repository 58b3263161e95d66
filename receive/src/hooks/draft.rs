//! A message at the end of its text, as the programs see and change it.

use bytes::{Bytes, BytesMut};
use postrider_smtp::{
    Reply, ReversePath,
    server::{MailFrom, RcptTo, Transaction},
};
use postrider_store::{StoreError, Text};
use tracing::warn;

use super::{
    answer::{Change, Failure},
    edit::{Edit, Section},
    raw::BodyPieces,
};
use crate::{
    SessionContext,
    intake::{HeaderEdit, Intake, ReceivedText},
    memory::TextShare,
    reply::store_reply,
};

/// The most fields of a header section (as for a text that arrives).
const FIELDS_MAX: usize = 1000;

/// A message that the programs may still change: its envelope and its text.
#[derive(Clone, Debug)]
pub struct Draft {
    /// MAIL, with the reverse-path as it is now.
    pub mail: MailFrom,
    /// The recipients as they are now.
    pub recipients: Vec<RcptTo>,
    /// The header section.
    pub section: Section,
    /// The body.
    pub body: Body,
    /// The header section or the body is another one than the client's.
    pub text_changed: bool,
}

/// The body of a message: all behind the blank line.
#[derive(Clone, Debug)]
pub struct Body {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The bytes of a text from this place on.
    Of(Text, u64),
    /// A body that a program gave.
    New(Bytes),
}

impl Body {
    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.source {
            Source::Of(text, from) => text.len().saturating_sub(*from),
            Source::New(body) => body.len() as u64,
        }
    }

    /// Whether there is no body.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next piece from this place on, of at most `max` bytes. Empty at the end.
    ///
    /// # Errors
    /// If the text can't be read.
    pub async fn piece(&self, at: u64, max: u64) -> Result<Bytes, StoreError> {
        match &self.source {
            Source::Of(text, from) => {
                let start = from.saturating_add(at);
                text.read(start..start.saturating_add(max)).await
            }
            Source::New(body) => {
                let place =
                    |at: u64| usize::try_from(at).map_or(body.len(), |at| at.min(body.len()));
                Ok(body.slice(place(at)..place(at.saturating_add(max))))
            }
        }
    }
}

/// A body that is replaced by bytes of a program.
impl From<Bytes> for Body {
    fn from(body: Bytes) -> Self {
        Self {
            source: Source::New(body),
        }
    }
}

impl Draft {
    /// Opens a message whose text begins with a header section of at most `section_max` bytes.
    ///
    /// # Errors
    /// If the text can't be read.
    pub async fn open(
        transaction: &Transaction,
        text: Text,
        section_max: u64,
    ) -> Result<Self, StoreError> {
        let beginning = text.read(0..section_max.saturating_add(2)).await?;
        let section = postrider_queue::header::section(&beginning);
        let end = section.len();
        let section = Section::read(&beginning.slice_ref(section));
        // The blank line is missing if the text is all header section.
        let blank = beginning.get(end..).unwrap_or_default();
        let from = match blank.starts_with(b"\r\n") {
            true => end + 2,
            false => end,
        };
        Ok(Self {
            mail: transaction.mail.clone(),
            recipients: transaction.recipients.clone(),
            section,
            body: Body {
                source: Source::Of(text, from as u64),
            },
            text_changed: false,
        })
    }

    /// Opens a message that came in.
    ///
    /// # Errors
    /// The reply, if the text can't be read.
    pub(crate) async fn of(
        context: &SessionContext,
        transaction: &Transaction,
        text: &ReceivedText,
    ) -> Result<Self, Reply> {
        let section_max = context.statics.limits.header_size.0;
        let opened = async {
            let text = context.store.new_text(&text.text).await?;
            Self::open(transaction, text, section_max).await
        };
        opened.await.map_err(|error| store_reply(&error))
    }

    /// Writes the text as it is now. `edit` gets its header section.
    ///
    /// # Errors
    /// The reply, if the text is refused or can't be written.
    pub(crate) async fn write(
        &self,
        mut intake: Intake,
        mut edit: impl FnMut(&Bytes) -> Result<HeaderEdit, Reply>,
    ) -> Result<(ReceivedText, TextShare), Reply> {
        intake.write(&self.head(), &mut edit).await?;
        let mut pieces = BodyPieces::of(self.body.clone());
        loop {
            let piece = pieces.next_piece().await;
            match piece.map_err(|error| store_reply(&error))? {
                Some(piece) => intake.write(&piece, &mut edit).await?,
                None => return intake.finish(&mut edit).await,
            }
        }
    }

    /// This text with the envelope of another draft.
    #[must_use]
    pub fn with_envelope_of(&self, other: &Self) -> Self {
        Self {
            mail: other.mail.clone(),
            recipients: other.recipients.clone(),
            ..self.clone()
        }
    }

    /// The envelope as it is now.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        Transaction {
            mail: self.mail.clone(),
            recipients: self.recipients.clone(),
        }
    }

    /// The bytes of the text as it is now.
    #[must_use]
    pub fn size(&self) -> u64 {
        (self.section.size() as u64)
            .saturating_add(2)
            .saturating_add(self.body.len())
    }

    /// Makes the changes of an answer. All of them or none.
    ///
    /// # Errors
    /// If the message would have too large a header section, too large a text, or too many
    /// recipients.
    pub fn apply(&mut self, changes: &[Change], limits: &DraftLimits) -> Result<(), Failure> {
        let mut changed = self.clone();
        let edits: Vec<&Edit> = changes.iter().filter_map(Change::edit).collect();
        if !edits.is_empty() {
            changed.section.apply(edits);
            changed.text_changed = true;
        }
        for change in changes {
            match change {
                Change::Header(_) => {}
                Change::Body(body) => {
                    changed.body = body.clone().into();
                    changed.text_changed = true;
                }
                Change::Sender(path, parameters) => changed.set_sender(path, parameters.as_deref()),
                Change::AddRecipient(address, parameters) => {
                    let parameters = parameters.as_deref().unwrap_or_default();
                    let added = RcptTo::added(address.clone(), parameters).or_else(|reply| {
                        warn!(%address, parameters, error = reply.text(), "parameters ignored");
                        RcptTo::added(address.clone(), "")
                    });
                    if let Ok(added) = added
                        && !changed.has_recipient(&address.to_string())
                    {
                        changed.recipients.push(added);
                    }
                }
                Change::DeleteRecipient(address) => {
                    changed.recipients.retain(|rcpt| !is_same(rcpt, address));
                }
            }
        }
        limits.check(&changed)?;
        *self = changed;
        Ok(())
    }

    fn set_sender(&mut self, path: &ReversePath, parameters: Option<&str>) {
        let parameters = parameters.unwrap_or_default();
        let changed = self
            .mail
            .changed(path.clone(), parameters)
            .or_else(|reply| {
                warn!(sender = %path, parameters, error = reply.text(), "parameters ignored");
                self.mail.changed(path.clone(), "")
            });
        if let Ok(changed) = changed {
            self.mail = changed;
        }
    }

    fn has_recipient(&self, address: &str) -> bool {
        self.recipients.iter().any(|rcpt| is_same(rcpt, address))
    }

    /// The header section and the blank line.
    #[must_use]
    pub fn head(&self) -> Bytes {
        let mut head = BytesMut::from(self.section.written().as_slice());
        head.extend_from_slice(b"\r\n");
        head.freeze()
    }
}

/// Whether a recipient has this address. Mail systems tell no local-parts apart by case.
fn is_same(rcpt: &RcptTo, address: &str) -> bool {
    rcpt.forward_path.to_string().to_lowercase() == address.to_lowercase()
}

/// The limits of a message that programs have changed.
#[derive(Clone, Copy, Debug)]
pub struct DraftLimits {
    /// The bytes of the header section.
    pub section: u64,
    /// The bytes of the text.
    pub text: u64,
    /// The recipients.
    pub recipients: usize,
}

impl DraftLimits {
    fn check(&self, draft: &Draft) -> Result<(), Failure> {
        let too_much = if draft.section.size() as u64 > self.section {
            format!("a header section of more than {} bytes", self.section)
        } else if draft.section.fields().count() > FIELDS_MAX {
            format!("more than {FIELDS_MAX} header fields")
        } else if draft.size() > self.text && draft.text_changed {
            format!("a message of more than {} bytes", self.text)
        } else if draft.recipients.len() > self.recipients {
            format!("more than {} recipients", self.recipients)
        } else {
            return Ok(());
        };
        Err(Failure::Invalid(format!("its changes make {too_much}")))
    }
}

impl Change {
    const fn edit(&self) -> Option<&Edit> {
        match self {
            Self::Header(edit) => Some(edit),
            _ => None,
        }
    }
}

/// A body in lines that end in CRLF. A CR or an LF alone ends a line too.
#[must_use]
pub fn in_lines(body: &[u8]) -> Bytes {
    let mut lines = BytesMut::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        let (line, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        lines.extend_from_slice(line);
        lines.extend_from_slice(b"\r\n");
        rest = after
            .strip_prefix(b"\r\n")
            .or_else(|| after.get(1..))
            .unwrap_or_default();
    }
    lines.extend_from_slice(rest);
    lines.freeze()
}

#[cfg(test)]
mod tests {
    use postrider_smtp::{Address, BodyType, DeliveryOptions, ForwardPath, Notify, Ret};
    use postrider_store::{NewText, Store};

    use super::*;
    use crate::hooks::edit::NewField;

    const LIMITS: DraftLimits = DraftLimits {
        section: 100,
        text: 200,
        recipients: 3,
    };

    fn transaction() -> Transaction {
        let rcpt = |path: &str| RcptTo {
            forward_path: ForwardPath::parse(path).unwrap(),
            notify: None,
            orcpt: None,
        };
        Transaction {
            mail: MailFrom {
                reverse_path: ReversePath::parse("a@s.test").unwrap(),
                size: Some(9),
                body: BodyType::SevenBit,
                smtputf8: false,
                require_tls: false,
                ret: Some(Ret::Full),
                envid: Some("id".into()),
                delivery: DeliveryOptions::default(),
            },
            recipients: vec![rcpt("b@d.test"), rcpt("C@D.test")],
        }
    }

    async fn draft(text: &str) -> Draft {
        let store = Store::memory();
        let text = NewText::Inline(Bytes::copy_from_slice(text.as_bytes()));
        let text = store.new_text(&text).await.unwrap();
        Draft::open(&transaction(), text, 100).await.unwrap()
    }

    async fn text_of(draft: &Draft) -> String {
        let mut text = draft.head().to_vec();
        let mut at = 0;
        loop {
            let piece = draft.body.piece(at, 3).await.unwrap();
            if piece.is_empty() {
                assert_eq!(text.len() as u64, draft.size());
                return String::from_utf8(text).unwrap();
            }
            at += piece.len() as u64;
            text.extend_from_slice(&piece);
        }
    }

    fn recipients(draft: &Draft) -> Vec<String> {
        let recipients = draft.recipients.iter();
        recipients
            .map(|rcpt| rcpt.forward_path.to_string())
            .collect()
    }

    #[tokio::test]
    async fn a_text_is_its_section_and_its_body() {
        for (text, expected, body) in [
            ("A: b\r\n\r\nbody\r\n", "A: b\r\n\r\nbody\r\n", 6),
            ("A: b\r\n\r\n", "A: b\r\n\r\n", 0),
            ("A: b\r\n", "A: b\r\n\r\n", 0),
            ("\r\nbody", "\r\nbody", 4),
            ("", "\r\n", 0),
        ] {
            let draft = draft(text).await;
            assert_eq!(text_of(&draft).await, expected);
            assert_eq!(draft.body.len(), body, "{text:?}");
        }
    }

    #[tokio::test]
    async fn each_change_changes_its_part() {
        let mut draft = draft("A: b\r\n\r\nbody\r\n").await;
        let address = |text: &str| Address::parse(text).unwrap();
        let path = |text: &str| ReversePath::parse(text).unwrap();
        draft
            .apply(&[Change::Sender(path("n@s.test"), None)], &LIMITS)
            .unwrap();
        assert_eq!(draft.mail.reverse_path, path("n@s.test"));
        assert_eq!((draft.mail.ret, &draft.mail.envid), (None, &None));
        let parameters = Some("RET=HDRS ENVID=x+2By SIZE=5".to_owned());
        draft
            .apply(&[Change::Sender(path("ü@s.test"), parameters)], &LIMITS)
            .unwrap();
        assert_eq!(draft.mail.ret, Some(Ret::Headers));
        assert_eq!(draft.mail.envid.as_deref(), Some("x+y"));
        assert!(draft.mail.smtputf8);
        let wrong = Some("RET=NO".to_owned());
        draft
            .apply(&[Change::Sender(ReversePath::Null, wrong)], &LIMITS)
            .unwrap();
        assert_eq!(
            (&draft.mail.reverse_path, draft.mail.ret),
            (&ReversePath::Null, None)
        );
        let added = Change::AddRecipient(address("d@d.test"), Some("NOTIFY=NEVER".into()));
        draft.apply(&[added.clone(), added], &LIMITS).unwrap();
        assert_eq!(recipients(&draft), ["b@d.test", "C@d.test", "d@d.test"]);
        assert_eq!(draft.recipients[2].notify, Some(Notify::NEVER));
        draft
            .apply(&[Change::DeleteRecipient("c@d.TEST".into())], &LIMITS)
            .unwrap();
        assert_eq!(recipients(&draft), ["b@d.test", "d@d.test"]);
        assert!(!draft.text_changed);
        let field = NewField::new(b"X", b"y").unwrap();
        let changes = [
            Change::Header(Edit::OnTop(field)),
            Change::Body(in_lines(b"new\nbody")),
        ];
        draft.apply(&changes, &LIMITS).unwrap();
        assert_eq!(text_of(&draft).await, "X: y\r\nA: b\r\n\r\nnew\r\nbody");
        assert!(draft.text_changed);
    }

    #[tokio::test]
    async fn changes_beyond_the_limits_are_not_made() {
        let before = draft("A: b\r\n\r\nbody\r\n").await;
        let long = NewField::new(b"X", "y".repeat(100).as_bytes()).unwrap();
        let body = Bytes::from(vec![b'x'; 200]);
        let recipient = |name: &str| {
            let address = Address::parse(&format!("{name}@d.test")).unwrap();
            Change::AddRecipient(address, None)
        };
        for (changes, text) in [
            (vec![Change::Header(Edit::OnTop(long))], "header section"),
            (vec![Change::Body(body)], "a message of more than 200"),
            (
                vec![recipient("x"), recipient("y")],
                "more than 3 recipients",
            ),
        ] {
            let mut draft = before.clone();
            let error = draft.apply(&changes, &LIMITS).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert_eq!(text_of(&draft).await, text_of(&before).await);
            assert_eq!(recipients(&draft), recipients(&before));
        }
    }

    #[test]
    fn lines_end_in_crlf() {
        for (body, lines) in [
            ("", ""),
            ("a", "a"),
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("a\nb\rc\r\r\n\n\rd", "a\r\nb\r\nc\r\n\r\n\r\n\r\nd"),
        ] {
            assert_eq!(in_lines(body.as_bytes()), lines, "{body:?}");
        }
    }
}
