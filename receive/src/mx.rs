//! The MX: mail from the internet for our own addresses.
//!
//! A recipient that is not ours is refused at RCPT, so that nothing has to be bounced later, and nothing is relayed.

use std::collections::HashSet;

use postrider_config::{Alias, Destination, Dynamic, Found, Target};
use postrider_queue::{
    Arrived, READ_MAX,
    header::{self, Header, Received},
    simulate::Stage,
};
use postrider_smtp::{
    Address, ForwardPath, Host, LocalPart, Reply, ReversePath,
    server::{Client, Handler, Login, MailFrom, RcptTo, Transaction},
};
use postrider_store::{Accept, Arrival, BodySource, NewBody, NewMail, StoreError};
use tracing::{info, warn};

use crate::{
    context::{SessionContext, loop_reply, no_message_reply, reply, store_reply},
    intake::{Edit, HOPS_MAX, Intake, Taken},
};

/// Where mail goes for which nothing else is said.
const INBOX: &str = "Inbox";

/// The policy of one MX session.
pub struct MxSession {
    shared: SessionContext,
    /// What this listener calls itself.
    hostname: String,
    /// Where the mail of each accepted recipient goes, in the order of the transaction.
    targets: Vec<Vec<Mailbox>>,
    message: Option<Incoming>,
}

/// A mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Mailbox {
    account: String,
    mailbox: String,
}

/// A message that is coming in.
struct Incoming {
    intake: Intake,
    /// Return-Path and Received.
    trace: Vec<u8>,
    facts: Facts,
}

/// What the header section says.
#[derive(Debug, Default)]
struct Facts {
    from: Option<Address>,
    message_id: String,
    dsn: bool,
}

impl MxSession {
    /// The policy of a new session.
    #[must_use]
    pub const fn new(shared: SessionContext, hostname: String) -> Self {
        Self {
            shared,
            hostname,
            targets: Vec::new(),
            message: None,
        }
    }

    /// Where mail for this address goes; Err refuses it.
    fn mailboxes(&self, from: &ReversePath, path: &ForwardPath) -> Result<Vec<Mailbox>, Reply> {
        let postmaster = &self.shared.statics.postmaster;
        let address = match path {
            ForwardPath::Mailbox(address) => address,
            ForwardPath::Postmaster => {
                let (account, mailbox) = (postmaster.account.clone(), postmaster.mailbox.clone());
                return Ok(vec![Mailbox { account, mailbox }]);
            }
        };
        let config = self.shared.dynamic();
        match config.lookup(address) {
            Some(found) => mailboxes(&config, from, address, &found),
            None if self.shared.simulate => Ok(any_recipient(&config)),
            None if config.is_local(&address.host) => {
                Err(reply(550, (1, 1), format!("there is no {address} here")))
            }
            None => Err(reply(
                550,
                (7, 1),
                format!("mail for {} is not taken here", address.host),
            )),
        }
    }

    /// The address that the bare `<postmaster>` stands for (RFC 5321 §4.5.1).
    fn postmaster_address(&self) -> Option<Address> {
        let local = LocalPart::parse("postmaster").ok()?;
        Some(Address {
            local,
            host: Host::Domain(self.shared.statics.hostname.clone()),
        })
    }

