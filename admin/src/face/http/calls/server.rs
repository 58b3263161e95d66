//! The server itself: the configuration and the certificates read again, the audit log,
//! the counts of refusals.

use std::collections::BTreeMap;

use postrider_config::Dynamic;
use serde_json::{Map, Value, json};

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect},
    problem::Problem,
    value,
};
use crate::op::{
    Single,
    audit::{AuditItem, List, RELOAD},
    certificates,
    refusals::{self, RefusalItem},
};

pub(in super::super) async fn reload(asked: Asked) -> Result<Answer, Problem> {
    let context = &asked.context;
    let (path, statics) = (context.domains.path().to_owned(), context.statics.clone());
    let read = tokio::task::spawn_blocking(move || Dynamic::load(&path, &statics)).await;
    let mut errors = Map::new();
    match read.map_err(Problem::internal)? {
        Err(found) => {
            for error in &found {
                let kind = match error.key.as_str() {
                    "" => "parse",
                    _ => "build",
                };
                let fault = json!({"type": kind, "error": error.to_string()});
                errors.insert(error.key.clone(), fault);
            }
        }
        Ok(_) if asked.query.flag("dry-run") => {}
        Ok(_) => {
            let put = context.change_domains(RELOAD, "domains.conf", |_| Ok(()));
            if let Err(error) = put.await {
                let fault = json!({"type": "build", "error": error.text});
                errors.insert(error.field.unwrap_or_default(), fault);
            }
        }
    }
    Ok(Answer::Data(json!({"warnings": {}, "errors": errors})))
}

pub(in super::super) async fn reload_certificates(asked: Asked) -> Result<Answer, Problem> {
    let reload = certificates::Reload {
        check_only: asked.query.flag("dry-run"),
    };
    let read = reload.answer(&asked.context).await?;
    let faults = |texts: BTreeMap<String, String>| -> Map<String, Value> {
        let faults = texts.into_iter();
        let faults = faults.map(|(key, text)| (key, json!({"type": "build", "error": text})));
        faults.collect()
    };
    let (warnings, errors) = (faults(read.warnings), faults(read.errors));
    Ok(Answer::Data(
        json!({"warnings": warnings, "errors": errors}),
    ))
}

pub(in super::super) async fn audit(asked: Asked) -> Result<Answer, Problem> {
    let query = &asked.query;
    let given = |name: &str| query.text(name).map(str::to_owned);
    let list = List {
        who: given("who"),
        operation: given("operation"),
        target: given("target"),
        since: query.time("after")?,
        before: query.time("before")?,
        limit: None,
    };
    let paging = Paging::newest_first(query, OBJECTS_MAX)?;
    let mut found = collect(&asked.context, list, NAMES_MAX, &|_: &AuditItem| true).await?;
    // The operation gives the newest first.
    found.items.reverse();
    let list = found
        .items
        .iter()
        .map(|entry| Ok((entry.id, value(entry)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, found.more))
}

pub(in super::super) async fn refusals(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let list = refusals::List {
        all: asked.query.flag("all"),
    };
    let any = |_: &RefusalItem| true;
    let found = collect(&asked.context, list, OBJECTS_MAX, &any).await?;
    let list = (1..).zip(&found.items);
    let list = list.map(|(number, item)| Ok((number, value(item)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, found.more))
}

/// The shapes of the answers, for the description.
#[cfg(test)]
pub(in super::super) mod shapes {
    use std::collections::BTreeMap;

    use utoipa::ToSchema;

    /// The outcome of reading the configuration again.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(in super::super::super) struct Reloaded {
        warnings: BTreeMap<String, Fault>,
        /// By key. With errors nothing changes.
        errors: BTreeMap<String, Fault>,
    }

    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Fault {
        /// `parse` or `build`.
        #[serde(rename = "type")]
        kind: String,
        error: String,
    }
}
