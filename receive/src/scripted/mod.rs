//! The scripts of accounts at the delivery of a message.
//!
//! They run when it is decided that an account takes a message for its mailboxes: after rulesets,
//! which name the mailbox of the implicit keep, and after the junk decision. Junk stays in the junk
//! mailbox, and mail that the server gets for the postmaster, or as reports, stays where the
//! configuration wants it: no script sees either.
//!
//! | file | what it does |
//! |---|---|
//! | here | runs the scripts, and puts what they want into the decision |
//! | `given` | what a run gets: the text and the mailboxes |
//! | `redirect` | which addresses mail is redirected to |
//! | `answer` | automatic answers |

mod answer;
mod given;
mod redirect;

use std::collections::HashSet;

use bytes::Bytes;
use jiff::{Zoned, tz::TimeZone};
use postrider_config::Dynamic;
use postrider_smtp::{Address, server::Transaction};
use postrider_store::{SpecialUse, StoreError};
use tracing::{debug, warn};

pub use self::given::known_mailboxes;
pub(crate) use self::given::{Loaded, Source};
use crate::{
    SessionContext,
    decide::{Delivery, EndDecision, Outcome, Refusal, Role},
    facts::{Facts, RecipientFacts, Target},
    sieve::{self, KnownMailbox, Limits, ready::Ready},
    work::long_work,
};

/// The text of a refusal that a script gives no reason for.
const REFUSED: &str = "the recipient refuses this message";

/// A message whose scripts are to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) config: &'a Dynamic,
    pub(crate) transaction: &'a Transaction,
    pub(crate) facts: &'a Facts,
    pub(crate) size: u64,
    /// The sender hears of a refusal from the server that it talks to. Otherwise a refusal would
    /// make a bounce, so refused mail is kept apart.
    pub(crate) may_refuse: bool,
}

impl SessionContext {
    /// Runs the scripts of the accounts that take a message, and puts what they want into the
    /// decision. Gives the text as far as it was read.
    ///
    /// # Errors
    /// If the store can't be used.
    pub(crate) async fn run_scripts(
        &self,
        asking: &Asking<'_>,
        source: Source<'_>,
        decision: &mut EndDecision,
    ) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        let (mut refused, mut counted) = (false, HashSet::new());
        for delivery in &mut decision.deliveries {
            let Some((recipient, target)) = runs_for(delivery, asking.facts) else {
                continue;
            };
            let Some(ready) = self.scripts.of(&target.account).await? else {
                continue;
            };
            let Outcome::Mailbox { mailbox, .. } = &delivery.outcome else {
                continue;
            };
            let party = (recipient, target);
            let about = (asking, source);
            let ran = self.run_for(about, party, mailbox, &ready, &mut loaded);
            let mut wanted = ran.await?;
            self.tell_of_scripts(target, &wanted);
            if let Some(rejection) = &wanted.rejection {
                refused = true;
                let reason = reply_text(&rejection.reason);
                delivery.outcome = Outcome::Refused(Refusal::Script(reason));
            } else {
                let checked = self.check_redirects(asking, party, &mut wanted, &mut counted);
                checked.await?;
                self.make_mailboxes(&target.account, &wanted).await?;
            }
            delivery.scripted = Some(Box::new(wanted));
        }
        if refused {
            let policy = &self.policy(Role::Mx, asking.config);
            decision.refused_by_scripts(asking.facts, policy, asking.may_refuse);
        }
        Ok(loaded)
    }

    /// Runs the scripts of one account. The text is read when a script asks for it.
    async fn run_for(
        &self,
        (asking, source): (&Asking<'_>, Source<'_>),
        (recipient, target): (&RecipientFacts, &Target),
        keep_mailbox: &str,
        ready: &Ready,
        loaded: &mut Loaded,
    ) -> Result<sieve::Outcome, StoreError> {
        let mailboxes = known_mailboxes(&self.store, asking.config, &target.account).await?;
        loaded.read_header(self, source).await?;
        let now = self.clock.now().timestamp().to_zoned(TimeZone::system());
        let given = Given {
            asking,
            recipient: &recipient.address,
            mailboxes: &mailboxes,
            keep_mailbox,
            now: &now,
        };
        if let Some(outcome) = given.run(ready, loaded) {
            return Ok(outcome);
        }
        // The scripts run again, with the text.
        loaded.read_all(self, source).await?;
        let kept = || sieve::Outcome {
            keep: Some(Vec::new()),
            ..sieve::Outcome::default()
        };
        Ok(given.run(ready, loaded).unwrap_or_else(kept))
    }

    /// Makes the mailboxes whose special use a script names and no mailbox has. All others come
    /// into being with their first mail.
    async fn make_mailboxes(
        &self,
        account: &str,
        wanted: &sieve::Outcome,
    ) -> Result<(), StoreError> {
        for filed in &wanted.filed {
            let special_use = filed.special_use.as_deref().and_then(SpecialUse::named);
            if special_use.is_some() {
                let store = &self.store;
                store
                    .make_folder(account, &filed.mailbox, special_use)
                    .await?;
            }
        }
        Ok(())
    }

    /// Writes what the scripts did, and their faults, to the log.
    fn tell_of_scripts(&self, target: &Target, wanted: &sieve::Outcome) {
        let account = target.account.as_str();
        for failure in &wanted.failures {
            self.metrics.script_failures_total.with(()).inc();
            let (script, error) = (failure.script.as_str(), &failure.error);
            warn!(account, script, %error, "a script failed, so its message is kept");
        }
        for acted in &wanted.acted {
            debug!(
                account,
                script = acted.script,
                did = acted.did.join(", "),
                "script ran"
            );
        }
    }
}

