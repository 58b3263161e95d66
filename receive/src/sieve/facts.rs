//! The facts about a message and its recipient that scripts may ask for.

use std::{borrow::Cow, io};

use jiff::Zoned;
use postrider_smtp::{Address, ReversePath};

use super::mailbox::KnownMailbox;

/// The most bytes of a message that a test of the body reads.
pub const READ_MAX: usize = 512 << 10;

/// The facts for one recipient of a message.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The reverse-path.
    pub sender: &'a ReversePath,
    /// The forward-path of this recipient.
    pub recipient: &'a Address,
    /// The header section, without the blank line behind it.
    pub header: &'a [u8],
    /// The whole message. A test of the body reads it, and nothing else.
    pub message: &'a dyn MessageText,
    /// The bytes of the message.
    pub size: u64,
    /// The time of the delivery, in the zone of the server.
    pub now: &'a Zoned,
    /// The mailboxes of the account.
    pub mailboxes: &'a [KnownMailbox],
    /// The mailbox of `keep`.
    pub keep_mailbox: &'a str,
    /// What separates the user of a local-part from its detail, such as `+`. Empty: nothing does.
    pub separator: &'a str,
}

/// The text of a message, wherever it is.
pub trait MessageText {
    /// The message from its beginning, with its header section. At most so many bytes.
    ///
    /// # Errors
    /// If the text can't be read.
    fn read(&self, most: usize) -> io::Result<Cow<'_, [u8]>>;
}

/// A text in memory.
impl MessageText for &[u8] {
    fn read(&self, most: usize) -> io::Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(self.get(..most).unwrap_or(self)))
    }
}
