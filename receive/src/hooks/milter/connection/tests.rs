use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use bytes::Bytes;
use postrider_config::{
    HookBreaker, HookConditions, HookError,
    HookStage::{Auth, Connect, Data, Ehlo, Mail, Rcpt},
    Static,
};
use postrider_smtp::{EnhancedCode, ReplyCode};
use postrider_store::{NewText, Store};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};

use super::{
    super::{
        super::{
            answer::{Change, Vote},
            draft::Draft,
            edit::{Edit, NewField},
        },
        client::MilterClient,
        options::ACTIONS,
        packet::{Packet, PacketReader},
        support::{World, framed, options},
    },
    *,
};

mod limits;

const BODY_MAX: usize = 100;
const ALL: [(HookStage, usize); 7] = [
    (Connect, 0),
    (Ehlo, 0),
    (Auth, 0),
    (Mail, 0),
    (Rcpt, 1),
    (Rcpt, 2),
    (Data, 0),
];

/// What a filter does with one connection: it waits for the next command with this letter, and
/// sends these bytes. The letter `!` closes the connection at once.
type Script = Vec<(char, Vec<u8>)>;

/// A script in which the offer gets the reply with these bits, and each of these letters gets a
/// continue.
fn script(protocol: u32, letters: &str) -> Script {
    let agrees = ('O', options(6, ACTIONS, protocol, b""));
    let rest = letters.chars().map(|letter| (letter, framed(b"c")));
    std::iter::once(agrees).chain(rest).collect()
}

/// A filter that plays one script for each connection. At the end it tells the packets that it got,
/// without macros.
struct Scripted {
    task: JoinHandle<Vec<Vec<Packet>>>,
    milter: Milter,
    /// The folder of a Unix socket.
    _dir: Option<TempDir>,
}

fn milter(socket: MilterSocket) -> Milter {
    Milter {
        socket,
        timeout: Duration::from_secs(30),
        on_error: HookError::Tempfail,
        breaker: HookBreaker {
            failures: 5,
            pause: Duration::from_secs(30),
        },
        conditions: HookConditions::default(),
    }
}

fn at(address: SocketAddr) -> Milter {
    milter(MilterSocket::Inet(
        Host::Literal(address.ip()),
        address.port(),
    ))
}

impl Scripted {
    async fn tcp(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let milter = at(listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut told = Vec::new();
            for script in scripts {
                let (socket, _) = listener.accept().await.unwrap();
                told.push(play(socket, script).await);
            }
            told
        });
        let _dir = None;
        Self { task, milter, _dir }
    }

    fn unix(script: Script) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("milter");
        let listener = UnixListener::bind(&path).unwrap();
        let milter = milter(MilterSocket::Unix(path));
        let task = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            vec![play(socket, script).await]
        });
        let _dir = Some(dir);
        Self { task, milter, _dir }
    }

    async fn connect(&self) -> MilterConnection {
        let connected = MilterConnection::connect(&self.milter, BODY_MAX).await;
        connected.unwrap()
    }

    /// What the filter was told, for each connection.
    async fn told(self) -> Vec<Vec<Packet>> {
        self.task.await.unwrap()
    }

    /// The letters of that.
    async fn letters(self) -> Vec<String> {
        let connections = self.told().await;
        connections.iter().map(|told| letters(told)).collect()
    }
}

fn letters(told: &[Packet]) -> String {
    told.iter().map(|packet| char::from(packet.kind)).collect()
}

/// Plays a script, and reads what comes after it up to the end.
async fn play(mut socket: impl Socket, script: Script) -> Vec<Packet> {
    let (mut reader, mut told) = (PacketReader::default(), Vec::new());
    for (letter, reply) in script {
        if letter == '!' {
            return told;
        }
        let packet = next(&mut socket, &mut reader).await;
        let packet = packet.unwrap_or_else(|| panic!("no {letter} behind {}", letters(&told)));
        assert_eq!(char::from(packet.kind), letter, "{}", letters(&told));
        told.push(packet);
        socket.write_all(&reply).await.unwrap();
    }
    while let Some(packet) = next(&mut socket, &mut reader).await {
        told.push(packet);
    }
    told
}

