//! Changes of principals.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::super::{Answer, Asked, parameters::body, problem::Problem},
    absent,
    add::checked_name,
    check_length, meant, member_address,
};
use crate::op::{
    Single,
    config::principals::{Changes, Update},
    credentials::SecretChange,
    principals::{Kind, PrincipalItem},
};

/// One change of a principal.
#[derive(Deserialize)]
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

/// Fields of Stalwart that no principal has here. To set them to nothing changes nothing.
const FOREIGN: [&str; 8] = [
    "tenant",
    "picture",
    "locale",
    "externalMembers",
    "enabledPermissions",
    "disabledPermissions",
    "roles",
    "memberOf",
];

impl PrincipalChange {
    /// The value as texts.
    fn texts(&self) -> Result<Vec<String>, Problem> {
        let found = match &self.value {
            Value::Null => Some(Vec::new()),
            Value::String(text) => Some(vec![text.clone()]),
            Value::Number(number) => Some(vec![number.to_string()]),
            Value::Array(items) => {
                let texts = items.iter().map(|item| match item {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                });
                texts.collect()
            }
            _ => None,
        };
        let found = found.ok_or_else(|| self.refused())?;
        found.iter().try_for_each(|text| check_length(text))?;
        Ok(found)
    }

    /// The value as one text.
    fn text(&self) -> Result<String, Problem> {
        match &self.value {
            Value::Null => Ok(String::new()),
            Value::String(text) => {
                check_length(text)?;
                Ok(text.clone())
            }
            _ => Err(self.refused()),
        }
    }

    fn refused(&self) -> Problem {
        let text = format!("the value of {} is not of the right kind", self.field);
        Problem::refused(text).at(self.field.as_str())
    }

    /// Whether the value is nothing.
    fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            value => *value == json!(0),
        }
    }

    /// Changes a list by these texts.
    fn apply_to(&self, list: &mut Vec<String>, given: Vec<String>) {
        match self.action.as_str() {
            "removeItem" => list.retain(|text| !given.contains(text)),
            action => {
                if action == "set" {
                    list.clear();
                }
                for text in given {
                    if !list.contains(&text) {
                        list.push(text);
                    }
                }
            }
        }
    }
}

/// What becomes of a principal.
struct Wanted<'a> {
    item: &'a PrincipalItem,
    /// The accounts and the lists that the caller sees.
    accounts: &'a [PrincipalItem],
    lists: &'a [PrincipalItem],
    changes: Changes,
    /// In small letters.
    emails: Vec<String>,
    members: Vec<String>,
    /// The addresses by which accounts become members, by their names.
    addresses: BTreeMap<String, String>,
    memberships: Vec<String>,
    urls: Vec<String>,
}

impl<'a> Wanted<'a> {
    fn new(
        item: &'a PrincipalItem,
        accounts: &'a [PrincipalItem],
        lists: &'a [PrincipalItem],
    ) -> Self {
        Self {
            item,
            accounts,
            lists,
            changes: Changes::default(),
            emails: item.emails.iter().map(|it| it.to_lowercase()).collect(),
            members: item.members.clone(),
            addresses: BTreeMap::new(),
            memberships: item.lists.clone(),
            urls: item.urls.clone(),
        }
    }

