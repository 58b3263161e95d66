//! A message on its way from a session into the store.
//!
//! [`Intake`] holds the header section until it is complete. Then the session reads it, and may add
//! missing fields or replace it: this is the one change of a text. The rest of the text streams
//! through, and is hashed for the checks of signatures. A text without a blank line is all header
//! section.
//!
//! The bytes in memory are covered by a [`TextShare`]. Without one, a header section is refused,
//! and the rest of a text goes to its file at once.

use bytes::{Bytes, BytesMut};
use memchr::memchr3_iter;
use postrider_smtp::{
    convert::{NeedsScan, TextNeeds},
    mime,
};
use postrider_store::{NewText, StoreError, TextWriter};
use sha2::{Digest, Sha256};

use crate::{
    checks::dkim::{BodyForms, BodyHasher, BodyHashes},
    memory::TextShare,
    shape::{Shape, ShapeError},
    work::long_work,
};

/// Writes one message into the store.
#[derive(Debug)]
pub struct Intake {
    writer: TextWriter,
    /// The header section so far; empty once it is written.
    header: BytesMut,
    in_header: bool,
    header_max: u64,
    needs: NeedsScan,
    /// None: no signature asks for a hash of the body.
    hasher: Option<BodyHasher>,
    /// None: nobody asks for a hash of the text.
    fingerprint: Option<Sha256>,
    /// The bytes that the checks hold of the header section.
    kept: usize,
    memory: TextShare,
    shape: Shape,
}

