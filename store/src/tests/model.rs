//! The engine against the model: any verbs in any order, with crashes, failed syncs and checkpoints
//! in between.
//!
//! Checkpoints run in a thread of their own. A step may hold one back, so that verbs meet the layer
//! that was frozen for it. The disk may be full, write copies, and fail any call.
//!
//! After each verb both must show the same. After a crash the engine must show what the model
//! showed at some moment. This moment is no earlier than the last answer that promised durability.
//! Claims go into the next batch, and the last unit may be there or not.

mod changes;
mod crashes;
mod mailboxes;
mod runs;
mod sample;
mod shown;
mod steps;

use std::{ops::AsyncFn, time::Duration};

use self::{changes::secrets, shown::*, steps::*};
use super::samples::*;
use crate::{
    Accept, ApiKeyId, Claim, ClaimHooks, Credential, DeliveryClass, HoldRuleId, Hook, HookFilter,
    HookId, KeepDeleted, Lane, MailChange, MailId, NewApiKey, NewMessage, NewText, NextAttempt,
    Options, Order, Party, QueueId, Queued, Reroute, Scope, Settle, Store, StoreError, TextId,
    TextSource, Time, Transaction, Which,
    disk::sim::{Calls, SimDisk},
    engine::journal::Mode,
};

struct World {
    disk: SimDisk,
    mode: fn(u64) -> Mode,
    options: Options,
    engine: Store,
    model: Store,
    /// The states that the engine may show after a crash.
    possible: Vec<Store>,
    /// Texts that were staged, and may have gone since.
    staged: Vec<TextId>,
    /// Claimed and not settled, as both gave them.
    claimed: Vec<Queued>,
    claimed_hooks: Vec<Hook>,
    now: Time,
    opened: u64,
    power: bool,
    /// The disk has little room.
    full: bool,
    /// A call of the disk failed, or is going to.
    calls_fail: bool,
}

impl World {
    fn new(seed: u64, mode: fn(u64) -> Mode) -> Self {
        let disk = SimDisk::new(seed);
        let options = Options {
            // Small, so that segments get free and texts are moved.
            segment_size: 64 << 10,
            checkpoint_interval: Duration::MAX,
            // No checkpoint unless a step asks for it.
            changes_in_memory: 1 << 30,
            min_free: 0,
            ..Options::new("/data")
        };
        let engine = Store::open_on(disk.disk(), &options, mode(seed)).unwrap();
        let model = Store::memory();
        Self {
            possible: vec![model.fork()],
            disk,
            mode,
            options,
            engine,
            model,
            staged: Vec::new(),
            claimed: Vec::new(),
            claimed_hooks: Vec::new(),
            now: at(100),
            opened: seed,
            power: false,
            full: false,
            calls_fail: false,
        }
    }

    /// Carries out a verb that is durable when it is answered.
    async fn durable<T: PartialEq + std::fmt::Debug>(
        &mut self,
        verb: impl AsyncFn(&Store) -> Result<T, StoreError>,
    ) -> Option<T> {
        let result = verb(&self.engine).await;
        self.engine.rest().await;
        match result {
            Ok(given) => {
                assert_eq!(verb(&self.model).await.unwrap(), given);
                self.possible = vec![self.model.fork()];
                Some(given)
            }
            Err(
                StoreError::Invalid(_)
                | StoreError::FromIdInUse(_)
                | StoreError::NoFolder
                | StoreError::FolderExists
                | StoreError::FolderNotEmpty,
            ) => {
                verb(&self.model).await.unwrap_err();
                None
            }
            Err(error) => {
                // It was not taken; but if the power fails now, nobody knows.
                let with = self.model.fork();
                if verb(&with).await.is_ok() {
                    self.possible.push(with);
                }
                if self.power || matches!(error, StoreError::Closed) || !self.is_alive().await {
                    let kinds = [Crash::Power, Crash::Kill];
                    let kind = kinds[usize::from(self.opened % 2 == 1 && !self.power)];
                    self.crash(kind, None).await;
                }
                None
            }
        }
    }

    /// How many the model should claim. On a full disk the engine claims only as many as it can
    /// settle. So it does when it could not make its reserve anew, because a call failed.
    fn claimed_of(&self, max: usize, claimed: usize) -> usize {
        match self.full || self.calls_fail {
            true => claimed.min(max),
            false => max,
        }
    }