/// The next packet without macros. None if the connection is closed.
async fn next(socket: &mut impl Socket, reader: &mut PacketReader) -> Option<Packet> {
    loop {
        match reader.next().unwrap() {
            Some(packet) if packet.kind == b'D' => {}
            Some(packet) => return Some(packet),
            None => {
                let mut bytes = BytesMut::new();
                match socket.read_buf(&mut bytes).await {
                    Ok(1..) => reader.push(&bytes),
                    _ => return None,
                }
            }
        }
    }
}

fn world() -> World {
    World::new("From: a\r\nSubject: b\r\n", "body\r\n")
}

async fn ask(
    connection: &mut MilterConnection,
    world: &World,
    (stage, recipient): (HookStage, usize),
) -> Result<Answer, Failure> {
    connection.ask(&world.asked(stage, recipient)).await
}

#[tokio::test]
async fn a_whole_session_over_each_kind_of_socket() {
    let mut script = script(0, "CHMRRTLLNB");
    let end: [&[u8]; 3] = [b"hA\0b\0", b"p", b"c"];
    script.push(('E', end.map(framed).concat()));
    script.push(('M', framed(b"y550 5.7.1 no\0")));
    script.push(('A', Vec::new()));
    script.push(('M', framed(b"c")));
    let unix = Scripted::unix(script.clone());
    for filter in [Scripted::tcp(vec![script]).await, unix] {
        let (mut connection, mut world) = (filter.connect().await, world());
        for step in &ALL[..6] {
            let answer = ask(&mut connection, &world, *step).await;
            assert_eq!(answer, Ok(Answer::ACCEPT), "{step:?}");
        }
        let answer = ask(&mut connection, &world, (Data, 0)).await.unwrap();
        let field = NewField::exact(b"A", b" b").unwrap();
        assert_eq!(answer.changes, [Change::Header(Edit::AtEnd(field))]);
        assert_eq!(answer.vote, Vote::Accept);
        world.client.transaction = 2;
        let answer = ask(&mut connection, &world, (Mail, 0)).await.unwrap();
        assert!(matches!(answer.vote, Vote::Refuse(reply) if reply.text() == "no"));
        world.client.transaction = 3;
        let answer = ask(&mut connection, &world, (Mail, 0)).await;
        assert_eq!(answer, Ok(Answer::ACCEPT));
        drop(connection);
        assert_eq!(filter.letters().await, ["OCHMRRTLLNBEMAMAQ"]);
    }
}

#[tokio::test]
async fn an_accepted_connection_has_no_more_questions() {
    let mut script = script(0, "");
    script.push(('C', framed(b"a")));
    script.push(('!', Vec::new()));
    let filter = Scripted::tcp(vec![script]).await;
    let (mut connection, world) = (filter.connect().await, world());
    ask(&mut connection, &world, (Connect, 0)).await.unwrap();
    // The filter is gone, and is not missed.
    assert_eq!(filter.letters().await, ["OC"]);
    for step in ALL {
        let answer = ask(&mut connection, &world, step).await;
        assert_eq!(answer, Ok(Answer::ACCEPT));
    }
    drop(connection);
}

/// A body that is too large for memory goes from its file to the filter piece by piece.
#[tokio::test]
async fn a_large_body_goes_in_pieces() {
    let mut body: Vec<u8> = Vec::new();
    for number in 0..60_000 {
        body.extend_from_slice(
            format!("line {number} of a long text, with more words\r\n").as_bytes(),
        );
    }
    let text = [b"A: b\r\n\r\n".as_slice(), &body].concat();
    let store = Store::memory();
    let text = store.new_text(&NewText::Inline(Bytes::from(text))).await;
    let mut world = world();
    let transaction = world.draft.transaction();
    world.draft = Draft::open(&transaction, text.unwrap(), 1000)
        .await
        .unwrap();
    for (protocol, size) in [(0, 65535), (0x1000_0000, 256 * 1024)] {
        let pieces = body.len().div_ceil(size);
        let script = script(protocol, &format!("CHMRRTLN{}E", "B".repeat(pieces)));
        let filter = Scripted::tcp(vec![script]).await;
        let mut connection = filter.connect().await;
        let answer = ask(&mut connection, &world, (Data, 0)).await;
        assert_eq!(answer, Ok(Answer::ACCEPT));
        drop(connection);
        let told = filter.told().await;
        let sent = told[0].iter().filter(|packet| packet.kind == b'B');
        let sent: Vec<&[u8]> = sent.map(|packet| packet.data.as_ref()).collect();
        assert!(sent.iter().all(|piece| piece.len() <= size));
        assert_eq!(sent.concat(), body);
    }
}

