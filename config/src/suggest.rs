//! Suggestions for names that do not exist: the nearest name that does.

use crate::{
    keys,
    schema::{self, Node},
};

/// The error text for a key that a table does not have.
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

/// `; did you mean "X"?` if a known name is near enough, else nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some((known, distance)) if distance <= tolerance(name) => {
            format!("; did you mean {known:?}?")
        }
        _ => String::new(),
    }
}

/// The most names of [`nearest_names`].
const NEAREST: usize = 3;

/// The known names that are nearest to a name that is not known, the nearest first: three at most.
/// A name with parts, such as `queue::deliver` or `queue.end`, is as near as its last part.
pub fn nearest_names<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let far = |known: &'a str| {
        let last = known.rsplit([':', '.']).next().unwrap_or(known);
        distance(name, known).min(distance(name, last))
    };
    let mut known: Vec<_> = known.map(|known| (far(known), known)).collect();
    // The sort keeps the order of equals.
    known.sort_by_key(|(distance, known)| (*distance, known.len()));
    known.truncate(NEAREST);
    known.into_iter().map(|(_, known)| known).collect()
}

/// The largest distance at which a name counts as a misspelt known name.
fn tolerance(name: &str) -> usize {
    (name.chars().count() / 4).max(1)
}

/// The nearest known name, and its distance.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    known
        .map(|known| (known, distance(name, known)))
        .min_by_key(|(_, distance)| *distance)
}

/// A key with exactly this name at another place, and its file.
fn elsewhere(name: &str) -> Option<(&'static str, &'static str)> {
    let files = [
        (keys::STATIC, "postrider.conf"),
        (keys::DYNAMIC, "domains.conf"),
    ];
    files.into_iter().find_map(|(sections, file)| {
        let mut keys = sections.iter().flat_map(schema::Section::iter);
        keys.find_map(|key| {
            // `postmaster` is a part of `postmaster.account`. So cut behind the part that has the
            // name.
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

/// The number of changes that turn one name into the other. A change inserts, removes or replaces a
/// character, or swaps it with the next.
fn distance(a: &str, b: &str) -> usize {
    // A name from outside may be long. A name beyond this length is like no name that we know.
    const LONGEST: usize = 64;
    let cut = |name: &str| name.chars().take(LONGEST).collect::<String>();
    strsim::osa_distance(&cut(a), &cut(b))
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

    #[test]
    fn three_names_are_nearest() {
        let known = [
            "queue",
            "queue.end",
            "queue.modify",
            "queue.stop",
            "key.add",
        ];
        for (name, expected) in [
            ("quue", ["queue", "key.add", "queue.end"]),
            ("queue.sotp", ["queue.stop", "queue.end", "queue"]),
            ("stop", ["queue.stop", "key.add", "queue.end"]),
        ] {
            assert_eq!(nearest_names(name, known.into_iter()), expected, "{name}");
        }
        assert_eq!(nearest_names("x", [].into_iter()), [""; 0]);
    }

    fn check(path: &[&str], name: &str, expected: &str) {
        let node = path
            .iter()
            .fold(&*keys::STATIC_TREE, |node, part| node.child(part).unwrap());
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
    fn a_key_at_the_wrong_place_gets_the_right_place() {
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
    fn a_name_that_is_like_no_other_still_gets_a_suggestion() {
        check(&["log"], "zzz", "unknown key; did you mean \"level\"?");
    }
}
