//! The transactions of an attempt: which messages go together, their envelopes, and what the
//! replies mean.

use std::io;

use bytes::Bytes;
use postrider_config::{Dynamic, RequireTls};
use postrider_smtp::{
    BodyType, Cause, DeliveryStatus, EnhancedCode, Notify as SmtpNotify, Ret, Stage,
    bounce::Class,
    client::{
        Again, Connection, Envelope, Extensions, MessageSource, OutgoingMessage, OutgoingResult,
        Prefixed, Recipient, RecipientResult,
    },
    convert::Form,
};
use postrider_store::{Moment, Pieces, Queued, Scratch, StoreError, Time, Transaction};

use super::{
    Sent,
    attempt::OngoingAttempt,
    connections::count_lost,
    conversion::{self, Formed},
    happenings::Happened,
    paused::sender_domain,
    transcripts::Ends,
};
use crate::{
    Queue, deadline, header, passed::is_sent, schedule::BATCH, settle::LastHop, tracking::Track,
};

/// How often recipients that were too many for a transaction are sent in another one.
const TRANSACTIONS_MAX: usize = 100;

/// A stored message, as the client reads it. If its text is damaged, the client does not get the
/// last piece, so the transaction ends without its final dot.
pub(super) struct StoredMessage {
    pieces: Pieces,
    /// Where a converted text is.
    _scratch: Option<Scratch>,
}

/// A message with its DKIM-Signature fields in front of it. An unsigned message has none.
type SignedMessage = Prefixed<StoredMessage>;

impl From<Formed> for StoredMessage {
    fn from(formed: Formed) -> Self {
        let (message, scratch) = formed.into_parts();
        Self {
            pieces: message.into_pieces(),
            _scratch: scratch,
        }
    }
}

/// A host, as far as its transactions depend on it.
struct Host<'a> {
    name: &'a str,
    extensions: &'a Extensions,
    /// It has the mailboxes (RFC 2033).
    lmtp: bool,
    /// What goes there does not leave this machine.
    stays: bool,
}

/// The transactions that go out together.
#[derive(Default)]
struct Batch {
    /// The messages of each.
    groups: Vec<Vec<Queued>>,
    outgoing: Vec<OutgoingMessage<SignedMessage>>,
    /// Some messages have to wait for the next batch.
    more: bool,
}

/// Why a transaction can't begin.
enum Unready {
    /// By a fault of ours.
    Ours(DeliveryStatus),
    /// The host lacks what the messages need.
    Host(DeliveryStatus),
}

impl MessageSource for StoredMessage {
    fn size(&self) -> u64 {
        self.pieces.message().len()
    }

    async fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let piece = self.pieces.piece(offset, max as u64).await;
        piece.map_err(io::Error::other)
    }
}

