//! The operations of administrators.
//!
//! An operation is a value: its fields are the input. It runs against a [`Context`] and gives its
//! output to a [`Sink`], item by item, so that the memory for a long listing is bounded. A caller
//! that goes away drops the future, which ends the operation between two steps.
//!
//! All operations stand in one list in this file. Only the list implements [`Listed`], so an
//! operation that is missing in the list does not compile. Each face derives its requests from the
//! list, so an operation cannot be missing in a face.

pub mod account_overview;
pub mod audit;
pub mod backup;
pub(crate) mod blob;
pub mod board;
pub mod browse;
pub mod certificates;
pub mod checks;
pub mod config;
pub mod credentials;
pub mod delivery;
pub mod destinations;
pub mod details;
pub mod dns;
pub mod events;
pub mod export;
pub mod history;
pub mod hold_rules;
pub mod hooks;
pub mod inbox;
pub mod junk;
pub mod key_uses;
pub mod keys;
pub mod login_attempts;
pub mod logins;
pub mod logs;
pub mod messages;
pub mod metrics;
pub mod overview;
mod pages;
pub mod passwords;
pub mod principals;
pub mod purge;
pub mod queue;
pub mod received;
pub mod refusals;
pub mod reports;
pub mod second_factors;
pub mod server;
pub mod setup;
pub mod sieve;
pub mod stops;
pub mod suppression;
pub mod tls_keys;
pub mod traces;
pub mod transcripts;
pub mod undelete;
pub mod web_sessions;
pub mod webhook;

use futures_util::future::try_join_all;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use postrider_store::Time;
use serde::{Serialize, de::DeserializeOwned};

pub use self::pages::{Reached, Searched};
use crate::{AdminError, Context};

/// The name of an operation in the list of all operations. Only the list implements this.
pub trait Listed {
    /// The name on the wire, for example `queue.list`.
    const NAME: &'static str;
}

/// An operation with any number of items as its output.
pub trait Operation: Listed + Serialize + DeserializeOwned + Send {
    /// One item of the output.
    type Item: Serialize + DeserializeOwned + Send;

    /// Runs the operation to its end.
    ///
    /// # Errors
    /// If the operation is refused or fails, or if the caller has gone. Items that were given and
    /// changes that were made before stay.
    fn run(
        self,
        context: &Context,
        items: &mut impl Sink<Self::Item>,
    ) -> impl Future<Output = Result<(), AdminError>> + Send;
}

/// An operation with exactly one item as its output.
pub trait Single: Listed + Serialize + DeserializeOwned + Send {
    /// The output.
    type Output: Serialize + DeserializeOwned + Send;

    /// Runs the operation to its end.
    ///
    /// # Errors
    /// If the operation is refused or fails. Changes that were made before stay.
    fn answer(
        self,
        context: &Context,
    ) -> impl Future<Output = Result<Self::Output, AdminError>> + Send;
}

impl<S: Single> Operation for S {
    type Item = S::Output;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<S::Output>,
    ) -> Result<(), AdminError> {
        let output = self.answer(context).await?;
        items.send(vec![output]).await
    }
}

/// The receiver of the items of an operation.
pub trait Sink<T>: Send {
    /// Hands over items. Waits while the caller is slower than the operation.
    ///
    /// # Errors
    /// If the caller has gone (see [`Gone`]), or an item cannot be expressed.
    fn send(&mut self, items: Vec<T>) -> impl Future<Output = Result<(), AdminError>> + Send;
}

/// Makes changes of the store at the same time, so that they share syncs of the disk. Counts those
/// that were made.
///
/// # Errors
/// The first one. Changes that run then may be made or not.
pub(crate) async fn count_true<E>(
    changes: impl IntoIterator<Item = impl Future<Output = Result<bool, E>>>,
) -> Result<u64, E> {
    let made = try_join_all(changes).await?;
    Ok(made.into_iter().filter(|made| *made).count() as u64)
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    let digits = bytes.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// Reads a time in RFC 3339, or a date, which stands for its beginning in UTC.
pub(crate) fn time_or_date(text: &str) -> Option<Time> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.into());
    }
    let date: Date = text.parse().ok()?;
    let zoned = date.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().into())
}

