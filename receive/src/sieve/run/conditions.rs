//! Tests.

use std::{borrow::Cow, rc::Rc};

use jiff::Zoned;
use postrider_smtp::{Address, field};

use super::Runner;
use crate::sieve::{
    body::Body,
    date,
    error::{SieveError, shown},
    facts::READ_MAX,
    mailbox,
    matching::{MatchKind, Matched, Pattern, matches},
    program::{
        AddressPart, BodyContent, DatePart, DateSource, EnvelopePart, Key, Matcher, Test, TestAt,
        Text, Zone,
    },
};

/// The most bytes of a field that a test looks at.
const FIELD_MAX: usize = 64 << 10;
/// The work of reading a byte of a list of addresses.
const ADDRESS_WORK: usize = 50;
/// The work of making a regular expression while the script runs.
const REGEX_WORK: usize = 100_000;

impl<'a> Runner<'a> {
    pub(super) fn test(&mut self, test: &TestAt) -> Result<bool, SieveError> {
        self.step(test.at)?;
        match &test.test {
            Test::Constant(holds) => Ok(*holds),
            Test::Not(test) => Ok(!self.test(test)?),
            Test::AllOf(tests) => self.combined(tests, false),
            Test::AnyOf(tests) => self.combined(tests, true),
            Test::Exists(names) => self.exists(names),
            Test::SizeOver(limit) => Ok(self.facts.size > *limit),
            Test::SizeUnder(limit) => Ok(self.facts.size < *limit),
            Test::Header { names, matcher } => {
                let values = self.header_values(names)?;
                self.compare(matcher, &values)
            }
            Test::Address {
                names,
                part,
                matcher,
            } => {
                let values = self.address_values(names, *part)?;
                self.compare(matcher, &values)
            }
            Test::Envelope {
                parts,
                part,
                matcher,
            } => {
                let parts = parts.iter();
                let values = parts.filter_map(|envelope| self.envelope_value(*envelope, *part));
                let values: Vec<String> = values.collect();
                self.compare(matcher, &values)
            }
            Test::Date {
                source,
                zone,
                part,
                matcher,
            } => {
                let value = self.date_value(source, zone, part)?;
                self.compare(matcher, value.as_slice())
            }
            Test::Body { content, matcher } => self.body(content, matcher),
            Test::HasFlag { variables, matcher } => self.has_flag(variables, matcher),
            Test::Text { values, matcher } => {
                let values = self.expand_all(values)?;
                match matcher.kind {
                    // Only values with a text count (RFC 5229 §5).
                    MatchKind::Count(_) => {
                        let values: Vec<_> =
                            values.into_iter().filter(|it| !it.is_empty()).collect();
                        self.compare(matcher, &values)
                    }
                    _ => self.compare(matcher, &values),
                }
            }
            Test::MailboxExists(names) => self.mailboxes_exist(names),
            Test::SpecialUseExists { mailbox, uses } => self.special_uses(mailbox.as_ref(), uses),
        }
    }

    /// Runs tests until one of them holds, or does not hold, as given.
    fn combined(&mut self, tests: &[TestAt], until: bool) -> Result<bool, SieveError> {
        for test in tests {
            if self.test(test)? == until {
                return Ok(until);
            }
        }
        Ok(!until)
    }

