//! The stream of changes of mailboxes, as server-sent events.
//!
//! The identifier of an event names the last mail and the last change that it has told of. A client
//! that comes again with it gets all that came since: each new mail, and the present state of each
//! mailbox that changed. So a stream keeps nothing in memory, and a slow client loses nothing.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::{StreamExt, stream};
use postrider_observe::metrics::{OpenStream, StreamKind};
use postrider_store::{Folder, MailId};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    asked::Asked,
    folder_name::shown,
    problem::Problem,
    rows::{RowItem, summarized},
};

/// The longest time of a stream. Clients connect again and go on after their last event.
const STREAM_MAX: Duration = Duration::from_secs(15 * 60);
/// Changes of a mailbox are gathered for this time.
const GATHER: Duration = Duration::from_millis(100);
/// How many new mails a stream reads ahead.
const AHEAD: usize = 50;

/// What a client knows: the last mail, and the last change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    mail: u64,
    change: u64,
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let (mail, change) = text.trim().split_once('-')?;
        Some(Self {
            mail: mail.parse().ok()?,
            change: change.parse().ok()?,
        })
    }

    fn id(self) -> String {
        format!("{}-{}", self.mail, self.change)
    }
}

/// Streams what changes in the mailboxes of the account.
pub(super) async fn stream(asked: Asked) -> Result<Response, Problem> {
    let last = asked.headers.get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok());
    let begin = match last {
        None => None,
        Some(text) => Some(
            Place::read(text)
                .ok_or_else(|| Problem::unreadable("Last-Event-ID is not one of this stream"))?,
        ),
    };
    let changed = asked.context.store.mail_changed(asked.account());
    let mut stopping = asked.context.stopping.clone();
    let open = OpenStream::new(&asked.context.metrics, StreamKind::Mailbox);
    let place = match begin {
        Some(place) => place,
        None => now(&asked).await?,
    };
    // A client that loses the stream before the first event goes on after this one.
    let start = Event::default().id(place.id());
    let reader = Reader {
        _open: open,
        asked,
        place,
        changed,
        waiting: VecDeque::new(),
    };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    // A caller whose key was removed must not see mail for long.
    let stop = async move {
        let _ = tokio::time::timeout(STREAM_MAX, stopping.wait_for(|stop| *stop)).await;
    };
    let events = stream::iter([Ok(start)]).chain(events.take_until(Box::pin(stop)));
    let kept = Sse::new(events).keep_alive(KeepAlive::default().interval(Duration::from_secs(30)));
    Ok(kept.into_response())
}

/// The place behind all that is there.
async fn now(asked: &Asked) -> Result<Place, Problem> {
    let store = &asked.context.store;
    let folders = store.folders(asked.account()).await?;
    let change = folders.iter().map(|folder| folder.changed).max();
    let order = postrider_store::Order::Descending;
    let newest = store
        .list_mails_in_order(Some(asked.account()), None, order, 1)
        .await?;
    Ok(Place {
        mail: newest.items.first().map_or(0, |mail| mail.id.0),
        change: change.unwrap_or_default(),
    })
}

/// Reads what changed.
struct Reader {
    _open: OpenStream,
    asked: Asked,
    place: Place,
    changed: watch::Receiver<u64>,
    /// Frames, each with the place behind it.
    waiting: VecDeque<(Place, Value)>,
}

impl Reader {
    /// The next event. None when no more will come.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((place, frame)) = self.waiting.pop_front() {
                self.place = place;
                return Event::default().id(place.id()).json_data(frame).ok();
            }
            self.changed.mark_unchanged();
            self.look().await.ok()?;
            if self.waiting.is_empty() {
                self.changed.changed().await.ok()?;
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// Looks for what changed since.
    async fn look(&mut self) -> Result<(), Problem> {
        let (store, account) = (&self.asked.context.store, self.asked.account());
        let mut place = self.place;
        let after = Some(MailId(place.mail));
        let mails = store.list_mails(account, None, after, AHEAD).await?;
        let has_more = mails.next.is_some();
        for mail in mails.items {
            place.mail = mail.id.0;
            // A mail that moved on since is told of where it is.
            if let Some(row) = store.mail_row(mail.id).await? {
                let row = summarized(&self.asked, vec![row]).await?.remove(0);
                let folder = shown(&row.mail.mailbox).to_owned();
                let data = json!({"folder": folder, "message": RowItem::new(row)});
                self.waiting
                    .push_back((place, json!({"type": "mail.new_message", "data": data})));
            }
        }
        if has_more {
            return Ok(());
        }
        let mut folders = store.folders(account).await?;
        folders.retain(|folder| folder.changed > place.change);
        folders.sort_by_key(|folder| folder.changed);
        for folder in folders {
            place.change = folder.changed;
            self.waiting.push_back((place, update(&folder)));
        }
        Ok(())
    }
}

fn update(folder: &Folder) -> Value {
    let data = json!({
        "folder": shown(&folder.name),
        "unseen": folder.unseen,
        "exists": folder.exists,
    });
    json!({"type": "mail.folder_update", "data": data})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_as_it_was() {
        let place = Place {
            mail: 7,
            change: 12,
        };
        assert_eq!(Place::read(&place.id()), Some(place));
        for wrong in ["", "7", "7-", "x-1", "-1"] {
            assert_eq!(Place::read(wrong), None, "{wrong}");
        }
    }
}
