//! Accounts: add, remove, list, change, suspend.

use postrider_config::{
    Account, DestinationAddress, Dynamic, ReportAddress, Static, shown_url, toml_edit::InlineTable,
};
use postrider_smtp::{Address, Domain};
use postrider_store::{
    MailId, Order, StationeryKind, StationeryOwner, StationeryShelf, Store, StoreError,
    SuppressionId,
};
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::{
    Edit, addresses, document, missing_account, parse,
    settings::{self, Setting},
    to_its_end,
};
use crate::{
    AdminError, Context,
    op::{Listed as _, Operation, Single, Sink, count_true, principals::Kind},
};

/// Records of the store that are read at once.
const PAGE: usize = 500;
/// Deleted mails that are removed at once.
const PURGE_STEP: u64 = 200;

/// An account. Addresses are in their Unicode form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the configuration, and say it"
)]
pub struct AccountItem {
    pub name: String,
    pub domain: String,
    pub description: String,
    pub full_name: String,
    /// The addresses. The first is the main one.
    pub addresses: Vec<String>,
    /// The aliases that the account is a member of.
    pub aliases: Vec<String>,
    /// Whether logins are refused.
    pub suspended: bool,
    /// The message for refused logins; empty if they are not refused.
    pub login_disabled: String,
    /// The largest size of all mail in bytes; None: no limit.
    pub quota: Option<u64>,
    pub failure_dsn: String,
    pub max_outgoing_messages_per_day: u32,
    pub max_first_time_recipients_per_day: u32,
    /// The URL of the webhook for events of sent messages, without a login in it; empty without a
    /// webhook.
    pub outgoing_webhook: String,
    /// The URL of the webhook for received messages, likewise.
    pub incoming_webhook: String,
}

impl AccountItem {
    fn new(config: &Dynamic, name: &str, account: &Account) -> Self {
        let outgoing = account.outgoing_webhook.as_ref();
        let incoming = account.incoming_webhook.as_ref();
        Self {
            name: name.to_owned(),
            domain: account.domain.unicode(),
            description: account.description.clone(),
            full_name: account.full_name.clone(),
            addresses: account.destinations.keys().map(addresses::shown).collect(),
            aliases: aliases(config, name),
            suspended: !account.login_disabled.is_empty(),
            login_disabled: account.login_disabled.clone(),
            quota: account.quota.map(|quota| quota.0),
            failure_dsn: account.failure_dsn.to_string(),
            max_outgoing_messages_per_day: account.max_outgoing_messages_per_day,
            max_first_time_recipients_per_day: account.max_first_time_recipients_per_day,
            outgoing_webhook: outgoing
                .map(|hook| shown_url(&hook.url))
                .unwrap_or_default(),
            incoming_webhook: incoming
                .map(|hook| shown_url(&hook.url))
                .unwrap_or_default(),
        }
    }
}

/// The aliases that an account is a member of.
fn aliases(config: &Dynamic, account: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (domain, settings) in &config.domains {
        for (local, alias) in &settings.aliases {
            if alias.addresses.iter().any(|it| is_of(config, account, it)) {
                found.push(super::address(local, domain).unicode());
            }
        }
    }
    found
}

/// Whether an address is a destination of an account.
pub(super) fn is_of(config: &Dynamic, account: &str, address: &Address) -> bool {
    let found = config.destination(address);
    found.is_some_and(|(owner, _)| owner == account)
}

/// Lists accounts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only this account; None: all.
    pub account: Option<String>,
}

impl Operation for List {
    type Item = AccountItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<AccountItem>,
    ) -> Result<(), AdminError> {
        let config = context.config.load_full();
        let listed = match &self.account {
            Some(name) => {
                let account = config.accounts.get(name);
                let account = account.ok_or_else(|| missing_account(&config, name))?;
                vec![AccountItem::new(&config, name, account)]
            }
            None => {
                let accounts = config.accounts.iter();
                let item =
                    |(name, account): (&String, &Account)| AccountItem::new(&config, name, account);
                accounts.map(item).collect()
            }
        };
        items.send(listed).await
    }
}

/// Adds an account with one address and without a password.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The name of the account.
    pub account: String,
    /// Its address. The domain of the address becomes the account's own domain.
    pub address: String,
}

impl Single for Add {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let context = context.clone();
        to_its_end(async move { self.make(&context).await }).await
    }
}

impl Add {
    async fn make(self, context: &Context) -> Result<(), AdminError> {
        let name = self.account.clone();
        // The data of an earlier account of this name are removed first.
        let _alone = context.queue.have_accounts_alone([name.as_str()]).await;
        let change = move |edit: &mut Edit<'_>| {
            check_new_name(edit.before, &self.account)?;
            let address = parse(&self.address, "address", DestinationAddress::parse)?;
            let DestinationAddress::Address(address) = address else {
                let text = "an account needs an address of its own; add a catch-all afterwards";
                return Err(AdminError::invalid(text).at("address"));
            };
            edit.check_available(&address, "address")?;
            insert(edit, &self.account, &address)
        };
        context.edit(Self::NAME, &name, change).await?;
        forget_logins(context, &name).await?;
        let (store, now) = (&context.store, context.clock.now());
        store
            .note_principal_made(Kind::Individual.known_as(&name), now)
            .await?;
        Ok(())
    }
}

