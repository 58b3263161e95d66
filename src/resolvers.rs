//! The ways to ask DNS.

use std::sync::Arc;

use anyhow::Context;
use postrider_config::ResolverConfig;
use postrider_dns::{CacheLimits, CachingResolver, HickoryResolver, Resolver, TrustAnchors};
use postrider_observe::Metrics;
use postrider_store::Clock;

/// How much the cache of DNS for the checks of others' mail keeps.
const CHECKS_CACHE: CacheLimits = CacheLimits {
    entries: 32_768,
    bytes: 16 << 20,
};
/// How much the cache for our own mail keeps. The queue remembers the plan of a destination, with
/// all answers that it comes from. So this cache is for what destinations share: their hosts.
const QUEUE_CACHE: CacheLimits = CacheLimits {
    entries: 8192,
    bytes: 4 << 20,
};

/// The ways to ask DNS. Our own mail has a cache of its own, whose answers are validated by DNSSEC.
/// What strangers make us ask is not validated, since nothing there needs it, and shares another
/// cache. It has limits of its own, so that our mail goes out however much that is.
pub(crate) struct Resolvers {
    /// For our own mail. It validates.
    pub(crate) queue: Arc<dyn Resolver>,
    /// For the checks of others' mail.
    pub(crate) checks: Arc<dyn Resolver>,
    /// For the zones that list bad clients. A stranger must not hide in others' questions.
    pub(crate) zones: Arc<dyn Resolver>,
    /// Asks each time, and validates. Checks of the administrator use it.
    pub(crate) fresh: Arc<dyn Resolver>,
    /// Whether validation works is looked at while the server runs. None for a given resolver.
    pub(crate) validating: Option<HickoryResolver>,
}

/// Resolvers that ask the configured DNS servers, or the `given` one. Answers are kept by the
/// moments of `clock`: whoever sets the wall clock does not make an answer hold longer.
pub(crate) fn resolvers(
    config: &ResolverConfig,
    clock: &Arc<dyn Clock>,
    given: Option<Arc<dyn Resolver>>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Resolvers> {
    if let Some(fresh) = given {
        return Ok(Resolvers {
            queue: Arc::clone(&fresh),
            checks: Arc::clone(&fresh),
            zones: Arc::clone(&fresh),
            fresh,
            validating: None,
        });
    }
    let clock = Arc::clone(clock);
    let now: postrider_dns::Now = Arc::new(move || clock.moment().0);
    let trust_anchors = match &config.trust_anchor_file {
        Some(file) => TrustAnchors::read(file)
            .with_context(|| format!("resolver.trust_anchor_file {}", file.display()))?,
        None => TrustAnchors::default(),
    };
    let settings = postrider_dns::HickorySettings {
        servers: &config.servers,
        timeout: config.timeout,
        validate: config.dnssec,
        trust_anchors,
        now: Arc::clone(&now),
        metrics: Arc::clone(metrics),
    };
    let hickory = HickoryResolver::new(&settings)?;
    let caching = |resolver: HickoryResolver, limits| {
        CachingResolver::new(resolver, limits, settings.timeout, Arc::clone(&now))
            .counting(Arc::clone(metrics))
    };
    let plain = caching(hickory.unvalidated(), CHECKS_CACHE);
    Ok(Resolvers {
        zones: Arc::new(plain.apart()),
        checks: Arc::new(plain),
        queue: Arc::new(caching(hickory.clone(), QUEUE_CACHE)),
        fresh: Arc::new(hickory.clone()),
        validating: Some(hickory),
    })
}
