//! Answers "why is this message still here?" in words.

use std::sync::{Arc, atomic::Ordering};

use postrider_smtp::DeliveryStatus;
use postrider_store::{Attempt, HoldFilter, HoldRule, Queued, Retired, StoreError, Time};

use crate::{
    LimitedBy, Queue, SiteState,
    next_hop::{Plan, PlanKey, Site},
    route::{self, Route},
};

impl Queue {
    /// The reason why a message waits, in words.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn explain(&self, message: &Queued) -> Result<String, StoreError> {
        let state = if self.store.is_claimed(message.id).await? {
            let since = message.last_attempt.map(|time| format!(" since {time}"));
            format!("is being delivered{}", since.unwrap_or_default())
        } else if message.hold {
            held(message, &self.store.hold_rules().await?)
        } else {
            self.waits(message)
        };
        let last = message.results.last().map(last_result);
        Ok(format!("{state}{}", last.unwrap_or_default()))
    }

    fn waits(&self, message: &Queued) -> String {
        let now = self.clock.now();
        let settings = &self.statics.queue;
        let attempts = settings.retry_intervals.len() + 1;
        let next = u64::from(message.attempts) + 1;
        let destination = message.destination();
        let provider = self.plan_of(message).map(|plan| plan.provider.name.clone());
        let key = limit_of_connections(provider.as_deref().unwrap_or("default"));
        let site = self.site_of(message);
        let site = site.map(|site| self.site_in_words(&site, &destination, &key));
        let site = site.unwrap_or_default();
        if self.sites.is_paused(&destination, now) {
            return format!("waits, since deliveries to {destination} are paused");
        }
        if message.next_attempt > now {
            let why = if message.attempts == 0 {
                "is not to be sent before"
            } else {
                "waits for its next attempt at"
            };
            return format!(
                "{why} {} (attempt {next} of {attempts}){site}",
                message.next_attempt
            );
        }
        let since = due_since(message.next_attempt);
        let put_off = self.lanes().put_off_until(&message.lane(), now);
        if !site.is_empty() {
            format!("{since}{site}")
        } else if let Some(until) = self.faults.until(self.clock.moment()) {
            let until = self.now().time_of(until);
            format!("{since}, and all deliveries wait until {until} for a fault of this machine")
        } else if let Some(until) = put_off {
            let failed = self.failed_look_up(message);
            let failed = failed
                .map(|status| format!(": {status}"))
                .unwrap_or_default();
            format!("{since}, and the hosts of {destination} are looked up at {until}{failed}")
        } else if self.used_up.load(Ordering::Relaxed) {
            let all = settings.max_concurrency;
            format!(
                "{since}, and waits for one of the {all} deliveries at once (queue.max_concurrency)"
            )
        } else {
            format!("{since}, and about to be attempted")
        }
    }

    /// Why a site takes no message at this moment. Empty: it takes one.
    fn site_in_words(&self, site: &Site, name: &str, key: &str) -> String {
        let views = self.site_views(Some(site.as_str()));
        let Some(view) = views.iter().find(|view| view.site == site.as_str()) else {
            return String::new();
        };
        let until = view.until.map(|until| format!(" until {until}"));
        let until = until.unwrap_or_default();
        let reason = view.reason.as_deref().filter(|reason| !reason.is_empty());
        let reason = reason
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        match view.state {
            SiteState::Active if view.limited_by.contains(&LimitedBy::Address) => {
                format!(
                    ", and each address of {name} has all the connections that it may have, or \
                     failed lately"
                )
            }
            SiteState::Active => String::new(),
            SiteState::Limited => match view.limited_by.first() {
                Some(limit) if view.until.is_some() => {
                    let limit = limit.name();
                    format!(
                        ", and {name} takes no more from a source of ours{until} ({limit}){reason}"
                    )
                }
                Some(LimitedBy::Rate) => {
                    let rates = view.rate.join(" and ");
                    format!(", and waits for the rate of {name}: {rates}")
                }
                Some(LimitedBy::ConnectRate) => {
                    format!(", and waits until a connection to {name} may be made")
                }
                Some(
                    LimitedBy::Connections
                    | LimitedBy::Probe
                    | LimitedBy::Blocked
                    | LimitedBy::WarmUp
                    | LimitedBy::Address
                    | LimitedBy::Concurrency,
                )
                | None => {
                    let connections = view.connections;
                    format!(
                        ", and waits for one of the {connections} connections to {name} ({key})"
                    )
                }
            },
            state => format!(", and {name} is {state}{until}{reason}"),
        }
    }
}

