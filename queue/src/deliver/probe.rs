//! The hosts of a plan, asked for a recipient without a message. It walks them as an attempt does,
//! by the same functions, and tells each stage.

use std::{net::IpAddr, sync::Arc};

use postrider_config::Dynamic;
use postrider_smtp::{
    Cause, Certificate, DeliveryStatus, EnhancedCode,
    client::{Connection, Recorder},
};
use tokio::time::{Instant, error::Elapsed};

use super::{
    Alike,
    addresses::Peer,
    again::Preference,
    attempt::{
        OngoingAttempt,
        hosts::{ADDRESSES_MAX, HOSTS_MAX, Unusable},
    },
    counting::HostSeen,
    endpoint::{Endpoint, Unconnected, no_token, unreached},
};
use crate::{
    Queue,
    check::{
        CheckRequest, CheckedSession, Found, Outcome, REQUESTED, Stage, Stages, Step,
        dialog::Dialog,
    },
    next_hop::{self, Hop, HostAddresses, HostTlsa, LmtpPlace, LookUpFailure, Plan, Way},
    route::Login,
    run::Slot,
    source::Sources,
    tls::{MtaStsFact, Proven, Refusal},
};

/// A host, what was found of its addresses, and the look-up.
type HostFound<'h> = (&'h Hop, Result<HostAddresses, LookUpFailure>, Stage);

impl Queue {
    /// Asks the hosts of a plan for a recipient, and gives the last word: of the first host that
    /// takes mail or refuses it for good, else of the last host.
    pub(crate) async fn probe(
        &self,
        config: &Dynamic,
        plan: &Plan,
        sources: Sources,
        request: &CheckRequest,
        stages: &Stages,
    ) -> DeliveryStatus {
        let slot = Slot::aside(self.sites.pace(&plan.site, self.now()));
        let alike = Alike {
            requested: REQUESTED,
            sources,
            preference: Preference::None,
        };
        let attempt = OngoingAttempt::new(self, config, plan, (alike, Vec::new()), &slot);
        let probe = Probe {
            attempt,
            request,
            stages,
        };
        probe.hosts().await
    }
}

/// A check under way.
struct Probe<'a> {
    attempt: OngoingAttempt<'a>,
    request: &'a CheckRequest,
    stages: &'a Stages,
}

