//! Whether the parts of a state agree: counters, reference counts, and the keys that follow from
//! records.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{State, queue::keys::reference_keys, tag, texts::Place};
use crate::{
    HookKind, MailUsage, TextId, Time, base_in_list,
    error::Fault,
    table::{Faults, key::Name},
};

/// Checks one part.
type Check = fn(&State, &mut Faults) -> Result<(), Fault>;

impl State {
    /// Reads every record, and compares everything that follows from records with them.
    pub(crate) fn check(&self, faults: &mut Faults) {
        self.check_rows(faults);
        let checks: [Check; 23] = [
            Self::check_queue,
            Self::check_history_of_queue,
            Self::check_hooks,
            Self::check_references,
            Self::check_segments,
            Self::check_mail,
            Self::check_folders,
            Self::check_sieve,
            Self::check_rejects,
            Self::check_lists,
            Self::check_junk,
            Self::check_history,
            Self::check_greylist,
            Self::check_mta_sts,
            Self::check_tls_results,
            Self::check_dmarc_results,
            Self::check_reports,
            Self::check_deleted,
            Self::check_received_reports,
            Self::check_web_sessions,
            Self::check_mail_tokens,
            Self::check_stationery,
            Self::check_login_attempts,
        ];
        for check in checks {
            if let Err(fault) = check(self, faults) {
                faults.add(fault.to_string());
            }
        }
    }

    fn check_queue(&self, faults: &mut Faults) -> Result<(), Fault> {
        let queue = &self.queue;
        let (mut queued, mut held, mut due) = (0, 0, 0);
        queue.queued.for_each(|id, message| {
            queued += 1;
            held += u64::from(message.hold);
            let lane = message.lane_name();
            let waits = !message.hold && !queue.claimed.contains(&id)?;
            let is_due = queue.due.contains(&lane, message.next_attempt, id)?;
            due += u64::from(waits);
            faults.check(waits == is_due, || match waits {
                true => format!("the message {id} is missing among the messages that are due"),
                false => format!("the message {id} is due, and it is held or in delivery"),
            });
            Ok(())
        })?;
        faults.compare("queued messages", queue.counters.queued, queued);
        faults.compare("held messages", queue.counters.held, held);
        let claimed = queue.claimed.count()?;
        faults.compare("messages in delivery", queue.counters.claimed, claimed);
        let rows = queue.due.check("due", faults)?;
        faults.compare("messages that are due", rows, due);
        Ok(())
    }

    fn check_history_of_queue(&self, faults: &mut Faults) -> Result<(), Fault> {
        let queue = &self.queue;
        let mut references = 0;
        let mut check = |message: &crate::Queued| -> Result<(), Fault> {
            let keys: BTreeSet<_> = reference_keys(message).into_iter().collect();
            for key in keys {
                references += 1;
                let found = queue.references.contains(&key)?;
                faults.check(found, || {
                    format!("the message {} is not found by a reference", message.id)
                });
            }
            Ok(())
        };
        queue.queued.for_each(|_, message| check(&message))?;
        let mut retired = Vec::new();
        queue.retired.for_each(|id, it| {
            retired.push((it.keep_until, tag::queue, id.0));
            check(&it.message)
        })?;
        faults.compare("references", queue.references.count()?, references);
        faults.compare(
            "messages in the history",
            queue.counters.retired,
            retired.len() as u64,
        );
        self.check_expiry(&retired, faults)
    }

