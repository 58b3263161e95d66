//! The rotation of keys: a pair signs, and the next pair waits with its records in DNS.

use std::time::Duration;

use jiff::tz::TimeZone;
use postrider_config::{
    Dkim, DkimSelector, DomainConfig, Dynamic, Static, toml_edit::Array, toml_edit::InlineTable,
};
use postrider_dns::{DnsError, Resolver};
use postrider_smtp::Domain;
use postrider_store::Time;
use serde::{Deserialize, Serialize};

use super::{
    DkimItem, PAIR, changed_meanwhile, dkim_path, insert, items,
    selector::{next_selectors, waiting},
    status::removal,
    year,
};
use crate::{
    AdminError, Context,
    op::{
        Listed as _, Single,
        config::{Edit, document, keyfile, missing_domain, parse_domain, target, to_its_end},
    },
};

/// Lets the waiting keys of a domain sign, and makes the next ones. Without waiting keys, makes
/// them. While DNS lacks the records of the waiting keys, changes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// The domain.
    pub domain: String,
}

/// The step that a rotation made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// There were no waiting keys. They are made now, and do not sign yet.
    Made,
    /// DNS lacks records of the waiting keys. Nothing has changed.
    Unpublished,
    /// The waiting keys sign now, and the next ones are made.
    Switched,
}

/// The result of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The step.
    pub step: Step,
    /// The keys that sign now.
    pub signing: Vec<DkimItem>,
    /// The keys that wait. Their records belong in DNS.
    pub waiting: Vec<DkimItem>,
    /// What is wrong in DNS, a sentence for each record.
    pub problems: Vec<String>,
    /// The selectors that signed before.
    pub old: Vec<String>,
    /// Until when the old keys and their records are needed, RFC 3339; None: there are none, or
    /// their signatures have no end.
    pub old_needed_until: Option<String>,
}

impl Single for Rotate {
    type Output = Rotated;

    async fn answer(self, context: &Context) -> Result<Rotated, AdminError> {
        let context = context.clone();
        to_its_end(async move { self.rotate(&context).await }).await
    }
}

impl Rotate {
    async fn rotate(self, context: &Context) -> Result<Rotated, AdminError> {
        let config = context.config.load_full();
        let (domain, settings) = match self.find(&config) {
            Ok(found) => found,
            Err(error) => {
                self.audit_refusal(context, &error.text).await;
                return Err(error);
            }
        };
        let waiting = waiting(&settings.dkim);
        let problems = problems(&*context.resolver, &domain, &settings.dkim, &waiting).await;
        if !problems.is_empty() {
            self.audit_refusal(context, &problems.join("; ")).await;
            let signs = |name: &Domain| settings.dkim.sign.contains(name);
            return Ok(Rotated {
                step: Step::Unpublished,
                signing: items(&config, &domain, signs),
                waiting: items(&config, &domain, |name| waiting.contains(name)),
                problems,
                old: Vec::new(),
                old_needed_until: None,
            });
        }
        let turn = Turn {
            domain,
            waiting,
            now: context.clock.now(),
        };
        turn.make(context, &settings.dkim).await
    }
}

impl Rotate {
    fn find<'a>(&self, config: &'a Dynamic) -> Result<(Domain, &'a DomainConfig), AdminError> {
        let domain = parse_domain(&self.domain)?;
        let settings = config.domains.get(&domain);
        let settings = settings.ok_or_else(|| missing_domain(config, &domain))?;
        Ok((domain, settings))
    }

    async fn audit_refusal(&self, context: &Context, text: &str) {
        let (target, none) = (target(&self.domain), String::new);
        context
            .audit(Self::NAME, &target, none(), none(), text)
            .await;
    }
}

/// What is wrong with the records of these selectors.
pub(super) async fn problems(
    resolver: &dyn Resolver,
    domain: &Domain,
    dkim: &Dkim,
    waiting: &[Domain],
) -> Vec<String> {
    let mut problems = Vec::new();
    for name in waiting {
        let Some(key) = dkim.selectors.get(name) else {
            continue;
        };
        let name = format!("{}._domainkey.{}", name.ascii(), domain.ascii());
        let found = resolver.txt(&name).await;
        let found = found.map(|answer| answer.records);
        problems.extend(problem(&name, key, found));
    }
    problems
}

/// What is wrong with the TXT records at the name of a key; None if nothing is.
fn problem(
    name: &str,
    key: &DkimSelector,
    found: Result<Vec<Vec<u8>>, DnsError>,
) -> Option<String> {
    let records = match found {
        Ok(records) => records,
        Err(error) if error.negative().is_some() => Vec::new(),
        Err(error) => return Some(format!("{name}: {error}")),
    };
    let public = key.key.public_base64();
    match records.as_slice() {
        [] => Some(format!("{name} has no TXT record")),
        [record] => {
            let record = String::from_utf8_lossy(record);
            match tag(&record, "p") {
                Some(found) if found == public => {
                    let flags = tag(&record, "t").unwrap_or_default();
                    let is_test = flags.split(':').any(|flag| flag == "y");
                    is_test.then(|| format!("the record of {name} says that it is a test (t=y)"))
                }
                _ => Some(format!("the record of {name} has another key: {record}")),
            }
        }
        _ => Some(format!("{name} has more than one TXT record")),
    }
}

/// The value of a tag of a record (RFC 6376 §3.2), without white space.
fn tag(record: &str, name: &str) -> Option<String> {
    let mut tags = record.split(';').filter_map(|tag| tag.split_once('='));
    let (_, value) = tags.find(|(found, _)| found.trim() == name)?;
    Some(value.split_whitespace().collect())
}

