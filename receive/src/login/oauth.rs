//! Tokens of an OAuth authorization server, which says what they stand for (RFC 7662).

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_config::{OauthConfig, Static};
use postrider_store::Time;
use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::warn;

/// The time for a question.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time for which a good answer counts.
const GOOD: Duration = Duration::from_secs(5 * 60);
/// The time for which a bad answer counts.
const BAD: Duration = Duration::from_secs(30);
/// The time for which it counts that there was no answer.
const NO_ANSWER: Duration = Duration::from_secs(1);
/// The most questions at a time. Further ones wait.
const QUESTIONS_MAX: usize = 32;
/// The shortest time between two lines of the log about missing answers.
const TOLD: Duration = Duration::from_secs(10);
/// The most answers that are remembered.
const REMEMBERED_MAX: usize = 10_000;
/// The most bytes of an answer.
const ANSWER_MAX: usize = 64 * 1024;

/// Asks an authorization server about tokens, and remembers the answers.
pub struct Oauth {
    client: Client,
    url: Url,
    settings: OauthConfig,
    /// By SHA-256 of the token.
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
    /// One place for each question.
    questions: Semaphore,
    silence: Mutex<Silence>,
}

/// The authorization server when it gives no answers.
#[derive(Default)]
struct Silence {
    /// Nobody is asked until then: the server could not be reached.
    until: Option<Instant>,
    /// The end of the time for each token that got no answer. The server was reached then, so other
    /// tokens may get one.
    tokens: HashMap<[u8; 32], Instant>,
    /// The next line of the log may come then.
    next_line: Option<Instant>,
    /// The missing answers since the last line.
    untold: u64,
}

impl Silence {
    /// There was no answer about this token a moment ago.
    fn counts_for(&self, token: &[u8; 32], now: Instant) -> bool {
        let until = self
            .until
            .into_iter()
            .chain(self.tokens.get(token).copied());
        until.max().is_some_and(|until| now < until)
    }

    fn note(&mut self, token: [u8; 32], error: &NoAnswer, now: Instant) {
        let until = now + NO_ANSWER;
        match error {
            NoAnswer::Unreachable(_) => self.until = Some(until),
            NoAnswer::Unusable(_) => {
                self.tokens.retain(|_, until| now < *until);
                if self.tokens.len() < REMEMBERED_MAX {
                    self.tokens.insert(token, until);
                }
            }
            NoAnswer::Recently | NoAnswer::Busy => {}
        }
    }

    /// Counts a missing answer. Some: it is time for a line of the log, about this many.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.next_line.is_some_and(|next| now < next) {
            return None;
        }
        self.next_line = Some(now + TOLD);
        Some(std::mem::take(&mut self.untold))
    }
}

#[derive(Clone)]
struct Remembered {
    meaning: Meaning,
    until: Time,
}

/// The meaning of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It is good.
    Good(Holder),
    /// It is not good, or not for us.
    Bad,
}

/// What a good token stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The names of the user. The first that is a login counts.
    pub names: Vec<String>,
    /// The scopes.
    pub scopes: Vec<String>,
    /// The tenant, as the authorization server names it. None: it names none.
    pub tenant: Option<String>,
}

impl Meaning {
    /// The same, if the token has all these scopes, with blanks between them. Else it is not good.
    #[must_use]
    pub fn within(self, wanted: &str) -> Self {
        let has = |holder: &Holder| {
            let mut wanted = wanted.split_ascii_whitespace();
            wanted.all(|wanted| holder.scopes.iter().any(|scope| scope == wanted))
        };
        match self {
            Self::Good(holder) if has(&holder) => Self::Good(holder),
            _ => Self::Bad,
        }
    }
}

/// The authorization server gave no answer. The text is for the log.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// It can't be reached, or took too long.
    #[error("the authorization server gave no answer: {0}")]
    Unreachable(String),
    /// It answered, and not as RFC 7662 says.
    #[error("the authorization server gave no answer: {0}")]
    Unusable(String),
    /// There was no answer a moment ago, so it was not asked.
    #[error("the authorization server gave no answer a moment ago")]
    Recently,
    /// There are too many questions.
    #[error("too many questions wait for the authorization server")]
    Busy,
}

/// The setup failed.
#[derive(Debug, thiserror::Error)]
pub enum OauthError {
    /// The URL can't be used.
    #[error("oauth.introspection_url: {0}")]
    Url(String),
    /// A file with CAs can't be read.
    #[error("tls.ca_files: {0}")]
    Roots(String),
    /// The HTTP client can't be made.
    #[error("failed to set up the client for oauth.introspection_url: {0}")]
    Client(reqwest::Error),
}

