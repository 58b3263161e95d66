//! Changes of principals that are made as a whole: all changes of one account, list or domain, and
//! the removal of many principals.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use postrider_config::{DestinationAddress, Dynamic, Right, toml_edit::Array};
use postrider_smtp::{Address, Domain, LocalPart};
use postrider_store::{ApiKeyId, PrincipalName};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Edit,
    accounts::{self, is_of},
    address, addresses,
    aliases::{self, change_members, check_members, existing, parse_alias},
    document, keyfile, parse, parse_addresses, parse_domain, to_its_end,
};
use crate::{
    AdminError, Context,
    op::{
        Listed as _, Single,
        credentials::{Prepared, SecretChange},
        principals::{Kind, PrincipalItem, SHARED_MAILBOX},
    },
};

/// The most principals that are removed at once. Each removal reads the file once more.
const REMOVED_MAX: usize = 1000;

/// Changes an account, a list or a domain. All changes are made, or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The kind. Keys do not change.
    pub kind: Kind,
    /// The name of the account, the address of the list, or the domain.
    pub name: String,
    /// The changes.
    pub changes: Changes,
}

/// Changes of a principal. What is not given stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Changes {
    /// A new description; empty: none.
    pub description: Option<String>,
    /// New web pages of an account or a list.
    pub urls: Option<Vec<String>>,
    /// A new name of the holder of an account, for From; empty: none.
    pub full_name: Option<String>,
    /// A new quota of an account in bytes; 0: no limit.
    pub quota: Option<u64>,
    /// New addresses of an account.
    pub add_emails: Vec<String>,
    /// Addresses that an account gives up.
    pub remove_emails: Vec<String>,
    /// An account becomes a shared mailbox, in which nobody logs in.
    pub becomes_shared: bool,
    /// Accounts that may send in the name of an account, and read and change its mail.
    pub share_with: Vec<String>,
    /// Accounts that lose all rights to an account.
    pub unshare: Vec<String>,
    /// Addresses of lists that an account becomes a member of.
    pub join: Vec<String>,
    /// Addresses of lists that an account leaves.
    pub leave: Vec<String>,
    /// Changes of the secrets of an account.
    pub secrets: Vec<SecretChange>,
    /// A new name of a list; empty: its address.
    pub list_name: Option<String>,
    /// A new address of a list.
    pub address: Option<String>,
    /// Addresses that become members of a list.
    pub add_members: Vec<String>,
    /// Accounts none of whose addresses is a member of a list any more.
    pub remove_members: Vec<String>,
}

impl Changes {
    /// Nothing in the file changes.
    fn is_of_secrets(&self) -> bool {
        let rest = Self {
            secrets: Vec::new(),
            ..self.clone()
        };
        rest == Self::default()
    }
}

impl Single for Update {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let context = context.clone();
        to_its_end(async move { self.make(&context).await }).await
    }
}

impl Update {
    async fn make(self, context: &Context) -> Result<(), AdminError> {
        let prepared = match self.prepare(context).await {
            Ok(prepared) => prepared,
            Err(error) => {
                let refused = Err(error);
                return context.record(Self::NAME, &self.name, &(), refused).await;
            }
        };
        if self.changes.is_of_secrets() {
            return match prepared {
                Some(prepared) => prepared.make(context).await,
                None => Ok(()),
            };
        }
        let name = self.name.clone();
        let moved = self.moved();
        let change = move |edit: &mut Edit<'_>| self.change(edit);
        let changed = context.edit(Self::NAME, &name, change).await?;
        if let Some(prepared) = prepared
            && let Err(error) = prepared.make(context).await
        {
            undo(context, &name, &changed.before, &changed.after).await?;
            return Err(error);
        }
        if let Some((from, to)) = moved {
            context.store.rename_principal(from, to).await?;
        }
        Ok(())
    }

    /// Checks what the file does not tell: the secrets, and whether the queue needs an address.
    async fn prepare(&self, context: &Context) -> Result<Option<Prepared>, AdminError> {
        for address in &self.changes.remove_emails {
            let remove = addresses::Remove {
                address: address.clone(),
            };
            if let Some(text) = remove.needed(context).await? {
                return Err(AdminError::invalid(text).at("emails"));
            }
        }
        let secrets = self.changes.secrets.clone();
        match (self.kind, secrets.is_empty()) {
            (_, true) => Ok(None),
            (Kind::Individual, false) => {
                let prepared = Prepared::of(context, &self.name, secrets).await?;
                Ok(Some(prepared))
            }
            (_, false) => Err(AdminError::invalid("only accounts have secrets").at("secrets")),
        }
    }

