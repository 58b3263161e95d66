//! Message texts: a writer for a text while it arrives, and a reader for a stored text. Also bytes
//! that are needed for a while only, such as the request of an API call.

use std::{fmt, io, mem, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::task;

use crate::{
    INLINE_TEXT_MAX, Message, NewText, StoreError,
    disk::is_full,
    journal::{JournalText, ReadError},
    textfile::{TextFile, TextFileReader, TextFileWriter, TextFiles},
};

/// A read of at most this many bytes is done at once.
const READ_AT_ONCE: u64 = 64 * 1024;

/// Collects a text as it arrives. If it is dropped before [`finish`](Self::finish), nothing of the
/// text stays.
pub struct TextWriter {
    /// The bytes that are not in the file yet.
    buffer: BytesMut,
    /// How many bytes are in the file.
    written: u64,
    target: Target,
}

enum Target {
    /// The text goes to a file when it becomes too large. None: it stays in memory.
    Files(Option<TextFiles>),
    File(Box<TextFileWriter>),
    /// A write failed or was abandoned.
    Broken,
}

impl TextWriter {
    #[cfg(any(test, feature = "memory"))]
    pub(crate) fn in_memory() -> Self {
        Self::new(Target::Files(None))
    }

    pub(crate) fn on_disk(files: TextFiles) -> Self {
        Self::new(Target::Files(Some(files)))
    }

    fn new(target: Target) -> Self {
        Self {
            buffer: BytesMut::new(),
            written: 0,
            target,
        }
    }

    /// Adds the next piece.
    ///
    /// # Errors
    /// If the disk does not take the bytes. Then the text can only be dropped.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self.gather(bytes) {
            true => self.spill().await,
            false => Ok(()),
        }
    }

    /// The same. It blocks the calling thread while the disk is written.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_blocking(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self.gather(bytes) {
            true => self.spill_blocking(),
            false => Ok(()),
        }
    }

    /// Adds to the buffer. True: the buffer has to go to the file.
    fn gather(&mut self, bytes: &[u8]) -> bool {
        self.buffer.extend_from_slice(bytes);
        self.buffer.len() > INLINE_TEXT_MAX && !matches!(self.target, Target::Files(None))
    }

    /// Writes the buffer to the file, on the pool of blocking threads.
    async fn spill(&mut self) -> Result<(), StoreError> {
        let (bytes, target) = self.take();
        self.target = blocking(move || target.append(&bytes).map_err(refused)).await?;
        Ok(())
    }

    /// Writes to the file what is in memory, so that the text takes no memory until the next write.
    /// A text of a store without a disk stays in memory.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub async fn release(&mut self) -> Result<(), StoreError> {
        if matches!(self.target, Target::Files(None)) {
            return Ok(());
        }
        let (bytes, target) = self.take();
        self.buffer = BytesMut::new();
        let released = blocking(move || {
            let target = target.append(&bytes).map_err(refused)?;
            target.release().map_err(refused)
        });
        self.target = released.await?;
        Ok(())
    }

    /// The bytes in memory that are not in the file yet. The writer of the file may hold some more,
    /// at most 64 KiB.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    fn spill_blocking(&mut self) -> Result<(), StoreError> {
        let (bytes, target) = self.take();
        self.target = target.append(&bytes).map_err(refused)?;
        Ok(())
    }

    fn take(&mut self) -> (Bytes, Target) {
        let bytes = self.buffer.split().freeze();
        self.written += bytes.len() as u64;
        (bytes, mem::replace(&mut self.target, Target::Broken))
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the text. A file is synced then.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub async fn finish(mut self) -> Result<NewText, StoreError> {
        if matches!(self.target, Target::Files(_)) {
            return Ok(NewText::Inline(self.buffer.freeze()));
        }
        self.spill().await?;
        match self.target {
            Target::File(file) => {
                let finished = blocking(move || file.finish().map_err(refused));
                Ok(NewText::File(finished.await?))
            }
            _ => Err(StoreError::Closed),
        }
    }

    /// Ends bytes that are needed for a while only. Nothing is synced.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub async fn into_scratch(self) -> Result<Scratch, StoreError> {
        match self.target {
            Target::File(_) => blocking(|| self.into_scratch_blocking()).await,
            _ => self.into_scratch_blocking(),
        }
    }

    /// The same. It blocks the calling thread while the disk is written.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn into_scratch_blocking(mut self) -> Result<Scratch, StoreError> {
        if matches!(self.target, Target::Files(_)) {
            return Ok(self.buffer.freeze().into());
        }
        self.spill_blocking()?;
        let Target::File(file) = self.target else {
            return Err(StoreError::Closed);
        };
        let (guard, reader) = file.finish_for_now().map_err(refused)?;
        let text = Text::in_file(reader);
        let file = Temporary {
            held: Some((text.clone(), guard)),
        };
        Ok(Scratch {
            bytes: text.into(),
            _file: Some(Arc::new(file)),
        })
    }
}

