//! The defaults and ranges in force are those of the description.

use std::{
    fs::Permissions, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};

use postrider_config::{
    CertificateSource, DmarcHandling, Dynamic, FailureDsn, HookAuth, HookBody, HookBreaker,
    HookConditions, HookController, HookError, HookKind, HookQuarantine, HookStage,
    KeepTranscripts, Lmtp, LogFormat, LogLevel, MilterSocket, OnBlock, ReportsTls, RequireTls,
    Size, Static, TlsVersion, Transport, TsigAlgorithm, describe,
    keys::{DYNAMIC, STATIC},
    replace_private,
    schema::{Default, Key, Section},
};
use postrider_smtp::canonical::HeaderFields;
use proptest::prelude::*;

use crate::support::{self, dynamic, private_copies, statics};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn defaults_of_postrider_conf() {
    let config = Static::parse(support::STATIC, "etc/postrider.conf").unwrap();
    assert_eq!(config.data_dir, Path::new("etc/../data"));
    assert_eq!(config.domains_file(), Path::new("etc/domains.conf"));
    assert_eq!(config.user, "postrider");
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.postmaster.mailbox, "Postmaster");
    assert!(config.sandbox);
    assert_eq!(config.admin_password_file, None);
    assert!(config.resolver.servers.is_empty() && config.resolver.dnssec);
    assert_eq!(config.resolver.trust_anchor_file, None);
    assert_eq!(config.resolver.timeout, Duration::from_secs(5));
    assert_eq!(config.resolver, postrider_config::ResolverConfig::default());
    let minutes = |list: &[f64]| list.iter().map(|m| MINUTE.mul_f64(*m)).collect::<Vec<_>>();
    assert_eq!(
        config.queue.retry_intervals,
        minutes(&[7.5, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0])
    );
    assert_eq!(config.queue.delay_dsn_after, 4 * HOUR);
    assert_eq!(config.queue.max_concurrency, 500);
    assert_eq!(config.queue.retry_spread, 0.1);
    let traces = &config.traces;
    assert!(traces.enabled);
    assert_eq!(traces.keep, 7 * 24 * HOUR);
    assert_eq!((traces.max_size.0, traces.sample), (1 << 30, 1.0));
    assert_eq!(config.queue.keep_transcripts, KeepTranscripts::Failed);
    let destination = &config.queue.per_destination;
    assert_eq!(destination.connections, 10);
    assert_eq!(destination.messages_per_connection, 100);
    assert_eq!(destination.recipients_per_transaction, 100);
    assert_eq!(destination.idle, Duration::from_secs(5));
    assert_eq!(
        config.webhook.retry_intervals,
        minutes(&[
            1.0, 2.0, 4.0, 7.5, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0
        ])
    );
    assert_eq!(config.webhook.timeout, MINUTE);
    assert_eq!(config.webhook.max_concurrency, 100);
    assert_eq!(config.webhook.per_receiver_concurrency, 10);
    assert_eq!(config.webhook.proxy, None);
    assert!(!config.webhook.allow_private_addresses);
    let limits = &config.limits;
    assert_eq!(limits.connections, 20000);
    assert_eq!(limits.connections_per_network, 300);
    assert_eq!(limits.messages_per_connection, 10000);
    assert_eq!(limits.messages_per_network, 1000);
    assert_eq!(limits.recipients_per_network, 5000);
    assert_eq!(limits.bytes_per_network, Size(1 << 30));
    assert_eq!(limits.recipients_per_message, 1000);
    assert_eq!(limits.errors_per_connection, 20);
    assert_eq!(limits.command_timeout, 5 * MINUTE);
    assert_eq!(limits.data_timeout, 10 * MINUTE);
    assert_eq!(limits.message_timeout, 30 * MINUTE);
    assert_eq!(limits.header_size, Size(256 << 10));
    assert_eq!(limits.text_memory, Size(256 << 20));
    assert_eq!((limits.mime_depth, limits.mime_parts), (50, 5000));
    assert_eq!(limits.login_failures_per_network.per_minute, 10);
    assert_eq!(limits.login_failures_per_network.per_day, 50);
    let client = &config.smtp_client;
    assert_eq!(client.connect_timeout, MINUTE / 2);
    assert_eq!(client.greeting_timeout, 5 * MINUTE);
    assert_eq!(client.mail_timeout, 5 * MINUTE);
    assert_eq!(client.rcpt_timeout, 5 * MINUTE);
    assert_eq!(client.data_timeout, 2 * MINUTE);
    assert_eq!(client.dot_timeout, 10 * MINUTE);
    let delivery = &config.delivery;
    assert!(!delivery.forbid_private_addresses && delivery.dane);
    assert_eq!(delivery.message_time, 15 * MINUTE);
    assert_eq!(delivery.min_rate, 500);
    assert_eq!(delivery.connections_per_address, 20);
    assert_eq!(delivery.slow_connections, 100);
    assert_eq!(delivery.require_tls, RequireTls::Enforce);
    assert!(delivery.mta_sts);
    assert_eq!(delivery.on_block, OnBlock::Defer);
    assert_eq!(config.store.segment_size, Size(64 << 20));
    assert_eq!(config.policy.dmarc, DmarcHandling::Enforce);
    assert!(config.policy.arc_trusted_sealers.is_empty());
    assert!(config.policy.greylist);
    assert_eq!(config.policy.first_time_sender_delay, MINUTE / 4);
    assert_eq!(
        config.default_mailboxes,
        ["Inbox", "Sent", "Archive", "Trash", "Drafts", "Junk"]
    );
    assert_eq!(config.host_tls_rpt, None);
    assert_eq!(config.reports.tls, ReportsTls::Failures);
    assert!(config.reports.dmarc && config.reports.from.is_none());
    assert_eq!(config.undelete.keep, 30 * 24 * HOUR);
    assert_eq!(config.undelete.max_size.0, 1 << 30);
    assert_eq!(config.reports.keep, MINUTE * 60 * 24 * 365);
    assert_eq!(config.reports.max_size, Size(4 << 30));
    assert!(config.hooks.is_empty() && config.milters.is_empty());
    assert!(config.mail_api.origins.is_empty());
    assert!(!config.oauth.issuer && config.oauth.server.is_none());
    assert!(config.not_yet().is_empty() && config.warnings().is_empty());
}