    fn check_hooks(&self, faults: &mut Faults) -> Result<(), Fault> {
        let hooks = &self.hooks;
        let (mut count, mut due, mut chains) = (0, 0, 0);
        hooks.hooks.for_each(|id, hook| {
            count += 1;
            if let Some((message, url)) = hook.chain() {
                chains += 1;
                let found = hooks.chains.contains(&(message, url, id))?;
                faults.check(found, || format!("the webhook call {id} is in no chain"));
            }
            let waits = hooks.waits(&hook)?;
            let lane: Name = hook.lane().into();
            let is_due = hooks.due.contains(&lane, hook.next_attempt, id)?;
            due += u64::from(waits);
            faults.check(waits == is_due, || {
                format!("the webhook call {id} is due when it should not be, or the reverse")
            });
            Ok(())
        })?;
        faults.compare("webhook calls", hooks.counters.hooks, count);
        faults.compare("calls in chains", hooks.chains.count()?, chains);
        let rows = hooks.due.check("hooks_due", faults)?;
        faults.compare("webhook calls that are due", rows, due);
        let mut retired = Vec::new();
        hooks.retired.for_each(|id, it| {
            retired.push((it.keep_until, tag::hooks, id.0));
            Ok(())
        })?;
        let counted = retired.len() as u64;
        faults.compare("calls in the history", hooks.counters.retired, counted);
        self.check_expiry(&retired, faults)
    }

    /// The reference counts of texts.
    fn check_references(&self, faults: &mut Faults) -> Result<(), Fault> {
        let mut refs: BTreeMap<TextId, u64> = BTreeMap::new();
        let mut add = |text: TextId| *refs.entry(text).or_default() += 1;
        self.queue.queued.for_each(|_, queued| {
            add(queued.text);
            Ok(())
        })?;
        self.mail.mails.for_each(|_, mail| {
            add(mail.text);
            Ok(())
        })?;
        self.undelete.mails.for_each(|_, mail| {
            add(mail.text);
            Ok(())
        })?;
        self.hooks.hooks.for_each(|_, hook| {
            if let HookKind::Incoming(mail) = &hook.kind {
                add(mail.text);
            }
            Ok(())
        })?;
        self.received_reports.for_each_text(&mut add)?;
        self.texts.staged.for_each(|id, ()| {
            add(id);
            Ok(())
        })?;
        self.texts.texts.for_each(|id, stored| {
            let counted = refs.remove(&id).unwrap_or_default();
            let refs = stored.refs;
            faults.check(refs == counted, || {
                format!("the text {id} counts {refs} references, and there are {counted}")
            });
            Ok(())
        })?;
        for id in refs.keys() {
            faults.add(format!(
                "a record refers to the text {id}, which is missing"
            ));
        }
        Ok(())
    }

    /// The living parts of segments, and the files.
    fn check_segments(&self, faults: &mut Faults) -> Result<(), Fault> {
        let texts = &self.texts;
        let (mut total, mut files) = (0, 0);
        let mut alive: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        texts.texts.for_each(|id, stored| {
            total += stored.place.len();
            match stored.place {
                Place::Empty => {}
                Place::Journal(place) => {
                    let (bytes, count) = alive.entry(place.generation).or_default();
                    *bytes += u64::from(place.len);
                    *count += 1;
                }
                Place::File(place) => {
                    files += 1;
                    let found = texts.files.contains(&place.file)?;
                    faults.check(found, || {
                        format!("the file of the text {id} is missing in the table files")
                    });
                }
            }
            Ok(())
        })?;
        faults.compare("bytes of texts", texts.counters.bytes, total);
        faults.compare("files of texts", texts.files.count()?, files);
        texts.segments.for_each(|generation, segment| {
            let (bytes, count) = alive.remove(&generation).unwrap_or_default();
            let name = format!("living texts in the segment {generation:016x}");
            faults.compare(&name, segment.texts, count);
            let name = format!("living bytes in the segment {generation:016x}");
            faults.compare(&name, segment.bytes, bytes);
            Ok(())
        })?;
        for generation in alive.keys() {
            faults.add(format!(
                "the segment {generation:016x} is missing in the table segments"
            ));
        }
        Ok(())
    }

    fn check_mail(&self, faults: &mut Faults) -> Result<(), Fault> {
        let tables = &self.mail;
        let mut count = 0;
        tables.mails.for_each(|id, mail| {
            count += 1;
            let account: Name = mail.account.as_str().into();
            let mailbox = (Arc::clone(&account), mail.mailbox.as_str().into(), id);
            let found = tables.by_mailbox.contains(&mailbox)?
                && tables.by_account.contains(&(account, id))?;
            faults.check(found, || {
                format!("the mail {id} is not found by its account and mailbox")
            });
            Ok(())
        })?;
        faults.compare("mails", tables.counters.mails, count);
        faults.compare("mails by mailbox", tables.by_mailbox.count()?, count);
        faults.compare("mails by account", tables.by_account.count()?, count);
        tables.trained.for_each(|id, _| {
            let found = tables.mails.contains(&id)?;
            faults.check(found, || {
                format!("the filter has learnt from the mail {id}, which is gone")
            });
            Ok(())
        })?;
        Ok(())
    }

