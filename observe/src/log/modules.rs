//! The modules that write lines, so that nobody sets the level of one that is not there.

use super::levels::{OPEN, full_name, is_within};

/// Our modules with lines of their own, by full name. A test makes the list of the code.
const OURS: &str = include_str!("modules.txt");

/// The libraries that write lines.
const LIBRARIES: [&str; 11] = [
    "h2",
    "hickory",
    "hyper",
    "hyper_util",
    "mio",
    "notify",
    "reqwest",
    "rustls",
    "rustls_platform_verifier",
    "tokio_tungstenite",
    "tungstenite",
];

/// Whether lines may come from a module, or from modules below it. `queue.deliver` is
/// `postrider_queue::deliver`.
#[must_use]
pub fn is_known_module(module: &str) -> bool {
    let name = full_name(module);
    let ours = || OURS.lines().any(|ours| is_within(ours, &name));
    let of_library = || {
        let first = name.split("::").next().unwrap_or_default();
        let is_open = OPEN.iter().any(|open| {
            let rest = first.strip_prefix(open);
            rest.is_some_and(|rest| rest.starts_with('_'))
        });
        is_open || LIBRARIES.contains(&first)
    };
    ours() || of_library()
}

/// The names of all modules that have lines of their own or below them, without `postrider_`, and
/// of the libraries.
pub fn known_modules() -> impl Iterator<Item = &'static str> {
    let ours = OURS.lines().flat_map(|name| {
        let name = name.strip_prefix("postrider_").unwrap_or(name);
        let ends = name.match_indices("::").map(|(at, _)| at);
        ends.chain([name.len()]).filter_map(|end| name.get(..end))
    });
    let mut names: Vec<&str> = ours.chain(LIBRARIES).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    const MACROS: [&str; 7] = [
        "error!", "warn!", "info!", "debug!", "trace!", "event!", "line!",
    ];

    fn files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files(&path, found),
                false => found.push(path),
            }
        }
    }

    /// Whether code beside tests and comments writes lines.
    fn has_lines(text: &str) -> bool {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let mut lines = code.lines().map(str::trim_start);
        lines.any(|line| {
            let has = |name: &&str| {
                line.match_indices(name).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    let after = line[at + name.len()..].trim_start();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                        && (after.starts_with('(') || after.starts_with('{'))
                })
            };
            !line.starts_with("//") && MACROS.iter().any(has)
        })
    }

    fn of_the_code() -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        // The log itself, which tells of lost lines.
        let mut names = vec!["postrider_observe::log".to_owned()];
        for member in [
            "", "admin", "config", "dns", "observe", "queue", "receive", "smtp", "store", "webapi",
            "webhook",
        ] {
            let (folder, name) = match member {
                "" => (root.join("src"), "postrider".to_owned()),
                member => (root.join(member).join("src"), format!("postrider_{member}")),
            };
            let mut found = Vec::new();
            files(&folder, &mut found);
            for path in found {
                let parts = path.strip_prefix(&folder).unwrap().with_extension("");
                let mut parts: Vec<&str> = parts.iter().map(|it| it.to_str().unwrap()).collect();
                let is_test = parts
                    .iter()
                    .any(|it| *it == "tests" || it.ends_with("_tests"));
                let is_code = path.extension().is_some_and(|it| it == "rs");
                if is_test || !is_code || !has_lines(&fs::read_to_string(&path).unwrap()) {
                    continue;
                }
                if matches!(parts.last(), Some(&("lib" | "main" | "mod"))) {
                    parts.pop();
                }
                let parts = [name.as_str()].into_iter().chain(parts);
                names.push(parts.collect::<Vec<_>>().join("::"));
            }
        }
        names.sort_unstable();
        names.dedup();
        names.join("\n") + "\n"
    }

    #[test]
    fn the_list_has_the_modules_of_the_code() {
        let now = of_the_code();
        if std::env::var_os("POSTRIDER_BLESS").is_some() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/log/modules.txt");
            fs::write(file, now).unwrap();
            return;
        }
        assert!(
            now == OURS,
            "modules.txt has other modules than the code; make it anew by POSTRIDER_BLESS=1 cargo \
             test -p postrider-observe --lib modules:\n{now}"
        );
    }

    #[test]
    fn modules_are_known_by_any_of_their_names() {
        for (name, is) in [
            ("queue", true),
            ("postrider_queue", true),
            ("queue::deliver", true),
            ("postrider.queue.deliver", true),
            ("queue.deliver.host", true),
            ("smtp::server", true),
            ("postrider", true),
            ("postrider::http", true),
            ("postrider::queue", true),
            ("hickory", true),
            ("hickory_net::udp", true),
            ("hyper::proto", true),
            ("rustls", true),
            ("quue", false),
            ("queue::delive", false),
            ("queue::deliver::nothing", false),
            ("hickorynet", false),
            ("postriders", false),
            ("http", false),
        ] {
            assert_eq!(is_known_module(name), is, "{name}");
        }
        for name in known_modules() {
            assert!(is_known_module(name), "{name}");
        }
    }
}
