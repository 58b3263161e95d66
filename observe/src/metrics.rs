//! The metrics of a server: one list, the handles that count, and the texts made of them.
//!
//! | module | content |
//! |---|---|
//! | `list` | all metrics, with their help texts and labels |
//! | `labels` | the values of labels, as closed enums |
//! | `cell` | counters, gauges and histograms |
//! | `family` | the cells of one metric, one for each combination of its labels |
//! | `text` | the page of `/metrics` |
//! | `point` | values as JSON has them, and how they grew |
//! | `process` | what the system says of the process |
//! | `docs` | docs/metrics.md, and what other files of docs name |
//!
//! A label has a fixed set of values. So a cell has a fixed place in an array: to count is to add
//! to one atomic number, with no hash and no lock, and all series of a server take less than 30
//! KiB. All of them stand at 0 from the start, since a rate misses the first event of a series that
//! was not there before. Values that the configuration names (hooks, certificates) are limited in
//! number.
//!
//! Libraries for metrics keep the names of labels in each series, and look a series up by hash or
//! lock. That is why the few lines of this module are not one of them.

mod cell;
#[cfg(test)]
mod docs;
mod family;
mod labels;
mod list;
mod point;
mod process;
mod text;

pub use cell::{Age, Buckets, Counter, Fast, Gauge, Histogram, Powers, Slow};
pub use family::{Family, Label, Labels, Named, Series, Value};
pub use labels::*;
pub use list::{Build, Definition, Kind, Metrics, OpenConnection, OpenStream};
pub use point::{Point, PointValue};
pub use process::{PROCESS, Process};
pub use text::CONTENT_TYPE;