/// The caller of an operation has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller has gone")]
pub struct Gone;

impl From<Gone> for AdminError {
    fn from(gone: Gone) -> Self {
        Self::unavailable(gone)
    }
}

/// The list of all operations. It calls the macro `$derive` with one line for each operation: a
/// name for Rust, the type of the operation, and the name on the wire.
macro_rules! operations {
    ($derive:ident) => {
        $derive! {
            AccountOverview($crate::op::account_overview::Overview) = "account.overview",
            ServerPing($crate::op::server::Ping) = "server.ping",
            ServerCheck($crate::op::setup::Check) = "server.check",
            ServerReloadCertificates($crate::op::certificates::Reload) = "server.reload_certificates",
            ServerBackup($crate::op::backup::Backup) = "server.backup",
            MailExport($crate::op::export::Export) = "mail.export",
            LoginList($crate::op::login_attempts::List) = "login.list",
            LoginFind($crate::op::login_attempts::Find) = "login.find",
            LoginUnlock($crate::op::logins::Unlock) = "login.unlock",
            WebSessionList($crate::op::web_sessions::List) = "web_session.list",
            WebSessionEnd($crate::op::web_sessions::End) = "web_session.end",
            PasswordSet($crate::op::passwords::Set) = "password.set",
            PasswordGenerate($crate::op::passwords::Generate) = "password.generate",
            PasswordAdminSet($crate::op::passwords::AdminSet) = "password.admin_set",
            AppPasswordList($crate::op::credentials::ListAppPasswords) = "app_password.list",
            AppPasswordAdd($crate::op::credentials::AddAppPassword) = "app_password.add",
            AppPasswordRemove($crate::op::credentials::RemoveAppPassword) = "app_password.remove",
            TlsKeyList($crate::op::tls_keys::List) = "tls_key.list",
            TlsKeyAdd($crate::op::tls_keys::Add) = "tls_key.add",
            TlsKeyRemove($crate::op::tls_keys::Remove) = "tls_key.remove",
            OtpEnable($crate::op::credentials::EnableOtp) = "otp.enable",
            OtpDisable($crate::op::credentials::DisableOtp) = "otp.disable",
            SecondFactorShow($crate::op::second_factors::Show) = "second_factor.show",
            SecondFactorBegin($crate::op::second_factors::Begin) = "second_factor.begin",
            SecondFactorConfirm($crate::op::second_factors::Confirm) = "second_factor.confirm",
            SecondFactorRenew($crate::op::second_factors::Renew) = "second_factor.renew",
            SecondFactorReset($crate::op::second_factors::Reset) = "second_factor.reset",
            CredentialShow($crate::op::credentials::Show) = "credential.show",
            CredentialChange($crate::op::credentials::Change) = "credential.change",
            QueueList($crate::op::queue::List) = "queue.list",
            QueueModify($crate::op::queue::Modify) = "queue.modify",
            QueueEnd($crate::op::queue::End) = "queue.end",
            QueueDump($crate::op::queue::Dump) = "queue.dump",
            QueueExplain($crate::op::queue::Explain) = "queue.explain",
            QueueStatus($crate::op::stops::GetStatus) = "queue.status",
            QueueFigures($crate::op::overview::GetFigures) = "queue.figures",
            QueueDay($crate::op::overview::GetDay) = "queue.day",
            ServerAttention($crate::op::overview::GetAttention) = "server.attention",
            QueueStop($crate::op::stops::Stop) = "queue.stop",
            QueueStart($crate::op::stops::Start) = "queue.start",
            DestinationList($crate::op::destinations::List) = "destination.list",
            DestinationBoard($crate::op::board::GetBoard) = "destination.board",
            DestinationOrders($crate::op::destinations::ListOrders) = "destination.orders",
            DestinationPause($crate::op::destinations::Pause) = "destination.pause",
            DestinationResume($crate::op::destinations::Resume) = "destination.resume",
            DestinationLimit($crate::op::destinations::Limit) = "destination.limit",
            DestinationForget($crate::op::destinations::Forget) = "destination.forget",
            QueueReportList($crate::op::reports::List) = "queue_report.list",
            QueueReportShow($crate::op::reports::Show) = "queue_report.show",
            QueueReportDrop($crate::op::reports::Drop) = "queue_report.drop",
            QueueReportDropAll($crate::op::reports::DropAll) = "queue_report.drop_all",
            ReportList($crate::op::received::List) = "report.list",
            ReportShow($crate::op::received::Show) = "report.show",
            ReportRaw($crate::op::received::Raw) = "report.raw",
            ReportRemove($crate::op::received::Remove) = "report.remove",
            ReportRemoveAll($crate::op::received::RemoveAll) = "report.remove_all",
            ReportSums($crate::op::received::Sums) = "report.sums",
            DeliveryCheck($crate::op::delivery::Check) = "delivery.check",
            SpfCheck($crate::op::checks::SpfCheck) = "spf.check",
            DkimVerify($crate::op::checks::DkimVerify) = "dkim.verify",
            DmarcCheck($crate::op::checks::DmarcCheck) = "dmarc.check",
            PrincipalList($crate::op::principals::List) = "principal.list",
            PrincipalUsage($crate::op::principals::Usage) = "principal.usage",
            PrincipalUpdate($crate::op::config::principals::Update) = "principal.update",
            PrincipalRemoveAll($crate::op::config::principals::RemoveAll) = "principal.remove_all",
            QueueFind($crate::op::messages::Find) = "queue.find",
            QueueDetails($crate::op::details::Details) = "queue.details",
            QueueLook($crate::op::details::Look) = "queue.look",
            QueueBrowse($crate::op::browse::Browse) = "queue.browse",
            QueueGet($crate::op::messages::Get) = "queue.get",
            QueueChangeSelected($crate::op::messages::ChangeSelected) = "queue.change_selected",
            QueueEndSelected($crate::op::messages::EndSelected) = "queue.end_selected",
            HistoryList($crate::op::history::List) = "history.list",
            HistorySearch($crate::op::history::Search) = "history.search",
            HistorySendAgain($crate::op::history::SendAgain) = "history.send_again",
            EventSearch($crate::op::events::Search) = "event.search",
            EventFollow($crate::op::events::Follow) = "event.follow",
            SuppressionList($crate::op::suppression::List) = "suppression.list",
            SuppressionAdd($crate::op::suppression::Add) = "suppression.add",
            SuppressionRemove($crate::op::suppression::Remove) = "suppression.remove",
            SuppressionFind($crate::op::suppression::Find) = "suppression.find",
            SuppressionClear($crate::op::suppression::Clear) = "suppression.clear",
            SuppressionCheck($crate::op::suppression::import::Check) = "suppression.check",
            SuppressionImport($crate::op::suppression::import::Import) = "suppression.import",
            SuppressionLookup($crate::op::suppression::Lookup) = "suppression.lookup",
            HoldRuleList($crate::op::hold_rules::List) = "hold_rule.list",
            HistoryWithText($crate::op::history::WithText) = "history.with_text",
            HoldRuleCountHeld($crate::op::hold_rules::CountHeld) = "hold_rule.count_held",
            HoldRuleAdd($crate::op::hold_rules::Add) = "hold_rule.add",
            HoldRuleRemove($crate::op::hold_rules::Remove) = "hold_rule.remove",
            InboxList($crate::op::inbox::List) = "inbox.list",
            InboxGet($crate::op::inbox::Get) = "inbox.get",
            InboxHtml($crate::op::inbox::Html) = "inbox.html",
            InboxPart($crate::op::inbox::Part) = "inbox.part",
            InboxSource($crate::op::inbox::Source) = "inbox.source",
            InboxWhatHappened($crate::op::inbox::WhatHappened) = "inbox.what_happened",
            InboxForesee($crate::op::inbox::Foresee) = "inbox.foresee",
            InboxSend($crate::op::inbox::SendTest) = "inbox.send",
            InboxMark($crate::op::inbox::Mark) = "inbox.mark",
            InboxClear($crate::op::inbox::Clear) = "inbox.clear",
            KeyList($crate::op::keys::List) = "key.list",
            KeyAdd($crate::op::keys::Add) = "key.add",
            KeyUses($crate::op::key_uses::List) = "key.uses",
            KeyRemove($crate::op::keys::Remove) = "key.remove",
            WebhookList($crate::op::webhook::List) = "webhook.list",
            WebhookSchedule($crate::op::webhook::Schedule) = "webhook.schedule",
            WebhookCancel($crate::op::webhook::Cancel) = "webhook.cancel",
            WebhookFind($crate::op::webhook::Find) = "webhook.find",
            WebhookFindPast($crate::op::webhook::FindPast) = "webhook.find_past",
            WebhookShow($crate::op::webhook::Show) = "webhook.show",
            WebhookReceivers($crate::op::webhook::Receivers) = "webhook.receivers",
            WebhookExample($crate::op::webhook::Example) = "webhook.example",
            WebhookTest($crate::op::webhook::Test) = "webhook.test",
            WebhookHistory($crate::op::webhook::History) = "webhook.history",
            WebhookReplay($crate::op::webhook::Replay) = "webhook.replay",
            JunkTrain($crate::op::junk::Train) = "junk.train",
            JunkTrainMailbox($crate::op::junk::TrainMailbox) = "junk.train_mailbox",
            JunkClassify($crate::op::junk::Classify) = "junk.classify",
            JunkReset($crate::op::junk::Reset) = "junk.reset",
            JunkStatus($crate::op::junk::Status) = "junk.status",
            SieveList($crate::op::sieve::List) = "sieve.list",
            SieveSet($crate::op::sieve::Set) = "sieve.set",
            UndeleteList($crate::op::undelete::List) = "undelete.list",
            UndeleteRestore($crate::op::undelete::Restore) = "undelete.restore",
            PurgeAccount($crate::op::purge::Account) = "purge.account",
            PurgeBlob($crate::op::purge::Blob) = "purge.blob",
            PurgeData($crate::op::purge::Data) = "purge.data",
            DnsRecords($crate::op::dns::Records) = "dns.records",
            DnsCheck($crate::op::dns::Check) = "dns.check",
            DnsVerdicts($crate::op::dns::ListVerdicts) = "dns.verdicts",
            DnsCanPublish($crate::op::dns::CanPublish) = "dns.can_publish",
            ConfigDkimStop($crate::op::config::dkim::Stop) = "dkim.stop",
            DnsPublish($crate::op::dns::Publish) = "dns.publish",
            DnsLookup($crate::op::dns::Lookup) = "dns.lookup",
            DomainList($crate::op::config::domains::List) = "domain.list",
            DomainAdd($crate::op::config::domains::Add) = "domain.add",
            DomainRemove($crate::op::config::domains::Remove) = "domain.remove",
            DomainSet($crate::op::config::domains::Set) = "domain.set",
            AccountList($crate::op::config::accounts::List) = "account.list",
            AccountAdd($crate::op::config::accounts::Add) = "account.add",
            AccountRemove($crate::op::config::accounts::Remove) = "account.remove",
            AccountSet($crate::op::config::accounts::Set) = "account.set",
            AccountStates($crate::op::config::states::States) = "account.states",
            AccountRotateWebhookSecret($crate::op::config::webhook_secret::Rotate) = "account.rotate_webhook_secret",
            AccountSuspend($crate::op::config::accounts::Suspend) = "account.suspend",
            AccountUnsuspend($crate::op::config::accounts::Unsuspend) = "account.unsuspend",
            AddressList($crate::op::config::addresses::List) = "address.list",
            AddressAdd($crate::op::config::addresses::Add) = "address.add",
            AddressRemove($crate::op::config::addresses::Remove) = "address.remove",
            AliasList($crate::op::config::aliases::List) = "alias.list",
            AliasAdd($crate::op::config::aliases::Add) = "alias.add",
            AliasUpdate($crate::op::config::aliases::Update) = "alias.update",
            AliasRemove($crate::op::config::aliases::Remove) = "alias.remove",
            AliasAddMembers($crate::op::config::aliases::AddMembers) = "alias.add_members",
            AliasRemoveMembers($crate::op::config::aliases::RemoveMembers) = "alias.remove_members",
            ConfigDomainsShow($crate::op::config::file::DomainsShow) = "config.domains_show",
            ConfigDomainsCheck($crate::op::config::file::DomainsCheck) = "config.domains_check",
            ConfigDomainsSave($crate::op::config::file::DomainsSave) = "config.domains_save",
            ConfigDomainsVersions($crate::op::config::file::DomainsVersions) = "config.domains_versions",
            ConfigDomainsVersion($crate::op::config::file::DomainsVersion) = "config.domains_version",
            ConfigDomainsRestore($crate::op::config::file::DomainsRestore) = "config.domains_restore",
            ConfigStaticShow($crate::op::config::file::StaticShow) = "config.static_show",
            DkimList($crate::op::config::dkim::List) = "dkim.list",
            DkimAdd($crate::op::config::dkim::Add) = "dkim.add",
            DkimRemove($crate::op::config::dkim::Remove) = "dkim.remove",
            DkimStatus($crate::op::config::dkim::Status) = "dkim.status",
            DkimRotate($crate::op::config::dkim::Rotate) = "dkim.rotate",
            RouteList($crate::op::config::routes::List) = "route.list",
            RouteAdd($crate::op::config::routes::Add) = "route.add",
            RouteRemove($crate::op::config::routes::Remove) = "route.remove",
            SettingGet($crate::op::config::settings::Get) = "setting.get",
            SettingSet($crate::op::config::settings::Set) = "setting.set",
            HooksList($crate::op::hooks::List) = "hooks.list",
            HooksTest($crate::op::hooks::Test) = "hooks.test",
            HooksImport($crate::op::config::hooks::Import) = "hooks.import",
            TraceFind($crate::op::traces::Find) = "trace.find",
            TraceStory($crate::op::traces::Story) = "trace.story",
            TraceFollow($crate::op::traces::Follow) = "trace.follow",
            MetricsPoints($crate::op::metrics::Points) = "metrics.points",
            LogList($crate::op::logs::List) = "log.list",
            LogListLevels($crate::op::logs::ListLevels) = "log.list_levels",
            LogSetLevel($crate::op::logs::SetLevel) = "log.set_level",
            LogResetLevels($crate::op::logs::ResetLevels) = "log.reset_levels",
            RefusalList($crate::op::refusals::List) = "refusal.list",
            AuditList($crate::op::audit::List) = "audit.list",
            AuditFind($crate::op::audit::Find) = "audit.find",
        }
    };
}
pub(crate) use operations;

macro_rules! name {
    ($($variant:ident($operation:ty) = $name:literal,)+) => {
        $(impl Listed for $operation {
            const NAME: &'static str = $name;
        })+
    };
}
operations!(name);

macro_rules! names {
    ($($variant:ident($operation:ty) = $name:literal,)+) => {
        /// The names of all operations.
        pub const NAMES: &[&str] = &[$($name),+];
    };
}
operations!(names);
