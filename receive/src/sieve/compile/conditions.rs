//! Tests.

use super::{
    Compiler,
    arguments::{Arguments, TextAt},
    matcher::MatchTags,
};
use crate::sieve::{
    date::Part,
    error::{SieveError, shown},
    extension::Extension,
    parse,
    program::{BodyContent, DatePart, DateSource, EnvelopePart, Matcher, Test, TestAt, Text, Zone},
};

impl Compiler {
    pub(super) fn test(&mut self, test: parse::Test) -> Result<TestAt, SieveError> {
        let parse::Test {
            name,
            at,
            arguments,
            tests,
        } = test;
        let mut arguments = Arguments::new("test", &name, at, arguments);
        if !matches!(name.as_str(), "not" | "allof" | "anyof")
            && let Some(first) = tests.first()
        {
            return Err(first.at.error(format!(
                "The test {} takes no test. Combine tests by allof (...) or anyof (...).",
                shown(&name)
            )));
        }
        let test = match name.as_str() {
            "true" => Test::Constant(true),
            "false" => Test::Constant(false),
            "not" | "allof" | "anyof" => self.combined(&arguments, &name, tests)?,
            "exists" => {
                let names = arguments.texts("names of header fields")?;
                Test::Exists(self.texts(names)?)
            }
            "size" => size(&mut arguments)?,
            "header" => self.header(&mut arguments)?,
            "address" => self.address(&mut arguments)?,
            "envelope" => self.envelope(&mut arguments)?,
            "date" | "currentdate" => self.date(&name, &mut arguments)?,
            "body" => self.body(&mut arguments)?,
            "hasflag" => self.has_flag(&mut arguments)?,
            "string" => self.string(&mut arguments)?,
            "mailboxexists" => {
                self.uses(Extension::Mailbox, at, "\"mailboxexists\"");
                let names = arguments.texts("names of mailboxes")?;
                Test::MailboxExists(self.texts(names)?)
            }
            "specialuse_exists" => self.special_use(&mut arguments)?,
            _ => {
                return Err(at.error(format!(
                    "There is no test {}. Correct the name.",
                    shown(&name)
                )));
            }
        };
        arguments.end()?;
        Ok(TestAt { at, test })
    }

    fn combined(
        &mut self,
        arguments: &Arguments,
        name: &str,
        tests: Vec<parse::Test>,
    ) -> Result<Test, SieveError> {
        if tests.is_empty() || name == "not" && tests.len() > 1 {
            let wanted = if name == "not" {
                "one test"
            } else {
                "tests in parentheses"
            };
            let text = format!("The test {} needs {wanted} behind it.", shown(name));
            return Err(arguments.at.error(text));
        }
        let mut compiled = Vec::with_capacity(tests.len());
        for test in tests {
            compiled.push(self.test(test)?);
        }
        Ok(match name {
            "allof" => Test::AllOf(compiled),
            "anyof" => Test::AnyOf(compiled),
            _ => match compiled.pop() {
                Some(test) => Test::Not(Box::new(test)),
                None => Test::Constant(true),
            },
        })
    }

    /// Takes the tags of a test that has only a comparator and a match type.
    fn match_tags(&mut self, arguments: &mut Arguments) -> Result<MatchTags, SieveError> {
        let mut tags = MatchTags::default();
        while let Some(tag) = arguments.tag()? {
            if !tags.take(self, &tag, arguments)? {
                return Err(arguments.unknown_tag(&tag));
            }
        }
        Ok(tags)
    }

    /// Takes the tags of a test that looks at a part of addresses.
    fn address_tags(&mut self, arguments: &mut Arguments) -> Result<MatchTags, SieveError> {
        let mut tags = MatchTags::default();
        while let Some(tag) = arguments.tag()? {
            if !tags.take(self, &tag, arguments)? && !tags.take_part(self, &tag)? {
                return Err(arguments.unknown_tag(&tag));
            }
        }
        Ok(tags)
    }

    fn keys(&mut self, tags: &MatchTags, arguments: &mut Arguments) -> Result<Matcher, SieveError> {
        let keys = arguments.texts("keys to compare with")?;
        tags.matcher(self, keys)
    }

    fn header(&mut self, arguments: &mut Arguments) -> Result<Test, SieveError> {
        let tags = self.match_tags(arguments)?;
        let names = arguments.texts("names of header fields")?;
        Ok(Test::Header {
            names: self.texts(names)?,
            matcher: self.keys(&tags, arguments)?,
        })
    }

    fn address(&mut self, arguments: &mut Arguments) -> Result<Test, SieveError> {
        let tags = self.address_tags(arguments)?;
        let names = arguments.texts("names of header fields")?;
        Ok(Test::Address {
            names: self.texts(names)?,
            part: tags.part(),
            matcher: self.keys(&tags, arguments)?,
        })
    }

    fn envelope(&mut self, arguments: &mut Arguments) -> Result<Test, SieveError> {
        self.uses(Extension::Envelope, arguments.at, "\"envelope\"");
        let tags = self.address_tags(arguments)?;
        let parts = arguments.texts("parts of the envelope")?;
        let part = |(at, name): TextAt| match name.to_ascii_lowercase().as_str() {
            "from" => Ok(EnvelopePart::From),
            "to" => Ok(EnvelopePart::To),
            _ => Err(at.error(format!(
                "The envelope has no part {}. Use \"from\" or \"to\".",
                shown(&name)
            ))),
        };
        Ok(Test::Envelope {
            parts: parts.into_iter().map(part).collect::<Result<_, _>>()?,
            part: tags.part(),
            matcher: self.keys(&tags, arguments)?,
        })
    }