impl OngoingAttempt<'_> {
    /// Sends the pending messages to a peer, in as many transactions as that takes, but no more
    /// than the connection may have. `sent` counts them. When the time of the attempt is over, no
    /// further message begins, and neither does one that is paused or makes way for others.
    pub(super) async fn send(
        &mut self,
        connection: &mut Connection,
        ends: Ends<'_>,
        sent: &mut Sent,
    ) {
        let lacks = &self.lacks;
        let lacking = |(message, _): &mut (Queued, _)| lacks.has(message.id, ends.host);
        let aside: Vec<_> = self.pending.extract_if(.., lacking).collect();
        self.send_all(connection, ends, sent).await;
        self.withdraw();
        self.give_back();
        self.pending.extend(aside);
    }

    async fn send_all(&mut self, connection: &mut Connection, ends: Ends<'_>, sent: &mut Sent) {
        let (host, stays) = (ends.host, self.stays(ends.peer));
        connection.begin_none_after(self.end_of_time().into_std());
        for _ in 0..TRANSACTIONS_MAX {
            let left = self.plan.provider.messages_per_connection;
            let left = left.saturating_sub(sent.transactions);
            self.withdraw();
            self.give_back();
            if self.pending.is_empty() || !connection.usable() || left == 0 {
                return;
            }
            let before = self.pending.len();
            let tokens = self.take_from(ends.source, ends.peer);
            // Messages without a token of the source wait, or another source takes them.
            let over = match &tokens {
                Some(tokens) => self.pending.split_off(tokens.count.min(before)),
                None => Vec::new(),
            };
            if self.pending.is_empty() {
                self.pending = over;
                return;
            }
            let dsn = connection.extensions().dsn;
            let to = Host {
                name: host,
                extensions: connection.extensions(),
                lmtp: self.plan.way.is_last(),
                stays,
            };
            let Batch {
                groups,
                outgoing: batch,
                more,
            } = self.transactions(left, &to).await;
            let hop = match dsn {
                true => LastHop::SendsDsns,
                false if self.plan.way.is_last() => LastHop::Mailbox,
                false => LastHop::SendsNoDsns,
            };
            let began = self.queue.clock.moment();
            connection.begin_if(self.may_begin(&groups));
            let results = connection.send(batch).await;
            count_lost(&self.queue.metrics, &results, connection.usable());
            let begun = || results.iter().filter(|result| !was_not_begun(result));
            if let Some(tokens) = tokens {
                let used = begun().map(|result| result.recipients.len()).sum();
                self.put_back_from(ends.source, tokens, used);
            }
            let transactions = begun().count();
            sent.transactions += transactions;
            sent.took += self.queue.clock.moment().since(began);
            self.observe(&results, transactions, ends, began);
            self.transcripts.sent(ends, connection, &groups, &results);
            self.traced.sent(&self.happenings, &groups);
            let mut again = more;
            for (group, result) in groups.into_iter().zip(results) {
                let mut recipients = result.recipients.iter();
                let taken = recipients.any(|result| result.status.is_success());
                for (message, result) in group.into_iter().zip(result.recipients) {
                    let result = (result, taken);
                    let waits = self.take_result(message, result, (hop, ends, began));
                    again = again || waits;
                }
            }
            self.pending.extend(over);
            if !again || self.pending.len() == before {
                return;
            }
        }
    }

    /// What follows for a message from its result. `taken`: the host took the transaction for some
    /// recipient. Gives whether the message needs another transaction.
    fn take_result(
        &mut self,
        message: Queued,
        (mut result, taken): (RecipientResult, bool),
        (hop, ends, began): (LastHop, Ends<'_>, Moment),
    ) -> bool {
        self.hear(&result.status, ends.source);
        self.hear_of_sender(&message, &result.status, began);
        if taken && self.is_told_to_split(&result.status) {
            result.again = Again::NewTransaction;
            result.status.permanent = false;
        }
        let again = result.again == Again::NewTransaction;
        let is_last = result.status.is_success() || result.status.permanent;
        if !is_last {
            let said = || Happened::Said(message.id, Box::new(result.status.clone()));
            self.happenings.note(said);
        }
        if result.again == Again::AnotherHost {
            self.lacks
                .note(message.id, ends.host, result.status.clone());
            self.pending.push((message, result.status));
            return again;
        }
        let Some(message) = self.set_aside(message, &result.status, (hop, ends)) else {
            return again;
        };
        if result.again == Again::No && !result.status.is_success() {
            self.begin(message.id, result.status.clone());
        }
        if is_last {
            self.end(message, result.status, hop);
        } else {
            self.may_pass = true;
            self.pending.push((message, result.status));
        }
        again
    }

    /// A rule of the provider says that a recipient was one too many, of a transaction that the
    /// server took for others.
    fn is_told_to_split(&self, status: &DeliveryStatus) -> bool {
        let rule = self.plan.rule_for(status);
        let is_split = rule.is_some_and(|rule| rule.class == Class::Split);
        is_split && status.stage() == Some(Stage::Rcpt)
    }

    /// What the results of a batch of transactions show of the site.
    fn observe(
        &mut self,
        results: &[OutgoingResult],
        transactions: usize,
        ends: Ends<'_>,
        began: Moment,
    ) {
        let (pace, now) = (&self.slot.pace, self.queue.clock.moment());
        let from = Some(ends.source);
        let all = || results.iter().flat_map(|result| &result.recipients);
        let taken = all().filter(|result| result.status.is_success()).count();
        let counts = (taken, transactions);
        let learnt = pace.succeeded(counts, now.since(began), from, now);
        if taken == all().count() && !learnt {
            return;
        }
        for result in all().filter(|result| !result.status.is_success()) {
            // A connection fails once, whatever the number of its messages.
            let rule = self.plan.rule_for(&result.status);
            let rule = (rule, result.again);
            if !pace.observe_result(&result.status, rule, from, (began, now)) {
                break;
            }
        }
        self.queue.sites.note_soon();
        self.taken_over = self.is_taken_over(ends.source, ends.peer);
    }

    /// What the result of a message shows of its sender's domain.
    fn hear_of_sender(&self, message: &Queued, status: &DeliveryStatus, began: Moment) {
        let (rule, now) = (self.plan.rule_for(status), self.queue.clock.moment());
        let domain = sender_domain(message);
        let pace = &self.slot.pace;
        pace.observe_sender(&domain, status, rule, (began, now));
    }

    /// Takes pending messages into transactions, `most` and [`BATCH`] at most. Messages that share
    /// top, text, reverse-path and the recipient's domain share a transaction: some providers
    /// refuse a transaction for several domains.
    ///
    /// If the host supports DSN, transactions of mail that we sent get ENVIDs of their own. The
    /// store knows these before MAIL is sent.
    ///
    /// Of the large messages that have to be converted, one goes at a time.
    async fn transactions(&mut self, most: usize, host: &Host<'_>) -> Batch {
        let max = self.plan.provider.recipients_per_transaction;
        let most = most.min(BATCH);
        let mut groups: Vec<Vec<Queued>> = Vec::new();
        let (mut heavy, mut more) = (false, false);
        for (message, status) in std::mem::take(&mut self.pending) {
            if self.lacks.has(message.id, host.name) {
                self.pending.push((message, status));
                continue;
            }
            let fits = |group: &Vec<Queued>| {
                group.len() < max
                    && group.first().is_some_and(|first| {
                        // Each recipient of a tracked message gets a text of its own.
                        Track::of(&message.top).is_none()
                            && first.text == message.text
                            && first.top == message.top
                            && first.reverse_path == message.reverse_path
                            && first.recipient.host == message.recipient.host
                            && first.common.urgency == message.common.urgency
                            && first.common.require_tls == message.common.require_tls
                    })
            };
            let place = groups.iter().rposition(fits);
            let full = groups.len() >= most;
            match place.and_then(|at| groups.get_mut(at)) {
                Some(group) => group.push(message),
                None if full => self.pending.push((message, status)),
                None => {
                    let is_heavy = message.common.size > conversion::HEAVY
                        && host.form_for(std::slice::from_ref(&message)) != Form::AsIs;
                    if is_heavy && std::mem::replace(&mut heavy, true) {
                        more = true;
                        self.pending.push((message, status));
                    } else {
                        groups.push(vec![message]);
                    }
                }
            }
        }
        let mut batch = Batch {
            groups: Vec::with_capacity(groups.len()),
            outgoing: Vec::with_capacity(groups.len()),
            more,
        };
        let envids: Vec<Option<String>> = groups
            .iter()
            .map(|group| self.queue.own_envid(group).filter(|_| host.extensions.dsn))
            .collect();
        // The store answers while the messages are read and signed.
        let (begun, outgoing) = tokio::join!(self.queue.begin(&groups, &envids), async {
            let mut all = Vec::with_capacity(groups.len());
            for (group, envid) in groups.iter().zip(&envids) {
                all.push(
                    self.queue
                        .outgoing(self.config, host, group, envid.as_deref())
                        .await,
                );
            }
            all
        });
        let unknown = begun.err().map(|error| local(error.to_string()));
        for ((group, outgoing), envid) in groups.into_iter().zip(outgoing).zip(envids) {
            let outgoing = match &unknown {
                Some(status) if envid.is_some() => Err(Unready::Ours(status.clone())),
                _ => outgoing,
            };
            match outgoing {
                Ok(outgoing) => {
                    batch.outgoing.push(outgoing);
                    batch.groups.push(group);
                }
                Err(Unready::Ours(status)) => {
                    for message in group {
                        self.postpone_for_us(message, status.clone());
                    }
                }
                Err(Unready::Host(status)) => {
                    for message in group {
                        self.lacks.note(message.id, host.name, status.clone());
                        self.pending.push((message, status.clone()));
                    }
                }
            }
        }
        batch
    }
}

