//! The texts of a message for people.
//!
//! Text and HTML are the first of their kind, depth first, without attachments. A multipart/mixed
//! may have a text before its multipart/alternative, for example a warning of a server on the way.
//! Then both are told, one after the other: the alternative is the message itself.

use mail_parser::{Message, PartType};

use super::part::PartView;

/// The most bytes of a text in a description.
pub(super) const TEXT_MAX: usize = 1 << 20;

/// The text and the HTML of a message, with LF as line end, each cut at 1 MiB.
pub(super) fn texts(message: &Message<'_>, depth: usize) -> (String, String) {
    let found = find(message, 0, depth);
    (joined(&found.text), joined(&found.html))
}

/// Parts that are texts.
#[derive(Default)]
struct Found<'a> {
    text: Vec<PartView<'a>>,
    html: Vec<PartView<'a>>,
    /// They are of a multipart/alternative.
    alternative: bool,
}

impl<'a> Found<'a> {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.html.is_empty()
    }

    /// Takes the kinds of text that are missing.
    fn complete(&mut self, other: Self) {
        if self.text.is_empty() {
            self.text = other.text;
        }
        if self.html.is_empty() {
            self.html = other.html;
        }
    }

    /// Takes all texts.
    fn append(&mut self, other: Self) {
        self.text.extend(other.text);
        self.html.extend(other.html);
        self.alternative = true;
    }
}

fn find<'a>(message: &'a Message<'a>, at: usize, depth: usize) -> Found<'a> {
    let mut found = Found::default();
    let Some(view) = PartView::new(message, at) else {
        return found;
    };
    match &view.part.body {
        PartType::Multipart(parts) if depth > 0 => {
            let alternative = view.kind() == "multipart/alternative";
            for at in parts {
                let next = find(message, *at as usize, depth - 1);
                if alternative || found.is_empty() {
                    found.alternative |= next.alternative;
                    found.complete(next);
                } else if next.alternative && !found.alternative {
                    found.append(next);
                } else if !next.is_file() {
                    found.complete(next);
                }
            }
            found.alternative |= alternative;
        }
        PartType::Multipart(_) | PartType::Message(_) => {}
        _ if view.disposition.value == "attachment" => {}
        _ => match view.kind() {
            "text/plain" | "text" => found.text.push(view),
            "text/html" => found.html.push(view),
            _ => {}
        },
    }
    found
}

impl Found<'_> {
    /// One of the parts has the name of a file.
    fn is_file(&self) -> bool {
        let mut all = self.text.iter().chain(&self.html);
        all.any(|view| view.file_name().is_some())
    }
}

/// The texts of parts, each on lines of its own.
fn joined(parts: &[PartView<'_>]) -> String {
    let mut all = String::new();
    for part in parts {
        if !all.is_empty() && !all.ends_with('\n') {
            all.push('\n');
        }
        all.push_str(&part.text().replace("\r\n", "\n"));
        if all.len() > TEXT_MAX {
            break;
        }
    }
    let mut end = TEXT_MAX.min(all.len());
    // Not within a character.
    while !all.is_char_boundary(end) {
        end -= 1;
    }
    all.truncate(end);
    all
}
