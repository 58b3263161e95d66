//! What people see of messages that a call sent: their lines of the log, and the trace of the call.

use std::time::Duration;

use postrider_observe::{
    millis,
    trace::{EventType, Keep, Key, Kind, Term},
};
use postrider_smtp::{FirstOf, ShownIds, server::SessionName};
use postrider_store::{QueueId, Time};
use tracing::info;

use crate::call::{auth::User, context::CallContext};

/// How many messages a trace has. More messages have more traces, which name the same call.
const PER_TRACE: usize = 200;

/// A message that is queued.
pub(super) struct TakenMessage<'a> {
    /// The reverse-path, before a fromid was added.
    pub(super) from: &'a str,
    /// With `<` and `>`.
    pub(super) message_id: &'a str,
    /// Bytes of the text.
    pub(super) size: u64,
    /// The recipients, each with its queued message. At least one.
    pub(super) to: Vec<(&'a str, QueueId)>,
}

/// Tells of the messages that a call of this method sent, each a transaction of its own. The call
/// began at `began`.
pub(super) fn tell(
    context: &CallContext,
    user: &User,
    method: &'static str,
    began: Time,
    messages: &[TakenMessage<'_>],
) {
    let now = context.clock.now();
    let elapsed = now.since(began);
    for (at, message) in messages.iter().enumerate() {
        log(user, user.transaction(at), message, elapsed);
    }
    for (part, messages) in messages.chunks(PER_TRACE).enumerate() {
        let first = part * PER_TRACE;
        trace(context, user, method, (began, now), (first, messages));
    }
}

/// The ids of the queued messages, each once. A recipient that is named twice has one message.
fn ids(message: &TakenMessage<'_>) -> Vec<u64> {
    let mut ids: Vec<u64> = message.to.iter().map(|(_, id)| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn log(user: &User, name: SessionName, message: &TakenMessage<'_>, elapsed: Duration) {
    info!(
        session = %name,
        by = "webapi",
        remote = %user.remote,
        account = user.account,
        login = %user.login,
        from = message.from,
        to = %FirstOf(message.to.iter().map(|(to, _)| *to)),
        queue = ShownIds::of(&ids(message)).value(),
        message_id = message.message_id,
        size = message.size,
        elapsed_ms = millis(elapsed),
        "accepted"
    );
}

fn trace(
    context: &CallContext,
    user: &User,
    method: &'static str,
    (began, now): (Time, Time),
    (first, messages): (usize, &[TakenMessage<'_>]),
) {
    let tracer = context.queue.tracer();
    let mut trace = tracer.start(Kind::Api, began.0);
    if !trace.is_on() {
        return;
    }
    trace.belongs_to(&user.account);
    trace.index(Term::RemoteIp(user.remote));
    trace.event(began.0, EventType::PostriderApiStart, |data| {
        data.display(Key::Session, user.call);
        data.text(Key::Type, method);
        data.display(Key::RemoteIp, user.remote);
        data.text(Key::AccountName, &user.account);
    });
    for (at, message) in messages.iter().enumerate() {
        let transaction = user.transaction(first + at).to_string();
        trace.index(Term::Session(&transaction));
        trace.index(Term::Sender(message.from));
        trace.index(Term::MessageId(message.message_id));
        let mut last = QueueId(0);
        for (to, id) in &message.to {
            // New messages have rising numbers. A recipient that is named twice has one message.
            if *id <= last {
                continue;
            }
            last = *id;
            trace.index(Term::Queue(id.0));
            trace.index(Term::Recipient(to));
            trace.event(now.0, EventType::QueueQueueMessageAuthenticated, |data| {
                data.number(Key::QueueId, id.0);
                data.text(Key::From, message.from);
                data.text(Key::To, to);
                data.number(Key::Size, message.size);
                data.text(Key::MessageId, message.message_id);
                data.text(Key::AccountName, &user.account);
                data.text(Key::Session, &transaction);
            });
        }
    }
    trace.event(now.0, EventType::PostriderApiEnd, |data| {
        data.number(Key::Code, 200);
        data.elapsed(now.since(began));
    });
    tracer.finish(trace, Keep::Sampled);
}
