//! The loop that sends reports when they are due, beside the loop of the queue.
//!
//! Reports by mail go into the queue, which tries them as other mail. A report whose addresses are
//! not known for now, or whose https address does not answer, is tried again here. A crash between
//! the report in the queue and the note of it sends nothing twice: the store knows it by its key.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use postrider_config::Dynamic;
use postrider_dns::DnsError;
use postrider_smtp::{Address, ReversePath, convert::TextNeeds};
use postrider_store::{
    Accept, Common, Deadline, DueReport, NewMessage, NewRecipient, Notify, Once, Origin,
    ReportKind, StoreError, TextSource, Time, Top, Urgency,
};
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tracing::{debug, error, warn};

use super::{
    Sender,
    address::{self, DMARC, ReportAddress, TLSRPT, Target},
    dmarc_body, external,
    mail::{Written, compressed},
    schedule::{self, TRIED_FOR},
    tls_body,
};
use crate::{
    Queue, header,
    https::{self, HttpsClient},
    route,
    tls::{Check, KeyShares},
};

/// How many reports are sent at once.
const AT_ONCE: usize = 16;
/// How long the worker waits before it asks the store again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(60);
/// The time for a report over https (RFC 8460 §5.4).
const HTTPS_TIME: Duration = Duration::from_secs(30);
/// The largest report, as a message or as the body of a request.
const SIZE_MAX: u64 = 10 << 20;
/// How long a report in the queue is known by its key.
const KNOWN_FOR: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// What the worker waits for.
enum Next {
    /// This time.
    At(Time),
    /// A pause, since the store failed.
    Pause,
    /// Counts, that make a report due.
    Counts,
}

/// How far a report came.
enum Progress {
    /// Nobody gets it, or nobody but those who have it.
    Finished,
    /// It is to be tried again.
    Left,
}

/// What names a report: its kind, day and domain.
type ReportKey = (ReportKind, u32, String);

/// The reports that are being sent.
#[derive(Default)]
struct Sending {
    tasks: JoinSet<(ReportKey, Result<(), StoreError>)>,
    under_way: BTreeSet<ReportKey>,
    /// What became of a report could not be stored.
    store_failed: bool,
}

impl Sending {
    fn ended(&mut self, ended: Result<(ReportKey, Result<(), StoreError>), JoinError>) {
        match ended {
            Ok((key, noted)) => {
                self.under_way.remove(&key);
                if let Err(error) = noted {
                    error!(%error, "what became of a report is not stored");
                    self.store_failed = true;
                }
            }
            // The report stays under way until the next start, so that it is not tried in a loop.
            Err(error) => error!(%error, "sending a report failed"),
        }
    }
}

/// Why a report could not be sent for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("looking up {0}: {1}")]
    Dns(String, DnsError),
    #[error("compressing it: {0}")]
    Compress(#[from] std::io::Error),
}

