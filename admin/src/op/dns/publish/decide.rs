//! What to do with the records of one name and type, by their use.
//!
//! A record of somebody else is never removed. Ours are known by their use: a DKIM key stands at
//! the name of its selector, and a policy begins with its version. A record that also holds wishes
//! of the administrator (SPF, DMARC, TLS-RPT) is completed, not replaced.

use std::net::IpAddr;

use postrider_dns::{Record, RecordType, Resolver, ZoneRecord};

use crate::op::dns::{
    check::{
        spf::{Spf, completed, evaluate},
        tags::{begins_with, has_uri, tag},
    },
    facts::HostFacts,
    record::{Need, Purpose, Wanted, content},
    records::HOST_SPF,
};

/// The records that a name should have for one use.
pub(super) struct Group {
    /// The name, without a dot at the end.
    pub(super) name: String,
    /// The type of the records.
    pub(super) record_type: RecordType,
    /// The use of the records.
    pub(super) purpose: Purpose,
    /// The records.
    pub(super) wanted: Vec<Wanted>,
}

/// What to do with the records of a name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// They are right.
    Same,
    /// Add all that should be there.
    AddAll,
    /// Change them.
    Change {
        /// Records that go.
        remove: Vec<ZoneRecord>,
        /// New records.
        add: Vec<Record>,
    },
    /// Leave them to a person, for this reason.
    Leave(String),
}

/// Whether a record is published. Names of services that are not here would lead nowhere.
pub(super) fn is_published(wanted: &Wanted) -> bool {
    match wanted.need {
        Need::Needed => true,
        Need::Later => false,
        Need::Optional => match &wanted.record {
            Record::Srv(srv) => srv.target.is_empty(),
            _ => wanted.purpose == Purpose::Caa,
        },
    }
}

impl Group {
    /// Decides, given all records of the name and type.
    pub(super) async fn decide(
        &self,
        found: &[ZoneRecord],
        facts: &HostFacts,
        resolver: &dyn Resolver,
    ) -> Decision {
        match self.purpose {
            Purpose::Spf => self.decide_spf(found, facts, resolver).await,
            _ => self.decide_at_once(found),
        }
    }

    fn decide_at_once(&self, found: &[ZoneRecord]) -> Decision {
        let contains = |wanted: &Record| found.iter().any(|found| found.record == *wanted);
        match self.purpose {
            Purpose::Spf => Decision::Same,
            Purpose::Mx => self.one_owner(found, |ours, there| match (ours, there) {
                (Record::Mx(ours), Record::Mx(there)) => ours.host == there.host,
                _ => false,
            }),
            Purpose::Service => self.one_owner(found, |ours, there| match (ours, there) {
                (Record::Srv(ours), Record::Srv(there)) => {
                    (ours.port, &ours.target) == (there.port, &there.target)
                }
                _ => false,
            }),
            Purpose::HostName => self.one_owner(found, |ours, there| ours == there),
            Purpose::Tlsa => {
                let wanted = self.wanted.iter().map(|wanted| &wanted.record);
                let lacking: Vec<Record> =
                    wanted.filter(|wanted| !contains(wanted)).cloned().collect();
                match lacking.is_empty() {
                    true => Decision::Same,
                    false => change(Vec::new(), lacking),
                }
            }
            Purpose::Caa => self.decide_caa(found),
            Purpose::Dkim => self.decide_dkim(found),
            Purpose::Dmarc => self.complete_reports(found, "v=DMARC1"),
            Purpose::TlsRpt => self.complete_reports(found, "v=TLSRPTv1"),
            Purpose::DmarcOptIn => match of_version(found, "v=DMARC1").is_empty() {
                true => Decision::AddAll,
                false => Decision::Same,
            },
            Purpose::MtaSts => self.decide_mta_sts(found),
        }
    }

    /// A set of records that has one owner: ours, or somebody else's.
    fn one_owner(&self, found: &[ZoneRecord], same: fn(&Record, &Record) -> bool) -> Decision {
        let is_there = |wanted: &Wanted| found.iter().any(|it| same(&wanted.record, &it.record));
        if found.is_empty() {
            Decision::AddAll
        } else if self.wanted.iter().all(is_there) {
            Decision::Same
        } else {
            let found: Vec<String> = found.iter().map(|found| content(&found.record)).collect();
            Decision::Leave(format!(
                "there is another record, perhaps of another server: {}",
                found.join(", ")
            ))
        }
    }

    fn decide_caa(&self, found: &[ZoneRecord]) -> Decision {
        let issuer = |record: &Record| match record {
            Record::Caa(caa) if caa.tag == "issue" => {
                let value = String::from_utf8_lossy(&caa.value);
                let name = value.split(';').next().unwrap_or_default();
                Some(name.trim().to_ascii_lowercase())
            }
            _ => None,
        };
        let issuers: Vec<String> = found.iter().filter_map(|it| issuer(&it.record)).collect();
        if issuers.is_empty() {
            let reason = "every CA may issue certificates now; with the record, the certificates \
                of other servers below the name could fail";
            return Decision::Leave(reason.to_owned());
        }
        let wanted = self.wanted.iter().map(|wanted| &wanted.record);
        let lacking = wanted.filter(|it| !issuer(it).is_some_and(|it| issuers.contains(&it)));
        let lacking: Vec<Record> = lacking.cloned().collect();
        match lacking.is_empty() {
            true => Decision::Same,
            false => change(Vec::new(), lacking),
        }
    }

