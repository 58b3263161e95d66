//! All pages in one table: each can be used by everyone, and has a picture.

use super::{Look, browse, itself, page::Page, pictures};

/// Visits pages one after the other, each in every look, and gives what keeps some people from
/// using them. `pages` has a name and a path for each.
pub async fn barriers(base: &str, pages: &[(&str, &str)]) -> Vec<String> {
    let mut barriers = Vec::new();
    for look in [Look::default(), Look::DARK_PHONE] {
        browse(base, look, async |page| {
            for (name, path) in pages {
                page.go(path).await;
                let found = page.barriers().await;
                barriers.extend(found.iter().map(|one| format!("{name}, {look:?}: {one}")));
            }
        })
        .await;
    }
    barriers
}

/// Makes a picture of each page in every look: `NAME.png`, `NAME-phone.png`.
pub async fn take_pictures(base: &str, pages: &[(&str, &str)]) {
    for (look, end) in [(Look::default(), ""), (Look::DARK_PHONE, "-phone")] {
        browse(base, look, async |page: &Page| {
            for (name, path) in pages {
                page.go(path).await;
                page.picture(&pictures().join(format!("{name}{end}.png")))
                    .await;
            }
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "it needs Chromium and axe-core"]
async fn barriers_are_found() {
    let base = itself::serve().await;
    let none = barriers(&base, &[("good", "/good")]).await;
    assert!(none.is_empty(), "{none:#?}");
    let found = barriers(&base, &[("barriers", "/barriers")]).await;
    let found = found.join("\n");
    for barrier in [
        "label (critical): Form elements must have labels at [\"#nameless\"]",
        "px wider than the window",
        "Tab never reaches <button>One</button>",
    ] {
        assert!(found.contains(barrier), "{barrier}: {found}");
    }
}