/// Checks the name of a new account.
pub(super) fn check_new_name(config: &Dynamic, name: &str) -> Result<(), AdminError> {
    if name.is_empty() {
        return Err(AdminError::invalid("name the account").at("account"));
    }
    if config.accounts.contains_key(name) {
        let text = format!("there is an account {name} already");
        return Err(AdminError::conflict(text).at("account"));
    }
    Ok(())
}

/// Writes a new account into the file.
pub(super) fn insert(edit: &mut Edit<'_>, name: &str, address: &Address) -> Result<(), AdminError> {
    let domain = address.host.unicode();
    let content = InlineTable::from_iter([("domain", domain)]);
    document::add_table(edit.document, &["accounts", name], content)?;
    // With a dotted key, as in `destinations."jane@example.org" = {}`.
    let path = ["accounts", name, "destinations", &address.unicode()];
    document::set(edit.document, &path, InlineTable::new())
}

/// Removes the password, the keys and the notes of logins that an earlier account of this name
/// left.
pub(super) async fn forget_logins(context: &Context, name: &str) -> Result<u64, AdminError> {
    context.store.set_credential(name, None).await?;
    context.logins.forget(name);
    context.logins.forget_attempts(name).await?;
    let mut removed = 0;
    for key in context.store.api_keys().await? {
        if key.account == name {
            removed += u64::from(context.store.remove_api_key(key.id).await?);
            let name = Kind::ApiKey.known_as(&key.id.to_string());
            context.store.forget_principal(name).await?;
        }
    }
    for key in context.store.tls_keys().await? {
        if key.account == name {
            removed += u64::from(context.store.remove_tls_key(&key.fingerprint).await?);
        }
    }
    Ok(removed)
}

/// Removes an account with its mail, password, keys and suppressions. Its queued messages fail.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The account.
    pub account: String,
}

/// What went with an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Queued messages that failed.
    pub failed: u64,
    /// Messages that are being delivered at this moment. They stay in the queue.
    pub in_delivery: u64,
    /// Messages in its mailboxes.
    pub mails: u64,
    /// API keys.
    pub keys: u64,
    /// Suppressed addresses.
    pub suppressions: u64,
}

impl Single for Remove {
    type Output = Removed;

    async fn answer(self, context: &Context) -> Result<Removed, AdminError> {
        let context = context.clone();
        to_its_end(async move { self.make(&context).await }).await
    }
}

impl Remove {
    async fn make(self, context: &Context) -> Result<Removed, AdminError> {
        let name = self.account.clone();
        let _alone = context.queue.have_accounts_alone([name.as_str()]).await;
        let change = move |edit: &mut Edit<'_>| self.remove(edit);
        let changed = context.edit(Self::NAME, &name, change).await?;
        let removed = clear(context, &name, &changed.before).await;
        removed.map_err(|error| AdminError {
            text: format!(
                "the account {name} is removed, but not all of its data: {}; add the account again \
                 and remove it once more",
                error.text
            ),
            ..error
        })
    }
}

impl Remove {
    fn remove(&self, edit: &mut Edit<'_>) -> Result<(), AdminError> {
        let (name, before) = (self.account.as_str(), edit.before);
        check_unused(edit, name, &|_| false)?;
        let left = edit.leave_aliases(|member| is_of(before, name, member));
        left.map_err(|error| error.at("account"))?;
        remove_entry(edit, name)
    }
}

/// Takes an account out of the file, with the rights that it has to mailboxes of others.
pub(super) fn remove_entry(edit: &mut Edit<'_>, name: &str) -> Result<(), AdminError> {
    for (other, account) in &edit.before.accounts {
        if other != name && account.right_of(name).is_some() {
            // The other account may have been removed by the same change.
            document::remove(edit.document, &["accounts", other, "shared_with", name])?;
        }
    }
    document::remove(edit.document, &["accounts", name])?;
    Ok(())
}

/// Checks that an account exists and nothing needs it. Reports of domains that go do not need it.
pub(super) fn check_unused(
    edit: &Edit<'_>,
    name: &str,
    is_gone: &dyn Fn(&Domain) -> bool,
) -> Result<(), AdminError> {
    edit.account(name)?;
    match needed_by(edit.statics, edit.before, name, is_gone) {
        Some(place) => Err(AdminError::invalid(format!("{name} {place}")).at("account")),
        None => Ok(()),
    }
}

