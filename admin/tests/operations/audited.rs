//! Each operation that changes something leaves exactly one entry in the audit log, also if it is
//! refused. Operations that only read leave none.

use std::collections::BTreeSet;

use postrider_store::{AuditFilter, Order};
use serde_json::{Value, json};

use super::{
    Desk,
    config::{DYNAMICS, STATICS},
};

/// The list of all operations.
const LIST: &str = include_str!("../../src/op.rs");

/// Each line has an operation, its input, and what becomes of it: `done` or `refused` with an entry
/// in the audit log, or `read` without one. They run one after the other, on one server.
const OPERATIONS: &str = r##"
account.overview {"account": "jane"} => read
server.ping {} => read
server.check {} => read
server.reload_certificates {} => done
server.reload_certificates {"check_only": true} => read
# It changes nothing, but it shows all mail of an account.
mail.export {"account": "jane"} => done
mail.export {"account": "none"} => refused
login.list {"of": {"account": "jane"}} => read
login.find {"order": "descending"} => read
login.unlock {"account": "jane", "ip": null} => done
login.unlock {"account": "none", "ip": null} => refused
login.unlock {"account": null, "ip": null} => refused
password.set {"account": "jane", "password": "correct horse battery"} => done
password.set {"account": "none", "password": "correct horse battery"} => refused
password.generate {"account": "jane"} => done
password.generate {"account": "none"} => refused
password.admin_set {} => done
web_session.list {} => read
web_session.end {"of": {"account": "jane"}} => done
web_session.end {"of": "admin", "id": 1} => refused
web_session.end {"of": {"account": "none"}} => refused
app_password.add {"account": "jane", "name": "phone"} => done
app_password.add {"account": "jane", "name": "phone"} => refused
app_password.add {"account": "none", "name": "phone"} => refused
app_password.list {"account": "jane"} => read
app_password.remove {"account": "jane", "name": "phone"} => done
app_password.remove {"account": "jane", "name": "phone"} => refused
tls_key.list {"account": null} => read
tls_key.add {"login": "none@example.org", "certificate": "no certificate"} => refused
tls_key.remove {"fingerprint": "none"} => refused
otp.enable {"account": "jane"} => done
otp.enable {"account": "none"} => refused
otp.disable {"account": "jane"} => done
otp.disable {"account": "none"} => refused
second_factor.show {"of": "admin"} => read
second_factor.confirm {"of": "admin", "code": "123456"} => refused
second_factor.begin {"of": "admin"} => done
second_factor.begin {"of": {"account": "none"}} => refused
second_factor.renew {"of": "admin"} => refused
second_factor.reset {"of": "admin"} => done
second_factor.reset {"of": "admin"} => refused
credential.show {"account": "jane"} => read
credential.change {"account": "jane", "changes": [{"add_app_password": {"name": "pad", "password": "correct horse staple"}}]} => done
credential.change {"account": "none", "changes": [{"set_password": "correct horse staple"}]} => refused
queue.list {"filter": {}, "order": "ascending", "limit": null} => read
queue.modify {"filter": {}, "change": {"hold": true}} => done
queue.modify {"filter": {}, "change": {"transport": "none"}} => refused
queue.end {"filter": {}, "ending": "canceled"} => done
queue.dump {"id": 1} => read
queue.explain {"id": 1} => read
queue.status {} => read
queue.stop {} => done
# What is so already is no change.
queue.stop {} => read
queue.start {"only": "deliveries"} => done
queue.start {} => done
destination.list {} => read
destination.orders {} => read
destination.pause {"target": "remote.test", "reason": "test"} => done
destination.pause {"target": "a b", "reason": "test"} => refused
destination.pause {"target": "remote.test", "for": "soon", "reason": "test"} => refused
destination.resume {"target": "remote.test"} => done
destination.resume {"target": "a b"} => refused
destination.limit {"target": "remote.test", "connections": 1, "reason": "test"} => done
destination.limit {"target": "a b", "connections": 1, "reason": "test"} => refused
destination.forget {"target": "a b"} => refused
report.list {"filter": {}, "limit": null} => read
report.show {"id": 1} => read
report.raw {"id": 1} => read
report.sums {"domain": "new.test"} => read
report.remove {"id": 1} => refused
report.remove_all {"filter": {}} => done
queue_report.list {"filter": {}} => read
queue_report.show {"id": "none"} => read
queue_report.drop {"id": "none"} => refused
queue_report.drop_all {"filter": {}} => done
delivery.check {"to": "a b"} => read
spf.check {"ip": "192.0.2.7", "from": "a@remote.test"} => read
dkim.verify {"message": {"header": "", "simple": "", "relaxed": ""}} => read
dmarc.check {"ip": "192.0.2.7", "from": "a@remote.test"} => read
principal.list {"kinds": ["individual"]} => read
principal.usage {"account": "jane"} => read
principal.update {"kind": "individual", "name": "jane", "changes": {"description": "Jane"}} => done
principal.update {"kind": "individual", "name": "none", "changes": {"description": "Jane"}} => refused
principal.remove_all {"accounts": ["none"], "kinds": ["individual"]} => refused
queue.find {"which": {}, "order": "ascending", "after": null, "skip": 0, "limit": 1, "whole": true, "count_max": 1} => read
queue.browse {"which": {"extra": "order=7"}, "order": "ascending", "after": null, "limit": 1, "count": true} => read
queue.figures {} => read
queue.day {} => read
server.attention {} => read
destination.board {"failing": true} => read
queue.details {"id": 1} => read
queue.look {"id": 1, "with_text": false} => read
queue.get {"id": 1} => read
queue.change_selected {"which": {}, "change": {"hold": true}} => done
queue.end_selected {"which": {}, "ending": "canceled"} => done
history.list {"filter": {}, "order": "ascending", "limit": null} => read
history.search {"filter": {}, "order": "descending", "after": null, "limit": 1} => read
history.with_text {"ids": [1]} => read
history.send_again {"id": 1} => refused
event.search {"which": {}, "order": "descending", "after": null, "limit": 1} => read
suppression.list {"which": {}} => read
suppression.add {"account": "jane", "address": "a@remote.test", "reason": "asked"} => done
suppression.add {"account": "jane", "address": "a@remote.test", "reason": "asked"} => refused
suppression.lookup {"account": "jane", "address": "a@remote.test"} => read
suppression.remove {"account": "jane", "address": "a@remote.test"} => done
suppression.remove {"account": "jane", "address": "a@remote.test"} => refused
suppression.check {"account": "jane", "table": "a@remote.test"} => read
suppression.import {"account": "jane", "table": "a@remote.test"} => done
suppression.import {"account": "jane", "table": "no address"} => refused
suppression.import {"account": "none", "table": "a@remote.test"} => refused
suppression.find {"which": {"text": "a+x@remote.test"}, "order": "descending", "after": null, "limit": 1} => read
suppression.clear {"which": {"account": "jane"}} => done
sieve.list {} => read
sieve.set {"scripts": [{"account": "jane", "name": "a", "text": "keep;"}]} => done
sieve.set {"scripts": [{"account": "jane", "name": "a", "text": "kep;"}]} => refused
sieve.set {"scripts": [{"account": "none", "name": "a"}]} => refused
sieve.set {"scripts": [{"account": "jane", "name": "a"}], "check_only": true} => read
hold_rule.list {} => read
hold_rule.count_held {} => read
hold_rule.add {"account": "jane"} => done
hold_rule.add {"sender": "no address"} => refused
hold_rule.remove {"id": 1} => done
hold_rule.remove {"id": 1} => refused
inbox.list {"limit": 1} => read
inbox.get {"id": "m1", "reads": true} => read
inbox.html {"id": "m1"} => read
inbox.part {"id": "m1", "part": "body"} => read
inbox.source {"id": "q1"} => read
inbox.what_happened {"id": "q1"} => read
inbox.foresee {"account": "jane"} => read
inbox.send {"account": "jane", "subject": "Hi", "text": "Hi"} => done
inbox.send {"account": "none"} => refused
inbox.mark {"read": true} => done
inbox.mark {"ids": ["m999"], "read": true} => refused
inbox.clear {"dry_run": true} => read
inbox.clear {"query": "is:blue"} => refused
inbox.clear {} => done
key.list {"account": null} => read
key.uses {"account": null} => read
key.add {"name": "tool", "scopes": ["manage"], "expires": null} => done
key.add {"name": "tool", "account": "none", "scopes": ["send"], "expires": null} => refused
key.remove {"id": 1} => done
key.remove {"id": 1} => refused
webhook.list {"filter": {}, "order": "ascending", "limit": null} => read
webhook.schedule {"filter": {}, "next": {"Shift": 1}} => done
webhook.cancel {"filter": {}} => done
webhook.find {"filter": {}, "order": "ascending", "after": null, "limit": 1} => read
webhook.find_past {"filter": {}, "order": "descending", "after": null, "limit": 1} => read
webhook.show {"id": 1} => read
webhook.receivers {"account": null, "after": null, "limit": 1} => read
webhook.example {"account": "jane", "incoming": false} => read
webhook.test {"account": "jane", "incoming": false} => read
webhook.history {"filter": {}, "order": "ascending", "limit": null} => read
webhook.replay {"filter": {}} => done
junk.train {"account": "jane", "junk": true, "message": "U3ViamVjdDogYnV5CgpidXkgdGhlIHdob2xlIHNob3AgdG9kYXkK"} => done
junk.train {"account": "none", "junk": true, "message": ""} => refused
junk.train_mailbox {"account": "jane", "mailbox": "none", "junk": true} => refused
junk.classify {"account": "jane", "message": ""} => read
junk.reset {"account": "jane"} => done
junk.reset {"account": "none"} => refused
junk.status {"account": null} => read
undelete.list {"account": "jane"} => read
undelete.restore {"account": "jane"} => done
undelete.restore {"account": "none"} => refused
purge.account {"account": "jane"} => done
purge.account {"account": "none"} => refused
purge.blob {} => done
purge.data {} => done
trace.find {} => read
trace.story {"of": "jane@example.org"} => read
dns.records {"domain": "example.org"} => read
dns.check {"domain": "none.test"} => read
dns.verdicts {} => read
dns.can_publish {"domain": "none.test"} => read
dns.publish {"domain": "none.test"} => refused
dns.publish {"domain": "none.test", "dry_run": true} => read
dns.lookup {"record_type": "A", "name": "remote.test"} => read
domain.list {"domain": null} => read
domain.add {"domain": "new.test", "account": "jane"} => done
domain.add {"domain": "new.test", "account": "jane"} => refused
domain.set {"domain": "new.test", "settings": [{"key": "description", "value": "New"}]} => done
domain.set {"domain": "none.test", "settings": []} => refused
account.list {"account": null} => read
account.add {"account": "new", "address": "new@new.test"} => done
account.add {"account": "new", "address": "new@new.test"} => refused
account.set {"account": "new", "settings": [{"key": "quota", "value": "1GB"}]} => done
account.set {"account": "none", "settings": []} => refused
account.states {"accounts": ["new"]} => read
account.rotate_webhook_secret {"account": "new", "incoming": true, "present": 0} => refused
account.set {"account": "new", "settings": [{"key": "incoming_webhook.url", "value": "http://127.0.0.1:9/"}]} => done
account.rotate_webhook_secret {"account": "new", "incoming": true, "present": 1} => refused
account.rotate_webhook_secret {"account": "new", "incoming": true, "present": 0} => done
account.suspend {"account": "new", "message": null} => done
account.suspend {"account": "none", "message": null} => refused
account.unsuspend {"account": "new"} => done
account.unsuspend {"account": "none"} => refused
address.list {"account": null} => read
address.add {"address": "more@new.test", "account": "new"} => done
address.add {"address": "no address", "account": "new"} => refused
address.remove {"address": "more@new.test"} => done
address.remove {"address": "more@new.test"} => refused
alias.list {"domain": null} => read
alias.add {"alias": "all@new.test", "members": ["new@new.test"]} => done
alias.add {"alias": "no address", "members": []} => refused
alias.update {"alias": "all@new.test", "post_public": true} => done
alias.update {"alias": "no address"} => refused
alias.add_members {"alias": "all@new.test", "members": ["jane@example.org"]} => done
alias.add_members {"alias": "no address", "members": []} => refused
alias.remove_members {"alias": "all@new.test", "members": ["jane@example.org"]} => done
alias.remove_members {"alias": "no address", "members": []} => refused
alias.remove {"alias": "all@new.test"} => done
alias.remove {"alias": "all@new.test"} => refused
account.remove {"account": "new"} => done
account.remove {"account": "new"} => refused
dkim.list {"domain": null} => read
dkim.status {"domain": "new.test", "look": true} => read
dkim.add {"domain": "new.test", "selector": "more", "algorithm": "ed25519"} => done
dkim.add {"domain": "new.test", "selector": "more", "algorithm": "ed25519"} => refused
dkim.stop {"domain": "new.test", "selector": "more"} => refused
dkim.remove {"domain": "new.test", "selector": "more"} => done
dkim.remove {"domain": "new.test", "selector": "more"} => refused
dkim.rotate {"domain": "none.test"} => refused
address.remove {"address": "postmaster@new.test"} => done
domain.remove {"domain": "new.test"} => done
domain.remove {"domain": "new.test"} => refused
route.list {} => read
route.add {"scope": {}, "transport": "relay"} => done
route.add {"scope": {}, "transport": "none"} => refused
route.remove {"scope": {}, "number": 1} => done
route.remove {"scope": {}, "number": 1} => refused
config.domains_show {} => read
config.domains_check {"text": "no toml"} => read
config.domains_versions {} => read
config.domains_version {"id": 1} => read
config.domains_save {"text": "", "hash": "none"} => refused
config.domains_restore {"id": 1000000} => refused
# The file of this test is not there.
config.static_show {} => read
setting.get {"key": "accounts.jane"} => read
setting.set {"settings": [{"key": "accounts.jane.full_name", "value": "Jane"}]} => done
setting.set {"settings": [{"key": "a..b", "value": "1"}]} => refused
hooks.list {} => read
hooks.test {"name": "none"} => read
hooks.import {"text": "", "files": [{"path": "../x", "content": ""}]} => refused
log.list {"filter": null} => read
log.list_levels {} => read
log.set_level {"module": "queue", "level": "debug", "for": "10m"} => done
log.set_level {"module": "queue", "level": "loud"} => refused
log.set_level {"module": "quue", "level": "debug"} => refused
log.reset_levels {} => done
refusal.list {} => read
metrics.points {"since": 0, "ids": ["queue.count"]} => read
audit.find {"order": "descending"} => read
audit.list {} => read
"##;

