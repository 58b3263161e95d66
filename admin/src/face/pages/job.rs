//! Work on many things that goes on while its visitor looks on, or does something else. It tells
//! how far it came, and can be stopped.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use askama::Template;

use super::{
    answer::{Answer, Trouble, sentence},
    asked::{Asked, random_key},
    frame::Frame,
    live::{self, Live, Part, Shown},
    shown::{Count, When, counted},
};
use crate::{
    AdminError,
    face::task,
    op::{Operation, Sink, messages::Portion},
};

/// The most pieces of work that are remembered.
const KEPT: usize = 200;
/// How often a page shows how far the work came.
const EVERY: Duration = Duration::from_millis(500);
/// Work that ends within this time is told of without a page of its own.
const SHORT: Duration = Duration::from_millis(400);

/// Work on many things.
#[derive(Debug)]
struct Job {
    id: String,
    /// Who began it. Others do not see it.
    owner: String,
    /// What is done, as a title.
    title: String,
    /// What was done to things, such as `held`.
    past: &'static str,
    begun: String,
    /// Where its visitor came from.
    back: String,
    done: AtomicU64,
    left_alone: AtomicU64,
    is_stopped: AtomicBool,
    /// How it ended; None: it goes on.
    ended: Mutex<Option<Result<(), String>>>,
}

/// The work that was begun lately, the oldest first.
#[derive(Default)]
pub(super) struct Jobs {
    known: Mutex<VecDeque<Arc<Job>>>,
}

impl Jobs {
    fn add(&self, job: &Arc<Job>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.pop_front();
        }
        known.push_back(Arc::clone(job));
    }

    fn find(&self, asked: &Asked) -> Result<Arc<Job>, Trouble> {
        let (id, owner) = (asked.element(0), owner(asked));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = known.iter();
        let found = known.find(|job| job.id == id && job.owner == owner);
        found.cloned().ok_or(Trouble::NoPage)
    }
}

fn owner(asked: &Asked) -> String {
    format!("{:?} {}", asked.area, asked.account())
}

impl Job {
    fn is_ended(&self) -> bool {
        self.ended().is_some()
    }

    fn ended(&self) -> Option<Result<(), String>> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.clone()
    }

    /// What was done so far, as a sentence.
    fn told(&self) -> String {
        let done = counted(self.done.load(Ordering::Relaxed), "message", "messages");
        let mut told = format!("{done} {}", self.past);
        let left = self.left_alone.load(Ordering::Relaxed);
        if left > 0 {
            let left = counted(left, "message was", "messages were");
            told.push_str(&format!("; {left} being delivered and left alone"));
        }
        sentence(&told)
    }
}

/// Counts what was done, and ends the operation when its visitor wants that.
struct Counting(Arc<Job>);

impl Sink<Portion> for Counting {
    async fn send(&mut self, items: Vec<Portion>) -> Result<(), AdminError> {
        let Self(job) = self;
        for portion in items {
            job.done.fetch_add(portion.done, Ordering::Relaxed);
            let left_alone = &job.left_alone;
            left_alone.fetch_add(portion.in_delivery, Ordering::Relaxed);
        }
        match job.is_stopped.load(Ordering::Relaxed) {
            true => {
                let done = job.done.load(Ordering::Relaxed);
                Err(AdminError::unavailable(format!(
                    "stopped by its caller after {done} messages"
                )))
            }
            false => Ok(()),
        }
    }
}

/// Begins an operation on many messages, and leads to a page that tells how far it came; or to
/// `back`, if it ends soon. `past` says what is done to them, such as `held`.
pub(super) async fn begin(
    asked: &Arc<Asked>,
    title: &str,
    past: &'static str,
    back: &str,
    operation: impl Operation<Item = Portion> + 'static,
) -> Result<Answer, Trouble> {
    let job = Arc::new(Job {
        id: random_key(),
        owner: owner(asked),
        title: title.to_owned(),
        past,
        begun: asked.now().to_string(),
        back: back.to_owned(),
        done: AtomicU64::new(0),
        left_alone: AtomicU64::new(0),
        is_stopped: AtomicBool::new(false),
        ended: Mutex::new(None),
    });
    asked.shared().jobs.add(&job);
    let (context, worked) = (asked.context.clone(), Arc::clone(&job));
    let work = async move {
        let mut counting = Counting(Arc::clone(&worked));
        let result = operation.run(&context, &mut counting).await;
        let result = result.map_err(|error| error.text);
        *worked.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    };
    if tokio::time::timeout(SHORT, task::begin(work)).await.is_ok() {
        return match job.ended() {
            Some(Ok(())) => Ok(asked.done_at(job.told(), back)),
            Some(Err(error)) => Err(AdminError::unavailable(error).into()),
            None => Err(AdminError::internal("the work panicked").into()),
        };
    }
    Ok(Answer::SeeOther(asked.url(&format!("work/{}", job.id))))
}

#[derive(Template)]
#[template(path = "job.html")]
struct Page {
    frame: Frame,
    live: Live,
    title: String,
    back: String,
    id: String,
    is_ended: bool,
}

#[derive(Template)]
#[template(path = "job_part.html")]
struct Progress {
    done: Count,
    told: String,
    begun: When,
    is_ended: bool,
    is_stopped: bool,
    /// Why it did not come to its end; empty: it did, or it goes on.
    failed: String,
}

async fn part(asked: Arc<Asked>) -> Result<Part, Trouble> {
    let job = asked.shared().jobs.find(&asked)?;
    let ended = job.ended();
    let failed = ended.as_ref().and_then(|it| it.as_ref().err());
    let part = Part::new(&Progress {
        done: Count(job.done.load(Ordering::Relaxed)),
        told: job.told(),
        begun: When::new(&job.begun, asked.now()),
        is_ended: ended.is_some(),
        is_stopped: job.is_stopped.load(Ordering::Relaxed),
        failed: failed.map(|text| sentence(text)).unwrap_or_default(),
    })?;
    Ok(part.ending(ended.is_some()))
}

/// How far work came.
pub(super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let job = asked.shared().jobs.find(&asked)?;
    match live::shown(&asked, EVERY, part).await? {
        Shown::Part(answer) => Ok(answer),
        Shown::Page(live) => Answer::page(&Page {
            frame: asked.frame(&job.title),
            live,
            title: job.title.clone(),
            back: job.back.clone(),
            id: job.id.clone(),
            is_ended: job.is_ended(),
        }),
    }
}

/// Stops work after the portion that it works on.
pub(super) async fn stop(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let job = asked.shared().jobs.find(&asked)?;
    let told = match job.is_ended() {
        true => "It had come to its end before.",
        false => "It stops after the portion that it works on.",
    };
    job.is_stopped.store(true, Ordering::Relaxed);
    Ok(asked.done(told, &format!("work/{}", job.id)))
}
