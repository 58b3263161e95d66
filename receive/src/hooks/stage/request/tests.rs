//! Calls as they are written.

use postrider_smtp::{
    DeliveryOptions, Notify, Priority, Ret, TlsInfo,
    sasl::{Mechanism, ScramHash},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::hooks::{
    asked::KnownLogin,
    testing::{asked, client, draft, mail, rcpt},
};

const OPTIONS: RequestOptions = RequestOptions {
    body: HookBody::Text,
    raw_base64: false,
};

async fn written(asked: &Asked<'_>, options: RequestOptions) -> String {
    let mut body = RequestBody::new(asked, options);
    let mut text = Vec::new();
    while let Some(piece) = body.next_piece().await.unwrap() {
        assert!(!piece.is_empty());
        text.extend_from_slice(&piece);
    }
    assert_eq!(body.next_piece().await.unwrap(), None);
    String::from_utf8(text).unwrap()
}

async fn call(asked: &Asked<'_>, options: RequestOptions) -> Value {
    serde_json::from_str(&written(asked, options).await).unwrap()
}

#[tokio::test]
async fn a_call_before_ehlo_has_the_client_and_the_server() {
    let client = client("192.0.2.7:47122");
    let asked = asked(HookStage::Connect, &client);
    let expected = r#"{"context":{"stage":"connect","client":{"ip":"192.0.2.7","port":47122,"ptr":null,"helo":null,"activeConnections":1},"server":{"name":"mx.example.org","port":25,"ip":"198.51.100.2"},"protocol":{"version":1}}}"#;
    assert_eq!(written(&asked, OPTIONS).await, expected);
}

#[test]
fn a_call_says_that_it_is_json() {
    assert_eq!(fields()["content-type"], "application/json");
    assert_eq!(fields().len(), 1);
}

#[tokio::test]
async fn each_stage_has_its_parts() {
    let client = client("192.0.2.7:47122");
    let draft = draft("A: b\r\n\r\nc\r\n").await;
    let mail = mail("a@example.net");
    let recipients = [rcpt("b@example.org")];
    for stage in HookStage::ALL {
        let asked = Asked {
            mail: Some(&mail),
            recipients: &recipients,
            draft: (*stage == HookStage::Data).then_some(&draft),
            ..asked(*stage, &client)
        };
        let call = call(&asked, OPTIONS).await;
        assert_eq!(call["context"]["stage"], stage.as_str());
        let parts = (
            call.get("envelope")
                .map(|it| it["to"].as_array().unwrap().len()),
            call.get("message").is_some(),
            call["context"].get("queue").is_some(),
        );
        let expected = match stage {
            HookStage::Connect | HookStage::Ehlo | HookStage::Auth => (None, false, false),
            HookStage::Mail => (Some(0), false, false),
            HookStage::Rcpt => (Some(1), false, false),
            HookStage::Data => (Some(2), true, true),
        };
        assert_eq!(parts, expected, "{stage}");
    }
}

#[tokio::test]
async fn all_that_is_known_is_told() {
    let mut client = client("[2001:db8::7]:1");
    client.tls = Some(TlsInfo {
        version: "TLSv1.3".into(),
        cipher: "TLS_AES_128_GCM_SHA256".into(),
    });
    let login = KnownLogin {
        user: "jane".into(),
        mechanism: Mechanism::Scram(ScramHash::Sha256),
    };
    let mut mail = mail("Jane@B\u{fc}cher.test");
    mail.size = Some(1234);
    mail.smtputf8 = true;
    mail.ret = Some(Ret::Full);
    mail.envid = Some("a+b".into());
    mail.delivery = DeliveryOptions {
        priority: Priority::new(3),
        ..DeliveryOptions::default()
    };
    let mut recipients = [rcpt("Bob@Example.org"), rcpt("POSTMASTER")];
    recipients[0].notify = Some(Notify::NEVER);
    recipients[0].orcpt = Some("rfc822;x@y.test".into());
    let asked = Asked {
        helo: Some("mx.example.net"),
        ptr: Some("host.example.net"),
        connections: 3,
        login: Some(&login),
        mail: Some(&mail),
        recipients: &recipients,
        ..asked(HookStage::Rcpt, &client)
    };
    let expected = json!({
        "context": {
            "stage": "rcpt",
            "client": {
                "ip": "2001:db8::7",
                "port": 1,
                "ptr": "host.example.net",
                "helo": "mx.example.net",
                "activeConnections": 3,
            },
            "sasl": {"login": "jane", "method": "SCRAM-SHA-256"},
            "tls": {"version": "TLSv1.3", "cipher": "TLS_AES_128_GCM_SHA256"},
            "server": {"name": "mx.example.org", "port": 25, "ip": "198.51.100.2"},
            "protocol": {"version": 1},
        },
        "envelope": {
            "from": {
                "address": "jane@xn--bcher-kva.test",
                "parameters": {
                    "SIZE": "1234",
                    "SMTPUTF8": "",
                    "RET": "FULL",
                    "ENVID": "a+2Bb",
                    "MT-PRIORITY": "3",
                },
            },
            "to": [
                {
                    "address": "bob@example.org",
                    "parameters": {"NOTIFY": "NEVER", "ORCPT": "rfc822;x@y.test"},
                },
                {"address": "postmaster"},
            ],
        },
    });
    assert_eq!(call(&asked, OPTIONS).await, expected);
}

#[tokio::test]
async fn a_mapped_address_is_one_of_ipv4_and_a_null_sender_is_empty() {
    let client = client("[::ffff:192.0.2.7]:1");
    let mail = mail("");
    let asked = Asked {
        mail: Some(&mail),
        ..asked(HookStage::Mail, &client)
    };
    let call = call(&asked, OPTIONS).await;
    assert_eq!(call["context"]["client"]["ip"], "192.0.2.7");
    assert_eq!(call["envelope"], json!({"from": {"address": ""}, "to": []}));
}

#[tokio::test]
async fn a_message_is_told_with_its_fields_and_its_body() {
    let text = b"Subject: hello\r\nX-Fold:a\r\n\tb\r\nno field\r\nX-\xff: \xe9\r\nEmpty:\r\n\r\nbody \"q\"\r\n\xe9\xe2\x82\xac\r\n\xe2\x82";
    let client = client("192.0.2.7:47122");
    let draft = draft(text).await;
    let asked = Asked {
        draft: Some(&draft),
        added: b"Received: by us\r\n\tfor b\r\nX-Ours: c\r\n",
        ..asked(HookStage::Data, &client)
    };
    let headers = json!([
        ["Subject", " hello\r\n"],
        ["X-Fold", "a\r\n\tb\r\n"],
        ["X-\u{fffd}", " \u{fffd}\r\n"],
        ["Empty", "\r\n"],
    ]);
    let server_headers = json!([["Received", " by us\r\n\tfor b\r\n"], ["X-Ours", " c\r\n"],]);
    let contents = "body \"q\"\r\n\u{fffd}\u{20ac}\r\n\u{fffd}";
    let mut expected = json!({
        "headers": headers,
        "serverHeaders": server_headers,
        "contents": contents,
        "size": text.len(),
    });
    let told = call(&asked, OPTIONS).await;
    assert_eq!(told["message"], expected);
    assert_eq!(told["context"]["queue"]["id"], "000000000001.2");

    let options = RequestOptions {
        body: HookBody::None,
        raw_base64: true,
    };
    let told = call(&asked, options).await;
    let raw = told["message"]["raw"].as_str().unwrap();
    use base64::Engine as _;
    assert_eq!(base64::prelude::BASE64_STANDARD.decode(raw).unwrap(), text);
    expected["contents"] = "".into();
    expected["raw"] = raw.into();
    assert_eq!(told["message"], expected);

    let asked = Asked {
        added: b"",
        ..asked
    };
    let told = call(&asked, OPTIONS).await;
    assert_eq!(told["message"].get("serverHeaders"), None);
}

#[tokio::test]
async fn a_long_message_comes_in_short_pieces() {
    let client = client("192.0.2.7:47122");
    let body = "\u{20ac}\u{1}\r\n".repeat(100_000);
    let text = format!("A: b\r\n\r\n{body}");
    let draft = draft(&text).await;
    let asked = Asked {
        draft: Some(&draft),
        ..asked(HookStage::Data, &client)
    };
    let options = RequestOptions {
        raw_base64: true,
        ..OPTIONS
    };
    let mut written = RequestBody::new(&asked, options);
    let mut whole = Vec::new();
    while let Some(piece) = written.next_piece().await.unwrap() {
        assert!(piece.len() <= 6 * 32 * 1024 + 3, "{}", piece.len());
        whole.extend_from_slice(&piece);
    }
    let told: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(told["message"]["contents"], body);
    assert_eq!(told["message"]["size"], text.len());
}

#[tokio::test]
async fn a_changed_message_is_told_as_it_is_now() {
    use crate::hooks::{answer::Change, testing::LIMITS};
    let client = client("192.0.2.7:47122");
    let mut draft = draft("A: b\r\n\r\nc\r\n").await;
    let changes = [Change::Body("new\r\n".into())];
    draft.apply(&changes, &LIMITS).unwrap();
    let asked = Asked {
        draft: Some(&draft),
        ..asked(HookStage::Data, &client)
    };
    let told = call(&asked, OPTIONS).await;
    assert_eq!(told["message"]["contents"], "new\r\n");
    assert_eq!(told["message"]["size"], 13);
}

proptest! {
    #[test]
    fn any_message_gives_json(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let client = client("192.0.2.7:47122");
            let draft = draft(&text).await;
            let asked = Asked {
                draft: Some(&draft),
                added: &text,
                ..asked(HookStage::Data, &client)
            };
            let told = call(&asked, RequestOptions { raw_base64: true, ..OPTIONS }).await;
            assert_eq!(told["message"]["size"], draft.size());
        });
    }
}
