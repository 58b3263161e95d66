//! Messages to try things out: an ordinary one, or one whose delivery fails as its address asks.

use postrider_config::Dynamic;
use postrider_queue::{
    AddError, LimitError, Submission, SubmittedRecipient, base_address,
    header::{self, Received},
    simulate::{self, FailureKind, FailureStage, SimulatedFailure},
};
use postrider_smtp::{Address, LocalPart, ReversePath, convert::TextNeeds, field};
use postrider_store::{Notify, QueueId, Time, Top};
use serde::{Deserialize, Serialize};

use super::{
    super::{Listed, Single},
    InboxId,
};
use crate::{AdminError, Context};

/// The longest text of a test message, in bytes.
const TEXT_MAX: usize = 1 << 20;
/// The columns of a line of Base64 (RFC 2045 §6.8).
const LINE: usize = 76;

/// A failure that an address asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulated {
    /// The stage at which it shows.
    pub stage: Stage,
    /// `temperror`, `permerror`, `timeout`, or a code from 400 to 599.
    pub kind: String,
}

/// The stage at which a failure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// MAIL FROM: the address of the sender asks for it.
    MailFrom,
    /// RCPT TO.
    RcptTo,
    /// The end of the message.
    Data,
    /// Later: a session takes the message, and its delivery fails.
    Queue,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 4] = [Self::MailFrom, Self::RcptTo, Self::Data, Self::Queue];

    /// The word in addresses. The end of the message has none, and any other word will do.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MailFrom => "mailfrom",
            Self::RcptTo => "rcptto",
            Self::Data => "data",
            Self::Queue => "queue",
        }
    }

    const fn stage(self) -> FailureStage {
        match self {
            Self::MailFrom => FailureStage::MailFrom,
            Self::RcptTo => FailureStage::RcptTo,
            Self::Data => FailureStage::Data,
            Self::Queue => FailureStage::Queue,
        }
    }
}

impl Simulated {
    /// The failure.
    fn failure(&self) -> Result<SimulatedFailure, AdminError> {
        let found = simulate::failure(&self.local_part());
        let is_kind = match self.kind.as_str() {
            "temperror" | "permerror" | "timeout" => true,
            code => code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()),
        };
        let found = found.filter(|found| is_kind && found.stage == self.stage.stage());
        found.ok_or_else(|| {
            let text = "write temperror, permerror, timeout, or a code from 400 to 599";
            AdminError::invalid(text).at("kind")
        })
    }

    /// The local-part that asks for it.
    fn local_part(&self) -> String {
        // The suppression list knows the part before a plus sign only.
        format!("{}.{}", self.stage.name(), self.kind)
    }
}

/// Says what a failure will look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Foresee {
    /// The account that sends; None: the first one.
    #[serde(default)]
    pub account: Option<String>,
    /// The failure; None: none.
    #[serde(default)]
    pub failure: Option<Simulated>,
}

/// What will happen to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreseen {
    /// The account that sends.
    pub account: String,
    /// The sender.
    pub from: String,
    /// The recipient.
    pub to: String,
    /// The reply with which a submission by SMTP is refused at once; empty: it is taken.
    pub refused: String,
    /// What happens to a message that is in the queue, in order: the name of the event, and what
    /// comes with it. An event without a name is none.
    pub events: Vec<(String, String)>,
    /// Mail leaves this machine, so addresses ask for no failures.
    pub delivers: bool,
    /// The recipient is on the suppression list of the account, so the message fails at once.
    pub suppressed: bool,
}

impl Single for Foresee {
    type Output = Foreseen;

    async fn answer(self, context: &Context) -> Result<Foreseen, AdminError> {
        let config = context.config.load_full();
        let sender = Sender::of(&config, self.account.as_deref())?;
        let failure = self.failure.as_ref().map(Simulated::failure).transpose()?;
        let (from, to) = addresses(&sender, self.failure.as_ref())?;
        let base = base_address(&to);
        let now = context.clock.now();
        let entry = context
            .store
            .suppression(&sender.account, &base, now)
            .await?;
        let suppressed = entry.is_some();
        let refused = failure.filter(|failure| failure.stage != FailureStage::Queue);
        let refused = match refused {
            Some(failure) if failure.kind == FailureKind::Timeout => {
                "no answer for an hour".to_owned()
            }
            Some(failure) => failure.reply().to_string(),
            None => String::new(),
        };
        Ok(Foreseen {
            refused,
            events: match entry {
                Some(entry) => vec![suppressed_by(&entry.created.to_string())],
                None => sender.events(context, &config, failure),
            },
            suppressed,
            account: sender.account,
            from: from.unicode(),
            to: to.unicode(),
            delivers: !context.queue.simulates(),
        })
    }
}

