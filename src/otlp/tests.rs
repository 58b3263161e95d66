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
use postrider_store::{ManualClock, SystemClock, Time};
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
    let statics = statics(&listener);
    let router = Router::new()
        .route("/v1/traces", post(take))
        .with_state(Arc::clone(&collector));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (collector, statics)
}

/// A configuration with the collector at a listener.
fn statics(listener: &TcpListener) -> Static {
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let text = format!(
        "hostname = \"mail.example.org\"\npostmaster.account = \"a\"\n\
         otlp.endpoint = {endpoint:?}\n[listeners.l]\nips = [\"127.0.0.1\"]\n"
    );
    Static::parse(&text, "postrider.conf").unwrap()
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

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_an_answer() {
    // It takes connections, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clock = ManualClock::new(Time(0));
    let way = Way {
        clock: Arc::new(clock.clone()),
        ..way(&statics(&listener))
    };
    let (stop, mut stopping) = watch::channel(false);
    let sending = tokio::spawn(async move {
        let sent = way.send(Vec::new(), 7, rejected_spans, &mut stopping).await;
        sent.err().map(|lost| (lost.count, lost.error))
    });
    stop.send(true).unwrap();
    while !sending.is_finished() {
        clock.advance(LAST);
        tokio::task::yield_now().await;
    }
    assert_eq!(sending.await.unwrap(), Some((7, STOPPED.to_owned())));
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
                event: None,
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
        let counts = lines.map(|line| (line.field("count").cloned(), line.field("total").cloned()));
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
