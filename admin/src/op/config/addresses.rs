//! The addresses of accounts.

use postrider_config::{DestinationAddress, Dynamic, toml_edit::InlineTable};
use postrider_smtp::Address;
use postrider_store::{Order, QueueFilter, QueueId, TlsKey};
use serde::{Deserialize, Serialize};

use super::{Edit, document, missing_account, parse};
use crate::{
    AdminError, Context,
    op::{Listed as _, Operation, Single, Sink},
};

/// An address of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressItem {
    /// The address in its Unicode form. `@DOMAIN` gets all mail of the domain that no other address
    /// gets.
    pub address: String,
    /// The account.
    pub account: String,
    /// The mailbox for its mail.
    pub mailbox: String,
}

/// Lists addresses.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The account; None: all accounts.
    pub account: Option<String>,
}

impl Operation for List {
    type Item = AddressItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<AddressItem>,
    ) -> Result<(), AdminError> {
        let config = context.config.load_full();
        if let Some(account) = &self.account
            && !config.accounts.contains_key(account)
        {
            return Err(missing_account(&config, account));
        }
        let wanted = |name: &String| self.account.as_ref().is_none_or(|account| account == name);
        for (name, account) in config.accounts.iter().filter(|(name, _)| wanted(name)) {
            let listed = account.destinations.iter();
            let listed = listed.map(|(address, destination)| AddressItem {
                address: shown(address),
                account: name.clone(),
                mailbox: destination.mailbox.clone(),
            });
            items.send(listed.collect()).await?;
        }
        Ok(())
    }
}

/// An address or catch-all in its Unicode form.
pub(super) fn shown(address: &DestinationAddress) -> String {
    match address {
        DestinationAddress::Address(address) => address.unicode(),
        DestinationAddress::CatchAll(domain) => format!("@{}", domain.unicode()),
    }
}

/// Adds an address to an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The address. `@DOMAIN` gets all mail of the domain that no other address gets.
    pub address: String,
    /// The account.
    pub account: String,
}

impl Single for Add {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let Self { address, account } = self;
        let target = address.clone();
        let change = move |edit: &mut Edit<'_>| {
            edit.account(&account)?;
            let address = parse(&address, "address", DestinationAddress::parse)?;
            match &address {
                DestinationAddress::Address(address) => edit.check_available(address, "address")?,
                DestinationAddress::CatchAll(domain) => {
                    edit.domain(domain).map_err(|error| error.at("address"))?;
                    check_no_catch_all(edit.before, &address)?;
                }
            }
            add(edit, &account, &shown(&address))
        };
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}

/// Adds a destination to an account.
pub(super) fn add(edit: &mut Edit<'_>, account: &str, address: &str) -> Result<(), AdminError> {
    let path = ["accounts", account, "destinations", address];
    document::add_table(edit.document, &path, InlineTable::new())
}

fn check_no_catch_all(config: &Dynamic, address: &DestinationAddress) -> Result<(), AdminError> {
    let mut accounts = config.accounts.iter();
    match accounts.find(|(_, account)| account.destinations.contains_key(address)) {
        Some((owner, _)) => {
            let text = format!("{} is taken: account {owner:?} has it", shown(address));
            Err(AdminError::conflict(text).at("address"))
        }
        None => Ok(()),
    }
}

/// Removes an address from its account, from the aliases, and from the logins with a fromid.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The address, without a part behind a separator.
    pub address: String,
}

impl Single for Remove {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.address.clone();
        let needed = self.needed(context).await?;
        let change = move |edit: &mut Edit<'_>| {
            self.remove(edit)?;
            match &needed {
                Some(text) => Err(AdminError::invalid(text).at("address")),
                None => Ok(()),
            }
        };
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}

impl Remove {
    /// Why a queued message or the key of a client certificate needs the address. None: none does.
    pub(super) async fn needed(&self, context: &Context) -> Result<Option<String>, AdminError> {
        match self.plan(context) {
            Ok((account, after)) => match needed_by_key(context, &account, &after).await? {
                Some(text) => Ok(Some(text)),
                None => needed_by_queue(context, &account, &after).await,
            },
            // The change itself finds a refusal again, and the audit log gets it.
            Err(_) => Ok(None),
        }
    }

    /// The account of the address, and the configuration after the removal.
    fn plan(&self, context: &Context) -> Result<(String, Dynamic), AdminError> {
        let before = context.config.load_full();
        let document = before.text().parse();
        let mut document = document.map_err(AdminError::internal)?;
        let account = self.remove(&mut Edit {
            document: &mut document,
            before: &before,
            statics: &context.statics,
        })?;
        let after = Dynamic::parse(&document.to_string(), &before.path, &context.statics);
        Ok((account, after.map_err(AdminError::invalid)?))
    }