impl Target {
    /// Frees the memory of the file's writer.
    fn release(mut self) -> io::Result<Self> {
        if let Self::File(file) = &mut self {
            file.release()?;
        }
        Ok(self)
    }

    /// Adds to the file. Makes the file if there is none yet.
    fn append(self, bytes: &[u8]) -> io::Result<Self> {
        let mut file = match self {
            Self::Files(Some(files)) => Box::new(files.create()?),
            Self::File(file) => file,
            Self::Files(None) | Self::Broken => {
                return Err(io::Error::other("an earlier write failed"));
            }
        };
        file.write(bytes)?;
        Ok(Self::File(file))
    }
}

impl fmt::Debug for TextWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextWriter")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

async fn blocking<T: Send + 'static>(
    action: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    // The task is cancelled only when the runtime ends.
    let done = task::spawn_blocking(action).await;
    done.unwrap_or(Err(StoreError::Closed))
}

/// The error of a write that the disk refused.
fn refused(error: io::Error) -> StoreError {
    match is_full(&error) {
        true => StoreError::Full,
        false => StoreError::Write(error.into()),
    }
}

/// Bytes that are needed for a while only. Few bytes stay in memory. Many go to a file, which is
/// removed with the last clone.
#[derive(Clone, Debug)]
pub struct Scratch {
    bytes: Message,
    _file: Option<Arc<Temporary>>,
}

/// Removes a file. That takes a while when the file is long, so it runs on the pool of blocking
/// threads if there is a runtime.
#[derive(Debug)]
struct Temporary {
    /// The open file, and its name.
    held: Option<(Text, TextFile)>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let held = self.held.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(held));
        }
    }
}

impl Scratch {
    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All bytes, if they are in memory.
    #[must_use]
    pub fn in_memory(&self) -> Option<&Bytes> {
        self.bytes.in_memory()
    }

    /// The bytes as a text, for a reader of messages. A file goes with the scratch, so that has to
    /// live as long.
    #[must_use]
    pub const fn text(&self) -> &Text {
        self.bytes.text()
    }

    /// The bytes at `range`, cut at the end.
    ///
    /// # Errors
    /// If the disk does not give the bytes.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.bytes.read(range).await
    }

    /// The same as [`read`](Self::read). It blocks the calling thread while the disk is read.
    ///
    /// # Errors
    /// As for `read`.
    pub fn read_blocking(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.bytes.read_blocking(range)
    }
}

/// A stored message, for code that reads both.
impl From<Message> for Scratch {
    fn from(bytes: Message) -> Self {
        Self { bytes, _file: None }
    }
}

impl From<Bytes> for Scratch {
    fn from(bytes: Bytes) -> Self {
        Message::from(Text::of_bytes(bytes)).into()
    }
}

/// A stored text. It can be read while this value lives, even when the last record of it is removed
/// meanwhile.
#[derive(Clone, Debug)]
pub struct Text {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Memory(Bytes),
    Journal(JournalText),
    File(Arc<TextFileReader>),
}

impl Text {
    pub(crate) const fn empty() -> Self {
        Self::of_bytes(Bytes::new())
    }

    pub(crate) const fn of_bytes(text: Bytes) -> Self {
        Self {
            source: Source::Memory(text),
        }
    }

    pub(crate) const fn in_journal(text: JournalText) -> Self {
        Self {
            source: Source::Journal(text),
        }
    }

    pub(crate) fn in_file(text: TextFileReader) -> Self {
        Self {
            source: Source::File(Arc::new(text)),
        }
    }

