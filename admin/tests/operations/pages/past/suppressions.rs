//! Suppressions by their pages.

use futures_util::StreamExt;

use super::{
    super::{Seen, Visitor},
    HOSTILE, called, commands, is_escaped,
};

const PATH: &str = "/admin/suppressions";
const ADD: &str = "/admin/suppressions/add";
const IMPORT: &str = "/admin/suppressions/import";

async fn add(visitor: &Visitor, account: &str, address: &str, reason: &str) {
    let form = visitor.get(ADD).await;
    let fields = [
        ("account", account),
        ("address", address),
        ("reason", reason),
    ];
    let added = visitor.act(&form, ADD, &fields).await;
    assert!(
        added.text().contains("is suppressed for"),
        "{}",
        added.text()
    );
}

/// The addresses and accounts that a search finds.
async fn found(visitor: &Visitor, query: &str) -> Vec<(String, String)> {
    let page = visitor.get(&format!("{PATH}{query}")).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let rows = page.rows().into_iter();
    let address = |cell: &str| cell.split(' ').next().unwrap().to_owned();
    rows.map(|row| (address(&row[0]), row[1].clone())).collect()
}

#[tokio::test]
async fn addresses_are_added_found_by_any_variant_and_removed() {
    let visitor = Visitor::admin().await;
    assert!(
        visitor
            .get(PATH)
            .await
            .text()
            .contains("No address is suppressed.")
    );
    add(&visitor, "ann", "X.y+1@Remote.test", HOSTILE).await;
    add(&visitor, "bob", "z@remote.test", "asked").await;
    let all = found(&visitor, "").await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], ("z@remote.test".to_owned(), "bob".to_owned()));
    for query in [
        "?text=x.y%2Bother@remote.test",
        "?account=ann",
        "?text=alert",
    ] {
        let some = found(&visitor, query).await;
        assert_eq!(some.len(), 1, "{query}");
        assert_eq!(some[0].1, "ann", "{query}");
    }
    assert_eq!(found(&visitor, "?text=@remote").await.len(), 2);
    assert!(found(&visitor, "?manual=false").await.is_empty());
    is_escaped(&visitor, &[PATH, ADD, IMPORT]).await;

    let form = visitor.get(ADD).await;
    for (fields, status) in [
        ([("account", ""), ("address", "a@b.test")], 422),
        ([("account", "none"), ("address", "a@b.test")], 422),
        ([("account", "ann"), ("address", "no address")], 422),
        ([("account", "bob"), ("address", "Z+2@remote.test")], 422),
    ] {
        let again = visitor.send(&form, ADD, &fields).await;
        assert_eq!(again.status, status, "{fields:?}");
        assert!(again.html.contains("role=\"alert\""));
    }
    let path = "/admin/suppressions/remove";
    let ask = visitor
        .get(&format!("{path}?account=bob&address=z@remote.test"))
        .await;
    let removed = visitor.act(&ask, path, &[]).await;
    assert!(
        removed
            .text()
            .contains("bob can send to z@remote.test again.")
    );
    let missing = visitor
        .get(&format!("{path}?account=bob&address=z@remote.test"))
        .await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn the_command_and_the_call_have_all_filters() {
    let visitor = Visitor::admin().await;
    let query = "account=ann&text=alert&list=news&manual=true";
    for (query, expected) in [
        ("", ""),
        (
            query,
            " --account ann --text alert --list news --manual true",
        ),
    ] {
        let shown = commands(&visitor.get(&format!("{PATH}?{query}")).await);
        assert_eq!(shown[0], format!("postrider queue suppress list{expected}"));
        let path = called(&shown).replace("/api/queue/suppressions", "");
        assert_eq!(path.trim_start_matches('?'), query);
    }
}

#[tokio::test]
async fn a_table_is_checked_imported_and_exported() {
    let visitor = Visitor::admin().await;
    add(&visitor, "ann", "known@remote.test", "asked").await;
    let table = "address,reason\r\nnew@remote.test,'=1+1\r\nknown@remote.test,x\r\nwrong,y\r\n";
    let form = visitor.get(IMPORT).await;
    let fields = [("account", "ann"), ("table", table)];
    let checked = visitor.send(&form, IMPORT, &fields).await;
    assert_eq!(checked.status, 200, "{}", checked.text());
    assert!(
        checked
            .text()
            .contains("1 new address 1 that are on the list already 1 wrong row"),
        "{}",
        checked.text()
    );
    assert_eq!(checked.rows()[0][0], "4", "{:?}", checked.rows());
    assert_eq!(found(&visitor, "").await.len(), 1);
    // Wrong rows are left out only when that is ticked.
    let refused = visitor.send(&checked, IMPORT, &[]).await;
    assert_eq!(refused.status, 422);
    assert_eq!(found(&visitor, "").await.len(), 1);
    let fields = [("leave_out_wrong", "1")];
    let added = visitor.send(&refused, IMPORT, &fields).await;
    let told = ended(&visitor, &added).await;
    assert!(told.contains("1 address is suppressed for ann."), "{told}");
    assert_eq!(found(&visitor, "").await.len(), 2);

    let csv = visitor
        .get("/admin/suppressions/export?account=ann")
        .await
        .html;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "address,reason,list,created");
    assert!(lines[2].starts_with("new@remote.test,'=1+1,,20"), "{csv}");
    let form = visitor.get(IMPORT).await;
    let fields = [("account", "ann"), ("table", csv.as_str())];
    let again = visitor.send(&form, IMPORT, &fields).await;
    assert!(again.text().contains("0 new addresses"), "{}", again.text());
    assert!(again.text().contains("2 that are on the list already"));
    assert!(again.text().contains("There is nothing to add."));
}

