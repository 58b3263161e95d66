//! Telling rspamd what users say about their mail.
//!
//! Users do not wait for that. A lesson waits in a queue with bounds, and one task gives one lesson
//! after the other. The task is there only while there is something to tell.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_config::{Hook, HookBreaker, HookController};
use postrider_smtp::Address;
use postrider_store::{Clock, Mail, Scratch, Store, StoreError};
use reqwest::{Certificate, StatusCode};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{
    answer::Failure,
    health::{Condition, Watch},
    http::{AnswerMemory, Endpoint, SetupError, secret},
    program::NotTold,
    rspamd::learn::{self, Learned, Lesson},
};
use crate::memory::TextMemory;

/// The port of rspamd's controller.
const CONTROLLER_PORT: u16 = 11334;
/// The most lessons that wait. A mail that comes while so many do teaches nothing.
const WAITING_MAX: usize = 1000;
/// A lesson that fails so often is dropped.
const TRIES: u32 = 10;
/// The largest answer.
const ANSWER_MAX: u64 = 64 * 1024;
/// The bytes of a message that are read at a time.
const PIECE: u64 = 64 * 1024;

/// The part of a program that learns, and what it is to learn.
#[derive(Debug)]
pub(super) struct Teacher {
    /// The name of the program in the configuration.
    name: String,
    spam: Endpoint,
    ham: Endpoint,
    password: Option<String>,
    pause: Duration,
    watch: Watch,
    memory: TextMemory,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    tasks: VecDeque<Task>,
    /// A task works on them.
    is_worked_on: bool,
    /// The log says that there are too many.
    is_full: bool,
}

/// A mail, and what its user says about it.
#[derive(Debug)]
struct Task {
    mail: Mail,
    lesson: Lesson,
}

impl Teacher {
    /// The controller of `hooks.NAME`. None: the program learns nothing.
    ///
    /// # Errors
    /// If the password can't be read.
    pub(super) fn of_hook(
        name: &str,
        hook: &Hook,
        roots: &[Certificate],
    ) -> Result<Option<Self>, SetupError> {
        let Some(HookController { url, password_file }) = &hook.learns else {
            return Ok(None);
        };
        let mut called = hook.clone();
        // The pauses between the tries are here.
        called.retry_max = 0;
        called.max_response_size = postrider_config::Size(ANSWER_MAX);
        called.url = url.clone().unwrap_or(called.url);
        // rspamd refuses a lesson that it knows with 404, and says why.
        let controller = Endpoint::new(name, &called, roots)?.also_with(StatusCode::NOT_FOUND);
        let controller = match url {
            Some(_) => controller,
            None => controller.at_port(CONTROLLER_PORT),
        };
        let key = format!("hooks.{name}.controller.password_file");
        let password = password_file.as_ref().map(|file| secret(file, &key));
        let breaker = HookBreaker {
            failures: 1,
            ..hook.breaker
        };
        Ok(Some(Self {
            name: name.to_owned(),
            spam: controller.below(Lesson::Spam.path()),
            ham: controller.below(Lesson::Ham.path()),
            password: password.transpose()?,
            pause: hook.breaker.pause,
            watch: Watch::new(breaker, hook.timeout),
            memory: TextMemory::new(2 * ANSWER_MAX),
            waiting: Mutex::default(),
        }))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the user says about a mail. Nobody waits for rspamd.
    pub(super) fn teach(
        self: &Arc<Self>,
        store: &Store,
        clock: &Arc<dyn Clock>,
        (mail, lesson): (&Mail, Lesson),
    ) {
        let mut waiting = self.waiting();
        if waiting.tasks.len() >= WAITING_MAX {
            if !std::mem::replace(&mut waiting.is_full, true) {
                let hook = self.name.as_str();
                warn!(
                    hook,
                    waiting = WAITING_MAX,
                    "rspamd misses lessons: too many wait"
                );
            }
            return;
        }
        waiting.tasks.push_back(Task {
            mail: mail.clone(),
            lesson,
        });
        if !std::mem::replace(&mut waiting.is_worked_on, true) {
            let (teacher, store, clock) = (Arc::clone(self), store.clone(), Arc::clone(clock));
            tokio::spawn(async move { teacher.work(&store, &*clock).await });
        }
    }

    /// Gives the lessons that wait, until there are none.
    async fn work(&self, store: &Store, clock: &dyn Clock) {
        while let Some(task) = self.next() {
            self.give(store, clock, &task).await;
        }
    }

    fn next(&self) -> Option<Task> {
        let mut waiting = self.waiting();
        let task = waiting.tasks.pop_front();
        waiting.is_full = waiting.is_full && task.is_some();
        waiting.is_worked_on = task.is_some();
        task
    }

    /// Gives a lesson, with pauses between the tries.
    async fn give(&self, store: &Store, clock: &dyn Clock, task: &Task) {
        let (hook, mail, lesson) = (self.name.as_str(), task.mail.id, task.lesson.path());
        for _ in 0..TRIES {
            let begun = clock.moment();
            match self.tell(store, task).await {
                Ok(learned) => {
                    let took = clock.moment().since(begun);
                    self.note(self.watch.answered(took, clock.now()));
                    match learned {
                        Learned::Yes => debug!(hook, %mail, lesson, "rspamd learned"),
                        Learned::No(reason) => {
                            debug!(hook, %mail, lesson, reason, "rspamd did not learn");
                        }
                    }
                    return;
                }
                Err(NotTold::Store(error)) => {
                    // The mail is gone, or damaged.
                    debug!(hook, %mail, lesson, %error, "rspamd can't learn from a mail");
                    return;
                }
                Err(NotTold::Failed(failure)) => {
                    let now = (clock.moment(), clock.now());
                    self.note(self.watch.failed(&failure, now));
                    if matches!(failure, Failure::Invalid(_)) {
                        return;
                    }
                    sleep(self.pause).await;
                }
            }
        }
        debug!(hook, %mail, lesson, "rspamd missed a lesson");
    }

    async fn tell(&self, store: &Store, task: &Task) -> Result<Learned, NotTold> {
        let body = whole(store, &task.mail).await?;
        let recipient: Option<&Address> = task.mail.smtp.as_ref().map(|smtp| &smtp.rcpt_to);
        let fields = learn::fields(self.password.as_deref(), recipient)?;
        let share = self.memory.share(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let endpoint = match task.lesson {
            Lesson::Spam => &self.spam,
            Lesson::Ham => &self.ham,
        };
        let mut memory = AnswerMemory::new(share);
        let answer = endpoint.post(&fields, &body, &mut memory).await?;
        Ok(learn::read(&answer)?)
    }

    /// Writes the line of a change.
    fn note(&self, change: Option<super::health::ConditionChange>) {
        let Some(change) = change else { return };
        let (hook, from, to) = (&*self.name, change.from.as_str(), change.to.as_str());
        let reason = change.reason;
        match change.to {
            Condition::Up => info!(hook, part = "controller", from, to, "hook state"),
            Condition::Slow | Condition::Down => {
                warn!(hook, part = "controller", from, to, reason, "hook state");
            }
        }
    }
}

/// The whole text of a mail.
async fn whole(store: &Store, mail: &Mail) -> Result<Scratch, StoreError> {
    let pieces = store.mail_message(mail).await?.into_pieces();
    let mut writer = store.text_writer();
    let mut at = 0;
    loop {
        let piece = pieces.piece(at, PIECE).await?;
        if piece.is_empty() {
            return writer.into_scratch().await;
        }
        at += piece.len() as u64;
        writer.write(&piece).await?;
    }
}

#[cfg(test)]
mod tests;
