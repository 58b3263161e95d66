//! Accounts, lists, domains and keys: principals.

mod add;
mod change;
mod remove;

pub(in crate::face::http) use self::{
    add::add,
    change::change,
    remove::{remove, remove_all},
};

use std::collections::BTreeSet;

use axum::http::StatusCode;
use postrider_smtp::{Address, Domain};
use serde_json::{Value, json};

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect},
    problem::Problem,
};
use crate::op::{
    Single,
    config::accounts,
    credentials::Show,
    principals::{Kind, List, PrincipalItem, SHARED, Usage},
};

/// The most bytes of a text in a request.
const TEXT_MAX: usize = 512;

impl Asked {
    /// Whether the caller sees a principal.
    fn sees_principal(&self, item: &PrincipalItem) -> bool {
        let sees =
            |domain: &str| Domain::parse(domain).is_ok_and(|it| self.access.sees_domain(&it));
        let is_seen = |email: &String| {
            let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
            sees(domain)
        };
        match item.kind {
            Kind::Individual => self.sees_account(&item.name),
            Kind::List => item.emails.iter().all(is_seen),
            Kind::Domain => sees(&item.name),
            Kind::ApiKey => {
                let reach = item.reach();
                reach.is_some_and(|reach| self.access.covers(&item.scopes, &reach))
            }
        }
    }

    /// The principals of these kinds that the caller sees. Lists and members that a tenant does not
    /// see are left out.
    async fn principals(&self, kinds: Vec<Kind>) -> Result<Vec<PrincipalItem>, Problem> {
        let seen = |item: &PrincipalItem| self.sees_principal(item);
        if !self.access.is_tenant() {
            let list = List { kinds };
            return Ok(collect(&self.context, list, NAMES_MAX, &seen).await?.items);
        }
        let list = List { kinds: Vec::new() };
        let mut items = collect(&self.context, list, NAMES_MAX, &seen).await?.items;
        let names = |kind: Kind| -> BTreeSet<String> {
            let of_kind = items.iter().filter(|item| item.kind == kind);
            of_kind.map(|item| item.name.clone()).collect()
        };
        let (accounts, lists) = (names(Kind::Individual), names(Kind::List));
        items.retain(|item| kinds.is_empty() || kinds.contains(&item.kind));
        for item in &mut items {
            item.lists.retain(|name| lists.contains(name));
            item.members.retain(|name| accounts.contains(name));
        }
        Ok(items)
    }

    /// The principal with a name, a number or an address.
    async fn principal(&self, wanted: &str) -> Result<PrincipalItem, Problem> {
        let all = self.principals(Vec::new()).await?;
        let id: Option<u64> = wanted.parse().ok();
        let lower = wanted.to_lowercase();
        let named = |item: &&PrincipalItem| item.name == wanted || item.name == lower;
        let found = all.iter().find(|item| Some(item.id) == id);
        let found = found.or_else(|| all.iter().find(named));
        let has = |item: &&PrincipalItem| item.emails.contains(&lower);
        let found = found.or_else(|| all.iter().find(has)).cloned();
        found.ok_or_else(|| absent(wanted))
    }

    /// The name of the account with a name, a number or an address, which the caller has to see.
    pub(super) async fn account_of(&self, wanted: &str) -> Result<String, Problem> {
        // A name that is no number needs no look at all principals.
        let is_name = wanted.parse::<u64>().is_err();
        let is_known = self.context.config.load().accounts.contains_key(wanted);
        if is_name && is_known && self.sees_account(wanted) {
            return Ok(wanted.to_owned());
        }
        let missing = || Problem::missing(wanted, format!("there is no account {wanted}"));
        let found = self
            .principal(wanted)
            .await
            .map_err(|problem| match problem.status() {
                StatusCode::NOT_FOUND => missing(),
                _ => problem,
            })?;
        match found.kind {
            Kind::Individual => Ok(found.name),
            _ => Err(missing()),
        }
    }

    /// A principal as JSON.
    async fn shown(&self, item: &PrincipalItem) -> Result<Value, Problem> {
        let used = match item.kind {
            Kind::Individual => {
                let account = item.name.clone();
                Usage { account }.answer(&self.context).await?.bytes
            }
            _ => 0,
        };
        Ok(shape(item, used, &self.secrets(item).await?))
    }