#[test]
fn defaults_of_hooks_and_milters() {
    let config = statics(
        "[host_tls_rpt]\naccount = \"alice\"\n[hooks.a]\nurl = \"http://127.0.0.1/\"\non_error = \"accept\"\n[hooks.r]\nurl = \"http://127.0.0.1/\"\nkind = \"rspamd\"\n[milters.b]\nsocket = \"unix:run/milter\"\n",
    );
    let reports = config.host_tls_rpt.as_ref().unwrap();
    assert_eq!(reports.mailbox, "TLSRPT");
    assert_eq!(reports.localpart.as_str(), "tlsreports");
    let hook = &config.hooks["a"];
    assert!(hook.enabled && !hook.raw_base64 && hook.auth.is_none() && hook.headers.is_empty());
    assert_eq!(
        (hook.kind, hook.body, hook.quarantine),
        (HookKind::Stage, HookBody::Text, HookQuarantine::Junk)
    );
    assert_eq!(hook.stages, [HookStage::Data]);
    assert_eq!(hook.timeout, MINUTE / 2);
    assert_eq!(hook.max_response_size, Size(50 << 20));
    assert_eq!(
        [hook.on_unavailable, hook.on_timeout, hook.on_invalid],
        [HookError::Accept; 3]
    );
    assert_eq!((hook.retry_max, hook.retry_delay), (0, MINUTE / 60));
    assert_eq!(hook.conditions, HookConditions::default());
    let breaker = HookBreaker {
        failures: 5,
        pause: MINUTE / 2,
    };
    assert_eq!(hook.breaker, breaker);
    let rspamd = &config.hooks["r"];
    assert_eq!((rspamd.kind, &rspamd.learns), (HookKind::Rspamd, &None));
    assert_eq!(
        [rspamd.on_unavailable, rspamd.on_timeout, rspamd.on_invalid],
        [HookError::Accept; 3]
    );
    let milter = &config.milters["b"];
    assert_eq!(milter.breaker, breaker);
    assert_eq!(milter.socket, MilterSocket::Unix("run/milter".into()));
    assert_eq!(
        (milter.timeout, milter.on_error),
        (MINUTE / 2, HookError::Tempfail)
    );
    assert_eq!(milter.conditions, HookConditions::default());
}

