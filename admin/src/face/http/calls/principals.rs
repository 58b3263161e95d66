//! Accounts, lists, domains and keys: principals.

mod add;
mod change;

pub(in crate::face::http) use self::{add::add, change::change};

use postrider_config::toml_edit::Key;
use postrider_smtp::{Address, Domain};
use postrider_store::{ApiKeyId, PrincipalKind, PrincipalName};
use serde_json::{Value, json};

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect},
    problem::Problem,
};
use crate::{
    Code,
    op::{
        Single,
        config::{accounts, aliases, domains, settings},
        keys,
        principals::{Kind, List, PrincipalItem, Usage},
    },
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
                let domains = item.domains.iter().map(|it| Domain::parse(it));
                let domains = domains.collect::<Result<_, _>>();
                domains.is_ok_and(|domains| self.access.covers(&item.scopes, &domains))
            }
        }
    }

    /// The principals of these kinds that the caller sees.
    async fn principals(&self, kinds: Vec<Kind>) -> Result<Vec<PrincipalItem>, Problem> {
        let seen = |item: &PrincipalItem| self.sees_principal(item);
        let list = List { kinds };
        Ok(collect(&self.context, list, NAMES_MAX, &seen).await?.items)
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

    /// A principal as JSON.
    async fn shown(&self, item: &PrincipalItem) -> Result<Value, Problem> {
        let used = match item.kind {
            Kind::Individual => {
                let account = item.name.clone();
                Usage { account }.answer(&self.context).await?.bytes
            }
            _ => 0,
        };
        Ok(shape(item, used))
    }
}

fn absent(wanted: &str) -> Problem {
    Problem::not_found(wanted, format!("there is no principal {wanted}"))
}

fn shape(item: &PrincipalItem, used: u64) -> Value {
    let members = match item.kind {
        Kind::Domain => json!(item.addresses),
        _ => json!(item.members),
    };
    let roles: &[&str] = match item.kind {
        Kind::Individual => &["user"],
        _ => &[],
    };
    json!({
        "id": item.id, "type": item.kind.name(), "name": item.name,
        "description": item.description, "emails": item.emails,
        "quota": item.quota, "usedQuota": used, "roles": roles, "memberOf": [],
        "lists": item.lists, "members": members, "secrets": [], "urls": [],
        "suspended": item.suspended, "scopes": item.scopes, "domains": item.domains,
    })
}

pub(in crate::face::http) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let query = &asked.query;
    let mut kinds = Vec::new();
    for name in query.list("types").into_iter().chain(query.list("type")) {
        match Kind::ALL.into_iter().find(|kind| kind.name() == name) {
            Some(kind) => kinds.push(kind),
            // Nothing is of a kind that is not known.
            None => return Ok(Answer::Data(json!({"items": [], "total": 0}))),
        }
    }
    let text = query.text("filter").unwrap_or_default().to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let matches = |item: &PrincipalItem| {
        let texts = item.emails.iter().chain([&item.name, &item.description]);
        let texts: Vec<String> = texts.map(|text| text.to_lowercase()).collect();
        let has = |word: &&str| texts.iter().any(|text| text.contains(word));
        words.iter().all(has)
    };
    let found = asked.principals(kinds).await?;
    let found: Vec<PrincipalItem> = found.into_iter().filter(matches).collect();
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
                false => shape(item, 0),
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

/// The plain password among secrets.
fn password(secrets: &[String]) -> Result<Option<&str>, Problem> {
    let mut found = None;
    for secret in secrets {
        if secret.starts_with('$') || secret.starts_with('{') || secret.starts_with("otpauth:") {
            return Err(Problem::unsupported(
                "only a plain password is supported as a secret",
            ));
        }
        if found.replace(secret.as_str()).is_some() {
            let text = "an account has one password";
            return Err(Problem::refused(text).at("secrets"));
        }
    }
    Ok(found)
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

    /// The addresses of members: names, numbers or addresses of accounts.
    async fn member_addresses(&self, members: &[String]) -> Result<Vec<String>, Problem> {
        let accounts = self.principals(vec![Kind::Individual]).await?;
        let mut addresses = Vec::new();
        for wanted in members {
            let lower = wanted.to_lowercase();
            let id: Option<u64> = wanted.parse().ok();
            let is_meant = |item: &&PrincipalItem| {
                Some(item.id) == id || item.name == lower || item.emails.contains(&lower)
            };
            let item = accounts.iter().find(is_meant);
            let item = item.ok_or_else(|| absent(wanted))?;
            let given = item.emails.iter().find(|email| **email == lower);
            let address = given.or_else(|| item.emails.iter().find(|it| !it.starts_with('@')));
            let address = address.ok_or_else(|| {
                Problem::refused(format!("the account {wanted} has no address")).at("members")
            })?;
            addresses.push(address.clone());
        }
        Ok(addresses)
    }
}

