//! Stops and starts deliveries and calls of webhooks. A stop lasts over restarts.

use postrider_store::{Stops, Time, Work};
use serde::{Deserialize, Serialize};

use super::{Listed, Single};
use crate::{AdminError, Context};

/// The work that goes on and the work that is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The queue delivers messages.
    pub deliveries: bool,
    /// The server calls webhooks.
    pub webhooks: bool,
    /// The time when deliveries were stopped, in RFC 3339; None while they go on.
    pub deliveries_stopped: Option<String>,
    /// The time when calls of webhooks were stopped, in RFC 3339; None while they go on.
    pub webhooks_stopped: Option<String>,
}

impl From<Stops> for Status {
    fn from(stops: Stops) -> Self {
        let shown = |since: Option<Time>| since.map(|since| since.to_string());
        Self {
            deliveries: stops.deliveries.is_none(),
            webhooks: stops.webhooks.is_none(),
            deliveries_stopped: shown(stops.deliveries),
            webhooks_stopped: shown(stops.webhooks),
        }
    }
}

/// Asks for the work that is stopped.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetStatus {}

impl Single for GetStatus {
    type Output = Status;

    async fn answer(self, context: &Context) -> Result<Status, AdminError> {
        Ok(context.store.stops().await?.into())
    }
}

/// Stops work. Attempts and calls that go on come to their end, no other begins, and the server
/// accepts messages as before. The output is the state before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// The work to stop. None: all.
    pub only: Option<Work>,
}

impl Single for Stop {
    type Output = Status;

    async fn answer(self, context: &Context) -> Result<Status, AdminError> {
        let context = &context.changing(Self::NAME, target(self.only), json(false), json(true));
        let stopped = async {
            let before = context.store.stops().await?;
            for work in chosen(self.only) {
                context.store.stop(work, context.clock.now()).await?;
            }
            Ok(before.into())
        };
        ended(context, Self::NAME, self.only, stopped.await).await
    }
}

/// Lets work go on. The output is the state before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Start {
    /// The work to start. None: all.
    pub only: Option<Work>,
}

impl Single for Start {
    type Output = Status;

    async fn answer(self, context: &Context) -> Result<Status, AdminError> {
        let context = &context.changing(Self::NAME, target(self.only), json(true), json(false));
        let started = async {
            let before = context.store.stops().await?;
            for work in chosen(self.only) {
                context.store.start(work).await?;
            }
            Ok(before.into())
        };
        ended(context, Self::NAME, self.only, started.await).await
    }
}

fn chosen(only: Option<Work>) -> impl Iterator<Item = Work> {
    let all = [Work::Deliveries, Work::Webhooks].into_iter();
    all.filter(move |work| only.is_none_or(|only| only == *work))
}

/// The name of the work in the audit log.
const fn target(only: Option<Work>) -> &'static str {
    match only {
        Some(Work::Deliveries) => "deliveries",
        Some(Work::Webhooks) => "webhooks",
        None => "deliveries and webhooks",
    }
}

fn json(stopped: bool) -> String {
    format!("{{\"stopped\":{stopped}}}")
}

/// Ends a change. What was so before is no change, and has no entry in the audit log.
async fn ended(
    context: &Context,
    operation: &'static str,
    only: Option<Work>,
    result: Result<Status, AdminError>,
) -> Result<Status, AdminError> {
    match result {
        Ok(before) => {
            context.carried(operation, target(only));
            Ok(before)
        }
        Err(error) => {
            context
                .record(operation, target(only), &(), Err(error))
                .await
        }
    }
}
