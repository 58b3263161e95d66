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
use tracing::debug;

use super::{CheckItem, Verdict, World};
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
            look(&World::of(&context).await, &context.metrics).await;
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = look => pause = PAUSES.1,
        }
    }
}

/// Looks at all domains, and sets the metrics.
pub(super) async fn look(world: &World, metrics: &Metrics) {
    let world = world.remembering();
    let this_host = match world.this_host().await {
        Ok(this_host) => this_host,
        Err(error) => {
            debug!(%error, "failed to look at the records of the domains");
            return;
        }
    };
    let mut found = Found::default();
    for (domain, config) in &world.config.domains {
        found.add(&world.check_with(domain, config, &this_host).await);
    }
    let wrong = found.wrong();
    for kind in RecordKind::ALL {
        let count = wrong.get(kind.text()).copied().unwrap_or_default();
        metrics.dns_records_wrong.with(*kind).set(count);
    }
    let lists = world.lists(&this_host.facts);
    let listed: Vec<(String, String)> = lists
        .pairs()
        .filter(|(_, _, name)| found.listed.contains(name))
        .map(|(zone, address, _)| (zone, address))
        .collect();
    metrics.set_listed(&lists.zones, &lists.addresses(), &listed);
}

/// What is wrong, each thing once: what is of the host stands in the check of each domain.
#[derive(Debug, Default)]
struct Found {
    /// The kind and the name of each record.
    wrong: BTreeSet<(&'static str, String)>,
    /// The names that lists have.
    listed: BTreeSet<String>,
}

impl Found {
    fn add(&mut self, items: &[CheckItem]) {
        let wrong = items.iter().filter(|item| {
            // Without an answer nothing is known to be wrong.
            item.needed && matches!(item.verdict, Verdict::Missing | Verdict::Differs)
        });
        for item in wrong {
            match item.check.as_str() {
                "DNSBL" => drop(self.listed.insert(item.name.clone())),
                check => {
                    let name = format!("{} {}", item.record_type, item.name);
                    self.wrong.insert((kind(check).text(), name));
                }
            }
        }
    }

    /// How many there are of each kind.
    fn wrong(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (kind, _) in &self.wrong {
            *counts.entry(*kind).or_default() += 1;
        }
        counts
    }
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
            item("DNSBL", "1.2.0.192.bl.test.", Verdict::Differs, true),
        ]);
        found.add(&[of_host, item("SPF", "b.test.", Verdict::Missing, true)]);
        assert_eq!(found.wrong(), BTreeMap::from([("ptr", 1), ("spf", 2)]));
        assert!(found.listed.contains("1.2.0.192.bl.test."));
    }
}