    /// The secrets of an account, as far as they are shown.
    async fn secrets(&self, item: &PrincipalItem) -> Result<Vec<String>, Problem> {
        if item.kind != Kind::Individual {
            return Ok(Vec::new());
        }
        let account = item.name.clone();
        let shown = Show { account }.answer(&self.context).await?;
        let names = shown.app_passwords.iter();
        let mut secrets: Vec<String> = names.map(|name| format!("$app${name}$")).collect();
        if shown.otp_enabled {
            secrets.push("otpauth://".to_owned());
        }
        Ok(secrets)
    }
}

fn absent(wanted: &str) -> Problem {
    Problem::not_found(wanted, format!("there is no principal {wanted}"))
}

fn shape(item: &PrincipalItem, used: u64, secrets: &[String]) -> Value {
    let members = match item.kind {
        Kind::Domain => json!(item.addresses),
        _ => json!(item.members),
    };
    let roles: &[&str] = match item.kind {
        Kind::Individual if !item.shared => &["user"],
        _ => &[],
    };
    let mut shape = json!({
        "id": item.id, "type": item.type_name(), "name": item.name,
        "description": item.description, "emails": item.emails,
        "quota": item.quota, "usedQuota": used, "roles": roles, "memberOf": [],
        "lists": item.lists, "members": members, "secrets": secrets, "urls": item.urls,
        "suspended": item.suspended, "scopes": item.scopes, "domains": item.domains,
    });
    if let (false, Some(members)) = (item.tenant.is_empty(), shape.as_object_mut()) {
        members.insert("tenant".to_owned(), json!(item.tenant));
    }
    shape
}

pub(in crate::face::http) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let query = &asked.query;
    let mut kinds = Vec::new();
    let types: Vec<&str> = [query.list("types"), query.list("type")].concat();
    for name in &types {
        match Kind::ALL.into_iter().find(|kind| kind.name() == *name) {
            Some(kind) => kinds.push(kind),
            None if *name == SHARED => kinds.push(Kind::Individual),
            // Nothing is of a kind that is not known.
            None => return Ok(Answer::Data(json!({"items": [], "total": 0}))),
        }
    }
    let words = query.text("filter").unwrap_or_default();
    let mut found = asked.principals(kinds).await?;
    found.retain(|item| types.is_empty() || types.contains(&item.type_name()));
    found.retain(|item| item.has_words(words));
    if query.flag("count") {
        return Ok(Answer::Data(json!({"items": [], "total": found.len()})));
    }
    let paging = Paging::new(query, OBJECTS_MAX)?;
    let fields = query.list("fields");
    let list = found.iter().map(|item| (item.id, json!(item.id))).collect();
    let mut answer = paging.answer(list);
    let with_usage = fields.is_empty() || fields.contains(&"usedQuota");
    let Answer::Data(data) = &mut answer else {
        return Ok(answer);
    };
    let items = data.get_mut("items").and_then(Value::as_array_mut);
    for shown in items.into_iter().flatten() {
        let item = found.iter().find(|item| shown.as_u64() == Some(item.id));
        if let Some(item) = item {
            *shown = match with_usage {
                true => asked.shown(item).await?,
                false => shape(item, 0, &asked.secrets(item).await?),
            };
        }
        if let Some(members) = shown.as_object_mut().filter(|_| !fields.is_empty()) {
            members.retain(|name, _| {
                ["id", "type"].contains(&name.as_str()) || fields.contains(&name.as_str())
            });
        }
    }
    Ok(answer)
}

pub(in crate::face::http) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let item = asked.principal(asked.element(0)).await?;
    Ok(Answer::Data(asked.shown(&item).await?))
}

fn check_length(text: &str) -> Result<(), Problem> {
    match text.len() <= TEXT_MAX {
        true => Ok(()),
        false => Err(Problem::refused(format!(
            "a text has more than {TEXT_MAX} bytes"
        ))),
    }
}

