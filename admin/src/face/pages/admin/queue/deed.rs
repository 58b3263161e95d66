//! What is done to messages of the queue.

use axum::http::Method;
use postrider_store::{Change, NextAttempt, Time};
use serde_json::{Value, json};

use super::{
    super::super::{command::AsCommand, form::Fields},
    filter::{Filter, shift_of, time_of},
};
use crate::{AdminError, op::queue::Ending};

/// How much later the next attempt can be put by a choice: value and label.
pub(in super::super::super) const DELAYS: [(&str, &str); 6] = [
    ("+1m", "1 minute later"),
    ("+5m", "5 minutes later"),
    ("+15m", "15 minutes later"),
    ("+1h", "1 hour later"),
    ("+4h", "4 hours later"),
    ("+16h", "16 hours later"),
];

/// What is done to messages.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// They are changed.
    Change(Change),
    /// They end.
    End(Ending),
}

/// What is done to messages, how people read it, and how a command says it.
#[derive(Clone, Debug)]
pub(super) struct Doing {
    pub(super) deed: Deed,
    /// On a button: "Hold".
    pub(super) verb: &'static str,
    /// What was done: "held".
    pub(super) past: &'static str,
    /// It can't be undone.
    pub(super) is_final: bool,
    /// What will happen, and who will be told.
    pub(super) effects: Vec<String>,
    words: Vec<String>,
    /// None: no call does this.
    call: Option<Call>,
}

