//! Domains.

use postrider_config::{DestinationAddress, DomainConfig, Dynamic, Tenant};
use postrider_dns::is_public_suffix;
use postrider_receive::login::Reach;
use postrider_smtp::{Address, Domain};
use serde_json::{Value, json};

use super::{
    Answer, Asked,
    fields::{Fields, problem},
    list::List,
    target::numbered,
};
use crate::{
    Code, Context,
    face::http::{paging::collect, problem::Problem},
    op::{
        Single,
        config::domains,
        dns::{self, CheckItem, RecordItem, Verdict, World},
        principals::Kind,
    },
};

/// The fields of the call for those of the operation that adds a domain.
const NAMES: [(&str, &str); 1] = [("tenant", "customer_id")];

/// A domain as JSON.
fn shape(
    (id, domain, settings): (u64, &Domain, &DomainConfig),
    config: &Dynamic,
    reach: &Reach,
    records: &[RecordItem],
) -> Value {
    let accounts = config.accounts.values();
    let own = accounts.filter(|account| account.domain == *domain && reach.sees(account));
    // A record that does harm until a condition holds is for people who read its comment.
    let records = records.iter().filter(|record| !record.later);
    json!({
        "id": id,
        "domain": domain.unicode(),
        "customer_id": settings.tenant.as_ref().map(customer),
        "disabled": settings.disabled,
        "accounts": own.count(),
        "aliases": settings.aliases.len(),
        "dns_records": records.map(record).collect::<Vec<_>>(),
    })
}

/// A customer as JSON: a number stays one.
fn customer(tenant: &Tenant) -> Value {
    match tenant {
        Tenant::Number(number) => json!(number),
        Tenant::Name(name) => json!(name),
    }
}

/// A record as JSON. The priority of MX and SRV stands apart, as DNS providers want it.
fn record(record: &RecordItem) -> Value {
    let split = record.content.split_once(' ');
    let split = split.filter(|_| matches!(record.record_type.as_str(), "MX" | "SRV"));
    let split = split.and_then(|(first, rest)| Some((first.parse::<u16>().ok()?, rest)));
    let (priority, content) = match split {
        Some((priority, rest)) => (Some(priority), rest),
        None => (None, record.content.as_str()),
    };
    json!({
        "type": record.record_type,
        "name": record.name,
        "priority": priority,
        "content": content,
        "ttl": record.ttl,
    })
}

/// These domains as JSON.
async fn shapes(context: &Context, reach: &Reach, domains: &[(u64, Domain)]) -> Vec<Value> {
    let world = World::of(context).await;
    let names: Vec<Domain> = domains.iter().map(|(_, domain)| domain.clone()).collect();
    let records = world.records_of(&names).await;
    let config = context.config.load_full();
    let with_records = domains.iter().zip(&records);
    let shapes = with_records.filter_map(|((id, domain), records)| {
        let settings = config.domains.get(domain)?;
        Some(shape((*id, domain, settings), &config, reach, records))
    });
    shapes.collect()
}

async fn one(context: &Context, reach: &Reach, id: u64, domain: Domain) -> Result<Value, Problem> {
    let name = domain.unicode();
    let mut found = shapes(context, reach, &[(id, domain)]).await;
    found
        .pop()
        .ok_or_else(|| Problem::missing(name.clone(), format!("there is no domain {name}")))
}

/// Lists the domains that the caller sees.
pub(super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let list = List::new(&asked.query)?;
    let reach = &asked.manager()?.reach;
    let config = asked.context.config.load_full();
    let seen = config.domains.keys().filter(|it| reach.sees_domain(it));
    let seen: Vec<Domain> = seen.cloned().collect();
    let all = numbered(&asked.context, Kind::Domain, seen, |it| {
        it.ascii().to_owned()
    })
    .await?;
    let part = list.part(all);
    let items = shapes(&asked.context, reach, &part.rows).await;
    Ok(Answer::of(part.answer(items)))
}

/// Gets a domain.
pub(super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let reach = asked.manager()?.reach.clone();
    let (id, domain) = asked.target.domain()?;
    Ok(Answer::of(one(&asked.context, &reach, id, domain).await?))
}

/// Adds a domain.
pub(super) async fn add(asked: Asked) -> Result<Answer, Problem> {
    let mut fields = Fields::read(&asked.body)?;
    let name = fields.needed("domain");
    let tenant = tenant(&mut fields);
    let domain = Domain::parse(name.trim_end_matches('.'));
    match &domain {
        Err(_) if name.is_empty() => {}
        Err(error) => fields.wrong("domain", format!("{name:?} is not a domain name: {error}")),
        Ok(domain) if is_public_suffix(domain.ascii()) => {
            let text = format!("{name} is a public suffix, below which others have their domains");
            fields.wrong("domain", text);
        }
        Ok(_) => {}
    }
    if fields.value("domain").is_some() && name.is_empty() {
        fields.wrong("domain", "must be a domain name");
    }
    fields.check()?;
    let domain = domain.map_err(Problem::internal)?;
    let context = &asked.context;
    let add = domains::Add {
        domain: domain.unicode(),
        account: context.statics.postmaster.account.clone(),
        localpart: None,
        disabled: false,
        tenant: tenant.map_or_else(String::new, |tenant| tenant.to_string()),
    };
    add.answer(context)
        .await
        .map_err(|error| problem(error, &NAMES))?;
    let named = vec![domain];
    let mut made = numbered(context, Kind::Domain, named, |it| it.ascii().to_owned()).await?;
    let (id, domain) = made.pop().ok_or_else(|| Problem::internal("no number"))?;
    let reach = &asked.manager()?.reach;
    Ok(Answer::made(one(context, reach, id, domain).await?))
}

