//! The holder of an account: a key for a program, what belongs to others, and programs beside a
//! second factor.

use serde_json::json;

use super::{
    Look, browse,
    page::Page,
    site::{APP, Site},
};
use crate::support::{PASSWORD, base64, message, remote::Remote};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn a_holder_makes_keys_and_sees_nothing_of_others() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let site = Site::facing(&remote).await;
        // A message of somebody else.
        let other = site.world.client("submission").await;
        let mut other = other.login("other@example.org", PASSWORD).await;
        let to = ["rcpt@remote.test"];
        let text = message("of others").replace("app@", "other@");
        other.submit("other@example.org", &to, &text).await;
        remote.wait_for(1).await;
        browse(&site.account, look, async |page| {
            page.enter_as_app().await;
            use_key(page, &site, &remote).await;

            for path in [
                "/account/messages/1",
                "/account/messages/past/1/replay",
                "/account/webhooks/1",
                "/account/keys/99/remove",
                "/account/suppressions/remove?account=other&address=a@remote.test",
                "/account/accounts/other",
                "/admin/",
                "/admin/queue",
            ] {
                page.go(path).await;
                assert_eq!(page.status().await, 404, "{path}");
            }
            page.go("/account/messages/past").await;
            page.see("sold").await;
            page.see_no("of others").await;

            use_app_password(page, &site).await;
        })
        .await;
    }
}

/// Makes a key, lets a program send with it, and revokes it.
async fn use_key(page: &Page, site: &Site, remote: &Remote) {
    page.follow("API keys").await;
    page.fill("Name", "shop").await;
    page.press("Make the key").await;
    page.see("scope").await;
    page.tick("send messages, list and cancel queued ones")
        .await;
    page.choose("It ends after", "30 days").await;
    page.press("Make the key").await;
    page.see("It is shown this once only.").await;
    let key = page.texts(".notice .line code").await.remove(0);
    assert_eq!(call(site, &key, "Send").await, 200);
    let received = remote.wait_for(2).await;
    assert!(received[1].text.contains("Subject: sold\r\n"));
    // It may do nothing else.
    assert_eq!(call(site, &key, "Events").await, 403);

    page.follow("API keys").await;
    page.see_no(&key).await;
    page.see_in("shop", "from 127.0.0.1").await;
    page.follow("Revoke the key shop").await;
    page.see("Calls of programs that have it are refused from then on.")
        .await;
    page.press("Revoke the key").await;
    page.see("is revoked.").await;
    assert_eq!(call(site, &key, "Send").await, 401);
}

/// Calls a method of the webapi with a key. Gives the status of the answer.
async fn call(site: &Site, key: &str, method: &str) -> u16 {
    let address = site.world.server.address("webapi_http").unwrap();
    let url = format!("http://{address}/webapi/v1/{method}");
    let request = match method {
        "Send" => json!({
            "To": [{"Address": "buyer@remote.test"}],
            "Subject": "sold",
            "Text": "Thank you.",
        }),
        _ => json!({}),
    };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = client.post(url).bearer_auth(key).json(&request);
    call.send().await.unwrap().status().as_u16()
}

/// With a second factor, programs need a password of their own.
async fn use_app_password(page: &Page, site: &Site) {
    assert!(log_in(site, PASSWORD).await.starts_with("235 "));
    page.turn_on_second_factor(site).await;
    let refused = log_in(site, PASSWORD).await;
    assert!(refused.starts_with("534 5.7.9 "), "{refused}");

    page.follow("App passwords").await;
    page.see("There is no app password yet.").await;
    page.fill("Name", "phone").await;
    page.press("Make it").await;
    page.see("It is shown this once only.").await;
    let password = page.texts(".notice .line code").await.remove(0);
    assert!(log_in(site, &password).await.starts_with("235 "));
    page.follow("Logins").await;
    page.see_in("sending mail", "right password, without the code")
        .await;

    page.follow("App passwords").await;
    page.follow("Remove phone").await;
    page.see("The program that has it can't log in any more.")
        .await;
    page.press("Remove it").await;
    page.see("There is no app password yet.").await;
    let refused = log_in(site, &password).await;
    assert!(refused.starts_with("535 5.7.8 "), "{refused}");
}

/// Logs in at the submission service. Gives the reply.
async fn log_in(site: &Site, password: &str) -> String {
    let mut client = site.world.client("submission").await;
    client.expect("EHLO client.test", "250").await;
    let mut client = client.starttls().await;
    client.expect("EHLO client.test", "250").await;
    let secret = base64(format!("\0{APP}\0{password}").as_bytes());
    client.command(&format!("AUTH PLAIN {secret}")).await
}
