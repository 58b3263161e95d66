//! The counts of sent messages, in the model.

use std::{collections::BTreeMap, ops::Bound};

use super::{Known, Sent, Walk, hour, known_domain_key, known_key};
use crate::{Common, NewRecipient, Time, subject::ModelPart, table::key::Name};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    sent: BTreeMap<(String, u64), Sent>,
    known: BTreeMap<(Name, Name), Known>,
    walk: Walk,
}

impl ModelPart for Model {
    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if max == 0 {
            return 0;
        }
        let Some(behind) = self.walk.go_on(now) else {
            return 0;
        };
        let next = self
            .known
            .range((Bound::Excluded(&behind), Bound::Unbounded));
        let next = next.map(|(key, known)| Ok((key.clone(), *known)));
        let over = self.walk.step(next, now, max).unwrap_or_default();
        for (key, _) in &over {
            self.known.remove(key);
        }
        over.len() as u64
    }
}

impl Model {
    pub(crate) fn count(&mut self, common: &Common, recipients: &[NewRecipient]) {
        let hour = hour(common.queued);
        let account = &common.account;
        let first_time = recipients
            .iter()
            .filter(|new| {
                let (now, name) = (common.queued, account.as_str().into());
                let key = known_key(&name, &new.recipient);
                let known = self.known.get(&key).copied();
                let noted = |known: Option<Known>| known.is_none_or(|known| known.is_stale(now));
                if noted(known) {
                    self.known.insert(key, Known::at(now));
                    let key = known_domain_key(&name, &new.recipient.host);
                    if noted(self.known.get(&key).copied()) {
                        self.known.insert(key, Known::at(now));
                    }
                }
                known.is_none()
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

    pub(super) fn is_known(&self, key: &(Name, Name)) -> bool {
        self.known.contains_key(key)
    }
}