    /// One mailbox record for each mailbox, however many of its addresses were named.
    fn records(
        &self,
        client: &Client,
        transaction: &Transaction,
        facts: &Facts,
        taken: &Taken,
    ) -> Result<Accept, StoreError> {
        let now = self.shared.clock.now();
        let config = self.shared.dynamic();
        let mut accept = Accept::default();
        let mut seen = HashSet::new();
        for (rcpt, targets) in transaction.recipients.iter().zip(&self.targets) {
            let rcpt_to = match &rcpt.forward_path {
                ForwardPath::Mailbox(address) => Some(address.clone()),
                ForwardPath::Postmaster => self.postmaster_address(),
            };
            let Some(rcpt_to) = rcpt_to else { continue };
            let mut told = HashSet::new();
            for target in targets {
                // An account may have gone since RCPT.
                let Some(account) = config.accounts.get(&target.account) else {
                    continue;
                };
                if !seen.insert(target) {
                    continue;
                }
                let index = u32::try_from(accept.mails.len()).unwrap_or(u32::MAX);
                let arrived = Arrived {
                    account: &target.account,
                    reverse_path: &transaction.mail.reverse_path,
                    rcpt_to: &rcpt_to,
                    report: facts.dsn,
                };
                let text = || self.beginning(&taken.body);
                let returned = if told.insert(&target.account) {
                    self.shared.queue.returned(&config, &arrived, text)?
                } else {
                    None
                };
                let mail = NewMail {
                    account: target.account.clone(),
                    mailbox: target.mailbox.clone(),
                    body: BodySource::New,
                    size: taken.size,
                    received: now,
                    flags: Vec::new(),
                    dsn: facts.dsn,
                    smtp: Some(Arrival {
                        mail_from: transaction.mail.reverse_path.clone(),
                        rcpt_to: rcpt_to.clone(),
                        msg_from: facts.from.clone(),
                        mail_from_validated: false,
                        msg_from_validated: false,
                        dkim_domains: Vec::new(),
                        remote_ip: Some(client.remote.ip().to_canonical()),
                    }),
                };
                match returned {
                    // It is told as an event of the message that it is about.
                    Some(returned) => {
                        accept.notes.extend(returned.notes);
                        accept.hooks.extend(returned.hooks);
                        accept.events.extend(returned.events);
                        accept.suppress.extend(returned.suppress);
                    }
                    None => accept
                        .hooks
                        .extend(postrider_webhook::incoming(&mail, account, index)),
                }
                accept.mails.push(mail);
            }
        }
        Ok(accept)
    }

    /// As much of a text as is needed to see what it reports.
    fn beginning(&self, body: &NewBody) -> Vec<u8> {
        match self.shared.store.beginning(body, READ_MAX) {
            Ok(text) => text.to_vec(),
            Err(error) => {
                warn!(%error, "failed to read a mail that may be a report");
                Vec::new()
            }
        }
    }

    async fn take(&mut self, client: &Client, transaction: &Transaction) -> Result<Reply, Reply> {
        let Incoming {
            intake,
            trace,
            mut facts,
        } = self.message.take().ok_or_else(no_message_reply)?;
        let taken = intake
            .finish(|section| on_top(section, trace, &mut facts))
            .await?;
        let mut accept = self
            .records(client, transaction, &facts, &taken)
            .map_err(|error| store_reply(&error))?;
        if accept.mails.is_empty() {
            return Err(reply(
                451,
                (3, 0),
                "the mailbox is gone for now, try again later",
            ));
        }
        accept.body = Some(taken.body);
        let accepted = self
            .shared
            .store
            .accept(accept)
            .await
            .map_err(|error| store_reply(&error))?;
        let ids: Vec<String> = accepted.mails.iter().map(ToString::to_string).collect();
        let ids = ids.join(",");
        info!(
            mail = ids,
            from = %transaction.mail.reverse_path,
            message_id = facts.message_id,
            size = taken.size,
            remote = %client.remote,
            "mail received"
        );
        Ok(reply(250, (0, 0), format!("delivered as {ids}")))
    }
}

/// Reads the header section and gives what goes on top of it.
fn on_top(section: &[u8], trace: Vec<u8>, facts: &mut Facts) -> Result<Edit, Reply> {
    let header = Header::scan(section);
    if header.received_count() > HOPS_MAX {
        return Err(loop_reply());
    }
    *facts = Facts {
        from: header.from().cloned(),
        message_id: header.message_id().to_owned(),
        dsn: header.is_report(),
    };
    Ok(Edit {
        top: trace,
        section: None,
    })
}

/// Localserve takes any recipient for its account.
fn any_recipient(config: &Dynamic) -> Vec<Mailbox> {
    let inbox = |account: &String| Mailbox {
        account: account.clone(),
        mailbox: INBOX.into(),
    };
    config
        .accounts
        .keys()
        .next()
        .map(inbox)
        .into_iter()
        .collect()
}

fn mailboxes(
    config: &Dynamic,
    from: &ReversePath,
    address: &Address,
    found: &Found<'_>,
) -> Result<Vec<Mailbox>, Reply> {
    if found.disabled() {
        return Err(reply(
            451,
            (3, 0),
            format!("{} takes no mail for now, try again later", address.host),
        ));
    }
    match found.target {
        Target::Account {
            name, destination, ..
        } => Ok(vec![mailbox(name, destination)?]),
        Target::Alias { alias, .. } => members(config, from, address, alias),
    }
}

