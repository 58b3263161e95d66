//! Sends the log and traces to a collector, as `otlp` of `postrider.conf` says.
//!
//! Lines and traces wait in channels of limited size. A collector that is down or slow holds up
//! nobody: what finds no room, or is refused again and again, is dropped and counted.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use postrider_config::{OtlpConfig, Static};
use postrider_observe::{
    log::{Line, Log},
    metrics::TraceReader,
    otlp::{CONTENT_TYPE, Frames, TraceFrame, rejected_lines, rejected_spans},
    trace::{Followed, Record, Subscription, Traces},
};
use postrider_store::Clock;
use reqwest::{
    Client, StatusCode,
    header::{CONTENT_TYPE as TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinSet, spawn_blocking},
};
use tracing::warn;

use crate::acme::{causes, read_roots};

/// The most lines that wait.
const ROOM: usize = 8192;
/// The most lines of a request.
const BATCH: usize = 512;
/// The most traces that are collected for requests. Each has at most 64 KiB.
const TRACES_MAX: usize = 64;
/// How long lines and traces wait for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long requests are made when the server stops, and how long one may take then.
const LAST: Duration = Duration::from_secs(5);
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// About how many bytes of an answer are read.
const ANSWER_MAX: usize = 64 << 10;
/// How often a request is made at most.
const TRIES: u32 = 5;
/// The longest pause between two of them.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Why what waits at the end does not go.
const STOPPED: &str = "the server stopped first";
const PANICKED: &str = "making a request failed";

/// The exporters at work. They end last: what happens while the server stops goes to the collector
/// too.
pub(crate) struct Exporting {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Exporting {
    /// Starts the exporters that the configuration wants.
    ///
    /// # Errors
    /// If a file of `tls.ca_files` can't be used.
    pub(crate) fn start(
        statics: &Static,
        log: &Log,
        traces: &Traces,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let (log, traces) = exporters(statics, log, traces, clock)?;
        let (mut tasks, stop) = (JoinSet::new(), watch::Sender::new(false));
        if let Some(log) = log {
            tasks.spawn(log.run(stop.subscribe()));
        }
        if let Some(traces) = traces {
            tasks.spawn(traces.run(stop.subscribe()));
        }
        Ok(Self { tasks, stop })
    }

    /// Sends what waits, for some seconds at most, and ends. What does not go is counted.
    pub(crate) async fn end(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The exporters that the configuration wants.
fn exporters(
    statics: &Static,
    log: &Log,
    traces: &Traces,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Option<LogExporter>, Option<TraceExporter>)> {
    let Some(config) = &statics.otlp else {
        return Ok((None, None));
    };
    let traces = config
        .traces
        .then(|| traces.subscribe(TraceReader::Otlp))
        .flatten();
    if !config.logs && traces.is_none() {
        return Ok((None, None));
    }
    let base = Way::new(config, statics, Arc::clone(clock))?;
    let of_log = || LogExporter::new(base.to("v1/logs"), statics, log);
    let of_traces = |traces| TraceExporter::new(base.to("v1/traces"), statics, traces);
    Ok((config.logs.then(of_log), traces.map(of_traces)))
}

/// Sends lines of a log to a collector.
pub(crate) struct LogExporter {
    way: Way,
    frames: Frames,
    log: Log,
    lines: mpsc::Receiver<Arc<Line>>,
}

impl LogExporter {
    /// An exporter of the lines from now on.
    fn new(way: Way, statics: &Static, log: &Log) -> Self {
        Self {
            way,
            frames: Frames::new(statics.hostname.ascii(), env!("CARGO_PKG_VERSION")),
            log: log.clone(),
            lines: log.subscribe(ROOM),
        }
    }

    /// Sends lines until the server stops, and then those that wait.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(BATCH);
        let (mut is_stopping, mut is_taken) = (false, true);
        while !is_stopping {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => is_stopping = true,
                came = self.lines.recv_many(&mut batch, BATCH) => if came == 0 {
                    return;
                },
            }
            if !is_stopping && batch.len() < BATCH {
                is_stopping = self.way.gather(&mut stop).await;
            }
            self.fill(&mut batch);
            is_taken = self.send(&mut batch, &mut stop).await;
        }
        let until = self.way.clock.moment().after(LAST);
        while is_taken && self.way.clock.moment() < until && self.fill(&mut batch) {
            is_taken = self.send(&mut batch, &mut stop).await;
        }
        self.lose(self.lines.len() as u64, STOPPED);
    }

    /// Adds lines that wait to a batch, while it has room. Gives whether it has any.
    fn fill(&mut self, batch: &mut Vec<Arc<Line>>) -> bool {
        while batch.len() < BATCH
            && let Ok(line) = self.lines.try_recv()
        {
            batch.push(line);
        }
        !batch.is_empty()
    }

