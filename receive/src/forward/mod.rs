//! Mail that goes on to other servers: forwards, the mailboxes of LMTP servers, and reports about
//! forwards. Also mail for our own mailboxes that waits in the queue for somebody to release it.
//!
//! - [`srs`]: reverse-paths of our own for forwards. `senders`: the same with the store.
//! - `seal`: our ARC set for a forward.
//! - `report`: reports of success to senders that ask for them.
//!
//! A forward has the text that it came with. It gets a reverse-path of ours and fields on top. The
//! queue delivers it like any message, and it belongs to no account's outgoing mail.

mod report;
mod seal;
mod senders;
pub mod srs;

use std::collections::{HashMap, HashSet};

use postrider_config::Dynamic;
use postrider_dns::is_within;
use postrider_queue::{
    JUNK_FIELD, Passed, SubmittedRecipient,
    header::{self, Header, Received},
};
use postrider_smtp::{
    Address, Domain, Ret, ReversePath,
    convert::TextNeeds,
    server::{RcptTo, Transaction},
};
use postrider_store::{NewMessage, Notify, StoreError, Top};

use crate::{
    SessionContext,
    checks::dmarc::{DmarcOutcome, DmarcResult, organisation_by_suffix},
    decide::{Delivery, Outcome},
    deliver::{Incoming, Trace},
    facts::{Facts, RecipientFacts, Target},
    submission::stored_notify,
};

/// Where a message goes on to, for one delivery.
struct Way<'a> {
    recipient: &'a RecipientFacts,
    target: &'a Target,
    delivery: &'a Delivery,
    rcpt: &'a RcptTo,
    to: Vec<Address>,
}

/// Whether somebody stands behind the reverse-path: SPF passes for it, or DMARC passes and it has
/// the organisation of the author. Others get no reports from us, since anybody may have written
/// their address.
pub(crate) fn is_proven(reverse_path: &ReversePath, facts: &Facts) -> bool {
    if facts.is_ours || facts.sender_was_proven {
        return true;
    }
    let results = facts.authentication.as_deref();
    let (Some(results), Some(sender)) = (results, reverse_path.address()) else {
        return false;
    };
    let dmarc = results.dmarc.as_ref();
    results.mail_from_is_validated()
        || dmarc.is_some_and(|dmarc| {
            let domain = sender.host.domain();
            dmarc.outcome == DmarcOutcome::Pass
                && domain.is_some_and(|domain| is_of_author(domain, dmarc))
        })
}

/// Whether a domain is that of the author, or a domain of the same organisation. The record that
/// counts and the public suffix list both have to say so.
fn is_of_author(domain: &Domain, dmarc: &DmarcResult) -> bool {
    let Some(from) = &dmarc.from else {
        return false;
    };
    let record = dmarc.record_domain.as_deref();
    domain == from
        || record.is_some_and(|record| is_within(domain.ascii(), record))
            && organisation_by_suffix(domain) == organisation_by_suffix(from)
}

/// The domain of the reverse-paths of forwards from an address.
pub(crate) fn forward_domain<'a>(config: &'a Dynamic, address: &'a Address) -> Option<&'a Domain> {
    config.srs_domain.as_ref().or_else(|| address.host.domain())
}