/// They run as long as their caller, and change nothing.
const ENDLESS: [&str; 3] = ["server.backup", "trace.follow", "event.follow"];

/// The names of all operations, as the list has them.
fn names() -> BTreeSet<&'static str> {
    let lines = LIST.lines().filter(|line| line.contains("($crate::op::"));
    let names = lines.map(|line| line.split('"').nth(1).unwrap());
    names.collect()
}

#[tokio::test]
async fn each_change_and_each_refused_one_has_one_entry() {
    let desk = Desk::with(STATICS, DYNAMICS);
    let entries = async || {
        let (store, all) = (&desk.context.store, AuditFilter::default());
        store
            .list_audit(&all, None, Order::Descending, 999)
            .await
            .unwrap()
            .items
    };
    let mut seen: BTreeSet<&str> = ENDLESS.into();
    let (mut count, mut wrong) = (0, Vec::new());
    for line in OPERATIONS.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (request, expected) = line.rsplit_once(" => ").unwrap();
        let (operation, input) = request.split_once(' ').unwrap();
        let input: Value = serde_json::from_str(input).unwrap();
        let request = json!({"operation": operation, "input": input});
        let answer = desk.lines(&request.to_string()).await;
        let end = answer.last().unwrap();
        let text = end["error"]["text"].as_str().unwrap_or_default();
        if text.contains("does not understand") {
            wrong.push(format!("{line}: {text}"));
            continue;
        }
        let all = entries().await;
        let outcome = match (all.len() - count, end.get("done"), all.first()) {
            (0, ..) => "read",
            (1, Some(_), Some(entry)) if entry.refusal.is_empty() => "done",
            (1, None, Some(entry)) if !entry.refusal.is_empty() => "refused",
            _ => "wrong",
        };
        if outcome != expected {
            wrong.push(format!(
                "{line}: {outcome}, {} more, {end}",
                all.len() - count
            ));
        }
        count = all.len();
        seen.insert(operation);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen, names());
}
