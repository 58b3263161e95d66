//! Sites that the queue delivers to: what is known of them, and what administrators want for them.

use postrider_config::Rate;
use postrider_queue::{SiteError, SiteHost, SiteOrderError, SiteSource, SiteView, SiteWaiting};
use postrider_smtp::Host;
use postrider_store::{SiteOrder, Time};
use serde::{Deserialize, Serialize};

use super::{Operation, Single, Sink};
use crate::{AdminError, Context};

/// The longest name of a site or a domain.
const TARGET_MAX: usize = 4096;
/// How the names of sites begin that are no domain, no address literal and no provider.
const KINDS: [&str; 4] = ["mx:", "transport:", "lmtp:", "local:"];
/// The longest reason.
const REASON_MAX: usize = 1000;
/// The most connections of an order.
const CONNECTIONS_MAX: u32 = 10_000;
/// The error about a text that is no rate.
const NO_RATE: &str =
    "a rate is a number of 1 or more and a period: 100/second, 100/minute, 100/hour, 100/day";

/// A site. A null field does not apply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DestinationItem {
    /// The name of the site: a provider, `mx:` and a hash of the MX hosts, an address literal,
    /// `transport:NAME` or `lmtp:ADDRESS`.
    pub site: String,
    /// The entry of the provider; empty: nothing was planned since the start.
    pub provider: String,
    /// What sets the TLS of connections, in words; empty: nothing was planned since the start.
    pub tls: String,
    /// Where connections came from lately, and sources of ours of which something is known there.
    pub sources: Vec<DestinationSource>,
    /// The domains whose messages go there: some of them, if there are many.
    pub domains: Vec<String>,
    /// `active`, `limited`, `resting`, `down`, `blocked` or `paused`.
    pub state: String,
    /// When the state ends by itself, in RFC 3339.
    pub until: Option<String>,
    /// The reason for the state; of a site that takes mail, what is to be looked into.
    pub reason: Option<String>,
    /// All limits that hold back messages, the most important first: `probe`, `blocked`,
    /// `warm_up`, `rate`, `connections`, `connect_rate`, `address`, `concurrency`.
    pub limited_by: Vec<String>,
    /// Messages in the queue that are due now or later, and not in flight.
    pub waiting: u64,
    /// Those of them that are due now.
    pub due: u64,
    /// Messages that are held.
    pub held: u64,
    /// Since when the first of the due messages is due, in RFC 3339.
    pub oldest: Option<String>,
    /// The messages of attempts that go on.
    pub in_flight: u64,
    /// The connections, also those that are being made.
    pub open: u64,
    /// How many connections there may be now. Its fraction is what success added.
    pub window: f64,
    /// The most connections, by configuration, orders and what the site told.
    pub cap: u64,
    /// The rates of messages that hold, as `100/minute`.
    pub rate: Vec<String>,
    /// The results of the last hour.
    pub hour: DestinationHour,
    /// When the site last took a message, in RFC 3339.
    pub last_success: Option<String>,
    /// The last failure.
    pub last_error: Option<DestinationError>,
    /// The hosts, by preference.
    pub hosts: Vec<DestinationHost>,
    /// What administrators want for the site and its domains.
    pub orders: Vec<DestinationOrder>,
}

/// Where connections to a site come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DestinationSource {
    /// The name in the configuration, or the address; null: the system chooses the address.
    pub name: Option<String>,
    /// The address or the proxy of ours; null: the system chooses the address, or the source is
    /// not in the configuration any more.
    pub address: Option<String>,
    /// Our name in EHLO; empty: the source is not in the configuration any more.
    pub ehlo: String,
    /// `active`, `limited`, `blocked` by the site, `nameless` (no name leads back to its IPv6
    /// address) or `off` (no connection can be begun at its address).
    pub state: String,
    /// When the state ends by itself, in RFC 3339.
    pub until: Option<String>,
    /// The reason for the state.
    pub reason: Option<String>,
    /// What limits it: `warm_up`, `rate` or `connect_rate`.
    pub limited_by: Option<String>,
    /// The rates of its messages that hold, as `100/minute`.
    pub rate: Vec<String>,
    /// Its warm-up.
    pub warm_up: Option<DestinationWarmUp>,
}

/// The warm-up of a source at a site, on this day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DestinationWarmUp {
    /// The messages so far.
    pub sent: u32,
    /// The most there may be.
    pub max: u32,
}

