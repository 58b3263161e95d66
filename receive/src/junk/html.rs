//! The text of HTML, as far as the filter needs it: words, texts in the place of pictures, and the
//! targets of links.
//!
//! The reader takes any text in one pass. It knows no document: it tells tags from text, leaves out
//! styles and scripts, and puts a space where a tag separates words.

/// Elements within a word. All others separate words.
const WITHIN: [&str; 20] = [
    "a", "abbr", "b", "big", "code", "del", "em", "font", "i", "ins", "mark", "s", "small", "span",
    "strike", "strong", "sub", "sup", "u", "wbr",
];
/// Elements whose content is no text.
const HIDDEN: [&str; 2] = ["script", "style"];
/// The most bytes of a character reference.
const REFERENCE_MAX: usize = 10;

/// The parts of an HTML text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Html {
    /// The text, with the texts that stand in the place of pictures behind it.
    pub(super) text: String,
    /// The targets of links and pictures, as they are written.
    pub(super) targets: Vec<String>,
}

/// Reads HTML.
pub(super) fn read(html: &str) -> Html {
    let mut found = Html::default();
    let mut instead = String::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        push_text(&mut found.text, text);
        rest = match tag.strip_prefix("<!--") {
            Some(comment) => behind(comment, "-->"),
            None => read_tag(tag, &mut found, &mut instead),
        };
    }
    push_text(&mut found.text, rest);
    found.text.push_str(&instead);
    found
}

/// The text behind a mark. Empty without it.
fn behind<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark).map_or("", |(_, rest)| rest)
}

/// Reads what begins with `<`, and gives the text behind it.
fn read_tag<'a>(tag: &'a str, found: &mut Html, instead: &mut String) -> &'a str {
    let inside = tag.strip_prefix('<').unwrap_or(tag);
    if !inside.starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c)) {
        found.text.push('<');
        return inside;
    }
    let closing = inside.starts_with('/');
    let inside = inside.trim_start_matches('/');
    let end = inside.find(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/');
    let (name, mut rest) = inside.split_at(end.unwrap_or(inside.len()));
    let name = name.to_ascii_lowercase();
    if !WITHIN.contains(&name.as_str()) {
        found.text.push(' ');
    }
    while let Some((attribute, behind)) = next_attribute(rest) {
        rest = behind;
        match attribute.name.to_ascii_lowercase().as_str() {
            "alt" | "title" => {
                instead.push(' ');
                push_text(instead, attribute.value);
            }
            "href" | "src" | "action" | "background" => {
                let mut target = String::new();
                push_text(&mut target, attribute.value);
                found.targets.push(target);
            }
            _ => {}
        }
    }
    let rest = rest.trim_start_matches(is_between);
    let rest = rest.strip_prefix('>').unwrap_or(rest);
    match HIDDEN.iter().find(|hidden| **hidden == name) {
        Some(hidden) if !closing => behind_element(rest, hidden),
        _ => rest,
    }
}

/// The text from the end tag of an element on.
fn behind_element<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some((_, tag)) = rest.split_once("</") {
        let is_it = tag
            .get(..name.len())
            .is_some_and(|tag| tag.eq_ignore_ascii_case(name));
        if is_it {
            return behind(tag, ">");
        }
        rest = tag;
    }
    ""
}

/// What stands between attributes.
const fn is_between(c: char) -> bool {
    c.is_ascii_whitespace() || c == '/'
}

#[derive(Debug)]
struct Attribute<'a> {
    name: &'a str,
    value: &'a str,
}

