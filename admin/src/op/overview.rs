//! How the server is: what needs attention, and figures that cost nothing.

use std::time::Duration;

use postrider_observe::metrics::{ConfigFile, LoadResult};
use postrider_receive::hooks::health::Condition;
use postrider_store::{HookFilter, Order, PointAmount, QueueFilter, Time};
use serde::{Deserialize, Serialize};

use super::{Single, dns::VerdictItem};
use crate::{AdminError, Context};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A destination or a webhook that fails for this time needs attention.
const FAILING: Duration = Duration::from_secs(60 * 60);
/// A certificate that ends within this time needs attention.
const EXPIRY: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// The most domains that are named.
const DOMAINS: usize = 5;
/// Each point of the last day has what came in so many microseconds.
const PART: i64 = 30 * 60 * 1_000_000;

/// Asks for the figures of queue and webhooks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetFigures {}

/// The figures of queue and webhooks. Times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Messages in the queue, with the held ones and those in delivery.
    pub queued: u64,
    /// Messages that are held.
    pub held: u64,
    /// Messages that are due, as they were counted last; None: they are not counted yet. With a
    /// large queue they are counted each few minutes.
    pub due: Option<u64>,
    /// Messages of attempts that go on.
    pub in_flight: u64,
    /// When the oldest message was queued; None: the queue is empty.
    pub oldest: Option<String>,
    /// Calls of webhooks that wait.
    pub calls: u64,
    /// Deliveries are stopped since then; None: they go on.
    pub deliveries_stopped: Option<String>,
    /// Calls of webhooks are stopped since then; None: they go on.
    pub webhooks_stopped: Option<String>,
}

impl Single for GetFigures {
    type Output = Figures;

    async fn answer(self, context: &Context) -> Result<Figures, AdminError> {
        let store = &context.store;
        let counts = store.counts().await;
        let all = QueueFilter::default();
        let oldest = store.list(&all, None, Order::Ascending, 1).await?;
        let oldest = oldest.items.first();
        let stops = store.stops().await?;
        let shown = |time: Option<Time>| time.map(|time| time.to_string());
        Ok(Figures {
            queued: counts.queued,
            held: counts.held,
            due: context.figures.due(store, context.clock.now()).await?,
            in_flight: counts.claimed,
            oldest: oldest.map(|oldest| oldest.common.queued.to_string()),
            calls: counts.hooks,
            deliveries_stopped: shown(stops.deliveries),
            webhooks_stopped: shown(stops.webhooks),
        })
    }
}

/// Asks for what came of messages in the last 24 hours.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetDay {}

/// What came of messages in the last 24 hours, as far as the server ran. The last minutes are
/// missing: points are made each five minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// Messages that were delivered.
    pub delivered: u64,
    /// Messages that left the queue without delivery: failed, or dropped.
    pub not_delivered: u64,
    /// Each half hour, oldest first.
    pub parts: Vec<DayPart>,
}

/// What came of messages in half an hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DayPart {
    /// The end of that time, in RFC 3339.
    pub end: String,
    /// Messages that were delivered.
    pub delivered: u64,
    /// Messages that left the queue without delivery.
    pub not_delivered: u64,
    /// Messages in the queue at the end; None: nothing is known.
    pub queued: Option<u64>,
}

impl Single for GetDay {
    type Output = Day;

