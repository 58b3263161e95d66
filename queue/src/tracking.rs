//! The tracking of opened messages and followed links. It is off unless the domain of the author
//! and the message itself want it.
//!
//! A message that is tracked has a field in its top, for us alone. When it goes to another server,
//! each recipient gets a text of its own without the field, in which links lead to this server and
//! HTML ends with an image from it. What is stored stays as it came. A message for a mailbox of
//! this server is not tracked.
//!
//! - [`link`]: the signed links.
//! - [`rewrite`]: the text of one recipient.

mod link;
mod rewrite;

use bytes::Bytes;
use postrider_config::{Dynamic, Tracking};
use postrider_smtp::{
    Address,
    field::{self, Field},
};
use postrider_store::{Message, Queued, Scratch, TextWriter, Top};
use tokio::task::spawn_blocking;

pub use self::link::{TrackedLink, TrackingKey};
use crate::{Queue, deliver::Formed};

/// The field by which a message asks to be tracked.
pub const TRACK: &str = "X-Postrider-Track";

/// The largest text that is tracked. It is in memory while it is rewritten.
const TEXT_MAX: u64 = 10 << 20;

/// What of a message is tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// Whether it is opened.
    pub opens: bool,
    /// Whether its links are followed.
    pub clicks: bool,
}

impl Track {
    /// Reads the value of the field: `opens`, `clicks`, or both with a comma between them.
    ///
    /// # Errors
    /// A sentence, if the value has another word.
    pub fn parse(value: &str) -> Result<Self, String> {
        let mut track = Self::default();
        for word in value.split(',').map(str::trim) {
            match word {
                _ if word.eq_ignore_ascii_case("opens") => track.opens = true,
                _ if word.eq_ignore_ascii_case("clicks") => track.clicks = true,
                _ => return Err(format!("{TRACK} has {word:?}; give opens, clicks, or both")),
            }
        }
        Ok(track)
    }

    /// Whether nothing is tracked.
    #[must_use]
    pub const fn is_none(self) -> bool {
        !(self.opens || self.clicks)
    }

    /// The part of it that the domain of an author allows.
    #[must_use]
    pub fn allowed(self, config: &Dynamic, author: Option<&Address>) -> Self {
        let allowed = tracking_of(config, author);
        Self {
            opens: self.opens && allowed.is_some_and(|it| it.opens),
            clicks: self.clicks && allowed.is_some_and(|it| it.clicks),
        }
    }

    /// The top of a message that is tracked so.
    #[must_use]
    pub fn mark(self, top: Top) -> Top {
        let words = match (self.opens, self.clicks) {
            (false, false) => return top,
            (true, false) => "opens",
            (false, true) => "clicks",
            (true, true) => "opens, clicks",
        };
        let marked = [
            top.bytes().as_ref(),
            format!("{TRACK}: {words}\r\n").as_bytes(),
        ]
        .concat();
        Top::new(marked).unwrap_or(top)
    }

    /// What is tracked of a message with this top.
    pub(crate) fn of(top: &Top) -> Self {
        let mut fields = field::written(top.bytes()).filter_map(Field::read);
        let field = fields.find(|field| field.is(TRACK));
        let value = field.map(|field| String::from_utf8_lossy(field.value).into_owned());
        value.map_or(Self::default(), |value| {
            Self::parse(&value).unwrap_or_default()
        })
    }
}

/// The top without our field. None: it has none.
pub(crate) fn unmarked(top: &Top) -> Option<Top> {
    let is_ours = |written: &&[u8]| Field::read(written).is_some_and(|field| field.is(TRACK));
    field::written(top.bytes()).find(is_ours)?;
    let kept = field::written(top.bytes()).filter(|written| !is_ours(written));
    Top::new(kept.collect::<Vec<_>>().concat())
}

