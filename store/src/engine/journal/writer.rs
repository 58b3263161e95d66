//! The one thread that changes anything.
//!
//! A round has these steps:
//! 1. Take all requests that wait.
//! 2. Answer claims from the state as it is ([`claim`]).
//! 3. Put what is to be made durable into one batch, append it with one sync, apply it, answer all
//!    ([`append`]).
//! 4. Bring the index up to date and free journal segments, if it is time ([`upkeep`]).
//!
//! So operations are applied in the order of the journal, and only when they are safe there. Claims
//! and the ENVIDs of transactions are the exception: nobody waits for their entries (*riders*).
//! These go into the next batch, in front.

mod append;
pub(super) mod claim;
mod snapshot;
mod upkeep;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    Shared,
    checkpoint::{Helper, TellPanic},
    inbox::{Ops, Request},
    lease::Leases,
    snapshot::{Hold, Reply},
};
use crate::{
    Options, StoreError, TextFile, TextId,
    disk::DiskLock,
    error::Fault,
    journal::{Batch, Journal, Position},
    subject::{Op, unit},
};

/// The name of the thread.
pub(super) const WRITER: &str = "store-writer";
/// How long riders wait for a batch to go with.
pub(super) const RIDE: Duration = Duration::from_millis(5);
/// From here on, a pause has no end.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How often to look whether the index has room again, while callers wait for that.
const LOOK: Duration = Duration::from_millis(100);
/// Between two portions of texts that are copied onward.
const MOVE_PAUSE: Duration = Duration::from_millis(20);
/// The memory of a change, beside the bytes of its operation.
const WEIGHT: usize = 600;

pub(super) struct Writer {
    shared: Arc<Shared>,
    options: Options,
    ride: Duration,
    journal: Journal,
    helper: Helper,
    leases: Leases,
    batch: Batch,
    /// Requests that wait for a batch.
    pending: VecDeque<Ops>,
    /// Operations that are applied already, encoded.
    riders: Vec<Vec<u8>>,
    riders_since: Option<Instant>,
    /// The last batch could not be appended.
    stuck: bool,
    /// Why the last batch of operations that may use the reserve could not be appended. While this
    /// is set, nothing is claimed.
    unstored: Option<StoreError>,
    /// Files of refused operations whose entries the next start may find. They stay until a later
    /// batch is safe.
    doubtful: Doubtful,
    /// How many calls of webhooks are being made.
    claimed_hooks: u64,
    /// About how many bytes changed since the last freeze.
    weight: usize,
    last_freeze: Instant,
    /// The bytes of the journal that no checkpoint covers, and those among them that the present
    /// checkpoint covers.
    unindexed: u64,
    being_indexed: u64,
    /// The part of the journal that the present checkpoint covers.
    freezing: Option<Position>,
    /// The position where a replay would begin.
    checkpointed: Position,
    /// Callers that wait for a new checkpoint, and for the present one.
    wanted: Vec<oneshot::Sender<()>>,
    wanted_now: Vec<oneshot::Sender<()>>,
    /// Callers that wait until a checkpoint has begun.
    #[cfg(test)]
    wanted_frozen: Vec<oneshot::Sender<()>>,
    /// Callers that wait for the end of a round.
    #[cfg(test)]
    wanted_rest: Vec<oneshot::Sender<()>>,
    /// The time that the last checkpoint took.
    checkpoint_took: Duration,
    /// The segments of which some may be given back, or have few living texts. All others keep
    /// their texts, or have been looked at since they lost some.
    candidates: BTreeSet<u64>,
    /// A segment lost texts since the candidates were looked at.
    shrunk: bool,
    /// The segment whose texts are being copied onward, and how far that is.
    moving: Option<(u64, TextId)>,
    /// Segments in which a text is damaged.
    unmovable: BTreeSet<u64>,
    /// Segments in which a read failed. They are tried again when no other segment is to be moved.
    postponed: BTreeSet<u64>,
    /// The caller that waits for a snapshot.
    wanted_snapshot: Option<Reply>,
    /// The files that are kept for a snapshot.
    hold: Option<Hold>,
    /// Callers that wait for the end.
    closing: Vec<oneshot::Sender<()>>,
}

