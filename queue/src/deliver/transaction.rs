//! The transactions of an attempt: which messages go together, their envelopes, and what the
//! replies mean.

use std::io;

use bytes::Bytes;
use postrider_config::{Dynamic, RequireTls};
use postrider_smtp::{
    BodyType, Cause, DeliveryStatus, EnhancedCode, Notify as SmtpNotify, Ret,
    client::{
        Again, Connection, Envelope, MessageSource, OutgoingMessage, OutgoingResult, Prefixed,
        Recipient,
    },
};
use postrider_store::{Moment, Pieces, Queued, StoreError, Time, Transaction};

use super::{addresses::Peer, attempt::OngoingAttempt};
use crate::{Queue, deadline, header, passed::is_sent, schedule::BATCH, settle::LastHop};

/// How often recipients that were too many for a transaction are sent in another one.
const TRANSACTIONS_MAX: usize = 100;

/// A stored message, as the client reads it. If its text is damaged, the client does not get the
/// last piece, so the transaction ends without its final dot.
pub(super) struct StoredMessage(Pieces);

/// A message with its DKIM-Signature fields in front of it. An unsigned message has none.
type SignedMessage = Prefixed<StoredMessage>;

impl MessageSource for StoredMessage {
    fn size(&self) -> u64 {
        self.0.message().len()
    }

    async fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let piece = self.0.piece(offset, max as u64).await;
        piece.map_err(io::Error::other)
    }
}