/// The settings of the domain of an author.
fn tracking_of<'a>(config: &'a Dynamic, author: Option<&Address>) -> Option<&'a Tracking> {
    let domain = config.domains.get(author?.host.domain()?)?;
    domain.tracking.as_ref()
}

impl Queue {
    /// Signs tracked links with this key from now on. Without a key nothing is tracked.
    pub fn use_tracking_key(&self, key: TrackingKey) {
        // The first one stays.
        let _ = self.tracking.set(key);
    }

    /// A tracked message as its recipient gets it. The error is ours.
    pub(crate) async fn with_tracking(
        &self,
        config: &Dynamic,
        message: &Queued,
        stored: Message,
    ) -> Result<Formed, String> {
        let top = unmarked(stored.top()).unwrap_or_default();
        let author = message.common.from.as_ref();
        let track = Track::of(&message.top).allowed(config, author);
        let plain = |text| Formed::of_one(Message::new(top.clone(), text), None);
        let text = stored.text().clone();
        let (Some(key), Some(tracking)) = (self.tracking.get(), tracking_of(config, author)) else {
            return Ok(plain(text));
        };
        if track.is_none() || text.len() > TEXT_MAX {
            return Ok(plain(text));
        }
        let whole = Message::from(text.clone()).whole().await;
        let whole = whole.map_err(|error| error.to_string())?;
        let links = Links {
            key: key.clone(),
            base: format!("https://{}/t/", tracking.host.ascii()),
            message: message.id,
        };
        let writer = self.store.text_writer();
        let _place = self.signatures.place(false).await?;
        let rewriting = spawn_blocking(move || rewritten(&whole, track, &links, writer));
        let scratch = rewriting.await.map_err(|error| error.to_string())??;
        Ok(match scratch {
            None => plain(text),
            Some(scratch) => {
                let text = scratch.text().clone();
                Formed::of_one(Message::new(top, text), Some(scratch))
            }
        })
    }
}

/// The links of one recipient's text.
struct Links {
    key: TrackingKey,
    /// What stands before the tokens.
    base: String,
    message: postrider_store::QueueId,
}

impl Links {
    /// The link with this number. Number 0 is the image, which leads nowhere.
    fn make(&self, number: u16, url: &str) -> String {
        let link = TrackedLink {
            message: self.message,
            number,
            url: url.to_owned(),
        };
        format!("{}{}", self.base, link.token(&self.key))
    }
}

/// The text with tracked links. None: it stays as it is.
fn rewritten(
    text: &Bytes,
    track: Track,
    links: &Links,
    mut writer: TextWriter,
) -> Result<Option<Scratch>, String> {
    let Some(text) = rewrite::rewrite(text, track, &|number, url| links.make(number, url)) else {
        return Ok(None);
    };
    let written = writer.write_blocking(&text);
    let scratch = written.and_then(|()| writer.into_scratch_blocking());
    scratch.map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_names_what_is_tracked() {
        let track = |opens, clicks| Ok(Track { opens, clicks });
        for (value, expected) in [
            ("opens", track(true, false)),
            (" Clicks ", track(false, true)),
            ("clicks,opens", track(true, true)),
        ] {
            assert_eq!(Track::parse(value), expected);
        }
        for wrong in ["", "opens clicks", "opens,", "all"] {
            assert!(Track::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_mark_is_read_and_taken_off() {
        let top = Top::new("Received: x\r\n".to_owned()).unwrap();
        let both = Track {
            opens: true,
            clicks: true,
        };
        let marked = both.mark(top.clone());
        assert_eq!(
            marked.bytes(),
            "Received: x\r\nX-Postrider-Track: opens, clicks\r\n"
        );
        assert_eq!(Track::of(&marked), both);
        assert_eq!(unmarked(&marked), Some(top.clone()));
        assert_eq!(unmarked(&top), None);
        assert_eq!(Track::default().mark(top.clone()), top);
        assert_eq!(Track::of(&top), Track::default());
    }
}
