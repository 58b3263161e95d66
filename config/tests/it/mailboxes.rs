//! The keys of mailboxes and of their API.

use std::time::Duration;

use postrider_config::{Right, Tenant};

use crate::support::{dynamic, statics};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn keys_of_the_mailbox_api_are_read() {
    let config = statics(
        "mail_api_https = { path = \"/mail\" }\nmail_api_http = {}\ntls.certs = [{ cert_file = \"c\", \
         key_file = \"/k\" }]\n[mail_api]\norigins = [\"https://App.example.com\"]\n",
    );
    let listener = &config.listeners["local"];
    assert!(listener.mail_api_http.enabled && listener.mail_api_https.enabled);
    assert_eq!(listener.mail_api_https.path, "/mail/");
    assert_eq!(
        config.mail_api.origins[0].as_str(),
        "https://app.example.com"
    );
    let text = "[domains.\"example.org\"]\ntenant = 42\n\
        tracking = { host = \"t.example.org\", clicks = true }\n\
        [domains.\"example.net\"]\ntenant = \"acme\"\n\
        [accounts.alice]\ndomain = \"example.org\"\nundelete_period = \"3d\"\n\
        shared_with.bob = \"send\"\nshared_with.\"carol.b\" = \"read\"\nallow_forward = true\n\
        [accounts.bob]\ndomain = \"example.org\"\n[accounts.\"carol.b\"]\ndomain = \"example.org\"\n";
    let config = dynamic(text, &statics(""));
    let tenants: Vec<_> = config
        .domains
        .values()
        .map(|it| it.tenant.clone())
        .collect();
    let tenant = |text: &str| Some(Tenant::parse(text).unwrap());
    assert_eq!(tenants, [tenant("acme"), tenant("42")]);
    let tracking = config.domains.values().find_map(|it| it.tracking.as_ref());
    let tracking = tracking.unwrap();
    assert_eq!(tracking.host.ascii(), "t.example.org");
    assert!(tracking.clicks && !tracking.opens);
    let alice = &config.accounts["alice"];
    assert_eq!(alice.undelete_period, Some(3 * DAY));
    assert!(alice.allow_forward);
    assert_eq!(alice.right_of("bob"), Some(Right::Send));
    assert_eq!(alice.right_of("carol.b"), Some(Right::Read));
    assert_eq!(alice.right_of("alice"), None);
    assert!(Right::Read < Right::Write && Right::Write < Right::Send);
}
