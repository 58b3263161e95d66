//! What the last check of each domain said, for lists of domains.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use postrider_smtp::Domain;
use postrider_store::Time;
use serde::{Deserialize, Serialize};

use super::{CheckItem, Verdict};
use crate::{
    AdminError, Context,
    op::{Operation, Sink},
};

/// What the last check of each domain said since the server started.
#[derive(Debug, Default)]
pub struct Verdicts {
    known: Mutex<BTreeMap<Domain, VerdictItem>>,
}

/// What the last check of a domain said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictItem {
    /// The domain in its Unicode form.
    pub domain: String,
    /// When it was checked, RFC 3339.
    pub checked: String,
    /// How many things are right.
    pub right: u64,
    /// How many things that the domain needs are missing or other than they should be.
    pub wrong: u64,
    /// How many things that the domain does not need are missing or other than they should be.
    pub warnings: u64,
    /// How many things could not be found out, or do not work.
    pub unknown: u64,
}

impl VerdictItem {
    fn new(domain: &Domain, now: Time, checks: &[CheckItem]) -> Self {
        let mut item = Self {
            domain: domain.unicode(),
            checked: now.to_string(),
            right: 0,
            wrong: 0,
            warnings: 0,
            unknown: 0,
        };
        for check in checks {
            let count = match (check.verdict, check.needed) {
                (Verdict::Ok, _) => &mut item.right,
                (Verdict::Error, _) => &mut item.unknown,
                (_, true) => &mut item.wrong,
                (_, false) => &mut item.warnings,
            };
            *count += 1;
        }
        item
    }
}

impl Verdicts {
    /// Notes what a check of a domain said.
    pub(super) fn note(&self, domain: &Domain, now: Time, checks: &[CheckItem]) {
        let item = VerdictItem::new(domain, now, checks);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(domain.clone(), item);
    }

    pub(in crate::op) fn of(&self, domain: &Domain) -> Option<VerdictItem> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(domain).cloned()
    }

    /// Forgets domains that there are no more.
    pub(super) fn keep(&self, is_there: impl Fn(&Domain) -> bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|domain, _| is_there(domain));
    }
}

/// Lists what the last check of each domain said. A domain that was not checked since the server
/// started is not in the list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListVerdicts {}

impl Operation for ListVerdicts {
    type Item = VerdictItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<VerdictItem>,
    ) -> Result<(), AdminError> {
        let config = context.config.load_full();
        let known = config.domains.keys();
        let known = known.filter_map(|domain| context.verdicts.of(domain));
        items.send(known.collect()).await
    }
}
