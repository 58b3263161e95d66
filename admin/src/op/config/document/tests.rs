//! Edits of files as people write them.

use postrider_config::toml_edit::Key;

use super::*;

/// The text after an edit.
fn edited(text: &str, edit: impl FnOnce(&mut DocumentMut)) -> String {
    let mut document: DocumentMut = text.parse().unwrap();
    edit(&mut document);
    let text = document.to_string();
    text.parse::<DocumentMut>().unwrap();
    text
}

#[test]
fn a_removed_entry_takes_its_comment_along_and_leaves_the_others() {
    let check = |path: &[&str], before: &str, after: &str| {
        let found = edited(before, |document| assert!(remove(document, path).unwrap()));
        assert_eq!(found, after, "{path:?}");
    };
    let tables = "# My domains.\n\n# The old one.\n[domains.\"a.test\"]\ndescription = \"a\" # old\n\
        # disabled = true\n\n[domains.\"a.test\".dkim]\nsign = []\n\n# The new one.\n\
        [domains.\"b.test\"]\n\n# The end.\n";
    check(
        &["domains", "a.test"],
        tables,
        "# My domains.\n\n# The new one.\n[domains.\"b.test\"]\n\n# The end.\n",
    );
    check(
        &["domains", "b.test"],
        tables,
        "# My domains.\n\n# The old one.\n[domains.\"a.test\"]\ndescription = \"a\" # old\n\
        # disabled = true\n\n[domains.\"a.test\".dkim]\nsign = []\n\n# The end.\n",
    );
    check(
        &["domains", "a.test", "dkim", "sign"],
        tables,
        "# My domains.\n\n# The old one.\n[domains.\"a.test\"]\ndescription = \"a\" # old\n\
        # disabled = true\n\n# The new one.\n[domains.\"b.test\"]\n\n# The end.\n",
    );
    let dotted = "[accounts.a]\ndomain = \"a.test\"\n# First.\ndestinations.\"a@a.test\" = {}\n\
        # Second.\ndestinations.\"b@a.test\".mailbox = \"B\" # b\nquota = 1\n";
    check(
        &["accounts", "a", "destinations", "b@a.test"],
        dotted,
        "[accounts.a]\ndomain = \"a.test\"\n# First.\ndestinations.\"a@a.test\" = {}\nquota = 1\n",
    );
    check(
        &["accounts", "a", "destinations", "b@a.test", "mailbox"],
        dotted,
        "[accounts.a]\ndomain = \"a.test\"\n# First.\ndestinations.\"a@a.test\" = {}\n\
        destinations.\"b@a.test\" = {}\nquota = 1\n",
    );
    check(
        &["accounts", "a", "quota"],
        "[accounts]\na = { domain = \"a.test\", quota = 1 }\n",
        "[accounts]\na = { domain = \"a.test\" }\n",
    );
    check(
        &["accounts", "a"],
        "x = 1\naccounts.a = { domain = \"a.test\" } # a\naccounts.b.domain = \"a.test\"\n",
        "x = 1\naccounts.b.domain = \"a.test\"\n",
    );
    check(
        &["accounts", "b"],
        "x = 1\n\n[accounts.b]\ndomain = \"a.test\"\n\n[accounts.b.destinations.\"b@a.test\"]\n",
        "x = 1\n",
    );
    check(
        &["domains", "a.test", "description"],
        "domains.\"a.test\".description = \"a\"\n",
        "[domains]\n\"a.test\" = {}\n",
    );
    check(
        &["routes"],
        "[[routes]]\ntransport = \"a\"\n\n[[routes]]\ntransport = \"b\"\n[accounts.a]\n",
        "[accounts.a]\n",
    );
    let text = "[accounts.a]\ndomain = \"a.test\"\n";
    let same = edited(text, |document| {
        assert!(!remove(document, &["accounts", "b"]).unwrap());
        assert!(!remove(document, &["domains", "a.test", "dkim"]).unwrap());
    });
    assert_eq!(same, text);
}

