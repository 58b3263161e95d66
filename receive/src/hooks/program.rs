//! One program of the configuration.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use postrider_config::{
    Hook, HookConditions, HookError, HookKind, HookQuarantine, HookStage, Milter, Static,
};
use postrider_observe::{
    Metrics,
    metrics::{Counter, Family, Gauge, Histogram, HookResult, Slow},
};
use postrider_store::{Scratch, Store, StoreError};
use reqwest::Certificate;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{
    answer::{Answer, Failure, Vote},
    asked::Asked,
    condition,
    health::{Condition, ConditionChange, Health, Watch},
    http::{AnswerMemory, Endpoint, SetupError},
    milter::MilterClient,
    raw::RawPieces,
    rspamd,
    stage::{self, RequestBody},
};
use crate::SessionContext;

/// How long a program has to take a connection.
const REACHED_WITHIN: Duration = Duration::from_secs(10);

/// A program that has a say.
pub struct Program {
    name: String,
    kind: Kind,
    stages: Vec<HookStage>,
    conditions: HookConditions,
    fates: Fates,
    quarantine: HookQuarantine,
    watch: Watch,
    counts: Counts,
}

/// How a program is asked.
pub(super) enum Kind {
    Milter(Milter),
    Rspamd(Endpoint),
    Stage(Endpoint, Box<Hook>),
}

/// The fate of mail when a program gives no answer that counts.
#[derive(Clone, Copy, Debug)]
struct Fates {
    unavailable: HookError,
    timeout: HookError,
    invalid: HookError,
}

/// What is counted of a program.
struct Counts {
    calls: Arc<Family<Counter, HookResult>>,
    durations: Arc<Family<Histogram<Slow>, ()>>,
    down: Arc<Family<Gauge, ()>>,
}

/// What came of asking a program.
#[derive(Debug)]
pub(crate) struct Told {
    /// The answer, or that of the configuration in the place of one.
    pub(crate) answer: Answer,
    /// Why there was no answer.
    pub(crate) failure: Option<Failure>,
    /// The time that the program took. None: it was left out.
    pub(crate) took: Option<Duration>,
}

/// A question could not be put to a program.
#[derive(Debug)]
pub(super) enum NotTold {
    /// The program gave no answer that counts.
    Failed(Failure),
    /// Our own store failed.
    Store(StoreError),
}

impl From<StoreError> for NotTold {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for NotTold {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Counts {
    fn of(metrics: &Metrics, name: &str) -> Self {
        Self {
            calls: metrics.hook_calls_total.named([name]),
            durations: metrics.hook_duration_seconds.named([name]),
            down: metrics.hook_down.named([name]),
        }
    }
}

impl Program {
    /// The program of `hooks.NAME`.
    ///
    /// # Errors
    /// If a secret can't be read.
    pub(super) fn of_hook(
        name: &str,
        hook: &Hook,
        roots: &[Certificate],
        metrics: &Metrics,
    ) -> Result<Self, SetupError> {
        let endpoint = Endpoint::new(name, hook, roots)?;
        Ok(Self {
            name: name.to_owned(),
            kind: match hook.kind {
                HookKind::Stage => Kind::Stage(endpoint, Box::new(hook.clone())),
                HookKind::Rspamd => Kind::Rspamd(endpoint.or_at(rspamd::CHECK_PATH)),
            },
            stages: hook.stages.clone(),
            conditions: hook.conditions.clone(),
            fates: Fates {
                unavailable: hook.on_unavailable,
                timeout: hook.on_timeout,
                invalid: hook.on_invalid,
            },
            quarantine: hook.quarantine,
            watch: Watch::new(hook.breaker, hook.timeout),
            counts: Counts::of(metrics, name),
        })
    }

    /// The program of `milters.NAME`. It is asked at all stages but AUTH, which milters do not
    /// know.
    pub(super) fn of_milter(name: &str, milter: &Milter, metrics: &Metrics) -> Self {
        use HookStage::{Connect, Data, Ehlo, Mail, Rcpt};
        Self {
            name: name.to_owned(),
            kind: Kind::Milter(milter.clone()),
            stages: vec![Connect, Ehlo, Mail, Rcpt, Data],
            conditions: milter.conditions.clone(),
            fates: Fates {
                unavailable: milter.on_error,
                timeout: milter.on_error,
                invalid: milter.on_error,
            },
            quarantine: HookQuarantine::Hold,
            watch: Watch::new(milter.breaker, milter.timeout),
            counts: Counts::of(metrics, name),
        }
    }

