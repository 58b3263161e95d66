//! Reports that came in. A tenant sees those about its domains.

use std::{cmp::Reverse, collections::BTreeSet, fmt};

use postrider_smtp::Domain;
use postrider_store::OTHER_SOURCES;
use serde_json::{Value, json};

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect, list_page, list_value},
    parameters::Query,
    problem::Problem,
    value,
};
use crate::op::{
    Single as _,
    received::{
        List, ReceivedReportItem, ReceivedSelection, ReceivedType, Remove, RemoveAll,
        ReportSumItem, Show, Sums, SumsBy,
    },
    time_or_date,
};

impl Asked {
    /// The domains whose reports the caller sees. None: all.
    fn report_domains(&self) -> Option<BTreeSet<String>> {
        let domains = self.access.reach.domains.iter();
        let domains = domains.map(|it| it.ascii().to_owned()).collect();
        self.access.is_tenant().then_some(domains)
    }

    /// The type of the path, for reports with a text.
    fn received(&self, text: Option<&str>) -> Result<ReceivedSelection, Problem> {
        let kind = self.element(0);
        let found = ReceivedType::named(kind);
        let missing = || Problem::missing(kind, format!("there are no reports {kind}"));
        Ok(ReceivedSelection {
            kind: Some(found.ok_or_else(missing)?),
            text: text.map(str::to_owned),
            domains: self.report_domains(),
            readable: false,
        })
    }

    /// The number of a report: `ID` or `ID_EXPIRES`.
    fn received_id(&self) -> Result<u64, Problem> {
        let text = self.element(1);
        let id = text.split_once('_').map_or(text, |(id, _)| id);
        id.parse().map_err(|_| self.no_received())
    }

    fn no_received(&self) -> Problem {
        let id = self.element(1);
        Problem::missing(id, format!("there is no report {id}"))
    }

    fn of_received<T>(&self, found: Result<T, crate::AdminError>) -> Result<T, Problem> {
        found.map_err(|error| match error.code {
            crate::Code::NotFound => self.no_received(),
            _ => error.into(),
        })
    }
}

/// The text that a query looks for. Clients send it under either name.
fn text(query: &Query) -> Option<&str> {
    query.text("text").or_else(|| query.text("filter"))
}

/// The id of a report in lists: `ID_EXPIRES`, with the time in Unix seconds.
fn id(item: &ReceivedReportItem) -> String {
    let expires = item.expires.parse::<jiff::Timestamp>();
    let expires = expires.map_or(0, jiff::Timestamp::as_second);
    format!("{}_{expires}", item.id)
}

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let whole = asked.query.flag("values");
    let max = if whole { OBJECTS_MAX } else { NAMES_MAX };
    let paging = Paging::newest_first(&asked.query, max)?;
    let mut filter = asked.received(text(&asked.query))?;
    // Clients that get ids open each, and expect a report in it.
    filter.readable = !whole;
    // The store counts the reports of a kind, without other conditions.
    let is_whole_kind = filter.text.is_none() && filter.domains.is_none();
    let known = match filter.kind.filter(|_| is_whole_kind) {
        Some(kind) => {
            let store = &asked.context.store;
            let count = store.count_received_reports(kind.into(), filter.readable);
            Some(count.await?)
        }
        None => None,
    };
    let list = List {
        filter,
        after: paging.after.filter(|_| known.is_some()),
        order: paging.order,
        limit: None,
    };
    let show = |item: &ReceivedReportItem| match whole {
        true => value(item),
        false => Ok(json!(id(item))),
    };
    let key = |item: &ReceivedReportItem| item.id;
    list_page(&asked.context, list, &paging, known, (key, show)).await
}

pub(in super::super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let show = Show {
        id: asked.received_id()?,
        filter: asked.received(None)?,
    };
    let shown = show.answer(&asked.context).await;
    Ok(Answer::Data(value(&asked.of_received(shown)?)?))
}