/// The customer in a body: a number or a name.
fn tenant(fields: &mut Fields) -> Option<Tenant> {
    let text = match fields.value("customer_id")? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => {
            fields.wrong("customer_id", "must be a number or a name");
            return None;
        }
    };
    // A fraction would be read as a name.
    let is_fraction = text.parse::<f64>().is_ok() && text.parse::<u64>().is_err();
    match Tenant::parse(&text) {
        Ok(_) if is_fraction => {
            fields.wrong("customer_id", "must be a whole number, or a name");
            None
        }
        Ok(tenant) => Some(tenant),
        Err(wrong) => {
            fields.wrong("customer_id", wrong);
            None
        }
    }
}

/// Removes a domain.
pub(super) async fn remove(asked: Asked) -> Result<Answer, Problem> {
    let (id, domain) = asked.target.domain()?;
    let context = &asked.context;
    let uses = uses(&context.config.load_full(), &domain);
    if !uses.is_empty() {
        return Err(Problem::in_use(uses));
    }
    let name = domain.unicode();
    let remove = domains::Remove {
        domain: name.clone(),
    };
    match remove.answer(context).await {
        Ok(_) => Ok(Answer::of(
            json!({"id": id, "domain": name, "deleted": true}),
        )),
        // Something refers to it that the configuration does not tell at once.
        Err(error) if error.code == Code::Invalid => Err(Problem::in_use(vec![error.text])),
        Err(error) => Err(error.into()),
    }
}

/// What refers to a domain.
fn uses(config: &Dynamic, domain: &Domain) -> Vec<String> {
    let mut uses = Vec::new();
    let is_at = |address: &Address| address.host.domain() == Some(domain);
    for (name, account) in &config.accounts {
        let mut addresses = account.destinations.keys();
        let has_address = addresses.any(|it| match it {
            DestinationAddress::Address(address) => is_at(address),
            DestinationAddress::CatchAll(of) => of == domain,
        });
        let logs_in = account.from_id_login_addresses.iter().any(is_at);
        if account.domain == *domain || has_address || logs_in {
            uses.push(format!("account {name}"));
        }
    }
    for (other, settings) in config.domains.iter().filter(|(it, _)| *it != domain) {
        for (key, report) in [("dmarc", &settings.dmarc), ("tls_rpt", &settings.tls_rpt)] {
            if report.as_ref().is_some_and(|it| it.domain == *domain) {
                uses.push(format!("{key} of domain {}", other.unicode()));
            }
        }
        for (local, alias) in &settings.aliases {
            if alias.addresses.iter().any(is_at) {
                uses.push(format!("alias {local}@{}", other.unicode()));
            }
        }
    }
    if config.srs_domain.as_ref() == Some(domain) {
        uses.push("srs_domain".to_owned());
    }
    uses
}

/// Compares DNS with the records that a domain should have.
pub(super) async fn check(asked: Asked) -> Result<Answer, Problem> {
    let (id, domain) = asked.target.domain()?;
    let check = dns::Check {
        domain: domain.ascii().to_owned(),
    };
    let all = |_: &CheckItem| true;
    let checks = collect(&asked.context, check, usize::MAX, &all)
        .await?
        .items;
    let is_right = |item: &CheckItem| item.verdict == Verdict::Ok || !item.needed;
    Ok(Answer::of(json!({
        "id": id,
        "domain": domain.unicode(),
        "ok": checks.iter().all(is_right),
        "checks": checks,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_priority_of_a_record_stands_apart() {
        let shown = |record_type: &str, content: &str| {
            let item = RecordItem {
                record_type: record_type.into(),
                name: "a.test.".into(),
                content: content.into(),
                ttl: 300,
                optional: false,
                later: false,
                comment: String::new(),
            };
            let shown = record(&item);
            (
                shown["priority"].as_u64(),
                shown["content"].as_str().unwrap().to_owned(),
            )
        };
        for (kind, content, expected) in [
            ("MX", "10 mx.test.", (Some(10), "mx.test.")),
            ("SRV", "0 1 465 mx.test.", (Some(0), "1 465 mx.test.")),
            ("TXT", "10 things", (None, "10 things")),
            ("CNAME", "mx.test.", (None, "mx.test.")),
        ] {
            let (priority, rest) = expected;
            assert_eq!(shown(kind, content), (priority, rest.to_owned()));
        }
    }
}
