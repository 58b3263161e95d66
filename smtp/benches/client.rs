//! The cost of a message in the client: in the session alone, and with the driver over loopback.
//!
//! `cargo bench -p postrider-smtp --bench client`. A figure is for 32 messages of 4 KiB in one
//! batch.

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use postrider_smtp::{
    Address, BodyType, Host, ReversePath,
    client::{
        Connection, Envelope, Options, OutgoingMessage, Output, Remote, Security, Session,
        SessionConfig, Timeouts, TlsMode,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const MESSAGES: usize = 32;

fn text() -> Bytes {
    let line = format!("{}\r\n", "x".repeat(76));
    line.repeat(4096 / line.len()).into()
}

fn envelope() -> Envelope {
    let address = |text| Address::parse(text).expect("an address");
    Envelope {
        reverse_path: ReversePath::Mailbox(address("sender@example.org")),
        body_type: BodyType::SevenBit,
        smtputf8: false,
        require_tls: false,
        delivery: Default::default(),
        ret: None,
        envid: None,
        recipients: vec![address("recipient@example.com").into()],
    }
}

/// A ready session with a server that has these extensions.
fn session(extensions: &str) -> Session {
    let now = Instant::now();
    let config = SessionConfig {
        helo: "client.example.org".to_owned(),
        remote: "mx.example.com [192.0.2.1]".to_owned(),
        security: Security::Never,
        login: None,
        timeouts: Timeouts::default(),
        lmtp: false,
        chunking: true,
        recorder: None,
    };
    let mut session = Session::new(config, now);
    session.receive(b"220 mx\r\n", now);
    while session.poll_output().is_some() {}
    session.receive(format!("250-mx\r\n{extensions}").as_bytes(), now);
    while session.poll_output().is_some() {}
    // After a success, messages are pipelined.
    session.submit([(envelope(), 1)], now);
    for reply in ["250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 ok\r\n"] {
        while let Some(output) = session.poll_output() {
            if matches!(output, Output::Ask(_)) {
                session.answer(Some(b"x"), now);
            }
        }
        session.receive(reply.as_bytes(), now);
    }
    while session.poll_output().is_some() {}
    session
}

/// Sends one batch. Gives the number of bytes and the number of writes.
fn batch(session: &mut Session, text: &Bytes, replies: &[&[u8]]) -> (usize, usize) {
    let now = Instant::now();
    session.submit((0..MESSAGES).map(|_| (envelope(), text.len() as u64)), now);
    let mut replies = replies.iter().cycle();
    let (mut written, mut writes) = (0, 0);
    loop {
        match session.poll_output() {
            Some(Output::Send(bytes)) => {
                written += bytes.len();
                writes += 1;
            }
            Some(Output::Ask(request)) => {
                let start = usize::try_from(request.offset).unwrap_or(usize::MAX);
                let rest = text.get(start..);
                session.answer(rest.and_then(|rest| rest.get(..request.max)), now);
            }
            Some(_) => break,
            None => session.receive(replies.next().copied().unwrap_or_default(), now),
        }
    }
    black_box(session.results());
    (written, writes)
}

/// A server that accepts everything. To be cheap it only looks at the first bytes of each line.
async fn sink(listener: TcpListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        let _ = socket.write_all(b"220 mx\r\n").await;
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(length @ 1..) = socket.read(&mut buffer).await {
            let read = buffer.get(..length).unwrap_or_default();
            let mut reply = Vec::new();
            for line in read.split_inclusive(|byte| *byte == b'\n') {
                reply.extend_from_slice(match line.get(..4).unwrap_or(line) {
                    b"EHLO" => b"250-mx\r\n250 PIPELINING\r\n",
                    b"MAIL" | b"RCPT" | b".\r\n" => b"250 2.0.0 Ok\r\n",
                    b"DATA" => b"354 go\r\n",
                    _ => b"",
                });
            }
            if socket.write_all(&reply).await.is_err() {
                break;
            }
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("client");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    let text = text();
    let ok: &[u8] = b"250 2.0.0 Ok\r\n";
    let start = [ok, ok, b"354 go\r\n"].concat();
    let next = [ok, ok, ok, b"354 go\r\n"].concat();
    group.bench_function("session, DATA", |bench| {
        let mut session = session("250 PIPELINING\r\n");
        bench.iter(|| {
            let mut replies = vec![start.as_slice()];
            replies.resize(MESSAGES, &next);
            replies.push(ok);
            batch(&mut session, &text, &replies)
        });
    });
    group.bench_function("session, BDAT", |bench| {
        let mut session = session("250-CHUNKING\r\n250 PIPELINING\r\n");
        bench.iter(|| batch(&mut session, &text, &[ok]));
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let mut connection = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(sink(listener));
        let io = TcpStream::connect(address).await.expect("a connection");
        let options = Options::new(
            Host::parse("client.example.org").expect("a name"),
            TlsMode::Never,
        );
        let remote = Remote {
            name: "mx.example.com".to_owned(),
            ip: Some(address.ip()),
        };
        Connection::open(io, remote, options)
            .await
            .expect("a session")
    });
    group.bench_function("loopback, DATA", |bench| {
        bench.iter(|| {
            let outgoing = || OutgoingMessage {
                envelope: envelope(),
                source: text.clone(),
            };
            let batch = (0..MESSAGES).map(|_| outgoing()).collect();
            let results = runtime.block_on(connection.send(batch));
            assert!(
                results
                    .iter()
                    .all(|result| result.recipients.iter().all(|to| to.status.is_success()))
            );
        });
    });
    group.finish();
    criterion.final_summary();
}
