//! What others see of a session: lines of the log, counts, and its trace.
//!
//! | file | what it has |
//! |---|---|
//! | here | the session itself: connection, TLS, EHLO, commands, refusals |
//! | `login` | logins |
//! | `checks` | the results of the checks of a message |
//! | `taken` | the decision about a message, and what becomes of it |
//!
//! Each refusal comes here once, and gets its line, its count and its event from one place. What is
//! observed has no secret, no subject and no part of a text.

mod checks;
mod login;
mod taken;

use std::{fmt::Write as _, time::Duration};

use postrider_observe::{
    metrics::{
        Command, Label, Listener, ReplyClass, Service, Success, TimedCommand, TlsDirection,
        TlsVersion,
    },
    trace::{Data, EventType, Keep, Key, Kind, Term, Trace},
};
use postrider_smtp::{
    HandshakeFailure, Reply, TlsInfo, reason,
    server::{Client, Event, MailFrom, RcptTo, Refused, SessionName, Verb},
};
use postrider_store::Moment;
use tracing::info;

pub(crate) use self::{
    checks::{Doubt, count_time},
    taken::{CameIn, TakenMessage, count_incoming, count_verdicts, incoming_events, shown_verdict},
};
use crate::SessionContext;

/// What others see of one session.
///
/// A session with many messages has several traces, one after the other, so that none of its
/// messages is in a middle that is left out.
#[derive(Debug)]
pub(crate) struct Observer {
    /// The service that the client connected to.
    listener: Listener,
    trace: Trace,
    /// Whether the trace is kept in any case.
    keep: Keep,
    /// When the client connected.
    connected: Moment,
    /// When the transaction began.
    began: Moment,
    /// The trace has the name of a transaction, by which the session is found too.
    is_named: bool,
    /// The name that the events of the trace stand under.
    told: Option<SessionName>,
    /// The account of the login; empty without one.
    account: String,
    /// Room for the text of an address or a name.
    text: String,
}

impl Observer {
    /// A session of this service.
    pub(crate) const fn new(listener: Listener) -> Self {
        Self {
            listener,
            trace: Trace::off(),
            keep: Keep::Sampled,
            connected: Moment(Duration::ZERO),
            began: Moment(Duration::ZERO),
            is_named: false,
            told: None,
            account: String::new(),
            text: String::new(),
        }
    }

    /// The service in metrics.
    const fn service(&self) -> Service {
        match self.listener {
            Listener::Smtp => Service::Smtp,
            _ => Service::Submission,
        }
    }

    /// Something happened in the session.
    pub(crate) fn happened(&mut self, context: &SessionContext, client: &Client, event: &Event) {
        match event {
            Event::Connected => self.connected(context, client),
            Event::Secured { took } => {
                // A port for HTTPS has counted it.
                if self.listener != Listener::Https {
                    let version = client.tls.as_ref().map_or(TlsVersion::None, version_of);
                    let labels = (TlsDirection::In, version, Success::Ok);
                    context.metrics.tls_handshakes_total.with(labels).inc();
                }
                self.add(context, EventType::TlsHandshake, |data| {
                    if let Some(tls) = &client.tls {
                        data.text(Key::Version, &tls.version);
                        data.text(Key::Details, &tls.cipher);
                    }
                    data.elapsed(*took);
                });
            }
            // The listener counts it, with the others that it sees.
            Event::HandshakeFailed { failure, took } => {
                self.keep = Keep::Always;
                self.add(context, EventType::TlsHandshakeError, |data| {
                    data.text(Key::Reason, HandshakeFailure::as_str(*failure));
                    data.elapsed(*took);
                });
            }
            Event::Hello => self.add(context, EventType::SmtpEhlo, |data| {
                data.text_if_any(Key::Domain, client.helo.as_deref().unwrap_or_default());
            }),
            Event::Replaced => {
                self.account.clear();
                self.trace.index(Term::RemoteIp(client.remote.ip()));
            }
            Event::Replied { verb, code, took } => {
                let metrics = &context.metrics;
                let (service, command) = (self.service(), command_of(*verb));
                let class = class_of(code.get());
                metrics.commands_total.with((service, command, class)).inc();
                // A reply that asks for more is none yet.
                if let Some(timed) = timed(*verb).filter(|_| class != ReplyClass::Three) {
                    let durations = &metrics.command_duration_seconds;
                    durations.with((service, timed)).observe(*took);
                }
            }
            Event::Refused(refused) => self.refused(context, client, refused),
            Event::Ended => {
                let elapsed = context.clock.moment().since(self.connected);
                self.add(context, EventType::SmtpConnectionEnd, |data| {
                    data.elapsed(elapsed);
                });
                if self.trace.is_on() && !self.is_named {
                    self.trace.index(Term::Session(&client.session.to_string()));
                }
                let trace = std::mem::replace(&mut self.trace, Trace::off());
                context.tracer.finish(trace, self.keep);
            }
        }
    }

