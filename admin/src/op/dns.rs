//! The DNS records of a domain: the list of those that should be, the check of those that are, and
//! the way to publish them.
//!
//! | file | its job |
//! |---|---|
//! | `facts` | what records tell of this host: addresses, keys, CAs |
//! | `records` | the records of a domain, as a pure function |
//! | `record` | a record as value and as text |
//! | `check` | compares DNS and services with what should be |
//! | `lookup` | asks DNS one question |
//! | `watch` | checks again and again, for the metrics |
//! | `verdicts` | remembers what the last check of each domain said |
//! | `publish` | writes records at the primary server of their zone |
//!
//! All but `lookup` work on a [`World`], so that they run without a server too.

mod check;
mod facts;
mod lookup;
mod publish;
mod record;
mod records;
mod verdicts;
mod watch;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use postrider_config::DomainConfig;
use postrider_queue::interfaces;
use postrider_smtp::Domain;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use self::check::Trust;
pub use self::{
    check::{CheckItem, Verdict, World},
    facts::{Ca, HostFacts, TlsKey},
    lookup::{Dnssec, Lookup, LookupItem},
    publish::{ChangeItem, LeftItem, Published},
    record::{Need, Purpose, RecordItem, TTL, Wanted},
    records::wanted,
    verdicts::{ListVerdicts, VerdictItem, Verdicts},
    watch::watch_records,
};
use super::{Operation, Single, Sink, config::parse_domain};
use crate::{AdminError, Context};

/// How long to wait for DNS to tell whether it is secure.
const DNSSEC_TIME: Duration = Duration::from_secs(5);

/// Lists the records that a domain should have.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// The domain.
    pub domain: String,
}

/// Compares what DNS says about a domain with what it should say.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The domain.
    pub domain: String,
}

/// Asks whether a zone of `dns_update` has a domain, so that its records can be published.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanPublish {
    /// The domain.
    pub domain: String,
}

impl Single for CanPublish {
    type Output = bool;

    async fn answer(self, context: &Context) -> Result<bool, AdminError> {
        let domain = parse_domain(&self.domain)?;
        let zone = publish::zone_of(&context.statics, domain.ascii());
        Ok(zone.is_some())
    }
}

/// Writes the records of a domain at the servers of `dns_update`. Records of others stay.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The domain.
    pub domain: String,
    /// Only tell what would change.
    #[serde(default)]
    pub dry_run: bool,
}

impl Operation for Records {
    type Item = RecordItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<RecordItem>,
    ) -> Result<(), AdminError> {
        let world = World::of(context).await;
        items.send(world.records(&self.domain).await?).await
    }
}

impl Operation for Check {
    type Item = CheckItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<CheckItem>,
    ) -> Result<(), AdminError> {
        let world = World::of(context).await;
        let (domain, _) = world.domain(&self.domain)?;
        let checked = world.check(&self.domain).await?;
        let now = context.clock.now();
        context.verdicts.note(&domain, now, &checked);
        items.send(checked).await
    }
}

impl Single for Publish {
    type Output = Published;

    async fn answer(self, context: &Context) -> Result<Published, AdminError> {
        let Self { domain, dry_run } = self;
        let result = World::of(context).await.publish(&domain, dry_run).await;
        if !dry_run {
            audit(context, &domain, &result).await;
        }
        result
    }
}

/// Publishes the records of a domain that was just added. None if no zone of `dns_update` has the
/// domain. A failure changes nothing about the domain: its records can be published later.
pub async fn publish_after_add(
    context: &Context,
    domain: &Domain,
) -> Option<Result<Published, AdminError>> {
    publish::zone_of(&context.statics, domain.ascii())?;
    let result = World::of(context)
        .await
        .publish(domain.ascii(), false)
        .await;
    audit(context, domain.ascii(), &result).await;
    Some(result)
}

/// Adds what was published to the audit log.
async fn audit(context: &Context, domain: &str, result: &Result<Published, AdminError>) {
    let (before, after, refusal) = match result {
        Ok(published) if published.changes.is_empty() => return,
        Ok(published) => {
            let (before, after) = published.before_and_after();
            (before, after, String::new())
        }
        Err(error) => (String::new(), String::new(), error.text.clone()),
    };
    let operation = "dns.publish";
    context
        .audit(operation, domain, before, after, &refusal)
        .await;
}

/// What checks know of this host, whatever the domain is.
struct ThisHost {
    facts: HostFacts,
    /// A sentence for each fact that can't be found out.
    warnings: Vec<String>,
    trust: Trust,
}

impl World {
    /// The parts of the running server that the operations need.
    pub async fn of(context: &Context) -> Self {
        let mut ca_accounts = BTreeMap::new();
        for acme in context.statics.acme.values() {
            let directory = &acme.directory_url;
            match context.store.acme_account(directory).await {
                Ok(account) => {
                    let uri = account.and_then(|it| facts::account_uri(&it.credentials));
                    ca_accounts.extend(uri.map(|uri| (directory.clone(), uri)));
                }
                Err(error) => warn!(%error, directory, "ACME account not read"),
            }
        }
        Self {
            ca_accounts,
            statics: Arc::clone(&context.statics),
            config: context.config.load_full(),
            resolver: Arc::clone(&context.resolver),
            dialer: Arc::clone(&context.dialer),
            clock: Arc::clone(&context.clock),
        }
    }

