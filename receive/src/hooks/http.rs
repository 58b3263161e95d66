//! Calls of programs over HTTP.
//!
//! A call sends a body of known length, since simple servers know no chunks. It follows no
//! redirect, uses no proxy, and reads no more of an answer than it may have.

use std::{
    error::Error,
    fmt, fs, io,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use postrider_config::{Hook, HookAuth};
use postrider_store::{Scratch, StoreError};
use reqwest::{
    Certificate, Client, Request, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    answer::Failure,
    names::{FewAtOnce, look_up},
};
use crate::memory::TextShare;

/// The bytes of a piece of a body. A file gives so many at once.
const PIECE: u64 = 64 * 1024;

/// The connections to a program that are kept between calls.
const IDLE_MAX: usize = 32;

/// A program that is called over HTTP.
#[derive(Clone)]
pub(super) struct Endpoint {
    client: Client,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
    response_max: u64,
    retry_max: u32,
    retry_delay: Duration,
    /// A status beside those of 2xx that an answer may have.
    also: Option<StatusCode>,
}

/// A program cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file with a secret can't be read, or has none.
    #[error("{key}: {file}: {error}")]
    Secret {
        /// The key that names the file.
        key: String,
        /// The file.
        file: String,
        /// What is wrong.
        error: io::Error,
    },
    /// A file with CAs can't be read.
    #[error("tls.ca_files: {0}")]
    Roots(String),
    /// A value can't stand in a call.
    #[error("{key}: {error}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong.
        error: String,
    },
    /// The HTTP client can't be made.
    #[error("failed to set up the client of {key}: {error}")]
    Client {
        /// The key of the program.
        key: String,
        /// What is wrong.
        error: reqwest::Error,
    },
}

impl Endpoint {
    /// The endpoint of `hooks.NAME`. `roots` are CAs beside those of the system.
    ///
    /// # Errors
    /// If a secret can't be read.
    pub(super) fn new(name: &str, hook: &Hook, roots: &[Certificate]) -> Result<Self, SetupError> {
        let key = |part: &str| format!("hooks.{name}.{part}");
        let wrong = |part: &str| {
            let key = key(part);
            move |error: &dyn fmt::Display| SetupError::Value {
                key: key.clone(),
                error: error.to_string(),
            }
        };
        let url = hook.url.parse().map_err(|error| wrong("url")(&error))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &hook.headers {
            let wrong = wrong("headers");
            let name = HeaderName::try_from(name).map_err(|error| wrong(&error))?;
            headers.append(name, value.parse().map_err(|error| wrong(&error))?);
        }
        let builder = Client::builder()
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .dns_resolver(FewAtOnce)
            .pool_max_idle_per_host(IDLE_MAX)
            .no_proxy();
        let builder = match roots.is_empty() {
            true => builder,
            false => builder.tls_certs_merge(roots.iter().cloned()),
        };
        let client = builder.build().map_err(|error| SetupError::Client {
            key: format!("hooks.{name}"),
            error,
        })?;
        if let Some(auth) = &hook.auth {
            headers.insert(AUTHORIZATION, authorization(&client, &url, auth, &key)?);
        }
        Ok(Self {
            client,
            url,
            headers,
            timeout: hook.timeout,
            response_max: hook.max_response_size.0,
            retry_max: hook.retry_max,
            retry_delay: hook.retry_delay,
            also: None,
        })
    }

    /// The same program. It is called at `path` if its URL has none.
    pub(super) fn or_at(mut self, path: &str) -> Self {
        if self.url.path() == "/" {
            self.url.set_path(path);
        }
        self
    }

    /// The same program at another port, without a path.
    pub(super) fn at_port(mut self, port: u16) -> Self {
        // A URL of HTTP has a host, so it may have a port.
        let _ = self.url.set_port(Some(port));
        self.url.set_path("");
        self
    }

