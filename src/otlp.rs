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
    task::spawn_blocking,
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
/// How long requests are made when the server stops.
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

/// The exporters that the configuration wants.
///
/// # Errors
/// If a file of `tls.ca_files` can't be used.
pub(crate) fn exporters(
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
        let (mut goes_on, mut is_taken) = (true, true);
        while goes_on {
            goes_on = self.gather(&mut batch, &mut stop).await;
            is_taken = self.send(&mut batch, &mut stop).await;
        }
        let until = self.way.clock.moment().after(LAST);
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
            let failure = match self.post(frame.clone()).await {
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
mod tests {
    use std::path::Path;

    use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
    use opentelemetry_proto::tonic::{
        collector::trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        },
        trace::v1::Span,
    };
    use postrider_observe::log::{Level, Value};
    use postrider_observe::{
        Metrics,
        trace::{Keep, Kind, Limits, Recorder, RecorderParts},
    };
    use postrider_store::SystemClock;
    use prost::Message;
    use tokio::net::TcpListener;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What a collector got. It answers each request with these statuses in turn, and then with
    /// 200.
    struct Collector {
        statuses: Vec<u16>,
        answer: Vec<u8>,
        frames: watch::Sender<Vec<Bytes>>,
    }

    async fn take(State(collector): State<Arc<Collector>>, frame: Bytes) -> (StatusCode, Vec<u8>) {
        let number = collector.frames.borrow().len();
        collector.frames.send_modify(|frames| frames.push(frame));
        let status = collector.statuses.get(number).copied().unwrap_or(200);
        let status = StatusCode::from_u16(status).unwrap();
        (status, collector.answer.clone())
    }

    async fn collector(statuses: &[u16], answer: Vec<u8>) -> (Arc<Collector>, Static) {
        let collector = Arc::new(Collector {
            statuses: statuses.to_vec(),
            answer,
            frames: watch::Sender::new(Vec::new()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&collector));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let text = format!(
            "hostname = \"mail.example.org\"\npostmaster.account = \"a\"\n\
             otlp.endpoint = {endpoint:?}\n[listeners.l]\nips = [\"127.0.0.1\"]\n"
        );
        let statics = Static::parse(&text, "postrider.conf").unwrap();
        (collector, statics)
    }

    fn way(statics: &Static) -> Way {
        let config = statics.otlp.as_ref().unwrap();
        let base = Way::new(config, statics, Arc::new(SystemClock)).unwrap();
        base.to("v1/traces")
    }

    #[tokio::test]
    async fn a_request_comes_again_only_if_that_may_help() {
        let rejects = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 2,
                error_message: String::new(),
            }),
        };
        let rejects = rejects.encode_to_vec();
        for (statuses, answer, requests, lost) in [
            (&[][..], Vec::new(), 1, 0),
            (&[503, 429], Vec::new(), 3, 0),
            (&[400], Vec::new(), 1, 7),
            (&[401], Vec::new(), 1, 7),
            (&[], rejects, 1, 2),
        ] {
            let (collector, statics) = collector(statuses, answer).await;
            let (_stop, mut stopping) = watch::channel(false);
            let frame = b"frame".to_vec();
            let sent = way(&statics)
                .send(frame, 7, rejected_spans, &mut stopping)
                .await;
            let count = sent.err().map_or(0, |lost| lost.count);
            assert_eq!(count, lost, "{statuses:?}");
            let frames = collector.frames.borrow().clone();
            assert_eq!(frames, vec![&b"frame"[..]; requests], "{statuses:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_stops_does_not_wait_for_a_collector() {
        let (collector, statics) = collector(&[503, 503, 503], Vec::new()).await;
        let (_stop, mut stopping) = watch::channel(true);
        let sent = way(&statics)
            .send(Vec::new(), 7, rejected_spans, &mut stopping)
            .await;
        assert_eq!(sent.err().map(|lost| lost.count), Some(7));
        assert_eq!(collector.frames.borrow().len(), 1);
    }

    fn recorder(dir: &Path, metrics: &Arc<Metrics>) -> Recorder {
        let parts = RecorderParts {
            dir: dir.join("traces"),
            limits: Limits {
                keep: Duration::from_secs(3600),
                max_size: 1 << 20,
            },
            sample: 1.0,
            metrics: Arc::clone(metrics),
            now: Arc::new(|| SystemClock.now().0),
            has_room: Box::new(|| true),
        };
        Recorder::start(parts).unwrap()
    }

    /// Ends so many traces, and waits until those who follow them have them.
    fn end_traces(recorder: &Recorder, count: usize) {
        for _ in 0..count {
            let trace = recorder.tracer().start(Kind::Attempt, SystemClock.now().0);
            recorder.tracer().finish(trace, Keep::Always);
        }
        let _look = recorder.traces().look().unwrap();
    }

    #[tokio::test]
    async fn traces_that_end_go_to_the_collector() {
        let (collector, statics) = collector(&[], Vec::new()).await;
        let dir = tempfile::tempdir().unwrap();
        let recorder = recorder(dir.path(), &Arc::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let log = Log::default();
        let (of_log, of_traces) = exporters(&statics, &log, recorder.traces(), &clock).unwrap();
        assert!(of_log.is_some());
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(of_traces.unwrap().run(stopping));
        let trace = recorder.tracer().start(Kind::Attempt, SystemClock.now().0);
        recorder.tracer().finish(trace, Keep::Always);
        let mut frames = collector.frames.subscribe();
        let frames = frames.wait_for(|frames| !frames.is_empty()).await.unwrap();
        let request = ExportTraceServiceRequest::decode(&*frames[0]).unwrap();
        let spans = request.resource_spans.into_iter();
        let spans = spans.flat_map(|it| it.scope_spans).flat_map(|it| it.spans);
        let spans: Vec<Span> = spans.collect();
        assert_eq!((spans.len(), &*spans[0].name), (1, "attempt"));
        drop(frames);
        stop.send(true).unwrap();
        running.await.unwrap();
    }

    /// What waits when the server stops is sent, or counted.
    #[tokio::test]
    async fn at_the_end_lines_are_sent_or_counted() {
        const COUNT: usize = 3 * BATCH + 7;
        for (statuses, requests, dropped) in [(&[][..], 4, 0), (&[200, 400], 2, 2 * BATCH + 7)] {
            let (collector, statics) = collector(statuses, Vec::new()).await;
            let (log, metrics) = (Log::default(), Arc::<Metrics>::default());
            log.count_in(Arc::clone(&metrics));
            let exporter = LogExporter::new(way(&statics), &statics, &log);
            for number in 0..COUNT {
                log.add(Line {
                    micros: 5,
                    level: Level::Debug,
                    target: "postrider_queue".into(),
                    message: format!("line {number}"),
                    fields: Vec::new(),
                });
            }
            let (_stop, stopping) = watch::channel(true);
            exporter.run(stopping).await;
            assert_eq!(collector.frames.borrow().len(), requests, "{statuses:?}");
            let counted = metrics.log_lines_dropped_total.with(()).get();
            assert_eq!(counted, dropped as u64, "{statuses:?}");
        }
    }

    /// What the collector does not get is in the log, with a sum: the log joins equal lines.
    #[tokio::test]
    async fn traces_that_are_lost_are_told() {
        let log = Log::default();
        let subscriber = tracing_subscriber::registry().with(log.layer());
        let _guard = tracing::subscriber::set_default(subscriber);
        let told = || -> Vec<(Option<Value>, Option<Value>)> {
            let lines = log.newest(None).into_iter().map(|(_, line)| line);
            let lines = lines.filter(|line| line.message == "traces not exported");
            let counts =
                lines.map(|line| (line.field("count").cloned(), line.field("total").cloned()));
            counts.collect()
        };
        let counts = |count, total| (Some(Value::Unsigned(count)), Some(Value::Unsigned(total)));
        // It refuses the first request, and the third.
        let (collector, statics) = collector(&[400, 200, 400], Vec::new()).await;
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::<Metrics>::default();
        let recorder = recorder(dir.path(), &metrics);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (_, of_traces) = exporters(&statics, &log, recorder.traces(), &clock).unwrap();
        let mut of_traces = of_traces.unwrap();
        let (stop, mut stopping) = watch::channel(false);
        end_traces(&recorder, 3);
        let mut batch = Vec::new();
        assert!(of_traces.fill(&mut batch));
        assert!(!of_traces.send(&mut batch, &mut stopping).await);
        assert_eq!(told(), [counts(3, 3)]);
        // At the end what waits goes, unless the collector fails.
        end_traces(&recorder, 3 * TRACES_MAX);
        stop.send(true).unwrap();
        of_traces.run(stopping).await;
        assert_eq!(collector.frames.borrow().len(), 3);
        let (lost, left) = (TRACES_MAX as u64, TRACES_MAX as u64);
        assert_eq!(
            told(),
            [
                counts(left, 3 + lost + left),
                counts(lost, 3 + lost),
                counts(3, 3)
            ]
        );
        let counted = metrics.traces_lost_total.with(TraceReader::Otlp).get();
        assert_eq!(counted, 3 + lost + left);
    }
}
