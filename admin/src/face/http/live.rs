//! Streams: server-sent events, or a WebSocket on the same path.
//!
//! A stream ends when the server stops, and when its caller may not listen any more.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::{
    extract::{
        FromRequestParts,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::{
        HeaderMap,
        header::{HOST, ORIGIN, UPGRADE},
        request::Parts,
    },
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};
use postrider_observe::metrics::{OpenStream, StreamKind};
use postrider_webhook::Share;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    Asked,
    access::{Access, Proof},
    header, login,
    problem::Problem,
};
use crate::Context;

/// The silence after which a client gets a ping, and after which the server looks again whether
/// the caller may listen.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest stream of a caller with a password: passwords are not checked again meanwhile.
const BY_PASSWORD_MAX: Duration = Duration::from_secs(15 * 60);
/// The longest message of a client over WebSocket, in bytes. No message of a client means anything.
const MESSAGE_MAX: usize = 4096;
/// How long the last message over WebSocket may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// A part of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame {
    /// Events follow that are behind this number.
    Begin(u64),
    /// Something happened.
    Event {
        id: u64,
        name: &'static str,
        data: Value,
    },
    /// News without a number: a client can't go on behind them later.
    News { name: &'static str, data: Value },
    /// A stage of a check. A client can't go on behind it later, so it has no number.
    Stage(Value),
    /// So many events were left out, because the client read too slowly.
    Lost(u64),
    /// Nothing happened for a while.
    Ping,
    /// The same, in a stream whose clients know no pings.
    Waiting,
}

impl Frame {
    /// The sentence for a client that lost events.
    fn loss(count: u64) -> String {
        format!("{count} events were left out, because they were not read in time")
    }

    fn server_sent(self) -> Event {
        match self {
            Self::Begin(id) => Event::default().id(id.to_string()),
            Self::Event { id, name, data } => Event::default()
                .id(id.to_string())
                .event(name)
                .data(data.to_string()),
            Self::News { name, data } => Event::default().event(name).data(data.to_string()),
            Self::Stage(data) => Event::default().event("event").data(data.to_string()),
            Self::Lost(count) => Event::default().comment(Self::loss(count)),
            Self::Ping => {
                let interval = json!({"interval": SILENCE.as_millis() as u64});
                Event::default().event("ping").data(interval.to_string())
            }
            Self::Waiting => Event::default().comment("nothing new"),
        }
    }

    /// None: a WebSocket has nothing for this.
    fn message(self) -> Option<Message> {
        match self {
            Self::Begin(_) => None,
            Self::Event { data, .. } | Self::News { data, .. } | Self::Stage(data) => {
                Some(Message::text(data.to_string()))
            }
            Self::Lost(count) => Some(Message::Ping(Self::loss(count).into())),
            Self::Ping | Self::Waiting => Some(Message::Ping("".into())),
        }
    }
}

type Frames = Pin<Box<dyn Stream<Item = Frame> + Send>>;

/// A stream of frames for a caller.
pub(super) struct Live {
    frames: Frames,
    stopping: watch::Receiver<bool>,
}

impl Live {
    /// A stream with a place among the caller's streams.
    pub(super) fn new(
        asked: &Asked,
        kind: StreamKind,
        frames: impl Stream<Item = Frame> + Send + 'static,
    ) -> Result<Self, Problem> {
        Self::with_pings(asked, Some(kind), frames, Frame::Ping)
    }

    /// The same, for clients that know no pings. One without a kind is not counted.
    pub(super) fn without_pings(
        asked: &Asked,
        kind: Option<StreamKind>,
        frames: impl Stream<Item = Frame> + Send + 'static,
    ) -> Result<Self, Problem> {
        Self::with_pings(asked, kind, frames, Frame::Waiting)
    }

    fn with_pings(
        asked: &Asked,
        kind: Option<StreamKind>,
        frames: impl Stream<Item = Frame> + Send + 'static,
        ping: Frame,
    ) -> Result<Self, Problem> {
        let place = asked.streams.try_take(&asked.access.name, 1);
        let listening = Listening {
            frames: Box::pin(frames),
            ping,
            listener: Listener::new(&asked.context, &asked.access),
            stopping: asked.stopping.clone(),
            _place: place.ok_or_else(Problem::too_many_streams)?,
            _counted: kind.map(|kind| OpenStream::new(&asked.context.metrics, kind)),
        };
        let frames = stream::unfold(listening, |mut listening| async move {
            let frame = listening.next().await?;
            Some((frame, listening))
        });
        Ok(Self {
            frames: Box::pin(frames),
            stopping: asked.stopping.clone(),
        })
    }

