//! A client: the methods of v1, and the methods of v0 that v1 lacks.

use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt, stream};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    api::{
        BatchResponse, EventItem, EventsRequest, EventsResponse, MessageGetResponse,
        MessageListRequest, MessageListResponse, Problem, QueueCancelRequest, QueueCancelResponse,
        QueueListRequest, QueueListResponse, QueueStatusRequest, QueueStatusResponse,
        SendBatchRequest, SendRequest, SendResponse, StatsRequest, StatsResponse, Suppression,
    },
    v0::shape::{Done, SuppressionListResponse, SuppressionPresentResponse},
};

/// The longest time to connect, and to wait for the next bytes of an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The login of a caller.
#[derive(Clone)]
pub enum Login {
    /// A key, as `postrider apikey add` prints it.
    Key(String),
    /// An address of the account, and its password or a key.
    Password(String, String),
}

/// Hides secrets.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(_) => f.debug_tuple("Key").finish_non_exhaustive(),
            Self::Password(address, _) => f
                .debug_tuple("Password")
                .field(address)
                .finish_non_exhaustive(),
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base is no URL.
    #[error("{0:?} is not the URL of a webapi, such as http://127.0.0.1:1080/webapi/")]
    Url(String),
    /// The server was not reached, or the connection was lost. The call may have been carried out.
    /// With an idempotency key it can be repeated.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// The answer is not one of the webapi: another service or another version is at this URL.
    #[error(
        "{url} answered {status}, but not as a webapi does ({why}); the URL of a webapi looks like http://127.0.0.1:1080/webapi/"
    )]
    Answer {
        /// The URL of the call.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The reason in words.
        why: String,
    },
    /// The server refused.
    #[error("{code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code of the error, for programs.
        code: String,
        /// The error in words, for people.
        message: String,
    },
}

/// Calls a server. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// With a slash at the end.
    base: Url,
    login: Login,
}

impl Client {
    /// A client of the webapi at this base, such as `http://127.0.0.1:1080/webapi/`.
    ///
    /// # Errors
    /// If the base is no URL, or TLS can't be set up.
    pub fn new(base: &str, login: Login) -> Result<Self, ClientError> {
        Self::trusting(base, login, &[])
    }

    /// A client that also trusts these certificates (PEM).
    ///
    /// # Errors
    /// As for [`new`](Self::new), and if the text has no certificates.
    pub fn trusting(base: &str, login: Login, certificates: &[u8]) -> Result<Self, ClientError> {
        let with_slash = format!("{}/", base.trim_end_matches('/'));
        let base = with_slash
            .parse()
            .map_err(|_| ClientError::Url(base.to_owned()))?;
        let http = reqwest::Client::builder()
            .connect_timeout(TIMEOUT)
            .read_timeout(TIMEOUT)
            .tls_certs_merge(reqwest::Certificate::from_pem_bundle(certificates)?)
            .build()?;
        Ok(Self { http, base, login })
    }

    fn url(&self, path: &str) -> Result<Url, ClientError> {
        let url = self.base.join(path);
        url.map_err(|_| ClientError::Url(self.base.to_string()))
    }

    /// Makes a request with the login. Gives the answer if it has status 200.
    async fn ask(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let request = match &self.login {
            Login::Key(key) => request.bearer_auth(key),
            Login::Password(address, password) => request.basic_auth(address, Some(password)),
        };
        let answer = request.send().await?;
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let url = answer.url().to_string();
        let kind = answer.headers().get(reqwest::header::CONTENT_TYPE);
        let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
        let text = answer.bytes().await?;
        Err(match serde_json::from_slice(&text) {
            Ok(Problem { code, message }) => ClientError::Refused {
                status: status.as_u16(),
                code,
                message,
            },
            // v0 answers in plain text to refused callers and unknown methods.
            Err(_) if is_text => ClientError::Refused {
                status: status.as_u16(),
                code: match status {
                    StatusCode::UNAUTHORIZED => "unauthorized",
                    StatusCode::TOO_MANY_REQUESTS => "tooManyFailedLogins",
                    StatusCode::NOT_FOUND => "notFound",
                    _ => "protocol",
                }
                .into(),
                message: String::from_utf8_lossy(&text).trim_end().to_owned(),
            },
            Err(error) => ClientError::Answer {
                url,
                status: status.as_u16(),
                why: error.to_string(),
            },
        })
    }

