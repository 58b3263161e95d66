//! Where the links of a message lead. Nothing is fetched.

use std::cell::RefCell;

use lol_html::{RewriteStrSettings, element, rewrite_str, text};
use serde::{Deserialize, Serialize};
use url::Url;

/// The most links of a message that are shown, and the most characters of the text of one.
const LINKS_MAX: usize = 1000;
const TEXT_MAX: usize = 200;

/// A link of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkItem {
    /// Where it leads, as written.
    pub url: String,
    /// What is written on it; in a text that is the URL.
    pub text: String,
    /// It is in the HTML. Otherwise it is in the text.
    pub in_html: bool,
    /// What is wrong with it, in words.
    pub problems: Vec<String>,
}

/// What HTML has.
#[derive(Debug, Default)]
pub(super) struct Looked {
    links: Vec<LinkItem>,
    /// Images without `alt`.
    pub(super) images_without_alt: usize,
    /// Elements that mail programs leave out: scripts, forms, frames.
    pub(super) left_out: Vec<&'static str>,
}

/// Looks through HTML.
pub(super) fn look(html: &str) -> Looked {
    let looked = RefCell::new(Looked::default());
    let leaves_out = |name: &'static str| {
        let looked = &looked;
        move || {
            let mut looked = looked.borrow_mut();
            if !looked.left_out.contains(&name) {
                looked.left_out.push(name);
            }
        }
    };
    let (script, form, frame) = (
        leaves_out("script"),
        leaves_out("form"),
        leaves_out("iframe"),
    );
    let settings = RewriteStrSettings::new()
        .with_strict(false)
        .append_element_content_handler(element!("a[href]", |element| {
            let mut looked = looked.borrow_mut();
            if looked.links.len() < LINKS_MAX {
                looked.links.push(LinkItem {
                    url: unescaped(&element.get_attribute("href").unwrap_or_default()),
                    in_html: true,
                    ..LinkItem::default()
                });
            }
            Ok(())
        }))
        .append_element_content_handler(text!("a[href]", |chunk| {
            let mut looked = looked.borrow_mut();
            if let Some(link) = looked.links.last_mut()
                && link.text.len() < TEXT_MAX
            {
                let text = unescaped(chunk.as_str());
                link.text.extend(text.chars().take(TEXT_MAX));
            }
            Ok(())
        }))
        .append_element_content_handler(element!("img", |element| {
            let mut looked = looked.borrow_mut();
            looked.images_without_alt += usize::from(!element.has_attribute("alt"));
            Ok(())
        }))
        .append_element_content_handler(element!("script", |_| {
            script();
            Ok(())
        }))
        .append_element_content_handler(element!("form", |_| {
            form();
            Ok(())
        }))
        .append_element_content_handler(element!("iframe", |_| {
            frame();
            Ok(())
        }));
    // What can't be read as HTML has no links that a browser would show.
    let _ = rewrite_str(html, settings);
    let mut looked = looked.into_inner();
    for link in &mut looked.links {
        link.text = link.text.split_whitespace().collect::<Vec<_>>().join(" ");
        link.problems = problems(&link.url, &link.text);
    }
    looked
}

impl Looked {
    /// The links of the HTML, and those of the text.
    pub(super) fn with_text(self, text: &str) -> Vec<LinkItem> {
        let mut links = self.links;
        for url in urls(text) {
            if links.len() >= LINKS_MAX {
                break;
            }
            if links.iter().any(|link| !link.in_html && link.url == url) {
                continue;
            }
            links.push(LinkItem {
                url: url.to_owned(),
                text: url.chars().take(TEXT_MAX).collect(),
                in_html: false,
                problems: problems(url, ""),
            });
        }
        links
    }

    pub(super) fn links(&self) -> &[LinkItem] {
        &self.links
    }
}

/// The URLs of a text.
fn urls(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| {
        letter.is_whitespace() || matches!(letter, '<' | '>' | '"' | '(' | ')' | '[' | ']')
    });
    let urls = words.filter(|word| word.starts_with("http://") || word.starts_with("https://"));
    urls.map(|url| url.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'']))
}

