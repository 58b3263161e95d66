//! Domains: add, remove, list, change.

use postrider_config::{
    DestinationAddress, DkimAlgorithm, DomainConfig, Dynamic, Static, Tenant,
    toml_edit::{Array, InlineTable, Value},
};
use postrider_smtp::{Address, Domain, LocalPart};
use postrider_store::{StationeryOwner, Time};
use serde::{Deserialize, Serialize};

use super::{
    Edit, accounts, addresses, dkim,
    dkim::{DkimItem, PAIR},
    document,
    keyfile::{self, NewKey, NewKeys},
    missing_domain, parse, parse_domain,
    settings::{self, Setting},
    target, to_its_end,
};
use crate::{
    AdminError, Context,
    op::{
        Listed as _, Operation, Single, Sink,
        dns::{self, Published, RecordItem, World},
        principals::Kind,
    },
};

/// The separator of a new domain.
const SEPARATOR: &str = "+";

/// A domain. Names are in their Unicode form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the configuration, and say it"
)]
pub struct DomainItem {
    pub name: String,
    pub disabled: bool,
    pub description: String,
    pub client_settings_domain: String,
    pub localpart_catchall_separators: Vec<String>,
    pub localpart_case_sensitive: bool,
    /// How many addresses of accounts are at the domain. A catch-all is one.
    pub addresses: u64,
    /// How many aliases the domain has.
    pub aliases: u64,
    /// The selectors whose keys sign.
    pub signing: Vec<String>,
    /// The address for DMARC reports; None: there is none.
    pub dmarc: Option<String>,
    /// The address for TLS reports; None: there is none.
    pub tls_rpt: Option<String>,
    /// The id of the MTA-STS policy; None: there is no policy.
    pub mta_sts: Option<String>,
    /// The customer whose domain it is; None: there is none.
    pub tenant: Option<String>,
}

impl DomainItem {
    fn new(config: &Dynamic, domain: &Domain, settings: &DomainConfig) -> Self {
        let is_own = |key: &&DestinationAddress| match key {
            DestinationAddress::Address(address) => address.host.domain() == Some(domain),
            DestinationAddress::CatchAll(of) => of == domain,
        };
        let keys = config.accounts.values();
        let keys = keys.flat_map(|account| account.destinations.keys());
        let report = |report: &postrider_config::ReportAddress| {
            super::address(&report.localpart, &report.domain).unicode()
        };
        Self {
            name: domain.unicode(),
            disabled: settings.disabled,
            description: settings.description.clone(),
            client_settings_domain: settings.client_settings_domain.unicode(),
            localpart_catchall_separators: settings.localpart_catchall_separators.clone(),
            localpart_case_sensitive: settings.localpart_case_sensitive,
            addresses: keys.filter(is_own).count() as u64,
            aliases: settings.aliases.len() as u64,
            signing: settings.dkim.sign.iter().map(Domain::unicode).collect(),
            dmarc: settings.dmarc.as_ref().map(report),
            tls_rpt: settings.tls_rpt.as_ref().map(report),
            mta_sts: settings.mta_sts.as_ref().map(|it| it.policy_id.clone()),
            tenant: settings.tenant.as_ref().map(Tenant::to_string),
        }
    }
}

/// Lists domains.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only this domain; None: all.
    pub domain: Option<String>,
}

impl Operation for List {
    type Item = DomainItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<DomainItem>,
    ) -> Result<(), AdminError> {
        let config = context.config.load_full();
        let wanted = self.domain.as_deref().map(parse_domain).transpose()?;
        let listed = match &wanted {
            Some(domain) => {
                let settings = config.domains.get(domain);
                let settings = settings.ok_or_else(|| missing_domain(&config, domain))?;
                vec![DomainItem::new(&config, domain, settings)]
            }
            None => {
                let domains = config.domains.iter();
                let item = |(domain, settings): (&Domain, &DomainConfig)| {
                    DomainItem::new(&config, domain, settings)
                };
                domains.map(item).collect()
            }
        };
        items.send(listed).await
    }
}

/// Adds a domain with keys for DKIM and addresses for reports.
///
/// An account that exists gets postmaster at the domain, unless it is the account of the postmaster
/// of the server. An account that does not exist is made with `localpart` at the domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The domain.
    pub domain: String,
    /// The account for the reports about the domain.
    pub account: String,
    /// The local-part of the first address of a new account; None: the account exists.
    #[serde(default)]
    pub localpart: Option<String>,
    /// Whether the domain is disabled at first.
    #[serde(default)]
    pub disabled: bool,
    /// The customer whose domain it is: a number or a name; empty: none.
    #[serde(default)]
    pub tenant: String,
}

/// A domain was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The domain in its Unicode form.
    pub domain: String,
    /// The address that the account got; None: it got none.
    pub address: Option<String>,
    /// Whether the account is new. It has no password yet.
    pub new_account: bool,
    /// The keys for DKIM. Two sign, and two wait.
    pub keys: Vec<DkimItem>,
    /// The records that the domain should have in DNS.
    pub records: Vec<RecordItem>,
    /// The records that were published; None if no server of `dns_update` has the domain.
    pub published: Option<Published>,
    /// Why the records were not published; None if nothing failed.
    pub publish_problem: Option<String>,
}

