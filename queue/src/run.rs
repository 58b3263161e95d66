//! The driver of the queue: claims what is due, hands it to workers, and waits for the next thing to happen.
//!
//! There is one worker for each connection. It asks the store for more of its destination's messages itself, and is idle, its
//! connection open, for a little while when there are none. What is queued but not in flight costs no memory here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use postrider_config::Dynamic;
use postrider_store::{Claim, Destination, Queued, Settle, Time};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::{error, warn};

use crate::{
    Delivery, Queue,
    deliver::Kept,
    explain::Limits,
    route::{self, Route},
    schedule::{BATCH, InFlight, LEASE},
};

/// How long to wait before the store is asked again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// What a worker tells.
enum Note {
    /// It has nothing to do and waits, its connection open.
    Idle {
        destination: Destination,
        inbox: Inbox,
    },
    /// It is gone.
    Ended { destination: Destination },
}

/// What reaches a worker that waits.
type Inbox = mpsc::Sender<Vec<Queued>>;

impl Queue {
    /// Delivers what is due until `shutdown` says so; then waits for the attempts that are under way.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut changed = self.store.queue_changed();
        let (notes, mut inbox) = mpsc::channel(64);
        let mut workers = JoinSet::new();
        let mut in_flight = InFlight::default();
        while !*shutdown.borrow() {
            changed.mark_unchanged();
            let claim = in_flight.claim(self.clock.now(), &self.statics.queue);
            *self.limits() = Limits {
                all: claim.is_none(),
                full: claim
                    .as_ref()
                    .map(|claim| claim.except.clone())
                    .unwrap_or_default(),
            };
            let wake = match claim {
                // Without room the next worker's end is what is waited for.
                None => None,
                Some(claim) => {
                    self.claim_and_begin(claim, &mut in_flight, &notes, &mut workers)
                        .await
                }
            };
            let due = async {
                match wake {
                    Some(time) => self.clock.sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = due => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
                Some(note) = inbox.recv() => note_taken(note, &mut in_flight),
                Some(ended) = workers.join_next() => {
                    if let Err(panic) = ended {
                        error!(%panic, "a delivery worker failed; its messages are claimed until the next start");
                    }
                }
            }
            while let Ok(note) = inbox.try_recv() {
                note_taken(note, &mut in_flight);
            }
        }
        // Idle workers end as their inboxes close, the others when their batch is done.
        in_flight.dismiss();
        drop(notes);
        while inbox.recv().await.is_some() {}
        while workers.join_next().await.is_some() {}
    }

    /// Hands what is due to workers; gives the time when there is more to do.
    async fn claim_and_begin(
        self: &Arc<Self>,
        claim: Claim,
        in_flight: &mut InFlight<Inbox>,
        notes: &mpsc::Sender<Note>,
        workers: &mut JoinSet<()>,
    ) -> Option<Time> {
        let claimed = match self.store.claim(claim).await {
            Ok(claimed) => claimed,
            Err(error) => {
                error!(%error, "failed to ask the store for what is due");
                return Some(self.clock.now().after(STORE_RETRY));
            }
        };
        let mut batches: HashMap<Destination, Vec<Queued>> = HashMap::new();
        for message in claimed.messages {
            batches
                .entry(message.destination())
                .or_default()
                .push(message);
        }
        for (destination, mut batch) in batches {
            while let Some(inbox) = in_flight.wake(&destination) {
                // It fails when that worker just gave up waiting.
                match inbox.try_send(batch) {
                    Ok(()) => {
                        batch = Vec::new();
                        break;
                    }
                    Err(
                        mpsc::error::TrySendError::Full(back)
                        | mpsc::error::TrySendError::Closed(back),
                    ) => batch = back,
                }
            }
            if batch.is_empty() {
                continue;
            }
            // One that waits elsewhere ends when nothing can reach it any more.
            drop(in_flight.make_room(self.statics.queue.max_concurrency));
            in_flight.begin(&destination);
            let worker = Worker {
                queue: Arc::clone(self),
                destination,
                notes: notes.clone(),
                kept: None,
                settling: JoinSet::new(),
            };
            workers.spawn(worker.run(batch));
        }
        claimed.next_due
    }
}

fn note_taken(note: Note, in_flight: &mut InFlight<Inbox>) {
    match note {
        Note::Idle { destination, inbox } => in_flight.rest(&destination, inbox),
        Note::Ended { destination } => in_flight.end(&destination, mpsc::Sender::is_closed),
    }
}

/// Delivers to one destination over one connection.
struct Worker {
    queue: Arc<Queue>,
    destination: Destination,
    notes: mpsc::Sender<Note>,
    kept: Option<Kept>,
    /// Results on their way into the store.
    settling: JoinSet<()>,
}

