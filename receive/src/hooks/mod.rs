//! Hooks: outside programs that have a say in what is accepted.
//!
//! Three kinds of programs are asked, in this order: milters, rspamd over HTTP, and stage hooks
//! over HTTP. Each gives an [`Answer`](answer::Answer): a vote and changes of the message. What
//! becomes of the mail is decided in [`decide`](crate::decide), as for any other fact.
//!
//! | module | what is in it |
//! |---|---|
//! | `answer` | the answer of a program, of whatever kind |
//! | `asked` | what the programs are told of a session |
//! | `condition` | when a program is asked |
//! | `draft` | a message as the programs see and change it |
//! | `edit` | changes of its header section |
//! | `envelope` | changes of its envelope, in the words of programs over HTTP |
//! | `health` | whether a program answers; one that does not is left out for a while |
//! | `http` | calls over HTTP |
//! | `limits` | limits of an answer in JSON |
//! | `milter` | the milter protocol |
//! | `names` | the addresses of programs |
//! | `presence` | the open connections of each address |
//! | `program` | one program of the configuration |
//! | `raw` | the bytes of a message, piece by piece |
//! | `rspamd` | the HTTP protocol of rspamd |
//! | `session` | the programs of one SMTP session |
//! | `stage` | the JSON of stage hooks |
//! | `teacher` | what users say about their mail, for rspamd |
//! | `trial` | a question outside of any session, for administrators |

pub mod answer;
pub mod asked;
mod condition;
pub mod draft;
pub mod edit;
mod envelope;
pub mod health;
mod http;
mod limits;
pub mod milter;
mod names;
mod presence;
mod program;
pub mod raw;
pub mod rspamd;
mod session;
pub mod stage;
mod teacher;
#[cfg(test)]
mod testing;
pub mod trial;

use std::sync::Arc;

use postrider_config::{HookKind, HookStage, Static};
use postrider_observe::Metrics;
use postrider_store::{Clock, Mail, Store};

pub(crate) use self::session::{Command, SessionHooks, with_recipient};
pub(crate) use self::{
    answer::{Failure, Vote},
    asked::KnownLogin,
    draft::Draft,
    program::Told,
};
pub use self::{http::SetupError, program::Program};
use self::{presence::Presence, rspamd::learn::Lesson, teacher::Teacher};

/// All programs of the configuration, in the order in which they are asked.
#[derive(Debug, Default)]
pub struct Hooks {
    programs: Vec<Arc<Program>>,
    teachers: Vec<Arc<Teacher>>,
    presence: Presence,
}

impl Hooks {
    /// The programs of a configuration. Their names are those in the metrics.
    ///
    /// # Errors
    /// If a secret or a CA can't be read.
    pub fn new(statics: &Static, metrics: &Metrics) -> Result<Self, SetupError> {
        let enabled = statics.hooks.iter().filter(|(_, hook)| hook.enabled);
        let names = enabled.clone().map(|(name, _)| name);
        let names = statics.milters.keys().chain(names);
        metrics.set_hooks(&names.cloned().collect::<Vec<_>>());
        let roots = crate::roots::extra(statics).map_err(SetupError::Roots)?;
        let milters = statics.milters.iter();
        let milters = milters.map(|(name, milter)| Ok(Program::of_milter(name, milter, metrics)));
        let hooks = |kind: HookKind| {
            let hooks = enabled.clone().filter(move |(_, hook)| hook.kind == kind);
            let roots = &roots;
            hooks.map(move |(name, hook)| Program::of_hook(name, hook, roots, metrics))
        };
        let programs = milters
            .chain(hooks(HookKind::Rspamd))
            .chain(hooks(HookKind::Stage));
        let programs: Result<Vec<Program>, SetupError> = programs.collect();
        let teachers = enabled.map(|(name, hook)| Teacher::of_hook(name, hook, &roots));
        let teachers: Result<Vec<Option<Teacher>>, SetupError> = teachers.collect();
        Ok(Self {
            programs: programs?.into_iter().map(Arc::new).collect(),
            teachers: teachers?.into_iter().flatten().map(Arc::new).collect(),
            presence: Presence::default(),
        })
    }

    /// The programs, in the order in which they are asked.
    #[must_use]
    pub fn programs(&self) -> &[Arc<Program>] {
        &self.programs
    }

    /// Tells programs that learn that a user calls a mail junk, or not junk. Nobody waits for that.
    pub fn teach(&self, store: &Store, clock: &Arc<dyn Clock>, mail: &Mail, is_junk: bool) {
        let lesson = match is_junk {
            true => Lesson::Spam,
            false => Lesson::Ham,
        };
        for teacher in &self.teachers {
            teacher.teach(store, clock, (mail, lesson));
        }
    }

    /// Whether a program is asked about EHLO at a listener.
    #[must_use]
    pub fn ask_about_hello(&self, listener: &str) -> bool {
        let mut programs = self.at(listener);
        programs.any(|program| program.stages().contains(&HookStage::Ehlo))
    }

    /// The programs that may be asked at a listener.
    fn at(&self, listener: &str) -> impl Iterator<Item = &Arc<Program>> {
        let programs = self.programs.iter();
        programs.filter(move |program| program.is_at(listener))
    }

    const fn presence(&self) -> &Presence {
        &self.presence
    }
}

#[cfg(test)]
mod tests {
    use postrider_observe::metrics::Process;

    use super::*;

    #[test]
    fn hooks_that_are_switched_off_have_no_series() {
        let text = "hostname = \"mail.example.org\"\npostmaster.account = \"alice\"\n\
                    [listeners.a]\nips = [\"127.0.0.1\"]\nsmtp = {}\n\
                    [hooks.one]\nurl = \"http://127.0.0.1/\"\n\
                    [hooks.two]\nurl = \"http://127.0.0.1/\"\nenabled = false\n\
                    [milters.three]\nsocket = \"unix:three\"\n";
        let statics = Static::parse(text, "postrider.conf").unwrap();
        let metrics = Metrics::default();
        let hooks = Hooks::new(&statics, &metrics).unwrap();
        let names: Vec<&str> = hooks.programs().iter().map(|it| it.name()).collect();
        assert_eq!(names, ["three", "one"]);
        for (name, expected) in [("one", true), ("two", false), ("three", true)] {
            let page = metrics.text(&Process::default());
            assert_eq!(
                page.contains(&format!("hook=\"{name}\"")),
                expected,
                "{name}"
            );
        }
    }
}
