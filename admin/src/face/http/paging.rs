//! Lists: `page` and `limit`, or `cursor`; `sort`; and how many things match in all.

use std::marker::PhantomData;

use postrider_store::Order;
use serde_json::{Map, Value, json};

use super::{Answer, member, parameters::Query, problem::Problem};
use crate::{
    AdminError, Context,
    op::{Gone, Operation, Sink},
};

/// The most numbers or names in an answer.
pub(super) const NAMES_MAX: usize = 100_000;
/// The most objects in an answer.
pub(super) const OBJECTS_MAX: usize = 1000;
/// A count of things that match ends here.
const COUNT_MAX: u64 = 100_000;

/// The part of a list that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paging {
    pub(super) order: Order,
    /// The part begins behind the thing with this number.
    pub(super) after: Option<u64>,
    /// How many things are left out from there.
    pub(super) skip: u64,
    pub(super) limit: usize,
    pub(super) count_max: u64,
}

impl Paging {
    /// The part that a query asks for, with at most `max` things.
    pub(super) fn new(query: &Query, max: usize) -> Result<Self, Problem> {
        let given: Option<usize> = query.parsed("limit")?;
        let limit = given.filter(|limit| *limit > 0).unwrap_or(max).min(max);
        let page = query.parsed("page")?.unwrap_or(1_u64).max(1);
        let count_max = query.parsed("max-total")?.unwrap_or(COUNT_MAX);
        Ok(Self {
            order: match query.text("sort") {
                Some("-id") => Order::Descending,
                _ => Order::Ascending,
            },
            after: query.parsed("cursor")?,
            skip: (page - 1).saturating_mul(limit as u64),
            limit,
            count_max: count_max.min(COUNT_MAX),
        })
    }

    /// The same, for things that are listed newest first unless the query says otherwise.
    pub(super) fn newest_first(query: &Query, max: usize) -> Result<Self, Problem> {
        let paging = Self::new(query, max)?;
        let order = match query.text("sort") {
            None => Order::Descending,
            Some(_) => paging.order,
        };
        Ok(Self { order, ..paging })
    }

    /// The wanted part of a list that is in memory, in ascending order, as an answer.
    pub(super) fn answer(&self, list: Vec<(u64, Value)>) -> Answer {
        self.answer_with(list, false)
    }

    /// The same. `more`: the list was cut off.
    pub(super) fn answer_with(&self, list: Vec<(u64, Value)>, more: bool) -> Answer {
        self.answer_of(list, None, more)
    }

    /// The same. `total`: how many there are in all, if it is known better than by the list.
    pub(super) fn answer_of(
        &self,
        list: Vec<(u64, Value)>,
        total: Option<u64>,
        more: bool,
    ) -> Answer {
        let list = list.into_iter().map(|(id, value)| (id, (id, value)));
        let part = self.part(list.collect(), self.after, more);
        let last = part.items.last().map(|(id, _)| *id);
        let next = last.filter(|_| part.goes_on);
        let items = part.items.into_iter().map(|(_, value)| value).collect();
        let total = total.map_or(part.total, |total| total.min(self.count_max));
        Answer::Data(list_value(items, total, part.more, next))
    }

    /// The wanted part of a list that is in memory, in ascending order of keys: behind the key
    /// `after`. `more`: the list was cut off.
    pub(super) fn part<K: Ord, T>(
        &self,
        mut list: Vec<(K, T)>,
        after: Option<K>,
        more: bool,
    ) -> Part<T> {
        let total = list.len() as u64;
        if self.order == Order::Descending {
            list.reverse();
        }
        let behind = |key: &K| match (&after, self.order) {
            (None, _) => true,
            (Some(after), Order::Ascending) => key > after,
            (Some(after), Order::Descending) => key < after,
        };
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let rest = list.into_iter().filter(|(key, _)| behind(key));
        let mut rest = rest.skip(skip).map(|(_, item)| item);
        Part {
            items: rest.by_ref().take(self.limit).collect(),
            goes_on: rest.next().is_some(),
            total: total.min(self.count_max),
            more: more || total > self.count_max,
        }
    }
}

/// A part of a list.
pub(super) struct Part<T> {
    pub(super) items: Vec<T>,
    /// More items follow.
    pub(super) goes_on: bool,
    /// How many there are in all.
    pub(super) total: u64,
    /// There may be more than `total`.
    pub(super) more: bool,
}

