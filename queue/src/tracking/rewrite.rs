//! The text of a tracked message: its HTML parts, with other links and an image at the end.
//!
//! Signed and encrypted messages stay as they are, also those that the author signed for DKIM: a
//! change would break them. Plain text and attachments stay as they are.

use std::cell::Cell;

use lol_html::{RewriteStrSettings, element, end, html_content::ContentType, rewrite_str};
use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders, PartType};
use postrider_smtp::{convert, field};

use super::Track;

/// The most bytes of an HTML part that is rewritten.
const HTML_MAX: usize = 1 << 20;
/// The most links that are rewritten in a message.
const LINKS_MAX: u16 = 500;
/// The longest URL that is tracked.
const URL_MAX: usize = 2000;

/// Makes the link with a number that leads to a URL.
type Make<'a> = &'a dyn Fn(u16, &str) -> String;

/// The text of a tracked message. None: it stays as it is.
pub(super) fn rewrite(text: &[u8], track: Track, make: Make<'_>) -> Option<Vec<u8>> {
    let message = MessageParser::default().parse(text)?;
    if is_protected(&message) {
        return None;
    }
    let numbers = Cell::new(0);
    let (mut out, mut done) = (Vec::with_capacity(text.len() + text.len() / 4), 0);
    for part in &message.parts {
        let Some((header, body, end)) = html_place(part, done) else {
            continue;
        };
        let PartType::Html(html) = &part.body else {
            continue;
        };
        let Some(html) = rewritten_html(html, track, &numbers, make) else {
            continue;
        };
        out.extend_from_slice(text.get(done..header)?);
        out.extend(header_for_utf8(text.get(header..body)?));
        let encoded = convert::quoted_printable(html.as_bytes());
        out.extend_from_slice(encoded.strip_suffix(b"\r\n").unwrap_or(&encoded));
        if text.get(body..end)?.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        done = end;
    }
    if done == 0 {
        return None;
    }
    out.extend_from_slice(text.get(done..)?);
    Some(out)
}

/// Whether a change would break a signature, or the message can't be read.
fn is_protected(message: &Message<'_>) -> bool {
    let header = message.parts.first().map(|part| part.headers.as_slice());
    let mut names = header.unwrap_or_default().iter().map(|it| it.name.as_str());
    let is_signed = names.any(|name| name.eq_ignore_ascii_case("DKIM-Signature"));
    is_signed
        || message.parts.iter().any(|part| {
            part.content_type().is_some_and(|kind| {
                let subtype = kind.subtype().unwrap_or_default().to_ascii_lowercase();
                matches!(
                    subtype.as_str(),
                    "signed"
                        | "encrypted"
                        | "pkcs7-mime"
                        | "x-pkcs7-mime"
                        | "pgp-encrypted"
                        | "pgp-signature"
                        | "pkcs7-signature"
                )
            })
        })
}

/// Where an HTML part that people read begins, where its body begins, and where it ends. None: the
/// part is another one, or it begins before `done`.
fn html_place(part: &MessagePart<'_>, done: usize) -> Option<(usize, usize, usize)> {
    let PartType::Html(html) = &part.body else {
        return None;
    };
    let is_attached = part
        .content_disposition()
        .is_some_and(|it| it.is_attachment());
    if is_attached || part.is_encoding_problem || html.len() > HTML_MAX {
        return None;
    }
    let place = |offset: u32| usize::try_from(offset).ok();
    let (header, body, end) = (
        place(part.offset_header)?,
        place(part.offset_body)?,
        place(part.offset_end)?,
    );
    (done <= header && header < body && body <= end).then_some((header, body, end))
}

/// The header section of a part whose body is now quoted-printable in UTF-8, with the empty line.
fn header_for_utf8(section: &[u8]) -> Vec<u8> {
    let is_replaced = |written: &&[u8]| {
        field::Field::read(written).is_some_and(|it| {
            it.is("Content-Type") || it.is("Content-Transfer-Encoding") || it.is("Content-MD5")
        })
    };
    let fields = field::written(section).filter(|written| !is_replaced(written));
    let mut header: Vec<u8> = fields.flatten().copied().collect();
    header.extend_from_slice(
        b"Content-Type: text/html; charset=utf-8\r\n\
          Content-Transfer-Encoding: quoted-printable\r\n\r\n",
    );
    header
}

