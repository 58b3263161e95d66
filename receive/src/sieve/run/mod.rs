//! Running scripts: facts about a message in, what becomes of the message out.
//!
//! All scripts of an account share the flags and the implicit keep. Variables belong to one script.
//!
//! | file | what it runs |
//! |---|---|
//! | here | scripts in their order, blocks, texts with variables |
//! | `actions` | commands that do something with the message |
//! | `conditions` | tests |

mod actions;
mod conditions;

use std::{borrow::Cow, rc::Rc, sync::Arc};

use postrider_smtp::field::{self, Field};

use self::actions::State;
use super::{
    body::Body,
    error::{Position, SieveError},
    facts::Facts,
    limits::{Effort, Exhausted, Limits, TEXT_MAX, VALUE_MAX},
    outcome::{Acted, Failure, Outcome},
    program::{Command, Modifier, Piece, Script, Step, Text},
    text::cut,
};

/// A script with its name and its place in the order.
#[derive(Clone, Debug)]
pub struct NamedScript {
    /// When the script runs.
    pub rank: Rank,
    /// The name. Of scripts with the same rank, that with the first name runs first.
    pub name: String,
    /// The script.
    pub script: Arc<Script>,
}

/// When a script runs. The order of the variants is the order of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A rule with this priority, the lowest first.
    Rule(i64),
    /// A script of the user.
    Script,
    /// The script that answers. `stop` of another script does not skip it.
    Vacation,
}

impl Rank {
    /// The rank of a script of the user by its name.
    #[must_use]
    pub fn of_script(name: &str) -> Self {
        match name {
            "vacation" => Self::Vacation,
            _ => Self::Script,
        }
    }
}

/// How a script or a block went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// To its end.
    Through,
    /// Up to a `stop`.
    Stopped,
    /// Up to a command after which nothing runs.
    Ended,
}

/// Runs the scripts of an account for a message.
///
/// A script that fails leaves no trace but its failure and the implicit keep, and only the
/// answering script runs after it.
#[must_use]
pub fn run(scripts: &[NamedScript], facts: &Facts<'_>, limits: &Limits) -> Outcome {
    let mut ordered: Vec<&NamedScript> = scripts.iter().collect();
    ordered.sort_by(|a, b| a.rank.cmp(&b.rank).then_with(|| a.name.cmp(&b.name)));
    let mut runner = Runner::new(facts, limits);
    let (mut failures, mut acted, mut answering) = (Vec::new(), Vec::new(), None);
    let mut flow = Flow::Through;
    for named in ordered {
        let runs = match flow {
            Flow::Through => true,
            Flow::Stopped => named.rank == Rank::Vacation,
            Flow::Ended => false,
        };
        if !runs {
            continue;
        }
        let before = runner.state.clone();
        let ended = runner.script(&named.script);
        flow = match ended {
            // What stops the answering script stops only itself.
            Ok(Flow::Stopped) if named.rank == Rank::Vacation => flow,
            Ok(flow) => flow,
            Err(error) => {
                runner.state = before.clone();
                runner.state.has_failed = true;
                failures.push(Failure {
                    script: named.name.clone(),
                    error,
                });
                Flow::Stopped
            }
        };
        let did = before.actions_until(&runner.state);
        if !did.is_empty() {
            let script = named.name.clone();
            acted.push(Acted { script, did });
        }
        if !before.asks_for_answer() && runner.state.asks_for_answer() {
            answering = Some(named.name.clone());
        }
    }
    let outcome = runner.state.outcome(failures);
    Outcome {
        answering: answering.filter(|_| outcome.vacation.is_some()),
        acted,
        ..outcome
    }
}

/// What runs, and how far it has come.
struct Runner<'a> {
    facts: &'a Facts<'a>,
    limits: &'a Limits,
    /// The fields of the header section.
    fields: Vec<Field<'a>>,
    /// The body, once a test has read it.
    body: Option<Rc<Body>>,
    steps: u32,
    effort: Effort,
    state: State,
    /// The place of what runs.
    at: Position,
    /// The values of the variables of this script.
    variables: Vec<String>,
    /// What the last match with wildcards or groups found in this script.
    matched: Vec<String>,
    /// This script has asked for an answer.
    has_answered: bool,
}

impl<'a> Runner<'a> {
    fn new(facts: &'a Facts<'a>, limits: &'a Limits) -> Self {
        Self {
            facts,
            limits,
            fields: field::fields(facts.header).collect(),
            body: None,
            steps: limits.steps,
            effort: Effort::new(limits.effort),
            state: State::default(),
            at: Position::START,
            variables: Vec::new(),
            matched: Vec::new(),
            has_answered: false,
        }
    }

