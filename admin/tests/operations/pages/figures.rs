//! What the server tells of itself, by its pages: logs, metrics, traces, reports and checks.

use futures_util::StreamExt;
use postrider_admin::op::{Single, suppression};
use postrider_observe::{
    EventType, Keep, Key, Kind, Term,
    log::{Level, Line, Value},
};
use postrider_store::{
    MetricsPoint, NewReceivedReport, NewSum, NewSums, PointAmount, PointSpan, QueueId,
    ReceivedKind, ReportSum, ReportSummary, ReportedMessage, Time,
};

use super::Visitor;

fn log(visitor: &Visitor, level: Level, target: &'static str, message: &str, queue: &str) {
    visitor.desk.context.logs.add(Line {
        micros: visitor.desk.context.clock.now().0,
        level,
        target: target.into(),
        message: message.to_owned(),
        fields: vec![("queue", Value::Text(queue.into()))],
        event: None,
    });
}

#[tokio::test]
async fn lines_of_the_log_are_filtered() {
    let visitor = Visitor::admin().await;
    log(
        &visitor,
        Level::Info,
        "postrider_queue::deliver",
        "delivered",
        "7301 7302",
    );
    log(
        &visitor,
        Level::Warn,
        "postrider_queue",
        "<script>alert(1)</script>",
        "7303",
    );
    log(&visitor, Level::Debug, "postrider_queued", "decided", "73");
    let events = async |query: &str| {
        let page = visitor.get(&format!("/admin/logs?{query}")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert!(!page.html.contains("<script>alert"), "{}", page.html);
        let rows = page.rows().into_iter();
        let lines = rows.filter(|row| row.len() == 5);
        lines.map(|row| row[2].clone()).collect::<Vec<_>>()
    };
    let warn = "<script>alert(1)</script>";
    assert_eq!(events("module=queue").await, [warn, "delivered"]);
    assert_eq!(events("module=queue::deliver").await, ["delivered"]);
    assert_eq!(events("module=queue.deliver").await, ["delivered"]);
    let ours = events("module=postrider").await;
    assert!(ours.contains(&"delivered".to_owned()) && ours.contains(&"decided".to_owned()));
    assert_eq!(events("level=warn").await, [warn]);
    assert_eq!(events("queue=7302").await, ["delivered"]);
    assert_eq!(events("text=DECIDED").await, ["decided"]);
    assert!(events("text=nothing+like+this").await.is_empty());
    let wrong = visitor.get("/admin/logs?level=loud").await;
    assert_eq!(wrong.status, 422);
    let command = visitor.get("/admin/logs?level=warn&queue=7302").await;
    assert!(
        command
            .text()
            .contains("postrider logs --level warn --queue 7302")
    );

    let page = visitor.get("/admin/logs").await;
    let fields = [
        ("set_module", "queue"),
        ("set_level", "debug"),
        ("for", "10m"),
    ];
    let set = visitor.act(&page, "/admin/logs/level", &fields).await;
    let rows = set.rows();
    let is_set = |row: &Vec<String>| row[0] == "postrider_queue" && row[1] == "debug";
    assert!(rows.iter().any(is_set), "{rows:?}");
    let page = visitor.get("/admin/logs").await;
    let fields = [("set_module", "queue"), ("set_level", "loud"), ("for", "")];
    let wrong = visitor.send(&page, "/admin/logs/level", &fields).await;
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.html.contains("href=\"#f-set_level\""),
        "{}",
        wrong.html
    );
    let paused = visitor.get("/admin/logs?pause=1").await;
    assert!(page.html.contains("hx-sse:connect") && !paused.html.contains("hx-sse:connect"));
    let reset = visitor.act(&set, "/admin/logs/reset", &[]).await;
    assert!(reset.text().contains("1 level is taken back."));
}

