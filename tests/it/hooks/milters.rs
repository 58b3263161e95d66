//! A milter with a script, from the first connection of a client to its end.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{client, letter, world};
use crate::support::patience::patiently;

/// The bit by which a milter wants to be told of refused recipients.
const WANTS_REJECTED: u32 = 0x800;

/// A milter that accepts everything. It tells each packet that it gets: the letter of the command
/// and its data, with `|` for NUL. The end of a connection is an empty text.
struct Milter {
    conf: String,
    told: mpsc::UnboundedReceiver<String>,
}

impl Milter {
    async fn start(protocol: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, protocol, sender.clone()));
            }
        });
        Self {
            conf: format!("[milters.script]\nsocket = \"inet:{address}\"\n"),
            told,
        }
    }

    /// The packets of one connection to its end.
    async fn connection(&mut self) -> Vec<String> {
        let mut packets = Vec::new();
        loop {
            let told = patiently("the end of a connection", self.told.recv()).await;
            match told.unwrap() {
                end if end.is_empty() => return packets,
                packet => packets.push(packet),
            }
        }
    }
}

async fn serve(mut stream: TcpStream, protocol: u32, sender: mpsc::UnboundedSender<String>) {
    while let Ok(length) = stream.read_u32().await {
        let mut packet = vec![0; length as usize];
        stream.read_exact(&mut packet).await.unwrap();
        let reply = match packet[0] {
            b'O' => {
                let numbers = [6, 0x1ff, protocol].map(u32::to_be_bytes);
                [b"O".as_slice(), numbers.as_flattened()].concat()
            }
            b'D' | b'A' | b'Q' => Vec::new(),
            _ => b"c".to_vec(),
        };
        let text = String::from_utf8_lossy(&packet).replace('\0', "|");
        sender.send(text).unwrap();
        if !reply.is_empty() {
            stream.write_u32(reply.len() as u32).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    }
    sender.send(String::new()).unwrap();
}

/// The letters of the commands, without macros.
fn letters(packets: &[String]) -> String {
    let letters = packets.iter().filter_map(|packet| packet.chars().next());
    letters.filter(|letter| *letter != 'D').collect()
}

/// The value of a macro before the nth command with this letter, from 0.
fn value(packets: &[String], (letter, nth): (char, usize), name: &str) -> Option<String> {
    let start = format!("D{letter}");
    let values = packets.iter().filter(|packet| packet.starts_with(&start));
    let values = values.clone().nth(nth)?.get(2..)?;
    let mut words = values.split('|');
    while let (Some(known), Some(value)) = (words.next(), words.next()) {
        if known == name {
            return Some(value.to_owned());
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_milter_hears_of_each_step_up_to_the_end() {
    for (protocol, expected) in [
        (WANTS_REJECTED, "OCHHMRRTLLLNBEMRRAMRTLLLNBEQ"),
        (0, "OCHHMRTLLLNBEMRAMRTLLLNBEQ"),
    ] {
        let mut milter = Milter::start(protocol).await;
        let world = world(milter.conf.clone()).await;
        let mut client = client(&world).await.starttls().await;
        client.expect("EHLO secure.test", "250").await;
        client.expect("MAIL FROM:<a@remote.test>", "250").await;
        client
            .expect("RCPT TO:<nobody@example.org>", "550 5.1.1")
            .await;
        client.expect("RCPT TO:<app@example.org>", "250").await;
        client.expect("DATA", "354").await;
        let reply = client.command(&format!("{}\r\n.", letter("one"))).await;
        assert!(reply.starts_with("250"), "{reply}");
        // A message that ends without its text.
        client.expect("MAIL FROM:<b@remote.test>", "250").await;
        client.expect("RCPT TO:<app@example.org>", "250").await;
        client
            .expect("RCPT TO:<nobody@example.org>", "550 5.1.1")
            .await;
        client.expect("RSET", "250").await;
        let reply = client
            .submit("c@remote.test", &["app@example.org"], &letter("two"))
            .await;
        assert!(reply.starts_with("250"), "{reply}");
        client.expect("QUIT", "221").await;
        let told = milter.connection().await;
        assert_eq!(letters(&told), expected, "{told:#?}");

        // It hears of TLS after STARTTLS, and not before.
        let place = |start: &str| told.iter().position(|it| it.starts_with(start)).unwrap();
        assert!(place("DH") > place("Hclient.test"));
        let tls = |name| value(&told, ('H', 0), name);
        assert_eq!(tls("{tls_version}").as_deref(), Some("TLSv1.3"));
        assert!(tls("{cipher}").is_some_and(|cipher| cipher.starts_with("TLS_")));
        assert!(tls("{cipher_bits}").is_some());
        let hello: Vec<_> = told.iter().filter(|it| it.starts_with('H')).collect();
        assert_eq!(hello, ["Hclient.test|", "Hsecure.test|"]);
        if protocol == WANTS_REJECTED {
            let recipients: Vec<_> = told.iter().filter(|it| it.starts_with('R')).collect();
            assert_eq!(recipients[0], "R<nobody@example.org>|");
            let of_refused = |name| value(&told, ('R', 0), name);
            assert_eq!(of_refused("{rcpt_mailer}").as_deref(), Some("error"));
            assert_eq!(of_refused("{rcpt_host}").as_deref(), Some("5.1.1"));
            let of_good = |name| value(&told, ('R', 1), name);
            assert_eq!(of_good("{rcpt_mailer}").as_deref(), Some("smtp"));
            assert_eq!(of_good("{rcpt_addr}").as_deref(), Some("app@example.org"));
        }
        world.server.stop().await;
    }
}

/// A client that goes away ends the conversation, too. So does the server's own end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_milter_hears_of_the_end_of_a_client_that_goes_away() {
    let mut milter = Milter::start(0).await;
    let world = world(milter.conf.clone()).await;
    let mut gone = client(&world).await;
    gone.expect("MAIL FROM:<a@remote.test>", "250").await;
    drop(gone);
    let told = milter.connection().await;
    assert_eq!(letters(&told), "OCHMAQ");
    let mut idle = client(&world).await;
    idle.expect("NOOP", "250").await;
    world.server.stop().await;
    let told = milter.connection().await;
    assert_eq!(letters(&told), "OCHQ");
}

/// A milter with a condition about recipients hears late of what came before, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_milter_that_is_asked_late_hears_what_it_missed() {
    let mut milter = Milter::start(0).await;
    let conf = format!("{}sender_domains = [\"late.test\"]\n", milter.conf);
    let world = world(conf).await;
    let mut client = client(&world).await;
    for (from, times) in [("a@other.test", 1), ("b@late.test", 2)] {
        for _ in 0..times {
            let reply = client
                .submit(
                    from,
                    &["app@example.org", "info@example.org"],
                    &letter(from),
                )
                .await;
            assert!(reply.starts_with("250"), "{reply}");
        }
    }
    client.expect("QUIT", "221").await;
    let told = milter.connection().await;
    assert_eq!(letters(&told), "OCHMRRTLLLNBEMRRTLLLNBEQ");
    world.server.stop().await;
}