/// The reasons to refuse a text.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The header section is larger than `limits.header_size`.
    #[error("the header section is larger than {max} bytes")]
    HeaderTooLarge {
        /// The limit.
        max: u64,
    },
    /// The texts that arrive together take all memory (`limits.text_memory`).
    #[error("too many messages arrive")]
    NoMemory,
    /// The header section is not made of lines. Only the body of a binary text need not be (RFC
    /// 3030 §3). A reader that ends lines otherwise would see other fields than the checks.
    #[error("the header section has {0}")]
    NoLines(&'static str),
    /// The text has too many fields or parts.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The store can't take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The change of a header section.
#[derive(Debug, Default)]
pub struct HeaderEdit {
    /// Fields that go before the header section, each with its CRLF.
    pub added: Vec<u8>,
    /// The new header section. None keeps the section as it is.
    pub section: Option<Vec<u8>>,
    /// The forms in which the body is hashed.
    pub body_forms: BodyForms,
    /// The bytes of the header section that stay in memory until the end of the text.
    pub kept: usize,
    /// The whole text is hashed.
    pub fingerprint: bool,
}

/// A complete text that is ready to be stored.
#[derive(Debug)]
pub struct ReceivedText {
    /// The text.
    pub text: NewText,
    /// Its size in bytes.
    pub size: u64,
    /// What it has that not every server takes.
    pub needs: TextNeeds,
    /// The hashes of its body, in the forms of [`HeaderEdit::body_forms`].
    pub body_hashes: BodyHashes,
    /// The SHA-256 of the text. None if [`HeaderEdit::fingerprint`] did not ask for it.
    pub fingerprint: Option<[u8; 32]>,
}

impl Intake {
    /// Begins a message. Its text goes to `writer`, and takes `memory` while it is not in a file. A
    /// header section above `header_max` bytes is refused.
    #[must_use]
    pub fn new(writer: TextWriter, header_max: u64, memory: TextShare) -> Self {
        Self {
            writer,
            header: BytesMut::new(),
            in_header: true,
            header_max,
            needs: NeedsScan::default(),
            hasher: None,
            fingerprint: None,
            kept: 0,
            memory,
            shape: Shape::new(mime::Limits::default()),
        }
    }

    /// Sets the limits of its parts, before any text has come.
    #[must_use]
    pub fn with_limits(self, limits: mime::Limits) -> Self {
        Self {
            shape: Shape::new(limits),
            ..self
        }
    }

    /// Lets the text have any bytes (RFC 3030 §3).
    #[must_use]
    pub fn binary(self) -> Self {
        Self {
            needs: NeedsScan::of_binary(),
            ..self
        }
    }

    /// Takes the next piece of the text. The piece that completes the header section calls `edit`
    /// with the section.
    ///
    /// # Errors
    /// If the header section is too large, `edit` refuses it, or the store can't take it.
    pub async fn write<E: From<IntakeError>>(
        &mut self,
        chunk: &[u8],
        edit: impl FnOnce(&Bytes) -> Result<HeaderEdit, E>,
    ) -> Result<(), E> {
        if !self.in_header {
            return Ok(self.body(chunk).await?);
        }
        if !self.memory.cover(self.header.len() + chunk.len()).await {
            return Err(IntakeError::NoMemory.into());
        }
        // The blank line may straddle two chunks: look again from three bytes before the new ones.
        let from = self.header.len().saturating_sub(3);
        self.header.extend_from_slice(chunk);
        match header_end(&self.header, from) {
            Some(end) => {
                let rest = self.header.split_off(end);
                self.pass_header(edit).await?;
                let (blank, body) = rest.split_at_checked(2).unwrap_or((rest.as_ref(), &[]));
                self.pass(blank).await?;
                Ok(self.body(body).await?)
            }
            None if self.header.len() as u64 > self.header_max => {
                Err(IntakeError::HeaderTooLarge {
                    max: self.header_max,
                }
                .into())
            }
            None => Ok(()),
        }
    }

    /// Takes a piece of the body, which begins behind the CRLF of the blank line.
    async fn body(&mut self, piece: &[u8]) -> Result<(), IntakeError> {
        long_work(piece.len(), || self.shape.body(piece))?;
        self.hash(piece);
        self.pass(piece).await
    }

    /// Hashes a piece of the body.
    fn hash(&mut self, piece: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            long_work(piece.len(), || hasher.write(piece));
        }
    }

    /// Passes a piece of the rest to the store.
    async fn pass(&mut self, piece: &[u8]) -> Result<(), IntakeError> {
        let held = self.kept + self.writer.buffered() + piece.len();
        let covered = self.memory.try_cover(held);
        self.put(piece).await?;
        if !covered {
            self.writer.release().await?;
            self.memory.keep(self.kept);
        }
        Ok(())
    }

    async fn pass_header<E: From<IntakeError>>(
        &mut self,
        edit: impl FnOnce(&Bytes) -> Result<HeaderEdit, E>,
    ) -> Result<(), E> {
        self.in_header = false;
        let header: Bytes = self.header.split().freeze();
        if header.len() as u64 > self.header_max {
            return Err(IntakeError::HeaderTooLarge {
                max: self.header_max,
            }
            .into());
        }
        let shape = &mut self.shape;
        long_work(header.len(), || {
            check_lines(&header)?;
            Ok::<_, IntakeError>(shape.section(&header)?)
        })?;
        let edit = edit(&header)?;
        let is_hashed = edit.body_forms != BodyForms::default();
        self.hasher = is_hashed.then(|| BodyHasher::new(edit.body_forms));
        self.kept = edit.kept;
        self.fingerprint = edit.fingerprint.then(Sha256::new);
        self.put(&edit.added).await?;
        Ok(self.put(edit.section.as_deref().unwrap_or(&header)).await?)
    }

    /// Writes bytes of the final text.
    async fn put(&mut self, bytes: &[u8]) -> Result<(), IntakeError> {
        self.needs.write(bytes);
        if let Some(fingerprint) = &mut self.fingerprint {
            long_work(bytes.len(), || fingerprint.update(bytes));
        }
        Ok(self.writer.write(bytes).await?)
    }

    /// Ends the text. A text that is all header section calls `edit` now. The share of the memory
    /// has to live as long as the text.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn finish<E: From<IntakeError>>(
        mut self,
        edit: impl FnOnce(&Bytes) -> Result<HeaderEdit, E>,
    ) -> Result<(ReceivedText, TextShare), E> {
        if self.in_header {
            self.pass_header(edit).await?;
        }
        let size = self.writer.len();
        let text = self.writer.finish().await.map_err(IntakeError::from)?;
        let text = ReceivedText {
            text,
            size,
            needs: self.needs.finish(),
            body_hashes: self.hasher.map(BodyHasher::finish).unwrap_or_default(),
            fingerprint: self.fingerprint.map(|it| it.finalize().into()),
        };
        Ok((text, self.memory))
    }
}