#[tokio::test]
async fn new_lines_of_the_log_come_by_themselves_and_nothing_else() {
    let visitor = Visitor::admin().await;
    let page = visitor.get("/admin/logs?text=by+itself").await;
    let stream = page.html.split("hx-sse:connect=\"").nth(1).unwrap();
    let stream = stream.split('"').next().unwrap().replace("&#38;", "&");
    let mut events = visitor.stream(&stream, None).await;
    // No record of the store changes.
    let log = |text: &str| log(&visitor, Level::Info, "postrider_queue", text, "7");
    log("comes by itself");
    let event = events.next().await.unwrap().unwrap();
    let event = std::str::from_utf8(&event).unwrap();
    assert!(event.contains("comes by itself"), "{event}");
}

#[tokio::test]
async fn metrics_are_plots_with_figures() {
    let visitor = Visitor::admin().await;
    let empty = visitor.get("/admin/metrics").await;
    assert!(
        empty.text().contains("There are no figures yet."),
        "{}",
        empty.text()
    );
    let now = visitor.desk.context.clock.now().0;
    for (minutes, accepted, queued) in [(10, 7.0, 3.0), (5, 5.0, 4.0)] {
        let figure = |id: &str, amount| (id.to_owned(), amount);
        let point = MetricsPoint {
            time: Time(now - minutes * 60 * 1_000_000),
            span: PointSpan::Short,
            values: vec![
                figure(
                    "postrider.accepted_messages",
                    PointAmount::Counter(accepted),
                ),
                figure("queue.count", PointAmount::Gauge(queued)),
            ],
            keep_until: Time(i64::MAX),
        };
        visitor
            .desk
            .context
            .store
            .keep_metrics(point)
            .await
            .unwrap();
    }
    let page = visitor.get("/admin/metrics?range=1h").await;
    let label = "role=\"img\" aria-label=\"Messages: accepted 12, delivered 0";
    assert!(page.html.contains(label), "{}", page.html);
    assert!(
        page.html
            .contains("aria-label=\"Queue: messages in the queue 4\"")
    );
    let rows = page.rows();
    assert_eq!(rows[0][1..], ["5", "0", "0", "0"], "{rows:?}");
    assert_eq!(rows[1][1], "7");
    assert!(!page.html.contains("style="), "{}", page.html);
}

#[tokio::test]
async fn a_trace_is_told_step_by_step() {
    let visitor = Visitor::admin().await;
    let now = visitor.desk.context.clock.now().0;
    let tracer = visitor.desk.recorder.tracer();
    let mut trace = tracer.start(Kind::Attempt, now);
    let span = trace.span();
    trace.index(Term::Account("ann"));
    trace.index(Term::Queue(7301));
    trace.index(Term::Recipient("gone@remote.test"));
    trace.event(now, EventType::DeliveryAttemptStart, |data| {
        data.number(Key::QueueId, 7301);
        data.number(Key::Attempt, 1);
    });
    trace.event(now + 44_000, EventType::DeliveryFailed, |data| {
        data.number(Key::QueueId, 7301);
        data.text(Key::To, "<script>alert(1)</script>");
    });
    tracer.finish(trace, Keep::Always);

    let list = visitor
        .get("/admin/traces?recipient=gone@remote.test")
        .await;
    let rows = list.rows();
    assert_eq!(rows.len(), 1, "{}", list.text());
    assert!(rows[0][0].contains(&span.to_string()) && rows[0][6].contains("7301"));
    let none = visitor.get("/admin/traces?queue=1").await;
    assert!(none.rows().is_empty() && none.text().contains("No trace matches."));
    assert_eq!(visitor.get("/admin/traces?queue=x").await.status, 422);
    for path in [
        format!("/admin/traces/{span}"),
        "/admin/traces/story?of=7301".to_owned(),
    ] {
        let page = visitor.get(&path).await;
        assert!(page.text().contains("+44 ms"), "{}", page.text());
        assert!(!page.html.contains("<script>alert"), "{}", page.html);
    }
    let nothing = visitor.get("/admin/traces/story?of=%3Cb%3E").await;
    assert!(
        nothing.text().contains("No trace is about <b>."),
        "{}",
        nothing.text()
    );
    assert_eq!(visitor.get("/admin/traces/99999").await.status, 404);
}

