//! Keys for DKIM, and DNS records.

use postrider_smtp::Domain;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, collect},
    parameters::body,
    problem::Problem,
    value,
};
use crate::op::{
    Single,
    config::dkim::{Add, Algorithm, DkimItem, List},
    dns,
};

impl Asked {
    /// A domain of the caller.
    fn domain(&self, text: &str) -> Result<Domain, Problem> {
        let missing = || Problem::not_found(text, format!("there is no domain {text}"));
        let domain = Domain::parse(text).map_err(|_| missing())?;
        let known = self.context.config.load().domains.contains_key(&domain);
        match known && self.access.sees_domain(&domain) {
            true => Ok(domain),
            false => Err(missing()),
        }
    }

    /// The keys of a domain.
    async fn keys_of(&self, domain: &Domain) -> Result<Vec<DkimItem>, Problem> {
        let list = List {
            domain: Some(domain.unicode()),
        };
        Ok(collect(&self.context, list, NAMES_MAX, &|_| true)
            .await?
            .items)
    }
}

/// A new key for DKIM.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub(in super::super) struct NewDkim {
    /// `ed25519-DOMAIN`, `rsa-DOMAIN` or `SELECTOR._domainkey.DOMAIN`.
    #[serde(default)]
    id: Option<String>,
    /// `Ed25519` or `Rsa`.
    algorithm: String,
    domain: String,
    /// None: the next free one.
    #[serde(default)]
    selector: Option<String>,
}

pub(in super::super) async fn add_dkim(asked: Asked) -> Result<Answer, Problem> {
    let new: NewDkim = body(&asked.body)?;
    let (algorithm, word) = match new.algorithm.to_lowercase().as_str() {
        "ed25519" => (Algorithm::Ed25519, "ed25519"),
        "rsa" => (Algorithm::Rsa, "rsa"),
        other => {
            let text = format!("there is no algorithm {other:?}");
            return Err(Problem::refused(text).at("algorithm"));
        }
    };
    let domain = asked.domain(&new.domain)?;
    let default = format!("{word}-{}", domain.unicode());
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let tail = format!("._domainkey.{}", domain.ascii());
    let id = given(&new.id).unwrap_or_else(|| default.clone());
    let in_id = id.strip_suffix(&tail).map(str::to_owned);
    if in_id.is_none() && id != default {
        let text = format!("the id of this key is {default}, or SELECTOR{tail}");
        return Err(Problem::unsupported(text));
    }
    let keys = asked.keys_of(&domain).await?;
    let selector = match in_id.or_else(|| given(&new.selector)) {
        Some(selector) => selector,
        None if keys.iter().any(|key| key.algorithm == word) => {
            let text = format!("the key {default} is there already");
            return Err(Problem::exists("id", default, text));
        }
        None => String::new(),
    };
    if keys.iter().any(|key| key.selector == selector) {
        let text = format!("{} has a selector {selector} already", domain.unicode());
        return Err(Problem::exists("selector", selector, text));
    }
    let add = Add {
        domain: domain.unicode(),
        selector: Some(selector).filter(|selector| !selector.is_empty()),
        algorithm,
        sign: true,
        hash: None,
        canonicalization: None,
        headers: Vec::new(),
        dont_seal_headers: false,
        expiration: None,
    };
    add.answer(&asked.context).await?;
    Ok(Answer::null())
}

pub(in super::super) async fn get_dkim(asked: Asked) -> Result<Answer, Problem> {
    let id = asked.element(0);
    let missing = || Problem::missing(id, format!("there is no key {id}"));
    let (domain, by_selector, algorithm) = match id.split_once("._domainkey.") {
        Some((selector, domain)) => (domain, Some(selector), ""),
        None => {
            let (algorithm, domain) = id.split_once('-').ok_or_else(missing)?;
            (domain, None, algorithm)
        }
    };
    let domain = asked.domain(domain).map_err(|_| missing())?;
    let keys = asked.keys_of(&domain).await?;
    let is_meant = |key: &&DkimItem| match by_selector {
        Some(selector) => key.selector == selector,
        None => key.algorithm == algorithm,
    };
    // A key that signs stands for the keys of its kind.
    let meant: Vec<&DkimItem> = keys.iter().filter(is_meant).collect();
    let found = meant.iter().find(|key| key.signs).or(meant.first());
    let found = found.ok_or_else(missing)?;
    let tags = found.content.split(';').map(str::trim);
    let public = tags.filter_map(|tag| tag.strip_prefix("p=")).next();
    Ok(Answer::Data(json!(public.unwrap_or_default())))
}

pub(in super::super) async fn records(asked: Asked) -> Result<Answer, Problem> {
    let domain = asked.domain(asked.element(0))?.unicode();
    let operation = dns::Records { domain };
    let records = collect(&asked.context, operation, NAMES_MAX, &|_| true).await?;
    let shown = records.items.iter().map(|record| {
        json!({
            "type": record.record_type, "name": record.name, "content": record.content,
        })
    });
    Ok(Answer::Data(shown.collect()))
}

pub(in super::super) async fn check(asked: Asked) -> Result<Answer, Problem> {
    let domain = asked.domain(asked.element(0))?.unicode();
    let operation = dns::Check { domain };
    let checked = collect(&asked.context, operation, NAMES_MAX, &|_| true).await?;
    let shown = checked.items.iter().map(value);
    let shown: Vec<Value> = shown.collect::<Result<_, _>>()?;
    Ok(Answer::Data(Value::Array(shown)))
}
