//! docs/metrics.md is made of the list, and the files beside it name only what is in the list.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use super::{Definition, Kind, Metrics, Process, family::Series};

const INTRO: &str = "\
# Metrics

Prometheus reads the metrics at `/metrics`, at the ports of the management API and at that of
`metrics_http`. Who may read them is a matter of the network: `metrics.allow` in `postrider.conf`.
[operations.md](operations.md) says what to watch, [alerts.yml](alerts.yml) has alerts for
Prometheus, and [dashboard.json](dashboard.json) a dashboard for Grafana.

The management API has the same metrics as JSON, at `/api/telemetry/metrics` and as a stream at
`/api/telemetry/metrics/live`. There the labels are summed. The id of a metric is its name with
`postrider.` in the place of `postrider_`, and without `_total`.

Each series is there from the start, with the value 0. Labels have fixed values, and no client and
no message can make another one. Only names of the configuration are not fixed: 32 hooks, 256 names
of certificates, 16 zones and 16 addresses of ours. What is beyond that counts as `other`.
";

fn docs(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", name]
        .iter()
        .collect()
}

/// The values of each label, in order. Empty for names of the configuration.
fn values(definition: &Definition, series: &dyn Series) -> Vec<(&'static str, Vec<String>)> {
    let labels = definition.labels.iter();
    let mut all: Vec<(&'static str, Vec<String>)> =
        labels.map(|label| (*label, Vec::new())).collect();
    series.each(&mut |texts, _| {
        for ((_, known), text) in all.iter_mut().zip(texts) {
            if !known.iter().any(|it| it == text) {
                known.push((*text).to_owned());
            }
        }
    });
    all
}

/// The values of labels whose series begin with names of the configuration.
fn named(metrics: &Metrics) {
    metrics.set_hooks(&["NAME".to_owned()]);
    metrics.set_certificates(&[("NAME".to_owned(), 0)]);
    metrics.set_listed(&["ZONE".to_owned()], &["IP".to_owned()], &[]);
}

fn cell(name: &str, label: &str, values: &[String]) -> String {
    let values: Vec<&str> = match name {
        // They are those of the program that makes this page.
        "postrider_build_info" => Vec::new(),
        _ => values.iter().map(String::as_str).collect(),
    };
    match values[..] {
        [] => format!("`{label}`"),
        ["NAME" | "ZONE" | "IP"] => format!("`{label}`: by configuration"),
        _ => format!("`{label}`: {}", values.join(" ")),
    }
}

fn document() -> String {
    let metrics = Metrics::default();
    named(&metrics);
    let mut text = INTRO.to_owned();
    text.push_str("\n| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    let process = Process::read();
    metrics.each(&process, &mut |definition, series| {
        let labels = values(&definition, series).into_iter();
        let Definition {
            name, kind, help, ..
        } = definition;
        let labels: Vec<String> = labels
            .map(|(label, values)| cell(name, label, &values))
            .collect();
        let (kind, labels) = (kind.name(), labels.join("; "));
        text.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    });
    text
}

#[test]
fn the_documentation_has_all_metrics() {
    let (path, text) = (docs("metrics.md"), document());
    if std::env::var_os("POSTRIDER_BLESS").is_some() {
        fs::write(path, &text).unwrap();
        return;
    }
    assert!(
        fs::read_to_string(path).unwrap() == text,
        "docs/metrics.md is not what the list says; run with POSTRIDER_BLESS=1"
    );
}

#[test]
fn names_follow_the_rules_of_prometheus() {
    let definitions = Metrics::definitions();
    let mut names = BTreeSet::new();
    for Definition {
        name, kind, help, ..
    } in definitions
    {
        assert!(names.insert(name), "{name} is there twice");
        assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let times = name.contains("duration") || name.contains("age");
        assert!(
            !times || name.ends_with("_seconds") || name.contains("messages"),
            "{name}"
        );
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
    }
}

/// The selectors of metrics in a text: the name, and the conditions in braces.
fn selectors(text: &str) -> Vec<(String, String)> {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut found = Vec::new();
    for begin in ["postrider_", "process_"] {
        for (at, _) in text.match_indices(begin) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(part) {
                continue;
            }
            let rest = &text[at..];
            let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
            let (name, behind) = rest.split_at(end);
            let braces = behind.strip_prefix('{').and_then(|it| it.split_once('}'));
            let conditions = braces.map_or("", |(conditions, _)| conditions);
            found.push((name.to_owned(), conditions.replace("\\\"", "\"")));
        }
    }
    found
}

#[test]
fn alerts_and_the_dashboard_name_what_there_is() {
    let metrics = Metrics::default();
    named(&metrics);
    let mut known = BTreeMap::new();
    metrics.each(&Process::default(), &mut |definition, series| {
        let values: BTreeMap<_, _> = values(&definition, series).into_iter().collect();
        known.insert(definition.name, (definition.kind, values));
    });
    for (file, least) in [
        (docs("alerts.yml"), 22),
        (docs("dashboard.json"), 30),
        (docs("../testdata/prometheus/alerts.yml"), 44),
    ] {
        let text = fs::read_to_string(&file).unwrap();
        let selectors = selectors(&text);
        assert!(selectors.len() >= least, "{}", file.display());
        for (name, conditions) in selectors {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .filter(|base| known.get(base).is_some_and(|it| it.0 == Kind::Histogram));
            let (_, labels) = known
                .get(base.unwrap_or(&name))
                .unwrap_or_else(|| panic!("{} names {name}, which there is not", file.display()));
            for condition in conditions.split(',').filter(|it| !it.trim().is_empty()) {
                let (label, value) = condition.split_once('=').unwrap();
                let (label, value) = (label.trim(), value.trim_matches(['~', '"', ' ']));
                if ["job", "instance", "le"].contains(&label) {
                    continue;
                }
                let values = labels.get(label);
                let values = values.unwrap_or_else(|| panic!("{name} has no label {label}"));
                let by_configuration = ["hook", "name", "zone", "ip"].contains(&label);
                assert!(
                    by_configuration || values.iter().any(|it| it == value),
                    "{name} has no {label} {value}"
                );
            }
        }
    }
}