    fn exists(&mut self, names: &[Text]) -> Result<bool, SieveError> {
        for name in names {
            self.spend(self.fields.len())?;
            let name = self.expand(name)?;
            if !self.fields.iter().any(|field| field.is(&name)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The values of the fields with these names, as they are written.
    fn raw_values(&mut self, names: &[Text]) -> Result<Vec<&'a [u8]>, SieveError> {
        let names = self.expand_all(names)?;
        self.spend(self.fields.len().saturating_mul(names.len()))?;
        let mut values = Vec::new();
        for name in names {
            let fields = self.fields.iter().filter(|field| field.is(&name));
            values.extend(fields.map(|field| field.value.get(..FIELD_MAX).unwrap_or(field.value)));
        }
        let length = values.iter().map(|value| value.len()).sum();
        if self.effort.spend(length).is_err() {
            return Err(self.exhausted());
        }
        Ok(values)
    }

    fn header_values(&mut self, names: &[Text]) -> Result<Vec<String>, SieveError> {
        let values = self.raw_values(names)?;
        Ok(values.into_iter().map(field::text).collect())
    }

    fn address_values(
        &mut self,
        names: &[Text],
        part: AddressPart,
    ) -> Result<Vec<String>, SieveError> {
        let separator = self.facts.separator;
        let values = self.raw_values(names)?;
        let length: usize = values.iter().map(|value| value.len()).sum();
        if self
            .effort
            .spend(length.saturating_mul(ADDRESS_WORK))
            .is_err()
        {
            return Err(self.exhausted());
        }
        let mailboxes = values.into_iter().flat_map(field::mailboxes);
        let addresses = mailboxes.map(|mailbox| mailbox.address);
        let addresses = addresses.filter(|address| !address.is_empty());
        Ok(addresses
            .filter_map(|address| part.of(&address, separator).map(Cow::into_owned))
            .collect())
    }

    fn envelope_value(&self, envelope: EnvelopePart, part: AddressPart) -> Option<String> {
        let address = match envelope {
            EnvelopePart::From => self.facts.sender.address(),
            EnvelopePart::To => Some(self.facts.recipient),
        };
        match address {
            // The null reverse-path is the empty text, whatever part is asked for.
            None => Some(String::new()),
            Some(address) => {
                let address = address.unicode();
                part.of(&address, self.facts.separator).map(Cow::into_owned)
            }
        }
    }

    fn date_value(
        &mut self,
        source: &DateSource,
        zone: &Zone,
        part: &DatePart,
    ) -> Result<Option<String>, SieveError> {
        let date = match source {
            DateSource::Now => Some(self.facts.now.clone()),
            DateSource::Header(name) => {
                let values = self.raw_values(std::slice::from_ref(name))?;
                values.first().and_then(|value| date::read(value))
            }
        };
        let Some(date) = date else {
            return Ok(None);
        };
        let date = self.in_zone(date, zone)?;
        let part = match part {
            DatePart::Known(part) => *part,
            DatePart::Named(name) => {
                let name = self.expand(name)?;
                date::Part::named(&name)
                    .ok_or_else(|| self.fault(format!("A date has no part {}.", shown(&name))))?
            }
        };
        Ok(Some(part.of(&date)))
    }

    fn in_zone(&mut self, date: Zoned, zone: &Zone) -> Result<Zoned, SieveError> {
        let zone = match zone {
            Zone::Original => return Ok(date),
            Zone::Local => self.facts.now.time_zone().clone(),
            Zone::Offset(offset) => {
                let offset = self.expand(offset)?;
                date::zone(&offset).ok_or_else(|| {
                    self.fault(format!("The zone {} is no offset.", shown(&offset)))
                })?
            }
        };
        Ok(date.with_time_zone(zone))
    }

    fn body(&mut self, content: &BodyContent, matcher: &Matcher) -> Result<bool, SieveError> {
        let body = match &self.body {
            Some(body) => Rc::clone(body),
            None => {
                let text = self.facts.message.read(READ_MAX);
                let text = text.map_err(|error| {
                    self.fault(format!("The text of the message can't be read: {error}."))
                })?;
                let body = Rc::new(Body::read(&text, READ_MAX));
                self.body = Some(Rc::clone(&body));
                body
            }
        };
        let values: Vec<Cow<'_, str>> = match content {
            BodyContent::Raw => vec![Cow::Borrowed(&body.raw)],
            BodyContent::Types(types) => {
                let types = self.expand_all(types)?;
                let texts = body.of_types(&types);
                texts.into_iter().map(Cow::Borrowed).collect()
            }
            BodyContent::Text => {
                let texts = body.shown().iter();
                texts.map(|text| Cow::Borrowed(text.as_str())).collect()
            }
        };
        // A test of the body leaves the match variables alone (RFC 5173 §6).
        let matched = self.matched.clone();
        let holds = self.compare(matcher, &values);
        self.matched = matched;
        holds
    }

    fn has_flag(&mut self, variables: &[usize], matcher: &Matcher) -> Result<bool, SieveError> {
        let mut values = Vec::new();
        match variables {
            [] => values.extend_from_slice(self.internal_flags()),
            _ => {
                for variable in variables {
                    values.extend_from_slice(self.flags_of(*variable).list());
                }
            }
        }
        if matcher.kind != MatchKind::Is {
            return self.compare(matcher, &values);
        }
        // A key is a list of flags too.
        for key in &matcher.keys {
            for flag in self.expand(&key.text)?.split_ascii_whitespace() {
                let same = |value: &String| matcher.comparator.compare(value, flag).is_eq();
                self.spend(flag.len().saturating_mul(values.len()))?;
                if values.iter().any(same) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn mailboxes_exist(&mut self, names: &[Text]) -> Result<bool, SieveError> {
        for name in names {
            self.spend(self.facts.mailboxes.len())?;
            let written = self.expand(name)?;
            let known = |name: &String| {
                let mut mailboxes = self.facts.mailboxes.iter();
                name == self.facts.keep_mailbox || mailboxes.any(|known| known.name == *name)
            };
            if !mailbox::name(&written).is_ok_and(|name| known(&name)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a mailbox, or any without a name, has each of these uses (RFC 8579 §3).
    fn special_uses(&mut self, name: Option<&Text>, uses: &[Text]) -> Result<bool, SieveError> {
        let name = name.map(|name| self.expand(name)).transpose()?;
        let name = name.map(|name| mailbox::name(&name).unwrap_or_default());
        for special_use in uses {
            self.spend(self.facts.mailboxes.len())?;
            let special_use = self.expand(special_use)?;
            let fits = self.facts.mailboxes.iter().any(|known| {
                known.has_use(&special_use) && name.as_ref().is_none_or(|name| *name == known.name)
            });
            if !fits {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether one of the values matches one of the keys.
    fn compare(
        &mut self,
        matcher: &Matcher,
        values: &[impl AsRef<str>],
    ) -> Result<bool, SieveError> {
        if let MatchKind::Count(relation) = matcher.kind {
            let count = values.len().to_string();
            for key in &matcher.keys {
                let key = self.expand(&key.text)?;
                if relation.holds(matcher.comparator.compare(&count, &key)) {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        for value in values {
            for key in &matcher.keys {
                if let Some(matched) = self.match_one(matcher, value.as_ref(), key)? {
                    if !matched.is_empty() {
                        self.matched = matched;
                    }
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn match_one(
        &mut self,
        matcher: &Matcher,
        value: &str,
        key: &Key,
    ) -> Result<Option<Matched>, SieveError> {
        let (comparator, kind) = (matcher.comparator, matcher.kind);
        let found = if let Some(regex) = &key.regex {
            regex.find(value, &mut self.effort)
        } else if kind == MatchKind::Regex {
            self.spend(REGEX_WORK)?;
            let pattern = self.expand(&key.text)?;
            let regex = Pattern::new(comparator, &pattern).map_err(|fault| {
                let pattern = shown(&pattern);
                self.fault(format!(
                    "The regular expression {pattern} is wrong: {fault}."
                ))
            })?;
            regex.find(value, &mut self.effort)
        } else {
            let key = self.expand(&key.text)?;
            matches(comparator, kind, value, &key, &mut self.effort)
        };
        found.map_err(|_| self.exhausted())
    }
}

impl AddressPart {
    /// This part of an address. None if the address has no such part.
    fn of<'t>(self, address: &'t str, separator: &str) -> Option<Cow<'t, str>> {
        let local = || match Address::parse(address) {
            Ok(parsed) => Cow::Owned(parsed.local.as_str().to_owned()),
            Err(_) => Cow::Borrowed(address.rsplit_once('@').map_or(address, |(local, _)| local)),
        };
        // An empty separator separates nothing.
        let split = |local: &str| {
            let parts = (!separator.is_empty()).then(|| local.split_once(separator))?;
            parts.map(|(user, detail)| (user.to_owned(), detail.to_owned()))
        };
        match self {
            Self::All => Some(Cow::Borrowed(address)),
            Self::LocalPart => Some(local()),
            Self::Domain => address
                .rsplit_once('@')
                .map(|(_, domain)| Cow::Borrowed(domain)),
            Self::User => {
                let local = local();
                Some(split(&local).map_or(local, |(user, _)| Cow::Owned(user)))
            }
            Self::Detail => split(&local()).map(|(_, detail)| Cow::Owned(detail)),
        }
    }
}
