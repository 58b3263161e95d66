//! The method Send: what is asked for, checked in the order of the contract, composed, and queued.

use std::{collections::BTreeMap, time::Duration};

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jiff::{Zoned, tz::TimeZone};
use postrider_config::Dynamic;
use postrider_queue::{
    AddError, Submission, SubmittedRecipient,
    header::{self, Received},
};
use postrider_smtp::{Address, ReversePath};
use postrider_store::{Accept, BodySource, NewMail, Notify, Time};
use serde::Serialize;
use serde_json::Value;
use tracing::{info, warn};

use crate::{
    Parts,
    auth::User,
    compose::{Composed, File, Mailbox, Message, Output},
    error::{ApiError, Code},
    form::Form,
    json::{self, JsonError, Object},
};

/// The farthest that a message may be put off.
const FUTURE_MAX: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// Where copies of what is sent are kept.
const SENT: &str = "Sent";

/// Padding, as the contract has it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// What a caller asks for.
#[derive(Debug)]
struct Request {
    from: Vec<NameAddress>,
    to: Vec<NameAddress>,
    cc: Vec<NameAddress>,
    bcc: Vec<NameAddress>,
    reply_to: Vec<NameAddress>,
    message_id: String,
    references: Vec<String>,
    date: Option<Zoned>,
    subject: String,
    text: String,
    html: String,
    extra: BTreeMap<String, String>,
    headers: Vec<(String, String)>,
    alternative: Vec<NewFile>,
    inline: Vec<NewFile>,
    attached: Vec<NewFile>,
    require_tls: Option<bool>,
    future_release: Option<Zoned>,
    save_sent: bool,
}

#[derive(Debug)]
struct NameAddress {
    name: String,
    address: String,
}

/// A file whose data is still base64.
#[derive(Debug)]
struct NewFile {
    name: String,
    content_type: String,
    content_id: String,
    data: String,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    #[serde(rename = "MessageID")]
    message_id: String,
    submissions: Vec<Submitted>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Submitted {
    /// As it was given.
    address: String,
    #[serde(rename = "QueueMsgID")]
    queue_msg_id: u64,
    #[serde(rename = "FromID")]
    from_id: String,
}

impl Request {
    fn read(value: Value) -> Result<Self, JsonError> {
        let mut fields = Object::new(value, String::new())?;
        let request = Self {
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
        };
        fields.finish()?;
        Ok(request)
    }
}

impl NameAddress {
    fn read(value: Value, place: String) -> Result<Self, JsonError> {
        let mut fields = Object::new(value, place)?;
        let (name, address) = (fields.string("Name")?, fields.string("Address")?);
        fields.finish()?;
        Ok(Self { name, address })
    }

