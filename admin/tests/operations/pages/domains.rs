//! The pages of domains.

use postrider_admin::op::config::dkim::{KeyState, Part, Status};
use postrider_dns::Record;

use super::Visitor;

#[tokio::test]
async fn a_domain_is_added_disabled_and_removed() {
    let visitor = Visitor::admin().await;
    let list = visitor.get("/admin/domains").await;
    assert_eq!(list.rows().len(), 3, "{}", list.html);
    let form = visitor.get("/admin/domains/@new").await;
    // A new account needs the local-part of its first address.
    let fields = [("domain", "c.test"), ("account", "new")];
    let again = visitor.send(&form, "/admin/domains/@new", &fields).await;
    assert_eq!(again.status, 422);
    assert!(again.html.contains("aria-describedby=\"e-localpart\""));
    assert!(again.html.contains("value=\"c.test\""));
    let fields = [("domain", "c.test"), ("account", "app")];
    let dns = visitor.act(&form, "/admin/domains/@new", &fields).await;
    assert!(
        dns.text().contains("The domain c.test is added"),
        "{}",
        dns.text()
    );

    let page = visitor.get("/admin/domains/c.test").await;
    assert!(
        page.text().contains("Overview of c.test"),
        "{}",
        page.text()
    );
    let path = "/admin/domains/c.test/disable";
    let ask = visitor.get(path).await;
    let off = visitor.act(&ask, path, &[]).await;
    assert!(
        off.text().contains("Senders try again later"),
        "{}",
        off.text()
    );
    let on = visitor.act(&off, "/admin/domains/c.test/enable", &[]).await;
    assert!(on.text().contains("c.test receives and sends mail again."));

    // Its end needs its name.
    let path = "/admin/domains/c.test/remove";
    let ask = visitor.get(path).await;
    let again = visitor.send(&ask, path, &[("typed", "b.test")]).await;
    assert_eq!(again.status, 422);
    let gone = visitor.act(&ask, path, &[("typed", "c.test")]).await;
    assert!(
        gone.text().contains("The domain c.test is removed."),
        "{}",
        gone.text()
    );
    assert_eq!(visitor.get("/admin/domains/c.test").await.status, 404);
    assert_eq!(visitor.get("/admin/domains/..%2f").await.status, 404);

    // Accounts have addresses at this one.
    let path = "/admin/domains/a.test/remove";
    let ask = visitor.get(path).await;
    assert!(
        ask.text().contains("ann@a.test, account ann"),
        "{}",
        ask.text()
    );
    let again = visitor.send(&ask, path, &[("typed", "a.test")]).await;
    assert_eq!(again.status, 422, "{}", again.text());
}

#[tokio::test]
async fn the_check_of_dns_follows_the_zone() {
    let visitor = Visitor::admin().await;
    let page = visitor.get("/admin/domains/a.test/dns").await;
    let spf = |page: &super::Seen| {
        let rows = page.rows();
        let row = rows
            .iter()
            .find(|row| row[0].contains("TXT") && row[1].contains("v=spf1"));
        row.unwrap_or_else(|| panic!("{rows:?}")).clone()
    };
    assert_eq!(spf(&page)[3], "not checked");
    assert!(
        page.html
            .contains("hx-get=\"/admin/domains/a.test/dns?check=1\"")
    );
    let checked = visitor.get("/admin/domains/a.test/dns?check=1").await;
    let row = spf(&checked);
    assert_eq!(row[3], "missing", "{row:?}");
    let content = row[1].split(" Copy").next().unwrap().trim().to_owned();
    let record = Record::Txt(content.clone().into_bytes());
    visitor.desk.resolver.add("a.test", record);
    let checked = visitor.get("/admin/domains/a.test/dns?check=1").await;
    let rows = checked.rows();
    let row = rows
        .iter()
        .find(|row| row[0].contains("SPF") && row[0].contains("a.test"));
    assert_eq!(row.unwrap()[3], "right", "{row:?}");

    let zone = visitor.get("/admin/domains/a.test/dns/zone-file").await;
    assert!(
        zone.headers["content-disposition"]
            .to_str()
            .unwrap()
            .contains("a.test.zone")
    );
    assert!(
        zone.html
            .contains(&format!("a.test. 300 IN TXT \"{content}\"")),
        "{}",
        zone.html
    );
    let refused = visitor.get("/admin/domains/a.test/dns/publish").await;
    assert!(refused.text().contains("dns_update"), "{}", refused.text());
}

async fn keys(visitor: &Visitor) -> Vec<KeyState> {
    let domain = "a.test".to_owned();
    visitor.desk.ask(Status { domain, look: true }).await.keys
}