/// HTML with other links, and with an image at its end. None: it stays as it is.
fn rewritten_html(html: &str, track: Track, numbers: &Cell<u16>, make: Make<'_>) -> Option<String> {
    let image = format!(
        "<img src=\"{}\" alt=\"\" width=\"1\" height=\"1\" style=\"border:0\">",
        make(0, "")
    );
    let changed = Cell::new(false);
    let is_placed = Cell::new(!track.opens);
    let mut settings = RewriteStrSettings::new().with_strict(false);
    if track.clicks {
        settings =
            settings.append_element_content_handler(element!("a[href], area[href]", |element| {
                let href = element.get_attribute("href").unwrap_or_default();
                let Some(url) = tracked_url(&href) else {
                    return Ok(());
                };
                let number = numbers.get() + 1;
                if number > LINKS_MAX {
                    return Ok(());
                }
                numbers.set(number);
                changed.set(true);
                element.set_attribute("href", &make(number, &url))?;
                Ok(())
            }));
    }
    if track.opens {
        settings = settings.append_element_content_handler(element!("body", |element| {
            if !is_placed.replace(true) {
                changed.set(true);
                element.append(&image, ContentType::Html);
            }
            Ok(())
        }));
        settings = settings.append_document_content_handler(end!(|end| {
            if !is_placed.replace(true) {
                changed.set(true);
                end.append(&image, ContentType::Html);
            }
            Ok(())
        }));
    }
    let rewritten = rewrite_str(html, settings).ok()?;
    changed.get().then_some(rewritten)
}

/// The URL of a link that is tracked.
fn tracked_url(href: &str) -> Option<String> {
    let url = unescaped(href.trim());
    let lower = url.get(..8).unwrap_or(&url).to_ascii_lowercase();
    let is_web = lower.starts_with("http://") || lower.starts_with("https://");
    let fine = is_web && url.len() <= URL_MAX && !url.contains(char::is_control);
    fine.then_some(url)
}