    fn parse(&self) -> Result<Mailbox, ApiError> {
        let address = Address::parse(self.address.trim()).map_err(|error| {
            ApiError::new(
                Code::BadAddress,
                format!("parsing address {:?}: {error}", self.address),
            )
        })?;
        Ok(Mailbox {
            name: self.name.clone(),
            address,
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
            data: fields.string("Data")?,
        };
        fields.finish()?;
        Ok(file)
    }

    fn decode(self) -> Result<File, ApiError> {
        let mut data = self.data;
        if data.contains(['\r', '\n']) {
            data.retain(|letter| !matches!(letter, '\r' | '\n'));
        }
        let data = BASE64.decode(data).map_err(|error| {
            ApiError::user(format!(
                "the data of file {:?} is not base64: {error}",
                self.name
            ))
        })?;
        Ok(File {
            name: self.name,
            content_type: self.content_type,
            content_id: self.content_id,
            data: data.into(),
        })
    }
}

fn parse_all(addresses: &[NameAddress]) -> Result<Vec<Mailbox>, ApiError> {
    addresses.iter().map(NameAddress::parse).collect()
}

/// Those of the request first, then the uploaded ones.
fn files(given: Vec<NewFile>, uploaded: Vec<File>) -> Result<Vec<File>, ApiError> {
    let given = given.into_iter().map(NewFile::decode);
    given.chain(uploaded.into_iter().map(Ok)).collect()
}

/// Carries a call out.
pub(crate) async fn send(parts: &Parts, user: &User, form: Form) -> Result<Response, ApiError> {
    let value =
        json::first_value(&form.request).map_err(|error| ApiError::protocol(error.to_string()))?;
    let request = Request::read(value).map_err(|error| ApiError::protocol(error.to_string()))?;
    let config = parts.config.load_full();
    if request.text.is_empty() && request.html.is_empty() {
        return Err(ApiError::new(
            Code::MissingBody,
            "a message needs Text or HTML, or both",
        ));
    }
    let from = author(&request, user, &config)?;
    let (to, cc, bcc) = (
        parse_all(&request.to)?,
        parse_all(&request.cc)?,
        parse_all(&request.bcc)?,
    );
    check_author(&from.address, user, &config)?;
    let mut given: Vec<&NameAddress> = request.to.iter().collect();
    given.extend(request.cc.iter().chain(&request.bcc));
    if given.is_empty() {
        return Err(ApiError::new(
            Code::NoRecipients,
            "a message needs a recipient in To, CC or BCC",
        ));
    }
    let given: Vec<String> = given.iter().map(|given| given.address.clone()).collect();
    let reply_to = parse_all(&request.reply_to)?;
    let recipients: Vec<Address> = to
        .iter()
        .chain(&cc)
        .chain(&bcc)
        .map(|mailbox| mailbox.address.clone())
        .collect();
    let needs_utf8 = |mailbox: &Mailbox| !mailbox.address.is_ascii();
    let smtputf8 = needs_utf8(&from)
        || [&to, &cc, &bcc, &reply_to]
            .into_iter()
            .flatten()
            .any(needs_utf8);

    let now = parts.clock.now();
    let hostname = parts.hostname.ascii();
    let message_id = if request.message_id.is_empty() {
        header::message_id(&mut rand::rng(), hostname)
    } else {
        request.message_id
    };
    let message = Message {
        from,
        reply_to,
        to,
        cc,
        subject: request.subject,
        date: request
            .date
            .unwrap_or_else(|| now.timestamp().to_zoned(TimeZone::UTC)),
        message_id: message_id.clone(),
        references: request.references,
        headers: request.headers,
        text: request.text,
        html: request.html,
        alternative: files(request.alternative, form.alternative)?,
        inline: files(request.inline, form.inline)?,
        attached: files(request.attached, form.attached)?,
        smtputf8,
    };
    message.check()?;
    let received = received(parts, hostname, &recipients, now);
    let composed = compose(parts, &message, received.as_bytes()).await?;
    let not_before = release(request.future_release, now)?;
    let copy = if request.save_sent {
        Some(sent_copy(parts, &message, &bcc).await?)
    } else {
        None
    };

    let submission = Submission {
        account: user.account.clone(),
        login: Some(user.login.clone()),
        reverse_path: ReversePath::Mailbox(message.from.address.clone()),
        recipients: recipients
            .into_iter()
            .map(|address| SubmittedRecipient {
                address,
                notify: Notify::default(),
                orcpt: String::new(),
            })
            .collect(),
        body: composed.body,
        size: composed.size,
        message_id: message_id.clone(),
        subject: message.subject.clone(),
        from: Some(message.from.address.clone()),
        eight_bit: composed.eight_bit,
        smtputf8,
        require_tls: request.require_tls,
        not_before,
        future_release: not_before
            .map(|time| format!("until;{time}"))
            .unwrap_or_default(),
        extra: request.extra,
        ret_full: None,
        envid: String::new(),
    };
    let added = parts
        .queue
        .add(submission)
        .await
        .map_err(|error| match error {
            AddError::Store(error) => ApiError::from(error),
            other => ApiError::user(other.to_string()),
        })?;
    if let [first, .., last] | [first @ last] = added.as_slice() {
        info!(
            account = user.account,
            first = first.id.0,
            last = last.id.0,
            message_id,
            "message queued by webapi"
        );
    }
    if let Some(copy) = copy {
        keep_copy(parts, user, copy, now).await?;
    }
    let submissions = given
        .into_iter()
        .zip(added)
        .map(|(address, added)| Submitted {
            address,
            queue_msg_id: added.id.0,
            from_id: added.from_id,
        })
        .collect();
    Ok(Response {
        message_id,
        submissions,
    })
}

/// Who it is from: as asked for, or the login.
fn author(request: &Request, user: &User, config: &Dynamic) -> Result<Mailbox, ApiError> {
    match request.from.as_slice() {
        [] => {
            let name = config
                .accounts
                .get(&user.account)
                .map(|account| account.full_name.clone());
            Ok(Mailbox {
                name: name.unwrap_or_default(),
                address: user.login.clone(),
            })
        }
        [only] => only.parse(),
        _ => Err(ApiError::new(
            Code::MultipleFrom,
            "a message has only one From",
        )),
    }
}

fn check_author(address: &Address, user: &User, config: &Dynamic) -> Result<(), ApiError> {
    let domain = address
        .host
        .domain()
        .and_then(|domain| config.domains.get(domain));
    if domain.is_some_and(|domain| domain.disabled) {
        let text = format!("the domain {} is disabled", address.host);
        return Err(ApiError::new(Code::DomainDisabled, text));
    }
    if !config.may_send_from(&user.account, address) {
        let text = format!("your account may not send from {}", address.unicode());
        return Err(ApiError::new(Code::BadFrom, text));
    }
    Ok(())
}

/// When the first attempt is, if it is put off.
fn release(wanted: Option<Zoned>, now: Time) -> Result<Option<Time>, ApiError> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let time = Time(wanted.timestamp().as_microsecond());
    if time > now.after(FUTURE_MAX) {
        return Err(ApiError::user("FutureRelease is more than 60 days ahead"));
    }
    Ok((time > now).then_some(time))
}

fn received(parts: &Parts, hostname: &str, recipients: &[Address], now: Time) -> String {
    let recipient = match recipients {
        [only] => Some(only),
        _ => None,
    };
    let received = Received {
        from: None,
        by: hostname,
        with: if parts.tls { "HTTPS" } else { "HTTP" },
        id: header::random_id(&mut rand::rng()),
        tls: None,
        recipient,
        time: now,
    };
    received.to_string()
}

async fn compose(parts: &Parts, message: &Message, prefix: &[u8]) -> Result<Composed, ApiError> {
    let mut out = Output::new(parts.store.body_writer(), prefix, parts.max_message_size).await?;
    message
        .write(&mut out, &mut || header::random_id(&mut rand::rng()))
        .await?;
    out.finish().await
}

/// The text of the copy for Sent: it shows who got a blind copy.
async fn sent_copy(
    parts: &Parts,
    message: &Message,
    bcc: &[Mailbox],
) -> Result<Composed, ApiError> {
    compose(parts, message, &Message::bcc_field(bcc, message.smtputf8)).await
}

/// Puts the copy into the account's mailbox for what was sent, if there is one.
async fn keep_copy(parts: &Parts, user: &User, copy: Composed, now: Time) -> Result<(), ApiError> {
    if !parts
        .statics
        .default_mailboxes
        .iter()
        .any(|name| name == SENT)
    {
        return Ok(());
    }
    let accept = Accept {
        body: Some(copy.body),
        mails: vec![NewMail {
            account: user.account.clone(),
            mailbox: SENT.to_owned(),
            body: BodySource::New,
            size: copy.size,
            received: now,
            flags: vec!["$notjunk".to_owned(), "\\seen".to_owned()],
            dsn: false,
            smtp: None,
        }],
        ..Accept::default()
    };
    parts.store.accept(accept).await.map(drop).map_err(|error| {
        warn!(%error, account = user.account, "failed to keep a copy of a sent message");
        let text = format!("the message is queued, but its copy for {SENT} was not kept: {error}");
        ApiError::new(Code::SentOverQuota, text)
    })
}
