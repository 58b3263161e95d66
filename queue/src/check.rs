//! A check of deliveries to an address: the way of a message, walked without one. It plans,
//! connects and asks as a delivery does, by the same functions, and tells of each stage.
//!
//! | file | its job |
//! |---|---|
//! | here | who may check what and when, the route, the plan |
//! | `stage` | the stages that are told |
//! | `dialog` | the stages of a session, as they happen |
//! | `reports` | who wants reports about TLS |
//!
//! The hosts are walked in `deliver/probe.rs`. A check changes nothing that was learnt of a site or
//! an address, and takes no place of a delivery. Its connections count against the site's rate of
//! connections, since the site sees them too.

pub(crate) mod dialog;
mod reports;
mod stage;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_smtp::{
    Address, Cause, DeliveryStatus, EnhancedCode, Host, ReversePath,
    bounce::{Said, classify},
};
use postrider_store::Moment;
use tokio::{sync::Semaphore, time::Instant};

pub use stage::{
    CheckResult, CheckedPlan, CheckedSession, Found, Outcome, Stage, Stages, Step, StsFound,
};

use crate::{
    DeliveryMode, Queue,
    next_hop::{Plan, Planned, Site},
    route::{self, Route},
    source::Sources,
    tls::Requested,
};

/// How many checks there may be at once.
const AT_ONCE: usize = 5;
/// The time between two checks of a site.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct CheckRequest {
    /// The recipient.
    pub to: Address,
    /// The reverse-path. Its domain may have routes of its own.
    pub from: ReversePath,
    /// The name of the source that connections come from. None: that of mail that no account
    /// sends.
    pub source: Option<String>,
    /// The longest time of the whole check.
    pub limit: Duration,
    /// The longest time for each of these at an address: to connect, to open a session, to ask for
    /// the recipient, and to quit. None: the times of deliveries.
    pub wait: Option<Duration>,
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Nothing leaves this machine.
    #[error("nothing is delivered from here to other servers")]
    Local,
    /// The recipient's domain is one of ours, and no route leads elsewhere.
    #[error("{0} is a domain of this server, so its mail goes to mailboxes here")]
    Here(String),
    /// There is no such source.
    #[error("there is no source {0:?} in postrider.conf")]
    NoSource(String),
    /// There are others.
    #[error("{AT_ONCE} checks are under way; no more are made at once")]
    Busy,
    /// The site was checked just now.
    #[error("{site} was checked less than a minute ago; it can be checked again in {wait:?}")]
    TooSoon {
        /// The site.
        site: String,
        /// The time until it can be checked.
        wait: Duration,
    },
}

/// The checks under way and of the last minute.
pub(crate) struct Checks {
    places: Semaphore,
    last: Mutex<HashMap<Site, Moment>>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            places: Semaphore::new(AT_ONCE),
            last: Mutex::default(),
        }
    }
}

impl Checks {
    /// The lock is held for a moment, never over a wait.
    fn last(&self) -> MutexGuard<'_, HashMap<Site, Moment>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the check of a site.
    fn begin(&self, site: &Site, now: Moment) -> Result<(), CheckError> {
        let mut last = self.last();
        last.retain(|_, at| now < at.after(AGAIN_AFTER));
        if let Some(at) = last.get(site) {
            return Err(CheckError::TooSoon {
                site: site.to_string(),
                wait: Duration::from_secs(at.after(AGAIN_AFTER).since(now).as_secs() + 1),
            });
        }
        last.insert(site.clone(), now);
        Ok(())
    }
}