    fn apply(&mut self, change: &PrincipalChange) -> Result<(), Problem> {
        use Kind::{Domain, Individual, List};
        if !["set", "addItem", "removeItem"].contains(&change.action.as_str()) {
            let text = format!("there is no action {:?}", change.action);
            return Err(Problem::unreadable(text));
        }
        let is_set = change.action == "set";
        match (self.item.kind, change.field.as_str()) {
            (Individual | List | Domain, "description") if is_set => {
                self.changes.description = Some(change.text()?);
            }
            (Individual, "quota") if is_set => {
                let quota = change.value.as_u64();
                self.changes.quota = Some(quota.ok_or_else(|| change.refused())?);
            }
            (Individual | List, "emails") => {
                let given = change.texts()?.into_iter().map(|it| it.to_lowercase());
                change.apply_to(&mut self.emails, given.collect());
            }
            (Individual, "secrets") if self.item.shared => {
                let text = "nobody logs in to a shared mailbox, so it has no secrets";
                return Err(Problem::refused(text).at("secrets"));
            }
            (Individual, "members") if self.item.shared => self.change_members(change)?,
            (List, "members") => self.change_members(change)?,
            (List, "name") if is_set => {
                self.changes.list_name = Some(checked_name(&change.text()?)?);
            }
            (Individual, "lists") => self.change_lists(change)?,
            (Individual | List, "urls") => {
                let given = change.texts()?;
                change.apply_to(&mut self.urls, given);
            }
            (Individual, "secrets") => self.change_secrets(change)?,
            (_, "roles") if change.value == json!(["user"]) || change.value == json!("user") => {}
            (_, field) if FOREIGN.contains(&field) && change.is_empty() => {}
            (_, field) if FOREIGN.contains(&field) => {
                return Err(Problem::unsupported(format!("{field} is not supported")));
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

    /// Members are names, numbers or addresses. An unknown one is gone already, and can't come.
    fn change_members(&mut self, change: &PrincipalChange) -> Result<(), Problem> {
        let mut names = Vec::new();
        for wanted in change.texts()? {
            match meant(self.accounts, &wanted) {
                Some(account) => {
                    names.push(account.name.clone());
                    if self.item.shared && account.name == self.item.name {
                        let text = "a shared mailbox is no member of itself";
                        return Err(Problem::refused(text).at("members"));
                    }
                    if change.action != "removeItem" && !self.item.shared {
                        let address = member_address(account, &wanted)?;
                        self.addresses.insert(account.name.clone(), address);
                    }
                }
                None if change.action == "removeItem" => {}
                None => return Err(absent(&wanted)),
            }
        }
        change.apply_to(&mut self.members, names);
        Ok(())
    }

    fn change_lists(&mut self, change: &PrincipalChange) -> Result<(), Problem> {
        let mut names = Vec::new();
        for wanted in change.texts()? {
            match meant(self.lists, &wanted) {
                Some(list) => names.push(list.name.clone()),
                None if change.action == "removeItem" => {}
                None => return Err(absent(&wanted)),
            }
        }
        change.apply_to(&mut self.memberships, names);
        Ok(())
    }

    fn change_secrets(&mut self, change: &PrincipalChange) -> Result<(), Problem> {
        let secrets = &mut self.changes.secrets;
        let given = change.texts()?;
        match change.action.as_str() {
            "set" => secrets.extend(SecretChange::replace(&given)?),
            "addItem" => {
                for secret in given {
                    secrets.push(SecretChange::add(&secret)?);
                }
            }
            _ => {
                for secret in given {
                    secrets.extend(SecretChange::remove(&secret)?);
                }
            }
        }
        Ok(())
    }

    /// The changes as a whole. Addresses are checked by the caller.
    fn finish(mut self) -> Result<Changes, Problem> {
        let item = self.item;
        let had = |email: &String| item.emails.iter().any(|it| it.to_lowercase() == *email);
        if item.kind == Kind::Individual {
            if self.emails.is_empty() {
                return Err(Problem::refused("an account needs an address").at("emails"));
            }
            let (kept, new): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.emails).into_iter().partition(had);
            let gone = |email: &&String| !kept.contains(&email.to_lowercase());
            self.changes.remove_emails = item.emails.iter().filter(gone).cloned().collect();
            self.changes.add_emails = new;
        }
        if item.kind == Kind::List {
            let [email] = self.emails.as_slice() else {
                return Err(Problem::refused("a list has one address").at("emails"));
            };
            self.changes.address = Some(email.clone()).filter(|email| !had(email));
        }
        if self.members.is_empty() && item.kind == Kind::List {
            return Err(Problem::refused("a list needs a member").at("members"));
        }
        let gone = |name: &&String| !self.members.contains(name);
        let gone: Vec<String> = item.members.iter().filter(gone).cloned().collect();
        let new = self.members.iter().filter(|it| !item.members.contains(it));
        let new: Vec<String> = new.cloned().collect();
        if item.shared {
            self.changes.share_with = new;
            self.changes.unshare = gone;
            return Ok(self.finish_account());
        }
        for name in &new {
            let address = self.addresses.remove(name).unwrap_or_default();
            self.changes.add_members.push(address);
        }
        self.changes.remove_members = gone;
        Ok(self.finish_account())
    }

    /// The changes of what accounts and lists have both.
    fn finish_account(mut self) -> Changes {
        let item = self.item;
        let address = |name: &String| {
            let list = self.lists.iter().find(|list| list.name == *name);
            list.map(|list| list.handle().to_owned())
        };
        let joined = self
            .memberships
            .iter()
            .filter(|it| !item.lists.contains(it));
        self.changes.join = joined.filter_map(address).collect();
        let left = item
            .lists
            .iter()
            .filter(|it| !self.memberships.contains(it));
        self.changes.leave = left.filter_map(address).collect();
        self.changes.urls = (self.urls != item.urls).then_some(self.urls);
        self.changes.list_name = self.changes.list_name.filter(|name| *name != item.name);
        self.changes
    }
}

pub(in crate::face::http) async fn change(asked: Asked) -> Result<Answer, Problem> {
    let given: Vec<PrincipalChange> = body(&asked.body)?;
    if given.len() > CHANGES_MAX {
        let text = format!("a request has at most {CHANGES_MAX} changes");
        return Err(Problem::unreadable(text));
    }
    let item = asked.principal(asked.element(0)).await?;
    let accounts = asked.principals(vec![Kind::Individual]).await?;
    let lists = asked.principals(vec![Kind::List]).await?;
    let mut wanted = Wanted::new(&item, &accounts, &lists);
    for change in &given {
        wanted.apply(change)?;
    }
    let changes = wanted.finish()?;
    asked.check_emails(&changes.add_emails)?;
    asked.check_emails(changes.address.as_slice())?;
    if let Some(name) = &changes.list_name {
        asked.check_name(Kind::List, name).await?;
    }
    if changes != Changes::default() {
        let update = Update {
            kind: item.kind,
            name: item.handle().to_owned(),
            changes,
        };
        update.answer(&asked.context).await?;
    }
    Ok(Answer::null())
}