    /// The name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind in words: `milter`, `rspamd` or `stage`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Milter(_) => "milter",
            Kind::Rspamd(_) => "rspamd",
            Kind::Stage(..) => "stage",
        }
    }

    /// Where the program is: a URL without its secrets, or the socket of a milter as the
    /// configuration has it.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.kind {
            Kind::Milter(milter) => milter.socket.to_string(),
            Kind::Rspamd(endpoint) | Kind::Stage(endpoint, _) => endpoint.shown_url(),
        }
    }

    /// Connects to the program, and asks it nothing.
    ///
    /// # Errors
    /// If it can't be reached within ten seconds.
    pub async fn reach(&self, statics: &Static) -> Result<(), Failure> {
        let reached = async {
            match &self.kind {
                Kind::Milter(milter) => MilterClient::new(milter, statics).reach().await,
                Kind::Rspamd(endpoint) | Kind::Stage(endpoint, _) => endpoint.reach().await,
            }
        };
        timeout(REACHED_WITHIN, reached)
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    /// How the program is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.watch.health()
    }

    /// The stages at which the program is asked.
    #[must_use]
    pub fn stages(&self) -> &[HookStage] {
        &self.stages
    }

    /// The configuration of a milter. None: the program is called over HTTP.
    pub(super) const fn milter(&self) -> Option<&Milter> {
        match &self.kind {
            Kind::Milter(milter) => Some(milter),
            Kind::Rspamd(_) | Kind::Stage(..) => None,
        }
    }

    /// Whether the program sees the text of a message as it came, and not as programs before it
    /// have changed it.
    pub(super) const fn sees_received(&self) -> bool {
        matches!(self.kind, Kind::Stage(..))
    }

    /// What quarantine means to the program.
    pub(super) const fn quarantine(&self) -> HookQuarantine {
        self.quarantine
    }

    /// Whether the program may be asked at a listener.
    pub(super) fn is_at(&self, listener: &str) -> bool {
        condition::hold_at(&self.conditions, listener)
    }

    /// Whether the program is asked this question.
    pub(super) fn is_asked(&self, asked: &Asked<'_>) -> bool {
        self.stages.contains(&asked.stage) && condition::hold(&self.conditions, asked)
    }

    /// Asks the program by `ask`, unless it is left out. Counts the call, and what came of it.
    ///
    /// # Errors
    /// If our own store fails.
    pub(super) async fn told(
        &self,
        context: &SessionContext,
        ask: impl Future<Output = Result<Answer, NotTold>>,
    ) -> Result<Told, StoreError> {
        let clock = &context.clock;
        let begun = clock.moment();
        if !self.watch.may_ask(begun) {
            let reason = self.health().reason;
            let failure = Failure::Unavailable(format!("it is left out, since {reason}"));
            return Ok(Told {
                answer: Answer::of(self.fate(&failure)),
                failure: Some(failure),
                took: None,
            });
        }
        let result = ask.await;
        let ended = clock.moment();
        let took = ended.since(begun);
        let (answer, result, failure) = match result {
            Ok(answer) => {
                let result = result_of(&answer.vote);
                (answer, result, None)
            }
            Err(NotTold::Store(error)) => return Err(error),
            Err(NotTold::Failed(failure)) => (
                Answer::of(self.fate(&failure)),
                result_of_failure(&failure),
                Some(failure),
            ),
        };
        let change = match &failure {
            Some(failure @ (Failure::Unavailable(_) | Failure::Timeout)) => {
                self.watch.failed(failure, (ended, clock.now()))
            }
            Some(Failure::Invalid(_)) | None => self.watch.answered(took, clock.now()),
        };
        if let Some(change) = change {
            self.tell(&change);
        }
        self.counts.calls.with(result).inc();
        self.counts.durations.with(()).observe(took);
        Ok(Told {
            answer,
            failure,
            took: Some(took),
        })
    }

    /// The result of an answer whose changes can't be made.
    pub(super) fn cannot(&self, failure: Failure) -> Told {
        Told {
            answer: Answer::of(self.fate(&failure)),
            failure: Some(failure),
            took: None,
        }
    }

    /// Writes the line of a change, and sets the gauge.
    fn tell(&self, change: &ConditionChange) {
        let ConditionChange { from, to, reason } = change;
        let (hook, from, to) = (self.name(), from.as_str(), to.as_str());
        match change.to {
            Condition::Up => info!(hook, from, to, "hook state"),
            Condition::Slow | Condition::Down => warn!(hook, from, to, reason, "hook state"),
        }
        let is_down = change.to == Condition::Down;
        self.counts.down.with(()).set(u64::from(is_down));
    }

    /// What becomes of the mail without an answer.
    fn fate(&self, failure: &Failure) -> Vote {
        let fate = match failure {
            Failure::Unavailable(_) => self.fates.unavailable,
            Failure::Timeout => self.fates.timeout,
            Failure::Invalid(_) => self.fates.invalid,
        };
        match fate {
            HookError::Tempfail => Vote::tempfail(),
            HookError::Accept => Vote::Accept,
            HookError::Quarantine => Vote::Quarantine(failure.to_string()),
            HookError::Reject => Vote::reject(),
        }
    }

    /// The same as an answer.
    pub(super) fn fate_of(&self, failure: &Failure) -> Answer {
        Answer::of(self.fate(failure))
    }

    /// A listener at which the program is asked.
    pub(super) fn some_listener(&self, statics: &Static) -> String {
        let mut names = statics.listeners.keys();
        let found = names.find(|name| self.is_at(name));
        found.cloned().unwrap_or_default()
    }

    /// Calls a program that is called over HTTP. A milter has a connection of its own.
    pub(super) async fn call(
        &self,
        store: &Store,
        asked: &Asked<'_>,
        memory: &mut AnswerMemory,
        seen: &mut Seen,
    ) -> Result<Answer, NotTold> {
        let (endpoint, body, fields) = match &self.kind {
            Kind::Stage(endpoint, hook) => {
                let body = stage_body(store, asked, hook).await?;
                (endpoint, body, stage::fields())
            }
            Kind::Rspamd(endpoint) => {
                let body = whole_text(store, asked).await?;
                (endpoint, body, rspamd::fields(asked))
            }
            Kind::Milter(_) => return Ok(Answer::ACCEPT),
        };
        seen.request(&body).await?;
        let answer = endpoint.post(&fields, &body, memory).await?;
        seen.response(&answer);
        Ok(match &self.kind {
            Kind::Rspamd(_) => rspamd::read(&answer)?.answer,
            Kind::Stage(..) | Kind::Milter(_) => stage::read(asked.stage, &answer)?,
        })
    }
}