    /// The names of a list by which its number is known, before and after a change of its address.
    fn moved(&self) -> Option<(PrincipalName, PrincipalName)> {
        let to = self.changes.address.as_ref()?;
        let (from, to) = (Kind::List.known_as(&self.name), Kind::List.known_as(to));
        (from != to).then_some((from, to))
    }

    fn change(&self, edit: &mut Edit<'_>) -> Result<(), AdminError> {
        match self.kind {
            Kind::Individual => self.change_account(edit),
            Kind::List => self.change_list(edit),
            Kind::Domain => {
                let domain = parse_domain(&self.name)?;
                let (_, name) = edit.domain(&domain)?;
                self.describe(edit, &["domains", &name])
            }
            Kind::ApiKey => Err(AdminError::unsupported("a key can't be changed")),
        }
    }

    /// Sets the description and the web pages of the thing at a path.
    fn describe(&self, edit: &mut Edit<'_>, path: &[&str]) -> Result<(), AdminError> {
        let Changes {
            description, urls, ..
        } = &self.changes;
        if let Some(description) = description {
            set_text(edit, path, "description", description)?;
        }
        if let Some(urls) = urls {
            let path: Vec<&str> = path.iter().copied().chain(["urls"]).collect();
            match urls.is_empty() {
                true => drop(document::remove(edit.document, &path)?),
                false => document::set(edit.document, &path, Array::from_iter(urls))?,
            }
        }
        Ok(())
    }

    fn change_account(&self, edit: &mut Edit<'_>) -> Result<(), AdminError> {
        let (name, changes) = (self.name.as_str(), &self.changes);
        let account = edit.account(name)?;
        let path = ["accounts", name];
        self.describe(edit, &path)?;
        if changes.becomes_shared {
            set_text(edit, &path, "login_disabled", SHARED_MAILBOX)?;
        }
        for other in &changes.unshare {
            document::remove(edit.document, &[path[0], name, "shared_with", other])?;
        }
        for other in &changes.share_with {
            let right = Right::Send.as_str();
            document::set(edit.document, &[path[0], name, "shared_with", other], right)?;
        }
        if let Some(full_name) = &changes.full_name {
            set_text(edit, &path, "full_name", full_name)?;
        }
        match changes.quota {
            Some(0) => drop(document::remove(edit.document, &[path[0], name, "quota"])?),
            Some(quota) => {
                let quota = i64::try_from(quota)
                    .map_err(|_| AdminError::invalid("the quota is too large").at("quota"))?;
                document::set(edit.document, &[path[0], name, "quota"], quota)?;
            }
            None => {}
        }
        let mut main = None;
        for email in &changes.add_emails {
            let address = parse(email, "emails", Address::parse)?;
            edit.check_available(&address, "emails")?;
            addresses::add(edit, name, &address.unicode())?;
            main.get_or_insert(address);
        }
        for email in &changes.remove_emails {
            let remove = addresses::Remove {
                address: email.clone(),
            };
            let owner = remove.remove(edit).map_err(|error| error.at("emails"))?;
            if owner != name {
                let text = format!("{email} is an address of another account, {owner}");
                return Err(AdminError::invalid(text).at("emails"));
            }
        }
        let stays = |key: &DestinationAddress| match key {
            DestinationAddress::Address(address) => {
                let is_gone = |email: &String| {
                    Address::parse(email).is_ok_and(|it| edit.before.is_same(&it, address))
                };
                (!changes.remove_emails.iter().any(is_gone)).then(|| address.clone())
            }
            DestinationAddress::CatchAll(_) => None,
        };
        let own = format!("{name}@");
        let mut stay: Vec<Address> = account.destinations.keys().filter_map(stays).collect();
        stay.sort_by_key(|address| !address.to_string().starts_with(&own));
        let main = stay.into_iter().next().or(main);
        let before = edit.before;
        let is_own = |member: &&Address| is_of(before, name, member);
        for list in &changes.join {
            let (members, path) = existing(edit, list).map_err(|error| error.at("lists"))?;
            if members.iter().any(|member| is_own(&member)) {
                continue;
            }
            let member = main.as_ref().ok_or_else(|| {
                AdminError::invalid("the account has no address of its own").at("lists")
            })?;
            change_members(edit, &path, &[], std::slice::from_ref(member))?;
        }
        for list in &changes.leave {
            let (members, path) = existing(edit, list).map_err(|error| error.at("lists"))?;
            let own: Vec<Address> = members.iter().filter(is_own).cloned().collect();
            if own.len() == members.len() {
                let text = format!("the list {list} would have no member; remove the list instead");
                return Err(AdminError::invalid(text).at("lists"));
            }
            if !own.is_empty() {
                change_members(edit, &path, &own, &[])?;
            }
        }
        Ok(())
    }