/// An attribute without the references to characters that URLs have in HTML.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let reference = after.split_once(';').and_then(|(name, after)| {
            let letter = match name {
                "amp" | "AMP" => Some('&'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                "lt" => Some('<'),
                "gt" => Some('>'),
                _ => {
                    let number = name.strip_prefix('#')?;
                    let number = match number.strip_prefix(['x', 'X']) {
                        Some(hex) => u32::from_str_radix(hex, 16),
                        None => number.parse(),
                    };
                    number.ok().and_then(char::from_u32)
                }
            };
            Some((letter?, after))
        });
        match reference {
            Some((letter, after)) => {
                out.push(letter);
                rest = after;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: Track = Track {
        opens: true,
        clicks: true,
    };

    fn make(number: u16, url: &str) -> String {
        format!("https://t.example/t/{number}-{}", url.len())
    }

    fn rewritten(text: &str, track: Track) -> Option<String> {
        let text = rewrite(text.as_bytes(), track, &make)?;
        Some(String::from_utf8(text).unwrap())
    }

    /// The HTML of a message, decoded.
    fn html(text: &str) -> String {
        let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
        parsed.body_html(0).unwrap().into_owned()
    }

    const IMAGE: &str = "<img src=\"https://t.example/t/0-0\" alt=\"\" width=\"1\" height=\"1\" style=\"border:0\">";

    #[test]
    fn links_and_an_image_lead_to_us() {
        let text = "Subject: x\r\nContent-Type: text/html; charset=iso-8859-1\r\n\
            MIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
            <body>=E4 <a class=3D\"b\" href=3D'https://x.example/?a=3D1&amp;b=3D2'>x</a>\r\n\
            <a href=3D\"mailto:a@x.example\">m</a> <a href=3D\"#top\">t</a></body>\r\n";
        let got = rewritten(text, BOTH).unwrap();
        assert!(got.starts_with(
            "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        ));
        assert!(got.ends_with("\r\n"), "{got}");
        let shown = html(&got);
        let expected = format!(
            "<body>\u{e4} <a class=\"b\" href=\"https://t.example/t/1-26\">x</a>\r\n\
             <a href=\"mailto:a@x.example\">m</a> <a href=\"#top\">t</a>{IMAGE}</body>\r\n"
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn only_the_wanted_part_changes() {
        let text = "Content-Type: text/html\r\n\r\n<a href=\"http://x.example\">x</a>\r\n";
        let opens = Track {
            clicks: false,
            ..BOTH
        };
        let got = html(&rewritten(text, opens).unwrap());
        let expected = format!("<a href=\"http://x.example\">x</a>\r\n{IMAGE}\r\n");
        assert_eq!(got, expected);
        let clicks = Track {
            opens: false,
            ..BOTH
        };
        let got = html(&rewritten(text, clicks).unwrap());
        assert_eq!(got, "<a href=\"https://t.example/t/1-16\">x</a>\r\n");
        let none = "Content-Type: text/html\r\n\r\n<a href=\"/x\">x</a>\r\n";
        assert_eq!(rewritten(none, clicks), None);
    }

    #[test]
    fn the_other_parts_of_a_message_stay() {
        let attached = "--b\r\nContent-Type: text/html\r\n\
            Content-Disposition: attachment; filename=a.html\r\n\r\n\
            <a href=\"http://x.example\">x</a>\r\n";
        let before = "From: a@x.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n\
            --b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n\
            --c\r\n\r\nSee http://x.example\r\n--c\r\n";
        let after = format!("\r\n--c--\r\n{attached}--b--\r\nepilogue\r\n");
        let part = "Content-Type: text/html; charset=utf-8\r\nContent-ID: <1@x>\r\n\r\n\
            <p><a href=\"http://x.example\">\u{e4}</a></p>";
        let got = rewritten(&format!("{before}{part}{after}"), BOTH).unwrap();
        let middle = got.strip_prefix(before).unwrap();
        let middle = middle
            .strip_suffix(&after)
            .unwrap_or_else(|| panic!("{got}"));
        assert!(middle.starts_with("Content-ID: <1@x>\r\nContent-Type: text/html"));
        assert!(middle.contains("t/1-16") && middle.contains("t/0-0"));
    }

    #[test]
    fn what_is_protected_stays() {
        let html = "<a href=\"http://x.example\">x</a>\r\n";
        for text in [
            format!("DKIM-Signature: v=1\r\nContent-Type: text/html\r\n\r\n{html}"),
            format!(
                "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\
                 Content-Type: text/html\r\n\r\n{html}--b\r\n\
                 Content-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n"
            ),
            "Content-Type: application/pkcs7-mime\r\n\r\nx\r\n".to_owned(),
            format!("Content-Type: text/plain\r\n\r\n{html}"),
            format!("Subject: none\r\n\r\n{html}"),
            format!("Content-Type: message/rfc822\r\n\r\nContent-Type: text/html\r\n\r\n{html}"),
        ] {
            assert_eq!(rewritten(&text, BOTH), None, "{text}");
        }
    }

    #[test]
    fn links_have_a_limit() {
        let link = "<a href=\"http://x.example\">x</a>\r\n";
        let text = format!("Content-Type: text/html\r\n\r\n{}", link.repeat(600));
        let got = html(&rewritten(&text, BOTH).unwrap());
        assert_eq!(got.matches("https://t.example/t/").count(), 501);
        assert_eq!(got.matches("http://x.example").count(), 100);
        let long = format!("https://x.example/{}", "a".repeat(URL_MAX));
        assert_eq!(tracked_url(&long), None);
        assert_eq!(
            tracked_url("HTTPS://X.example"),
            Some("HTTPS://X.example".into())
        );
        assert_eq!(tracked_url("javascript:x"), None);
    }

    #[test]
    fn references_to_characters_are_read() {
        for (text, expected) in [
            ("a&amp;b&#38;c&#x26;d", "a&b&c&d"),
            ("a&b=c&copy=1", "a&b=c&copy=1"),
            ("&lt;&gt;&quot;&apos;&#39;", "<>\"''"),
            ("&#xffffffff;&;&", "&#xffffffff;&;&"),
        ] {
            assert_eq!(unescaped(text), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "(Content-Type: (text/html|multipart/mixed; boundary=b)\r\n)?(\r\n)?[ -~\r\n<>=\"\u{e4}-]{0,200}(--b\r\n)?(<a href=\"http://x\">)?") {
            if let Some(got) = rewrite(text.as_bytes(), BOTH, &make) {
                prop_assert!(MessageParser::default().parse(&got).is_some());
            }
        }
    }
}
