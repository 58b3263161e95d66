//! Reports that come in, from the session on port 25 to the API and the command line.

use serde_json::{Value, json};

use crate::support::{Setup, World, dkim::DkimKey, dns::Zone, patience::patiently, program};

/// The client of the reporter.
const REPORTER: &str = "192.0.2.7";
/// A client that nobody stands behind.
const STRANGER: &str = "203.0.113.9";

const STATICS: &str = "proxy_from = [\"127.0.0.0/8\"]\n\
    [listeners.admin]\nips = [\"127.0.0.1\"]\nadmin_http = { enabled = true, port = 0 }\n\
    [policy]\ngreylist = false\nfirst_time_sender_delay = \"0s\"\n";

pub const DYNAMICS: &str = "[domains.\"example.org\".dmarc]\naccount = \"app\"\n\
    [domains.\"example.org\".tls_rpt]\naccount = \"app\"\n\
    [domains.\"tenant.test\".dmarc]\naccount = \"other\"\n";

/// A day in seconds.
const DAY: i64 = 24 * 60 * 60;

/// The first moment of yesterday.
fn yesterday() -> jiff::Timestamp {
    let now = jiff::Timestamp::now().as_second();
    jiff::Timestamp::from_second((now / DAY - 1) * DAY).unwrap()
}

/// A report about the day that begins at this time.
pub fn xml(begin: jiff::Timestamp, id: &str, domain: &str) -> String {
    let begin = begin.as_second();
    let end = begin + DAY - 1;
    format!(
        "<?xml version=\"1.0\"?>\r\n<feedback><report_metadata><org_name>Reporter Ltd</org_name>\
         <email>r@reporter.test</email><report_id>{id}</report_id><date_range>\
         <begin>{begin}</begin><end>{end}</end></date_range></report_metadata>\r\n\
         <policy_published><domain>{domain}</domain><p>reject</p></policy_published>\r\n\
         <record><row><source_ip>198.51.100.20</source_ip><count>5</count><policy_evaluated>\
         <disposition>reject</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row>\
         <identifiers><header_from>{domain}</header_from></identifiers><auth_results/></record>\r\n\
         <record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated>\
         <disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>\
         <identifiers><header_from>{domain}</header_from></identifiers><auth_results/></record>\r\n\
         </feedback>"
    )
}

pub fn tls(begin: jiff::Timestamp) -> String {
    let end = jiff::Timestamp::from_second(begin.as_second() + DAY - 1).unwrap();
    format!(
        "{{\"organization-name\":\"Reporter Ltd\",\"date-range\":{{\
         \"start-datetime\":\"{begin}\",\"end-datetime\":\"{end}\"}},\r\n\
         \"report-id\":\"tls-1\",\"policies\":[{{\"policy\":{{\"policy-type\":\"sts\",\
         \"policy-domain\":\"example.org\"}},\r\n\"summary\":{{\"total-successful-session-count\":3,\
         \"total-failure-session-count\":1}}}}]}}"
    )
}

pub const COMPLAINT: &str = "--b\r\nContent-Type: text/plain\r\n\r\nA complaint.\r\n--b\r\n\
    Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: Loop/1\r\n\
    Version: 1\r\nOriginal-Mail-From: <app@example.org>\r\nOriginal-Rcpt-To: <jo@reporter.test>\r\n\
    --b\r\nContent-Type: message/rfc822\r\n\r\nFrom: app@example.org\r\n\r\nBuy!\r\n--b--";

pub fn mail(kind: &str, body: &str) -> String {
    format!(
        "From: <noreply@reporter.test>\r\nTo: <dmarcreports@example.org>\r\n\
         Subject: Report domain\r\nMIME-Version: 1.0\r\nContent-Type: {kind}\r\n\r\n{body}"
    )
}

pub const COMPLAINT_KIND: &str = "multipart/report; report-type=feedback-report; boundary=b";

async fn send(world: &World, client: &str, to: &str, text: &str) {
    let mut session = world.proxied("smtp", client).await;
    session.expect("EHLO mx.reporter.test", "250").await;
    let reply = session.submit("noreply@reporter.test", &[to], text).await;
    assert!(reply.starts_with("250 "), "{to}: {reply}");
}

