//! The records of a message that came in: mail for the mailboxes of accounts.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Write,
    time::Duration,
};

use postrider_config::{Account, Dynamic};
use postrider_queue::{
    Arrived, READ_MAX, ReturnEffects, Tidings,
    header::{Header, Received},
};
use postrider_smtp::{
    Address, ReversePath,
    bounce::{self, Reading},
    server::{Client, Transaction},
};
use postrider_store::{
    Accept, Arrival, NewMail, NewReject, NewText, Queued, RejectKey, RejectLimit, StoreError,
    Summary, TakenMail, TextSource, Time, Top,
};
use postrider_webhook::message::{SUMMARY_READ, summary};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tracing::{debug, warn};

use crate::{
    SessionContext,
    checks::{ForwardChain, results::AuthenticationResults},
    decide::{Delivery, Outcome, Suspicion},
    facts::{Facts, RecipientFacts, Target},
    intake::ReceivedText,
    junk::senders::forwarded_field,
    reports,
    scripted::stored_flags,
    sieve,
    work::long_work,
};

/// The flag of mail that nobody has to look at.
const SEEN: &str = "\\seen";

/// How long an account keeps refused mail.
const REJECTS_KEPT: Duration = Duration::from_hours(14 * 24);

/// How much refused mail an account keeps.
const REJECTS_MAX: RejectLimit = RejectLimit {
    mails: 1000,
    bytes: 256 << 20,
};

/// A message that came in, complete, with the session that brought it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) client: &'a Client,
    /// The configuration that the decision was made with.
    pub(crate) config: &'a Dynamic,
    /// The host name of the listener.
    pub(crate) hostname: &'a str,
    pub(crate) transaction: &'a Transaction,
    pub(crate) facts: &'a Facts,
    pub(crate) text: &'a ReceivedText,
    /// What becomes of the message for each target.
    pub(crate) deliveries: &'a [Delivery],
    /// The ARC chain. None if nothing is forwarded, or the message was not checked.
    pub(crate) chain: Option<&'a ForwardChain>,
    /// The message as a report about earlier ones. It is read when somebody asks for it.
    pub(crate) reading: &'a OnceCell<Reading>,
    /// The message in our queue that this one is. None if it came by SMTP.
    pub(crate) queued: Option<&'a Queued>,
}

/// A mail in a mailbox that was made, for the log and the trace.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) account: String,
    /// The recipient.
    pub(crate) to: String,
    /// Why it is in the junk mailbox. None if it is not.
    pub(crate) junk: Option<Suspicion>,
}

impl Incoming<'_> {
    /// The name of the message, which is the same when it is sent again.
    fn key(&self) -> RejectKey {
        let id = self.facts.header.as_ref().map_or("", Header::message_id);
        let hash = match self.text.fingerprint {
            Some(hash) if id.is_empty() => hash,
            _ => Sha256::digest(id).into(),
        };
        let [a, b, c, d, e, f, g, h, ..] = hash;
        RejectKey(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// How the message arrived for a recipient.
    fn arrival(&self, rcpt_to: &Address) -> Arrival {
        let results = self.facts.authentication.as_deref();
        let domains = results.map(AuthenticationResults::dkim_domains);
        let domains = domains.unwrap_or_default();
        Arrival {
            mail_from: self.transaction.mail.reverse_path.clone(),
            rcpt_to: rcpt_to.clone(),
            msg_from: self.facts.header.as_ref().and_then(Header::from).cloned(),
            mail_from_validated: self.facts.is_ours
                || results.is_some_and(AuthenticationResults::mail_from_is_validated),
            msg_from_validated: self.facts.is_ours
                || results.is_some_and(|it| it.validated_from().is_some()),
            dkim_domains: domains.iter().map(|it| it.unicode()).collect(),
            remote_ip: Some(self.client.remote.ip().to_canonical()),
        }
    }

    /// The Return-Path field (RFC 5321 §4.4), for a message that goes to its mailbox.
    pub(crate) fn return_path(&self) -> String {
        format!("Return-Path: <{}>\r\n", self.transaction.mail.reverse_path)
    }

    /// The fields that stand in front of the text for a target: `first`, the addresses that the
    /// message was delivered to, by which a loop is found, `more`, the results of the checks (RFC
    /// 8601 §4), and Received (RFC 5321 §4.4), which is in `trace`.
    pub(crate) fn top(
        &self,
        first: String,
        (recipient, target): (&RecipientFacts, &Target),
        more: &str,
        differs: Option<&str>,
        trace: &Trace,
    ) -> Top {
        let mut fields = first;
        let addresses = target.member.iter().chain([&recipient.address]);
        for address in addresses.filter(|address| address.is_ascii() || !trace.only_ascii) {
            // Writing to a string does not fail.
            let _ = write!(fields, "Delivered-To: {address}\r\n");
        }
        fields.push_str(more);
        if let Some(results) = self.facts.authentication.as_deref() {
            fields.push_str(&results.field(self.hostname, differs));
        }
        fields.push_str(&trace.received);
        let mut fields = fields.into_bytes();
        if let Some(queued) = self.queued {
            fields.extend_from_slice(queued.top.bytes());
        }
        Top::new(fields).unwrap_or_default()
    }

    /// The fields in front of a text that is held. The release of the message adds the others.
    pub(crate) fn held_top(&self, differs: Option<&str>, received: &Received<'_>) -> Top {
        let results = self.facts.authentication.as_deref();
        let field = results.map(|results| results.field(self.hostname, differs));
        let fields = field.unwrap_or_default() + &received.to_string();
        Top::new(fields).unwrap_or_default()
    }

    /// Our Received field.
    fn received(&self, now: Time) -> Received<'_> {
        let id = self.client.name().to_string();
        let received = Received::smtp(self.hostname, self.client, self.transaction, id, now);
        match self.queued {
            None => received,
            Some(queued) => Received {
                from: None,
                with: "LOCAL",
                id: queued.id.to_string(),
                ..received
            },
        }
    }
}