/// A list as the data of an answer.
pub(super) fn list_value(
    items: Vec<Value>,
    total: u64,
    more: bool,
    next: Option<impl ToString>,
) -> Value {
    let mut data: Map<String, Value> = member("items", items);
    data.insert("total".to_owned(), json!(total));
    if more {
        data.insert("more".to_owned(), json!(true));
    }
    if let Some(next) = next {
        data.insert("next".to_owned(), json!(next.to_string()));
    }
    Value::Object(data)
}

/// The items of an operation, up to a number of them.
pub(in crate::face) struct Collected<T> {
    pub(in crate::face) items: Vec<T>,
    /// There are more.
    pub(super) more: bool,
}

struct Collector<'a, T> {
    collected: Collected<T>,
    wanted: &'a (dyn Fn(&T) -> bool + Sync),
    max: usize,
}

impl<T: Send> Sink<T> for Collector<'_, T> {
    async fn send(&mut self, items: Vec<T>) -> Result<(), AdminError> {
        for item in items {
            if !(self.wanted)(&item) {
                continue;
            }
            if self.collected.items.len() >= self.max {
                self.collected.more = true;
                return Err(Gone.into());
            }
            self.collected.items.push(item);
        }
        Ok(())
    }
}

/// The items of an operation that are wanted, at most `max` of them.
pub(in crate::face) async fn collect<O: Operation>(
    context: &Context,
    operation: O,
    max: usize,
    wanted: &(dyn Fn(&O::Item) -> bool + Sync),
) -> Result<Collected<O::Item>, Problem> {
    let mut collector = Collector {
        collected: Collected {
            items: Vec::new(),
            more: false,
        },
        wanted,
        max,
    };
    let result = operation.run(context, &mut collector).await;
    let collected = collector.collected;
    if collected.more {
        return Ok(collected);
    }
    result?;
    Ok(collected)
}

/// The wanted part of what an operation gives, item by item. The rest is counted only.
struct Window<'a, T, K, S> {
    paging: &'a Paging,
    key: K,
    show: S,
    /// How many there are in all, if that is known.
    known: Option<u64>,
    counted: u64,
    /// How many items are still left out.
    skip: u64,
    items: Vec<(u64, Value)>,
    goes_on: bool,
    problem: Option<Problem>,
    of: PhantomData<fn(T)>,
}

impl<T, K, S> Window<'_, T, K, S>
where
    K: Fn(&T) -> u64,
    S: Fn(&T) -> Result<Value, Problem>,
{
    const fn new(paging: &Paging, known: Option<u64>, key: K, show: S) -> Window<'_, T, K, S> {
        Window {
            paging,
            key,
            show,
            known,
            counted: 0,
            skip: paging.skip,
            items: Vec::new(),
            goes_on: false,
            problem: None,
            of: PhantomData,
        }
    }

    fn answer(self) -> Answer {
        let total = self.known.unwrap_or(self.counted);
        let shown = total.min(self.paging.count_max);
        let last = self.items.last().map(|(id, _)| *id);
        let next = last.filter(|_| self.goes_on);
        let items = self.items.into_iter().map(|(_, value)| value).collect();
        Answer::Data(list_value(items, shown, total > shown, next))
    }

    /// Nothing that comes later changes the answer.
    const fn is_done(&self) -> bool {
        let is_counted = self.known.is_some() || self.counted > self.paging.count_max;
        self.goes_on && is_counted
    }

    fn take(&mut self, item: &T) -> Result<(), Problem> {
        self.counted += 1;
        let id = (self.key)(item);
        let is_behind = self
            .paging
            .after
            .is_none_or(|after| match self.paging.order {
                Order::Ascending => id > after,
                Order::Descending => id < after,
            });
        if !is_behind {
            return Ok(());
        }
        if self.skip > 0 {
            self.skip -= 1;
        } else if self.items.len() < self.paging.limit {
            self.items.push((id, (self.show)(item)?));
        } else {
            self.goes_on = true;
        }
        Ok(())
    }
}

impl<T, K, S> Sink<T> for Window<'_, T, K, S>
where
    T: Send,
    K: Fn(&T) -> u64 + Send,
    S: Fn(&T) -> Result<Value, Problem> + Send,
{
    async fn send(&mut self, items: Vec<T>) -> Result<(), AdminError> {
        for item in &items {
            if let Err(problem) = self.take(item) {
                self.problem = Some(problem);
                return Err(Gone.into());
            }
            if self.is_done() {
                return Err(Gone.into());
            }
        }
        Ok(())
    }
}