    fn decide_dkim(&self, found: &[ZoneRecord]) -> Decision {
        let public =
            |text: &str| -> Option<String> { Some(tag(text, "p")?.split_whitespace().collect()) };
        let wanted = self.text().and_then(|text| public(&text));
        let keys = found
            .iter()
            .filter_map(|it| Some((public(&text(it)?)?, it)));
        let keys: Vec<(String, &ZoneRecord)> = keys.collect();
        if keys.iter().any(|(key, _)| Some(key) == wanted.as_ref()) {
            return Decision::Same;
        }
        // The name of a selector is for its key alone. So another key there is an old one of ours.
        self.replace(keys.into_iter().map(|(_, record)| record))
    }

    fn decide_mta_sts(&self, found: &[ZoneRecord]) -> Decision {
        let there = of_version(found, "v=STSv1");
        let id = |text: &str| tag(text, "id").map(str::to_owned);
        let wanted = self.text().and_then(|text| id(&text));
        match there.as_slice() {
            [(_, text)] if id(text) == wanted => Decision::Same,
            _ => self.replace(there.into_iter().map(|(record, _)| record)),
        }
    }

    /// Adds our address for reports to a record. What else it says stays.
    fn complete_reports(&self, found: &[ZoneRecord], version: &str) -> Decision {
        let there = of_version(found, version);
        let (record, text) = match there.as_slice() {
            [] => return Decision::AddAll,
            [one] => one,
            _ => {
                let reason = format!("there are several records with {version}; keep one");
                return Decision::Leave(reason);
            }
        };
        let wanted = self.text().unwrap_or_default();
        let Some(rua) = tag(&wanted, "rua") else {
            return Decision::Same;
        };
        let bare = rua.split_once('!').map_or(rua, |(uri, _)| uri);
        let list = tag(text, "rua");
        if list.is_some_and(|list| has_uri(list, bare)) {
            return Decision::Same;
        }
        let completed = match list.filter(|list| !list.is_empty()) {
            // The list stands where it stood.
            Some(list) => text.replacen(list, &format!("{list},{rua}"), 1),
            None => {
                let tags = text.split(';').filter(|it| {
                    let name = it.split('=').next().unwrap_or_default().trim();
                    !name.is_empty() && !name.eq_ignore_ascii_case("rua")
                });
                let tags: Vec<&str> = tags.map(str::trim).collect();
                format!("{}; rua={rua}", tags.join("; "))
            }
        };
        change(vec![(*record).clone()], vec![txt(&completed)])
    }

    async fn decide_spf(
        &self,
        found: &[ZoneRecord],
        facts: &HostFacts,
        resolver: &dyn Resolver,
    ) -> Decision {
        let is_spf = |text: &String| {
            let first = text.split(' ').next().unwrap_or_default();
            first.eq_ignore_ascii_case("v=spf1")
        };
        let there = found.iter().filter_map(|it| Some((it, text(it)?)));
        let there: Vec<(&ZoneRecord, String)> = there.filter(|(_, it)| is_spf(it)).collect();
        let (record, text) = match there.as_slice() {
            [] => return Decision::AddAll,
            [one] => one,
            _ => return Decision::Leave("there are several SPF records; keep one".to_owned()),
        };
        let sources: Vec<IpAddr> = match self.text().as_deref() == Some(HOST_SPF) {
            true => facts.addresses.clone(),
            false => facts.sources.keys().copied().collect(),
        };
        let mut refused = Vec::new();
        for source in sources {
            match evaluate(resolver, &self.name, text, Some(source)).await {
                Spf::Pass => {}
                Spf::PermError(reason) | Spf::TempError(reason) => {
                    return Decision::Leave(format!("the SPF record can't be completed: {reason}"));
                }
                Spf::Fail | Spf::SoftFail | Spf::Neutral | Spf::None => refused.push(source),
            }
        }
        match refused.is_empty() {
            true => Decision::Same,
            false => {
                let completed = txt(&completed(text, &refused));
                change(vec![(*record).clone()], vec![completed])
            }
        }
    }

    /// Removes these records, and adds all that should be there.
    fn replace<'a>(&self, old: impl Iterator<Item = &'a ZoneRecord>) -> Decision {
        let wanted = self.wanted.iter().map(|wanted| wanted.record.clone());
        change(old.cloned().collect(), wanted.collect())
    }

    /// The text of the first record that should be there.
    fn text(&self) -> Option<String> {
        match &self.wanted.first()?.record {
            Record::Txt(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }
}

const fn change(remove: Vec<ZoneRecord>, add: Vec<Record>) -> Decision {
    Decision::Change { remove, add }
}

fn txt(text: &str) -> Record {
    Record::Txt(text.as_bytes().to_vec())
}

fn text(found: &ZoneRecord) -> Option<String> {
    match &found.record {
        Record::Txt(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

/// The texts that begin with a version.
fn of_version<'a>(found: &'a [ZoneRecord], version: &str) -> Vec<(&'a ZoneRecord, String)> {
    let texts = found.iter().filter_map(|it| Some((it, text(it)?)));
    texts
        .filter(|(_, text)| begins_with(text, version))
        .collect()
}