    /// Bytes of the text.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.source {
            Source::Memory(text) => text.len() as u64,
            Source::Journal(text) => u64::from(text.place().len),
            Source::File(text) => text.place().len,
        }
    }

    /// Whether the text has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole text, if it is in memory already.
    #[must_use]
    pub const fn in_memory(&self) -> Option<&Bytes> {
        match &self.source {
            Source::Memory(text) => Some(text),
            Source::Journal(_) | Source::File(_) => None,
        }
    }

    /// Compares a checksum (CRC-32C) of all bytes that were read with that of the text.
    pub(crate) fn check(&self, crc: u32) -> Result<(), StoreError> {
        match &self.source {
            Source::Memory(_) => Ok(()),
            Source::Journal(text) => Ok(text.check(crc)?),
            Source::File(text) => text.check(crc).map_err(not_read),
        }
    }

    /// The bytes at `range`, cut at the end of the text. A read of the whole also checks that the
    /// text is what was written.
    ///
    /// A short read is done at once: the bytes are usually in the page cache. A longer one runs on
    /// tokio's pool of blocking threads.
    ///
    /// # Errors
    /// If the disk does not give the bytes, or they are damaged.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.min(self.len()).saturating_sub(range.start);
        if wanted <= READ_AT_ONCE || self.in_memory().is_some() {
            return self.read_blocking(range);
        }
        let text = self.clone();
        blocking(move || text.read_blocking(range)).await
    }

    /// The same as [`read`](Self::read). It blocks the calling thread while the disk is read.
    ///
    /// # Errors
    /// As for `read`.
    pub fn read_blocking(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        match &self.source {
            Source::Memory(text) => {
                let at = |at: u64| usize::try_from(at).map_or(text.len(), |at| at.min(text.len()));
                let (start, end) = (at(range.start), at(range.end));
                Ok(text.slice(start.min(end)..end))
            }
            Source::Journal(text) => Ok(text.read(range)?),
            Source::File(text) => text.read(range).map_err(not_read),
        }
    }
}

fn not_read(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::InvalidData => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Read(error.into()),
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { error, .. } => Self::Read(error.into()),
            error => Self::Corrupt(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::disk::{Disk, sim::SimDisk};

    /// How many files there are.
    fn left(disk: &SimDisk) -> usize {
        let folders = disk.list("texts").unwrap().into_iter();
        let names = folders.map(|folder| disk.list(&format!("texts/{folder}")).unwrap().len());
        names.sum()
    }

    /// More than stays in memory.
    fn many() -> Vec<u8> {
        (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
    }

    #[tokio::test]
    async fn what_is_needed_for_a_while_is_in_memory_or_in_a_file_that_goes() {
        let disk = SimDisk::new(1);
        let files = TextFiles::open(disk.disk(), 1, 0).unwrap();
        let few = {
            let mut writer = TextWriter::on_disk(files.clone());
            writer.write(b"few").await.unwrap();
            writer.into_scratch().await.unwrap()
        };
        assert_eq!((few.len(), &few.in_memory().unwrap()[..]), (3, &b"few"[..]));
        assert_eq!(few.read(1..9).await.unwrap(), "ew");
        assert_eq!(left(&disk), 0);

        let bytes = many();
        let mut writer = TextWriter::on_disk(files.clone());
        let mut blocking = TextWriter::on_disk(files);
        for piece in bytes.chunks(10_000) {
            writer.write(piece).await.unwrap();
            blocking.write_blocking(piece).unwrap();
        }
        let written = writer.into_scratch().await.unwrap();
        let clone = written.clone();
        drop(written);
        for scratch in [clone, blocking.into_scratch_blocking().unwrap()] {
            assert!(scratch.in_memory().is_none());
            assert_eq!(scratch.len(), bytes.len() as u64);
            assert_eq!(scratch.read(0..u64::MAX).await.unwrap(), bytes);
            assert_eq!(scratch.read_blocking(5..1000).unwrap(), bytes[5..1000]);
        }
        let all_go = async {
            while left(&disk) > 0 {
                task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(60), all_go).await;
        gone.expect("the files go");
    }

    #[tokio::test]
    async fn without_a_disk_all_stays_in_memory() {
        let mut writer = TextWriter::in_memory();
        writer.write(&many()).await.unwrap();
        let scratch = writer.into_scratch().await.unwrap();
        assert_eq!(scratch.in_memory().unwrap(), &many());
    }
}
