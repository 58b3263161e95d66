//! Steps of mailboxes.

use std::time::Duration;

use proptest::prelude::*;

use super::{World, steps::*};
use crate::{HistoryKey, HistoryKind, KeepDeleted, Lesson, MailChange, MailId, Summary, Time};

/// Any step of mailboxes.
pub(super) fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..3_usize).prop_map(Step::MakeFolder),
        2 => (0..3_usize, 0..3_usize).prop_map(|(from, to)| Step::RenameFolder { from, to }),
        2 => (0..3_usize).prop_map(Step::RemoveFolder),
        4 => (0..3_usize, prop::collection::vec(1..6_u32, 0..3), prop::option::of(0..3_usize))
            .prop_map(|(of, uids, to)| Step::ChangeMails { of, uids, to }),
        2 => (0..3_usize, prop::collection::vec(1..6_u32, 0..3), 0..300_u16)
            .prop_map(|(of, uids, keep)| Step::DeleteMails { of, uids, keep }),
        1 => prop::collection::vec(1..10_u64, 0..3).prop_map(Step::Summarize),
    ]
}

/// The senders that mail comes from.
pub(super) fn senders() -> Vec<HistoryKey> {
    let kinds = [HistoryKind::FromAddress, HistoryKind::Network];
    let sender = |kind| HistoryKey {
        kind,
        name: "a sender".into(),
        validated: true,
    };
    kinds.map(sender).into()
}

/// What there is to learn from a mail with these tokens.
pub(super) fn lesson(tokens: u8, now: Time) -> Lesson {
    let count = usize::from(tokens % 2) + 1;
    Lesson {
        tokenizer: tokens % 3,
        tokens: (0..u64::from(tokens)).collect(),
        senders: senders().into_iter().take(count).collect(),
        author: 1,
        today: now.day(),
    }
}

impl World {
    /// Steps of mailboxes. False: the step is another.
    pub(super) async fn take_mailboxes(&mut self, step: &Step) -> bool {
        match step {
            Step::MakeFolder(at) => {
                let name = FOLDERS[*at];
                self.durable(async |store| store.make_folder("ann", name, None).await)
                    .await;
            }
            Step::RenameFolder { from, to } => {
                let (from, to) = (FOLDERS[*from], FOLDERS[*to]);
                self.durable(async |store| store.rename_folder("ann", from, to).await)
                    .await;
            }
            Step::RemoveFolder(at) => {
                let name = FOLDERS[*at];
                self.durable(async |store| store.remove_folder("ann", name).await)
                    .await;
            }
            Step::ChangeMails { of, uids, to } => {
                let flag = || vec!["\\seen".to_owned()];
                let change = MailChange {
                    add_flags: to.map_or_else(flag, |_| Vec::new()),
                    remove_flags: to.map_or_else(Vec::new, |_| flag()),
                    mailbox: to.map(|at| FOLDERS[at].to_owned()),
                };
                let folder = FOLDERS[*of];
                self.durable(async |store| {
                    let change = change.clone();
                    store
                        .change_mails("ann", folder, uids.clone(), change)
                        .await
                })
                .await;
            }
            Step::DeleteMails { of, uids, keep } => {
                let (folder, now) = (FOLDERS[*of], self.now);
                let keep = KeepDeleted {
                    until: now.after(Duration::from_secs((*keep).into())),
                    bytes: 300,
                };
                self.durable(async |store| {
                    store
                        .delete_mails("ann", folder, uids.clone(), now, keep)
                        .await
                })
                .await;
            }
            Step::Summarize(ids) => {
                if ids.is_empty() {
                    // Nothing would be written.
                    return true;
                }
                let summaries = ids.iter().map(|id| {
                    let summary = Summary {
                        subject: format!("number {id}"),
                        ..Summary::default()
                    };
                    (MailId(*id), summary)
                });
                let summaries: Vec<_> = summaries.collect();
                self.durable(async |store| store.summarize(summaries.clone()).await)
                    .await;
            }
            _ => return false,
        }
        true
    }
}