    /// The answer to the request that asked for the stream.
    pub(super) async fn respond(
        self,
        mut parts: Parts,
        access: &Access,
    ) -> Result<Response, Problem> {
        if !parts.headers.contains_key(UPGRADE) {
            let events = self
                .frames
                .map(|frame| Ok::<_, Infallible>(frame.server_sent()));
            return Ok(([("x-accel-buffering", "no")], Sse::new(events)).into_response());
        }
        if access.by != Proof::Key && !is_same_origin(&parts.headers) {
            let text = "a page of another site opened this WebSocket";
            return Err(Problem::forbidden(text));
        }
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
        let upgrade = upgrade.map_err(|rejection| Problem::unreadable(rejection.body_text()))?;
        let upgrade = upgrade
            .max_message_size(MESSAGE_MAX)
            .max_frame_size(MESSAGE_MAX);
        Ok(upgrade.on_upgrade(move |socket| self.talk(socket)))
    }

    /// Sends the frames until one side ends.
    async fn talk(mut self, mut socket: WebSocket) {
        loop {
            let frame = tokio::select! {
                frame = self.frames.next() => frame,
                received = socket.recv() => match received {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => continue,
                },
            };
            let Some(frame) = frame else { break };
            let Some(message) = frame.message() else {
                continue;
            };
            tokio::select! {
                sent = socket.send(message) => if sent.is_err() { return },
                _ = self.stopping.wait_for(|stop| *stop) => break,
            }
        }
        let close = CloseFrame {
            code: close_code::AWAY,
            reason: "the server ended the stream".into(),
        };
        let goodbye = socket.send(Message::Close(Some(close)));
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// Whether a WebSocket was opened by a page of this server, or by a program. Browsers add passwords
/// that they remember, whoever opens the socket, and name the page in Origin (RFC 6455 §10.2).
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().unwrap_or_default();
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some_and(|host| header(headers, HOST.as_str()) == Some(host))
}

/// A stream with pings, and with an end.
struct Listening {
    frames: Frames,
    /// What a client gets in a silence.
    ping: Frame,
    listener: Listener,
    stopping: watch::Receiver<bool>,
    _place: Share,
    _counted: Option<OpenStream>,
}

impl Listening {
    async fn next(&mut self) -> Option<Frame> {
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stop| *stop) => None,
            () = self.listener.ended() => None,
            frame = tokio::time::timeout(SILENCE, self.frames.next()) => match frame {
                Ok(frame) => frame,
                Err(_) => Some(self.ping.clone()),
            },
        }
    }
}

/// The caller of a stream, for as long as it may listen.
struct Listener {
    context: Context,
    access: Access,
    keys_removed: watch::Receiver<u64>,
    /// When to look again whether the caller may listen.
    look: Instant,
    /// The end of the stream. None: it has none of its own.
    until: Option<Instant>,
}

impl Listener {
    fn new(context: &Context, access: &Access) -> Self {
        let now = Instant::now();
        Self {
            context: context.clone(),
            access: access.clone(),
            keys_removed: context.store.api_keys_removed(),
            // A key that was removed before the line above is found at once.
            look: now,
            until: (access.by != Proof::Key).then(|| now + BY_PASSWORD_MAX),
        }
    }

    /// Waits until the caller may not listen any more.
    async fn ended(&mut self) {
        loop {
            let until = self.until.unwrap_or(self.look);
            let look = tokio::time::sleep_until(self.look.min(until));
            tokio::select! {
                _ = self.keys_removed.changed() => {}
                () = look => {}
            }
            let now = Instant::now();
            if self.until.is_some_and(|until| until <= now) {
                return;
            }
            match login::still(&self.context, &self.access).await {
                Some(rest) => self.look = now + rest.min(SILENCE),
                None => return,
            }
        }
    }
}
