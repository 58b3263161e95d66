//! New principals.

use postrider_config::Tenant;
use postrider_receive::login::Reach;
use postrider_smtp::Domain;
use postrider_store::Scope;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{
    super::super::{Answer, Asked, member, paging::collect, parameters::body, problem::Problem},
    absent, check_length, meant, member_address,
};
use crate::op::{
    Single,
    config::{
        accounts, aliases, domains,
        principals::{Changes, Update},
    },
    credentials::SecretChange,
    keys,
    principals::{Kind, List, PrincipalItem, SHARED},
};

/// Reads a list of texts, or one text.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Texts::One(text)) => vec![text],
        Some(Texts::Many(texts)) => texts,
    })
}

/// A new principal.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::face::http) struct NewPrincipal {
    /// `individual`, `list`, `domain` or `apiKey`.
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    #[serde(deserialize_with = "texts")]
    emails: Vec<String>,
    quota: Option<u64>,
    /// One password or its `$argon2id$` hash, app passwords as `$app$NAME$PASSWORD`, and an
    /// `otpauth://` URL.
    #[serde(deserialize_with = "texts")]
    secrets: Vec<String>,
    /// Names, numbers or addresses of accounts.
    #[serde(deserialize_with = "texts")]
    members: Vec<String>,
    /// Names, numbers or addresses of lists.
    #[serde(deserialize_with = "texts")]
    lists: Vec<String>,
    #[serde(deserialize_with = "texts")]
    member_of: Vec<String>,
    #[serde(deserialize_with = "texts")]
    urls: Vec<String>,
    #[serde(deserialize_with = "texts")]
    roles: Vec<String>,
    #[serde(deserialize_with = "texts")]
    enabled_permissions: Vec<String>,
    #[serde(deserialize_with = "texts")]
    disabled_permissions: Vec<String>,
    #[serde(deserialize_with = "texts")]
    external_members: Vec<String>,
    tenant: Option<Value>,
    picture: Option<String>,
    locale: Option<String>,
    /// Ignored.
    id: Option<u64>,
    /// Ignored.
    used_quota: Option<u64>,
    /// The scopes of a key.
    #[serde(deserialize_with = "texts")]
    scopes: Vec<String>,
    /// The domains of the key of a tenant.
    #[serde(deserialize_with = "texts")]
    domains: Vec<String>,
}

impl NewPrincipal {
    /// Checks the fields that no kind of principal has here.
    fn check(&self) -> Result<(), Problem> {
        let given = |texts: &[String]| texts.iter().any(|text| !text.is_empty());
        let other_role = self.roles.iter().any(|role| role != "user");
        let foreign = [
            ("enabledPermissions", given(&self.enabled_permissions)),
            ("disabledPermissions", given(&self.disabled_permissions)),
            ("externalMembers", given(&self.external_members)),
            (
                "picture",
                self.picture.as_ref().is_some_and(|it| !it.is_empty()),
            ),
            (
                "locale",
                self.locale.as_ref().is_some_and(|it| !it.is_empty()),
            ),
            (
                "tenant",
                self.kind != "apiKey" && self.tenant.as_ref().is_some_and(is_given),
            ),
            ("memberOf", given(&self.member_of)),
            ("roles", other_role),
        ];
        if let Some((field, _)) = foreign.iter().find(|(_, given)| *given) {
            return Err(Problem::unsupported(format!("{field} is not supported")));
        }
        let lists = [
            &self.emails,
            &self.secrets,
            &self.members,
            &self.lists,
            &self.urls,
        ];
        let texts = lists
            .into_iter()
            .flatten()
            .chain(&self.name)
            .chain(&self.description);
        for text in texts {
            check_length(text)?;
        }
        Ok(())
    }

    /// The tenant of a key: a number or a name.
    fn tenant(&self) -> Result<Option<Tenant>, Problem> {
        let text = match &self.tenant {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let refused = |problem| Problem::refused(format!("the tenant {problem}")).at("tenant");
        Tenant::parse(&text).map(Some).map_err(refused)
    }

    fn name(&self) -> Result<String, Problem> {
        checked_name(self.name.as_deref().unwrap_or_default())
    }
}

/// A name in small letters. It is not a number, because calls take numbers too.
pub(super) fn checked_name(name: &str) -> Result<String, Problem> {
    let name = name.trim().to_lowercase();
    match name.as_str() {
        "" => Err(Problem::field_missing("name")),
        name if name.bytes().all(|byte| byte.is_ascii_digit()) => {
            let text = format!("the name {name} has only digits, as a number of a principal");
            Err(Problem::refused(text).at("name"))
        }
        name if name.chars().any(char::is_control) => {
            Err(Problem::refused("the name has a control character").at("name"))
        }
        _ => Ok(name),
    }
}

fn is_given(value: &Value) -> bool {
    !(value.is_null() || value == "" || *value == json!(0))
}

impl Asked {
    /// The number of a principal that was added.
    async fn number(&self, kind: Kind, handle: &str) -> Result<Value, Problem> {
        let name = kind.known_as(handle);
        let ids = self.context.store.principal_ids(&[name]).await?;
        Ok(json!(ids.first().map(|id| id.0)))
    }

