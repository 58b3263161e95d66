//! The stages of a session, as they happen: what a recorder's listener hears, put into stages.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use postrider_smtp::{
    DeliveryStatus,
    client::{Heard, Listener, TlsFaultKind},
};

use super::{Found, Outcome, Stage, Stages, Step};

/// The stages of the sessions with one address.
pub(crate) struct Dialog {
    stages: Stages,
    /// The certificate is checked by TLSA records.
    dane: bool,
    /// The steps that have begun, and when. The beginning of the first one is told.
    open: Vec<(Step, Instant)>,
}

/// Ends the stages of a session that the caller gave up.
pub(crate) struct GiveUp(Arc<Mutex<Dialog>>);

impl GiveUp {
    /// The step that goes on fails for this reason.
    pub(crate) fn close(&self, now: Instant, status: &DeliveryStatus) {
        hear(&self.0, now, Heard::Closed(status));
    }
}

/// The lock is held for a moment, never over a wait.
fn hear(dialog: &Mutex<Dialog>, now: Instant, heard: Heard<'_>) {
    let mut dialog = dialog.lock().unwrap_or_else(PoisonError::into_inner);
    dialog.hear(now, heard);
}

impl Dialog {
    /// A listener for a connection that is made, and what ends its stages.
    pub(crate) fn listener(stages: &Stages, dane: bool, now: Instant) -> (Listener, GiveUp) {
        let mut dialog = Self {
            stages: stages.clone(),
            dane,
            open: Vec::new(),
        };
        dialog.begin(Step::ReadGreeting, now);
        let dialog = Arc::new(Mutex::new(dialog));
        let given_up = GiveUp(Arc::clone(&dialog));
        let listener = move |now: Instant, heard: Heard<'_>| hear(&dialog, now, heard);
        (Box::new(listener), given_up)
    }

    fn hear(&mut self, now: Instant, heard: Heard<'_>) {
        match heard {
            Heard::Command(name) => {
                if let Some(step) = step_of(name) {
                    self.begin(step, now);
                }
            }
            // The handshake is a part of the step.
            Heard::Reply("STARTTLS", reply) if reply.code().is_positive() => {}
            Heard::Reply(name, reply) => {
                let Some(step) = step_of(name) else { return };
                let ok = reply.code().is_positive() || reply.code().is_intermediate();
                let outcome = match ok {
                    true => Outcome::Success(Found::Reply(reply.to_string())),
                    false => Outcome::Failed(reply.to_string()),
                };
                self.end(step, outcome, now);
            }
            Heard::Handshake(None) => {
                self.end(Step::StartTls, Outcome::Success(Found::Nothing), now);
                self.verified(Outcome::Success(Found::Nothing));
            }
            Heard::Handshake(Some(fault)) => {
                self.end(Step::StartTls, Outcome::Failed(fault.to_string()), now);
                if fault.kind == TlsFaultKind::NoTlsaMatch {
                    self.verified(Outcome::Failed(fault.to_string()));
                }
            }
            Heard::Closed(status) => {
                let open = std::mem::take(&mut self.open);
                // The server does not offer STARTTLS, and it is needed.
                let unsaid = open.is_empty() && status.command.as_deref() == Some("STARTTLS");
                if unsaid {
                    self.begin(Step::StartTls, now);
                    self.end(Step::StartTls, Outcome::Failed(status.text.clone()), now);
                }
                for (at, (step, began)) in open.into_iter().enumerate() {
                    let outcome = match step {
                        Step::Quit => Outcome::Success(Found::Nothing),
                        _ => Outcome::Failed(status.text.clone()),
                    };
                    if at > 0 {
                        self.stages.tell(Stage::Began(step, String::new()));
                    }
                    self.tell(step, outcome, began, now);
                }
            }
        }
    }

    /// A step begins. If another one goes on, as with PIPELINING, that is told when that one ends.
    fn begin(&mut self, step: Step, now: Instant) {
        if self.open.is_empty() {
            self.stages.tell(Stage::Began(step, String::new()));
        }
        self.open.push((step, now));
    }

    /// A step ends. One that nobody saw begin begins now.
    fn end(&mut self, step: Step, outcome: Outcome, now: Instant) {
        if !self.open.iter().any(|(open, _)| *open == step) {
            self.begin(step, now);
        }
        let at = self.open.iter().position(|(open, _)| *open == step);
        if let Some((step, began)) = at.map(|at| self.open.remove(at)) {
            self.tell(step, outcome, began, now);
        }
        if let (Some(0), Some((next, _))) = (at, self.open.first()) {
            self.stages.tell(Stage::Began(*next, String::new()));
        }
    }

    fn tell(&self, step: Step, outcome: Outcome, began: Instant, now: Instant) {
        self.stages.tell(Stage::Ended {
            step,
            outcome,
            took: Some(now.saturating_duration_since(began)),
        });
    }

    fn verified(&self, outcome: Outcome) {
        if self.dane {
            self.stages.tell(Stage::Ended {
                step: Step::DaneVerify,
                outcome,
                took: None,
            });
        }
    }
}

