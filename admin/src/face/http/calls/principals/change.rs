//! Changes of principals.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::super::{Answer, Asked, parameters::body, problem::Problem},
    check_length, password, removed, setting,
};
use crate::op::{
    Single,
    config::{accounts, aliases, domains},
    passwords,
    principals::{Kind, PrincipalItem},
};

/// One change of a principal.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::face::http) struct PrincipalChange {
    /// `set`, `addItem` or `removeItem`.
    action: String,
    field: String,
    #[serde(default)]
    value: Value,
}

/// The most changes in a request.
const CHANGES_MAX: usize = 1000;

impl PrincipalChange {
    /// The value as texts.
    fn texts(&self) -> Result<Vec<String>, Problem> {
        let found = match &self.value {
            Value::Null => Some(Vec::new()),
            Value::String(text) => Some(vec![text.clone()]),
            Value::Number(number) => Some(vec![number.to_string()]),
            Value::Array(items) => {
                let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
                texts.collect()
            }
            _ => None,
        };
        let found = found.ok_or_else(|| self.refused())?;
        found.iter().try_for_each(|text| check_length(text))?;
        Ok(found)
    }

    fn refused(&self) -> Problem {
        let text = format!("the value of {} is not of the right kind", self.field);
        Problem::refused(text).at(self.field.as_str())
    }

    /// The list after the change.
    fn applied(&self, before: &[String]) -> Result<Vec<String>, Problem> {
        let given = self.texts()?;
        let mut after = before.to_vec();
        match self.action.as_str() {
            "set" => after = given,
            "addItem" => {
                for text in given {
                    if !after.contains(&text) {
                        after.push(text);
                    }
                }
            }
            _ => after.retain(|text| !given.contains(text)),
        }
        Ok(after)
    }
}

/// What becomes of a principal.
struct Wanted {
    description: Option<String>,
    quota: Option<u64>,
    emails: Vec<String>,
    members: Vec<String>,
    password: Option<String>,
}

impl Wanted {
    fn of(item: &PrincipalItem, changes: &[PrincipalChange]) -> Result<Self, Problem> {
        let mut wanted = Self {
            description: None,
            quota: None,
            emails: item.emails.clone(),
            members: item.members.clone(),
            password: None,
        };
        for change in changes {
            if !["set", "addItem", "removeItem"].contains(&change.action.as_str()) {
                let text = format!("there is no action {:?}", change.action);
                return Err(Problem::unreadable(text));
            }
            wanted.apply(item.kind, change)?;
        }
        Ok(wanted)
    }

    fn apply(&mut self, kind: Kind, change: &PrincipalChange) -> Result<(), Problem> {
        let is_set = change.action == "set";
        match (kind, change.field.as_str()) {
            (Kind::Individual | Kind::Domain, "description") if is_set => {
                let text = change.texts()?.pop().unwrap_or_default();
                self.description = Some(text);
            }
            (Kind::Individual, "quota") if is_set => {
                let quota = change.value.as_u64();
                self.quota = Some(quota.ok_or_else(|| change.refused())?);
            }
            (Kind::Individual, "emails") => self.emails = change.applied(&self.emails)?,
            (Kind::List, "members") => self.members = change.applied(&self.members)?,
            (Kind::Individual, "secrets") if change.action != "removeItem" => {
                let secrets = change.texts()?;
                let password = password(&secrets)?.map(str::to_owned);
                self.password = password.or(self.password.take());
            }
            (_, "roles") if *change.value.as_array().unwrap_or(&Vec::new()) == [json!("user")] => {}
            (
                _,
                field @ ("tenant"
                | "picture"
                | "locale"
                | "externalMembers"
                | "enabledPermissions"
                | "disabledPermissions"
                | "roles"
                | "memberOf"
                | "urls"
                | "lists"
                | "name"),
            ) => {
                let text = format!("{field} can't be changed here");
                return Err(Problem::unsupported(text));
            }
            (kind, field) => {
                let text = format!(
                    "{} of {field} is not for principals of type {}",
                    change.action,
                    kind.name()
                );
                return Err(Problem::refused(text).at(field));
            }
        }
        Ok(())
    }
}

