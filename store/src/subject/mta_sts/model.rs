//! Policies of MTA-STS in the model.

use std::collections::BTreeMap;

use super::{Keep, Remove, Retry, STS_POLICIES_MAX, StsPolicy, UNUSED_MAX, Use};
use crate::{
    Time,
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(super) policies: BTreeMap<String, StsPolicy>,
}

impl Model {
    /// The domains by the time of the last use.
    fn uses(&self) -> Vec<(Time, String)> {
        let policies = self.policies.values();
        let mut uses: Vec<_> = policies
            .map(|policy| (policy.used, policy.domain.clone()))
            .collect();
        uses.sort();
        uses
    }

    pub(super) fn next_refreshes(&self, max: usize) -> Vec<StsPolicy> {
        let mut policies: Vec<_> = self.policies.values().cloned().collect();
        policies.sort_by(|a, b| (a.refresh, &a.domain).cmp(&(b.refresh, &b.domain)));
        policies.truncate(max);
        policies
    }
}

impl ModelPart for Model {
    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let unused = |(used, _): &(Time, String)| *used <= now.before(UNUSED_MAX);
        let old = self.uses().into_iter().filter(unused);
        let old: Vec<_> = old
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .collect();
        for (_, domain) in &old {
            self.policies.remove(domain);
        }
        old.len() as u64
    }
}

impl Keep {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let (model, mut policy) = (&mut model.mta_sts, self.0);
        match model.policies.remove(&policy.domain) {
            Some(before) => policy.used = policy.used.max(before.used),
            None if model.policies.len() as u64 >= STS_POLICIES_MAX => {
                if let Some((_, first)) = model.uses().into_iter().next() {
                    model.policies.remove(&first);
                }
            }
            None => {}
        }
        model.policies.insert(policy.domain.clone(), policy);
    }
}

impl Use {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        if let Some(policy) = model.mta_sts.policies.get_mut(&self.domain) {
            policy.used = policy.used.max(self.now);
        }
    }
}

impl Retry {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        if let Some(policy) = model.mta_sts.policies.get_mut(&self.domain) {
            policy.retry(self.refresh);
        }
    }
}

impl Remove {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        model.mta_sts.policies.remove(&self.domain);
    }
}
