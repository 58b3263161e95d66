//! The way of messages, by their route and the plans that are known.

use std::sync::Arc;

use postrider_config::Dynamic;
use postrider_smtp::DeliveryStatus;
use postrider_store::{Destination, Moment, Queued};

use crate::{
    DeliveryMode, Queue,
    next_hop::{Plan, PlanKey},
    route::{self, Route},
    schedule::Wait,
};

/// The way of messages.
#[derive(Clone, Debug)]
pub(super) enum Course {
    /// By a known plan.
    Known {
        plan: Arc<Plan>,
        /// The key of the plan, if a new plan is to be made.
        stale: Option<PlanKey>,
    },
    /// A plan is to be made first.
    Unknown(PlanKey),
    /// Nowhere for now: a look-up had no answer, and the next one is made later.
    Later(Wait),
    /// Nowhere: this is what becomes of the messages.
    End(DeliveryStatus),
}

impl Queue {
    /// Sorts messages of one destination by where they go. As a rule they all go the same way.
    pub(super) fn courses(
        &self,
        config: &Dynamic,
        messages: Vec<Queued>,
        now: Moment,
    ) -> Vec<(Course, Vec<Queued>)> {
        let mut routes: Vec<(Route<'_>, Vec<Queued>)> = Vec::new();
        for message in messages {
            let route = route::route(&message, &self.statics, config);
            match routes.iter_mut().find(|(known, _)| *known == route) {
                Some((_, messages)) => messages.push(message),
                None => routes.push((route, vec![message])),
            }
        }
        let routes = routes.into_iter().filter_map(|(route, messages)| {
            let destination = messages.first()?.destination();
            Some((self.course(config, route, destination, now), messages))
        });
        routes.collect()
    }

    fn course(
        &self,
        config: &Dynamic,
        route: Route<'_>,
        destination: Destination,
        now: Moment,
    ) -> Course {
        let known = |plan| Course::Known { plan, stale: None };
        let here = || known(Arc::new(Plan::local(&destination, &self.statics.providers)));
        if self.delivery == DeliveryMode::Local {
            return here();
        }
        let transport = match route {
            Route::End(status) => return Course::End(status),
            Route::Here => return here(),
            Route::Direct(transport) => transport,
            Route::Named(transport) => match self.plans().named(transport) {
                Some(plan) => return known(plan),
                None => transport,
            },
        };
        let key = PlanKey {
            destination,
            transport: transport.to_owned(),
        };
        let (found, failure) = {
            let mut plans = self.plans();
            plans.set_providers(&config.providers);
            (plans.find(&key, now), plans.failure(&key, now))
        };
        match found {
            None => match failure {
                Some(wait) => Course::Later(wait),
                None => Course::Unknown(key),
            },
            Some(found) => match found.plan {
                Ok(plan) => Course::Known {
                    plan,
                    stale: (found.stale && failure.is_none()).then_some(key),
                },
                Err(status) => Course::End(status),
            },
        }
    }
}
