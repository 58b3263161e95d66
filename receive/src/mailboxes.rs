//! Mail of our own queue for our own addresses: what applications send to them, forwards from one
//! of our addresses to another, and reports.
//!
//! It goes the same way as mail that comes in by SMTP: an address means the same, and rulesets,
//! quotas, lists and loops count. The checks of strangers do not: nobody connects, our own accounts
//! are known by their login, and what was passed on was checked when it came in. So no junk filter
//! looks at it either.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use postrider_config::Dynamic;
use postrider_observe::metrics::By;
use postrider_queue::{
    Mailboxes, READ_MAX, Taken, TakenWay, Taking, Telling,
    header::{self, Header},
};
use postrider_smtp::{
    BodyType, DeliveryOptions, FirstOf, ForwardPath, Notify, Reply, Ret, ReversePath,
    bounce::Reading,
    server::{Client, MailFrom, RcptTo, SessionId, Transaction},
};
use postrider_store::{Accept, NewText, Origin, Queued, StoreError};
use tokio::sync::OnceCell;

use crate::{
    SessionContext,
    checks::{dkim::BodyHashes, plain_fields},
    decide::{Delivery, Outcome, Role, Stage, decide, decide_end},
    deliver::Incoming,
    facts::Facts,
    intake::ReceivedText,
    mx::{add_answers, add_usage},
    observer::{TakenMessage, count_incoming, count_verdicts, incoming_events, shown_verdict},
    resolve::{asks_for_fields, resolve},
    scripted::{Asking, Loaded, Source},
    work::long_work,
};

/// The commands that the replies answer.
const RCPT: &str = "RCPT";
const END: &str = "end of data";

/// The sender hears nothing of the message.
const NEVER: postrider_store::Notify = postrider_store::Notify::NEVER;

/// The mailboxes of this server, for its queue.
#[derive(Clone, Debug)]
pub struct LocalMailboxes {
    context: SessionContext,
}

impl Mailboxes for LocalMailboxes {
    fn take<'a>(&'a self, config: &'a Dynamic, message: &'a Queued) -> Taking<'a> {
        Box::pin(self.take_one(config, message))
    }
}

impl LocalMailboxes {
    /// The mailboxes of this configuration and store.
    #[must_use]
    pub const fn new(context: SessionContext) -> Self {
        Self { context }
    }

    async fn take_one(&self, config: &Dynamic, message: &Queued) -> Result<Taken, StoreError> {
        let context = &self.context;
        let begun = context.clock.moment();
        let admitted = match self.admit(config, message).await {
            Ok(admitted) => admitted,
            Err(NotTaken::Refused(reply, command)) => return Ok(refused(reply, command)),
            Err(NotTaken::Failed(error)) => return Err(error),
        };
        let Admitted {
            transaction,
            facts,
            deliveries,
            text,
            reading,
            loaded,
        } = admitted;
        let nowhere = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let incoming = Incoming {
            client: &Client::new(SessionId::default(), nowhere, nowhere),
            config,
            hostname: context.statics.hostname.ascii(),
            transaction: &transaction,
            facts: &facts,
            text: &text,
            deliveries: &deliveries,
            chain: None,
            reading: &reading,
            queued: Some(message),
        };
        let (records, made, told) = context.mailbox_records(incoming).await?;
        let asking = Asking {
            config,
            transaction: &transaction,
            facts: &facts,
            size: message.common.size,
            may_refuse: false,
        };
        Box::pin(context.send_answers(&asking, &deliveries, &loaded)).await;
        let accounts: Vec<&str> = made.iter().map(|made| made.account.as_str()).collect();
        let account = FirstOf(accounts.iter()).to_string();
        let way = way(&facts, &deliveries);
        let (id, common) = (message.id.0, message.common.clone());
        let took = context.clock.moment().since(begun);
        let events = incoming_events(&records.hooks);
        let (queue, metrics) = (Arc::clone(&context.queue), Arc::clone(&context.metrics));
        let telling = Telling::new(move || {
            let taken = TakenMessage {
                by: By::Local,
                transaction: &transaction,
                account,
                queue: &[id],
                mails: &[],
                message_id: &common.message_id,
                size: common.size,
                verdict: shown_verdict(&deliveries),
                took,
            };
            taken.count(&metrics);
            taken.tell_of_our_own();
            count_verdicts(&metrics, &deliveries);
            count_incoming(&metrics, events);
            queue.tell(told);
        });
        Ok(Taken {
            reply: Reply::ok("delivered here"),
            command: END,
            way,
            records,
            told: Some(telling),
        })
    }

