//! The body of a call: what the hook is told.

use std::{borrow::Cow, collections::VecDeque, net::IpAddr};

use bytes::Bytes;
use postrider_config::{Hook, HookBody, HookStage};
use postrider_smtp::field::{self, Field};
use postrider_store::StoreError;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;
use serde_json::Map;

use super::contents::{Base64Text, JsonText};
use crate::hooks::{
    asked::Asked,
    draft::Draft,
    raw::{BodyPieces, RawPieces},
};

/// The version of the wire format.
const VERSION: u32 = 1;
/// The end of a call with a message, behind its last fixed field.
const END: &[u8] = b"}}";

/// What a call tells of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestOptions {
    /// Whether `contents` has the body. It is empty otherwise.
    pub body: HookBody,
    /// Whether `raw` has the whole message in base64.
    pub raw_base64: bool,
}

impl From<&Hook> for RequestOptions {
    fn from(hook: &Hook) -> Self {
        Self {
            body: hook.body,
            raw_base64: hook.raw_base64,
        }
    }
}

/// The fields of the header of each call.
#[must_use]
pub fn fields() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// The body of a call, as a run of pieces. The header section of a message is in one piece, and the
/// body in many.
#[derive(Clone, Debug)]
pub struct RequestBody {
    parts: VecDeque<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Fixed(Bytes),
    Contents(BodyPieces, JsonText),
    Raw(RawPieces, Base64Text),
}

impl RequestBody {
    /// The body of a call with this question. It tells of the draft as it is in the question: the
    /// caller gives the draft before other programs changed it, as the contract has it.
    #[must_use]
    pub fn new(asked: &Asked<'_>, options: RequestOptions) -> Self {
        let draft = asked.draft.filter(|_| asked.stage == HookStage::Data);
        let call = Call {
            context: Context::of(asked),
            envelope: Envelope::of(asked),
            message: draft.map(|draft| Message::of(draft, asked.added)),
        };
        let fixed = serde_json::to_vec(&call).unwrap_or_default();
        let parts = match draft {
            None => VecDeque::from([Part::Fixed(fixed.into())]),
            Some(draft) => with_message(fixed, draft, options),
        };
        Self { parts }
    }

    /// The next piece, which is not empty. None at the end.
    ///
    /// # Errors
    /// If the text of the message can't be read.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        while let Some(part) = self.parts.front_mut() {
            let (piece, is_over) = part.next().await?;
            if is_over {
                self.parts.pop_front();
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

/// The parts of a call whose fixed parts are these, with an empty text as the contents.
fn with_message(mut fixed: Vec<u8>, draft: &Draft, options: RequestOptions) -> VecDeque<Part> {
    // The contents are the last field of the message, and the message that of the call.
    fixed.truncate(fixed.len().saturating_sub(END.len() + 1));
    let mut parts = VecDeque::from([Part::Fixed(fixed.into())]);
    if options.body == HookBody::Text {
        let pieces = BodyPieces::of(draft.body.clone());
        parts.push_back(Part::Contents(pieces, JsonText::default()));
    }
    let size = format!("\",\"size\":{}", draft.size());
    parts.push_back(Part::Fixed(size.into()));
    if options.raw_base64 {
        parts.push_back(Part::Fixed(Bytes::from_static(b",\"raw\":\"")));
        parts.push_back(Part::Raw(RawPieces::of(draft), Base64Text::default()));
        parts.push_back(Part::Fixed(Bytes::from_static(b"\"")));
    }
    parts.push_back(Part::Fixed(Bytes::from_static(END)));
    parts
}

impl Part {
    /// The next piece, which may be empty, and whether it is the last one.
    async fn next(&mut self) -> Result<(Bytes, bool), StoreError> {
        let (written, is_over) = match self {
            Self::Fixed(bytes) => return Ok((std::mem::take(bytes), true)),
            Self::Contents(pieces, text) => match pieces.next_piece().await? {
                Some(piece) => (text.write(&piece), false),
                None => (text.finish(), true),
            },
            Self::Raw(pieces, text) => match pieces.next_piece().await? {
                Some(piece) => (text.write(&piece), false),
                None => (text.finish(), true),
            },
        };
        Ok((written.into(), is_over))
    }
}

#[derive(Serialize)]
struct Call<'a> {
    context: Context<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<Envelope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
}

#[derive(Serialize)]
struct Context<'a> {
    stage: &'static str,
    client: Client<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sasl: Option<Sasl<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls<'a>>,
    server: Server<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Queue>,
    protocol: Protocol,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Client<'a> {
    ip: IpAddr,
    port: u16,
    ptr: Option<&'a str>,
    helo: Option<&'a str>,
    active_connections: usize,
}

