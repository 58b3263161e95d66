//! Comparators, match types, keys and parts of addresses (RFC 5228 §2.7, RFC 5231, RFC 5233).

use super::{
    Compiler,
    arguments::{Arguments, TextAt},
};
use crate::sieve::{
    error::{Position, SieveError, shown},
    extension::Extension,
    limits::REGEXES_MAX,
    matching::{Comparator, MatchKind, Pattern, Relation},
    program::{AddressPart, Key, Matcher},
};

/// The tags of a test that compares.
#[derive(Default)]
pub(super) struct MatchTags {
    comparator: Option<Comparator>,
    kind: Option<(Position, MatchKind)>,
    part: Option<AddressPart>,
}

impl MatchTags {
    /// Takes a comparator or a match type. False for another tag.
    pub(super) fn take(
        &mut self,
        compiler: &mut Compiler,
        (at, name): &TextAt,
        arguments: &mut Arguments,
    ) -> Result<bool, SieveError> {
        let kind = match name.as_str() {
            "comparator" => {
                let name = arguments.text("the name of a comparator")?;
                self.comparator = Some(comparator(compiler, &name)?);
                return Ok(true);
            }
            "is" => MatchKind::Is,
            "contains" => MatchKind::Contains,
            "matches" => MatchKind::Matches,
            "regex" => {
                compiler.uses(Extension::Regex, *at, "\":regex\"");
                MatchKind::Regex
            }
            "value" => MatchKind::Value(relation(compiler, *at, arguments)?),
            "count" => MatchKind::Count(relation(compiler, *at, arguments)?),
            _ => return Ok(false),
        };
        if self.kind.replace((*at, kind)).is_some() {
            return Err(at.error(format!(
                "The tag :{name} is a second match type. A test has one: remove the other."
            )));
        }
        Ok(true)
    }

    /// Takes a part of an address. False for another tag.
    pub(super) fn take_part(
        &mut self,
        compiler: &mut Compiler,
        (at, name): &TextAt,
    ) -> Result<bool, SieveError> {
        let part = match name.as_str() {
            "all" => AddressPart::All,
            "localpart" => AddressPart::LocalPart,
            "domain" => AddressPart::Domain,
            "user" => AddressPart::User,
            "detail" => AddressPart::Detail,
            _ => return Ok(false),
        };
        if matches!(part, AddressPart::User | AddressPart::Detail) {
            compiler.uses(Extension::Subaddress, *at, &format!("\":{name}\""));
        }
        if self.part.replace(part).is_some() {
            return Err(at.error(format!(
                "The tag :{name} is a second part of an address. Remove the other."
            )));
        }
        Ok(true)
    }

    pub(super) fn part(&self) -> AddressPart {
        self.part.unwrap_or(AddressPart::All)
    }

    /// The comparison with these keys.
    pub(super) fn matcher(
        &self,
        compiler: &mut Compiler,
        keys: Vec<TextAt>,
    ) -> Result<Matcher, SieveError> {
        let kind = self.kind.map_or(MatchKind::Is, |(_, kind)| kind);
        let default = match kind {
            // Counts are numbers, so letters would compare them wrongly.
            MatchKind::Count(_) => Comparator::AsciiNumeric,
            _ => Comparator::AsciiCasemap,
        };
        let comparator = self.comparator.unwrap_or(default);
        let of_parts = matches!(
            kind,
            MatchKind::Contains | MatchKind::Matches | MatchKind::Regex
        );
        if let Some((at, _)) = self.kind
            && of_parts
            && comparator == Comparator::AsciiNumeric
        {
            return Err(at.error(
                "The comparator \"i;ascii-numeric\" compares whole numbers. \
                 Use :is, :value or :count with it.",
            ));
        }
        let keys = keys
            .into_iter()
            .map(|key| compiler.key(comparator, kind, key));
        Ok(Matcher {
            comparator,
            kind,
            keys: keys.collect::<Result<_, _>>()?,
        })
    }
}

impl Compiler {
    fn key(
        &mut self,
        comparator: Comparator,
        kind: MatchKind,
        key: TextAt,
    ) -> Result<Key, SieveError> {
        let at = key.0;
        let text = self.text(key)?;
        let pattern = text.constant().filter(|_| kind == MatchKind::Regex);
        let regex = match pattern {
            Some(pattern) => {
                let regex = Pattern::new(comparator, pattern).map_err(|fault| {
                    let pattern = shown(pattern);
                    at.error(format!(
                        "The regular expression {pattern} is wrong: {fault}."
                    ))
                })?;
                self.regexes += 1;
                if self.regexes > REGEXES_MAX {
                    return Err(at.error(format!(
                        "The script has more than {REGEXES_MAX} regular expressions. Use fewer."
                    )));
                }
                Some(regex)
            }
            None => None,
        };
        Ok(Key { text, regex })
    }
}

fn comparator(compiler: &mut Compiler, (at, name): &TextAt) -> Result<Comparator, SieveError> {
    let found = Comparator::named(name).ok_or_else(|| {
        at.error(format!(
            "There is no comparator {}. Use i;ascii-casemap, i;octet or i;ascii-numeric.",
            shown(name)
        ))
    })?;
    if found == Comparator::AsciiNumeric {
        compiler.uses(
            Extension::AsciiNumeric,
            *at,
            "the comparator \"i;ascii-numeric\"",
        );
    }
    Ok(found)
}

fn relation(
    compiler: &mut Compiler,
    at: Position,
    arguments: &mut Arguments,
) -> Result<Relation, SieveError> {
    compiler.uses(Extension::Relational, at, "\":value\" or \":count\"");
    let (at, name) = arguments.text("a relation such as \"gt\"")?;
    Relation::named(&name).ok_or_else(|| {
        at.error(format!(
            "There is no relation {}. Use gt, ge, lt, le, eq or ne.",
            shown(&name)
        ))
    })
}