/// What is wrong with a link, by its URL and the text on it.
fn problems(url: &str, text: &str) -> Vec<String> {
    let url = url.trim();
    if url.starts_with('#') {
        return Vec::new();
    }
    let parsed = match Url::parse(url) {
        Ok(parsed) => parsed,
        Err(_) if url.is_empty() => return vec!["broken: it leads nowhere".to_owned()],
        Err(error) => return vec![format!("broken: {error}")],
    };
    let mut problems = Vec::new();
    match parsed.scheme() {
        "http" => problems.push("http: the way is not encrypted".to_owned()),
        "https" | "mailto" | "tel" => {}
        scheme => problems.push(format!("mail programs do not follow {scheme}:")),
    }
    if ["{{", "}}", "%7B%7B", "${"]
        .iter()
        .any(|it| url.contains(it))
    {
        problems.push("broken: a placeholder was not filled in".to_owned());
    }
    if let (Some(host), Some(said)) = (parsed.host_str(), host_of_text(text)) {
        let bare = |name: &str| name.trim_start_matches("www.").to_ascii_lowercase();
        if bare(host) != bare(&said) {
            problems.push(format!("the text says {said}, the link leads to {host}"));
        }
    }
    problems
}

/// The host that a text on a link names, if the text looks like one or like a URL.
fn host_of_text(text: &str) -> Option<String> {
    let text = text.trim();
    if text.contains(char::is_whitespace) || text.contains('@') {
        return None;
    }
    let url = match text.starts_with("http://") || text.starts_with("https://") {
        true => Url::parse(text).ok()?,
        false if text.contains('.') => Url::parse(&format!("https://{text}")).ok()?,
        false => return None,
    };
    let host = url.host_str()?;
    let last = host.rsplit('.').next()?;
    let is_name = last.len() > 1 && last.chars().all(|it| it.is_ascii_alphabetic());
    is_name.then(|| host.to_owned())
}

/// A text without the character references that links have.
fn unescaped(text: &str) -> String {
    let text = text.replace("&quot;", "\"").replace("&#39;", "'");
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&nbsp;", " ");
    text.replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_judged() {
        let html = "<p><a href=\"https://a.test/?x=1&amp;y=2\">See <b>more</b></a> \
            <a href=http://b.test>www.b.test</a> <a href='https://evil.test/'>https://bank.test/login</a> \
            <a href=''>nothing</a> <a href=\"javascript:alert(1)\">x</a> <a href='#top'>up</a>\
            <a href='https://c.test/{{token}}'>Read me.txt now</a> <img src=https://d.test/p.gif>\
            <img alt='' src=cid:x><form></form><script>1</script>";
        let looked = look(html);
        assert_eq!(looked.images_without_alt, 1);
        assert_eq!(looked.left_out, ["form", "script"]);
        let links = looked.with_text("Go to https://a.test/x. Or <http://b.test>.\n");
        let seen: Vec<_> = links
            .iter()
            .map(|it| (it.url.as_str(), it.text.as_str()))
            .collect();
        assert_eq!(seen[0], ("https://a.test/?x=1&y=2", "See more"));
        assert_eq!(
            seen[7..],
            [
                ("https://a.test/x", "https://a.test/x"),
                ("http://b.test", "http://b.test")
            ]
        );
        let problems: Vec<String> = links.iter().map(|it| it.problems.join("; ")).collect();
        assert_eq!(problems[0], "");
        assert_eq!(problems[1], "http: the way is not encrypted");
        assert_eq!(
            problems[2],
            "the text says bank.test, the link leads to evil.test"
        );
        assert_eq!(problems[3], "broken: it leads nowhere");
        assert_eq!(problems[4], "mail programs do not follow javascript:");
        assert_eq!(problems[5], "");
        assert_eq!(problems[6], "broken: a placeholder was not filled in");
        assert_eq!(problems[8], "http: the way is not encrypted");
    }
}
