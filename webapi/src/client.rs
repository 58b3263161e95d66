//! A client for the API v1.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::api::{
    BatchResponse, EventsRequest, EventsResponse, QueueCancelRequest, QueueCancelResponse,
    QueueListRequest, QueueListResponse, QueueStatusRequest, QueueStatusResponse, SendBatchRequest,
    SendRequest, SendResponse, StatsRequest, StatsResponse,
};

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Who calls.
#[derive(Clone)]
pub enum Login {
    /// A key, as `postrider apikey add` prints it.
    Key(String),
    /// An address of the account, and its password or a key.
    Password(String, String),
}

/// Hides what is secret.
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

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base is no URL.
    #[error("{0:?} is not the URL of a webapi, such as http://127.0.0.1:1080/webapi/")]
    Url(String),
    /// The server was not reached, or its answer not understood. Whether the call was carried out is not known: with an
    /// idempotency key it can be repeated.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// The server refused.
    #[error("{code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
}

/// Calls a server. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// With a slash at the end, up to `v1/`.
    base: Url,
    login: Login,
}

/// What the server says when it refuses.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Problem {
    code: String,
    message: String,
}

impl Client {
    /// A client of the webapi at this base, such as `http://127.0.0.1:1080/webapi/`.
    ///
    /// # Errors
    /// If the base is no URL, or TLS can't be set up.
    pub fn new(base: &str, login: Login) -> Result<Self, ClientError> {
        let with_slash = format!("{}/v1/", base.trim_end_matches('/'));
        let base = with_slash
            .parse()
            .map_err(|_| ClientError::Url(base.to_owned()))?;
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { http, base, login })
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: &str,
        request: &impl Serialize,
    ) -> Result<A, ClientError> {
        let url = self
            .base
            .join(method)
            .map_err(|_| ClientError::Url(self.base.to_string()))?;
        let call = self.http.post(url).json(request);
        let call = match &self.login {
            Login::Key(key) => call.bearer_auth(key),
            Login::Password(address, password) => call.basic_auth(address, Some(password)),
        };
        let answer = call.send().await?;
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(answer.json().await?);
        }
        let problem: Problem = answer.json().await?;
        Err(ClientError::Refused {
            status: status.as_u16(),
            code: problem.code,
            message: problem.message,
        })
    }

    /// Sends a message. When this returns, it is safe.
    ///
    /// # Errors
    /// If the server refuses or is not reached, as for all methods.
    pub async fn send(&self, request: &SendRequest) -> Result<SendResponse, ClientError> {
        self.call("Send", request).await
    }

    /// Sends a message of its own to each of many, or nothing at all.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub async fn send_batch(
        &self,
        request: &SendBatchRequest,
    ) -> Result<BatchResponse, ClientError> {
        self.call("SendBatch", request).await
    }

    /// Lists queued messages.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub async fn queue_list(
        &self,
        request: &QueueListRequest,
    ) -> Result<QueueListResponse, ClientError> {
        self.call("QueueList", request).await
    }

    /// Tells what became of messages.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub async fn queue_status(
        &self,
        request: &QueueStatusRequest,
    ) -> Result<QueueStatusResponse, ClientError> {
        self.call("QueueStatus", request).await
    }

    /// Cancels queued messages.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub async fn queue_cancel(
        &self,
        request: &QueueCancelRequest,
    ) -> Result<QueueCancelResponse, ClientError> {
        self.call("QueueCancel", request).await
    }

    /// Lists events.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub async fn events(&self, request: &EventsRequest) -> Result<EventsResponse, ClientError> {
        self.call("Events", request).await
    }

    /// Counts events.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub async fn stats(&self, request: &StatsRequest) -> Result<StatsResponse, ClientError> {
        self.call("Stats", request).await
    }
}
