//! Whether a page can be used by everyone: axe-core's rules, a narrow window, the Tab key.

use serde_json::{Value, json};

use super::page::{Page, TAB};

impl Page {
    /// What keeps some people from using the page. A sentence each.
    pub async fn barriers(&self) -> Vec<String> {
        let mut barriers = self.broken_rules().await;
        let wide = self.overhang().await;
        if wide > 0 {
            barriers.push(format!("the page is {wide} px wider than the window"));
        }
        let missed = self.missed_by_tab().await;
        barriers.extend(missed.iter().map(|one| format!("Tab never reaches {one}")));
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
            window.stops = Array.from(document.querySelectorAll('a[href], button, input, select, \
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
