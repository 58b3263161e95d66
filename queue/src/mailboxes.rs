//! Mail for a domain of `domains.conf` that no route leads elsewhere: it goes to the mailboxes of
//! this server, without DNS and without a connection.
//!
//! What an address means is the affair of the crate that receives mail. It gives itself to the
//! queue as [`Mailboxes`]. The result is settled here as that of any attempt, so that the message
//! has one end.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use postrider_config::Dynamic;
use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode, Reply};
use postrider_store::{
    Accept, NewArrivedReport, NewMail, NewMessage, Queued, Settle, StoreError, TextSource,
};

use crate::{
    Queue,
    settle::{EndedAttempt, LastHop, Postponed},
    told::{News, Settlement, Telling},
    tracking::unmarked,
};

/// How long a message waits if the mailboxes can't be used.
const PAUSE: Duration = Duration::from_secs(60);

/// What the mailboxes of this server make of a queued message.
#[derive(Debug)]
pub struct Taken {
    /// The reply that a client would get: 250, or the refusal.
    pub reply: Reply,
    /// The command that has the reply: `RCPT`, or `end of data`.
    pub command: &'static str,
    /// Where the message goes, if it is taken.
    pub way: TakenWay,
    /// What is to be stored: mail, messages that go on, and what a report says of earlier
    /// messages. All of it has the text of the message, which is stored already.
    pub records: Accept,
    /// Tells of it, when all of that is stored.
    pub told: Option<Telling>,
}

/// Where a message goes that the mailboxes of this server take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenWay {
    /// Into mailboxes, perhaps also on. It is delivered.
    Mailbox,
    /// On to one address, whose server reports the delivery.
    On,
    /// On to several addresses. Nobody reports their deliveries.
    OnToSeveral,
}

/// The future of [`Mailboxes::take`].
pub type Taking<'a> = Pin<Box<dyn Future<Output = Result<Taken, StoreError>> + Send + 'a>>;

/// The mailboxes of this server.
pub trait Mailboxes: Send + Sync {
    /// Decides what becomes of a queued message for an address of ours, as if it had come in by
    /// SMTP. Nothing is stored or told yet. Another call may repeat the same.
    ///
    /// # Errors
    /// If the store can't be read. The message waits then.
    fn take<'a>(&'a self, config: &'a Dynamic, message: &'a Queued) -> Taking<'a>;
}

impl Queue {
    /// Delivers mail for our own domains into these mailboxes from now on. Without them such mail
    /// waits. The queue does not keep them alive.
    pub fn use_mailboxes(&self, mailboxes: &Arc<dyn Mailboxes>) {
        // The first ones stay.
        let _ = self.mailboxes.set(Arc::downgrade(mailboxes));
    }

    /// Attempts one message for a domain of ours.
    pub(crate) async fn deliver_to_mailbox(
        &self,
        config: &Dynamic,
        mut message: Queued,
    ) -> Settlement {
        if let Some(top) = unmarked(&message.top) {
            message.top = top;
        }
        let (start, text) = (self.clock.now(), TextSource::Existing(message.text));
        let mailboxes = self.mailboxes.get().and_then(Weak::upgrade);
        let taken = match mailboxes {
            Some(mailboxes) => {
                let taken = mailboxes.take(config, &message).await;
                taken.map_err(|error| error.to_string())
            }
            None => Err("the mailboxes of this server are not in use".to_owned()),
        };
        let taken = match taken {
            Ok(taken) => self.keep_notes(taken).await,
            Err(error) => Err(error),
        };
        let taken = match taken {
            Ok(taken) => taken,
            Err(text) => {
                let code = EnhancedCode::SYSTEM_TRANSIENT;
                let postponed = Postponed {
                    message,
                    status: DeliveryStatus::transient(Cause::Local, code, text),
                    until: start.after(PAUSE),
                    failing: false,
                };
                return self.postponement(config, postponed).await;
            }
        };
        let status = DeliveryStatus::from_reply(&taken.reply, taken.command);
        let ended = EndedAttempt {
            message,
            status: status.with_remote(self.statics.hostname.ascii()),
            known: None,
            block: self.usual_block(),
            start,
            hop: match taken.way {
                TakenWay::Mailbox => LastHop::Mailbox,
                TakenWay::On => LastHop::SendsDsns,
                TakenWay::OnToSeveral => LastHop::SendsNoDsns,
            },
            tried: true,
            trace: 0,
        };
        let mut settlement = self.settlement_alone(config, ended).await;
        if let Some(telling) = taken.told {
            settlement.add(News::Taken(telling));
        }
        add(taken.records, text, &mut settlement.settle);
        settlement
    }

    /// Keeps the notes about earlier messages: a settlement has none. After a crash they are made
    /// once more.
    async fn keep_notes(&self, mut taken: Taken) -> Result<Taken, String> {
        let notes = std::mem::take(&mut taken.records.notes);
        if !notes.is_empty() {
            let accept = Accept {
                notes,
                ..Accept::default()
            };
            let kept = self.store.accept(accept).await;
            kept.map_err(|error| error.to_string())?;
        }
        Ok(taken)
    }
}

/// Adds the records of a message that is taken to its settlement. All have its text.
fn add(records: Accept, text: TextSource, settle: &mut Settle) {
    let mails = records.mails.into_iter();
    // A member of a list that refuses the message keeps it with what it refuses.
    let refused = records.rejects.into_iter().map(|reject| reject.mail);
    let mails = mails.chain(refused).map(|mail| NewMail { text, ..mail });
    // A hook names a mail by its place, so these come first.
    settle.mails.splice(0..0, mails);
    let onward = records.queue.into_iter();
    settle
        .queue
        .extend(onward.map(|message| NewMessage { text, ..message }));
    settle.hooks.extend(records.hooks);
    settle.events.extend(records.events);
    settle.suppress.extend(records.suppress);
    let reports = records.reports.into_iter();
    settle
        .reports
        .extend(reports.map(|report| NewArrivedReport { text, ..report }));
}
