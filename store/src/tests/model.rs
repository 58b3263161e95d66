//! The engine against the model: any verbs in any order, with crashes, failed syncs and checkpoints in between.
//!
//! After each verb both must show the same. After a crash the engine must show what the model showed at some moment that is no
//! earlier than the last answer that promised durability: claims ride along with what is written next, and the unit that was cut
//! off may be there or not.

use std::{collections::BTreeSet, ops::AsyncFn, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;

use super::samples::*;
use crate::{
    Accept, Answered, ApiKey, ApiKeyId, Change, Claim, ClaimHooks, Counted, Counts, Credential,
    Event, EventFilter, HoldFilter, HoldRule, HoldRuleId, Hook, HookFilter, HookId,
    INLINE_TEXT_MAX, LoggedEvent, Mail, MailChange, MailId, NewApiKey, NewEvent, NewHookKind,
    NewMessage, NewSuppression, NewText, NextAttempt, Note, Once, Options, Order, Outcome, Page,
    Party, QueueFilter, QueueId, Queued, Reference, Retired, RetiredFilter, RetiredHook,
    RetiredHookFilter, Scope, Sent, Settle, Store, StoreError, Suppression, TextId, TextSource,
    Time, Top, disk::sim::SimDisk, engine::journal::Mode,
};

const DOMAINS: [&str; 4] = ["a.example", "b.example", "c.example", "[192.0.2.1]"];
const ONCE: [&str; 2] = ["one", "two"];
const URLS: [&str; 3] = [
    "http://one.example/",
    "http://two.example/",
    "http://three.example/",
];

#[derive(Clone, Debug)]
enum Step {
    Accept {
        domains: Vec<usize>,
        due: u16,
        hold: bool,
        text: Length,
        mails: u8,
        hook: Option<usize>,
        extras: Extras,
    },
    Claim {
        max: usize,
        per_destination: usize,
        only: Option<usize>,
        except: Option<usize>,
        lease: u16,
    },
    Renew {
        until: u16,
    },
    Settle {
        which: Vec<prop::sample::Index>,
        fate: Fate,
        dsn: bool,
        hook: Option<usize>,
        suppress: Option<u8>,
    },
    /// An administrator ends a message.
    End {
        id: u64,
        keep: Option<u16>,
    },
    Change {
        ids: Vec<u64>,
        change: Change,
    },
    Suppress(u8),
    Unsuppress(u8),
    AddHoldRule(HoldFilter),
    RemoveHoldRule(u64),
    ChangeMail {
        id: u64,
        seen: bool,
        archive: bool,
    },
    RemoveMail(u64),
    Stage,
    Unstage,
    AcceptAll {
        once: Option<u8>,
        due: u16,
    },
    AddApiKey,
    RemoveApiKey(u64),
    ScheduleHooks {
        ids: Vec<u64>,
        by: i16,
    },
    EndHooks {
        ids: Vec<u64>,
        keep: Option<u16>,
    },
    ClaimHooks {
        max: usize,
        per_url: usize,
        except: Option<usize>,
    },
    SettleHook {
        which: prop::sample::Index,
        fate: Fate,
    },
    Credential {
        account: u8,
        set: bool,
    },
    Expire {
        max: u8,
    },
    Pass {
        seconds: u16,
    },
    Checkpoint,
    FailSync,
    Crash {
        kind: Crash,
        again: Option<u8>,
    },
    PowerFailsAfter(u8),
    Reopen,
}

/// What else comes with what is accepted.
#[derive(Clone, Debug)]
struct Extras {
    account: bool,
    from_id: Option<u8>,
    transport: bool,
    note: Option<u64>,
    suppress: Option<u8>,
    once: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Length {
    None,
    Short(u16),
    Large,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Release,
    Retry(u16),
    Retire { success: bool, keep: Option<u16> },
}

#[derive(Clone, Copy, Debug)]
enum Crash {
    /// What was not synced is lost or torn.
    Power,
    /// `kill -9`.
    Kill,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        1 => Just(Fate::Release),
        2 => (0..300_u16).prop_map(Fate::Retry),
        4 => (any::<bool>(), prop::option::of(0..300_u16)).prop_map(|(success, keep)| Fate::Retire { success, keep }),
    ]
}

fn text_kind() -> impl Strategy<Value = Length> {
    prop_oneof![2 => Just(Length::None), 20 => (0..9000_u16).prop_map(Length::Short), 1 => Just(Length::Large)]
}

fn extras() -> impl Strategy<Value = Extras> {
    let id = prop::option::weighted(0.3, 0..8_u8);
    let suppress = prop::option::weighted(0.1, 0..6_u8);
    let note = prop::option::weighted(0.2, 1..20_u64);
    let once = prop::option::weighted(0.2, 0..2_u8);
    (
        any::<bool>(),
        id,
        prop::bool::weighted(0.2),
        note,
        suppress,
        once,
    )
        .prop_map(
            |(account, from_id, transport, note, suppress, once)| Extras {
                account,
                from_id,
                transport,
                note,
                suppress,
                once,
            },
        )
}

fn change() -> impl Strategy<Value = Change> {
    let next = prop_oneof![
        (0..300_i64).prop_map(|seconds| NextAttempt::At(at(seconds))),
        (-100_000_000..100_000_000_i64).prop_map(NextAttempt::Shift),
    ];
    let transport = prop_oneof![Just(String::new()), Just("other".to_owned())];
    (
        prop::option::of(any::<bool>()),
        prop::option::of(next),
        prop::option::of(transport),
        prop::option::weighted(0.2, prop::option::of(any::<bool>())),
    )
        .prop_map(|(hold, next_attempt, transport, require_tls)| Change {
            hold,
            next_attempt,
            transport,
            require_tls,
        })
}

fn hold_filter() -> impl Strategy<Value = HoldFilter> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(account, sender, recipient)| {
        HoldFilter {
            account: account.then(|| "bob".to_owned()),
            sender_domain: sender.then(|| "example.org".parse().unwrap()),
            recipient_domain: recipient.then(|| "b.example".parse().unwrap()),
            ..HoldFilter::default()
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let domain = || prop::option::weighted(0.2, 0..DOMAINS.len());
    let url = || prop::option::of(0..URLS.len());
    prop_oneof![
        20 => (prop::collection::vec(0..DOMAINS.len(), 0..4), 0..100_u16, prop::bool::weighted(0.1), text_kind(), 0..3_u8, url(), extras())
            .prop_map(|(domains, due, hold, text, mails, hook, extras)| Step::Accept { domains, due, hold, text, mails, hook, extras }),
        12 => (1..6_usize, 1..4_usize, domain(), domain(), 1..200_u16)
            .prop_map(|(max, per_destination, only, except, lease)| Step::Claim { max, per_destination, only, except, lease }),
        2 => (0..300_u16).prop_map(|until| Step::Renew { until }),
        12 => (prop::collection::vec(any::<prop::sample::Index>(), 1..4), fate(), any::<bool>(), url(), prop::option::weighted(0.2, 0..6_u8))
            .prop_map(|(which, fate, dsn, hook, suppress)| Step::Settle { which, fate, dsn, hook, suppress }),
        3 => (1..20_u64, prop::option::of(0..300_u16)).prop_map(|(id, keep)| Step::End { id, keep }),
        5 => (prop::collection::vec(1..20_u64, 1..5), change()).prop_map(|(ids, change)| Step::Change { ids, change }),
        2 => (0..6_u8).prop_map(Step::Suppress),
        1 => (0..6_u8).prop_map(Step::Unsuppress),
        1 => hold_filter().prop_map(Step::AddHoldRule),
        1 => (1..4_u64).prop_map(Step::RemoveHoldRule),
        2 => (1..10_u64, any::<bool>(), any::<bool>())
            .prop_map(|(id, seen, archive)| Step::ChangeMail { id, seen, archive }),
        2 => (1..10_u64).prop_map(Step::RemoveMail),
        4 => Just(Step::Stage),
        1 => Just(Step::Unstage),
        3 => (prop::option::weighted(0.3, 0..2_u8), 0..100_u16)
            .prop_map(|(once, due)| Step::AcceptAll { once, due }),
        1 => Just(Step::AddApiKey),
        1 => (1..4_u64).prop_map(Step::RemoveApiKey),
        3 => (prop::collection::vec(1..20_u64, 1..4), -100..100_i16)
            .prop_map(|(ids, by)| Step::ScheduleHooks { ids, by }),
        3 => (prop::collection::vec(1..20_u64, 1..4), prop::option::of(0..300_u16))
            .prop_map(|(ids, keep)| Step::EndHooks { ids, keep }),
        8 => (1..6_usize, 1..4_usize, prop::option::weighted(0.2, 0..URLS.len()))
            .prop_map(|(max, per_url, except)| Step::ClaimHooks { max, per_url, except }),
        8 => (any::<prop::sample::Index>(), fate()).prop_map(|(which, fate)| Step::SettleHook { which, fate }),
        1 => (0..2_u8, any::<bool>()).prop_map(|(account, set)| Step::Credential { account, set }),
        2 => (1_u8..4).prop_map(|max| Step::Expire { max }),
        6 => (1..200_u16).prop_map(|seconds| Step::Pass { seconds }),
        5 => Just(Step::Checkpoint),
        2 => Just(Step::FailSync),
        3 => (prop_oneof![Just(Crash::Power), Just(Crash::Kill)], prop::option::weighted(0.3, any::<u8>()))
            .prop_map(|(kind, again)| Step::Crash { kind, again }),
        3 => (0..60_u8).prop_map(Step::PowerFailsAfter),
        1 => Just(Step::Reopen),
    ]
}

/// All that a store shows.
#[derive(Debug, PartialEq)]
struct Shown {
    queued: Vec<Queued>,
    retired: Vec<Retired>,
    hooks: Vec<Hook>,
    retired_hooks: Vec<RetiredHook>,
    mails: Vec<Mail>,
    archived: Vec<Mail>,
    last_text: u64,
    api_keys: Vec<ApiKey>,
    events: Vec<Vec<LoggedEvent>>,
    counted: Vec<Vec<(Counted, u64)>>,
    answered: Vec<Option<Answered>>,
    sent: Vec<Sent>,
    known: Vec<bool>,
    texts: Vec<Option<Bytes>>,
    credentials: Vec<Option<Credential>>,
    suppressions: Vec<Suppression>,
    hold_rules: Vec<HoldRule>,
    /// What each filter finds, in both orders.
    listed: Vec<Vec<QueueId>>,
    listed_retired: Vec<Vec<QueueId>>,
    /// Messages by their names.
    found: Vec<BTreeSet<QueueId>>,
    counts: Counts,
}

/// All that a filter finds, page by page.
async fn pages<T>(
    page: impl AsyncFn(Option<QueueId>) -> Page<T, QueueId>,
    id: fn(&T) -> QueueId,
) -> Vec<QueueId> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = page(after).await;
        ids.extend(page.items.iter().map(id));
        match page.next {
            Some(next) => after = Some(next),
            None => return ids,
        }
    }
}

