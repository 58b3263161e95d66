//! The author of a submitted message, read strictly.
//!
//! An account sends from its own addresses only, so every reader has to find the same author in the
//! From field. Programs read a wrong field in different ways: one takes the first address, another
//! the last, a third shows the name alone. So a field that can be read in two ways is refused, and
//! a name that holds an address is told to the decision.

use postrider_smtp::{
    Address, Domain, Host, LocalPart,
    field::{self, Piece, pieces, unquoted},
};

/// The author of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The address.
    pub address: Address,
    /// The addresses in the name and in the comments beside the address. A reader may take them for
    /// the author.
    pub named: Vec<Address>,
}

/// Why a From field has no clear author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorFault {
    /// The message has several From fields.
    #[error("the message has several From fields")]
    SeveralFields,
    /// The field has several mailboxes, or a comma in a name without quotes.
    #[error(
        "the From field has several authors; a message has one, and a name with a comma needs quotes"
    )]
    SeveralMailboxes,
    /// The field has a group, or a colon or semicolon in a name without quotes.
    #[error(
        "the From field has a group in the place of an author; a name with a colon or semicolon needs quotes"
    )]
    Group,
    /// The field has no address.
    #[error("the From field has no address that can be read")]
    NoAddress,
    /// A quoted name, a comment or an angle bracket is not closed.
    #[error("the From field has a quote, parenthesis or angle bracket without its other half")]
    NotClosed,
    /// Other text is where a name or an address has to be.
    #[error(
        "the From field can be read in two ways; write it as \"Name\" <address>, with quotes around the name"
    )]
    Unclear,
    /// The name has control characters, or characters that turn the direction of writing.
    #[error("the name in the From field has control characters")]
    Control,
}

/// The author in the From field of a header section. None without a From field.
pub(crate) fn author(section: &[u8]) -> Option<Result<Author, AuthorFault>> {
    let mut fields = field::fields(section).filter(|field| field.is("From"));
    let only = fields.next()?;
    Some(match fields.next() {
        Some(_) => Err(AuthorFault::SeveralFields),
        None => read(&field::decode(None, only.value)),
    })
}

fn read(value: &str) -> Result<Author, AuthorFault> {
    // White space has no meaning between pieces.
    let pieces: Vec<Piece<'_>> = pieces(value)
        .into_iter()
        .filter(|piece| !matches!(piece, Piece::Space(_)))
        .collect();
    let mut comments = Vec::new();
    let mut mailboxes: Vec<Vec<Piece<'_>>> = vec![Vec::new()];
    for piece in pieces {
        match piece {
            Piece::Open(_) => return Err(AuthorFault::NotClosed),
            Piece::Sign(':' | ';') => return Err(AuthorFault::Group),
            Piece::Sign(',') => mailboxes.push(Vec::new()),
            Piece::Sign(_) => return Err(AuthorFault::NotClosed),
            Piece::Comment(comment) => comments.push(unquoted(comment)),
            other => {
                if let Some(mailbox) = mailboxes.last_mut() {
                    mailbox.push(other);
                }
            }
        }
    }
    // Empty places between commas are an obsolete form (RFC 5322 §4.4).
    mailboxes.retain(|mailbox| !mailbox.is_empty());
    let [mailbox] = mailboxes.as_slice() else {
        return Err(match mailboxes.is_empty() {
            true => AuthorFault::NoAddress,
            false => AuthorFault::SeveralMailboxes,
        });
    };
    let (address, name) = address_and_name(mailbox)?;
    let mut named = Vec::new();
    for (text, is_quoted) in name {
        named.extend(named_in(&text, is_quoted)?);
    }
    for comment in comments {
        named.extend(named_in(&comment, true)?);
    }
    Ok(Author { address, named })
}

/// The name of a mailbox in parts: the text, and whether it stood in quotes.
type Name = Vec<(String, bool)>;

