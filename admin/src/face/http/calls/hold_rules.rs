//! Rules that hold messages. A tenant sees the rules for its accounts.

use postrider_store::HoldRuleId;

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect},
    parameters::body,
    problem::Problem,
    value,
};
use crate::op::{
    Single,
    hold_rules::{Add, HoldRuleItem, List, Remove},
};

impl Asked {
    fn sees_rule(&self, rule: &HoldRuleItem) -> bool {
        !self.access.is_tenant() || (!rule.account.is_empty() && self.sees_account(&rule.account))
    }
}

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let seen = |rule: &HoldRuleItem| asked.sees_rule(rule);
    let rules = collect(&asked.context, List {}, NAMES_MAX, &seen).await?;
    let list = rules.items.iter().map(|rule| Ok((rule.id, value(rule)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, rules.more))
}

pub(in super::super) async fn add(asked: Asked) -> Result<Answer, Problem> {
    let add: Add = body(&asked.body)?;
    match &add.account {
        Some(account) => asked.check_account(account)?,
        None if asked.access.is_tenant() => {
            let text = "a hold rule of a key with domains needs an account";
            return Err(Problem::refused(text).at("account"));
        }
        None => {}
    }
    Ok(Answer::Data(value(&add.answer(&asked.context).await?)?))
}

pub(in super::super) async fn remove(asked: Asked) -> Result<Answer, Problem> {
    let id = asked.id(0)?;
    let wanted = |rule: &HoldRuleItem| rule.id == id && asked.sees_rule(rule);
    let found = collect(&asked.context, List {}, 1, &wanted).await?;
    if found.items.is_empty() {
        let text = format!("there is no hold rule {id}");
        return Err(Problem::not_found(id.to_string(), text));
    }
    let id = HoldRuleId(id);
    let remove = Remove { id, release: false };
    remove.answer(&asked.context).await?;
    Ok(Answer::null())
}