/// A rotation whose waiting keys have their records in DNS, or that has no waiting keys.
struct Turn {
    domain: Domain,
    waiting: Vec<Domain>,
    now: Time,
}

impl Turn {
    async fn make(self, context: &Context, dkim: &Dkim) -> Result<Rotated, AdminError> {
        let next = next_selectors(dkim, year(self.now), PAIR.len());
        let wanted = next.iter().cloned().zip(PAIR).collect();
        let keys = keyfile::make(context, &self.domain, wanted).await?;
        let made = keys.keys.clone();
        let shown = self.domain.unicode();
        let change = move |edit: &mut Edit<'_>| {
            let (settings, _) = edit.domain(&self.domain)?;
            let is_free = |name: &Domain| !settings.dkim.selectors.contains_key(name);
            if waiting(&settings.dkim) != self.waiting
                || !made.iter().all(|key| is_free(&key.selector))
            {
                return Err(changed_meanwhile());
            }
            for key in &*made {
                insert(edit, &self.domain, key, InlineTable::new())?;
            }
            let until = needed_until(self.now, &settings.dkim, edit.statics);
            if !self.waiting.is_empty() {
                self.switch(edit, &settings.dkim, until)?;
            }
            Ok((self.domain.clone(), self.waiting.clone(), until))
        };
        let changed = context.edit(Rotate::NAME, &shown, change).await?;
        keys.keep();
        let (domain, turned, until) = changed.result;
        Ok(rotated(
            &changed.before,
            &changed.after,
            &domain,
            &turned,
            until,
        ))
    }

    /// Lets the waiting keys sign, and notes at the old ones when they may go.
    fn switch(
        &self,
        edit: &mut Edit<'_>,
        dkim: &Dkim,
        until: Option<Time>,
    ) -> Result<(), AdminError> {
        let path = dkim_path(edit, &self.domain)?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let below = |name| path.iter().copied().chain([name]).collect::<Vec<&str>>();
        let sign: Array = self.waiting.iter().map(Domain::ascii).collect();
        document::set(edit.document, &below("sign"), sign)?;
        note_end(edit, &self.domain, &dkim.sign, self.now, until)
    }
}

/// Notes at keys that sign no more when they may go.
pub(super) fn note_end(
    edit: &mut Edit<'_>,
    domain: &Domain,
    selectors: &[Domain],
    now: Time,
    until: Option<Time>,
) -> Result<(), AdminError> {
    let path = dkim_path(edit, domain)?;
    let path = path.iter().map(String::as_str);
    let table: Vec<&str> = path.chain(["selectors"]).collect();
    let today = now.timestamp().to_zoned(TimeZone::UTC).date();
    for old in selectors {
        let is_meant = |name: &str| Domain::parse(name).is_ok_and(|name| name == *old);
        let Some(name) = document::spelled(edit.document, &table, is_meant) else {
            continue;
        };
        let path: Vec<&str> = table.iter().copied().chain([name.as_str()]).collect();
        let when = match until {
            Some(until) => format!("After {}, remove it:", minute(until)),
            None => "Its signatures have no end. To remove it:".to_owned(),
        };
        let lines = [
            format!("Signs no more since {today}. {when}"),
            removal(domain, old),
        ];
        document::comment(edit.document, &path, &lines)?;
    }
    Ok(())
}

/// A time without seconds.
fn minute(time: Time) -> String {
    let time = time.timestamp().to_zoned(TimeZone::UTC);
    time.strftime("%Y-%m-%dT%H:%MZ").to_string()
}

/// Until when old keys are needed: a message that was just signed may wait in the queue for as long
/// as all waits between attempts take, and its signature is valid for a time from then on. None: it
/// is valid without end.
pub(super) fn needed_until(now: Time, dkim: &Dkim, statics: &Static) -> Option<Time> {
    let lifetimes: Vec<Duration> = dkim
        .signing()
        .iter()
        .map(|(_, key)| key.expiration)
        .collect();
    if lifetimes.iter().any(Duration::is_zero) {
        return None;
    }
    let lifetime = lifetimes.into_iter().max()?;
    let waits: Duration = statics.queue.retry_intervals.iter().sum();
    let longest = waits.mul_f64(1.0 + statics.queue.retry_spread.clamp(0.0, 1.0));
    Some(now.after(lifetime).after(longest))
}

fn rotated(
    before: &Dynamic,
    after: &Dynamic,
    domain: &Domain,
    turned: &[Domain],
    until: Option<Time>,
) -> Rotated {
    let dkim = |config: &Dynamic| {
        let settings = config.domains.get(domain);
        settings
            .map(|settings| settings.dkim.clone())
            .unwrap_or_default()
    };
    let (before, now) = (dkim(before), dkim(after));
    let next = waiting(&now);
    let mut rotated = Rotated {
        step: Step::Made,
        signing: items(after, domain, |name| now.sign.contains(name)),
        waiting: items(after, domain, |name| next.contains(name)),
        problems: Vec::new(),
        old: Vec::new(),
        old_needed_until: None,
    };
    if !turned.is_empty() {
        rotated.step = Step::Switched;
        rotated.old = before
            .sign
            .iter()
            .map(|name| name.ascii().to_owned())
            .collect();
        rotated.old_needed_until = until.map(|time| time.to_string());
    }
    rotated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_without_white_space() {
        let record = "v=DKIM1; k = ed25519 ;p=AB CD\tEF=;t=s:y";
        assert_eq!(tag(record, "k").as_deref(), Some("ed25519"));
        assert_eq!(tag(record, "p").as_deref(), Some("ABCDEF="));
        assert_eq!(tag(record, "t").as_deref(), Some("s:y"));
        assert_eq!(tag(record, "h"), None);
    }
}
