//! A remote SMTP server that follows a script and prints each step.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// How a remote behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Accept,
    /// Answers 451 to each recipient this many times, then 250.
    Later(u32),
    /// Answers this code to each recipient.
    Refuse(u16),
    /// Answers this code at the end of the data.
    RefuseData(u16),
    /// Closes without an answer at the end of the data, this many times per recipient. Then
    /// accepts.
    Drop(u32),
    /// Waits this long before each reply.
    Slow(Duration),
    Garbage,
    /// Accepts, and offers STARTTLS.
    Tls,
    /// Offers STARTTLS, agrees to it, and then sends bytes that are not TLS.
    BrokenTls,
    /// Nothing listens.
    Dead,
}

pub(super) struct Remote {
    name: String,
    script: Script,
    save: Option<PathBuf>,
    tls: Option<TlsAcceptor>,
    /// How often each recipient was named.
    met: Mutex<HashMap<String, u32>>,
    accepted: AtomicU64,
}

/// The limit on a message.
const TEXT_MAX: usize = 64 << 20;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
type Wire = BufReader<Box<dyn Stream>>;

/// What follows the answer to a command.
enum After {
    Go,
    Close,
    StartTls,
}

#[derive(Default)]
struct Transaction {
    reverse_path: String,
    recipients: Vec<String>,
}

impl Remote {
    pub(super) fn new(domain: &str, script: Script, save: Option<PathBuf>) -> Result<Self> {
        let name = format!("mx.{domain}");
        let tls = (script == Script::Tls)
            .then(|| acceptor(&name))
            .transpose()?;
        Ok(Self {
            name,
            script,
            save,
            tls,
            met: Mutex::default(),
            accepted: AtomicU64::new(0),
        })
    }

    pub(super) async fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        self.say(&format!("connection from {peer}"));
        let _ = stream.set_nodelay(true);
        match self.session(Box::new(stream)).await {
            Ok(()) => {}
            Err(error) => self.say(&format!("connection lost: {error}")),
        }
    }

    fn say(&self, what: &str) {
        println!("{}: {what}", self.name);
    }

    async fn session(&self, stream: Box<dyn Stream>) -> io::Result<()> {
        let mut wire = BufReader::new(stream);
        if self.script == Script::Garbage {
            return wire.write_all(b"\x00\xff what is this\n").await;
        }
        self.reply(&mut wire, &format!("220 {} ESMTP", self.name))
            .await?;
        let mut encrypted = false;
        let mut transaction = Transaction::default();
        let mut line = String::new();
        loop {
            line.clear();
            if wire.read_line(&mut line).await? == 0 {
                self.say("the client closed");
                return Ok(());
            }
            let command = line.trim_end();
            match self
                .command(&mut wire, command, encrypted, &mut transaction)
                .await?
            {
                After::Go => {}
                After::Close => return Ok(()),
                After::StartTls => {
                    // The reader is dropped with all bytes that it read ahead in clear (RFC 3207
                    // §4.2).
                    let mut stream = wire.into_inner();
                    let Some(tls) = &self.tls else {
                        return stream.write_all(b"this is not TLS\r\n").await;
                    };
                    wire = BufReader::new(Box::new(tls.accept(stream).await?));
                    encrypted = true;
                    self.say("TLS");
                    transaction = Transaction::default();
                }
            }
        }
    }

    async fn command(
        &self,
        wire: &mut Wire,
        command: &str,
        encrypted: bool,
        transaction: &mut Transaction,
    ) -> io::Result<After> {
        let verb = command.get(..4).unwrap_or(command).to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => {
                let tls = !encrypted && matches!(self.script, Script::Tls | Script::BrokenTls);
                let tls = if tls { "250-STARTTLS\r\n" } else { "" };
                format!(
                    "250-{}\r\n{tls}250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE {TEXT_MAX}",
                    self.name
                )
            }
            "HELO" => format!("250 {}", self.name),
            "MAIL" => {
                *transaction = Transaction {
                    reverse_path: path(command),
                    recipients: Vec::new(),
                };
                "250 2.1.0 Ok".to_owned()
            }
            "RCPT" => self.rcpt(path(command), transaction),
            "DATA" if transaction.recipients.is_empty() => "554 5.5.1 No recipients".to_owned(),
            "DATA" => {
                self.reply(wire, "354 Go on").await?;
                return self.data(wire, std::mem::take(transaction)).await;
            }
            "RSET" => {
                *transaction = Transaction::default();
                "250 2.0.0 Ok".to_owned()
            }
            "NOOP" => "250 2.0.0 Ok".to_owned(),
            "STAR" => {
                self.reply(wire, "220 2.0.0 Go on").await?;
                return Ok(After::StartTls);
            }
            "QUIT" => {
                self.reply(wire, "221 2.0.0 Bye").await?;
                return Ok(After::Close);
            }
            _ => "502 5.5.1 Not known".to_owned(),
        };
        self.reply(wire, &reply).await?;
        Ok(After::Go)
    }

    fn rcpt(&self, recipient: String, transaction: &mut Transaction) -> String {
        let refusal = match self.script {
            Script::Refuse(code) => Some(format!("{code} {}.1.1 No such user here", code / 100)),
            Script::Later(times) if self.meet(&recipient) <= times => {
                Some("451 4.7.1 Come back later".to_owned())
            }
            _ => None,
        };
        let reply = refusal.unwrap_or_else(|| {
            transaction.recipients.push(recipient.clone());
            "250 2.1.5 Ok".to_owned()
        });
        self.say(&format!("RCPT {recipient}: {reply}"));
        reply
    }

    async fn data(&self, wire: &mut Wire, transaction: Transaction) -> io::Result<After> {
        let Some(text) = read_text(wire).await? else {
            self.reply(wire, "552 5.3.4 Too long").await?;
            return Ok(After::Close);
        };
        let first = transaction.recipients.first().map_or("", String::as_str);
        let reply = match self.script {
            Script::RefuseData(code) => format!("{code} {}.6.0 Not wanted", code / 100),
            Script::Drop(times) if self.meet(first) <= times => {
                self.say(&format!("{} bytes for {first}: dropped", text.len()));
                return Ok(After::Close);
            }
            _ => {
                let number = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
                self.save(number, &transaction, &text)?;
                format!("250 2.0.0 Taken as {number}")
            }
        };
        self.say(&format!(
            "{} bytes from <{}> for {}: {reply}",
            text.len(),
            transaction.reverse_path,
            transaction.recipients.join(", ")
        ));
        self.reply(wire, &reply).await?;
        Ok(After::Go)
    }

    fn save(&self, number: u64, transaction: &Transaction, text: &[u8]) -> io::Result<()> {
        let Some(folder) = &self.save else {
            return Ok(());
        };
        let mut file = format!(
            "X-Lab-From: <{}>\r\nX-Lab-To: {}\r\n",
            transaction.reverse_path,
            transaction.recipients.join(", ")
        )
        .into_bytes();
        file.extend_from_slice(text);
        std::fs::write(folder.join(format!("{}-{number}.eml", self.name)), file)
    }

    /// Counts an attempt for this recipient, and returns the count.
    fn meet(&self, recipient: &str) -> u32 {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let times = met.entry(recipient.to_lowercase()).or_default();
        *times += 1;
        *times
    }

    async fn reply(&self, wire: &mut Wire, reply: &str) -> io::Result<()> {
        if let Script::Slow(time) = self.script {
            tokio::time::sleep(time).await;
        }
        wire.write_all(format!("{reply}\r\n").as_bytes()).await?;
        wire.flush().await
    }
}

