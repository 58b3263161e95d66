//! Refused changes of `domains.conf`.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Value, json};

use super::{Desk, config::DYNAMICS};

/// Each line has an operation, its input, the code of the refusal, and the field that is wrong; `-`
/// if no single field is.
const REFUSALS: &str = r##"
domain.add {"domain": "EXAMPLE.org", "account": "app"} => conflict domain
domain.add {"domain": "a b", "account": "app"} => invalid domain
domain.add {"domain": "a.test", "account": ""} => invalid account
domain.add {"domain": "a.test", "account": "new"} => invalid localpart
domain.add {"domain": "a.test", "account": "jane", "localpart": "jane"} => invalid localpart
domain.add {"domain": "a.test", "account": "new", "localpart": "a@b"} => invalid localpart
domain.add {"domain": "a.test", "account": "new", "localpart": "a+b"} => invalid localpart
# Only the check of the whole file finds this, when the keys are made already.
domain.add {"domain": "a.test", "account": "a/b", "localpart": "a"} => invalid -
domain.remove {"domain": "other.test"} => not_found domain
# Accounts have addresses there.
domain.remove {"domain": "example.org"} => invalid -
domain.set {"domain": "other.test", "settings": []} => not_found domain
domain.set {"domain": "example.org", "settings": []} => invalid settings
domain.set {"domain": "example.org", "settings": [{"key": "disabled", "value": "yes"}]} => invalid disabled
domain.set {"domain": "example.org", "settings": [{"key": "disabeld", "value": "true"}]} => invalid disabeld
# One separator is in the other.
domain.set {"domain": "example.org", "settings": [{"key": "localpart_catchall_separators", "value": "[\"+\", \"++\"]"}]} => invalid -
account.add {"account": "", "address": "a@example.org"} => invalid account
account.add {"account": "jane", "address": "a@x"} => conflict account
account.add {"account": "new", "address": "a"} => invalid address
account.add {"account": "new", "address": "@example.org"} => invalid address
account.add {"account": "new", "address": "a@[192.0.2.1]"} => invalid address
account.add {"account": "new", "address": "a@other.test"} => not_found address
account.add {"account": "new", "address": "Jane@example.org"} => conflict address
account.add {"account": "new", "address": "team@example.org"} => conflict address
account.add {"account": "new", "address": "dmarcreports@example.org"} => conflict address
account.add {"account": "new", "address": "a+b@example.org"} => invalid address
account.add {"account": "a/b", "address": "a@example.org"} => invalid -
account.remove {"account": "new"} => not_found account
account.remove {"account": "app"} => invalid account
account.remove {"account": "reports"} => invalid account
# The last member of an alias.
account.remove {"account": "jane"} => invalid account
account.set {"account": "new", "settings": [{"key": "quota", "value": "1GB"}]} => not_found account
account.set {"account": "jane", "settings": [{"key": "full_name", "value": "Jane"}, {"key": "quota", "value": "much"}]} => invalid -
account.suspend {"account": "new", "message": null} => not_found account
account.suspend {"account": "jane", "message": ""} => invalid message
account.unsuspend {"account": "new"} => not_found account
address.add {"address": "a@example.org", "account": "new"} => not_found account
address.add {"address": "a@other.test", "account": "jane"} => not_found address
address.add {"address": "@other.test", "account": "jane"} => not_found address
address.add {"address": "INFO@example.org", "account": "jane"} => conflict address
address.add {"address": "", "account": "jane"} => invalid address
address.remove {"address": "a@example.org"} => not_found address
# These go to an account, but are not its addresses.
address.remove {"address": "info+x@example.org"} => not_found address
address.remove {"address": "postmaster@example.org"} => not_found address
address.remove {"address": "dmarcreports@example.org"} => not_found address
address.remove {"address": "@example.org"} => not_found address
address.remove {"address": "jane@example.org"} => invalid address
alias.add {"alias": "a@other.test", "members": []} => not_found alias
alias.add {"alias": "a@example.org", "members": []} => invalid members
alias.add {"alias": "team@example.org", "members": ["jane@example.org"]} => conflict alias
alias.add {"alias": "jane@example.org", "members": ["app@example.org"]} => conflict alias
alias.add {"alias": "a+b@example.org", "members": ["jane@example.org"]} => invalid alias
alias.add {"alias": "a@example.org", "members": ["jane@example.org", "JANE@example.org"]} => invalid members
alias.add {"alias": "a@example.org", "members": ["team@example.org"]} => invalid members
alias.add {"alias": "a@example.org", "members": ["x@remote.test"]} => invalid members
alias.add {"alias": "a@example.org", "members": ["jane+x@example.org"]} => invalid members
alias.update {"alias": "a@example.org"} => not_found alias
alias.remove {"alias": "jane@example.org"} => not_found alias
alias.add_members {"alias": "team@example.org", "members": ["jane@example.org"]} => conflict members
alias.add_members {"alias": "team@example.org", "members": []} => invalid members
alias.remove_members {"alias": "team@example.org", "members": ["jane@example.org", "info@example.org"]} => invalid members
alias.remove_members {"alias": "team@example.org", "members": ["jane@example.org", "jane@example.org"]} => invalid members
alias.remove_members {"alias": "one@example.org", "members": ["jane@example.org"]} => invalid members
dkim.add {"domain": "other.test", "selector": "a", "algorithm": "ed25519"} => not_found domain
dkim.add {"domain": "example.org", "selector": "a b", "algorithm": "ed25519"} => invalid selector
# A hash that does not fit the key.
dkim.add {"domain": "example.org", "selector": "a", "algorithm": "ed25519", "hash": "sha1"} => invalid -
dkim.remove {"domain": "example.org", "selector": "a"} => not_found selector
dkim.rotate {"domain": "other.test"} => not_found domain
route.add {"scope": {}, "transport": "none"} => not_found transport
route.add {"scope": {"account": "new"}, "transport": "relay"} => not_found account
route.add {"scope": {"account": "jane", "domain": "example.org"}, "transport": "relay"} => invalid domain
route.add {"scope": {}, "transport": "relay", "to_domain": ["a b"]} => invalid to_domain
route.add {"scope": {}, "transport": "relay", "number": 2} => not_found number
route.remove {"scope": {}, "number": 1} => not_found number
setting.set {"settings": [{"key": "a..b", "value": "1"}]} => invalid a..b
setting.set {"settings": [{"key": "accounts.jane.domain", "value": null}]} => invalid -
setting.set {"settings": [{"key": "monitor_dnsbls.3", "value": "dnsbl.test"}]} => invalid monitor_dnsbls.3
"##;

