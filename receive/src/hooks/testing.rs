//! Questions and messages for the tests of wire formats.

use std::net::SocketAddr;

use bytes::Bytes;
use postrider_config::HookStage;
use postrider_smtp::{
    BodyType, DeliveryOptions, ForwardPath, ReversePath,
    server::{Client, MailFrom, RcptTo, SessionId, Transaction},
};
use postrider_store::{NewText, Store};

use super::{
    answer::Change,
    asked::Asked,
    draft::{Draft, DraftLimits},
};

/// Limits that no test comes to.
pub(super) const LIMITS: DraftLimits = DraftLimits {
    section: 1 << 20,
    text: 1 << 30,
    recipients: 100,
};

pub(super) fn mail(from: &str) -> MailFrom {
    MailFrom {
        reverse_path: ReversePath::parse(from).unwrap(),
        size: None,
        body: BodyType::SevenBit,
        smtputf8: false,
        require_tls: false,
        ret: None,
        envid: None,
        delivery: DeliveryOptions::default(),
    }
}

pub(super) fn rcpt(to: &str) -> RcptTo {
    RcptTo {
        forward_path: ForwardPath::parse(to).unwrap(),
        notify: None,
        orcpt: None,
    }
}

/// A client at this address, at our port 25.
pub(super) fn client(remote: &str) -> Client {
    let remote: SocketAddr = remote.parse().unwrap();
    let local = SocketAddr::new([198, 51, 100, 2].into(), 25);
    let mut client = Client::new(SessionId::of(1), remote, local);
    client.transaction = 2;
    client
}

/// A question of a client that said nothing so far.
pub(super) fn asked(stage: HookStage, client: &Client) -> Asked<'_> {
    Asked {
        stage,
        listener: "smtp",
        hostname: "mx.example.org",
        client,
        helo: None,
        ptr: None,
        connections: 1,
        login: None,
        mail: None,
        recipients: &[],
        draft: None,
        added: b"",
    }
}

/// A message with this text, from `a@example.net` to `b@example.org` and `c@example.org`.
pub(super) async fn draft(text: impl AsRef<[u8]>) -> Draft {
    let text = NewText::Inline(Bytes::copy_from_slice(text.as_ref()));
    let text = Store::memory().new_text(&text).await.unwrap();
    let transaction = Transaction {
        mail: mail("a@example.net"),
        recipients: vec![rcpt("b@example.org"), rcpt("c@example.org")],
    };
    Draft::open(&transaction, text, 1 << 20).await.unwrap()
}

/// The whole text of a message.
pub(super) async fn text_of(draft: &Draft) -> String {
    let mut pieces = super::raw::RawPieces::of(draft);
    let mut text = Vec::new();
    while let Some(piece) = pieces.next_piece().await.unwrap() {
        text.extend_from_slice(&piece);
    }
    assert_eq!(text.len() as u64, draft.size());
    String::from_utf8(text).unwrap()
}

/// The text and the envelope of a message after these changes.
pub(super) async fn changed(text: &str, changes: &[Change]) -> (String, String) {
    let mut draft = draft(text).await;
    draft.apply(changes, &LIMITS).unwrap();
    let mut envelope = format!("<{}>", draft.mail.reverse_path);
    envelope.push_str(&words(draft.mail.parameters()));
    for rcpt in &draft.recipients {
        envelope.push_str(&format!(", <{}>", rcpt.forward_path));
        envelope.push_str(&words(rcpt.parameters()));
    }
    (text_of(&draft).await, envelope)
}

fn words(parameters: Vec<(&str, Option<String>)>) -> String {
    let words = parameters.into_iter().map(|(keyword, value)| match value {
        Some(value) => format!(" {keyword}={value}"),
        None => format!(" {keyword}"),
    });
    words.collect()
}
