//! Checks of deliveries: what they tell, and that they send nothing.

use std::{sync::Arc, time::Duration};

use postrider_dns::Record;
use postrider_queue::check::{
    CheckError, CheckRequest, CheckResult, CheckedSession, Found, Outcome, Stage, Stages,
};
use postrider_smtp::ReversePath;

use crate::{
    dane::{self, Certificates, EE, TLSA},
    mta_sts::{PolicyWorld, policy},
    remote::{Act, Point, Remote, RemoteTls},
    support::{Setup, World},
};

fn request(to: &str) -> CheckRequest {
    CheckRequest {
        to: to.parse().unwrap(),
        from: ReversePath::Null,
        source: None,
        limit: Duration::from_secs(60),
        wait: None,
    }
}

/// What a check told.
struct Told {
    /// Each stage as text, without the end.
    stages: Vec<String>,
    session: Option<CheckedSession>,
    result: CheckResult,
}

impl Told {
    fn has(&self, stage: &str) -> bool {
        self.stages.iter().any(|told| told.starts_with(stage))
    }
}

fn shown(stage: &Stage) -> String {
    match stage {
        Stage::Began(step, about) => format!("{} begins {about}", step.name()).trim().into(),
        Stage::Ended { step, outcome, .. } => {
            let step = step.name();
            match outcome {
                Outcome::Success(Found::Reply(reply)) => format!("{step} {reply}"),
                Outcome::Success(Found::Hosts { hosts, secure, .. }) => {
                    format!("{step} {hosts:?} secure {secure}")
                }
                Outcome::Success(Found::Policy(found)) => {
                    format!("{step} {} {:?}", found.id, found.policy.mx)
                }
                Outcome::Success(Found::Tlsa(records)) => format!("{step} {}", records.len()),
                Outcome::Success(Found::Addresses(ips)) => format!("{step} {ips:?}"),
                Outcome::Success(Found::Reports(uris)) => format!("{step} {uris:?}"),
                Outcome::Success(Found::Nothing) => format!("{step} ok"),
                Outcome::NotFound => format!("{step} none"),
                Outcome::Failed(reason) => format!("{step} failed: {reason}"),
            }
        }
        Stage::Planned(plan) => format!("plan {} {}", plan.provider, plan.tls),
        Stage::Opened(session) => format!("opened {} {}", session.proven, session.tls_rule),
        Stage::Completed(result) => format!("completed {}", result.ok),
    }
}

async fn check(world: &World, request: CheckRequest) -> Result<Told, CheckError> {
    let (stages, mut told) = Stages::new();
    world.queue.check(request, &stages).await?;
    let (mut shown_all, mut session, mut result) = (Vec::new(), None, None);
    while let Ok(stage) = told.try_recv() {
        assert!(result.is_none(), "something came after the end");
        match stage {
            Stage::Completed(end) => result = Some(end),
            Stage::Opened(opened) => {
                shown_all.push(shown(&Stage::Opened(opened.clone())));
                session = Some(*opened);
            }
            stage => shown_all.push(shown(&stage)),
        }
    }
    Ok(Told {
        stages: shown_all,
        session,
        result: result.expect("an end"),
    })
}

/// A remote that does not know `no@`, and is busy for `later@`.
async fn remote(tls: Option<RemoteTls>) -> Remote {
    Remote::start_with(tls, |point, _| match point {
        Point::Command(line) if line.starts_with("RCPT TO:<no@") => {
            Some(Act::Say("550 5.1.1 nobody here"))
        }
        Point::Command(line) if line.starts_with("RCPT TO:<later@") => {
            Some(Act::Say("451 4.7.1 greylisted"))
        }
        _ => None,
    })
    .await
}

fn world(hosts: &[(&str, &Remote)]) -> World {
    let world = World::start(Setup::default());
    let mx = hosts.iter().enumerate();
    let mx: Vec<(u16, &str)> = mx
        .map(|(at, (name, _))| (u16::try_from(at).unwrap(), *name))
        .collect();
    world.mx("remote.test", &mx);
    for (at, (name, remote)) in hosts.iter().enumerate() {
        let ip = format!("192.0.2.{}", at + 1);
        world.host(name, &ip);
        world.lead(&ip, remote);
    }
    world
}

