//! Delivery to mailboxes: the meaning of an address, and the records of a message that came in.

use std::collections::{HashMap, HashSet};

use postrider_config::{Alias, Destination, Dynamic, Found, Target};
use postrider_queue::{Arrived, READ_MAX, ReturnEffects, header::Header};
use postrider_smtp::{
    Address, ForwardPath, Host, LocalPart, ReversePath,
    bounce::{self, Reading},
    server::{Client, Transaction},
};
use postrider_store::{Accept, Arrival, NewMail, NewText, StoreError, TextSource, Top};
use tokio::sync::OnceCell;
use tracing::{debug, warn};

use crate::{
    SessionContext,
    checks::results::AuthenticationResults,
    decide::Policy,
    facts::{Facts, Mailbox, RecipientFacts, Resolution},
    intake::ReceivedText,
    work::long_work,
};

/// The mailbox of a destination without a configured mailbox.
const INBOX: &str = "Inbox";

/// Looks up the meaning of a recipient address. `from` is the reverse-path; a list that is not
/// public compares it with its members.
#[must_use]
pub fn resolve(policy: &Policy<'_>, from: &ReversePath, path: &ForwardPath) -> Resolution {
    let config = policy.config;
    let address = match path {
        ForwardPath::Mailbox(address) => address,
        ForwardPath::Postmaster => {
            let postmaster = &policy.statics.postmaster;
            return Resolution::Mailboxes(vec![Mailbox {
                account: postmaster.account.clone(),
                mailbox: postmaster.mailbox.clone(),
            }]);
        }
    };
    match config.lookup(address) {
        Some(found) => resolve_found(config, from, &found),
        None if policy.simulate => Resolution::Mailboxes(any_mailbox(config)),
        None if config.is_local(&address.host) => Resolution::UnknownLocalPart,
        None => Resolution::NotLocal,
    }
}

fn resolve_found(config: &Dynamic, from: &ReversePath, found: &Found<'_>) -> Resolution {
    if found.disabled() {
        return Resolution::DisabledDomain;
    }
    match found.target {
        Target::Account {
            name, destination, ..
        } => match &destination.smtp_error {
            Some(error) => Resolution::Refusing {
                code: error.code,
                text: error.text.clone(),
            },
            None => Resolution::Mailboxes(vec![mailbox(name, destination)]),
        },
        Target::Alias { alias, .. } => resolve_list(config, from, alias),
    }
}

fn mailbox(account: &str, destination: &Destination) -> Mailbox {
    let mailbox = match destination.mailbox.as_str() {
        "" => INBOX,
        mailbox => mailbox,
    };
    Mailbox {
        account: account.to_owned(),
        mailbox: mailbox.to_owned(),
    }
}

/// The inbox of the first account: localserve takes any recipient.
fn any_mailbox(config: &Dynamic) -> Vec<Mailbox> {
    let account = config.accounts.keys().next();
    account
        .map(|account| mailbox(account, &Destination::default()))
        .into_iter()
        .collect()
}

/// A list that is not public takes mail of its members only, as far as the reverse-path tells.
fn resolve_list(config: &Dynamic, from: &ReversePath, alias: &Alias) -> Resolution {
    fn account_of<'a>(config: &'a Dynamic, address: &'a Address) -> Option<&'a str> {
        config.lookup(address)?.account()
    }
    let is_member = |sender: &str| {
        alias
            .addresses
            .iter()
            .any(|member| account_of(config, member) == Some(sender))
    };
    let sender = from.address().and_then(|from| account_of(config, from));
    let mailboxes = alias
        .addresses
        .iter()
        .filter_map(|member| match config.lookup(member)?.target {
            // A member that refuses mail does not keep the others from theirs.
            Target::Account {
                name, destination, ..
            } => destination
                .smtp_error
                .is_none()
                .then(|| mailbox(name, destination)),
            Target::Alias { .. } => None,
        })
        .collect();
    Resolution::List {
        mailboxes,
        sender_may_post: alias.post_public || sender.is_some_and(is_member),
    }
}

/// A message that came in, complete, with the session that brought it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) client: &'a Client,
    pub(crate) transaction: &'a Transaction,
    pub(crate) facts: &'a Facts,
    pub(crate) text: &'a ReceivedText,
    /// The fields that stand before the text in each mailbox.
    pub(crate) top: &'a Top,
    /// Each account gets the message in its junk mailbox.
    pub(crate) junk: bool,
}

impl Incoming<'_> {
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
    ) -> Result<Accept, StoreError> {
        let Incoming {
            transaction,
            facts,
            text,
            top,
            junk,
            ..
        } = incoming;
        let now = self.clock.now();
        let config = self.dynamic();
        let report = facts.header.as_ref().is_some_and(Header::is_report);
        let validated_from = facts
            .authentication
            .as_ref()
            .and_then(AuthenticationResults::validated_from);
        let arrival = incoming.arrival();
        let reverse_path = &transaction.mail.reverse_path;
        let mut accept = Accept::default();
        let mut effects = ReturnEffects::default();
        let reading = OnceCell::new();
        let mut seen = HashSet::new();
        let recipients = transaction.recipients.iter().zip(&facts.recipients);
        for (rcpt, resolved) in recipients {
            let Some(rcpt_to) = self.recipient_address(&rcpt.forward_path) else {
                continue;
            };
            let mut reported: HashMap<&str, bool> = HashMap::new();
            for target in RecipientFacts::mailboxes(resolved) {
                // An account may have been removed since RCPT.
                let Some(account) = config.accounts.get(&target.account) else {
                    continue;
                };
                let mailbox = match junk {
                    true => &account.junk_mailbox,
                    false => &target.mailbox,
                };
                if !seen.insert((&target.account, mailbox)) {
                    continue;
                }
                let index = u32::try_from(accept.mails.len()).unwrap_or(u32::MAX);
                let arrived = Arrived {
                    account: &target.account,
                    reverse_path,
                    rcpt_to: &rcpt_to,
                    report,
                    authenticated: validated_from,
                };
                let is_told = match reported.get(target.account.as_str()) {
                    Some(is_told) => *is_told,
                    None => {
                        let reading =
                            reading.get_or_init(|| self.read_report(reverse_path, &text.text));
                        self.queue
                            .returned(&config, &arrived, reading, &mut effects)
                            .await?
                    }
                };
                reported.insert(&target.account, is_told);
                let mail = NewMail {
                    account: target.account.clone(),
                    mailbox: mailbox.clone(),
                    top: top.clone(),
                    text: TextSource::New,
                    size: top.len() + text.size,
                    received: now,
                    flags: Vec::new(),
                    dsn: report,
                    smtp: Some(arrival(&rcpt_to)),
                };
                // A report becomes an event of the message that it is about.
                if !is_told {
                    let hook = postrider_webhook::incoming(&mail, account, index);
                    accept.hooks.extend(hook);
                }
                accept.mails.push(mail);
            }
        }
        accept.notes = effects.notes;
        accept.hooks.extend(effects.hooks);
        accept.events = effects.events;
        accept.suppress = effects.suppress;
        Ok(accept)
    }

    /// The address of a recipient. The bare `<postmaster>` stands for postmaster at our host name
    /// (RFC 5321 §4.5.1).
    fn recipient_address(&self, path: &ForwardPath) -> Option<Address> {
        match path {
            ForwardPath::Mailbox(address) => Some(address.clone()),
            ForwardPath::Postmaster => Some(Address {
                local: LocalPart::parse("postmaster").ok()?,
                host: Host::Domain(self.statics.hostname.clone()),
            }),
        }
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