#[test]
fn keys_of_hooks_are_read_into_their_fields() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/config/static");
    let config = Static::load(folder.join("hooks-all.toml")).unwrap();
    let hook = &config.hooks["scan"];
    assert_eq!(hook.stages.len(), HookStage::ALL.len());
    let auth = HookAuth::Basic {
        username: "postrider".to_owned(),
        password_file: folder.join("hooks/scan.secret"),
    };
    assert_eq!(hook.auth, Some(auth));
    assert_eq!(hook.headers, [("X-Key".to_owned(), "value".to_owned())]);
    assert_eq!(
        [hook.on_unavailable, hook.on_timeout, hook.on_invalid],
        [
            HookError::Tempfail,
            HookError::Quarantine,
            HookError::Reject
        ]
    );
    assert_eq!((hook.retry_max, hook.retry_delay), (2, MINUTE / 120));
    let conditions = &hook.conditions;
    assert_eq!(conditions.listeners, ["public"]);
    assert_eq!(conditions.authenticated, Some(false));
    let remote: Vec<String> = conditions.remote.iter().map(ToString::to_string).collect();
    assert_eq!(remote, ["192.0.2.0/24", "2001:db8::1/128"]);
    assert!(conditions.sender_domains[0].subdomains && !conditions.recipient_domains[0].subdomains);
    let controller = HookController {
        url: Some("http://127.0.0.1:11334/".to_owned()),
        password_file: Some(folder.join("hooks/controller.secret")),
    };
    assert_eq!(config.hooks["rspamd"].learns, Some(controller));
    let off = &config.hooks["off"];
    assert_eq!(off.auth, Some(HookAuth::Bearer(folder.join("token"))));
    assert_eq!(
        config.acme["test"].issuer.as_ref().unwrap().ascii(),
        "ca.example"
    );
    assert!(!format!("{hook:?}").contains("value"));
}

#[test]
fn a_report_account_must_be_in_domains_conf() {
    let statics = statics("[host_tls_rpt]\naccount = \"alise\"\n");
    let error = Dynamic::parse(support::DYNAMIC, "domains.conf", &statics).unwrap_err();
    assert_eq!(
        error.to_string(),
        "postrider.conf:6:1: host_tls_rpt.account: names account \"alise\", which is not in \
         domains.conf; did you mean \"alice\"?"
    );
}

#[test]
fn defaults_of_listeners() {
    let config = statics(
        "smtp = {}\ntls.certs = [{ cert_file = \"c\", key_file = \"/k\" }]\nsubmission.enabled = true\n",
    );
    let listener = &config.listeners["local"];
    assert_eq!(listener.ips, [Ipv4Addr::LOCALHOST]);
    assert_eq!(listener.hostname, config.hostname);
    assert_eq!(listener.max_message_size, Size(100 << 20));
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(
        (tls.min_version, tls.client_auth),
        (TlsVersion::Tls12, true)
    );
    assert!(tls.host_keys.is_empty());
    assert!(!listener.smtp.tls_tickets && !listener.submissions.on_https);
    assert!(listener.proxy_from.is_empty() && listener.xclient_from.is_empty());
    let CertificateSource::Files(files) = &tls.source else {
        panic!("{tls:?}");
    };
    assert_eq!(files[0].cert_file, Path::new("c"));
    assert_eq!(files[0].key_file, Path::new("/k"));
    assert!(listener.smtp.enabled && listener.smtp.starttls && !listener.smtp.require_starttls);
    assert!(listener.submission.enabled && listener.submission.require_tls);
    assert!(!listener.submissions.enabled);
    let smtp = (
        listener.smtp.port,
        listener.submission.port,
        listener.submissions.port,
    );
    assert_eq!(smtp, (25, 587, 465));
    let services: Vec<String> = listener
        .http_services()
        .iter()
        .map(|(name, http)| {
            assert!(!http.enabled && http.forwarded_hops == 0);
            format!("{name} {} {}", http.port, http.path)
        })
        .collect();
    assert_eq!(
        services,
        [
            "webapi_http 80 /webapi/",
            "webapi_https 443 /webapi/",
            "account_http 80 /account/",
            "account_https 443 /account/",
            "admin_http 80 /admin/",
            "admin_https 443 /admin/",
            "mail_api_http 80 /api/v1/",
            "mail_api_https 443 /api/v1/",
            "metrics_http 8010 /metrics",
            "autoconfig_https 443 /",
            "mta_sts_https 443 /",
        ]
    );
    let plain = statics("smtp = {}\n");
    assert!(!plain.listeners["local"].smtp.starttls);
}

