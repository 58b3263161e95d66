//! Certificates by ACME (RFC 8555).
//!
//! In reading order:
//! - [`names`]: the names that get certificates, from both configuration files.
//! - [`issued`]: the certificates in memory, and how a client's hello picks one.
//! - [`challenges`]: the answers to a CA that checks a name.
//! - [`host_keys`]: keys that stay the same when a certificate is renewed.
//! - [`ca`], [`order`]: the connection to a CA, and one order.
//! - [`schedule`]: when a name is tried again, and when a certificate is renewed.
//! - [`advice`]: a failure in words, with the remedy.
//! - [`worker`]: the task that gets certificates and renews them.
//!
//! A server with ACME starts at once. Until a certificate is there, the SMTP services have a
//! self-signed one, and an HTTPS service refuses the name.

mod advice;
mod ca;
mod challenges;
mod host_keys;
mod issued;
mod names;
mod order;
mod schedule;
mod worker;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use postrider_config::Static;
use postrider_store::{Store, StoreError, Time};
use tracing::{debug, error};

pub(crate) use self::ca::{causes, read_roots};
use self::{ca::Ca, host_keys::HostKey, issued::Held, names::HostKeys};
pub use self::{
    challenges::{Challenges, PROTOCOL},
    issued::{Issued, Manner},
    worker::{Worker, WorkerParts},
};

/// How long after its end a certificate leaves the store.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// All that ACME needs from files, and the certificates that it has. It is made before the process
/// gives up root, because the files may be readable by root only.
#[derive(Debug)]
pub struct Acme {
    /// The CAs that listeners use, by the name of the account in the configuration.
    cas: BTreeMap<String, Ca>,
    /// The host keys of each listener with ACME.
    host_keys: HostKeys,
    held: Arc<Held>,
    challenges: Arc<Challenges>,
}

/// When certificates by ACME end.
#[derive(Clone, Debug)]
pub struct Ends(Arc<Held>);

impl Ends {
    /// Each name that should have a certificate, and when that ends in seconds since 1970; 0: it
    /// has none yet.
    #[must_use]
    pub fn all(&self) -> Vec<(String, i64)> {
        self.0.ends()
    }
}

impl Acme {
    /// Reads the files of all listeners with ACME. None: no listener has it.
    ///
    /// # Errors
    /// If a file can't be read or has no key of a usable kind.
    pub fn prepare(statics: &Static) -> anyhow::Result<Option<Self>> {
        let mut cas = BTreeMap::new();
        let mut host_keys = HostKeys::new();
        for (name, listener) in &statics.listeners {
            let (Some(account), Some(tls)) = (listener.acme_account(), &listener.tls) else {
                continue;
            };
            let keys = tls.host_keys.iter().map(|file| HostKey::read(file));
            let keys: anyhow::Result<Vec<HostKey>> = keys.collect();
            let keys = keys.with_context(|| format!("listeners.{name}.tls.host_keys"))?;
            host_keys.insert(name.clone(), keys);
            if let (None, Some(settings)) = (cas.get(account), statics.acme.get(account)) {
                let ca = Ca::new(account, settings, statics);
                let ca = ca.with_context(|| format!("acme.{account}"))?;
                cas.insert(account.to_owned(), ca);
            }
        }
        if host_keys.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            cas,
            host_keys,
            held: Arc::default(),
            challenges: Arc::default(),
        }))
    }

    /// The files that are read at the start only.
    pub fn files(statics: &Static) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for listener in statics.listeners.values() {
            let (Some(account), Some(tls)) = (listener.acme_account(), &listener.tls) else {
                continue;
            };
            files.extend(tls.host_keys.iter().cloned());
            if let Some(settings) = statics.acme.get(account) {
                files.extend(settings.ca_file.clone());
                files.extend(settings.eab.iter().map(|eab| eab.key_file.clone()));
            }
        }
        files.sort();
        files.dedup();
        files
    }

    /// The certificates of a listener with ACME.
    ///
    /// # Errors
    /// If a self-signed certificate for the time until the first order can't be made.
    pub fn certificates(&self, statics: &Static, listener: &str) -> anyhow::Result<Arc<Issued>> {
        let configured = statics.listeners.get(listener);
        let configured = configured.context("there is no such listener")?;
        let account = configured.acme_account().unwrap_or_default();
        let keys = self.host_keys.get(listener).cloned().unwrap_or_default();
        let hostname = configured.hostname.ascii();
        Issued::new(Arc::clone(&self.held), account, hostname, keys).map(Arc::new)
    }

    /// When the certificates end, while the server runs.
    #[must_use]
    pub fn ends(&self) -> Ends {
        Ends(Arc::clone(&self.held))
    }

    /// The answers to the CAs.
    #[must_use]
    pub const fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// Takes the certificates of the store, and removes those that ended long ago.
    ///
    /// # Errors
    /// If the store can't be read or changed.
    pub async fn load(&self, store: &Store, now: Time) -> Result<(), StoreError> {
        for certificate in store.acme_certificates().await? {
            let (directory, name, key_id) = (
                &certificate.directory,
                &certificate.name,
                &certificate.key_id,
            );
            if certificate.ends.after(FORGOTTEN_AFTER) < now {
                store.remove_acme(directory, name, key_id).await?;
                continue;
            }
            let key = self.host_key(key_id);
            if !key_id.is_empty() && key.is_none() {
                debug!(
                    name,
                    "certificate left out: its host key is not configured any more"
                );
                continue;
            }
            let certified = match issued::certified(&certificate, key) {
                Ok(certified) => certified,
                Err(error) => {
                    error!(name, error = format!("{error:#}"), "certificate failed");
                    continue;
                }
            };
            let cas = self.cas.values();
            for ca in cas.filter(|ca| ca.directory == *directory) {
                self.held
                    .add(&ca.name, &certificate, Arc::clone(&certified));
            }
        }
        Ok(())
    }

    fn host_key(&self, id: &str) -> Option<&HostKey> {
        let mut keys = self.host_keys.values().flatten();
        keys.find(|key| key.id == id)
    }
}

/// The time of an X.509 certificate, in seconds since 1970.
fn time(seconds: i64) -> Time {
    Time(seconds.saturating_mul(1_000_000))
}

/// Now, for what no injected clock measures: waiting for a CA within an order.
fn wall() -> SystemTime {
    SystemTime::now()
}
