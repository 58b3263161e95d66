//! One call of a webhook: headers, signature, and the kept part of the answer.

use std::{error::Error, fmt::Write, io, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use nix::errno::Errno;
use postrider_config::{Dynamic, WebhookSecret};
use postrider_observe::metrics::WebhookResult;
use postrider_smtp::mime;
use postrider_store::{Clock, Hook, HookAttempt, HookKind, Mail, Store, StoreError, Time};
use reqwest::{
    Client, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use sha2::Sha256;

use crate::{
    observed::ShownUrl,
    payload,
    share::MemoryBudget,
    target::{self, NotPublic},
};

/// The number of bytes of an answer that the history keeps.
const RESPONSE_KEPT: usize = 512;
/// The number of bytes of an answer that are read, so that its connection can be used again. With
/// more, the connection closes.
const RESPONSE_READ: usize = 64 * 1024;

/// The field with the signatures of a call.
const SIGNATURE: &str = "webhook-signature";

/// Makes calls.
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) store: Store,
    pub(crate) memory: MemoryBudget,
    /// Limits on the parts of a received message.
    pub(crate) limits: mime::Limits,
    pub(crate) allow_private_addresses: bool,
}

/// Why a call was not made or got no answer.
struct Failure {
    result: WebhookResult,
    /// In words, for the history.
    text: String,
}

impl Failure {
    /// A failure of no special kind.
    const fn other(text: String) -> Self {
        Self {
            result: WebhookResult::Failed,
            text,
        }
    }
}

/// Why no call could be made, whoever the receiver: file descriptors, memory or buffers are used
/// up. Such a call is no attempt.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsedUp(String);

/// Why a call has no status.
enum NoStatus {
    Failed(Failure),
    UsedUp(UsedUp),
}

impl From<Failure> for NoStatus {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<reqwest::Error> for NoStatus {
    fn from(error: reqwest::Error) -> Self {
        // Applications put secrets into URLs.
        let error = error.without_url();
        let text = chain(&error);
        match is_used_up(&error) {
            true => Self::UsedUp(UsedUp(text)),
            false => Self::Failed(Failure {
                result: kind_of(&error),
                text,
            }),
        }
    }
}

/// An error with its causes.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Whether the system says in one of the causes that our own means are used up.
fn is_used_up(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|error| {
        let errno = error.downcast_ref().and_then(io::Error::raw_os_error);
        let used_up = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS];
        errno.is_some_and(|errno| used_up.contains(&Errno::from_raw(errno)))
    })
}

/// What kind of failure an error of the client is.
fn kind_of(error: &reqwest::Error) -> WebhookResult {
    // An error of TLS comes as one of the system, with the other one inside.
    let is_tls = |error: &(dyn Error + 'static)| {
        let inner = error.downcast_ref().and_then(io::Error::get_ref);
        error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>())
    };
    if causes(error).any(|error| error.is::<NotPublic>()) {
        WebhookResult::Forbidden
    } else if error.is_timeout() {
        WebhookResult::Timeout
    } else if causes(error).any(is_tls) {
        WebhookResult::Tls
    } else if error.is_connect() {
        WebhookResult::Connect
    } else {
        WebhookResult::Failed
    }
}

impl Caller {
    /// Makes a call and gives its attempt and its result. Without `payload`, the payload is made
    /// from the store.
    ///
    /// # Errors
    /// If no call can be made now.
    pub(crate) async fn call(
        &self,
        hook: &Hook,
        payload: Option<Bytes>,
        config: &Dynamic,
        clock: &dyn Clock,
    ) -> Result<(HookAttempt, WebhookResult), UsedUp> {
        let start = clock.now();
        let begun = Instant::now();
        let result = self.try_call(hook, payload, config, start).await;
        let mut attempt = HookAttempt {
            start,
            duration: begun.elapsed(),
            success: false,
            code: 0,
            error: String::new(),
            response: String::new(),
        };
        let result = match result {
            Ok((status, response)) => {
                attempt.code = status.as_u16();
                attempt.success = status.is_success();
                attempt.response = response;
                if status.is_redirection() {
                    attempt.error =
                        format!("the receiver answered {status}; redirects are not followed");
                } else if !attempt.success {
                    attempt.error = format!("the receiver answered {status}");
                }
                match attempt.success {
                    true => WebhookResult::Ok,
                    false => WebhookResult::Refused,
                }
            }
            Err(NoStatus::Failed(Failure { result, text })) => {
                attempt.error = text;
                result
            }
            Err(NoStatus::UsedUp(used_up)) => return Err(used_up),
        };
        Ok((attempt, result))
    }

    async fn try_call(
        &self,
        hook: &Hook,
        payload: Option<Bytes>,
        config: &Dynamic,
        now: Time,
    ) -> Result<(reqwest::StatusCode, String), NoStatus> {
        let url: Url = hook.url.parse().map_err(|error| {
            let url = ShownUrl(&hook.url);
            Failure::other(format!("\"{url}\" is not a URL: {error}"))
        })?;
        if !self.allow_private_addresses {
            target::check(&url).map_err(|error| Failure {
                result: WebhookResult::Forbidden,
                text: error.to_string(),
            })?;
        }
        let payload = match payload {
            Some(payload) => payload,
            None => self.payload(hook).await?.into(),
        };
        let headers = headers(hook, secrets(hook, config), now, &payload)?;
        let request = self.client.post(url).headers(headers).body(payload);
        let response = request.send().await?;
        let status = response.status();
        Ok((status, beginning(response).await))
    }