    async fn answer(self, context: &Context) -> Result<Day, AdminError> {
        let now = context.clock.now();
        if let Some(day) = context.figures.known_day(now) {
            return Ok(day);
        }
        let growth = context
            .metrics_growth(now.before(DAY), Time(now.0 + 1))
            .await?;
        let first = now.0 - i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX);
        let parts = (1..=48).map(|number| DayPart {
            end: Time(first + number * PART).to_string(),
            ..DayPart::default()
        });
        let mut day = Day {
            parts: parts.collect(),
            ..Day::default()
        };
        for point in growth.points {
            let value = |id: &str| {
                let mut values = point.values.iter();
                values.find(|(known, _)| known == id).map(|(_, it)| *it)
            };
            let delivered = match value("postrider.delivery_age_seconds") {
                Some(PointAmount::Histogram { count, .. }) => count,
                _ => 0,
            };
            let ended = match value("postrider.messages_ended") {
                Some(PointAmount::Counter(count)) => count as u64,
                _ => 0,
            };
            let not_delivered = ended.saturating_sub(delivered);
            day.delivered += delivered;
            day.not_delivered += not_delivered;
            let place = (point.time.0 - first - 1).div_euclid(PART);
            let place = usize::try_from(place).unwrap_or(0);
            if let Some(part) = day.parts.get_mut(place) {
                part.delivered += delivered;
                part.not_delivered += not_delivered;
                if let Some(PointAmount::Gauge(queued)) = value("postrider.queue_messages") {
                    part.queued = Some(queued as u64);
                }
            }
        }
        context.figures.keep_day(now, &day);
        Ok(day)
    }
}

/// Asks for what needs attention.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetAttention {}

/// Something that needs attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    /// What it is about: `stopped`, `hold_rules`, `held`, `destinations`, `webhooks`, `hooks`,
    /// `disk`, `certificate`, `dns`, `config` or `dnsbl`.
    pub about: String,
    /// The domain that it is about; empty: it is about no domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// It hinders work now. Otherwise it will, or it is wanted.
    pub is_bad: bool,
    /// A sentence.
    pub text: String,
    /// Since when, in RFC 3339; or when it comes. None: that is not known.
    pub time: Option<String>,
}

impl Single for GetAttention {
    type Output = Vec<Attention>;

    async fn answer(self, context: &Context) -> Result<Vec<Attention>, AdminError> {
        let mut found = Found(Vec::new());
        found.stops(context).await?;
        found.hold_rules(context).await;
        found.receivers(context).await?;
        found.hooks(context);
        found.disk(context).await;
        found.certificates(context);
        found.dns(context);
        found.files(context);
        for [zone, address] in context.metrics.listed() {
            let text = format!("{zone} lists our address {address}.");
            found.add("dnsbl", true, text, None);
        }
        Ok(found.0)
    }
}

/// What needs attention, as far as it was looked for.
struct Found(Vec<Attention>);

impl Found {
    fn add(&mut self, about: &str, is_bad: bool, text: String, time: Option<Time>) {
        self.0.push(Attention {
            about: about.to_owned(),
            domain: String::new(),
            is_bad,
            text,
            time: time.map(|time| time.to_string()),
        });
    }

    /// Work that is stopped.
    async fn stops(&mut self, context: &Context) -> Result<(), AdminError> {
        let stops = context.store.stops().await?;
        for (work, since) in [
            ("deliveries", stops.deliveries),
            ("calls of webhooks", stops.webhooks),
        ] {
            if since.is_some() {
                self.add("stopped", true, format!("All {work} are stopped."), since);
            }
        }
        Ok(())
    }

    /// Hold rules, and mail that is held without one.
    async fn hold_rules(&mut self, context: &Context) {
        let counts = context.store.counts().await;
        let rules = match counts.hold_rules {
            1 => "A hold rule is in force".to_owned(),
            rules => format!("{rules} hold rules are in force"),
        };
        let held = match counts.held {
            1 => "1 message is held".to_owned(),
            held => format!("{held} messages are held"),
        };
        match (counts.hold_rules, counts.held) {
            (0, 0) => {}
            (0, _) => self.add(
                "held",
                false,
                format!("{held}, and no hold rule is in force."),
                None,
            ),
            _ => self.add("hold_rules", false, format!("{rules}; {held}."), None),
        }
    }

    /// Destinations and webhooks that take nothing.
    async fn receivers(&mut self, context: &Context) -> Result<(), AdminError> {
        for (site, since) in failing(context) {
            self.add(
                "destinations",
                true,
                format!("{site} takes no mail."),
                since,
            );
        }
        let any = HookFilter::default();
        let oldest = context.store.list_hooks(&any, None, Order::Ascending, 1);
        if let Some(oldest) = oldest.await?.items.first()
            && oldest.attempts > 0
            && context.clock.now().since(oldest.submitted) > FAILING
        {
            let text = format!("A webhook of account {} fails.", oldest.account);
            self.add("webhooks", true, text, Some(oldest.submitted));
        }
        Ok(())
    }