/// The place in one of the files that names an account, so that the account can't go: the end of a
/// sentence. Domains that go name nothing. Aliases name addresses, and are not looked at here.
fn needed_by(
    statics: &Static,
    config: &Dynamic,
    account: &str,
    is_gone: &dyn Fn(&Domain) -> bool,
) -> Option<String> {
    if statics.postmaster.account == account {
        return Some(
            "is the account of the postmaster; name another in postrider.conf first \
             (postmaster.account), and restart the server"
                .to_owned(),
        );
    }
    let of_host = statics.host_tls_rpt.as_ref();
    if of_host.is_some_and(|reports| reports.account == account) {
        return Some(
            "gets the reports about TLS to this host; name another in postrider.conf first \
             (host_tls_rpt.account), and restart the server"
                .to_owned(),
        );
    }
    let domains = config.domains.iter();
    let mut domains = domains.filter(|(domain, _)| !is_gone(domain));
    domains.find_map(|(domain, settings)| {
        let reports = [("dmarc", &settings.dmarc), ("tls_rpt", &settings.tls_rpt)];
        let gets = |report: &Option<ReportAddress>| {
            report
                .as_ref()
                .is_some_and(|report| report.account == account)
        };
        let (key, _) = reports.into_iter().find(|(_, report)| gets(report))?;
        let domain = domain.unicode();
        Some(format!(
            "gets the reports of {domain}; change domains.{domain:?}.{key}.account first"
        ))
    })
}

/// Ends the messages of an account that is not in the configuration any more, and removes its data.
/// The caller has the account alone since before the change, so that no operation that began before
/// adds to the data.
pub(super) async fn clear(
    context: &Context,
    name: &str,
    before: &Dynamic,
) -> Result<Removed, AdminError> {
    let store = &context.store;
    // Nobody may log in from here on, also if a later step fails.
    let mut removed = Removed {
        keys: forget_logins(context, name).await?,
        ..Removed::default()
    };
    store
        .forget_principal(Kind::Individual.known_as(name))
        .await?;
    let who = context.caller.name.as_str();
    let ended = context.queue.fail_account(name, before, who).await?;
    (removed.failed, removed.in_delivery) = (ended.ended, ended.in_delivery);
    let now = context.clock.now();
    let mut after: Option<SuppressionId> = None;
    loop {
        let page = store
            .list_suppressions(Some(name), now, after, Order::Ascending, PAGE)
            .await?;
        let entries = page.items.into_iter().map(|entry| async move {
            let base = postrider_store::base_in_list(&entry.base, &entry.list);
            store.unsuppress(name, &base, now).await
        });
        removed.suppressions += count_true(entries).await?;
        match page.next {
            None => break,
            next => after = next,
        }
    }
    let mut after: Option<MailId> = None;
    loop {
        let page = store.list_mails(name, None, after, PAGE).await?;
        let mails = page.items.iter();
        removed.mails += count_true(mails.map(|mail| store.remove_mail(name, mail.id))).await?;
        match page.next {
            None => break,
            next => after = next,
        }
    }
    // What the account deleted before goes, too.
    while store.purge_deleted(Some(name), PURGE_STEP).await? == PURGE_STEP {}
    store.forget_junk(name).await?;
    store.forget_history(name).await?;
    forget_stationery(store, &StationeryOwner::Account(name.to_owned())).await?;
    store.forget_sieve(name).await?;
    debug!(account = name, ?removed, "data of an account removed");
    Ok(removed)
}

/// Removes the signatures and templates of an owner.
pub(super) async fn forget_stationery(
    store: &Store,
    owner: &StationeryOwner,
) -> Result<(), StoreError> {
    for kind in [StationeryKind::Signature, StationeryKind::Template] {
        let shelf = StationeryShelf {
            kind,
            owner: owner.clone(),
        };
        store.forget_stationery(&shelf).await?;
    }
    Ok(())
}

/// Changes settings of an account. The names are those of the keys below `accounts.NAME`, such as
/// `quota` or `outgoing_webhook.url`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The account.
    pub account: String,
    /// The settings. All change, or none.
    pub settings: Vec<Setting>,
}

impl Single for Set {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let name = self.account.clone();
        let change = move |edit: &mut Edit<'_>| {
            edit.account(&self.account)?;
            settings::apply_below(edit, &["accounts", &self.account], &self.settings)
        };
        context.edit(Self::NAME, &name, change).await?;
        Ok(())
    }
}

/// Refuses logins of an account. It still receives mail.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspend {
    /// The account.
    pub account: String,
    /// The message for those who log in; None: a usual one.
    pub message: Option<String>,
}

impl Single for Suspend {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let name = self.account.clone();
        let change = move |edit: &mut Edit<'_>| {
            let Self { account, message } = &self;
            edit.account(account)?;
            let message = message.as_deref().unwrap_or("this account is suspended");
            if message.is_empty() {
                let text = "the message is empty; an account is suspended as long as it has one";
                return Err(AdminError::invalid(text).at("message"));
            }
            let path = ["accounts", account, "login_disabled"];
            document::set(edit.document, &path, message)
        };
        context.edit(Self::NAME, &name, change).await?;
        // They are refused from here on. When the account may log in again, they stay worthless.
        context.store.end_mail_tokens(&name).await?;
        Ok(())
    }
}

/// Lets an account log in again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsuspend {
    /// The account.
    pub account: String,
}

impl Single for Unsuspend {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let name = self.account.clone();
        let change = move |edit: &mut Edit<'_>| {
            edit.account(&self.account)?;
            let path = ["accounts", &self.account, "login_disabled"];
            document::remove(edit.document, &path).map(drop)
        };
        context.edit(Self::NAME, &name, change).await?;
        Ok(())
    }
}