    fn connected(&mut self, context: &SessionContext, client: &Client) {
        self.connected = context.clock.moment();
        self.trace = context.tracer.start(Kind::Session, context.clock.now().0);
        if !self.trace.is_on() {
            return;
        }
        self.start(context, client, |_| {});
    }

    /// The first event of a trace.
    fn start(
        &mut self,
        context: &SessionContext,
        client: &Client,
        more: impl FnOnce(&mut Data<'_>),
    ) {
        self.trace.index(Term::RemoteIp(client.remote.ip()));
        self.told = Some(SessionName {
            session: client.session,
            transaction: 0,
        });
        let listener = self.listener.text();
        self.add(context, EventType::SmtpConnectionStart, |data| {
            data.text(Key::ListenerId, listener);
            data.display(Key::LocalIp, client.local.ip());
            data.number(Key::LocalPort, client.local.port().into());
            data.display(Key::RemoteIp, client.remote.ip().to_canonical());
            data.number(Key::RemotePort, client.remote.port().into());
            data.display(Key::Session, client.session);
            more(data);
        });
    }

    /// The trace ends, and the session goes on in another one, which has all facts too.
    fn go_on(&mut self, context: &SessionContext, client: &Client) {
        let next = context.tracer.start(Kind::Session, context.clock.now().0);
        let before = std::mem::replace(&mut self.trace, next);
        let keep = std::mem::replace(&mut self.keep, Keep::Sampled);
        context.tracer.finish(before, keep);
        self.is_named = false;
        let account = std::mem::take(&mut self.account);
        if !account.is_empty() {
            self.trace.belongs_to(&account);
        }
        self.start(context, client, |data| {
            data.text_if_any(Key::Domain, client.helo.as_deref().unwrap_or_default());
            if let Some(tls) = &client.tls {
                data.text(Key::Version, &tls.version);
            }
            data.text_if_any(Key::AccountName, &account);
            data.text(Key::Reason, "continued");
        });
        self.account = account;
    }

    /// A transaction begins.
    pub(crate) fn mail(&mut self, context: &SessionContext, client: &Client, mail: &MailFrom) {
        self.began = context.clock.moment();
        if !self.trace.is_on() {
            return;
        }
        if self.trace.is_long() {
            self.go_on(context, client);
        }
        self.index_name(client.name());
        self.told = Some(client.name());
        let from = self.text_of(&mail.reverse_path);
        self.trace.index(Term::Sender(&from));
        self.add(context, EventType::SmtpMailFrom, |data| {
            data.text(Key::From, &from);
            if let Some(size) = mail.size {
                data.number(Key::Size, size);
            }
            data.display(Key::Session, client.name());
        });
        self.text = from;
    }

    /// A recipient is accepted.
    pub(crate) fn rcpt(&mut self, context: &SessionContext, rcpt: &RcptTo) {
        if !self.trace.is_on() {
            return;
        }
        let to = self.text_of(&rcpt.forward_path);
        self.trace.index(Term::Recipient(&to));
        self.add(context, EventType::SmtpRcptTo, |data| {
            data.text(Key::To, &to)
        });
        self.text = to;
    }

    /// Something is refused: one line, one count and one event.
    fn refused(&mut self, context: &SessionContext, client: &Client, refused: &Refused) {
        self.keep = Keep::Always;
        let name = refused.reply.reason().unwrap_or(reason::OTHER);
        let meaning = context.guards.refusals.count(name);
        let labels = (self.service(), meaning.reason);
        context.metrics.refusals_total.with(labels).inc();
        let word = meaning.reason.text();
        let Refused {
            reply, from, to, ..
        } = refused;
        let account = match &refused.login {
            Some(login) => self.login_refused(context, client, login, name, meaning),
            None => {
                info!(
                    session = %refused.name,
                    remote = %client.remote.ip().to_canonical(),
                    helo = client.helo.as_deref(),
                    from = given(from),
                    to = given(to),
                    reason = word,
                    code = reply.code().get(),
                    enhanced = reply.enhanced().map(tracing::field::display),
                    text = %OneLine(reply),
                    trace.event = meaning.event.name(),
                    "refused"
                );
                None
            }
        };
        if !self.trace.is_on() {
            return;
        }
        if refused.name.transaction > 0 {
            self.index_name(refused.name);
        }
        if !from.is_empty() {
            self.trace.index(Term::Sender(from));
        }
        // Several recipients of a message were accepted before, each by its own event.
        if !to.is_empty() && !to.contains(' ') {
            self.trace.index(Term::Recipient(to));
        }
        // What stands under another name than the events before says so.
        let other = Some(refused.name).filter(|name| self.told != Some(*name));
        self.told = Some(refused.name);
        self.add(context, meaning.event, |data| {
            data.text_if_any(Key::From, from);
            data.text_if_any(Key::To, to);
            if let Some(account) = &account {
                data.text(Key::AccountName, account);
            }
            if let Some(login) = &refused.login {
                data.text_if_any(Key::Id, &login.user);
                data.text(Key::Type, login.mechanism.name());
            }
            data.number(Key::Code, reply.code().get().into());
            data.display(Key::Reason, OneLine(reply));
            data.text(Key::Rule, word);
            if let Some(name) = other {
                data.display(Key::Session, name);
            }
        });
    }

    /// Makes the trace known under the name of a transaction.
    fn index_name(&mut self, name: SessionName) {
        let text = self.text_of(&name);
        self.trace.index(Term::Session(&text));
        self.text = text;
        self.is_named = true;
    }

    /// A text in the room for texts, which the caller gives back.
    fn text_of(&mut self, of: &impl std::fmt::Display) -> String {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        // Writing to a text can't fail.
        let _ = write!(text, "{of}");
        text
    }

    /// Adds an event to the trace that happens now.
    fn add(
        &mut self,
        context: &SessionContext,
        event: EventType,
        fill: impl FnOnce(&mut Data<'_>),
    ) {
        if self.trace.is_on() {
            self.trace.event(context.clock.now().0, event, fill);
        }
    }
}

/// The text of a reply on one line.
struct OneLine<'a>(&'a Reply);

impl std::fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, line) in self.0.lines().enumerate() {
            let blank = if at == 0 { "" } else { " " };
            write!(f, "{blank}{line}")?;
        }
        Ok(())
    }
}