impl Asked {
    /// Checks addresses for a principal: their domains exist and are the caller's, and nobody has
    /// them.
    fn check_emails(&self, emails: &[String]) -> Result<Vec<Address>, Problem> {
        let config = self.context.config.load();
        let mut addresses = Vec::new();
        for email in emails {
            let refused = |error| Problem::refused(format!("{email:?}: {error}")).at("emails");
            let address = Address::parse(email).map_err(refused)?;
            let domain = address.host.domain();
            let known = domain.filter(|it| config.domains.contains_key(it));
            let Some(domain) = known.filter(|it| self.access.sees_domain(it)) else {
                let name = domain.map(Domain::unicode).unwrap_or_default();
                let text = format!("there is no domain {name}");
                return Err(Problem::not_found(name, text));
            };
            debug_assert!(config.domains.contains_key(domain));
            if let Some(owner) = config.taken(&address) {
                let text = format!("{email} is taken: {owner}");
                return Err(Problem::exists("emails", email.as_str(), text));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }
}

/// The principal of these that a text means: by its name, its number or an address.
fn meant<'a>(items: &'a [PrincipalItem], wanted: &str) -> Option<&'a PrincipalItem> {
    let lower = wanted.to_lowercase();
    let id: Option<u64> = wanted.parse().ok();
    let is_meant = |item: &&PrincipalItem| {
        let mut emails = item.emails.iter();
        Some(item.id) == id
            || item.name == lower
            || item.name == wanted
            || emails.any(|email| email.to_lowercase() == lower)
    };
    items.iter().find(is_meant)
}

/// The address by which an account becomes a member: the given one, or else the main one.
fn member_address(item: &PrincipalItem, wanted: &str) -> Result<String, Problem> {
    let mut emails = item.emails.iter();
    let given = emails.find(|email| email.to_lowercase() == wanted.to_lowercase());
    let address = given.or_else(|| item.emails.iter().find(|it| !it.starts_with('@')));
    address.cloned().ok_or_else(|| {
        Problem::refused(format!("the account {wanted} has no address")).at("members")
    })
}

impl Asked {
    /// The account that a path names.
    async fn account_of_path(&self) -> Result<String, Problem> {
        let item = self.principal(self.element(0)).await?;
        match item.kind {
            Kind::Individual if !item.shared => Ok(item.name),
            _ => Err(Problem::unsupported(format!(
                "a principal of type {} can't be suspended",
                item.type_name()
            ))),
        }
    }
}

pub(in crate::face::http) async fn suspend(asked: Asked) -> Result<Answer, Problem> {
    let suspend = accounts::Suspend {
        account: asked.account_of_path().await?,
        message: None,
    };
    suspend.answer(&asked.context).await?;
    Ok(Answer::null())
}

pub(in crate::face::http) async fn unsuspend(asked: Asked) -> Result<Answer, Problem> {
    let unsuspend = accounts::Unsuspend {
        account: asked.account_of_path().await?,
    };
    unsuspend.answer(&asked.context).await?;
    Ok(Answer::null())
}

/// The shapes of the answers, for the description.
#[cfg(test)]
pub(in crate::face::http) mod shapes {
    use utoipa::ToSchema;

    pub(in crate::face::http) use super::{add::NewPrincipal, change::PrincipalChange};
    use crate::op::principals::Kind;

    /// An account, a list, a domain or a key. With `fields`, it has only some of these members.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    #[serde(rename_all = "camelCase")]
    pub(in crate::face::http) struct Principal {
        id: u64,
        #[serde(rename = "type")]
        #[schema(inline)]
        kind: Kind,
        #[schema(nullable = false)]
        name: Option<String>,
        #[schema(nullable = false)]
        emails: Option<Vec<String>>,
        /// `$app$NAME$` for each app password, and `otpauth://` for one-time codes.
        #[schema(nullable = false)]
        secrets: Option<Vec<String>>,
        #[schema(nullable = false)]
        lists: Option<Vec<String>>,
        #[schema(nullable = false)]
        urls: Option<Vec<String>>,
        #[schema(nullable = false)]
        quota: Option<u64>,
        #[schema(nullable = false)]
        used_quota: Option<u64>,
    }
}