/// What happens to a message whose recipient is on the suppression list since then.
fn suppressed_by(since: &str) -> (String, String) {
    let text = format!("at once: the address is on the suppression list since {since}");
    ("suppressed".to_owned(), text)
}

/// Who sends.
struct Sender {
    account: String,
    address: Address,
}

impl Sender {
    /// The account, or the first one, and its first address.
    fn of(config: &Dynamic, account: Option<&str>) -> Result<Self, AdminError> {
        let mut accounts = config.accounts.iter();
        let found = accounts.find(|(name, _)| account.is_none_or(|account| *name == account));
        let (name, account) = found.ok_or_else(|| {
            let text = format!("there is no account {}", account.unwrap_or_default());
            AdminError::not_found(text.trim_end()).at("account")
        })?;
        let address = account.first_address().cloned().ok_or_else(|| {
            let text = format!("the account {name} has no address to send from");
            AdminError::conflict(text).at("from")
        })?;
        Ok(Self {
            account: name.clone(),
            address,
        })
    }

    /// What happens to a message in the queue.
    fn events(
        &self,
        context: &Context,
        config: &Dynamic,
        failure: Option<SimulatedFailure>,
    ) -> Vec<(String, String)> {
        let event = |name: &str, text: String| (name.to_owned(), text);
        if !context.queue.simulates() {
            let text = "if the mail server of the recipient takes it".to_owned();
            return vec![event("delivered", text)];
        }
        let (Some(failure), Some(account)) = (failure, config.accounts.get(&self.account)) else {
            let into = format!("into the mailbox of {}", self.address.unicode());
            let call = "the incoming webhook is called, if there is one".to_owned();
            return vec![event("delivered", into), event("", call)];
        };
        let foreseen = context.queue.foresee(account, failure);
        let mut events = Vec::new();
        if !foreseen.is_final {
            let waits = context.statics.queue.retry_intervals.iter();
            let waits: Vec<String> = waits
                .map(|wait| postrider_config::format_duration(*wait))
                .collect();
            let text = format!(
                "after each attempt but the last; the next ones come after {}",
                waits.join(", ")
            );
            events.push(event("delayed", text));
        }
        let first = match foreseen.is_final {
            true => "at the first attempt",
            false => "after the last attempt",
        };
        events.push(match foreseen.suppresses {
            true => event(
                "failed",
                format!("{first}; it puts the recipient on the suppression list"),
            ),
            false => event("failed", first.to_owned()),
        });
        events.push(event(
            "",
            format!(
                "a report (DSN) comes into the mailbox of {}",
                self.address.unicode()
            ),
        ));
        if foreseen.suppresses {
            let text =
                "what the next message to this address gets, until you remove it from the list";
            events.push(event("suppressed", text.to_owned()));
        }
        events
    }
}

/// The addresses of the envelope. The recipient of an ordinary message has no meaning.
fn addresses(
    sender: &Sender,
    failure: Option<&Simulated>,
) -> Result<(Address, Address), AdminError> {
    let with = |local: &str, host: &str| {
        let local = LocalPart::from_decoded(local).map_err(AdminError::internal)?;
        Address::parse(&format!("{local}@{host}")).map_err(AdminError::internal)
    };
    let user = || with("user", "example.com");
    match failure {
        None => Ok((sender.address.clone(), user()?)),
        Some(failure) if failure.stage == Stage::MailFrom => {
            let host = sender.address.host.ascii();
            Ok((with(&failure.local_part(), &host)?, user()?))
        }
        Some(failure) => Ok((
            sender.address.clone(),
            with(&failure.local_part(), "example.com")?,
        )),
    }
}

/// Sends a test message. It goes into the queue without the questions that a session asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendTest {
    /// The account that sends; None: the first one.
    #[serde(default)]
    pub account: Option<String>,
    /// The recipient; None: an address that nobody has. A failure has an address of its own.
    #[serde(default)]
    pub to: Option<String>,
    /// The subject.
    #[serde(default)]
    pub subject: String,
    /// The text.
    #[serde(default)]
    pub text: String,
    /// The failure; None: none.
    #[serde(default)]
    pub failure: Option<Simulated>,
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The message.
    pub id: InboxId,
    /// The recipient.
    pub to: String,
}

impl Single for SendTest {
    type Output = Sent;

    async fn answer(self, context: &Context) -> Result<Sent, AdminError> {
        let context = &context.carrying(Self::NAME, "inbox", &self);
        let sent = self.send(context).await;
        context.record(Self::NAME, "inbox", &self, sent).await
    }
}

