//! Publishes the records of a domain: finds the zone of each record, reads what is there, decides
//! what to change, and changes it in one step for each zone.

mod decide;

use std::{net::SocketAddr, time::Duration};

use postrider_config::{DnsUpdate, DomainConfig, Static, TsigAlgorithm};
use postrider_dns::{
    Change, KeyAlgorithm, Record, RecordType, Rrset, UpdateError, UpdateKey, ZoneClient, is_within,
};
use postrider_smtp::{Domain, client::Link};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use self::decide::{Decision, Group};
use super::{
    check::World,
    facts::HostFacts,
    record::{TTL, Wanted, content},
    records::wanted,
};
use crate::AdminError;

/// The time limit of a conversation with a server.
const SERVER_TIME: Duration = Duration::from_secs(20);

/// What was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Whether the changes were made. False after a dry run, and if there are none.
    pub written: bool,
    /// The changes.
    pub changes: Vec<ChangeItem>,
    /// The records that are not as they should be, and that are not changed.
    pub left: Vec<LeftItem>,
}

/// A change of the records of one name and type. Contents are as in a zone file, but a text is in
/// one piece and without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeItem {
    /// The zone.
    pub zone: String,
    /// The name, with a dot at the end.
    pub name: String,
    /// The type of the records.
    #[serde(rename = "type")]
    pub record_type: String,
    /// The contents of the records that go.
    pub removed: Vec<String>,
    /// The contents of new records.
    pub added: Vec<String>,
}

/// A record that is left to a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftItem {
    /// The name, with a dot at the end.
    pub name: String,
    /// The type of the record.
    #[serde(rename = "type")]
    pub record_type: String,
    /// The content that it should have.
    pub content: String,
    /// Why it is left.
    pub reason: String,
}

impl Published {
    /// The changed records before and after, as JSON objects for the audit log.
    pub(super) fn before_and_after(&self) -> (String, String) {
        let side = |contents: fn(&ChangeItem) -> &Vec<String>| {
            let changes = self.changes.iter();
            let members = changes.map(|change| {
                let key = format!("{} {}", change.name, change.record_type);
                (key, json!(contents(change)))
            });
            Value::Object(members.collect::<Map<_, _>>()).to_string()
        };
        (side(|change| &change.removed), side(|change| &change.added))
    }

    fn leave(&mut self, group: &Group, reason: &str) {
        for wanted in &group.wanted {
            self.left.push(LeftItem {
                name: format!("{}.", group.name),
                record_type: group.record_type.as_str().to_owned(),
                content: content(&wanted.record),
                reason: reason.to_owned(),
            });
        }
    }
}

/// The zone of `dns_update` that has a name: the longest one.
pub(super) fn zone_of<'a>(statics: &'a Static, name: &str) -> Option<(&'a Domain, &'a DnsUpdate)> {
    let zones = statics.dns_update.iter();
    let zones = zones.filter(|(zone, _)| is_within(name, zone.ascii()));
    zones.max_by_key(|(zone, _)| zone.ascii().len())
}

/// Publishes the records of a domain.
pub(super) async fn publish(
    world: &World,
    domain: &Domain,
    config: &DomainConfig,
    facts: &HostFacts,
    dry_run: bool,
) -> Result<Published, AdminError> {
    let statics = &world.statics;
    if zone_of(statics, domain.ascii()).is_none() {
        let text = format!(
            "no zone of dns_update has {domain}: set dns_update.\"{domain}\" in postrider.conf, or \
            add the records by hand"
        );
        return Err(AdminError::invalid(text).at("domain"));
    }
    let mut published = Published::default();
    let records = wanted(statics, config, domain, facts);
    let mut zones: Vec<(&Domain, &DnsUpdate, Vec<Group>)> = Vec::new();
    for group in groups(records) {
        match zone_of(statics, &group.name) {
            None => published.leave(&group, "no zone of dns_update has the name"),
            Some((zone, update)) => match zones.iter_mut().find(|(known, ..)| *known == zone) {
                Some((_, _, groups)) => groups.push(group),
                None => zones.push((zone, update, vec![group])),
            },
        }
    }
    for (zone, update, groups) in zones {
        let work = publish_zone(world, (zone, update), &groups, facts, dry_run);
        let outcome = match timeout(SERVER_TIME, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(UpdateError::Io("it took too long".to_owned())),
        };
        match outcome {
            Ok(done) => {
                published.written |= done.written;
                published.changes.extend(done.changes);
                published.left.extend(done.left);
            }
            Err(error) if published.changes.is_empty() => {
                return Err(failure(zone, update.server, &error));
            }
            // The changes of another zone are made already.
            Err(error) => {
                let reason = failure(zone, update.server, &error).text;
                groups
                    .iter()
                    .for_each(|group| published.leave(group, &reason));
            }
        }
    }
    Ok(published)
}

fn failure(zone: &Domain, server: SocketAddr, error: &UpdateError) -> AdminError {
    let text = format!("zone {zone} at {server}: {error}");
    match error {
        UpdateError::Changed => AdminError::conflict(text),
        UpdateError::Io(_) | UpdateError::Server(_) | UpdateError::Answer(_) => {
            AdminError::unavailable(text)
        }
        UpdateError::Name(_)
        | UpdateError::Key(_)
        | UpdateError::Refused
        | UpdateError::NotAuthoritative(_) => AdminError::invalid(text).at("dns_update"),
    }
}