impl Queue {
    /// Walks the way of a message to an address, and tells of each stage: route, plan, and for each
    /// host look-ups, connection, TLS, MAIL and RCPT. No message is sent. The last stage is
    /// [`Stage::Completed`]. Five checks go on at once, and each site is checked once a minute.
    ///
    /// # Errors
    /// If nothing may be checked. No stage was told then.
    pub async fn check(&self, request: CheckRequest, stages: &Stages) -> Result<(), CheckError> {
        if self.delivery == DeliveryMode::Local {
            return Err(CheckError::Local);
        }
        let source = request.source.as_ref();
        if let Some(name) = source.filter(|name| Sources::named(&self.statics, name).is_none()) {
            return Err(CheckError::NoSource(name.clone()));
        }
        let _place = self.checks.places.try_acquire();
        let _place = _place.map_err(|_| CheckError::Busy)?;
        let limit = request.limit;
        let mut lookup = None;
        let walk = self.walk(&request, stages, &mut lookup);
        let status = match tokio::time::timeout(limit, walk).await {
            Ok(walked) => walked?,
            Err(_) => {
                let text = format!("the check took longer than {limit:?}");
                if let Some(lookup) = lookup {
                    lookup.tell(Outcome::Failed(text.clone()), stages);
                }
                let code = EnhancedCode::NO_ANSWER;
                DeliveryStatus::transient(Cause::Timeout, code, text)
            }
        };
        stages.tell(Stage::Completed(result(&status)));
        Ok(())
    }

    /// What became of the check. While the MX hosts are looked up, and nothing was told, `lookup`
    /// has that.
    async fn walk(
        &self,
        request: &CheckRequest,
        stages: &Stages,
        lookup: &mut Option<Lookup>,
    ) -> Result<DeliveryStatus, CheckError> {
        let config = self.config.load_full();
        let from = request.from.address().and_then(|from| from.host.domain());
        let to = &request.to.host;
        let transport = match route::route_to(from, to, &self.statics, &config) {
            Route::End(status) => return Ok(status),
            Route::Named(name) => {
                let Some(plan) = self.plans().named(name) else {
                    return Ok(no_plan(name));
                };
                self.checks.begin(&plan.site, self.clock.moment())?;
                return Ok(Box::pin(self.walk_plan(plan, request, stages)).await);
            }
            Route::Here => return Err(CheckError::Here(to.ascii())),
            Route::Direct(transport) => transport,
        };
        *lookup = Some(Lookup {
            domain: to.ascii(),
            began: Instant::now(),
        });
        let planned = self.plan_hosts(to, transport).await;
        let found = match &planned.plan {
            Ok(plan) => {
                // A site that is left alone is told of nothing.
                self.checks.begin(&plan.site, self.clock.moment())?;
                Outcome::Success(hosts(plan))
            }
            Err(status) => Outcome::Failed(status.to_string()),
        };
        if let Some(lookup) = lookup.take() {
            lookup.tell(found, stages);
        }
        if let Err(status) = planned.plan {
            return Ok(status);
        }
        match self.under_policy(to, planned, stages).await {
            Ok(plan) => Ok(Box::pin(self.walk_plan(plan, request, stages)).await),
            Err(status) => Ok(status),
        }
    }

    /// The plan under the MTA-STS policy of its domain. Tells of it, and who wants reports.
    async fn under_policy(
        &self,
        to: &Host,
        planned: Planned,
        stages: &Stages,
    ) -> Result<Arc<Plan>, DeliveryStatus> {
        let Host::Domain(domain) = to else {
            return planned.plan;
        };
        let planned = match &self.policies {
            Some(_) => {
                stages.tell(Stage::Began(Step::MtaStsFetch, String::new()));
                let began = Instant::now();
                let known = self.policy_of(to).await;
                let planned = planned.under_known(to, known);
                let found = self.policy_found(&planned.plan).await;
                stages.tell(Stage::ended(Step::MtaStsFetch, found, began));
                planned
            }
            None => planned,
        };
        stages.tell(Stage::Began(Step::TlsRptLookup, String::new()));
        let began = Instant::now();
        let found = reports::wanted(&*self.resolver, domain).await;
        stages.tell(Stage::ended(Step::TlsRptLookup, found, began));
        planned.plan
    }

    /// What is known of the MTA-STS policy of a plan.
    async fn policy_found(&self, plan: &Result<Arc<Plan>, DeliveryStatus>) -> Outcome {
        let Ok(plan) = plan else {
            return Outcome::NotFound;
        };
        match &plan.mta_sts {
            Some(applied) => {
                let kept = self.store.sts_policy(&applied.domain).await.ok().flatten();
                Outcome::Success(Found::Policy(StsFound {
                    id: kept.map(|kept| kept.id).unwrap_or_default(),
                    policy: applied.policy.clone(),
                }))
            }
            None if plan.mta_sts_unknown => {
                Outcome::Failed("the policy could not be looked at".to_owned())
            }
            None => Outcome::NotFound,
        }
    }

