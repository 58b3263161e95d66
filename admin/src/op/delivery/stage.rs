//! The stages of a check, with the names and members of the contract.

use std::{collections::BTreeMap, time::Duration};

use postrider_observe::millis;
use postrider_queue::{
    check::{CheckResult, CheckedPlan, CheckedSession, Found, Outcome, Stage, Step, StsFound},
    mta_sts::Policy,
};
use postrider_store::TranscriptCertificate;
use serde::{Deserialize, Serialize};

use crate::op::{destinations::DestinationItem, transcripts::CertificateItem};

/// Why there is no TLSA record for a host.
const NO_TLSA: &str = "the host has no TLSA records that DNSSEC proves";

/// A stage. It has the members that its kind needs, and no others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageItem {
    /// The kind: the name of a step, and `Start`, `Success`, `NotFound` or `Error`. Beside these:
    /// `plan`, `session`, `quitCompleted`, `completed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How long the step took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed: Option<u64>,
    /// Why the step failed, or found nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The domain whose MX hosts are looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The host that is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The address that is connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<String>,
    /// The MX hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mxs: Option<Vec<MxItem>>,
    /// DNSSEC proves the MX hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// There are no MX records: the domain is its own host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implicit: Option<bool>,
    /// The MTA-STS policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyItem>,
    /// Who gets reports about TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rua: Option<Vec<RuaItem>>,
    /// The TLSA records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<TlsaItem>,
    /// The addresses of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ips: Option<Vec<String>>,
    /// The reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Where mail for the address goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<PlanItem>>,
    /// The open session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionItem>,
    /// The end of the check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultItem>,
}

/// The MX hosts of one preference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MxItem {
    /// Their names.
    pub exchanges: Vec<String>,
    /// The preference.
    pub preference: u16,
}

/// An MTA-STS policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyItem {
    /// The id; empty: it is not known.
    pub id: String,
    /// `enforce`, `testing` or `none`.
    pub mode: String,
    /// The hosts.
    pub mx: Vec<PatternItem>,
    /// How long the policy holds, in seconds.
    pub max_age: u64,
}

/// Hosts of an MTA-STS policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PatternItem {
    /// The host of this name.
    #[serde(rename = "equals")]
    Equals(String),
    /// The hosts one label below this name.
    #[serde(rename = "startsWith")]
    StartsWith(String),
}

/// Who gets reports about TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RuaItem {
    /// An address.
    Mail {
        /// The address.
        email: String,
    },
    /// A receiver over HTTPS.
    Http {
        /// Its URL.
        url: String,
    },
}

/// The TLSA records of a host that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsaItem {
    /// The records. Empty: there are some, and none can be used.
    pub entries: Vec<TlsaEntry>,
    /// One is about the certificate of the host.
    pub has_end_entities: bool,
    /// One is about its issuer.
    pub has_intermediates: bool,
}

/// A TLSA record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsaEntry {
    /// It is about the certificate of the host (usage 3), and not about its issuer (usage 2).
    pub is_end_entity: bool,
    /// It has a SHA-256 digest.
    pub is_sha256: bool,
    /// It is about the public key.
    pub is_spki: bool,
    /// The bytes.
    pub data: Vec<u8>,
}

/// Where mail for the address goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanItem {
    /// The site.
    pub site: String,
    /// The entry of the provider.
    pub provider: String,
    /// The transport; empty: none.
    pub transport: String,
    /// The TLS of the plan, in words.
    pub tls: String,
    /// The hosts, by preference, as `name:port`.
    pub hosts: Vec<String>,
    /// What is known of the site; null: nothing was sent there lately.
    pub destination: Option<DestinationItem>,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionItem {
    /// The host as `name [ip]`.
    pub remote: String,
    /// The address or the proxy of ours.
    pub source: String,
    /// Our name in EHLO.
    pub ehlo: String,
    /// The version of TLS; null: the session is in clear.
    pub tls_version: Option<String>,
    /// The cipher suite; null: the session is in clear.
    pub tls_cipher: Option<String>,
    /// The rule that said which TLS the connection needs.
    pub tls_rule: String,
    /// What the session proves: `plain`, `encrypted`, `pkix` or `dane`.
    pub proven: String,
    /// The certificate of the host.
    pub certificate: Option<CertificateItem>,
}

/// The end of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultItem {
    /// A host takes mail for the recipient.
    pub ok: bool,
    /// The failure is permanent.
    pub permanent: bool,
    /// The class of the failure, such as `unknown_mailbox`.
    pub class: Option<String>,
    /// The reply code; 0: there was no reply.
    pub code: u16,
    /// The last reply, or why there was none.
    pub text: String,
}

