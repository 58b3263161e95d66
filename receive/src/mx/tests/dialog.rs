//! Dialogs: the protocol together with the policy of the MX.

use std::{collections::BTreeMap, time::Instant};

use postrider_smtp::server::{
    Answer, Output, Question as Asked, SaslConfig, Session, SessionConfig,
};

use super::{
    guards::{SECOND, STRANGER, world},
    *,
};

/// A client and a session of the protocol, with the policy of the MX.
pub(super) struct Dialog {
    session: Session,
    pub(super) handler: MxSession,
    now: Instant,
}

impl Dialog {
    pub(super) async fn new(world: &World, remote: &str) -> (Self, String) {
        let listener = "127.0.0.1:25".parse().unwrap();
        let client = Client::new(SessionId::of(1), remote.parse().unwrap(), listener);
        let minute = 60 * SECOND;
        let config = SessionConfig {
            hostname: Domain::parse("mx.example.org").unwrap(),
            max_message_size: 10_000,
            max_line: 1000,
            starttls: false,
            auth: false,
            auth_required: false,
            auth_requires_tls: true,
            sasl: SaslConfig::default(),
            submission: false,
            require_tls_extension: false,
            dsn: false,
            binary_mime: true,
            ask_hello: false,
            max_recipients: 100,
            max_messages: 1000,
            max_errors: 10,
            command_timeout: minute,
            data_timeout: minute,
            message_timeout: minute,
        };
        let now = Instant::now();
        let mut dialog = Self {
            session: Session::new(Arc::new(config), client.clone(), false, now),
            handler: world.session(),
            now,
        };
        dialog.handler.happened(&client, &Event::Connected);
        let greeting = dialog.say("").await;
        (dialog, greeting)
    }

    /// Says lines, and gives what the server says to them.
    pub(super) async fn say(&mut self, lines: &str) -> String {
        let (session, handler) = (&mut self.session, &mut self.handler);
        session.receive(lines.as_bytes(), self.now);
        let mut heard = String::new();
        while let Some(output) = session.poll_output() {
            match output {
                Output::Send(bytes) => {
                    heard.push_str(&without_names(std::str::from_utf8(&bytes).unwrap()));
                    session.wrote(self.now);
                }
                Output::Ask(client, question) => {
                    let answer = match question {
                        Asked::Greeting => handler.greeting(client).await.into(),
                        Asked::Hello(name) => handler.hello(client, name).await.into(),
                        Asked::ScramKeys(request) => {
                            handler.scram_keys(client, request).await.into()
                        }
                        Asked::Login(login) => handler.login(client, login).await.into(),
                        Asked::Mail(mail) => handler.mail(client, mail).await.into(),
                        Asked::Rcpt(transaction, rcpt) => {
                            handler.rcpt(client, transaction, rcpt).await.into()
                        }
                        Asked::Data(transaction) => handler.data(client, transaction).await.into(),
                        Asked::End(transaction) => {
                            Answer::Reply(handler.end(client, transaction).await)
                        }
                    };
                    session.answer(answer, self.now);
                }
                Output::Text(piece) => {
                    if let Err(reply) = handler.text(&piece).await {
                        session.refuse_text(reply);
                    }
                }
                Output::Reset => handler.reset(),
                Output::Restart => handler.restart(),
                Output::Happened(client, event) => handler.happened(client, &event),
                Output::Closed => return heard + "closed",
                Output::StartTls => panic!("no TLS is offered"),
            }
        }
        heard
    }
}

/// The replies without the name of the session at their ends.
fn without_names(replies: &str) -> String {
    let mut parts = replies.split(" (000000000001");
    let first = parts.next().unwrap_or_default();
    let rest = parts.filter_map(|part| part.split_once(')').map(|(_, rest)| rest));
    std::iter::once(first).chain(rest).collect()
}

#[tokio::test]
async fn an_account_that_goes_meanwhile_is_told_of_to_the_client() {
    let world = World::new();
    let both = format!(
        "{DYNAMICS}[accounts.bob]\ndomain = \"example.org\"\n\
         destinations.\"bob@example.org\" = {{}}\n"
    );
    let parse = |text: &str| {
        let dynamics = Dynamic::parse(text, "domains.conf", &world.context.statics);
        Arc::new(dynamics.unwrap())
    };
    world.context.config.store(parse(&both));
    let (mut dialog, _) = Dialog::new(&world, REMOTE).await;
    dialog.say("EHLO mail.remote.test\r\n").await;
    let heard = dialog
        .say(
            "MAIL FROM:<x@remote.test>\r\nRCPT TO:<ann@example.org>\r\n\
             RCPT TO:<bob@example.org>\r\nDATA\r\n",
        )
        .await;
    assert!(heard.contains("354 "), "{heard}");
    world.context.config.store(parse(DYNAMICS));
    let heard = dialog.say(&format!("{MESSAGE}.\r\n")).await;
    assert_eq!(
        heard,
        "451 4.3.0 the mailbox is gone for now, try again later\r\n"
    );
    assert!(world.mails().await.is_empty());
}

