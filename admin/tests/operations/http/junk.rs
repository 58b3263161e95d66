//! The calls of the junk filter, and its operations.

use postrider_admin::op::junk::{READ_MAX, Reset, TrainMailbox};
use postrider_store::{Accept, NewMail, NewText, Scope, TextSource, Top};

use super::*;

const OFFER: &str = "From: x@shop.test\r\nSubject: cheap watches\r\n\r\nBuy pills today.\r\n";
const LETTER: &str =
    "From: y@firm.test\r\nSubject: our meeting\r\n\r\nDear friend, until tomorrow.\r\n";

/// How many messages a filter has learnt, as (junk, other).
async fn learnt(site: &Site, account: &str) -> (u32, u32) {
    let counts = site.desk.context.store.junk_counts(account, Vec::new());
    let counts = counts.await.unwrap();
    (counts.spam, counts.ham)
}

#[tokio::test]
async fn both_forms_of_the_path_teach_a_filter() {
    let site = Site::open().await;
    for (path, account, expected) in [
        ("train/spam/ann", "ann", (1, 0)),
        ("upload/spam/ann", "ann", (2, 0)),
        ("train/ham/ann", "ann", (2, 1)),
        ("upload/ham/ann", "ann", (2, 2)),
        ("train/spam", "", (1, 0)),
        ("upload/ham", "", (1, 1)),
    ] {
        let request = format!("POST /api/spam-filter/{path}");
        let got = site.call(&request, OFFER).await;
        assert_eq!(got.data(), json!(null), "{path}");
        assert_eq!(learnt(&site, account).await, expected, "{path}");
    }
    let unknown = site.call("POST /api/spam-filter/train/spam/nobody", OFFER);
    assert_eq!(unknown.await.error(), (404, "notFound".to_owned()));
    let nothing = site.call("POST /api/spam-filter/train/spam/ann", "");
    assert_eq!(nothing.await.error(), (422, "other".to_owned()));
    assert_eq!(learnt(&site, "ann").await, (2, 2));
}

#[tokio::test]
async fn a_key_teaches_the_filter_of_its_account_and_a_tenant_only_its_own() {
    let site = Site::open().await;
    let scopes = [Scope::ManageAccounts];
    let of_account = site.make_key(&scopes, &[], |key| key.account = "bob".to_owned());
    let of_account = of_account.await;
    let request = "POST /api/spam-filter/train/spam";
    site.with_key(&of_account, request, OFFER).await.data();
    assert_eq!(learnt(&site, "bob").await, (1, 0));
    let tenant = site.make_key(&scopes, &["a.test"], |_| {}).await;
    let got = site.with_key(&tenant, request, OFFER).await;
    assert_eq!(got.error(), (422, "other".to_owned()));
    let own = format!("{request}/ann");
    site.with_key(&tenant, &own, OFFER).await.data();
    assert_eq!(learnt(&site, "ann").await, (1, 0));
    let foreign = site
        .with_key(&tenant, &format!("{request}/bob"), OFFER)
        .await;
    assert_eq!(foreign.error(), (404, "notFound".to_owned()));
    let reads = site.make_key(&[Scope::ManageRead], &[], |_| {}).await;
    let reset = "GET /api/spam-filter/train/reset";
    assert_eq!(site.with_key(&reads, reset, "").await.status, 403);
}

#[tokio::test]
async fn training_never_runs_behind_a_call_and_can_be_forgotten() {
    let site = Site::open().await;
    let train = |call| format!("/api/spam-filter/train/{call}");
    assert_eq!(site.get(&train("start")).await, json!(true));
    assert_eq!(site.get(&train("status")).await, json!(false));
    assert_eq!(site.get(&train("stop")).await, json!(false));
    for call in ["reset", "delete"] {
        let got = site.call("POST /api/spam-filter/train/spam", OFFER);
        got.await.data();
        assert_eq!(learnt(&site, "").await, (1, 0));
        assert_eq!(site.get(&train(call)).await, json!(true));
        assert_eq!(learnt(&site, "").await, (0, 0));
    }
}