/// Adds a report about DMARC that came in, with sums of today.
async fn add_report(visitor: &Visitor, subject: &str) {
    let xml = "<feedback><report_metadata><org_name>Reporter</org_name><email>r@reporter.test</email>\
        <report_id>r</report_id><date_range><begin>1799900000</begin><end>1799986399</end>\
        </date_range></report_metadata>\
        <policy_published><domain>a.test</domain><p>reject</p></policy_published>\
        <record><row><source_ip>192.0.2.7</source_ip><count>4</count><policy_evaluated>\
        <disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>\
        <identifiers><header_from>a.test</header_from></identifiers></record></feedback>";
    let mail = format!("Subject: {subject}\r\nContent-Type: text/xml\r\n\r\n{xml}");
    add_mail(visitor, subject, mail).await;
}

/// The same with this mail.
async fn add_mail(visitor: &Visitor, subject: &str, mail: String) {
    let now = visitor.desk.context.clock.now();
    let keep_until = Time(i64::MAX);
    let report = NewReceivedReport {
        about: ReportSummary {
            kind: ReceivedKind::Dmarc,
            from: "Reporter <r@reporter.test>".into(),
            to: vec!["dmarcreports@a.test".into()],
            subject: subject.to_owned(),
            reporter: "reporter.test".into(),
            organization: String::new(),
            report_id: "r".into(),
            domains: vec!["a.test".into()],
            begin: None,
            end: None,
            verified: true,
            error: String::new(),
            passed: 3,
            failed: 1,
            message: None,
        },
        keep_until,
        name: None,
        sums: Some(NewSums {
            domain: "a.test".into(),
            day: now.day(),
            reporter: "reporter.test".into(),
            keep_until,
            rows: vec![NewSum {
                source: "192.0.2.0/24".into(),
                from: "a.test".into(),
                sum: ReportSum {
                    messages: 4,
                    passed: 3,
                    none: 3,
                    rejected: 1,
                    ..ReportSum::default()
                },
            }],
        }),
    };
    visitor.desk.arrive(mail, report).await;
}

/// Adds a complaint about a message.
async fn complain(visitor: &Visitor, queue_id: Option<u64>) {
    let report = NewReceivedReport {
        about: ReportSummary {
            kind: ReceivedKind::Arf,
            from: "Reporter <r@reporter.test>".into(),
            to: vec!["ann@a.test".into()],
            subject: "A complaint".into(),
            reporter: "reporter.test".into(),
            organization: String::new(),
            report_id: String::new(),
            domains: vec!["a.test".into()],
            begin: None,
            end: None,
            verified: true,
            error: String::new(),
            passed: 0,
            failed: 0,
            message: Some(ReportedMessage {
                feedback_type: "abuse".into(),
                source: String::new(),
                sender: "ann@a.test".into(),
                recipients: vec!["a@remote.test".into()],
                queue_id: queue_id.map(QueueId),
            }),
        },
        keep_until: Time(i64::MAX),
        name: None,
        sums: None,
    };
    let mail = "Subject: A complaint\r\n\r\n".to_owned();
    visitor.desk.arrive(mail, report).await;
}

#[tokio::test]
async fn a_damaged_mail_of_a_report_is_not_handed_out() {
    const SIZE: usize = 600_000;
    let visitor = Visitor::admin().await;
    add_mail(&visitor, "one", "x".repeat(SIZE)).await;
    let path = "/admin/reports/dmarc/1/raw";
    let sound = visitor.get(path).await;
    assert_eq!((sound.status, sound.html.len()), (200, SIZE));
    // A long text lies in a file of its own.
    let folders = visitor.desk.dir.path().join("texts");
    let folders = folders.read_dir().unwrap().map(|it| it.unwrap().path());
    let mut files = folders.flat_map(|folder| folder.read_dir().unwrap());
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    let mut damaged = vec![b'x'; SIZE];
    damaged[SIZE / 2] = b'y';
    std::fs::write(file, damaged).unwrap();
    assert_eq!(visitor.get(path).await.status, 500);
}

