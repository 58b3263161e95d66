//! Who did what, by the pages: the audit log, logins and sessions.

use postrider_admin::op::{Single, hold_rules};

use super::{PASSWORD, Seen, Visitor};

/// Adds a rule for this recipient, so that the audit log has an entry.
async fn change(visitor: &Visitor, recipient: &str) {
    let add = hold_rules::Add {
        recipient: Some(recipient.to_owned()),
        ..hold_rules::Add::default()
    };
    add.answer(&visitor.desk.context).await.unwrap();
}

/// The link with this text.
fn link(seen: &Seen, text: &str) -> String {
    let before = seen.html.split(&format!(">{text}</a>")).next().unwrap();
    assert!(
        before.len() < seen.html.len(),
        "no link {text}: {}",
        seen.text()
    );
    let href = before.rsplit("href=\"").next().unwrap();
    href.split('"').next().unwrap().replace("&#38;", "&")
}

#[tokio::test]
async fn the_audit_log_is_filtered_and_read_part_by_part() {
    let visitor = Visitor::admin().await;
    let path = "/admin/audit";
    change(&visitor, "\"<script>alert(1)</script>\"@b.test").await;
    for number in 0..60 {
        change(&visitor, &format!("r{number}@b.test")).await;
    }
    let page = visitor.get(path).await;
    let rows = page.rows();
    assert_eq!(rows.len(), 50);
    assert_eq!(rows[0][2], "hold_rule.add");
    assert!(rows[0][4].contains("r59@b.test"), "{:?}", rows[0]);
    assert_eq!(rows[0][5], "done");
    let older = visitor
        .get(&format!("{path}{}", link(&page, "Next page")))
        .await;
    assert!(!older.html.contains("<script>alert"), "{}", older.html);
    let rest = older.rows();
    assert!(rest.len() >= 11, "{}", rest.len());
    let newer = visitor
        .get(&format!("{path}{}", link(&older, "Page before")))
        .await;
    assert_eq!(newer.rows(), rows);

    let none = visitor.get("/admin/audit?operation=key.add").await;
    assert!(none.rows().is_empty() && none.text().contains("No entry matches."));
    assert!(
        none.text()
            .contains("postrider audit list --operation key.add")
    );
    let ours = visitor
        .get("/admin/audit?operation=hold_rule.add&since=1h")
        .await;
    assert_eq!(ours.rows().len(), 50);
    for wrong in ["since=soon", "operation=nothing.like"] {
        let again = visitor.get(&format!("{path}?{wrong}")).await;
        assert_eq!(again.status, 422, "{wrong}");
        assert!(again.html.contains("role=\"alert\""), "{}", again.html);
    }
    let hostile = visitor
        .get("/admin/audit?target=%22%3E%3Cscript%3Ealert(1)")
        .await;
    assert!(!hostile.html.contains("<script>alert"), "{}", hostile.html);
}

#[tokio::test]
async fn logins_are_listed_and_failures_forgotten() {
    let visitor = Visitor::admin().await;
    let login = visitor.get("/account/login").await;
    for _ in 0..2 {
        let fields = [("name", "ann@a.test"), ("password", "<b>wrong</b>")];
        visitor.send(&login, "/account/login", &fields).await;
    }
    let page = visitor.get("/admin/logins?account=ann").await;
    let rows = page.rows();
    assert_eq!(rows.len(), 1, "{}", page.text());
    assert_eq!((rows[0][1].as_str(), rows[0][2].as_str()), ("ann", "wrong"));
    assert!(rows[0][3].starts_with('2'), "{rows:?}");
    assert!(page.text().contains("postrider login list --account ann"));
    let right = visitor.get("/admin/logins?result=ok").await.rows();
    assert_eq!(right[0][1], "the administrator");
    let other = visitor.get("/admin/logins?ip=192.0.2.9").await;
    assert!(other.rows().is_empty() && other.text().contains("No login matches."));
    assert_eq!(visitor.get("/admin/logins?ip=x").await.status, 422);
    assert_eq!(
        visitor.get("/admin/logins?account=nobody").await.status,
        422
    );

    let unlocked = visitor.act(&page, "/admin/logins/unlock", &[]).await;
    let text = unlocked.text();
    assert!(text.contains("forgotten. The next login of ann"), "{text}");
    let nobody = [("unlock_account", ""), ("unlock_ip", "")];
    let page = visitor.get("/admin/logins").await;
    let again = visitor.send(&page, "/admin/logins/unlock", &nobody).await;
    assert_eq!(again.status, 422);
    assert!(again.text().contains("name an account, a network, or both"));
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let mut visitor = Visitor::admin().await;
    let first = std::mem::take(&mut visitor.cookies);
    let login = visitor.get("/admin/login").await;
    let entered = visitor
        .send(&login, "/admin/login", &[("password", PASSWORD)])
        .await;
    visitor.keep(&entered);
    let path = "/admin/sessions";
    let page = visitor.get(path).await;
    let rows = page.rows();
    assert_eq!(rows.len(), 2, "{}", page.text());
    let own: Vec<_> = rows
        .iter()
        .filter(|row| row[0].contains("this one"))
        .collect();
    assert_eq!(own.len(), 1);
    let ask = visitor.get("/admin/sessions/end").await;
    assert!(ask.text().contains("1 session ends."), "{}", ask.text());
    let ended = visitor.act(&ask, "/admin/sessions/end", &[]).await;
    assert!(ended.text().contains("1 session has ended."));
    assert_eq!(ended.rows().len(), 1);
    assert_eq!(visitor.get("/admin/sessions/999/end").await.status, 404);
    // The other browser has to log in again.
    let kept = std::mem::replace(&mut visitor.cookies, first);
    assert_eq!(visitor.get(path).await.status, 303);
    visitor.cookies = kept;
    let id = own[0][0].split(' ').next().unwrap();
    let ask = visitor.get(&format!("{path}/{id}/end")).await;
    assert!(ask.text().contains("It is the session that you use now."));
    let sent = visitor.send(&ask, &format!("{path}/{id}/end"), &[]).await;
    assert_eq!(sent.status, 303);
    assert_eq!(visitor.get(path).await.status, 303);
}