/// The text between the angle brackets.
fn path(command: &str) -> String {
    let inside = command
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or_else(String::new, |(path, _)| path.to_owned())
}

/// Reads up to the line with only a dot, and removes the dots that the client added (RFC 5321
/// §4.5.2). None if the text is too long.
async fn read_text(wire: &mut Wire) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if wire.read_until(b'\n', &mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.strip_prefix(b".") {
            Some(b"\r\n") => return Ok(Some(text)),
            Some(unstuffed) => text.extend_from_slice(unstuffed),
            None => text.extend_from_slice(&line),
        }
        if text.len() > TEXT_MAX {
            return Ok(None);
        }
    }
}

fn acceptor(name: &str) -> Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()])
        .context("failed to make a certificate")?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const MESSAGE: &str = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.test> NOTIFY=NEVER\r\nDATA\r\n";

    /// Sends all input at once, and returns the codes until the remote closes.
    async fn talk(remote: &Remote, input: &str) -> String {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut read, mut write) = tokio::io::split(near);
        write.write_all(input.as_bytes()).await.unwrap();
        write.shutdown().await.unwrap();
        let _ = remote.session(Box::new(far)).await;
        let mut output = String::new();
        read.read_to_string(&mut output).await.unwrap();
        let codes = output.lines().filter(|line| line.as_bytes()[3] == b' ');
        codes.map(|line| &line[..3]).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn scripts() {
        let text = format!("{MESSAGE}Subject: x\r\n\r\n..\r\n.\r\nQUIT\r\n");
        let new = |script| Remote::new("d.test", script, None).unwrap();
        let accepts = "220 250 250 354 250 221";
        assert_eq!(talk(&new(Script::Accept), &text).await, accepts);
        let data_refused = "220 250 250 354 452 221";
        assert_eq!(
            talk(&new(Script::RefuseData(452)), &text).await,
            data_refused
        );

        let drop = new(Script::Drop(1));
        assert_eq!(talk(&drop, &text).await, "220 250 250 354");
        assert_eq!(talk(&drop, &text).await, accepts);

        let later = new(Script::Later(2));
        for codes in ["220 250 451 554", "220 250 451 554", "220 250 250 354"] {
            assert_eq!(talk(&later, MESSAGE).await, codes);
        }
    }

    #[tokio::test]
    async fn accepted_text_is_saved_unstuffed() {
        let dir = tempfile::tempdir().unwrap();
        let remote = Remote::new("d.test", Script::Accept, Some(dir.path().into())).unwrap();
        talk(
            &remote,
            &format!("{MESSAGE}Subject: x\r\n\r\n..dot\r\n.\r\n"),
        )
        .await;
        let saved = std::fs::read_to_string(dir.path().join("mx.d.test-1.eml")).unwrap();
        assert_eq!(
            saved,
            "X-Lab-From: <a@b.example>\r\nX-Lab-To: c@d.test\r\nSubject: x\r\n\r\n.dot\r\n"
        );
    }
}