async fn listed(store: &Store) -> Vec<Vec<QueueId>> {
    let any = QueueFilter::default;
    let filters = [
        QueueFilter {
            account: Some("bob".into()),
            ..any()
        },
        QueueFilter {
            to: Some("@b.example".into()),
            ..any()
        },
        QueueFilter {
            from: Some("@example.org".into()),
            hold: Some(false),
            ..any()
        },
        QueueFilter {
            hold: Some(true),
            ..any()
        },
        QueueFilter {
            transport: Some("other".into()),
            ..any()
        },
        QueueFilter {
            ids: (1..9).map(QueueId).collect(),
            ..any()
        },
        any(),
    ];
    let mut listed = Vec::new();
    for filter in &filters {
        for order in [Order::Ascending, Order::Descending] {
            let page = async |after| store.list(filter, after, order, 3).await.unwrap();
            listed.push(pages(page, |queued| queued.id).await);
        }
    }
    listed
}

async fn listed_retired(store: &Store) -> Vec<Vec<QueueId>> {
    let any = RetiredFilter::default;
    let filters = [
        RetiredFilter {
            account: Some("bob".into()),
            ..any()
        },
        RetiredFilter {
            to: Some("@b.example".into()),
            ..any()
        },
        RetiredFilter {
            recipient: Some("x@a.example".into()),
            ..any()
        },
        RetiredFilter {
            success: Some(false),
            ..any()
        },
        RetiredFilter {
            success: Some(true),
            ..any()
        },
    ];
    let mut listed = Vec::new();
    for filter in &filters {
        for order in [Order::Ascending, Order::Descending] {
            let page = async |after| store.list_retired(filter, after, order, 2).await.unwrap();
            listed.push(pages(page, |retired| retired.message.id).await);
        }
    }
    listed
}

