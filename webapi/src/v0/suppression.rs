//! The methods of the suppression list.

use postrider_observe::metrics::SuppressedBy;
use postrider_queue::base_address;
use postrider_store::{NewSuppression, Order, Suppression, Time, base_in_list};
use tracing::debug;

use super::{
    json::{self, JsonError, Object},
    shape::{Done, SuppressionListResponse, SuppressionPresentResponse},
};
use crate::{
    call::{auth::User, context::CallContext, value::address},
    error::{ApiError, Code},
};

/// The most bytes of a reason.
const REASON_MAX: usize = 4096;
/// The number of entries that are read at once.
const PAGE: usize = 1000;

/// Lists all entries in the order of their numbers.
pub(super) async fn list(
    context: &CallContext,
    user: &User,
    request: &str,
) -> Result<SuppressionListResponse, ApiError> {
    json::read(request, |_| Ok(()))?;
    let mut suppressions = Vec::new();
    let now = context.clock.now();
    each(context, user, now, |entry| suppressions.push(entry.into())).await?;
    Ok(SuppressionListResponse { suppressions })
}

/// Hands each entry of the account to `take`, in the order of their numbers.
async fn each(
    context: &CallContext,
    user: &User,
    now: Time,
    mut take: impl FnMut(Suppression),
) -> Result<(), ApiError> {
    let mut after = None;
    loop {
        let account = Some(user.account.as_str());
        let page = context
            .store
            .list_suppressions(account, now, after, Order::Ascending, PAGE);
        let page = page.await?;
        page.items.into_iter().for_each(&mut take);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Adds an address. It is an error if the list has a variant of the address.
pub(super) async fn add(
    context: &CallContext,
    user: &User,
    request: &str,
) -> Result<Done, ApiError> {
    let (given, manual, reason) = json::read(request, |fields| {
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
    let address = address(&given)?;
    let base = base_address(&address);
    let suppression = NewSuppression {
        account: user.account.clone(),
        base: base.clone(),
        list: String::new(),
        original: address.unicode(),
        created: context.clock.now(),
        manual,
        reason,
        reply: None,
        until: None,
    };
    let held = context.queue.hold_account(&user.account).await;
    let _held = held.ok_or_else(|| failed("the account was removed".to_owned()))?;
    if context.store.suppress(suppression.clone()).await? {
        let by = (SuppressedBy::Manual, &*user.login.to_string());
        context.queue.see_suppression(&suppression, &address, by);
        return Ok(Done {});
    }
    Err(failed(format!("{base} is on the suppression list already")))
}

/// Removes all variants of an address, also those that unsubscribed from a mailing list.
pub(super) async fn remove(
    context: &CallContext,
    user: &User,
    request: &str,
) -> Result<Done, ApiError> {
    let base = base(request)?;
    let now = context.clock.now();
    let mut removed = context.store.unsuppress(&user.account, &base, now).await?;
    for list in lists(context, user, &base, now).await? {
        let name = base_in_list(&base, &list);
        removed |= context.store.unsuppress(&user.account, &name, now).await?;
    }
    if removed {
        let account = user.account.as_str();
        debug!(account, base, who = %user.login, "suppression removed");
        return Ok(Done {});
    }
    Err(failed(format!("{base} is not on the suppression list")))
}

/// The mailing lists from which variants of an address unsubscribed.
async fn lists(
    context: &CallContext,
    user: &User,
    base: &str,
    now: Time,
) -> Result<Vec<String>, ApiError> {
    let mut lists = Vec::new();
    each(context, user, now, |entry| {
        if entry.base == base && !entry.list.is_empty() {
            lists.push(entry.list);
        }
    })
    .await?;
    Ok(lists)
}

/// Whether the list has a variant of an address, for all mail of the account.
pub(super) async fn present(
    context: &CallContext,
    user: &User,
    request: &str,
) -> Result<SuppressionPresentResponse, ApiError> {
    let found = context
        .store
        .suppression(&user.account, &base(request)?, context.clock.now())
        .await?;
    Ok(SuppressionPresentResponse {
        present: found.is_some(),
    })
}

fn base(request: &str) -> Result<String, ApiError> {
    let read = |fields: &mut Object| -> Result<String, JsonError> { fields.string("EmailAddress") };
    let address = address(&json::read(request, read)?)?;
    Ok(base_address(&address))
}

/// A failure without a code of its own in the contract.
fn failed(message: String) -> ApiError {
    ApiError::new(Code::Error, message)
}