/// The next attribute of a tag, and the text behind it. None at the end of the tag.
fn next_attribute(text: &str) -> Option<(Attribute<'_>, &str)> {
    let text = text.trim_start_matches(is_between);
    if text.is_empty() || text.starts_with('>') {
        return None;
    }
    // The first character belongs to the name, whatever it is.
    let first = text.chars().next().map_or(0, char::len_utf8);
    let ends = |c: char| c.is_ascii_whitespace() || "=>/".contains(c);
    let tail = text.get(first..).unwrap_or_default();
    let end = first + tail.find(ends).unwrap_or(tail.len());
    let (name, rest) = text.split_at(end);
    // Other white space may be a name: it would be read again for each attribute.
    let after_name = rest.trim_ascii_start();
    let Some(value) = after_name.strip_prefix('=') else {
        return Some((Attribute { name, value: "" }, rest));
    };
    let value = value.trim_ascii_start();
    for quote in ['"', '\''] {
        if let Some(quoted) = value.strip_prefix(quote) {
            let (value, rest) = quoted.split_once(quote).unwrap_or((quoted, ""));
            return Some((Attribute { name, value }, rest));
        }
    }
    let end = value.find(|c: char| c.is_ascii_whitespace() || c == '>');
    let (value, rest) = value.split_at(end.unwrap_or(value.len()));
    Some((Attribute { name, value }, rest))
}

/// Appends a text with its character references undone.
fn push_text(to: &mut String, text: &str) {
    let mut rest = text;
    while let Some((before, reference)) = rest.split_once('&') {
        to.push_str(before);
        rest = match reference_of(reference) {
            Some((letter, behind)) => {
                to.push(letter);
                behind
            }
            None => {
                to.push('&');
                reference
            }
        };
    }
    to.push_str(rest);
}

/// The character of a reference, and the text behind it.
fn reference_of(text: &str) -> Option<(char, &str)> {
    let end = text.bytes().take(REFERENCE_MAX).position(|b| b == b';')?;
    let (name, rest) = text.split_at_checked(end)?;
    let rest = rest.get(1..)?;
    let letter = match name.strip_prefix('#') {
        Some(number) => {
            let number = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(number.ok()?)?
        }
        None => match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            // Zero-width signs hide words from filters.
            "shy" | "zwnj" | "zwj" => '\u{ad}',
            "" => return None,
            _ if name.bytes().all(|b| b.is_ascii_alphanumeric()) => ' ',
            _ => return None,
        },
    };
    Some((letter, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(html: &str, text: &str, targets: &[&str]) {
        let found = read(html);
        let words: Vec<&str> = found.text.split_whitespace().collect();
        assert_eq!(words.join(" "), text, "{html:?}");
        assert_eq!(found.targets, targets, "{html:?}");
    }

    #[test]
    fn tags_separate_words_unless_they_stand_within_one() {
        check("<p>one<br>two</p><p>three</p>", "one two three", &[]);
        check("V<b>ia</b><SPAN class=x>g</span>ra", "Viagra", &[]);
        check("<td>a</td><td>b</td>", "a b", &[]);
        check("a < b and c", "a < b and c", &[]);
    }

    #[test]
    fn comments_styles_and_scripts_are_no_text() {
        check("V<!-- x > y -->iagra", "Viagra", &[]);
        check("a<style>p { color: red }</STYLE >b", "a b", &[]);
        check("a<script>if (1 < 2) '</b>'</script>b", "a b", &[]);
        check("a<!doctype html>b", "a b", &[]);
        check("a<!-- never closed", "a", &[]);
        check("a<style>never closed", "a", &[]);
    }

    #[test]
    fn attributes_give_texts_and_targets() {
        check(
            "<a href=\"http://x.example/?a=1&amp;b=2\">go</a>",
            "go",
            &["http://x.example/?a=1&b=2"],
        );
        check(
            "<img src='//y.example/p.png' alt=\"Best &quot;offer&quot;\"/>now",
            "now Best \"offer\"",
            &["//y.example/p.png"],
        );
        check(
            "<a href = http://z.example/ x>a</a>",
            "a",
            &["http://z.example/"],
        );
        check("<img alt>b<img =alt>", "b", &[]);
        check("<a href=\"never closed", "", &["never closed"]);
    }

    #[test]
    fn references_are_undone() {
        check(
            "fr&#101;&#x65; &amp; &auml;x &nope &;",
            "free & x &nope &;",
            &[],
        );
        check("&#xd800; &#99999999;", "&#xd800; &#99999999;", &[]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(html in "[<>/!\"'=&;#a-z \u{e4}-]{0,80}") {
            let found = read(&html);
            prop_assert!(found.text.len() <= 2 * html.len() + 2);
        }
    }
}
