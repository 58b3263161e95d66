//! A session of a simulated mail server, over a pipe in memory.

use std::{io, net::IpAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use super::{
    certificates,
    host::{Act, HostPolicy, Stage, Tls},
    ledger::{Taken, Tried},
    net::Net,
};

/// The connection under a session, with or without TLS.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A session.
pub(super) struct Session {
    net: Net,
    host: usize,
    policy: HostPolicy,
    /// Where the client comes from.
    source: IpAddr,
    io: BufReader<Box<dyn Io>>,
    tls: bool,
    mail: Option<Mail>,
    messages: usize,
}

/// A transaction.
#[derive(Default)]
struct Mail {
    reverse_path: String,
    eight_bit: bool,
    require_tls: bool,
    recipients: Vec<String>,
    /// What came by BDAT.
    text: Vec<u8>,
}

/// Counts a connection as open.
struct Open(Net, usize);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ledger().at_host(self.1, |notes| notes.open -= 1);
    }
}

/// The end of a session.
type Ended<T> = io::Result<T>;

fn ended<T>() -> Ended<T> {
    Err(io::ErrorKind::ConnectionAborted.into())
}

impl Session {
    /// Serves a client. The end of the connection is no failure.
    pub(super) async fn serve(
        net: Net,
        host: usize,
        source: IpAddr,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) {
        let ledger = net.ledger().clone();
        let open = ledger.at_host(host, |notes| {
            notes.open += 1;
            notes.most = notes.most.max(notes.open);
            notes.open
        });
        let _open = Open(net.clone(), host);
        let policy = net.host(host).policy.clone();
        let mut session = Self {
            net,
            host,
            policy,
            source,
            io: BufReader::new(Box::new(io)),
            tls: false,
            mail: None,
            messages: 0,
        };
        let _ = session.run(open).await;
        let messages = session.messages;
        ledger.at_host(host, |notes| {
            notes.most_messages = notes.most_messages.max(messages);
        });
    }

