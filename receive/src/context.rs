//! The parts of the server that each session uses.

use std::sync::Arc;

use postrider_config::{Dynamic, Live, Static};
use postrider_dns::Resolver;
use postrider_observe::{Metrics, Tracer};
use postrider_queue::Queue;
use postrider_smtp::{Domain, server::Client};
use postrider_store::{Clock, Store};

use crate::{
    decide::{Policy, Role},
    guards::Guards,
    hooks::Hooks,
    junk::Filter,
    login::{LoginLimiter, Logins},
    memory::TextMemory,
    sieve::ready::Scripts,
    slow::Mistakes,
};

/// The parts of the server that each session uses. Clones share them.
#[derive(Clone)]
pub struct SessionContext {
    /// The static configuration.
    pub statics: Arc<Static>,
    /// The dynamic configuration as it is now.
    pub config: Live,
    /// The store.
    pub store: Store,
    /// Takes the traces of sessions.
    pub tracer: Tracer,
    /// The queue of outgoing mail.
    pub queue: Arc<Queue>,
    /// Answers the DNS questions of the checks.
    pub resolver: Arc<dyn Resolver>,
    /// The memory for texts that arrive.
    pub memory: TextMemory,
    /// The check of passwords, with a memory of right ones.
    pub logins: Arc<Logins>,
    /// The counts of failed logins.
    pub limiter: Arc<LoginLimiter>,
    /// What the sessions know of clients together.
    pub guards: Arc<Guards>,
    /// The outside programs that have a say.
    pub hooks: Arc<Hooks>,
    /// The scripts of accounts.
    pub scripts: Arc<Scripts>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Localserve without `--deliver`: any recipient is taken, and some local-parts ask for a
    /// failure.
    pub simulate: bool,
}

impl SessionContext {
    /// The dynamic configuration of this moment. A command holds it to its end and so sees one
    /// version.
    #[must_use]
    pub fn dynamic(&self) -> Arc<Dynamic> {
        self.config.load_full()
    }

    /// The junk filter over the store.
    pub(crate) fn filter(&self) -> Filter<'_> {
        Filter {
            store: &self.store,
            limits: self.statics.limits.mime(),
        }
    }

    /// Lets a client wait that made one more mistake, longer each time. True: it was the last one.
    pub(crate) async fn punish(&self, client: &Client, mistakes: &mut Mistakes) -> bool {
        let penalty = mistakes.add();
        let slow = &self.guards.slow;
        slow.wait(client.remote.ip(), penalty.wait).await;
        penalty.closes
    }

    /// Our host names, under which we add results to messages.
    pub(crate) fn host_names(&self) -> Vec<Domain> {
        let listeners = self.statics.listeners.values();
        let names = listeners.map(|listener| &listener.hostname);
        let names = std::iter::once(&self.statics.hostname).chain(names);
        names.cloned().collect()
    }

    /// The rules for a session of this kind under one version of the configuration.
    pub(crate) fn policy<'a>(&'a self, role: Role, config: &'a Dynamic) -> Policy<'a> {
        Policy {
            role,
            statics: &self.statics,
            config,
            simulate: self.simulate,
        }
    }
}

impl std::fmt::Debug for SessionContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionContext")
            .field("simulate", &self.simulate)
            .finish_non_exhaustive()
    }
}