fn publish(visitor: &Visitor, key: &KeyState) {
    let name = key.key.name.trim_end_matches('.');
    let record = Record::Txt(key.key.content.clone().into_bytes());
    visitor.desk.resolver.add(name, record);
}

#[tokio::test]
async fn keys_are_rotated_step_by_step() {
    const PATH: &str = "/admin/domains/a.test/dkim";
    let visitor = Visitor::admin().await;
    let rotate = format!("{PATH}/rotate");
    let empty = visitor.get(PATH).await;
    assert!(
        empty.text().contains("The domain has no keys"),
        "{}",
        empty.text()
    );
    let made = visitor.act(&empty, &rotate, &[]).await;
    assert!(
        made.text().contains("Next: publish their records."),
        "{}",
        made.text()
    );
    assert!(
        made.text().contains("Publish their records now"),
        "{}",
        made.text()
    );
    // Without the records nothing changes.
    let refused = visitor.send(&made, &rotate, &[]).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.text().contains("has no TXT record"),
        "{}",
        refused.text()
    );
    // Somebody else takes it up, a day later.
    let waiting = keys(&visitor).await;
    assert!(
        waiting
            .iter()
            .all(|key| key.part == Part::Waits && key.published == Some(false))
    );
    waiting.iter().for_each(|key| publish(&visitor, key));
    let seen = visitor.get(&format!("{PATH}?check=1")).await;
    assert!(
        seen.text().contains("Sign with them now"),
        "{}",
        seen.text()
    );
    let switched = visitor.act(&seen, &rotate, &[]).await;
    assert!(switched.text().contains("sign now."), "{}", switched.text());
    assert!(
        !switched.text().contains("sign now. Keep"),
        "there are no old keys"
    );
    let next = keys(&visitor).await;
    assert_eq!(next.iter().filter(|key| key.part == Part::Signs).count(), 2);
    assert_eq!(next.iter().filter(|key| key.part == Part::Waits).count(), 2);

    // The next turn leaves old keys, with the time until which they are needed.
    next.iter()
        .filter(|key| key.part == Part::Waits)
        .for_each(|key| publish(&visitor, key));
    let page = visitor.get(&format!("{PATH}?check=1")).await;
    let turned = visitor.act(&page, &rotate, &[]).await;
    assert!(turned.text().contains("sign now. Keep "));
    let turned = keys(&visitor).await;
    let old = turned.iter().find(|key| key.part == Part::Idle).unwrap();
    assert!(old.needed_until.is_some(), "{old:?}");
    let selector = &old.key.selector;
    let remove = format!("{PATH}/{selector}/remove");
    let ask = visitor.get(&remove).await;
    assert!(
        ask.text().contains("may be under way until"),
        "{}",
        ask.text()
    );
    let gone = visitor.act(&ask, &remove, &[]).await;
    assert!(
        gone.text()
            .contains(&format!("The key {selector} is removed."))
    );
    assert_eq!(visitor.get(&remove).await.status, 404);
}

#[tokio::test]
async fn a_key_signs_without_its_record_only_if_somebody_is_sure() {
    const PATH: &str = "/admin/domains/a.test/dkim";
    let visitor = Visitor::admin().await;
    let made = [("selector", "one"), ("algorithm", "ed25519")];
    let page = visitor.get(PATH).await;
    let page = visitor.act(&page, PATH, &made).await;
    let (sign, stop) = (format!("{PATH}/one/sign"), format!("{PATH}/one/stop"));
    let part = async || keys(&visitor).await[0].part;

    let ask = visitor.send(&page, &sign, &[]).await;
    assert_eq!(ask.status, 200);
    assert!(ask.text().contains("has no TXT record"), "{}", ask.text());
    assert_eq!(part().await, Part::Idle);
    let signs = visitor.act(&ask, &sign, &[("sure", "yes")]).await;
    assert!(signs.text().contains("The key one signs now."));
    assert_eq!(part().await, Part::Signs);

    // The last key does not stop by one press of a button.
    let ask = visitor.send(&signs, &stop, &[]).await;
    assert!(
        ask.text().contains("It is the only key that signs"),
        "{}",
        ask.text()
    );
    assert_eq!(part().await, Part::Signs);
    let stopped = visitor.act(&ask, &stop, &[("sure", "yes")]).await;
    assert!(stopped.text().contains("The key one signs no more."));
    let key = keys(&visitor).await.remove(0);
    assert_eq!(key.part, Part::Idle);
    assert!(key.needed_until.is_some(), "{key:?}");

    // With its record, it signs at once.
    publish(&visitor, &key);
    let signs = visitor.act(&stopped, &sign, &[]).await;
    assert!(signs.text().contains("The key one signs now."));
}