impl Probe<'_> {
    fn ended(&self, step: Step, outcome: Outcome, began: Instant) {
        self.stages.tell(Stage::ended(step, outcome, began));
    }

    async fn hosts(&self) -> DeliveryStatus {
        let (attempt, plan) = (&self.attempt, self.attempt.plan);
        let (direct, login) = match &plan.way {
            Way::Direct(settings) => (Some(settings), None),
            Way::Smarthost(login) => (None, login.as_ref()),
            Way::Lmtp(LmtpPlace::Hops) => (None, None),
            Way::Lmtp(LmtpPlace::Socket(path)) => {
                let endpoint = attempt.socket(path);
                let name = endpoint.hop.name.clone();
                self.stages.tell(Stage::Began(Step::DeliveryAttempt, name));
                return self.endpoint(endpoint).await;
            }
        };
        let hops = plan.shuffled(&mut attempt.queue.fork_rng());
        let first_ipv6 = attempt
            .queue
            .families
            .is_ipv6_first(attempt.queue.clock.moment());
        let mut last = DeliveryStatus::transient(
            Cause::Dns,
            EnhancedCode::NO_ROUTE_TRANSIENT,
            "no host has an address that may be used",
        );
        let mut tried = 0;
        let hops = hops.get(..HOSTS_MAX).unwrap_or(&hops);
        for level in hops.chunk_by(|one, other| one.preference == other.preference) {
            let mut found: Vec<HostFound<'_>> = Vec::with_capacity(level.len());
            for hop in level {
                let began = Instant::now();
                let addresses = attempt.addresses_of(hop, direct, first_ipv6).await;
                let outcome = match &addresses {
                    Ok(found) => Outcome::Success(Found::Addresses(found.addresses.clone())),
                    Err(failure) => Outcome::Failed(failure.status.to_string()),
                };
                found.push((hop, addresses, Stage::ended(Step::IpLookup, outcome, began)));
            }
            let known = found.iter();
            let known = known.filter_map(|(hop, found, _)| Some((*hop, found.as_ref().ok()?)));
            if direct.is_some()
                && let Some(host) = attempt.host_of_ours(known)
            {
                let name = self.request.to.host.ascii();
                return match next_hop::is_best(level, hops) {
                    true => next_hop::circle(name, &host),
                    false => last,
                };
            }
            for (hop, addresses, lookup) in found {
                let host = self.host(hop, addresses, lookup).await;
                let (addresses, tlsa) = match host {
                    Ok(host) => host,
                    Err(status) => {
                        last = status;
                        continue;
                    }
                };
                for ip in addresses {
                    if tried >= ADDRESSES_MAX {
                        return last;
                    }
                    tried += 1;
                    last = self.address(hop, ip, &tlsa, login).await;
                    if last.is_success() || last.permanent {
                        return last;
                    }
                }
            }
        }
        last
    }

    /// Tells what was found of a host, and looks up its TLSA records.
    async fn host(
        &self,
        hop: &Hop,
        addresses: Result<HostAddresses, LookUpFailure>,
        lookup: Stage,
    ) -> Result<(Vec<IpAddr>, HostTlsa), DeliveryStatus> {
        let (attempt, stages) = (&self.attempt, self.stages);
        stages.tell(Stage::Began(Step::DeliveryAttempt, hop.name.clone()));
        let listed = match attempt.mta_sts(&hop.name) {
            MtaStsFact::Listed => Some(Outcome::Success(Found::Nothing)),
            MtaStsFact::NotListed => {
                let text = format!("the policy does not have the host {}", hop.name);
                Some(Outcome::Failed(text))
            }
            MtaStsFact::Absent | MtaStsFact::Unknown => None,
        };
        if let Some(outcome) = listed {
            stages.tell(Stage::Ended {
                step: Step::MtaStsVerify,
                outcome,
                took: None,
            });
        }
        let mut tlsa = HostTlsa::Absent;
        if let Ok(found) = &addresses
            && attempt.wants_tlsa()
        {
            stages.tell(Stage::Began(Step::TlsaLookup, String::new()));
            let began = Instant::now();
            tlsa = attempt.tlsa(hop, &found.tlsa_bases).await;
            let outcome = match &tlsa {
                HostTlsa::Absent => Outcome::NotFound,
                HostTlsa::Failed { reason, .. } => Outcome::Failed(reason.clone()),
                HostTlsa::Unusable { .. } => Outcome::Success(Found::Tlsa(Vec::new())),
                HostTlsa::Usable(check) => Outcome::Success(Found::Tlsa(check.records.records())),
            };
            self.ended(Step::TlsaLookup, outcome, began);
        }
        stages.tell(Stage::Began(Step::IpLookup, String::new()));
        stages.tell(lookup);
        match addresses {
            Ok(found) => Ok((found.addresses, tlsa)),
            Err(failure) => Err(failure.status),
        }
    }

    async fn address(
        &self,
        hop: &Hop,
        ip: IpAddr,
        tlsa: &HostTlsa,
        login: Option<&Login>,
    ) -> DeliveryStatus {
        // A check has no messages, so nothing is counted for reports about TLS.
        let seen = Arc::new(HostSeen::NOTHING);
        match self.attempt.endpoint_at(hop, ip, (tlsa, &seen), login) {
            Ok(endpoint) => self.endpoint(endpoint).await,
            Err(unusable) => {
                let status = match unusable {
                    Unusable::Refused(Refusal::ForNow(status) | Refusal::Lacks(status)) => {
                        status.with_remote(&hop.name)
                    }
                    Unusable::NoSource(status) => status,
                    Unusable::Barred(barred) => barred.status.with_remote(&hop.name),
                };
                let began = Instant::now();
                let stage = Stage::Began(Step::Connection, ip.to_string());
                self.stages.tell(stage);
                let reason = Outcome::Failed(status.to_string());
                self.ended(Step::Connection, reason, began);
                // Another host may do.
                DeliveryStatus {
                    permanent: false,
                    ..status
                }
            }
        }
    }

    /// Connects to an endpoint, and asks for the recipient.
    async fn endpoint(&self, endpoint: Endpoint<'_>) -> DeliveryStatus {
        let (attempt, stages) = (&self.attempt, self.stages);
        let peer = match &endpoint.address {
            Peer::Ip(address) => address.ip().to_string(),
            Peer::Socket(path) => path.display().to_string(),
        };
        stages.tell(Stage::Began(Step::Connection, peer));
        let began = Instant::now();
        let dialed = self.in_time(attempt.dial(&endpoint)).await;
        let dialed = dialed.map_err(|_| self.late(&endpoint, "connect"));
        let link = match dialed.and_then(|it| it.map_err(|error| status_of(&endpoint, error))) {
            Ok(link) => link,
            Err(status) => {
                let reason = Outcome::Failed(status.text.clone());
                self.ended(Step::Connection, reason, began);
                return status;
            }
        };
        let outcome = Outcome::Success(Found::Nothing);
        self.ended(Step::Connection, outcome, began);
        let now = Instant::now().into_std();
        let dane = endpoint.protection.dane().is_some();
        let (listener, given_up) = Dialog::listener(stages, dane, now);
        let recorder = Recorder::with_listener(now, listener);
        let opened = Box::pin(attempt.connect_protected(&endpoint, Some(link), Some(&recorder)));
        let late = |command: &'static str| {
            let status = self.late(&endpoint, command);
            given_up.close(Instant::now().into_std(), &status);
            status
        };
        let (mut connection, proven) = match self.in_time(opened).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return status_of(&endpoint, error),
            Err(_) => return late("greeting"),
        };
        let session = session(&endpoint, &connection, proven);
        stages.tell(Stage::Opened(Box::new(session)));
        let from = self.request.from.clone();
        let asked = connection.probe(from, self.request.to.clone());
        let Ok(status) = self.in_time(asked).await else {
            return late("RCPT");
        };
        if self.in_time(connection.quit()).await.is_err() {
            late("QUIT");
        }
        status
    }

    /// Waits as long as the check allows for a part of a session.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        match self.request.wait {
            Some(wait) => tokio::time::timeout(wait, work).await,
            None => Ok(work.await),
        }
    }

    /// The status of an address that was given up.
    fn late(&self, endpoint: &Endpoint<'_>, command: &'static str) -> DeliveryStatus {
        let wait = self.request.wait.unwrap_or_default();
        let status = unreached(endpoint, format!("it took longer than {wait:?}"));
        DeliveryStatus {
            cause: Cause::Timeout,
            ..status.with_command(command)
        }
    }
}

/// The facts of an open session.
fn session(endpoint: &Endpoint<'_>, connection: &Connection, proven: Proven) -> CheckedSession {
    let ends = endpoint.ends();
    let leaf = connection.peer_certificates().first();
    CheckedSession {
        remote: ends.remote().to_string(),
        source: ends.source_of(connection),
        ehlo: endpoint.source.ehlo.ascii().to_owned(),
        tls: connection.tls().cloned(),
        tls_rule: endpoint.protection.rule().name().to_owned(),
        proven: match proven {
            Proven::Plain => "plain",
            Proven::Encrypted => "encrypted",
            Proven::Pkix => "pkix",
            Proven::Dane => "dane",
        },
        certificate: leaf.and_then(|leaf| Certificate::read(leaf)),
    }
}

fn status_of(endpoint: &Endpoint<'_>, error: Unconnected) -> DeliveryStatus {
    match error {
        Unconnected::Ours(_, error) => unreached(endpoint, error.to_string()),
        Unconnected::Theirs(unopened) => unopened.status,
        Unconnected::NotBefore(_) => no_token(endpoint),
    }
}
