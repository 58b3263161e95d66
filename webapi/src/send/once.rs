//! Idempotency keys. A key names a request for a day: repeating the request gives the answer of the
//! first call, and sends nothing.

use std::{pin::pin, time::Duration};

use futures_util::StreamExt;
use postrider_queue::{DoOnce, MakeAnswer, Named};
use postrider_store::{Answered, QueueId, StoreError, Time};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{SendResponse, SendSubmission};
use crate::{
    call::{
        auth::User,
        context::CallContext,
        data::{Data, PIECE},
    },
    compose::Files,
    error::{ApiError, Code},
};

/// How long a key is remembered.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The most bytes of a key.
const KEY_MAX: usize = 255;

/// A key and a hash of its request.
#[derive(Clone, Debug)]
pub(crate) struct Once {
    key: String,
    request: [u8; 32],
}

/// A hash of several values, each with its length.
struct Hash(Sha256);

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    async fn add_data(&mut self, data: &Data) -> Result<(), StoreError> {
        self.0.update(data.len().to_be_bytes());
        let mut pieces = pin!(data.pieces(PIECE));
        while let Some(piece) = pieces.next().await {
            self.0.update(piece?);
        }
        Ok(())
    }
}

/// The answer of Send as the store keeps it. The store keeps the first number besides.
#[derive(Serialize, Deserialize)]
struct SavedAnswer {
    message_id: String,
    /// The addresses as given, with their fromids.
    submissions: Vec<(String, String)>,
    /// The number of each submission less the first number. Empty in answers of older versions:
    /// their numbers follow each other.
    #[serde(default)]
    places: Vec<u64>,
}

impl Once {
    /// The key of a request.
    ///
    /// # Errors
    /// If the text is no key.
    pub(crate) async fn new(
        key: &str,
        user: &User,
        request: &Data,
        files: &Files,
    ) -> Result<Self, ApiError> {
        let fine = (1..=KEY_MAX).contains(&key.len()) && !key.contains(char::is_control);
        if !fine {
            let text =
                format!("an idempotency key has 1 to {KEY_MAX} bytes and no control characters");
            return Err(ApiError::user(text));
        }
        let mut hash = Hash(Sha256::new());
        // The login is the default of From.
        hash.add(user.login.to_string().as_bytes());
        hash.add_data(request).await?;
        for list in [&files.alternative, &files.inline, &files.attached] {
            hash.add(&(list.len() as u64).to_be_bytes());
            for file in list {
                hash.add(file.name.as_bytes());
                hash.add(file.content_type.as_bytes());
                hash.add(file.content_id.as_bytes());
                hash.add_data(&file.data).await?;
            }
        }
        Ok(Self {
            key: key.to_owned(),
            request: hash.0.finalize().into(),
        })
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The answer of an earlier call of Send with this key.
    ///
    /// # Errors
    /// If the earlier call had another request.
    pub(super) async fn earlier(
        &self,
        context: &CallContext,
        user: &User,
        now: Time,
    ) -> Result<Option<SendResponse>, ApiError> {
        let answered = self.answered(context, user, now).await?;
        answered.as_ref().map(read).transpose()
    }

    /// The saved answer of an earlier call with this key.
    ///
    /// # Errors
    /// If the earlier call had another request.
    pub(super) async fn answered(
        &self,
        context: &CallContext,
        user: &User,
        now: Time,
    ) -> Result<Option<Answered>, ApiError> {
        let Some(answered) = context
            .store
            .answered(&user.account, &self.key, now)
            .await?
        else {
            return Ok(None);
        };
        if answered.request != self.request {
            return Err(ApiError::new(
                Code::IdempotencyConflict,
                "the idempotency key was used for another request in the last 24 hours",
            ));
        }
        Ok(Some(answered))
    }

    /// What the queue needs to send a message once.
    pub(super) fn for_queue(&self, message_id: &str, given: &[String], now: Time) -> DoOnce {
        let (message_id, given) = (message_id.to_owned(), given.to_vec());
        let answer = move |named: &[Named]| {
            let from_ids = named.iter().map(|named| named.from_id.clone());
            let saved = SavedAnswer {
                message_id,
                submissions: given.into_iter().zip(from_ids).collect(),
                places: named.iter().map(|named| named.place).collect(),
            };
            // JSON can express all strings.
            serde_json::to_vec(&saved).unwrap_or_default()
        };
        self.with_answer(Box::new(answer), now)
    }

    /// What the queue needs to do something once and save this answer.
    pub(super) fn with_answer(&self, answer: MakeAnswer, now: Time) -> DoOnce {
        DoOnce {
            key: self.key.clone(),
            request: self.request,
            until: now.after(DAY),
            answer,
        }
    }
}

/// The saved answer of another call with the same key that was faster than this one.
///
/// # Errors
/// If the earlier call had another request.
pub(super) async fn by_another(
    once: Option<&Once>,
    context: &CallContext,
    user: &User,
    now: Time,
) -> Result<Answered, ApiError> {
    let answered = match once {
        Some(once) => once.answered(context, user, now).await?,
        None => None,
    };
    let gone = || {
        ApiError::new(
            Code::Server,
            "the message was sent before, but the answer is gone",
        )
    };
    answered.ok_or_else(gone)
}

/// Reads what the store kept of an answer.
pub(super) fn saved<T: DeserializeOwned>(answered: &Answered) -> Result<T, ApiError> {
    let text = str::from_utf8(&answered.answer)
        .map_err(|error| ApiError::new(Code::Server, error.to_string()))?;
    serde_json::from_str(text).map_err(|error| ApiError::new(Code::Server, error.to_string()))
}

/// The answer of Send from a saved one.
pub(super) fn read(answered: &Answered) -> Result<SendResponse, ApiError> {
    saved(answered).map(|answer: SavedAnswer| answer.response(answered.first))
}

impl SavedAnswer {
    fn response(self, first: QueueId) -> SendResponse {
        let places = match self.places.is_empty() {
            true => (0..self.submissions.len() as u64).collect(),
            false => self.places,
        };
        let submissions = self.submissions.into_iter().zip(places);
        let submissions = submissions.map(|((address, from_id), place)| SendSubmission {
            address,
            queue_msg_id: first.0 + place,
            from_id,
        });
        SendResponse {
            message_id: self.message_id,
            submissions: submissions.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_answers_have_their_numbers() {
        let numbers = |places: &str| {
            let saved = format!(
                r#"{{"message_id":"<1@x>","submissions":[["a","f"],["b",""],["a","f"]]{places}}}"#
            );
            let saved: SavedAnswer = serde_json::from_str(&saved).unwrap();
            let response = saved.response(QueueId(7));
            let rows = response.submissions.iter();
            rows.map(|row| row.queue_msg_id).collect::<Vec<_>>()
        };
        assert_eq!(numbers(r#","places":[0,1,0]"#), [7, 8, 7]);
        // An answer of an older version.
        assert_eq!(numbers(""), [7, 8, 9]);
    }
}
