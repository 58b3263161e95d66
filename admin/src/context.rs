//! The parts of the running server that operations work on.

use std::{fmt::Display, net::IpAddr, sync::Arc, time::Duration};

use postrider_config::{
    Changed, Difference, DomainsFile, Live, Static, read_secret_file, toml_edit::DocumentMut,
};
use postrider_dns::Resolver;
use postrider_observe::{Metrics, log::Log, trace::Traces};
use postrider_queue::{AccountHeld, Dialer, Queue};
use postrider_receive::{
    Hooks, RefusalCounts, Reports,
    login::{LoginLimiter, Logins},
};
use postrider_store::{Actor, Clock, NewAuditEntry, Store, WebSessionOwner};
use postrider_webhook::Operator;
use serde::Serialize;
use tracing::{error, info};

use crate::{
    AdminError,
    op::{certificates::CertificateFiles, dns::Verdicts, metrics::Figures},
};

/// How long the audit log keeps an entry.
const AUDIT_KEPT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The caller of an operation, for the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The kind of the caller.
    pub actor: Actor,
    /// The name of the caller: a login, the name of a key or a system user.
    pub name: String,
    /// The address of the caller. None: the caller uses this machine.
    pub from: Option<IpAddr>,
}

/// The parts of the running server that operations work on. A clone is cheap.
#[derive(Clone)]
pub struct Context {
    /// The store.
    pub store: Store,
    /// The queue.
    pub queue: Arc<Queue>,
    /// The remembered logins. They forget an account when its password changes.
    pub logins: Arc<Logins>,
    /// The counts of failed logins.
    pub limiter: Arc<LoginLimiter>,
    /// The static configuration, as it was at the start of the server.
    pub statics: Arc<Static>,
    /// The dynamic configuration.
    pub config: Live,
    /// Asks DNS servers past the server's own cache.
    pub resolver: Arc<dyn Resolver>,
    /// Answers the questions of checks of mail, as it does for incoming mail.
    pub checks: Arc<dyn Resolver>,
    /// Connects to mail servers, for checks.
    pub dialer: Arc<dyn Dialer>,
    /// The outside programs that have a say in what is accepted.
    pub hooks: Arc<Hooks>,
    /// The reports that came in.
    pub reports: Arc<Reports>,
    /// The calls of webhooks.
    pub webhooks: Arc<Operator>,
    /// `domains.conf`, for operations that change it.
    pub domains: Arc<DomainsFile>,
    /// The newest lines of the log, and which lines are written.
    pub logs: Log,
    /// What happened to sessions, messages and calls.
    pub traces: Traces,
    /// How often mail, logins and connections were refused.
    pub refusals: Arc<RefusalCounts>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What was found when metrics of the queue were last read.
    pub figures: Arc<Figures>,
    /// What the last check of each domain's records said.
    pub verdicts: Arc<Verdicts>,
    /// The certificates of the listeners.
    pub certificates: Arc<dyn CertificateFiles>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The caller. A face sets it for each call.
    pub caller: Caller,
}

fn missing_account(account: &str) -> AdminError {
    AdminError::not_found(format!("there is no account {account}")).at("account")
}

impl Context {
    /// Checks that an account is in `domains.conf`, and keeps it there: it is not removed while the
    /// result is there. For operations that give an account something of its own.
    ///
    /// # Errors
    /// If there is no such account.
    pub async fn hold_account(&self, account: &str) -> Result<AccountHeld, AdminError> {
        let held = self.queue.hold_account(account).await;
        held.ok_or_else(|| missing_account(account))
    }

