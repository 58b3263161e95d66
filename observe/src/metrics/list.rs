//! The list of all metrics.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    cell::{Age, Counter, Fast, Gauge, Histogram, Powers, Slow},
    family::{Family, Named, OTHER, Series, Value},
    labels::*,
    process::Process,
};

/// The kind of a metric, as Prometheus has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It has buckets, a sum and a count.
    Histogram,
}

impl Kind {
    /// The name of the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What is known of a metric without its values.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// The whole name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// The names of its labels, in their order.
    pub labels: &'static [&'static str],
}

/// The kind of a cell.
trait OfKind {
    const KIND: Kind;
}

impl OfKind for Counter {
    const KIND: Kind = Kind::Counter;
}

impl OfKind for Gauge {
    const KIND: Kind = Kind::Gauge;
}

impl<B> OfKind for Histogram<B> {
    const KIND: Kind = Kind::Histogram;
}

impl<C: OfKind, L> OfKind for Family<C, L> {
    const KIND: Kind = C::KIND;
}

impl<C: OfKind, L, const N: usize> OfKind for Named<C, L, N> {
    const KIND: Kind = C::KIND;
}

/// The program that runs.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// Its version.
    pub version: &'static str,
    /// The commit that it was made of, if that is known.
    pub commit: &'static str,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: "unknown",
        }
    }
}

const BUILD: Definition = Definition {
    name: "postrider_build_info",
    kind: Kind::Gauge,
    help: "The program that runs: its version, and the commit that it was made of. Always 1.",
    labels: &["version", "commit"],
};