    /// Calls any method of v1, with the request as JSON.
    ///
    /// # Errors
    /// If the server refuses the call or is not reached.
    pub async fn call<A: DeserializeOwned>(
        &self,
        method: &str,
        request: &impl Serialize,
    ) -> Result<A, ClientError> {
        let url = self.url(&format!("v1/{method}"))?;
        understood(self.ask(self.http.post(url).json(request)).await?).await
    }

    async fn ask_v0(
        &self,
        method: &str,
        request: &impl Serialize,
    ) -> Result<Response, ClientError> {
        let url = self.url(&format!("v0/{method}"))?;
        let request = serde_json::to_string(request).map_err(|error| ClientError::Answer {
            url: url.to_string(),
            status: 0,
            why: error.to_string(),
        })?;
        let form = self.http.post(url).form(&[("request", request)]);
        self.ask(form).await
    }

    /// Calls any method of v0. Gives the bytes of the answer: JSON, or the bytes of a message.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn call_v0(
        &self,
        method: &str,
        request: &impl Serialize,
    ) -> Result<Bytes, ClientError> {
        Ok(self.ask_v0(method, request).await?.bytes().await?)
    }

    async fn json_v0<A: DeserializeOwned>(
        &self,
        method: &str,
        request: &impl Serialize,
    ) -> Result<A, ClientError> {
        understood(self.ask_v0(method, request).await?).await
    }

    async fn change_v0(&self, method: &str, request: &impl Serialize) -> Result<(), ClientError> {
        self.json_v0::<Done>(method, request)
            .await
            .map(|Done {}| ())
    }

    /// Sends a message. After the answer, the message is safe.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn send(&self, request: &SendRequest) -> Result<SendResponse, ClientError> {
        self.call("Send", request).await
    }

    /// Sends a message of its own to each of many recipients. Sends all messages, or none.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn send_batch(
        &self,
        request: &SendBatchRequest,
    ) -> Result<BatchResponse, ClientError> {
        self.call("SendBatch", request).await
    }

    /// Lists queued messages.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn queue_list(
        &self,
        request: &QueueListRequest,
    ) -> Result<QueueListResponse, ClientError> {
        self.call("QueueList", request).await
    }

    /// Gets the state of messages.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn queue_status(
        &self,
        request: &QueueStatusRequest,
    ) -> Result<QueueStatusResponse, ClientError> {
        self.call("QueueStatus", request).await
    }

    /// Cancels queued messages.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn queue_cancel(
        &self,
        request: &QueueCancelRequest,
    ) -> Result<QueueCancelResponse, ClientError> {
        self.call("QueueCancel", request).await
    }

    /// Lists events.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn events(&self, request: &EventsRequest) -> Result<EventsResponse, ClientError> {
        self.call("Events", request).await
    }

    /// Counts events.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn stats(&self, request: &StatsRequest) -> Result<StatsResponse, ClientError> {
        self.call("Stats", request).await
    }

    /// Lists the messages in the account's mailboxes.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn message_list(
        &self,
        request: &MessageListRequest,
    ) -> Result<MessageListResponse, ClientError> {
        self.call("MessageList", request).await
    }

    /// Follows events as they happen: the events after this number, or only new ones. A lost
    /// connection is an error at the end of the stream. Following again from the last event misses
    /// none.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn follow(
        &self,
        after: Option<u64>,
    ) -> Result<impl Stream<Item = Result<EventItem, ClientError>> + Unpin + use<>, ClientError>
    {
        let mut request = self.http.get(self.url("v1/EventStream")?);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let answer = self.ask(request).await?;
        let (url, status) = (answer.url().to_string(), answer.status().as_u16());
        let chunks = stream::try_unfold(answer, |mut answer| async move {
            let chunk = answer.chunk().await?;
            Ok::<_, reqwest::Error>(chunk.map(|chunk| (chunk, answer)))
        });
        let wrong = move |why: String| ClientError::Answer {
            url: url.clone(),
            status,
            why,
        };
        let events = chunks.eventsource().map(move |event| match event {
            Ok(event) => {
                serde_json::from_str(&event.data).map_err(|error| wrong(error.to_string()))
            }
            Err(EventStreamError::Transport(error)) => Err(error.into()),
            Err(error) => Err(wrong(error.to_string())),
        });
        Ok(Box::pin(events))
    }

    /// Lists the addresses to which the account does not send.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn suppression_list(&self) -> Result<Vec<Suppression>, ClientError> {
        let listed: SuppressionListResponse = self.json_v0("SuppressionList", &json!({})).await?;
        Ok(listed.suppressions)
    }

    /// Adds an address, with a reason in words. It is an error if the list has a variant of the
    /// address.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn suppression_add(&self, address: &str, reason: &str) -> Result<(), ClientError> {
        let request = json!({"EmailAddress": address, "Manual": true, "Reason": reason});
        self.change_v0("SuppressionAdd", &request).await
    }

    /// Removes all variants of an address.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn suppression_remove(&self, address: &str) -> Result<(), ClientError> {
        self.change_v0("SuppressionRemove", &json!({"EmailAddress": address}))
            .await
    }

    /// Whether the list has a variant of an address.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn suppression_present(&self, address: &str) -> Result<bool, ClientError> {
        let request = json!({"EmailAddress": address});
        let found: SuppressionPresentResponse =
            self.json_v0("SuppressionPresent", &request).await?;
        Ok(found.present)
    }

    /// Describes a received message: its header, texts, structure, and arrival.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn message_get(&self, id: u64) -> Result<MessageGetResponse, ClientError> {
        self.json_v0("MessageGet", &json!({"MsgID": id})).await
    }

    /// Gives the bytes of a received message.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn message_raw_get(&self, id: u64) -> Result<Bytes, ClientError> {
        self.call_v0("MessageRawGet", &json!({"MsgID": id})).await
    }

    /// Gives a part of a received message without its transfer encoding. `path` has the places in
    /// the structure, from 0.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn message_part_get(&self, id: u64, path: &[usize]) -> Result<Bytes, ClientError> {
        let request = json!({"MsgID": id, "PartPath": path});
        self.call_v0("MessagePartGet", &request).await
    }

    /// Removes a message. Administrators can bring it back for a time.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn message_delete(&self, id: u64) -> Result<(), ClientError> {
        self.change_v0("MessageDelete", &json!({"MsgID": id})).await
    }

    /// Adds flags, such as `\\seen`, or keywords.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn message_flags_add(&self, id: u64, flags: &[&str]) -> Result<(), ClientError> {
        let request = json!({"MsgID": id, "Flags": flags});
        self.change_v0("MessageFlagsAdd", &request).await
    }

    /// Removes flags.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn message_flags_remove(&self, id: u64, flags: &[&str]) -> Result<(), ClientError> {
        let request = json!({"MsgID": id, "Flags": flags});
        self.change_v0("MessageFlagsRemove", &request).await
    }

    /// Moves a message to another mailbox, which must exist. Its number stays the same.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn message_move(&self, id: u64, mailbox: &str) -> Result<(), ClientError> {
        let request = json!({"MsgID": id, "DestMailboxName": mailbox});
        self.change_v0("MessageMove", &request).await
    }
}

/// Reads an answer with status 200.
async fn understood<A: DeserializeOwned>(answer: Response) -> Result<A, ClientError> {
    let (url, status) = (answer.url().to_string(), answer.status().as_u16());
    let text = answer.bytes().await?;
    serde_json::from_slice(&text).map_err(|error| ClientError::Answer {
        url,
        status,
        why: error.to_string(),
    })
}