    /// Decides what becomes of the message.
    async fn admit(&self, config: &Dynamic, message: &Queued) -> Result<Admitted, NotTaken> {
        let context = &self.context;
        let policy = context.policy(Role::Mx, config);
        let stored = context.store.queued_message(message).await?;
        let header_max = context.statics.limits.header_size.0;
        let wanted = header_max.saturating_add(message.top.len());
        let text = stored.beginning(wanted.max(READ_MAX)).await?;
        let section = header::section(&text);
        let sender = &message.reverse_path;
        let (mail, rcpt) = (mail_from(message), rcpt_to(message));
        let mut facts = facts_of(message, section);
        let path = &rcpt.forward_path;
        let returned = context.returned(config, sender, path).await?;
        let mut recipient = returned.unwrap_or_else(|| resolve(&policy, path));
        add_usage(context, config, &mut recipient).await?;
        let verdict = decide(Stage::Rcpt(&rcpt, &recipient), &facts, &policy);
        if let Err(refusal) = verdict.answer() {
            return Err(NotTaken::Refused(refusal, RCPT));
        }
        if let Err(refusal) = decide(Stage::Header, &facts, &policy).answer() {
            return Err(NotTaken::Refused(refusal, END));
        }
        let reading = OnceCell::new();
        let beginning = NewText::Inline(text.clone());
        let is_report = facts.header.as_ref().is_some_and(Header::is_report);
        if facts.has_null_path || is_report {
            let read = || context.read_report(sender, &beginning);
            let reading = reading.get_or_init(read).await;
            add_answers(context, config, &mut recipient, reading).await?;
        }
        facts.recipients.push(recipient);
        if asks_for_fields(config, &facts.recipients) {
            facts.fields = long_work(section.len(), || plain_fields(section));
        }
        let transaction = Transaction {
            mail,
            recipients: vec![rcpt],
        };
        let mut decision = long_work(section.len(), || decide_end(&transaction, &facts, &policy));
        let asking = Asking {
            config,
            transaction: &transaction,
            facts: &facts,
            size: message.common.size,
            may_refuse: !matches!(message.common.origin, Origin::Passed { .. }),
        };
        let ran = context.run_scripts(&asking, Source::Queued(message), &mut decision);
        let loaded = Box::pin(ran).await?;
        if let Some(refusal) = &decision.refusal {
            return Err(NotTaken::Refused(refusal.reply(), END));
        }
        Ok(Admitted {
            transaction,
            facts,
            deliveries: decision.deliveries,
            text: ReceivedText {
                text: beginning,
                size: message.common.size.saturating_sub(message.top.len()),
                needs: message.common.needs,
                body_hashes: BodyHashes::default(),
                fingerprint: None,
            },
            reading,
            loaded,
        })
    }
}

/// A message that is taken.
struct Admitted {
    transaction: Transaction,
    facts: Facts,
    /// What becomes of it for each target.
    deliveries: Vec<Delivery>,
    text: ReceivedText,
    /// The message as a report about earlier ones. It is read when somebody asks for it.
    reading: OnceCell<Reading>,
    /// The text as far as scripts read it.
    loaded: Loaded,
}

/// Why a message is not taken.
enum NotTaken {
    /// The reply, and the command that it answers.
    Refused(Reply, &'static str),
    Failed(StoreError),
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// What is known of the message before anything is asked.
fn facts_of(message: &Queued, section: &[u8]) -> Facts {
    let mut facts = Facts {
        size: Some(message.common.size),
        header: Some(long_work(section.len(), || Header::scan(section))),
        has_null_path: message.reverse_path == ReversePath::Null,
        ..Facts::default()
    };
    match message.common.origin {
        // Nobody else gets reports about what is passed on.
        Origin::Passed { .. } => facts.sender_was_proven = message.notify != NEVER,
        Origin::Sent | Origin::Server => facts.is_ours = true,
        Origin::Report(_) => {
            facts.is_ours = true;
            facts.is_our_report = true;
        }
    }
    facts
}

/// The command in which a client would name the sender.
fn mail_from(message: &Queued) -> MailFrom {
    let common = &message.common;
    MailFrom {
        reverse_path: message.reverse_path.clone(),
        size: Some(common.size),
        body: BodyType::EightBitMime,
        smtputf8: common.smtputf8,
        require_tls: common.require_tls == Some(true),
        ret: common.ret_full.map(|full| match full {
            true => Ret::Full,
            false => Ret::Headers,
        }),
        envid: given(&common.envid),
        delivery: DeliveryOptions::default(),
    }
}

/// The command in which a client would name the recipient.
fn rcpt_to(message: &Queued) -> RcptTo {
    let notify = message.notify;
    RcptTo {
        forward_path: ForwardPath::Mailbox(message.recipient.clone()),
        notify: notify.given.then_some(Notify {
            success: notify.success,
            failure: notify.failure,
            delay: notify.delay,
        }),
        orcpt: given(&message.orcpt),
    }
}

fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// Where the message goes. A list delivers it (RFC 3461 §5.2.7.3).
fn way(facts: &Facts, deliveries: &[Delivery]) -> TakenWay {
    let mut on = 0;
    for delivery in deliveries {
        match &delivery.outcome {
            Outcome::Forward(to) => on += to.len(),
            Outcome::Relay(_) | Outcome::Lmtp { junk: None, .. } => on += 1,
            Outcome::Mailbox { .. } | Outcome::Lmtp { .. } | Outcome::Rejects { .. } => {
                return TakenWay::Mailbox;
            }
            // No outside program is asked about mail of our own queue.
            Outcome::Refused(_) | Outcome::Skipped(_) | Outcome::Held => {}
        }
    }
    let is_list = facts.recipients.iter().any(|it| it.is_list());
    match on {
        _ if is_list => TakenWay::Mailbox,
        0 | 1 => TakenWay::On,
        _ => TakenWay::OnToSeveral,
    }
}

/// The message is not taken.
fn refused(reply: Reply, command: &'static str) -> Taken {
    Taken {
        reply,
        command,
        way: TakenWay::Mailbox,
        records: Accept::default(),
        told: None,
    }
}
