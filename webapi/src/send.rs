//! The method Send: what is asked for, checked in the order of the contract, composed, and queued.

mod request;

use std::{collections::BTreeMap, time::Duration};

use jiff::{Zoned, fmt::rfc2822, tz::TimeZone};
use postrider_config::{Dynamic, Target};
use postrider_queue::{
    AddError, Submission, Submitted, SubmittedRecipient,
    header::{self, Received},
};
use postrider_smtp::{Address, ReversePath};
use postrider_store::{Accept, BodySource, NewMail, Notify, Time};
use serde::Serialize;
use tracing::{info, warn};

use self::request::{NameAddress, NewFile, Request};
use crate::{
    Parts,
    auth::User,
    compose::{Composed, File, Mailbox, Message, Output, Text},
    error::{ApiError, Code},
    form::Form,
};

/// The farthest that a message may be put off.
const FUTURE_MAX: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// Where copies of what is sent are kept.
const SENT: &str = "Sent";

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    #[serde(rename = "MessageID")]
    message_id: String,
    submissions: Vec<Queued>,
}

/// One recipient in the answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Queued {
    /// As it was given.
    address: String,
    #[serde(rename = "QueueMsgID")]
    queue_msg_id: u64,
    #[serde(rename = "FromID")]
    from_id: String,
}

/// What is to be sent, when all of it was found right but the time.
struct Ready {
    message: Message,
    /// As they were given, in the order To, CC, BCC.
    given: Vec<String>,
    options: Options,
}

/// What a request says besides the message.
struct Options {
    extra: BTreeMap<String, String>,
    require_tls: Option<bool>,
    future_release: Option<Zoned>,
    save_sent: bool,
}

/// Carries a call out.
///
/// # Errors
/// Those of the contract. Nothing is queued then, except with [`Code::SentOverQuota`].
pub(crate) async fn send(parts: &Parts, user: &User, form: Form) -> Result<Response, ApiError> {
    let now = parts.clock.now();
    let Ready {
        message,
        given,
        options,
    } = prepare(parts, user, form, now)?;
    let recipients: Vec<Address> = [&message.to, &message.cc, &message.bcc]
        .into_iter()
        .flatten()
        .map(|mailbox| mailbox.address.clone())
        .collect();
    let composed = compose(parts, &message, &recipients, options.save_sent, now).await?;
    let not_before = release(options.future_release, now)?;
    let copy = composed.copy;
    let message_id = message.message_id;
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
        body: composed.text.body,
        size: composed.text.size,
        message_id: message_id.clone(),
        subject: message.subject,
        from: Some(message.from.address),
        eight_bit: composed.eight_bit,
        smtputf8: message.smtputf8,
        require_tls: options.require_tls,
        not_before,
        future_release: not_before
            .map(|time| format!("until;{time}"))
            .unwrap_or_default(),
        extra: options.extra,
        ret_full: None,
        envid: String::new(),
    };
    let added = queue(parts, user, submission, &message_id).await?;
    if let Some(copy) = copy {
        keep_copy(parts, user, copy, now).await?;
    }
    let submissions = given.into_iter().zip(added);
    let submissions = submissions.map(|(address, added)| Queued {
        address,
        queue_msg_id: added.id.0,
        from_id: added.from_id,
    });
    Ok(Response {
        message_id,
        submissions: submissions.collect(),
    })
}

/// Reads and checks a request, in the order of the contract.
fn prepare(parts: &Parts, user: &User, form: Form, now: Time) -> Result<Ready, ApiError> {
    let request = Request::read(&form.request)?;
    let config = parts.config.load();
    if request.text.is_empty() && request.html.is_empty() {
        return Err(ApiError::new(
            Code::MissingBody,
            "a message needs Text or HTML, or both",
        ));
    }
    let from = author(request.from, user, &config)?;
    let given: Vec<String> = [&request.to, &request.cc, &request.bcc]
        .into_iter()
        .flatten()
        .map(|given| given.address.clone())
        .collect();
    let (to, cc, bcc) = (
        parse_all(request.to)?,
        parse_all(request.cc)?,
        parse_all(request.bcc)?,
    );
    check_author(&from.address, user, &config)?;
    if given.is_empty() {
        return Err(ApiError::new(
            Code::NoRecipients,
            "a message needs a recipient in To, CC or BCC",
        ));
    }
    let reply_to = parse_all(request.reply_to)?;
    let rng = &mut rand::rng();
    let mut message = Message {
        from,
        reply_to,
        to,
        cc,
        bcc,
        subject: request.subject,
        date: date(request.date, now)?,
        message_id: request.message_id,
        references: request.references,
        headers: request.headers,
        text: request.text,
        html: request.html,
        alternative: files(request.alternative, form.alternative)?,
        inline: files(request.inline, form.inline)?,
        attached: files(request.attached, form.attached)?,
        smtputf8: false,
        boundary: header::random_id(rng),
    };
    if message.message_id.is_empty() {
        message.message_id = header::message_id(rng, parts.hostname.ascii());
    }
    message.smtputf8 = needs_smtputf8(&message);
    message.check()?;
    Ok(Ready {
        message,
        given,
        options: Options {
            extra: request.extra,
            require_tls: request.require_tls,
            future_release: request.future_release,
            save_sent: request.save_sent,
        },
    })
}

