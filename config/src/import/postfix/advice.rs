//! Sentences about parameters that have no counterpart.

/// The sentence about a parameter.
pub(super) fn without_counterpart(name: &str) -> &'static str {
    match name {
        "mynetworks" | "mynetworks_style" => {
            "no network may relay here: give each application a login, or an API key"
        }
        "relay_domains"
        | "relay_recipient_maps"
        | "relay_transport"
        | "permit_mx_backup_networks" => {
            "this server does not relay for other domains; add them as domains of its own"
        }
        "canonical_maps"
        | "sender_canonical_maps"
        | "recipient_canonical_maps"
        | "smtp_generic_maps"
        | "masquerade_domains"
        | "local_header_rewrite_clients" => "addresses are not rewritten here",
        "header_checks"
        | "body_checks"
        | "mime_header_checks"
        | "nested_header_checks"
        | "smtp_header_checks" => "use rulesets of a destination, a hook or a milter",
        "content_filter" => "use a hook or a milter",
        "always_bcc" | "sender_bcc_maps" | "recipient_bcc_maps" => {
            "no copies are made here; an outgoing webhook tells of each message"
        }
        "maximal_queue_lifetime"
        | "bounce_queue_lifetime"
        | "minimal_backoff_time"
        | "maximal_backoff_time"
        | "queue_run_delay" => "queue.retry_intervals has the waits here",
        "delay_warning_time" => "queue.delay_dsn_after says when the sender is told",
        "smtpd_helo_restrictions"
        | "smtpd_sender_restrictions"
        | "smtpd_client_restrictions"
        | "smtpd_recipient_restrictions"
        | "smtpd_relay_restrictions"
        | "smtpd_data_restrictions"
        | "smtpd_end_of_data_restrictions"
        | "smtpd_etrn_restrictions" => {
            "recipients and senders are always checked here; DNS block lists are taken"
        }
        "smtpd_tls_auth_only" => "logins always need TLS here",
        "smtpd_sasl_type"
        | "smtpd_sasl_path"
        | "smtpd_sasl_auth_enable"
        | "smtpd_sasl_security_options"
        | "smtpd_sasl_tls_security_options"
        | "smtpd_sasl_local_domain"
        | "smtp_sasl_security_options"
        | "smtp_sasl_tls_security_options"
        | "broken_sasl_auth_clients" => {
            "logins are those of accounts; set a password with \"postrider setpassword\""
        }
        "smtp_tls_CAfile" | "smtp_tls_CApath" => {
            "the CAs of the system are trusted; tls.ca_files names further ones"
        }
        "smtp_tls_policy_maps" | "smtp_tls_security_level" => {
            "TLS is used where the other server has it"
        }
        "virtual_mailbox_base"
        | "virtual_minimum_uid"
        | "virtual_uid_maps"
        | "virtual_gid_maps"
        | "home_mailbox"
        | "mail_spool_directory"
        | "mailbox_command"
        | "mailbox_size_limit"
        | "virtual_mailbox_limit" => "mail is kept in the store of this server",
        "local_recipient_maps"
        | "alias_database"
        | "append_dot_mydomain"
        | "append_at_myorigin"
        | "biff"
        | "unknown_local_recipient_reject_code"
        | "address_verify_map" => "there are no users of the system here",
        "smtpd_banner" | "mail_name" => "the greeting has the hostname",
        "postscreen_dnsbl_sites" | "postscreen_dnsbl_threshold" | "postscreen_dnsbl_action" => {
            "name the zones in dnsbls of the listener's smtp table"
        }
        "non_smtpd_milters" => "milters are asked for mail that comes in by SMTP only",
        "milter_protocol" | "milter_mail_macros" | "milter_connect_macros" => {
            "the milter protocol is version 6, with all macros"
        }
        "compatibility_level"
        | "readme_directory"
        | "html_directory"
        | "manpage_directory"
        | "sample_directory"
        | "setgid_group"
        | "mail_owner"
        | "daemon_directory"
        | "command_directory"
        | "data_directory"
        | "queue_directory"
        | "config_directory"
        | "sendmail_path"
        | "newaliases_path"
        | "mailq_path"
        | "debug_peer_level"
        | "debugger_command"
        | "shlib_directory"
        | "meta_directory"
        | "default_database_type"
        | "default_privs"
        | "syslog_name"
        | "maillog_file" => "concerns the programs of Postfix themselves",
        _ => "has no counterpart here",
    }
}
