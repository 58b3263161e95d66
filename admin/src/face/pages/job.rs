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
    site::Area,
};
use crate::{
    AdminError,
    face::task,
    op::{
        Operation, Sink,
        messages::Portion,
        suppression::{Cleared, import::Imported},
    },
};

/// The most pieces of work that are remembered.
const KEPT: usize = 200;
/// How often a page shows how far the work came.
const EVERY: Duration = Duration::from_millis(500);
/// Work that ends within this time is told of without a page of its own.
const SHORT: Duration = Duration::from_millis(400);

/// What an operation on many things gives after each step.
pub(super) trait Step {
    /// To how many things it was done.
    fn done(&self) -> u64;
    /// How many things stay as they were.
    fn left_alone(&self) -> u64;
}

impl Step for Portion {
    fn done(&self) -> u64 {
        self.done
    }

    fn left_alone(&self) -> u64 {
        self.in_delivery
    }
}

impl Step for Cleared {
    fn done(&self) -> u64 {
        self.removed
    }

    fn left_alone(&self) -> u64 {
        0
    }
}

impl Step for Imported {
    fn done(&self) -> u64 {
        self.new
    }

    fn left_alone(&self) -> u64 {
        self.known + self.wrong
    }
}

/// How people read what is done.
pub(super) struct Words {
    /// What is done, as a title.
    pub(super) title: String,
    /// The things that it is done to: "messages".
    pub(super) things: &'static str,
    /// To how many things it was done, and how many stay as they were, as a sentence.
    pub(super) told: Told,
}

/// Makes a sentence of two counts.
type Told = Box<dyn Fn(u64, u64) -> String + Send + Sync>;

impl Words {
    /// Those for messages. `past` says what is done to them, such as `held`.
    pub(super) fn of_messages(title: String, past: &'static str) -> Self {
        Self {
            title,
            things: "messages",
            told: Box::new(move |done, left| {
                let done = counted(done, "message", "messages");
                let mut told = format!("{done} {past}");
                if left > 0 {
                    let left = counted(left, "message was", "messages were");
                    told.push_str(&format!("; {left} being delivered and left alone"));
                }
                sentence(&told)
            }),
        }
    }
}

impl Words {
    /// Tells this too, when something was done.
    pub(super) fn and(mut self, more: &'static str) -> Self {
        let told = self.told;
        self.told = Box::new(move |done, left| match done {
            0 => told(done, left),
            _ => format!("{} {more}", told(done, left)),
        });
        self
    }
}

/// Work on many things.
struct Job {
    id: String,
    /// Who began it. Others do not see it.
    owner: String,
    words: Words,
    begun: String,
    /// Where its visitor came from.
    back: String,
    done: AtomicU64,
    left_alone: AtomicU64,
    is_stopped: AtomicBool,
    /// How it ended; None: it goes on.
    ended: Mutex<Option<Result<(), AdminError>>>,
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

    fn ended(&self) -> Option<Result<(), AdminError>> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.clone()
    }

    /// What was done so far, as a sentence.
    fn told(&self) -> String {
        let (done, left_alone) = (&self.done, &self.left_alone);
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (self.words.told)(count(done), count(left_alone))
    }
}

/// Counts what was done, and ends the operation when its visitor wants that.
struct Counting(Arc<Job>);

impl<S: Step + Send> Sink<S> for Counting {
    async fn send(&mut self, items: Vec<S>) -> Result<(), AdminError> {
        let Self(job) = self;
        for step in items {
            job.done.fetch_add(step.done(), Ordering::Relaxed);
            let left_alone = &job.left_alone;
            left_alone.fetch_add(step.left_alone(), Ordering::Relaxed);
        }
        match job.is_stopped.load(Ordering::Relaxed) {
            true => {
                let done = job.done.load(Ordering::Relaxed);
                Err(AdminError::unavailable(format!(
                    "stopped by its caller after {done} {}",
                    job.words.things
                )))
            }
            false => Ok(()),
        }
    }
}

/// Begins an operation on many things, and leads to a page that tells how far it came; or to
/// `back`, if it ends soon.
///
/// # Errors
/// Those of the operation, if it ends soon.
pub(super) async fn begin<O>(
    asked: &Arc<Asked>,
    words: Words,
    back: &str,
    operation: O,
) -> Result<Answer, Trouble>
where
    O: Operation + 'static,
    O::Item: Step,
{
    let job = Arc::new(Job {
        id: random_key(),
        owner: owner(asked),
        words,
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
        *worked.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    };
    if tokio::time::timeout(SHORT, task::begin(work)).await.is_ok() {
        return match job.ended() {
            Some(Ok(())) => Ok(asked.done_at(job.told(), back)),
            Some(Err(error)) => Err(error.into()),
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
}

/// The part that changes. Its button is of a form that stands outside of it.
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
    is_admin: bool,
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
        failed: failed
            .map(|error| sentence(&error.text))
            .unwrap_or_default(),
        is_admin: asked.area == Area::Admin,
    })?;
    Ok(part.ending(ended.is_some()))
}

/// How far work came.
pub(super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let job = asked.shared().jobs.find(&asked)?;
    match live::shown(&asked, EVERY, part).await? {
        Shown::Part(answer) => Ok(answer),
        Shown::Page(live) => Answer::page(&Page {
            frame: asked.frame(&job.words.title),
            live,
            title: job.words.title.clone(),
            back: job.back.clone(),
            id: job.id.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_can_be_stopped_until_it_ends() {
        let mut progress = Progress {
            done: Count(200),
            told: "200 messages dropped.".to_owned(),
            begun: When::new("", postrider_store::Time(0)),
            is_ended: false,
            is_stopped: false,
            failed: String::new(),
            is_admin: true,
        };
        let html = progress.render().unwrap();
        assert!(html.contains("Working."), "{html}");
        assert!(html.contains("<button class=\"danger\" form=\"stop\">Stop"));
        progress.is_stopped = true;
        let html = progress.render().unwrap();
        assert!(
            html.contains("Stopping.") && !html.contains("<button"),
            "{html}"
        );
        progress.is_ended = true;
        let html = progress.render().unwrap();
        assert!(
            html.contains("Done.") && !html.contains("<button"),
            "{html}"
        );
        assert!(!html.contains("It goes on"), "{html}");
    }
}
