//! The same messages, signed and verified by us and by other programs: dkimpy, authheaders and
//! OpenDKIM.
//!
//! `cargo xtask test --full opinions` installs these and runs the tests.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
};

use aws_lc_rs::encoding::{AsBigEndian, AsDer, Curve25519SeedBin, Pkcs8V1Der};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_config::SigningKey;
use postrider_dns::{FakeResolver, Record};
use postrider_smtp::Domain;
use postrider_store::{Clock, SystemClock, Time};

use super::{
    arc::{ArcChain, ArcOutcome, Sealer},
    dkim::{
        DkimOutcome, HeaderFields,
        tests::support::{
            TestKey, body_form_of, ed25519, hashes, questions, results_at, rsa, sign, split,
        },
    },
};

/// How many messages are made. Each is signed by both sides.
const MESSAGES: u64 = 300;

const NAMES: &str = "from:to:subject:date:x-test:x-test:mine:from";

/// The other program.
struct Peer {
    child: Child,
    /// Present until the drop.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a script of `xtask/peers`.
    fn start(script: &str) -> Self {
        let python = std::env::var("POSTRIDER_PYTHON")
            .expect("POSTRIDER_PYTHON names a Python with what the script needs");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../xtask/peers");
        let mut child = Command::new(python)
            .arg(format!("{folder}/{script}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn ask(&mut self, command: &str, arguments: &[&str]) -> String {
        let arguments = arguments.iter().map(|one| STANDARD.encode(one));
        let line: Vec<String> = std::iter::once(command.to_owned())
            .chain(arguments)
            .collect();
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{}", line.join("\t")).unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        assert!(
            answer.ends_with('\n'),
            "the other program ended at {command}"
        );
        String::from_utf8(STANDARD.decode(answer.trim_end()).unwrap()).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // At the end of its input the script ends what it started.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The time of the other program's signatures.
fn now() -> Time {
    SystemClock.now()
}

/// The next number below a limit, always in the same course.
struct Course(u64);

impl Course {
    fn below(&mut self, limit: usize) -> usize {
        let constants = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
        self.0 = self.0.wrapping_mul(constants.0).wrapping_add(constants.1);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn words(&mut self, words: &[&str], most: usize) -> String {
        let count = self.below(most + 1);
        (0..count).map(|_| words[self.below(words.len())]).collect()
    }
}

/// A message with all that canonical forms care about.
fn message(course: &mut Course) -> String {
    let value = [
        "a", "Word", " ", "  ", "\t", "\r\n ", " \r\n\t", "\u{e4}", ":", ";",
    ];
    let mut text = String::new();
    for name in ["Mine", "X-Test", "mine", "X-TEST", "Other"] {
        if course.below(2) == 0 {
            text += &format!("{name}:{}x\r\n", course.words(&value, 12));
        }
    }
    text += "From: Ann <ann@example.org>\r\nTo: bob@example.com\r\n";
    text += &format!("Subject: x{}\r\n", course.words(&value, 12));
    text += "Date: Fri, 11 Jul 2003 21:00:37 -0700\r\n";
    text += "Authentication-Results: mx.test; spf=pass smtp.mailfrom=example.org\r\n\r\n";
    let body = [
        "a", "Word", " ", "\t", "\r\n", "\r\n\r\n", " \r\n", "\u{e4}",
    ];
    // dkimpy keeps white space at the end of a body without a line end. SMTP has no such bodies.
    let body = course.words(&body, 30);
    let body = body.trim_end_matches([' ', '\t']);
    let end = ["", "\r\n", "\r\n\r\n\r\n", " \r\n\t\r\n"];
    text + body + end[course.below(end.len())]
}

/// A change that a server on the way may make, or may not.
fn changed(text: &str, course: &mut Course) -> String {
    let spaces: Vec<usize> = text.match_indices(' ').map(|(at, _)| at).collect();
    let letters: Vec<usize> = text.match_indices('a').map(|(at, _)| at).collect();
    let mut text = text.to_owned();
    match course.below(7) {
        0 => text.push_str("\r\n"),
        1 => text.push_str(" \r\n"),
        2 => text.push('x'),
        3 => text.insert(spaces[course.below(spaces.len())], ' '),
        4 => text.replace_range(
            letters
                .get(course.below(letters.len()))
                .map_or(0..0, |at| *at..*at + 1),
            "b",
        ),
        5 => text = text.replacen("Subject:", "SUBJECT:", 1),
        _ => text.insert_str(0, "Subject: another\r\n"),
    }
    text
}

fn fake() -> FakeResolver {
    let fake = FakeResolver::default();
    for (name, key) in [("rsa", rsa()), ("ed", ed25519())] {
        let name = format!("{name}._domainkey.example.org");
        fake.add(&name, Record::Txt(key.record.clone().into()));
    }
    fake
}

fn tell_keys(peer: &mut Peer) {
    for (name, key) in [("rsa", rsa()), ("ed", ed25519())] {
        peer.ask(
            "zone",
            &[&format!("{name}._domainkey.example.org"), &key.record],
        );
    }
    let (SigningKey::Rsa(rsa), SigningKey::Ed25519(ed25519)) = (&rsa().key, &ed25519().key) else {
        panic!("keys of other types");
    };
    let der: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let seed: Curve25519SeedBin<'_> = ed25519.seed().unwrap().as_be_bytes().unwrap();
    peer.ask(
        "keys",
        &[
            &STANDARD.encode(der.as_ref()),
            &STANDARD.encode(seed.as_ref()),
        ],
    );
}

/// Our outcomes as words.
async fn ours(text: &str, fake: &FakeResolver) -> String {
    let (found, _) = results_at(now(), text, fake).await;
    let word = |outcome| {
        if outcome == DkimOutcome::Pass {
            "pass"
        } else {
            "fail"
        }
    };
    let words: Vec<&str> = found.iter().map(|one| word(one.outcome)).collect();
    words.join(" ")
}

/// One message that both sides sign, and what becomes of it on the way.
struct Signed {
    forms: String,
    /// Signed by the other program.
    theirs: String,
    mine: String,
    /// Signed by both, as it was and changed.
    further: [String; 3],
}

/// Makes a message, and has it signed.
fn signed(peer: &mut Peer, course: &mut Course, number: u64) -> Signed {
    let text = message(course);
    let header = ["simple", "relaxed"][course.below(2)];
    let forms = format!("{header}/{}", ["simple", "relaxed"][course.below(2)]);
    let (algorithm, selector, key): (_, _, &TestKey) = match number % 2 {
        0 => ("rsa-sha256", "rsa", rsa()),
        _ => ("ed25519-sha256", "ed", ed25519()),
    };
    let field = peer.ask("sign", &[algorithm, &forms, NAMES, &text]);
    let theirs = format!("{field}{text}");
    let tags = format!("v=1; a={algorithm}; c={forms}; d=example.org; s={selector}; h={NAMES}");
    let mine = sign(key, &tags, &text);
    let both = sign(key, &tags, &theirs);
    let changes = [changed(&both, course), changed(&theirs, course)];
    let [both_changed, theirs_changed] = changes;
    Signed {
        forms,
        theirs,
        mine,
        further: [both, both_changed, theirs_changed],
    }
}

/// Compares the outcomes of both sides for many messages. `also` compares further.
async fn compare_dkim(script: &str, seed: u64, mut also: impl FnMut(&mut Peer, &str, &str)) {
    let (mut peer, fake, mut course) = (Peer::start(script), fake(), Course(seed));
    tell_keys(&mut peer);
    let (mut passed, mut failed) = (0, 0);
    for number in 0..MESSAGES {
        let Signed {
            forms,
            theirs,
            mine,
            further,
        } = signed(&mut peer, &mut course, number);
        assert_eq!(ours(&theirs, &fake).await, "pass", "{forms} {theirs:?}");
        assert_eq!(peer.ask("verify", &[&mine]), "pass", "{forms} {mine:?}");
        for text in further {
            let ours = ours(&text, &fake).await;
            let theirs = peer.ask("verify", &[&text]);
            // One signature can't be read, and has no result there.
            let agrees = theirs == ours || theirs == "unread" && ours.contains("fail");
            assert!(agrees, "{theirs} and not {ours}: {forms} {text:?}");
            also(&mut peer, &text, &ours);
            match ours.contains("fail") {
                true => failed += 1,
                false => passed += 1,
            }
        }
    }
    assert!(
        passed > MESSAGES && failed > MESSAGES / 2,
        "{passed} {failed}"
    );
}

#[tokio::test]
#[ignore = "it needs dkimpy and authheaders; `cargo xtask test --full opinions` installs them"]
async fn others_agree_about_dkim() {
    compare_dkim("dkim_peer.py", 1, |peer, text, ours| {
        // authheaders reports the first signature only, and a failure if there is none.
        let first = ours.split(' ').next().filter(|word| !word.is_empty());
        assert_eq!(
            peer.ask("results", &[text]),
            first.unwrap_or("fail"),
            "{text:?}"
        );
    })
    .await;
}

#[tokio::test]
#[ignore = "it needs OpenDKIM; `cargo xtask test --full opinions` installs it"]
async fn opendkim_agrees() {
    compare_dkim("opendkim_peer.py", 3, |_, _, _| {}).await;
}

#[tokio::test]
#[ignore = "it needs dkimpy and authheaders; `cargo xtask test --full opinions` installs them"]
async fn others_agree_about_arc() {
    let (mut peer, fake, mut course) = (Peer::start("dkim_peer.py"), fake(), Course(2));
    tell_keys(&mut peer);
    let names: Vec<String> = NAMES.split(':').map(str::to_owned).collect();
    let domain = Domain::parse("example.org").unwrap();
    let selector = Domain::parse("rsa").unwrap();
    for number in 0..MESSAGES / 3 {
        let mut text = message(&mut course);
        for _ in 0..3 {
            let (section, body) = split(&text);
            let chain = ArcChain::new(Arc::new(HeaderFields::new(section)));
            let body = hashes(body_form_of(&chain), &body);
            let verified = chain.verify(&questions(&fake), &body, now()).await;
            let set = match course.below(2) {
                0 => peer.ask("arc-sign", &[NAMES, &with_result(&text, verified.outcome)]),
                _ => {
                    let sealer = Sealer {
                        domain: &domain,
                        selector: &selector,
                        key: &rsa().key,
                        names: &names,
                    };
                    let results = "mx.test; spf=pass smtp.mailfrom=example.org";
                    let set = chain.seal(&verified, &sealer, results, &body, now());
                    String::from_utf8(set.unwrap().unwrap()).unwrap()
                }
            };
            text = set + &text;
            assert_eq!(arc(&text, &fake).await, "pass", "{number}: {text}");
            assert_eq!(peer.ask("arc-verify", &[&text]), "pass", "{number}: {text}");
        }
        let changed = changed(&text, &mut course);
        let theirs = peer.ask("arc-verify", &[&changed]);
        assert_eq!(arc(&changed, &fake).await, theirs, "{number}: {changed:?}");
    }
}

/// dkimpy takes `cv=` from a result for ARC.
fn with_result(text: &str, outcome: ArcOutcome) -> String {
    let word = match outcome {
        ArcOutcome::None => "none",
        ArcOutcome::Pass => "pass",
        ArcOutcome::Fail | ArcOutcome::TempError => "fail",
    };
    format!("Authentication-Results: mx.test; arc={word}\r\n{text}")
}

async fn arc(text: &str, fake: &FakeResolver) -> &'static str {
    let (section, body) = split(text);
    let chain = ArcChain::new(Arc::new(HeaderFields::new(section)));
    let body = hashes(body_form_of(&chain), &body);
    match chain.verify(&questions(fake), &body, now()).await.outcome {
        ArcOutcome::None => "none",
        ArcOutcome::Pass => "pass",
        ArcOutcome::Fail | ArcOutcome::TempError => "fail",
    }
}