/// Why the thread ends early.
pub(super) struct Dead(pub(super) StoreError);

impl From<Fault> for Dead {
    fn from(fault: Fault) -> Self {
        Self(fault.into())
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: Options,
        ride: Duration,
        journal: Journal,
        helper: Helper,
        checkpointed: Position,
    ) -> Self {
        Self {
            candidates: journal.generations(..).collect(),
            shared,
            options,
            ride,
            journal,
            helper,
            leases: Leases::default(),
            batch: Batch::new(),
            pending: VecDeque::new(),
            // All later entries presume that the claims ended.
            riders: vec![Op::Unit(unit::Op::Start).encode()],
            riders_since: Some(now()),
            stuck: false,
            unstored: None,
            doubtful: Doubtful::default(),
            claimed_hooks: 0,
            // The replayed operations are not in the index yet.
            weight: 1,
            last_freeze: now(),
            unindexed: 0,
            being_indexed: 0,
            freezing: None,
            checkpointed,
            wanted: Vec::new(),
            wanted_now: Vec::new(),
            #[cfg(test)]
            wanted_frozen: Vec::new(),
            #[cfg(test)]
            wanted_rest: Vec::new(),
            checkpoint_took: Duration::ZERO,
            shrunk: false,
            moving: None,
            unmovable: BTreeSet::new(),
            postponed: BTreeSet::new(),
            wanted_snapshot: None,
            hold: None,
            closing: Vec::new(),
        }
    }

    /// Works until the store is closed or stopped, or can't go on. Then lets go of the folder.
    pub(super) fn run(mut self, lock: Box<dyn DiskLock>) {
        let shared = Arc::clone(&self.shared);
        // Even after a panic nobody is left waiting.
        let guard = EndInbox(&shared);
        let panics = TellPanic::of(&shared, WRITER);
        if let Err(Dead(error)) = self.work() {
            shared.fail(error);
            if let Some(reason) = shared.failed.get() {
                tracing::error!(error = %reason, "store stopped");
            }
        }
        shared.fail(StoreError::Closed);
        drop(guard);
        let Self {
            journal,
            helper,
            pending,
            closing,
            ..
        } = self;
        // Their senders are dropped, which says that the store is closed.
        drop(pending);
        shared.room.stop();
        shared.large.clear();
        shared.state_mut().unbase();
        helper.end();
        drop(journal);
        drop(lock);
        drop(panics);
        for reply in closing {
            let _ = reply.send(());
        }
    }

    fn work(&mut self) -> Result<(), Dead> {
        let mut requests = Vec::new();
        self.reclaim_segments()?;
        loop {
            let timeout = self.timeout();
            if !self.shared.inbox.take(&mut requests, timeout) {
                return Ok(());
            }
            for request in requests.drain(..) {
                self.handle(request)?;
            }
            self.append_pending()?;
            self.move_some()?;
            self.freeze_if_due()?;
            self.reclaim_while_full()?;
            #[cfg(test)]
            for reply in self.wanted_rest.drain(..) {
                let _ = reply.send(());
            }
            if self.is_closing() && (self.is_done() || self.stuck || self.waits_for_room()) {
                // Operations that could not be appended were promised to nobody. The next start is
                // as after a crash.
                return Ok(());
            }
        }
    }

    /// How long to wait for a request.
    fn timeout(&self) -> Option<Duration> {
        if self.is_blocked() {
            return Some(LOOK);
        }
        if !self.pending.is_empty() {
            return Some(Duration::ZERO);
        }
        #[cfg(test)]
        if self.shared.stepped && !self.is_closing() {
            return None;
        }
        if self.stuck && !self.riders.is_empty() && self.wants_freeze() {
            return Some(LOOK);
        }
        let ride = self
            .riders_since
            .map(|since| self.ride().saturating_sub(since.elapsed()));
        let moving = self.moving.map(|_| MOVE_PAUSE);
        let freeze = (self.weight > 0 && self.freezing.is_none()).then(|| {
            self.checkpoint_interval()
                .saturating_sub(self.last_freeze.elapsed())
        });
        // The checkpoint may wait for the room of a segment.
        let shrunk = (self.shrunk && self.freezing.is_some()).then_some(LOOK);
        let closing = self.is_closing().then_some(LOOK);
        [ride, moving, freeze, shrunk, closing]
            .into_iter()
            .flatten()
            .filter(|timeout| *timeout < NEVER)
            .min()
    }

