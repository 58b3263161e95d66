//! Checks a draft in the order of the contract, before anything is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use postrider_config::{Dynamic, Target};
use postrider_queue::{Allowance, LimitError, TRACK, Track, header};
use postrider_smtp::Address;
use postrider_store::Time;

use super::{
    Once,
    draft::{Draft, NameAddress, NewFile},
};
use crate::{
    call::{
        auth::User,
        context::CallContext,
        value::{OffsetTime, lengths},
    },
    compose::{File, Files, Mailbox, MessageContent},
    error::{ApiError, Code},
    unsubscribe::{Subscription, check_list},
};

/// The most bytes of Extra.
const EXTRA_MAX: usize = 64 << 10;

/// Whether the account's limits are checked.
#[derive(Clone, Copy, Debug)]
pub(super) enum LimitCheck<'a> {
    /// They are checked. A request with an idempotency key counts once.
    Now(Option<&'a Once>),
    /// They were checked before, for all messages of a batch.
    Before,
}

/// A checked message. Only the time of its release is not checked yet.
pub(super) struct Prepared {
    pub(super) message: MessageContent,
    /// The addresses of the recipients as given, in the order of To, CC and BCC.
    pub(super) given: Vec<String>,
    pub(super) options: SendOptions,
    /// Holds the place within the limits until the message is queued.
    pub(super) allowance: Option<Allowance>,
}

/// How to send a message.
pub(super) struct SendOptions {
    pub(super) extra: BTreeMap<String, String>,
    pub(super) require_tls: Option<bool>,
    pub(super) future_release: Option<OffsetTime>,
    pub(super) save_sent: bool,
    pub(super) list: String,
    pub(super) track: Track,
}

/// Checks a draft in the order of the contract.
pub(super) async fn prepare(
    context: &CallContext,
    user: &User,
    mut draft: Draft,
    uploaded: Files,
    limits: LimitCheck<'_>,
    now: Time,
) -> Result<Prepared, ApiError> {
    let config = context.config.load();
    if draft.text.is_empty() && draft.html.is_empty() {
        return Err(ApiError::new(
            Code::MissingBody,
            "a message needs Text or HTML, or both",
        ));
    }
    let from = author(mem::take(&mut draft.from), user, &config)?;
    let given: Vec<String> = [&draft.to, &draft.cc, &draft.bcc]
        .into_iter()
        .flatten()
        .map(|given| given.address.clone())
        .collect();
    let recipients = Recipients {
        to: parse_all(mem::take(&mut draft.to))?,
        cc: parse_all(mem::take(&mut draft.cc))?,
        bcc: parse_all(mem::take(&mut draft.bcc))?,
    };
    check_author(&from.address, user, &config, context.queue.is_local())?;
    if given.is_empty() {
        return Err(ApiError::new(
            Code::NoRecipients,
            "a message needs a recipient in To, CC or BCC",
        ));
    }
    let allowance = match limits {
        LimitCheck::Now(once) => {
            // The queue takes each of them once.
            let addresses: BTreeSet<_> = recipients.all().map(|to| to.address.clone()).collect();
            allow(context, user, addresses.into_iter().collect(), once, now).await?
        }
        LimitCheck::Before => None,
    };
    check_sizes(&draft, context.statics.limits.header_size.0)?;
    let reply_to = parse_all(mem::take(&mut draft.reply_to))?;
    if !draft.list.is_empty() {
        let fields = unsubscribe(context, user, &draft, &recipients)?;
        draft.headers.extend(fields);
    }
    let field = (header::TLS_REQUIRED, "No");
    let waives = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case(field.0) && value.trim().eq_ignore_ascii_case(field.1)
    };
    if draft.require_tls.is_none() && draft.headers.iter().any(waives) {
        draft.require_tls = Some(false);
    } else if draft.require_tls == Some(false) && !draft.headers.iter().any(waives) {
        // The next servers must know it too.
        draft.headers.push((field.0.to_owned(), field.1.to_owned()));
    }
    let options = SendOptions {
        extra: mem::take(&mut draft.extra),
        require_tls: draft.require_tls,
        future_release: draft.future_release.take(),
        save_sent: draft.save_sent,
        list: mem::take(&mut draft.list),
        track: track(&mut draft.headers, &config, &from.address)?,
    };
    let addresses = (from, reply_to, recipients);
    let message = content(context, draft, addresses, uploaded, now)?;
    message.check()?;
    Ok(Prepared {
        message,
        given,
        allowance,
        options,
    })
}