    /// The same program. It is called at this path below that of its URL.
    pub(super) fn below(&self, path: &str) -> Self {
        let mut below = self.clone();
        let parent = below.url.path().trim_end_matches('/').to_owned();
        below.url.set_path(&(parent + path));
        below
    }

    /// The same program. Its answers may have this status, too.
    pub(super) fn also_with(mut self, status: StatusCode) -> Self {
        self.also = Some(status);
        self
    }

    /// The URL, without a password and a query, which may be secret.
    pub(super) fn shown_url(&self) -> String {
        let mut url = self.url.clone();
        // A URL of HTTP has a host, so it may have a password.
        let _ = url.set_password(None);
        url.set_query(None);
        url.to_string()
    }

    /// Connects to the host of the URL, and sends nothing.
    pub(super) async fn reach(&self) -> Result<(), Failure> {
        let host = self.url.host_str().unwrap_or_default();
        // An IPv6 address stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.url.port_or_known_default().unwrap_or(80);
        let connected = async { TcpStream::connect(&*look_up(host, port).await?).await };
        match connected.await {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::Unavailable(error.to_string())),
        }
    }

    /// Posts a body, and gives the body of the answer, which has a 2xx status or the one in `also`.
    ///
    /// A further try follows if there was no connection, no answer in time or a 5xx. All tries
    /// together take no longer than the time limit.
    ///
    /// # Errors
    /// If no try has an answer.
    pub(super) async fn post(
        &self,
        fields: &HeaderMap,
        body: &Scratch,
        memory: &mut AnswerMemory,
    ) -> Result<Bytes, Failure> {
        let end = Instant::now() + self.timeout;
        let mut tries = self.retry_max.saturating_add(1);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let answer = timeout(left / tries, self.attempt(fields, body, memory)).await;
            let (failure, again) = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(no)) => (no.failure, no.again),
                Err(_) => (Failure::Timeout, true),
            };
            tries -= 1;
            let left = end.saturating_duration_since(Instant::now());
            if tries == 0 || !again || left <= self.retry_delay {
                return Err(failure);
            }
            sleep(self.retry_delay).await;
        }
    }

    /// One try. A connection that was kept may turn out to be closed. Then another one is used.
    async fn attempt(
        &self,
        fields: &HeaderMap,
        body: &Scratch,
        memory: &mut AnswerMemory,
    ) -> Result<Bytes, NoAnswer> {
        let sent = self.client.execute(self.request(fields, body)).await;
        let response = match sent {
            Err(error) if error.is_request() && !error.is_connect() && !error.is_timeout() => {
                self.client.execute(self.request(fields, body)).await
            }
            sent => sent,
        };
        let response = response.map_err(|error| NoAnswer::unavailable(chain(&error)))?;
        let status = response.status();
        if !status.is_success() && self.also != Some(status) {
            return Err(NoAnswer::of_status(status));
        }
        self.read(response, memory).await
    }

    fn request(&self, fields: &HeaderMap, body: &Scratch) -> Request {
        let mut request = Request::new(reqwest::Method::POST, self.url.clone());
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        for (name, value) in fields {
            headers.append(name, value.clone());
        }
        *request.body_mut() = Some(match body.in_memory() {
            Some(bytes) => bytes.clone().into(),
            None => reqwest::Body::wrap(InPieces {
                scratch: body.clone(),
                at: 0,
            }),
        });
        request
    }

    /// Reads the body of an answer.
    async fn read(
        &self,
        mut response: Response,
        memory: &mut AnswerMemory,
    ) -> Result<Bytes, NoAnswer> {
        let too_long = || {
            let max = self.response_max;
            NoAnswer::invalid(format!("its answer is longer than {max} bytes"))
        };
        if response
            .content_length()
            .is_some_and(|length| length > self.response_max)
        {
            return Err(too_long());
        }
        let mut body = BytesMut::new();
        loop {
            let piece = response.chunk().await;
            let piece = piece.map_err(|error| {
                NoAnswer::invalid(format!("its answer ends early: {}", chain(&error)))
            })?;
            let Some(piece) = piece else {
                return Ok(body.freeze());
            };
            if (body.len() + piece.len()) as u64 > self.response_max {
                return Err(too_long());
            }
            if !memory.cover(piece.len()).await {
                let text = "there is no memory for its answer now";
                return Err(NoAnswer::unavailable(text.to_owned()));
            }
            body.extend_from_slice(&piece);
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// The memory for the answers to the questions about one message.
#[derive(Debug)]
pub(super) struct AnswerMemory {
    share: TextShare,
    held: usize,
}

impl AnswerMemory {
    /// Memory of this share.
    pub(super) const fn new(share: TextShare) -> Self {
        Self { share, held: 0 }
    }

    /// Takes memory for so many bytes more. False: there is none.
    async fn cover(&mut self, bytes: usize) -> bool {
        // What is read of an answer takes as much again.
        self.held += 2 * bytes;
        self.share.cover(self.held).await
    }
}

/// Why a try has no answer.
struct NoAnswer {
    failure: Failure,
    /// Another try may have one.
    again: bool,
}

impl NoAnswer {
    const fn unavailable(text: String) -> Self {
        Self {
            failure: Failure::Unavailable(text),
            again: true,
        }
    }

    const fn invalid(text: String) -> Self {
        Self {
            failure: Failure::Invalid(text),
            again: false,
        }
    }

    fn of_status(status: StatusCode) -> Self {
        let text = match status.is_redirection() {
            true => format!("it answered {status}; redirects are not followed"),
            false => format!("it answered {status}"),
        };
        Self {
            failure: Failure::Unavailable(text),
            again: status.is_server_error(),
        }
    }
}

/// The value of the Authorization field.
fn authorization(
    client: &Client,
    url: &Url,
    auth: &HookAuth,
    key: &impl Fn(&str) -> String,
) -> Result<HeaderValue, SetupError> {
    let request = client.post(url.clone());
    let (request, key) = match auth {
        HookAuth::Basic {
            username,
            password_file,
        } => {
            let key = key("auth.password_file");
            let password = secret(password_file, &key)?;
            (request.basic_auth(username, Some(password)), key)
        }
        HookAuth::Bearer(file) => {
            let key = key("auth.bearer_file");
            let token = secret(file, &key)?;
            (request.bearer_auth(token), key)
        }
    };
    let built = request.build().ok();
    let value = built.and_then(|request| request.headers().get(AUTHORIZATION).cloned());
    let mut value = value.ok_or_else(|| SetupError::Value {
        key,
        error: "the secret has bytes that no HTTP header may have".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The first line of a file.
pub(super) fn secret(file: &Path, key: &str) -> Result<String, SetupError> {
    let wrong = |error| SetupError::Secret {
        key: key.to_owned(),
        file: file.display().to_string(),
        error,
    };
    let text = fs::read_to_string(file).map_err(wrong)?;
    match text.lines().next().map(str::trim_end) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(wrong(io::Error::other("the first line is empty"))),
    }
}

/// An error with its causes, without the URL, which may have a secret in it.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match (error.is_connect(), error.is_timeout()) {
        (true, _) => "no connection".to_owned(),
        (false, true) => "too late".to_owned(),
        (false, false) => "the connection broke".to_owned(),
    };
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// A body in a file, read piece by piece while it is sent.
struct InPieces {
    scratch: Scratch,
    at: u64,
}

impl Body for InPieces {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        // So few bytes are read at once: they are usually in the page cache.
        let piece = self.scratch.read_blocking(self.at..self.at + PIECE);
        if let Ok(piece) = &piece {
            self.at += piece.len() as u64;
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.scratch.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.scratch.len().saturating_sub(self.at))
    }
}

#[cfg(test)]
pub(super) mod tests;
