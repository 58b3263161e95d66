//! How far the rotation of keys is: what signs, what waits, and what may go.

use std::{path::PathBuf, time::SystemTime};

use futures_util::future::join_all;
use jiff::Timestamp;
use postrider_config::{Dkim, Dynamic};
use postrider_dns::Resolver;
use postrider_smtp::Domain;
use serde::{Deserialize, Serialize};

use super::{DkimItem, items, rotate::problems, selector::waiting};
use crate::{
    AdminError, Context,
    op::{
        Single,
        config::{missing_domain, parse_domain},
    },
};

/// Asks how far the rotation of the keys of a domain is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The domain.
    pub domain: String,
    /// Whether to look for the records of the keys in DNS.
    #[serde(default)]
    pub look: bool,
}

/// The part of a key in the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// It signs.
    Signs,
    /// It signs next.
    Waits,
    /// It does not sign: it did before, or somebody added it.
    Idle,
}

/// A key in the rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyState {
    /// The key with its record.
    pub key: DkimItem,
    /// Its part.
    pub part: Part,
    /// When its file was made, RFC 3339; None: the file can't be seen.
    pub made: Option<String>,
    /// Whether DNS has its record; None: nobody looked.
    pub published: Option<bool>,
    /// What is wrong with its record in DNS; empty: nothing, or nobody looked.
    pub problem: String,
    /// Until when a key that signed before and its record are needed, RFC 3339; None: its
    /// signatures have no end, or it did not sign.
    pub needed_until: Option<String>,
}

/// How far a rotation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The keys, by their selectors.
    pub keys: Vec<KeyState>,
}

impl Single for Status {
    type Output = Rotation;

    async fn answer(self, context: &Context) -> Result<Rotation, AdminError> {
        let config = context.config.load_full();
        let domain = parse_domain(&self.domain)?;
        let settings = config.domains.get(&domain);
        let dkim = &settings
            .ok_or_else(|| missing_domain(&config, &domain))?
            .dkim;
        let next = waiting(dkim);
        let look = self.look.then_some(&*context.resolver);
        let mut keys = Vec::new();
        for selector in dkim.selectors.keys() {
            keys.push(state(&config, &domain, &next, selector, look));
        }
        Ok(Rotation {
            keys: join_all(keys).await.into_iter().flatten().collect(),
        })
    }
}

/// The state of a key. None: there is no such key.
async fn state(
    config: &Dynamic,
    domain: &Domain,
    next: &[Domain],
    selector: &Domain,
    look: Option<&dyn Resolver>,
) -> Option<KeyState> {
    let dkim = &config.domains.get(domain)?.dkim;
    let problems = match look {
        None => None,
        Some(resolver) => {
            let one = std::slice::from_ref(selector);
            Some(problems(resolver, domain, dkim, one).await)
        }
    };
    Some(KeyState {
        key: items(config, domain, |name| name == selector).pop()?,
        part: part(dkim, next, selector),
        made: made(dkim, selector).await,
        published: problems.as_ref().map(Vec::is_empty),
        problem: problems.unwrap_or_default().join("; "),
        needed_until: needed_until(config, domain, selector),
    })
}

fn part(dkim: &Dkim, next: &[Domain], selector: &Domain) -> Part {
    if dkim.sign.contains(selector) {
        Part::Signs
    } else if next.contains(selector) {
        Part::Waits
    } else {
        Part::Idle
    }
}

/// When the file of a key was made.
async fn made(dkim: &Dkim, selector: &Domain) -> Option<String> {
    let path: PathBuf = dkim.selectors.get(selector)?.private_key_file.clone();
    let look = move || {
        std::fs::metadata(path)
            .and_then(|found| found.modified())
            .ok()
    };
    let modified: SystemTime = tokio::task::spawn_blocking(look).await.ok()??;
    Timestamp::try_from(modified)
        .ok()
        .map(|time| time.to_string())
}

/// The time in the comment that a rotation leaves above a key that signed before.
fn needed_until(config: &Dynamic, domain: &Domain, selector: &Domain) -> Option<String> {
    let command = removal(domain, selector);
    let mut before = "";
    for line in config.text().lines() {
        let comment = line.trim_start().strip_prefix('#').map_or("", str::trim);
        if comment == command {
            let (_, rest) = before.split_once("After ")?;
            let (time, _) = rest.split_once(',')?;
            // The comment has no seconds.
            let time = time.strip_suffix('Z')?;
            let time: Timestamp = format!("{time}:00Z").parse().ok()?;
            return Some(time.to_string());
        }
        before = comment;
    }
    None
}

/// The command that removes a key, as a rotation notes it.
pub(super) fn removal(domain: &Domain, selector: &Domain) -> String {
    format!(
        "postrider config dkim rm {} {}",
        domain.ascii(),
        selector.ascii()
    )
}
