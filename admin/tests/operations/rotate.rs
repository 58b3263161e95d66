//! The rotation of DKIM keys.

use std::time::Duration;

use postrider_admin::op::config::dkim::{DkimItem, List, Rotate, Rotated, Step};
use postrider_dns::Record;

use super::Desk;

const STATICS: &str = "hostname = \"mail.example.org\"\n[postmaster]\naccount = \"app\"\n\
    [listeners.l]\nips = [\"127.0.0.1\"]\n\
    [queue]\nretry_intervals = [\"1h\", \"1h\"]\nretry_spread = 0.5\n";
const DYNAMICS: &str = "[domains.\"example.org\"]\n[accounts.app]\ndomain = \"example.org\"\n\
    destinations.\"app@example.org\" = {}\n";

async fn rotate(desk: &Desk) -> Rotated {
    let domain = "example.org".to_owned();
    desk.ask(Rotate { domain }).await
}

fn names(keys: &[DkimItem]) -> Vec<&str> {
    keys.iter().map(|key| key.selector.as_str()).collect()
}

fn publish(desk: &Desk, key: &DkimItem, content: &str) {
    let name = key.name.trim_end_matches('.');
    desk.resolver.remove(name);
    desk.resolver
        .add(name, Record::Txt(content.as_bytes().to_vec()));
}

fn text(desk: &Desk) -> String {
    std::fs::read_to_string(desk.path().join("domains.conf")).unwrap()
}

#[tokio::test]
async fn keys_are_made_published_and_switched() {
    let desk = Desk::with(STATICS, DYNAMICS);
    let made = rotate(&desk).await;
    assert_eq!(made.step, Step::Made);
    assert_eq!(
        (names(&made.signing), names(&made.waiting)),
        (vec![], vec!["2027a", "2027b"])
    );
    let before = text(&desk);

    // None of the records is in DNS.
    let lacking = rotate(&desk).await;
    assert_eq!(lacking.step, Step::Unpublished);
    assert_eq!(
        lacking.problems,
        [
            "2027a._domainkey.example.org has no TXT record",
            "2027b._domainkey.example.org has no TXT record",
        ]
    );
    assert_eq!(lacking.waiting, made.waiting);
    let [first, second] = &*made.waiting else {
        panic!("{made:?}");
    };
    publish(&desk, first, &first.content);
    for (content, problem) in [
        ("v=DKIM1; p=AAAA".to_owned(), "has another key"),
        (format!("{}; t=y", second.content), "says that it is a test"),
    ] {
        publish(&desk, second, &content);
        let lacking = rotate(&desk).await;
        assert_eq!(lacking.step, Step::Unpublished);
        assert!(
            lacking.problems[0].contains(problem),
            "{:?}",
            lacking.problems
        );
        assert_eq!(lacking.problems.len(), 1);
    }
    let name = second.name.trim_end_matches('.');
    publish(&desk, second, &second.content);
    desk.resolver
        .add(name, Record::Txt(b"v=DKIM1; p=".to_vec()));
    assert!(rotate(&desk).await.problems[0].ends_with("has more than one TXT record"));
    desk.resolver.fail(name);
    assert_eq!(rotate(&desk).await.step, Step::Unpublished);
    desk.resolver.mend(name);
    assert_eq!(text(&desk), before);
    assert_eq!(desk.key_files().map(|files| files.len()), [2, 0]);

    // Servers may fold a record and add blanks.
    let folded = second
        .content
        .replace("; ", ";\t ")
        .replacen("p=MII", "p=M II", 1);
    publish(&desk, second, &folded);
    let switched = rotate(&desk).await;
    assert_eq!(switched.step, Step::Switched);
    assert_eq!(names(&switched.signing), ["2027a", "2027b"]);
    assert_eq!(names(&switched.waiting), ["2027c", "2027d"]);
    assert_eq!((switched.old, switched.old_needed_until), (vec![], None));

    for key in &switched.waiting {
        publish(&desk, key, &key.content);
    }
    desk.clock.advance(Duration::from_secs(366 * 24 * 3600));
    let again = rotate(&desk).await;
    assert_eq!(names(&again.signing), ["2027c", "2027d"]);
    assert_eq!(names(&again.waiting), ["2028a", "2028b"]);
    assert_eq!(again.old, ["2027a", "2027b"]);
    // Two waits of an hour, half an hour longer each, and signatures of 72 hours.
    assert_eq!(
        again.old_needed_until.as_deref(),
        Some("2028-01-19T11:00:00Z")
    );
    let text = text(&desk);
    assert!(text.contains("sign = [\"2027c\", \"2027d\"]\n"), "{text}");
    let comment = "# Signs no more since 2028-01-16. After 2028-01-19T11:00Z, remove it:\n\
        # postrider config dkim rm example.org 2027a\n";
    assert!(
        text.contains(&format!("{comment}dkim.selectors.2027a")),
        "{text}"
    );
    let listed = desk.list(List { domain: None }).await;
    let signing: Vec<bool> = listed.iter().map(|key| key.signs).collect();
    assert_eq!(signing, [false, false, true, true, false, false]);
}