/// An answer of RFC 7662 §2.2, as far as it is needed.
#[derive(Deserialize)]
struct Answer {
    active: bool,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    aud: Option<Audience>,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Oauth {
    /// Sets up the questions. None: the configuration names no
    /// authorization server.
    ///
    /// # Errors
    /// If a setting can't be used.
    pub fn new(statics: &Static) -> Result<Option<Self>, OauthError> {
        let Some(settings) = &statics.oauth.server else {
            return Ok(None);
        };
        let url = settings.introspection_url.parse();
        let url = url.map_err(|error| OauthError::Url(format!("{error}")))?;
        let roots = crate::roots::extra(statics).map_err(OauthError::Roots)?;
        let builder = Client::builder()
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .no_proxy();
        let builder = match roots.is_empty() {
            true => builder,
            false => builder.tls_certs_merge(roots),
        };
        Ok(Some(Self {
            client: builder.build().map_err(OauthError::Client)?,
            url,
            settings: settings.clone(),
            remembered: Mutex::default(),
            questions: Semaphore::new(QUESTIONS_MAX),
            silence: Mutex::default(),
        }))
    }

    /// The meaning of a token at submission. It needs the scopes of the configuration.
    ///
    /// # Errors
    /// If the authorization server gives no answer that can be understood.
    pub async fn meaning(&self, token: &str, now: Time) -> Result<Meaning, NoAnswer> {
        let meaning = self.meaning_of(token, now).await?;
        Ok(meaning.within(&self.settings.scope))
    }

    /// The meaning of a token, whatever its scopes are.
    ///
    /// # Errors
    /// If the authorization server gives no answer that can be understood.
    pub async fn meaning_of(&self, token: &str, now: Time) -> Result<Meaning, NoAnswer> {
        let found = self.find(token, now).await;
        found.inspect_err(|error| {
            if let Some(count) = self.silence().count(Instant::now()) {
                warn!(%error, count, "tokens were not checked");
            }
        })
    }

    async fn find(&self, token: &str, now: Time) -> Result<Meaning, NoAnswer> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.known(&hash, now)? {
            return Ok(known);
        }
        let place = timeout(TIMEOUT, self.questions.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(NoAnswer::Busy);
        };
        // Another login may have asked meanwhile.
        if let Some(known) = self.known(&hash, now)? {
            return Ok(known);
        }
        let answer = self.ask(token).await;
        let answer = answer.inspect_err(|error| {
            self.silence().note(hash, error, Instant::now());
        })?;
        let found = judge(&self.settings, answer, now);
        self.remember(hash, found.clone(), now);
        Ok(found.meaning)
    }

    /// What is remembered of a token.
    fn known(&self, token: &[u8; 32], now: Time) -> Result<Option<Meaning>, NoAnswer> {
        let known = self.remembered().get(token).cloned();
        if let Some(known) = known.filter(|known| now < known.until) {
            return Ok(Some(known.meaning));
        }
        match self.silence().counts_for(token, Instant::now()) {
            true => Err(NoAnswer::Recently),
            false => Ok(None),
        }
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks about a token (RFC 7662 §2.1).
    async fn ask(&self, token: &str) -> Result<Answer, NoAnswer> {
        let failed = |error: reqwest::Error| NoAnswer::Unreachable(error.without_url().to_string());
        let mut request = self.client.post(self.url.clone());
        if let Some(id) = &self.settings.client_id {
            // RFC 6749 §2.3.1: both are in the form of a URL.
            let secret = self.settings.client_secret.as_ref();
            let secret = secret.map(|secret| form(secret.as_str()));
            request = request.basic_auth(form(id), secret);
        }
        let form = [("token", token), ("token_type_hint", "access_token")];
        let request = request.form(&form);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(NoAnswer::Unusable(format!("it answered {status}")));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > ANSWER_MAX {
                let text = format!("its answer is longer than {ANSWER_MAX} bytes");
                return Err(NoAnswer::Unusable(text));
            }
            body.extend_from_slice(&piece);
        }
        serde_json::from_slice(&body)
            .map_err(|error| format!("its answer is not that of RFC 7662: {error}"))
            .map_err(NoAnswer::Unusable)
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<[u8; 32], Remembered>> {
        let remembered = self.remembered.lock();
        remembered.unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, hash: [u8; 32], found: Remembered, now: Time) {
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, known| now < known.until);
        }
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(hash, found);
    }
}

impl fmt::Debug for Oauth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oauth")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// A text in the form of a URL's query.
fn form(text: &str) -> String {
    let mut url = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                url.push(char::from(byte));
            }
            b' ' => url.push('+'),
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

/// What an answer says, and how long it counts.
fn judge(settings: &OauthConfig, answer: Answer, now: Time) -> Remembered {
    let bad = Remembered {
        meaning: Meaning::Bad,
        until: now.after(BAD),
    };
    // A time beyond the end of time is the end of time.
    let expires = answer.exp.map(|seconds| Time((seconds * 1e6) as i64));
    let scope = answer.scope.unwrap_or_default();
    let audience = settings.audience.as_ref();
    let is_for_us = audience.is_none_or(|wanted| match &answer.aud {
        Some(Audience::One(one)) => one == wanted,
        Some(Audience::Several(several)) => several.contains(wanted),
        None => false,
    });
    let is_over = expires.is_some_and(|expires| expires <= now);
    if !answer.active || is_over || !is_for_us {
        return bad;
    }
    let claims: &[&str] = match &settings.username_claim {
        Some(claim) => &[claim.as_str()],
        None => &["username", "email", "sub"],
    };
    // Some servers let users enter any address, and say so (OpenID Connect Core §5.1).
    let verified = answer.others.get("email_verified");
    let is_verified = verified.is_none_or(|it| it == true || it == "true");
    let claims = claims
        .iter()
        .filter(|claim| is_verified || **claim != "email");
    let names = claims.filter_map(|claim| answer.others.get(*claim));
    let names = names.filter_map(|name| name.as_str().map(str::to_owned));
    let tenant = settings.tenant_claim.as_ref();
    let tenant = tenant.and_then(|claim| answer.others.get(claim));
    let tenant = tenant.and_then(|tenant| match tenant {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    let scopes = scope.split_ascii_whitespace().map(str::to_owned);
    let until = now.after(GOOD);
    let holder = Holder {
        names: names.collect(),
        scopes: scopes.collect(),
        tenant,
    };
    Remembered {
        meaning: Meaning::Good(holder),
        until: expires.map_or(until, |expires| expires.min(until)),
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
