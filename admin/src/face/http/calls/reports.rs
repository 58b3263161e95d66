//! Reports about TLS and DMARC to other domains that wait to be sent. A tenant sees those about its
//! domains.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect, list_value},
    parameters::Query,
    problem::Problem,
    value,
};
use crate::op::{
    Single,
    reports::{self, DropAll, List, ReportFilter, ReportId, ReportItem, ReportType, Show},
};

impl Asked {
    /// The reports that a query selects.
    fn reports(&self, query: &Query) -> Result<ReportFilter, Problem> {
        let domains = self.access.reach.domains.iter();
        let domains: BTreeSet<String> = domains.map(|it| it.ascii().to_owned()).collect();
        Ok(ReportFilter {
            domain: query.text("domain").map(str::to_owned),
            kind: query.read("type", ReportType::named)?,
            domains: self.access.is_tenant().then_some(domains),
        })
    }

    /// The id of the path. A report about a domain that the caller does not see is absent.
    fn report_id(&self) -> Result<ReportId, Problem> {
        let text = self.element(0);
        let id: ReportId = text.parse().map_err(|_| self.no_report())?;
        let domain = postrider_smtp::Domain::parse(id.domain());
        let seen = domain.is_ok_and(|domain| self.access.sees_domain(&domain));
        seen.then_some(id).ok_or_else(|| self.no_report())
    }

    fn no_report(&self) -> Problem {
        let id = self.element(0);
        Problem::missing(id, format!("no report {id} waits to be sent"))
    }

    /// A report that is gone is absent, in the form of a missing message.
    fn of_report<T>(&self, found: Result<T, crate::AdminError>) -> Result<T, Problem> {
        found.map_err(|error| match error.code {
            crate::Code::NotFound => self.no_report(),
            _ => error.into(),
        })
    }
}

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let whole = asked.query.flag("values");
    let max = if whole { OBJECTS_MAX } else { NAMES_MAX };
    let paging = Paging::new(&asked.query, max)?;
    let filter = asked.reports(&asked.query)?;
    let all = |_: &ReportItem| true;
    let found = collect(&asked.context, List { filter }, NAMES_MAX, &all).await?;
    let named = found.items.into_iter().filter_map(|item| {
        let id: ReportId = item.id.parse().ok()?;
        Some((id.name(), item))
    });
    let after: Option<ReportId> = asked.query.parsed("cursor")?;
    let mut named: Vec<_> = named.collect();
    named.sort_by(|(one, _), (other, _)| one.cmp(other));
    let part = paging.part(named, after.map(|id| id.name()), found.more);
    let items = part.items.iter().map(|item| match whole {
        true => value(item),
        false => Ok(json!(item.id)),
    });
    let items: Vec<Value> = items.collect::<Result<_, _>>()?;
    let next = part.items.last().filter(|_| part.goes_on);
    let next = next.map(|item| item.id.clone());
    Ok(Answer::Data(list_value(items, part.total, part.more, next)))
}

pub(in super::super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let id = asked.report_id()?.to_string();
    let shown = Show { id }.answer(&asked.context).await;
    Ok(Answer::Data(value(&asked.of_report(shown)?)?))
}

pub(in super::super) async fn drop(asked: Asked) -> Result<Answer, Problem> {
    let id = asked.report_id()?.to_string();
    let dropped = reports::Drop { id }.answer(&asked.context).await;
    asked.of_report(dropped)?;
    Ok(Answer::Data(json!(true)))
}

pub(in super::super) async fn drop_all(asked: Asked) -> Result<Answer, Problem> {
    let query = asked.query.bulk(&["domain", "type"])?;
    let filter = asked.reports(&query)?;
    let done = DropAll { filter }.answer(&asked.context).await?;
    Ok(Answer::Data(json!(done.dropped > 0)))
}

/// The shapes of the answers, for the description.
#[cfg(test)]
pub(in super::super) mod shapes {
    use utoipa::ToSchema;

    use crate::op::reports::ReportItem;

    /// The id of a waiting report, or with `values` the report.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    #[serde(untagged)]
    pub(in super::super::super) enum ReportEntry {
        Id(String),
        Report(ReportItem),
    }
}