#[test]
fn a_new_entry_takes_the_form_of_its_siblings() {
    let content = || InlineTable::from_iter([("mailbox", "B")]);
    let check = |before: &str, after: &str| {
        let path = ["accounts", "a", "destinations", "b@a.test"];
        let found = edited(before, |document| {
            add_table(document, &path, content()).unwrap();
        });
        assert_eq!(found, after);
    };
    check(
        "[accounts.a]\ndestinations.\"a@a.test\" = {}\n\n[accounts.c]\n",
        "[accounts.a]\ndestinations.\"a@a.test\" = {}\n\
        destinations.\"b@a.test\" = { mailbox = \"B\" }\n\n[accounts.c]\n",
    );
    check(
        "[accounts.a.destinations]\n\"a@a.test\" = {}\n\n[accounts.c]\n",
        "[accounts.a.destinations]\n\"a@a.test\" = {}\n\
        \"b@a.test\" = { mailbox = \"B\" }\n\n[accounts.c]\n",
    );
    check(
        "[accounts.a.destinations.\"a@a.test\"]\n\n# Another.\n[accounts.c]\n",
        "[accounts.a.destinations.\"a@a.test\"]\n\n\
        [accounts.a.destinations.\"b@a.test\"]\nmailbox = \"B\"\n\n# Another.\n[accounts.c]\n",
    );
    check(
        "accounts.a = { destinations = { \"a@a.test\" = {} } }\n",
        "accounts.a = { destinations = { \"a@a.test\" = {}, \"b@a.test\" = { mailbox = \"B\" } } }\n",
    );
    let domains = "# Ours.\n[domains.\"a.test\"]\n[domains.\"a.test\".dkim]\nsign = []\n\n\
        # People.\n[accounts.a]\n";
    let found = edited(domains, |document| {
        let path = ["domains", "b.test"];
        add_table(document, &path, InlineTable::new()).unwrap();
        set(document, &["domains", "b.test", "dmarc", "account"], "a").unwrap();
    });
    assert_eq!(
        found,
        "# Ours.\n[domains.\"a.test\"]\n[domains.\"a.test\".dkim]\nsign = []\n\n\
        [domains.\"b.test\"]\ndmarc.account = \"a\"\n\n# People.\n[accounts.a]\n",
    );
    let found = edited("# Empty so far.\n", |document| {
        add_table(document, &["accounts", "a"], content()).unwrap();
    });
    assert_eq!(found, "[accounts.a]\nmailbox = \"B\"\n# Empty so far.\n");
    let found = edited("domains.\"a.test\".disabled = true\n", |document| {
        add_table(document, &["domains", "b.test"], InlineTable::new()).unwrap();
    });
    assert_eq!(
        found,
        "domains.\"a.test\".disabled = true\n\n[domains.\"b.test\"]\n"
    );
}

#[test]
fn a_table_of_an_array_has_its_place() {
    let tables = "[domains.\"a.test\"]\n\n[[routes]]\ntransport = \"a\"\n\n# B.\n[[routes]]\n\
        transport = \"b\"\n\n[accounts.a]\n";
    let insert = |text: &str, index| {
        edited(text, |document| {
            let content = InlineTable::from_iter([("transport", "c")]);
            insert_element(document, &["routes"], index, content).unwrap();
        })
    };
    let c = "\n[[routes]]\ntransport = \"c\"\n";
    let a = "\n[[routes]]\ntransport = \"a\"\n";
    let b = "\n# B.\n[[routes]]\ntransport = \"b\"\n";
    for (index, routes) in [
        (Some(0), [c, a, b]),
        (Some(1), [a, c, b]),
        (Some(2), [a, b, c]),
        (None, [a, b, c]),
    ] {
        let expected = format!("[domains.\"a.test\"]\n{}\n[accounts.a]\n", routes.concat());
        assert_eq!(insert(tables, index), expected, "{index:?}");
    }
    let inline = "routes = [{ transport = \"a\" }, { transport = \"b\" }]\n";
    assert_eq!(
        insert(inline, Some(0)),
        "routes = [{ transport = \"c\" }, { transport = \"a\" }, { transport = \"b\" }]\n"
    );
    for (text, index, expected) in [
        (tables, 0, tables.replace(&a[1..], "")),
        (tables, 1, tables.replace(b, "")),
        (inline, 0, inline.replace("{ transport = \"a\" }, ", "")),
        (inline, 1, inline.replace(", { transport = \"b\" }", "")),
    ] {
        let found = edited(text, |document| {
            assert!(remove_at(document, &["routes"], index).unwrap());
            assert!(!remove_at(document, &["routes"], 7).unwrap());
        });
        assert_eq!(
            found.replace("\n\n\n", "\n\n"),
            expected.replace("\n\n\n", "\n\n")
        );
    }
}

#[test]
fn a_value_is_set_in_its_place_with_its_comment() {
    let text = "[accounts.a]\nquota = 1 # for now\ndomain = \"a.test\"\n";
    let found = edited(text, |document| {
        set(document, &["accounts", "a", "quota"], "2GB").unwrap();
        set(document, &["accounts", "a", "keep_rejects"], true).unwrap();
    });
    assert_eq!(
        found,
        "[accounts.a]\nquota = \"2GB\" # for now\ndomain = \"a.test\"\nkeep_rejects = true\n"
    );
    edited(text, |document| {
        let error = set(document, &["accounts", "a", "quota", "x"], 1).unwrap_err();
        assert_eq!(error.text, "quota is not a table in the file");
    });
}