/// The wanted part of the items of an operation, which gives them in the order of the list. Only
/// this part is kept in memory. `known`: how many items there are in all, if that is known; then
/// the operation may begin at the cursor. Otherwise they are counted.
pub(super) async fn list_page<O: Operation>(
    context: &Context,
    operation: O,
    paging: &Paging,
    known: Option<u64>,
    (key, show): (
        impl Fn(&O::Item) -> u64 + Send,
        impl Fn(&O::Item) -> Result<Value, Problem> + Send,
    ),
) -> Result<Answer, Problem> {
    let mut window = Window::new(paging, known, key, show);
    let result = operation.run(context, &mut window).await;
    if let Some(problem) = window.problem.take() {
        return Err(problem);
    }
    if !window.is_done() {
        result?;
    }
    Ok(window.answer())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(query: &str) -> Value {
        let list = (1..=5).map(|id| (id, json!(id))).collect();
        let paging = Paging::new(&Query::new(query), 1000).unwrap();
        paging.answer(list).json(true).unwrap()["data"].clone()
    }

    #[test]
    fn a_list_is_read_by_page_or_by_cursor() {
        assert_eq!(ids(""), json!({"items": [1, 2, 3, 4, 5], "total": 5}));
        assert_eq!(
            ids("limit=2"),
            json!({"items": [1, 2], "total": 5, "next": "2"})
        );
        assert_eq!(
            ids("limit=2&page=2"),
            json!({"items": [3, 4], "total": 5, "next": "4"})
        );
        assert_eq!(ids("limit=2&page=3"), json!({"items": [5], "total": 5}));
        assert_eq!(ids("limit=2&page=9"), json!({"items": [], "total": 5}));
        assert_eq!(
            ids("limit=3&cursor=2"),
            json!({"items": [3, 4, 5], "total": 5})
        );
        assert_eq!(
            ids("limit=2&sort=-id&cursor=4"),
            json!({"items": [3, 2], "total": 5, "next": "2"})
        );
        assert_eq!(
            ids("limit=1&max-total=3"),
            json!({"items": [1], "total": 3, "more": true, "next": "1"})
        );
        assert_eq!(ids("limit=x&page=0"), ids(""));
    }

    /// The answer over numbers that come one after the other, and how many of them were looked at.
    async fn window(query: &str, known: Option<u64>, numbers: &[u64]) -> (Value, usize) {
        let paging = Paging::newest_first(&Query::new(query), 1000).unwrap();
        let show = |number: &u64| Ok(json!(number));
        let mut window = Window::new(&paging, known, |number: &u64| *number, show);
        let mut looked_at = 0;
        for number in numbers {
            looked_at += 1;
            if window.send(vec![*number]).await.is_err() {
                break;
            }
        }
        let answer = window.answer().json(true).unwrap()["data"].clone();
        (answer, looked_at)
    }

    /// The list that is in memory as a whole gives the same, but for what is not read.
    #[tokio::test]
    async fn a_window_keeps_the_wanted_part_only() {
        let (down, up) = ([5, 4, 3, 2, 1], [1, 2, 3, 4, 5]);
        for query in [
            "",
            "limit=2",
            "limit=2&page=2",
            "limit=2&page=3",
            "limit=2&page=9",
            "limit=3&cursor=4",
            "limit=2&cursor=3",
            "limit=1&max-total=3",
            "max-total=3",
        ] {
            let query = format!("{query}&sort=-id");
            assert_eq!(window(&query, None, &down).await.0, ids(&query), "{query}");
            let query = query.replace("-id", "id");
            assert_eq!(window(&query, None, &up).await.0, ids(&query), "{query}");
        }
        // All are counted, up to the limit.
        assert_eq!(window("limit=1", None, &down).await.1, 5);
        assert_eq!(window("limit=1&max-total=3", None, &down).await.1, 4);
        // If their number is known, nobody looks at more than is wanted.
        let (answer, looked_at) = window("limit=1", Some(5), &down).await;
        assert_eq!(answer, json!({"items": [5], "total": 5, "next": "5"}));
        assert_eq!(looked_at, 2);
        let (answer, _) = window("limit=1&max-total=3", Some(5), &down).await;
        assert_eq!(
            answer,
            json!({"items": [5], "total": 3, "more": true, "next": "5"})
        );
        // The operation began behind the cursor.
        let (answer, _) = window("limit=2&cursor=3", Some(5), &down[3..]).await;
        assert_eq!(answer, json!({"items": [2, 1], "total": 5}));
    }
}
