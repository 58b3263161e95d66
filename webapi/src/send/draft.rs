//! The input of a send: a message as its caller describes it, not yet checked.

use std::collections::BTreeMap;

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;

use crate::{
    call::{
        data::Data,
        value::{OffsetTime, address},
    },
    compose::{File, Mailbox},
    error::ApiError,
};

/// Base64 with padding, as the contract says. The unused bits of the last letter may be any.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// A message as its caller describes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) from: Vec<NameAddress>,
    pub(crate) to: Vec<NameAddress>,
    pub(crate) cc: Vec<NameAddress>,
    pub(crate) bcc: Vec<NameAddress>,
    pub(crate) reply_to: Vec<NameAddress>,
    pub(crate) message_id: String,
    pub(crate) references: Vec<String>,
    pub(crate) date: Option<OffsetTime>,
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: String,
    pub(crate) extra: BTreeMap<String, String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) alternative: Vec<NewFile>,
    pub(crate) inline: Vec<NewFile>,
    pub(crate) attached: Vec<NewFile>,
    pub(crate) require_tls: Option<bool>,
    pub(crate) future_release: Option<OffsetTime>,
    pub(crate) save_sent: bool,
    /// The mailing list of the message. Empty without one. Only v1 has it.
    pub(crate) list: String,
}

/// A name and an address as given.
#[derive(Clone, Debug)]
pub(crate) struct NameAddress {
    pub(crate) name: String,
    pub(crate) address: String,
}

/// A file as given.
#[derive(Clone, Debug)]
pub(crate) struct NewFile {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) content_id: String,
    pub(crate) content: NewContent,
}

/// The content of a file.
#[derive(Clone, Debug)]
pub(crate) enum NewContent {
    /// The content as base64.
    Base64(String),
    /// The decoded content.
    Decoded(Data),
    /// The content was no base64, with the reason.
    Wrong(String),
}

impl NameAddress {
    pub(crate) fn parse(self) -> Result<Mailbox, ApiError> {
        Ok(Mailbox {
            address: address(&self.address)?,
            name: self.name,
        })
    }
}

impl NewFile {
    pub(crate) fn decode(self) -> Result<File, ApiError> {
        let data = self.content.decode().map_err(|error| {
            ApiError::user(format!(
                "the data of file {:?} is not base64: {error}",
                self.name
            ))
        })?;
        Ok(File {
            name: self.name,
            content_type: self.content_type,
            content_id: self.content_id,
            data,
        })
    }
}

impl NewContent {
    fn decode(self) -> Result<Data, String> {
        let mut text = match self {
            Self::Base64(text) => text,
            Self::Decoded(data) => return Ok(data),
            Self::Wrong(error) => return Err(error),
        };
        if text.contains(['\r', '\n']) {
            text.retain(|letter| !matches!(letter, '\r' | '\n'));
        }
        let data = BASE64.decode(text).map_err(|error| error.to_string())?;
        Ok(Bytes::from(data).into())
    }
}
