//! Real filters: OpenDKIM, OpenDMARC, rspamd, and one made with python3-milter.
//!
//! `cargo xtask test --full milters` installs these and runs the tests.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::{AsDer, Pkcs8V1Der},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use postrider_config::{
    HookBreaker, HookConditions, HookError,
    HookStage::{self, Connect, Data, Ehlo, Mail, Rcpt},
    Milter, MilterSocket, SigningKey,
};
use postrider_smtp::{Notify, Ret, ReversePath};
use postrider_store::{Clock, SystemClock};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        answer::{Answer, Vote},
        draft::{Draft, DraftLimits},
        edit::Section,
    },
    MilterConnection,
    support::{World, rcpt},
};
use crate::checks::dkim::{
    DkimOutcome,
    tests::support::{MESSAGE, results_at, rsa, sign, zone},
};

const BODY_MAX: usize = 1 << 20;
const LIMITS: DraftLimits = DraftLimits {
    section: 1 << 20,
    text: 1 << 24,
    recipients: 100,
};

/// A filter that runs. It ends when the value is dropped.
struct Program {
    child: Child,
    dir: TempDir,
}

impl Program {
    /// Starts a command. `socket` in the folder is its socket.
    fn start(dir: TempDir, command: &mut Command) -> Self {
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = command
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, dir }
    }

    /// Starts OpenDKIM with these settings.
    fn opendkim(settings: &str, files: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let folder = dir.path().display();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let config = format!(
            "Socket local:{folder}/socket\nSyslog no\nAuthservID mail.test\n\
             RequireSafeKeys no\n{settings}\n"
        );
        fs::write(dir.path().join("conf"), config).unwrap();
        Self::start(dir, Command::new("opendkim").args(["-f", "-x", "conf"]))
    }

    /// Starts the filter in `xtask/peers/milter_peer.py`.
    fn python() -> Self {
        let dir = TempDir::new().unwrap();
        let python = std::env::var("POSTRIDER_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../xtask/peers/milter_peer.py");
        let socket = dir.path().join("socket");
        let mut command = Command::new(python);
        Self::start(dir, command.arg(script).arg(socket))
    }

    /// Starts OpenDMARC.
    fn opendmarc() -> Self {
        let dir = TempDir::new().unwrap();
        let folder = dir.path().display();
        let config = format!(
            "Socket local:{folder}/socket\nAuthservID mail.test\nTrustedAuthservIDs mail.test\n\
             Syslog false\n"
        );
        fs::write(dir.path().join("conf"), config).unwrap();
        Self::start(dir, Command::new("opendmarc").args(["-f", "-c", "conf"]))
    }

    /// Starts rspamd as a filter without any rules, and without DNS.
    fn rspamd() -> Self {
        let dir = TempDir::new().unwrap();
        let folder = dir.path().display();
        let config = format!(
            "options {{ pidfile = \"{folder}/pid\"; filters = \"\"; tempdir = \"{folder}\";\n\
             hs_cache_dir = \"{folder}\"; enable_test_patterns = true;\n\
             url_tld = \"{folder}/tld\";\n\
             dns {{ nameserver = [\"127.0.0.1:1\"]; timeout = 0.1s; retransmits = 1; }} }}\n\
             logging {{ type = \"console\"; level = \"info\"; }}\n\
             actions {{ reject = 15; add_header = 6; }}\n\
             worker \"rspamd_proxy\" {{ bind_socket = \"{folder}/socket mode=0666\"; milter = yes;\n\
             timeout = 20s; count = 1; upstream \"local\" {{ default = yes; self_scan = yes; }} }}\n"
        );
        fs::write(dir.path().join("conf"), config).unwrap();
        // The real list takes it half a minute.
        fs::write(dir.path().join("tld"), "test\norg\n").unwrap();
        let arguments = ["-f", "--insecure", "-c", "conf"];
        Self::start(dir, Command::new("rspamd").args(arguments))
    }

    /// Connects as soon as the program listens.
    async fn connect(&mut self) -> MilterConnection {
        let milter = Milter {
            socket: MilterSocket::Unix(self.dir.path().join("socket")),
            timeout: Duration::from_secs(30),
            on_error: HookError::Tempfail,
            breaker: HookBreaker {
                failures: 5,
                pause: Duration::from_secs(30),
            },
            conditions: HookConditions::default(),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match MilterConnection::connect(&milter, BODY_MAX).await {
                Ok(connection) => return connection,
                Err(failure) => {
                    let is_over = Instant::now() > deadline;
                    let ended = self.child.try_wait().unwrap();
                    if is_over || ended.is_some() {
                        panic!("{failure}: {ended:?} {}", self.log());
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The workers of rspamd end with it only if it has the time to end them.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session with this message.
fn world(text: &str) -> World {
    let mut world = World::new("", "");
    world.added = b"Received: here\r\n".to_vec();
    world.mail.reverse_path = ReversePath::parse("ann@example.org").unwrap();
    set_text(&mut world, text);
    world
}

fn set_text(world: &mut World, text: &str) {
    let (section, body) = text.split_once("\r\n\r\n").unwrap();
    let section = Bytes::from(format!("{section}\r\n"));
    world.draft = Draft {
        mail: world.mail.clone(),
        recipients: world.recipients.clone(),
        section: Section::read(&section),
        body: Bytes::copy_from_slice(body.as_bytes()).into(),
        text_changed: false,
    };
}

/// Asks at all stages of a message, up to the first answer that is no acceptance. The message gets
/// the changes of the answer.
async fn pass(connection: &mut MilterConnection, world: &mut World) -> (HookStage, Answer) {
    world.client.transaction += 1;
    let recipients = (1..=world.recipients.len()).map(|number| (Rcpt, number));
    let begin = [(Connect, 0), (Ehlo, 0), (Mail, 0)];
    let steps = begin.into_iter().chain(recipients);
    for (stage, recipient) in steps.chain([(Data, 0)]) {
        let answer = connection.ask(&world.asked(stage, recipient)).await;
        let answer = answer.unwrap_or_else(|failure| panic!("{stage:?}: {failure}"));
        if answer.vote != Vote::Accept || stage == Data {
            world.draft.apply(&answer.changes, &LIMITS).unwrap();
            return (stage, answer);
        }
    }
    unreachable!("the last stage is data")
}

async fn text(draft: &Draft) -> String {
    let mut text = draft.head().to_vec();
    let mut at = 0;
    loop {
        let piece = draft.body.piece(at, 10_000).await.unwrap();
        if piece.is_empty() {
            return String::from_utf8(text).unwrap();
        }
        at += piece.len() as u64;
        text.extend_from_slice(&piece);
    }
}

/// The fields of a message with this name, as they are written.
fn fields(draft: &Draft, name: &str) -> Vec<String> {
    let fields = draft.section.fields();
    let fields = fields.map(|field| String::from_utf8_lossy(field).into_owned());
    fields.filter(|field| field.starts_with(name)).collect()
}

/// A message whose canonical forms depend on each byte, with a large body.
fn odd_message() -> String {
    let section = "From: Ann <ann@example.org>\r\nTo:bob@example.com\r\nSubject:  two  spaces \r\n\
        \tand a fold\r\nX-Empty:\r\nX-Tab:\tx\r\nDate : Fri, 11 Jul 2003 21:00:37 -0700\r\n";
    let body = "a line  of the b\u{f6}dy \r\n\r\n.\r\n".repeat(10_000);
    format!("{section}\r\n{body}")
}

/// The key of the tests as OpenDKIM reads it.
fn key_file() -> String {
    let SigningKey::Rsa(key) = &rsa().key else {
        panic!("the key is none of RSA");
    };
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let key = STANDARD.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n")
}

#[tokio::test]
#[ignore = "it needs OpenDKIM; `cargo xtask test --full milters` installs it"]
async fn opendkim_signs_for_logins() {
    for forms in ["simple/simple", "relaxed/relaxed"] {
        let settings = format!(
            "Mode s\nDomain example.org\nSelector k\nKeyFile key\nCanonicalization {forms}\n\
             SignHeaders from,to,subject,x-empty,x-tab\n"
        );
        let mut program = Program::opendkim(&settings, &[("key", &key_file())]);
        for text_before in [MESSAGE.to_owned(), odd_message()] {
            let mut world = world(&text_before);
            let mut connection = program.connect().await;
            let (_, answer) = pass(&mut connection, &mut world).await;
            assert_eq!(answer, Answer::ACCEPT, "without a login");
            drop(connection);
            world.log_in();
            let mut connection = program.connect().await;
            // Several messages on one connection.
            for _ in 0..2 {
                set_text(&mut world, &text_before);
                pass(&mut connection, &mut world).await;
                let signed = text(&world.draft).await;
                assert!(signed.starts_with("DKIM-Signature:"), "{}", program.log());
                assert!(signed.ends_with(&text_before));
                let (results, _) =
                    results_at(SystemClock.now(), &signed, &zone(&rsa().record)).await;
                let outcomes: Vec<_> = results.iter().map(|result| result.outcome).collect();
                assert_eq!(outcomes, [DkimOutcome::Pass], "{forms}");
            }
            drop(connection);
        }
    }
}

#[tokio::test]
#[ignore = "it needs OpenDKIM; `cargo xtask test --full milters` installs it"]
async fn opendkim_verifies() {
    let record = format!("k._domainkey.example.org {}\n", rsa().record);
    let settings = "Mode v\nTestPublicKeys keys\nAlwaysAddARHeader yes";
    let mut program = Program::opendkim(settings, &[("keys", &record)]);
    let mut connection = program.connect().await;
    for forms in ["simple/simple", "relaxed/relaxed"] {
        for text in [MESSAGE.to_owned(), odd_message()] {
            let tags = format!(
                "v=1; a=rsa-sha256; c={forms}; d=example.org; s=k; h=from:to:subject:x-empty:x-tab"
            );
            let signed = sign(rsa(), &tags, &text);
            for (text, expected) in [
                (signed.replacen("Ann", "Eve", 1), "dkim=fail"),
                (format!("{signed}x\r\n"), "dkim=fail"),
                (signed, "dkim=pass"),
                (text, "dkim=none"),
            ] {
                let mut world = world(&text);
                let (_, answer) = pass(&mut connection, &mut world).await;
                assert_eq!(answer.vote, Vote::Accept);
                let results = fields(&world.draft, "Authentication-Results:");
                assert_eq!(results.len(), 1, "{}", program.log());
                assert!(results[0].contains(expected), "{forms}: {results:?}");
            }
        }
    }
    drop(connection);
}

#[tokio::test]
#[ignore = "it needs OpenDMARC; `cargo xtask test --full milters` installs it"]
async fn opendmarc_adds_its_result() {
    let mut program = Program::opendmarc();
    let mut connection = program.connect().await;
    for _ in 0..2 {
        let mut world = world(&odd_message().replace("example.org", "unknown.invalid"));
        let (_, answer) = pass(&mut connection, &mut world).await;
        assert_eq!(answer.vote, Vote::Accept, "{}", program.log());
        let results = fields(&world.draft, "Authentication-Results:");
        assert!(
            results.iter().any(|field| field.contains("dmarc=")),
            "{results:?}"
        );
    }
    drop(connection);
}

#[tokio::test]
#[ignore = "it needs rspamd; `cargo xtask test --full milters` installs it"]
async fn rspamd_judges_test_patterns() {
    let mut program = Program::rspamd();
    let mut connection = program.connect().await;
    let pattern = |letter: char| {
        let pattern = "JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";
        format!("{}{letter}{pattern}\r\n", MESSAGE)
    };
    let mut world = world(&pattern('X'));
    world.log_in();
    let (stage, answer) = pass(&mut connection, &mut world).await;
    assert_eq!(stage, Data);
    let Vote::Refuse(reply) = answer.vote else {
        panic!("{answer:?} {}", program.log());
    };
    assert_eq!(reply.to_string(), "554 5.7.1 Gtube pattern");
    set_text(
        &mut world,
        &pattern('Y').replace("From:", "X-Spam: No\r\nFrom:"),
    );
    let (_, answer) = pass(&mut connection, &mut world).await;
    assert_eq!(answer.vote, Vote::Accept);
    assert_eq!(
        fields(&world.draft, "X-Spam:"),
        ["X-Spam: Yes\r\n"],
        "{}",
        program.log()
    );
    set_text(&mut world, &odd_message());
    let (_, answer) = pass(&mut connection, &mut world).await;
    assert_eq!(answer, Answer::ACCEPT);
    drop(connection);
    // It has read what it was told.
    let log = program.log();
    for told in [
        "qid: <000000000000.",
        "ip: 192.0.2.1",
        "user: jane",
        "from: <ann@example.org>",
    ] {
        assert!(log.contains(told), "no {told} in {log}");
    }
}

/// A question of a sender with this local-part to a filter made with python3-milter.
async fn to_python(
    connection: &mut MilterConnection,
    local: &str,
    text: &str,
) -> (HookStage, Answer, World) {
    let mut world = world(text);
    world.mail.reverse_path = ReversePath::parse(&format!("{local}@s.test")).unwrap();
    world.log_in();
    set_text(&mut world, text);
    let (stage, answer) = pass(connection, &mut world).await;
    (stage, answer, world)
}

#[tokio::test]
#[ignore = "it needs python3-milter; `cargo xtask test --full milters` installs it"]
async fn verdicts_of_a_filter_in_python() {
    let mut program = Program::python();
    let mut connection = program.connect().await;
    for (local, stage, expected) in [
        ("accept", Data, "accept"),
        ("reject", Mail, "550 5.7.1 Message rejected."),
        ("tempfail", Mail, "451 4.7.1 Try again later."),
        ("discard", Mail, "discard"),
        ("code", Data, "554 5.7.1 first 50% second"),
        ("progress", Data, "accept"),
        ("none", Data, "accept"),
    ] {
        let (at, answer, _) = to_python(&mut connection, local, MESSAGE).await;
        let shown = match answer.vote {
            Vote::Accept => "accept".to_owned(),
            Vote::Discard(_) => "discard".to_owned(),
            Vote::Refuse(reply) => reply.to_string(),
            Vote::Quarantine(reason) | Vote::Junk(reason) => reason,
        };
        assert_eq!((at, shown.as_str()), (stage, expected), "{local}");
    }
    let mut world = world(MESSAGE);
    world.recipients = vec![rcpt("a@d.test"), rcpt("no@d.test")];
    let (stage, answer) = pass(&mut connection, &mut world).await;
    assert_eq!(stage, Rcpt);
    assert!(
        matches!(answer.vote, Vote::Refuse(reply) if reply.to_string() == "550 5.1.1 100% unknown")
    );
    drop(connection);
}

#[tokio::test]
#[ignore = "it needs python3-milter; `cargo xtask test --full milters` installs it"]
async fn changes_of_a_filter_in_python() {
    let mut program = Program::python();
    let mut connection = program.connect().await;
    let message = "From: a\r\nX-Old: old\r\nSubject: b\r\n\r\nold body\r\n";
    let (_, answer, world) = to_python(&mut connection, "all", message).await;
    assert_eq!(answer.vote, Vote::Quarantine("looks odd".into()));
    let draft = &world.draft;
    assert_eq!(draft.mail.reverse_path.to_string(), "other@s.test");
    assert_eq!(draft.mail.ret, Some(Ret::Headers));
    let recipients = draft.recipients.iter();
    let recipients: Vec<_> = recipients
        .map(|rcpt| (rcpt.forward_path.to_string(), rcpt.notify))
        .collect();
    let expected = [
        ("c@d.test".to_owned(), None),
        ("added@d.test".to_owned(), None),
        ("with@d.test".to_owned(), Some(Notify::NEVER)),
    ];
    assert_eq!(recipients, expected);
    let section = String::from_utf8(draft.section.written()).unwrap();
    let id = world.client.name();
    let expected = format!(
        "X-Second: second\r\nX-Top: top\r\nFrom: a\r\nSubject: changed\r\n\
         X-Macros: i={id} j=mail.test {{auth_type}}=PLAIN {{client_addr}}=192.0.2.1 \
         {{daemon_port}}=25 {{daemon_name}}=None\r\n\
         X-Client: [192.0.2.1] ('192.0.2.1', 1025) c.test SIZE=9 BODY=8BITMIME\r\n\
         X-Fold: one\r\n\ttwo\r\nX-New: new\r\n"
    );
    assert_eq!(section, expected);
    let body = text(draft).await.split_off(section.len() + 2);
    assert_eq!(body, "new body\r\n".repeat(10_000));
    drop(connection);
}

#[tokio::test]
#[ignore = "it needs python3-milter; `cargo xtask test --full milters` installs it"]
async fn a_filter_in_python_sees_each_byte() {
    let mut program = Program::python();
    let mut connection = program.connect().await;
    let text = odd_message();
    let (_, _, world) = to_python(&mut connection, "body", &text).await;
    let seen = fields(&world.draft, "X-Hash:").concat();
    let (section, body) = text.split_once("\r\n\r\n").unwrap();
    // One space behind the colon is not told, and lines end in LF.
    let section = section.replace("\r\n", "\n").replace("Date :", "Date:");
    let section = section.replace(": ", ":");
    let hash = digest(&SHA256, format!("{section}\n{body}").as_bytes());
    let hash: String = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(seen, format!("X-Hash: {hash}\r\n"));
    drop(connection);
}