impl Worker {
    async fn run(mut self, first: Vec<Queued>) {
        let mut batch = first;
        while !batch.is_empty() {
            self.attempt(batch).await;
            batch = self.more().await;
            if batch.is_empty() {
                batch = self.wait().await;
            }
        }
        if let Some(kept) = self.kept.take() {
            kept.quit().await;
        }
        while self.settling.join_next().await.is_some() {}
        let _ = self
            .notes
            .send(Note::Ended {
                destination: self.destination,
            })
            .await;
    }

    /// More of this destination's messages that are due now.
    async fn more(&self) -> Vec<Queued> {
        let claim = Claim {
            now: self.queue.clock.now(),
            max: BATCH,
            max_per_destination: BATCH,
            only: Some(self.destination.clone()),
            except: std::collections::HashSet::new(),
            lease: LEASE,
        };
        match self.queue.store.claim(claim).await {
            Ok(claimed) => claimed.messages,
            // The main loop meets the same error, tells of it, and waits.
            Err(_) => Vec::new(),
        }
    }

    /// Waits for more, if there is a connection worth keeping.
    async fn wait(&mut self) -> Vec<Queued> {
        if self.kept.is_none() {
            return Vec::new();
        }
        let (sender, mut inbox) = mpsc::channel(1);
        let note = Note::Idle {
            destination: self.destination.clone(),
            inbox: sender,
        };
        if self.notes.send(note).await.is_err() {
            return Vec::new();
        }
        let idle = self.queue.statics.queue.per_destination.idle;
        match tokio::time::timeout(idle, inbox.recv()).await {
            Ok(batch) => batch.unwrap_or_default(),
            Err(_) => {
                inbox.close();
                // What was sent while the wait ended is ours all the same.
                inbox.recv().await.unwrap_or_default()
            }
        }
    }

    async fn attempt(&mut self, batch: Vec<Queued>) {
        let keys: Vec<_> = batch
            .iter()
            .map(|message| (message.id, message.fence))
            .collect();
        let queue = Arc::clone(&self.queue);
        let renewing = async {
            loop {
                queue
                    .clock
                    .sleep_until(queue.clock.now().after(LEASE / 3))
                    .await;
                let until = queue.clock.now().after(LEASE);
                if let Err(error) = queue.store.renew(keys.clone(), until).await {
                    warn!(%error, "failed to renew the claims of a long delivery");
                }
            }
        };
        let settles = tokio::select! {
            settles = self.deliver(batch) => settles,
            never = renewing => never,
        };
        // Results of the batch before this one are stored by now, or this waits for them: so there is a bound.
        while self.settling.join_next().await.is_some() {}
        let queue = Arc::clone(&self.queue);
        self.settling
            .spawn(async move { queue.settle(settles).await });
    }

    async fn deliver(&mut self, batch: Vec<Queued>) -> Vec<Settle> {
        let config = self.queue.config.load_full();
        let mut settles = Vec::with_capacity(batch.len());
        let batch = self
            .queue
            .keep_unsuppressed(&config, batch, &mut settles)
            .await;
        if self.queue.delivery == Delivery::Local {
            for message in batch {
                settles.push(self.queue.deliver_here(&config, message).await);
            }
            return settles;
        }
        let mut routes: Vec<(Route, Vec<Queued>)> = Vec::new();
        for message in batch {
            let route = route::route(&message, &self.queue.statics, &config);
            match routes.iter_mut().find(|(known, _)| *known == route) {
                Some((_, messages)) => messages.push(message),
                None => routes.push((route, vec![message])),
            }
        }
        for (route, messages) in routes {
            let ended = self
                .queue
                .deliver(&config, &route, messages, &mut self.kept)
                .await;
            for ended in ended {
                settles.push(self.queue.settlement(&config, ended).await);
            }
        }
        settles
    }
}

impl Queue {
    /// Ends those whose recipients are on a suppression list.
    async fn keep_unsuppressed(
        &self,
        config: &Dynamic,
        batch: Vec<Queued>,
        settles: &mut Vec<Settle>,
    ) -> Vec<Queued> {
        let mut kept = Vec::with_capacity(batch.len());
        for message in batch {
            match self.suppression_of(&message).await {
                Ok(Some(entry)) => settles.push(self.suppressed(config, &message, &entry).await),
                Ok(None) => kept.push(message),
                Err(error) => {
                    // To mail an address once more harms less than to fail a message by mistake.
                    error!(%error, "failed to read the suppression list");
                    kept.push(message);
                }
            }
        }
        kept
    }

    /// Stores results. Where the store can't take them, the claims run out and the messages are attempted again: better twice
    /// than not at all.
    async fn settle(&self, settles: Vec<Settle>) {
        let ids: Vec<u64> = settles.iter().map(|settle| settle.id.0).collect();
        if let Err(error) = self.store.settle(settles).await {
            error!(?ids, %error, "failed to store the results of attempts; these messages may be sent again");
        }
    }
}
