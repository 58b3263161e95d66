//! Attempts over the network.
//!
//! | file | its job |
//! |---|---|
//! | `addresses` | the connections of each address, and the addresses that failed lately |
//! | `dialing` | the socket under a connection |
//! | `sources` | which source of ours the messages come from |
//! | `endpoint` | one connection, until its session is open |
//! | `attempt` | the hosts of one attempt, one after another, and its end |
//! | `attempt/family` | a second try at the other family of addresses |
//! | `host`, `race` | the addresses of a host: a race for a connection, then a session |
//! | `again` | what the last attempt says about host and family of the next one |
//! | `tls` | the protection of connections |
//! | `lacks` | the hosts that can't take a message |
//! | `policy` | the MTA-STS policy of a destination |
//! | `paused` | what an administrator pauses meanwhile, and senders whose mail waits |
//! | `giving_back` | what makes way for others meanwhile |
//! | `counting` | the connections, counted for reports about TLS |
//! | `connections` | the connections, counted for metrics |
//! | `transaction` | which messages go in which transaction, envelopes, and what the replies mean |
//! | `conversion` | the form of a message for a host that lacks an extension |
//! | `probe` | the question for a recipient, without a message |
//! | `transcripts` | what was said to the hosts |
//! | `happenings`, `traced` | what happened, step by step, and the traces made of it |
//! | `signing` | which messages need which signatures, and the signatures that are known |

mod addresses;
mod again;
mod attempt;
mod connections;
mod conversion;
mod counting;
mod dialing;
mod endpoint;
mod giving_back;
mod happenings;
mod host;
mod lacks;
mod paused;
mod policy;
mod probe;
mod race;
mod signing;
mod sources;
mod tls;
mod traced;
mod transaction;
mod transcripts;

use std::time::Duration;

use postrider_config::Dynamic;
use postrider_observe::metrics::Usage;
use postrider_smtp::client::Connection;
use postrider_store::{Lane, Moment, QueueId, Queued, Transcript};

pub(crate) use addresses::{Addresses, Mark, Peer};
pub(crate) use conversion::Formed;
pub(crate) use happenings::{said, tell_said};
pub(crate) use race::Families;
pub(crate) use signing::{Signatures, nearest_domain, signs};

use crate::{
    Queue,
    next_hop::{self, Hop, HostSet, HostTlsa, Plan, PlanKey, Way},
    run::Slot,
    schedule::Opened,
    settle::{EndedAttempt, Postponed},
    source::{Source, Sources},
    tls::{Proven, Requested, Rule},
    traces::AttemptTrace,
};
use addresses::Place;
use again::Preference;
use attempt::OngoingAttempt;
use connections::OpenCount;

/// A connection that is kept for more messages.
pub(crate) struct KeptConnection {
    /// The hosts that it belongs to. Mail for other hosts of the same site needs another
    /// connection.
    set: HostSet,
    /// The transport that it was made by. A transport has its own addresses, login and rules of
    /// TLS.
    transport: String,
    /// The host, by the plan that the connection was made for.
    hop: Hop,
    proven: Proven,
    source: Source,
    /// The rule that said which TLS the connection needs.
    rule: Rule,
    connection: Connection,
    place: Place,
    opened: Opened,
    sent: Sent,
    counted: OpenCount,
}

/// What was sent over a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    transactions: usize,
    /// How long all of them took.
    took: Duration,
}

impl KeptConnection {
    /// Takes leave of the server.
    pub(crate) async fn quit(self) {
        self.connection.quit().await;
    }

    /// Whether the site has more connections than it may have. If so, this one is to end.
    pub(crate) fn is_too_many(&mut self, now: Moment) -> bool {
        self.opened.is_too_many(now)
    }

    /// How long its transactions took, on average.
    pub(crate) fn mean(&self) -> Duration {
        let count = u32::try_from(self.sent.transactions).unwrap_or(u32::MAX);
        self.sent.took / count.max(1)
    }