#[tokio::test]
async fn a_complaint_says_whether_its_address_is_suppressed_now() {
    let visitor = Visitor::admin().await;
    let desk = &visitor.desk;
    super::super::accounts::queue(desk, "ann", "ann@a.test").await;
    complain(&visitor, Some(1)).await;
    complain(&visitor, None).await;
    let list = "/admin/reports/arf";
    let states = async || {
        let rows = visitor.get(list).await.rows();
        rows.into_iter()
            .map(|row| row[6].clone())
            .collect::<Vec<_>>()
    };
    let free = "a@remote.test: not suppressed";
    assert_eq!(states().await, ["not known", free]);
    let one = visitor.get(&format!("{list}/2")).await;
    assert!(one.text().contains(free), "{}", one.text());
    for account in ["bob", "ann"] {
        let add = suppression::Add {
            account: account.to_owned(),
            address: "A+1@remote.test".to_owned(),
            reason: "asked".to_owned(),
            list: String::new(),
        };
        add.answer(&desk.context).await.unwrap();
    }
    let page = visitor.get(list).await;
    assert_eq!(page.rows()[1][6], "a@remote.test: suppressed for ann");
    let link = "/admin/suppressions?text=a%40remote.test&#38;account=ann";
    assert!(page.html.contains(link), "{}", page.html);
    // The message is not known, so all accounts are looked at.
    let one = visitor.get(&format!("{list}/2")).await;
    let text = "a@remote.test: suppressed for ann, bob";
    assert!(one.text().contains(text), "{}", one.text());
}

#[tokio::test]
async fn reports_have_sums_rows_and_their_mail() {
    let visitor = Visitor::admin().await;
    let empty = visitor.get("/admin/reports/tls").await;
    assert!(
        empty.text().contains("No report came in yet."),
        "{}",
        empty.text()
    );
    add_report(&visitor, "<script>alert(1)</script>").await;
    let page = visitor.get("/admin/reports/dmarc").await;
    assert!(!page.html.contains("<script>alert"), "{}", page.html);
    let rows = page.rows();
    let sum = rows.iter().find(|row| row[0] == "a.test").unwrap();
    assert_eq!(sum[1..], ["75.0 %", "3", "1"]);
    assert!(page.html.contains("aria-label=\"75.0 % passed\""));
    let one = visitor.get("/admin/reports/dmarc?domain=a.test").await;
    let sources = one.rows();
    assert!(
        sources
            .iter()
            .any(|row| row[0] == "192.0.2.0/24" && row[7] == "1"),
        "{sources:?}"
    );
    assert!(
        sources.iter().any(|row| row[0] == "reporter.test"),
        "{sources:?}"
    );

    let path = "/admin/reports/dmarc/1";
    let shown = visitor.get(path).await;
    let rows = shown.rows();
    assert_ne!(rows.len(), 0, "{}", shown.text());
    assert_eq!(
        (rows[0][1].as_str(), rows[0][3].as_str()),
        ("4", "passed"),
        "{rows:?}"
    );
    assert!(rows[0][4].contains("not aligned") && shown.text().contains("policy reject"));
    let raw = visitor.get(&format!("{path}/raw")).await;
    assert!(raw.html.starts_with("Subject: <script>") && raw.html.ends_with("</feedback>"));
    let sent_as = raw.headers.get("content-disposition").unwrap();
    assert_eq!(sent_as, "attachment; filename=\"dmarc-report-1.eml\"");
    // It is no report about TLS, and there is no such kind.
    for missing in [
        "/admin/reports/tls/1",
        "/admin/reports/tls/1/raw",
        "/admin/reports/x",
    ] {
        assert_eq!(visitor.get(missing).await.status, 404, "{missing}");
    }
    let ask = visitor.get(&format!("{path}/remove")).await;
    let gone = visitor.act(&ask, &format!("{path}/remove"), &[]).await;
    assert!(
        gone.text().contains("Report 1 is removed."),
        "{}",
        gone.text()
    );
    assert_eq!(visitor.get(path).await.status, 404);
}