#[tokio::test]
async fn a_message_is_judged_by_what_was_learnt() {
    let site = Site::open().await;
    for number in 0..50 {
        site.call("POST /api/spam-filter/train/ham", LETTER)
            .await
            .data();
        if number < 20 {
            site.call("POST /api/spam-filter/train/spam", OFFER)
                .await
                .data();
        }
    }
    let classify = async |message: &str| {
        let request = json!({"message": message}).to_string();
        let got = site.call("POST /api/spam-filter/classify", &request);
        got.await.data()
    };
    let offer = classify(OFFER).await;
    assert!(offer["score"].as_f64().unwrap() > 5.0, "{offer}");
    assert_eq!(offer["tags"]["BAYES"]["action"], json!("allow"));
    let header = offer["disposition"]["value"].as_str().unwrap();
    assert!(header.starts_with("X-Spam-Status: Yes, score="), "{header}");
    assert!(!offer.to_string().contains("watches"), "no words: {offer}");
    let letter = classify(LETTER).await;
    assert!(letter["score"].as_f64().unwrap() < 5.0, "{letter}");
    // With all that a client may send.
    let request = json!({
        "message": OFFER, "remoteIp": "127.0.0.1", "ehloDomain": "x.test",
        "authenticatedAs": null, "isTls": false, "envFrom": "x@shop.test", "envFromFlags": 0,
        "envRcptTo": ["ann@a.test"],
    });
    let request = request.to_string();
    let got = site.call("POST /api/spam-filter/classify", &request).await;
    let got = got.data();
    assert_eq!(got["disposition"], json!({"action": "reject"}), "{got}");
    let wrong = json!({"message": OFFER, "envFrom": "nobody"}).to_string();
    let got = site.call("POST /api/spam-filter/classify", &wrong).await;
    assert_eq!(got.error(), (422, "other".to_owned()));
}

/// A message may be longer than other bodies. Only its beginning is kept.
#[tokio::test]
async fn a_long_message_teaches_by_its_beginning() {
    let site = Site::open().await;
    let long = format!("{OFFER}{}", "x ".repeat(READ_MAX));
    assert!(long.len() > 1 << 20);
    let got = site.call("POST /api/spam-filter/train/spam", &long);
    got.await.data();
    assert_eq!(learnt(&site, "").await, (1, 0));
}

#[tokio::test]
async fn a_mailbox_teaches_its_account_once() {
    let site = Site::open().await;
    let context = &site.desk.context;
    let mail = NewMail {
        account: "ann".into(),
        mailbox: "Spam".into(),
        top: Top::EMPTY,
        text: TextSource::New,
        size: OFFER.len() as u64,
        received: context.clock.now(),
        flags: vec!["$notjunk".into()],
        dsn: false,
        smtp: None,
        summary: None,
    };
    let accept = Accept {
        text: Some(NewText::Inline(OFFER.into())),
        mails: vec![mail.clone(), mail],
        ..Accept::default()
    };
    context.store.accept(accept).await.unwrap();
    let train = TrainMailbox {
        account: "ann".to_owned(),
        mailbox: "Spam".to_owned(),
        junk: true,
    };
    for taught in [2, 0] {
        let trained = train.clone().answer(context).await.unwrap();
        assert_eq!((trained.mails, trained.learnt), (2, taught));
        assert_eq!(learnt(&site, "ann").await, (2, 0));
    }
    let mails = context.store.list_mails("ann", None, None, 9).await;
    assert!(
        mails
            .unwrap()
            .items
            .iter()
            .all(|mail| mail.flags == ["$junk"])
    );
    // What was forgotten can be learnt again.
    let account = Some("ann".to_owned());
    Reset { account }.answer(context).await.unwrap();
    let again = train.clone().answer(context).await.unwrap();
    assert_eq!((again.mails, again.learnt), (2, 2));
    assert_eq!(learnt(&site, "ann").await, (2, 0));
    let none = TrainMailbox {
        mailbox: "None".to_owned(),
        ..train
    };
    let error = none.answer(context).await.unwrap_err();
    assert_eq!(error.field.as_deref(), Some("mailbox"));
    let account = Some("ann".to_owned());
    Reset { account }.answer(context).await.unwrap();
    assert_eq!(learnt(&site, "ann").await, (0, 0));
}