/// What the fields in front of a text say of its way.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    /// The Received field.
    received: String,
    /// Addresses that are not ASCII are left out.
    only_ascii: bool,
}

impl Trace {
    /// All of it.
    pub(crate) fn whole(received: &Received<'_>) -> Self {
        Self {
            received: received.to_string(),
            only_ascii: false,
        }
    }

    /// The part of it that needs no SMTPUTF8.
    pub(crate) fn ascii(received: &Received<'_>) -> Self {
        let recipient = received.recipient.filter(|address| address.is_ascii());
        let received = Received {
            id: received.id.clone(),
            recipient,
            ..*received
        };
        Self {
            received: received.to_string(),
            only_ascii: true,
        }
    }
}

/// The records of a message, as far as they are made.
struct Records<'a> {
    context: &'a SessionContext,
    config: &'a Dynamic,
    incoming: Incoming<'a>,
    trace: Trace,
    now: Time,
    /// The parts of the message that lists show. None: they are made later.
    summary: Option<Box<Summary>>,
    report: bool,
    effects: ReturnEffects,
    /// The mailboxes that get the message.
    seen: HashSet<(&'a str, &'a str)>,
    /// The accounts that get the message.
    accounts: HashSet<&'a str>,
    /// Whether the message is a report about mail of an account, by the place of the recipient and
    /// the account.
    told: HashMap<(usize, &'a str), bool>,
    accept: Accept,
    made: Vec<Made>,
}

impl SessionContext {
    /// The records of a message, with a new text: one mail for each mailbox, however many of its
    /// addresses the transaction names. A report about an earlier message adds notes, events and
    /// suppressions.
    ///
    /// The mails in mailboxes have the same order in the first two results. The third is to be told
    /// when the records are stored.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(crate) async fn mailbox_records(
        &self,
        incoming: Incoming<'_>,
    ) -> Result<(Accept, Vec<Made>, Vec<Tidings>), StoreError> {
        let Incoming {
            config,
            facts,
            deliveries,
            ..
        } = incoming;
        let now = self.clock.now();
        let received = incoming.received(now);
        let mut records = Records {
            context: self,
            config,
            incoming,
            trace: Trace::whole(&received),
            now,
            summary: self.summary_of(&incoming).await,
            report: facts.header.as_ref().is_some_and(Header::is_report),
            effects: ReturnEffects::default(),
            seen: HashSet::new(),
            accounts: HashSet::new(),
            told: HashMap::new(),
            accept: Accept::default(),
            made: Vec::new(),
        };
        for delivery in deliveries {
            match &delivery.outcome {
                Outcome::Mailbox { mailbox, junk } => match delivery.scripted() {
                    None => records.add_mail(delivery, mailbox, *junk, &[]).await?,
                    Some(scripted) => records.add_scripted(delivery, mailbox, scripted).await?,
                },
                // There is no mailbox here, but it may be a report about mail of the account.
                Outcome::Forward(_) | Outcome::Lmtp { .. } => {
                    if let Some((recipient, target, _)) = records.parties(delivery) {
                        records.tell(delivery, recipient, target).await?;
                    }
                }
                Outcome::Relay(_)
                | Outcome::Held
                | Outcome::Rejects { .. }
                | Outcome::Refused(_)
                | Outcome::Skipped(_) => {}
            }
        }
        for delivery in deliveries {
            if let Outcome::Rejects { mailbox, .. } = &delivery.outcome {
                records.add_reject(delivery, mailbox);
            }
        }
        let onward = self.onward(config, &incoming, &received).await?;
        let (mut accept, made, told) = records.finish();
        accept.queue = onward;
        Ok((accept, made, told))
    }
}

