//! HTML of strangers, made safe to show: no scripts, no forms, nothing that is loaded from
//! elsewhere.

use std::{borrow::Cow, collections::HashSet, sync::LazyLock};

use ammonia::{Builder, UrlRelative};

/// The schemes of links. A picture of the message itself has `cid`.
const LINKS: [&str; 4] = ["https", "http", "mailto", "tel"];

/// Whether pictures of other servers stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pictures {
    /// They go. Whoever loads one tells its server that the message was read.
    Removed,
    /// They stay, as the reader asks.
    Kept,
}

/// The elements of which the content goes too.
const REMOVED: [&str; 9] = [
    "script", "style", "title", "iframe", "object", "form", "svg", "math", "template",
];

static CLEANERS: LazyLock<[Builder<'static>; 2]> =
    LazyLock::new(|| [cleaner(Pictures::Removed), cleaner(Pictures::Kept)]);

fn cleaner(pictures: Pictures) -> Builder<'static> {
    let mut builder = Builder::default();
    builder
        .add_tags(["font", "center", "u"])
        .add_generic_attributes(["align", "valign", "dir", "width", "height", "bgcolor"])
        .add_tag_attributes("font", ["color", "face", "size"])
        .add_tag_attributes("table", ["border", "cellpadding", "cellspacing"])
        .rm_clean_content_tags(Vec::<&str>::new())
        .clean_content_tags(HashSet::from(REMOVED))
        .url_schemes(LINKS.into_iter().chain(["cid"]).collect())
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .strip_comments(true)
        .attribute_filter(move |element, attribute, value| {
            let is_source = matches!((element, attribute), ("img", "src"));
            let is_own = value.trim().to_ascii_lowercase().starts_with("cid:");
            match is_source {
                true if is_own || pictures == Pictures::Kept => Some(Cow::Borrowed(value)),
                true => None,
                false if is_own => None,
                false => Some(Cow::Borrowed(value)),
            }
        });
    builder
}

/// The HTML as far as it is safe.
pub(super) fn clean(html: &str, pictures: Pictures) -> String {
    let [without, with] = &*CLEANERS;
    let cleaner = match pictures {
        Pictures::Removed => without,
        Pictures::Kept => with,
    };
    cleaner.clean(html).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_runs_and_nothing_is_loaded() {
        for html in [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "<img src=https://spy.example/p.gif>",
            "<img srcset='https://spy.example/p.gif 2x'>",
            "<a href='javascript:alert(1)'>x</a>",
            "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
            "<form action=https://evil.example><input name=p></form>",
            "<style>@import url(https://spy.example/a.css)</style>",
            "<p style='background:url(https://spy.example/p.gif)'>x</p>",
            "<iframe src=https://evil.example></iframe>",
            "<svg><script>alert(1)</script></svg>",
            "<math><mtext></p><style><img src=x onerror=alert(1)>",
            "<link rel=stylesheet href=https://spy.example/a.css>",
            "<base href=https://evil.example/>",
            "<meta http-equiv=refresh content='0;url=https://evil.example'>",
            "<video src=https://spy.example/v.mp4 autoplay></video>",
            "<table background=https://spy.example/p.gif></table>",
        ] {
            let clean = clean(html, Pictures::Removed);
            for bad in [
                "script",
                "spy.example",
                "evil.example",
                "onerror",
                "javascript",
                "style",
            ] {
                assert!(!clean.contains(bad), "{html} gives {clean}");
            }
        }
    }

    #[test]
    fn text_links_and_own_pictures_stay() {
        let html = "<p>Hi <b>you</b> <a href=\"https://shop.example/\">shop</a>\
             <img src=\"cid:logo@x\" alt=\"Logo\"></p>";
        let clean = clean(html, Pictures::Removed);
        assert!(clean.contains("<b>you</b>"), "{clean}");
        assert!(clean.contains("href=\"https://shop.example/\""), "{clean}");
        assert!(clean.contains("noopener noreferrer nofollow"), "{clean}");
        assert!(clean.contains("src=\"cid:logo@x\""), "{clean}");
    }

    #[test]
    fn pictures_of_others_stay_if_the_reader_asks() {
        let html = "<img src=\"https://shop.example/a.png\">";
        assert!(clean(html, Pictures::Kept).contains("https://shop.example/a.png"));
    }
}
