//! The records of a message that came in: mail for the mailboxes of accounts.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
};

use postrider_queue::{
    Arrived, READ_MAX, ReturnEffects,
    header::{self, Header, Received},
};
use postrider_smtp::{
    Address, ReversePath,
    bounce::{self, Reading},
    server::{Client, Transaction},
};
use postrider_store::{Accept, Arrival, NewMail, NewText, StoreError, TextSource, Top};
use tokio::sync::OnceCell;
use tracing::{debug, warn};

use crate::{
    SessionContext,
    checks::{ForwardChain, results::AuthenticationResults},
    decide::{Delivery, Outcome, Suspicion},
    facts::{Facts, RecipientFacts, Target},
    intake::ReceivedText,
    work::long_work,
};

/// The flag of mail that nobody has to look at.
const SEEN: &str = "\\seen";

/// A message that came in, complete, with the session that brought it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) client: &'a Client,
    /// The host name of the listener.
    pub(crate) hostname: &'a str,
    pub(crate) transaction: &'a Transaction,
    pub(crate) facts: &'a Facts,
    pub(crate) text: &'a ReceivedText,
    /// What becomes of the message for each target.
    pub(crate) deliveries: &'a [Delivery],
    /// The ARC chain. None if nothing is forwarded, or the message was not checked.
    pub(crate) chain: Option<&'a ForwardChain>,
}

/// A mail that was made, for the log.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) account: String,
    /// The recipient.
    pub(crate) to: String,
    /// Why it is in the junk mailbox. None if it is not.
    pub(crate) junk: Option<Suspicion>,
    /// The reply that refuses the mail. Empty if the account takes it.
    pub(crate) refused: String,
}

impl<'a> Incoming<'a> {
    /// The mail as one that may be a report.
    fn arrived(&self, account: &'a str, rcpt_to: &'a Address) -> Arrived<'a> {
        let results = self.facts.authentication.as_ref();
        Arrived {
            account,
            reverse_path: &self.transaction.mail.reverse_path,
            rcpt_to,
            report: self.facts.header.as_ref().is_some_and(Header::is_report),
            authenticated: results.and_then(AuthenticationResults::validated_from),
        }
    }

    /// Makes the part of a record that tells how the message arrived for a recipient.
    fn arrival(&self) -> impl Fn(&Address) -> Arrival {
        let results = self.facts.authentication.as_ref();
        let dkim_domains = results.map(AuthenticationResults::dkim_domains);
        let dkim_domains = dkim_domains.unwrap_or_default();
        let dkim_domains: Vec<String> = dkim_domains.iter().map(|it| it.unicode()).collect();
        move |rcpt_to| Arrival {
            mail_from: self.transaction.mail.reverse_path.clone(),
            rcpt_to: rcpt_to.clone(),
            msg_from: self.facts.header.as_ref().and_then(Header::from).cloned(),
            mail_from_validated: results.is_some_and(AuthenticationResults::mail_from_is_validated),
            msg_from_validated: results.is_some_and(|it| it.validated_from().is_some()),
            dkim_domains: dkim_domains.clone(),
            remote_ip: Some(self.client.remote.ip().to_canonical()),
        }
    }

    /// The fields that stand in front of the text for a target: Return-Path and Received (RFC 5321
    /// §4.4), the addresses that the message was delivered to, and the results of the checks (RFC
    /// 8601 §4). `received` is the Received field.
    fn top(&self, recipient: &RecipientFacts, delivery: &Delivery, received: &str) -> Top {
        let mut fields = format!("Return-Path: <{}>\r\n", self.transaction.mail.reverse_path);
        let target = recipient.targets().get(delivery.target);
        let member = target.and_then(|target| target.member.as_ref());
        for address in member.into_iter().chain([&recipient.address]) {
            // Writing to a string does not fail.
            let _ = write!(fields, "Delivered-To: {address}\r\n");
        }
        if let Some(results) = &self.facts.authentication {
            fields.push_str(&results.field(self.hostname, delivery.differs.as_deref()));
        }
        fields.push_str(received);
        Top::new(fields).unwrap_or_default()
    }
}