    /// The history of senders and the content filter.
    fn check_junk(&self, faults: &mut Faults) -> Result<(), Fault> {
        self.reputation.check(faults)?;
        self.junk.check(faults)
    }

    /// Refused mail, and how much mail each account has.
    fn check_rejects(&self, faults: &mut Faults) -> Result<(), Fault> {
        let (rejects, by_key, by_account) = self.rejects.count()?;
        faults.compare("refused mails by key", by_key, rejects);
        faults.compare("refused mails by account", by_account, rejects);
        let mut ends = Vec::new();
        let mut totals: BTreeMap<Name, MailUsage> = BTreeMap::new();
        self.rejects.rejects.for_each(|id, reject| {
            ends.extend(reject.until.map(|until| (until, tag::rejects, id.0)));
            let account = reject.account.as_str().into();
            totals.entry(account).or_default().add(reject.size);
            let found = self.mail.mails.contains(&id)?;
            faults.check(found, || format!("the refused mail {id} is missing"));
            Ok(())
        })?;
        let counted = &self.rejects.totals;
        counted.check_totals(totals, "refused mail", faults)?;
        // An account without a sum is counted with its next mail.
        self.mail.usage.for_each(|account, counted| {
            let usage = self.counted_usage(&account)?;
            faults.check(usage == counted, || {
                format!("the account {account} counts {counted:?} of mail, and has {usage:?}")
            });
            Ok(())
        })?;
        self.check_expiry(&ends, faults)
    }

    /// Mail that users deleted.
    fn check_deleted(&self, faults: &mut Faults) -> Result<(), Fault> {
        let ends = self.check_undelete(faults)?;
        self.check_expiry(&ends, faults)
    }

    /// Suppression lists and hold rules.
    fn check_lists(&self, faults: &mut Faults) -> Result<(), Fault> {
        let tables = &self.suppression;
        let (mut count, mut ends) = (0, Vec::new());
        tables.entries.for_each(|id, entry| {
            count += 1;
            ends.extend(entry.until.map(|until| (until, tag::suppression, id.0)));
            let name = base_in_list(&entry.base, &entry.list).into();
            let key = (entry.account.as_str().into(), name);
            let found = tables.by_base.get(&key)?;
            faults.check(found == Some(id), || {
                format!("the entry {id} of the suppression lists is not found by its address")
            });
            Ok(())
        })?;
        let counter = tables.counters.entries;
        faults.compare("entries of suppression lists", counter, count);
        faults.compare("suppressed addresses", tables.by_base.count()?, count);
        let rules = self.hold_rules.rules.count()?;
        faults.compare("hold rules", self.hold_rules.counters.rules, rules);
        self.check_expiry(&ends, faults)
    }

    /// The ends of events, of entries of the audit log, and of what is done once.
    fn check_history(&self, faults: &mut Faults) -> Result<(), Fault> {
        let mut ends = Vec::new();
        self.events.events.for_each(|id, event| {
            ends.push((event.keep_until, tag::events, id.0));
            Ok(())
        })?;
        self.audit.entries.for_each(|id, entry| {
            ends.push((entry.keep_until, tag::audit, id.0));
            Ok(())
        })?;
        self.check_expiry(&ends, faults)
    }

    pub(super) fn check_expiry(
        &self,
        ends: &[(Time, u8, u64)],
        faults: &mut Faults,
    ) -> Result<(), Fault> {
        for end in ends {
            let found = self.history.expiry.contains(end)?;
            let (_, tag, number) = end;
            faults.check(found, || {
                format!("the record {number} of the subject {tag} is missing in the table expiry")
            });
        }
        Ok(())
    }
}
