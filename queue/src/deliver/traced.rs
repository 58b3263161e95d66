//! The traces of an attempt: one for each transaction, and one for each message that came to none.

use std::{fmt, time::Duration};

use postrider_observe::trace::{EventType, Key, Trace};
use postrider_store::{QueueId, Queued, Speaker, TranscriptLine};

use super::{
    attempt::OngoingAttempt,
    happenings::{Happened, Happenings},
    transcripts::Recorded,
};
use crate::{
    mta_sts::FetchFault,
    next_hop::{Hop, Plan, Way},
    settle::EndedAttempt,
    traces::AttemptTrace,
};

/// Which messages were sent in which transaction.
#[derive(Debug, Default)]
pub(super) struct Traced {
    /// The messages with the numbers of their transactions, in order.
    of: Vec<(QueueId, usize)>,
    /// When each transaction ended, in microseconds since 1970.
    ends: Vec<i64>,
}

impl Traced {
    /// Notes that each of these groups of messages was sent in a transaction, which ended now.
    pub(super) fn sent(&mut self, happenings: &Happenings<'_>, groups: &[Vec<Queued>]) {
        if !happenings.is_on() {
            return;
        }
        let now = happenings.now();
        for group in groups {
            let ids = group.iter().map(|message| message.id);
            self.of.extend(ids.map(|id| (id, self.ends.len())));
            self.ends.push(now);
        }
    }

    /// The last transaction of a message. None: it came to none.
    fn last(&self, id: QueueId) -> Option<usize> {
        let mut of = self.of.iter().rev();
        of.find(|(of, _)| *of == id).map(|(_, number)| *number)
    }
}

/// What a trace has of an attempt.
enum Entry<'a> {
    Step(&'a Happened),
    Line(&'a TranscriptLine),
}

impl OngoingAttempt<'_> {
    /// The traces of the messages that have their results. Notes for each message which one is its
    /// own.
    pub(super) fn open_traces(&mut self) -> Vec<AttemptTrace> {
        if !self.happenings.is_on() {
            return Vec::new();
        }
        let now = self.happenings.now();
        let steps = self.happenings.take();
        // The first trace goes on from what was told, if it belongs to the same accounts. It has
        // all steps up to its end.
        let mut preview = self.happenings.take_preview();
        // The number of each transaction, and the places of its messages.
        let mut groups: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
        for (place, ended) in self.ended.iter_mut().enumerate() {
            let number = self.traced.last(ended.message.id);
            let mut known = groups.iter();
            let group = known.position(|(of, _)| number.is_some() && *of == number);
            ended.trace = group.unwrap_or(groups.len());
            match groups.get_mut(ended.trace) {
                Some((_, places)) => places.push(place),
                None => groups.push((number, vec![place])),
            }
        }
        let traces = groups.into_iter().map(|(number, places)| {
            let places = places.iter();
            let messages: Vec<&EndedAttempt> =
                places.filter_map(|place| self.ended.get(*place)).collect();
            let end = number.and_then(|number| self.traced.ends.get(number));
            let end = end.copied().unwrap_or(now);
            self.trace_of(&messages, &steps, end, preview.take())
        });
        traces.collect()
    }

    /// The trace of these messages, whose transaction ended at `end`.
    fn trace_of(
        &self,
        ended: &[&EndedAttempt],
        steps: &[(i64, Happened)],
        end: i64,
        preview: Option<Trace>,
    ) -> AttemptTrace {
        let messages: Vec<&Queued> = ended.iter().map(|ended| &ended.message).collect();
        let tracer = &self.queue.tracer;
        let mut trace = AttemptTrace::start_after(tracer, self.start, &messages, preview);
        if let Some(first) = messages.first() {
            tell_plan(self.plan, first, self.start.0, &mut trace);
        }
        let is_one = |id: QueueId| messages.iter().any(|message| message.id == id);
        let concerning = steps
            .iter()
            .filter(|(at, step)| step.message().map_or(*at <= end, is_one))
            .map(|(at, step)| (*at, Entry::Step(step)));
        let mut said = messages.iter();
        let said = said.find_map(|message| self.transcripts.of_ended(message.id));
        let mut entries: Vec<(i64, Entry<'_>)> = concerning.collect();
        if let Some(said) = said {
            entries.extend(lines(said, &self.happenings));
            // What was at the same time stays in its order.
            entries.sort_by_key(|(at, _)| *at);
        }
        for (at, entry) in entries {
            match entry {
                Entry::Step(step) => {
                    if let Some(ip) = step.remote() {
                        trace.with_remote(ip);
                    }
                    step.tell(self.plan, &mut |event, fill| trace.step(at, event, fill));
                }
                Entry::Line(line) => {
                    let event = match line.by {
                        Speaker::Client => EventType::DeliveryRawOutput,
                        Speaker::Server | Speaker::Nobody => EventType::DeliveryRawInput,
                    };
                    trace.event(at, event, |data| data.text(Key::Contents, &line.text));
                }
            }
        }
        for ended in ended {
            let (message, status) = (&ended.message, &ended.status);
            let is_said = steps.iter().any(|(_, step)| {
                matches!(step, Happened::Said(id, said) if *id == message.id && **said == *status)
            });
            if !is_said {
                trace.said(end, message, status);
            }
        }
        trace
    }
}

/// The lines of a transcript since the attempt began. What nobody said is left out: it is a step.
fn lines<'a>(
    said: &'a Recorded,
    happenings: &'a Happenings<'_>,
) -> impl Iterator<Item = (i64, Entry<'a>)> {
    let lines = said.transcript.lines.iter();
    let lines = lines.filter(|line| line.by != Speaker::Nobody);
    lines.filter_map(move |line| {
        let at = said.since + Duration::from_millis(u64::from(line.ms));
        Some((happenings.time_of(at)?, Entry::Line(line)))
    })
}