#[tokio::test]
async fn an_mta_sts_policy_ends_in_two_steps() {
    const PATH: &str = "/admin/domains/a.test/mta-sts";
    let visitor = Visitor::admin().await;
    let empty = visitor.get(PATH).await;
    let wrong = [("mode", "enforce"), ("max_age", "long"), ("mx", "")];
    let again = visitor.send(&empty, PATH, &wrong).await;
    assert_eq!(again.status, 422);
    assert!(again.html.contains("value=\"long\""), "{}", again.html);
    let fields = [
        ("mode", "enforce"),
        ("max_age", "24h"),
        ("mx", "mail.example.org"),
    ];
    let saved = visitor.act(&empty, PATH, &fields).await;
    assert!(
        saved.text().contains("saved under a new id"),
        "{}",
        saved.text()
    );
    let remove = format!("{PATH}/remove");
    // Others remember it, so its end has to be typed.
    let ask = visitor.get(&remove).await;
    assert_eq!(visitor.send(&ask, &remove, &[]).await.status, 422);
    // With the mode none the age stays, and after that time it goes.
    let page = visitor.get(PATH).await;
    let fields = [
        ("mode", "none"),
        ("max_age", "1h"),
        ("mx", "mail.example.org"),
    ];
    let none = visitor.act(&page, PATH, &fields).await;
    assert!(
        none.text().contains("Remembered for 24h"),
        "{}",
        none.text()
    );
    let ask = visitor.get(&remove).await;
    assert_eq!(visitor.send(&ask, &remove, &[]).await.status, 422);
}

#[tokio::test]
async fn aliases_have_members_and_rights() {
    const PATH: &str = "/admin/domains/a.test/aliases";
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    let wrong = [("localpart", "info"), ("members", "nobody@a.test")];
    let again = visitor.send(&page, PATH, &wrong).await;
    assert_eq!(again.status, 422);
    assert!(
        again.text().contains("nobody@a.test can't be a member"),
        "{}",
        again.text()
    );
    let fields = [
        ("localpart", "info"),
        ("members", "ann@a.test\r\nboth@a.test"),
        ("post_public", "1"),
    ];
    let added = visitor.act(&page, PATH, &fields).await;
    assert_eq!(added.rows()[0][2], "everybody", "{}", added.html);
    let one = format!("{PATH}/info");
    let alias = visitor.get(&one).await;
    assert_eq!(alias.rows().len(), 2, "{}", alias.html);
    let more = format!("{one}/members");
    let more = visitor
        .act(&alias, &more, &[("members", "bob@b.test")])
        .await;
    assert!(
        more.text().contains("info@a.test has 1 member more."),
        "{}",
        more.text()
    );
    let remove = format!("{one}/members/bob@b.test/remove");
    let ask = visitor.get(&remove).await;
    let less = visitor.act(&ask, &remove, &[]).await;
    assert_eq!(less.rows().len(), 2);
    let remove = format!("{one}/remove");
    let ask = visitor.get(&remove).await;
    visitor.act(&ask, &remove, &[]).await;
    assert_eq!(visitor.get(&one).await.status, 404);
}

#[tokio::test]
async fn settings_and_routes_of_a_domain() {
    const PATH: &str = "/admin/domains/a.test/settings";
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    let hostile = "<script>alert(1)</script>\u{202e}";
    let saved = visitor.act(&page, PATH, &[("description", hostile)]).await;
    assert!(!saved.html.contains("<script>alert"), "{}", saved.html);
    let list = visitor.get("/admin/domains?q=script").await;
    assert_eq!(list.rows().len(), 1, "{}", list.html);
    assert!(!list.html.contains("<script>alert"));
    let wrong = [("dmarc.account", "nobody"), ("description", hostile)];
    let again = visitor.send(&saved, PATH, &wrong).await;
    assert_eq!(again.status, 422);
    assert!(again.html.contains("value=\"nobody\""), "{}", again.html);

    let path = "/admin/domains/a.test/routes";
    let page = visitor.get(path).await;
    let again = visitor.send(&page, path, &[("transport", "relay")]).await;
    assert_eq!(again.status, 422);
    assert!(
        again.text().contains("there is no transport \"relay\""),
        "{}",
        again.text()
    );
    assert_eq!(visitor.get(&format!("{path}/1/remove")).await.status, 404);
}