/// Unknown recipients beside a good one cost the client time, not its message.
#[tokio::test]
async fn a_message_with_many_dead_addresses_is_taken() {
    let world = World::new();
    let (mut dialog, _) = Dialog::new(&world, "127.0.0.1:1").await;
    dialog.say("EHLO mail.remote.test\r\n").await;
    let dead = "RCPT TO:<x@example.org>\r\n".repeat(21);
    let begin = "MAIL FROM:<x@remote.test>\r\nRCPT TO:<ann@example.org>\r\n";
    let envelope = format!("{begin}{dead}");
    let heard = dialog.say(&envelope).await;
    assert_eq!(heard.matches("550 5.1.1 ").count(), 21, "{heard}");
    assert!(!heard.contains("421"), "{heard}");
    let heard = dialog.say(&format!("DATA\r\n{MESSAGE}.\r\n")).await;
    assert!(heard.contains("250 2.0.0 delivered as "), "{heard}");
    // Without a good one they are errors as any other.
    let (mut dialog, _) = Dialog::new(&world, "127.0.0.1:1").await;
    dialog.say("EHLO mail.remote.test\r\n").await;
    let heard = dialog.say(&format!("MAIL FROM:<>\r\n{dead}")).await;
    assert!(
        heard.ends_with("421 4.7.0 too many unknown recipients, closing\r\nclosed"),
        "{heard}"
    );
}

#[tokio::test]
async fn a_stranger_comes_again_and_its_mail_is_taken() {
    let world = world();
    world.dns.set_mx("new.test", &[(10, "mail.remote.test")]);
    let (mut first, greeting) = Dialog::new(&world, STRANGER).await;
    assert_eq!(greeting, "220 mx.example.org ESMTP postrider\r\n");
    first.say("EHLO new.test\r\n").await;
    let envelope = "MAIL FROM:<x@new.test>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n";
    assert_eq!(
        first.say(envelope).await,
        "250 2.1.0 sender ok\r\n\
         451 4.7.1 unknown sender, please retry in a minute\r\n\
         503 5.5.1 no recipient was accepted\r\n"
    );
    let literal = "RSET\r\nMAIL FROM:<x@[192.0.2.99]>\r\nMAIL FROM:<x@missing.test>\r\n";
    assert_eq!(
        first.say(literal).await,
        "250 2.0.0 reset\r\n\
         550 5.7.1 the sender's address needs a domain in the place of [192.0.2.99]\r\n\
         550 5.1.8 the sender's domain missing.test has no MX and no address in DNS\r\n"
    );
    world.clock.advance(60 * SECOND);
    let (mut second, _) = Dialog::new(&world, STRANGER).await;
    second.say("EHLO new.test\r\n").await;
    let heard = second.say(envelope).await;
    assert!(heard.contains("250 2.1.5 recipient ok\r\n354 "), "{heard}");
    let heard = second
        .say("From: <x@new.test>\r\nSubject: hi\r\n\r\nHello.\r\n.\r\n")
        .await;
    assert!(heard.starts_with("250 2.0.0 delivered as "), "{heard}");
    assert_eq!(world.mails().await.len(), 1);
}

/// The protocol, the decision and the intake refuse. Each refusal counts once, when it is told.
#[tokio::test]
async fn each_refusal_counts_for_its_reason() {
    let world = World::new();
    let (mut dialog, _) = Dialog::new(&world, REMOTE).await;
    let begin = "MAIL FROM:<x@remote.test>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n";
    let text = |section: &str| format!("{begin}{section}\r\nHello.\r\n.\r\n");
    let fields = "X: y\r\n".repeat(1100);
    for (lines, code, reason) in [
        (
            "EHLO mail.remote.test\r\nNONSENSE\r\n",
            "500 ",
            "unknown_command",
        ),
        (
            "MAIL FROM:<x@null.test> RET=x\r\n",
            "555 ",
            "parameter_unknown",
        ),
        (
            "MAIL FROM:<x@remote.test>\r\nRCPT TO:<x@example.org>\r\n",
            "550 ",
            "unknown_recipient",
        ),
        ("RSET\r\nDATA\r\n", "503 ", "mail_first"),
        (&text("a: b\nc: d\r\n"), "554 ", "bare_newline"),
        (&text(&fields), "554 ", "header_fields"),
        (
            &text("From: a@remote.test\r\nFrom: b@other.test\r\n"),
            "554 ",
            "from_unclear",
        ),
    ] {
        let before = counted(&world);
        let heard = dialog.say(lines).await;
        let last = heard.lines().last().unwrap();
        assert!(last.starts_with(code), "{reason}: {heard}");
        let mut expected = before;
        *expected.entry(reason).or_default() += 1;
        assert_eq!(counted(&world), expected, "{heard}");
    }
}

/// The reasons that were given, and how often.
fn counted(world: &World) -> BTreeMap<&'static str, u64> {
    let all = world.context.guards.refusals.all();
    all.filter(|(_, count)| *count > 0).collect()
}