impl Queue {
    /// The site that a message waits for, if its plan is known.
    pub(crate) fn site_of(&self, message: &Queued) -> Option<Site> {
        match self.plan_of(message) {
            Some(plan) => Some(plan.site.clone()),
            // Its plan may be too old by now.
            None => self.lanes().site_of(&message.lane()),
        }
    }

    /// The plan of a message, if it is known.
    fn plan_of(&self, message: &Queued) -> Option<Arc<Plan>> {
        let config = self.config.load();
        let transport = match route::route(message, &self.statics, &config) {
            Route::End(_) => return None,
            Route::Here => {
                let providers = &self.statics.providers;
                return Some(Arc::new(Plan::local(&message.destination(), providers)));
            }
            Route::Named(transport) => {
                return self.plans().named(transport);
            }
            Route::Direct(transport) => transport,
        };
        let key = PlanKey::of(message, transport);
        let found = self.plans().find(&key, self.clock.moment())?;
        found.plan.ok()
    }

    /// What came of the last look-up for a message, if the next one waits for that.
    fn failed_look_up(&self, message: &Queued) -> Option<DeliveryStatus> {
        let config = self.config.load();
        let Route::Direct(transport) = route::route(message, &self.statics, &config) else {
            return None;
        };
        let key = PlanKey::of(message, transport);
        let failure = self.plans().failure(&key, self.clock.moment())?;
        Some(failure.status)
    }
}

/// The name of the key that limits the connections of a provider's site.
fn limit_of_connections(provider: &str) -> String {
    match provider {
        "default" => "queue.per_destination.connections".to_owned(),
        name => format!("providers.{name}.connections"),
    }
}

/// The fate of a message that left the queue, in words.
#[must_use]
pub fn explain_retired(retired: &Retired) -> String {
    let how = if retired.success {
        "delivered"
    } else {
        "not delivered"
    };
    let last = retired.message.results.last().map(last_result);
    format!(
        "left the queue, {how}, last activity at {}{}",
        retired.last_activity,
        last.unwrap_or_default()
    )
}

fn due_since(time: Time) -> String {
    format!("is due since {time}")
}

fn held(message: &Queued, rules: &[HoldRule]) -> String {
    match rules.iter().find(|rule| rule.filter.matches(message)) {
        Some(rule) => format!(
            "is held; hold rule {} is for {}",
            rule.id,
            describe(&rule.filter)
        ),
        None => "is held until it is released; no hold rule matches it".to_owned(),
    }
}

/// A hold rule's filter in words.
#[must_use]
pub fn describe(filter: &HoldFilter) -> String {
    let parts = [
        filter
            .account
            .as_ref()
            .map(|account| format!("account {account}")),
        filter
            .sender_domain
            .as_ref()
            .map(|domain| format!("senders at {}", domain.unicode())),
        filter
            .recipient_domain
            .as_ref()
            .map(|domain| format!("recipients at {}", domain.unicode())),
        filter
            .sender
            .as_ref()
            .map(|address| format!("sender {}", address.unicode())),
        filter
            .recipient
            .as_ref()
            .map(|address| format!("recipient {}", address.unicode())),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "all messages".to_owned()
    } else {
        parts.join(" and ")
    }
}

fn last_result(last: &Attempt) -> String {
    let host = match last.remote.as_str() {
        "" => String::new(),
        remote => format!(" from {remote}"),
    };
    let code = match (last.code, last.enhanced) {
        (0, None) => String::new(),
        (0, Some(enhanced)) => format!("{enhanced} "),
        (code, None) => format!("{code} "),
        (code, Some(enhanced)) => format!("{code} {enhanced} "),
    };
    let answer = format!("{code}{}", last.error);
    format!(
        "; last answer, at {}{host}: {}",
        last.start,
        answer.trim_end()
    )
}