async fn found(store: &Store) -> Vec<BTreeSet<QueueId>> {
    let ids: Vec<String> = (0..8).map(|id| format!("id{id}")).collect();
    let common = common();
    let by_id = ids.iter().map(|id| (Reference::FromId(id), None, None));
    let message_id = Reference::MessageId(&common.message_id);
    let others = [
        (message_id, None, None),
        (message_id, None, Some("bob")),
        (message_id, Some("X@A.example"), None),
        (Reference::Envid("own"), None, None),
    ];
    let mut all = Vec::new();
    for (reference, recipient, account) in by_id.chain(others) {
        let found = store.find(reference, recipient, account, 10_000).await;
        let found = found.unwrap();
        all.push(found.iter().map(|found| found.message().id).collect());
    }
    all
}

async fn shown(store: &Store) -> Shown {
    let queued = store
        .list(&QueueFilter::default(), None, Order::Ascending, 10_000)
        .await
        .unwrap()
        .items;
    let retired = store
        .list_retired(&RetiredFilter::default(), None, Order::Ascending, 10_000)
        .await
        .unwrap()
        .items;
    let hooks = store
        .list_hooks(&HookFilter::default(), None, Order::Ascending, 10_000)
        .await
        .unwrap()
        .items;
    let mut mails = Vec::new();
    for account in ["ann", "bob"] {
        mails.extend(
            store
                .list_mails(account, None, None, 10_000)
                .await
                .unwrap()
                .items,
        );
    }
    let archived = store.list_mails("ann", Some("Archive"), None, 10_000).await;
    let texts = queued.iter().map(|queued| queued.text);
    let texts = texts.chain(retired.iter().map(|retired| retired.message.text));
    let texts = texts.chain(mails.iter().map(|mail| mail.text));
    let mut read = Vec::new();
    for id in texts {
        read.push(text(store, id).await);
    }
    let mut credentials = Vec::new();
    let mut counted = Vec::new();
    let mut sent = Vec::new();
    for account in ["ann", "bob"] {
        credentials.push(store.credential(account).await.unwrap());
        counted.push(store.counted_events(account, 0..=9).await.unwrap());
        sent.push(store.sent(account, Time(0)).await.unwrap());
    }
    let mut answered = Vec::new();
    for key in ONCE {
        answered.push(store.answered("ann", key, Time(0)).await.unwrap());
    }
    let mut known = Vec::new();
    for domain in DOMAINS {
        let recipient = format!("x@{domain}").parse().unwrap();
        known.push(store.is_known("ann", &recipient).await.unwrap());
    }
    Shown {
        texts: read,
        retired_hooks: store
            .list_retired_hooks(
                &RetiredHookFilter::default(),
                None,
                Order::Ascending,
                10_000,
            )
            .await
            .unwrap()
            .items,
        credentials,
        counts: Counts {
            journal_bytes: 0,
            ..store.counts().await
        },
        suppressions: store
            .list_suppressions(None, None, 10_000)
            .await
            .unwrap()
            .items,
        hold_rules: store.hold_rules().await.unwrap(),
        listed: listed(store).await,
        listed_retired: listed_retired(store).await,
        found: found(store).await,
        queued,
        retired,
        hooks,
        archived: archived.unwrap().items,
        last_text: store.last_text(),
        api_keys: store.api_keys().await.unwrap(),
        events: logged_events(store).await,
        counted,
        answered,
        sent,
        known,
        mails,
    }
}

