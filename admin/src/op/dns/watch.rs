//! A look at DNS again and again, for the metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use postrider_observe::{
    Metrics,
    metrics::{Label, RecordKind},
};
use tokio::sync::watch;
use tracing::warn;

use super::{CheckItem, Verdict, Verdicts, World};
use crate::Context;

/// Before the first look, and between two.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(60 * 60));

/// Looks each hour whether the records of all domains are as they should be, and whether a list has
/// an address of ours, until the server stops. One domain is looked at after the other, so that
/// many of them make no burst of questions.
pub async fn watch_records(context: Context, mut stop: watch::Receiver<bool>) {
    let mut pause = PAUSES.0;
    loop {
        let next = context.clock.moment().after(pause);
        let look = async {
            context.clock.sleep_until_moment(next).await;
            let world = World::of(&context).await;
            look(&world, &context.metrics, &context.verdicts).await;
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = look => pause = PAUSES.1,
        }
    }
}

/// Looks at all domains, sets the metrics, and notes the verdicts.
pub(super) async fn look(world: &World, metrics: &Metrics, verdicts: &Verdicts) {
    let world = world.remembering();
    let this_host = match world.this_host().await {
        Ok(this_host) => this_host,
        Err(error) => {
            warn!(%error, "failed to look at the records of the domains");
            // How many there are is not known without a look.
            let domains = world.config.domains.len().max(1);
            metrics
                .dns_records_unchecked
                .with(RecordKind::Other)
                .set(domains);
            return;
        }
    };
    let mut found = Found::default();
    for (domain, config) in &world.config.domains {
        let checks = world.check_with(domain, config, &this_host).await;
        verdicts.note(domain, world.clock.now(), &checks);
        found.add(&checks);
    }
    for (gauges, records) in [
        (&metrics.dns_records_wrong, &found.wrong),
        (&metrics.dns_records_unchecked, &found.unchecked),
    ] {
        let counts = by_kind(records);
        for kind in RecordKind::ALL {
            let count = counts.get(kind.text()).copied().unwrap_or_default();
            gauges.with(*kind).set(count);
        }
    }
    verdicts.keep(|domain| world.config.domains.contains_key(domain));
    let lists = world.lists(&this_host.facts);
    let listed: Vec<(String, String)> = lists
        .pairs()
        .filter(|(_, _, name)| found.listed.contains(name))
        .map(|(zone, address, _)| (zone, address))
        .collect();
    metrics.set_listed(&lists.zones, &lists.addresses(), &listed);
}

/// Records, by kind and name.
type Records = BTreeSet<(&'static str, String)>;

/// What is wrong or not known, each thing once: what is of the host stands in the check of each
/// domain.
#[derive(Debug, Default)]
struct Found {
    wrong: Records,
    /// What gave no answer.
    unchecked: Records,
    /// The names that lists have.
    listed: BTreeSet<String>,
}

impl Found {
    fn add(&mut self, items: &[CheckItem]) {
        for item in items.iter().filter(|item| item.needed) {
            let check = item.check.as_str();
            let records = match (item.verdict, check) {
                (Verdict::Ok, _) => continue,
                // Without an answer nothing is known to be wrong.
                (Verdict::Error, _) => &mut self.unchecked,
                (_, "DNSBL") => {
                    self.listed.insert(item.name.clone());
                    continue;
                }
                (Verdict::Missing | Verdict::Differs | Verdict::Extra, _) => &mut self.wrong,
            };
            let name = format!("{} {}", item.record_type, item.name);
            records.insert((kind(check).text(), name));
        }
    }
}

/// How many there are of each kind.
fn by_kind(records: &Records) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for (kind, _) in records {
        *counts.entry(*kind).or_default() += 1;
    }
    counts
}

/// The kind of what a row of the check is about.
fn kind(check: &str) -> RecordKind {
    match check {
        "host" => RecordKind::Host,
        "PTR" => RecordKind::Ptr,
        "MX" => RecordKind::Mx,
        "SMTP" => RecordKind::Smtp,
        "TLSA" => RecordKind::Tlsa,
        "SPF" => RecordKind::Spf,
        "DKIM" => RecordKind::Dkim,
        "DMARC" => RecordKind::Dmarc,
        "TLS-RPT" => RecordKind::TlsRpt,
        "MTA-STS" | "MTA-STS policy" => RecordKind::MtaSts,
        "SRV" => RecordKind::Srv,
        "CAA" => RecordKind::Caa,
        _ => RecordKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(check: &str, name: &str, verdict: Verdict, needed: bool) -> CheckItem {
        CheckItem {
            record_type: "TXT".to_owned(),
            name: name.to_owned(),
            wanted: String::new(),
            found: Vec::new(),
            verdict,
            advice: String::new(),
            check: check.to_owned(),
            needed,
        }
    }

    #[test]
    fn what_is_wrong_counts_once() {
        let mut found = Found::default();
        let of_host = item("PTR", "1.2.0.192.in-addr.arpa.", Verdict::Missing, true);
        found.add(&[
            of_host.clone(),
            item("SPF", "a.test.", Verdict::Differs, true),
            item("DKIM", "a.test.", Verdict::Ok, true),
            item("MX", "a.test.", Verdict::Error, true),
            item("TLSA", "a.test.", Verdict::Missing, false),
            item("DMARC", "a.test.", Verdict::Extra, true),
            item("DNSBL", "1.2.0.192.bl.test.", Verdict::Differs, true),
            item("DNSBL", "1.2.0.192.other.test.", Verdict::Error, true),
            item("SRV", "a.test.", Verdict::Error, false),
        ]);
        found.add(&[of_host, item("SPF", "b.test.", Verdict::Missing, true)]);
        let wrong = BTreeMap::from([("dmarc", 1), ("ptr", 1), ("spf", 2)]);
        assert_eq!(by_kind(&found.wrong), wrong);
        let unchecked = BTreeMap::from([("mx", 1), ("other", 1)]);
        assert_eq!(by_kind(&found.unchecked), unchecked);
        assert_eq!(found.listed.len(), 1);
        assert!(found.listed.contains("1.2.0.192.bl.test."));
    }
}
