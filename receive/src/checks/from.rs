//! The domain of the From field of mail from strangers.
//!
//! The field is read as no program can read it differently: each address that some program may take
//! for the author's counts. An address in a name before an address in angle brackets is a name.

use postrider_smtp::{
    Address, Domain, Host,
    field::{self, Piece, pieces},
};

use super::author::clear_address;

/// The domain of the author, or of all authors. None if the header section does not have exactly
/// one From field, or that field does not name exactly one domain.
pub(crate) fn from_domain(section: &[u8]) -> Option<Domain> {
    let mut fields = field::fields(section).filter(|field| field.is("From"));
    let only = fields.next()?;
    if fields.next().is_some() {
        return None;
    }
    let value = field::decode(None, only.value);
    let pieces: Vec<Piece<'_>> = pieces(&value)
        .into_iter()
        .filter(|piece| !matches!(piece, Piece::Space(_) | Piece::Comment(_)))
        .collect();
    let mut found: Option<Domain> = None;
    // Signs stand between the mailboxes of a list and those of a group.
    for mailbox in pieces.split(|piece| matches!(piece, Piece::Sign(',' | ';' | ':'))) {
        for address in addresses(mailbox)? {
            let Host::Domain(domain) = address.host else {
                return None;
            };
            match &found {
                Some(found) if *found != domain => return None,
                _ => found = Some(domain),
            }
        }
    }
    found
}

/// The addresses of one mailbox. Text without an address has none: it is a name with a comma, or
/// the name of a group. None if something in it may be an address, and can't be read.
fn addresses(mailbox: &[Piece<'_>]) -> Option<Vec<Address>> {
    let (mut angles, mut bare) = (Vec::new(), Vec::new());
    let mut before = None;
    for piece in mailbox {
        match piece {
            Piece::Open(_) | Piece::Sign(_) => return None,
            Piece::Angle(angle) => {
                let inner = angle.strip_prefix('<').unwrap_or(angle);
                let inner = inner.strip_suffix('>').unwrap_or(inner);
                angles.push(clear_address(inner.trim()).ok()?);
            }
            // A word behind the address is no part of a name.
            Piece::Word(word) if word.contains('@') && !angles.is_empty() => {
                angles.push(clear_address(word).ok()?);
            }
            Piece::Word(word) if word.contains('@') => {
                let quoted = match before {
                    Some(Piece::Quoted(quoted)) if word.starts_with('@') => quoted,
                    _ => "",
                };
                bare.push(clear_address(&format!("{quoted}{word}")));
            }
            _ => {}
        }
        before = Some(*piece);
    }
    match angles.is_empty() {
        true => bare.into_iter().collect::<Result<_, _>>().ok(),
        false => Some(angles),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_of_one_domain_has_a_domain() {
        for value in [
            "ann@a.test",
            "<ann@A.Test>",
            "Ann <ann@a.test>",
            "Doe, Ann <ann@a.test>",
            "\"ceo@bank.test\" <ann@a.test>",
            "ceo@bank.test <ann@a.test>",
            "ann@a.test (ceo@bank.test)",
            "ann@a.test, Bob <bob@a.test>",
            "Team: ann@a.test, bob@a.test;",
            "\"ann\"@a.test",
            "=?utf-8?q?ceo=40bank.test?= <ann@a.test>",
        ] {
            let section = format!("A: b\r\nFrom : {value}\r\nC: d\r\n");
            let found = from_domain(section.as_bytes());
            let found = found.as_ref().map(Domain::ascii);
            assert_eq!(found, Some("a.test"), "{value}");
        }
    }

    #[test]
    fn what_may_be_another_domain_has_none() {
        for value in [
            "",
            "nobody",
            "Nobody <>",
            "undisclosed:;",
            "ann@a.test, ceo@bank.test",
            "ceo@bank.test, <ann@a.test>",
            "ceo@bank.test: ann@a.test;",
            "<ceo@bank.test> <ann@a.test>",
            "<ann@a.test> ceo@bank.test",
            "ceo@bank.test ann@a.test",
            "Team @ Work ann@a.test",
            "<@bank.test:ann@a.test>",
            "<ceo@bank.test,ann@a.test>",
            "<ann(ceo@bank.test)@a.test>",
            "\"<ceo@bank.test>\"@a.test",
            "=?utf-8?q?ceo=40bank.test?=@a.test",
            "\"Ann <ann@a.test>",
            "Ann <ann@a.test",
            "<<ann@a.test>>",
            "ann@[192.0.2.1]",
        ] {
            let section = format!("From: {value}\r\n");
            assert_eq!(from_domain(section.as_bytes()), None, "{value}");
        }
        for section in [
            "To: ann@a.test\r\n",
            "From: ann@a.test\r\nfrom : ann@a.test\r\n",
            "From: ann@a.test\r\nFrom: ceo@bank.test\r\n",
        ] {
            assert_eq!(from_domain(section.as_bytes()), None, "{section}");
        }
    }
}