impl<'a> Records<'a> {
    /// Puts the message where the scripts of the account want it.
    async fn add_scripted(
        &mut self,
        delivery: &'a Delivery,
        mailbox: &'a str,
        scripted: &'a sieve::Outcome,
    ) -> Result<(), StoreError> {
        if let Some(flags) = &scripted.keep {
            self.add_mail(delivery, mailbox, None, flags).await?;
        }
        for filed in &scripted.filed {
            self.add_mail(delivery, &filed.mailbox, None, &filed.flags)
                .await?;
        }
        // It may be a report about mail of the account, also if nobody wants to see it.
        if let Some((recipient, target, _)) = self.parties(delivery) {
            self.tell(delivery, recipient, target).await?;
        }
        Ok(())
    }

    /// Puts the message into a mailbox, unless it is there already.
    async fn add_mail(
        &mut self,
        delivery: &'a Delivery,
        mailbox: &'a str,
        junk: Option<Suspicion>,
        flags: &[String],
    ) -> Result<(), StoreError> {
        let Some((recipient, target, account)) = self.parties(delivery) else {
            return Ok(());
        };
        if !self.seen.insert((&target.account, mailbox)) {
            return Ok(());
        }
        let is_first = self.accounts.insert(&target.account);
        let mail = NewMail {
            flags: stored_flags(flags),
            ..self.mail(delivery, (recipient, target), mailbox)
        };
        let is_told = self.tell(delivery, recipient, target).await?;
        // A report becomes an event of the message that it is about. The mailboxes that scripts
        // file a message into are one event.
        if !is_told && (is_first || delivery.scripted.is_none()) {
            let index = u32::try_from(self.accept.mails.len()).unwrap_or(u32::MAX);
            let hook = postrider_webhook::incoming(&mail, account, index);
            self.accept.hooks.extend(hook);
        }
        self.accept.mails.push(mail);
        self.made.push(Made {
            account: target.account.clone(),
            to: recipient.address.unicode(),
            junk,
        });
        Ok(())
    }

    /// Keeps the message for an account that refuses it, unless it gets the message otherwise.
    fn add_reject(&mut self, delivery: &'a Delivery, mailbox: &str) {
        let Some((recipient, target, account)) = self.parties(delivery) else {
            return;
        };
        if !self.accounts.insert(&target.account) {
            return;
        }
        let is_bound = !account.keep_rejects;
        let mail = self.mail(delivery, (recipient, target), mailbox);
        // The message itself is kept, however large it is.
        let limit = RejectLimit {
            bytes: REJECTS_MAX.bytes.max(mail.size),
            ..REJECTS_MAX
        };
        self.accept.rejects.push(NewReject {
            mail: NewMail {
                flags: vec![SEEN.to_owned()],
                ..mail
            },
            key: self.incoming.key(),
            until: is_bound.then(|| self.now.after(REJECTS_KEPT)),
            limit: is_bound.then_some(limit),
        });
    }

    /// The recipient, the target and the account of a delivery. None if the account was removed
    /// before the decision.
    fn parties(
        &self,
        delivery: &Delivery,
    ) -> Option<(&'a RecipientFacts, &'a Target, &'a Account)> {
        let (recipient, target) = delivery.target(self.incoming.facts)?;
        Some((
            recipient,
            target,
            self.config.accounts.get(&target.account)?,
        ))
    }

    fn mail(
        &self,
        delivery: &Delivery,
        (recipient, target): (&RecipientFacts, &Target),
        mailbox: &str,
    ) -> NewMail {
        let (incoming, differs) = (&self.incoming, delivery.differs.as_deref());
        let first = incoming.return_path();
        let forwarded = delivery.forwarder.as_ref().map(forwarded_field);
        let more = forwarded.unwrap_or_default();
        let top = incoming.top(first, (recipient, target), &more, differs, &self.trace);
        NewMail {
            account: target.account.clone(),
            mailbox: mailbox.to_owned(),
            size: top.len() + self.incoming.text.size,
            top,
            text: TextSource::New,
            received: self.now,
            flags: Vec::new(),
            dsn: self.report,
            smtp: Some(self.incoming.arrival(&recipient.address)),
            summary: self.summary.clone(),
        }
    }