    /// Outside programs that do not answer, or answer late.
    fn hooks(&mut self, context: &Context) {
        for program in context.hooks.programs() {
            let health = program.health();
            let name = program.name();
            let (is_bad, text) = match health.condition {
                Condition::Up => continue,
                Condition::Slow => (false, format!("The hook {name} is slow")),
                Condition::Down => (true, format!("The hook {name} is down and left out")),
            };
            let text = format!("{text}: {}.", health.reason);
            self.add("hooks", is_bad, text, health.since);
        }
    }

    async fn disk(&mut self, context: &Context) {
        if let Ok(disk) = context.store.disk_use().await
            && disk.reserve > 0
            && disk.free < disk.reserve * 2
        {
            let is_full = disk.free < disk.reserve;
            let text = match is_full {
                true => "The disk is full: new mail is refused.",
                false => "The disk is nearly full: soon new mail is refused.",
            };
            self.add("disk", is_full, text.to_owned(), None);
        }
    }

    fn certificates(&mut self, context: &Context) {
        let now = context.clock.now();
        for (name, end) in context.certificates.ends() {
            let end = Time(end.saturating_mul(1_000_000));
            if end.0 == 0 {
                let text = format!("There is no certificate for {name} yet.");
                self.add("certificate", true, text, None);
            } else if end < now.after(EXPIRY) {
                let text = format!("The certificate for {name} ends soon or has ended.");
                self.add("certificate", end < now, text, Some(end));
            }
        }
    }

    /// Domains whose records are wrong, as the daily check found them.
    fn dns(&mut self, context: &Context) {
        let config = context.config.load();
        let verdicts = config.domains.keys();
        let verdicts = verdicts.filter_map(|domain| context.verdicts.of(domain));
        let wrong: Vec<VerdictItem> = verdicts.filter(|verdict| verdict.wrong > 0).collect();
        for verdict in wrong.iter().take(DOMAINS) {
            let records = match verdict.wrong {
                1 => "1 record is".to_owned(),
                wrong => format!("{wrong} records are"),
            };
            let domain = &verdict.domain;
            let text = format!("{records} wrong or missing in the DNS of {domain}.");
            self.add("dns", true, text, None);
            if let Some(added) = self.0.last_mut() {
                added.domain.clone_from(domain);
            }
        }
        if let more @ 1.. = wrong.len().saturating_sub(DOMAINS) {
            let text = format!("So it is with {more} more domains.");
            self.add("dns", true, text, None);
        }
    }

    /// Files of the configuration with errors.
    fn files(&mut self, context: &Context) {
        let metrics = &context.metrics;
        for (file, name) in [
            (ConfigFile::Postrider, "postrider.conf"),
            (ConfigFile::Domains, "domains.conf"),
        ] {
            let loads = &metrics.config_loads_total;
            let is_good = metrics.config_last_load_successful.with(file).get() > 0;
            if !is_good && loads.with((file, LoadResult::Refused)).get() > 0 {
                let text = format!("{name} has an error, so the one before is in force.");
                self.add("config", true, text, None);
            }
        }
    }
}

/// The sites that take no mail for a while, and since when nothing was delivered there.
fn failing(context: &Context) -> Vec<(String, Option<Time>)> {
    let now = context.clock.now();
    let states = context.queue.site_states();
    if !states
        .iter()
        .any(|(state, count)| state.is_halt() && *count > 0)
    {
        return Vec::new();
    }
    let views = context.queue.site_views(None).into_iter();
    let failing = views.filter(|view| {
        let last = view.last_success;
        let is_long = last.is_none_or(|last| now.since(last) > FAILING);
        view.state.is_halt() && is_long && view.hour.delivered == 0
    });
    let named = failing.map(|view| {
        let name = view.domains.first().cloned().unwrap_or(view.site);
        (name, view.last_success)
    });
    named.take(20).collect()
}
