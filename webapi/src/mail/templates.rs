//! Templates of messages: kept for an account, or shared with its domain. Their language is that of
//! SendBatch.

use axum::{http::StatusCode, response::Response};
use postrider_store::{StationeryKind, StationeryOwner};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    asked::Asked,
    problem::Problem,
    stationery::{self, Kept, Paper},
};
use crate::{
    http::answer::{json as answer, ok},
    send::{self, Draft},
};

/// A template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Template {
    name: String,
    subject: String,
    html: String,
    plain: String,
    /// Values for a preview.
    sample: Map<String, Value>,
    /// The account that made it, and may change it.
    by: String,
}

impl Paper for Template {
    const KIND: StationeryKind = StationeryKind::Template;
    const MOST: u64 = 200;
    const NAME: &'static str = "template";
}

impl Template {
    /// The texts, to be filled in.
    fn texts(&self) -> Draft {
        Draft {
            subject: self.subject.clone(),
            text: self.plain.clone(),
            html: self.html.clone(),
            ..Draft::default()
        }
    }
}

/// What a caller wants to be so. An absent field stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Change {
    name: Option<String>,
    subject: Option<String>,
    html: Option<String>,
    plain: Option<String>,
    sample: Option<Map<String, Value>>,
    /// For all accounts of the domain. Only for a new template.
    shared: Option<bool>,
}

impl Change {
    fn apply(self, asked: &Asked, to: Template) -> Result<Template, Problem> {
        let template = Template {
            name: self.name.unwrap_or(to.name),
            subject: self.subject.unwrap_or(to.subject),
            html: self.html.unwrap_or(to.html),
            plain: self.plain.unwrap_or(to.plain),
            sample: self.sample.unwrap_or(to.sample),
            by: to.by,
        };
        stationery::check_name(&template.name)?;
        let texts = [
            ("html", template.html.as_str()),
            ("plain", template.plain.as_str()),
        ];
        stationery::check_texts(&texts)?;
        send::check_variables(&template.sample)
            .map_err(|error| Problem::field("sample", error.message))?;
        variables(asked, &template)?;
        Ok(template)
    }
}

/// The names of the variables of a template, sorted. An error has the line that is wrong.
fn variables(asked: &Asked, template: &Template) -> Result<Vec<String>, Problem> {
    send::variables_of(&asked.context, &template.texts())
        .map_err(|error| Problem::field("template", error.message))
}

/// A template, as callers get it.
fn shown(asked: &Asked, kept: &Kept<Template>) -> Value {
    let Template {
        name,
        subject,
        html,
        plain,
        sample,
        by,
    } = &kept.paper;
    json!({
        "id": kept.item.id.0,
        "name": name,
        "subject": subject,
        "html": html,
        "plain": plain,
        "sample": sample,
        // It was checked when it was kept.
        "variables": variables(asked, &kept.paper).unwrap_or_default(),
        "shared": is_shared(kept),
        "by": by,
        "version": kept.item.version,
        "created": kept.item.created.to_string(),
        "changed": kept.item.changed.to_string(),
    })
}

fn is_shared(kept: &Kept<Template>) -> bool {
    matches!(kept.shelf.owner, StationeryOwner::Domain(_))
}

/// The template that the path names, in a version if the query names one.
async fn named(asked: &Asked) -> Result<Kept<Template>, Problem> {
    let version = asked.query.number("version")?;
    stationery::find(asked, asked.element(0), version).await
}

/// The template that the path names, if the caller may change it: its maker, or a management key.
async fn own(asked: &Asked) -> Result<Kept<Template>, Problem> {
    let kept = stationery::find::<Template>(asked, asked.element(0), None).await?;
    match asked.manager.is_some() || kept.paper.by == asked.account() {
        true => Ok(kept),
        false => Err(Problem::forbidden(format!(
            "the template belongs to {}; make one of your own",
            kept.paper.by
        ))),
    }
}

