//! The suppression list of the account.

use postrider_queue::base_address;
use postrider_store::{NewSuppression, Suppression};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::{
    auth::User,
    context::Context,
    error::{ApiError, Code},
    json::{JsonError, Object},
    request,
};

/// The longest reason, in bytes.
const REASON_MAX: usize = 4096;
/// Entries that are read at once.
const PAGE: usize = 1000;

/// An empty answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    pub(crate) suppressions: Vec<Entry>,
}

/// An address that gets no mail of the account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// Goes up.
    #[serde(rename = "ID")]
    pub id: u64,
    /// RFC 3339.
    pub created: String,
    /// Whose list it is.
    pub account: String,
    /// Stands for all variants of the address; Unicode.
    pub base_address: String,
    /// As it came; Unicode.
    pub original_address: String,
    /// Added by a person, not for failures.
    pub manual: bool,
    /// For people.
    pub reason: String,
}

impl From<Suppression> for Entry {
    fn from(entry: Suppression) -> Self {
        Self {
            id: entry.id.0,
            created: entry.created.to_string(),
            account: entry.account,
            base_address: entry.base,
            original_address: entry.original,
            manual: entry.manual,
            reason: entry.reason,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct IsPresent {
    pub(crate) present: bool,
}

/// All entries, by their numbers.
pub(crate) async fn list(
    context: &Context,
    user: &User,
    request: &str,
) -> Result<Listed, ApiError> {
    request::read(request, |_| Ok(()))?;
    let mut suppressions = Vec::new();
    let mut after = None;
    loop {
        let account = Some(user.account.as_str());
        let page = context
            .store
            .list_suppressions(account, after, PAGE)
            .await?;
        // The contract knows those for all mail only.
        let all = page.items.into_iter().filter(|entry| entry.list.is_empty());
        suppressions.extend(all.map(Entry::from));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(Listed { suppressions }),
        }
    }
}

/// Adds an address; it is an error if it, or a variant of it, is there.
pub(crate) async fn add(context: &Context, user: &User, request: &str) -> Result<Done, ApiError> {
    let (address, manual, reason) = request::read(request, |fields| {
        Ok((
            fields.string("EmailAddress")?,
            fields.bool("Manual")?.unwrap_or_default(),
            fields.string("Reason")?,
        ))
    })?;
    if reason.len() > REASON_MAX {
        let text = format!("Reason has more than {REASON_MAX} bytes");
        return Err(ApiError::user(text));
    }
    let address = request::address(&address)?;
    let base = base_address(&address);
    let suppression = NewSuppression {
        account: user.account.clone(),
        base: base.clone(),
        list: String::new(),
        original: address.unicode(),
        created: context.clock.now(),
        manual,
        reason,
    };
    if context.store.suppress(suppression).await? {
        info!(account = user.account, base, "suppression added by webapi");
        return Ok(Done {});
    }
    Err(failed(format!("{base} is on the suppression list already")))
}

/// Removes an address with all its variants.
pub(crate) async fn remove(
    context: &Context,
    user: &User,
    request: &str,
) -> Result<Done, ApiError> {
    let base = base(request)?;
    if context.store.unsuppress(&user.account, &base).await? {
        info!(
            account = user.account,
            base, "suppression removed by webapi"
        );
        return Ok(Done {});
    }
    Err(failed(format!("{base} is not on the suppression list")))
}

/// Whether an address, or a variant of it, is there.
pub(crate) async fn present(
    context: &Context,
    user: &User,
    request: &str,
) -> Result<IsPresent, ApiError> {
    let found = context
        .store
        .suppression(&user.account, &base(request)?)
        .await?;
    Ok(IsPresent {
        present: found.is_some(),
    })
}

fn base(request: &str) -> Result<String, ApiError> {
    let read = |fields: &mut Object| -> Result<String, JsonError> { fields.string("EmailAddress") };
    let address = request::address(&request::read(request, read)?)?;
    Ok(base_address(&address))
}

/// A failure that has no code of its own in the contract.
fn failed(message: String) -> ApiError {
    ApiError::new(Code::Error, message)
}
