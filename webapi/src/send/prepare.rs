//! What Send checks before anything is written: the request in the order of the contract.

use std::collections::BTreeMap;

use jiff::{Zoned, fmt::rfc2822, tz::TimeZone};
use postrider_config::{Dynamic, Target};
use postrider_queue::{Allowance, LimitError, header};
use postrider_smtp::Address;
use postrider_store::Time;

use super::{
    Once,
    request::{NameAddress, NewFile, Request},
};
use crate::{
    auth::User,
    compose::{File, Mailbox, Message},
    context::Context,
    error::{ApiError, Code},
    form::Files,
    request::lengths,
    unsubscribe::{Subscription, check_list},
};

/// What all of Extra may have, in bytes.
const EXTRA_MAX: usize = 64 << 10;

/// Whether the account's limits are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check<'a> {
    /// They are. What is done once counts once.
    Limits(Option<&'a Once>),
    /// They were, for all that is sent together.
    NoLimits,
}

/// What is to be sent, when all of it was found right but the time.
pub(super) struct Ready {
    pub(super) message: Message,
    /// As they were given, in the order To, CC, BCC.
    pub(super) given: Vec<String>,
    pub(super) options: Options,
    /// To be kept until it is queued.
    pub(super) allowance: Option<Allowance>,
}

/// What a request says besides the message.
pub(super) struct Options {
    pub(super) extra: BTreeMap<String, String>,
    pub(super) require_tls: Option<bool>,
    pub(super) future_release: Option<Zoned>,
    pub(super) save_sent: bool,
    pub(super) list: String,
}

/// Reads and checks a request, in the order of the contract.
pub(super) async fn prepare(
    context: &Context,
    user: &User,
    request: Request,
    uploaded: Files,
    check: Check<'_>,
    now: Time,
) -> Result<Ready, ApiError> {
    let config = context.config.load();
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
    let mut allowance = None;
    if let Check::Limits(once) = check {
        let recipients = [&to, &cc, &bcc].into_iter().flatten();
        let recipients = recipients.map(|to| to.address.clone()).collect();
        allowance = allow(context, user, recipients, once, now).await?;
    }
    // It is kept with each recipient's message, and comes back in each of its events.
    if lengths(&request.extra) > EXTRA_MAX {
        let text = format!("Extra has more than {EXTRA_MAX} bytes");
        return Err(ApiError::user(text));
    }
    let header_size = context.statics.limits.header_size.0;
    check_header(
        &request.subject,
        &request.references,
        &request.headers,
        header_size,
    )?;
    let reply_to = parse_all(request.reply_to)?;
    let mut headers = request.headers;
    if !request.list.is_empty() {
        if headers
            .iter()
            .any(|(name, _)| name.to_ascii_lowercase().starts_with("list-unsubscribe"))
        {
            return Err(ApiError::user(
                "Unsubscribe adds List-Unsubscribe, so Headers may not have it too",
            ));
        }
        headers.extend(unsubscribe(context, user, &request.list, [&to, &cc, &bcc])?);
    }
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
        headers,
        text: request.text,
        html: request.html,
        alternative: files(request.alternative, uploaded.alternative)?,
        inline: files(request.inline, uploaded.inline)?,
        attached: files(request.attached, uploaded.attached)?,
        smtputf8: false,
        boundary: header::random_id(rng),
    };
    if message.message_id.is_empty() {
        message.message_id = header::message_id(rng, context.endpoint.hostname.ascii());
    }
    message.smtputf8 = needs_smtputf8(&message);
    message.check()?;
    Ok(Ready {
        message,
        given,
        allowance,
        options: Options {
            extra: request.extra,
            require_tls: request.require_tls,
            future_release: request.future_release,
            save_sent: request.save_sent,
            list: request.list,
        },
    })
}

/// What is kept with each message, and told with each of its events, has an end.
fn check_header(
    subject: &str,
    references: &[String],
    headers: &[(String, String)],
    most: u64,
) -> Result<(), ApiError> {
    let headers = lengths(headers.iter().map(|(name, value)| (name, value)));
    let references = references.iter().map(String::len).sum::<usize>();
    let size = headers + references + subject.len();
    if size as u64 > most {
        let text = format!(
            "Subject, References and Headers have more than {most} bytes (limits.header_size)"
        );
        return Err(ApiError::user(text));
    }
    Ok(())
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

/// The fields by which the recipient unsubscribes from a list (RFC 8058 §3.1).
fn unsubscribe(
    context: &Context,
    user: &User,
    list: &str,
    recipients: [&Vec<Mailbox>; 3],
) -> Result<[(String, String); 2], ApiError> {
    check_list(list)?;
    // RFC 8058 §3.1 wants HTTPS, and mailbox providers take nothing else.
    if !context.endpoint.public_url.starts_with("https://") {
        return Err(ApiError::user(
            "Unsubscribe needs a link by HTTPS: no listener of this hostname has webapi_https",
        ));
    }
    let mut recipients = recipients.into_iter().flatten();
    let (Some(only), None) = (recipients.next(), recipients.next()) else {
        return Err(ApiError::user(
            "a message with Unsubscribe has one recipient, since the link is the recipient's own; SendBatch sends to many",
        ));
    };
    let subscription = Subscription {
        account: user.account.clone(),
        list: list.to_owned(),
        address: only.address.clone(),
    };
    let link = format!("<{}>", subscription.link(context));
    Ok([
        ("List-Unsubscribe".to_owned(), link),
        (
            "List-Unsubscribe-Post".to_owned(),
            "List-Unsubscribe=One-Click".to_owned(),
        ),
    ])
}

/// Checks the account's limits. What is done under a key that another call was faster with is within them.
pub(super) async fn allow(
    context: &Context,
    user: &User,
    recipients: Vec<Address>,
    once: Option<&Once>,
    now: Time,
) -> Result<Option<Allowance>, ApiError> {
    let key = once.map(Once::key);
    let allowed = context.queue.allow(&user.account, recipients, key).await;
    if allowed.is_err()
        && let Some(once) = once
        && once.answered(context, user, now).await?.is_some()
    {
        // It is found out again when it is to be added.
        return Ok(None);
    }
    allowed.map_err(|error| match error {
        LimitError::Messages { .. } => ApiError::new(Code::MessageLimitReached, error.to_string()),
        LimitError::FirstTime { .. } => {
            ApiError::new(Code::RecipientLimitReached, error.to_string())
        }
        LimitError::Store(error) => error.into(),
    })
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
