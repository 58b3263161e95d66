//! What a restart must not forget: what was learnt of sites, and the orders of administrators.
//!
//! Orders are stored before they are in force, and what is over is taken from them. What was learnt
//! is noted in one operation, once in [`EVERY`] at most, and once more when the last attempt has
//! ended. So are the marks of addresses that last for long. A site at which nothing goes on leaves
//! the memory, and comes back with what the store has of it. While the store does not give all that
//! at the start, nothing is delivered: mail would go to sites that are paused.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use postrider_config::Rate;
use postrider_smtp::{Cause, DeliveryStatus};
use postrider_store::{
    BucketNote, HaltKind, HaltNote, SiteNote, SourceNote, StoreError, WarmUpNote,
};
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::{Now, Sites, apply};
use crate::{
    Queue,
    deliver::Mark,
    next_hop::Site,
    schedule::{Bucket, Halt, Learnt, LearntOfSite, LearntOfSource, Of, SiteState, WarmUp},
};

/// What was learnt is noted once in this time, at most.
const EVERY: Duration = Duration::from_secs(10);
/// Sites at which nothing goes on leave the memory once in this time.
const SWEPT_EVERY: Duration = Duration::from_secs(60);
/// The name of an address in the store begins so. No site has such a name.
const ADDRESS: &str = "address:";
/// How long to wait before the store is asked again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// What there is to do.
enum Next {
    /// To note what was learnt.
    Learnt,
    /// To take from the orders what is over.
    Orders,
    /// To forget sites at which nothing goes on.
    Sweep,
    /// To end.
    End,
}

impl Queue {
    /// Sets what was known of sites before a restart, when the store gives it.
    async fn restore_sites(&self) {
        let mut failed = false;
        loop {
            match self.try_to_restore_sites().await {
                Ok(()) => {
                    if failed {
                        info!("what was known of sites is read; deliveries begin");
                    }
                    return;
                }
                Err(error) if !failed => {
                    error!(%error, "failed to read what was known of sites and what administrators want for them; nothing is delivered until it is read");
                }
                Err(_) => {}
            }
            failed = true;
            let again = self.clock.moment().after(STORE_RETRY);
            self.clock.sleep_until_moment(again).await;
        }
    }

    async fn try_to_restore_sites(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.ordering.lock().await;
        let orders = self.store.site_orders().await?;
        let notes = self.store.learnt_of_sites().await?;
        let now = self.now();
        self.sites.restored.store(true, Ordering::Relaxed);
        {
            let mut state = self.sites.state();
            let by_target = orders
                .iter()
                .map(|order| (order.target.clone(), order.clone()));
            state.orders.extend(by_target);
            let ordered = !state.orders.is_empty();
            self.sites.ordered.store(ordered, Ordering::Relaxed);
        }
        for note in notes {
            if let Some((address, mark)) = mark(&note, now) {
                self.addresses.restore(address, mark);
                self.sites.state().kept.marks.insert(address, mark);
                continue;
            }
            let site = Site::from(note.site.as_str());
            let learnt = learnt(&note, now);
            let halt = learnt.halt.as_ref();
            let lasts = halt.is_some_and(|halt| now.moment < halt.until);
            self.sites
                .state()
                .kept
                .put(site.clone(), learnt, note.noted);
            // The others come back with their mail.
            if lasts {
                self.sites.pace(&site, now);
            }
        }
        for order in orders {
            for pace in self.paces_of(&order.target) {
                apply(&pace, &order, now, pace.site().as_str() == order.target);
            }
        }
        Ok(())
    }