/// What each filter finds in the logs.
async fn logged_events(store: &Store) -> Vec<Vec<LoggedEvent>> {
    let any = || EventFilter {
        account: "ann".into(),
        ..EventFilter::default()
    };
    let filters = [
        any(),
        EventFilter {
            account: "bob".into(),
            ..EventFilter::default()
        },
        EventFilter {
            recipient: Some(format!("x@{}", DOMAINS[1])),
            ..any()
        },
        EventFilter {
            message_id: Some("<1@x.example>".into()),
            ..any()
        },
        EventFilter {
            events: vec![Event::Failed, Event::Delayed],
            since: Some(at(200)),
            before: Some(at(900)),
            ..any()
        },
    ];
    let mut each = Vec::new();
    for filter in &filters {
        for order in [Order::Ascending, Order::Descending] {
            let page = store.list_events(filter, None, order, 10_000).await;
            each.push(page.unwrap().items);
        }
    }
    each
}

struct World {
    disk: SimDisk,
    options: Options,
    engine: Store,
    model: Store,
    /// What the engine may show after a crash.
    possible: Vec<Store>,
    /// Texts that were staged, and may have gone since.
    staged: Vec<TextId>,
    /// Claimed and not settled, as both gave them.
    claimed: Vec<Queued>,
    claimed_hooks: Vec<Hook>,
    now: Time,
    opened: u64,
    power: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let options = Options {
            segment_size: 512 << 10,
            checkpoint_interval: Duration::MAX,
            changes_in_memory: 1 << 20,
            ..Options::new("/data")
        };
        let engine = Store::open_on(disk.disk(), &options, Mode::Inline(seed)).unwrap();
        let model = Store::memory();
        Self {
            possible: vec![model.fork()],
            disk,
            options,
            engine,
            model,
            staged: Vec::new(),
            claimed: Vec::new(),
            claimed_hooks: Vec::new(),
            now: at(100),
            opened: seed,
            power: false,
        }
    }

    /// Carries out a verb that is durable when it is answered.
    async fn durable<T: PartialEq + std::fmt::Debug>(
        &mut self,
        verb: impl AsyncFn(&Store) -> Result<T, StoreError>,
    ) -> Option<T> {
        match verb(&self.engine).await {
            Ok(given) => {
                assert_eq!(verb(&self.model).await.unwrap(), given);
                self.possible = vec![self.model.fork()];
                Some(given)
            }
            Err(StoreError::Invalid(_) | StoreError::FromIdInUse(_)) => {
                verb(&self.model).await.unwrap_err();
                None
            }
            Err(error) => {
                // It was not taken; but if the power fails now, nobody knows.
                let with = self.model.fork();
                if verb(&with).await.is_ok() {
                    self.possible.push(with);
                }
                if self.power || matches!(error, StoreError::Closed) {
                    self.crash(Crash::Power, None).await;
                }
                None
            }
        }
    }

    async fn crash(&mut self, kind: Crash, again: Option<u8>) {
        // Nothing that the engine does from here on reaches the disk.
        self.disk.fail_power_after(0);
        self.engine = Store::memory();
        match kind {
            Crash::Power => self.disk.crash(),
            Crash::Kill => self.disk.kill(),
        }
        if let Some(changes) = again {
            // The power fails once more, while it opens.
            self.disk.fail_power_after(changes.into());
            self.opened += 1;
            let options = &self.options;
            if let Ok(store) = Store::open_on(self.disk.disk(), options, Mode::Inline(self.opened))
            {
                self.disk.fail_power_after(0);
                drop(store);
            }
            self.disk.crash();
        }
        self.reopen().await;
    }

    /// Opens what a crash left, and finds the moment that it shows.
    async fn reopen(&mut self) {
        self.power = false;
        self.opened += 1;
        let opened = Store::open_on(self.disk.disk(), &self.options, Mode::Inline(self.opened));
        self.engine = opened.unwrap();
        let found = shown(&self.engine).await;
        self.possible.iter().for_each(Store::crash);
        let mut shows = Vec::new();
        for possible in &self.possible {
            shows.push(shown(possible).await);
        }
        let Some(at) = shows.iter().position(|shows| *shows == found) else {
            panic!(
                "after a crash there is {found:#?}
but it should be one of {shows:#?}"
            );
        };
        self.model = self.possible[at].fork();
        self.possible = vec![self.model.fork()];
        self.claimed.clear();
        self.claimed_hooks.clear();
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Accept {
                domains,
                due,
                hold,
                text,
                mails,
                hook,
                extras,
            } => {
                if domains.is_empty() && *mails == 0 && hook.is_none() {
                    // Nobody could see whether it survived.
                    return;
                }
                let due = self.now.after(Duration::from_secs((*due).into()));
                let (now, hook) = (self.now, *hook);
                self.durable(async |store| {
                    let mut accept =
                        accept(store, domains, due, *hold, *text, *mails, hook, now).await?;
                    add_extras(&mut accept, extras, now);
                    store.accept(accept).await
                })
                .await;
            }
            Step::Claim {
                max,
                per_destination,
                only,
                except,
                lease,
            } => {
                let claim = Claim {
                    now: self.now,
                    max: *max,
                    max_per_destination: *per_destination,
                    only: only.map(|at| DOMAINS[at].to_owned()),
                    except: except
                        .map(|at| DOMAINS[at].to_owned())
                        .into_iter()
                        .collect(),
                    lease: Duration::from_secs((*lease).into()),
                };
                if let Ok(claimed) = self.engine.claim(claim.clone()).await {
                    let expected = self.model.claim(claim).await.unwrap();
                    assert_eq!(claimed.messages, expected.messages);
                    assert_eq!(claimed.next_due, expected.next_due);
                    self.claimed.extend(claimed.messages);
                    self.possible.push(self.model.fork());
                } else {
                    self.crash(Crash::Power, None).await;
                }
            }
            Step::Renew { until } => {
                let until = self.now.after(Duration::from_secs((*until).into()));
                let claims: Vec<_> = self
                    .claimed
                    .iter()
                    .map(|queued| (queued.id, queued.fence))
                    .collect();
                if let Ok(renewed) = self.engine.renew(claims.clone(), until).await {
                    assert_eq!(renewed, self.model.renew(claims, until).await.unwrap());
                } else {
                    self.crash(Crash::Power, None).await;
                }
            }
            Step::Settle {
                which,
                fate,
                dsn,
                hook,
                suppress,
            } => {
                let mut chosen: Vec<Queued> = Vec::new();
                for which in which {
                    if !self.claimed.is_empty() {
                        chosen.push(self.claimed.remove(which.index(self.claimed.len())));
                    }
                }
                if chosen.is_empty() {
                    // Nothing would be written.
                    return;
                }
                let (now, outcome) = (self.now, outcome(*fate, self.now));
                self.durable(async |store| {
                    let settles = chosen
                        .iter()
                        .map(|queued| settlement(queued, outcome, *dsn, *hook, *suppress, now));
                    store.settle(settles.collect()).await
                })
                .await;
            }
            Step::End { id, keep } => {
                let (now, id) = (self.now, QueueId(*id));
                let Ok(Some(queued)) = self.model.queued(id).await else {
                    return;
                };
                let fate = Fate::Retire {
                    success: false,
                    keep: *keep,
                };
                self.durable(async |store| {
                    let settle = Settle {
                        party: Party::Administrator,
                        ..settle(&queued, outcome(fate, now))
                    };
                    store.settle(vec![settle]).await
                })
                .await;
            }
            Step::Change { ids, change } => {
                let ids: Vec<QueueId> = ids.iter().copied().map(QueueId).collect();
                self.durable(async |store| store.change(ids.clone(), change).await)
                    .await;
            }
            Step::Suppress(base) => {
                let new = suppression(*base, self.now);
                self.durable(async |store| store.suppress(new.clone()).await)
                    .await;
            }
            Step::Unsuppress(base) => {
                let new = suppression(*base, self.now);
                self.durable(async |store| {
                    store
                        .unsuppress(&new.account, &crate::base_in_list(&new.base, &new.list))
                        .await
                })
                .await;
            }
            Step::AddHoldRule(filter) => {
                let now = self.now;
                self.durable(async |store| store.add_hold_rule(filter.clone(), now).await)
                    .await;
            }
            Step::RemoveHoldRule(id) => {
                let id = HoldRuleId(*id);
                self.durable(async |store| store.remove_hold_rule(id).await)
                    .await;
            }
            Step::ChangeMail { id, seen, archive } => {
                let flags = vec!["\\seen".to_owned()];
                let (add_flags, remove_flags) = match seen {
                    true => (flags, Vec::new()),
                    false => (Vec::new(), flags),
                };
                let change = MailChange {
                    add_flags,
                    remove_flags,
                    mailbox: archive.then(|| "Archive".to_owned()),
                };
                let id = MailId(*id);
                self.durable(async |store| store.change_mail("ann", id, change.clone()).await)
                    .await;
            }
            Step::RemoveMail(id) => {
                let id = MailId(*id);
                self.durable(async |store| store.remove_mail("ann", id).await)
                    .await;
            }
            Step::Stage => {
                let text = || NewText::Inline("staged".into());
                let staged = self.durable(async |store| store.stage(text()).await).await;
                self.staged.extend(staged);
            }
            Step::Unstage => {
                let ids = std::mem::take(&mut self.staged);
                if ids.is_empty() {
                    // Nothing is written then, so nothing could ride along.
                    return;
                }
                self.durable(async |store| store.unstage(ids.clone()).await)
                    .await;
            }
            Step::AcceptAll { once, due } => {
                let due = self.now.after(Duration::from_secs((*due).into()));
                let once = once.map(|key| done_once(key, self.now));
                // A text that is not there any more refuses them all.
                let staged = std::mem::take(&mut self.staged);
                self.durable(async |store| {
                    let messages = staged.iter().map(|id| {
                        let mut message = NewMessage {
                            text: TextSource::Existing(*id),
                            ..message(&["x@a.example"]).queue.unwrap()
                        };
                        message.recipients[0].next_attempt = due;
                        message
                    });
                    store.accept_all(messages.collect(), once.clone()).await
                })
                .await;
            }
            Step::AddApiKey => {
                let key = NewApiKey {
                    name: "a key".into(),
                    account: "ann".into(),
                    hash: [7; 32],
                    scopes: vec![Scope::Send],
                    created: self.now,
                    expires: None,
                };
                self.durable(async |store| store.add_api_key(key.clone()).await)
                    .await;
            }
            Step::RemoveApiKey(id) => {
                let id = ApiKeyId(*id);
                self.durable(async |store| store.remove_api_key(id).await)
                    .await;
            }
            Step::ScheduleHooks { ids, by } => {
                let ids: Vec<HookId> = ids.iter().copied().map(HookId).collect();
                let next = NextAttempt::Shift(i64::from(*by) * 1_000_000);
                self.durable(async |store| store.schedule_hooks(ids.clone(), next).await)
                    .await;
            }
            Step::EndHooks { ids, keep } => {
                let now = self.now;
                let keep = keep.map(|seconds| now.after(Duration::from_secs(seconds.into())));
                let ends: Vec<_> = ids.iter().map(|id| (HookId(*id), keep)).collect();
                let result = hook_attempt(now);
                self.durable(async |store| store.end_hooks(ends.clone(), &result).await)
                    .await;
            }
            Step::ClaimHooks {
                max,
                per_url,
                except,
            } => {
                let claim = ClaimHooks {
                    now: self.now,
                    max: *max,
                    max_per_lane: *per_url,
                    except: except
                        .map(|at| crate::hook_lane("ann", URLS[at]))
                        .into_iter()
                        .collect(),
                };
                if let Ok(claimed) = self.engine.claim_hooks(claim.clone()).await {
                    let expected = self.model.claim_hooks(claim).await.unwrap();
                    assert_eq!(claimed.hooks, expected.hooks);
                    assert_eq!(claimed.next_due, expected.next_due);
                    self.claimed_hooks.extend(claimed.hooks);
                    self.possible.push(self.model.fork());
                } else {
                    self.crash(Crash::Power, None).await;
                }
            }
            Step::SettleHook { which, fate } => {
                if self.claimed_hooks.is_empty() {
                    return;
                }
                let hook = self
                    .claimed_hooks
                    .remove(which.index(self.claimed_hooks.len()));
                let outcome = outcome(*fate, self.now);
                self.durable(async |store| {
                    store.settle_hooks(vec![settle_hook(&hook, outcome)]).await
                })
                .await;
            }
            Step::Credential { account, set } => {
                let account = ["ann", "bob"][usize::from(*account)];
                let credential = set.then(|| Credential {
                    argon2: "hash".into(),
                    set: self.now,
                });
                self.durable(async |store| store.set_credential(account, credential.clone()).await)
                    .await;
            }
            Step::Expire { max } => {
                let max = u64::from(*max);
                let (now, before) = (self.now, self.possible.clone());
                if self
                    .durable(async |store| store.expire(now, max).await)
                    .await
                    == Some(0)
                {
                    // Nothing was written then, so nothing could ride along.
                    self.possible = before;
                    self.possible.push(self.model.fork());
                }
            }
            Step::Pass { seconds } => {
                self.now = self.now.after(Duration::from_secs((*seconds).into()))
            }
            Step::Checkpoint => self.engine.checkpoint().await,
            Step::FailSync => self.disk.fail_sync_after(0),
            Step::Crash { kind, again } => self.crash(*kind, *again).await,
            Step::PowerFailsAfter(changes) => {
                self.disk.fail_power_after((*changes).into());
                self.power = true;
            }
            Step::Reopen => {
                self.engine.clone().close().await;
                let kind = if self.power {
                    Crash::Power
                } else {
                    Crash::Kill
                };
                self.crash(kind, None).await;
            }
        }
    }

    async fn run(mut self, steps: &[Step]) {
        for step in steps {
            self.take(step).await;
            // Without power, and when it has stopped, the engine shows nothing; the next verb finds out.
            if !self.power
                && self
                    .engine
                    .list_hooks(&HookFilter::default(), None, Order::Ascending, 1)
                    .await
                    .is_ok()
            {
                let (engine, model) = (shown(&self.engine).await, shown(&self.model).await);
                assert_eq!(engine, model, "after {step:?}");
            }
        }
        self.crash(Crash::Power, None).await;
    }
}