    /// How long riders wait for a batch. They wait longer when the last append failed.
    fn ride(&self) -> Duration {
        if self.stuck {
            self.ride.max(LOOK)
        } else {
            self.ride
        }
    }

    /// Whether so many changes are in memory that the checkpoint must end first.
    fn is_blocked(&self) -> bool {
        self.freezing.is_some()
            && self.weight > 2 * self.options.changes_in_memory
            && !self.shared.room.is_full()
    }

    fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// The last checkpoint waits for room on the disk. The journal has everything that it has.
    fn waits_for_room(&self) -> bool {
        self.pending.is_empty() && self.riders.is_empty() && self.shared.room.is_full()
    }

    fn is_done(&self) -> bool {
        self.pending.is_empty()
            && self.riders.is_empty()
            && self.weight == 0
            && self.freezing.is_none()
    }

    fn handle(&mut self, request: Request) -> Result<(), Dead> {
        match request {
            Request::Ops(ops) => self.pending.push_back(ops),
            Request::Claim(claim, reply) => {
                let claimed = self.claim(&claim)?;
                let _ = reply.send(claimed);
            }
            Request::ClaimHooks(claim, reply) => {
                let claimed = self.claim_hooks(&claim)?;
                let _ = reply.send(claimed);
            }
            Request::Renew(claims, until, reply) => {
                let renewed = self.renew(&claims, until)?;
                let _ = reply.send(Ok(renewed));
            }
            Request::Begin(transactions, reply) => {
                self.begin(transactions)?;
                let _ = reply.send(Ok(()));
            }
            Request::Checkpointed(result) => {
                result?;
                self.checkpoint_done()?;
            }
            Request::Snapshot(reply) => self.want_snapshot(reply),
            Request::NeededFiles(files) => self.set_needed_files(files),
            Request::EndSnapshot => self.end_snapshot()?,
            Request::RemoveFile(file) => self.remove_file(file),
            // The reason is known already.
            Request::Broken => return Err(Dead(StoreError::Closed)),
            Request::Checkpoint(reply) => {
                #[cfg(test)]
                self.helper.hold(false);
                self.wanted.push(reply);
            }
            #[cfg(test)]
            Request::Freeze(reply) => {
                // If a checkpoint is held back already, the caller knows at once.
                if self.freezing.is_none() {
                    self.helper.hold(true);
                    self.wanted.push(oneshot::channel().0);
                    self.wanted_frozen.push(reply);
                }
            }
            #[cfg(test)]
            Request::Rest(reply) => self.wanted_rest.push(reply),
            #[cfg(test)]
            Request::Thaw => self.helper.hold(false),
            #[cfg(test)]
            Request::Panic => {
                let _state = self.shared.state_mut();
                panic!("a test asked for it");
            }
            Request::Close(reply) => {
                #[cfg(test)]
                self.helper.hold(false);
                self.closing.push(reply);
            }
        }
        Ok(())
    }
}

/// Files that stay when the thread ends, however it ends: the next start knows whether they are
/// needed.
#[derive(Default)]
struct Doubtful(Vec<TextFile>);

impl Drop for Doubtful {
    fn drop(&mut self) {
        for file in self.0.drain(..) {
            file.keep();
        }
    }
}

struct EndInbox<'a>(&'a Shared);

impl Drop for EndInbox<'_> {
    fn drop(&mut self) {
        self.0.inbox.end();
    }
}

/// The drivers' clock: for pauses between checkpoints only, never in a record.
fn now() -> Instant {
    Instant::now()
}
