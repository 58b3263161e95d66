//! One attempt: the hosts of a plan, and the addresses of each host, until each message has a
//! result.

mod end;
mod family;
pub(super) mod hosts;
mod ours;

use std::time::Duration;

use postrider_config::{Dynamic, ReplyScope};
use postrider_smtp::{
    Cause, DeliveryStatus, EnhancedCode,
    client::{Link, Recorder, Unopened},
};
use postrider_store::{QueueId, Queued, Time};
use tokio::time::Instant;
use tracing::debug;

use super::{
    Alike, Delivered, KeptConnection, Sent,
    addresses::{Peer, Place},
    again::Preference,
    connections::OpenCount,
    endpoint::{Endpoint, Unconnected, no_token, unreached},
    happenings::{Happened, Happenings, HostRef, ip_of},
    lacks::Lacks,
    traced::Traced,
    transcripts::{Ends, Transcripts},
};
use crate::{
    Queue,
    faults::OwnFault,
    judge::{self, Block},
    next_hop::{Hop, Plan},
    run::Slot,
    settle::{EndedAttempt, LastHop, Postponed},
    source::{Source, Sources},
    tls::{MtaStsFact, Refusal, Requested},
    traces,
};
use end::Trouble;
use family::ByPolicy;

/// The wait of messages that were not attempted, where nothing else gives one.
const PAUSE: Duration = Duration::from_secs(60);

/// An attempt under way.
pub(super) struct OngoingAttempt<'a> {
    pub(super) queue: &'a Queue,
    pub(super) config: &'a Dynamic,
    pub(super) plan: &'a Plan,
    /// What the senders of all messages ask of TLS.
    pub(super) requested: Requested,
    /// Where they come from.
    pub(super) sources: Sources,
    /// The host and the family that they prefer.
    pub(super) preference: Preference,
    pub(super) start: Time,
    pub(super) slot: &'a Slot,
    /// No further host is tried after it.
    end: Instant,
    /// What stood in the way of connections.
    trouble: Trouble,
    /// A connection was opened, or an open one was of use.
    reached: bool,
    /// A reply wants us to leave the site in peace. No further host is tried.
    rests: bool,
    /// The site blocks the source of the connection, and another one takes its mail at once.
    pub(super) taken_over: bool,
    /// The address of a connection that was open before, and whether it takes no more: it is lost,
    /// or it has had all messages that it may have.
    before: Option<(Peer, bool)>,
    /// The messages whose MAIL was sent, and that have no final result, with the last that a host
    /// said of them.
    pub(super) begun: Vec<(QueueId, DeliveryStatus)>,
    pub(super) postponed: Vec<Postponed>,
    /// The messages that a host refused by its policy, and that another address may take.
    by_policy: ByPolicy,
    /// The messages that make way for others.
    pub(super) given_back: Vec<Queued>,
    /// How many messages the site answered for.
    answered: usize,
    /// The messages without a result, each with the last thing that happened to it.
    pub(super) pending: Vec<(Queued, DeliveryStatus)>,
    pub(super) ended: Vec<EndedAttempt>,
    /// Some host failed in a way that may pass.
    pub(super) may_pass: bool,
    /// Some host does not meet the MTA-STS policy of the destination.
    pub(super) failed_by_policy: bool,
    /// The hosts that can't take messages.
    pub(super) lacks: Lacks,
    /// What was said to hosts.
    pub(super) transcripts: Transcripts,
    /// What happened so far.
    pub(super) happenings: Happenings<'a>,
    /// Which messages share a trace.
    pub(super) traced: Traced,
}

/// How the visit of an address begins.
pub(super) enum Visit {
    /// With a new connection.
    New {
        /// Even if connections to the address failed lately.
        even_marked: bool,
    },
    /// With this connection.
    Connected(Place, Link),
}

impl Visit {
    const NEW: Self = Self::New { even_marked: false };
}