    fn change_list(&self, edit: &mut Edit<'_>) -> Result<(), AdminError> {
        let changes = &self.changes;
        let (members, mut path) = existing(edit, &self.name)?;
        let (local, domain) = parse_alias(&self.name)?;
        let mut shown = address(&local, &domain).unicode();
        if let Some(to) = &changes.address {
            (path, shown) = move_list(edit, &path, (&local, &domain), to)?;
        }
        let added = parse_members(&changes.add_members)?;
        check_members(edit, &added, members)?;
        let before = edit.before;
        let is_removed = |member: &&Address| {
            let mut accounts = changes.remove_members.iter();
            accounts.any(|account| is_of(before, account, member))
        };
        let removed: Vec<Address> = members.iter().filter(is_removed).cloned().collect();
        if added.is_empty() && removed.len() == members.len() {
            let text = "a list needs a member; remove the list instead";
            return Err(AdminError::invalid(text).at("members"));
        }
        if !removed.is_empty() || !added.is_empty() {
            change_members(edit, &path, &removed, &added)?;
        }
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if let Some(name) = &changes.list_name {
            let name = match *name == shown {
                true => "",
                false => name.as_str(),
            };
            set_text(edit, &path, "name", name)?;
        }
        self.describe(edit, &path)
    }
}

fn parse_members(members: &[String]) -> Result<Vec<Address>, AdminError> {
    match members.is_empty() {
        true => Ok(Vec::new()),
        false => parse_addresses(members, "members"),
    }
}

/// Sets a text below a path, or removes it if it is empty.
fn set_text(edit: &mut Edit<'_>, path: &[&str], name: &str, text: &str) -> Result<(), AdminError> {
    let path: Vec<&str> = path.iter().copied().chain([name]).collect();
    match text {
        "" => document::remove(edit.document, &path).map(drop),
        text => document::set(edit.document, &path, text),
    }
}

/// Gives a list another address. Gives its new path and its new address.
fn move_list(
    edit: &mut Edit<'_>,
    path: &[String; 4],
    (from_local, from_domain): (&LocalPart, &Domain),
    to: &str,
) -> Result<([String; 4], String), AdminError> {
    let from = address(from_local, from_domain);
    let to_address = parse(to, "emails", Address::parse)?;
    let (local, domain) = parse_alias(to).map_err(|error| error.at("emails"))?;
    let (_, spelled) = edit.domain(&domain).map_err(|error| error.at("emails"))?;
    // The same address in another case is not taken by another list.
    if !edit.before.is_same(&from, &to_address) {
        edit.check_available(&to_address, "emails")?;
    }
    let alias = aliases::settings(edit, from_local, from_domain)?;
    let alias = alias.ok_or_else(|| {
        let text = format!("there is no alias {}", from.unicode());
        AdminError::not_found(text).at("alias")
    })?;
    let old: Vec<&str> = path.iter().map(String::as_str).collect();
    document::remove(edit.document, &old)?;
    let path = [
        "domains".into(),
        spelled,
        "aliases".into(),
        local.to_string(),
    ];
    let new: Vec<&str> = path.iter().map(String::as_str).collect();
    document::add_table(edit.document, &new, aliases::table(alias))?;
    Ok((path, to_address.unicode()))
}

/// Undoes a change of the file whose other half failed, unless the file changed again.
async fn undo(
    context: &Context,
    name: &str,
    before: &Arc<Dynamic>,
    after: &Arc<Dynamic>,
) -> Result<(), AdminError> {
    let (before, after) = (Arc::clone(before), Arc::clone(after));
    let change = move |edit: &mut Edit<'_>| {
        if edit.document.to_string() != after.text() {
            let text = "the file changed again, so the first half of the change stays";
            return Err(AdminError::conflict(text));
        }
        *edit.document = before.text().parse().map_err(AdminError::internal)?;
        Ok(())
    };
    context.edit(Update::NAME, name, change).await.map(drop)
}

/// Removes many principals, at most 1000. All are removed, or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveAll {
    /// The accounts, by name.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// The lists, by address.
    #[serde(default)]
    pub lists: Vec<String>,
    /// The domains.
    #[serde(default)]
    pub domains: Vec<String>,
    /// The keys.
    #[serde(default)]
    pub keys: Vec<ApiKeyId>,
    /// The kinds that the caller chose, for the audit log.
    pub kinds: Vec<Kind>,
    /// The words that the caller chose, for the audit log.
    #[serde(default)]
    pub filter: String,
}

/// The result of [`RemoveAll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedAll {
    /// How many principals were removed.
    pub count: u64,
}

impl Single for RemoveAll {
    type Output = RemovedAll;

    async fn answer(self, context: &Context) -> Result<RemovedAll, AdminError> {
        let context = context.clone();
        to_its_end(async move { self.make(&context).await }).await
    }
}