/// The address of a mailbox, and its name.
fn address_and_name(mailbox: &[Piece<'_>]) -> Result<(Address, Name), AuthorFault> {
    let Some((last, before)) = mailbox.split_last() else {
        return Err(AuthorFault::NoAddress);
    };
    let Piece::Angle(angle) = last else {
        return bare(mailbox).map(|address| (address, Name::new()));
    };
    let inner = angle.strip_prefix('<').unwrap_or(angle);
    let inner = inner.strip_suffix('>').unwrap_or(inner);
    let address = clear_address(inner.trim())?;
    let mut name = Name::new();
    let mut words: Vec<&str> = Vec::new();
    for piece in before {
        match piece {
            // An address without quotes is no name. It is harmless if it is the same as the author.
            Piece::Word(word) if word.contains('@') && !word.starts_with("=?") => {
                let other = Address::parse(word).map_err(|_| AuthorFault::Unclear)?;
                name.push((other.to_string(), false));
            }
            Piece::Word(word) => words.push(word),
            Piece::Quoted(quoted) => name.push((unquoted(quoted), true)),
            _ => return Err(AuthorFault::Unclear),
        }
    }
    name.push((words.join(" "), true));
    // A reader sees all parts of a name as one text.
    let all: Vec<String> = before.iter().map(shown).collect();
    name.push((all.join(" "), true));
    Ok((address, name))
}

fn shown(piece: &Piece<'_>) -> String {
    match piece {
        Piece::Quoted(quoted) => unquoted(quoted),
        Piece::Word(word) => (*word).to_owned(),
        _ => String::new(),
    }
}

/// An address without angle brackets.
fn bare(mailbox: &[Piece<'_>]) -> Result<Address, AuthorFault> {
    let has_angle = mailbox.iter().any(|piece| matches!(piece, Piece::Angle(_)));
    if has_angle {
        return Err(AuthorFault::Unclear);
    }
    let has_at = |piece: &Piece<'_>| matches!(piece, Piece::Word(word) if word.contains('@'));
    match mailbox {
        [Piece::Word(word)] => clear_address(word),
        [Piece::Quoted(local), Piece::Word(domain)] if domain.starts_with('@') => {
            clear_address(&format!("{local}{domain}"))
        }
        // Text that is no address, or a name and an address without angle brackets.
        other if other.iter().any(has_at) => Err(AuthorFault::Unclear),
        _ => Err(AuthorFault::NoAddress),
    }
}

/// Reads an address that each reader finds in the same way.
pub(super) fn clear_address(text: &str) -> Result<Address, AuthorFault> {
    if !text.contains('@') {
        return Err(AuthorFault::NoAddress);
    }
    // A route, a comment, or an encoded word that some readers decode.
    if text.starts_with('@') || text.contains("=?") {
        return Err(AuthorFault::Unclear);
    }
    let address =
        Address::parse(text).map_err(|_| match text.contains(['(', '<', '>', ',', ' ']) {
            true => AuthorFault::Unclear,
            false => AuthorFault::NoAddress,
        })?;
    // Readers that do not know quotes find another address.
    match address
        .local
        .as_str()
        .contains(['@', '<', '>', ',', '(', ')'])
    {
        true => Err(AuthorFault::Unclear),
        false => Ok(address),
    }
}

/// The addresses in a name or a comment, as a reader sees it. With `may_tell_of_others`, an address
/// with the word "via" behind it counts as none: lists and help desks write so, for example
/// `ann@example.com via Help Desk`.
fn named_in(text: &str, may_tell_of_others: bool) -> Result<Vec<Address>, AuthorFault> {
    let text = field::text(text.as_bytes());
    let turns = |c: char| matches!(c, '\u{202d}' | '\u{202e}');
    if text
        .chars()
        .any(|c| c.is_control() && c != '\t' || turns(c))
    {
        return Err(AuthorFault::Control);
    }
    let text: String = text.chars().filter_map(seen_as).collect();
    let last_via = text.rfind(" via ").filter(|_| may_tell_of_others);
    let mut named = Vec::new();
    for (at, _) in text.match_indices('@') {
        let (before, after) = text.split_at_checked(at).unwrap_or_default();
        let after = after.get(1..).unwrap_or_default();
        let begin = before
            .char_indices()
            .rev()
            .take_while(|(_, c)| is_of_local_part(*c))
            .last();
        let end = after.find(|c: char| !is_of_domain(c));
        let end = end.unwrap_or(after.len());
        let domain = after.get(..end).unwrap_or_default();
        let tells = last_via.is_some_and(|via| via > at + end);
        let domain = Domain::parse(domain.trim_matches(['.', '-']));
        let local = begin.and_then(|(begin, _)| before.get(begin..));
        let local = local.and_then(|local| LocalPart::from_decoded(local).ok());
        if let (Some(local), Ok(domain), false) = (local, domain, tells)
            && domain.ascii().contains('.')
        {
            let host = Host::Domain(domain);
            named.push(Address { local, host });
        }
    }
    Ok(named)
}

/// A character as a person sees it. None: it is invisible.
const fn seen_as(c: char) -> Option<char> {
    match c {
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => None,
        '\u{ff20}' | '\u{fe6b}' => Some('@'),
        '\u{ff0e}' | '\u{3002}' | '\u{ff61}' | '\u{2024}' => Some('.'),
        c => Some(c),
    }
}

fn is_of_local_part(c: char) -> bool {
    !c.is_whitespace()
        && !"@<>()[]{},;:\"'`|\\\u{2018}\u{2019}\u{201c}\u{201d}\u{ab}\u{bb}".contains(c)
}

fn is_of_domain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(section: &str, expected: &str) {
        let found = match author(section.as_bytes()) {
            None => "none".to_owned(),
            Some(Err(fault)) => format!("{fault:?}"),
            Some(Ok(author)) => {
                let all = std::iter::once(&author.address).chain(&author.named);
                let mut all: Vec<String> = all.map(ToString::to_string).collect();
                all.dedup();
                all.join(" ")
            }
        };
        assert_eq!(found, expected, "{section:?}");
    }

    #[test]
    fn a_clear_author_is_found() {
        let me = "app@sender.test";
        check("Subject: x\r\n", "none");
        for value in [
            "app@sender.test",
            "<app@Sender.test>",
            " App <app@sender.test>\r\n",
            "\"Doe, J\u{f6}rg (x): <y>\" <app@sender.test>",
            "J. R. \"Bob\" Dobbs <app@sender.test> (a comment)",
            "=?utf-8?q?Doe,_J=C3=B6rg?= <app@sender.test>",
            "App\r\n\t<app@sender.test>",
            "app@sender.test (App)",
            "app@sender.test,",
            "\"app\"@sender.test",
            "Team \"at\" Work<app@sender.test>",
            "\"Team @ Work\" <app@sender.test>",
            "\"a@localhost\" <app@sender.test>",
            "\"'ann@x.test' via Help Desk\" <app@sender.test>",
        ] {
            check(&format!("A: b\r\nFROM : {value}\r\nC: d\r\n"), me);
        }
        check("From: \"a..b\"@sender.test\r\n", "\"a..b\"@sender.test");
        check("From: <j\u{f6}@b\u{fc}.test>\r\n", "j\u{f6}@xn--b-eha.test");
    }

    /// Time in proportion to the square of the length would be too long.
    #[test]
    fn a_long_name_is_read_once() {
        for (name, length) in [("a@b.c ", 1 << 22), ("@ ", 1 << 18), ("a@b. via ", 1 << 18)] {
            let name = name.repeat(length / name.len());
            let section = format!("From: \"{name}\" <app@sender.test>\r\n");
            let found = author(section.as_bytes()).unwrap();
            assert!(found.is_ok_and(|author| author.address.to_string() == "app@sender.test"));
        }
    }

    #[test]
    fn names_that_are_read_as_another_author_are_told() {
        let both = "app@sender.test ceo@bank.test";
        for value in [
            "ceo@bank.test <app@sender.test>",
            "ceo@bank.test via x <app@sender.test>",
            "\"ceo@bank.test\" <app@sender.test>",
            "\"The CEO <ceo@bank.test>\" <app@sender.test>",
            "\"'ceo@bank.test'\" <app@sender.test>",
            "\"ceo\" \"@\" bank <app@sender.test> (ceo@bank.test)",
            "=?utf-8?q?ceo=40bank.test?= <app@sender.test>",
            "\"=?utf-8?q?ceo=40bank.test?=\" <app@sender.test>",
            "=?utf-8?q?ceo=40?= =?utf-8?q?bank.test?= <app@sender.test>",
            "=?utf-8?q?ceo?= \"=?utf-8?q?=40bank.test?=\" <app@sender.test>",
            "\"ceo\u{ff20}bank\u{3002}test\" <app@sender.test>",
            "\"ceo\u{200b}@\u{200b}bank.test\" <app@sender.test>",
            "app@sender.test (ceo@bank.test)",
            "(ceo@bank.test) app@sender.test",
            "CEO ceo@bank.test. <app@sender.test>",
        ] {
            check(&format!("From: {value}\r\n"), both);
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (value, fault) in [
            ("", "NoAddress"),
            ("nobody", "NoAddress"),
            ("Nobody <>", "NoAddress"),
            ("<app>", "NoAddress"),
            ("(app@sender.test)", "NoAddress"),
            ("a@sender.test, b@sender.test", "SeveralMailboxes"),
            ("Doe, Joe <app@sender.test>", "SeveralMailboxes"),
            ("ceo@bank.test, <app@sender.test>", "SeveralMailboxes"),
            ("App: app@sender.test;", "Group"),
            ("undisclosed:;", "Group"),
            ("app@sender.test; ceo@bank.test", "Group"),
            ("<ceo@bank.test> <app@sender.test>", "Unclear"),
            ("<app@sender.test> App", "Unclear"),
            ("<app@sender.test> ceo@bank.test", "Unclear"),
            ("App app@sender.test", "Unclear"),
            ("ceo@bank.test app@sender.test", "Unclear"),
            ("Team @ Work <app@sender.test>", "Unclear"),
            ("<<app@sender.test>", "Unclear"),
            ("<app@sender.test>>", "NotClosed"),
            ("<@bank.test:app@sender.test>", "Unclear"),
            ("<app(ceo@bank.test)@sender.test>", "Unclear"),
            ("<ceo@bank.test,app@sender.test>", "Unclear"),
            ("\"<ceo@bank.test>\"@sender.test", "Unclear"),
            ("<\"ceo@bank.test\"@sender.test>", "Unclear"),
            ("=?utf-8?q?ceo=40bank.test?=@sender.test", "Unclear"),
            ("<=?utf-8?q?ceo?=@sender.test>", "Unclear"),
            ("\"App <app@sender.test>", "NotClosed"),
            ("App (x <app@sender.test>", "NotClosed"),
            ("App <app@sender.test", "NotClosed"),
            ("=?utf-8?q?ceo=40bank=00?= <app@sender.test>", "Control"),
            ("=?utf-8?q?ceo=0D=0Ax?= <app@sender.test>", "Control"),
            ("\"tset.\u{202e}knab\" <app@sender.test>", "Control"),
        ] {
            check(&format!("From: {value}\r\n"), fault);
        }
        check(
            "From: app@sender.test\r\nfrom : b@x.test\r\n",
            "SeveralFields",
        );
        check(
            "From: app@sender.test\r\nFrom\r\n : b@x.test\r\n",
            "SeveralFields",
        );
    }
}