/// The setting of a key.
fn setting(path: &[&str], value: &str) -> settings::Setting {
    settings::Setting {
        key: key(path),
        value: Some(value.to_owned()),
    }
}

fn removed(path: &[&str]) -> settings::Setting {
    settings::Setting {
        key: key(path),
        value: None,
    }
}

/// The names as one key.
fn key(path: &[&str]) -> String {
    let names = path.iter().map(|name| Key::new(*name));
    let names: Vec<String> = names.map(|name| name.display_repr().into_owned()).collect();
    names.join(".")
}

pub(in crate::face::http) async fn remove(asked: Asked) -> Result<Answer, Problem> {
    let item = asked.principal(asked.element(0)).await?;
    let (context, name) = (&asked.context, item.name.clone());
    let done = match item.kind {
        Kind::Individual => {
            let account = name.clone();
            accounts::Remove { account }.answer(context).await.map(drop)
        }
        Kind::List => {
            let alias = name.clone();
            aliases::Remove { alias }.answer(context).await
        }
        Kind::Domain if asked.access.is_tenant() => {
            let text = "a key with domains can't remove one";
            return Err(Problem::forbidden(text));
        }
        Kind::Domain => {
            let domain = name.clone();
            domains::Remove { domain }.answer(context).await.map(drop)
        }
        Kind::ApiKey => return remove_key(&asked, &item).await,
    };
    done.map_err(|error| match error.code {
        Code::Invalid | Code::Conflict => Problem::refused(error),
        _ => error.into(),
    })?;
    let (kind, name) = match item.kind {
        Kind::Individual => (PrincipalKind::Account, name),
        Kind::List => (PrincipalKind::List, ascii(&name)),
        _ => (PrincipalKind::Domain, ascii(&name)),
    };
    let name = PrincipalName { kind, name };
    context.store.forget_principal(name).await?;
    Ok(Answer::null())
}

/// An address or a domain in A-labels.
fn ascii(name: &str) -> String {
    let address = Address::parse(name).map(|address| address.to_string());
    let domain = || Domain::parse(name).map(|domain| domain.ascii().to_owned());
    address
        .or_else(|_| domain())
        .unwrap_or_else(|_| name.to_owned())
}

async fn remove_key(asked: &Asked, item: &PrincipalItem) -> Result<Answer, Problem> {
    let store = &asked.context.store;
    for key in store.api_keys().await? {
        let name = PrincipalName {
            kind: PrincipalKind::Key,
            name: key.id.to_string(),
        };
        let ids = store.principal_ids(std::slice::from_ref(&name)).await?;
        if ids.first().is_some_and(|id| id.0 == item.id) {
            let id = ApiKeyId(key.id.0);
            keys::Remove { id }.answer(&asked.context).await?;
            store.forget_principal(name).await?;
            return Ok(Answer::null());
        }
    }
    Err(absent(&item.name))
}

impl Asked {
    /// The account that a path names.
    async fn account_of_path(&self) -> Result<String, Problem> {
        let item = self.principal(self.element(0)).await?;
        match item.kind {
            Kind::Individual => Ok(item.name),
            kind => Err(Problem::unsupported(format!(
                "a principal of type {} can't be suspended",
                kind.name()
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
        #[schema(nullable = false)]
        quota: Option<u64>,
        #[schema(nullable = false)]
        used_quota: Option<u64>,
    }
}