impl RemoveAll {
    /// Removes these accounts, lists and domains, which the caller found by kinds and words. Keys
    /// are named by their ids, which items do not have.
    #[must_use]
    pub fn of(found: &[PrincipalItem], kinds: Vec<Kind>, filter: String) -> Self {
        let of = |kind: Kind| {
            let items = found.iter().filter(move |item| item.kind == kind);
            items.map(|item| item.handle().to_owned()).collect()
        };
        Self {
            accounts: of(Kind::Individual),
            lists: of(Kind::List),
            domains: of(Kind::Domain),
            keys: Vec::new(),
            kinds,
            filter,
        }
    }

    fn count(&self) -> usize {
        self.accounts.len() + self.lists.len() + self.domains.len() + self.keys.len()
    }

    async fn make(self, context: &Context) -> Result<RemovedAll, AdminError> {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        let target = match self.filter.as_str() {
            "" => kinds.join(","),
            filter => format!("{} {filter}", kinds.join(",")),
        };
        let described = json!({"type": kinds, "filter": self.filter, "count": self.count()});
        if self.count() > REMOVED_MAX {
            let text = format!(
                "{} principals match, and at most {REMOVED_MAX} are removed at once; narrow the filter",
                self.count()
            );
            let refused = Err(AdminError::invalid(text).at("filter"));
            return context
                .record(Self::NAME, &target, &described, refused)
                .await;
        }
        let accounts = self.accounts.iter().map(String::as_str);
        let _alone = context.queue.have_accounts_alone(accounts).await;
        let removing = self.clone();
        let change = move |edit: &mut Edit<'_>| removing.remove(edit);
        let changed = match self.count() == self.keys.len() {
            true => Ok(None),
            false => context.edit_unaudited(Self::NAME, change).await.map(Some),
        };
        let changed = context
            .record(Self::NAME, &target, &described, changed)
            .await?;
        for key in &self.keys {
            context.store.remove_api_key(*key).await?;
        }
        // The file does not name the accounts any more. The first error is told at the end.
        let mut failed = Ok(());
        if let Some(changed) = changed {
            for account in &self.accounts {
                let cleared = accounts::clear(context, account, &changed.before).await;
                failed = failed.and(cleared.map(drop));
            }
            for file in changed.result {
                let retired = keyfile::retire(file, Arc::clone(&changed.after)).await;
                failed = failed.and(retired.map(drop));
            }
        }
        for name in self.principal_names() {
            context.store.forget_principal(name).await?;
        }
        let count = self.count() as u64;
        failed.map(|()| RemovedAll { count })
    }

    /// The names by which the numbers of the principals are known.
    fn principal_names(&self) -> Vec<PrincipalName> {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        let all = [
            (Kind::Individual, &self.accounts),
            (Kind::List, &self.lists),
            (Kind::Domain, &self.domains),
            (Kind::ApiKey, &keys),
        ];
        let names = all.into_iter().flat_map(|(kind, handles)| {
            let handles = handles.iter();
            handles.map(move |handle| kind.known_as(handle))
        });
        names.collect()
    }

    /// Removes all from the file. Gives the files of private keys that nothing names any more.
    fn remove(&self, edit: &mut Edit<'_>) -> Result<Vec<PathBuf>, AdminError> {
        let mut lists: BTreeSet<(Domain, LocalPart)> = BTreeSet::new();
        for list in &self.lists {
            let (_, path) = existing(edit, list)?;
            let (local, domain) = parse_alias(list)?;
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            document::remove(edit.document, &path)?;
            lists.insert((domain, local));
        }
        let parsed = self.domains.iter().map(|domain| parse_domain(domain));
        let domains: BTreeSet<Domain> = parsed.collect::<Result<_, _>>()?;
        for account in &self.accounts {
            accounts::check_unused(edit, account, &|domain| domains.contains(domain))?;
        }
        let before = edit.before;
        let is_gone = |domain: &Domain, local: &LocalPart| {
            let removed = |(of, list): &(Domain, LocalPart)| {
                of == domain && before.is_same(&address(list, of), &address(local, domain))
            };
            domains.contains(domain) || lists.iter().any(removed)
        };
        let leaves = |member: &Address| {
            let mut accounts = self.accounts.iter();
            accounts.any(|account| is_of(before, account, member))
        };
        if !self.accounts.is_empty() {
            let left = edit.leave_aliases_but(leaves, is_gone);
            left.map_err(|error| error.at("account"))?;
        }
        for account in &self.accounts {
            accounts::remove_entry(edit, account)?;
        }
        let mut files = Vec::new();
        for domain in &domains {
            let (settings, name) = edit.domain(domain)?;
            document::remove(edit.document, &["domains", &name])?;
            let keys = settings.dkim.selectors.values();
            files.extend(keys.map(|key| key.private_key_file.clone()));
        }
        Ok(files)
    }
}