impl SessionContext {
    /// The records of a message: one mail for each mailbox, however many of its addresses the
    /// transaction names. A report about an earlier message adds notes, events and suppressions.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(crate) async fn mailbox_records(
        &self,
        incoming: Incoming<'_>,
    ) -> Result<(Accept, Vec<Made>), StoreError> {
        let config = self.dynamic();
        let now = self.clock.now();
        let Incoming {
            client,
            hostname,
            transaction,
            facts,
            text,
            deliveries,
            ..
        } = incoming;
        let id = header::random_id(&mut rand::rng());
        let received = Received::smtp(hostname, client, transaction, id, now).to_string();
        let arrival = incoming.arrival();
        let report = facts.header.as_ref().is_some_and(Header::is_report);
        let reverse_path = &transaction.mail.reverse_path;
        let reading = OnceCell::new();
        let (mut accept, mut made) = (Accept::default(), Vec::new());
        let mut effects = ReturnEffects::default();
        let mut seen = HashSet::new();
        let mut told: HashMap<(usize, &str), bool> = HashMap::new();
        // Mail that an account takes comes first: it gets no second copy as refused mail.
        let is_refused = |delivery: &&Delivery| matches!(delivery.outcome, Outcome::Rejects { .. });
        let taken = deliveries.iter().filter(|delivery| !is_refused(delivery));
        let refused = deliveries.iter().filter(is_refused);
        for delivery in taken.chain(refused) {
            let Some((recipient, target)) = of_delivery(facts, delivery) else {
                continue;
            };
            // An account may have been removed since the decision.
            let Some(account) = config.accounts.get(&target.account) else {
                continue;
            };
            let account_name = target.account.as_str();
            let (mailbox, junk, refusal) = match &delivery.outcome {
                Outcome::Mailbox { mailbox, junk } => (mailbox, *junk, None),
                Outcome::Rejects { mailbox, refusal } => (mailbox, None, Some(refusal)),
                // There is no mailbox here, but it may be a report about mail of the account.
                Outcome::Forward(_) | Outcome::Lmtp { .. } => {
                    let arrived = incoming.arrived(account_name, &recipient.address);
                    let reading =
                        reading.get_or_init(|| self.read_report(reverse_path, &text.text));
                    let key = (delivery.recipient, account_name);
                    if told.insert(key, true).is_none() {
                        self.queue
                            .returned(&config, &arrived, reading, &mut effects)
                            .await?;
                    }
                    continue;
                }
                Outcome::Relay(_) | Outcome::Refused(_) | Outcome::Skipped(_) => continue,
            };
            let has_some = || seen.iter().any(|(account, _)| *account == account_name);
            if refusal.is_some() && has_some() || !seen.insert((account_name, mailbox)) {
                continue;
            }
            let top = incoming.top(recipient, delivery, &received);
            let mail = NewMail {
                account: target.account.clone(),
                mailbox: mailbox.clone(),
                size: top.len() + text.size,
                top,
                text: TextSource::New,
                received: now,
                flags: refusal.map(|_| SEEN.to_owned()).into_iter().collect(),
                dsn: report,
                smtp: Some(arrival(&recipient.address)),
            };
            made.push(Made {
                account: target.account.clone(),
                to: recipient.address.unicode(),
                junk,
                refused: refusal
                    .map(|refusal| refusal.reply().to_string())
                    .unwrap_or_default(),
            });
            if refusal.is_none() {
                let arrived = incoming.arrived(account_name, &recipient.address);
                let key = (delivery.recipient, account_name);
                let is_told = match told.get(&key) {
                    Some(is_told) => *is_told,
                    None => {
                        let reading =
                            reading.get_or_init(|| self.read_report(reverse_path, &text.text));
                        self.queue
                            .returned(&config, &arrived, reading, &mut effects)
                            .await?
                    }
                };
                told.insert(key, is_told);
                // A report becomes an event of the message that it is about.
                if !is_told {
                    let index = u32::try_from(accept.mails.len()).unwrap_or(u32::MAX);
                    let hook = postrider_webhook::incoming(&mail, account, index);
                    accept.hooks.extend(hook);
                }
            }
            accept.mails.push(mail);
        }
        accept.queue = self.onward(&config, &incoming, &received).await?;
        accept.notes = effects.notes;
        accept.hooks.extend(effects.hooks);
        accept.events = effects.events;
        accept.suppress = effects.suppress;
        Ok((accept, made))
    }

    /// Reads a mail as a report about messages sent earlier. The beginning of the text is enough.
    async fn read_report(&self, reverse_path: &ReversePath, text: &NewText) -> Reading {
        let beginning = match self.store.beginning(text, READ_MAX).await {
            Ok(text) => text,
            Err(error) => {
                warn!(%error, "failed to read a mail that may be a report");
                return Reading::Other;
            }
        };
        let limits = self.statics.limits.mime();
        let read = || bounce::read_with_path(reverse_path, &beginning, limits);
        let reading = long_work(beginning.len(), read);
        let kind = match &reading {
            Reading::Report(_) => "delivery report",
            Reading::Complaint(_) => "complaint",
            Reading::Unusable(_) => "delivery report without a result",
            Reading::Other => "other mail",
        };
        debug!(from = %reverse_path, kind, "mail read as a report");
        reading
    }
}

/// The recipient and the target of a delivery.
pub(crate) fn of_delivery<'a>(
    facts: &'a Facts,
    delivery: &Delivery,
) -> Option<(&'a RecipientFacts, &'a Target)> {
    let recipient = facts.recipients.get(delivery.recipient)?;
    Some((recipient, recipient.targets().get(delivery.target)?))
}
