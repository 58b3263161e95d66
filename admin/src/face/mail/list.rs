//! Lists: a page by its number, or what follows a cursor, which is stable while the list changes.

use serde_json::{Value, json};

use crate::face::http::{parameters::Query, problem::Problem};

/// The rows of a page, and the most of them.
const ROWS: (u64, u64) = (50, 200);
/// A page beyond this row needs a cursor.
const LAST_ROW: u64 = 10_000;

/// The part of a list that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    page: u64,
    per_page: u64,
    /// Only things with a number above this one.
    after: Option<u64>,
}

/// The part of a list that is there.
pub(super) struct Part<T> {
    list: List,
    total: usize,
    next: Option<u64>,
    pub(super) rows: Vec<(u64, T)>,
}

impl List {
    pub(super) fn new(query: &Query) -> Result<Self, Problem> {
        let mut errors = Vec::new();
        let mut number = |name: &str, least: u64, most: u64| {
            let text = query.text(name)?;
            let number = text.parse().ok();
            let number = number.filter(|number| (least..=most).contains(number));
            if number.is_none() {
                let detail = match most {
                    u64::MAX => format!("must be a whole number of at least {least}"),
                    most => format!("must be a whole number from {least} to {most}"),
                };
                errors.push((name.to_owned(), detail));
            }
            number
        };
        let page = number("page", 1, u64::MAX).unwrap_or(1);
        let per_page = number("per_page", 1, ROWS.1).unwrap_or(ROWS.0);
        let after = number("cursor", 0, u64::MAX);
        if !errors.is_empty() {
            return Err(Problem::invalid(errors));
        }
        if after.is_none() && page.saturating_mul(per_page) > LAST_ROW {
            let text =
                format!("is beyond row {LAST_ROW}; go on with cursor and the next of a page");
            let errors = vec![("page".to_owned(), text)];
            return Err(Problem::invalid(errors).coded("useCursor"));
        }
        Ok(Self {
            page,
            per_page,
            after,
        })
    }

    /// The wanted part of a list, whose numbers grow.
    pub(super) fn part<T>(self, all: Vec<(u64, T)>) -> Part<T> {
        let total = all.len();
        let skip = match self.after {
            Some(_) => 0,
            None => (self.page - 1).saturating_mul(self.per_page),
        };
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let behind = |id: u64| self.after.is_none_or(|after| id > after);
        let rest = all.into_iter().filter(|(id, _)| behind(*id));
        let mut rest = rest.skip(size(skip));
        let rows: Vec<(u64, T)> = rest.by_ref().take(size(self.per_page)).collect();
        let goes_on = rest.next().is_some();
        Part {
            list: self,
            total,
            next: rows.last().map(|(id, _)| *id).filter(|_| goes_on),
            rows,
        }
    }
}

impl<T> Part<T> {
    /// The answer with these items.
    pub(super) fn answer(&self, items: Vec<Value>) -> Value {
        json!({
            "items": items,
            "total": self.total,
            "page": self.list.page,
            "per_page": self.list.per_page,
            "next": self.next.map(|id| id.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(query: &str) -> Result<(Vec<u64>, Option<u64>), (u16, String)> {
        let list = List::new(&Query::new(query)).map_err(|problem| {
            let error = problem.body()["error"].as_str().unwrap().to_owned();
            (problem.status().as_u16(), error)
        })?;
        let part = list.part((1..=120).map(|id| (id, ())).collect());
        assert_eq!(part.total, 120);
        Ok((part.rows.iter().map(|(id, ())| *id).collect(), part.next))
    }

    #[test]
    fn a_list_is_read_by_page_or_by_cursor() {
        let range = |from: u64, to: u64| (from..=to).collect::<Vec<u64>>();
        for (query, expected, next) in [
            ("", range(1, 50), Some(50)),
            ("page=3", range(101, 120), None),
            ("page=2&per_page=100", range(101, 120), None),
            ("page=9", Vec::new(), None),
            ("cursor=50", range(51, 100), Some(100)),
            ("cursor=100&per_page=20", range(101, 120), None),
            ("cursor=7&per_page=2&page=99999", range(8, 9), Some(9)),
        ] {
            assert_eq!(ids(query), Ok((expected, next)), "{query}");
        }
        for query in [
            "page=0",
            "page=x",
            "per_page=201",
            "per_page=0",
            "cursor=-1",
        ] {
            assert_eq!(ids(query), Err((422, "other".to_owned())), "{query}");
        }
        assert!(ids("page=200").is_ok());
        for query in [
            "page=201",
            "page=51&per_page=200",
            "page=18446744073709551615",
        ] {
            assert_eq!(ids(query), Err((422, "useCursor".to_owned())), "{query}");
        }
    }
}