#[expect(clippy::too_many_arguments, reason = "they are the fields of a step")]
async fn accept(
    store: &Store,
    domains: &[usize],
    due: Time,
    hold: bool,
    text: Length,
    mails: u8,
    hook: Option<usize>,
    now: Time,
) -> Result<Accept, StoreError> {
    let text = match text {
        Length::None => None,
        Length::Short(length) => Some(vec![b'x'; length.into()]),
        Length::Large => Some(vec![b'y'; INLINE_TEXT_MAX + 1]),
    };
    let text = match text {
        None => None,
        Some(text) => {
            let mut writer = store.text_writer();
            writer.write(&text).await?;
            Some(writer.finish().await?)
        }
    };
    let recipients = domains.iter().map(|at| {
        let mut recipient = recipient(&format!("x@{}", DOMAINS[*at]), due);
        recipient.hold = hold;
        recipient
    });
    let mut mail = mail("Inbox", TextSource::New);
    mail.received = now;
    let mails: Vec<_> = (0..mails)
        .map(|number| {
            let account = if number == 0 { "ann" } else { "bob" };
            crate::NewMail {
                account: account.into(),
                ..mail.clone()
            }
        })
        .collect();
    let kind = if mails.is_empty() {
        event(Event::Delivered, QueueId(1))
    } else {
        NewHookKind::Incoming(0)
    };
    Ok(Accept {
        text,
        queue: (!domains.is_empty()).then(|| NewMessage {
            common: common(),
            top: Top::EMPTY,
            text: TextSource::New,
            recipients: recipients.collect(),
        }),
        mails,
        hooks: hook
            .map(|at| super::samples::hook(URLS[at], kind, due))
            .into_iter()
            .collect(),
        ..Accept::default()
    })
}