impl SessionContext {
    /// The messages that go on to other servers. `received` is our Received field.
    ///
    /// # Errors
    /// If the store can't be used.
    pub(crate) async fn onward(
        &self,
        config: &Dynamic,
        incoming: &Incoming<'_>,
        received: &Received<'_>,
    ) -> Result<Vec<NewMessage>, StoreError> {
        let Incoming {
            transaction,
            facts,
            deliveries,
            ..
        } = *incoming;
        let sender = &transaction.mail.reverse_path;
        let mut messages = Vec::new();
        let mut seals: HashMap<Domain, String> = HashMap::new();
        let mut seen: HashSet<(&str, Address)> = HashSet::new();
        for delivery in deliveries {
            let (Some((recipient, target)), Some(rcpt)) = (
                delivery.target(facts),
                transaction.recipients.get(delivery.recipient),
            ) else {
                continue;
            };
            let to = match &delivery.outcome {
                Outcome::Forward(to) => to.clone(),
                Outcome::Lmtp { .. } => vec![mailbox_address(recipient, target)],
                Outcome::Relay(to) => vec![to.clone()],
                Outcome::Held => vec![mailbox_address(recipient, target)],
                Outcome::Mailbox { .. } => delivery.redirects().to_vec(),
                _ => continue,
            };
            // An address gets one copy of what comes to an account, as a mailbox does.
            let to = to.into_iter();
            let to: Vec<Address> = to
                .filter(|to| seen.insert((&target.account, to.clone())))
                .collect();
            if to.is_empty() {
                continue;
            }
            let way = Way {
                recipient,
                target,
                delivery,
                rcpt,
                to,
            };
            let passed = match &delivery.outcome {
                Outcome::Lmtp { transport, junk } => {
                    let junk = junk.map(|it| format!("{JUNK_FIELD}: {}\r\n", it.as_str()));
                    let (first, junk) = (incoming.return_path(), junk.unwrap_or_default());
                    let trace = Trace::whole(received);
                    let top = way.top(incoming, first, &junk, trace);
                    way.passed(incoming, sender.clone(), transport, top)
                }
                Outcome::Relay(_) => {
                    let trace = way.trace(incoming, &ReversePath::Null, received);
                    let top = way.top(incoming, String::new(), "", trace);
                    way.passed(incoming, ReversePath::Null, "", top)
                }
                Outcome::Held => {
                    let top = incoming.held_top(way.delivery.differs.as_deref(), received);
                    let held = way.passed(incoming, sender.clone(), "", top);
                    Passed { hold: true, ..held }
                }
                _ => {
                    let Some(domain) = forward_domain(config, &recipient.address) else {
                        continue;
                    };
                    let path = self.forward_path(sender, domain).await?;
                    let seal = match seals.get(domain) {
                        Some(seal) => seal.clone(),
                        None => {
                            let seal = self.seal(config, domain, incoming);
                            seals.insert(domain.clone(), seal.clone());
                            seal
                        }
                    };
                    let trace = way.trace(incoming, &path, received);
                    let top = way.top(incoming, seal, "", trace);
                    way.passed(incoming, path, "", top)
                }
            };
            messages.extend(self.queue.pass_on(passed));
        }
        Ok(messages)
    }
}

/// The address of the mailbox that a target stands for.
fn mailbox_address(recipient: &RecipientFacts, target: &Target) -> Address {
    target.member.as_ref().unwrap_or(&recipient.address).clone()
}