macro_rules! metrics {
    ($($name:ident: $type:ty, [$($label:literal),*], $help:literal;)*) => {
        /// All metrics of a server. Parts of the server share it as an `Arc`, and count in its
        /// fields. A field has the name of its metric without `postrider_`.
        #[derive(Debug, Default)]
        pub struct Metrics {
            build: Build,
            $(#[doc = $help] pub $name: $type,)*
        }

        impl Metrics {
            /// All metrics of this struct, with their series.
            fn fields(&self) -> Vec<(Definition, &dyn Series)> {
                vec![$((
                    Definition {
                        name: concat!("postrider_", stringify!($name)),
                        kind: <$type as OfKind>::KIND,
                        help: $help,
                        labels: &[$($label),*],
                    },
                    &self.$name,
                ),)*]
            }
        }
    };
}

metrics! {
    connections: Family<Gauge, Listener>, ["service"], "Open connections of clients.";
    connections_total: Family<Counter, (Listener, Accepted)>, ["service", "result"],
        "New connections of clients, with what became of them: ok, all places taken (limit), the \
         places of its network taken (network), no file descriptors left (descriptors), failed.";
    commands_total: Family<Counter, (Service, Command, ReplyClass)>,
        ["direction", "command", "class"],
        "Commands of SMTP clients, by the first digit of the reply.";
    command_duration_seconds: Family<Histogram<Fast>, (Service, TimedCommand)>,
        ["direction", "command"],
        "From a command to its reply. For data and bdat: from the last byte of the text.";
    refusals_total: Family<Counter, (Service, Reason)>, ["service", "reason"],
        "What SMTP clients were refused, by reason: connections, commands, recipients, messages.";
    accepted_messages_total: Family<Counter, By>, ["by"], "Messages taken.";
    accepted_recipients_total: Family<Counter, By>, ["by"], "Recipients of the messages taken.";
    accepted_bytes_total: Family<Counter, By>, ["by"], "Bytes of the messages taken.";
    accept_duration_seconds: Family<Histogram<Fast>, By>, ["by"],
        "From the last byte of a message to the answer that it is taken and on disk.";
    tls_handshakes_total: Family<Counter, (TlsDirection, TlsVersion, Success)>,
        ["direction", "version", "result"], "TLS handshakes of clients (in) and to hosts (out).";
    tls_failures_total: Family<Counter, (TlsDirection, TlsFailure)>, ["direction", "reason"],
        "TLS handshakes that failed, by reason.";
    authentications_total: Family<Counter, (LoginService, LoginResult)>, ["service", "result"],
        "Logins, and calls with a login.";
    authentication_mechanisms_total: Family<Counter, LoginMechanism>, ["mechanism"],
        "Logins that were right, by mechanism of SASL or HTTP.";
    mail_checks_total: Family<Counter, (Check, CheckResult)>, ["check", "result"],
        "Checks of incoming messages, by result of RFC 8601.";
    check_duration_seconds: Family<Histogram<Slow>, TimedCheck>, ["check"],
        "How long a check of an incoming message took.";
    verdicts_total: Family<Counter, Verdict>, ["verdict"],
        "What became of incoming messages, for each recipient.";
    script_failures_total: Family<Counter, ()>, [],
        "Scripts of accounts that failed while they ran, so that their message was kept.";
    greylist_total: Family<Counter, Greylisted>, ["result"], "Recipients that the greylist saw.";
    dns_questions_total: Family<Counter, (DnsType, DnsResult)>, ["type", "result"],
        "Questions that DNS servers were asked, by their result. servfail: SERVFAIL or another code of a failure. timeout: no answer in time. error: no server could be asked, or what it said can't be read.";
    dns_question_duration_seconds: Family<Histogram<Slow>, DnsType>, ["type"],
        "How long the answer to a question of DNS took.";
    dns_cache_total: Family<Counter, Cached>, ["result"],
        "Questions of DNS that the cache answered (hit), or did not (miss).";
    hook_calls_total: Named<Counter, HookResult, 1>, ["hook", "result"],
        "Calls of hooks for incoming messages.";
    hook_duration_seconds: Named<Histogram<Slow>, (), 1>, ["hook"], "How long a hook took.";
    hook_down: Named<Gauge, (), 1>, ["hook"],
        "1: the hook fails, and is left out for a while. Mail goes the way of its on_error.";
    queue_messages: Family<Gauge, QueueState>, ["state"], "Messages in the queue.";
    queue_bytes: Family<Gauge, ()>, [], "Bytes of the messages in the queue.";
    queue_oldest_seconds: Family<Gauge, ()>, [], "The age of the oldest message in the queue.";
    queue_overdue_seconds: Family<Gauge, ()>, [],
        "How long the message that waits longest for its attempt waits beyond its due time.";
    queue_paused: Family<Gauge, ()>, [], "1: an administrator stopped the deliveries.";
    hold_rules: Family<Gauge, ()>, [], "Hold rules.";
    attempts_total: Family<Counter, (AttemptOutcome, Class)>, ["outcome", "class"],
        "Attempts to deliver a message, by outcome and the class of the reply.";
    attempt_duration_seconds: Family<Histogram<Slow>, AttemptOutcome>, ["outcome"],
        "How long an attempt took.";
    delivery_age_seconds: Family<Histogram<Age>, ()>, [],
        "From the queueing of a message to its delivery.";
    messages_ended_total: Family<Counter, End>, ["end"], "Messages that left the queue.";
    outgoing_connections: Family<Gauge, Usage>, ["state"], "Open connections to other hosts.";
    outgoing_connections_total: Family<Counter, Connected>, ["result"],
        "Connections to other hosts, with what became of them.";
    outgoing_tls_total: Family<Counter, (TlsPolicy, TlsUse)>, ["policy", "result"],
        "TLS on connections to other hosts, by what demanded it.";
    sites: Family<Gauge, SiteState>, ["state"], "Sites that mail goes to, by state.";
    dsns_total: Family<Counter, DsnAction>, ["action"], "Reports of deliveries (DSNs) queued.";
    suppressed_total: Family<Counter, SuppressedBy>, ["by"],
        "Addresses that came on a suppression list.";
    suppressions: Family<Gauge, ()>, [], "Addresses on suppression lists.";
    account_limits_total: Family<Counter, AccountLimit>, ["limit"],
        "Submissions refused since the account has reached a limit.";
    webhook_calls_total: Family<Counter, (WebhookDirection, WebhookResult)>,
        ["direction", "result"], "Calls of webhooks.";
    webhook_duration_seconds: Family<Histogram<Slow>, WebhookDirection>, ["direction"],
        "How long a call of a webhook took.";
    webhook_oldest_seconds: Family<Gauge, ()>, [], "The age of the oldest call that waits.";
    webhooks_waiting: Family<Gauge, ()>, [], "Calls of webhooks that wait.";
    webhooks_given_up_total: Family<Counter, ()>, [],
        "Calls of webhooks that failed at their last attempt.";
    events_total: Family<Counter, Event>, ["event"], "Events of messages.";
    http_requests_total: Family<Counter, (Api, StatusClass)>, ["api", "code"],
        "Requests over HTTP, but for those of /healthz. 503 is not among 5xx.";
    http_request_duration_seconds: Family<Histogram<Fast>, Api>, ["api"],
        "From a request over HTTP to the head of its answer.";
    webapi_calls_total: Family<Counter, (Method, CallResult)>, ["method", "result"],
        "Calls of the webapi.";
    streams: Family<Gauge, StreamKind>, ["kind"], "Open streams of events and other news.";
    store_batch_operations: Family<Histogram<Powers>, ()>, [],
        "Operations that shared one write and one sync of the journal.";
    store_sync_duration_seconds: Family<Histogram<Fast>, ()>, [],
        "How long the disk took to sync a batch of the journal.";
    store_checkpoint_duration_seconds: Family<Histogram<Fast>, ()>, [],
        "How long a checkpoint of the index took.";
    store_unindexed_bytes: Family<Gauge, ()>, [],
        "Bytes of the journal that a start would read again.";
    store_bytes: Family<Gauge, StorePart>, ["part"],
        "Bytes of the parts of the data folder. journal, index and traces: their files, also those that are made in advance. bodies: all texts, of which those up to 256 KiB lie in the journal, and the others in files of their own. reports: what reports.max_size limits; their texts are among the bodies too.";
    store_free_bytes: Family<Gauge, ()>, [], "Free bytes of the disk of the data folder.";
    store_reserve_bytes: Family<Gauge, ()>, [],
        "The free bytes below which new mail is refused (store.min_free).";
    store_errors_total: Family<Counter, StoreOperation>, ["operation"],
        "Calls of the disk that failed.";
    store_records_set_aside: Family<Gauge, ()>, [], "Records that can't be read.";
    certificate_expiry_timestamp_seconds: Named<Gauge, (), 1>, ["name"],
        "When the certificate of a name ends, in seconds since 1970. 0: it has none.";
    acme_orders_total: Family<Counter, Success>, ["result"], "Certificates ordered by ACME.";
    config_loads_total: Family<Counter, (ConfigFile, LoadResult)>, ["file", "result"],
        "How often a file of the configuration was read.";
    config_last_load_successful: Family<Gauge, ConfigFile>, ["file"],
        "1: the file was without errors when it was read last.";
    dns_records_wrong: Family<Gauge, RecordKind>, ["record"],
        "Records of our domains in DNS that are missing or not as they should be.";
    dns_records_unchecked: Family<Gauge, RecordKind>, ["record"],
        "Records of our domains in DNS, and services that they lead to, which gave no answer at the last look, so that it is not known whether they are as they should be.";
    dnsbl_listed: Named<Gauge, (), 2>, ["zone", "ip"],
        "1: the zone lists this address of ours.";
    reports_received_total: Family<Counter, (ReportKind, ReportResult)>, ["kind", "result"],
        "Reports of others about mail.";
    dmarc_reported_messages_total: Family<Counter, DmarcReported>, ["result"],
        "Messages in the name of our domains, as verified DMARC reports of others tell.";
    tls_reported_sessions_total: Family<Counter, TlsReported>, ["result"],
        "Sessions to our hosts, as verified TLS reports of others tell.";
    panics_total: Family<Counter, PanicIn>, ["part"],
        "Panics. Each is a fault of the program; the server goes on.";
    log_lines_total: Family<Counter, LogLevel>, ["level"], "Lines of the log.";
    log_lines_dropped_total: Family<Counter, ()>, [],
        "Lines of the log that were dropped, since they were not taken in time.";
    traces_total: Family<Counter, (TraceKind, TraceResult)>, ["kind", "result"],
        "Traces, with what became of them.";
    traces_lost_total: Family<Counter, TraceReader>, ["reader"],
        "Traces that a reader of those that end did not take in time.";
    trace_news_lost_total: Family<Counter, ()>, [],
        "Events and ends of traces that a live stream did not take in time.";
}

/// How many names get series of their own. What is beyond counts as `other`.
const HOOKS: usize = 32;
const CERTIFICATES: usize = 256;
const ZONES: usize = 16;
const ADDRESSES: usize = 16;

/// The names up to a limit, each once, and `other` if there are more.
fn limited(names: &[String], limit: usize) -> Vec<Box<str>> {
    let mut limited: Vec<Box<str>> = Vec::new();
    for name in names {
        if limited.iter().any(|known| **known == **name) {
            continue;
        }
        if limited.len() == limit {
            limited.push(OTHER.into());
            break;
        }
        limited.push(name.as_str().into());
    }
    limited
}

impl Metrics {
    /// Metrics of this program.
    #[must_use]
    pub fn new(build: Build) -> Self {
        Self {
            build,
            ..Self::default()
        }
    }

    /// Counts mail that was taken: messages, their recipients, and their bytes. `took`: the time to
    /// the durable reply. None: nobody waited for one.
    pub fn count_accepted(
        &self,
        by: By,
        (messages, recipients): (usize, usize),
        bytes: u64,
        took: Option<Duration>,
    ) {
        self.accepted_messages_total.with(by).add(messages as u64);
        let counter = self.accepted_recipients_total.with(by);
        counter.add(recipients as u64);
        self.accepted_bytes_total.with(by).add(bytes);
        if let Some(took) = took {
            self.accept_duration_seconds.with(by).observe(took);
        }
    }

    /// Sets the names of the hooks. Beyond 32 they count as `other`.
    pub fn set_hooks(&self, names: &[String]) {
        let names = limited(names, HOOKS).into_iter().map(|name| [name]);
        let hooks: Vec<_> = names.collect();
        self.hook_calls_total.set(hooks.clone());
        self.hook_duration_seconds.set(hooks.clone());
        self.hook_down.set(hooks);
    }

    /// Sets when the certificates of these names end, in seconds since 1970. Beyond 256 names,
    /// `other` has the first end.
    pub fn set_certificates(&self, ends: &[(String, i64)]) {
        let names: Vec<String> = ends.iter().map(|(name, _)| name.clone()).collect();
        let names = limited(&names, CERTIFICATES).into_iter();
        let certificates = &self.certificate_expiry_timestamp_seconds;
        certificates.set(names.map(|name| [name]).collect());
        let mut first: HashMap<[&str; 1], i64> = HashMap::new();
        for (name, end) in ends {
            let known = first.entry(certificates.known([name])).or_insert(*end);
            *known = (*known).min(*end);
        }
        for (name, end) in first {
            certificates.named(name).set(end);
        }
    }

    /// Sets which zones list which addresses of ours. Beyond 16 zones and 16 addresses, `other`
    /// says whether any of them is listed.
    pub fn set_listed(&self, zones: &[String], addresses: &[String], listed: &[(String, String)]) {
        let zones = limited(zones, ZONES);
        let addresses = limited(addresses, ADDRESSES);
        let pairs = zones.iter().flat_map(|zone| {
            let addresses = addresses.iter();
            addresses.map(move |address| [zone.clone(), address.clone()])
        });
        self.dnsbl_listed.set(pairs.collect());
        let known = |names: &[Box<str>], name: &str| -> Box<str> {
            let mut names = names.iter();
            let known = names.find(|known| ***known == *name);
            known.cloned().unwrap_or_else(|| OTHER.into())
        };
        let listed: HashSet<[Box<str>; 2]> = listed
            .iter()
            .map(|(zone, address)| [known(&zones, zone), known(&addresses, address)])
            .collect();
        for zone in &zones {
            for address in &addresses {
                let is_listed = listed.contains(&[zone.clone(), address.clone()]);
                let cell = self.dnsbl_listed.named([zone, address]);
                cell.set(i64::from(is_listed));
            }
        }
    }

    /// The zones that list addresses of ours, each with the address.
    #[must_use]
    pub fn listed(&self) -> Vec<[String; 2]> {
        let mut all = Vec::new();
        self.dnsbl_listed.each(&mut |labels, value| {
            if let ([zone, address], true) = (labels, value == Value::Gauge(1.0)) {
                all.push([(*zone).to_owned(), (*address).to_owned()]);
            }
        });
        all
    }

    /// Calls `visit` with each metric and its series. `process` is what the system says now.
    pub fn each(&self, process: &Process, visit: &mut dyn FnMut(Definition, &dyn Series)) {
        for (definition, series) in self.fields() {
            visit(definition, series);
        }
        visit(BUILD, &self.build);
        process.each(visit);
    }

    /// The definitions of all metrics.
    #[must_use]
    pub fn definitions() -> Vec<Definition> {
        let mut all = Vec::new();
        Self::default().each(&Process::default(), &mut |definition, _| {
            all.push(definition)
        });
        all
    }
}

/// An open stream. It counts until it is dropped.
#[derive(Debug)]
pub struct OpenStream(Arc<Metrics>, StreamKind);

impl OpenStream {
    /// Counts a stream of this kind.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, kind: StreamKind) -> Self {
        metrics.streams.with(kind).inc();
        Self(Arc::clone(metrics), kind)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.with(self.1).dec();
    }
}

/// An open connection. It counts until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<Metrics>, Listener);

impl OpenConnection {
    /// Counts a connection of this listener.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, listener: Listener) -> Self {
        metrics.connections.with(listener).inc();
        Self(Arc::clone(metrics), listener)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.with(self.1).dec();
    }
}

impl Series for Build {
    fn each(&self, visit: &mut dyn FnMut(&[&str], Value)) {
        visit(&[self.version, self.commit], Value::Gauge(1.0));
    }
}