    fn date(&mut self, name: &str, arguments: &mut Arguments) -> Result<Test, SieveError> {
        self.uses(Extension::Date, arguments.at, &format!("{name:?}"));
        let is_now = name == "currentdate";
        let mut tags = MatchTags::default();
        let mut zone = None;
        while let Some(tag) = arguments.tag()? {
            let given = match tag.1.as_str() {
                "zone" => Zone::Offset(self.zone(arguments)?),
                "originalzone" if !is_now => Zone::Original,
                _ if tags.take(self, &tag, arguments)? => continue,
                _ => return Err(arguments.unknown_tag(&tag)),
            };
            if zone.replace(given).is_some() {
                return Err(tag
                    .0
                    .error("The test has a second zone. Remove one of them."));
            }
        }
        let source = if is_now {
            DateSource::Now
        } else {
            let name = arguments.text("the name of a header field")?;
            DateSource::Header(self.text(name)?)
        };
        let part = arguments.text("a part of the date, such as \"date\"")?;
        Ok(Test::Date {
            source,
            zone: zone.unwrap_or(Zone::Local),
            part: self.date_part(part)?,
            matcher: self.keys(&tags, arguments)?,
        })
    }

    fn zone(&mut self, arguments: &mut Arguments) -> Result<Text, SieveError> {
        let zone = arguments.text("an offset such as \"+0100\"")?;
        let at = zone.0;
        let text = self.text(zone)?;
        match text.constant() {
            Some(offset) if crate::sieve::date::zone(offset).is_none() => Err(at.error(format!(
                "The zone {} is no offset. Write it as in \"+0100\".",
                shown(offset)
            ))),
            _ => Ok(text),
        }
    }

    fn date_part(&mut self, part: TextAt) -> Result<DatePart, SieveError> {
        let at = part.0;
        let text = self.text(part)?;
        let Some(name) = text.constant() else {
            return Ok(DatePart::Named(text));
        };
        Part::named(name).map(DatePart::Known).ok_or_else(|| {
            at.error(format!(
                "A date has no part {}. Use year, month, day, date, julian, hour, minute, second, \
                 time, iso8601, std11, zone or weekday.",
                shown(name)
            ))
        })
    }

    fn body(&mut self, arguments: &mut Arguments) -> Result<Test, SieveError> {
        self.uses(Extension::Body, arguments.at, "\"body\"");
        let mut tags = MatchTags::default();
        let mut content = None;
        while let Some(tag) = arguments.tag()? {
            let given = match tag.1.as_str() {
                "raw" => BodyContent::Raw,
                "text" => BodyContent::Text,
                "content" => {
                    let types = arguments.texts("content types")?;
                    BodyContent::Types(self.texts(types)?)
                }
                _ if tags.take(self, &tag, arguments)? => continue,
                _ => return Err(arguments.unknown_tag(&tag)),
            };
            if content.replace(given).is_some() {
                return Err(tag.0.error(
                    "The test has a second of :raw, :content and :text. Remove one of them.",
                ));
            }
        }
        Ok(Test::Body {
            content: content.unwrap_or(BodyContent::Text),
            matcher: self.keys(&tags, arguments)?,
        })
    }

    fn has_flag(&mut self, arguments: &mut Arguments) -> Result<Test, SieveError> {
        self.uses(Extension::Imap4flags, arguments.at, "\"hasflag\"");
        let tags = self.match_tags(arguments)?;
        let mut variables = Vec::new();
        if arguments.count() > 1 {
            for name in arguments.texts("names of variables")? {
                variables.push(self.variable_named(&name)?);
            }
        }
        Ok(Test::HasFlag {
            variables,
            matcher: self.keys(&tags, arguments)?,
        })
    }

    fn string(&mut self, arguments: &mut Arguments) -> Result<Test, SieveError> {
        self.uses(Extension::Variables, arguments.at, "\"string\"");
        let tags = self.match_tags(arguments)?;
        let values = arguments.texts("values")?;
        Ok(Test::Text {
            values: self.texts(values)?,
            matcher: self.keys(&tags, arguments)?,
        })
    }

    fn special_use(&mut self, arguments: &mut Arguments) -> Result<Test, SieveError> {
        self.uses(Extension::SpecialUse, arguments.at, "\"specialuse_exists\"");
        let mailbox = match arguments.count() {
            2.. => Some(arguments.text("the name of a mailbox")?),
            _ => None,
        };
        let uses = arguments.texts("special uses such as \"\\\\Junk\"")?;
        Ok(Test::SpecialUseExists {
            mailbox: mailbox.map(|name| self.text(name)).transpose()?,
            uses: self.texts(uses)?,
        })
    }
}

fn size(arguments: &mut Arguments) -> Result<Test, SieveError> {
    match arguments.tag()? {
        Some((_, tag)) if tag == "over" => Ok(Test::SizeOver(arguments.number("a size")?)),
        Some((_, tag)) if tag == "under" => Ok(Test::SizeUnder(arguments.number("a size")?)),
        Some(tag) => Err(arguments.unknown_tag(&tag)),
        None => {
            let text = "The test \"size\" needs :over or :under before the size.";
            Err(arguments.at.error(text))
        }
    }
}
