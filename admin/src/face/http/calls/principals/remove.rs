//! The removal of principals: of one, or of all that match.

use postrider_store::{ApiKeyId, PrincipalName};
use serde_json::json;

use super::super::super::{Answer, Asked, problem::Problem};
use crate::{
    AdminError, Code,
    op::{
        Single,
        config::{accounts, aliases, domains, principals::RemoveAll},
        keys,
        principals::{Kind, PrincipalItem},
    },
};

pub(in crate::face::http) async fn remove(asked: Asked) -> Result<Answer, Problem> {
    let item = asked.principal(asked.element(0)).await?;
    let (context, name) = (&asked.context, item.handle().to_owned());
    let done = match item.kind {
        Kind::Individual => {
            let account = name.clone();
            accounts::Remove { account }.answer(context).await.map(drop)
        }
        Kind::List => {
            let alias = name.clone();
            aliases::Remove { alias }.answer(context).await
        }
        Kind::Domain => {
            asked.may_remove_domains()?;
            let domain = name.clone();
            domains::Remove { domain }.answer(context).await.map(drop)
        }
        Kind::ApiKey => {
            let ids = asked.key_ids(&[&item]).await?;
            for id in ids {
                keys::Remove { id }.answer(context).await?;
            }
            return Ok(Answer::null());
        }
    };
    done.map_err(in_use)?;
    Ok(Answer::null())
}

/// The error for a principal that something needs.
fn in_use(error: AdminError) -> Problem {
    match error.code {
        Code::Invalid | Code::Conflict => Problem::refused(error),
        _ => error.into(),
    }
}

impl Asked {
    fn may_remove_domains(&self) -> Result<(), Problem> {
        match self.access.is_tenant() {
            true => Err(Problem::forbidden("a key with domains can't remove one")),
            false => Ok(()),
        }
    }

    /// The numbers by which the store knows these keys.
    async fn key_ids(&self, items: &[&PrincipalItem]) -> Result<Vec<ApiKeyId>, Problem> {
        let store = &self.context.store;
        let keys = store.api_keys().await?;
        let named = keys
            .iter()
            .map(|key| Kind::ApiKey.known_as(&key.id.to_string()));
        let names: Vec<PrincipalName> = named.collect();
        let ids = store.principal_ids(&names).await?;
        let found = keys.iter().zip(ids);
        let found = found.filter(|(_, id)| items.iter().any(|item| item.id == id.0));
        Ok(found.map(|(key, _)| key.id).collect())
    }
}

/// Removes all principals that match. The request must say that it means that.
pub(in crate::face::http) async fn remove_all(asked: Asked) -> Result<Answer, Problem> {
    let query = asked.query.bulk(&["type", "types", "filter", "confirm"])?;
    let mut kinds = Vec::new();
    for name in query.list("types").into_iter().chain(query.list("type")) {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let unknown = || Problem::unreadable(format!("there is no type {name:?}"));
        kinds.push(kind.ok_or_else(unknown)?);
    }
    if kinds.is_empty() {
        let text = "name the type of principals to remove";
        return Err(Problem::unreadable(text));
    }
    if !query.flag("confirm") {
        let text = "all principals that match will be removed; say confirm=true if you mean that";
        return Err(Problem::unreadable(text));
    }
    if kinds.contains(&Kind::Domain) {
        asked.may_remove_domains()?;
    }
    let filter = query.text("filter").unwrap_or_default().to_owned();
    let mut found = asked.principals(kinds.clone()).await?;
    found.retain(|item| item.has_words(&filter));
    if found.is_empty() {
        return Ok(Answer::Data(json!(false)));
    }
    let keys: Vec<&PrincipalItem> = found.iter().filter(|it| it.kind == Kind::ApiKey).collect();
    let keys = match keys.is_empty() {
        true => Vec::new(),
        false => asked.key_ids(&keys).await?,
    };
    let remove = RemoveAll {
        keys,
        ..RemoveAll::of(&found, kinds, filter)
    };
    remove.answer(&asked.context).await.map_err(in_use)?;
    Ok(Answer::Data(json!(true)))
}