fn add_extras(accept: &mut Accept, extras: &Extras, now: Time) {
    if let Some(message) = &mut accept.queue {
        if extras.account {
            message.common.account = "bob".into();
        }
        message.common.own_envid = "own".into();
        for (at, recipient) in message.recipients.iter_mut().enumerate() {
            if let Some(id) = extras.from_id {
                recipient.from_id = format!("id{}", usize::from(id) + at);
            }
            if extras.transport {
                recipient.transport = "other".into();
            }
        }
    }
    accept.notes = extras
        .note
        .map(|id| Note {
            id: QueueId(id),
            result: attempt(now, false),
        })
        .into_iter()
        .collect();
    accept.suppress = extras
        .suppress
        .map(|base| suppression(base, now))
        .into_iter()
        .collect();
    accept.events = extras.note.map(|id| logged(id, now)).into_iter().collect();
    accept.once = extras.once.map(|key| done_once(key, now));
}

fn done_once(key: u8, now: Time) -> Once {
    Once {
        account: "ann".into(),
        key: ONCE[usize::from(key)].into(),
        request: [key; 32],
        answer: vec![key],
        now,
        until: now.after(Duration::from_secs(100)),
    }
}

fn logged(id: u64, now: Time) -> NewEvent {
    let NewHookKind::Outgoing(mut told) = event(Event::ALL[id as usize % 9], QueueId(id)) else {
        panic!("an event is outgoing");
    };
    told.queued = now;
    told.suppressing = true;
    told.message_id = format!("<{}@x.example>", id % 3);
    NewEvent {
        account: if id.is_multiple_of(4) { "bob" } else { "ann" }.into(),
        recipient: format!("x@{}", DOMAINS[id as usize % 4]),
        told,
        keep_until: now.after(Duration::from_secs(10 * id)),
    }
}