pub(in super::super) async fn remove(asked: Asked) -> Result<Answer, Problem> {
    let remove = Remove {
        id: asked.received_id()?,
        filter: asked.received(None)?,
    };
    let removed = remove.answer(&asked.context).await;
    asked.of_received(removed)?;
    Ok(Answer::Data(json!(true)))
}

pub(in super::super) async fn remove_all(asked: Asked) -> Result<Answer, Problem> {
    let query = asked.query.bulk(&["text", "filter"])?;
    let filter = asked.received(text(&query))?;
    let done = RemoveAll { filter }.answer(&asked.context).await?;
    Ok(Answer::Data(json!(done.removed > 0)))
}

/// The place of a sum in a list, and the cursor that leads behind it: `MESSAGES,NAME,FROM`. It does
/// not change when other sums come and go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SumPlace {
    /// What could not be told apart stands last.
    is_rest: bool,
    /// 0 if the list is by names only.
    messages: Reverse<u64>,
    /// The day, the network or the reporter.
    name: String,
    /// The domain of the author.
    from: String,
}

impl SumPlace {
    /// `by_name`: messages do not count. Days are always by name.
    fn of(item: &ReportSumItem, by_name: bool) -> Self {
        let names = [&item.day, &item.source, &item.reporter];
        let name = names.into_iter().flatten().next();
        let by_name = by_name || item.day.is_some();
        Self {
            is_rest: item.is_rest(),
            messages: Reverse(if by_name { 0 } else { item.messages }),
            name: name.cloned().unwrap_or_default(),
            from: item.from.clone().unwrap_or_default(),
        }
    }

    fn read(cursor: &str) -> Option<Self> {
        let (messages, names) = cursor.split_once(',')?;
        let (name, from) = names.split_once(',')?;
        Some(Self {
            is_rest: name == OTHER_SOURCES,
            messages: Reverse(messages.parse().ok()?),
            name: name.to_owned(),
            from: from.to_owned(),
        })
    }
}

impl fmt::Display for SumPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            messages: Reverse(messages),
            name,
            from,
            ..
        } = self;
        write!(f, "{messages},{name},{from}")
    }
}

pub(in super::super) async fn sums(asked: Asked) -> Result<Answer, Problem> {
    let query = &asked.query;
    let paging = Paging::new(query, OBJECTS_MAX)?;
    let domain = query
        .text("domain")
        .map(|domain| match Domain::parse(domain) {
            Ok(domain) => domain.ascii().to_owned(),
            Err(_) => domain.to_owned(),
        });
    let sums = Sums {
        domain,
        domains: asked.report_domains(),
        since: query.read("after", time_or_date)?,
        before: query.read("before", time_or_date)?,
        by: query.read("by", SumsBy::named)?.unwrap_or_default(),
    };
    let all = |_: &ReportSumItem| true;
    let found = collect(&asked.context, sums, NAMES_MAX, &all).await?;
    let by_name = query.text("sort").is_some();
    let places = found.items.into_iter().map(|item| {
        let place = SumPlace::of(&item, by_name);
        (place.clone(), (place, item))
    });
    let mut places: Vec<_> = places.collect();
    places.sort_by(|(one, _), (other, _)| one.cmp(other));
    let after = query.read("cursor", SumPlace::read)?;
    let part = paging.part(places, after, found.more);
    let next = part.items.last().filter(|_| part.goes_on);
    let next = next.map(|(place, _)| place.to_string());
    let items = part.items.iter().map(|(_, item)| value(item));
    let items: Vec<Value> = items.collect::<Result<_, Problem>>()?;
    Ok(Answer::Data(list_value(items, part.total, part.more, next)))
}

/// The shapes of the answers, for the description.
#[cfg(test)]
pub(in super::super) mod shapes {
    use utoipa::ToSchema;

    use crate::op::received::ReceivedReportItem;

    /// The id of a report as `ID_EXPIRES`, or with `values` the report.
    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    #[serde(untagged)]
    pub(in super::super::super) enum ReceivedReportEntry {
        Id(String),
        Report(Box<ReceivedReportItem>),
    }
}
