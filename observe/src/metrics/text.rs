//! The page of /metrics: the text format of Prometheus, version 0.0.4.

use std::fmt::Write;

use super::{Metrics, Value, process::Process};

/// The media type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Metrics {
    /// The text of all metrics as they are now.
    #[must_use]
    pub fn text(&self, process: &Process) -> String {
        // 1,600 series of some 70 bytes.
        let mut page = String::with_capacity(128 * 1024);
        self.each(process, &mut |definition, series| {
            let name = definition.name;
            let help = definition.help;
            let kind = definition.kind.name();
            let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            series.each(&mut |values, value| {
                let labels: Vec<(&str, &str)> = definition
                    .labels
                    .iter()
                    .copied()
                    .zip(values.iter().copied())
                    .collect();
                match value {
                    Value::Counter(value) | Value::Gauge(value) => {
                        line(&mut page, name, "", &labels, value);
                    }
                    Value::Histogram(buckets, sum) => {
                        let mut count = 0;
                        for (bound, within) in buckets {
                            count += within;
                            let bound = bound.map_or("+Inf".to_owned(), |bound| bound.to_string());
                            let mut labels = labels.clone();
                            labels.push(("le", &bound));
                            line(&mut page, name, "_bucket", &labels, count);
                        }
                        line(&mut page, name, "_sum", &labels, sum);
                        line(&mut page, name, "_count", &labels, count);
                    }
                }
            });
        });
        page
    }
}

fn line(
    page: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&str, &str)],
    value: impl std::fmt::Display,
) {
    page.push_str(name);
    page.push_str(suffix);
    let mut separator = '{';
    for (label, text) in labels {
        page.push(separator);
        page.push_str(label);
        page.push_str("=\"");
        text.chars().for_each(|c| match c {
            '\\' => page.push_str("\\\\"),
            '"' => page.push_str("\\\""),
            '\n' => page.push_str("\\n"),
            c => page.push(c),
        });
        page.push('"');
        separator = ',';
    }
    if separator == ',' {
        page.push('}');
    }
    let _ = writeln!(page, " {value}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::{By, HookResult, Listener, Reason, Service};

    fn series(metrics: &Metrics) -> usize {
        let page = metrics.text(&Process::default());
        page.lines().filter(|line| !line.starts_with('#')).count()
    }

    fn names(begin: &str, count: usize) -> Vec<String> {
        (0..count).map(|at| format!("{begin}{at}")).collect()
    }

    /// The number of series is bounded, whatever the configuration has.
    #[test]
    fn the_page_is_bounded() {
        let metrics = Metrics::default();
        let usual = series(&metrics);
        assert!((1000..1700).contains(&usual), "{usual}");
        let page = metrics.text(&Process::default());
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let values: Vec<_> = lines
            .filter(|line| !line.starts_with("postrider_build_info"))
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        assert!(values.is_empty(), "{values:?}");
        metrics.set_hooks(&names("hook", 1000));
        let ends = names("name", 1000).into_iter().map(|name| (name, 7));
        metrics.set_certificates(&ends.collect::<Vec<_>>());
        metrics.set_listed(&names("zone", 100), &names("address", 100), &[]);
        let most = series(&metrics);
        assert!(most < 3_000, "{most}");
        // What others send makes none.
        metrics
            .hook_calls_total
            .named(["of nobody"])
            .with(HookResult::Error)
            .inc();
        metrics.dnsbl_listed.named(["a", "b"]).set(1);
        assert_eq!(series(&metrics), most);
    }

    #[test]
    fn what_is_beyond_the_limits_is_told_as_other() {
        let metrics = Metrics::default();
        let mut ends: Vec<_> = (0..300)
            .map(|at| (format!("name{at}"), 1000 - at))
            .collect();
        ends.push(("name0".to_owned(), 2000));
        metrics.set_certificates(&ends);
        let listed = [("z0", "a0"), ("z20", "a1"), ("z1", "a20")];
        let listed = listed.map(|(zone, address)| (zone.to_owned(), address.to_owned()));
        metrics.set_listed(&names("z", 21), &names("a", 21), &listed);
        let page = metrics.text(&Process::default());
        let name = "\npostrider_certificate_expiry_timestamp_seconds";
        for expected in [
            format!("{name}{{name=\"name0\"}} 1000\n"),
            format!("{name}{{name=\"name255\"}} 745\n"),
            format!("{name}{{name=\"other\"}} 701\n"),
        ] {
            assert!(page.contains(&expected), "{expected}");
        }
        let lines = page
            .lines()
            .filter(|line| line.starts_with("postrider_dnsbl_listed{"));
        let ones: Vec<_> = lines.filter(|line| line.ends_with(" 1")).collect();
        let line = |zone: &str, ip: &str| {
            format!("postrider_dnsbl_listed{{zone=\"{zone}\",ip=\"{ip}\"}} 1")
        };
        assert_eq!(
            ones,
            [line("z0", "a0"), line("z1", "other"), line("other", "a1")]
        );
        // Who gets off a list is off.
        metrics.set_listed(&names("z", 21), &names("a", 21), &[]);
        let page = metrics.text(&Process::default());
        assert!(!page.contains(&line("z0", "a0")));
    }

    #[test]
    fn values_are_where_they_belong() {
        let metrics = Metrics::default();
        metrics
            .refusals_total
            .with((Service::Smtp, Reason::Unknown))
            .inc();
        metrics.connections.with(Listener::Https).set(3);
        let accepted = metrics.accept_duration_seconds.with(By::Smtp);
        accepted.observe(Duration::from_millis(2));
        accepted.observe(Duration::from_secs(60));
        metrics.set_hooks(&["a\"b\\\n".to_owned()]);
        metrics.hook_down.named(["a\"b\\\n"]).set(1);
        let page = metrics.text(&Process::default());
        for expected in [
            "# HELP postrider_connections Open connections of clients.\n\
             # TYPE postrider_connections gauge\n\
             postrider_connections{service=\"smtp\"} 0\n",
            "\npostrider_connections{service=\"https\"} 3\n",
            "\npostrider_refusals_total{service=\"smtp\",reason=\"unknown\"} 1\n",
            "\npostrider_accept_duration_seconds_bucket{by=\"smtp\",le=\"0.001\"} 0\n\
             postrider_accept_duration_seconds_bucket{by=\"smtp\",le=\"0.0025\"} 1\n",
            "\npostrider_accept_duration_seconds_bucket{by=\"smtp\",le=\"10\"} 1\n\
             postrider_accept_duration_seconds_bucket{by=\"smtp\",le=\"+Inf\"} 2\n\
             postrider_accept_duration_seconds_sum{by=\"smtp\"} 60.002\n\
             postrider_accept_duration_seconds_count{by=\"smtp\"} 2\n",
            "\npostrider_hook_down{hook=\"a\\\"b\\\\\\n\"} 1\n",
            "\n# TYPE postrider_hold_rules gauge\npostrider_hold_rules 0\n",
        ] {
            assert!(page.contains(expected), "{expected}");
        }
    }
}