impl StageItem {
    fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            ..Self::default()
        }
    }

    /// The last stage of a check that failed, for this reason.
    #[must_use]
    pub fn failed(reason: String) -> Self {
        Self {
            reason: Some(reason),
            ..Self::new("completed")
        }
    }

    /// No stage follows this one.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.kind == "completed"
    }

    /// Clients of the HTTP API may hold the kinds of others as a closed set. This one is not in it.
    #[must_use]
    pub fn is_extra(&self) -> bool {
        matches!(self.kind.as_str(), "plan" | "session") || self.kind.starts_with("auth")
    }

    fn began(step: Step, about: String) -> Self {
        let about = Some(about).filter(|about| !about.is_empty());
        let mut item = Self::new(format!("{}Start", step.name()));
        match step {
            Step::MxLookup => item.domain = about,
            Step::DeliveryAttempt => item.hostname = about,
            Step::Connection => item.remote_ip = about,
            _ => {}
        }
        item
    }

    fn ended(step: Step, outcome: Outcome, took: Option<Duration>) -> Self {
        let name = step.name();
        let took = took.map(millis);
        let mut item = match outcome {
            // RFC 5321 §4.1.1.10: nothing depends on the reply.
            Outcome::Success(_) | Outcome::Failed(_) if step == Step::Quit => {
                Self::new("quitCompleted")
            }
            Outcome::Success(found) => {
                let mut item = Self::new(format!("{name}Success"));
                item.set(found);
                item
            }
            Outcome::NotFound => {
                let thing = name.strip_suffix("Lookup").or(name.strip_suffix("Fetch"));
                // Clients of Stalwart expect a reason here, and not for other things.
                let reason = (step == Step::TlsaLookup).then(|| NO_TLSA.to_owned());
                Self {
                    reason,
                    ..Self::new(format!("{}NotFound", thing.unwrap_or(name)))
                }
            }
            Outcome::Failed(reason) => Self {
                reason: Some(reason),
                ..Self::new(format!("{name}Error"))
            },
        };
        item.elapsed = took;
        item
    }

    fn set(&mut self, found: Found) {
        match found {
            Found::Nothing => {}
            Found::Hosts {
                hosts,
                secure,
                implicit,
            } => {
                let mut mxs: BTreeMap<u16, Vec<String>> = BTreeMap::new();
                for (preference, name) in hosts {
                    mxs.entry(preference).or_default().push(name);
                }
                let mxs = mxs.into_iter().map(|(preference, exchanges)| MxItem {
                    exchanges,
                    preference,
                });
                self.mxs = Some(mxs.collect());
                self.secure = Some(secure);
                self.implicit = Some(implicit);
            }
            Found::Policy(StsFound { id, policy }) => self.policy = Some(policy_item(id, policy)),
            Found::Reports(uris) => self.rua = Some(uris.into_iter().map(rua).collect()),
            Found::Tlsa(records) => {
                let entries = records.into_iter().map(|record| TlsaEntry {
                    is_end_entity: record.usage == 3,
                    is_sha256: record.matching == 1,
                    is_spki: record.selector == 1,
                    data: record.data,
                });
                let entries: Vec<TlsaEntry> = entries.collect();
                let has = |is_end: bool| entries.iter().any(|it| it.is_end_entity == is_end);
                self.record = Some(TlsaItem {
                    has_end_entities: has(true),
                    has_intermediates: has(false),
                    entries,
                });
            }
            Found::Addresses(ips) => {
                self.remote_ips = Some(ips.iter().map(ToString::to_string).collect());
            }
            Found::Reply(reply) => self.reply = Some(reply),
        }
    }
}

fn policy_item(id: String, policy: Policy) -> PolicyItem {
    let mx = policy.mx.into_iter().map(|mx| match mx.strip_prefix("*.") {
        Some(below) => PatternItem::StartsWith(below.to_owned()),
        None => PatternItem::Equals(mx),
    });
    PolicyItem {
        id,
        mode: policy.mode.to_string(),
        mx: mx.collect(),
        max_age: policy.max_age.as_secs(),
    }
}

fn rua(uri: String) -> RuaItem {
    match uri.strip_prefix("mailto:") {
        Some(email) => RuaItem::Mail {
            email: email.to_owned(),
        },
        None => RuaItem::Http { url: uri },
    }
}

impl From<Stage> for StageItem {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Began(step, about) => Self::began(step, about),
            Stage::Ended {
                step,
                outcome,
                took,
            } => Self::ended(step, outcome, took),
            Stage::Planned(plan) => Self {
                plan: Some(Box::new(PlanItem::from(*plan))),
                ..Self::new("plan")
            },
            Stage::Opened(session) => Self {
                session: Some(SessionItem::from(*session)),
                ..Self::new("session")
            },
            Stage::Completed(result) => Self {
                result: Some(ResultItem::from(result)),
                ..Self::new("completed")
            },
        }
    }
}

impl From<CheckedPlan> for PlanItem {
    fn from(plan: CheckedPlan) -> Self {
        let hosts = plan.hosts.into_iter();
        Self {
            site: plan.site,
            provider: plan.provider,
            transport: plan.transport,
            tls: plan.tls,
            hosts: hosts
                .map(|(_, name, port)| format!("{name}:{port}"))
                .collect(),
            destination: plan.known.map(DestinationItem::from),
        }
    }
}

