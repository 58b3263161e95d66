//! Which way a message goes: straight to the hosts of its recipient's domain, or by a transport of
//! the configuration.

use std::{io, path::Path, time::Duration};

use postrider_config::{
    Direct, Dynamic, Smarthost, Static, Transport, TransportSecret, read_secret_file,
};
use postrider_smtp::{
    Address, Cause, DeliveryStatus, Domain, EnhancedCode, Host, ReversePath,
    client::{Credentials, Timeouts},
    sasl::{ClientLogin, Mechanism, Secret},
};
use postrider_store::{Common, NewMessage, Origin, Queued};
use zeroize::Zeroizing;

/// The way of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// To the hosts of the recipient's domain, by the transport of this name. Without a transport
    /// the name is empty.
    Direct(&'a str),
    /// Into the mailboxes of this server: the domain is of `domains.conf`, and no route leads its
    /// mail elsewhere.
    Here,
    /// To the host that this transport names: a smarthost or an LMTP server.
    Named(&'a str),
    /// Nowhere: this is what becomes of the message.
    End(DeliveryStatus),
}

/// How a smarthost is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SmarthostTls {
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS or nothing.
    StartTls,
    /// In clear.
    Never,
}

/// The smarthost that a transport stands for, and how it is spoken to. None for transports of other
/// kinds.
pub(crate) fn smarthost(transport: &Transport) -> Option<(&Smarthost, SmarthostTls)> {
    match transport {
        Transport::Submissions(host) => Some((host, SmarthostTls::Implicit)),
        Transport::Submission(host) | Transport::Smtp(host) if host.no_starttls => {
            Some((host, SmarthostTls::Never))
        }
        Transport::Submission(host) | Transport::Smtp(host) => Some((host, SmarthostTls::StartTls)),
        _ => None,
    }
}

/// The settings of a transport that goes straight to the hosts of a domain.
pub(crate) fn direct(statics: &Static, transport: &str) -> Direct {
    match statics.transports.get(transport) {
        Some(Transport::Direct(settings)) => settings.clone(),
        _ => Direct::default(),
    }
}

/// The sender whose domain decides the way of a message.
fn sender<'a>(common: &'a Common, reverse_path: &'a ReversePath) -> Option<&'a Address> {
    // A stranger wrote the author of a message that is passed on. That chooses no way.
    let author = common.from.as_ref().filter(|_| !is_passed(common));
    author.or_else(|| reverse_path.address())
}

const fn is_passed(common: &Common) -> bool {
    matches!(common.origin, Origin::Passed { .. })
}

/// The name of the transport of the first route that matches, after so many attempts. Empty: none.
fn by_routes<'a>(
    common: &Common,
    (reverse_path, to): (&ReversePath, &Address),
    made: u32,
    config: &'a Dynamic,
) -> &'a str {
    let from = sender(common, reverse_path).and_then(|from| from.host.domain());
    let route = config.routes_for(&common.account, from, to.host.domain(), made);
    route.unwrap_or_default()
}

/// Notes the route of each recipient of a new message.
pub(crate) fn note(message: &mut NewMessage, config: &Dynamic) {
    for it in &mut message.recipients {
        let ends = (&it.reverse_path, &it.recipient);
        by_routes(&message.common, ends, 0, config).clone_into(&mut it.route);
    }
}

/// The name of the transport that the routes give a message after so many attempts (empty: none),
/// if it is another than that of its record.
pub(crate) fn changed<'a>(message: &Queued, made: u32, config: &'a Dynamic) -> Option<&'a str> {
    let ends = (&message.reverse_path, &message.recipient);
    let now = by_routes(&message.common, ends, made, config);
    (now != message.route).then_some(now)
}

/// The way of the next attempt of a message: by the transport forced on it, or by the route that
/// its record has. So all messages of a lane go the same way.
pub(crate) fn route<'a>(message: &Queued, statics: &'a Static, config: &Dynamic) -> Route<'a> {
    let disabled = sender(&message.common, &message.reverse_path)
        .filter(|_| !is_passed(&message.common))
        .and_then(|from| config.domains.get_key_value(from.host.domain()?))
        .filter(|(_, domain)| domain.disabled);
    if let Some((domain, _)) = disabled {
        return not_now(format!("the sender's domain {domain} is disabled"));
    }
    let name = message.next_transport();
    let name = (!name.is_empty()).then_some(name);
    chosen(name, &message.recipient.host, statics, config)
}

