//! The stream of changes of mailboxes: as server-sent events here, over a WebSocket in `socket`.
//!
//! The identifier of an event names the last mail and the last change that it has told of. A client
//! that comes again with it gets all that came since: each new mail, and the present state of each
//! mailbox that changed. So a stream keeps nothing in memory, and a slow client loses nothing.

mod socket;

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    http::{
        HeaderName,
        header::{HOST, ORIGIN},
    },
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt, stream};
use postrider_observe::metrics::{OpenStream, StreamKind};
use postrider_store::{Folder, MailId};
use postrider_webhook::Share;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    asked::Asked,
    folder_name::shown,
    problem::Problem,
    rows::{RowItem, summarized},
};
use crate::{call::stream_token::VALID, http::answer::ok};

/// The longest time of a stream. Clients connect again and go on after their last event.
const STREAM_MAX: Duration = Duration::from_secs(15 * 60);
/// How often a stream says that it is still there.
const PING: Duration = Duration::from_secs(30);
/// How long a caller waits who has too many streams.
const FULL_WAIT: Duration = Duration::from_secs(60);
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

/// Streams what changes in the mailboxes of the account: over a WebSocket if the request wants one,
/// else as server-sent events.
pub(super) async fn stream(mut asked: Asked) -> Result<Response, Problem> {
    check_origin(&asked)?;
    let share = asked.context.bounds.stream(asked.account());
    let share = share.ok_or_else(|| Problem::limited(FULL_WAIT))?;
    asked.leave_place();
    let upgrade = asked.upgrade.take();
    let reader = Reader::new(asked, share).await?;
    let mut stopping = reader.asked.context.stopping.clone();
    // A caller whose key was removed must not see mail for long.
    let stop = async move {
        let _ = tokio::time::timeout(STREAM_MAX, stopping.wait_for(|stop| *stop)).await;
    };
    if let Some(upgrade) = upgrade {
        return Ok(socket::answer(upgrade, reader, Box::pin(stop)));
    }
    // A client that loses the stream before the first event goes on after this one.
    let start = Event::default().id(reader.place.id());
    let events = stream::unfold(reader, |mut reader| async move {
        let (place, frame) = reader.next().await?;
        let event = Event::default().id(place.id()).json_data(frame).ok()?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    let events = stream::iter([Ok(start)]).chain(events.take_until(Box::pin(stop)));
    let kept = Sse::new(events).keep_alive(KeepAlive::default().interval(PING));
    Ok(kept.into_response())
}

/// Refuses a web page of an origin that may not call this API. Other programs name no origin.
fn check_origin(asked: &Asked) -> Result<(), Problem> {
    let text = |name: HeaderName| asked.headers.get(name).and_then(|it| it.to_str().ok());
    let Some(origin) = text(ORIGIN) else {
        return Ok(());
    };
    let own = origin.split_once("://").map(|(_, host)| host);
    let mut allowed = asked.context.statics.mail_api.origins.iter();
    match own == text(HOST) || allowed.any(|it| it.as_str() == origin) {
        true => Ok(()),
        false => Err(Problem::forbidden(format!(
            "pages of {origin:?} may not call this; mail_api.origins names those that may"
        ))),
    }
}

/// Gives a token that opens one stream.
pub(super) async fn token(asked: Asked) -> Result<Response, Problem> {
    let now = asked.context.clock.moment();
    let token = asked.context.bounds.stream_tokens.give(&asked.user, now);
    let token = token.ok_or_else(|| Problem::limited(VALID))?;
    Ok(ok(&json!({"token": token, "expires_in": VALID.as_secs()})))
}

/// Tells how it is with streams. The store tells of changes, so nothing has to be watched.
pub(super) async fn status(asked: Asked) -> Result<Response, Problem> {
    let context = &asked.context;
    Ok(ok(&json!({
        "running": true,
        "method": "store",
        "accounts": context.config.load().accounts.len(),
        "connections": context.bounds.open_streams(),
    })))
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
pub(super) struct Reader {
    _open: OpenStream,
    _share: Share,
    pub(super) asked: Asked,
    place: Place,
    changed: watch::Receiver<u64>,
    /// Frames, each with the place behind it.
    waiting: VecDeque<(Place, Value)>,
}

impl Reader {
    /// A reader from the place that the request names, else from now on.
    async fn new(asked: Asked, share: Share) -> Result<Self, Problem> {
        let last = asked.headers.get("last-event-id");
        let last = last.and_then(|id| id.to_str().ok());
        let last = last.or_else(|| asked.query.text("after"));
        let changed = asked.context.store.mail_changed(asked.account());
        let open = OpenStream::new(&asked.context.metrics, StreamKind::Mailbox);
        let place = match last {
            Some(text) => Place::read(text)
                .ok_or_else(|| Problem::unreadable("Last-Event-ID is not one of this stream"))?,
            None => now(&asked).await?,
        };
        Ok(Self {
            _open: open,
            _share: share,
            asked,
            place,
            changed,
            waiting: VecDeque::new(),
        })
    }

    /// The next frame, and the place behind it. None when no more will come. A caller may drop the
    /// future, and loses nothing.
    async fn next(&mut self) -> Option<(Place, Value)> {
        loop {
            if let Some((place, frame)) = self.waiting.pop_front() {
                self.place = place;
                return Some((place, frame));
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