/// The results of an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DestinationHour {
    /// The site took the message.
    pub delivered: u64,
    /// The message is tried again.
    pub deferred: u64,
    /// The message failed.
    pub failed: u64,
}

/// A failure at a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DestinationError {
    /// When it was, in RFC 3339.
    pub time: String,
    /// The name of the host; empty: it is not known.
    pub host: String,
    /// The address of the host.
    pub ip: Option<String>,
    /// The stage of the session, such as `RCPT`; empty: it is not known.
    pub stage: String,
    /// The reply code; 0: there was no reply.
    pub code: u16,
    /// The enhanced code.
    pub enhanced: Option<String>,
    /// The text of the reply, or of the server itself.
    pub text: String,
    /// The class of the reason, such as `blocked`.
    pub class: String,
}

/// A host of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DestinationHost {
    /// Its name.
    pub name: String,
    /// Its preference.
    pub preference: u16,
    /// The addresses that were tried.
    pub addresses: Vec<DestinationAddress>,
}

/// An address of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DestinationAddress {
    /// The address.
    pub ip: String,
    /// Other addresses go first until then, since connections to this one failed. In RFC 3339.
    pub until: Option<String>,
}

/// What administrators want for a site or a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DestinationOrder {
    /// The site or the domain.
    pub target: String,
    /// `pause` or `limit`.
    pub order: String,
    /// When it began, in RFC 3339.
    pub since: String,
    /// When it ends, in RFC 3339; null: when it is taken back.
    pub until: Option<String>,
    /// The most connections, for a limit.
    pub connections: Option<u32>,
    /// The most messages in a time, for a limit.
    pub rate: Option<String>,
    /// Why.
    pub reason: String,
}

fn shown(time: Option<Time>) -> Option<String> {
    time.map(|time| time.to_string())
}

fn number(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl From<(SiteView, SiteWaiting)> for DestinationItem {
    fn from((view, waiting): (SiteView, SiteWaiting)) -> Self {
        let limits = view.limited_by.iter();
        let sources = view.sources.into_iter().map(DestinationSource::from);
        Self {
            site: view.site,
            provider: view.provider,
            tls: view.tls.to_owned(),
            sources: sources.collect(),
            domains: view.domains,
            state: view.state.name().to_owned(),
            until: shown(view.until),
            reason: view.reason,
            limited_by: limits.map(|limit| limit.name().to_owned()).collect(),
            waiting: waiting.waiting,
            due: waiting.due,
            held: waiting.held,
            oldest: shown(waiting.oldest),
            in_flight: number(view.in_flight),
            open: number(view.open),
            window: (view.window * 100.0).round() / 100.0,
            cap: number(view.cap),
            rate: view.rate,
            hour: DestinationHour {
                delivered: view.hour.delivered,
                deferred: view.hour.deferred,
                failed: view.hour.failed,
            },
            last_success: shown(view.last_success),
            last_error: view.last_error.map(DestinationError::from),
            hosts: view.hosts.into_iter().map(DestinationHost::from).collect(),
            orders: orders(&view.orders),
        }
    }
}

impl From<SiteSource> for DestinationSource {
    fn from(source: SiteSource) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let warm_up = source.warm_up;
        Self {
            name: given(source.name),
            address: given(source.address),
            ehlo: source.ehlo,
            state: source.state.name().to_owned(),
            until: shown(source.until),
            reason: source.reason,
            limited_by: source.limited_by.map(|limit| limit.name().to_owned()),
            rate: source.rate,
            warm_up: warm_up.map(|(sent, max)| DestinationWarmUp { sent, max }),
        }
    }
}

impl From<SiteError> for DestinationError {
    fn from(error: SiteError) -> Self {
        Self {
            time: error.time.to_string(),
            host: error.host,
            ip: error.ip.map(|ip| ip.to_string()),
            stage: error.stage,
            code: error.code,
            enhanced: error.enhanced.map(|code| code.to_string()),
            text: error.text,
            class: error.class.to_owned(),
        }
    }
}

impl From<SiteHost> for DestinationHost {
    fn from(host: SiteHost) -> Self {
        let addresses = host.addresses.into_iter();
        let addresses = addresses.map(|address| DestinationAddress {
            ip: address.ip.to_string(),
            until: shown(address.until),
        });
        Self {
            name: host.name,
            preference: host.preference,
            addresses: addresses.collect(),
        }
    }
}

