//! Suppressed addresses.

use serde::Deserialize;

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect},
    parameters::body,
    problem::Problem,
    value,
};
use crate::op::{
    Single,
    suppression::{Add, List, Lookup, Remove, SuppressionItem, Wanted},
};

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let text = |name| asked.query.text(name).map(str::to_owned);
    let list = List {
        which: Wanted {
            account: text("account"),
            text: text("text"),
            list: text("list"),
            manual: asked.query.parsed("manual")?,
        },
    };
    let seen = |entry: &SuppressionItem| asked.sees_account(&entry.account);
    let entries = collect(&asked.context, list, NAMES_MAX, &seen).await?;
    let mut list: Vec<_> = entries
        .items
        .iter()
        .map(|entry| (entry.id, entry))
        .collect();
    list.sort_by_key(|(id, _)| *id);
    let list = list.into_iter().map(|(id, entry)| Ok((id, value(entry)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, entries.more))
}

/// A new entry.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub(in super::super) struct NewSuppression {
    account: String,
    address: String,
    /// The reason, for people.
    #[serde(default)]
    reason: String,
    /// The mailing list that the entry is about; empty: all mail.
    #[serde(default)]
    list: String,
}

pub(in super::super) async fn add(asked: Asked) -> Result<Answer, Problem> {
    let new: NewSuppression = body(&asked.body)?;
    asked.check_account(&new.account)?;
    let (account, address) = (new.account.clone(), new.address.clone());
    let add = Add {
        account: new.account,
        address: new.address,
        reason: new.reason,
        list: new.list,
    };
    match add.answer(&asked.context).await {
        Err(error) if error.code == crate::Code::Conflict => {
            return Err(Problem::exists("address", address, error));
        }
        Err(error) if error.code == crate::Code::NotFound => {
            return Err(Problem::not_found(account, error));
        }
        added => added?,
    }
    Ok(Answer::null())
}

pub(in super::super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let (account, address) = (asked.element(0), asked.element(1));
    asked.check_account(account)?;
    let lookup = Lookup {
        account: account.to_owned(),
        address: address.to_owned(),
        list: asked.query.text("list").unwrap_or_default().to_owned(),
    };
    let found = lookup.answer(&asked.context).await?;
    let found = found.ok_or_else(|| {
        let text = format!("{address} is not on the list of {account}");
        Problem::not_found(address, text)
    })?;
    Ok(Answer::Data(value(&found)?))
}

pub(in super::super) async fn remove(asked: Asked) -> Result<Answer, Problem> {
    let (account, address) = (asked.element(0), asked.element(1));
    asked.check_account(account)?;
    let remove = Remove {
        account: account.to_owned(),
        address: address.to_owned(),
        list: asked.query.text("list").unwrap_or_default().to_owned(),
    };
    match remove.answer(&asked.context).await {
        Err(error) if error.code == crate::Code::NotFound => {
            return Err(Problem::not_found(address, error));
        }
        removed => removed?,
    }
    Ok(Answer::null())
}
