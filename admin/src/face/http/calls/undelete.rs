//! Mail that users deleted, and what else goes when its time is over. A tenant sees the mail of its
//! accounts.

use jiff::Timestamp;
use postrider_store::{DeletedPlace, MailId, Time};
use serde::Deserialize;

use super::super::{
    Answer, Asked,
    paging::{OBJECTS_MAX, Paging, collect, list_value},
    parameters::body_or_default,
    problem::Problem,
    value,
};
use crate::op::{
    Single,
    purge::{Account, Blob, Data},
    undelete::{List, RESTORE_MAX, Restore, RestoreOne, Restored, UndeleteItem},
};

/// A mail to bring back.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct UndeleteRequest {
    /// The name of the mail, as the list has it.
    hash: String,
    /// As the list has it. It is not looked at.
    #[serde(default)]
    #[expect(dead_code, reason = "clients send it")]
    collection: Option<String>,
    /// The time at which the mail came from now on. Without it, that stays as it is.
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<String>))]
    restore_time: Option<Timestamp>,
    /// The end that is canceled. It is not looked at: mail that is back has none.
    #[serde(default)]
    #[expect(dead_code, reason = "clients send it")]
    cancel_deletion: Option<String>,
}

/// A place in the list, as a cursor.
fn cursor((deleted, id): DeletedPlace) -> String {
    format!("{}-{}", deleted.0, id.0)
}

fn place(cursor: &str) -> Option<DeletedPlace> {
    let (deleted, id) = cursor.rsplit_once('-')?;
    Some((Time(deleted.parse().ok()?), MailId(id.parse().ok()?)))
}

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let account = asked.account_of(asked.element(0)).await?;
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let list = List {
        account: account.clone(),
        after: asked.query.read("cursor", place)?,
        skip: usize::try_from(paging.skip).unwrap_or(usize::MAX),
        // One more tells whether more follow.
        limit: Some(paging.limit + 1),
    };
    let all = |_: &UndeleteItem| true;
    let found = collect(&asked.context, list, paging.limit, &all).await?;
    let last = found.items.last().filter(|_| found.more);
    let next = last.and_then(UndeleteItem::place).map(cursor);
    let items = found.items.iter().map(value).collect::<Result<_, _>>()?;
    let total = asked.context.store.deleted_usage(&account).await?.mails;
    Ok(Answer::Data(list_value(items, total, false, next)))
}

pub(in super::super) async fn restore(asked: Asked) -> Result<Answer, Problem> {
    let account = asked.account_of(asked.element(0)).await?;
    let request: Option<Vec<UndeleteRequest>> = body_or_default(&asked.body)?;
    let mails = request.map(|mails| {
        let mails = mails.into_iter().map(|one| RestoreOne {
            hash: one.hash,
            received: one.restore_time.map(Time::from),
        });
        mails.collect::<Vec<_>>()
    });
    if mails
        .as_ref()
        .is_some_and(|mails| mails.len() > RESTORE_MAX)
    {
        return Err(Problem::refused(format!("more than {RESTORE_MAX} mails")));
    }
    let restore = Restore { account, mails };
    let all = |_: &Restored| true;
    let found = collect(&asked.context, restore, usize::MAX, &all).await?;
    Ok(Answer::Data(value(&found.items)?))
}

/// Does the work of a call in the background. Its failure is in the log and the audit log. The work
/// has the place of the call, so that a caller has no more of it at a time than calls.
fn in_background<S: Single + 'static>(asked: Asked, operation: S) -> Answer {
    let (context, place) = (asked.context, asked.place);
    tokio::spawn(async move {
        let done = operation.answer(&context).await;
        drop(place);
        if let Err(error) = done {
            tracing::warn!(%error, operation = S::NAME, "failed to remove what was deleted");
        }
    });
    Answer::null()
}

pub(in super::super) async fn purge(asked: Asked) -> Result<Answer, Problem> {
    let account = match asked.element(0) {
        "" => None,
        wanted => Some(asked.account_of(wanted).await?),
    };
    Ok(in_background(asked, Account { account }))
}

pub(in super::super) async fn purge_blob(asked: Asked) -> Result<Answer, Problem> {
    Ok(in_background(asked, Blob {}))
}

pub(in super::super) async fn purge_data(asked: Asked) -> Result<Answer, Problem> {
    Ok(in_background(asked, Data {}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_place() {
        for deleted in [1_800_000_000_000_000, -5] {
            let at = (Time(deleted), MailId(7));
            assert_eq!(place(&cursor(at)), Some(at));
        }
        for wrong in ["", "1", "x-1", "1-x"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