#[test]
fn elements_come_and_go_with_their_comments() {
    let lines = "x = [\n    \"a\", # first\n    \"b\", # second\n    \"c\", # third\n]\n";
    let check = |before: &str, change: fn(&mut Array), after: &str| {
        let found = edited(before, |document| {
            change_array(document, &["x"], change).unwrap();
        });
        assert_eq!(found, after);
    };
    fn is(value: &Value, text: &str) -> bool {
        value.as_str() == Some(text)
    }
    check(
        lines,
        |array| push(array, "d"),
        "x = [\n    \"a\", # first\n    \"b\", # second\n    \"c\", # third\n    \"d\",\n]\n",
    );
    check(
        "x = [\n  \"a\", # first\n  \"b\" # second\n]\n",
        |array| push(array, "c"),
        "x = [\n  \"a\", # first\n  \"b\", # second\n  \"c\"\n]\n",
    );
    check(
        "x = [\"a\"]\n",
        |array| push(array, "b"),
        "x = [\"a\", \"b\"]\n",
    );
    check("y = 1\n", |array| push(array, "b"), "y = 1\nx = [\"b\"]\n");
    check(
        lines,
        |array| remove_elements(array, |value| is(value, "b")),
        "x = [\n    \"a\", # first\n    \"c\", # third\n]\n",
    );
    check(
        lines,
        |array| remove_elements(array, |value| !is(value, "b")),
        "x = [\n    \"b\", # second\n]\n",
    );
    check(
        "x = [\"a\", \"b\", \"c\"]\n",
        |array| remove_elements(array, |value| is(value, "a")),
        "x = [\"b\", \"c\"]\n",
    );
    check(
        "x = [\"a\", \"b\"]\ny = 1\n",
        |array| remove_elements(array, |value| is(value, "b")),
        "x = [\"a\"]\ny = 1\n",
    );
    check(
        "x = [\"a\"]\ny = 1\n",
        |array| remove_elements(array, |_| true),
        "y = 1\n",
    );
}

#[test]
fn a_comment_stands_right_above_an_entry() {
    let check = |before: &str, after: &str| {
        let path = ["domains", "a.test", "dkim", "selectors", "s"];
        let found = edited(before, |document| {
            comment(document, &path, &["One.".into(), "Two.".into()]).unwrap();
        });
        assert_eq!(found, after);
    };
    check(
        "[domains.\"a.test\".dkim]\nsign = []\n  # Old.\n  selectors.s.hash = \"sha256\"\n",
        "[domains.\"a.test\".dkim]\nsign = []\n  # Old.\n  # One.\n  # Two.\n  \
        selectors.s.hash = \"sha256\"\n",
    );
    check(
        "[domains.\"a.test\".dkim.selectors.s]\nhash = \"sha256\"\n",
        "# One.\n# Two.\n[domains.\"a.test\".dkim.selectors.s]\nhash = \"sha256\"\n",
    );
    let inline = "domains.\"a.test\" = { dkim.selectors.s = {} }\n";
    check(inline, inline);
}

/// The paths of all entries below a table, but not those inside arrays.
fn paths(table: &dyn TableLike, above: &[String], all: &mut Vec<Vec<String>>) {
    for (name, item) in table.iter() {
        let path = [above, &[name.to_owned()]].concat();
        if let Some(table) = item.as_table_like() {
            paths(table, &path, all);
        }
        all.push(path);
    }
}

/// The flat form of a document without the entry at a path, and without empty tables.
fn without(document: &DocumentMut, path: &[&str]) -> Vec<(String, String)> {
    let keys = path.iter().map(|name| Key::new(*name));
    let keys: Vec<String> = keys.map(|key| key.display_repr().into_owned()).collect();
    let (key, below) = (keys.join("."), format!("{}.", keys.join(".")));
    let all = postrider_config::settings(document).into_iter();
    all.filter(|(name, value)| *name != key && !name.starts_with(&below) && value != "{}")
        .collect()
}

#[test]
fn an_edit_of_any_entry_of_any_file_changes_nothing_else() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/config/dynamic");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let Ok(document) = text.parse::<DocumentMut>() else {
            continue;
        };
        let mut all = Vec::new();
        paths(document.as_table(), &[], &mut all);
        for path in &all {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let shown = format!("{}: {path:?}", file.display());
            let mut removed = document.clone();
            assert!(remove(&mut removed, &path).unwrap(), "{shown}");
            assert_eq!(
                without(&removed, &path),
                without(&document, &path),
                "{shown}"
            );
            let read: DocumentMut = removed.to_string().parse().unwrap();
            assert_eq!(without(&read, &[]), without(&removed, &[]), "{shown}");

            // The same value again changes no byte.
            let value = find(document.as_item(), &path).and_then(Item::as_value);
            if let Some(value) = value {
                let mut same = document.clone();
                set(&mut same, &path, value.clone()).unwrap();
                assert_eq!(same.to_string(), text, "{shown}");
            }
            count += 1;
        }
    }
    assert!(count > 100, "{count} entries");
}