/// The pauses and limits of orders.
fn orders(orders: &[SiteOrder]) -> Vec<DestinationOrder> {
    let pause = |order: &SiteOrder| {
        let pause = order.pause.as_ref()?;
        Some(DestinationOrder {
            target: order.target.clone(),
            order: "pause".to_owned(),
            since: pause.since.to_string(),
            until: shown(pause.until),
            connections: None,
            rate: None,
            reason: pause.reason.clone(),
        })
    };
    let limit = |order: &SiteOrder| {
        let limit = order.limit.as_ref()?;
        Some(DestinationOrder {
            target: order.target.clone(),
            order: "limit".to_owned(),
            since: limit.since.to_string(),
            until: shown(limit.until),
            connections: limit.connections,
            rate: limit.rate.clone(),
            reason: limit.reason.clone(),
        })
    };
    let both = orders.iter().map(|order| [pause(order), limit(order)]);
    both.flatten().flatten().collect()
}

/// Lists the sites that are known, by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    /// Only the site with this name, and the sites of this domain.
    pub target: Option<String>,
}

impl Operation for List {
    type Item = DestinationItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<DestinationItem>,
    ) -> Result<(), AdminError> {
        let target = self.target.map(|target| named(&target)).transpose()?;
        let views = context.queue.site_views(target.as_deref());
        let waiting = context.queue.waiting_at(&views).await?;
        let listed = views.into_iter().zip(waiting);
        items
            .send(listed.map(DestinationItem::from).collect())
            .await
    }
}

/// Lists what administrators want for sites and domains, by target.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListOrders {}

impl Operation for ListOrders {
    type Item = DestinationOrder;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<DestinationOrder>,
    ) -> Result<(), AdminError> {
        items.send(orders(&context.queue.site_orders())).await
    }
}

/// Pauses deliveries to a site or a domain. Attempts that go on come to their end. The time of
/// messages stands still meanwhile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = DestinationPause))]
#[serde(default, deny_unknown_fields)]
pub struct Pause {
    /// The site or the domain. Over HTTP the path names it.
    pub target: String,
    /// For how long, for example `2h`; null: until it is resumed.
    #[serde(rename = "for")]
    pub lasts: Option<String>,
    /// Why.
    pub reason: String,
}

impl Single for Pause {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let named = named(&self.target);
        let shown = shown_as(&named, &self.target);
        let context = &context.carrying("destination.pause", &shown, &self);
        let result = self.pause(context, named).await;
        context
            .record("destination.pause", &shown, &self, result)
            .await
    }
}

impl Pause {
    async fn pause(
        &self,
        context: &Context,
        target: Result<String, AdminError>,
    ) -> Result<(), AdminError> {
        let target = target?;
        let until = until(self.lasts.as_deref(), context)?;
        check_reason(&self.reason)?;
        let queue = &context.queue;
        queue
            .pause_site(&context.store, &target, until, &self.reason)
            .await?;
        Ok(())
    }
}

/// Lets deliveries to a site or a domain go on after a pause. If the site rests, is down or has
/// blocked us, it gets one message at once as a probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resume {
    /// The site or the domain.
    pub target: String,
}

impl Single for Resume {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let named = named(&self.target);
        let shown = shown_as(&named, &self.target);
        let context = &context.carrying("destination.resume", &shown, &self);
        let result = match named {
            Ok(target) => {
                let resumed = context.queue.resume_site(&context.store, &target).await;
                resumed.map_err(AdminError::from)
            }
            Err(error) => Err(error),
        };
        context
            .record("destination.resume", &shown, &self, result)
            .await
    }
}

/// Limits a site, or the sites of a domain. Without connections and rate the limit is taken back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = DestinationLimit))]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    /// The site or the domain. Over HTTP the path names it.
    pub target: String,
    /// The most connections at once.
    pub connections: Option<u32>,
    /// The most messages in a time, for example `100/minute`.
    pub rate: Option<String>,
    /// For how long, for example `2h`; null: until it is taken back.
    #[serde(rename = "for")]
    pub lasts: Option<String>,
    /// Why.
    pub reason: String,
}

impl Single for Limit {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let named = named(&self.target);
        let shown = shown_as(&named, &self.target);
        let context = &context.carrying("destination.limit", &shown, &self);
        let result = self.limit(context, named).await;
        context
            .record("destination.limit", &shown, &self, result)
            .await
    }
}