async fn says(world: &World, arguments: &[&str]) -> String {
    let conf = world.dir.path().join("postrider.conf");
    let output = program::run(&conf, arguments).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The data of an answer of the API.
async fn call(world: &World, key: &str, method: reqwest::Method, path: &str) -> Value {
    let address = world.server.address("admin_http").unwrap();
    let url = format!("http://{address}/api/reports/{path}");
    let request = reqwest::Client::new().request(method, url);
    let answer = request.bearer_auth(key.trim_end()).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    answer["data"].clone()
}

async fn get(world: &World, key: &str, path: &str) -> Value {
    call(world, key, reqwest::Method::GET, path).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_each_kind_are_read_and_shown() {
    let key = DkimKey::new();
    let zone = Zone::default()
        .mx("reporter.test", 10, "mx.reporter.test")
        .host("mx.reporter.test", REPORTER.parse().unwrap())
        .txt("reporter.test", "v=spf1 ip4:192.0.2.7 -all")
        .txt("_dmarc.reporter.test", "v=DMARC1; p=none")
        .txt("k._domainkey.reporter.test", &key.record());
    let world = World::start(Setup {
        dns: Some(zone.serve().await),
        statics: STATICS.to_owned(),
        dynamics: DYNAMICS.to_owned(),
        ..Setup::default()
    })
    .await;
    let sign = |text: &str| key.sign("reporter.test", "k", text);
    let (dmarc, for_tls) = ("dmarcreports@example.org", "tlsreports@example.org");
    let yesterday = yesterday();
    let report = sign(&mail(
        "application/xml",
        &xml(yesterday, "r1", "example.org"),
    ));
    send(&world, REPORTER, dmarc, &report).await;
    send(&world, REPORTER, dmarc, &report).await;
    let forged = mail("application/xml", &xml(yesterday, "r1", "example.org"));
    send(&world, STRANGER, dmarc, &forged).await;
    let of_tenant = sign(&mail(
        "application/xml",
        &xml(yesterday, "r2", "tenant.test"),
    ));
    send(&world, REPORTER, "dmarcreports@tenant.test", &of_tenant).await;
    let broken = mail("application/xml", "<?xml version=\"1.0\"?><feedback>");
    send(&world, REPORTER, dmarc, &sign(&broken)).await;
    send(
        &world,
        REPORTER,
        for_tls,
        &sign(&mail("application/tlsrpt+json", &tls(yesterday))),
    )
    .await;
    let complaint = sign(&mail(COMPLAINT_KIND, COMPLAINT));
    send(&world, REPORTER, "info@example.org", &complaint).await;
    // The process ends before or after the worker is done with all: nothing is lost.
    let world = world.restart().await;
    let all_read = async {
        let store = world.server.store();
        while !store.arrived_reports(None, 9).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    patiently("the worker to read all mails", all_read).await;

    // The mails are in their mailboxes as ever.
    assert_eq!(world.mails("Info").await.len(), 1);
    let admin = says(&world, &["apikey", "add", "all", "--scope", "manage"]).await;
    let list = get(&world, &admin, "dmarc?values=1").await;
    let mut seen: Vec<(String, bool, bool)> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let domain = item["domains"][0].as_str().unwrap().to_owned();
            let verified = item["verified"].as_bool().unwrap();
            (domain, verified, item["error"].is_null())
        })
        .collect();
    seen.sort();
    let expected = [
        ("example.org".to_owned(), false, true),
        ("example.org".to_owned(), true, false),
        ("example.org".to_owned(), true, true),
        ("tenant.test".to_owned(), true, true),
    ];
    assert_eq!(seen, expected, "{list}");

    let found = get(&world, &admin, "dmarc?text=r2").await;
    let id = found["items"][0].as_str().unwrap();
    let shown = get(&world, &admin, &format!("dmarc/{id}")).await;
    assert_eq!(shown["subject"], "Report domain");
    assert_eq!(shown["report"]["record"][0]["row"]["count"], 5);
    let number = id.split('_').next().unwrap();
    let said = says(&world, &["report", "show", number, "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), shown);
    let said = says(&world, &["report", "show", number]).await;
    assert!(
        said.contains("198.51.100.20  dkim fail  spf fail  reject"),
        "{said}"
    );
    let said = says(&world, &["report", "list", "--type", "dmarc", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), list["items"]);

    for (kind, counts) in [("tls", (3, 1)), ("arf", (0, 1))] {
        let list = get(&world, &admin, &format!("{kind}?values=1")).await;
        assert_eq!(list["total"], 1, "{list}");
        let item = &list["items"][0];
        let found = (
            item["passed"].as_u64().unwrap(),
            item["failed"].as_u64().unwrap(),
        );
        assert_eq!(found, counts, "{item}");
        assert_eq!(
            (&item["verified"], &item["error"]),
            (&json!(true), &Value::Null)
        );
    }
    let arf = get(&world, &admin, "arf?values=1").await;
    assert_eq!(arf["items"][0]["message"]["feedback_type"], "abuse");

    // The sums have each report once, and none of the stranger's.
    let sums = get(&world, &admin, "dmarc/sums?domain=example.org").await;
    let rows = sums["items"].as_array().unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["source"].as_str().unwrap(),
                row["messages"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(rows, [("198.51.100.0/24", 5), ("192.0.2.0/24", 2)]);
    let said = says(&world, &["report", "sums", "example.org", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), sums["items"]);
    let said = says(&world, &["report", "sums", "--by", "reporter"]).await;
    assert!(said.ends_with("reporter.test\n"), "{said}");
    let date = yesterday.strftime("%Y-%m-%d").to_string();
    let next = yesterday + jiff::SignedDuration::from_hours(24);
    let path = format!("dmarc/sums?by=day&after={date}&before={next}");
    let sums = get(&world, &admin, &path).await;
    assert_eq!(sums["items"][0]["day"], date);
    assert_eq!(sums["items"][0]["messages"], 14);

    // A tenant sees and removes what is about its domain.
    let add = [
        "apikey",
        "add",
        "part",
        "--scope",
        "manage",
        "--domain",
        "tenant.test",
    ];
    let tenant = says(&world, &add).await;
    assert_eq!(
        get(&world, &tenant, "dmarc").await,
        json!({"items": [id], "total": 1})
    );
    assert_eq!(get(&world, &tenant, "tls").await["total"], 0);
    let sums = get(&world, &tenant, "dmarc/sums?by=day").await;
    assert_eq!(sums["items"][0]["messages"], 7);
    let delete = reqwest::Method::DELETE;
    let removed = call(&world, &tenant, delete.clone(), &format!("dmarc/{id}")).await;
    assert_eq!(removed, json!(true));
    let nothing = call(&world, &tenant, delete, "dmarc?text=example.org").await;
    assert_eq!(nothing, json!(false));
    let said = says(&world, &["report", "rm", "--type", "dmarc"]).await;
    assert_eq!(said, "3 reports removed\n");
    world.server.stop().await;
}
