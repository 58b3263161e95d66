//! What is counted for reports to authors' domains.

use postrider_store::DmarcCount;
use tokio::sync::watch;

use super::{
    dmarc::{Bank, FORGED, REJECT, signed},
    *,
};

const ANN: &[&str] = &["ann@example.org"];

/// What was counted for `bank.test` so far, sorted by its words.
async fn counted(bank: &Bank) -> Vec<DmarcCount> {
    let context = &bank.world.context;
    // The queue notes what was counted when it ends.
    let (_stop, stopped) = watch::channel(true);
    Arc::clone(&context.queue).run(stopped).await;
    let day = context.clock.now().day();
    let results = context.store.dmarc_results(day, "bank.test").await;
    let results = results.unwrap().map(|results| results.counts);
    let mut counts = results.unwrap_or_default();
    counts.sort_by_key(words);
    counts
}

fn words(count: &DmarcCount) -> String {
    let row = &count.row;
    let passed = |passed: bool| if passed { "pass" } else { "fail" };
    let overrides = row.overrides.iter();
    let overrides = overrides.map(|(kind, comment)| format!(" {} ({comment})", kind.name()));
    let overrides: String = overrides.collect();
    format!(
        "{} {} {} x{}{overrides}",
        row.disposition.name(),
        passed(row.dkim_aligned),
        passed(row.spf_aligned),
        count.count,
    )
}

/// Sends one message under a record and a setting, and checks what is counted.
async fn check(statics: &str, record: &str, message: &str, expected: &str) {
    let bank = Bank::with(statics, record);
    bank.send("x@remote.test", ANN, message).await;
    let counts: Vec<String> = counted(&bank).await.iter().map(words).collect();
    assert_eq!(counts.join(", "), expected, "{statics} {record}");
}

#[tokio::test]
async fn a_row_tells_what_was_done_and_why() {
    let passing = signed("bank.test", FORGED);
    let list = "From: ceo@bank.test\r\nList-Id: <l.remote.test>\r\nSubject: x\r\n\r\nx\r\n";
    let quarantine = "v=DMARC1; p=quarantine";
    let none = "v=DMARC1; p=none";
    let testing = "v=DMARC1; p=reject; t=y";
    let report = "[policy]\ndmarc = \"report\"\n";
    let junk = "[policy]\ndmarc = \"junk\"\n";
    for (statics, record, message, expected) in [
        ("", REJECT, FORGED, "reject fail fail x1"),
        ("", REJECT, passing.as_str(), "pass pass fail x1"),
        ("", none, passing.as_str(), "none pass fail x1"),
        ("", none, FORGED, "none fail fail x1"),
        ("", quarantine, FORGED, "quarantine fail fail x1"),
        (
            "",
            testing,
            FORGED,
            "quarantine fail fail x1 policy_test_mode ()",
        ),
        (
            report,
            REJECT,
            FORGED,
            "none fail fail x1 local_policy (none: this server only reports)",
        ),
        (
            junk,
            REJECT,
            FORGED,
            "quarantine fail fail x1 local_policy (junk: this server refuses nothing by DMARC)",
        ),
        (
            "",
            REJECT,
            list,
            "quarantine fail fail x1 mailing_list (junk: sent by a list)",
        ),
    ] {
        check(statics, record, message, expected).await;
    }
}

#[tokio::test]
async fn messages_with_the_same_results_are_one_row() {
    let bank = Bank::new("v=DMARC1; p=reject; sp=none; adkim=s");
    for _ in 0..2 {
        bank.send("x@remote.test", ANN, FORGED).await;
    }
    bank.send("", ANN, &signed("remote.test", FORGED)).await;
    let counts = counted(&bank).await;
    let [bounce, both] = counts.as_slice() else {
        panic!("{counts:?}");
    };
    assert_eq!((bounce.count, both.count), (1, 2));
    let row = &both.row;
    assert_eq!(row.source.to_string(), "192.0.2.7");
    let identifiers = [&row.header_from, &row.envelope_from, &row.envelope_to];
    assert_eq!(identifiers, ["bank.test", "remote.test", "example.org"]);
    assert_eq!(row.spf, Some(("remote.test".into(), "pass".into())));
    assert!(row.dkim.is_empty());
    assert_eq!(bounce.row.envelope_from, "");
    let signature = &bounce.row.dkim[0];
    let signature = [&signature.domain, &signature.selector, &signature.result];
    assert_eq!(signature, ["remote.test", "k", "pass"]);
    let (store, day) = (
        &bank.world.context.store,
        bank.world.context.clock.now().day(),
    );
    let results = store.dmarc_results(day, "bank.test").await.unwrap();
    let published = results.unwrap().published;
    assert!(published.dkim_strict && !published.spf_strict && !published.testing);
}

#[tokio::test]
async fn nothing_is_counted_without_a_policy_or_where_no_reports_are_sent() {
    check("[reports]\ndmarc = false\n", REJECT, FORGED, "").await;
    check("", "v=spf1 -all", FORGED, "").await;
    check("", "v=DMARC1; p=wrong", FORGED, "").await;
    // A broken policy whose owner wants to know.
    let wrong = "v=DMARC1; p=wrong; rua=mailto:x@bank.test";
    check("", wrong, FORGED, "none fail fail x1").await;
    // The message comes again when DNS has an answer.
    let bank = Bank::new(REJECT);
    bank.world.dns.fail("_dmarc.bank.test");
    let reply = bank.send("x@remote.test", ANN, FORGED).await;
    assert!(reply.starts_with("451 "), "{reply}");
    assert_eq!(counted(&bank).await, []);
}

#[tokio::test]
async fn reports_about_our_mail_are_not_reported() {
    let bank = Bank::new(REJECT);
    let reports = "dmarc = { account = \"ann\", localpart = \"reports\" }\n";
    let dynamics = DYNAMICS.replacen("[accounts", &format!("{reports}[accounts"), 1);
    let context = &bank.world.context;
    let dynamic = Dynamic::parse(&dynamics, "domains.conf", &context.statics).unwrap();
    context.config.store(Arc::new(dynamic));
    let message = signed("bank.test", FORGED);
    let to_reports = &["reports@example.org"];
    let reply = bank.send("x@remote.test", to_reports, &message).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(counted(&bank).await, []);
    let both = &["reports@example.org", "ann@example.org"];
    bank.send("x@remote.test", both, &message).await;
    assert_eq!(counted(&bank).await.len(), 1);
}
