//! A bar of what passed and what failed.

use askama::{Template, filters::HtmlSafe};

use super::super::shown::Count;

/// A bar, and its figures in words.
#[derive(Template)]
#[template(
    source = r#"{% if percent.is_empty() %}<span class="soft">none yet</span>{% else %}<span class="share"><svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{{ percent }} passed"><rect class="bad" width="100" height="8"/><rect class="good" width="{{ width }}" height="8"/></svg> {{ percent }}</span>{% endif %}"#,
    ext = "html"
)]
pub(super) struct Bar {
    /// The width of what passed, of 100.
    width: String,
    /// Empty: there was nothing.
    percent: String,
    pub(super) passed: Count,
    pub(super) failed: Count,
}

impl HtmlSafe for Bar {}

impl Bar {
    pub(super) fn new(passed: u64, failed: u64) -> Self {
        let all = passed + failed;
        let share = match all {
            0 => 0.0,
            all => passed as f64 * 100.0 / all as f64,
        };
        // 100 % stands for all, and 0 % for none.
        let percent = match (passed, failed) {
            (0, 0) => String::new(),
            (0, _) => "0 %".to_owned(),
            (_, 0) => "100 %".to_owned(),
            _ => format!("{:.1} %", share.clamp(0.1, 99.9)),
        };
        Self {
            width: format!("{share:.2}"),
            percent,
            passed: Count(passed),
            failed: Count(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_failures_are_seen() {
        for (passed, failed, percent) in [
            (0, 0, ""),
            (5, 0, "100 %"),
            (0, 5, "0 %"),
            (1, 2, "33.3 %"),
            (1_000_000, 1, "99.9 %"),
            (1, 1_000_000, "0.1 %"),
        ] {
            assert_eq!(Bar::new(passed, failed).percent, percent);
        }
    }
}