#[test]
fn defaults_of_transports() {
    let config = statics(
        "[transports]\na.submissions.host = \"h\"\nb.submission.host = \"h\"\nc.smtp.host = \"h\"\nd.lmtp.host = \"h\"\ne.fail = {}\n",
    );
    let port = |name: &str| match &config.transports[name] {
        Transport::Submissions(host) | Transport::Submission(host) | Transport::Smtp(host) => {
            assert!(host.auth.is_none() && !host.insecure_skip_verify && !host.no_starttls);
            host.port
        }
        Transport::Lmtp(Lmtp::Tcp { port, .. }) => *port,
        Transport::Fail(fail) => fail.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(["a", "b", "c", "d", "e"].map(port), [465, 587, 25, 24, 554]);
}

#[test]
fn defaults_of_domains_conf() {
    let config = dynamic(support::DYNAMIC, &statics(""));
    let (domain, configured) = config.domains.first_key_value().unwrap();
    assert_eq!(domain.ascii(), "example.org");
    assert!(!configured.disabled && !configured.localpart_case_sensitive);
    assert_eq!(
        configured.client_settings_domain.ascii(),
        "mail.example.org"
    );
    assert!(configured.localpart_catchall_separators.is_empty());
    assert!(configured.dkim.selectors.is_empty() && configured.dkim.sign.is_empty());
    assert_eq!((&configured.dmarc, &configured.tls_rpt), (&None, &None));
    assert_eq!(configured.mta_sts, None);
    assert_eq!((&configured.tenant, &configured.tracking), (&None, &None));
    let account = &config.accounts["alice"];
    assert_eq!(account.failure_dsn, FailureDsn::Mail);
    assert_eq!(account.keep_retired_message_period, Duration::ZERO);
    assert_eq!(account.keep_retired_webhook_period, Duration::ZERO);
    assert_eq!(account.max_outgoing_messages_per_day, 1000);
    assert_eq!(account.max_first_time_recipients_per_day, 200);
    assert_eq!(account.quota, None);
    assert_eq!(account.rejects_mailbox, "Rejects");
    assert_eq!(account.junk_mailbox, "Junk");
    assert!(account.junk_filter && account.first_time_delay);
    assert!(
        !account.keep_rejects && !account.no_custom_password && !account.suppress_policy_blocks
    );
    assert_eq!(account.suppression_period, None);
    assert!(account.shared_with.is_empty() && !account.allow_forward);
    assert_eq!(account.undelete_period, None);
    assert_eq!(account.outgoing_webhook, None);
    let destination = account.destinations.values().next().unwrap();
    assert_eq!(destination.mailbox, "Inbox");
    assert!(destination.forward.is_empty() && config.web_redirects.is_empty());
    assert!(config.not_yet().is_empty() && config.warnings().is_empty());
}

#[test]
fn keys_are_read_into_their_fields() {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/config/dynamic/keys");
    let folder = tempfile::tempdir().unwrap();
    private_copies(&keys, &folder.path().join("keys"));
    let text = r#"
[domains."example.org"]
dkim.sign = ["ED", "rsa"]
dkim.selectors.ed.private_key_file = "keys/ed25519.pem"
dkim.selectors.rsa = { private_key_file = "keys/rsa2048.pem", hash = "sha1" }
[accounts.alice]
domain = "example.org"
login_disabled = "moved"
[accounts.alice.outgoing_webhook]
url = "https://app.example.org/"
authorization = "Bearer hidden"
secret = "whsec_aGlkZGVu"
"#;
    let parse = || Dynamic::parse(text, folder.path().join("domains.conf"), &statics(""));
    let rsa = folder.path().join("keys/rsa2048.pem");
    for (mode, is_taken) in [(0o644, false), (0o640, true)] {
        std::fs::set_permissions(&rsa, Permissions::from_mode(mode)).unwrap();
        let told = parse().map_or_else(|errors| errors.to_string(), |_| String::new());
        let expected = "dkim.selectors.rsa.private_key_file: ";
        assert_eq!(told.is_empty(), is_taken, "{mode:o}: {told}");
        assert_eq!(told.contains(expected), !is_taken, "{told}");
        assert_eq!(
            told.contains("is open to every user of this machine"),
            !is_taken,
            "{told}"
        );
    }
    let config = parse().unwrap();
    let domain = config.domains.values().next().unwrap();
    let signing: Vec<&str> = domain
        .dkim
        .signing()
        .into_iter()
        .map(|(name, _)| name.ascii())
        .collect();
    // Many receivers know RSA only.
    assert_eq!(signing, ["rsa", "ed"]);
    for (selector, bits) in domain.dkim.selectors.values().zip([256, 2048]) {
        assert_eq!(selector.key.bits(), bits);
        assert_eq!(selector.key.algorithm(), selector.algorithm);
        assert_eq!(selector.key.pkcs8()[0], 0x30);
        assert_eq!(selector.expiration, 72 * HOUR);
        assert!(
            selector.canonicalization.header_relaxed() && selector.canonicalization.body_relaxed()
        );
        let fields = "From: a\r\nReceived: b\r\nList-Id: c\r\nList-Id: d\r\nBcc: e\r\n";
        let names = selector.names_to_sign(&HeaderFields::new(fields.into()));
        let count = |name| names.iter().filter(|signed| *signed == name).count();
        // A field of a list is signed, and one more may come. Nobody may add another From or Cc.
        let counts = ["From", "Cc", "List-Id", "List-Post", "Received", "Bcc"].map(count);
        assert_eq!(counts, [2, 1, 2, 0, 0, 0]);
    }
    let hook = config.accounts["alice"].outgoing_webhook.as_ref().unwrap();
    assert_eq!(hook.secret[0].0, b"hidden");
    assert_eq!(hook.version, 0);
    let debug = format!("{config:?}");
    assert!(
        !debug.contains("Bearer") && !debug.contains("104, 105, 100"),
        "{debug}"
    );
    let warnings = config.warnings().join("\n");
    assert!(
        warnings.contains("selectors.rsa.hash: sha1 has no effect"),
        "{warnings}"
    );
    assert!(
        warnings.contains("secret: is shorter than 24 bytes"),
        "{warnings}"
    );
}

#[test]
fn keys_that_this_version_only_checks_are_listed() {
    let config = statics(
        "account_http = {}\nmetrics_http = { enabled = false, port = 9 }\nwebapi_http = {}\nnat_ips = []\n[reports]\ndmarc = false\n",
    );
    assert!(config.not_yet().is_empty());
    let text = format!(
        "{}no_custom_password = true\nfailure_dsn = \"event\"\n",
        "[domains.\"example.org\"]\n[accounts.alice]\ndomain = \"example.org\"\n"
    );
    let config = dynamic(&text, &statics(""));
    assert_eq!(config.not_yet(), ["accounts.alice.no_custom_password"]);
}

#[test]
fn keys_of_dns_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("postrider.conf");
    replace_private(&dir.path().join("tsig.key"), b"c2VjcmV0IQ==\n").unwrap();
    let more = r#"
[acme.le]
[acme.other]
directory_url = "https://acme.example.net/dir"
[acme.named]
directory_url = "https://ca.example.net/"
issuer = "ca.example"
[acme.fake]
directory_url = "https://notletsencrypt.org/"
[dns_update."Example.org."]
server = "127.0.0.1:53"
key_name = "a_key."
key_file = "tsig.key"
"#;
    let config = Static::parse(&format!("{}{more}", support::STATIC), &conf).unwrap();
    let (zone, update) = config.dns_update.first_key_value().unwrap();
    assert_eq!(zone.ascii(), "example.org");
    assert_eq!(update.key_name, "a_key");
    assert_eq!(update.key.bytes(), b"secret!");
    assert_eq!(update.algorithm, TsigAlgorithm::HmacSha256);
    let issuer = |name: &str| {
        let issuer = config.acme[name].issuer.as_ref();
        issuer.map(|domain| domain.ascii())
    };
    assert_eq!(
        ["le", "other", "named", "fake"].map(issuer),
        [Some("letsencrypt.org"), None, Some("ca.example"), None]
    );
    let imap = "[domains.\"example.net\"]\nclient_settings.imap = \"imap.example.net:993\"\n";
    let dynamic = dynamic(&format!("{}{imap}", support::DYNAMIC), &config);
    let domain = &dynamic.domains[&"example.net".parse().unwrap()];
    let (host, port) = domain.client_settings_imap.as_ref().unwrap();
    assert_eq!((host.ascii(), *port), ("imap.example.net", 993));
}