    /// Removes the address. Gives its account.
    pub(super) fn remove(&self, edit: &mut Edit<'_>) -> Result<String, AdminError> {
        let before = edit.before;
        let address = parse(&self.address, "address", DestinationAddress::parse)?;
        let found = match &address {
            DestinationAddress::Address(address) => before.destination(address),
            DestinationAddress::CatchAll(_) => {
                before.accounts.iter().find_map(|(name, account)| {
                    let (key, _) = account.destinations.get_key_value(&address)?;
                    Some((name.as_str(), key))
                })
            }
        };
        let (account, key) = found.ok_or_else(|| self.missing(before, &address))?;
        let key = edit
            .destination(account, key)
            .ok_or_else(|| self.missing(before, &address))?;
        document::remove(edit.document, &["accounts", account, "destinations", &key])?;
        let is_gone = |other: &Address| match &address {
            DestinationAddress::Address(address) => {
                before.canonical(other).is_some()
                    && before.canonical(other) == before.canonical(address)
            }
            DestinationAddress::CatchAll(domain) => other.host.domain() == Some(domain),
        };
        leave_logins(edit, account, is_gone)?;
        if let DestinationAddress::Address(address) = &address {
            let left = edit.leave_aliases(|member| before.is_same(member, address));
            left.map_err(|error| error.at("address"))?;
        }
        Ok(account.to_owned())
    }

    fn missing(&self, config: &Dynamic, address: &DestinationAddress) -> AdminError {
        let shown = shown(address);
        let owner = match address {
            DestinationAddress::Address(address) => config.taken(address),
            DestinationAddress::CatchAll(_) => None,
        };
        let text = match owner {
            Some(owner) => format!("{shown} is not an address of an account: {owner}"),
            None => format!("{shown} is not an address of an account"),
        };
        AdminError::not_found(text).at("address")
    }
}

/// Takes addresses out of the logins of an account with a fromid.
fn leave_logins(
    edit: &mut Edit<'_>,
    account: &str,
    is_gone: impl Fn(&Address) -> bool,
) -> Result<(), AdminError> {
    let logins = &edit.account(account)?.from_id_login_addresses;
    if !logins.iter().any(&is_gone) {
        return Ok(());
    }
    let path = ["accounts", account, "from_id_login_addresses"];
    document::change_array(edit.document, &path, |logins| {
        document::remove_elements(logins, |login| {
            let login = login.as_str().map(Address::parse);
            login.is_some_and(|login| login.is_ok_and(|it| is_gone(&it)))
        });
    })
}

/// A sentence about the key of a client certificate whose address the account would lose. None if
/// there is none.
async fn needed_by_key(
    context: &Context,
    account: &str,
    after: &Dynamic,
) -> Result<Option<String>, AdminError> {
    let keys = context.store.tls_keys().await?;
    let of_account = keys.iter().filter(|key| key.account == account);
    let mut without = of_account.filter(|key| after.owner(&key.login) != Some(account));
    Ok(without.next().map(in_the_way))
}

/// The sentence about a key that logs in by an address that is to go.
pub(super) fn in_the_way(key: &TlsKey) -> String {
    let (login, fingerprint) = (key.login.unicode(), &key.fingerprint);
    format!("a TLS key logs in as {login}; remove it first: postrider tlspubkey rm {fingerprint}")
}

/// A sentence about a queued message whose sender the account would lose. None if there is none.
async fn needed_by_queue(
    context: &Context,
    account: &str,
    after: &Dynamic,
) -> Result<Option<String>, AdminError> {
    /// Messages that are read at once.
    const PAGE: usize = 500;
    let before = context.config.load_full();
    let filter = QueueFilter {
        account: Some(account.to_owned()),
        ..QueueFilter::default()
    };
    let owns = |config: &Dynamic, sender: &Address| config.owner(sender) == Some(account);
    let mut position: Option<QueueId> = None;
    loop {
        let page = context
            .store
            .list(&filter, position, Order::Ascending, PAGE)
            .await?;
        for message in &page.items {
            let sender = message.reverse_path.address();
            let lost = sender.filter(|it| owns(&before, it) && !owns(after, it));
            if let Some(sender) = lost {
                let id = message.id;
                return Ok(Some(format!(
                    "message {id} in the queue was sent from {}; wait until it is delivered, or end \
                     it: postrider queue fail --ids {id}",
                    sender.unicode()
                )));
            }
        }
        position = match page.next {
            None => return Ok(None),
            next => next,
        };
    }
}