/// A host with its preference.
struct ShownHop<'a>(&'a Hop);

impl fmt::Display for ShownHop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.preference, self.0.name)
    }
}

/// The events of a plan: the hosts of a domain, and its MTA-STS policy.
fn tell_plan(plan: &Plan, message: &Queued, at: i64, trace: &mut AttemptTrace) {
    if !trace.is_on() || !matches!(plan.way, Way::Direct(_)) || plan.stays_here() {
        return;
    }
    let domain = message.destination();
    trace.event(at, EventType::DeliveryMxLookup, |data| {
        data.text(Key::Domain, &domain);
        let hosts = plan.hops.iter();
        data.texts(Key::Details, hosts.map(ShownHop));
        // DNSSEC proves the hosts.
        data.flag(Key::Strict, plan.secure_names.is_some());
    });
    match (&plan.mta_sts, plan.mta_sts_fault) {
        (Some(applied), _) => trace.event(at, EventType::MtaStsPolicyFetch, |data| {
            data.text(Key::Domain, &applied.domain);
            data.display(Key::Policy, applied.policy.mode);
        }),
        (None, Some(FetchFault::Syntax)) => {
            trace.event(at, EventType::MtaStsInvalidPolicy, |data| {
                data.text(Key::Domain, &domain);
            });
        }
        (None, Some(fault)) => trace.event(at, EventType::MtaStsPolicyFetchError, |data| {
            data.text(Key::Domain, &domain);
            if fault == FetchFault::Certificate {
                data.text(Key::Reason, "the certificate of its host is not valid");
            }
        }),
        (None, None) if plan.mta_sts_unknown => {
            trace.event(at, EventType::MtaStsPolicyFetchError, |data| {
                data.text(Key::Domain, &domain);
            });
        }
        (None, None) => trace.event(at, EventType::MtaStsPolicyNotFound, |data| {
            data.text(Key::Domain, &domain);
        }),
    }
}