/// Lines that set each key to its default value, with the placeholders of the names filled in.
fn rendered(sections: &'static [Section], fill: &[(&str, &str)]) -> Vec<String> {
    let keys = sections.iter().flat_map(Section::iter);
    keys.filter_map(|key: &Key| {
        let Default::Value(value) = key.default else {
            return None;
        };
        let name = fill.iter().fold(key.name.to_owned(), |name, (from, to)| {
            name.replace(from, to)
        });
        // Leave out keys with a placeholder that is not filled in. Their table may have required
        // keys.
        (!name.contains(['<', '['])).then(|| format!("{name} = {value}"))
    })
    .collect()
}

proptest! {
    #[test]
    fn defaults_written_out_change_nothing(seed in any::<u64>()) {
        let mut lines = rendered(STATIC, &[("listeners.<name>", "listeners.local")]);
        // Take some of the lines, in any order.
        lines.sort_by_key(|line| line.bytes().fold(seed, |hash, b| hash.wrapping_mul(31).wrapping_add(b.into())));
        lines.truncate(usize::try_from(seed % 100).unwrap());
        // The table of a service switches it on, and the table for certificates requires some.
        // The table for TLS reports requires an account, and those for OAuth and OTLP a URL.
        lines.retain(|line| !line.starts_with("listeners.") || line.contains("max_message_size"));
        let requires = ["host_tls_rpt.", "oauth.", "otlp."];
        lines.retain(|line| !requires.iter().any(|table| line.starts_with(table)));
        prop_assume!(!lines.is_empty());
        let text = "hostname = \"mail.example.org\"\npostmaster.account = \"alice\"\nlisteners.local.ips = [\"127.0.0.1\"]\n";
        let text = format!("{text}{}\n", lines.join("\n"));
        let written = Static::parse(&text, "postrider.conf").map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(written, statics(""));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        let _ = Static::parse(&text, "postrider.conf");
        let _ = Dynamic::parse(&text, "domains.conf", &statics(""));
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused(
        index in any::<prop::sample::Index>(),
        value in prop_oneof![
            Just("true".to_owned()), Just("-1".to_owned()), Just("9223372036854775807".to_owned()), Just("1e400".to_owned()),
            Just("nan".to_owned()), Just("1979-05-27".to_owned()), Just("[]".to_owned()), Just("[[]]".to_owned()),
            Just("{}".to_owned()), Just("[{}]".to_owned()), Just("\"\"".to_owned()), Just("[\"\"]".to_owned()), Just("{\"\" = \"\"}".to_owned()),
            ".*".prop_map(|text| toml_string(&text)),
            ".*".prop_map(|text| format!("[{}]", toml_string(&text))),
        ],
        name in ".*",
    ) {
        let keys = describe();
        let key = index.get(&keys);
        let mut path = Vec::new();
        for part in key.key.split('.') {
            match part.strip_suffix("[]") {
                _ if part.starts_with('<') => path.push(toml_string(&name)),
                Some(part) => path.push(part.to_owned()),
                None => path.push(part.to_owned()),
            }
        }
        let text = format!("{} = {value}\n", path.join("."));
        let _ = Static::parse(&text, "postrider.conf");
        let _ = Dynamic::parse(&text, "domains.conf", &statics(""));
    }
}

fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A document that sets one key, with names filled in, and the name of the key in errors.
fn document_with(name: &str, value: &str) -> (String, String) {
    let names = [
        ("<domain>", "\"example.org\""),
        ("<zone>", "\"example.org\""),
        ("<address>", "\"alice@example.org\""),
        ("<selector>", "s1"),
        ("<localpart>", "list"),
        ("<module>", "postrider"),
        ("<source>", "one"),
        ("<name>", "x"),
        ("<account>", "y"),
    ];
    let name = names
        .iter()
        .fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
    match name.split_once("[].") {
        None => (format!("{name} = {value}\n"), name),
        Some((table, key)) => (
            format!("[[{table}]]\n{key} = {value}\n"),
            format!("{table}[0].{key}"),
        ),
    }
}

#[test]
fn every_key_is_read() {
    // No key has a time of day as value. A key that is described but never read gives no error.
    for key in describe() {
        let (text, name) = document_with(key.key, "07:32:00");
        let errors = match key.file {
            "postrider.conf" => Static::parse(&text, "postrider.conf").unwrap_err(),
            _ => Dynamic::parse(&text, "domains.conf", &statics("")).unwrap_err(),
        };
        let told = errors
            .iter()
            .any(|error| error.key == name && error.message.starts_with("must be "));
        assert!(told, "{name}: {errors}");
    }
}

#[test]
fn defaults_and_ranges_are_as_a_user_would_write_them() {
    for (sections, file) in [(STATIC, "postrider.conf"), (DYNAMIC, "domains.conf")] {
        for key in sections.iter().flat_map(Section::iter) {
            let default = match key.default {
                Default::Value(text) => Some(text),
                Default::Required | Default::Absent(_) => None,
            };
            let bounds = key.range.into_iter().flat_map(|(min, max)| [min, max]);
            for value in default.into_iter().chain(bounds) {
                // The range of an array is the range of its elements.
                let list = key.kind.to_string().starts_with("array") && !value.starts_with('[');
                let value = if list {
                    format!("[{value}]")
                } else {
                    value.to_owned()
                };
                let (text, name) = document_with(key.name, &value);
                let errors = match file {
                    "postrider.conf" => Static::parse(&text, file).err(),
                    _ => Dynamic::parse(&text, file, &statics("")).err(),
                };
                let errors: Vec<_> = errors.into_iter().flatten().collect();
                // A missing required value is not a fault of this value.
                let wrong = errors.iter().find(|error| {
                    error.key.starts_with(&name) && !error.message.starts_with("needs ")
                });
                assert_eq!(wrong, None, "{name} = {value}");
            }
        }
    }
}

#[test]
fn acme_without_the_ports_of_a_ca_and_a_policy_without_a_server_are_warned_of() {
    let policy = format!(
        "{}[domains.\"sts.example\"]\nmta_sts.policy_id = \"1\"\n",
        support::DYNAMIC
    );
    for (services, warning, served) in [
        ("mta_sts_https = {}", "", true),
        ("webapi_http = {}", "", false),
        (
            "autoconfig_https.port = 8443",
            "forward port 443 to port 8443",
            false,
        ),
        (
            "webapi_http.port = 8080",
            "forward port 80 to port 8080",
            false,
        ),
    ] {
        let config = statics(&format!("tls.acme = \"le\"\n{services}\n[acme.le]\n"));
        let told = config.warnings().concat();
        assert!(told.contains(warning), "{services}: {told}");
        assert_eq!(told.is_empty(), warning.is_empty(), "{services}: {told}");
        assert_eq!(config.not_yet(), [""; 0], "{services}");
        let told = dynamic(&policy, &config).warnings().concat();
        assert_eq!(told.contains("mta_sts: is not served"), !served, "{told}");
    }
}

#[test]
fn levels_of_modules_that_are_not_there_are_warned_of() {
    for (module, nearest) in [
        ("queue", None),
        ("\"smtp::server\"", None),
        ("hickory", None),
        ("quue", Some("the nearest are queue, ")),
    ] {
        let config = statics(&format!("[log.modules]\n{module} = \"debug\"\n"));
        let told = config.warnings().concat();
        assert_eq!(told.is_empty(), nearest.is_none(), "{module}: {told}");
        assert!(told.contains(nearest.unwrap_or_default()), "{told}");
        assert_eq!(config.log.modules.len(), 1, "it has the level all the same");
    }
}

#[test]
fn the_text_of_an_mta_sts_policy() {
    let text = format!(
        "{}[domains.\"bücher.example\"]\nmta_sts = {{ policy_id = \"1\", mode = \"testing\", \
         max_age = \"7d\", mx = [\"mx.bücher.example\", \"*.example.net\"] }}\n",
        support::DYNAMIC
    );
    let config = dynamic(&text, &statics(""));
    let policy = config
        .domains
        .values()
        .find_map(|domain| domain.mta_sts.as_ref());
    assert_eq!(
        policy.unwrap().policy(),
        "version: STSv1\r\nmode: testing\r\nmx: mx.xn--bcher-kva.example\r\nmx: *.example.net\r\n\
         max_age: 604800\r\n"
    );
}
