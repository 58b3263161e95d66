//! The commands about DNS: the real program with a running server, and without one.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Setup, World, dns::Zone, program};

async fn run(conf: &Path, code: i32, arguments: &[&str]) -> (String, String) {
    let output = program::run(conf, arguments).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    (String::from_utf8(output.stdout).unwrap(), errors)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_printed_by_a_server_and_without_one() {
    let address = "192.0.2.10".parse().unwrap();
    let zone = Zone::default().mx("example.org", 10, "mail.example.org");
    let dns = zone.address("mail.example.org", address).serve().await;
    let world = World::start(Setup {
        dns: Some(dns),
        statics: "nat_ips = [\"192.0.2.10\"]\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let conf: PathBuf = world.dir.path().join("postrider.conf");
    let records = ["dns", "records", "example.org"];
    let json = ["dns", "records", "example.org", "--json"];
    let zone = ["dns", "records", "example.org", "--zone"];
    let (text, _) = run(&conf, 0, &records).await;
    let spf = "\nexample.org. TXT v=spf1 ip4:192.0.2.10 mx ~all\n";
    assert!(text.contains(spf), "{text}");
    let (in_zone, _) = run(&conf, 0, &zone).await;
    assert!(
        in_zone.contains("\nexample.org. 300 IN MX 10 mail.example.org.\n"),
        "{in_zone}"
    );
    let (items, _) = run(&conf, 0, &json).await;
    let parsed: Vec<Value> = serde_json::from_str(&items).unwrap();
    let mx = parsed.iter().find(|item| item["type"] == "MX").unwrap();
    assert_eq!(mx["name"], "example.org.");
    assert_eq!(mx["content"], "10 mail.example.org.");

    // Nobody answers on port 25 of the address, and there is no SPF record.
    let (checked, told) = run(&conf, 1, &["dns", "check", "example.org", "--json"]).await;
    let checked: Vec<Value> = serde_json::from_str(&checked).unwrap();
    let verdict = |check: &str| {
        let item = checked.iter().find(|item| item["check"] == check).unwrap();
        item["verdict"].as_str().unwrap().to_owned()
    };
    let verdicts = ["host", "MX", "SMTP", "SPF"].map(verdict);
    assert_eq!(verdicts, ["ok", "ok", "error", "missing"]);
    assert!(told.contains("needed things are not right"), "{told}");
    let (_, told) = run(&conf, 1, &["dns", "check", "example.net"]).await;
    assert!(told.contains("there is no domain example.net"), "{told}");
    let publish = ["dns", "publish", "example.org"];
    let (_, by_server) = run(&conf, 1, &publish).await;
    assert!(
        by_server.contains("set dns_update.\"example.org\""),
        "{by_server}"
    );

    // The same commands do the same without a server.
    world.server.stop().await;
    assert_eq!(run(&conf, 0, &records).await.0, text);
    assert_eq!(run(&conf, 0, &zone).await.0, in_zone);
    assert_eq!(run(&conf, 0, &json).await.0, items);
    assert_eq!(run(&conf, 1, &publish).await.1, by_server);
    let (_, told) = run(&conf, 1, &["dns", "records", "example.net"]).await;
    assert!(told.contains("there is no domain example.net"), "{told}");
}