    /// Sends a batch, and empties it. Gives whether the collector took any of it.
    async fn send(&self, batch: &mut Vec<Arc<Line>>, stop: &mut watch::Receiver<bool>) -> bool {
        if batch.is_empty() {
            return true;
        }
        let (frames, lines) = (self.frames.clone(), std::mem::take(batch));
        let all = lines.len() as u64;
        // It takes a while to make a frame.
        let sent = match spawn_blocking(move || frames.logs(&lines)).await {
            Ok(frame) => self.way.send(frame, all, rejected_lines, stop).await,
            Err(_) => Err(Lost {
                count: all,
                error: PANICKED.to_owned(),
                is_all: true,
            }),
        };
        let Err(lost) = sent else {
            return true;
        };
        self.lose(lost.count, &lost.error);
        !lost.is_all
    }

    fn lose(&self, count: u64, error: &str) {
        if count > 0 {
            self.log.count_dropped(count);
            warn!(url = self.way.url, count, error, "log lines not exported");
        }
    }
}

/// Sends traces that ended to a collector.
pub(crate) struct TraceExporter {
    way: Way,
    frames: Frames,
    traces: Subscription,
    /// How many traces did not reach the collector since the start.
    lost: u64,
}

impl TraceExporter {
    /// An exporter of the traces that end from now on.
    fn new(way: Way, statics: &Static, traces: Subscription) -> Self {
        Self {
            way,
            frames: Frames::new(statics.hostname.ascii(), env!("CARGO_PKG_VERSION")),
            traces,
            lost: 0,
        }
    }

    /// Sends traces until the server stops, and then those that wait.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(TRACES_MAX);
        while self.gather(&mut batch, &mut stop).await {
            self.send(&mut batch, &mut stop).await;
        }
        let until = self.way.clock.moment().after(LAST);
        let mut is_taken = self.send(&mut batch, &mut stop).await;
        while is_taken && self.way.clock.moment() < until && self.fill(&mut batch) {
            is_taken = self.send(&mut batch, &mut stop).await;
        }
        let mut left = 0;
        while self.fill(&mut batch) {
            left += batch.len() as u64;
            batch.clear();
        }
        self.lose(left, STOPPED);
    }

    /// Waits for a trace, and then a little for others. Gives whether more may come.
    async fn gather(
        &mut self,
        batch: &mut Vec<Arc<Record>>,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let mut until = None;
        while batch.len() < TRACES_MAX {
            let (ends, clock) = (until, &self.way.clock);
            let is_enough = async {
                match ends {
                    Some(ends) => clock.sleep_until_moment(ends).await,
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return false,
                next = self.traces.next() => next,
                () = is_enough => return true,
            };
            let Some(next) = next else { return false };
            self.take(next, batch);
            until.get_or_insert_with(|| self.way.clock.moment().after(GATHER));
        }
        true
    }

    /// Adds traces that wait to a batch, while it has room. Gives whether it has any.
    fn fill(&mut self, batch: &mut Vec<Arc<Record>>) -> bool {
        while batch.len() < TRACES_MAX
            && let Some(next) = self.traces.try_next()
        {
            self.take(next, batch);
        }
        !batch.is_empty()
    }

    fn take(&mut self, followed: Followed, batch: &mut Vec<Arc<Record>>) {
        match followed {
            Followed::Trace(record) => batch.push(record),
            // They are counted.
            Followed::Lost(count) => self.tell(count, "more traces ended than could be sent"),
        }
    }

    /// Sends a batch, and empties it. Gives whether the collector takes traces.
    async fn send(
        &mut self,
        batch: &mut Vec<Arc<Record>>,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let mut made = self.frames.traces(std::mem::take(batch));
        loop {
            let left = made.left();
            // It takes a while to make a frame.
            let next = spawn_blocking(move || (made.next(), made)).await;
            let TraceFrame { bytes, traces } = match next {
                Ok((Some(frame), rest)) => {
                    made = rest;
                    frame
                }
                Ok((None, _)) => return true,
                Err(_) => {
                    self.lose(left, PANICKED);
                    return false;
                }
            };
            let Err(lost) = self.way.send(bytes, traces, rejected_spans, stop).await else {
                continue;
            };
            match lost.is_all {
                true => {
                    self.lose(left, &lost.error);
                    return false;
                }
                // Spans were rejected. A trace has one or more.
                false => self.lose(lost.count.min(traces), &lost.error),
            }
        }
    }

    fn lose(&mut self, count: u64, error: &str) {
        self.traces.count_lost(count);
        self.tell(count, error);
    }

    /// Tells how many traces were lost, now and since the start: the log joins such lines when
    /// there are many, and then shows only the last one.
    fn tell(&mut self, count: u64, error: &str) {
        if count > 0 {
            self.lost += count;
            let (url, total) = (&self.way.url, self.lost);
            warn!(url, count, total, error, "traces not exported");
        }
    }
}

/// The way to a collector.
struct Way {
    client: Client,
    url: String,
    clock: Arc<dyn Clock>,
}

/// What the collector did not take, and why.
struct Lost {
    count: u64,
    error: String,
    /// It took nothing of the frame.
    is_all: bool,
}

/// Why a request failed.
struct Failure {
    error: String,
    /// Whether the same request may be taken later, and when the collector wants it.
    again: Option<Option<Duration>>,
}

impl Way {
    /// The way to the endpoint. All that goes to a collector shares its connections.
    fn new(config: &OtlpConfig, statics: &Static, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let fields = config.headers.iter().map(|(name, value)| {
            let mut value = HeaderValue::from_str(value)?;
            value.set_sensitive(true);
            Ok((HeaderName::from_bytes(name.as_bytes())?, value))
        });
        let fields: anyhow::Result<HeaderMap> = fields.collect();
        let mut fields = fields.context("otlp.headers_file")?;
        fields.insert(TYPE, HeaderValue::from_static(CONTENT_TYPE));
        let builder = Client::builder()
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(fields)
            .timeout(TIMEOUT)
            .no_proxy();
        let mut roots = Vec::new();
        for file in &statics.tls.ca_files {
            roots.extend(read_roots(file).context("tls.ca_files")?);
        }
        let builder = match roots.is_empty() {
            true => builder,
            false => builder.tls_certs_merge(roots),
        };
        Ok(Self {
            client: builder.build().context("failed to set up TLS for otlp")?,
            url: config.endpoint.clone(),
            clock,
        })
    }