#[tokio::test]
async fn a_filter_that_is_not_there() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let closed = at(listener.local_addr().unwrap());
    drop(listener);
    let missing = milter(MilterSocket::Unix(Path::new("/no/such/socket").into()));
    let long = milter(MilterSocket::Unix(Path::new(&"x".repeat(200)).into()));
    for (milter, text) in [
        (closed, "the filter at [127.0.0.1]:"),
        (missing, "the filter at /no/such/socket can't be reached"),
        (long, "can't be reached"),
    ] {
        let failure = MilterConnection::connect(&milter, BODY_MAX).await;
        let failure = failure.unwrap_err();
        assert!(matches!(failure, Failure::Unavailable(_)));
        assert!(failure.to_string().contains(text), "{failure}");
    }
}

#[tokio::test]
async fn a_filter_that_does_not_agree() {
    for (script, text) in [
        (vec![('O', framed(b"r"))], "answers the negotiation"),
        (vec![('O', options(1, 0, 0, b""))], "speaks version 1"),
        (vec![('O', options(6, 0x200, 0, b""))], "not offered"),
        (
            vec![('O', b"HTTP/1.1 400 Bad".to_vec())],
            "1213486160 bytes",
        ),
        (vec![('O', vec![0xff; 4])], "4294967295 bytes"),
        (vec![('!', Vec::new())], "the filter"),
        (
            vec![('O', vec![0, 0, 0]), ('!', Vec::new())],
            "the filter closed the connection",
        ),
    ] {
        let filter = Scripted::tcp(vec![script]).await;
        let failure = MilterConnection::connect(&filter.milter, BODY_MAX).await;
        let failure = failure.unwrap_err();
        assert_ne!(failure, Failure::Timeout);
        assert!(failure.to_string().contains(text), "{failure}");
    }
}

