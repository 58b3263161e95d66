//! Everything the store knows, as tables.

use serde::{Deserialize, Serialize};

use super::{
    Fault,
    due::Due,
    key::Name,
    table::{Checkpointed, Frozen, Grouping, Table},
    value::{Claimed, Segment, Stored},
};
use crate::{
    Answered, ApiKey, ApiKeyId, Credential, EventId, HoldRule, HoldRuleId, Hook, HookId,
    LoggedEvent, Mail, MailId, QueueId, Queued, Reference, Retired, RetiredHook, Sent, Suppression,
    SuppressionId, TextId, Time,
    verb::{Group, event_groups, in_event_group},
};

/// What is in the history with an end: for `State::expiry`.
pub(super) const RETIRED: u8 = 1;
/// Likewise.
pub(super) const RETIRED_HOOK: u8 = 2;
/// Likewise.
pub(super) const ANSWER: u8 = 3;
/// Likewise.
pub(super) const EVENT: u8 = 4;

/// The state. Each record is in one table; the others are sorted ways to it, and follow from the records.
pub(super) struct State {
    pub(super) counters: Counters,
    /// Messages to be sent.
    pub(super) queued: Table<QueueId, Queued>,
    /// Those of them that are neither held nor claimed, by destination.
    pub(super) due: Due<QueueId>,
    pub(super) claimed: Table<QueueId, Claimed>,
    pub(super) retired: Table<QueueId, Retired>,
    /// Webhook calls to be made.
    pub(super) hooks: Table<HookId, Hook>,
    /// Those of them that are not claimed and the first of their chain, by URL.
    pub(super) hooks_due: Due<HookId>,
    pub(super) claimed_hooks: Table<HookId, ()>,
    /// The order of calls that tell of one message to one URL.
    pub(super) chains: Table<(QueueId, Name, HookId), ()>,
    pub(super) retired_hooks: Table<HookId, RetiredHook>,
    /// The history by the time when it goes.
    pub(super) expiry: Table<(Time, u8, u64), ()>,
    pub(super) mails: Table<MailId, Mail>,
    /// By account and mailbox.
    pub(super) mailboxes: Table<(Name, Name, MailId), ()>,
    /// By account.
    pub(super) account_mails: Table<(Name, MailId), ()>,
    pub(super) texts: Table<TextId, Stored>,
    /// By generation.
    pub(super) segments: Table<u64, Segment>,
    /// The files of large texts that are alive.
    pub(super) files: Table<u64, ()>,
    pub(super) credentials: Table<Name, Credential>,
    pub(super) suppressions: Table<SuppressionId, Suppression>,
    /// By account and base address.
    pub(super) suppressed: Table<(Name, Name), SuppressionId>,
    pub(super) hold_rules: Table<HoldRuleId, HoldRule>,
    /// Messages, queued and in the history, by how answers call them and by recipient.
    pub(super) references: Table<(Name, Name, QueueId), ()>,
    /// By account and hour.
    pub(super) sent: Table<(Name, u64), Sent>,
    /// Who was ever sent to, by account.
    pub(super) known: Table<(Name, Name), ()>,
    /// Texts that nothing refers to yet.
    pub(super) staged: Table<TextId, ()>,
    pub(super) api_keys: Table<ApiKeyId, ApiKey>,
    /// To what was done once, by account and key.
    pub(super) answers: Table<(Name, Name), Answered>,
    /// The account and key of each, by its number.
    pub(super) answer_names: Table<u64, (String, String)>,
    /// The accounts' logs.
    pub(super) events: Table<EventId, LoggedEvent>,
    /// How many events there were, by day, account, kind and domain.
    pub(super) counted: Table<(u64, Name, (u8, Name)), u64>,
    pub(super) effects: Effects,
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) last_queued: u64,
    pub(super) last_text: u64,
    pub(super) last_mail: u64,
    pub(super) last_hook: u64,
    pub(super) queued: u64,
    pub(super) held: u64,
    pub(super) claimed: u64,
    pub(super) retired: u64,
    pub(super) hooks: u64,
    pub(super) retired_hooks: u64,
    pub(super) mails: u64,
    pub(super) text_bytes: u64,
    pub(super) last_suppression: u64,
    pub(super) suppressions: u64,
    pub(super) last_hold_rule: u64,
    pub(super) hold_rules: u64,
    pub(super) last_api_key: u64,
    pub(super) last_answer: u64,
    pub(super) last_event: u64,
}

/// What is to be done outside of the state because of it.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Files of texts that nothing refers to any more.
    pub(super) dropped_files: Vec<u64>,
    /// A message may have become due.
    pub(super) queue_changed: bool,
    /// Likewise a webhook call.
    pub(super) hooks_changed: bool,
    /// There are more events.
    pub(super) events_changed: bool,
}

fn names(groups: &[Group]) -> Vec<String> {
    groups.iter().map(Group::name).collect()
}

