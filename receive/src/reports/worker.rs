//! The worker that reads what has arrived, and reports that somebody looks at.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use postrider_config::{Live, Static};
use postrider_observe::{Metrics, Tracer};
use postrider_store::{
    ArrivedReport, Clock, QueueId, ReceivedReport, ReportRoom, ReportSummary, Store, StoreError,
    TextId,
};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, info, warn};

use super::{
    counts,
    fault::{MAIL_MAX, Patience, ReportFault},
    find::{self, Faulty, Found, MailReading},
    summary::{self, Ours},
    traced,
};

/// How many reports are read at once: of those that arrive, and of those that somebody looks at.
const AT_ONCE: usize = 2;
/// The time for one report.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How many waiting mails are asked for at once.
const PAGE: usize = 16;
/// How many records without room are removed at once.
const TRIMMED: u64 = 256;
/// The wait after the store could not be read or written.
const PAUSE: Duration = Duration::from_secs(10);
/// What is read of a mail that is too large: its header section.
const BEGINNING: u64 = 64 << 10;

/// The parts of the server that reports need.
#[derive(Clone)]
pub struct ReportsParts {
    /// The store.
    pub store: Store,
    /// The static configuration.
    pub statics: Arc<Static>,
    /// The dynamic configuration as it is now.
    pub config: Live,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Takes the traces of reports.
    pub tracer: Tracer,
}

/// Reads reports: at most two at once, and each for at most ten seconds. What waits is in the
/// store, and only [`PAGE`] of it in memory.
///
/// Reports that somebody looks at have places of their own, so that those who look do not hold up
/// the worker, nor senders of large reports those who look.
pub struct Reports {
    parts: ReportsParts,
    pub(super) places: Arc<Semaphore>,
    pub(super) places_to_look: Arc<Semaphore>,
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reports").finish_non_exhaustive()
    }
}

