//! Hold rules by their page.

use super::Visitor;

const PATH: &str = "/admin/hold-rules";

#[tokio::test]
async fn a_rule_is_added_and_removed() {
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    let fields = [("recipient_domain", "b.test")];
    let added = visitor.act(&page, PATH, &fields).await;
    assert!(
        added
            .text()
            .contains("Rule 1 holds 0 queued messages, and new ones.")
    );
    let rows = added.rows();
    assert_eq!(rows.len(), 1, "{}", added.html);
    assert!(added.html.contains("<caption>1 rule</caption>"));
    assert!(rows[0][1].contains("b.test"), "{rows:?}");
    assert!(added.text().contains("1 rule Rule"), "{}", added.text());
    // A notice is told once.
    assert!(!visitor.get(PATH).await.text().contains("Rule 1 holds 0"));

    let ask = visitor.get("/admin/hold-rules/1/remove").await;
    assert!(ask.text().contains("Remove hold rule 1?"));
    let gone = visitor.act(&ask, "/admin/hold-rules/1/remove", &[]).await;
    assert!(gone.text().contains("Rule 1 is removed."));
    assert!(gone.rows().is_empty());
    assert_eq!(visitor.get("/admin/hold-rules/1/remove").await.status, 404);
}

#[tokio::test]
async fn a_form_that_is_sent_twice_acts_once() {
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    let fields = [("account", "ann")];
    let first = visitor.send(&page, PATH, &fields).await;
    let second = visitor.send(&page, PATH, &fields).await;
    assert_eq!(first.location(), second.location());
    assert_eq!(visitor.get(PATH).await.rows().len(), 1);
}

#[tokio::test]
async fn a_wrong_field_comes_back_as_it_was_typed() {
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    let hostile = "\"><script>alert(1)</script>";
    let fields = [("sender", hostile), ("account", "ann")];
    let again = visitor.send(&page, PATH, &fields).await;
    assert_eq!(again.status, 422);
    assert!(!again.html.contains("<script>alert"), "{}", again.html);
    assert!(again.html.contains("aria-describedby=\"e-sender\""));
    assert!(again.html.contains("value=\"ann\""));
}

#[tokio::test]
async fn everything_is_held_only_by_who_types_it() {
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    let asked = visitor.send(&page, PATH, &[]).await;
    assert_eq!(asked.status, 422);
    assert!(asked.text().contains("Type everything to confirm"));
    let wrong = visitor.send(&asked, PATH, &[("typed", "all")]).await;
    assert_eq!(wrong.status, 422);
    let held = visitor.act(&wrong, PATH, &[("typed", "everything")]).await;
    assert_eq!(held.rows().len(), 1);
}