impl Limit {
    async fn limit(
        &self,
        context: &Context,
        target: Result<String, AdminError>,
    ) -> Result<(), AdminError> {
        let target = target?;
        let connections = self.connections;
        if connections.is_some_and(|count| !(1..=CONNECTIONS_MAX).contains(&count)) {
            let text = format!("connections must be between 1 and {CONNECTIONS_MAX}");
            return Err(AdminError::invalid(text).at("connections"));
        }
        let rate = self.rate.as_deref().map(Rate::parse).transpose();
        let rate = rate.map_err(|_| AdminError::invalid(NO_RATE).at("rate"))?;
        let until = until(self.lasts.as_deref(), context)?;
        check_reason(&self.reason)?;
        let limits = (connections, rate);
        let queue = &context.queue;
        queue
            .limit_site(&context.store, &target, limits, until, &self.reason)
            .await?;
        Ok(())
    }
}

/// Forgets what was learnt of a site, or of the sites of a domain: its state, its window, its
/// rates. Orders stay.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Forget {
    /// The site or the domain.
    pub target: String,
}

/// The sites of which everything is forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = DestinationsForgotten))]
pub struct Forgotten {
    /// Their names.
    pub sites: Vec<String>,
}

impl Single for Forget {
    type Output = Forgotten;

    async fn answer(self, context: &Context) -> Result<Forgotten, AdminError> {
        let named = named(&self.target);
        let shown = shown_as(&named, &self.target);
        let context = &context.carrying("destination.forget", &shown, &self);
        let result = forget(context, named).await;
        context
            .record("destination.forget", &shown, &self, result)
            .await
    }
}

async fn forget(
    context: &Context,
    target: Result<String, AdminError>,
) -> Result<Forgotten, AdminError> {
    let target = target?;
    let sites = context.queue.forget_site(&context.store, &target).await?;
    if sites.is_empty() {
        let text = format!("no site is known by the name or the domain {target}");
        return Err(AdminError::not_found(text).at("target"));
    }
    Ok(Forgotten { sites })
}

impl From<SiteOrderError> for AdminError {
    fn from(error: SiteOrderError) -> Self {
        match error {
            SiteOrderError::TooMany => Self::conflict(error),
            SiteOrderError::NotThere(_) => Self::not_found(error).at("target"),
            SiteOrderError::Store(error) => error.into(),
        }
    }
}

/// The name of a site or a domain as the queue writes it.
fn named(target: &str) -> Result<String, AdminError> {
    let target = target.trim();
    let wrong = |text: String| Err(AdminError::invalid(text).at("target"));
    if target.is_empty() {
        return wrong("the name of a site or a domain is missing".to_owned());
    }
    if target.len() > TARGET_MAX {
        return wrong(format!("the name is longer than {TARGET_MAX} bytes"));
    }
    if KINDS.iter().any(|kind| target.starts_with(kind)) {
        return Ok(target.to_owned());
    }
    match Host::parse(target) {
        Ok(host) => Ok(host.ascii()),
        Err(error) => wrong(format!("{target:?} is no site and no domain: {error}")),
    }
}

/// How the audit log names a target: as the queue writes it, or as it was given.
fn shown_as(named: &Result<String, AdminError>, given: &str) -> String {
    match named {
        Ok(named) => named.clone(),
        Err(_) => given.chars().take(TARGET_MAX).collect(),
    }
}

/// The end of an order that lasts so long.
pub(super) fn until(lasts: Option<&str>, context: &Context) -> Result<Option<Time>, AdminError> {
    let Some(lasts) = lasts else {
        return Ok(None);
    };
    let duration = postrider_config::parse_duration(lasts)
        .map_err(|error| AdminError::invalid(error).at("for"))?;
    Ok(Some(context.clock.now().after(duration)))
}

fn check_reason(reason: &str) -> Result<(), AdminError> {
    if reason.len() > REASON_MAX {
        let text = format!("the reason is longer than {REASON_MAX} bytes");
        return Err(AdminError::invalid(text).at("reason"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_written_as_the_queue_writes_them() {
        for (given, expected) in [
            ("Example.COM", "example.com"),
            (" google ", "google"),
            ("mx:00ff", "mx:00ff"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("[192.0.2.1]", "[192.0.2.1]"),
            ("transport:smart", "transport:smart"),
        ] {
            assert_eq!(named(given).unwrap(), expected);
        }
        for wrong in ["", " ", "a..b", "x@a.test", "mx1.test,mx2.test"] {
            let error = named(wrong).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("target"), "{wrong}");
        }
        assert!(named(&"a.".repeat(3000)).is_err());
    }
}
