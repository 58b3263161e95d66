//! Macros: values that a filter reads by their names.

use postrider_smtp::{ForwardPath, Reply, server::RcptTo};

use super::{super::asked::Asked, options::Stage};

/// What the values of macros are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// The session.
    pub(super) asked: &'a Asked<'a>,
    /// The recipient in question. None but at RCPT.
    pub(super) rcpt: Option<&'a RcptTo>,
    /// The refusal that the recipient has got already.
    pub(super) refused: Option<&'a Reply>,
}

/// The macros, each with its name as it is on the wire.
macro_rules! macros {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A macro.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Macro {
            $($(#[$doc])* $variant,)*
        }

        impl Macro {
            /// All macros.
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name. It has braces if it has more than one letter.
            #[must_use]
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

macros! {
    /// The host name of the listener.
    Hostname = "j",
    /// The program and its version.
    Version = "v",
    /// The client's name and address.
    Client = "_",
    /// The name of the listener in the configuration.
    DaemonName = "{daemon_name}",
    /// The address of the server.
    DaemonAddress = "{daemon_addr}",
    /// The port of the server.
    DaemonPort = "{daemon_port}",
    /// The address of the client.
    ClientAddress = "{client_addr}",
    /// The name of the client that leads back to its address, or `unknown`.
    ClientName = "{client_name}",
    /// The port of the client.
    ClientPort = "{client_port}",
    /// The same as the name of the client: other names are not kept.
    ClientPtr = "{client_ptr}",
    /// The connections from the client's address.
    ClientConnections = "{client_connections}",
    /// The version of TLS.
    TlsVersion = "{tls_version}",
    /// The cipher suite.
    Cipher = "{cipher}",
    /// The bits of the key of the cipher.
    CipherBits = "{cipher_bits}",
    /// The id of the message.
    Id = "i",
    /// The mechanism of the login.
    AuthType = "{auth_type}",
    /// The user who logged in.
    AuthAuthen = "{auth_authen}",
    /// The user for whom the client acts.
    AuthAuthor = "{auth_author}",
    /// The reverse-path.
    MailAddress = "{mail_addr}",
    /// The domain of the reverse-path.
    MailHost = "{mail_host}",
    /// How mail to the reverse-path goes.
    MailMailer = "{mail_mailer}",
    /// The recipient.
    RcptAddress = "{rcpt_addr}",
    /// The domain of the recipient.
    RcptHost = "{rcpt_host}",
    /// How mail to the recipient goes. `error` for one that was refused already.
    RcptMailer = "{rcpt_mailer}",
}

/// The macros before a command if the filter did not choose.
///
/// Two more names are usual with TLS, `{cert_subject}` and `{cert_issuer}`. They have no values
/// here. Filters trust them, and no CA vouches for the certificate of a client: nothing of it but
/// its key counts.
#[must_use]
pub(super) const fn usual(stage: Stage) -> &'static [Macro] {
    match stage {
        Stage::Connect => &[
            Macro::Hostname,
            Macro::DaemonName,
            Macro::DaemonAddress,
            Macro::DaemonPort,
            Macro::ClientAddress,
            Macro::ClientName,
            Macro::ClientPort,
            Macro::ClientPtr,
            Macro::ClientConnections,
            Macro::Version,
            Macro::Client,
        ],
        Stage::Helo => &[Macro::TlsVersion, Macro::Cipher, Macro::CipherBits],
        Stage::Mail => &[
            Macro::Id,
            Macro::AuthType,
            Macro::AuthAuthen,
            Macro::AuthAuthor,
            Macro::MailAddress,
            Macro::MailHost,
            Macro::MailMailer,
        ],
        Stage::Rcpt => &[
            Macro::Id,
            Macro::RcptAddress,
            Macro::RcptHost,
            Macro::RcptMailer,
        ],
        Stage::Data | Stage::Header | Stage::EndOfHeader | Stage::EndOfMessage => &[Macro::Id],
        Stage::Body => &[],
    }
}

/// The macros of a list of names. Names that are not known here are left out. Braces around a name
/// may be missing.
#[must_use]
pub(super) fn named(list: &[u8]) -> Vec<Macro> {
    let separates = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
    let mut found = Vec::new();
    for name in list.split(separates).map(bare) {
        let named = |it: &&Macro| bare(it.name().as_bytes()) == name;
        if let Some(known) = Macro::ALL.iter().find(named)
            && !found.contains(known)
        {
            found.push(*known);
        }
    }
    found
}

fn bare(name: &[u8]) -> &[u8] {
    let inner = name.strip_prefix(b"{");
    let inner = inner.and_then(|name| name.strip_suffix(b"}"));
    inner.unwrap_or(name)
}

impl Macro {
    /// The value. None if there is none in this session.
    #[must_use]
    pub(super) fn value(self, known: &Known<'_>) -> Option<String> {
        let asked = known.asked;
        let client = asked.client;
        let local = client.local.ip().to_canonical();
        let tls = client.tls.as_ref();
        let user = || asked.login.map(|login| login.user.clone());
        Some(match self {
            Self::Hostname => asked.hostname.to_owned(),
            Self::Version => concat!("postrider ", env!("CARGO_PKG_VERSION")).to_owned(),
            Self::Client => match asked.ptr {
                Some(name) => format!("{name} [{}]", asked.remote()),
                None => format!("[{}]", asked.remote()),
            },
            Self::DaemonName => asked.listener.to_owned(),
            Self::DaemonAddress => local.to_string(),
            Self::DaemonPort => client.local.port().to_string(),
            Self::ClientAddress => asked.remote().to_string(),
            Self::ClientName | Self::ClientPtr => asked.ptr.unwrap_or("unknown").to_owned(),
            Self::ClientPort => client.remote.port().to_string(),
            Self::ClientConnections => asked.connections.to_string(),
            Self::TlsVersion => tls?.version.clone(),
            Self::Cipher => tls?.cipher.clone(),
            Self::CipherBits => cipher_bits(&tls?.cipher)?.to_owned(),
            Self::Id => asked.id(),
            Self::AuthType => asked.login?.mechanism.name().to_owned(),
            Self::AuthAuthen | Self::AuthAuthor => user()?,
            Self::MailAddress => asked.sender()?.to_string(),
            Self::MailHost => asked.sender()?.address()?.host.to_string(),
            Self::MailMailer => {
                asked.sender()?.address()?;
                "smtp".to_owned()
            }
            Self::RcptAddress | Self::RcptHost | Self::RcptMailer => return self.of_rcpt(known),
        })
    }

    /// A recipient that was refused already has the refusal in the place of its address, as filters
    /// for Postfix expect.
    fn of_rcpt(self, known: &Known<'_>) -> Option<String> {
        let rcpt = known.rcpt?;
        match (self, known.refused) {
            (Self::RcptAddress, None) => Some(rcpt.forward_path.to_string()),
            (Self::RcptAddress, Some(reply)) => Some(reply.text().replace('\n', " ")),
            (Self::RcptHost, None) => match &rcpt.forward_path {
                ForwardPath::Mailbox(address) => Some(address.host.to_string()),
                ForwardPath::Postmaster => None,
            },
            (Self::RcptHost, Some(reply)) => reply.enhanced().map(|code| code.to_string()),
            (Self::RcptMailer, None) => Some("smtp".to_owned()),
            (Self::RcptMailer, Some(_)) => Some("error".to_owned()),
            _ => None,
        }
    }
}

/// The bits of the key of a cipher suite. None for suites of a kind that is not known.
fn cipher_bits(suite: &str) -> Option<&'static str> {
    let has = |part: &str| suite.contains(part);
    match () {
        () if has("AES_256") || has("CHACHA20") => Some("256"),
        () if has("AES_128") => Some("128"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use postrider_config::HookStage;
    use postrider_smtp::{EnhancedCode, ReplyCode, ReversePath};

    use super::{
        super::support::{World, rcpt},
        *,
    };

    fn value(name: &str, world: &World, rcpt: Option<&RcptTo>) -> Option<String> {
        let asked = world.asked(HookStage::Rcpt, 1);
        let found = Macro::ALL.iter().find(|it| it.name() == name).unwrap();
        let known = Known {
            asked: &asked,
            rcpt,
            refused: None,
        };
        found.value(&known)
    }

    #[test]
    fn values_of_a_client_in_clear() {
        let world = World::new("", "");
        for (name, expected) in [
            ("j", Some("mail.test")),
            ("v", Some(concat!("postrider ", env!("CARGO_PKG_VERSION")))),
            ("_", Some("[192.0.2.1]")),
            ("{daemon_name}", Some("mx")),
            ("{daemon_addr}", Some("192.0.2.2")),
            ("{daemon_port}", Some("25")),
            ("{client_addr}", Some("192.0.2.1")),
            ("{client_name}", Some("unknown")),
            ("{client_ptr}", Some("unknown")),
            ("{client_port}", Some("1025")),
            ("{client_connections}", Some("3")),
            ("{tls_version}", None),
            ("{cipher}", None),
            ("{cipher_bits}", None),
            ("i", Some("000000000000.1")),
            ("{auth_type}", None),
            ("{auth_authen}", None),
            ("{auth_author}", None),
            ("{mail_addr}", Some("a@s.test")),
            ("{mail_host}", Some("s.test")),
            ("{mail_mailer}", Some("smtp")),
            ("{rcpt_addr}", None),
        ] {
            assert_eq!(value(name, &world, None).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn values_of_a_login_under_tls() {
        let mut world = World::new("", "");
        world.log_in();
        world.client.remote = "[::ffff:192.0.2.7]:9".parse().unwrap();
        world.ptr = Some("c.test".into());
        world.mail.reverse_path = ReversePath::Null;
        for (name, expected) in [
            ("_", Some("c.test [192.0.2.7]")),
            ("{client_addr}", Some("192.0.2.7")),
            ("{client_name}", Some("c.test")),
            ("{client_ptr}", Some("c.test")),
            ("{tls_version}", Some("TLSv1.3")),
            ("{cipher}", Some("TLS_AES_128_GCM_SHA256")),
            ("{cipher_bits}", Some("128")),
            ("{auth_type}", Some("PLAIN")),
            ("{auth_authen}", Some("jane")),
            ("{auth_author}", Some("jane")),
            ("{mail_addr}", Some("")),
            ("{mail_host}", None),
            ("{mail_mailer}", None),
        ] {
            assert_eq!(value(name, &world, None).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn values_of_a_recipient() {
        let world = World::new("", "");
        let names = ["{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"];
        for (path, expected) in [
            ("b@d.test", [Some("b@d.test"), Some("d.test"), Some("smtp")]),
            ("Postmaster", [Some("postmaster"), None, Some("smtp")]),
            (
                "b@[192.0.2.9]",
                [Some("b@[192.0.2.9]"), Some("[192.0.2.9]"), Some("smtp")],
            ),
        ] {
            let rcpt = rcpt(path);
            let values = names.map(|name| value(name, &world, Some(&rcpt)));
            assert_eq!(values.each_ref().map(Option::as_deref), expected);
        }
        let asked = world.asked(HookStage::Rcpt, 1);
        let code = ReplyCode::MAILBOX_UNAVAILABLE;
        let reply = Reply::new(code, Some(EnhancedCode::UNKNOWN_MAILBOX), "no\nsuch user");
        let known = Known {
            asked: &asked,
            rcpt: Some(&world.recipients[0]),
            refused: Some(&reply),
        };
        let macros = usual(Stage::Rcpt).iter().skip(1);
        let values: Vec<_> = macros.filter_map(|it| it.value(&known)).collect();
        assert_eq!(values, ["no such user", "5.1.1", "error"]);
    }

    #[test]
    fn the_bits_of_ciphers() {
        for (suite, bits) in [
            ("TLS_AES_256_GCM_SHA384", Some("256")),
            ("TLS_CHACHA20_POLY1305_SHA256", Some("256")),
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some("128")),
            ("TLS_NEW", None),
        ] {
            assert_eq!(cipher_bits(suite), bits);
        }
    }
}
