//! Delivery of localserve: nothing leaves the machine. A message goes to the sender's own mailbox
//! as if it came by SMTP, unless an address asks for a failure.

use postrider_config::{Account, Dynamic};
use postrider_smtp::{
    Cause, DeliveryStatus, EnhancedCode, Reply, ReplyCode,
    bounce::{Blame, Said},
    field,
};
use postrider_store::{Arrival, Mail, NewMail, QueueId, Queued, TextSource, Top};

use crate::{
    DeliveryMode, Queue, header, judge,
    settle::{EndedAttempt, LastHop},
    simulate::{self, FailureKind, FailureStage, SimulatedFailure},
    told::{News, Settlement},
};

/// The name of the remote in the results.
const REMOTE: &str = "localserve";
/// The protocol in the trace of a message that was delivered here.
const WITH: &str = "LOCAL";

/// What becomes of a message whose address asks for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// The first attempt is the last one.
    pub is_final: bool,
    /// The end puts the recipient on the suppression list at once.
    pub suppresses: bool,
}

/// Whether localserve delivered a message to the mailbox of its sender.
#[must_use]
pub fn is_in_mailbox(message: &Queued) -> bool {
    let last = message.results.last();
    last.is_some_and(|last| last.success && last.remote == REMOTE)
}

/// The message that was delivered to this mail by localserve. None: the mail came otherwise. It may
/// be in the history no more.
#[must_use]
pub fn sent_as(mail: &Mail) -> Option<QueueId> {
    let mut fields = field::fields(mail.top.bytes());
    let received = fields.find(|field| field.is("Received"))?;
    let words: Vec<&[u8]> = received
        .value
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .collect();
    let of = words.windows(4).find_map(|words| match words {
        [b"with", with, b"id", id] if *with == WITH.as_bytes() => Some(*id),
        _ => None,
    })?;
    let of = std::str::from_utf8(of).ok()?;
    of.trim_end_matches(';').parse().ok().map(QueueId)
}

impl Queue {
    /// Whether messages go to the mailboxes of their senders, and addresses ask for failures.
    #[must_use]
    pub const fn simulates(&self) -> bool {
        matches!(self.delivery, DeliveryMode::Local)
    }

    /// What becomes of a message of this account that asks for this failure. Other failures of the
    /// same recipient are not looked at.
    #[must_use]
    pub fn foresee(&self, account: &Account, failure: SimulatedFailure) -> Foreseen {
        let status = failed(failure);
        let on_block = self.statics.delivery.on_block;
        let said = Said::from(&status);
        let is_final = judge::is_final(&status, None, 1, on_block);
        let blame = judge::blames(&said, None, account.suppress_policy_blocks);
        Foreseen {
            is_final,
            suppresses: is_final && blame == Blame::Yes,
        }
    }

    /// Attempts one message.
    pub(crate) async fn deliver_here(&self, config: &Dynamic, message: Queued) -> Settlement {
        let start = self.clock.now();
        let status = outcome(&message);
        let arrival = if status.is_success() {
            self.arrive(config, &message)
        } else {
            None
        };
        let ended = EndedAttempt {
            message,
            status,
            known: None,
            block: self.usual_block(),
            start,
            hop: LastHop::Mailbox,
            tried: true,
            trace: 0,
        };
        let mut settlement = self.settlement_alone(config, ended).await;
        if let Some(mail) = arrival {
            let index = u32::try_from(settlement.settle.mails.len()).unwrap_or(u32::MAX);
            let account = config.accounts.get(&mail.account);
            let hook = account.and_then(|it| postrider_webhook::incoming(&mail, it, index));
            if let Some(hook) = hook {
                settlement.settle.hooks.push(hook);
                settlement.add(News::Incoming);
            }
            settlement.settle.mails.push(mail);
        }
        settlement
    }

    /// The record of the message in the mailbox. It shares the queued text. Its top adds the trace
    /// of this hop. None: the account was removed.
    fn arrive(&self, config: &Dynamic, message: &Queued) -> Option<NewMail> {
        if !config.accounts.contains_key(&message.common.account) {
            return None;
        }
        let now = self.clock.now();
        let hostname = self.statics.hostname.ascii();
        let received = header::Received {
            from: None,
            by: hostname,
            with: WITH,
            id: message.id.to_string(),
            tls: None,
            recipient: Some(&message.recipient),
            time: now,
        };
        let trace = format!("Return-Path: <{}>\r\n{received}", message.reverse_path);
        let size = trace.len() as u64 + message.common.size;
        let mut fields = trace.into_bytes();
        fields.extend_from_slice(message.top.bytes());
        Some(NewMail {
            account: message.common.account.clone(),
            mailbox: "Inbox".to_owned(),
            top: Top::new(fields).unwrap_or_default(),
            text: TextSource::Existing(message.text),
            size,
            received: now,
            flags: Vec::new(),
            dsn: false,
            summary: None,
            smtp: Some(Arrival {
                mail_from: message.reverse_path.clone(),
                rcpt_to: message.recipient.clone(),
                msg_from: message.common.from.clone(),
                mail_from_validated: false,
                msg_from_validated: false,
                dkim_domains: Vec::new(),
                remote_ip: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            }),
        })
    }
}

/// The result that the addresses ask for. Success if they ask for none.
fn outcome(message: &Queued) -> DeliveryStatus {
    let sender = message
        .reverse_path
        .address()
        .and_then(|sender| simulate::failure(sender.local.as_str()));
    let failure = sender
        .filter(|failure| failure.stage == FailureStage::MailFrom)
        .or_else(|| {
            simulate::failure(message.recipient.local.as_str())
                .filter(|failure| failure.stage != FailureStage::MailFrom)
        });
    let Some(failure) = failure else {
        let reply = Reply::ok("delivered to the sender's own mailbox");
        return DeliveryStatus::from_reply(&reply, "end of data").with_remote(REMOTE);
    };
    failed(failure)
}

/// The result of an attempt at which this failure shows.
fn failed(failure: SimulatedFailure) -> DeliveryStatus {
    let command = match failure.stage {
        FailureStage::MailFrom => "MAIL",
        FailureStage::RcptTo => "RCPT",
        FailureStage::Data | FailureStage::Queue => "end of data",
    };
    match failure.kind {
        FailureKind::Timeout => {
            let text = "no answer, as asked for by the address";
            DeliveryStatus::transient(Cause::Timeout, EnhancedCode::BAD_CONNECTION, text)
        }
        FailureKind::Code(code) => {
            let code = ReplyCode::new(code).unwrap_or(ReplyCode::LOCAL_ERROR);
            let reply = Reply::new(
                code,
                Some(EnhancedCode::TRANSIENT),
                failure.reply().text().to_owned(),
            );
            DeliveryStatus::from_reply(&reply, command)
        }
    }
    .with_remote(REMOTE)
    .with_command(command)
}