/// The way of a message to a recipient that no account sends, by the routes of its sender's domain
/// and those of the server.
pub(crate) fn route_to<'a>(
    from: Option<&Domain>,
    to: &Host,
    statics: &'a Static,
    config: &Dynamic,
) -> Route<'a> {
    let name = config.routes_for("", from, to.domain(), 0);
    chosen(name, to, statics, config)
}

/// The way by a transport. Without one, mail for our own domains stays here.
fn chosen<'a>(name: Option<&str>, to: &Host, statics: &'a Static, config: &Dynamic) -> Route<'a> {
    match name {
        None if config.is_local(to) => Route::Here,
        name => by_transport(name, statics),
    }
}

/// The way by a transport. None: by no transport.
fn by_transport<'a>(name: Option<&str>, statics: &'a Static) -> Route<'a> {
    let Some(name) = name else {
        return Route::Direct("");
    };
    match statics.transports.get_key_value(name) {
        Some((name, Transport::Direct(_) | Transport::Socks(_))) => Route::Direct(name),
        Some((
            name,
            Transport::Submissions(_)
            | Transport::Submission(_)
            | Transport::Smtp(_)
            | Transport::Lmtp(_),
        )) => Route::Named(name),
        Some((_, Transport::Fail(fail))) => {
            let (cause, code) = (Cause::Local, EnhancedCode::SECURITY);
            let status = if fail.code >= 500 {
                DeliveryStatus::permanent(cause, code, fail.message.clone())
            } else {
                DeliveryStatus::transient(cause, code, fail.message.clone())
            };
            Route::End(DeliveryStatus {
                code: fail.code,
                ..status
            })
        }
        None => not_now(format!("there is no transport {name:?} in postrider.conf")),
    }
}

/// A fault of the configuration, which may be mended while the message waits.
fn not_now<'a>(text: String) -> Route<'a> {
    Route::End(DeliveryStatus::transient(
        Cause::Local,
        EnhancedCode::MISCONFIGURED,
        text,
    ))
}

/// A login at a smarthost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    user: String,
    secret: TransportSecret,
    mechanisms: Vec<Mechanism>,
    without_tls: bool,
}

impl Login {
    /// The login of a transport, if it has one.
    pub(crate) fn of(host: &Smarthost) -> Option<Self> {
        let auth = host.auth.as_ref()?;
        let mechanisms = auth.mechanisms.iter();
        Some(Self {
            user: auth.username.clone(),
            secret: auth.secret.clone(),
            mechanisms: mechanisms
                .filter_map(|mechanism| Mechanism::of(mechanism.as_str()))
                .collect(),
            without_tls: host.no_starttls,
        })
    }

    /// The credentials for one connection. `nonce` is a random text for it alone.
    ///
    /// # Errors
    /// If the file of the token can't be read, or has none.
    pub(crate) async fn credentials(&self, nonce: String) -> io::Result<Credentials> {
        let secret = match &self.secret {
            TransportSecret::Password(password) => Secret::Password(password.clone().into()),
            TransportSecret::TokenFile(file) => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || token(&file)).await;
                Secret::Token(read.map_err(io::Error::other)??)
            }
        };
        Ok(Credentials {
            login: ClientLogin {
                user: self.user.clone(),
                secret,
                mechanisms: self.mechanisms.clone(),
                nonce,
            },
            without_tls: self.without_tls,
        })
    }
}