/// Checks that a header section is made of lines: CR and LF stand together, and there is no NUL.
fn check_lines(section: &[u8]) -> Result<(), IntakeError> {
    for at in memchr3_iter(b'\r', b'\n', 0, section) {
        let before = at.checked_sub(1).and_then(|before| section.get(before));
        let fault = match section.get(at) {
            Some(b'\r') if section.get(at + 1) != Some(&b'\n') => "a CR without LF",
            Some(b'\n') if before != Some(&b'\r') => "an LF without CR",
            Some(0) => "a NUL character",
            _ => continue,
        };
        return Err(IntakeError::NoLines(fault));
    }
    Ok(())
}

/// The end of the header section: after the CRLF of its last field, before the blank line. The
/// search begins at `from`.
fn header_end(bytes: &[u8], from: usize) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(0);
    }
    let tail = bytes.get(from..)?;
    tail.windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| from + at + 2)
}

#[cfg(test)]
mod tests {
    use postrider_smtp::Reply;
    use postrider_store::{Options, Store};

    use super::*;
    use crate::memory::{FREE, TextMemory};

    const HEADER: &[u8] = b"A: b\r\n\r\n";

    fn share() -> TextShare {
        TextMemory::new(1 << 20).share([192, 0, 2, 1].into())
    }

    fn unchanged(_: &Bytes) -> Result<HeaderEdit, IntakeError> {
        Ok(HeaderEdit::default())
    }

    async fn take(text: &[u8], split: usize) -> (Vec<u8>, Vec<u8>) {
        let store = Store::memory();
        let mut intake = Intake::new(store.text_writer(), 1000, share());
        let mut seen = Vec::new();
        let mut on_top = |header: &Bytes| {
            seen = header.to_vec();
            Ok::<_, IntakeError>(HeaderEdit {
                added: b"Added: 1\r\n".to_vec(),
                ..HeaderEdit::default()
            })
        };
        for chunk in text.chunks(split) {
            intake.write(chunk, &mut on_top).await.unwrap();
        }
        let (taken, _memory) = intake.finish(&mut on_top).await.unwrap();
        let NewText::Inline(body) = taken.text else {
            panic!("small")
        };
        assert_eq!(taken.size, body.len() as u64);
        (seen, body.to_vec())
    }

    #[tokio::test]
    async fn adds_fields_however_it_is_split() {
        for (text, header) in [
            ("A: b\r\n\r\nbody\r\n\r\nmore", "A: b\r\n"),
            ("\r\nno header", ""),
            ("A: no blank line\r\n", "A: no blank line\r\n"),
            ("", ""),
        ] {
            for split in 1..=text.len().max(1) {
                let (seen, body) = take(text.as_bytes(), split).await;
                assert_eq!(seen, header.as_bytes(), "{text:?} by {split}");
                assert_eq!(
                    body,
                    format!("Added: 1\r\n{text}").as_bytes(),
                    "{text:?} by {split}"
                );
            }
        }
    }