fn parse_all(addresses: Vec<NameAddress>) -> Result<Vec<Mailbox>, ApiError> {
    addresses.into_iter().map(NameAddress::parse).collect()
}

/// Those of the request first, then the uploaded ones.
fn files(given: Vec<NewFile>, uploaded: Vec<File>) -> Result<Vec<File>, ApiError> {
    let given = given.into_iter().map(NewFile::decode);
    given.chain(uploaded.into_iter().map(Ok)).collect()
}

/// Who it is from: as asked for, or the login.
fn author(given: Vec<NameAddress>, user: &User, config: &Dynamic) -> Result<Mailbox, ApiError> {
    let mut given = given.into_iter();
    match (given.next(), given.next()) {
        (Some(only), None) => only.parse(),
        (None, _) => Ok(Mailbox {
            name: full_name(user, config).to_owned(),
            address: user.login.clone(),
        }),
        _ => Err(ApiError::new(
            Code::MultipleFrom,
            "a message has only one From",
        )),
    }
}

/// The name of who logged in: that of the address, or else the account's.
fn full_name<'a>(user: &'a User, config: &'a Dynamic) -> &'a str {
    match config.lookup(&user.login).map(|found| found.target) {
        Some(Target::Account { destination, .. }) if !destination.full_name.is_empty() => {
            &destination.full_name
        }
        _ => config
            .accounts
            .get(&user.account)
            .map_or("", |account| &account.full_name),
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

/// A domain can be written in ASCII, but not a local-part; nor a reference, which is another's message-id.
fn needs_smtputf8(message: &Message) -> bool {
    let lists = [&message.reply_to, &message.to, &message.cc, &message.bcc];
    std::iter::once(&message.from)
        .chain(lists.into_iter().flatten())
        .any(|mailbox| !mailbox.address.is_ascii())
        || message
            .references
            .iter()
            .any(|reference| !reference.is_ascii())
}

fn date(wanted: Option<Zoned>, now: Time) -> Result<String, ApiError> {
    let date = wanted.unwrap_or_else(|| now.timestamp().to_zoned(TimeZone::UTC));
    rfc2822::to_string(&date)
        .map_err(|error| ApiError::user(format!("Date {date} can't be written: {error}")))
}

/// When the first attempt is, if it is put off.
fn release(wanted: Option<Zoned>, now: Time) -> Result<Option<Time>, ApiError> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let time = Time::from(wanted.timestamp());
    if time > now.after(FUTURE_MAX) {
        return Err(ApiError::user("FutureRelease is more than 60 days ahead"));
    }
    Ok((time > now).then_some(time))
}

/// Writes the message behind its Received field. If a copy is to be kept and the account has a mailbox for it, it is made along
/// with the message, behind a Bcc field that shows who got a blind copy.
async fn compose(
    parts: &Parts,
    message: &Message,
    recipients: &[Address],
    save_sent: bool,
    now: Time,
) -> Result<Composed, ApiError> {
    let received = Received {
        from: None,
        by: parts.hostname.ascii(),
        with: if parts.tls { "HTTPS" } else { "HTTP" },
        id: header::random_id(&mut rand::rng()),
        tls: None,
        recipient: match recipients {
            [only] => Some(only),
            _ => None,
        },
        time: now,
    };
    let prefix = received.to_string();
    let writer = parts.store.body_writer();
    let mut out = Output::new(writer, prefix.as_bytes(), parts.max_message_size).await?;
    let mailboxes = &parts.statics.default_mailboxes;
    if save_sent && mailboxes.iter().any(|name| name == SENT) {
        out.copy_to(parts.store.body_writer(), &message.bcc_field())
            .await?;
    }
    message.write(&mut out).await?;
    out.finish().await
}

async fn queue(
    parts: &Parts,
    user: &User,
    submission: Submission,
    message_id: &str,
) -> Result<Vec<Submitted>, ApiError> {
    let added = parts.queue.add(submission).await;
    let added = added.map_err(|error| match error {
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
    Ok(added)
}

/// Puts the copy into the account's mailbox for what was sent.
async fn keep_copy(parts: &Parts, user: &User, copy: Text, now: Time) -> Result<(), ApiError> {
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
