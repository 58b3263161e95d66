//! Moves the bytes of a session between a socket and [`Session`], and its questions to a [`Handler`].

use std::{io, sync::Arc};

use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::trace;

use super::{
    handler::{Client, Handler, TlsInfo},
    session::{Question, Session, SessionConfig, Step},
};

/// Memory for a read while commands are expected: an idle connection holds no more than this.
const READ_COMMANDS: usize = 1024;
/// ... after a read that filled it, since the client pipelines.
const READ_PIPELINE: usize = 16 * 1024;
/// ... while a text comes.
const READ_TEXT: usize = 64 * 1024;

/// Serves one connection to its end.
///
/// `tls` is used for STARTTLS, or from the start when `implicit_tls`. When `shutdown` becomes true, the session ends with 421
/// as soon as it waits for a command.
///
/// # Errors
/// If the connection breaks or TLS fails. What was answered before is as valid as ever.
pub async fn serve<H: Handler>(
    stream: TcpStream,
    config: Arc<SessionConfig>,
    tls: Option<Arc<ServerConfig>>,
    implicit_tls: bool,
    mut handler: H,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut client = Client {
        remote: stream.peer_addr()?,
        local: stream.local_addr()?,
        helo: None,
        esmtp: false,
        tls: None,
        login: None,
    };
    let timeout = config.command_timeout;
    let mut session = Session::new(config, implicit_tls);
    let acceptor = tls.map(TlsAcceptor::from);
    let mut stream = stream;
    if !implicit_tls {
        let stop = shutdown.clone();
        match converse(&mut stream, &mut session, &mut handler, &mut client, stop).await? {
            End::Closed => return stream.shutdown().await,
            End::StartTls => {}
        }
    }
    // Boxed, so that a connection without TLS has no room for it.
    Box::pin(async move {
        let acceptor = acceptor.ok_or_else(|| io::Error::other("no certificate for TLS"))?;
        let mut stream = handshake(&acceptor, stream, timeout, &mut client).await?;
        if !implicit_tls {
            session.tls_started();
        }
        converse(
            &mut stream,
            &mut session,
            &mut handler,
            &mut client,
            shutdown,
        )
        .await?;
        stream.shutdown().await
    })
    .await
}

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    limit: std::time::Duration,
    client: &mut Client,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = timeout(limit, acceptor.accept(stream)).await??;
    let (_, connection) = stream.get_ref();
    client.tls = Some(TlsInfo {
        version: connection
            .protocol_version()
            .map(|version| format!("{version:?}"))
            .unwrap_or_default(),
        cipher: connection
            .negotiated_cipher_suite()
            .map(|suite| format!("{:?}", suite.suite()))
            .unwrap_or_default(),
        server_name: connection.server_name().map(str::to_owned),
    });
    client.helo = None;
    client.login = None;
    Ok(stream)
}

/// Why a conversation on one stream ended.
enum End {
    Closed,
    StartTls,
}

async fn converse<S, H>(
    stream: &mut S,
    session: &mut Session,
    handler: &mut H,
    client: &mut Client,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<End>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    let mut room = READ_COMMANDS;
    let ended = loop {
        match session.poll() {
            Step::Ask(question) => ask(question, session, handler, client).await,
            Step::Body(chunk) => {
                if let Err(reply) = handler.body(&chunk).await {
                    session.refuse_text(reply);
                }
            }
            Step::Forget => handler.reset(),
            Step::Read => {
                send(stream, session).await?;
                if *shutdown.borrow() && !session.in_text() {
                    session.shut_down();
                    continue;
                }
                let wanted = if session.in_text() { READ_TEXT } else { room };
                match read(stream, session, wanted, &mut shutdown).await? {
                    Read::Some(count) => {
                        room = if count >= room {
                            READ_PIPELINE
                        } else {
                            READ_COMMANDS
                        };
                    }
                    Read::TimedOut => session.timed_out(),
                    Read::Stop => {}
                    Read::Gone => break Ok(End::Closed),
                }
            }
            Step::StartTls => {
                send(stream, session).await?;
                return Ok(End::StartTls);
            }
            Step::Close => {
                break send(stream, session).await.map(|()| End::Closed);
            }
        }
    };
    handler.reset();
    ended
}

/// How a wait for input ended.
enum Read {
    Some(usize),
    TimedOut,
    /// The server stops.
    Stop,
    /// The client closed.
    Gone,
}

async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    session: &mut Session,
    wanted: usize,
    shutdown: &mut watch::Receiver<bool>,
) -> io::Result<Read> {
    let limit = session.read_timeout();
    let in_text = session.in_text();
    let input = session.input();
    if input.is_empty() && input.capacity() > wanted {
        // A connection that waits gives back what a large text needed.
        *input = BytesMut::new();
    }
    input.reserve(wanted);
    let read = tokio::select! {
        biased;
        read = timeout(limit, stream.read_buf(input)) => read,
        _ = shutdown.wait_for(|stop| *stop), if !in_text => return Ok(Read::Stop),
    };
    match read {
        Ok(Ok(0)) => Ok(Read::Gone),
        Ok(Ok(count)) => Ok(Read::Some(count)),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(Read::TimedOut),
    }
}

/// Sends what the session has to say. A client that does not read it is given up.
async fn send<S: AsyncWrite + Unpin>(stream: &mut S, session: &mut Session) -> io::Result<()> {
    let output = session.take_output();
    if output.is_empty() {
        return Ok(());
    }
    trace!(output = %String::from_utf8_lossy(&output), "sent");
    let sending = async {
        stream.write_all(&output).await?;
        stream.flush().await
    };
    timeout(session.read_timeout(), sending).await?
}

async fn ask<H: Handler>(
    question: Question,
    session: &mut Session,
    handler: &mut H,
    client: &mut Client,
) {
    if let Some((name, esmtp)) = session.helo()
        && client.helo.as_deref() != Some(name)
    {
        client.helo = Some(name.to_owned());
        client.esmtp = esmtp;
    }
    // What is large is boxed while it runs: a connection that waits has no room for it.
    let answer = match (&question, session.transaction()) {
        (Question::Greeting, _) => handler.greeting(client).await,
        (Question::Login(login), _) => Box::pin(handler.login(client, login)).await,
        (Question::Mail(mail), _) => handler.mail(client, mail).await,
        (Question::Rcpt(rcpt), Some(transaction)) => handler.rcpt(client, transaction, rcpt).await,
        (Question::Data, Some(transaction)) => handler.data(client, transaction).await,
        (Question::End, Some(transaction)) => {
            let reply = Box::pin(handler.end(client, transaction)).await;
            session.finish(&reply);
            return;
        }
        // These are only asked within a transaction.
        (Question::Rcpt(_) | Question::Data | Question::End, None) => Ok(()),
    };
    session.answer(answer);
    client.login = session.login().map(str::to_owned);
}