/// The content of a draft that is not sent yet. It needs neither a text nor a recipient.
pub(super) fn unsent(
    context: &CallContext,
    user: &User,
    mut draft: Draft,
    now: Time,
) -> Result<MessageContent, ApiError> {
    let config = context.config.load();
    let from = author(mem::take(&mut draft.from), user, &config)?;
    check_author(&from.address, user, &config, context.queue.is_local())?;
    check_sizes(&draft, context.statics.limits.header_size.0)?;
    let recipients = Recipients {
        to: parse_all(mem::take(&mut draft.to))?,
        cc: parse_all(mem::take(&mut draft.cc))?,
        bcc: parse_all(mem::take(&mut draft.bcc))?,
    };
    let reply_to = parse_all(mem::take(&mut draft.reply_to))?;
    let message = content(
        context,
        draft,
        (from, reply_to, recipients),
        Files::default(),
        now,
    )?;
    message.check()?;
    Ok(message)
}

/// Takes the field that asks for tracking off.
fn track(
    headers: &mut Vec<(String, String)>,
    config: &Dynamic,
    from: &Address,
) -> Result<Track, ApiError> {
    let is_ours = |(name, _): &(String, String)| name.eq_ignore_ascii_case(TRACK);
    let Some(at) = headers.iter().position(is_ours) else {
        return Ok(Track::default());
    };
    let (_, value) = headers.remove(at);
    let wanted = Track::parse(&value).map_err(ApiError::user)?;
    match wanted.allowed(config, Some(from)) == wanted {
        true => Ok(wanted),
        false => Err(ApiError::user(format!(
            "the domain {} does not track this; domains.\"{}\".tracking says what it tracks",
            from.host, from.host
        ))),
    }
}

/// The recipients of a message.
struct Recipients {
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
}

impl Recipients {
    fn all(&self) -> impl Iterator<Item = &Mailbox> {
        [&self.to, &self.cc, &self.bcc].into_iter().flatten()
    }
}

/// The content of the message. `addresses` are From, Reply-To and the recipients.
fn content(
    context: &CallContext,
    draft: Draft,
    addresses: (Mailbox, Vec<Mailbox>, Recipients),
    uploaded: Files,
    now: Time,
) -> Result<MessageContent, ApiError> {
    let (from, reply_to, Recipients { to, cc, bcc }) = addresses;
    let rng = &mut rand::rng();
    let mut message = MessageContent {
        from,
        reply_to,
        to,
        cc,
        bcc,
        subject: draft.subject,
        date: date(draft.date, now),
        message_id: draft.message_id,
        references: draft.references,
        headers: draft.headers,
        text: draft.text,
        html: draft.html,
        alternative: files(draft.alternative, uploaded.alternative)?,
        inline: files(draft.inline, uploaded.inline)?,
        attached: files(draft.attached, uploaded.attached)?,
        smtputf8: false,
        boundary: header::random_id(rng),
    };
    if message.message_id.is_empty() {
        message.message_id = header::message_id(rng, context.statics.hostname.ascii());
    }
    message.smtputf8 = needs_smtputf8(&message);
    Ok(message)
}

