//! The parts of a message that lists show.

use mail_parser::decoders::html::html_to_text;
use postrider_smtp::mime::Limits;
use postrider_store::{Summary, Time};

use super::{NameAddress, Parsed, Structure, parse};

/// How many bytes of a message are read for its summary.
pub const SUMMARY_READ: u64 = READ as u64;
const READ: usize = 32 << 10;

/// The most bytes of each part. All together are about 1 KiB.
const ADDRESS_MAX: usize = 254;
const NAME_MAX: usize = 96;
const TO_MAX: usize = 192;
const SUBJECT_MAX: usize = 192;
const MESSAGE_ID_MAX: usize = 250;
const PREVIEW_MAX: usize = 160;

/// How much HTML is turned into text for a preview.
const HTML_READ: usize = 8 << 10;

/// The summary of a message, of which the beginning is enough: at most [`SUMMARY_READ`] bytes are
/// read.
#[must_use]
pub fn summary(beginning: &[u8], limits: Limits) -> Summary {
    let beginning = beginning.get(..READ).unwrap_or(beginning);
    summary_of(parse(beginning, limits))
}

fn summary_of(parsed: Parsed) -> Summary {
    let from = parsed.from.into_iter().next().unwrap_or_default();
    let date = parsed.date.and_then(|date| date.parse().ok());
    let html = || html_to_text(cut(&parsed.html, HTML_READ));
    let preview = match parsed.text.trim().is_empty() {
        true => one_line(&html(), PREVIEW_MAX),
        false => one_line(&parsed.text, PREVIEW_MAX),
    };
    let message_id = parsed.message_id;
    Summary {
        from_addr: cut(&from.address, ADDRESS_MAX).to_owned(),
        from_name: one_line(&from.name, NAME_MAX),
        to: recipients(&parsed.to),
        subject: one_line(&parsed.subject, SUBJECT_MAX),
        date: date.map(|date: jiff::Timestamp| Time::from(date)),
        // A part of one would name another message.
        message_id: Some(message_id)
            .filter(|id| id.len() <= MESSAGE_ID_MAX)
            .unwrap_or_default(),
        has_attachments: parsed.structure.has_attachments(),
        preview,
    }
}

/// The first recipients, as many as there is room for.
fn recipients(to: &[NameAddress]) -> Vec<String> {
    let mut room = TO_MAX;
    let mut shown = Vec::new();
    for recipient in to {
        let one = one_line(&recipient.to_string(), usize::MAX);
        let Some(rest) = room.checked_sub(one.len()) else {
            break;
        };
        room = rest;
        shown.push(one);
    }
    shown
}

/// The beginning of a text, cut between characters.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

/// The beginning of a text, with one space for each run of spaces, line ends and control
/// characters.
fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let is_gap = |c: char| c.is_whitespace() || c.is_control();
    for word in text.split(is_gap).filter(|word| !word.is_empty()) {
        let space = usize::from(!line.is_empty());
        if line.len() + space + word.len() > most {
            if line.is_empty() {
                line.push_str(cut(word, most));
            }
            break;
        }
        if space > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

impl Structure {
    /// Whether the part, or one inside it, is an attachment.
    #[must_use]
    pub fn has_attachments(&self) -> bool {
        match self.parts.is_empty() {
            true => self.is_attachment(),
            false => self.parts.iter().any(Self::has_attachments),
        }
    }

    /// Whether the part is an attachment: it says so, or it has a file name and is no picture of
    /// the HTML.
    #[must_use]
    pub fn is_attachment(&self) -> bool {
        let is_shown = self.content_disposition == "inline" || !self.content_id.is_empty();
        self.content_disposition == "attachment" || (!self.filename.is_empty() && !is_shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Summary {
        summary(text.replace('\n', "\r\n").as_bytes(), Limits::default())
    }

    #[test]
    fn the_parts_of_a_plain_message() {
        let found = of(
            "From: Ann <ann@a.example>\nTo: Bob B <bob@b.example>, c@c.example\n\
             Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nDate: Tue, 1 Dec 2026 01:00:00 +0100\n\
             Message-ID: <1@a.example>\n\n Hello\n\nyou,\tBob!\n",
        );
        let expected = Summary {
            from_addr: "ann@a.example".into(),
            from_name: "Ann".into(),
            to: vec!["Bob B <bob@b.example>".into(), "c@c.example".into()],
            subject: "Gr\u{fc}\u{df}e".into(),
            date: Some(
                "2026-12-01T00:00:00Z"
                    .parse::<jiff::Timestamp>()
                    .unwrap()
                    .into(),
            ),
            message_id: "<1@a.example>".into(),
            has_attachments: false,
            preview: "Hello you, Bob!".into(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn html_without_a_text_gives_its_words() {
        let found = of("Content-Type: text/html\n\n<style>p {}</style><p>Big <b>news</b></p>\n");
        assert_eq!(found.preview, "Big news");
    }

    #[test]
    fn attachments_are_parts_that_say_so_or_have_a_name() {
        let with = |fields: &str| {
            of(&format!(
                "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nHi\n--b\n{fields}\n\nx\n--b--\n"
            ))
            .has_attachments
        };
        for (fields, expected) in [
            (
                "Content-Type: text/plain\nContent-Disposition: attachment",
                true,
            ),
            ("Content-Type: application/pdf; name=a.pdf", true),
            (
                "Content-Type: image/png; name=a.png\nContent-ID: <i>",
                false,
            ),
            (
                "Content-Type: image/png\nContent-Disposition: inline; filename=a.png",
                false,
            ),
            ("Content-Type: text/plain", false),
        ] {
            assert_eq!(with(fields), expected, "{fields}");
        }
    }

    #[test]
    fn a_summary_is_small_whatever_the_message_says() {
        let long = "\u{e4} ".repeat(1000);
        let ids = "i".repeat(900);
        let text = format!(
            "From: {long} <{ids}@a.example>\nTo: {long} <b@b.example>, {long} <c@c.example>\n\
             Subject: {long}\nMessage-ID: <{ids}@x>\n\n{}\n",
            "w".repeat(9000)
        );
        let found = of(&text);
        let to: usize = found.to.iter().map(String::len).sum();
        let texts = [
            &found.from_addr,
            &found.from_name,
            &found.subject,
            &found.preview,
        ];
        let size: usize = texts.iter().map(|text| text.len()).sum();
        assert!(size + to + found.message_id.len() <= 1024, "{found:?}");
        assert_eq!(found.message_id, "");
        assert_eq!(found.preview, "w".repeat(160));
    }

    #[test]
    fn bytes_that_are_no_message_give_an_empty_summary() {
        for bytes in [&b""[..], b"\0\xff\r\n", b"no header"] {
            let found = summary(bytes, Limits::default());
            assert_eq!((found.from_addr, found.date), (String::new(), None));
        }
    }
}