impl From<CheckedSession> for SessionItem {
    fn from(session: CheckedSession) -> Self {
        let (tls_version, tls_cipher) = match session.tls {
            Some(tls) => (Some(tls.version), Some(tls.cipher)),
            None => (None, None),
        };
        Self {
            remote: session.remote,
            source: session.source,
            ehlo: session.ehlo,
            tls_version,
            tls_cipher,
            tls_rule: session.tls_rule,
            proven: session.proven.to_owned(),
            certificate: session
                .certificate
                .map(|it| TranscriptCertificate::from(it).into()),
        }
    }
}

impl From<CheckResult> for ResultItem {
    fn from(result: CheckResult) -> Self {
        Self {
            ok: result.ok,
            permanent: result.permanent,
            class: result.class.map(str::to_owned),
            code: result.code,
            text: result.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_dns::Tlsa;
    use serde_json::json;

    use super::*;

    fn shown(stage: Stage) -> serde_json::Value {
        serde_json::to_value(StageItem::from(stage)).unwrap()
    }

    fn ended(step: Step, outcome: Outcome) -> serde_json::Value {
        let took = Some(Duration::from_millis(12));
        shown(Stage::Ended {
            step,
            outcome,
            took,
        })
    }

    #[test]
    fn stages_have_the_names_and_members_of_the_contract() {
        let began = |step, about: &str| shown(Stage::Began(step, about.to_owned()));
        let tlsa = Tlsa {
            usage: 3,
            selector: 1,
            matching: 1,
            data: vec![1, 2],
        };
        let policy = Policy::parse(
            b"version: STSv1\nmode: enforce\nmx: mx.a.test\nmx: *.b.test\nmax_age: 86400\n",
        );
        let policy = Found::Policy(StsFound {
            id: "7".into(),
            policy: policy.unwrap(),
        });
        let hosts = Found::Hosts {
            hosts: vec![
                (10, "a.test".into()),
                (5, "b.test".into()),
                (10, "c.test".into()),
            ],
            secure: true,
            implicit: false,
        };
        let rua = ["mailto:a@b.test", "https://c.test/"].map(str::to_owned);
        for (found, expected) in [
            (
                began(Step::MxLookup, "a.test"),
                json!({"type": "mxLookupStart", "domain": "a.test"}),
            ),
            (
                began(Step::DeliveryAttempt, "mx.a.test"),
                json!({"type": "deliveryAttemptStart", "hostname": "mx.a.test"}),
            ),
            (
                began(Step::Connection, "192.0.2.1"),
                json!({"type": "connectionStart", "remote_ip": "192.0.2.1"}),
            ),
            (began(Step::Quit, ""), json!({"type": "quitStart"})),
            (
                ended(Step::MxLookup, Outcome::Success(hosts)),
                json!({"type": "mxLookupSuccess", "elapsed": 12, "secure": true,
                    "implicit": false, "mxs": [
                        {"exchanges": ["b.test"], "preference": 5},
                        {"exchanges": ["a.test", "c.test"], "preference": 10}]}),
            ),
            (
                ended(Step::MtaStsFetch, Outcome::Success(policy)),
                json!({"type": "mtaStsFetchSuccess", "elapsed": 12, "policy": {"id": "7",
                    "mode": "enforce", "max_age": 86400,
                    "mx": [{"equals": "mx.a.test"}, {"startsWith": "b.test"}]}}),
            ),
            (
                ended(Step::MtaStsFetch, Outcome::NotFound),
                json!({"type": "mtaStsNotFound", "elapsed": 12}),
            ),
            (
                ended(
                    Step::TlsRptLookup,
                    Outcome::Success(Found::Reports(rua.into())),
                ),
                json!({"type": "tlsRptLookupSuccess", "elapsed": 12, "rua": [
                    {"type": "mail", "email": "a@b.test"},
                    {"type": "http", "url": "https://c.test/"}]}),
            ),
            (
                ended(Step::TlsRptLookup, Outcome::NotFound),
                json!({"type": "tlsRptNotFound", "elapsed": 12}),
            ),
            (
                ended(Step::TlsaLookup, Outcome::Success(Found::Tlsa(vec![tlsa]))),
                json!({"type": "tlsaLookupSuccess", "elapsed": 12, "record": {
                    "entries": [{"is_end_entity": true, "is_sha256": true, "is_spki": true,
                        "data": [1, 2]}],
                    "has_end_entities": true, "has_intermediates": false}}),
            ),
            (
                ended(Step::TlsaLookup, Outcome::NotFound),
                json!({"type": "tlsaNotFound", "elapsed": 12, "reason": NO_TLSA}),
            ),
            (
                ended(Step::RcptTo, Outcome::Failed("550 no".into())),
                json!({"type": "rcptToError", "elapsed": 12, "reason": "550 no"}),
            ),
            (
                ended(Step::Quit, Outcome::Success(Found::Nothing)),
                json!({"type": "quitCompleted", "elapsed": 12}),
            ),
            (
                shown(Stage::Ended {
                    step: Step::DaneVerify,
                    outcome: Outcome::Success(Found::Nothing),
                    took: None,
                }),
                json!({"type": "daneVerifySuccess"}),
            ),
        ] {
            assert_eq!(found, expected);
        }
    }
}