/// The step of a command, by its name in statuses.
fn step_of(command: &str) -> Option<Step> {
    Some(match command {
        "greeting" => Step::ReadGreeting,
        "EHLO" | "HELO" => Step::Ehlo,
        "STARTTLS" => Step::StartTls,
        "AUTH" => Step::Auth,
        "MAIL" => Step::MailFrom,
        "RCPT" => Step::RcptTo,
        "QUIT" => Step::Quit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode, Reply, ReplyCode, client::TlsFault};

    use super::*;

    /// What a dialog tells of what it hears, as text.
    fn told(dane: bool, all: &[Heard<'_>]) -> Vec<String> {
        let (stages, mut receiver) = Stages::new();
        let now = Instant::now();
        let (mut listener, _) = Dialog::listener(&stages, dane, now);
        for heard in all {
            listener(now, *heard);
        }
        let mut told = Vec::new();
        while let Ok(stage) = receiver.try_recv() {
            told.push(match stage {
                Stage::Began(step, _) => format!("{} begins", step.name()),
                Stage::Ended { step, outcome, .. } => match outcome {
                    Outcome::Success(Found::Reply(text)) => format!("{} {text}", step.name()),
                    Outcome::Success(_) => format!("{} ok", step.name()),
                    Outcome::NotFound => format!("{} none", step.name()),
                    Outcome::Failed(reason) => format!("{} failed: {reason}", step.name()),
                },
                other => format!("{other:?}"),
            });
        }
        told
    }

    fn reply(code: ReplyCode, text: &'static str) -> Reply {
        Reply::new(code, None, text)
    }

    #[test]
    fn a_session_has_its_stages() {
        let (hello, ok) = (reply(ReplyCode::READY, "hello"), reply(ReplyCode::OK, "ok"));
        let no = reply(ReplyCode::MAILBOX_UNAVAILABLE, "no");
        let closed = DeliveryStatus::from_reply(&reply(ReplyCode::CLOSING, "bye"), "QUIT");
        let found = told(
            true,
            &[
                Heard::Reply("greeting", &hello),
                Heard::Command("EHLO"),
                Heard::Reply("EHLO", &ok),
                Heard::Command("STARTTLS"),
                Heard::Reply("STARTTLS", &hello),
                Heard::Handshake(None),
                Heard::Command("MAIL"),
                Heard::Command("RCPT"),
                Heard::Reply("MAIL", &ok),
                Heard::Reply("RCPT", &no),
                Heard::Command("RSET"),
                Heard::Reply("RSET", &ok),
                Heard::Command("QUIT"),
                Heard::Closed(&closed),
            ],
        );
        assert_eq!(
            found,
            [
                "readGreeting begins",
                "readGreeting 220 hello",
                "ehlo begins",
                "ehlo 250 ok",
                "startTls begins",
                "startTls ok",
                "daneVerify ok",
                "mailFrom begins",
                "mailFrom 250 ok",
                "rcptTo begins",
                "rcptTo failed: 550 no",
                "quit begins",
                "quit ok",
            ]
        );
    }

    #[test]
    fn a_session_that_is_given_up_ends_its_step() {
        let (stages, mut receiver) = Stages::new();
        let now = Instant::now();
        let (_listener, given_up) = Dialog::listener(&stages, false, now);
        let code = EnhancedCode::NO_ANSWER;
        let late = DeliveryStatus::transient(Cause::Timeout, code, "it took longer than 30s");
        given_up.close(now, &late);
        given_up.close(now, &late);
        let Ok(Stage::Began(Step::ReadGreeting, _)) = receiver.try_recv() else {
            panic!("the greeting was not awaited");
        };
        let Ok(Stage::Ended { step, outcome, .. }) = receiver.try_recv() else {
            panic!("the step did not end");
        };
        let Outcome::Failed(reason) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            (step, reason.as_str()),
            (Step::ReadGreeting, "it took longer than 30s")
        );
        assert!(receiver.try_recv().is_err(), "each step ends once");
    }

    #[test]
    fn what_breaks_off_fails() {
        let lost = |command: &'static str| {
            let code = EnhancedCode::BAD_CONNECTION;
            DeliveryStatus::transient(Cause::Lost, code, "gone").with_command(command)
        };
        let fault = TlsFault::new(TlsFaultKind::NoTlsaMatch);
        let no_match = "no TLSA record matches the certificate";
        for (dane, all, expected) in [
            (
                false,
                vec![Heard::Closed(&lost("greeting"))],
                vec!["readGreeting failed: gone".to_owned()],
            ),
            (
                true,
                vec![
                    Heard::Reply("greeting", &reply(ReplyCode::READY, "hello")),
                    Heard::Command("STARTTLS"),
                    Heard::Handshake(Some(&fault)),
                ],
                vec![
                    "readGreeting 220 hello".to_owned(),
                    "startTls begins".to_owned(),
                    format!("startTls failed: {no_match}"),
                    format!("daneVerify failed: {no_match}"),
                ],
            ),
            (
                false,
                vec![
                    Heard::Reply("greeting", &reply(ReplyCode::READY, "hello")),
                    Heard::Closed(&lost("STARTTLS")),
                ],
                vec![
                    "readGreeting 220 hello".to_owned(),
                    "startTls begins".to_owned(),
                    "startTls failed: gone".to_owned(),
                ],
            ),
        ] {
            assert_eq!(told(dane, &all)[1..], expected);
        }
    }
}
