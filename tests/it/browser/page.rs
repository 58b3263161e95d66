//! What a visitor does with a page and sees on it. Each step waits for what it needs.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    time::Instant,
};

use base64::Engine;
use serde_json::{Value, json};

use super::{
    Look,
    driver::{Driver, LIMIT, Refusal},
    log, xpath,
};
use crate::support::patience::patiently;

/// The Tab key (WebDriver, section 17.4.2).
pub const TAB: &str = "\u{e004}";

/// The width of a phone, in pixels.
pub const PHONE: u64 = 390;

/// A window of a browser.
#[derive(Debug)]
pub struct Page {
    pub(super) driver: Driver,
    base: String,
    pub(super) look: Look,
    /// Parts of entries of the log that are no fault in this story.
    expected: RefCell<Vec<String>>,
}

impl Page {
    /// Sets up a window for pages below `base`.
    pub(super) async fn open(driver: Driver, base: &str, look: Look) -> Self {
        if look.dark {
            let scheme = json!({"name": "prefers-color-scheme", "value": "dark"});
            let media = json!({"features": [scheme]});
            driver.devtools("Emulation.setEmulatedMedia", media).await;
        }
        let page = Self {
            driver,
            base: base.to_owned(),
            look,
            expected: RefCell::default(),
        };
        if look.narrow {
            page.resize(PHONE).await;
        }
        page
    }

    /// Gives a narrow window another width, in pixels.
    pub(super) async fn resize(&self, width: u64) {
        let screen = json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": true});
        self.driver
            .devtools("Emulation.setDeviceMetricsOverride", screen)
            .await;
    }

    /// Goes to a path, and waits until the page is loaded.
    pub async fn go(&self, path: &str) {
        self.leave_for(&format!("{}{path}", self.base)).await;
    }

    /// Goes to a page of another site.
    pub async fn leave_for(&self, url: &str) {
        let url = json!({"url": url});
        self.driver.post("/url", &url).await.unwrap();
    }

    /// Waits until parts that the page loads by itself are there.
    pub async fn settle(&self) {
        if !self.look.without_scripts {
            let loaded = "/html[not(.//*[@hx-trigger='load'])]";
            let found = self.driver.find(loaded).await.unwrap();
            assert!(!found.is_empty(), "parts of the page did not come");
        }
    }

    /// How many pixels the page is wider than the window.
    pub async fn overhang(&self) -> u64 {
        let wide = "const root = document.documentElement; \
                    return Math.max(0, root.scrollWidth - root.clientWidth)";
        self.driver.script(wide, json!([])).await.as_u64().unwrap()
    }

    /// The captions of the tables of which a part can't be seen, with the width of that part.
    pub async fn cut_tables(&self) -> Vec<String> {
        let cut = "return [...document.querySelectorAll('.wide-table')] \
                   .filter(one => one.scrollWidth > one.clientWidth) \
                   .map(one => one.querySelector('caption').innerText \
                   + ': ' + (one.scrollWidth - one.clientWidth) + ' px')";
        let cut = self.driver.script(cut, json!([])).await;
        serde_json::from_value(cut).unwrap()
    }

    /// The path of the page, with its query.
    pub async fn path(&self) -> String {
        let url = self.driver.get("/url").await.unwrap();
        let url = url.as_str().unwrap();
        url.strip_prefix(&self.base).unwrap_or(url).to_owned()
    }