    /// The records that a domain should have.
    ///
    /// # Errors
    /// If there is no such domain.
    pub async fn records(&self, domain: &str) -> Result<Vec<RecordItem>, AdminError> {
        let (domain, config) = self.domain(domain)?;
        let (facts, warnings) = self.facts().await;
        for warning in warnings {
            warn!(reason = warning, "DNS records not complete");
        }
        let wanted = wanted(&self.statics, config, &domain, &facts);
        Ok(wanted.iter().map(Wanted::item).collect())
    }

    /// The records that each of several domains should have, in the same order. A domain that is
    /// not there has none.
    pub async fn records_of(&self, domains: &[Domain]) -> Vec<Vec<RecordItem>> {
        let (facts, warnings) = self.facts().await;
        for warning in warnings {
            warn!(reason = warning, "DNS records not complete");
        }
        let records = domains.iter().map(|domain| {
            let config = self.config.domains.get(domain);
            let wanted = config.map(|config| wanted(&self.statics, config, domain, &facts));
            wanted.iter().flatten().map(Wanted::item).collect()
        });
        records.collect()
    }

    /// Checks a domain.
    ///
    /// # Errors
    /// If there is no such domain, or a file of `tls.ca_files` can't be used.
    pub async fn check(&self, domain: &str) -> Result<Vec<CheckItem>, AdminError> {
        let (domain, config) = self.domain(domain)?;
        let this_host = self.this_host().await?;
        Ok(self.check_with(&domain, config, &this_host).await)
    }

    async fn check_with(
        &self,
        domain: &Domain,
        config: &DomainConfig,
        this_host: &ThisHost,
    ) -> Vec<CheckItem> {
        let checked = check::check(self, domain, config, this_host).await;
        let host = self.statics.hostname.ascii();
        let warnings = this_host.warnings.iter();
        let warnings = warnings.map(|advice| CheckItem::about_this_host(host, advice.clone()));
        warnings.chain(checked).collect()
    }

    async fn this_host(&self) -> Result<ThisHost, AdminError> {
        let (facts, warnings) = self.facts().await;
        Ok(ThisHost {
            facts,
            warnings,
            trust: Trust::new(&self.statics).map_err(AdminError::internal)?,
        })
    }

    /// Publishes the records of a domain.
    ///
    /// # Errors
    /// If there is no such domain, no zone of `dns_update` has it, or a server fails.
    pub async fn publish(&self, domain: &str, dry_run: bool) -> Result<Published, AdminError> {
        let (domain, config) = self.domain(domain)?;
        let (facts, warnings) = self.facts().await;
        for warning in warnings {
            warn!(reason = warning, "DNS records not complete");
        }
        let published = publish::publish(self, &domain, config, &facts, dry_run).await?;
        if published.written {
            for change in &published.changes {
                info!(
                    zone = change.zone,
                    name = change.name,
                    record_type = change.record_type,
                    removed = ?change.removed,
                    added = ?change.added,
                    "DNS records published"
                );
            }
        }
        Ok(published)
    }

    /// The domain with its configuration.
    fn domain(&self, name: &str) -> Result<(Domain, &DomainConfig), AdminError> {
        let unknown = || AdminError::not_found(format!("there is no domain {name}")).at("domain");
        let bare = name.strip_suffix('.').unwrap_or(name);
        let domain = Domain::parse(bare).map_err(|_| unknown())?;
        let config = self.config.domains.get(&domain).ok_or_else(unknown)?;
        Ok((domain, config))
    }

    /// The facts about this host, and a sentence for each that can't be found out.
    async fn facts(&self) -> (HostFacts, Vec<String>) {
        let statics = Arc::clone(&self.statics);
        let gathered =
            tokio::task::spawn_blocking(move || HostFacts::gather(&statics, &interfaces())).await;
        let (mut facts, warnings) = gathered.unwrap_or_default();
        for ca in &mut facts.cas {
            let known = ca.directories.iter();
            let known = known.filter_map(|directory| self.ca_accounts.get(directory).cloned());
            ca.account_uris = known.collect();
        }
        if !facts.tls_keys.is_empty() {
            let lookup = self.resolver.addresses(self.statics.hostname.ascii());
            let answer = tokio::time::timeout(DNSSEC_TIME, lookup).await;
            facts.dnssec = matches!(answer, Ok(Ok(answer)) if answer.authentic);
        }
        (facts, warnings)
    }
}

impl CheckItem {
    /// An item about something on this host that is wrong.
    fn about_this_host(host: &str, advice: String) -> Self {
        Self {
            record_type: "host".to_owned(),
            name: format!("{host}."),
            wanted: String::new(),
            found: Vec::new(),
            verdict: Verdict::Error,
            advice,
            check: "host".to_owned(),
            needed: true,
        }
    }
}