/// Limits the fields that each queued message and each of its events keeps, and the header.
fn check_sizes(draft: &Draft, header_max: u64) -> Result<(), ApiError> {
    if lengths(&draft.extra) > EXTRA_MAX {
        let text = format!("Extra has more than {EXTRA_MAX} bytes");
        return Err(ApiError::user(text));
    }
    let headers = lengths(draft.headers.iter().map(|(name, value)| (name, value)));
    let references = draft.references.iter().map(String::len).sum::<usize>();
    let size = headers + references + draft.subject.len();
    if size as u64 > header_max {
        let text = format!(
            "Subject, References and Headers have more than {header_max} bytes (limits.header_size)"
        );
        return Err(ApiError::user(text));
    }
    Ok(())
}

fn parse_all(addresses: Vec<NameAddress>) -> Result<Vec<Mailbox>, ApiError> {
    addresses.into_iter().map(NameAddress::parse).collect()
}

/// The files of the draft, then the uploaded ones.
fn files(given: Vec<NewFile>, uploaded: Vec<File>) -> Result<Vec<File>, ApiError> {
    let given = given.into_iter().map(NewFile::decode);
    given.chain(uploaded.into_iter().map(Ok)).collect()
}

/// The author: the given From, or the login.
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
            "a message has one From only",
        )),
    }
}

/// The name of the login: the name of the address, else the name of the account.
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

/// The header fields by which the recipient unsubscribes from the draft's list (RFC 8058 §3.1).
fn unsubscribe(
    context: &CallContext,
    user: &User,
    draft: &Draft,
    recipients: &Recipients,
) -> Result<[(String, String); 2], ApiError> {
    let is_ours = |name: &str| name.to_ascii_lowercase().starts_with("list-unsubscribe");
    if draft.headers.iter().any(|(name, _)| is_ours(name)) {
        return Err(ApiError::user(
            "Unsubscribe adds List-Unsubscribe, so Headers may not have it too",
        ));
    }
    check_list(&draft.list)?;
    // RFC 8058 §3.1 demands HTTPS, and mailbox providers accept nothing else.
    if !context.endpoint.public_url.starts_with("https://") {
        return Err(ApiError::user(
            "Unsubscribe needs a link by HTTPS: no listener of this hostname has webapi_https",
        ));
    }
    let mut all = recipients.all();
    let (Some(only), None) = (all.next(), all.next()) else {
        return Err(ApiError::user(
            "a message with Unsubscribe has one recipient, since the link is the recipient's own; SendBatch sends to many",
        ));
    };
    let subscription = Subscription {
        account: user.account.clone(),
        list: draft.list.clone(),
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

/// Checks the account's limits. A request that another call with the same key has sent already is
/// within them.
pub(super) async fn allow(
    context: &CallContext,
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
        // The queue finds the earlier call again.
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

/// Checks that the account may send from an address. `any`: from all addresses, as localserve
/// allows it.
fn check_author(
    address: &Address,
    user: &User,
    config: &Dynamic,
    any: bool,
) -> Result<(), ApiError> {
    let domain = address
        .host
        .domain()
        .and_then(|domain| config.domains.get(domain));
    if domain.is_some_and(|domain| domain.disabled) {
        let text = format!("the domain {} is disabled", address.host);
        return Err(ApiError::new(Code::DomainDisabled, text));
    }
    if !any && !config.may_send_from(&user.account, address) {
        let text = config.sender_advice(&user.account, address);
        return Err(ApiError::new(Code::BadFrom, text));
    }
    Ok(())
}

/// Whether the header needs UTF-8. A domain has an ASCII form, but a local-part has none, and
/// neither has a reference. BCC is not in the header.
fn needs_smtputf8(message: &MessageContent) -> bool {
    let lists = [&message.reply_to, &message.to, &message.cc];
    std::iter::once(&message.from)
        .chain(lists.into_iter().flatten())
        .any(|mailbox| !mailbox.address.is_ascii())
        || message
            .references
            .iter()
            .any(|reference| !reference.is_ascii())
}

/// The Date field: the wanted time, else now.
fn date(wanted: Option<OffsetTime>, now: Time) -> String {
    let wanted = wanted.filter(|wanted| !wanted.is_zero());
    wanted
        .unwrap_or_else(|| now.timestamp().into())
        .header_form()
}