    /// Tells the queue of a mail that may be a report. True: it is one, about mail of the account.
    async fn tell(
        &mut self,
        delivery: &Delivery,
        recipient: &RecipientFacts,
        target: &'a Target,
    ) -> Result<bool, StoreError> {
        let key = (delivery.recipient, target.account.as_str());
        if let Some(is_told) = self.told.get(&key) {
            return Ok(*is_told);
        }
        let Incoming {
            transaction,
            facts,
            text,
            reading,
            ..
        } = self.incoming;
        let reverse_path = &transaction.mail.reverse_path;
        let results = facts.authentication.as_deref();
        let arrived = Arrived {
            account: &target.account,
            reverse_path,
            rcpt_to: &recipient.address,
            report: self.report,
            authenticated: results.and_then(AuthenticationResults::validated_from),
        };
        let read = || self.context.read_report(reverse_path, &text.text);
        let reading = reading.get_or_init(read);
        let (queue, effects) = (&self.context.queue, &mut self.effects);
        let is_told = queue.returned(self.config, &arrived, reading, effects);
        let is_told = is_told.await?;
        self.told.insert(key, is_told);
        Ok(is_told)
    }

    /// The recipients that somebody here takes the message for.
    fn takers(&self) -> impl Iterator<Item = &'a RecipientFacts> + Clone {
        let (deliveries, facts) = (self.incoming.deliveries, self.incoming.facts);
        let taken = deliveries.iter().filter(|delivery| {
            matches!(
                delivery.outcome,
                Outcome::Mailbox { .. } | Outcome::Forward(_) | Outcome::Lmtp { .. }
            )
        });
        taken.filter_map(|delivery| Some(delivery.target(facts)?.0))
    }

    fn finish(mut self) -> (Accept, Vec<Made>, Vec<Tidings>) {
        let report = reports::arrived(
            (&self.context.statics, self.config),
            self.incoming.facts,
            self.takers(),
            self.incoming.text.size,
            self.effects.complained_about(),
            self.now,
        );
        self.accept.reports.extend(report);
        let accounts: BTreeSet<&str> = self.accept.mails.iter().map(|it| &*it.account).collect();
        let key = self.incoming.key();
        let taken = accounts.into_iter().map(|account| TakenMail {
            account: account.to_owned(),
            key,
        });
        self.accept.taken = taken.collect();
        self.accept.notes = self.effects.notes;
        self.accept.hooks.extend(self.effects.hooks);
        self.accept.events = self.effects.events;
        self.accept.suppress = self.effects.suppress;
        (self.accept, self.made, self.effects.told)
    }
}

impl SessionContext {
    /// The parts of a message that lists show. None if no mailbox gets it, or it can't be read now.
    async fn summary_of(&self, incoming: &Incoming<'_>) -> Option<Box<Summary>> {
        let mut deliveries = incoming.deliveries.iter();
        let is_kept = deliveries.any(|delivery| {
            matches!(
                delivery.outcome,
                Outcome::Mailbox { .. } | Outcome::Rejects { .. }
            )
        });
        if !is_kept {
            return None;
        }
        let text = self.store.beginning(&incoming.text.text, SUMMARY_READ);
        let text = text
            .await
            .inspect_err(|error| warn!(%error, "failed to read a mail for its summary"))
            .ok()?;
        let limits = self.statics.limits.mime();
        Some(Box::new(long_work(text.len(), || summary(&text, limits))))
    }

    /// Reads a mail as a report about messages sent earlier. The beginning of the text is enough.
    pub(crate) async fn read_report(&self, path: &ReversePath, text: &NewText) -> Reading {
        let beginning = match self.store.beginning(text, READ_MAX).await {
            Ok(text) => text,
            Err(error) => {
                warn!(%error, "failed to read a mail that may be a report");
                return Reading::Other;
            }
        };
        let limits = self.statics.limits.mime();
        let read = || bounce::read_with_path(path, &beginning, limits);
        let reading = long_work(beginning.len(), read);
        let kind = match &reading {
            Reading::Report(_) => "delivery report",
            Reading::Complaint(_) => "complaint",
            Reading::Unusable(_) => "delivery report without a result",
            Reading::Other => "other mail",
        };
        debug!(from = %path, kind, "mail read as a report");
        reading
    }
}