/// As in the table of references.
pub(super) fn reference_key(reference: Reference<'_>) -> Name {
    match reference {
        Reference::FromId(id) => format!("f{id}"),
        Reference::Envid(id) => format!("e{id}"),
        Reference::MessageId(id) => format!("m{id}"),
        // Lengths, so that no two are written alike.
        Reference::Extra {
            account,
            key,
            value,
        } => format!("x{}.{}.{account}{key}{value}", account.len(), key.len()),
    }
    .into()
}

/// The next number of a sequence.
pub(super) fn next(last: &mut u64) -> u64 {
    *last += 1;
    *last
}

impl State {
    pub(super) fn new(counters: Counters) -> Self {
        Self {
            counters,
            queued: Table::grouped(
                "queued",
                Grouping {
                    name: "queued_groups",
                    of: |queued| names(&Group::of_queued(queued)),
                    has: Group::has_queued,
                },
            ),
            due: Due::new("due", "due_lanes", "due_heads"),
            claimed: Table::new("claimed"),
            retired: Table::grouped(
                "retired",
                Grouping {
                    name: "retired_groups",
                    of: |retired| names(&Group::of_retired(retired)),
                    has: Group::has_retired,
                },
            ),
            hooks: Table::grouped(
                "hooks",
                Grouping {
                    name: "hook_groups",
                    of: |hook| vec![hook.account.clone()],
                    has: |account, hook| hook.account == account,
                },
            ),
            hooks_due: Due::new(
                "hooks_waiting",
                "hooks_waiting_lanes",
                "hooks_waiting_heads",
            ),
            claimed_hooks: Table::new("claimed_hooks"),
            chains: Table::new("chains"),
            retired_hooks: Table::grouped(
                "retired_hooks",
                Grouping {
                    name: "retired_hook_groups",
                    of: |retired| vec![retired.hook.account.clone()],
                    has: |account, retired| retired.hook.account == account,
                },
            ),
            expiry: Table::new("expiry"),
            mails: Table::new("mails"),
            mailboxes: Table::new("mailboxes"),
            account_mails: Table::new("account_mails"),
            texts: Table::new("texts"),
            segments: Table::new("segments"),
            files: Table::new("files"),
            credentials: Table::new("credentials"),
            suppressions: Table::grouped(
                "suppressions",
                Grouping {
                    name: "suppression_groups",
                    of: |suppression| vec![suppression.account.clone()],
                    has: |account, suppression| suppression.account == account,
                },
            ),
            suppressed: Table::new("suppressed"),
            hold_rules: Table::new("hold_rules"),
            references: Table::new("references"),
            sent: Table::new("sent"),
            known: Table::new("known"),
            staged: Table::new("staged"),
            api_keys: Table::new("api_keys"),
            answers: Table::new("answers"),
            answer_names: Table::new("answer_names"),
            events: Table::grouped(
                "events",
                Grouping {
                    name: "event_groups",
                    of: event_groups,
                    has: in_event_group,
                },
            ),
            counted: Table::new("counted"),
            effects: Effects::default(),
        }
    }

    fn tables(&mut self) -> Vec<&mut dyn Checkpointed> {
        let mut tables: Vec<&mut dyn Checkpointed> = vec![
            &mut self.queued,
            &mut self.claimed,
            &mut self.retired,
            &mut self.hooks,
            &mut self.claimed_hooks,
            &mut self.chains,
            &mut self.retired_hooks,
            &mut self.expiry,
            &mut self.mails,
            &mut self.mailboxes,
            &mut self.account_mails,
            &mut self.texts,
            &mut self.segments,
            &mut self.files,
            &mut self.credentials,
            &mut self.suppressions,
            &mut self.suppressed,
            &mut self.hold_rules,
            &mut self.references,
            &mut self.sent,
            &mut self.known,
            &mut self.staged,
            &mut self.api_keys,
            &mut self.answers,
            &mut self.answer_names,
            &mut self.events,
            &mut self.counted,
        ];
        tables.extend(self.due.tables());
        tables.extend(self.hooks_due.tables());
        tables
    }

    /// Sets apart what changed since the last time, to be written to the index. Only when the one before is there.
    pub(super) fn freeze(&mut self) -> Vec<Box<dyn Frozen>> {
        self.tables()
            .into_iter()
            .filter_map(Checkpointed::freeze)
            .collect()
    }

    /// Goes over to the index as it is now, which has what was frozen.
    pub(super) fn rebase(&mut self, transaction: &redb::ReadTransaction) -> Result<(), Fault> {
        self.tables()
            .into_iter()
            .try_for_each(|table| table.rebase(transaction))
    }

    /// Lets go of the index, so that it can be closed.
    pub(super) fn unbase(&mut self) {
        self.tables().into_iter().for_each(Checkpointed::unbase);
    }
}
