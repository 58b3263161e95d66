//! Which pages of the server nobody visited. The list of its pages is read from its source: no
//! page has to be added to a list of the tests.

use std::path::Path;

/// The list of all pages.
const LIST: &str = "admin/src/face/pages/site.rs";

/// What answers with a file, or leads to another page.
const NO_PAGES: &[&str] = &[
    "admin::domain::dns::zone_file",
    "admin::queue::to_list",
    "admin::report::raw",
    "inbox::download::file",
    "inbox::list::latest",
    "past::call::body",
    "past::history::export",
    "past::suppressions::export",
];

/// What makes pages, with the paths of the pages. An element in braces is variable.
#[derive(Debug)]
struct Maker {
    function: String,
    paths: Vec<String>,
}

/// Reads the list of all pages. Forms that are sent are no pages.
fn makers(list: &str) -> Vec<Maker> {
    let mut makers: Vec<Maker> = Vec::new();
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let (
            Some("open" | "login"),
            Some(area),
            Some("GET"),
            Some(path),
            Some("=>"),
            Some(function),
        ) = (
            words.next(),
            words.next(),
            words.next(),
            words.next(),
            words.next(),
            words.next(),
        )
        else {
            continue;
        };
        let path = format!("/{}/{}", area.to_lowercase(), path.trim_matches('"'));
        let function = function.trim_end_matches(';');
        match makers.iter_mut().find(|maker| maker.function == function) {
            Some(maker) => maker.paths.push(path),
            None => makers.push(Maker {
                function: function.to_owned(),
                paths: vec![path],
            }),
        }
    }
    makers
}

/// Whether a path with variable elements stands for another one.
fn is_for(pattern: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (pattern, path) = (pattern.split('/'), path.split('/'));
    pattern.clone().count() == path.clone().count()
        && pattern
            .zip(path)
            .all(|(wanted, found)| wanted.starts_with('{') && !found.is_empty() || wanted == found)
}

/// The functions of the server whose pages are none of these paths.
pub fn left_out(visited: &[String]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makers = makers(&std::fs::read_to_string(root.join(LIST)).unwrap());
    assert!(makers.len() > 80, "the list of pages has another form now");
    for known in NO_PAGES {
        let is_known = makers.iter().any(|maker| maker.function == *known);
        assert!(is_known, "{known} is in no list of pages");
    }
    let is_left_out = |maker: &Maker| {
        let is_visited = |pattern: &String| visited.iter().any(|path| is_for(pattern, path));
        !NO_PAGES.contains(&&*maker.function) && !maker.paths.iter().any(is_visited)
    };
    let left_out = makers.iter().filter(|maker| is_left_out(maker));
    left_out
        .map(|maker| format!("{} at {}", maker.function, maker.paths.join(" or ")))
        .collect()
}

#[test]
fn pages_without_a_visit_are_found() {
    let list = "    open Admin GET \"login\" => login::show;\n\
                login Admin POST \"queue\" => queue::act;\n\
                login Admin GET \"keys/{id}/remove\" => keys::ask;\n\
                login Account GET \"keys/{id}/remove\" => keys::ask;\n";
    let makers = makers(list);
    assert_eq!(makers.len(), 2, "{makers:?}");
    let paths = ["/admin/keys/{id}/remove", "/account/keys/{id}/remove"];
    assert_eq!(makers[1].paths, paths);
    assert!(is_for(
        "/admin/keys/{id}/remove",
        "/admin/keys/7/remove?told=1"
    ));
    for other in [
        "/admin/keys/7",
        "/admin/keys//remove",
        "/account/keys/7/remove",
    ] {
        assert!(!is_for("/admin/keys/{id}/remove", other), "{other}");
    }
}