fn mailbox(account: &str, destination: &Destination) -> Result<Mailbox, Reply> {
    if let Some(error) = &destination.smtp_error {
        let text = if error.text.is_empty() {
            "this address takes no mail"
        } else {
            &error.text
        };
        return Err(reply(error.code, (2, 1), text.to_owned()));
    }
    let mailbox = if destination.mailbox.is_empty() {
        INBOX
    } else {
        &destination.mailbox
    };
    Ok(Mailbox {
        account: account.to_owned(),
        mailbox: mailbox.to_owned(),
    })
}

/// The mailboxes of a list's members. A list that is not public takes mail from its members only, as far as the
/// reverse-path tells.
fn members(
    config: &Dynamic,
    from: &ReversePath,
    address: &Address,
    alias: &Alias,
) -> Result<Vec<Mailbox>, Reply> {
    let account_of = |address: &Address| -> Option<String> {
        config.lookup(address)?.account().map(str::to_owned)
    };
    if !alias.post_public {
        let sender = from.address().and_then(account_of);
        let allowed = sender.is_some_and(|sender| {
            alias
                .addresses
                .iter()
                .any(|member| account_of(member).as_ref() == Some(&sender))
        });
        if !allowed {
            return Err(reply(
                550,
                (7, 2),
                format!("only its members may write to {address}"),
            ));
        }
    }
    let found = alias
        .addresses
        .iter()
        .filter_map(|member| match config.lookup(member)?.target {
            // A member that refuses mail does not keep the others from theirs.
            Target::Account {
                name, destination, ..
            } => mailbox(name, destination).ok(),
            Target::Alias { .. } => None,
        });
    let found: Vec<Mailbox> = found.collect();
    if found.is_empty() {
        return Err(reply(
            450,
            (2, 4),
            format!("no member of {address} takes mail now"),
        ));
    }
    Ok(found)
}

impl Handler for MxSession {
    async fn greeting(&mut self, _: &Client) -> Result<(), Reply> {
        Ok(())
    }

    async fn login(&mut self, _: &Client, _: &Login) -> Result<(), Reply> {
        Err(reply(
            502,
            (5, 1),
            "logins are for submission, on another port",
        ))
    }

    async fn mail(&mut self, _: &Client, mail: &MailFrom) -> Result<(), Reply> {
        let simulated = match &mail.reverse_path {
            ReversePath::Mailbox(address) => self.shared.simulated(&address.local, Stage::MailFrom),
            ReversePath::Null => None,
        };
        simulated.map_or(Ok(()), Err)
    }

    async fn rcpt(
        &mut self,
        _: &Client,
        transaction: &Transaction,
        rcpt: &RcptTo,
    ) -> Result<(), Reply> {
        if let ForwardPath::Mailbox(address) = &rcpt.forward_path
            && let Some(reply) = self.shared.simulated(&address.local, Stage::RcptTo)
        {
            return Err(reply);
        }
        let mailboxes = self.mailboxes(&transaction.mail.reverse_path, &rcpt.forward_path)?;
        self.targets.push(mailboxes);
        Ok(())
    }

    async fn data(&mut self, client: &Client, transaction: &Transaction) -> Result<(), Reply> {
        let mut trace =
            format!("Return-Path: <{}>\r\n", transaction.mail.reverse_path).into_bytes();
        let id = header::random_id(&mut rand::rng());
        let now = self.shared.clock.now();
        let received = Received::smtp(&self.hostname, client, transaction, id, now);
        trace.extend_from_slice(received.to_string().as_bytes());
        let intake = Intake::new(
            self.shared.store.body_writer(),
            self.shared.statics.limits.header_size.0,
        );
        self.message = Some(Incoming {
            intake,
            trace,
            facts: Facts::default(),
        });
        Ok(())
    }

    async fn body(&mut self, chunk: &[u8]) -> Result<(), Reply> {
        let Incoming {
            intake,
            trace,
            facts,
        } = self.message.as_mut().ok_or_else(no_message_reply)?;
        intake
            .write(chunk, |section| {
                on_top(section, std::mem::take(trace), facts)
            })
            .await
    }

    async fn end(&mut self, client: &Client, transaction: &Transaction) -> Reply {
        for rcpt in &transaction.recipients {
            if let ForwardPath::Mailbox(address) = &rcpt.forward_path
                && let Some(reply) = self.shared.simulated(&address.local, Stage::Data)
            {
                self.reset();
                return reply;
            }
        }
        let reply = self
            .take(client, transaction)
            .await
            .unwrap_or_else(|refusal| refusal);
        self.reset();
        reply
    }

    fn reset(&mut self) {
        self.targets.clear();
        self.message = None;
    }
}