    /// Waits until the path of the page begins so.
    pub async fn arrive(&self, path: &str) {
        let begun = Instant::now();
        loop {
            let at = self.path().await;
            if at.starts_with(path) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "the page is {at}, not {path}");
        }
    }

    /// The status of the answer that the page is.
    pub async fn status(&self) -> u64 {
        let script = "return performance.getEntriesByType('navigation')[0].responseStatus";
        let status = self.driver.script(script, json!([])).await;
        status.as_u64().unwrap()
    }

    /// Waits until a text is visible.
    pub async fn see(&self, text: &str) {
        let what = format!("the text {text:?}");
        self.with(&what, &xpath::text(text), async |_| Ok(())).await;
    }

    /// Waits until the page has no such text.
    pub async fn see_no(&self, text: &str) {
        let found = self.driver.find(&xpath::no_text(text)).await.unwrap();
        assert!(!found.is_empty(), "the text {text:?} is still there");
    }

    /// Waits until a row of a table has both texts.
    pub async fn see_in(&self, row: &str, text: &str) {
        let what = format!("the text {text:?} beside {row:?}");
        let rows = xpath::row_with(row, text);
        self.with(&what, &rows, async |_| Ok(())).await;
    }

    /// Waits until a live part of the page has a text. Without scripts the visitor loads the page
    /// again and again.
    pub async fn see_live(&self, text: &str) {
        match self.look.without_scripts {
            false => self.see(text).await,
            true => self.see_later(text).await,
        }
    }

    /// The same for a row of a table that has another text too.
    pub async fn see_live_in(&self, row: &str, text: &str) {
        match self.look.without_scripts {
            false => self.see_in(row, text).await,
            true => self.see_later_in(row, text).await,
        }
    }

    /// Loads the page again and again until it has a text.
    pub async fn see_later(&self, text: &str) {
        self.load_until(&format!("the text {text:?}"), &xpath::text(text))
            .await;
    }

    /// Loads the page again and again until a row of a table has both texts.
    pub async fn see_later_in(&self, row: &str, text: &str) {
        let what = format!("the text {text:?} beside {row:?}");
        self.load_until(&what, &xpath::row_with(row, text)).await;
    }

    async fn load_until(&self, what: &str, xpath: &str) {
        let script = "return document.evaluate(arguments[0], document, null, \
            XPathResult.ANY_UNORDERED_NODE_TYPE).singleNodeValue !== null";
        let begun = Instant::now();
        while self.driver.script(script, json!([xpath])).await == false {
            assert!(begun.elapsed() < LIMIT, "{what} did not come");
            self.driver.post("/refresh", &json!({})).await.unwrap();
        }
    }

    /// Presses the button with this text, or unfolds what it stands above.
    pub async fn press(&self, name: &str) {
        self.click(&format!("the button {name:?}"), &xpath::button("", name))
            .await;
    }

    /// Presses the button with this text, unless the page has another text first. Gives whether it
    /// was pressed.
    pub async fn press_unless(&self, name: &str, text: &str) -> bool {
        let button = xpath::button("", name);
        let either = format!("{button}|{}", xpath::text(text));
        let what = format!("the button {name:?}, or the text {text:?}");
        self.with(&what, &either, async |element| {
            let tag = self.driver.get(&format!("{element}/name")).await?;
            if tag != "button" {
                return Ok(false);
            }
            let click = format!("{element}/click");
            self.driver.post(&click, &json!({})).await?;
            Ok(true)
        })
        .await
    }

    /// Presses a button of the question that the page asks, in a dialog or not.
    pub async fn answer(&self, name: &str) {
        let buttons = xpath::button("//*[@id='confirm']", name);
        self.click(&format!("the answer {name:?}"), &buttons).await;
    }

    /// Presses the button with this text twice, as by a double click.
    pub async fn press_twice(&self, name: &str) {
        let what = format!("the button {name:?}");
        self.with(&what, &xpath::button("", name), async |element| {
            let id = element.trim_start_matches("/element/");
            let button = json!({super::driver::ELEMENT: id});
            let down = json!({"type": "pointerDown", "button": 0});
            let up = json!({"type": "pointerUp", "button": 0});
            let to_it = json!({"type": "pointerMove", "x": 0, "y": 0, "origin": button});
            let strokes = json!([to_it, down, up, down, up]);
            let mouse = json!({"type": "pointer", "id": "mouse", "actions": strokes});
            let actions = json!({"actions": [mouse]});
            self.driver.post("/actions", &actions).await
        })
        .await;
    }

    /// Follows the link with this text.
    pub async fn follow(&self, name: &str) {
        self.click(&format!("the link {name:?}"), &xpath::link(name))
            .await;
    }

    /// Presses a button in the row of a table that has this text.
    pub async fn press_in(&self, row: &str, name: &str) {
        let buttons = xpath::button(&xpath::row(row), name);
        self.click(&format!("the button {name:?} beside {row:?}"), &buttons)
            .await;
    }

    /// Follows the link in the row of a table that has this text.
    pub async fn follow_in(&self, row: &str) {
        let link = format!("{}//a[@href]", xpath::row(row));
        self.click(&format!("the link beside {row:?}"), &link).await;
    }

    /// Where the link with this text leads.
    pub async fn target(&self, name: &str) -> String {
        let what = format!("the link {name:?}");
        let target = self
            .with(&what, &xpath::link(name), async |element| {
                self.driver.get(&format!("{element}/property/href")).await
            })
            .await;
        target.as_str().unwrap().to_owned()
    }

    /// Ticks a box or a radio button by its label, or takes the tick away.
    pub async fn tick(&self, label: &str) {
        self.click(&format!("the box {label:?}"), &xpath::field(label))
            .await;
    }

    /// Ticks the box in the row of a table that has this text.
    pub async fn tick_row(&self, row: &str) {
        let tick = format!("{}//input[@type='checkbox']", xpath::row(row));
        self.click(&format!("the box of {row:?}"), &tick).await;
    }

    /// Writes into the field with this label, in place of what is there.
    pub async fn fill(&self, label: &str, text: &str) {
        let what = format!("the field {label:?}");
        self.with(&what, &xpath::field(label), async |element| {
            self.driver
                .post(&format!("{element}/clear"), &json!({}))
                .await?;
            let keys = json!({"text": text});
            self.driver.post(&format!("{element}/value"), &keys).await
        })
        .await;
    }

    /// Gives a file to the field with this label.
    pub async fn upload(&self, label: &str, file: &Path) {
        let found = self.driver.find(&xpath::field(label)).await.unwrap();
        let keys = json!({"text": file.to_str().unwrap()});
        let path = format!("{}/value", found.first().unwrap());
        self.driver.post(&path, &keys).await.unwrap();
    }

    /// From now on, files that the visitor saves go into this folder.
    pub async fn save_into(&self, folder: &Path) {
        let folder = json!({"behavior": "allow", "downloadPath": folder});
        self.driver
            .devtools("Browser.setDownloadBehavior", folder)
            .await;
    }

    /// Waits until a file with this name is saved as a whole. Gives its path.
    pub async fn saved(&self, folder: &Path, name: &str) -> PathBuf {
        let file = folder.join(name);
        // The browser gives a file its name at the end.
        let comes = async {
            while !file.exists() {
                tokio::task::yield_now().await;
            }
        };
        patiently(name, comes).await;
        file
    }

    /// Chooses from the list with this label.
    pub async fn choose(&self, label: &str, option: &str) {
        let options = xpath::option(label, option);
        self.click(&format!("{option:?} of the list {label:?}"), &options)
            .await;
    }

    /// The value of the field with this label.
    pub async fn value(&self, label: &str) -> String {
        let what = format!("the field {label:?}");
        let value = self
            .with(&what, &xpath::field(label), async |element| {
                self.driver.get(&format!("{element}/property/value")).await
            })
            .await;
        value.as_str().unwrap().to_owned()
    }

    /// The visible text of each cell of the table with this caption, without the head.
    pub async fn rows(&self, caption: &str) -> Vec<Vec<String>> {
        let what = format!("the table {caption:?}");
        self.with(&what, &xpath::table(caption), async |element| {
            let id = element.trim_start_matches("/element/");
            let table = json!({super::driver::ELEMENT: id});
            let script = "return Array.from(arguments[0].tBodies).flatMap(body => \
                Array.from(body.rows)).map(row => \
                Array.from(row.cells).map(cell => cell.innerText.trim()))";
            let body = json!({"script": script, "args": [table]});
            let rows = self.driver.post("/execute/sync", &body).await?;
            Ok(serde_json::from_value(rows).unwrap())
        })
        .await
    }

    /// The text of each element that a selector of CSS selects, also of those that are folded.
    pub async fn texts(&self, selector: &str) -> Vec<String> {
        let script = "return Array.from(document.querySelectorAll(arguments[0]), \
            element => element.textContent.trim())";
        let texts = self.driver.script(script, json!([selector])).await;
        serde_json::from_value(texts).unwrap()
    }

    /// The paths that the menu of the page leads to.
    pub async fn menu(&self) -> Vec<String> {
        let script = "return Array.from(document.querySelectorAll('#menu a'), \
            link => link.pathname)";
        serde_json::from_value(self.driver.script(script, json!([])).await).unwrap()
    }

    /// The paths, with their queries, that links of the page lead to on the same site.
    pub async fn links(&self) -> Vec<String> {
        let script = "return Array.from(document.querySelectorAll('main a[href]'))\
            .filter(link => link.origin === location.origin && !link.hash && !link.hasAttribute('download'))\
            .map(link => link.pathname + link.search)";
        serde_json::from_value(self.driver.script(script, json!([])).await).unwrap()
    }

    /// The visible text of the page.
    pub async fn text(&self) -> String {
        let text = self
            .driver
            .script("return document.body.innerText", json!([]));
        text.await.as_str().unwrap().to_owned()
    }

    /// Presses keys one after the other, wherever the focus is.
    pub async fn keys(&self, keys: &[&str]) {
        let strokes: Vec<_> = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]});
        self.driver.post("/actions", &actions).await.unwrap();
    }

    /// Goes into the frame with this title. What follows is about its document.
    pub async fn enter_frame(&self, frame: &str) {
        let found = self.driver.find(&xpath::frame(frame)).await.unwrap();
        let id = found.first().unwrap().trim_start_matches("/element/");
        let frame = json!({"id": {super::driver::ELEMENT: id}});
        self.driver.post("/frame", &frame).await.unwrap();
    }

    /// Goes back from a frame to the page.
    pub async fn leave_frame(&self) {
        let page = json!({"id": null});
        self.driver.post("/frame", &page).await.unwrap();
    }

    /// Says that entries of the browser's log with this part are no fault in this story.
    pub fn expect(&self, part: &str) {
        self.expected.borrow_mut().push(part.to_owned());
    }

    /// What the browser's log complains of since the last call.
    pub async fn complaints(&self) -> Vec<String> {
        let kind = json!({"type": "browser"});
        let entries = self.driver.post("/se/log", &kind).await.unwrap();
        let expected = self.expected.borrow();
        let entries = entries.as_array().unwrap().iter();
        entries
            .filter_map(log::complaint)
            .filter(|complaint| !expected.iter().any(|part| complaint.contains(part)))
            .collect()
    }

    /// Makes a picture of the whole page.
    pub async fn picture(&self, file: &Path) {
        self.capture(json!({"captureBeyondViewport": true}), file)
            .await;
    }

    /// Makes a picture of the beginning of the page, not higher than a screen.
    pub async fn picture_of_top(&self, file: &Path) {
        let height = "return Math.max(...Array.from(document.querySelectorAll('main > *'), \
                      one => one.getBoundingClientRect().bottom)) + 32";
        let height = self
            .driver
            .script(height, json!([]))
            .await
            .as_f64()
            .unwrap();
        let (width, height) = (1280, height.clamp(480.0, 1000.0));
        let screen =
            json!({"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": false});
        self.driver
            .devtools("Emulation.setDeviceMetricsOverride", screen)
            .await;
        let top = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        self.capture(json!({"captureBeyondViewport": true, "clip": top}), file)
            .await;
    }

    async fn capture(&self, what: Value, file: &Path) {
        let picture = self.driver.devtools("Page.captureScreenshot", what).await;
        let picture = picture["data"].as_str().unwrap();
        let engine = base64::engine::general_purpose::STANDARD;
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, engine.decode(picture).unwrap()).unwrap();
    }

    /// Prints what the page shows, and makes a picture of it.
    pub(super) async fn tell_of_failure(&self, file: &Path) {
        eprintln!(
            "the page {} shows:\n{}",
            self.path().await,
            self.text().await
        );
        eprintln!("the browser's log: {:#?}", self.complaints().await);
        self.picture(file).await;
        eprintln!("a picture of the page: {}", file.display());
    }

    async fn click(&self, what: &str, xpath: &str) {
        self.with(what, xpath, async |element| {
            let path = format!("{element}/click");
            self.driver.post(&path, &json!({})).await
        })
        .await;
    }

    /// Does something with the first visible element that the expression selects. Waits until there
    /// is one, and tries again if the page changes meanwhile.
    async fn with<T>(
        &self,
        what: &str,
        xpath: &str,
        act: impl AsyncFn(&str) -> Result<T, Refusal>,
    ) -> T {
        let begun = Instant::now();
        loop {
            let done = async {
                for element in self.driver.find(xpath).await? {
                    let shown = self.driver.get(&format!("{element}/displayed")).await?;
                    if shown == Value::Bool(true) {
                        return act(&element).await.map(Some);
                    }
                }
                Ok(None)
            };
            let why = match done.await {
                Ok(Some(done)) => return done,
                Ok(None) => "none is visible".to_owned(),
                Err(refusal) if refusal.passes() => refusal.message,
                Err(refusal) => panic!("{what}: {refusal:?}"),
            };
            assert!(begun.elapsed() < LIMIT, "{what} did not come: {why}");
        }
    }
}
