//! The one-time codes of the administrator, and the texts of domains.conf, on a running server.

use std::{path::Path, time::SystemTime};

use postrider_admin::{
    face::client,
    op::{
        Operation,
        config::file::{DomainsVersions, VersionItem},
        second_factors::{Begin, Confirm},
    },
};
use postrider_receive::login::{otp_code, parse_otp};
use postrider_store::WebSessionOwner;

use crate::support::{
    PASSWORD, Setup,
    program::{self, Program},
};

async fn list<O: Operation>(data: &Path, operation: O) -> Vec<O::Item> {
    let mut answer = client::call(data, &operation).await.unwrap();
    let mut items = Vec::new();
    while let Some(item) = answer.next().await.unwrap() {
        items.push(item);
    }
    items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_administrator_needs_a_code_until_it_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        statics: "admin_http = { enabled = true, port = 0 }\n".to_owned(),
        ..Setup::default()
    };
    let conf = setup.write_with_admin(dir.path());
    program::feed(&conf, &["setadminpassword"], PASSWORD);
    let server = Program::start(&conf);
    let url = format!(
        "http://{}/api/queue/messages",
        server.address("test.admin_http").await
    );
    let status = async |password: &str| {
        let call = reqwest::Client::new().get(&url);
        let answer = call.basic_auth("admin", Some(password)).send().await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(status(PASSWORD).await, 200);
    let data = dir.path().join("data");
    let of = || WebSessionOwner::Admin;
    let begun = client::ask(&data, &Begin { of: of() }).await.unwrap();
    assert_eq!(status(PASSWORD).await, 200);
    let otp = parse_otp(&begun.url).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let step = now.unwrap().as_secs() / 30;
    let code = otp_code(&otp, step).unwrap();
    let confirmed = client::ask(&data, &Confirm { of: of(), code }).await;
    assert_eq!(confirmed.unwrap().recovery_codes.len(), 10);
    assert_eq!(status(PASSWORD).await, 402);
    let with_code = format!("{PASSWORD}${}", otp_code(&otp, step + 1).unwrap());
    assert_eq!(status(&with_code).await, 200);
    assert_eq!(status(&with_code).await, 401);
    let reset = program::run(&conf, &["totp", "disable", "--admin"]).await;
    assert!(reset.status.success());
    assert_eq!(status(PASSWORD).await, 200);

    // The text at the start has no name, and that of an operation has one.
    let add = ["config", "account", "add", "joe", "joe@example.org"];
    assert!(program::run(&conf, &add).await.status.success());
    let versions: Vec<VersionItem> = list(&data, DomainsVersions {}).await;
    let whats: Vec<_> = versions.iter().map(|it| it.what.as_str()).collect();
    assert_eq!(whats, ["account.add joe", ""]);
    assert!(versions[0].in_force && !versions[1].in_force);
}