    /// Whether the engine goes on. After some faults it stops.
    async fn is_alive(&self) -> bool {
        self.disk.pause_calls(true);
        let filter = HookFilter::default();
        let hooks = self.engine.list_hooks(&filter, None, Order::Ascending, 1);
        let alive = hooks.await.is_ok();
        self.disk.pause_calls(false);
        alive
    }

    /// Takes a step.
    async fn take(&mut self, step: &Step) {
        let taken = self.take_queue(step).await
            || self.take_hooks(step).await
            || self.take_texts(step).await
            || self.take_mailboxes(step).await
            || self.take_other(step).await
            || self.take_upkeep(step).await
            || self.take_disk(step).await;
        assert!(taken, "{step:?} belongs to no group");
    }

    /// Steps of messages. False: the step is another.
    async fn take_queue(&mut self, step: &Step) -> bool {
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
                    return true;
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
                per_lane,
                of,
                lease,
            } => {
                let lane = |at: &usize| Lane::new(DOMAINS[*at], "", DeliveryClass::Normal, "ann");
                let which = match of {
                    Of::All => Which::All,
                    Of::Domains(domains) => Which::Lanes(domains.iter().map(lane).collect()),
                    Of::Messages(ids) => {
                        Which::Messages(ids.iter().copied().map(QueueId).collect())
                    }
                };
                let claim = Claim {
                    now: self.now,
                    moment: moment(self.now),
                    max: *max,
                    max_per_lane: *per_lane,
                    which,
                    lease: Duration::from_secs((*lease).into()),
                };
                let claimed = self.engine.claim(claim.clone()).await;
                if let Ok(claimed) = claimed {
                    let max = self.claimed_of(claim.max, claimed.messages.len());
                    let expected = self.model.claim(Claim { max, ..claim }).await.unwrap();
                    assert_eq!(claimed.messages, expected.messages);
                    let lanes = self.engine.lanes(None, 100).await;
                    assert_eq!(lanes.ok(), self.model.lanes(None, 100).await.ok());
                    self.claimed.extend(claimed.messages);
                    self.possible.push(self.model.fork());
                } else if !matches!(claimed, Err(StoreError::Full)) {
                    self.crash(Crash::Power, None).await;
                }
            }
            Step::Begin { which, envid } => {
                if self.claimed.is_empty() {
                    return true;
                }
                let messages = which
                    .iter()
                    .map(|which| which.get(&self.claimed).id)
                    .collect();
                let begun = vec![Transaction {
                    envid: format!("own{envid}"),
                    messages,
                }];
                if self.engine.begin(begun.clone()).await.is_ok() {
                    self.model.begin(begun).await.unwrap();
                    self.possible.push(self.model.fork());
                } else {
                    self.crash(Crash::Power, None).await;
                }
            }
            Step::Renew { until } => {
                let until = moment(self.now).after(Duration::from_secs((*until).into()));
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
                    return true;
                }
                let (now, outcome) = (self.now, outcome(*fate, self.now));
                self.durable(async |store| {
                    let settles = chosen.iter().map(|queued| Settle {
                        route: suppress.map(|base| route(base % 2 == 0)),
                        ..settlement(queued, outcome, *dsn, *hook, *suppress, now)
                    });
                    store.settle(settles.collect()).await
                })
                .await;
            }
            Step::End { id, keep } => {
                let (now, id) = (self.now, QueueId(*id));
                let Ok(Some(queued)) = self.model.queued(id).await else {
                    return true;
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
                let now = self.now;
                self.durable(async |store| store.change(ids.clone(), change, now).await)
                    .await;
            }
            Step::Reroute { ids, relay, stale } => {
                let mut messages = Vec::new();
                for id in ids.iter().copied().map(QueueId) {
                    let queued = self.model.queued(id).await.ok().flatten();
                    messages.extend(queued.map(|queued| Reroute {
                        id,
                        fence: queued.fence + u64::from(*stale),
                        route: route(*relay),
                    }));
                }
                if messages.is_empty() {
                    // Nothing would be written.
                    return true;
                }
                self.durable(async |store| store.reroute(messages.clone()).await)
                    .await;
            }
            Step::Forget(ids) => {
                let ids: Vec<QueueId> = ids.iter().copied().map(QueueId).collect();
                self.durable(async |store| store.forget_retired(ids.clone()).await)
                    .await;
            }
            _ => return false,
        }
        true
    }

    /// Steps of calls of webhooks. False: the step is another.
    async fn take_hooks(&mut self, step: &Step) -> bool {
        match step {
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
                let claimed = self.engine.claim_hooks(claim.clone()).await;
                if let Ok(claimed) = claimed {
                    let max = self.claimed_of(claim.max, claimed.hooks.len());
                    let claim = ClaimHooks { max, ..claim };
                    let expected = self.model.claim_hooks(claim).await.unwrap();
                    assert_eq!(claimed.hooks, expected.hooks);
                    assert_eq!(claimed.next_due, expected.next_due);
                    self.claimed_hooks.extend(claimed.hooks);
                    self.possible.push(self.model.fork());
                } else if !matches!(claimed, Err(StoreError::Full)) {
                    self.crash(Crash::Power, None).await;
                }
            }
            Step::SettleHook { which, fate } => {
                if self.claimed_hooks.is_empty() {
                    return true;
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
            _ => return false,
        }
        true
    }

    /// Steps of mail and texts. False: the step is another.
    async fn take_texts(&mut self, step: &Step) -> bool {
        match step {
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
            Step::Learn { id, junk, tokens } => {
                let flags = ["$junk".to_owned(), "$notjunk".to_owned()];
                let wanted = junk.map(|junk| flags[usize::from(!junk)].clone());
                let change = MailChange {
                    add_flags: wanted.into_iter().collect(),
                    remove_flags: flags.into(),
                    mailbox: None,
                };
                let (id, lesson) = (MailId(*id), lesson(*tokens, self.now));
                self.durable(async |store| {
                    let (change, lesson) = (change.clone(), lesson.clone());
                    store.learn_mail("ann", id, change, lesson).await
                })
                .await;
            }
            Step::ForgetLearnt => {
                self.durable(async |store| store.forget_history("ann").await)
                    .await;
                self.durable(async |store| store.forget_junk("ann").await)
                    .await;
            }
            Step::RemoveMail(id) => {
                let id = MailId(*id);
                self.durable(async |store| store.remove_mail("ann", id).await)
                    .await;
            }
            Step::DeleteMail { id, keep, bytes } => {
                let (id, now) = (MailId(*id), self.now);
                let keep = KeepDeleted {
                    until: now.after(Duration::from_secs((*keep).into())),
                    bytes: (*bytes).into(),
                };
                self.durable(async |store| store.delete_mail("ann", id, now, keep).await)
                    .await;
            }
            Step::RestoreMail(id) => {
                let id = MailId(*id);
                self.durable(async |store| store.restore_mail("ann", id, "Inbox", None).await)
                    .await;
            }
            Step::PurgeDeleted { all, max } => {
                let (account, max) = ((!all).then_some("ann"), (*max).into());
                self.durable(async |store| store.purge_deleted(account, max).await)
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
                    return true;
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
                            ..message(&["x@a.example"]).queue.remove(0)
                        };
                        message.recipients[0].next_attempt = due;
                        message
                    });
                    store.accept_all(messages.collect(), once.clone()).await
                })
                .await;
            }
            _ => return self.take_sieve_step(step).await,
        }
        true
    }

    /// Steps of subjects with few operations. False: the step is another.
    async fn take_other(&mut self, step: &Step) -> bool {
        match step {
            Step::Suppress(base) => {
                let new = suppression(*base, self.now);
                self.durable(async |store| store.suppress(new.clone()).await)
                    .await;
            }
            Step::Unsuppress(base) => {
                let (new, now) = (suppression(*base, self.now), self.now);
                let name = crate::base_in_list(&new.base, &new.list);
                self.durable(async |store| store.unsuppress(&new.account, &name, now).await)
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
            Step::AddApiKey => {
                let key = NewApiKey {
                    name: "a key".into(),
                    account: "ann".into(),
                    hash: [7; 32],
                    scopes: vec![Scope::Send],
                    created: self.now,
                    expires: None,
                    domains: Vec::new(),
                    legacy_status: false,
                    tenant: String::new(),
                };
                self.durable(async |store| store.add_api_key(key.clone()).await)
                    .await;
            }
            Step::RemoveApiKey(id) => {
                let id = ApiKeyId(*id);
                self.durable(async |store| store.remove_api_key(id).await)
                    .await;
            }
            Step::Credential { account, set } => {
                let account = ["ann", "bob"][usize::from(*account)];
                let credential = set.then(|| Credential {
                    argon2: "hash".into(),
                    set: self.now,
                    ..Credential::default()
                });
                self.durable(async |store| store.set_credential(account, credential.clone()).await)
                    .await;
            }
            Step::Secrets { account, what } => {
                let account = ["ann", "bob"][usize::from(*account)];
                let (what, now) = (*what, self.now);
                match what {
                    0 => {
                        let used = async |store: &Store| {
                            store.use_app_password(account, "phone", now).await
                        };
                        self.durable(used).await;
                    }
                    1 => {
                        let taken = async |store: &Store| store.take_otp_step(account, 7).await;
                        self.durable(taken).await;
                    }
                    what => {
                        let change = secrets(what, now);
                        let changed = async |store: &Store| {
                            let store = store.carrying(audited(0, now));
                            store.change_credential(account, change.clone(), now).await
                        };
                        self.durable(changed).await;
                    }
                }
            }
            Step::Audit(subject) => {
                let now = self.now;
                self.durable(async |store| store.audit(audited(*subject, now)).await)
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
            _ => return false,
        }
        true
    }

    /// Steps of checkpoints, and of segments that get free. False: the step is another.
    async fn take_upkeep(&mut self, step: &Step) -> bool {
        match step {
            // It may wait until there is room.
            Step::Checkpoint if self.full => {
                self.engine.freeze().await;
                self.engine.thaw();
            }
            Step::Checkpoint => self.engine.checkpoint().await,
            Step::Freeze => self.engine.freeze().await,
            Step::Thaw => self.engine.thaw(),
            Step::Churn => {
                let now = self.now;
                let mut mails = Vec::new();
                for _ in 0..6 {
                    let accepted = self.durable(async |store| {
                        let mut mail = mail("Inbox", TextSource::New);
                        mail.received = now;
                        let accept = Accept {
                            text: Some(NewText::Inline(vec![b'z'; 9000].into())),
                            mails: vec![mail],
                            ..Accept::default()
                        };
                        store.accept(accept).await
                    });
                    mails.extend(
                        accepted
                            .await
                            .into_iter()
                            .flat_map(|accepted| accepted.mails),
                    );
                }
                for id in mails.into_iter().skip(1) {
                    self.durable(async |store| store.remove_mail("ann", id).await)
                        .await;
                }
            }
            _ => return false,
        }
        true
    }

    /// The steps of the clock, the process and the disk. False: the step is another.
    async fn take_disk(&mut self, step: &Step) -> bool {
        match step {
            Step::Pass { seconds } => {
                self.now = self.now.after(Duration::from_secs((*seconds).into()))
            }
            Step::FailCall { kind, after } => {
                self.calls_fail = true;
                self.disk.fail_call_after(*kind, (*after).into());
            }
            Step::Space(space) => {
                self.full = space.is_some();
                self.disk.set_space(space.map(u64::from));
            }
            Step::CopyOnWrite(on) => self.disk.set_copy_on_write(*on),
            Step::FailSync => {
                self.calls_fail = true;
                self.disk.fail_sync_after(0);
            }
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
            _ => return false,
        }
        true
    }

    async fn run(mut self, steps: &[Step]) {
        self.engine.rest().await;
        for step in steps {
            self.take(step).await;
            self.engine.rest().await;
            // Without power, and when it has stopped, the engine shows nothing; the next verb finds
            // out.
            if !self.power && self.is_alive().await {
                self.disk.pause_calls(true);
                let shows = shown(&self.engine).await;
                match shows.and_then(|shows| Ok((shows, self.engine.faults()?))) {
                    Ok((shows, faults)) => {
                        let expected = shown(&self.model).await.unwrap();
                        assert_eq!(shows, expected, "after {step:?}");
                        assert_eq!(faults, [""; 0], "after {step:?}");
                    }
                    // A checkpoint that failed stopped it just now.
                    Err(error) => {
                        let is_held = matches!((self.mode)(0), Mode::Held(_));
                        assert!(is_held && !self.is_alive().await, "{error} after {step:?}");
                    }
                }
                self.disk.pause_calls(false);
            }
        }
        self.crash(Crash::Power, None).await;
    }
}