impl SendTest {
    async fn send(&self, context: &Context) -> Result<Sent, AdminError> {
        let config = context.config.load_full();
        let sender = Sender::of(&config, self.account.as_deref())?;
        if let Some(failure) = &self.failure {
            failure.failure()?;
            if !context.queue.simulates() {
                let text = "mail leaves this machine, so addresses ask for no failures";
                return Err(AdminError::unsupported(text));
            }
        }
        if self.text.len() > TEXT_MAX {
            return Err(AdminError::invalid("the text is longer than 1 MiB").at("text"));
        }
        let (from, mut to) = addresses(&sender, self.failure.as_ref())?;
        if let (Some(given), None) = (&self.to, &self.failure) {
            to = Address::parse(given).map_err(|error| AdminError::invalid(error).at("to"))?;
        }
        let now = context.clock.now();
        let host = context.statics.hostname.ascii();
        let message_id = header::message_id(&mut rand::rng(), host);
        let text = self.message(host, &from, &to, &message_id, now);
        let needs = TextNeeds::of(&text);
        let mut writer = context.store.text_writer();
        writer.write(&text).await?;
        let queue = &context.queue;
        let allowance = queue.allow(&sender.account, vec![to.clone()], None).await?;
        let submission = Submission {
            account: sender.account,
            login: Some(sender.address),
            reverse_path: ReversePath::Mailbox(from.clone()),
            own_from_id: false,
            recipients: vec![SubmittedRecipient {
                address: to.clone(),
                notify: Notify::default(),
                orcpt: String::new(),
            }],
            top: Top::EMPTY,
            size: text.len() as u64,
            text: writer.finish().await?,
            message_id,
            subject: self.subject.clone(),
            smtputf8: !from.is_ascii() || !to.is_ascii(),
            from: Some(from),
            needs,
            require_tls: None,
            not_before: None,
            hold: false,
            future_release: String::new(),
            extra: Default::default(),
            ret_full: None,
            envid: String::new(),
            list: String::new(),
            urgency: Default::default(),
            once: None,
        };
        let added = queue.add(submission).await?;
        drop(allowance);
        let id = added.first().map_or(QueueId(0), |added| added.id);
        Ok(Sent {
            id: InboxId::Message(id),
            to: to.unicode(),
        })
    }

    /// The message, with CRLFs.
    fn message(
        &self,
        host: &str,
        from: &Address,
        to: &Address,
        message_id: &str,
        now: Time,
    ) -> Vec<u8> {
        let received = Received {
            from: None,
            by: host,
            with: "HTTP",
            id: message_id.trim_matches(['<', '>']).to_owned(),
            tls: None,
            recipient: Some(to),
            time: now,
        };
        let subject = self
            .subject
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let is_plain =
            subject.len() < LINE && subject.bytes().all(|it| (b' '..=b'~').contains(&it));
        let subject = match is_plain {
            true => subject,
            false => field::encoded_words(&subject).join("\r\n "),
        };
        let date = header::date(now);
        let mut message = format!(
            "{received}From: <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: {date}\r\n\
             Message-ID: {message_id}\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        );
        let text = self.text.replace("\r\n", "\n").replace('\n', "\r\n");
        let encoded = {
            use base64::{Engine, engine::general_purpose::STANDARD};
            STANDARD.encode(text)
        };
        for line in encoded.as_bytes().chunks(LINE) {
            message.push_str(&String::from_utf8_lossy(line));
            message.push_str("\r\n");
        }
        message.into_bytes()
    }
}

impl From<LimitError> for AdminError {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::Store(error) => error.into(),
            error => Self::conflict(error),
        }
    }
}

impl From<AddError> for AdminError {
    fn from(error: AddError) -> Self {
        match error {
            AddError::Store(error) => error.into(),
            error => Self::invalid(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_asks_for_the_failure() {
        let sender = Sender {
            account: "a".to_owned(),
            address: Address::parse("a@localhost").unwrap(),
        };
        for (stage, kind, from, to) in [
            (Stage::Data, "550", "a@localhost", "data.550@example.com"),
            (
                Stage::RcptTo,
                "timeout",
                "a@localhost",
                "rcptto.timeout@example.com",
            ),
            (
                Stage::Queue,
                "permerror",
                "a@localhost",
                "queue.permerror@example.com",
            ),
            (
                Stage::MailFrom,
                "temperror",
                "mailfrom.temperror@localhost",
                "user@example.com",
            ),
        ] {
            let failure = Simulated {
                stage,
                kind: kind.to_owned(),
            };
            assert_eq!(failure.failure().unwrap().stage, stage.stage());
            let (sends, gets) = addresses(&sender, Some(&failure)).unwrap();
            assert_eq!(
                (sends.to_string(), gets.to_string()),
                (from.to_owned(), to.to_owned())
            );
        }
        for kind in ["399", "600", "55", "x550", "error", ""] {
            let failure = Simulated {
                stage: Stage::Data,
                kind: kind.to_owned(),
            };
            assert_eq!(
                failure.failure().unwrap_err().field.as_deref(),
                Some("kind"),
                "{kind}"
            );
        }
    }
}