fn suppression(base: u8, now: Time) -> NewSuppression {
    let account = if base.is_multiple_of(2) { "ann" } else { "bob" };
    NewSuppression {
        account: account.into(),
        base: format!("x{base}@a.example"),
        list: if base == 5 { "news" } else { "" }.into(),
        original: format!("x{base}+1@a.example"),
        created: now,
        manual: false,
        reason: "test".into(),
    }
}

fn outcome(fate: Fate, now: Time) -> Outcome {
    let later = |seconds: u16| now.after(Duration::from_secs(seconds.into()));
    match fate {
        Fate::Release => Outcome::Release,
        Fate::Retry(seconds) => Outcome::Retry(later(seconds)),
        Fate::Retire { success, keep } => Outcome::Retire {
            success,
            now,
            keep_until: keep.map(later),
        },
    }
}

fn settlement(
    queued: &Queued,
    outcome: Outcome,
    dsn: bool,
    hook: Option<usize>,
    suppress: Option<u8>,
    now: Time,
) -> Settle {
    let mut settle = settle(queued, outcome);
    if outcome == Outcome::Release {
        settle.attempt = None;
        return settle;
    }
    if dsn {
        settle.text = Some(NewText::Inline(Bytes::from_static(b"A report\r\n")));
        settle.mails = vec![
            mail("Inbox", TextSource::New),
            mail("Sent", TextSource::Existing(queued.text)),
        ];
        settle.delay_told = true;
    }
    settle.suppress = suppress
        .map(|base| suppression(base, now))
        .into_iter()
        .collect();
    let mut event = event(Event::Delayed, queued.id);
    if let NewHookKind::Outgoing(outgoing) = &mut event {
        outgoing.suppressing = suppress.is_some();
    }
    settle.hooks = hook
        .map(|at| super::samples::hook(URLS[at], event, now))
        .into_iter()
        .collect();
    settle
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_model_does(seed: u64, steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(World::new(seed).run(&steps));
    }
}