    async fn walk_plan(
        &self,
        plan: Arc<Plan>,
        request: &CheckRequest,
        stages: &Stages,
    ) -> DeliveryStatus {
        stages.tell(Stage::Planned(Box::new(self.planned_view(&plan).await)));
        let config = self.config.load_full();
        let sources = match &request.source {
            Some(name) => Sources::named(&self.statics, name),
            None => None,
        };
        let sources = match sources {
            Some(sources) => sources,
            None => {
                let mut sources = self.sources_for("", &config, &plan);
                let pace = self.sites.pace(&plan.site, self.now());
                self.leave_out_nameless(&mut sources, &pace).await;
                sources
            }
        };
        Box::pin(self.probe(&config, &plan, sources, request, stages)).await
    }

    async fn planned_view(&self, plan: &Plan) -> CheckedPlan {
        let views = self.site_views(Some(plan.site.as_str()));
        let view = views
            .into_iter()
            .find(|view| view.site == plan.site.as_str());
        let known = match view {
            Some(view) => {
                let waiting = self.waiting_at(std::slice::from_ref(&view)).await;
                // A check says what it can.
                let waiting = waiting.unwrap_or_default().pop();
                Some((view, waiting.unwrap_or_default()))
            }
            None => None,
        };
        CheckedPlan {
            site: plan.site.to_string(),
            provider: plan.provider.name.clone(),
            transport: plan.transport.clone(),
            tls: plan.tls_in_words().to_owned(),
            hosts: plan
                .hops
                .iter()
                .map(|hop| (hop.preference, hop.name.clone(), hop.port))
                .collect(),
            known,
        }
    }
}

/// A look-up of MX hosts that goes on.
struct Lookup {
    domain: String,
    began: Instant,
}

impl Lookup {
    /// Tells of the look-up as a whole.
    fn tell(self, outcome: Outcome, stages: &Stages) {
        stages.tell(Stage::Began(Step::MxLookup, self.domain));
        stages.tell(Stage::ended(Step::MxLookup, outcome, self.began));
    }
}

/// The MX hosts of a plan.
fn hosts(plan: &Plan) -> Found {
    let hops = plan.hops.iter();
    Found::Hosts {
        hosts: hops.map(|hop| (hop.preference, hop.name.clone())).collect(),
        secure: plan.secure_names.is_some(),
        implicit: plan.implicit,
    }
}

/// What senders ask of TLS in a check: nothing.
pub(crate) const REQUESTED: Requested = Requested::Unsaid;

fn no_plan(transport: &str) -> DeliveryStatus {
    let text = format!("the transport {transport} has no host");
    DeliveryStatus::transient(Cause::Local, EnhancedCode::MISCONFIGURED, text)
}

/// The end of a check, for people.
fn result(status: &DeliveryStatus) -> CheckResult {
    CheckResult {
        ok: status.is_success(),
        permanent: status.permanent,
        class: (!status.is_success()).then(|| classify(&Said::from(status)).name()),
        code: status.code,
        text: status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_checked_once_a_minute() {
        let checks = Checks::default();
        let (one, two) = (Site::from("one.test"), Site::from("two.test"));
        let at = |seconds| Moment(Duration::from_secs(seconds));
        for (site, seconds, wait) in [
            (&one, 0, None),
            (&one, 1, Some(60)),
            (&two, 30, None),
            (&one, 59, Some(2)),
            (&one, 60, None),
            (&two, 61, Some(30)),
        ] {
            let begun = checks.begin(site, at(seconds));
            let found = match begun {
                Ok(()) => None,
                Err(CheckError::TooSoon { wait, .. }) => Some(wait.as_secs()),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, wait, "{site} {seconds}");
        }
        checks.begin(&one, at(1000)).unwrap();
        assert_eq!(checks.last().len(), 1, "old ones are forgotten");
    }
}
