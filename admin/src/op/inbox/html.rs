//! The HTML of a message, so that a browser can show it in a frame: images of the message are in
//! it, and links open another window. The policy of the frame keeps scripts and fetches away; what
//! is taken out here would lead the frame elsewhere.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use lol_html::{RewriteStrSettings, element, html_content::Element, rewrite_str};
use percent_encoding::percent_decode_str;
use postrider_webhook::message;
use serde::{Deserialize, Serialize};

use super::{
    super::Single,
    Entry, InboxId, limits,
    message::{files, path},
    missing, read,
};
use crate::{AdminError, Context};

/// The most bytes of images in the HTML of a message, before base64.
const IMAGES_MAX: usize = 16 << 20;
/// The schemes of links that stay.
const SCHEMES: [&str; 4] = ["http:", "https:", "mailto:", "tel:"];

/// Gives the HTML of a message for a frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Html {
    /// The message.
    pub id: InboxId,
    /// Only of this account; None: of any account.
    #[serde(default)]
    pub account: Option<String>,
}

/// HTML for a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownHtml {
    /// The HTML; empty: the message has none.
    pub html: String,
}

impl Single for Html {
    type Output = ShownHtml;

    async fn answer(self, context: &Context) -> Result<ShownHtml, AdminError> {
        let entry = Entry::find(context, self.id, self.account.as_deref()).await?;
        let content = entry.content(context).await?;
        let limits = limits(context);
        let shown = read(content, move |bytes| {
            let parsed = message::parse(bytes, limits);
            let mut images = HashMap::new();
            let mut room = IMAGES_MAX;
            for file in files(&parsed.structure) {
                let is_image = file.content_type.starts_with("image/");
                if !is_image || file.content_id.is_empty() || !parsed.html.contains("cid:") {
                    continue;
                }
                let image = path(&file.part).and_then(|path| message::part(bytes, &path, limits));
                let Some(image) = image.filter(|image| image.len() <= room) else {
                    continue;
                };
                room -= image.len();
                let url = format!(
                    "data:{};base64,{}",
                    file.content_type,
                    STANDARD.encode(&image)
                );
                images.insert(file.content_id, url);
            }
            rewritten(&parsed.html, &images)
        });
        let html = shown.await?.ok_or_else(|| missing(self.id))?;
        Ok(ShownHtml { html })
    }
}

/// The HTML with images by their ids, and links that open another window.
fn rewritten(html: &str, images: &HashMap<String, String>) -> String {
    let settings = RewriteStrSettings::new()
        .with_strict(false)
        .append_element_content_handler(element!("a, area", |element| {
            link(element);
            Ok(())
        }))
        .append_element_content_handler(element!("img, image, input, [background]", |element| {
            for name in ["src", "background"] {
                let value = element.get_attribute(name).unwrap_or_default();
                if let Some(image) = by_id(&value, images) {
                    let _ = element.set_attribute(name, image);
                }
            }
            Ok(())
        }))
        .append_element_content_handler(element!(
            "script, base, meta[http-equiv], iframe, frame, object, embed, link",
            |element| {
                element.remove();
                Ok(())
            }
        ));
    // Only memory can be missing. Then the frame is empty.
    rewrite_str(html, settings).unwrap_or_default()
}

fn link(element: &mut Element<'_, '_>) {
    let Some(url) = element.get_attribute("href") else {
        return;
    };
    let url: String = url.chars().filter(|it| !it.is_control()).collect();
    let url = url.trim().to_ascii_lowercase();
    if url.starts_with('#') {
        return;
    }
    if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        element.remove_attribute("href");
        return;
    }
    for (name, value) in [("target", "_blank"), ("rel", "noopener noreferrer")] {
        let _ = element.set_attribute(name, value);
    }
}

/// The image that a URL names by its id (RFC 2392).
fn by_id<'a>(url: &str, images: &'a HashMap<String, String>) -> Option<&'a String> {
    let (scheme, id) = url.trim().split_at_checked(4)?;
    if !scheme.eq_ignore_ascii_case("cid:") {
        return None;
    }
    let decoded = percent_decode_str(id).decode_utf8().ok()?;
    images.get(id).or_else(|| images.get(decoded.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lead_nowhere_and_have_their_images() {
        let images = [("a b@c".to_owned(), "data:image/png;base64,AA==".to_owned())];
        let images = images.into_iter().collect();
        for (html, expected) in [
            (
                "<img src=\"cid:a%20b@c\" alt=x>",
                "<img src=\"data:image/png;base64,AA==\" alt=x>",
            ),
            ("<img src='cid:other'>", "<img src='cid:other'>"),
            (
                "<td background=\"CID:a b@c\">",
                "<td background=\"data:image/png;base64,AA==\">",
            ),
            (
                "<a href=\"https://a.test\" target=_top>x</a>",
                "<a href=\"https://a.test\" target=\"_blank\" rel=\"noopener noreferrer\">x</a>",
            ),
            ("<a href=\"#top\">x</a>", "<a href=\"#top\">x</a>"),
            ("<a href=\"java\nscript:alert(1)\">x</a>", "<a>x</a>"),
            ("<a href=\"data:text/html,x\">x</a>", "<a>x</a>"),
            (
                "<base href=x><p>a<script>b</script><iframe src=x></iframe>",
                "<p>a",
            ),
            (
                "<meta http-equiv=refresh content='0;url=x'><meta charset=x>",
                "<meta charset=x>",
            ),
            ("<p>\u{e4}<i>", "<p>\u{e4}<i>"),
        ] {
            assert_eq!(rewritten(html, &images), expected, "{html}");
        }
    }
}