    /// Says whether the connection is in use from now on, or waits for messages.
    pub(crate) fn set_usage(&mut self, usage: Usage) {
        self.counted.set(usage);
    }

    /// Ends when the address is full and another connection waits for a place.
    pub(crate) async fn is_wanted_elsewhere(&self) {
        self.place.wanted().await;
    }

    /// Whether the messages of an attempt may go over this connection. Its site is that of the
    /// plan.
    ///
    /// What DANE and MTA-STS demand may have changed since, and is not the same for each domain of
    /// a site. So the certificate is checked anew.
    async fn fits(&self, attempt: &OngoingAttempt<'_>) -> bool {
        let plan = attempt.plan;
        let is_its = self.set == plan.set && self.transport == plan.transport;
        let (peer, preference) = (self.place.address(), &attempt.preference);
        let is_preferred = preference.is_met_by(&self.hop.name, peer.ip());
        let comes_from = attempt.comes_from(&self.source, peer);
        if !is_its || !is_preferred || !comes_from || !self.takes_more(plan) {
            return false;
        }
        let resolver = &*attempt.queue.resolver;
        let tlsa = match attempt.wants_tlsa() {
            true => match next_hop::addresses(resolver, &self.hop.name, true).await {
                Ok(found) => attempt.tlsa(&self.hop, &found.tlsa_bases).await,
                Err(_) => return false,
            },
            false => HostTlsa::Absent,
        };
        let stays = attempt.stays(self.place.address());
        let Ok(protection) = attempt.protection(&self.hop, &tlsa, stays) else {
            return false;
        };
        let certificates = self.connection.peer_certificates();
        protection.is_met(self.proven, certificates, &attempt.queue.tls)
    }

    /// Whether the connection takes a further message.
    fn takes_more(&self, plan: &Plan) -> bool {
        let max = plan.provider.messages_per_connection;
        self.connection.usable() && self.sent.transactions < max
    }
}

/// What all messages of an attempt have alike.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alike {
    /// What their senders ask of TLS.
    requested: Requested,
    /// Where they come from.
    sources: Sources,
    /// The host and the family that they prefer.
    preference: Preference,
}

/// What became of messages.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) ended: Vec<EndedAttempt>,
    /// The traces of the attempts that ended. Empty if there are no traces.
    pub(crate) traces: Vec<AttemptTrace>,
    /// The messages that were not attempted.
    pub(crate) postponed: Vec<Postponed>,
    /// The lanes whose messages no source of ours may send before this moment.
    pub(crate) held: Vec<(Lane, Moment)>,
    /// The messages that make way for others. They go back as if they had not been claimed.
    pub(crate) given_back: Vec<Queued>,
    /// What was said of messages whose attempts ended.
    pub(crate) transcripts: Vec<(QueueId, Transcript)>,
    /// False: no connection to the site can be made now.
    pub(crate) connects: bool,
}

impl Queue {
    /// Attempts messages that share a plan. `kept` is the connection of the last attempt at the
    /// same site, and is set to the connection for the next one.
    ///
    /// Messages whose senders ask for different TLS have attempts of their own: that one of them
    /// can't have its TLS delays no other. So have messages that come from different addresses of
    /// ours, and those that prefer different hosts or families after their last attempts.
    pub(crate) async fn deliver(
        &self,
        config: &Dynamic,
        plan: &Plan,
        messages: Vec<Queued>,
        kept: &mut Option<KeptConnection>,
        slot: &Slot,
    ) -> Delivered {
        let mut delivered = Delivered {
            connects: true,
            ..Delivered::default()
        };
        for (mut alike, mut messages) in self.by_likeness(config, plan, messages) {
            let held = self.refused_before(plan, alike.requested, &mut messages);
            delivered.postponed.extend(held);
            if messages.is_empty() {
                continue;
            }
            let sources = &mut alike.sources;
            self.leave_out_nameless(sources, &slot.pace).await;
            let attempt = OngoingAttempt::new(self, config, plan, (alike, messages), slot);
            let part = self.deliver_alike(attempt, kept).await;
            let before = delivered.traces.len();
            delivered.traces.extend(part.traces);
            delivered.ended.extend(part.ended.into_iter().map(|ended| {
                let trace = before + ended.trace;
                EndedAttempt { trace, ..ended }
            }));
            delivered.postponed.extend(part.postponed);
            delivered.held.extend(part.held);
            delivered.given_back.extend(part.given_back);
            delivered.transcripts.extend(part.transcripts);
            delivered.connects &= part.connects;
        }
        delivered
    }