pub(in crate::face::http) async fn change(asked: Asked) -> Result<Answer, Problem> {
    let changes: Vec<PrincipalChange> = body(&asked.body)?;
    if changes.len() > CHANGES_MAX {
        let text = format!("a request has at most {CHANGES_MAX} changes");
        return Err(Problem::unreadable(text));
    }
    let item = asked.principal(asked.element(0)).await?;
    let wanted = Wanted::of(&item, &changes)?;
    match item.kind {
        Kind::Individual => change_account(&asked, &item, wanted).await?,
        Kind::List => change_list(&asked, &item, wanted).await?,
        Kind::Domain => {
            if let Some(description) = wanted.description {
                let set = domains::Set {
                    domain: item.name.clone(),
                    settings: vec![setting(&["description"], &description)],
                };
                set.answer(&asked.context).await?;
            }
        }
        Kind::ApiKey => {}
    }
    Ok(Answer::null())
}

async fn change_account(
    asked: &Asked,
    item: &PrincipalItem,
    wanted: Wanted,
) -> Result<(), Problem> {
    let mut changes = Vec::new();
    if let Some(description) = wanted.description {
        changes.push(match description.as_str() {
            "" => removed(&["description"]),
            text => setting(&["description"], text),
        });
    }
    match wanted.quota {
        Some(0) => changes.push(removed(&["quota"])),
        Some(quota) => changes.push(setting(&["quota"], &quota.to_string())),
        None => {}
    }
    let lower: Vec<String> = wanted.emails.iter().map(|it| it.to_lowercase()).collect();
    let new: Vec<String> = lower
        .iter()
        .filter(|it| !item.emails.contains(it))
        .cloned()
        .collect();
    for address in asked.check_emails(&new)? {
        let address = address.unicode();
        changes.push(setting(&["destinations", address.as_str()], "{}"));
    }
    let gone = item.emails.iter().filter(|it| !lower.contains(it));
    changes.extend(gone.map(|email| removed(&["destinations", email.as_str()])));
    if lower.is_empty() {
        return Err(Problem::refused("an account needs an address").at("emails"));
    }
    if let Some(password) = &wanted.password {
        let length = password.chars().count();
        if length < passwords::MIN_LENGTH || password.chars().any(char::is_control) {
            let text = format!(
                "a password has at least {} characters and no control character",
                passwords::MIN_LENGTH
            );
            return Err(Problem::refused(text).at("secrets"));
        }
    }
    if !changes.is_empty() {
        let set = accounts::Set {
            account: item.name.clone(),
            settings: changes,
        };
        set.answer(&asked.context).await?;
    }
    if let Some(password) = wanted.password {
        let set = passwords::Set {
            account: item.name.clone(),
            password,
        };
        set.answer(&asked.context).await?;
    }
    Ok(())
}

async fn change_list(asked: &Asked, item: &PrincipalItem, wanted: Wanted) -> Result<(), Problem> {
    let before = asked.member_addresses(&item.members).await?;
    let after = asked.member_addresses(&wanted.members).await?;
    let added: Vec<String> = after
        .iter()
        .filter(|it| !before.contains(it))
        .cloned()
        .collect();
    let gone: Vec<String> = before
        .iter()
        .filter(|it| !after.contains(it))
        .cloned()
        .collect();
    if after.is_empty() {
        return Err(Problem::refused("a list needs a member").at("members"));
    }
    let alias = item.name.clone();
    if !added.is_empty() {
        let add = aliases::AddMembers {
            alias: alias.clone(),
            members: added,
        };
        add.answer(&asked.context).await?;
    }
    if !gone.is_empty() {
        let remove = aliases::RemoveMembers {
            alias,
            members: gone,
        };
        remove.answer(&asked.context).await?;
    }
    Ok(())
}