    async fn run(&mut self, open: usize) -> Ended<()> {
        if open > self.policy.connections_max {
            let ledger = self.net.ledger();
            ledger.see("421 above a number of connections");
            ledger.at_host(self.host, |notes| notes.refused += 1);
            self.say("421 4.7.0 too many connections from your host")
                .await?;
            return Ok(());
        }
        self.stage(Stage::Greeting, "220 ready").await?;
        loop {
            let line = self.line().await?;
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" | "HELO" => self.ehlo().await?,
                "STARTTLS" => self.start_tls().await?,
                "MAIL" => self.mail(rest).await?,
                "RCPT" => self.rcpt(rest).await?,
                "DATA" => self.data().await?,
                "BDAT" => self.bdat(rest).await?,
                "RSET" => {
                    self.mail = None;
                    self.say("250 2.0.0 ok").await?;
                }
                "NOOP" => self.say("250 2.0.0 ok").await?,
                "QUIT" => return self.say("221 2.0.0 bye").await,
                _ => self.say("500 5.5.1 what").await?,
            }
        }
    }

    async fn line(&mut self) -> Ended<String> {
        let mut line = Vec::new();
        if self.io.read_until(b'\n', &mut line).await? == 0 {
            return ended();
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    async fn say(&mut self, reply: &str) -> Ended<()> {
        sleep(self.policy.pace).await;
        self.send(format!("{reply}\r\n").as_bytes()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Ended<()> {
        let io = self.io.get_mut();
        io.write_all(bytes).await?;
        io.flush().await
    }

    /// Says this, unless something else is to happen at the stage. True: it was said.
    async fn stage(&mut self, stage: Stage, reply: &str) -> Ended<bool> {
        let Some(act) = self.net.trouble(self.host, stage) else {
            self.say(reply).await?;
            return Ok(true);
        };
        self.net.ledger().see(format_args!("{stage:?}: {act:?}"));
        match act {
            Act::Say(reply) => {
                self.say(reply).await?;
                match reply.starts_with("421") || reply.starts_with("521") {
                    true => ended(),
                    false => Ok(false),
                }
            }
            Act::Drop | Act::TakeAndDrop => ended(),
            Act::Garbage => {
                self.send(b"\0\xffHTTP/1.1 400 Bad Request\r\n\r\n").await?;
                self.silence().await
            }
            Act::Endless => loop {
                self.send(&b"250-and so on\r\n".repeat(100)).await?;
            },
            Act::Silence => self.silence().await,
            Act::Late(by) => {
                sleep(by).await;
                self.say(reply).await?;
                Ok(true)
            }
            Act::Cut => {
                self.say("220 2.0.0 go").await?;
                ended()
            }
        }
    }

    /// Waits until the client hangs up.
    async fn silence<T>(&mut self) -> Ended<T> {
        let mut bytes = [0; 1024];
        while self.io.read(&mut bytes).await? > 0 {}
        ended()
    }

    async fn ehlo(&mut self) -> Ended<()> {
        let mut words = vec!["PIPELINING".to_owned(), "ENHANCEDSTATUSCODES".to_owned()];
        if let Some(size) = self.policy.size_max {
            words.push(format!("SIZE {size}"));
        }
        words.extend(self.policy.words.iter().map(|word| (*word).to_owned()));
        if !self.tls {
            words.retain(|word| word != "REQUIRETLS");
            if self.policy.tls != Tls::None {
                words.push("STARTTLS".to_owned());
            }
        }
        let words: String = words.iter().map(|word| format!("250-{word}\r\n")).collect();
        self.mail = None;
        self.stage(Stage::Ehlo, &format!("250-host\r\n{words}250 HELP"))
            .await?;
        Ok(())
    }

    async fn start_tls(&mut self) -> Ended<()> {
        let Tls::Offered(kind) = self.policy.tls else {
            return self.say("502 5.5.1 no TLS here").await;
        };
        if !self.stage(Stage::StartTls, "220 2.0.0 go").await? {
            return Ok(());
        }
        let nothing: Box<dyn Io> = Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink()));
        let io = std::mem::replace(&mut self.io, BufReader::new(nothing)).into_inner();
        let acceptor = TlsAcceptor::from(certificates::server(kind));
        let stream = acceptor.accept(io).await.inspect_err(|_| {
            self.net.ledger().see("a handshake that the client ends");
        })?;
        self.io = BufReader::new(Box::new(stream));
        self.tls = true;
        self.mail = None;
        Ok(())
    }

    async fn mail(&mut self, rest: &str) -> Ended<()> {
        let age = self.net.age();
        self.net
            .ledger()
            .at_host(self.host, |notes| notes.mails.push(age));
        self.mail = None;
        if self.net.blocks(self.host) {
            self.net.ledger().see("a block of our address");
            let reply = format!("550 5.7.1 {} is listed at bl.test", self.source);
            return self.say(&reply).await;
        }
        if !self.net.takes_another(self.host) {
            self.net.ledger().see("a reply about the rate");
            return self.say("450 4.7.28 too many messages, slow down").await;
        }
        if !self.stage(Stage::Mail, "250 2.1.0 ok").await? {
            return Ok(());
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        self.mail = Some(Mail {
            reverse_path: path(rest),
            eight_bit: words.contains(&"BODY=8BITMIME"),
            require_tls: words.contains(&"REQUIRETLS"),
            ..Mail::default()
        });
        Ok(())
    }

    async fn rcpt(&mut self, rest: &str) -> Ended<()> {
        let recipient = path(rest);
        let tried = Tried {
            age: self.net.age(),
            host: self.host,
            source: self.source,
            tls: self.tls,
        };
        let Some(mail) = &self.mail else {
            return self.say("503 5.5.1 MAIL first").await;
        };
        let count = mail.recipients.len();
        let triplet = format!("{} {} {recipient}", self.source, mail.reverse_path);
        self.net.ledger().tried(&recipient, tried);
        let ledger = self.net.ledger().clone();
        let said = if self.net.is_greylisted(self.host, &triplet) {
            ledger.see("greylisting");
            Some("450 4.2.0 greylisted, try again later")
        } else if count >= self.policy.recipients_max {
            ledger.see("452 for a later recipient");
            Some("452 4.5.3 too many recipients")
        } else {
            self.about_mailbox(&recipient)
        };
        if let Some(reply) = said {
            return self.say(reply).await;
        }
        if self.stage(Stage::Rcpt, "250 2.1.5 ok").await?
            && let Some(mail) = &mut self.mail
        {
            mail.recipients.push(recipient);
        }
        Ok(())
    }

    /// What the host says of a mailbox in the place of yes.
    fn about_mailbox(&self, recipient: &str) -> Option<&'static str> {
        match recipient.split('_').next().unwrap_or_default() {
            "ghost" => Some("550 5.1.1 no such user"),
            "full" => Some("552 5.2.2 mailbox full"),
            "later" if self.net.ledger().tried_for(recipient).len() <= 2 => {
                Some("451 4.3.0 try again later")
            }
            _ => None,
        }
    }

    async fn data(&mut self) -> Ended<()> {
        if self
            .mail
            .as_ref()
            .is_none_or(|mail| mail.recipients.is_empty())
        {
            return self.say("554 5.5.1 no valid recipients").await;
        }
        if !self.stage(Stage::Data, "354 go on").await? {
            return Ok(());
        }
        let mut text = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.io.read_until(b'\n', &mut line).await? == 0 {
                self.net.ledger().see("a text that was not sent to its end");
                return ended();
            }
            if line == b".\r\n" {
                break;
            }
            text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
        self.take(text).await
    }

    async fn bdat(&mut self, rest: &str) -> Ended<()> {
        let (length, last) = rest.split_once(' ').unwrap_or((rest, ""));
        let length: usize = length.parse().map_err(io::Error::other)?;
        let mut piece = vec![0; length];
        self.io.read_exact(&mut piece).await?;
        let known = self
            .mail
            .as_mut()
            .filter(|mail| !mail.recipients.is_empty());
        let Some(mail) = known else {
            return self.say("503 5.5.1 no valid recipients").await;
        };
        mail.text.extend(piece);
        if last != "LAST" {
            return self.say("250 2.0.0 go on").await;
        }
        self.net.ledger().see("a text by BDAT");
        let text = std::mem::take(&mut mail.text);
        self.take(text).await
    }

    /// Takes a text, or not.
    async fn take(&mut self, text: Vec<u8>) -> Ended<()> {
        self.messages += 1;
        let mail = self.mail.take().unwrap_or_default();
        if !mail.eight_bit && !text.is_ascii() {
            let about = format!("{:?} got 8-bit text without 8BITMIME", mail.recipients);
            self.net.ledger().fault(about);
        }
        if self.policy.size_max.is_some_and(|max| text.len() > max) {
            self.net.ledger().fault(format!(
                "{:?}: {} bytes, more than SIZE",
                mail.recipients,
                text.len()
            ));
        }
        let first = mail.recipients.first().cloned().unwrap_or_default();
        match first.split('_').next().unwrap_or_default() {
            "unknown" => return self.say("550 5.1.1 no such user").await,
            "spam" => return self.say("554 5.6.0 this looks like spam").await,
            _ => {}
        }
        let act = self.net.trouble(self.host, Stage::EndOfData);
        if let Some(act) = act {
            self.net
                .ledger()
                .see(format_args!("{:?}: {act:?}", Stage::EndOfData));
        }
        let told = match act {
            None => true,
            Some(Act::Late(by)) => {
                sleep(by).await;
                true
            }
            Some(Act::Say(reply)) => return self.say(reply).await,
            Some(Act::TakeAndDrop) => false,
            Some(_) => return ended(),
        };
        for recipient in &mail.recipients {
            let taken = Taken {
                host: self.host,
                tls: self.tls,
                told,
                require_tls: mail.require_tls,
                text: text.clone(),
            };
            self.net.ledger().taken(recipient, taken);
        }
        match told {
            true => self.say("250 2.0.0 taken").await,
            false => ended(),
        }
    }
}

/// The address between the angle brackets of a command.
fn path(rest: &str) -> String {
    let inside = rest.split_once('<').and_then(|(_, it)| it.split_once('>'));
    inside.map_or_else(String::new, |(path, _)| path.to_owned())
}