#[tokio::test]
async fn the_way_to_an_address_is_walked() {
    let visitor = Visitor::admin().await;
    visitor.desk.resolver.set_mx("null.test", &[(0, "")]);
    let path = "/admin/troubleshoot/delivery";
    let page = visitor.get(path).await;
    let told = visitor.send(&page, path, &[("to", "x@null.test")]).await;
    assert_eq!(told.status, 200);
    let rows = told.rows();
    let mx = rows.iter().find(|row| row[0] == "MX").unwrap();
    assert_eq!(mx[1], "error", "{rows:?}");
    let last = rows.last().unwrap();
    assert!(last[0].starts_with("Refused for good"), "{last:?}");
    assert!(told.text().contains("postrider delivery check x@null.test"));
    assert!(told.html.trim_end().ends_with("</html>"));
    for (to, text) in [("", "must not be empty"), ("<b> x", "is no address")] {
        let wrong = visitor.send(&page, path, &[("to", to)]).await;
        assert_eq!(wrong.status, 422);
        assert!(wrong.text().contains(text) && !wrong.html.contains("<b> x"));
    }
}

#[tokio::test]
async fn a_message_is_checked() {
    let visitor = Visitor::admin().await;
    let path = "/admin/troubleshoot/dmarc";
    let page = visitor.get(path).await;
    let message = "From: <a@good.test>\r\nSubject: <script>alert(1)</script>\r\n\r\nHi\r\n";
    let fields = [
        ("ip", "192.0.2.7"),
        ("from", "a@good.test"),
        ("message", message),
    ];
    let told = visitor.send(&page, path, &fields).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let checks: Vec<String> = told.rows().iter().map(|row| row[0].clone()).collect();
    let expected = [
        "Names of the client",
        "SPF of EHLO",
        "SPF of MAIL FROM",
        "DKIM",
        "ARC",
        "DMARC",
    ];
    assert_eq!(checks, expected);
    assert!(told.text().contains("DMARC does not pass"));
    assert!(!told.html.contains("<script>alert"), "{}", told.html);
    let wrong = visitor
        .send(&page, path, &[("ip", "here"), ("from", "a@good.test")])
        .await;
    assert_eq!(wrong.status, 422);
}

#[tokio::test]
async fn the_host_and_its_domains_are_looked_at() {
    let visitor = Visitor::admin().await;
    let page = visitor.get("/admin/check").await;
    let rows = page.rows();
    let subjects: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert!(
        subjects.contains(&"disk") && subjects.contains(&"clock"),
        "{rows:?}"
    );
    let port = rows
        .iter()
        .find(|row| row[0] == "port" && row[1] == "25")
        .unwrap();
    assert_eq!(port[2], "look at it");
    assert!(
        page.html.contains("hx-get=\"/admin/check/a.test\""),
        "{}",
        page.html
    );
    let domain = visitor.get("/admin/check/a.test").await;
    assert_eq!(domain.status, 200);
    assert!(
        domain.rows().iter().any(|row| row[0] == "MX"),
        "{}",
        domain.text()
    );
    let part = visitor
        .request(
            "GET",
            "/admin/check/a.test",
            &[("hx-request", "true")],
            String::new(),
        )
        .await;
    assert!(part.html.starts_with("<section>"), "{}", part.html);
    assert_eq!(visitor.get("/admin/check/unknown.test").await.status, 404);
}