#[tokio::test]
async fn a_refused_change_leaves_no_trace() {
    let desk = Desk::domains();
    let before = desk.context.config.load_full();
    let no_files: [Vec<PathBuf>; 2] = Default::default();
    let mut operations = Vec::new();
    for line in REFUSALS.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (request, refusal) = line.split_once(" => ").unwrap();
        let (operation, input) = request.split_once(' ').unwrap();
        let (code, field) = refusal.split_once(' ').unwrap();
        let field = match field {
            "-" => Value::Null,
            field => field.into(),
        };
        let input: Value = serde_json::from_str(input).unwrap();
        let request = json!({"operation": operation, "input": input});
        let answer = desk.lines(&request.to_string()).await;
        let [answer] = &*answer else {
            panic!("{line}: {answer:?}");
        };
        let error = &answer["error"];
        let found = (&error["code"], &error["field"]);
        assert_eq!(found, (&json!(code), &field), "{line}: {answer}");
        assert_eq!(desk.text(), DYNAMICS, "{line}");
        assert_eq!(desk.key_files(), no_files, "{line}");
        operations.push(operation);
    }
    assert!(Arc::ptr_eq(&before, &desk.context.config.load_full()));
    let audited = desk.audited().await;
    let entries = audited.iter().rev();
    let audited: Vec<&str> = entries.clone().map(|entry| &*entry.operation).collect();
    assert_eq!(audited, operations);
    for entry in entries {
        assert_ne!(entry.outcome, "done");
        assert_eq!((&entry.before, &entry.after), (&Value::Null, &Value::Null));
    }
}
