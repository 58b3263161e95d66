//! The web pages in a real browser: Debian's Chromium, driven over WebDriver.
//!
//! These tests need programs that are not ours, so they are ignored. `cargo xtask test` installs
//! the programs and runs a few of the tests, and `cargo xtask test --full` runs all. By hand:
//!
//! ```sh
//! cargo xtask test --full browser-all
//! cargo test --workspace --test it browser::itself -- --ignored
//! ```
//!
//! A test is a story: [`browse`] opens a browser, the story goes from page to page, and at the end
//! the browser's log must be clean. A step waits for what it needs, in the driver, and fails after
//! a long limit.

mod accessible;
mod bulk;
mod config;
mod destination;
mod docs;
mod driver;
mod failed;
mod first_login;
mod furnished;
mod hold_rules;
mod holder;
mod hostile;
mod inbox;
mod itself;
mod log;
mod logins;
mod new_domain;
mod page;
mod pages;
mod rotation;
mod search;
mod site;
mod suppressions;
mod webhook;
mod xpath;

use std::{env, panic::AssertUnwindSafe, path::PathBuf};

use futures_util::FutureExt;

use driver::Driver;
use page::Page;

/// What kind of browser a story runs in. The default has scripts, a light scheme and a wide window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    /// Scripts are forbidden, as a visitor can set in a browser.
    without_scripts: bool,
    /// The visitor prefers a dark scheme.
    dark: bool,
    /// The window is that of a phone: 390 px wide.
    narrow: bool,
}

impl Look {
    /// A browser that runs no scripts.
    const WITHOUT_SCRIPTS: Self = Self {
        without_scripts: true,
        dark: false,
        narrow: false,
    };
    /// Stories that need no scripts are told with them and without.
    const BOTH: [Self; 2] = [
        Self {
            without_scripts: false,
            ..Self::WITHOUT_SCRIPTS
        },
        Self::WITHOUT_SCRIPTS,
    ];
    /// A phone with a dark scheme.
    const DARK_PHONE: Self = Self {
        without_scripts: false,
        dark: true,
        narrow: true,
    };
}

/// Tells a story in a browser of its own. The paths of its pages are below `base`, for example
/// `http://127.0.0.1:8080`.
///
/// At the end the log of the browser must hold no error ([`log`]). A story that fails leaves a
/// picture of its last page.
async fn browse(base: &str, look: Look, story: impl AsyncFnOnce(&Page)) {
    let page = Page::open(Driver::start(look).await, base, look).await;
    let told = AssertUnwindSafe(async {
        story(&page).await;
        let complaints = page.complaints().await;
        assert!(complaints.is_empty(), "the browser's log: {complaints:#?}");
    });
    if let Err(panic) = told.catch_unwind().await {
        let test = std::thread::current();
        let name = test.name().unwrap_or("browser").replace("::", "-");
        page.tell_of_failure(&pictures().join(format!("{name}.png")))
            .await;
        std::panic::resume_unwind(panic);
    }
}

/// Where pictures go. `cargo xtask` sets the variable.
fn pictures() -> PathBuf {
    env::var_os("POSTRIDER_PICTURES").map_or_else(env::temp_dir, PathBuf::from)
}