    /// The hash of the password of the administrator, for a login. None: there is none, or the log
    /// says why it can't be read; then no password is right.
    pub async fn admin_password_hash(&self) -> Option<String> {
        let path = self.statics.admin_password_file.clone()?;
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || read_secret_file(&file)).await;
        let error: &dyn Display = match &read {
            Ok(Ok(hash)) => return Some(String::from_utf8_lossy(hash).trim().to_owned()),
            Ok(Err(error)) => error,
            Err(error) => error,
        };
        error!(file = %path.display(), %error, "admin password not read");
        None
    }

    /// Checks that an account is in `domains.conf`.
    pub(crate) fn check_account(&self, account: &str) -> Result<(), AdminError> {
        if self.config.load().accounts.contains_key(account) {
            return Ok(());
        }
        Err(missing_account(account))
    }

    /// Checks that there is somebody who may have sessions and second factors.
    pub(crate) fn check_owner(&self, owner: &WebSessionOwner) -> Result<(), AdminError> {
        owner.account().map_or(Ok(()), |it| self.check_account(it))
    }

    /// Changes `domains.conf` with a function, and puts the result in force. The audit log gets an
    /// entry, also if the change is refused. `operation` is the name of the operation, and `target`
    /// the thing that it changes. The function may run more than once.
    ///
    /// # Errors
    /// If the function refuses, the file or the result is not valid, or the disk fails. Then
    /// nothing changes.
    pub async fn change_domains<T: Send + 'static>(
        &self,
        operation: &'static str,
        target: &str,
        change: impl Fn(&mut DocumentMut) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<Changed<T>, AdminError> {
        let what = format!("{operation} {target}");
        let changed = self.change_quietly(&what, change).await;
        match &changed {
            Ok(changed) => {
                let (before, after) = json(&changed.differences);
                self.audit(operation, target, before, after, "").await;
            }
            Err(refusal) => {
                let refusal = refusal.text.as_str();
                self.audit(operation, target, String::new(), String::new(), refusal)
                    .await;
            }
        }
        changed
    }

    /// Changes `domains.conf` with a function, and puts the result in force. The caller adds the
    /// entry to the audit log. `what` names the operation.
    pub(crate) async fn change_quietly<T: Send + 'static>(
        &self,
        what: &str,
        change: impl Fn(&mut DocumentMut) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<Changed<T>, AdminError> {
        let (file, named) = (Arc::clone(&self.domains), what.to_owned());
        let changed = tokio::task::spawn_blocking(move || file.change(&named, change)).await;
        match changed {
            Ok(Ok(changed)) => {
                self.keep_version(&changed.after, what).await;
                Ok(changed)
            }
            Ok(Err(error)) => Err(AdminError::from(error)),
            Err(error) => Err(AdminError::internal(error)),
        }
    }

    /// The same context, with a store that adds the entry of a change to the audit log when it
    /// makes the change: both are durable, or none is. A change in several steps brings the entry
    /// with the first step that has an effect. [`record`](Self::record) of the new context ends the
    /// change. `after` is the input of the operation, without secrets.
    pub(crate) fn carrying(
        &self,
        operation: &str,
        target: &str,
        after: &(impl Serialize + Sync),
    ) -> Self {
        self.changing(operation, target, String::new(), shown(after))
    }

    /// The same for a change of known values. `before` and `after` are JSON.
    pub(crate) fn changing(
        &self,
        operation: &str,
        target: &str,
        before: String,
        after: String,
    ) -> Self {
        let entry = self.entry(operation, target, before, after, "");
        Self {
            store: self.store.carrying(entry),
            ..self.clone()
        }
    }

    /// Whether the store [carried](Self::carrying) the entry of a change, and added it. The log
    /// tells of the change.
    pub(crate) fn carried(&self, operation: &str, target: &str) -> bool {
        let is_added = self.store.carried_with_a_change();
        if is_added {
            self.tell(operation, target);
        }
        is_added
    }

    /// Tells of a change in the log.
    fn tell(&self, operation: &str, target: &str) {
        let Caller { name, from, .. } = &self.caller;
        let from = from.map(tracing::field::display);
        info!(who = name, from, operation, target, "changed");
    }

    /// Adds the result of a change that is not in `domains.conf` to the audit log, and gives it
    /// back. An entry that the store [carried](Self::carrying) and added is enough for a change
    /// that was made. `after` is the input of the operation, without secrets.
    pub(crate) async fn record<T>(
        &self,
        operation: &str,
        target: &str,
        after: &(impl Serialize + Sync),
        result: Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let is_added = self.carried(operation, target);
        let entry = match &result {
            Ok(_) if is_added => return result,
            Ok(_) => self.entry(operation, target, String::new(), shown(after), ""),
            Err(error) => self.entry(operation, target, String::new(), String::new(), &error.text),
        };
        self.add_entry(entry).await;
        result
    }

    /// Adds an entry to the audit log. `before` and `after` are JSON without secrets, and `refusal`
    /// is empty if the change was made. A store that fails does not undo the change: the log says
    /// so.
    pub async fn audit(
        &self,
        operation: &str,
        target: &str,
        before: String,
        after: String,
        refusal: &str,
    ) {
        let entry = self.entry(operation, target, before, after, refusal);
        self.add_entry(entry).await;
    }

    fn entry(
        &self,
        operation: &str,
        target: &str,
        before: String,
        after: String,
        refusal: &str,
    ) -> NewAuditEntry {
        let now = self.clock.now();
        NewAuditEntry {
            time: now,
            actor: self.caller.actor,
            name: self.caller.name.clone(),
            from: self.caller.from,
            operation: operation.to_owned(),
            target: target.to_owned(),
            before,
            after,
            refusal: refusal.to_owned(),
            keep_until: now.after(AUDIT_KEPT),
        }
    }

    async fn add_entry(&self, entry: NewAuditEntry) {
        let (operation, target) = (entry.operation.clone(), entry.target.clone());
        if entry.refusal.is_empty() {
            self.tell(&operation, &target);
        }
        if let Err(error) = self.store.audit(entry).await {
            error!(%error, operation, target, "change not audited");
        }
    }
}

/// The input of an operation as JSON; empty if there is none.
fn shown(input: &impl Serialize) -> String {
    let shown = serde_json::to_string(input).unwrap_or_default();
    match shown.as_str() {
        "null" => String::new(),
        _ => shown,
    }
}

/// The changed fields before and after, as JSON objects; empty where there are none.
fn json(differences: &[Difference]) -> (String, String) {
    let side = |value: fn(&Difference) -> &Option<String>| {
        let fields = differences.iter();
        let fields = fields.filter_map(|it| Some((it.key.clone(), value(it).clone()?.into())));
        let fields: serde_json::Map<String, serde_json::Value> = fields.collect();
        match fields.is_empty() {
            true => String::new(),
            false => serde_json::Value::Object(fields).to_string(),
        }
    };
    (side(|it| &it.before), side(|it| &it.after))
}