/// Whether a transaction was not begun, by a decision of ours.
fn was_not_begun(result: &OutgoingResult) -> bool {
    let mut recipients = result.recipients.iter();
    recipients.all(|it| it.again == Again::NewConnection && it.status.cause == Cause::Local)
}

impl Host<'_> {
    fn form_for(&self, group: &[Queued]) -> Form {
        conversion::form_for(group, self.extensions, self.lmtp)
    }
}

/// A failure of our own.
fn local(text: String) -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Local, EnhancedCode::SYSTEM_TRANSIENT, text)
}

impl Queue {
    /// A new ENVID for a transaction of these messages. None if the submitter gave one, which goes
    /// along unchanged, if reports come to a fromid, or if others sent the message: a relay adds
    /// none (RFC 3461 §5.2.1).
    fn own_envid(&self, group: &[Queued]) -> Option<String> {
        let first = group.first()?;
        let needed = is_sent(first) && first.common.envid.is_empty() && first.from_id.is_empty();
        needed.then(|| header::timed_id(&mut *self.rng(), self.clock.now()))
    }

    /// Has the store keep the ENVIDs of transactions. This does not wait for the disk.
    async fn begin(
        &self,
        groups: &[Vec<Queued>],
        envids: &[Option<String>],
    ) -> Result<(), StoreError> {
        let transactions: Vec<Transaction> = groups
            .iter()
            .zip(envids)
            .filter_map(|(group, envid)| {
                Some(Transaction {
                    envid: envid.clone()?,
                    messages: group.iter().map(|message| message.id).collect(),
                })
            })
            .collect();
        match transactions.is_empty() {
            true => Ok(()),
            false => self.store.begin(transactions).await,
        }
    }

