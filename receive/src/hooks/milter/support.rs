//! Helpers of the tests: a session to ask about, and the wire in a form to read.

use bytes::{Bytes, BytesMut};
use postrider_config::HookStage;
use postrider_smtp::{
    BodyType, DeliveryOptions, ForwardPath, ReversePath, TlsInfo,
    sasl::Mechanism,
    server::{Client, MailFrom, RcptTo, SessionId},
};

use super::{
    super::{
        asked::{Asked, KnownLogin},
        draft::Draft,
        edit::Section,
    },
    negotiation::Negotiation,
    packet::{self, PacketReader},
    session::MilterSession,
};

/// The most bytes of a new body in tests.
pub(super) const BODY_MAX: usize = 1000;

/// A client with a message.
pub(super) struct World {
    pub(super) client: Client,
    pub(super) helo: Option<String>,
    pub(super) ptr: Option<String>,
    pub(super) login: Option<KnownLogin>,
    pub(super) mail: MailFrom,
    pub(super) recipients: Vec<RcptTo>,
    pub(super) draft: Draft,
    pub(super) added: Vec<u8>,
}

pub(super) fn rcpt(path: &str) -> RcptTo {
    RcptTo {
        forward_path: ForwardPath::parse(path).unwrap(),
        notify: None,
        orcpt: None,
    }
}

impl World {
    /// A client at 192.0.2.1 with a message from `a@s.test` to `b@d.test` and `c@d.test`.
    pub(super) fn new(section: &str, body: &str) -> Self {
        let mut client = Client::new(
            SessionId::of(0),
            "192.0.2.1:1025".parse().unwrap(),
            "192.0.2.2:25".parse().unwrap(),
        );
        client.transaction = 1;
        let mail = MailFrom {
            reverse_path: ReversePath::parse("a@s.test").unwrap(),
            size: Some(9),
            body: BodyType::EightBitMime,
            smtputf8: false,
            require_tls: false,
            ret: None,
            envid: None,
            delivery: DeliveryOptions::default(),
        };
        let recipients = vec![rcpt("b@d.test"), rcpt("c@d.test")];
        let draft = Draft {
            mail: mail.clone(),
            recipients: recipients.clone(),
            section: Section::read(&Bytes::copy_from_slice(section.as_bytes())),
            body: Bytes::copy_from_slice(body.as_bytes()).into(),
            text_changed: false,
        };
        Self {
            client,
            helo: Some("c.test".into()),
            ptr: None,
            login: None,
            mail,
            recipients,
            draft,
            added: Vec::new(),
        }
    }

    /// The client speaks TLS and is logged in.
    pub(super) fn log_in(&mut self) {
        self.client.tls = Some(TlsInfo {
            version: "TLSv1.3".into(),
            cipher: "TLS_AES_128_GCM_SHA256".into(),
        });
        self.login = Some(KnownLogin {
            user: "jane".into(),
            mechanism: Mechanism::Plain,
        });
    }

    /// A question at a stage. At RCPT it is about the recipient with this number, from 1.
    pub(super) fn asked(&self, stage: HookStage, recipients: usize) -> Asked<'_> {
        let is = |stages: &[HookStage]| stages.contains(&stage);
        let has_mail = !is(&[HookStage::Connect, HookStage::Ehlo, HookStage::Auth]);
        let recipients = match stage {
            HookStage::Rcpt => &self.recipients[..recipients],
            HookStage::Data => &self.recipients,
            _ => &[],
        };
        Asked {
            stage,
            listener: "mx",
            hostname: "mail.test",
            client: &self.client,
            helo: self.helo.as_deref().filter(|_| !is(&[HookStage::Connect])),
            ptr: self.ptr.as_deref(),
            connections: 3,
            login: self.login.as_ref(),
            mail: has_mail.then_some(&self.mail),
            recipients,
            draft: is(&[HookStage::Data]).then_some(&self.draft),
            added: &self.added,
        }
    }
}

/// A conversation with a filter that answered the offer so.
pub(super) fn negotiated(version: u32, actions: u32, protocol: u32) -> MilterSession {
    let mut negotiation = Negotiation::default();
    negotiation.receive(&options(version, actions, protocol, b""));
    let agreed = negotiation.poll().unwrap().unwrap();
    negotiation.into_session(agreed, BODY_MAX)
}

/// The reply to the offer, with the rest of its data.
pub(super) fn options(version: u32, actions: u32, protocol: u32, rest: &[u8]) -> Vec<u8> {
    let numbers = [version, actions, protocol].map(u32::to_be_bytes);
    let mut out = BytesMut::new();
    packet::write(&mut out, b'O', &[numbers.as_flattened(), rest]);
    out.to_vec()
}

/// A packet of these bytes, the first of which is its kind.
pub(super) fn framed(packet: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    let (kind, data) = packet.split_first().unwrap();
    packet::write(&mut out, *kind, &[data]);
    out.to_vec()
}

/// The packets in these bytes, each on a line of its own: its letter, and its data with `|` for NUL
/// and other control characters escaped.
pub(super) fn shown(bytes: &[u8]) -> Vec<String> {
    let mut reader = PacketReader::default();
    reader.push(bytes);
    let mut lines = Vec::new();
    while let Some(packet) = reader.next().unwrap() {
        lines.push(shown_packet(packet.kind, &packet.data));
    }
    assert_eq!(reader.waiting(), 0, "half a packet");
    lines
}

pub(super) fn shown_packet(kind: u8, data: &[u8]) -> String {
    let mut line = format!("{} ", char::from(kind));
    for byte in data {
        match byte {
            0 => line.push('|'),
            byte => line.extend(byte.escape_ascii().map(char::from)),
        }
    }
    line.trim_end().to_owned()
}
