//! Stops and starts deliveries and calls of webhooks. A stop lasts over restarts.

use postrider_store::{Stops, Time, Work};
use serde::{Deserialize, Serialize};

use super::Single;
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
        let before = context.store.stops().await?;
        for work in chosen(self.only) {
            let stopped = context.store.stop(work, context.clock.now()).await?;
            audit(context, "queue.stop", work, stopped, true).await;
        }
        Ok(before.into())
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
        let before = context.store.stops().await?;
        for work in chosen(self.only) {
            let started = context.store.start(work).await?;
            audit(context, "queue.start", work, started, false).await;
        }
        Ok(before.into())
    }
}

fn chosen(only: Option<Work>) -> impl Iterator<Item = Work> {
    let all = [Work::Deliveries, Work::Webhooks].into_iter();
    all.filter(move |work| only.is_none_or(|only| only == *work))
}

/// Writes the change to the audit log, if there was one.
async fn audit(
    context: &Context,
    operation: &'static str,
    work: Work,
    changed: bool,
    stopped: bool,
) {
    if !changed {
        return;
    }
    let target = match work {
        Work::Deliveries => "deliveries",
        Work::Webhooks => "webhooks",
    };
    let json = |stopped: bool| format!("{{\"stopped\":{stopped}}}");
    context
        .audit(operation, target, json(!stopped), json(stopped), "")
        .await;
}
