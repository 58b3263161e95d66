//! What Send is asked: the shapes of its JSON.

use std::collections::BTreeMap;

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use jiff::Zoned;
use serde_json::Value;

use crate::{
    compose::{File, Mailbox},
    data::Data,
    error::ApiError,
    json::{self, JsonError, Object},
    request,
};

/// Padding, as the contract has it.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// What a caller asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) from: Vec<NameAddress>,
    pub(crate) to: Vec<NameAddress>,
    pub(crate) cc: Vec<NameAddress>,
    pub(crate) bcc: Vec<NameAddress>,
    pub(crate) reply_to: Vec<NameAddress>,
    pub(crate) message_id: String,
    pub(crate) references: Vec<String>,
    pub(crate) date: Option<Zoned>,
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: String,
    pub(crate) extra: BTreeMap<String, String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) alternative: Vec<NewFile>,
    pub(crate) inline: Vec<NewFile>,
    pub(crate) attached: Vec<NewFile>,
    pub(crate) require_tls: Option<bool>,
    pub(crate) future_release: Option<Zoned>,
    pub(crate) save_sent: bool,
    /// The mailing list that it belongs to; empty if none. In v1 only.
    pub(crate) list: String,
}

#[derive(Clone, Debug)]
pub(crate) struct NameAddress {
    pub(crate) name: String,
    pub(crate) address: String,
}

/// A file as it is given.
#[derive(Clone, Debug)]
pub(crate) struct NewFile {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) content_id: String,
    pub(crate) content: NewContent,
}

/// What is in a file.
#[derive(Clone, Debug)]
pub(crate) enum NewContent {
    /// Still base64.
    Base64(String),
    /// Was base64.
    Decoded(Data),
    /// It was to be base64, but is not.
    Wrong(String),
}

impl Request {
    /// Reads the request of a call.
    pub(crate) fn read(text: &str) -> Result<Self, ApiError> {
        request::read(text, Self::from_fields)
    }

    fn from_fields(fields: &mut Object) -> Result<Self, JsonError> {
        Ok(Self {
            from: fields.list("From", NameAddress::read)?,
            to: fields.list("To", NameAddress::read)?,
            cc: fields.list("CC", NameAddress::read)?,
            bcc: fields.list("BCC", NameAddress::read)?,
            reply_to: fields.list("ReplyTo", NameAddress::read)?,
            message_id: fields.string("MessageID")?,
            references: fields.list("References", json::text)?,
            date: fields.time("Date")?,
            subject: fields.string("Subject")?,
            text: fields.string("Text")?,
            html: fields.string("HTML")?,
            extra: fields.strings("Extra")?,
            headers: fields.list("Headers", json::pair)?,
            alternative: fields.list("AlternativeFiles", NewFile::read)?,
            inline: fields.list("InlineFiles", NewFile::read)?,
            attached: fields.list("AttachedFiles", NewFile::read)?,
            require_tls: fields.bool("RequireTLS")?,
            future_release: fields.time("FutureRelease")?,
            save_sent: fields.bool("SaveSent")?.unwrap_or_default(),
            list: String::new(),
        })
    }
}

impl NameAddress {
    fn read(value: Value, place: String) -> Result<Self, JsonError> {
        let mut fields = Object::new(value, place)?;
        let (name, address) = (fields.string("Name")?, fields.string("Address")?);
        fields.finish()?;
        Ok(Self { name, address })
    }

    pub(crate) fn parse(self) -> Result<Mailbox, ApiError> {
        Ok(Mailbox {
            address: request::address(&self.address)?,
            name: self.name,
        })
    }
}

impl NewFile {
    fn read(value: Value, place: String) -> Result<Self, JsonError> {
        let mut fields = Object::new(value, place)?;
        let file = Self {
            name: fields.string("Name")?,
            content_type: fields.string("ContentType")?,
            content_id: fields.string("ContentID")?,
            content: NewContent::Base64(fields.string("Data")?),
        };
        fields.finish()?;
        Ok(file)
    }

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
