//! The counts of sent messages, in the model.

use std::collections::{BTreeMap, BTreeSet};

use postrider_smtp::Address;

use super::{Sent, hour, known_as};
use crate::{Common, NewRecipient, Time, subject::ModelPart};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    sent: BTreeMap<(String, u64), Sent>,
    known: BTreeSet<(String, String)>,
}

impl ModelPart for Model {}

impl Model {
    pub(crate) fn count(&mut self, common: &Common, recipients: &[NewRecipient]) {
        let hour = hour(common.queued);
        let account = &common.account;
        let first_time = recipients
            .iter()
            .filter(|new| {
                let key = (account.clone(), known_as(&new.recipient));
                self.known.insert(key)
            })
            .count() as u64;
        let recipients = recipients.len() as u64;
        let of_hour = self.sent.entry((account.clone(), hour));
        let of_hour = of_hour.or_default();
        *of_hour = of_hour.plus(Sent {
            recipients,
            first_time,
        });
    }

    pub(super) fn since(&self, account: &str, since: Time) -> Sent {
        let counted = self.sent.range((account.to_owned(), hour(since))..);
        let counted = counted.take_while(|((of, _), _)| of == account);
        counted.fold(Sent::default(), |sum, (_, sent)| sum.plus(*sent))
    }

    pub(super) fn is_known(&self, account: &str, recipient: &Address) -> bool {
        let key = (account.to_owned(), known_as(recipient));
        self.known.contains(&key)
    }
}