#[derive(Serialize)]
struct Sasl<'a> {
    login: &'a str,
    method: &'static str,
}

#[derive(Serialize)]
struct Tls<'a> {
    version: &'a str,
    cipher: &'a str,
}

#[derive(Serialize)]
struct Server<'a> {
    name: &'a str,
    port: u16,
    ip: IpAddr,
}

#[derive(Serialize)]
struct Queue {
    id: String,
}

#[derive(Serialize)]
struct Protocol {
    version: u32,
}

#[derive(Serialize)]
struct Envelope {
    from: EnvelopeAddress,
    to: Vec<EnvelopeAddress>,
}

#[derive(Serialize)]
struct EnvelopeAddress {
    address: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: Map<String, serde_json::Value>,
}

/// A field of a header section: its name, and all behind the colon.
type NameAndValue<'a> = (Cow<'a, str>, Cow<'a, str>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    headers: Vec<NameAndValue<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    server_headers: Vec<NameAndValue<'a>>,
    /// Empty: the body is written in its place.
    contents: &'static str,
}

impl<'a> Context<'a> {
    fn of(asked: &Asked<'a>) -> Self {
        let is_data = asked.stage == HookStage::Data;
        Self {
            stage: asked.stage.as_str(),
            client: Client {
                ip: asked.remote(),
                port: asked.client.remote.port(),
                ptr: asked.ptr,
                helo: asked.helo,
                active_connections: asked.connections,
            },
            sasl: asked.login.map(|login| Sasl {
                login: &login.user,
                method: login.mechanism.name(),
            }),
            tls: asked.client.tls.as_ref().map(|tls| Tls {
                version: &tls.version,
                cipher: &tls.cipher,
            }),
            server: Server {
                name: asked.hostname,
                port: asked.client.local.port(),
                ip: asked.client.local.ip().to_canonical(),
            },
            queue: is_data.then(|| Queue { id: asked.id() }),
            protocol: Protocol { version: VERSION },
        }
    }
}

impl Envelope {
    /// The envelope. None before MAIL.
    fn of(asked: &Asked<'_>) -> Option<Self> {
        let has_envelope = match asked.stage {
            HookStage::Mail | HookStage::Rcpt | HookStage::Data => true,
            HookStage::Connect | HookStage::Ehlo | HookStage::Auth => false,
        };
        let mail = asked.draft.map(|draft| &draft.mail).or(asked.mail);
        let mail = mail.filter(|_| has_envelope)?;
        let to = match asked.stage {
            HookStage::Mail => &[],
            _ => asked.to(),
        };
        let to = to
            .iter()
            .map(|rcpt| EnvelopeAddress::of(&rcpt.forward_path, rcpt.parameters()));
        Some(Self {
            from: EnvelopeAddress::of(&mail.reverse_path, mail.parameters()),
            to: to.collect(),
        })
    }
}

impl EnvelopeAddress {
    fn of(path: &impl ToString, parameters: Vec<(&str, Option<String>)>) -> Self {
        let parameters = parameters
            .into_iter()
            .map(|(keyword, value)| (keyword.to_owned(), value.unwrap_or_default().into()));
        Self {
            address: path.to_string().to_lowercase(),
            parameters: parameters.collect(),
        }
    }
}

impl<'a> Message<'a> {
    fn of(draft: &'a Draft, added: &'a [u8]) -> Self {
        let headers = draft.section.fields().filter_map(Field::read);
        Self {
            headers: headers.map(name_and_value).collect(),
            server_headers: field::fields(added).map(name_and_value).collect(),
            contents: "",
        }
    }
}

fn name_and_value(field: Field<'_>) -> NameAndValue<'_> {
    let text = String::from_utf8_lossy;
    (text(field.name), text(field.value))
}

#[cfg(test)]
mod tests;