/// What the scripts of one account get.
struct Given<'a> {
    asking: &'a Asking<'a>,
    recipient: &'a Address,
    mailboxes: &'a [KnownMailbox],
    keep_mailbox: &'a str,
    now: &'a Zoned,
}

impl Given<'_> {
    /// Runs the scripts. None: they ask for a text that was not read yet.
    fn run(&self, ready: &Ready, loaded: &Loaded) -> Option<sieve::Outcome> {
        let text = loaded.text();
        let facts = sieve::Facts {
            sender: &self.asking.transaction.mail.reverse_path,
            recipient: self.recipient,
            header: loaded.header(),
            message: &text,
            size: self.asking.size,
            now: self.now,
            mailboxes: self.mailboxes,
            keep_mailbox: self.keep_mailbox,
            separator: separator(self.asking.config, self.recipient),
        };
        let work = facts.header.len() + text.len();
        let run = || sieve::run(&ready.scripts, &facts, &Limits::default());
        let outcome = long_work(work, run);
        (!text.is_missing()).then_some(outcome)
    }
}

/// The recipient and the target of a delivery that scripts run for.
fn runs_for<'a>(delivery: &Delivery, facts: &'a Facts) -> Option<(&'a RecipientFacts, &'a Target)> {
    let (recipient, target) = delivery.target(facts)?;
    let is_good = matches!(delivery.outcome, Outcome::Mailbox { junk: None, .. });
    (is_good && !target.takes_all && target.destination.is_some()).then_some((recipient, target))
}

/// What separates the detail of a local-part of a domain of ours.
fn separator<'a>(config: &'a Dynamic, address: &Address) -> &'a str {
    let domain = address.host.domain();
    let domain = domain.and_then(|domain| config.domains.get(domain));
    let separators = domain.map(|domain| &domain.localpart_catchall_separators);
    let first = separators.and_then(|separators| separators.first());
    first.map_or("", String::as_str)
}

/// The reason of a script as the text of a reply: printable ASCII, in lines that fit into replies.
fn reply_text(reason: &str) -> String {
    const LINE: usize = 400;
    const LINES: usize = 10;
    let mut lines = Vec::new();
    for line in reason.lines() {
        let fits = |letter: char| letter.is_ascii_graphic() || letter == ' ';
        let line: String = line
            .chars()
            .map(|letter| if fits(letter) { letter } else { '?' })
            .collect();
        let bytes = line.trim_end().as_bytes();
        lines.extend(
            bytes
                .chunks(LINE)
                .map(|part| String::from_utf8_lossy(part).into_owned()),
        );
    }
    lines.retain(|line| !line.trim().is_empty());
    lines.truncate(LINES);
    match lines.is_empty() {
        true => REFUSED.to_owned(),
        false => lines.join("\n"),
    }
}

/// Flags in the form in which a mail has them.
pub(crate) fn stored_flags(flags: &[String]) -> Vec<String> {
    let mut flags: Vec<String> = flags
        .iter()
        .map(|flag| match flag.starts_with(['\\', '$']) {
            true => flag.to_ascii_lowercase(),
            false => flag.clone(),
        })
        .collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}

/// The beginning of a text that is in memory.
type Text = Bytes;