    #[tokio::test]
    async fn the_body_is_hashed_in_the_forms_that_are_asked_for() {
        let forms = BodyForms {
            simple: true,
            relaxed: false,
        };
        for (text, body) in [
            ("A: b\r\n\r\nbody\r\n\r\nmore\r\n", "body\r\n\r\nmore\r\n"),
            ("A: b\r\n\r\n", ""),
            ("A: b\r\n", ""),
            ("\r\nbody\r\n", "body\r\n"),
            ("\r\n\r\n\r\nbody\r\n", "\r\n\r\nbody\r\n"),
        ] {
            let mut expected = BodyHasher::new(forms);
            expected.write(body.as_bytes());
            let expected = expected.finish();
            for split in 1..=text.len() {
                let store = Store::memory();
                let mut intake = Intake::new(store.text_writer(), 1000, share());
                let edit = |_: &Bytes| {
                    Ok::<_, IntakeError>(HeaderEdit {
                        added: b"Added: 1\r\n".to_vec(),
                        body_forms: forms,
                        ..HeaderEdit::default()
                    })
                };
                for chunk in text.as_bytes().chunks(split) {
                    intake.write(chunk, edit).await.unwrap();
                }
                let (taken, _memory) = intake.finish(edit).await.unwrap();
                assert_eq!(taken.body_hashes, expected, "{text:?} by {split}");
            }
        }
    }

    #[tokio::test]
    async fn a_text_has_a_fingerprint_if_somebody_asks() {
        let text = b"A: b\r\n\r\nbody\r\n";
        for split in [1, 7, text.len()] {
            for is_asked in [true, false] {
                let store = Store::memory();
                let mut intake = Intake::new(store.text_writer(), 1000, share());
                let edit = |_: &Bytes| {
                    Ok::<_, IntakeError>(HeaderEdit {
                        fingerprint: is_asked,
                        ..HeaderEdit::default()
                    })
                };
                for chunk in text.chunks(split) {
                    intake.write(chunk, edit).await.unwrap();
                }
                let (taken, _memory) = intake.finish(edit).await.unwrap();
                let expected: [u8; 32] = Sha256::digest(text).into();
                assert_eq!(taken.fingerprint, is_asked.then_some(expected));
            }
        }
    }