impl Single for Add {
    type Output = Added;

    async fn answer(self, context: &Context) -> Result<Added, AdminError> {
        let context = context.clone();
        to_its_end(async move { self.make(&context).await }).await
    }
}

impl Add {
    async fn make(self, context: &Context) -> Result<Added, AdminError> {
        let target = target(&self.domain);
        // The change itself finds a refusal again, and the audit log gets it there.
        let config = context.config.load_full();
        let keys = match self.plan(&config, &context.statics) {
            Ok(plan) => Some(make_keys(context, &plan.domain).await?),
            Err(_) => None,
        };
        let made = keys.as_ref().map(|keys| keys.keys.clone());
        let now = context.clock.now();
        // It may be a new one. The data of an earlier account of this name are removed first.
        let alone = context
            .queue
            .have_accounts_alone([self.account.as_str()])
            .await;
        let change = move |edit: &mut Edit<'_>| {
            let plan = self.plan(edit.before, edit.statics)?;
            let keys = made.as_deref().ok_or_else(dkim::changed_meanwhile)?;
            self.insert(edit, &plan, keys, now)?;
            Ok(plan)
        };
        let changed = context.edit(Self::NAME, &target, change).await?;
        keys.into_iter().for_each(NewKeys::keep);
        let plan = changed.result;
        if let (true, Some(account)) = (plan.new_account, &plan.account) {
            accounts::forget_logins(context, account).await?;
        }
        drop(alone);
        let (published, problem) = match dns::publish_after_add(context, &plan.domain).await {
            None => (None, None),
            Some(Ok(published)) => (Some(published), None),
            Some(Err(error)) => (None, Some(error.text)),
        };
        let records = World::of(context).await.records(plan.domain.ascii()).await;
        Ok(Added {
            // Without them the domain may have been removed again already.
            records: records.unwrap_or_default(),
            published,
            publish_problem: problem,
            domain: plan.domain.unicode(),
            address: plan.address.as_ref().map(Address::unicode),
            new_account: plan.new_account,
            keys: dkim::items(&changed.after, &plan.domain, |_| true),
        })
    }
}

/// The keys of a new domain: a pair that signs, and a pair that waits.
async fn make_keys(context: &Context, domain: &Domain) -> Result<NewKeys, AdminError> {
    let year = dkim::year(context.clock.now());
    let kinds: Vec<DkimAlgorithm> = [PAIR, PAIR].concat();
    let names = dkim::next_selectors(&Default::default(), year, kinds.len());
    keyfile::make(context, domain, names.into_iter().zip(kinds).collect()).await
}

/// The parts of a new domain.
#[derive(Debug)]
struct Plan {
    domain: Domain,
    /// The account for the reports.
    account: Option<String>,
    new_account: bool,
    /// The address that the account gets.
    address: Option<Address>,
    tenant: Option<Tenant>,
}

impl Add {
    fn plan(&self, config: &Dynamic, statics: &Static) -> Result<Plan, AdminError> {
        let domain = parse_domain(&self.domain)?;
        if config.domains.contains_key(&domain) {
            let text = format!("there is a domain {} already", domain.unicode());
            return Err(AdminError::conflict(text).at("domain"));
        }
        let name = self.account.as_str();
        if name.is_empty() {
            let text = "name the account that gets the reports about the domain";
            return Err(AdminError::invalid(text).at("account"));
        }
        let is_there = config.accounts.contains_key(name);
        let localpart = match (self.localpart.as_deref(), is_there) {
            (None | Some(""), true) if name == statics.postmaster.account => None,
            (None | Some(""), true) => Some("postmaster"),
            (Some(_), true) => {
                let text = format!(
                    "there is an account {name} already, and a local-part is for the first address of \
                     a new one; leave it out, and add addresses afterwards"
                );
                return Err(AdminError::invalid(text).at("localpart"));
            }
            (None | Some(""), false) => {
                let text = format!(
                    "there is no account {name}; give the local-part of its first address too, to \
                     make it"
                );
                return Err(AdminError::invalid(text).at("localpart"));
            }
            (localpart, false) => localpart,
        };
        let localpart = localpart.map(|text| parse(text, "localpart", LocalPart::parse));
        let localpart = localpart.transpose()?;
        if let Some(localpart) = localpart
            .as_ref()
            .filter(|it| it.as_str().contains(SEPARATOR))
        {
            let text = format!(
                "{localpart:?} has the separator {SEPARATOR:?}, so mail to it would go to the address \
                 without the part from there on"
            );
            return Err(AdminError::invalid(text).at("localpart"));
        }
        let tenant = match self.tenant.as_str() {
            "" => None,
            text => {
                let wrong = |problem| format!("the tenant {text:?} {problem}");
                let parsed = Tenant::parse(text).map_err(wrong);
                Some(parsed.map_err(|text| AdminError::invalid(text).at("tenant"))?)
            }
        };
        Ok(Plan {
            tenant,
            address: localpart.map(|local| super::address(&local, &domain)),
            account: Some(name.to_owned()),
            new_account: !is_there,
            domain,
        })
    }