    /// Gives a new principal what the operation that adds it does not take.
    async fn update_new(&self, kind: Kind, name: &str, changes: Changes) -> Result<(), Problem> {
        if changes == Changes::default() {
            return Ok(());
        }
        let update = Update {
            kind,
            name: name.to_owned(),
            changes,
        };
        Ok(update.answer(&self.context).await?)
    }

    /// Checks that no principal of this kind has the name.
    pub(super) async fn check_name(&self, kind: Kind, name: &str) -> Result<(), Problem> {
        let list = List { kinds: vec![kind] };
        let same = |item: &PrincipalItem| item.name == name;
        let taken = collect(&self.context, list, 1, &same).await?;
        match taken.items.is_empty() {
            true => Ok(()),
            false => {
                let text = format!("the name {name} is taken");
                Err(Problem::exists("name", name, text))
            }
        }
    }
}

pub(in crate::face::http) async fn add(asked: Asked) -> Result<Answer, Problem> {
    let new: NewPrincipal = body(&asked.body)?;
    new.check()?;
    match new.kind.as_str() {
        "individual" => add_account(asked, new).await,
        SHARED => add_shared(asked, new).await,
        "list" => add_list(asked, new).await,
        "domain" => add_domain(asked, new).await,
        "apiKey" => add_key(asked, new).await,
        "" => Err(Problem::field_missing("type")),
        kind @ ("tenant" | "role" | "oauthClient" | "resource" | "location" | "other") => Err(
            Problem::unsupported(format!("there are no principals of type {kind}")),
        ),
        kind => Err(Problem::unreadable(format!("there is no type {kind:?}"))),
    }
}

async fn add_account(asked: Asked, new: NewPrincipal) -> Result<Answer, Problem> {
    let name = new.name()?.replace('@', ".");
    asked.check_name(Kind::Individual, &name).await?;
    let Some(first) = new.emails.first() else {
        return Err(Problem::field_missing("emails"));
    };
    let mut secrets = Vec::new();
    if !new.secrets.is_empty() {
        secrets = SecretChange::replace(&new.secrets)?;
    }
    asked.check_emails(&new.emails)?;
    let lists = asked.principals(vec![Kind::List]).await?;
    let list = |wanted: &String| {
        let list = meant(&lists, wanted).ok_or_else(|| absent(wanted))?;
        Ok(list.handle().to_owned())
    };
    let join = new.lists.iter().map(list).collect::<Result<_, Problem>>()?;
    let context = &asked.context;
    let add = accounts::Add {
        account: name.clone(),
        address: first.clone(),
    };
    add.answer(context).await?;
    let changes = Changes {
        description: new.description.filter(|it| !it.is_empty()),
        urls: Some(new.urls).filter(|urls| !urls.is_empty()),
        quota: new.quota.filter(|quota| *quota > 0),
        add_emails: new.emails.iter().skip(1).cloned().collect(),
        join,
        secrets,
        ..Changes::default()
    };
    if let Err(error) = asked.update_new(Kind::Individual, &name, changes).await {
        // An account that is only half there would be in the way of the next try.
        let account = name.clone();
        accounts::Remove { account }.answer(context).await?;
        return Err(error);
    }
    Ok(Answer::Data(asked.number(Kind::Individual, &name).await?))
}

/// Adds a shared mailbox: an account in which nobody logs in. Its members may send in its name.
async fn add_shared(asked: Asked, new: NewPrincipal) -> Result<Answer, Problem> {
    let name = new.name()?.replace('@', ".");
    asked.check_name(Kind::Individual, &name).await?;
    if !new.secrets.is_empty() {
        let text = "nobody logs in to a shared mailbox, so it has no secrets";
        return Err(Problem::refused(text).at("secrets"));
    }
    let accounts = asked.principals(vec![Kind::Individual]).await?;
    let member = |wanted: &String| match meant(&accounts, wanted) {
        Some(account) => Ok(account.name.clone()),
        None => Err(absent(wanted)),
    };
    let share_with = new.members.iter().map(member).collect::<Result<_, _>>()?;
    let Some(first) = new.emails.first() else {
        return Err(Problem::field_missing("emails"));
    };
    asked.check_emails(&new.emails)?;
    let context = &asked.context;
    let add = accounts::Add {
        account: name.clone(),
        address: first.clone(),
    };
    add.answer(context).await?;
    let changes = Changes {
        becomes_shared: true,
        share_with,
        description: new.description.filter(|it| !it.is_empty()),
        quota: new.quota.filter(|quota| *quota > 0),
        add_emails: new.emails.iter().skip(1).cloned().collect(),
        ..Changes::default()
    };
    if let Err(error) = asked.update_new(Kind::Individual, &name, changes).await {
        // An account that is only half there would be in the way of the next try.
        let account = name.clone();
        accounts::Remove { account }.answer(context).await?;
        return Err(error);
    }
    Ok(Answer::Data(asked.number(Kind::Individual, &name).await?))
}

async fn add_list(asked: Asked, new: NewPrincipal) -> Result<Answer, Problem> {
    let name = new.name()?;
    asked.check_name(Kind::List, &name).await?;
    if new.members.is_empty() {
        return Err(Problem::field_missing("members"));
    }
    let accounts = asked.principals(vec![Kind::Individual]).await?;
    let member = |wanted: &String| {
        let account = meant(&accounts, wanted).ok_or_else(|| absent(wanted))?;
        member_address(account, wanted)
    };
    let members = new.members.iter().map(member).collect::<Result<_, _>>()?;
    let emails: Vec<String> = match new.emails.as_slice() {
        [] => vec![name.clone()],
        emails => emails.to_vec(),
    };
    let addresses = asked.check_emails(&emails)?;
    let [address] = addresses.as_slice() else {
        let text = "a list has one address";
        return Err(Problem::refused(text).at("emails"));
    };
    let add = aliases::Add {
        alias: address.unicode(),
        members,
        post_public: true,
        list_members: false,
        allow_msg_from: false,
    };
    add.answer(&asked.context).await?;
    let changes = Changes {
        list_name: Some(name).filter(|name| *name != address.unicode()),
        description: new.description.filter(|it| !it.is_empty()),
        urls: Some(new.urls).filter(|urls| !urls.is_empty()),
        ..Changes::default()
    };
    let alias = address.unicode();
    if let Err(error) = asked.update_new(Kind::List, &alias, changes).await {
        let remove = aliases::Remove { alias };
        remove.answer(&asked.context).await?;
        return Err(error);
    }
    Ok(Answer::Data(asked.number(Kind::List, &alias).await?))
}

async fn add_domain(asked: Asked, new: NewPrincipal) -> Result<Answer, Problem> {
    let name = new.name()?;
    if asked.access.is_tenant() {
        let text = "new domains are not for keys with domains";
        return Err(Problem::forbidden(text));
    }
    let domain = Domain::parse(&name)
        .map_err(|error| Problem::refused(format!("{name:?}: {error}")).at("name"))?;
    let shown = domain.unicode();
    asked.check_name(Kind::Domain, &shown).await?;
    let add = domains::Add {
        domain: name,
        account: asked.context.statics.postmaster.account.clone(),
        localpart: None,
        disabled: false,
        tenant: String::new(),
    };
    add.answer(&asked.context).await?;
    if let Some(description) = new.description.filter(|it| !it.is_empty()) {
        let changes = Changes {
            description: Some(description),
            ..Changes::default()
        };
        asked.update_new(Kind::Domain, &shown, changes).await?;
    }
    Ok(Answer::Data(asked.number(Kind::Domain, &shown).await?))
}

async fn add_key(asked: Asked, new: NewPrincipal) -> Result<Answer, Problem> {
    let name = new.name()?;
    let scope = |text: &String| {
        let found = Scope::ALL.into_iter().find(|scope| scope.name() == text);
        let found = found.filter(|scope| scope.is_management());
        found.ok_or_else(|| Problem::refused(format!("there is no scope {text:?}")).at("scopes"))
    };
    let scopes = new
        .scopes
        .iter()
        .map(scope)
        .collect::<Result<Vec<_>, _>>()?;
    if scopes.is_empty() {
        return Err(Problem::field_missing("scopes"));
    }
    let domain = |text: &String| {
        let text = text.as_str();
        Domain::parse(text)
            .map_err(|_| Problem::not_found(text, format!("there is no domain {text}")))
    };
    let domains = new.domains.iter().map(domain).collect::<Result<_, _>>()?;
    let tenant = new.tenant()?;
    let reach = Reach {
        domains,
        tenant: tenant.clone(),
    };
    if !asked.access.covers(&scopes, &reach) {
        let text = "a key can't make a key that may do more than itself";
        return Err(Problem::forbidden(text));
    }
    let add = keys::Add {
        name,
        account: String::new(),
        scopes,
        expires: None,
        domains: new.domains,
        legacy_status: false,
        tenant: tenant.map(|it| it.to_string()).unwrap_or_default(),
    };
    let added = add.answer(&asked.context).await?;
    let id = added.id.to_string();
    let number = asked.number(Kind::ApiKey, &id).await?;
    Ok(Answer::Secret(number, member("key", added.key)))
}
