//! Converts a message for a server that can't take it as it is: a server without 8BITMIME (RFC
//! 6152), BINARYMIME (RFC 3030) or SMTPUTF8 (RFC 6531), and any server if lines are too long.
//!
//! The text is read twice, in pieces of any size:
//!
//! 1. A [`Survey`] looks at each part, and says what is to be done with it: a [`Plan`].
//! 2. A [`Conversion`] follows the plan, and gives the converted text in pieces.
//!
//! Both hold one line, one header section and the boundaries that are open, and a few bytes for
//! each part. The result depends on the text and the [`Form`] only.
//!
//! | what | becomes |
//! |---|---|
//! | a part that has what the form forbids | quoted-printable if it is text and that is smaller, else base64 |
//! | a part that is encoded, and still has lines that are too long or 8-bit bytes | the same encoding, with short lines and ASCII only |
//! | a message in a message (`message/rfc822`), which may not be encoded | its parts are converted |
//! | 8-bit texts of header fields | encoded words, parameters, A-labels: [`crate::field::downgraded`] |
//! | a long line of a header field | folded at white space; without any it stays |
//! | the text around the parts of a multipart, which nobody reads | 8-bit bytes become `?` |
//! | anything else | stays, byte for byte |
//!
//! Nothing in `multipart/signed` and `multipart/encrypted` changes, and nothing at all in a message
//! with a DKIM-Signature or an ARC seal.
//!
//! | file | what it has |
//! |---|---|
//! | `walk` | the lines of a text, told as header sections, contents and delimiters |
//! | `part` | what a header section says about its part |
//! | `survey` | the look at the parts, and the plan |
//! | `conversion` | the converted text |
//! | `header` | a header section, written anew |
//! | `encode` | the transfer encodings |
//! | `needs` | what a text needs of a server, found out while it comes |

mod conversion;
mod encode;
mod header;
mod needs;
mod part;
mod survey;
mod walk;

pub use conversion::Conversion;
pub use encode::quoted_printable;
pub use needs::{NeedsScan, TextNeeds};
pub use survey::{Plan, Survey};

use crate::EnhancedCode;

/// The longest line of a text, without its CRLF (RFC 5321 §4.5.3.1.6).
pub const LINE_MAX: usize = 998;

/// The form of a text on its way to a server. Each form forbids all that the forms before it
/// forbid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// As it is stored.
    #[default]
    AsIs,
    /// No line over [`LINE_MAX`], no NUL, no CR or LF that stands alone: what DATA can carry.
    Lines,
    /// No 8-bit bytes in header sections: for a server without SMTPUTF8.
    AsciiHeader,
    /// No 8-bit bytes: for a server without 8BITMIME.
    SevenBit,
}

/// Why a text has no such form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unconvertible {
    /// The message has a DKIM-Signature or an ARC seal.
    #[error("a signature of another system covers it")]
    Signed,
    /// A part that is signed or encrypted would change.
    #[error("a part of it is signed or encrypted")]
    Protected,
    /// A part is of a type or an encoding that can't be encoded.
    #[error("a part of it may not be encoded")]
    Part,
    /// The local-part of an address in the header section is not ASCII.
    #[error("an address in its header section is not ASCII")]
    Address,
    /// It has too many parts, too deep parts, or a header section that is too long.
    #[error("it has too many parts, or too long a header section")]
    TooMuch,
}

impl Unconvertible {
    /// The code for the sender: 5.6.9 if the header section can't be sent (RFC 6531 §3.4), else
    /// 5.6.3.
    #[must_use]
    pub fn enhanced(self, form: Form) -> EnhancedCode {
        match self == Self::Address || form == Form::AsciiHeader {
            true => EnhancedCode::UTF8_HEADER,
            false => EnhancedCode::CONVERSION,
        }
    }
}

#[cfg(test)]
mod tests;
