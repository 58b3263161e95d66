//! The parts that all sessions share, and what is made of them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use postrider_config::{Live, Static};
use postrider_observe::Tracer;
use postrider_queue::{DeliveryMode, Queue};
use postrider_receive::{
    Guards, Hooks, Reports, ReportsParts, SessionContext,
    login::{LoginLimiter, LoginLimits, Logins, Oauth, Rate},
    memory::TextMemory,
    sieve::ready::Scripts,
};
use postrider_store::Store;
use postrider_webhook::{Runner, WebhookParts};
use rand::{SeedableRng, rngs::StdRng};

use crate::{resolvers::Resolvers, server::Options};

/// Makes them of the options of the server.
pub(crate) fn session_context(
    options: Options,
    store: Store,
    tracer: Tracer,
    resolvers: &Resolvers,
) -> anyhow::Result<SessionContext> {
    let simulate = options.simulate();
    let statics = Arc::new(options.statics);
    let config: Live = Arc::new(ArcSwap::from_pointee(options.dynamic));
    let queue = Queue::new(postrider_queue::QueueParts {
        store: store.clone(),
        tracer: tracer.clone(),
        config: Arc::clone(&config),
        statics: Arc::clone(&statics),
        clock: Arc::clone(&options.clock),
        resolver: Arc::clone(&resolvers.queue),
        dialer: options.dialer,
        delivery: match simulate {
            true => DeliveryMode::Local,
            false => DeliveryMode::Remote,
        },
        metrics: Arc::clone(&options.metrics),
        rng: StdRng::from_rng(&mut rand::rng()),
    })?;
    let scripts = Arc::new(Scripts::new(store.clone()));
    Ok(SessionContext {
        config,
        store: store.clone(),
        tracer,
        queue: Arc::new(queue),
        resolver: Arc::clone(&resolvers.checks),
        logins: Arc::new(Logins::with_oauth(store, Oauth::new(&statics)?)),
        limiter: Arc::new(LoginLimiter::new(login_limits(&statics))),
        memory: TextMemory::new(statics.limits.text_memory.0),
        guards: Arc::new(Guards::new(
            &statics,
            Arc::clone(&options.clock),
            Arc::clone(&resolvers.zones),
        )),
        hooks: Arc::new(Hooks::new(&statics, &options.metrics)?),
        scripts,
        metrics: options.metrics,
        clock: options.clock,
        simulate,
        statics,
    })
}

/// What calls the webhooks.
pub(crate) fn hook_runner(shared: &SessionContext) -> anyhow::Result<Runner> {
    Ok(Runner::new(WebhookParts {
        store: shared.store.clone(),
        tracer: shared.tracer.clone(),
        config: Arc::clone(&shared.config),
        statics: Arc::clone(&shared.statics),
        metrics: Arc::clone(&shared.metrics),
        clock: Arc::clone(&shared.clock),
    })?)
}

/// What reads the reports of others.
pub(crate) fn reports(shared: &SessionContext) -> Arc<Reports> {
    Arc::new(Reports::new(ReportsParts {
        store: shared.store.clone(),
        config: Arc::clone(&shared.config),
        statics: Arc::clone(&shared.statics),
        clock: Arc::clone(&shared.clock),
        metrics: Arc::clone(&shared.metrics),
        tracer: shared.tracer.clone(),
    }))
}

fn login_limits(statics: &Static) -> LoginLimits {
    let limits = &statics.limits.login_failures_per_network;
    LoginLimits::of(Rate {
        minute: limits.per_minute,
        day: limits.per_day,
    })
}