impl Way<'_> {
    /// The fields that stand in front of the text, as [`Incoming::top`] has them.
    fn top(&self, incoming: &Incoming<'_>, first: String, more: &str, trace: Trace) -> Top {
        let target = (self.recipient, self.target);
        let differs = self.delivery.differs.as_deref();
        incoming.top(first, target, more, differs, &trace)
    }

    /// The trace of a message with this reverse-path. If nothing else of it needs SMTPUTF8, an
    /// address of ours is no reason to ask the next server for that.
    fn trace(
        &self,
        incoming: &Incoming<'_>,
        reverse_path: &ReversePath,
        received: &Received<'_>,
    ) -> Trace {
        let sender = reverse_path.address();
        let mut envelope = self.to.iter().chain(sender);
        match needs_smtputf8(incoming) || envelope.any(|address| !address.is_ascii()) {
            true => Trace::whole(received),
            false => Trace::ascii(received),
        }
    }

    /// The message with this reverse-path. What the sender asked of reports goes on with it (RFC
    /// 3461 §5.2.7).
    fn passed(
        &self,
        incoming: &Incoming<'_>,
        reverse_path: ReversePath,
        transport: &str,
        top: Top,
    ) -> Passed {
        let Incoming {
            transaction,
            facts,
            text,
            ..
        } = *incoming;
        let mail = &transaction.mail;
        let header = facts.header.as_ref();
        let notify = self.rcpt.notify.map(stored_notify).unwrap_or_default();
        let notify = Notify {
            // We say that the message went on to several addresses, or where a script put it, and
            // that is the success. Nobody asks a junk mailbox for reports.
            success: notify.success
                && !self.is_expanded()
                && !self.delivery.is_junk()
                && self.delivery.scripted.is_none(),
            ..notify
        };
        let recipients = self.to.iter().map(|address| SubmittedRecipient {
            address: address.clone(),
            notify,
            orcpt: self.orcpt(),
        });
        Passed {
            account: self.target.account.clone(),
            sender: match self.delivery.outcome {
                Outcome::Relay(_) => ReversePath::Null,
                _ => mail.reverse_path.clone(),
            },
            reports: is_proven(&mail.reverse_path, facts),
            reverse_path,
            recipients: recipients.collect(),
            transport: transport.to_owned(),
            hold: false,
            size: text.size,
            message_id: header.map_or("", Header::message_id).to_owned(),
            subject: header.map_or("", Header::subject).to_owned(),
            from: header.and_then(Header::from).cloned(),
            needs: text.needs.and(TextNeeds::of(top.bytes())),
            smtputf8: needs_smtputf8(incoming) || !top.bytes().is_ascii(),
            require_tls: header::requested_tls(
                mail.require_tls,
                header.is_some_and(Header::waives_tls),
            ),
            ret_full: mail.ret.map(|ret| ret == Ret::Full),
            envid: mail.envid.clone().unwrap_or_default(),
            top,
        }
    }

    /// One address became several.
    fn is_expanded(&self) -> bool {
        self.to.len() > 1 || self.target.member.is_some()
    }

    /// The recipient that the sender knows.
    fn orcpt(&self) -> String {
        let given = self.rcpt.orcpt.clone();
        given.unwrap_or_else(|| original_recipient(&self.recipient.address))
    }
}

/// Whether the text as it came needs SMTPUTF8.
fn needs_smtputf8(incoming: &Incoming<'_>) -> bool {
    let header = incoming.facts.header.as_ref();
    incoming.transaction.mail.smtputf8 && header.is_some_and(|header| !header.is_ascii())
}

/// An address in the form of ORCPT (RFC 3461 §4.2, RFC 6533 §3).
pub(crate) fn original_recipient(address: &Address) -> String {
    match address.is_ascii() {
        true => format!("rfc822;{address}"),
        false => format!("utf-8;{}", address.unicode()),
    }
}

/// Whether some recipient of the message is an address that forwards, so that an ARC set of ours
/// may be needed.
pub(crate) fn may_forward(config: &Dynamic, recipients: &[RecipientFacts]) -> bool {
    let mut targets = recipients.iter().flat_map(RecipientFacts::targets);
    targets.any(|target| {
        let account = config.accounts.get(&target.account);
        let destination = target.destination_in(config);
        destination.is_some_and(|destination| !destination.forward.is_empty())
            || account.is_some_and(|account| account.allow_forward)
    })
}

/// The recipients of a transaction with what became of the message for each. A list that is named
/// twice has the same outcomes twice.
pub(crate) fn with_deliveries<'a>(
    transaction: &'a Transaction,
    facts: &'a Facts,
    deliveries: &'a [Delivery],
) -> impl Iterator<Item = (&'a RcptTo, Vec<&'a Outcome>)> {
    let recipients = transaction.recipients.iter().enumerate();
    recipients.map(move |(at, rcpt)| {
        let same_as = facts.recipients.get(at).and_then(|it| it.same_as);
        let at = same_as.unwrap_or(at);
        let own = deliveries.iter().filter(move |one| one.recipient == at);
        (rcpt, own.map(|one| &one.outcome).collect())
    })
}