/// A call of the management API: its method, more parameters, and its body.
type Call = (Method, Vec<(&'static str, String)>, Option<Value>);

impl Doing {
    /// Something to do without effects, a command or a call yet.
    const fn of(verb: &'static str, past: &'static str, deed: Deed) -> Self {
        Self {
            deed,
            verb,
            past,
            is_final: false,
            effects: Vec::new(),
            words: Vec::new(),
            call: None,
        }
    }

    /// Whether it lets deliveries be attempted.
    pub(super) fn is_about_attempts(&self) -> bool {
        match &self.deed {
            Deed::Change(change) => change.next_attempt.is_some() || change.hold == Some(false),
            Deed::End(_) => false,
        }
    }

    /// Reads what a form wants.
    ///
    /// # Errors
    /// If a field is wrong.
    pub(super) fn new(form: &Fields, now: Time) -> Result<Self, AdminError> {
        let change = |verb, past, change| Self::of(verb, past, Deed::Change(change));
        match form.text("do") {
            Some("hold") => Ok(change(
                "Hold",
                "held",
                Change {
                    hold: Some(true),
                    ..Change::default()
                },
            )
            .command(&["hold"])
            .patch(json!({"hold": true}))
            .effect("There are no attempts until they are released.")),
            Some("release") => Ok(change(
                "Release",
                "released",
                Change {
                    hold: Some(false),
                    ..Change::default()
                },
            )
            .command(&["release"])
            .patch(json!({"hold": false}))
            .effect("They are delivered from now on.")),
            Some("now") => Ok(Self {
                call: Some((Method::PATCH, Vec::new(), None)),
                ..change(
                    "Try now",
                    "due now",
                    Change {
                        next_attempt: Some(NextAttempt::At(now)),
                        ..Change::default()
                    },
                )
            }
            .command(&["kick"])
            .effect("The next attempt is now. Held messages stay held.")),
            Some("schedule") => Self::schedule(form, now),
            Some("transport") => Self::transport(form),
            Some("tls") => Self::require_tls(form),
            Some("fail") => Ok(Self {
                is_final: true,
                call: Some((Method::DELETE, vec![("fail", "true".to_owned())], None)),
                ..Self::of("Let fail", "failed", Deed::End(Ending::Failed))
            }
            .command(&["fail"])
            .effect("Each sender gets a DSN, as if the delivery had failed.")
            .effect("The account gets the event \"failed\" for each message.")),
            Some("drop") => Ok(Self {
                is_final: true,
                call: Some((Method::DELETE, Vec::new(), None)),
                ..Self::of("Drop", "dropped", Deed::End(Ending::Canceled))
            }
            .command(&["drop"])
            .effect("The senders are not told.")
            .effect("The account gets the event \"canceled\" for each message.")),
            _ => {
                let text = "choose what to do with the messages";
                Err(AdminError::invalid(text).at("do"))
            }
        }
    }

    fn schedule(form: &Fields, now: Time) -> Result<Self, AdminError> {
        let wrong = |text: String| AdminError::invalid(text).at("at");
        let (next, words, call) = match (form.text("at"), form.text("by")) {
            (Some(at), _) => {
                let time = time_of(at, now).map_err(wrong)?;
                let more = vec![("at", time.to_string())];
                let call = Some((Method::PATCH, more, None));
                (NextAttempt::At(time), ["schedule", "--at", at], call)
            }
            (None, Some(by)) => {
                let shift = shift_of(by);
                let (is_earlier, shift) =
                    shift.ok_or_else(|| wrong(format!("{by:?} is not a duration")))?;
                let micros = i64::try_from(shift.as_micros()).unwrap_or(i64::MAX);
                let micros = if is_earlier { -micros } else { micros };
                (NextAttempt::Shift(micros), ["schedule", "--by", by], None)
            }
            (None, None) => {
                return Err(wrong("choose a time for the next attempt".to_owned()));
            }
        };
        let change = Change {
            next_attempt: Some(next),
            ..Change::default()
        };
        let doing = Self {
            call,
            ..Self::of("Schedule", "scheduled", Deed::Change(change))
        };
        Ok(doing
            .command(&words)
            .effect("The next attempt of each is at the new time."))
    }

    fn transport(form: &Fields) -> Result<Self, AdminError> {
        let given = form
            .text("via")
            .ok_or_else(|| AdminError::invalid("choose a transport, or the routes").at("via"))?;
        // A choice without a value would be as if nothing was chosen.
        let name = if given == "-" { "" } else { given };
        let change = Change {
            transport: Some(name.to_owned()),
            ..Change::default()
        };
        let effect = match name {
            "" => "The routes decide again how they are sent.".to_owned(),
            name => format!("They are sent by the transport {name}, whatever the routes say."),
        };
        let deed = Deed::Change(change);
        let doing = Self::of("Set the transport", "given the transport", deed);
        Ok(doing
            .effect(&effect)
            .command(&["transport", name])
            .patch(json!({"transport": name})))
    }

    fn require_tls(form: &Fields) -> Result<Self, AdminError> {
        let (required, effect) = match form.text("policy") {
            Some("yes") => (
                Some(true),
                "They go only over verified TLS, to hosts with REQUIRETLS. Else they fail.",
            ),
            Some("no") => (Some(false), "They go without TLS if there is no other way."),
            Some("default") => (None, "The policy of the remote says which TLS they need."),
            _ => {
                let text = "choose which TLS the messages need";
                return Err(AdminError::invalid(text).at("policy"));
            }
        };
        let change = Change {
            require_tls: Some(required),
            ..Change::default()
        };
        let doing = Self::of("Set the TLS", "given the TLS policy", Deed::Change(change));
        Ok(doing
            .effect(effect)
            .command(&["requiretls", form.text("policy").unwrap_or_default()])
            .patch(json!({"require_tls": required})))
    }

    fn command(mut self, words: &[&str]) -> Self {
        self.words = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    fn patch(mut self, body: Value) -> Self {
        self.call = Some((Method::PATCH, Vec::new(), Some(body)));
        self
    }

    fn effect(mut self, effect: &str) -> Self {
        self.effects.push(effect.to_owned());
        self
    }

    /// The command and the call that do it to the messages of a filter.
    pub(super) fn as_command(&self, filter: &Filter) -> AsCommand {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let words = [&["queue"], words.as_slice()].concat();
        let command = filter.command(&words, true);
        let Some((method, more, body)) = &self.call else {
            return command;
        };
        let more: Vec<(&str, &str)> = more.iter().map(|(name, it)| (*name, &**it)).collect();
        match filter.path(&more) {
            Some(path) => command.call(method, &path, body.as_ref()),
            None => command,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_what_to_do() {
        let now = Time(1_796_040_000_000_000);
        for (form, cli, call) in [
            (
                "do=hold",
                "postrider queue hold --ids 7",
                "-X PATCH --json '{\"hold\":true}' \"$URL\"/api/queue/messages/7",
            ),
            (
                "do=now",
                "postrider queue kick --ids 7",
                "-X PATCH \"$URL\"/api/queue/messages/7",
            ),
            (
                "do=schedule&by=%2B1h",
                "postrider queue schedule --by +1h --ids 7",
                "",
            ),
            (
                "do=transport&via=-",
                "postrider queue transport '' --ids 7",
                "-X PATCH --json '{\"transport\":\"\"}' \"$URL\"/api/queue/messages/7",
            ),
            (
                "do=tls&policy=default",
                "postrider queue requiretls default --ids 7",
                "-X PATCH --json '{\"require_tls\":null}' \"$URL\"/api/queue/messages/7",
            ),
            (
                "do=fail",
                "postrider queue fail --ids 7",
                "-X DELETE \"$URL\"'/api/queue/messages/7?fail=true'",
            ),
        ] {
            let doing = Doing::new(&Fields::parse(form.as_bytes()), now).unwrap();
            let command = doing.as_command(&Filter::ids(&[7]));
            assert_eq!(command.cli, cli, "{form}");
            assert!(command.curl.ends_with(call), "{form}: {}", command.curl);
        }
        for (form, field) in [
            ("", "do"),
            ("do=schedule", "at"),
            ("do=schedule&at=soon", "at"),
            ("do=transport", "via"),
            ("do=tls&policy=x", "policy"),
        ] {
            let error = Doing::new(&Fields::parse(form.as_bytes()), now).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field), "{form}");
        }
    }
}