#[tokio::test]
async fn a_filter_that_goes_away_or_makes_no_sense() {
    let closes = || ('!', Vec::new());
    for (replies, end, text) in [
        (
            "CHMR",
            vec![('R', Vec::new()), closes()],
            "the filter closed",
        ),
        (
            "CHMRR",
            vec![('T', b"\0\0\0\x05h".to_vec()), closes()],
            "the filter closed",
        ),
        (
            "CHMRRTLLN",
            vec![('B', framed(b"q"))],
            "replies with \"q\" to \"B\"",
        ),
        (
            "CHMRRTLLNB",
            vec![('E', framed(&[b'b'; BODY_MAX + 2]))],
            "a body of more than 100",
        ),
        ("CHMRRTLLNB", vec![('E', vec![0xff; 5])], "4294967295 bytes"),
        (
            "CHMRRTLLNB",
            vec![('E', vec![0; 5])],
            "a packet of no bytes",
        ),
        ("CHMRRTLLNB", vec![('E', framed(b"z"))], "an unknown reply"),
    ] {
        let mut script = script(0, replies);
        script.extend(end);
        let filter = Scripted::tcp(vec![script]).await;
        let (mut connection, world) = (filter.connect().await, world());
        let failure = ask(&mut connection, &world, (Data, 0)).await.unwrap_err();
        assert!(failure.to_string().contains(text), "{failure}");
        // The failure is remembered, and the connection is closed.
        filter.told().await;
        let again = ask(&mut connection, &world, (Mail, 0)).await;
        assert_eq!(again, Err(failure));
        drop(connection);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_between_questions_is_made_anew() {
    let mut first = script(0, "CHMR");
    first.push(('!', Vec::new()));
    let second = script(0, "CHMRR");
    let filter = Scripted::tcp(vec![first, second]).await;
    let (mut connection, world) = (filter.connect().await, world());
    for step in &ALL[..5] {
        ask(&mut connection, &world, *step).await.unwrap();
    }
    closed_by_peer(&mut connection).await;
    let answer = ask(&mut connection, &world, (Rcpt, 2)).await;
    assert_eq!(answer, Ok(Answer::ACCEPT));
    drop(connection);
    assert_eq!(filter.letters().await, ["OCHMR", "OCHMRRAQ"]);
}

/// A session that asks again after a failure tells another connection all that it must know.
#[tokio::test]
async fn after_a_failure_and_for_another_client_the_conversation_begins_anew() {
    let mut first = script(0, "CH");
    first.push(('M', framed(b"z")));
    let others = [script(0, "CHMR"), script(0, "C")];
    let filter = Scripted::tcp([vec![first], others.to_vec()].concat()).await;
    let text = "hostname = \"mail.test\"\npostmaster.account = \"a\"\n\
                [listeners.a]\nips = [\"127.0.0.1\"]\nsmtp = {}\n";
    let statics = Static::parse(text, "postrider.conf").unwrap();
    let mut client = MilterClient::new(&filter.milter, &statics);
    let world = world();
    // Nobody knows yet.
    assert!(client.may_want_rejected());
    client.ask(&world.asked(Connect, 0)).await.unwrap();
    client.ask(&world.asked(Ehlo, 0)).await.unwrap();
    assert!(!client.may_want_rejected());
    client.ask(&world.asked(Mail, 0)).await.unwrap_err();
    let answer = client.ask(&world.asked(Rcpt, 1)).await;
    assert_eq!(answer, Ok(Answer::ACCEPT));
    client.restart();
    client.ask(&world.asked(Connect, 0)).await.unwrap();
    drop(client);
    assert_eq!(filter.letters().await, ["OCHM", "OCHMRAQ", "OCQ"]);
}

#[tokio::test]
async fn a_connection_that_can_not_be_made_anew_is_a_failure() {
    let mut first = script(0, "C");
    first.push(('!', Vec::new()));
    let filter = Scripted::tcp(vec![first]).await;
    let (mut connection, world) = (filter.connect().await, world());
    ask(&mut connection, &world, (Connect, 0)).await.unwrap();
    // The task ends, and its listener with it.
    assert_eq!(filter.letters().await, ["OC"]);
    let failure = ask(&mut connection, &world, (Ehlo, 0)).await.unwrap_err();
    assert!(matches!(failure, Failure::Unavailable(_)));
    assert!(
        failure.to_string().contains("can't be reached"),
        "{failure}"
    );
}

/// Waits until the connection is closed by the filter.
async fn closed_by_peer(connection: &mut MilterConnection) {
    let socket = connection.socket.as_mut().unwrap();
    assert_eq!(socket.read_buf(&mut BytesMut::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn refused_recipients_are_told_of() {
    let reply = Reply::fixed(
        ReplyCode::MAILBOX_UNAVAILABLE,
        Some(EnhancedCode::UNKNOWN_MAILBOX),
        "no",
    );
    for (protocol, letters, told) in [(0, "", "OQ"), (0x800, "CHMR", "OCHMRAQ")] {
        let filter = Scripted::tcp(vec![script(protocol, letters)]).await;
        let (mut connection, world) = (filter.connect().await, world());
        let asked = world.asked(Rcpt, 1);
        connection.tell_rejected(&asked, &reply).await.unwrap();
        drop(connection);
        assert_eq!(filter.letters().await, [told]);
    }
}

#[tokio::test]
async fn a_question_that_is_dropped_ends_the_conversation() {
    let mut script = script(0, "");
    script.push(('C', Vec::new()));
    let filter = Scripted::tcp(vec![script]).await;
    let (mut connection, world) = (filter.connect().await, world());
    // The question waits for a reply when it is dropped.
    let question = ask(&mut connection, &world, (Connect, 0));
    assert!(question.now_or_never().is_none());
    let failure = ask(&mut connection, &world, (Ehlo, 0)).await.unwrap_err();
    assert!(failure.to_string().contains("broken off"), "{failure}");
    filter.told().await;
}
