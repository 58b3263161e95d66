//! Plots as SVG, each with a table of its figures.

use std::fmt::Write;

use askama::{Template, filters::HtmlSafe};

/// The size of the area in which lines are drawn.
const SIZE: (f64, f64) = (600.0, 120.0);
/// The most points of a line, and the most rows of a table.
const POINTS: usize = 240;
const ROWS: usize = 30;

/// How values of one time become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    /// They are added: they tell how much came.
    Sum,
    /// The largest counts: they tell how much there was.
    Largest,
}

/// What figures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    Milliseconds,
    Bytes,
}

impl Unit {
    fn shown(self, value: f64) -> String {
        let rounded = |value: f64| match value {
            0.0 => "0".to_owned(),
            value if value.abs() < 10.0 && value.fract() != 0.0 => format!("{value:.1}"),
            value => format!("{value:.0}"),
        };
        match self {
            Self::Count => rounded(value),
            Self::Milliseconds => format!("{} ms", rounded(value)),
            Self::Bytes => match value {
                1e9.. => format!("{:.1} GB", value / 1e9),
                1e6.. => format!("{:.0} MB", value / 1e6),
                _ => format!("{:.0} kB", value / 1e3),
            },
        }
    }
}

/// The values of a line; None where nothing is known.
pub(super) struct Series {
    pub(super) label: &'static str,
    pub(super) join: Join,
    pub(super) values: Vec<Option<f64>>,
}

/// A plot.
#[derive(Template)]
#[template(path = "admin/watch/plot.html")]
pub(super) struct Plot {
    title: &'static str,
    /// What the plot shows, for who does not see it.
    told: String,
    lines: Vec<Drawn>,
    /// The value at the top.
    top: String,
    begin: String,
    end: String,
    rows: Vec<(String, Vec<String>)>,
    /// There are no values at all.
    is_empty: bool,
}

impl HtmlSafe for Plot {}

struct Drawn {
    label: &'static str,
    /// The path in SVG.
    path: String,
    /// The sum, or the last value.
    total: String,
}

impl Plot {
    /// A plot of lines whose values belong to these times, the oldest first.
    pub(super) fn new(
        title: &'static str,
        unit: Unit,
        times: &[String],
        series: &[Series],
    ) -> Self {
        let thin: Vec<Vec<Option<f64>>> = series
            .iter()
            .map(|series| joined(&series.values, POINTS, series.join))
            .collect();
        let all = thin.iter().flatten().flatten();
        let top = all.copied().fold(0.0, f64::max);
        let lines = series.iter().zip(&thin).map(|(series, values)| Drawn {
            label: series.label,
            path: path(values, top),
            total: total(series, unit),
        });
        let lines: Vec<Drawn> = lines.collect();
        let told = lines
            .iter()
            .map(|line| format!("{} {}", line.label, line.total));
        let told = format!("{title}: {}", told.collect::<Vec<_>>().join(", "));
        let columns: Vec<Vec<Option<f64>>> = series
            .iter()
            .map(|series| joined(&series.values, ROWS, series.join))
            .collect();
        let row = |(at, time): (usize, String)| {
            let value = |column: &Vec<Option<f64>>| {
                let value = column.get(at).copied().flatten();
                value.map_or_else(|| "–".to_owned(), |value| unit.shown(value))
            };
            (time, columns.iter().map(value).collect())
        };
        let is_known = |series: &Series| series.values.iter().any(Option::is_some);
        Self {
            title,
            told,
            lines,
            top: unit.shown(top),
            begin: times.first().cloned().unwrap_or_default(),
            end: times.last().cloned().unwrap_or_default(),
            rows: ends(times, ROWS)
                .into_iter()
                .enumerate()
                .map(row)
                .rev()
                .collect(),
            is_empty: !series.iter().any(is_known),
        }
    }
}

/// How many values become one, so that there are at most so many.
fn size(count: usize, most: usize) -> usize {
    count.div_ceil(most).max(1)
}

fn joined(values: &[Option<f64>], most: usize, join: Join) -> Vec<Option<f64>> {
    let parts = values.chunks(size(values.len(), most));
    let part = |part: &[Option<f64>]| {
        let known = part.iter().flatten().copied();
        known.reduce(|one, other| match join {
            Join::Sum => one + other,
            Join::Largest => one.max(other),
        })
    };
    parts.map(part).collect()
}

/// The last time of each part.
fn ends(times: &[String], most: usize) -> Vec<String> {
    let parts = times.chunks(size(times.len(), most));
    parts.filter_map(|part| part.last().cloned()).collect()
}

fn total(series: &Series, unit: Unit) -> String {
    let mut known = series.values.iter().flatten().copied();
    match series.join {
        Join::Sum => unit.shown(known.sum()),
        Join::Largest => {
            let last = known.next_back();
            last.map_or_else(|| "unknown".to_owned(), |last| unit.shown(last))
        }
    }
}

/// The path of a line. It has gaps where nothing is known.
fn path(values: &[Option<f64>], top: f64) -> String {
    let (width, height) = SIZE;
    let step = width / (values.len().saturating_sub(1)).max(1) as f64;
    let scale = if top > 0.0 { height / top } else { 0.0 };
    let (mut path, mut pen) = (String::new(), 'M');
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else {
            pen = 'M';
            continue;
        };
        let (x, y) = (at as f64 * step, height - value * scale);
        let _ = write!(path, "{pen}{x:.1} {y:.1}");
        // A single value is a dot.
        let is_alone = pen == 'M' && values.get(at + 1).is_none_or(Option::is_none);
        if is_alone {
            path.push_str("h1");
        }
        pen = 'L';
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_gaps_and_dots() {
        let values = [Some(0.0), Some(2.0), None, Some(1.0)];
        assert_eq!(path(&values, 2.0), "M0.0 120.0L200.0 0.0M600.0 60.0h1");
        assert_eq!(path(&[], 0.0), "");
        assert_eq!(path(&[Some(0.0)], 0.0), "M0.0 120.0h1");
    }

    #[test]
    fn many_values_are_joined() {
        let values: Vec<_> = (0..7).map(|value| Some(f64::from(value))).collect();
        assert_eq!(
            joined(&values, 3, Join::Sum),
            [Some(3.0), Some(12.0), Some(6.0)]
        );
        assert_eq!(
            joined(&values, 3, Join::Largest),
            [Some(2.0), Some(5.0), Some(6.0)]
        );
        assert_eq!(joined(&[None, None], 1, Join::Sum), [None]);
        let times: Vec<String> = (0..7).map(|at| at.to_string()).collect();
        assert_eq!(ends(&times, 3), ["2", "5", "6"]);
    }

    #[test]
    fn figures_have_units() {
        for (unit, value, text) in [
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 1234.0, "1234"),
            (Unit::Milliseconds, 1.25, "1.2 ms"),
            (Unit::Bytes, 52_400_000.0, "52 MB"),
        ] {
            assert_eq!(unit.shown(value), text);
        }
    }
}