    /// A section that the checks hold counts until the end, also if the text goes to a file.
    #[tokio::test]
    async fn a_kept_section_takes_memory() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(folder.path())).unwrap();
        let memory = TextMemory::new(1 << 20);
        let section = format!("A: {}\r\n\r\n", "b".repeat(200_000));
        let keep = |section: &Bytes| {
            Ok::<_, IntakeError>(HeaderEdit {
                kept: section.len(),
                ..HeaderEdit::default()
            })
        };
        let mut intake = Intake::new(
            store.text_writer(),
            1 << 20,
            memory.share([192, 0, 2, 1].into()),
        );
        intake.write(section.as_bytes(), keep).await.unwrap();
        // A network has 256 KiB, and the section takes them.
        let mut other = memory.share([192, 0, 2, 1].into());
        for _ in 0..30 {
            intake.write(&[b'x'; 10_000], keep).await.unwrap();
            assert!(!other.try_cover(FREE + 1));
        }
        let (taken, held) = intake.finish(keep).await.unwrap();
        assert!(matches!(taken.text, NewText::File(_)));
        drop(held);
        assert!(other.try_cover(256 << 10));
    }

    #[tokio::test]
    async fn a_header_section_has_a_limit() {
        let store = Store::memory();
        let mut intake = Intake::new(store.text_writer(), 1000, share());
        let big = [b'x'; 1001];
        let result: Result<(), IntakeError> =
            intake.write(&big, |_| Ok(HeaderEdit::default())).await;
        assert!(matches!(
            result,
            Err(IntakeError::HeaderTooLarge { max: 1000 })
        ));
    }

    /// The body of a binary text may have any bytes. Its header section is made of lines.
    #[tokio::test]
    async fn a_header_section_has_whole_line_ends_and_no_nul() {
        let refusal = |fault: &str| format!("554 5.5.2 the header section has {fault}");
        let (cr, lf) = (refusal("a CR without LF"), refusal("an LF without CR"));
        for (text, expected) in [
            ("A: b\rC: d\r\n\r\nbody", cr.as_str()),
            ("A: b\r", &cr),
            ("A: b\r\r\n\r\n", &cr),
            ("A: b\n\nC: d\r\n\r\nbody", &lf),
            ("\nA: b\r\n", &lf),
            ("A: b\0c\r\n\r\nbody", &refusal("a NUL character")),
            ("A: b\r\n\r\nb\ro\nd\0y", "ok"),
            ("\r\nb\ro\nd\0y", "ok"),
        ] {
            for split in 1..=text.len() {
                let store = Store::memory();
                let mut intake = Intake::new(store.text_writer(), 1000, share());
                let mut result = Ok(());
                for chunk in text.as_bytes().chunks(split) {
                    if result.is_ok() {
                        result = intake.write(chunk, unchanged).await;
                    }
                }
                if result.is_ok() {
                    result = intake.finish(unchanged).await.map(|_| ());
                }
                let reply = result.map_err(|error| Reply::from(error).to_string());
                let said = reply.err().unwrap_or_else(|| "ok".to_owned());
                assert_eq!(said, expected, "{text:?} by {split}");
            }
        }
    }

    #[tokio::test]
    async fn fields_and_parts_have_limits() {
        let multipart = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
        let part = "--b\r\n\r\n";
        for (text, expected) in [
            (format!("{multipart}{}", part.repeat(2)), "ok"),
            (
                format!("{multipart}{}", part.repeat(3)),
                "554 5.6.0 the message has more than 3 MIME parts",
            ),
            (
                format!("{}\r\n", "A: b\r\n".repeat(1001)),
                "554 5.6.0 the message has more than 1000 header fields",
            ),
        ] {
            for split in [1, 7, 100_000] {
                let store = Store::memory();
                let intake = Intake::new(store.text_writer(), 100_000, share());
                let mut intake = intake.with_limits(mime::Limits { parts: 3, depth: 9 });
                let mut result = Ok(());
                for chunk in text.as_bytes().chunks(split) {
                    if result.is_ok() {
                        result = intake.write(chunk, unchanged).await;
                    }
                }
                let reply = result.map_err(|error| Reply::from(error).to_string());
                assert_eq!(reply.err().as_deref().unwrap_or("ok"), expected, "{split}");
            }
        }
    }

    #[tokio::test]
    async fn many_texts_together_stay_within_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(folder.path())).unwrap();
        let memory = TextMemory::new(4 << 20);
        let mut all = Vec::new();
        for n in 0..100_u8 {
            let share = memory.share([192, 0, 2, n].into());
            let mut intake = Intake::new(store.text_writer(), 1000, share);
            intake.write(HEADER, unchanged).await.unwrap();
            all.push(intake);
        }
        let piece = [b'x'; 10_000];
        for _ in 0..20 {
            for intake in &mut all {
                intake.write(&piece, unchanged).await.unwrap();
            }
            let held: usize = all.iter().map(|intake| intake.writer.buffered()).sum();
            assert!(held <= (4 << 20) + all.len() * FREE, "{held}");
        }
        let mut in_files = 0;
        for intake in all {
            let (taken, _memory) = intake.finish(unchanged).await.unwrap();
            assert_eq!(taken.size, HEADER.len() as u64 + 200_000);
            in_files += u32::from(matches!(taken.text, NewText::File(_)));
        }
        assert!((1..100).contains(&in_files), "{in_files}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_header_section_without_memory_is_refused() {
        let memory = TextMemory::new(1 << 20);
        let store = Store::memory();
        let begin = || {
            let share = memory.share([192, 0, 2, 1].into());
            Intake::new(store.text_writer(), 1 << 20, share)
        };
        let (mut first, mut second) = (begin(), begin());
        first.write(&[b'x'; 200_000], unchanged).await.unwrap();
        second.write(&[b'x'; FREE], unchanged).await.unwrap();
        let refused = second.write(b"x", unchanged).await;
        assert!(matches!(refused, Err(IntakeError::NoMemory)));
        let reply = Reply::from(IntakeError::NoMemory).to_string();
        assert!(reply.starts_with("452 4.3.1 "), "{reply}");
        // Small ones are always taken.
        let mut third = begin();
        third.write(HEADER, unchanged).await.unwrap();
        drop(first);
        third.write(&[b'x'; 200_000], unchanged).await.unwrap();
    }
}
