//! HTTP below the methods: `answer` writes answers, `page` writes pages, `header` reads the headers
//! of requests.

pub(crate) mod answer;
pub(crate) mod header;
pub(crate) mod page;
