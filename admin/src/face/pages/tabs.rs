//! The tabs of a page about one thing.

use axum::http::Method;

use super::{asked::Asked, site};

/// A tab.
#[derive(Clone, Debug)]
pub(super) struct Tab {
    pub(super) title: &'static str,
    pub(super) url: String,
    /// The page is this one.
    pub(super) current: bool,
}

/// The tabs of a thing whose pages are below `base`. Only pages that exist have one.
pub(super) fn tabs(asked: &Asked, base: &str, titles: &[(&'static str, &'static str)]) -> Vec<Tab> {
    let path = asked.target.split('?').next().unwrap_or_default();
    let tab = |(title, rest): &(&'static str, &'static str)| {
        let rest = match *rest {
            "" => base.to_owned(),
            rest => format!("{base}/{rest}"),
        };
        let elements: Vec<&str> = rest.split('/').collect();
        site::find(asked.area, &Method::GET, &elements)?;
        let url = asked.url(&rest);
        let is_below = path.strip_prefix(&url);
        let is_first = rest == base;
        let current =
            is_below.is_some_and(|below| below.is_empty() || (below.starts_with('/') && !is_first));
        Some(Tab {
            title,
            url,
            current,
        })
    };
    titles.iter().filter_map(tab).collect()
}