impl<'a> OngoingAttempt<'a> {
    pub(super) fn new(
        queue: &'a Queue,
        config: &'a Dynamic,
        plan: &'a Plan,
        (alike, messages): (Alike, Vec<Queued>),
        slot: &'a Slot,
    ) -> Self {
        let untried = DeliveryStatus::transient(
            Cause::Connect,
            EnhancedCode::NO_ANSWER,
            "no host could be tried",
        );
        let start = queue.clock.now();
        let preview = traces::preview(&queue.tracer, start, &messages);
        Self {
            queue,
            config,
            plan,
            requested: alike.requested,
            sources: alike.sources,
            preference: alike.preference,
            start,
            slot,
            end: Instant::now() + queue.statics.delivery.message_time,
            trouble: Trouble::default(),
            reached: false,
            rests: false,
            taken_over: false,
            before: None,
            begun: Vec::new(),
            postponed: Vec::new(),
            by_policy: ByPolicy::default(),
            given_back: Vec::new(),
            answered: 0,
            pending: messages
                .into_iter()
                .map(|message| (message, untried.clone()))
                .collect(),
            ended: Vec::new(),
            may_pass: false,
            failed_by_policy: false,
            lacks: Lacks::default(),
            transcripts: Transcripts::new(queue.statics.queue.keep_transcripts),
            happenings: Happenings::new(start, queue.tracer.is_on()).told(preview, plan),
            traced: Traced::default(),
        }
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many messages the site answered for.
    pub(super) const fn answered(&self) -> usize {
        self.answered
    }

    /// Whether a reply wants us to leave the site in peace.
    pub(super) const fn rests(&self) -> bool {
        self.rests
    }

    /// Whether there was a connection.
    pub(super) const fn reached(&self) -> bool {
        self.reached
    }

    /// When no further message begins and no further host is tried.
    pub(super) const fn end_of_time(&self) -> Instant {
        self.end
    }

    /// Sends the messages over a connection that was open before.
    pub(super) async fn send_again(&mut self, kept: &mut KeptConnection) {
        let peer = kept.place.address().clone();
        self.happenings.note(|| Happened::Reused {
            host: HostRef::of(&kept.hop, self.plan),
            ip: ip_of(&peer),
        });
        let ends = Ends {
            host: &kept.hop.name,
            peer: &peer,
            source: &kept.source,
            rule: kept.rule,
        };
        self.send(&mut kept.connection, ends, &mut kept.sent).await;
        self.before = Some((peer, !kept.takes_more(self.plan)));
        // A server may close a connection at any time. That says nothing of the next connection.
        let answered = !self.ended.is_empty() || !self.begun.is_empty();
        self.reached = answered || !self.by_policy.is_empty();
    }

    /// Whether MAIL was sent for a message that has no final result.
    pub(super) fn is_begun(&self, id: QueueId) -> bool {
        self.begun.iter().any(|(begun, _)| *begun == id)
    }

    /// Notes what a host said of a message, which has no final result.
    pub(super) fn begin(&mut self, id: QueueId, status: DeliveryStatus) {
        self.begun.retain(|(begun, _)| *begun != id);
        self.begun.push((id, status));
    }

    /// What a host said last of a message whose MAIL was sent. None of another message.
    pub(super) fn said(&self, id: QueueId) -> Option<&DeliveryStatus> {
        let mut begun = self.begun.iter();
        let found = begun.find(|(begun, _)| *begun == id);
        found.map(|(_, status)| status)
    }

    /// Has the site rest, if a rule for the reply of a host says so.
    pub(super) fn hear(&mut self, status: &DeliveryStatus, from: &Source) {
        let rule = self.plan.rule_for(status);
        let rule = rule.filter(|rule| rule.scope == ReplyScope::Source);
        let rest = rule.and_then(|rule| Some((rule.class, rule.rest?)));
        if let Some((class, rest)) = rest {
            debug!(site = %self.plan.site, ?rest, %status, "the site rests after a reply");
            let now = self.queue.clock.moment();
            let pace = &self.slot.pace;
            pace.rest_as_told(status, (class, rest), from, now);
            self.queue.sites.note_soon();
            self.rests = true;
        }
    }

    fn end_pending(&mut self) {
        for (message, status) in std::mem::take(&mut self.pending) {
            let status = self.said(message.id).cloned().unwrap_or(status);
            self.end(message, status, LastHop::SendsNoDsns);
        }
    }

    pub(super) fn end(&mut self, message: Queued, status: DeliveryStatus, hop: LastHop) {
        let replied = status.cause == Cause::Reply && !blames_address(&status);
        self.answered += usize::from(status.is_success() || replied);
        let known = self.plan.rule_for(&status).map(|rule| rule.class);
        let other_source = self.taken_over && self.is_block(&status);
        self.transcripts
            .end(message.id, self.start, status.is_success());
        self.ended.push(EndedAttempt {
            message,
            known,
            block: Block {
                on_block: self.sources.on_block,
                other_source,
            },
            status,
            start: self.start,
            hop,
            tried: true,
            trace: 0,
        });
    }

    /// Notes that no connection is to be made to a host, as the rules of TLS say.
    fn refused(&mut self, hop: &Hop, refusal: Refusal) {
        let host = hop.name.as_str();
        let by_policy = self.mta_sts(host) == MtaStsFact::NotListed;
        self.failed_by_policy |= by_policy;
        let (Refusal::ForNow(status) | Refusal::Lacks(status)) = &refusal;
        self.happenings.note(|| Happened::RefusedByRules {
            host: HostRef::of(hop, self.plan),
            by_policy,
            status: Box::new(status.clone()),
        });
        match refusal {
            Refusal::ForNow(status) => {
                self.trouble.refused = true;
                self.note(&status.with_remote(host));
            }
            Refusal::Lacks(status) => {
                let status = status.with_remote(host);
                for (message, _) in &self.pending {
                    self.lacks.note(message.id, host, status.clone());
                }
            }
        }
    }

    /// Whether a host can't take any of the messages.
    pub(super) fn all_lack(&self, host: &str) -> bool {
        let mut pending = self.pending.iter();
        pending.all(|(message, _)| self.lacks.has(message.id, host))
    }

    /// Whether to connect to an address. The address of the connection that was open before is
    /// tried again only if that connection takes no more, for the messages that it did not come to.
    fn is_worth_a_connection(&self, address: &Peer) -> bool {
        match &self.before {
            Some((before, over)) if before == address => *over && self.has_untried(),
            _ => true,
        }
    }

    /// Whether MAIL was not sent yet for a message without a result.
    fn has_untried(&self) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|(message, _)| !self.is_begun(message.id))
    }

    /// Tries the addresses that failed lately, if no other one has a connection and the site is to
    /// be probed: each of them may be the one that is back.
    async fn try_marked(&mut self, marked: Vec<Endpoint<'_>>, kept: &mut Option<KeptConnection>) {
        let Some(first) = marked.first() else {
            return;
        };
        if self.reached {
            return;
        }
        if !self.slot.pace.brief(self.queue.clock.moment()).probed {
            let trouble = &mut self.trouble;
            // That we have no way to an address, as without IPv6, says nothing of the others.
            if !(trouble.failed || trouble.crowded) {
                trouble.marked = true;
                let text = "connections failed lately, so none was tried";
                self.note(&unreached(first, text.to_owned()));
            }
            return;
        }
        for endpoint in marked {
            if Instant::now() >= self.end {
                return self.be_late();
            }
            if self.all_lack(&endpoint.hop.name) {
                continue;
            }
            let start = Visit::New { even_marked: true };
            if self.visit(endpoint, start, kept).await || self.reached {
                return;
            }
        }
    }

    /// Notes what happened to the messages without a result. A refusal counts only if all hosts
    /// refuse.
    fn note(&mut self, status: &DeliveryStatus) {
        debug!(%status, "a host did not take the messages");
        if status.permanent && self.may_pass {
            return;
        }
        self.may_pass |= !status.permanent;
        for (_, last) in &mut self.pending {
            *last = status.clone();
        }
    }

    /// Notes that all places at an address are taken.
    pub(super) fn crowded(&mut self, endpoint: &Endpoint<'_>) {
        self.trouble.crowded = true;
        let text = "all connections that the address may have are in use";
        self.note(&unreached(endpoint, text.to_owned()));
    }

    /// Notes that the time of the attempt is over.
    pub(super) const fn be_late(&mut self) {
        self.trouble.late = true;
    }

    /// Notes that a host can't be reached, since no source can be used.
    fn no_source(&mut self, status: &DeliveryStatus) {
        self.trouble.no_way = true;
        self.note(status);
    }

    /// Notes that an address failed while another one got a connection.
    pub(super) fn outrun(&mut self, status: &DeliveryStatus) {
        self.trouble.failed = true;
        self.trouble.unmarked |= !self.blames_address(status);
        self.note(status);
    }

    /// Notes that there is no session at an address. Returns true when nothing is left to do.
    pub(super) fn unconnected(
        &mut self,
        endpoint: &Endpoint<'_>,
        error: Unconnected,
        recorder: Option<&Recorder>,
    ) -> bool {
        if let Unconnected::Theirs(unopened) = &error {
            self.transcripts
                .unopened(endpoint.ends(), unopened, recorder);
        }
        let Unopened { status, tls } = match error {
            Unconnected::NotBefore(until) => {
                self.trouble.no_token = Some(until);
                self.note(&no_token(endpoint));
                return true;
            }
            Unconnected::Ours(fault, error) => {
                return self.own_fault(fault, &unreached(endpoint, error.to_string()));
            }
            Unconnected::Theirs(unopened) => unopened,
        };
        self.hear(&status, &endpoint.source);
        // That a host does not have the TLS of a few messages, or the TLS that one of its domains
        // demands, says nothing of the site.
        let by_policy = endpoint.protection.is_by_policy();
        let by_domain = endpoint.protection.is_by_domain();
        let demanded = by_domain || self.requested == Requested::Required;
        self.trouble.refused |= tls.is_some() && demanded;
        if tls.is_none() || !demanded {
            self.trouble.failed = true;
            let rule = self.plan.rule_for(&status);
            let now = self.queue.clock.moment();
            let from = Some(&endpoint.source);
            self.slot.pace.observe(&status, rule, from, now);
            self.queue.sites.note_soon();
            self.taken_over = self.is_taken_over(&endpoint.source, &endpoint.address);
        }
        self.trouble.unmarked |= !self.blames_address(&status);
        self.failed_by_policy |= tls.is_some() && by_policy;
        // A host that answers for the domain has the last word when it says no for good. But if it
        // only refuses to speak with us, another host may be kinder.
        let last_word = status.permanent && !judge::refuses_to_speak(&status);
        if last_word {
            self.may_pass = false;
        }
        self.note(&status);
        if last_word {
            self.end_pending();
        }
        last_word || self.rests
    }

    /// Tries one address, with as many connections as the messages need: each takes so many and no
    /// more. Returns true when nothing is left to do.
    pub(super) async fn visit(
        &mut self,
        endpoint: Endpoint<'_>,
        start: Visit,
        kept: &mut Option<KeptConnection>,
    ) -> bool {
        let even_marked = matches!(start, Visit::New { even_marked: true });
        let mut start = start;
        loop {
            let done = self.connect_and_send(&endpoint, start, kept).await;
            start = Visit::New { even_marked };
            let full = kept.take_if(|kept| kept.place.address() == &endpoint.address);
            match full {
                Some(full)
                    if !done
                        && !full.takes_more(self.plan)
                        && self.has_untried()
                        && !self.all_lack(&endpoint.hop.name) =>
                {
                    self.before = Some((endpoint.address.clone(), true));
                    tokio::spawn(full.quit());
                    if Instant::now() >= self.end {
                        return true;
                    }
                }
                other => {
                    *kept = other.or_else(|| kept.take());
                    return done;
                }
            }
        }
    }

    /// Tries one address with one connection. Returns true when nothing is left to do.
    async fn connect_and_send(
        &mut self,
        endpoint: &Endpoint<'_>,
        start: Visit,
        kept: &mut Option<KeptConnection>,
    ) -> bool {
        let (queue, clock) = (self.queue, &*self.queue.clock);
        let address = &endpoint.address;
        let even_marked = matches!(start, Visit::New { even_marked: true });
        let (mut place, link) = match start {
            Visit::Connected(place, link) => (place, Some(link)),
            Visit::New { even_marked } => {
                let place = queue.addresses.place(address, clock, even_marked).await;
                let Some(place) = place else {
                    self.crowded(endpoint);
                    return false;
                };
                (place, None)
            }
        };
        let mut opened = self.slot.pace.open();
        self.note_tried(endpoint);
        let recorder = self.transcripts.recorder();
        // A connection that is made takes much more memory than one that is open.
        let connected = Box::pin(self.connect_protected(endpoint, link, recorder.as_ref()));
        let (mut connection, proven) = match connected.await {
            Ok(connected) => connected,
            Err(error) => {
                if matches!(error, Unconnected::Ours(..))
                    && let Some(source) = self.other_source(endpoint)
                {
                    drop((place, opened));
                    let endpoint = Endpoint {
                        source,
                        ..endpoint.clone()
                    };
                    let start = Visit::New { even_marked };
                    return Box::pin(self.connect_and_send(&endpoint, start, kept)).await;
                }
                if let Unconnected::Theirs(Unopened { status, .. }) = &error
                    && self.blames_address(status)
                {
                    place.failed(clock.moment(), status.code == 421);
                }
                return self.unconnected(endpoint, error, recorder.as_ref());
            }
        };
        self.reached = true;
        let counted = OpenCount::busy(&queue.metrics);
        if place.opened(clock.moment()) {
            queue.sites.note_soon();
        }
        opened.ready();
        let mut sent = Sent::default();
        let mut aside = Vec::new();
        let before = self.before.as_ref();
        if before.is_some_and(|(before, _)| before == address) {
            let begun = &self.begun;
            let is_begun =
                |(message, _): &mut (Queued, _)| begun.iter().any(|(id, _)| *id == message.id);
            aside = self.pending.extract_if(.., is_begun).collect();
        }
        self.send(&mut connection, endpoint.ends(), &mut sent).await;
        self.pending.extend(aside);
        if connection.usable() {
            let old = kept.replace(KeptConnection {
                set: self.plan.set,
                transport: self.plan.transport.clone(),
                hop: endpoint.hop.clone().into_owned(),
                proven,
                source: endpoint.source.clone(),
                rule: endpoint.protection.rule(),
                connection,
                place,
                opened,
                sent,
                counted,
            });
            if let Some(old) = old {
                tokio::spawn(old.quit());
            }
        }
        self.pending.is_empty() || self.rests
    }

    /// Notes a fault of ours. Returns true if no other address helps.
    fn own_fault(&mut self, fault: OwnFault, status: &DeliveryStatus) -> bool {
        if fault == OwnFault::NoWay && self.by_policy.is_second() {
            // This machine has one family only. There is nothing to repair.
            return false;
        }
        let until = self.queue.own_fault(fault, status);
        match fault {
            OwnFault::UsedUp => self.trouble.used_up = Some(until),
            OwnFault::NoWay | OwnFault::Settings | OwnFault::Store => self.trouble.no_way = true,
        }
        self.note(status);
        fault == OwnFault::UsedUp
    }
}

/// Whether the failure says that nobody gets far at this address. A failed login or TLS says
/// nothing of others.
pub(super) fn blames_address(status: &DeliveryStatus) -> bool {
    let command = status.command.as_deref();
    status.cause != Cause::Tls && matches!(command, Some("connect" | "greeting" | "EHLO" | "HELO"))
}
