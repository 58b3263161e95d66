//! `kill -9` under load: every message that was answered with 250 is delivered.
//!
//! `POSTRIDER_CRASH_ROUNDS` and `POSTRIDER_CRASH_MESSAGES` set the size of the test.

use std::{collections::HashSet, net::SocketAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpStream, tcp::OwnedReadHalf},
};

use crate::support::{
    PASSWORD, Setup, base64, message,
    program::{Program, set_password},
    remote::Remote,
};

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// One session over a plain connection. It sends until the server dies, and returns the subjects of
/// the messages that were answered with 250.
pub(crate) async fn load(
    address: SocketAddr,
    round: usize,
    session: usize,
    count: usize,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    // The connection dies with the server, at any point. The message in progress then was not
    // acknowledged.
    let _ = send_all(address, round, session, count, &mut acknowledged).await;
    acknowledged
}

async fn send_all(
    address: SocketAddr,
    round: usize,
    session: usize,
    count: usize,
    acknowledged: &mut Vec<String>,
) -> std::io::Result<()> {
    let (read, mut write) = TcpStream::connect(address).await?.into_split();
    let mut lines = BufReader::new(read).lines();
    let secret = base64(format!("\0app@example.org\0{PASSWORD}").as_bytes());
    reply(&mut lines).await?;
    for command in [
        "EHLO client.test".to_owned(),
        format!("AUTH PLAIN {secret}"),
    ] {
        write.write_all(format!("{command}\r\n").as_bytes()).await?;
        reply(&mut lines).await?;
    }
    for number in 0..count {
        let subject = format!("m-{round}-{session}-{number}");
        write
            .write_all(b"MAIL FROM:<app@example.org>\r\nRCPT TO:<rcpt@remote.test>\r\nDATA\r\n")
            .await?;
        for expected in ["250", "250", "354"] {
            let reply = reply(&mut lines).await?;
            assert!(reply.starts_with(expected), "{reply}");
        }
        write
            .write_all(format!("{}\r\n.\r\n", message(&subject)).as_bytes())
            .await?;
        let reply = reply(&mut lines).await?;
        assert!(reply.starts_with("250"), "{reply}");
        acknowledged.push(subject);
    }
    Ok(())
}

/// The last line of the next reply.
async fn reply(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> std::io::Result<String> {
    loop {
        let line = lines
            .next_line()
            .await?
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_no_acknowledged_message() {
    let rounds = setting("POSTRIDER_CRASH_ROUNDS", 3);
    let messages = setting("POSTRIDER_CRASH_MESSAGES", 300);
    const SESSIONS: usize = 4;

    let remote = Remote::start(|_, _| None).await;
    let setup = Setup {
        statics: format!(
            "[listeners.crash]\nips = [\"127.0.0.1\"]\ntls.certs = [{{ cert_file = \"localserve.crt\", key_file = \"localserve.key\" }}]\n\
             submission = {{ enabled = true, port = 0, require_tls = false }}\n\
             [transports.remote.smtp]\nhost = \"127.0.0.1\"\nport = {}\nno_starttls = true\n\
             [queue]\nretry_intervals = [\"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\"]\n",
            remote.address.port()
        ),
        dynamics: "[[routes]]\ntransport = \"remote\"\n".into(),
        ..Setup::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let conf = setup.write(dir.path());
    set_password(&conf);
    let mut acknowledged = HashSet::new();
    for round in 0..rounds {
        let program = Program::start(&conf);
        let address = program.address("crash.submission").await;
        let loads: Vec<_> = (0..SESSIONS)
            .map(|session| {
                tokio::spawn(load(address, round, session, messages / rounds / SESSIONS))
            })
            .collect();
        // Kill the server when it has delivered some messages of this round, but not all.
        remote
            .wait_for(remote.received().len() + messages / rounds / 3)
            .await;
        program.kill();
        for load in loads {
            acknowledged.extend(load.await.unwrap());
        }
    }
    assert!(
        acknowledged.len() >= messages / 4,
        "only {} messages were acknowledged",
        acknowledged.len()
    );
    let _program = Program::start(&conf);
    let mut missing = acknowledged;
    let mut checked = 0;
    remote
        .wait_until("every message that was answered with 250", |received| {
            for message in received.iter().skip(checked) {
                missing.remove(subject(&message.text).unwrap_or_default());
            }
            checked = received.len();
            missing.is_empty()
        })
        .await;
}

pub(crate) fn subject(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("Subject: "))
}
