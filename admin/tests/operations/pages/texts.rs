//! The files of the configuration by their pages.

use std::{fs, time::Duration};

use postrider_admin::op::config::file::DomainsVersions;

use super::{super::http::TENANTS, PASSWORD, Visitor};

const PATH: &str = "/admin/config/domains";

fn file(visitor: &Visitor) -> String {
    fs::read_to_string(visitor.desk.path().join("domains.conf")).unwrap()
}

/// The field with the hash of what was edited.
fn hash(html: &str) -> String {
    let after = html.split("name=\"hash\" value=\"").nth(1).unwrap();
    after.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn both_files_are_shown_without_secrets() {
    let visitor = Visitor::admin().await;
    let statics = visitor.desk.path().join("domains.conf");
    let text = format!(
        "{TENANTS}[accounts.ann.outgoing_webhook]\nurl = \"https://x.test/<i>\"\n\
         authorization = \"Basic hidden\"\n"
    );
    fs::write(statics, text).unwrap();
    let page = visitor.get("/admin/config").await;
    assert_eq!(page.status, 200);
    assert!(
        page.html.contains("<li id=\"d1\"><code>[domains."),
        "{}",
        page.html
    );
    assert!(
        page.text().contains("authorization = \"****\""),
        "{}",
        page.text()
    );
    assert!(!page.html.contains("Basic hidden") && !page.html.contains("<i>"));
    assert!(
        page.text()
            .contains("The server has not read this file yet.")
    );
}

#[tokio::test]
async fn a_text_is_checked_compared_and_saved() {
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    assert!(page.html.contains("<textarea"), "{}", page.text());
    // Browsers send CRLF.
    let wrong = format!("{TENANTS}[accounts.ann]\n").replace('\n', "\r\n");
    let fields = [("text", wrong.as_str()), ("do", "check")];
    let again = visitor.send(&page, PATH, &fields).await;
    assert_eq!(again.status, 422);
    assert!(
        again.text().contains("The text can't be saved:"),
        "{}",
        again.text()
    );
    let unknown = format!("{TENANTS}[accounts.ann.nothing]\n");
    let again = visitor
        .send(&page, PATH, &[("text", &unknown), ("do", "difference")])
        .await;
    assert_eq!(again.status, 422);
    assert!(again.text().contains("Line 17"), "{}", again.text());

    let text = format!("# <b>\n{TENANTS}").replace('\n', "\r\n");
    let fields = [("text", text.as_str()), ("do", "check")];
    let checked = visitor.send(&page, PATH, &fields).await;
    assert_eq!(checked.status, 200);
    assert!(
        checked.text().contains("The text is right"),
        "{}",
        checked.text()
    );
    let fields = [("text", text.as_str()), ("do", "difference")];
    let difference = visitor.send(&page, PATH, &fields).await;
    assert!(
        difference.html.contains("<tr class=\"added\">"),
        "{}",
        difference.html
    );
    assert!(!difference.html.contains("<b>\n") && file(&visitor) == TENANTS);
    let saved = visitor.act(&difference, PATH, &[("do", "save")]).await;
    assert!(saved.text().contains("domains.conf is saved and in force"));
    assert_eq!(file(&visitor), format!("# <b>\n{TENANTS}"));

    // Somebody who edited the older text sees both.
    let late = visitor
        .send(&page, PATH, &[("text", TENANTS), ("do", "save")])
        .await;
    assert_eq!(late.status, 409);
    assert!(late.html.contains("<tr class=\"removed\">") && late.html.contains("<textarea"));
    assert_ne!(hash(&late.html), hash(&page.html));
    assert_eq!(file(&visitor), format!("# <b>\n{TENANTS}"));
}

#[tokio::test]
async fn secrets_need_the_password_once_more() {
    let visitor = Visitor::admin().await;
    visitor.desk.clock.advance(Duration::from_secs(20 * 60));
    let page = visitor.get(PATH).await;
    assert!(!page.html.contains("<textarea") && page.html.contains("name=\"proof\""));
    let fields = [("text", TENANTS), ("hash", "x"), ("do", "save")];
    let mut body = form_urlencoded::Serializer::new(String::new());
    let token = page.html.split("name=\"token\" value=\"").nth(1).unwrap();
    body.append_pair("token", token.split('"').next().unwrap());
    body.extend_pairs(fields);
    let refused = visitor.request("POST", PATH, &[], body.finish()).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    let wrong = [("proof", "wrong")];
    let again = visitor
        .send(&page, "/admin/config/domains/open", &wrong)
        .await;
    assert_eq!(again.status, 422);
    let proof = [("proof", PASSWORD)];
    let open = visitor
        .act(&page, "/admin/config/domains/open", &proof)
        .await;
    assert!(open.html.contains("<textarea"), "{}", open.text());
}

#[tokio::test]
async fn an_earlier_version_is_compared_and_restored() {
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    let first = format!("# one\n{TENANTS}");
    let fields = [("text", first.as_str()), ("do", "save")];
    visitor.act(&page, PATH, &fields).await;
    let page = visitor.get(PATH).await;
    let fields = [("text", TENANTS), ("do", "save")];
    let page = visitor.act(&page, PATH, &fields).await;
    let rows = page.rows();
    assert_eq!(rows.len(), 2, "{}", page.text());
    assert!(rows[0][0].contains("in force") && rows[1][3].contains("config.domains_save"));
    let versions = visitor.desk.list(DomainsVersions {}).await;
    let version = format!("{PATH}/versions/{}", versions[1].id);
    let compared = visitor.get(&version).await;
    assert!(compared.text().contains("# one"), "{}", compared.text());
    let restore = format!("{version}/restore");
    // The file changes meanwhile.
    let stale = [("hash", "x")];
    let late = visitor.send(&compared, &restore, &stale).await;
    assert_eq!(late.status, 409, "{}", late.text());
    let restored = visitor.act(&compared, &restore, &[]).await;
    assert!(
        restored.text().contains("is in force"),
        "{}",
        restored.text()
    );
    assert_eq!(file(&visitor), first);
    assert_eq!(
        visitor.get(&format!("{PATH}/versions/999")).await.status,
        404
    );
}