impl Queue {
    /// Sends reports when they are due, until `shutdown` is true.
    pub(crate) async fn send_reports(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut sending = Sending::default();
        while !*shutdown.borrow() {
            let next = tokio::select! {
                next = self.begin_due(&mut sending) => next,
                _ = shutdown.wait_for(|stop| *stop) => return,
            };
            let waiting = async {
                match next {
                    Next::At(time) => self.clock.sleep_until(time).await,
                    Next::Pause => {
                        let until = self.clock.moment().after(STORE_RETRY);
                        self.clock.sleep_until_moment(until).await;
                    }
                    Next::Counts => std::future::pending().await,
                }
            };
            tokio::select! {
                () = waiting => {}
                Some(ended) = sending.tasks.join_next() => sending.ended(ended),
                () = self.gathered.noted.notified() => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Begins to send the reports whose time has come, as far as there are places. A place is free
    /// when its report is done: a slow receiver holds up no other report.
    async fn begin_due(self: &Arc<Self>, sending: &mut Sending) -> Next {
        if std::mem::take(&mut sending.store_failed) {
            return Next::Pause;
        }
        // Those under way are the first ones in the store.
        let next = match self.store.next_reports(2 * AT_ONCE).await {
            Ok(next) => next,
            Err(error) => {
                error!(%error, "failed to ask the store for reports that are due");
                return Next::Pause;
            }
        };
        let now = self.clock.now();
        for report in next {
            if sending.tasks.len() >= AT_ONCE {
                break;
            }
            let key = (report.kind, report.day, report.domain.clone());
            if sending.under_way.contains(&key) {
                continue;
            }
            if now < report.due {
                return Next::At(report.due);
            }
            sending.under_way.insert(key.clone());
            let queue = Arc::clone(self);
            sending
                .tasks
                .spawn(async move { (key, queue.report_to_all(report).await) });
        }
        Next::Counts
    }

    /// Sends a report to all who ask for it, and notes what became of it.
    async fn report_to_all(&self, due: DueReport) -> Result<(), StoreError> {
        let mut report = due;
        let (kind, domain) = (report.kind, report.domain.clone());
        match self.try_report(&mut report).await {
            Ok(Progress::Finished) => return self.store.finish_report(&report).await.map(drop),
            Ok(Progress::Left) => {}
            Err(error) => debug!(?kind, domain, %error, "a report could not be sent"),
        }
        report.attempts += 1;
        let first_due = schedule::due(report.kind, report.day, &report.domain);
        match schedule::again(first_due, report.attempts, self.clock.now()) {
            Some(again) => {
                report.due = again;
                self.store.put_off_report(report).await.map(drop)
            }
            None => {
                warn!(?kind, domain, "a report is given up");
                self.store.finish_report(&report).await.map(drop)
            }
        }
    }

    async fn try_report(&self, report: &mut DueReport) -> Result<Progress, ReportError> {
        if !self.sends_reports(report.kind) {
            return Ok(Progress::Finished);
        }
        let config = self.config.load_full();
        let Some(sender) = self.report_sender(&config, report.kind) else {
            return Ok(Progress::Finished);
        };
        let id = self.report_id(report, &sender);
        let Some(body) = self.report_body(report, &sender, &id).await? else {
            return Ok(Progress::Finished);
        };
        let addresses = self.report_addresses(report).await?;
        let written = Written {
            kind: report.kind,
            day: report.day,
            domain: report.domain.clone(),
            id,
            body: compressed(&body)?,
        };
        let left = addresses.into_iter();
        let left = left.filter(|address| !report.done.contains(&address.uri));
        let sends = left.map(async |address| {
            let sent = self.send(&config, &written, &sender, &address).await;
            (address.uri, sent)
        });
        let mut progress = Ok(Progress::Finished);
        for (uri, sent) in join_all(sends).await {
            match sent {
                Ok(Progress::Finished) => report.done.push(uri),
                other => progress = other,
            }
        }
        progress
    }

    /// The id of a report: the same each time that it is sent.
    pub(super) fn report_id(&self, report: &DueReport, sender: &Sender) -> String {
        let hostname = self.statics.hostname.ascii();
        let text = format!(
            "{hostname} {:?} {} {}",
            report.kind, report.day, report.domain
        );
        let hash = Sha256::digest(text);
        let hash: String = hash.iter().take(12).map(|it| format!("{it:02x}")).collect();
        format!("{hash}@{}", sender.domain)
    }

    /// The body of a report. None: there is nothing to report.
    async fn report_body(
        &self,
        report: &DueReport,
        sender: &Sender,
        id: &str,
    ) -> Result<Option<Vec<u8>>, ReportError> {
        let (day, domain) = (report.day, report.domain.as_str());
        Ok(match report.kind {
            ReportKind::Tls => {
                let results = self.store.tls_results(day, domain).await?;
                let results = results.filter(|results| self.tells(results));
                results.map(|results| tls_body::write(&results, sender, id))
            }
            ReportKind::Dmarc => {
                let results = self.store.dmarc_results(day, domain).await?;
                results.map(|results| dmarc_body::write((day, domain), &results, sender, id))
            }
        })
    }

    /// Those who ask for a report now.
    pub(super) async fn report_addresses(
        &self,
        report: &DueReport,
    ) -> Result<Vec<ReportAddress>, ReportError> {
        let domain = report.domain.as_str();
        let (name, version) = match report.kind {
            ReportKind::Tls => (format!("_smtp._tls.{domain}"), TLSRPT),
            ReportKind::Dmarc => (format!("_dmarc.{domain}"), DMARC),
        };
        let texts = match self.resolver.txt(&name).await {
            Ok(answer) => answer.records,
            Err(error) if error.negative().is_some() => return Ok(Vec::new()),
            Err(error) => return Err(ReportError::Dns(name, error)),
        };
        let addresses = address::addresses(&texts, version);
        if report.kind == ReportKind::Tls {
            return Ok(addresses);
        }
        let mut agreed: Vec<ReportAddress> = Vec::new();
        // Aggregate reports go by mail only.
        let by_mail = |address: &ReportAddress| matches!(address.target, Target::Mail(_));
        for address in addresses.into_iter().filter(by_mail) {
            let uri = address.uri.clone();
            let found = external::agreed(&*self.resolver, domain, address).await;
            let found = found.map_err(|error| ReportError::Dns(uri.clone(), error))?;
            if found.is_empty() {
                debug!(
                    domain,
                    uri, "the host of the address does not agree to get reports"
                );
            }
            for address in found.into_iter().filter(by_mail) {
                if !agreed.contains(&address) {
                    agreed.push(address);
                }
            }
        }
        Ok(agreed)
    }

    /// Sends a report to one address.
    async fn send(
        &self,
        config: &Dynamic,
        written: &Written,
        sender: &Sender,
        address: &ReportAddress,
    ) -> Result<Progress, ReportError> {
        let (kind, domain, uri) = (written.kind, &written.domain, &address.uri);
        let size_max = address.size_max.unwrap_or(SIZE_MAX).min(SIZE_MAX);
        let is_too_big = |size: usize| {
            let is_too_big = size as u64 > size_max;
            if is_too_big {
                debug!(
                    ?kind,
                    domain, uri, size, "a report is too big for its address"
                );
            }
            is_too_big
        };
        match &address.target {
            Target::Mail(to) => {
                if self.rests(&to.to_string()).await? {
                    debug!(
                        ?kind,
                        domain, uri, "a report bounced here lately, so none is sent"
                    );
                    return Ok(Progress::Finished);
                }
                let (message_id, text) = self.report_message(written, sender, to);
                if is_too_big(text.len()) {
                    return Ok(Progress::Finished);
                }
                self.queue_report(config, (written, sender), (to, uri), message_id, &text)
                    .await?;
                debug!(?kind, domain, uri, "a report is queued");
                Ok(Progress::Finished)
            }
            Target::Https { .. } if is_too_big(written.body.len()) => Ok(Progress::Finished),
            Target::Https { host, port, path } => {
                let tls = self.tls.of(Check::Pkix, KeyShares::PostQuantum);
                let client = HttpsClient {
                    resolver: &*self.resolver,
                    dialer: &*self.dialer,
                    tls: Arc::new(https::for_https(&tls)),
                    limit: HTTPS_TIME,
                    only_public: self.statics.delivery.forbid_private_addresses,
                };
                let content = (written.media_type(), written.body.clone());
                match client.post((host, *port), path, content).await {
                    Ok(200..300) => {
                        debug!(?kind, domain, uri, "a report is sent");
                        Ok(Progress::Finished)
                    }
                    Ok(status) => {
                        debug!(
                            ?kind,
                            domain, uri, status, "the host does not take a report"
                        );
                        Ok(Progress::Left)
                    }
                    Err(error) => {
                        debug!(?kind, domain, uri, %error, "a report could not be sent");
                        Ok(Progress::Left)
                    }
                }
            }
        }
    }

    /// The message with a report, and its Message-ID.
    fn report_message(
        &self,
        written: &Written,
        sender: &Sender,
        to: &Address,
    ) -> (String, Vec<u8>) {
        let (message_id, boundary) = {
            let mut rng = self.rng();
            (
                header::message_id(&mut *rng, self.statics.hostname.ascii()),
                header::random_id(&mut *rng).replace(['-', '_'], "x"),
            )
        };
        let ids = (message_id.as_str(), boundary.as_str());
        let text = written.message(sender, to, ids, self.clock.now());
        (message_id, text)
    }

    /// Queues a report, unless it was queued before.
    async fn queue_report(
        &self,
        config: &Dynamic,
        (written, sender): (&Written, &Sender),
        (to, uri): (&Address, &str),
        message_id: String,
        text: &[u8],
    ) -> Result<(), ReportError> {
        let now = self.clock.now();
        let (kind, day, domain) = (written.kind, written.day, &written.domain);
        // Reports about the report come to its sender.
        let found = config.lookup(&sender.from);
        let account = found.and_then(|found| found.account());
        let account = account
            .unwrap_or(&self.statics.postmaster.account)
            .to_owned();
        let first_due = schedule::due(kind, day, domain);
        let mut message = NewMessage {
            common: Common {
                account: account.clone(),
                queued: now,
                from: Some(sender.from.clone()),
                message_id,
                subject: written.subject(sender),
                size: text.len() as u64,
                needs: TextNeeds::of(text),
                smtputf8: !to.is_ascii(),
                require_tls: (kind == ReportKind::Tls).then_some(false),
                future_release: String::new(),
                ret_full: None,
                envid: String::new(),
                list: String::new(),
                extra: Default::default(),
                origin: Origin::Report(kind),
                urgency: Urgency {
                    deadline: Some(Deadline {
                        at: first_due.after(TRIED_FOR),
                        fails: true,
                        trace: false,
                    }),
                    bulk: true,
                    ..Urgency::default()
                },
            },
            top: Top::EMPTY,
            text: TextSource::New,
            recipients: vec![NewRecipient {
                reverse_path: ReversePath::Mailbox(sender.from.clone()),
                from_id: String::new(),
                recipient: to.clone(),
                notify: Notify {
                    success: false,
                    failure: true,
                    delay: false,
                    given: true,
                },
                orcpt: String::new(),
                transport: String::new(),
                route: String::new(),
                hold: false,
                next_attempt: now,
            }],
        };
        route::note(&mut message, &self.config.load());
        let common = message.common.clone();
        let mut writer = self.store.text_writer();
        writer.write(text).await?;
        let accept = Accept {
            text: Some(writer.finish().await?),
            queue: vec![message],
            once: Some(Once {
                account,
                key: format!("report {kind:?} {day} {domain} {uri}"),
                request: [0; 32],
                answer: Vec::new(),
                now,
                until: now.after(KNOWN_FOR),
            }),
            ..Accept::default()
        };
        match self.store.accept(accept).await {
            Ok(accepted) => {
                if let Some(id) = accepted.queue.first() {
                    self.see_own(*id, &common, to);
                }
                Ok(())
            }
            Err(StoreError::DoneBefore) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