#[tokio::test]
async fn each_stage_is_told_and_nothing_is_sent() {
    let remote = remote(None).await;
    let world = world(&[("mx.test", &remote)]);
    let record = b"v=TLSRPTv1; rua=mailto:tls@remote.test".to_vec();
    world
        .resolver
        .add("_smtp._tls.remote.test", Record::Txt(record));
    let told = check(&world, request("yes@remote.test")).await.unwrap();
    assert!(told.has("tlsRptLookup [\"mailto:tls@remote.test\"]"));
    let without_words: Vec<&str> = told
        .stages
        .iter()
        .map(|stage| match stage.as_str() {
            stage if stage.contains(" begins") => stage,
            stage => stage.split(' ').next().unwrap(),
        })
        .collect();
    assert_eq!(
        without_words,
        [
            "mxLookup begins remote.test",
            "mxLookup",
            "mtaStsFetch begins",
            "mtaStsFetch",
            "tlsRptLookup begins",
            "tlsRptLookup",
            "plan",
            "deliveryAttempt begins mx.test",
            "tlsaLookup begins",
            "tlsaLookup",
            "ipLookup begins",
            "ipLookup",
            "connection begins 192.0.2.1",
            "connection",
            "readGreeting begins",
            "readGreeting",
            "ehlo begins",
            "ehlo",
            "opened",
            "mailFrom begins",
            "mailFrom",
            "rcptTo begins",
            "rcptTo",
            "quit begins",
            "quit",
        ]
    );
    assert!(told.result.ok, "{:?}", told.result);
    assert_eq!(told.result.class, None);
    assert!(told.has("mtaStsFetch none") && told.has("tlsaLookup none"));
    let session = told.session.unwrap();
    assert_eq!(session.remote, "mx.test [192.0.2.1]");
    assert_eq!(
        (session.source.as_str(), session.proven),
        ("127.0.0.1", "plain")
    );
    assert!(remote.received().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn the_reply_to_the_recipient_has_a_class() {
    let (first, second) = (remote(None).await, remote(None).await);
    let world = world(&[("a.test", &first), ("b.test", &second)]);
    for (to, class, permanent, hosts) in [
        ("no@remote.test", "unknown_mailbox", true, 1),
        ("later@remote.test", "greylisted", false, 2),
    ] {
        let told = check(&world, request(to)).await.unwrap();
        let result = &told.result;
        assert!(!result.ok, "{result:?}");
        assert_eq!((result.class, result.permanent), (Some(class), permanent));
        let asked = told
            .stages
            .iter()
            .filter(|it| it.starts_with("rcptTo begins"));
        assert_eq!(asked.count(), hosts, "{to}");
        world.clock.advance(Duration::from_secs(60));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_site_is_left_alone_for_a_minute_and_five_checks_go_on_at_once() {
    let remote = remote(None).await;
    let world = Arc::new(world(&[("mx.test", &remote)]));
    check(&world, request("yes@remote.test")).await.unwrap();
    let again = check(&world, request("yes@remote.test")).await;
    assert!(matches!(again, Err(CheckError::TooSoon { .. })));
    world.clock.advance(Duration::from_secs(60));
    let unknown = CheckRequest {
        source: Some("none".into()),
        ..request("yes@remote.test")
    };
    let unknown = check(&world, unknown).await;
    assert!(matches!(unknown, Err(CheckError::NoSource(_))));
    let ours = check(&world, request("ann@example.org")).await;
    assert!(matches!(ours, Err(CheckError::Here(_))));
    check(&world, request("yes@remote.test")).await.unwrap();
    let mut slow = Vec::new();
    for number in 1..=5 {
        let (domain, ip) = (format!("s{number}.test"), format!("192.0.2.10{number}"));
        world.mx(&domain, &[(1, &format!("mx.{domain}"))]);
        world.host(&format!("mx.{domain}"), &ip);
        world.silence(&ip);
        let (busy, to) = (Arc::clone(&world), format!("x@{domain}"));
        slow.push(tokio::spawn(async move {
            check(&busy, request(&to)).await.is_ok()
        }));
        world.dialed_until(&ip, 1).await;
    }
    world.clock.advance(Duration::from_secs(60));
    let one_more = check(&world, request("yes@remote.test")).await;
    assert!(matches!(one_more, Err(CheckError::Busy)));
    for task in slow {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    check(&world, request("yes@remote.test")).await.unwrap();
}

#[tokio::test]
async fn a_silent_host_is_given_up_in_time() {
    let world = World::start(Setup::default());
    world.mx("remote.test", &[(1, "a.test"), (2, "b.test")]);
    for (host, ip) in [("a.test", "192.0.2.1"), ("b.test", "192.0.2.2")] {
        world.host(host, ip);
        world.silence(ip);
    }
    let impatient = CheckRequest {
        wait: Some(Duration::from_millis(1)),
        ..request("yes@remote.test")
    };
    let told = check(&world, impatient).await.unwrap();
    let late = |told: &&String| *told == "connection failed: it took longer than 1ms";
    assert_eq!(
        told.stages.iter().filter(late).count(),
        2,
        "{:#?}",
        told.stages
    );
    assert!(
        !told.result.ok && !told.result.permanent,
        "{:?}",
        told.result
    );
    world.stop().await;
}

#[tokio::test]
async fn a_look_up_without_an_end_is_told_as_failed() {
    let world = World::start(Setup::default());
    world.resolver.hang("slow.test");
    let hasty = CheckRequest {
        limit: Duration::from_millis(1),
        ..request("x@slow.test")
    };
    let told = check(&world, hasty).await.unwrap();
    assert_eq!(
        told.stages,
        [
            "mxLookup begins slow.test",
            "mxLookup failed: the check took longer than 1ms"
        ]
    );
    assert!(
        told.result.text.contains("longer than 1ms"),
        "{:?}",
        told.result
    );
    world.stop().await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_told() {
    let remote = remote(None).await;
    let world = world(&[("mx.test", &remote)]);
    world.mx("refuses.test", &[(1, "off.test")]);
    world.host("off.test", "192.0.2.9");
    world.mx("nowhere.test", &[(1, "lost.test")]);
    world.mx("ours.test", &[(1, "mail.example.org")]);
    world.mx("null.test", &[(0, "")]);
    for (to, stage, end) in [
        ("x@null.test", "mxLookup failed", "5.1.10"),
        ("x@ours.test", "mxLookup failed", "5.4.6"),
        ("x@nowhere.test", "ipLookup failed", "4.4.4"),
        ("x@refuses.test", "connection failed", "4.4.1"),
    ] {
        let told = check(&world, request(to)).await.unwrap();
        assert!(told.has(stage), "{to}: {:#?}", told.stages);
        assert!(told.result.text.contains(end), "{to}: {:?}", told.result);
        assert!(!told.result.ok && told.session.is_none());
    }
    world.stop().await;
}

#[tokio::test]
async fn tlsa_records_are_told_and_what_they_say_of_the_certificate() {
    for matches in [true, false] {
        let certificates = Certificates::new("mx.test", 2040, 2040);
        let remote = remote(Some(certificates.remote_tls(""))).await;
        let record = match matches {
            true => certificates.record(EE),
            false => dane::wrong(),
        };
        let world = dane::world("", &remote, &[record]);
        let told = check(&world, request("yes@remote.test")).await.unwrap();
        assert!(told.has("mxLookup [(10, \"mx.test\")] secure true"));
        assert!(told.has("tlsaLookup 1"), "{:#?}", told.stages);
        assert_eq!(told.result.ok, matches, "{:?}", told.result);
        if matches {
            assert!(told.has("startTls ok") && told.has("daneVerify ok"));
            let session = told.session.unwrap();
            assert_eq!((session.proven, &*session.tls_rule), ("dane", "DANE"));
            assert_eq!(session.certificate.unwrap().names, ["mx.test"]);
        } else {
            let wrong = "daneVerify failed: no TLSA record matches the certificate (subject";
            assert!(told.has(wrong), "{:#?}", told.stages);
            assert!(told.result.text.contains("DANE demands TLS"));
        }
        assert!(remote.received().is_empty());
        world.stop().await;
    }
    // Nobody connects to a host whose records are not known.
    let remote = remote(None).await;
    let world = dane::world("", &remote, &[dane::wrong()]);
    world.resolver.bogus(TLSA);
    let told = check(&world, request("yes@remote.test")).await.unwrap();
    assert!(told.has("tlsaLookup failed") && told.has("connection failed"));
    assert_eq!(world.dialed("192.0.2.1"), 0);
    world.stop().await;
}

#[tokio::test]
async fn an_enforced_policy_is_told_and_by_whom_a_host_is_refused() {
    for (mx, trusted, refusal) in [
        ("mx.a.test", true, None),
        ("mx.a.test", false, Some("startTls failed: the certificate")),
        ("mx.b.test", true, Some("mtaStsVerify failed: the policy")),
    ] {
        let tls = RemoteTls::new(&["mx.a.test"], "");
        let trust = if trusted {
            tls.certificate.clone()
        } else {
            String::new()
        };
        let remote = remote(Some(tls)).await;
        let world = PolicyWorld::new(policy("enforce", mx), &trust, &remote).await;
        let told = check(&world.world, request("yes@a.test")).await.unwrap();
        let fetched = format!("mtaStsFetch 1 [{mx:?}]");
        assert!(told.has(&fetched), "{:#?}", told.stages);
        assert_eq!(told.result.ok, refusal.is_none(), "{:?}", told.result);
        if let Some(refusal) = refusal {
            assert!(told.has(refusal), "{refusal}: {:#?}", told.stages);
            assert!(told.result.text.contains("MTA-STS"), "{:?}", told.result);
        } else {
            assert!(told.has("mtaStsVerify ok"));
            assert_eq!(told.session.unwrap().proven, "pkix");
        }
        world.world.stop().await;
    }
}
