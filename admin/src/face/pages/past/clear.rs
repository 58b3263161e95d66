//! Removes all suppressions that a filter has.

use std::sync::Arc;

use postrider_store::Order;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        confirm::{Confirm, check_typed},
        form::{Faults, Fields},
        job::{self, Words},
        shown::{Count, counted},
    },
    suppressions::{HERE, wanted},
};
use crate::op::suppression::{Clear, Find};

/// The most entries that are counted.
const COUNTED: usize = 1000;
/// How many entries are shown.
const SHOWN: usize = 5;

/// What has to be typed: the account, or this word for those of all accounts.
const EVERYTHING: &str = "everything";

async fn question(asked: &Asked, fields: &Fields) -> Result<(Confirm, String), Trouble> {
    let which = wanted(asked, fields)?;
    let typed = which.account.clone();
    let typed = typed.unwrap_or_else(|| EVERYTHING.to_owned());
    let of = match &which.account {
        Some(account) => format!("of {account}"),
        None => "of all accounts".to_owned(),
    };
    let is_narrowed = which.text.is_some() || which.list.is_some() || which.manual.is_some();
    let find = Find {
        which,
        order: Order::Descending,
        after: None,
        limit: COUNTED + 1,
    };
    let found = asked.run(find).await?;
    let count = found.items.len() as u64;
    let is_more = found.reached.is_some() || found.items.len() > COUNTED;
    let count = match is_more {
        true => format!("More than {} entries", Count(count.min(COUNTED as u64))),
        false => counted(count, "entry", "entries"),
    };
    let matching = if is_narrowed { " that match" } else { "" };
    let examples = found.items.iter().take(SHOWN);
    let examples = examples.map(|entry| format!("{} ({})", entry.base_address, entry.account));
    let confirm = Confirm::new(
        asked,
        "Remove all suppressions that match?",
        "Remove them",
        &asked.url("suppressions/clear"),
    )
    .effect(format!("{count} {of}{matching} will be removed."))
    .effect("Mail goes to these addresses again. Addresses that do not exist fail again.")
    .effect("Export them first if you may want them back.")
    .examples(examples.collect())
    .repeating(fields)
    .typing(&typed)
    .back(asked.url(HERE));
    Ok((confirm, typed))
}

/// Asks before the entries are removed.
pub(in super::super) async fn ask(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&question(&asked, &asked.query).await?.0)
}

/// Removes the entries.
pub(in super::super) async fn act(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let which = wanted(&asked, &asked.form)?;
    let typed = which.account.as_deref().unwrap_or(EVERYTHING);
    if let Err(error) = check_typed(&asked.form, typed) {
        let (mut confirm, _) = question(&asked, &asked.form).await?;
        confirm.faults = Faults::of(&error);
        return Answer::again(&confirm);
    }
    let words = Words {
        title: "Remove suppressions".to_owned(),
        things: "suppressions",
        told: Box::new(|removed, _| {
            let removed = counted(removed, "suppression is", "suppressions are");
            format!("{removed} removed.")
        }),
    };
    job::begin(&asked, words, &asked.url(HERE), Clear { which }).await
}
