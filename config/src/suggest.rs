//! What to say about a key that does not exist: the nearest one that does.

use crate::schema::{self, Node};

/// A sentence about a name that a table does not know.
pub(crate) fn unknown_key(node: &Node, name: &str) -> String {
    let siblings = node.children.keys().copied();
    let Some((nearest, distance)) = nearest(name, siblings) else {
        return "unknown key; this table has none".to_owned();
    };
    if distance > tolerance(name)
        && let Some((key, file)) = elsewhere(name)
    {
        return format!("unknown key here; did you mean {key}, in {file}?");
    }
    format!("unknown key; did you mean {nearest:?}?")
}

/// `; did you mean "X"?` when a known name is near enough, else nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some((known, distance)) if distance <= tolerance(name) => {
            format!("; did you mean {known:?}?")
        }
        _ => String::new(),
    }
}

/// How many slips a name of this length may have and still be taken for a known one.
fn tolerance(name: &str) -> usize {
    (name.chars().count() / 4).max(1)
}

/// The nearest of some names, and how far it is.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    known
        .map(|known| (known, distance(name, known)))
        .min_by_key(|(_, distance)| *distance)
}

/// A key of that very name at another place.
fn elsewhere(name: &str) -> Option<(&'static str, &'static str)> {
    let files = [
        (schema::STATIC, "postrider.conf"),
        (schema::DYNAMIC, "domains.conf"),
    ];
    files.into_iter().find_map(|(sections, file)| {
        let mut keys = sections.iter().flat_map(schema::Section::iter);
        keys.find_map(|key| {
            // `postmaster` stands for `postmaster.account`: cut behind the part that was meant.
            let end = key
                .name
                .split('.')
                .scan(0, |end, part| {
                    *end += part.len() + 1;
                    Some((part, *end - 1))
                })
                .find(|(part, _)| part.trim_end_matches("[]") == name)
                .map(|(_, end)| end)?;
            Some((key.name.get(..end)?, file))
        })
    })
}

/// How many characters must be put in, taken out, replaced or swapped with the next to make one name of the other.
fn distance(a: &str, b: &str) -> usize {
    // A name from outside may be long; beyond this it is like nothing that we know.
    const LONGEST: usize = 64;
    let a: Vec<char> = a.chars().take(LONGEST).collect();
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let width = b.len() + 1;
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..width).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(width);
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let at =
                |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&last, j) + usize::from(x != y);
            let mut best = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("abc", "acb", 1),
            ("hostnmae", "hostname", 1),
            ("timeout", "timeouts", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    fn check(path: &[&str], name: &str, expected: &str) {
        let node = path.iter().fold(&*schema::STATIC_TREE, |node, part| {
            node.child(part).unwrap()
        });
        assert_eq!(unknown_key(node, name), expected);
    }

    #[test]
    fn the_nearest_key_is_named() {
        check(&[], "hostnmae", "unknown key; did you mean \"hostname\"?");
        check(
            &["queue"],
            "max_concurency",
            "unknown key; did you mean \"max_concurrency\"?",
        );
        check(
            &["listeners", "x", "smtp"],
            "start_tls",
            "unknown key; did you mean \"starttls\"?",
        );
    }

    #[test]
    fn a_key_at_the_wrong_place_is_told_its_place() {
        check(
            &[],
            "greylist",
            "unknown key here; did you mean policy.greylist, in postrider.conf?",
        );
        check(
            &[],
            "accounts",
            "unknown key here; did you mean accounts, in domains.conf?",
        );
        check(
            &[],
            "retry_spread",
            "unknown key here; did you mean queue.retry_spread, in postrider.conf?",
        );
    }

    #[test]
    fn what_is_like_nothing_still_gets_a_name() {
        check(&["log"], "zzz", "unknown key; did you mean \"level\"?");
    }
}
