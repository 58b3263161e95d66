//! Suppression lists: the addresses that an account does not send to.

mod find;
pub mod import;

pub use self::find::{Clear, Cleared, Find, List, Wanted};

use postrider_observe::metrics::SuppressedBy;
use postrider_queue::base_address;
use postrider_smtp::Address;
use postrider_store::{NewSuppression, SuppressingReply, Suppression, base_in_list};
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::Single;
use crate::{AdminError, Context};

/// An entry of a suppression list. Times are RFC 3339, addresses are in their Unicode form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[expect(
    missing_docs,
    reason = "the names are those of the contract, and say it"
)]
pub struct SuppressionItem {
    pub id: u64,
    pub created: String,
    pub account: String,
    /// The base form of the address. It stands for all variants of the address.
    pub base_address: String,
    /// The mailing list that the entry is about; empty: all mail.
    pub list: String,
    /// The address as it was suppressed.
    pub original_address: String,
    /// Whether a person added the entry.
    pub manual: bool,
    pub reason: String,
    /// When the entry expires; None: never.
    pub expires: Option<String>,
    /// The reply that made the entry; None if there was none.
    pub reply: Option<ReplyItem>,
}

/// The reply of a server, or the report about a reply, that made an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ReplyItem {
    /// The SMTP code.
    pub code: u16,
    /// The enhanced status code; empty without one.
    pub enhanced_code: String,
    /// The text.
    pub text: String,
    /// The host, as `name [ip]` or as the report names it; empty if that is not known.
    pub host: String,
}

impl From<&SuppressingReply> for ReplyItem {
    fn from(reply: &SuppressingReply) -> Self {
        let enhanced = reply.enhanced.map(|code| code.to_string());
        Self {
            code: reply.code,
            enhanced_code: enhanced.unwrap_or_default(),
            text: reply.text.clone(),
            host: reply.host.clone(),
        }
    }
}

impl From<&Suppression> for SuppressionItem {
    fn from(entry: &Suppression) -> Self {
        Self {
            id: entry.id.0,
            created: entry.created.to_string(),
            account: entry.account.clone(),
            base_address: entry.base.clone(),
            list: entry.list.clone(),
            original_address: entry.original.clone(),
            manual: entry.manual,
            reason: entry.reason.clone(),
            expires: entry.until.map(|until| until.to_string()),
            reply: entry.reply.as_ref().map(ReplyItem::from),
        }
    }
}

/// Adds an address, with all its variants, to the list of an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The account.
    pub account: String,
    /// The address.
    pub address: String,
    /// The reason, for people.
    pub reason: String,
    /// The mailing list that the entry is about; empty: all mail.
    #[serde(default)]
    pub list: String,
}

impl Single for Add {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let account = self.account.clone();
        let described = (self.address.clone(), self.reason.clone(), self.list.clone());
        let context = &context.carrying("suppression.add", &account, &described);
        let added = self.add(context).await;
        context
            .record("suppression.add", &account, &described, added)
            .await
    }
}

impl Add {
    async fn add(self, context: &Context) -> Result<(), AdminError> {
        let Self {
            account,
            address,
            reason,
            list,
        } = self;
        let _held = context.hold_account(&account).await?;
        let address = parse(&address, "address")?;
        let base = base_address(&address);
        let new = NewSuppression {
            account,
            base,
            list,
            original: address.unicode(),
            created: context.clock.now(),
            manual: true,
            reason,
            reply: None,
            until: None,
        };
        if !context.store.suppress(new.clone()).await? {
            let NewSuppression { account, base, .. } = new;
            let text = format!("{base} is on the list of {account} already");
            return Err(AdminError::conflict(text).at("address"));
        }
        let by = (SuppressedBy::Manual, &*context.caller.name);
        context.queue.see_suppression(&new, &address, by);
        Ok(())
    }
}

/// Removes an address with all its variants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The account.
    pub account: String,
    /// The address or a variant of it.
    pub address: String,
    /// The mailing list that the entry is about; empty: all mail.
    #[serde(default)]
    pub list: String,
}

impl Single for Remove {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let described = (&self.address, &self.list);
        let context = &context.carrying("suppression.remove", &self.account, &described);
        let removed = self.remove(context).await;
        context
            .record("suppression.remove", &self.account, &described, removed)
            .await
    }
}

impl Remove {
    async fn remove(&self, context: &Context) -> Result<(), AdminError> {
        let Self {
            account,
            address,
            list,
        } = self;
        let base = base(address)?;
        let name = base_in_list(&base, list);
        let now = context.clock.now();
        if !context.store.unsuppress(account, &name, now).await? {
            let text = match list.as_str() {
                "" => format!("{base} is not on the list of {account} for all mail"),
                list => format!("{base} is not suppressed for mail of {list:?} of {account}"),
            };
            return Err(AdminError::not_found(text).at("address"));
        }
        debug!(account, base, list, "suppression removed");
        Ok(())
    }
}

/// Looks up an address. The output is None if the address is not suppressed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// The account.
    pub account: String,
    /// The address or a variant of it.
    pub address: String,
    /// The mailing list that the entry is about; empty: all mail.
    #[serde(default)]
    pub list: String,
}

impl Single for Lookup {
    type Output = Option<SuppressionItem>;

    async fn answer(self, context: &Context) -> Result<Option<SuppressionItem>, AdminError> {
        let name = base_in_list(&base(&self.address)?, &self.list);
        let now = context.clock.now();
        let entry = context.store.suppression(&self.account, &name, now).await?;
        Ok(entry.as_ref().map(SuppressionItem::from))
    }
}

/// Reads an address that stands in this field.
pub(super) fn parse(address: &str, field: &str) -> Result<Address, AdminError> {
    let parsed = Address::parse(address);
    parsed.map_err(|error| AdminError::invalid(format!("{address:?}: {error}")).at(field))
}

fn base(address: &str) -> Result<String, AdminError> {
    Ok(base_address(&parse(address, "address")?))
}