    async fn payload(&self, hook: &Hook) -> Result<Vec<u8>, Failure> {
        let json = match &hook.kind {
            HookKind::Outgoing(outgoing) => payload::outgoing_payload(outgoing),
            HookKind::OutgoingV1(outgoing) => payload::outgoing_payload_v1(outgoing),
            HookKind::Incoming(mail) => {
                let limits = self.limits;
                let mail = std::sync::Arc::clone(mail);
                // Parsing copies the parts that it decodes.
                let _share = self.memory.take(&hook.account, 2 * mail.size).await;
                let text = self.text(&mail).await;
                let text =
                    text.map_err(|error| Failure::other(format!("reading the message: {error}")))?;
                // Parsing may take long, and other tasks wait for this thread.
                let work = tokio::task::spawn_blocking(move || {
                    payload::incoming_payload(&mail, &text, limits)
                });
                work.await
                    .map_err(|error| Failure::other(error.to_string()))?
            }
        };
        json.map_err(|error| Failure::other(format!("making the payload: {error}")))
    }

    /// The body of a call, or why it can't be made.
    pub(crate) async fn body(&self, hook: &Hook) -> Result<Vec<u8>, String> {
        self.payload(hook).await.map_err(|failure| failure.text)
    }

    async fn text(&self, mail: &Mail) -> Result<Bytes, StoreError> {
        self.store.mail_message(mail).await?.whole().await
    }
}

/// The current secrets of the account. A new secret signs also the calls that were queued before.
fn secrets<'a>(hook: &Hook, config: &'a Dynamic) -> &'a [WebhookSecret] {
    let account = config.accounts.get(&hook.account);
    match &hook.kind {
        HookKind::Outgoing(_) | HookKind::OutgoingV1(_) => account
            .and_then(|account| account.outgoing_webhook.as_ref())
            .map_or(&[], |webhook| &webhook.secret),
        HookKind::Incoming(_) => account
            .and_then(|account| account.incoming_webhook.as_ref())
            .map_or(&[], |webhook| &webhook.secret),
    }
}

fn headers(
    hook: &Hook,
    secrets: &[WebhookSecret],
    now: Time,
    payload: &[u8],
) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::with_capacity(8);
    let id = hook.id.0;
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    headers.insert("x-mox-webhook-id", id.into());
    headers.insert("x-mox-webhook-attempt", hook.attempts.into());
    if !hook.authorization.is_empty() {
        let mut value = HeaderValue::from_bytes(hook.authorization.as_bytes()).map_err(|_| {
            let text = "the authorization has bytes that no HTTP header may have";
            Failure::other(text.into())
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    if !secrets.is_empty() {
        let timestamp = now.timestamp().as_second();
        headers.insert(HeaderName::from_static("webhook-id"), id.into());
        headers.insert(
            HeaderName::from_static("webhook-timestamp"),
            timestamp.into(),
        );
        let signatures = signatures(secrets, id, timestamp, payload);
        let value = HeaderValue::from_str(&signatures)
            .map_err(|error| Failure::other(error.to_string()))?;
        headers.insert(HeaderName::from_static(SIGNATURE), value);
    }
    Ok(headers)
}

/// The fields of the header of a call at this time. `***` stands for secrets.
pub(crate) fn shown_headers(hook: &Hook, config: &Dynamic, at: Time) -> Vec<(String, String)> {
    let Ok(headers) = headers(hook, secrets(hook, config), at, &[]) else {
        return Vec::new();
    };
    let shown = headers.iter().map(|(name, value)| {
        let is_secret = value.is_sensitive() || name == SIGNATURE;
        let text = match is_secret {
            true => "***".into(),
            false => String::from_utf8_lossy(value.as_bytes()),
        };
        (name.to_string(), text.into_owned())
    });
    shown.collect()
}

/// A signature by each secret, as version 1 of the Standard Webhooks specification says.
fn signatures(secrets: &[WebhookSecret], id: u64, timestamp: i64, payload: &[u8]) -> String {
    let signature = |secret: &WebhookSecret| {
        // An HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).ok()?;
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(payload);
        Some(format!(
            "v1,{}",
            STANDARD.encode(mac.finalize().into_bytes())
        ))
    };
    let all: Vec<String> = secrets.iter().filter_map(signature).collect();
    all.join(" ")
}

/// The beginning of an answer's body.
async fn beginning(mut response: Response) -> String {
    let mut kept = Vec::new();
    let mut read = 0;
    while read < RESPONSE_READ {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                read += chunk.len();
                let left = RESPONSE_KEPT - kept.len();
                kept.extend(chunk.iter().take(left));
            }
            // The status alone decides, so an incomplete body is no error.
            Ok(None) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The text of an error with its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for error in causes(error) {
        let colon = if text.is_empty() { "" } else { ": " };
        let _ = write!(text, "{colon}{error}");
    }
    text
}

#[cfg(test)]
mod used_up_tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("sending")]
    struct Outer(#[source] io::Error);

    #[test]
    fn used_up_means_are_found_among_the_causes() {
        let outer = |errno: Errno| Outer(io::Error::from_raw_os_error(errno as i32));
        assert!(is_used_up(&outer(Errno::EMFILE)));
        assert!(is_used_up(&io::Error::other(outer(Errno::ENFILE))));
        assert!(is_used_up(&io::Error::from_raw_os_error(
            Errno::ENOMEM as i32
        )));
        assert!(!is_used_up(&outer(Errno::ECONNREFUSED)));
        assert!(!is_used_up(&io::Error::other("x")));
    }
}