/// The token in the first line of a file.
fn token(file: &Path) -> io::Result<Zeroizing<String>> {
    let shown = file.display();
    let bytes = read_secret_file(file)
        .map_err(|error| io::Error::other(format!("the token file {shown} {error}")))?;
    let line = bytes.split(|byte| *byte == b'\n').next();
    match line.and_then(|line| std::str::from_utf8(line).ok()) {
        // RFC 6750 §2.1: a token has neither spaces nor control characters.
        Some(line) if is_token(line.trim()) => Ok(line.trim().to_owned().into()),
        _ => Err(io::Error::other(format!(
            "the token file {shown} has no token in its first line"
        ))),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The configured time limits of the client.
pub(crate) fn timeouts(statics: &Static) -> Timeouts {
    let client = &statics.smtp_client;
    Timeouts {
        tls: client.connect_timeout.max(Duration::from_secs(1)),
        greeting: client.greeting_timeout,
        helo: client.greeting_timeout,
        mail: client.mail_timeout,
        rcpt: client.rcpt_timeout,
        data: client.data_timeout,
        dot: client.dot_timeout,
        message: statics.delivery.message_time,
        min_rate: statics.delivery.min_rate.into(),
        ..Timeouts::default()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::schedule::test_message;

    #[test]
    fn mail_for_a_domain_of_ours_stays_here_unless_a_transport_takes_it() {
        let statics = "hostname = \"mx.ours.test\"\npostmaster.account = \"a\"\n\
                       listeners.l.ips = [\"127.0.0.1\"]\n[transports]\nout.direct = {}\n\
                       relay.smtp.host = \"relay.test\"\n";
        let statics = Static::parse(statics, "postrider.conf").unwrap();
        let config = |domain: &str| {
            let text = format!(
                "domains.\"ours.test\" = {{}}\n{domain}accounts.a.domain = \"ours.test\"\n\
                 [[routes]]\nto_domain = [\"far.test\"]\ntransport = \"relay\"\n\
                 [[routes]]\nto_domain = [\"near.test\"]\ntransport = \"out\"\n\
                 [[routes]]\nto_domain = [\"ours.test\"]\nminimum_attempts = 3\n\
                 transport = \"relay\"\n"
            );
            Dynamic::parse(&text, "domains.conf", &statics).unwrap()
        };
        let three = config("domains.\"far.test\" = {}\ndomains.\"near.test\" = {}\n");
        let one = config("");
        for (config, to, forced, attempts, expected) in [
            (&one, "x@ours.test", "", 0, Route::Here),
            (&one, "x@ours.test", "out", 0, Route::Direct("out")),
            (&one, "x@ours.test", "relay", 0, Route::Named("relay")),
            (&one, "x@ours.test", "", 2, Route::Here),
            (&one, "x@ours.test", "", 3, Route::Named("relay")),
            (&three, "x@far.test", "", 0, Route::Named("relay")),
            (&three, "x@near.test", "", 0, Route::Direct("out")),
            (&one, "x@sub.ours.test", "", 0, Route::Direct("")),
            (&one, "x@[127.0.0.1]", "", 0, Route::Direct("")),
        ] {
            let mut message = test_message(1, to);
            message.transport = forced.to_owned();
            let routed = changed(&message, attempts, config).unwrap_or_default();
            message.route = routed.to_owned();
            assert_eq!(route(&message, &statics, config), expected, "{to} {forced}");
        }
        // An edit of domains.conf counts for the next attempt.
        let message = test_message(1, "x@more.test");
        let more = config("domains.\"more.test\" = {}\n");
        assert_eq!(route(&message, &statics, &one), Route::Direct(""));
        assert_eq!(route(&message, &statics, &more), Route::Here);
        assert_eq!(
            route_to(None, &message.recipient.host, &statics, &more),
            Route::Here
        );
    }

    #[test]
    fn a_token_is_the_first_line_of_a_file_that_others_may_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let read = |text: &str, mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            token(&file).map_err(|error| error.to_string())
        };
        assert_eq!(*read(" ya29.x \r\nmore\n", 0o600).unwrap(), "ya29.x");
        let none = "has no token in its first line";
        for bad in ["", "\nx\n", "a b\n", "a\u{1}b\n", "\u{fc}\n"] {
            let error = read(bad, 0o600).unwrap_err();
            assert!(error.ends_with(none), "{bad:?}: {error}");
        }
        let error = read("x\n", 0o644).unwrap_err();
        assert!(error.contains("is open to every user"), "{error}");
        fs::remove_file(&file).unwrap();
        let error = token(&file).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