/// The bodies of a call, for people who want to see them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether anybody wants to see them.
    pub(super) wanted: bool,
    pub(super) request: Option<Bytes>,
    pub(super) response: Option<Bytes>,
}

/// The most bytes of a body that are shown.
const SEEN_MAX: usize = 64 * 1024;

impl Seen {
    async fn request(&mut self, body: &Scratch) -> Result<(), StoreError> {
        if self.wanted {
            self.request = Some(body.read(0..SEEN_MAX as u64).await?);
        }
        Ok(())
    }

    fn response(&mut self, body: &Bytes) {
        if self.wanted {
            self.response = Some(body.slice(..body.len().min(SEEN_MAX)));
        }
    }
}

/// The body of a call of a stage hook.
async fn stage_body(store: &Store, asked: &Asked<'_>, hook: &Hook) -> Result<Scratch, StoreError> {
    let mut request = RequestBody::new(asked, hook.into());
    let mut writer = store.text_writer();
    while let Some(piece) = request.next_piece().await? {
        writer.write(&piece).await?;
    }
    writer.into_scratch().await
}

/// The whole message, as it is now.
async fn whole_text(store: &Store, asked: &Asked<'_>) -> Result<Scratch, StoreError> {
    let mut writer = store.text_writer();
    if let Some(draft) = asked.draft {
        let mut pieces = RawPieces::of(draft);
        while let Some(piece) = pieces.next_piece().await? {
            writer.write(&piece).await?;
        }
    }
    writer.into_scratch().await
}

fn result_of(vote: &Vote) -> HookResult {
    match vote {
        Vote::Accept => HookResult::Accept,
        Vote::Refuse(reply) if reply.code().is_transient() => HookResult::TempFail,
        Vote::Refuse(_) => HookResult::Reject,
        Vote::Discard(_) => HookResult::Discard,
        Vote::Quarantine(_) | Vote::Junk(_) => HookResult::Quarantine,
    }
}

const fn result_of_failure(failure: &Failure) -> HookResult {
    match failure {
        Failure::Unavailable(_) => HookResult::Error,
        Failure::Timeout => HookResult::Timeout,
        Failure::Invalid(_) => HookResult::Invalid,
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}