    fn script(&mut self, script: &Script) -> Result<Flow, SieveError> {
        self.variables = vec![String::new(); script.variables];
        self.matched.clear();
        self.has_answered = false;
        self.block(&script.commands)
    }

    fn block(&mut self, steps: &[Step]) -> Result<Flow, SieveError> {
        for step in steps {
            self.step(step.at)?;
            let flow = self.command(&step.command)?;
            if flow != Flow::Through {
                return Ok(flow);
            }
        }
        Ok(Flow::Through)
    }

    /// Counts a command or a test.
    fn step(&mut self, at: Position) -> Result<(), SieveError> {
        self.at = at;
        let left = self.steps.checked_sub(1);
        self.steps = left.ok_or_else(|| {
            self.fault(format!(
                "The scripts have run {} steps, and more are not allowed. Make them shorter.",
                self.limits.steps
            ))
        })?;
        Ok(())
    }

    /// An error where the script is.
    fn fault(&self, text: impl Into<String>) -> SieveError {
        self.at.error(text)
    }

    fn exhausted(&self) -> SieveError {
        self.fault("The comparisons take too much work. Use fewer and shorter patterns.")
    }

    fn spend(&mut self, work: usize) -> Result<(), SieveError> {
        let spent = self.effort.spend(work);
        spent.map_err(|Exhausted| self.exhausted())
    }

    fn command(&mut self, command: &Command) -> Result<Flow, SieveError> {
        match command {
            Command::If {
                branches,
                otherwise,
            } => {
                for (test, block) in branches {
                    if self.test(test)? {
                        return self.block(block);
                    }
                }
                return self.block(otherwise);
            }
            Command::Stop => return Ok(Flow::Stopped),
            Command::Discard => {
                self.state.discard();
                return Ok(Flow::Ended);
            }
            Command::Reject { reason, in_session } => {
                self.reject(reason, *in_session)?;
                return Ok(Flow::Ended);
            }
            Command::Keep { flags } => self.keep(flags.as_deref())?,
            Command::FileInto(file) => self.file(file)?,
            Command::Redirect { address, copy } => self.redirect(address, *copy)?,
            Command::Flags {
                change,
                variable,
                flags,
            } => self.change_flags(*change, *variable, flags)?,
            Command::Set {
                variable,
                modifiers,
                value,
            } => self.set(*variable, modifiers, value)?,
            Command::Vacation(vacation) => self.vacation(vacation)?,
        }
        Ok(Flow::Through)
    }

    fn set(
        &mut self,
        variable: usize,
        modifiers: &[Modifier],
        value: &Text,
    ) -> Result<(), SieveError> {
        let mut value = cut(self.expand(value)?.into_owned(), VALUE_MAX);
        for modifier in modifiers {
            value = modifier.apply(&value);
        }
        self.spend(value.len())?;
        self.assign(variable, value);
        Ok(())
    }

    fn assign(&mut self, variable: usize, value: String) {
        if let Some(place) = self.variables.get_mut(variable) {
            *place = cut(value, VALUE_MAX);
        }
    }

    /// A text with its variables filled in.
    fn expand<'t>(&mut self, text: &'t Text) -> Result<Cow<'t, str>, SieveError> {
        let pieces = match text {
            Text::Constant(text) => return Ok(Cow::Borrowed(text)),
            Text::Template(pieces) => pieces,
        };
        let mut expanded = String::new();
        for piece in pieces {
            let piece = match piece {
                Piece::Literal(text) => text.as_str(),
                Piece::Variable(number) => value(&self.variables, *number),
                Piece::Match(number) => value(&self.matched, *number),
            };
            if expanded.len() + piece.len() > TEXT_MAX {
                return Err(self.fault(format!(
                    "A text with its variables has more than {TEXT_MAX} bytes. Make it shorter."
                )));
            }
            expanded.push_str(piece);
        }
        self.spend(expanded.len())?;
        Ok(Cow::Owned(expanded))
    }

    fn expand_all(&mut self, texts: &[Text]) -> Result<Vec<String>, SieveError> {
        let texts = texts.iter();
        texts
            .map(|text| self.expand(text).map(Cow::into_owned))
            .collect()
    }
}

/// A value by its number. Empty without it.
fn value(values: &[String], number: usize) -> &str {
    values.get(number).map_or("", String::as_str)
}