    /// Sets what was known of sites before a restart. `known` learns when that is done. Then notes
    /// what is learnt, until `ended` is true: the last attempt has ended.
    pub(crate) async fn keep_sites(
        &self,
        known: oneshot::Sender<()>,
        mut ended: watch::Receiver<bool>,
    ) {
        tokio::select! {
            () = self.restore_sites() => {}
            _ = ended.wait_for(|ended| *ended) => return,
        };
        // The queue waits for it, unless it ended.
        let _ = known.send(());
        let mut sweep = self.clock.moment().after(SWEPT_EVERY);
        loop {
            let next = tokio::select! {
                () = self.clock.sleep_until_moment(sweep) => Next::Sweep,
                () = self.sites.learnt.notified() => Next::Learnt,
                () = self.orders_over() => Next::Orders,
                _ = ended.wait_for(|ended| *ended) => Next::End,
            };
            match next {
                Next::Learnt => self.note_sites().await,
                Next::Sweep => {
                    self.note_sites().await;
                    self.sweep_sites();
                    sweep = self.clock.moment().after(SWEPT_EVERY);
                    continue;
                }
                Next::Orders => {
                    if let Err(error) = self.tidy_orders().await {
                        warn!(%error, "orders for sites that are over are not removed");
                    }
                }
                // If the queue was dropped in the middle, nothing more is noted.
                Next::End if !*ended.borrow() => return,
                Next::End => return self.note_sites().await,
            }
            let next = self.clock.moment().after(EVERY);
            tokio::select! {
                () = self.clock.sleep_until_moment(next) => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        }
    }

    /// Notes what is known of sites and not of the store, and has the store forget what is over.
    async fn note_sites(&self) {
        let now = self.now();
        let paces = self.sites.all();
        let marks = self.addresses.marks(now.moment);
        let (mut notes, mut forget) = (Vec::new(), Vec::new());
        let (mut sites, mut gone) = (Vec::new(), Vec::new());
        {
            let mut state = self.sites.state();
            let kept = &mut state.kept;
            for pace in paces {
                let (site, learnt) = (pace.site(), pace.learnt(now.moment));
                if learnt.as_ref() == kept.get(site) {
                    continue;
                }
                match learnt {
                    Some(learnt) => {
                        notes.push(note(site.to_string(), &learnt, now));
                        sites.push((site.clone(), learnt));
                    }
                    None => {
                        forget.push(site.to_string());
                        gone.push(site.clone());
                    }
                }
            }
            for (address, mark) in &marks {
                if kept.marks.get(address) != Some(mark) {
                    notes.push(note_of_mark(*address, *mark, now));
                }
            }
            let ended = kept.marks.keys().filter(|it| !marks.contains_key(*it));
            forget.extend(ended.map(|address| mark_name(*address)));
            kept.tidy(now);
        }
        if notes.is_empty() && forget.is_empty() {
            return;
        }
        match self.store.note_sites(notes, forget).await {
            Ok(()) => {
                let mut state = self.sites.state();
                for (site, learnt) in sites {
                    state.kept.put(site, learnt, now.time);
                }
                gone.iter().for_each(|site| state.kept.forget(site));
                state.kept.marks = marks;
            }
            Err(error) => warn!(%error, "what was learnt of sites is not stored"),
        }
    }

    /// Has sites leave the memory at which nothing goes on.
    fn sweep_sites(&self) {
        let now = self.clock.moment();
        let lanes = self.lanes();
        self.sites.sweep(|site| lanes.waits_at(site), now);
    }
}

impl Sites {
    /// Something was learnt that is to be kept.
    pub(crate) fn note_soon(&self) {
        self.learnt.notify_one();
    }
}

fn halt_note(halt: &Halt, now: Now) -> HaltNote {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    HaltNote {
        kind: match halt.state {
            SiteState::Blocked => HaltKind::Blocked,
            SiteState::Down => HaltKind::Down,
            _ => HaltKind::Resting,
        },
        until: now.time_of(halt.until),
        failing: halt.failing,
        code: halt.status.code,
        enhanced: halt.status.enhanced,
        text: halt.status.text.clone(),
        remote: text(halt.status.remote.as_deref()),
        stage: text(halt.status.command.as_deref()),
    }
}

fn halt(note: &HaltNote, now: Now) -> Halt {
    Halt {
        state: match note.kind {
            HaltKind::Resting => SiteState::Resting,
            HaltKind::Down => SiteState::Down,
            HaltKind::Blocked => SiteState::Blocked,
        },
        until: now.moment_of(note.until),
        failing: note.failing,
        status: status(note),
    }
}

fn bucket_notes(buckets: &[(Of, Bucket)], now: Now) -> Vec<BucketNote> {
    let notes = buckets.iter().map(|(of, bucket)| BucketNote {
        rate: bucket.rate().to_string(),
        connections: *of == Of::Connects,
        full_at: now.time_of(bucket.full_at()),
    });
    notes.collect()
}

fn buckets(notes: &[BucketNote], now: Now) -> Vec<(Of, Bucket)> {
    let buckets = notes.iter().filter_map(|bucket| {
        let of = match bucket.connections {
            true => Of::Connects,
            false => Of::Messages,
        };
        let rate = Rate::parse(&bucket.rate).ok()?;
        Some((of, Bucket::new(rate, now.moment_of(bucket.full_at))))
    });
    buckets.collect()
}

fn source_note(source: &str, learnt: &LearntOfSource, now: Now) -> SourceNote {
    let warm_up = learnt.warm_up;
    SourceNote {
        source: source.to_owned(),
        halt: learnt.halt.as_ref().map(|halt| halt_note(halt, now)),
        blocks: learnt.blocks,
        buckets: bucket_notes(&learnt.buckets, now),
        warm_up: (warm_up != WarmUp::default()).then_some(WarmUpNote {
            day: warm_up.day,
            sent: warm_up.sent,
            blocked: warm_up.blocked,
            repeats: warm_up.repeats,
        }),
    }
}

fn source_learnt(note: &SourceNote, now: Now) -> LearntOfSource {
    let warm_up = note.warm_up.map(|note| WarmUp {
        day: note.day,
        sent: note.sent,
        blocked: note.blocked,
        repeats: note.repeats,
    });
    LearntOfSource {
        halt: note.halt.as_ref().map(|note| halt(note, now)),
        blocks: note.blocks,
        buckets: buckets(&note.buckets, now),
        warm_up: warm_up.unwrap_or_default(),
    }
}

fn note(site: String, learnt: &LearntOfSite, now: Now) -> SiteNote {
    let sources = learnt.sources.iter();
    SiteNote {
        site,
        noted: now.time,
        halt: learnt.halt.as_ref().map(|halt| halt_note(halt, now)),
        deaths: u32::try_from(learnt.deaths).unwrap_or(u32::MAX),
        blocks: learnt.blocks,
        cap: learnt.cap.map(|cap| {
            let connections = u32::try_from(cap.connections).unwrap_or(u32::MAX);
            (connections, now.time_of(cap.until))
        }),
        buckets: bucket_notes(&learnt.buckets, now),
        sources: sources
            .map(|(name, learnt)| source_note(name, learnt, now))
            .collect(),
    }
}

fn learnt(note: &SiteNote, now: Now) -> LearntOfSite {
    let sources = note.sources.iter();
    LearntOfSite {
        halt: note.halt.as_ref().map(|note| halt(note, now)),
        deaths: usize::try_from(note.deaths).unwrap_or(usize::MAX),
        blocks: note.blocks,
        cap: note.cap.map(|(connections, until)| Learnt {
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            until: now.moment_of(until),
        }),
        buckets: buckets(&note.buckets, now),
        sources: sources
            .map(|note| (note.source.clone(), source_learnt(note, now)))
            .collect(),
    }
}

fn mark_name(address: SocketAddr) -> String {
    format!("{ADDRESS}{address}")
}

/// The note of a mark: as of a site that is down.
fn note_of_mark(address: SocketAddr, mark: Mark, now: Now) -> SiteNote {
    SiteNote {
        site: mark_name(address),
        noted: now.time,
        halt: Some(HaltNote {
            kind: HaltKind::Down,
            until: now.time_of(mark.until),
            failing: true,
            code: 0,
            enhanced: None,
            text: String::new(),
            remote: String::new(),
            stage: String::new(),
        }),
        deaths: mark.failures,
        blocks: 0,
        cap: None,
        buckets: Vec::new(),
        sources: Vec::new(),
    }
}

/// The mark of an address. None: the note is one of a site.
fn mark(note: &SiteNote, now: Now) -> Option<(SocketAddr, Mark)> {
    let address = note.site.strip_prefix(ADDRESS)?.parse().ok()?;
    let mark = Mark {
        until: now.moment_of(note.halt.as_ref()?.until),
        failures: note.deaths,
    };
    Some((address, mark))
}

/// The reason of a halt. It delays messages, and never ends one.
fn status(halt: &HaltNote) -> DeliveryStatus {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    DeliveryStatus {
        cause: match halt.code {
            0 => Cause::Connect,
            _ => Cause::Reply,
        },
        code: halt.code,
        enhanced: halt.enhanced,
        permanent: halt.code >= 500,
        text: halt.text.clone(),
        remote: given(&halt.remote),
        command: given(&halt.stage).map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use postrider_smtp::EnhancedCode;
    use postrider_store::{Moment, Time};

    use super::*;

    fn now(seconds: u64) -> Now {
        Now {
            time: Time(0).after(Duration::from_secs(1_000_000 + seconds)),
            moment: Moment(Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn a_mark_is_noted_beside_the_sites() {
        let mark_of = |seconds| Mark {
            until: Moment(Duration::from_secs(seconds)),
            failures: 3,
        };
        for address in ["192.0.2.1:25", "[2001:db8::1]:25"] {
            let address = address.parse().unwrap();
            let noted = note_of_mark(address, mark_of(5000), now(2000));
            let later = Now {
                time: now(2500).time,
                moment: Moment(Duration::from_secs(500)),
            };
            assert_eq!(mark(&noted, later), Some((address, mark_of(3000))));
        }
        for site in ["mx.test", "address:mx.test"] {
            let noted = note(site.into(), &LearntOfSite::default(), now(0));
            assert_eq!(mark(&noted, now(0)), None, "{site}");
        }
    }

    /// The process ends, and another one begins whose moments begin anew.
    #[test]
    fn what_was_learnt_comes_back_after_a_restart() {
        let moment = |seconds| Moment(Duration::from_secs(seconds));
        let learnt_before = |shift: u64| LearntOfSite {
            halt: Some(Halt {
                state: SiteState::Blocked,
                until: moment(5000 - shift),
                failing: true,
                status: DeliveryStatus {
                    code: 554,
                    permanent: true,
                    ..DeliveryStatus::transient(Cause::Reply, EnhancedCode::NO_ANSWER, "no")
                        .with_remote("mx.test [192.0.2.1]")
                        .with_command("MAIL")
                },
            }),
            deaths: 2,
            blocks: 3,
            cap: Some(Learnt {
                connections: 3,
                until: moment(4000 - shift),
            }),
            buckets: vec![(
                Of::Messages,
                Bucket::new(Rate::parse("9/day").unwrap(), moment(6000 - shift)),
            )],
            sources: vec![(
                "one".to_owned(),
                LearntOfSource {
                    halt: None,
                    blocks: 1,
                    buckets: vec![(
                        Of::Connects,
                        Bucket::new(Rate::parse("5/hour").unwrap(), moment(4500 - shift)),
                    )],
                    warm_up: WarmUp {
                        day: 11,
                        sent: 90,
                        blocked: true,
                        repeats: 2,
                    },
                },
            )],
        };
        let noted = note("mx.test".into(), &learnt_before(0), now(2000));
        let later = Now {
            time: now(2500).time,
            moment: moment(500),
        };
        assert_eq!(learnt(&noted, later), learnt_before(2000));
        let much_later = learnt(&noted, now(20_000));
        assert_eq!(much_later.halt.unwrap().until, moment(5000));
    }
}