    fn insert(
        &self,
        edit: &mut Edit<'_>,
        plan: &Plan,
        keys: &[NewKey],
        now: Time,
    ) -> Result<(), AdminError> {
        let name = plan.domain.unicode();
        let path = ["domains", name.as_str()];
        let content = self.content(edit.statics, plan.tenant.as_ref(), now);
        document::add_table(edit.document, &path, content)?;
        let dkim = ["domains", name.as_str(), "dkim"];
        document::set_header(edit.document, &dkim)?;
        let sign = keys.iter().take(PAIR.len());
        let sign: Array = sign.map(|key| key.selector.ascii()).collect();
        let sign_path = ["domains", name.as_str(), "dkim", "sign"];
        document::set(edit.document, &sign_path, sign)?;
        for key in keys {
            let selector = key.selector.ascii();
            let path = [&dkim[..], &["selectors", selector, "private_key_file"]].concat();
            document::set(edit.document, &path, key.file.as_str())?;
        }
        match &plan.address {
            Some(address) if plan.new_account => accounts::insert(edit, &self.account, address),
            Some(address) => addresses::add(edit, &self.account, &address.unicode()),
            None => Ok(()),
        }
    }

    /// The settings of the new domain, without its keys.
    fn content(&self, statics: &Static, tenant: Option<&Tenant>, now: Time) -> InlineTable {
        let mut content = InlineTable::new();
        if self.disabled {
            content.insert("disabled", true.into());
        }
        match tenant {
            Some(Tenant::Number(number)) => {
                content.insert("tenant", i64::try_from(*number).unwrap_or(i64::MAX).into());
            }
            Some(Tenant::Name(name)) => drop(content.insert("tenant", name.as_str().into())),
            None => {}
        }
        let separators = Array::from_iter([SEPARATOR]);
        content.insert("localpart_catchall_separators", separators.into());
        for key in ["dmarc", "tls_rpt"] {
            let report = InlineTable::from_iter([("account", self.account.as_str())]);
            content.insert(key, report.into());
        }
        let mut listeners = statics.listeners.values();
        if listeners.any(|listener| listener.mta_sts_https.enabled) {
            let now = now.timestamp().to_zoned(jiff::tz::TimeZone::UTC);
            let id = now.strftime("%Y%m%dT%H%M%S").to_string();
            let hosts = Array::from_iter([statics.hostname.ascii()]);
            let policy: [(&str, Value); 4] = [
                ("policy_id", id.into()),
                ("mode", "enforce".into()),
                ("max_age", "24h".into()),
                ("mx", hosts.into()),
            ];
            content.insert("mta_sts", InlineTable::from_iter(policy).into());
        }
        content
    }
}

/// Removes a domain. Accounts stay; an account with an address at the domain is in the way. The key
/// files go to the folder `old` beside them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The domain.
    pub domain: String,
}

/// A domain was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Where the files with its private keys lie now.
    pub files: Vec<String>,
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
        let target = target(&self.domain);
        let tls_keys = context.store.tls_keys().await?;
        let owner = parse_domain(&self.domain)?.ascii().to_owned();
        let change = move |edit: &mut Edit<'_>| {
            let domain = parse_domain(&self.domain)?;
            let (settings, name) = edit.domain(&domain)?;
            let mut logins = tls_keys.iter();
            if let Some(key) = logins.find(|key| key.login.host.domain() == Some(&domain)) {
                return Err(AdminError::invalid(addresses::in_the_way(key)).at("domain"));
            }
            document::remove(edit.document, &["domains", &name])?;
            let keys = settings.dkim.selectors.values();
            Ok(keys
                .map(|key| key.private_key_file.clone())
                .collect::<Vec<_>>())
        };
        let changed = context.edit(Self::NAME, &target, change).await?;
        let mut files = Vec::new();
        let mut failed = Ok(());
        for file in changed.result {
            match keyfile::retire(file, changed.after.clone()).await {
                Ok(moved) => files.extend(moved.as_deref().map(dkim::text)),
                // The other files are moved nevertheless.
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        let name = Kind::Domain.known_as(&target);
        context.store.forget_principal(name).await?;
        accounts::forget_stationery(&context.store, &StationeryOwner::Domain(owner)).await?;
        failed.map(|()| Removed { files })
    }
}

/// Changes settings of a domain. The names are those of the keys below `domains."NAME"`, such as
/// `disabled` or `dmarc.account`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The domain.
    pub domain: String,
    /// The settings. All change, or none.
    pub settings: Vec<Setting>,
}

impl Single for Set {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = target(&self.domain);
        let change = move |edit: &mut Edit<'_>| {
            let domain = parse_domain(&self.domain)?;
            let (_, name) = edit.domain(&domain)?;
            settings::apply_below(edit, &["domains", &name], &self.settings)
        };
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}
