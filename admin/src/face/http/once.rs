//! Requests that are repeated under an idempotency key: for a day the same request gets the same
//! answer, and is not carried out again. Another request under the key is refused.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    http::{HeaderMap, StatusCode, request::Parts},
    response::Response,
};
use postrider_receive::login::slow_hash;
use postrider_store::{Answered, Once};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{sync::Semaphore, task::spawn_blocking};
use tracing::error;

use super::{
    Asked, JSON, header, json_body,
    problem::{PROBLEM, Problem},
    table::{Call, Run},
};

/// How long an answer is kept.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The most bytes of a key.
const KEY_MAX: usize = 255;
/// The most bytes of an answer that is kept.
const ANSWER_MAX: usize = 1 << 20;

/// The keys whose requests are being carried out.
#[derive(Debug)]
pub(super) struct Repeats {
    running: Mutex<HashSet<(String, String)>>,
    /// The place for a hash in progress. A hash takes a core and 19 MiB.
    hashing: Semaphore,
}

impl Default for Repeats {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            hashing: Semaphore::new(1),
        }
    }
}

/// An answer as the store keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    body: Value,
}

/// The idempotency key of a request, if the call takes one.
pub(super) fn key(headers: &HeaderMap, call: &Call) -> Result<Option<String>, Problem> {
    if headers.get("idempotency-key").is_none() || !call.takes_key() {
        return Ok(None);
    }
    let key = header(headers, "idempotency-key").unwrap_or_default();
    match (1..=KEY_MAX).contains(&key.len()) {
        true => Ok(Some(key.to_owned())),
        false => Err(Problem::unreadable(format!(
            "an idempotency key has 1 to {KEY_MAX} printable characters"
        ))),
    }
}

/// A quick hash of a request. The store does not get it: the body may have a password, which could
/// be guessed from it.
pub(super) fn request(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let target = parts.uri.path_and_query().map_or("", |it| it.as_str());
    for part in [parts.method.as_str().as_bytes(), target.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A key that is in use until this is dropped.
struct InUse<'a> {
    repeats: &'a Repeats,
    name: (String, String),
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.repeats.running().remove(&self.name);
    }
}

impl Repeats {
    fn running(&self) -> MutexGuard<'_, HashSet<(String, String)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hash of a request from which nobody can guess the passwords in it.
    async fn slow_hash(
        &self,
        owner: &str,
        key: &str,
        request: [u8; 32],
    ) -> Result<[u8; 32], Problem> {
        let mut salt = [0; 16];
        let hash = Sha256::new()
            .chain_update(owner)
            .chain_update([0])
            .chain_update(key);
        salt.iter_mut()
            .zip(hash.finalize())
            .for_each(|(to, from)| *to = from);
        let _place = self.hashing.acquire().await.map_err(Problem::internal)?;
        let hashed = spawn_blocking(move || slow_hash(&request, salt)).await;
        hashed
            .map_err(Problem::internal)?
            .map_err(Problem::internal)
    }

    /// The answer that was given before, or the answer of the call.
    pub(super) async fn answer(
        &self,
        key: String,
        request: [u8; 32],
        asked: Asked,
        run: Run,
    ) -> Result<Response, Problem> {
        // The webapi keeps answers under the names of accounts. No account has a slash.
        let owner = format!("api/{}", asked.access.name);
        let name = (owner.clone(), key.clone());
        if !self.running().insert(name.clone()) {
            let text = "a request with this idempotency key is being carried out";
            return Err(Problem::conflict(text));
        }
        let _in_use = InUse {
            repeats: self,
            name,
        };
        let request = self.slow_hash(&owner, &key, request).await?;
        let context = asked.context.clone();
        let now = context.clock.now();
        if let Some(answered) = context.store.answered(&owner, &key, now).await? {
            return earlier(&answered, request);
        }
        let result = run(asked).await;
        let (status, body) = match &result {
            Ok(answer) => (StatusCode::OK, answer.json(false)),
            Err(problem) => (problem.status(), Some(problem.body())),
        };
        let kept = body.filter(|_| !status.is_server_error()).map(|body| Kept {
            status: status.as_u16(),
            body,
        });
        if let Some(answer) = kept.and_then(|kept| serde_json::to_vec(&kept).ok())
            && answer.len() <= ANSWER_MAX
        {
            let once = Once {
                account: owner,
                key,
                request,
                answer,
                now,
                until: now.after(DAY),
            };
            if let Err(error) = context.store.keep_answer(once).await {
                error!(%error, "answer for an idempotency key not kept");
            }
        }
        result.map(super::Answer::into_response)
    }
}

fn earlier(answered: &Answered, request: [u8; 32]) -> Result<Response, Problem> {
    if answered.request != request {
        let text = "the idempotency key was used for another request";
        return Err(Problem::conflict(text));
    }
    let kept: Kept = serde_json::from_slice(&answered.answer).map_err(Problem::internal)?;
    let status = StatusCode::from_u16(kept.status).map_err(Problem::internal)?;
    let kind = match status.is_success() {
        true => JSON,
        false => PROBLEM,
    };
    Ok(json_body(status, &kept.body, kind))
}