/// Lists the templates of the account, and those that its domain shares.
pub(super) async fn list(asked: Asked) -> Result<Response, Problem> {
    let mut items = Vec::new();
    for owner in stationery::owners(&asked) {
        let shelf = stationery::shelf_of::<Template>(owner);
        let kept = stationery::on_shelf::<Template>(&asked, &shelf).await?;
        items.extend(kept.iter().map(|kept| shown(&asked, kept)));
    }
    Ok(ok(&super::whole_list(items)))
}

/// Adds a template.
pub(super) async fn add(asked: Asked) -> Result<Response, Problem> {
    let change: Change = asked.json().await?;
    let owner = match change.shared.unwrap_or_default() {
        false => StationeryOwner::Account(asked.account().to_owned()),
        true => match asked.user.login.host.domain() {
            Some(domain) => StationeryOwner::Domain(domain.ascii().to_owned()),
            None => return Err(Problem::field("shared", "the address has no domain")),
        },
    };
    let new = Template {
        by: asked.account().to_owned(),
        ..Template::default()
    };
    let template = change.apply(&asked, new)?;
    let shelf = stationery::shelf_of::<Template>(owner);
    let id = stationery::add(&asked, &shelf, &template, Vec::new()).await?;
    one(&asked, id.0, StatusCode::CREATED).await
}

async fn one(asked: &Asked, id: u64, status: StatusCode) -> Result<Response, Problem> {
    let kept = stationery::find::<Template>(asked, &id.to_string(), None).await?;
    Ok(answer(status, &shown(asked, &kept)))
}

/// Gets a template.
pub(super) async fn get(asked: Asked) -> Result<Response, Problem> {
    let kept = named(&asked).await?;
    Ok(ok(&shown(&asked, &kept)))
}

/// Changes a template. It gets a new version.
pub(super) async fn change(asked: Asked) -> Result<Response, Problem> {
    let kept = own(&asked).await?;
    let change: Change = asked.json().await?;
    if change
        .shared
        .is_some_and(|shared| shared != is_shared(&kept))
    {
        let text = "a template stays shared or not; add another template";
        return Err(Problem::field("shared", text));
    }
    let id = kept.item.id;
    let template = change.apply(&asked, kept.paper)?;
    let changes = vec![stationery::change(id, &template)?];
    let store = &asked.context.store;
    store
        .change_stationery(&kept.shelf, changes, asked.now())
        .await?;
    one(&asked, id.0, StatusCode::OK).await
}

/// Removes a template.
pub(super) async fn remove(asked: Asked) -> Result<Response, Problem> {
    let kept = own(&asked).await?;
    let store = &asked.context.store;
    store.remove_stationery(&kept.shelf, kept.item.id).await?;
    Ok(ok(&json!({"removed": kept.item.id.0})))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Render {
    /// Absent: the sample values.
    variables: Option<Map<String, Value>>,
    /// Absent: the present version.
    version: Option<u64>,
}

/// Fills a template in, and sends nothing.
pub(super) async fn render(asked: Asked) -> Result<Response, Problem> {
    let Render { variables, version } = asked.json().await?;
    let kept = stationery::find::<Template>(&asked, asked.element(0), version).await?;
    let variables = variables.unwrap_or_else(|| kept.paper.sample.clone());
    let filled = send::fill(&asked.context, kept.paper.texts(), variables).await?;
    Ok(ok(&json!({
        "subject": filled.subject,
        "html": filled.html,
        "plain": filled.text,
        "version": kept.item.version,
    })))
}

/// Fills a template in for a message. The message keeps the texts that it has.
pub(super) async fn fill_in(
    asked: &Asked,
    template: u64,
    variables: Map<String, Value>,
    draft: &mut Draft,
) -> Result<(), Problem> {
    let found = stationery::find::<Template>(asked, &template.to_string(), None).await;
    let found = found
        .map_err(|_| Problem::field("template", format!("there is no template {template}")))?;
    let filled = send::fill(&asked.context, found.paper.texts(), variables).await?;
    if draft.subject.is_empty() {
        draft.subject = filled.subject;
    }
    if draft.text.is_empty() && draft.html.is_empty() {
        (draft.text, draft.html) = (filled.text, filled.html);
    }
    Ok(())
}