/// The records to publish, by name and type, in their order.
fn groups(records: Vec<Wanted>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for wanted in records.into_iter().filter(decide::is_published) {
        let record_type = wanted.record.record_type();
        let known = groups.iter_mut().find(|group| {
            // Several texts of a name have different uses.
            (group.record_type, group.purpose, group.name.as_str())
                == (record_type, wanted.purpose, wanted.name.as_str())
        });
        match known {
            Some(group) => group.wanted.push(wanted),
            None => groups.push(Group {
                name: wanted.name.clone(),
                record_type,
                purpose: wanted.purpose,
                wanted: vec![wanted],
            }),
        }
    }
    groups
}

async fn publish_zone(
    world: &World,
    (zone, update): (&Domain, &DnsUpdate),
    groups: &[Group],
    facts: &HostFacts,
    dry_run: bool,
) -> Result<Published, UpdateError> {
    let io = |error: std::io::Error| UpdateError::Io(error.to_string());
    let stream = world.dialer.dial(update.server, None).await.map_err(io)?;
    let now = Duration::from_micros(u64::try_from(world.clock.now().0).unwrap_or_default());
    let key = UpdateKey {
        name: &update.key_name,
        algorithm: match update.algorithm {
            TsigAlgorithm::HmacSha256 => KeyAlgorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => KeyAlgorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => KeyAlgorithm::HmacSha512,
        },
        secret: update.key.bytes(),
    };
    let mut client = ZoneClient::new(stream, zone.ascii(), key, now)?;
    let mut published = Published::default();
    let mut changes: Vec<Change> = Vec::new();
    for group in groups {
        let zone = zone.ascii();
        let mut found = client.read(&group.name, group.record_type).await?;
        let mut decision = decide(&mut client, zone, group, &found, facts, world).await?;
        if decision != Decision::Same && is_of_wildcard(&mut client, zone, group, &found).await? {
            // The records are no obstacle: the name gets its own.
            found = Rrset::Records(Vec::new());
            decision = decide(&mut client, zone, group, &found, facts, world).await?;
        }
        let (remove, add) = match decision {
            Decision::Same => continue,
            Decision::Leave(reason) => {
                published.leave(group, &reason);
                continue;
            }
            Decision::AddAll => {
                let wanted = group.wanted.iter().map(|wanted| wanted.record.clone());
                (Vec::new(), wanted.collect())
            }
            Decision::Change { remove, add } => (remove, add),
        };
        let found = match found {
            Rrset::Records(found) => found,
            Rrset::Alias(_) => Vec::new(),
        };
        let contents = |records: &mut dyn Iterator<Item = &Record>| records.map(content).collect();
        published.changes.push(ChangeItem {
            zone: zone.to_owned(),
            name: format!("{}.", group.name),
            record_type: group.record_type.as_str().to_owned(),
            removed: contents(&mut remove.iter().map(|gone| &gone.record)),
            added: contents(&mut add.iter()),
        });
        // All records of a name and type have one TTL (RFC 2181 §5.2).
        let ttl = found.first().map_or(TTL, |found| found.ttl);
        changes.push(Change {
            name: group.name.clone(),
            record_type: group.record_type,
            found,
            remove,
            add,
            ttl,
        });
    }
    if !dry_run && !changes.is_empty() {
        client.update(&changes).await?;
        published.written = true;
    }
    Ok(published)
}

async fn decide(
    client: &mut ZoneClient<Link>,
    zone: &str,
    group: &Group,
    found: &Rrset,
    facts: &HostFacts,
    world: &World,
) -> Result<Decision, UpdateError> {
    Ok(match (found, group.record_type) {
        (Rrset::Alias(target), _) => Decision::Leave(format!("the name is an alias of {target}")),
        (Rrset::Records(found), RecordType::Cname) if found.is_empty() => {
            free_for_alias(client, zone, &group.name).await?
        }
        (Rrset::Records(found), _) => group.decide(found, facts, &*world.resolver).await,
    })
}

/// Whether a name without an alias may become one.
async fn free_for_alias(
    client: &mut ZoneClient<Link>,
    zone: &str,
    name: &str,
) -> Result<Decision, UpdateError> {
    for record_type in [RecordType::A, RecordType::Aaaa] {
        let found = client.read(name, record_type).await?;
        let shown: Vec<String> = match &found {
            Rrset::Records(records) => records.iter().map(|it| content(&it.record)).collect(),
            Rrset::Alias(target) => vec![target.clone()],
        };
        if !shown.is_empty() && !same_as_wildcard(client, zone, name, record_type, &found).await? {
            let reason = format!("the name has addresses of its own: {}", shown.join(", "));
            return Ok(Decision::Leave(reason));
        }
    }
    Ok(Decision::AddAll)
}

async fn is_of_wildcard(
    client: &mut ZoneClient<Link>,
    zone: &str,
    group: &Group,
    found: &Rrset,
) -> Result<bool, UpdateError> {
    let something = !matches!(found, Rrset::Records(found) if found.is_empty());
    let (name, record_type) = (&group.name, group.record_type);
    Ok(something && same_as_wildcard(client, zone, name, record_type, found).await?)
}

/// Whether a wildcard of the zone has the same records, so that a name without records of its own
/// shows them (RFC 4592).
async fn same_as_wildcard(
    client: &mut ZoneClient<Link>,
    zone: &str,
    name: &str,
    record_type: RecordType,
    found: &Rrset,
) -> Result<bool, UpdateError> {
    let mut below = name;
    while below != zone
        && let Some((_, above)) = below.split_once('.')
    {
        let wildcard = client.read(&format!("*.{above}"), record_type).await?;
        if wildcard == *found {
            return Ok(true);
        }
        below = above;
    }
    Ok(false)
}