#[tokio::test]
async fn a_list_is_cleared_only_by_who_types_its_name() {
    let visitor = Visitor::admin().await;
    for address in ["a@remote.test", "b@remote.test", "c@other.test"] {
        add(&visitor, "ann", address, "asked").await;
    }
    add(&visitor, "bob", "a@remote.test", "asked").await;
    let path = "/admin/suppressions/clear";
    let ask = visitor
        .get(&format!("{path}?account=ann&text=@remote.test"))
        .await;
    assert!(
        ask.text().contains("2 entries of ann that match"),
        "{}",
        ask.text()
    );
    let wrong = visitor.send(&ask, path, &[("typed", "bob")]).await;
    assert_eq!(wrong.status, 422);
    let cleared = visitor.send(&wrong, path, &[("typed", "ann")]).await;
    let told = ended(&visitor, &cleared).await;
    assert!(told.contains("2 suppressions are removed."), "{told}");
    assert_eq!(found(&visitor, "").await.len(), 2);
    let ask = visitor.get(path).await;
    let cleared = visitor.send(&ask, path, &[("typed", "everything")]).await;
    let told = ended(&visitor, &cleared).await;
    assert!(told.contains("2 suppressions are removed."), "{told}");
}

#[tokio::test]
async fn a_holder_has_the_own_list_alone() {
    let visitor = Visitor::holder("ann", "ann@a.test").await;
    let add = "/account/suppressions/add";
    let form = visitor.get(add).await;
    // The account is not asked for, and not taken from elsewhere.
    let fields = [("account", "bob"), ("address", "a@remote.test")];
    let added = visitor.act(&form, add, &fields).await;
    assert!(
        added
            .text()
            .contains("a@remote.test is suppressed for ann.")
    );
    assert_eq!(added.rows().len(), 1);
    assert!(!added.html.contains("postrider queue"));
    let foreign = "/account/suppressions/remove?account=bob&address=b@remote.test";
    assert_eq!(visitor.get(foreign).await.status, 404);
    let csv = visitor
        .get("/account/suppressions/export?account=bob")
        .await;
    assert!(csv.html.contains("a@remote.test,added by the account,,"));
    let path = "/account/suppressions/clear";
    let ask = visitor.get(&format!("{path}?account=bob")).await;
    let cleared = visitor.send(&ask, path, &[("typed", "ann")]).await;
    let told = ended(&visitor, &cleared).await;
    assert!(told.contains("1 suppression is removed."), "{told}");
}

#[tokio::test]
async fn long_tables_go_step_by_step_for_holders_too() {
    let visitor = Visitor::holder("ann", "ann@a.test").await;
    let path = "/account/suppressions/import";
    let table: Vec<String> = (0..450).map(|at| format!("a{at}@remote.test")).collect();
    let table = format!("{}\nwrong\n", table.join("\n"));
    let form = visitor.get(path).await;
    let checked = visitor.send(&form, path, &[("table", &table)]).await;
    assert!(checked.text().contains("450 new addresses"));
    let fields = [("leave_out_wrong", "1")];
    let added = visitor.send(&checked, path, &fields).await;
    let told = ended(&visitor, &added).await;
    assert!(
        told.contains("450 addresses are suppressed for ann. 1 row was wrong"),
        "{told}"
    );
    let path = "/account/suppressions/clear";
    let ask = visitor.get(path).await;
    let cleared = visitor.send(&ask, path, &[("typed", "ann")]).await;
    let told = ended(&visitor, &cleared).await;
    assert!(told.contains("450 suppressions are removed."), "{told}");
    assert_eq!(visitor.get("/account/work/none").await.status, 404);
}

/// What work tells at its end, by the list if it was short, else by its own page.
async fn ended(visitor: &Visitor, begun: &Seen) -> String {
    let mut page = visitor.get(begun.location()).await;
    if begun.location().contains("/work/") {
        let stream = page.html.split("hx-sse:connect=\"").nth(1);
        if let Some(stream) = stream {
            let stream = stream.split('"').next().unwrap().replace("&#38;", "&");
            let mut news = visitor.stream(&stream, None).await;
            while news.next().await.is_some() {}
        }
        page = visitor.get(begun.location()).await;
    }
    page.text()
}