    /// One transaction, for messages that share top, text, reverse-path and domain.
    async fn outgoing(
        &self,
        config: &Dynamic,
        host: &Host<'_>,
        group: &[Queued],
        own_envid: Option<&str>,
    ) -> Result<OutgoingMessage<SignedMessage>, Unready> {
        let ours = |text: String| Unready::Ours(local(text));
        let Some(first) = group.first() else {
            return Err(ours("empty transaction".to_owned()));
        };
        let stored = async || {
            let stored = self.store.queued_message(first).await;
            stored.map_err(|error| ours(error.to_string()))
        };
        let tracked = match Track::of(&first.top).is_none() {
            true => None,
            false => {
                let tracked = self.with_tracking(config, first, stored().await?).await;
                Some(tracked.map_err(ours)?)
            }
        };
        let converted = match host.form_for(group) {
            Form::AsIs => tracked,
            form => {
                let message = match &tracked {
                    Some(tracked) => tracked.message().clone(),
                    None => stored().await?,
                };
                match self.formed(message, form).await.map_err(ours)? {
                    Ok(formed) => Some(match tracked {
                        Some(tracked) => formed.made_of(tracked),
                        None => formed,
                    }),
                    Err(_) if conversion::may_stay(&first.common, form) => tracked,
                    Err(reason) => {
                        return Err(Unready::Host(conversion::lack(host.name, form, reason)));
                    }
                }
            }
        };
        let prefix = self.signature(config, first, converted.as_ref()).await;
        let prefix = prefix.map_err(ours)?;
        let formed = match converted {
            Some(formed) => formed,
            None => Formed::as_is(stored().await?),
        };
        let mut envelope = envelope(first, group, own_envid, self.clock.now());
        conversion::set_form(&mut envelope, &first.common, formed.form());
        let extension = self.statics.delivery.require_tls == RequireTls::Enforce;
        envelope.require_tls &= !host.stays && extension;
        let source = Prefixed {
            prefix,
            message: formed.into(),
        };
        Ok(OutgoingMessage { envelope, source })
    }
}

fn envelope(first: &Queued, group: &[Queued], own_envid: Option<&str>, now: Time) -> Envelope {
    let common = &first.common;
    Envelope {
        reverse_path: first.reverse_path.clone(),
        // The form of the text says what it has.
        body_type: BodyType::SevenBit,
        smtputf8: false,
        require_tls: common.require_tls == Some(true),
        ret: common
            .ret_full
            .map(|full| if full { Ret::Full } else { Ret::Headers }),
        envid: match common.envid.as_str() {
            "" => own_envid.map(str::to_owned),
            given => Some(given.to_owned()),
        },
        delivery: deadline::options(first, now),
        recipients: group.iter().map(recipient).collect(),
    }
}

fn recipient(message: &Queued) -> Recipient {
    let notify = message.notify;
    Recipient {
        address: message.recipient.clone(),
        notify: notify.given.then_some(SmtpNotify {
            success: notify.success,
            failure: notify.failure,
            delay: notify.delay,
        }),
        orcpt: Some(message.orcpt.clone()).filter(|orcpt| !orcpt.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use postrider_store::{Options, Store};

    use super::*;

    /// As much as the client asks for.
    const PIECE: usize = 64 * 1024;
    const SIZE: usize = 300_000;

    async fn read_all(message: StoredMessage) -> Result<usize, usize> {
        let mut read = 0;
        while (read as u64) < message.size() {
            match message.read(read as u64, PIECE).await {
                Ok(piece) => read += piece.len(),
                Err(_) => return Err(read),
            }
        }
        Ok(read)
    }

    fn only_text_file(dir: &Path) -> std::path::PathBuf {
        let folders = std::fs::read_dir(dir.join("texts")).unwrap();
        let mut files =
            folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        files.next().unwrap().unwrap().path()
    }

    /// The client ends the connection when it can't read a piece, so no final dot goes out.
    #[tokio::test]
    async fn the_end_of_a_damaged_message_is_never_sent() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(dir.path())).unwrap();
        let mut writer = store.text_writer();
        writer.write(&vec![b'x'; SIZE]).await.unwrap();
        let id = store.stage(writer.finish().await.unwrap()).await.unwrap();
        let stored = async || {
            let message = postrider_store::Message::from(store.text(id).await.unwrap());
            StoredMessage::from(Formed::as_is(message))
        };
        assert_eq!(read_all(stored().await).await, Ok(SIZE));
        let file = only_text_file(dir.path());
        let mut content = std::fs::read(&file).unwrap();
        content[10] = b'y';
        std::fs::write(&file, content).unwrap();
        let read = read_all(stored().await).await.unwrap_err();
        assert!((SIZE - PIECE..SIZE).contains(&read), "{read}");
        store.close().await;
    }
}
