//! The stream of the account's events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::Request,
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event as Sent, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt, stream};
use postrider_observe::metrics::{OpenStream, StreamKind};
use postrider_store::{EventFilter, EventId, LoggedEvent, Order, StoreError};
use tokio::sync::watch;

use super::{
    problem::{failed, problem},
    shape::EventItem,
};
use crate::{
    call::{auth::User, context::CallContext},
    error::ApiError,
};

/// The longest time of a stream. Clients connect again and go on after their last event.
const STREAM_MAX: Duration = Duration::from_secs(15 * 60);
/// The number of events that a stream reads ahead.
const AHEAD: usize = 10;

/// Stream the account's events as they happen, as server-sent events with the data of Events. With
/// Last-Event-ID the stream goes on after that event. Without it, the stream begins now, and first
/// gives the ID of the last event before. It ends after 15 minutes, so that logins are checked
/// again.
#[cfg_attr(test, utoipa::path(
    get, path = "/EventStream", operation_id = "EventStream",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The ID of the last event that the client has seen. 0 for all events in the log")),
    responses((status = 200, description = "A stream", content_type = "text/event-stream", body = EventItem))
))]
pub(super) async fn stream(context: Arc<CallContext>, user: User, request: Request) -> Response {
    let mut stopping = context.stopping.clone();
    let last = request.headers().get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()).map(str::trim);
    let changed = context.store.events_changed();
    let begin = match last.map(str::parse) {
        Some(Ok(id)) => Some(EventId(id)),
        Some(Err(_)) => {
            let text = "Last-Event-ID is no number";
            return problem(StatusCode::BAD_REQUEST, "protocol", text);
        }
        None => None,
    };
    let filter = EventFilter {
        account: Some(user.account),
        ..EventFilter::default()
    };
    let after = match begin {
        Some(id) => Ok(id),
        None => newest(&context, &filter).await.map_err(ApiError::from),
    };
    let after = match after {
        Ok(id) => id,
        Err(error) => return failed(&error),
    };
    // A client that loses the stream before the first event goes on after this one.
    let start = Sent::default().id(after.0.to_string());
    let start = begin.is_none().then_some(Ok(start));
    let reader = EventReader {
        _open: OpenStream::new(&context.metrics, StreamKind::Events),
        context,
        filter,
        after,
        changed,
        waiting: VecDeque::new(),
    };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    // A caller whose key was removed must not see events for long.
    let stop = async move {
        let _ = tokio::time::timeout(STREAM_MAX, stopping.wait_for(|stop| *stop)).await;
    };
    let events = stream::iter(start).chain(events.take_until(Box::pin(stop)));
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// The last event in the log. 0 if there is none.
async fn newest(context: &CallContext, filter: &EventFilter) -> Result<EventId, StoreError> {
    let order = Order::Descending;
    let page = context.store.list_events(filter, None, order, 1).await?;
    Ok(page.items.first().map_or(EventId(0), |event| event.id))
}

/// Reads the log as it grows.
struct EventReader {
    _open: OpenStream,
    context: Arc<CallContext>,
    filter: EventFilter,
    after: EventId,
    changed: watch::Receiver<u64>,
    waiting: VecDeque<LoggedEvent>,
}

impl EventReader {
    /// The next event. None when no more events will come.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.after = event.id;
                let (id, name) = (event.id, event.told.event.name());
                let sent = Sent::default().id(id.to_string()).event(name);
                return sent.json_data(EventItem::from(event)).ok();
            }
            self.changed.mark_unchanged();
            let after = Some(self.after);
            let page = self
                .context
                .store
                .list_events(&self.filter, after, Order::Ascending, AHEAD)
                .await;
            self.waiting.extend(page.ok()?.items);
            if self.waiting.is_empty() {
                self.changed.changed().await.ok()?;
            }
        }
    }
}