impl Reports {
    /// Nothing is read before [`run`](Self::run).
    #[must_use]
    pub fn new(parts: ReportsParts) -> Self {
        Self {
            parts,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            places_to_look: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Reads what has arrived, and what arrives, until it should stop. What it does not get to
    /// stays in the store, and the next start goes on with it.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut arrivals = self.parts.store.reports_arrived();
        let work = async {
            loop {
                arrivals.mark_unchanged();
                let read = self.read_arrived().await;
                if matches!(read, Err(StoreError::Closed)) {
                    return;
                }
                if let Err(error) = read {
                    warn!(%error, "failed to read reports; they are tried again");
                    let clock = &self.parts.clock;
                    clock.sleep_until_moment(clock.moment().after(PAUSE)).await;
                } else if arrivals.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Reads all mails that wait.
    ///
    /// # Errors
    /// If the store can't be read or written. The rest waits.
    pub async fn read_arrived(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            self.trim().await?;
            let page = self.parts.store.arrived_reports(after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.id);
            let all: Vec<_> = page
                .into_iter()
                .map(|arrived| self.read_one(arrived))
                .collect();
            let mut read = stream::iter(all).buffer_unordered(AT_ONCE);
            while let Some(result) = read.next().await {
                result?;
            }
        }
    }

    /// Removes what has no room: a page of large reports may need that of many small ones, and the
    /// room may be less since the last start.
    async fn trim(&self) -> Result<(), StoreError> {
        let store = &self.parts.store;
        while store.trim_reports(self.room(), TRIMMED).await? == TRIMMED {}
        Ok(())
    }

    fn room(&self) -> ReportRoom {
        ReportRoom(self.parts.statics.reports.max_size.0)
    }

    async fn read_one(&self, arrived: ArrivedReport) -> Result<(), StoreError> {
        let mail = (arrived.text, arrived.size);
        let reading = self.read_mail(mail, &self.places).await?;
        let config = self.parts.config.load_full();
        let ours = Ours {
            statics: &self.parts.statics,
            config: &config,
        };
        let sent_by = self.sent_by(arrived.queue_id).await?;
        let report = summary::kept(&arrived, &reading, sent_by.as_deref(), ours);
        let about = report.as_ref().map(|report| report.about.clone());
        let is_new = self
            .parts
            .store
            .report_read(arrived.id, report, self.room());
        let is_new = is_new.await?;
        let Some(about) = about else {
            debug!(id = arrived.id.0, "the mail has no report");
            return Ok(());
        };
        let found = reading.report.as_ref().and_then(|read| read.as_ref().ok());
        let states = (is_new, summary::is_over_limit(&reading));
        counts::count(&self.parts.metrics, &about, found, states);
        match is_new {
            true => {
                let (tracer, now) = (&self.parts.tracer, self.parts.clock.now());
                traced::trace(tracer, now, &arrived, &reading, &about);
                tell(&about);
            }
            false => debug!(
                kind = about.kind.as_str(),
                report = about.report_id,
                reporter = about.reporter,
                "report received again"
            ),
        }
        Ok(())
    }

    /// The account that sent a message. None: it is gone.
    async fn sent_by(&self, id: Option<QueueId>) -> Result<Option<String>, StoreError> {
        let (store, Some(id)) = (&self.parts.store, id) else {
            return Ok(None);
        };
        let message = match store.queued(id).await? {
            Some(message) => Some(message),
            None => store.retired(id).await?.map(|retired| retired.message),
        };
        Ok(message.map(|message| message.common.account.clone()))
    }

    /// The report in the text of a mail. A text that is damaged has none.
    async fn read_mail(
        &self,
        (text, size): (TextId, u64),
        places: &Arc<Semaphore>,
    ) -> Result<MailReading, StoreError> {
        let wanted = match size > MAIL_MAX {
            true => BEGINNING,
            false => size,
        };
        // The memory for the text is one of the things that a place stands for. The reader has it
        // until its end, also when the one who waits for it has gone.
        let place = Arc::clone(places).acquire_owned().await;
        let place = place.map_err(|_| StoreError::Closed)?;
        let text = match self.parts.store.text(text).await {
            Ok(text) => text.read(0..wanted).await,
            Err(error) => Err(error),
        };
        let text = match text {
            Ok(text) => text,
            Err(StoreError::Closed) => return Err(StoreError::Closed),
            Err(error) => {
                warn!(%error, "failed to read a mail for reports");
                return Ok(unreadable());
            }
        };
        let limits = self.parts.statics.limits.mime();
        let (clock, begin) = (Arc::clone(&self.parts.clock), self.parts.clock.moment());
        let read = move |text: Bytes| {
            let _place = place;
            let is_over = || clock.moment().since(begin) > TIME_MAX;
            find::read(&text, size, limits, Patience::until(&is_over))
        };
        let reading = tokio::task::spawn_blocking(move || read(text)).await;
        Ok(reading.unwrap_or_else(|error| {
            warn!(%error, "reading a mail for reports broke off");
            unreadable()
        }))
    }

    /// A report as it stands in its mail. None: there is none that can be read.
    ///
    /// # Errors
    /// If the store is closed.
    pub async fn open(&self, report: &ReceivedReport) -> Result<Option<Found>, StoreError> {
        let mail = (report.text, report.size);
        let reading = self.read_mail(mail, &self.places_to_look).await?;
        Ok(reading.report.and_then(Result::ok))
    }
}

fn unreadable() -> MailReading {
    MailReading {
        from: String::new(),
        subject: String::new(),
        report: Some(Err(Faulty {
            kind: None,
            fault: ReportFault::Unreadable,
        })),
    }
}

fn tell(about: &ReportSummary) {
    info!(
        kind = about.kind.as_str(),
        domain = about.domains.join(","),
        reporter = about.reporter,
        verified = about.verified,
        error = about.error,
        "report received"
    );
}