impl OngoingAttempt<'_> {
    /// Sends the pending messages to a peer, in as many transactions as that takes, but no more
    /// than the connection may have. `sent` counts them. When the time of the attempt is over, no
    /// further message begins.
    pub(super) async fn send(
        &mut self,
        connection: &mut Connection,
        (host, peer): (&str, &Peer),
        sent: &mut usize,
    ) {
        let lacks = &self.lacks;
        let lacking = |(message, _): &mut (Queued, _)| lacks.has(message.id, host);
        let aside: Vec<_> = self.pending.extract_if(.., lacking).collect();
        self.send_all(connection, host, self.stays(peer), sent)
            .await;
        self.pending.extend(aside);
    }

    async fn send_all(
        &mut self,
        connection: &mut Connection,
        host: &str,
        stays: bool,
        sent: &mut usize,
    ) {
        connection.begin_none_after(self.end_of_time().into_std());
        for _ in 0..TRANSACTIONS_MAX {
            let left = self.plan.provider.messages_per_connection;
            let left = left.saturating_sub(*sent);
            if self.pending.is_empty() || !connection.usable() || left == 0 {
                return;
            }
            let before = self.pending.len();
            let dsn = connection.extensions().dsn;
            let (groups, batch) = self.transactions(left, dsn, stays).await;
            *sent += batch.len();
            let hop = match dsn {
                true => LastHop::SendsDsns,
                false if self.plan.way.is_last() => LastHop::Mailbox,
                false => LastHop::SendsNoDsns,
            };
            let (began, transactions) = (self.queue.clock.moment(), batch.len());
            let results = connection.send(batch).await;
            self.observe(&results, transactions, began);
            let mut again = false;
            for (group, result) in groups.into_iter().zip(results) {
                for (message, result) in group.into_iter().zip(result.recipients) {
                    self.hear(&result.status);
                    again = again || result.again == Again::NewTransaction;
                    if result.again == Again::AnotherHost {
                        self.lacks.note(message.id, host, result.status.clone());
                        self.pending.push((message, result.status));
                        continue;
                    }
                    if result.again == Again::No && !result.status.is_success() {
                        self.begin(message.id, result.status.clone());
                    }
                    if result.status.is_success() || result.status.permanent {
                        self.end(message, result.status, hop);
                    } else {
                        self.may_pass = true;
                        self.pending.push((message, result.status));
                    }
                }
            }
            if !again || self.pending.len() == before {
                return;
            }
        }
    }

    /// What the results of a batch of transactions show of the site.
    fn observe(&self, results: &[OutgoingResult], transactions: usize, began: Moment) {
        let (pace, now) = (&self.slot.pace, self.queue.clock.moment());
        let all = || results.iter().flat_map(|result| &result.recipients);
        let taken = all().filter(|result| result.status.is_success()).count();
        pace.succeeded(taken, transactions, now.since(began), now);
        if taken == all().count() {
            return;
        }
        for result in all().filter(|result| !result.status.is_success()) {
            // A connection fails once, whatever the number of its messages.
            let rule = self.plan.rule_for(&result.status);
            if !pace.observe_result(&result.status, rule, result.again, now) {
                break;
            }
        }
        self.queue.sites.note_soon();
    }

    /// Takes pending messages into transactions, `most` and [`BATCH`] at most. Messages that share
    /// top, text, reverse-path and the recipient's domain share a transaction: some providers
    /// refuse a transaction for several domains.
    ///
    /// If the host supports DSN, transactions of mail that we sent get ENVIDs of their own. The
    /// store knows these before MAIL is sent.
    async fn transactions(
        &mut self,
        most: usize,
        dsn: bool,
        stays: bool,
    ) -> (Vec<Vec<Queued>>, Vec<OutgoingMessage<SignedMessage>>) {
        let max = self.plan.provider.recipients_per_transaction;
        let most = most.min(BATCH);
        let mut groups: Vec<Vec<Queued>> = Vec::new();
        for (message, status) in std::mem::take(&mut self.pending) {
            let fits = |group: &Vec<Queued>| {
                group.len() < max
                    && group.first().is_some_and(|first| {
                        first.text == message.text
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
                None => groups.push(vec![message]),
            }
        }
        let mut ready = Vec::with_capacity(groups.len());
        let mut batch = Vec::with_capacity(groups.len());
        let envids: Vec<Option<String>> = groups
            .iter()
            .map(|group| self.queue.own_envid(group).filter(|_| dsn))
            .collect();
        // The store answers while the messages are read and signed.
        let (begun, outgoing) = tokio::join!(self.queue.begin(&groups, &envids), async {
            let mut all = Vec::with_capacity(groups.len());
            for (group, envid) in groups.iter().zip(&envids) {
                all.push(
                    self.queue
                        .outgoing(self.config, stays, group, envid.as_deref())
                        .await,
                );
            }
            all
        });
        let unknown = begun.err().map(|error| local(error.to_string()));
        for ((group, outgoing), envid) in groups.into_iter().zip(outgoing).zip(envids) {
            let outgoing = match &unknown {
                Some(status) if envid.is_some() => Err(status.clone()),
                _ => outgoing,
            };
            match outgoing {
                Ok(outgoing) => {
                    batch.push(outgoing);
                    ready.push(group);
                }
                Err(status) => {
                    for message in group {
                        self.postpone_for_us(message, status.clone());
                    }
                }
            }
        }
        (ready, batch)
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

    /// One transaction, for messages that share top, text, reverse-path and domain. `stays`: they
    /// do not leave this machine.
    async fn outgoing(
        &self,
        config: &Dynamic,
        stays: bool,
        group: &[Queued],
        own_envid: Option<&str>,
    ) -> Result<OutgoingMessage<SignedMessage>, DeliveryStatus> {
        let Some(first) = group.first() else {
            return Err(local("empty transaction".to_owned()));
        };
        let prefix = self.signature(config, first).await.map_err(local)?;
        let stored = self.store.queued_message(first).await;
        let stored = stored.map_err(|error| local(error.to_string()))?;
        let source = Prefixed {
            prefix,
            message: StoredMessage(stored.into_pieces()),
        };
        let mut envelope = envelope(first, group, own_envid, self.clock.now());
        let extension = self.statics.delivery.require_tls == RequireTls::Enforce;
        envelope.require_tls &= !stays && extension;
        Ok(OutgoingMessage { envelope, source })
    }
}

fn envelope(first: &Queued, group: &[Queued], own_envid: Option<&str>, now: Time) -> Envelope {
    let common = &first.common;
    Envelope {
        reverse_path: first.reverse_path.clone(),
        body_type: if common.eight_bit {
            BodyType::EightBitMime
        } else {
            BodyType::SevenBit
        },
        smtputf8: common.smtputf8,
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
            StoredMessage(message.into_pieces())
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