/// A text for the log, unless it is empty.
pub(crate) fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn version_of(tls: &TlsInfo) -> TlsVersion {
    match tls.version.as_str() {
        "TLSv1.2" => TlsVersion::Tls12,
        "TLSv1.3" => TlsVersion::Tls13,
        _ => TlsVersion::None,
    }
}

const fn class_of(code: u16) -> ReplyClass {
    match code {
        ..300 => ReplyClass::Two,
        300..400 => ReplyClass::Three,
        400..500 => ReplyClass::Four,
        500.. => ReplyClass::Five,
    }
}

const fn command_of(verb: Verb) -> Command {
    match verb {
        Verb::Helo => Command::Helo,
        Verb::Ehlo => Command::Ehlo,
        Verb::StartTls => Command::StartTls,
        Verb::Auth => Command::Auth,
        Verb::Mail => Command::Mail,
        Verb::Rcpt => Command::Rcpt,
        Verb::Data => Command::Data,
        Verb::Bdat => Command::Bdat,
        Verb::Rset => Command::Rset,
        Verb::Noop => Command::Noop,
        Verb::Vrfy => Command::Vrfy,
        Verb::Quit => Command::Quit,
        Verb::Xclient => Command::Xclient,
        Verb::Expn | Verb::Help | Verb::Other => Command::Other,
    }
}

const fn timed(verb: Verb) -> Option<TimedCommand> {
    Some(match verb {
        Verb::Mail => TimedCommand::Mail,
        Verb::Rcpt => TimedCommand::Rcpt,
        Verb::Data => TimedCommand::Data,
        Verb::Bdat => TimedCommand::Bdat,
        Verb::Auth => TimedCommand::Auth,
        _ => return None,
    })
}
