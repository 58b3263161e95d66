//! The stream over a WebSocket (RFC 6455). Each frame is a text with one JSON object. It has the
//! `id` that `after` of a later request takes, so a client that comes again loses nothing.

use std::{pin::Pin, time::Duration};

use axum::{
    extract::{
        WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    response::Response,
};
use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{PING, Place, Reader};

/// The most bytes of a message of a client. All are ignored.
const MESSAGE_MAX: usize = 1024;
/// The most messages of a client in a second.
const MESSAGES_MAX: u32 = 10;
/// The credential of the client is good no longer.
const ENDED: u16 = 4401;

/// The time at which the stream ends.
type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Answers a request that wants to become a WebSocket.
pub(super) fn answer(upgrade: WebSocketUpgrade, reader: Reader, stop: Stop) -> Response {
    // A little more than the limit, so that the client hears why the connection ends.
    let upgrade = upgrade.max_message_size(16 * MESSAGE_MAX);
    upgrade.on_upgrade(|socket| serve(socket, reader, stop))
}

/// Sends frames until the client goes, or has to.
async fn serve(mut socket: WebSocket, mut reader: Reader, mut stop: Stop) {
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Heard::new();
    let close = loop {
        tokio::select! {
            () = &mut stop => break Some((close_code::AWAY, "connect again")),
            frame = reader.next() => match frame {
                Some((place, frame)) => {
                    let text = with_id(place, frame).to_string();
                    if socket.send(Message::Text(text.into())).await.is_err() {
                        break None;
                    }
                }
                None => break Some((close_code::ERROR, "the server can't read the mailboxes")),
            },
            said = socket.recv() => match said {
                None | Some(Err(_) | Ok(Message::Close(_))) => break None,
                Some(Ok(message)) if heard.is_fine(&message) => {}
                Some(Ok(_)) => break Some((close_code::POLICY, "too much was said")),
            },
            _ = ping.tick() => {
                if !is_welcome(&reader) {
                    break Some((ENDED, "the login has ended"));
                }
                if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                    break None;
                }
            }
        }
    };
    if let Some((code, reason)) = close {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        let _ = socket.send(Message::Close(Some(frame))).await;
    }
}

/// Whether the account is still there, and may log in.
fn is_welcome(reader: &Reader) -> bool {
    let config = reader.asked.context.config.load();
    let account = config.accounts.get(reader.asked.account());
    account.is_some_and(|account| account.login_disabled.is_empty())
}

fn with_id(place: Place, mut frame: Value) -> Value {
    if let Some(frame) = frame.as_object_mut() {
        frame.insert("id".to_owned(), place.id().into());
    }
    frame
}

/// What a client says, counted.
struct Heard {
    second: Instant,
    messages: u32,
}

impl Heard {
    fn new() -> Self {
        Self {
            second: Instant::now(),
            messages: 0,
        }
    }

    /// Counts a message. False: it is too large, or there are too many.
    fn is_fine(&mut self, message: &Message) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            *self = Self::new();
        }
        self.messages += 1;
        let size = match message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
            Message::Close(_) => 0,
        };
        self.messages <= MESSAGES_MAX && size <= MESSAGE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_say_little() {
        let mut heard = Heard::new();
        assert!(!heard.is_fine(&Message::Text("x".repeat(1025).into())));
        for _ in 0..9 {
            assert!(heard.is_fine(&Message::Text("x".into())));
        }
        assert!(!heard.is_fine(&Message::Text("x".into())));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(heard.is_fine(&Message::Binary(vec![0; 1024].into())));
    }

    #[test]
    fn a_frame_has_its_place() {
        let place = Place { mail: 7, change: 9 };
        let frame = with_id(place, serde_json::json!({"type": "x"}));
        assert_eq!(frame, serde_json::json!({"type": "x", "id": "7-9"}));
    }
}