    /// The way to a path below.
    fn to(&self, path: &str) -> Self {
        Self {
            client: self.client.clone(),
            url: format!("{}/{path}", self.url),
            clock: Arc::clone(&self.clock),
        }
    }

    /// Waits for more to send. Gives whether the server stops.
    async fn gather(&self, stop: &mut watch::Receiver<bool>) -> bool {
        let until = self.clock.moment().after(GATHER);
        tokio::select! {
            () = self.clock.sleep_until_moment(until) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        }
    }

    /// Waits until the server stops, and then as long as a request may take.
    async fn too_late(&self, stop: &mut watch::Receiver<bool>) {
        let _ = stop.wait_for(|stop| *stop).await;
        let until = self.clock.moment().after(LAST);
        self.clock.sleep_until_moment(until).await;
    }

    /// Sends a frame with `count` things. After a failure it tries again for a while, unless the
    /// server stops. `rejected` reads the answer.
    async fn send(
        &self,
        frame: Vec<u8>,
        count: u64,
        rejected: fn(&[u8]) -> u64,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Lost> {
        let frame = Bytes::from(frame);
        let mut pause = Duration::from_secs(1);
        let mut tried = 0;
        loop {
            tried += 1;
            let answer = tokio::select! {
                answer = self.post(frame.clone()) => answer,
                () = self.too_late(stop) => Err(Failure {
                    error: STOPPED.to_owned(),
                    again: None,
                }),
            };
            let failure = match answer {
                Ok(answer) => {
                    return match rejected(&answer) {
                        0 => Ok(()),
                        count => Err(Lost {
                            count,
                            error: "the collector rejected them".to_owned(),
                            is_all: false,
                        }),
                    };
                }
                Err(failure) => failure,
            };
            let is_last = tried == TRIES || *stop.borrow();
            let Some(wanted) = failure.again.filter(|_| !is_last) else {
                let error = failure.error;
                let is_all = true;
                return Err(Lost {
                    count,
                    error,
                    is_all,
                });
            };
            let wanted = wanted.unwrap_or(pause).min(PAUSE_MAX);
            let until = self.clock.moment().after(wanted);
            pause *= 2;
            tokio::select! {
                () = self.clock.sleep_until_moment(until) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Makes a request. Gives the answer of a collector that took it, or a part of it.
    async fn post(&self, frame: Bytes) -> Result<Vec<u8>, Failure> {
        let answer = self.client.post(&self.url).body(frame).send().await;
        let mut answer = answer.map_err(|error| Failure {
            // The URL has a field of its own.
            error: causes(&error.without_url()),
            again: Some(None),
        })?;
        let status = answer.status();
        if status.is_success() {
            let mut body = Vec::new();
            // A collector has little to say.
            while body.len() < ANSWER_MAX
                && let Ok(Some(piece)) = answer.chunk().await
            {
                body.extend_from_slice(&piece);
            }
            return Ok(body);
        }
        // OTLP 1.x, "Retryable response codes".
        let may_come_again = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        let wanted = answer.headers().get(RETRY_AFTER);
        let wanted = wanted.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        Err(Failure {
            error: format!("the collector answered {status}"),
            again: may_come_again.then(|| wanted.map(Duration::from_secs)),
        })
    }
}

#[cfg(test)]
mod tests;
