//! The tasks that make plans, and what waits for them.

use std::{collections::HashMap, sync::Arc};

use postrider_smtp::{DeliveryStatus, Host};
use postrider_store::{Lane, Moment, Queued, StoreError, Which};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::course::Course;
use crate::{
    Queue,
    mta_sts::Known,
    next_hop::{PlanKey, Planned, Planner},
    route,
    schedule::BATCH,
    settle::{EndedAttempt, LastHop},
    told::Settlements,
};

impl Queue {
    /// The hosts of a destination that is reached directly, by this transport. The plan says
    /// nothing of MTA-STS.
    pub(crate) async fn plan_hosts(&self, destination: &Host, transport: &str) -> Planned {
        let settings = route::direct(&self.statics, transport);
        let providers = Arc::clone(&self.config.load().providers);
        let planner = Planner {
            resolver: &*self.resolver,
            providers: &providers,
            ours: &self.ours,
        };
        planner.plan(destination, transport, &settings).await
    }

    /// What is known of the MTA-STS policy of a destination. None: MTA-STS does not count.
    ///
    /// # Errors
    /// If the store does not tell it.
    pub(crate) async fn policy_of(&self, destination: &Host) -> Result<Option<Known>, StoreError> {
        match (&self.policies, destination) {
            (Some(policies), Host::Domain(domain)) => policies.find(domain.ascii()).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Ends messages that have no plan.
    pub(super) async fn end_unplanned(&self, messages: Vec<Queued>, status: DeliveryStatus) {
        let (config, start) = (self.config.load_full(), self.clock.now());
        let mut settles = Settlements::default();
        let messages = self
            .keep_unsuppressed(&config, messages, &mut settles)
            .await;
        for message in messages {
            let ended = EndedAttempt {
                message,
                status: status.clone(),
                known: None,
                block: self.usual_block(),
                start,
                hop: LastHop::SendsNoDsns,
                tried: true,
                trace: 0,
            };
            settles.push(self.settlement_alone(&config, ended).await);
        }
        self.settle(settles).await;
    }

    /// Ends the due messages of a lane, as far as they have no plan for the same reason as the
    /// first. Gives messages that go elsewhere.
    pub(super) async fn end_lane(&self, lane: Lane) -> Vec<Queued> {
        loop {
            let claimed = match self.claim(Which::Lanes(vec![lane.clone()]), BATCH).await {
                Ok(claimed) if !claimed.is_empty() => claimed,
                // The loop meets the same error, tells of it, and waits.
                Ok(_) | Err(_) => return Vec::new(),
            };
            let (config, now) = (self.config.load_full(), self.clock.moment());
            let mut others = Vec::new();
            for (course, messages) in self.courses(&config, claimed, now) {
                match course {
                    Course::End(status) => self.end_unplanned(messages, status).await,
                    _ => others.extend(messages),
                }
            }
            if !others.is_empty() {
                return others;
            }
        }
    }

    /// A look-up for a lane had no answer. That counts as an attempt of one of its messages.
    pub(super) async fn count_for_one(&self, lane: Lane, status: DeliveryStatus) {
        if let Ok(claimed) = self.claim(Which::Lanes(vec![lane]), 1).await {
            self.end_unplanned(claimed, status).await;
        }
    }
}

/// The plans that are being made, with the lanes and messages that wait for them. Its tasks also
/// end messages without a plan, and give messages back.
#[derive(Default)]
pub(super) struct Planning {
    pub(super) waiting: HashMap<PlanKey, WaitsForPlan>,
    pub(super) tasks: JoinSet<Done>,
    pub(super) keys: HashMap<Id, (PlanKey, AbortHandle)>,
}

/// The result of a task of [`Planning`].
pub(super) enum Done {
    /// A plan was made.
    Planned(Planned),
    /// A lane waits for its time again. These messages of it are claimed, and go elsewhere.
    Back(Lane, Vec<Queued>),
    /// There is nothing to do about it.
    Nothing,
}

/// What waits for a plan.
#[derive(Default)]
pub(super) struct WaitsForPlan {
    pub(super) lanes: Vec<Lane>,
    /// Messages that are claimed, and when they were.
    pub(super) claimed: Vec<(Vec<Queued>, Moment)>,
}

/// How a task of [`Planning`] ended.
pub(super) type PlanEnded = Result<(Id, Done), JoinError>;

impl Planning {
    /// How many tasks there are.
    pub(super) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// The end of the next task. None if there is no task.
    pub(super) async fn next(&mut self) -> Option<PlanEnded> {
        self.tasks.join_next_with_id().await
    }

    /// The end of a task that has ended already.
    pub(super) fn try_next(&mut self) -> Option<PlanEnded> {
        self.tasks.try_join_next_with_id()
    }

    /// Has a plan made, unless that is under way. Gives what waits for it.
    pub(super) fn begin(&mut self, queue: &Arc<Queue>, key: PlanKey) -> &mut WaitsForPlan {
        if !self.waiting.contains_key(&key) {
            let (queue, wanted) = (Arc::clone(queue), key.clone());
            let task = self
                .tasks
                .spawn(async move { queue.plan_for(&wanted).await });
            self.keys.insert(task.id(), (key.clone(), task));
        }
        self.waiting.entry(key).or_default()
    }

    /// Gives up all plans. Returns the messages that waited.
    pub(super) fn stop(&mut self) -> Vec<Queued> {
        for (_, task) in self.keys.values() {
            task.abort();
        }
        let waiting = std::mem::take(&mut self.waiting).into_values();
        let claimed = waiting.flat_map(|waits| waits.claimed);
        claimed.flat_map(|(messages, _)| messages).collect()
    }

    /// Waits for the end of all tasks.
    pub(super) async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Queue {
    async fn plan_for(&self, wanted: &PlanKey) -> Done {
        let Ok(destination) = Host::parse(&wanted.destination) else {
            return Done::Nothing;
        };
        let plan = self.plan_hosts(&destination, &wanted.transport);
        let (planned, known) = tokio::join!(plan, self.policy_of(&destination));
        Done::Planned(planned.under_known(&destination, known))
    }
}
