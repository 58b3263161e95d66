//! Whether a page can be used by everyone: axe-core's rules, a narrow window, the Tab key.

use serde_json::{Value, json};

use super::page::{PHONE, Page, TAB};

/// The widths of narrow windows, in pixels: small and usual phones, tablets, and small desktops.
const WIDTHS: [u64; 4] = [320, PHONE, 768, 1000];

impl Page {
    /// What keeps some people from using the page. A sentence each. Without scripts, that is its
    /// width: the rules and the way of the focus are then those of the page with scripts.
    pub async fn barriers(&self) -> Vec<String> {
        let mut barriers = self.too_wide().await;
        if self.look.without_scripts {
            return barriers;
        }
        barriers.extend(self.broken_rules().await);
        let missed = self.missed_by_tab().await;
        barriers.extend(missed.iter().map(|one| format!("Tab never reaches {one}")));
        barriers
    }

    /// Whether the page has to be scrolled sideways. A narrow window gets several widths.
    async fn too_wide(&self) -> Vec<String> {
        if !self.look.narrow {
            return told_wide(self.overhang().await, "the window");
        }
        let mut barriers = Vec::new();
        for width in WIDTHS {
            self.resize(width).await;
            let told = told_wide(self.overhang().await, &format!("a window of {width} px"));
            barriers.extend(told);
        }
        self.resize(PHONE).await;
        barriers
    }

    /// What axe-core says. `cargo xtask test` fetches it, and names its file.
    async fn broken_rules(&self) -> Vec<String> {
        let file = std::env::var_os("POSTRIDER_AXE")
            .expect("POSTRIDER_AXE names no file; use `cargo xtask test --full browser-all`");
        let axe = std::fs::read_to_string(file).unwrap();
        self.driver.script(&axe, json!([])).await;
        let run = "const done = arguments[0]; \
                   axe.run(document, {iframes: false, resultTypes: ['violations']}) \
                   .then(found => done(found.violations), error => done(String(error)))";
        let found = self.driver.script_later(run, json!([])).await;
        let Some(found) = found.as_array() else {
            panic!("axe-core failed: {found}");
        };
        found.iter().flat_map(broken_rule).collect()
    }

    /// What can take the focus and does not get it by Tab.
    async fn missed_by_tab(&self) -> Vec<String> {
        // A group of radio buttons has one stop.
        let begin = "document.activeElement?.blur(); \
            const groups = new Set(); \
            const within = document.querySelector('dialog[open]') ?? document; \
            window.stops = Array.from(within.querySelectorAll('a[href], button, input, select, \
            textarea, summary, [tabindex]')).filter(one => !one.disabled && one.tabIndex >= 0 \
            && one.checkVisibility({visibilityProperty: true})) \
            .filter(one => one.type != 'radio' || !groups.has(one.name) && groups.add(one.name)); \
            window.reached = new Set(); \
            addEventListener('focusin', event => reached.add(event.target)); \
            return stops.length";
        let stops = self.driver.script(begin, json!([])).await;
        let stops = usize::try_from(stops.as_u64().unwrap()).unwrap();
        // Dates have several stops each, and frames take some too.
        self.keys(&vec![TAB; stops * 2 + 20]).await;
        let end = "return stops.filter(one => !reached.has(one) && one.type != 'radio') \
                   .map(one => one.outerHTML.slice(0, 200))";
        let missed = self.driver.script(end, json!([])).await;
        serde_json::from_value(missed).unwrap()
    }
}

fn told_wide(overhang: u64, window: &str) -> Vec<String> {
    let told = format!("the page is {overhang} px wider than {window}");
    (overhang > 0).then_some(told).into_iter().collect()
}

/// A sentence for each place where a rule is broken: its weight, the rule, the place, the help.
fn broken_rule(rule: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let places = rule["nodes"].as_array().unwrap();
    places
        .iter()
        .map(|place| {
            format!(
                "{} ({}): {} at {}: {}",
                text(&rule["id"]),
                text(&rule["impact"]),
                text(&rule["help"]),
                place["target"],
                text(&place["html"]),
            )
        })
        .collect()
}