    /// Takes out the messages whose destinations are not tried now, since the rules of TLS refused
    /// the last attempt of messages that asked for the same TLS.
    fn refused_before(
        &self,
        plan: &Plan,
        requested: Requested,
        messages: &mut Vec<Queued>,
    ) -> Vec<Postponed> {
        let plans = self.plans();
        if !plans.has_refusals() {
            return Vec::new();
        }
        let (now, mut held) = (self.now(), Vec::new());
        for message in std::mem::take(messages) {
            let key = PlanKey::of(&message, &plan.transport);
            match plans.refusal(key, requested, now.moment) {
                Some(wait) => {
                    let until = now.time_of(wait.until);
                    held.push(Postponed::by(message, &wait, until));
                }
                None => messages.push(message),
            }
        }
        held
    }

    /// The messages by what they have alike, in their order.
    fn by_likeness(
        &self,
        config: &Dynamic,
        plan: &Plan,
        messages: Vec<Queued>,
    ) -> Vec<(Alike, Vec<Queued>)> {
        let mut groups: Vec<(Alike, Vec<Queued>)> = Vec::with_capacity(1);
        for message in messages {
            let sources = self.sources_for(&message.common.account, config, plan);
            let alike = Alike {
                requested: Requested::of(&message),
                sources,
                preference: match plan.way {
                    Way::Direct(_) => Preference::of(&message),
                    Way::Smarthost(_) | Way::Lmtp(_) => Preference::None,
                },
            };
            match groups.iter_mut().find(|(of, _)| *of == alike) {
                Some((_, group)) => group.push(message),
                None => groups.push((alike, vec![message])),
            }
        }
        groups
    }

    /// Where the mail of an account to the hosts of a plan comes from.
    pub(crate) fn sources_for(&self, account: &str, config: &Dynamic, plan: &Plan) -> Sources {
        match plan.way {
            Way::Direct(_) => Sources::of(&self.statics, config, account, plan),
            Way::Smarthost(_) | Way::Lmtp(_) => Sources::any(&self.statics),
        }
    }

    async fn deliver_alike(
        &self,
        mut attempt: OngoingAttempt<'_>,
        kept: &mut Option<KeptConnection>,
    ) -> Delivered {
        let began = self.clock.moment();
        attempt.withdraw();
        attempt.give_back();
        if !attempt.has_pending() {
            return attempt.finish();
        }
        attempt.sign_or_postpone().await;
        if let Some(mut old) = kept.take() {
            if old.fits(&attempt).await {
                attempt.send_again(&mut old).await;
                *kept = Some(old);
            } else {
                tokio::spawn(old.quit());
            }
        }
        if let Some(full) = kept.take_if(|kept| !kept.takes_more(attempt.plan)) {
            tokio::spawn(full.quit());
        }
        if attempt.has_pending() && !attempt.rests() {
            // Most attempts have a connection, and need no memory for this.
            Box::pin(attempt.try_hosts(kept)).await;
            attempt.look_at_policy_again().await;
        }
        attempt.try_other_families(kept).await;
        if let Some(full) = kept.take_if(|kept| !kept.takes_more(attempt.plan)) {
            tokio::spawn(full.quit());
        }
        let (answered, now) = (attempt.answered(), self.clock.moment());
        let (took, slot) = (now.since(began), attempt.slot);
        if answered > 0 {
            if slot.pace.answered(answered, took, now) {
                slot.answers().await;
            }
        } else if attempt.reached() {
            slot.pace.unanswered(took, now);
        }
        attempt.finish()
    }
}
