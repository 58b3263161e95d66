//! The webapi load driver: calls of Send over kept HTTP/1.1 connections.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use super::{Common, Patience, Supply, Tally, drive, filler, wait_for_start, within};
use crate::http;

#[derive(Args, Clone)]
pub(crate) struct WebapiArgs {
    #[command(flatten)]
    common: Common,
    /// The base, such as http://127.0.0.1:1080/webapi/v0/
    #[arg(long)]
    url: String,
    /// The login: an address of the account
    #[arg(long)]
    login: String,
    #[arg(long)]
    password: String,
    /// Calls at the same time, each on its own connection
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// The From address; without it the server takes the login
    #[arg(long)]
    from: Option<String>,
    /// The recipient
    #[arg(long, default_value = "sink@sink.example")]
    to: String,
}

struct Job {
    args: WebapiArgs,
    /// host:port
    authority: String,
    /// Method line and header fields up to the value of Content-Length.
    head: String,
    /// The form before the number, and the form after it.
    form: (String, String),
}

pub(crate) fn run(args: WebapiArgs) -> Result<()> {
    let Some((authority, path)) = args
        .url
        .strip_prefix("http://")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    else {
        bail!("--url must begin with http://");
    };
    let authority = if authority.contains(':') {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let path = path.trim_end_matches('/');
    let token = BASE64.encode(format!("{}:{}", args.login, args.password));
    let head = format!(
        "POST /{path}/Send HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Basic {token}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: "
    );
    let text = String::from_utf8_lossy(&filler(args.common.size)).replace("\r\n", "\n");
    let mut request = json!({
        "To": [{ "Address": args.to }],
        "Subject": "load NUMBER",
        "Text": text,
    });
    if let (Some(from), Some(fields)) = (&args.from, request.as_object_mut()) {
        fields.insert("From".to_owned(), json!([{ "Address": from }]));
    }
    let form = format!("request={}", urlencode(&request.to_string()));
    let Some((before, after)) = form.split_once("NUMBER") else {
        bail!("the form lost its number");
    };
    let job = Arc::new(Job {
        form: (before.to_owned(), after.to_owned()),
        authority,
        head,
        args,
    });
    let common = job.args.common.clone();
    drive(
        &common,
        job.args.concurrency.max(1),
        move |supply, barrier| session(Arc::clone(&job), supply, barrier),
    )
}

async fn session(job: Arc<Job>, supply: Arc<Supply>, barrier: Arc<Barrier>) -> Tally {
    let mut tally = Tally::new(job.args.common.accepted.is_some());
    let mut first = Some(connect(&job).await);
    wait_for_start(&barrier).await;
    let started = Instant::now();
    let mut next = supply.take(started);
    let mut patience = Patience::new(job.args.common.patience);
    while next.is_some() {
        let opened = match first.take() {
            Some(opened) => opened,
            None => connect(&job).await,
        };
        match opened {
            Ok(mut connection) => {
                patience.renew();
                let sent = send_all(
                    &job,
                    &supply,
                    started,
                    &mut connection,
                    &mut next,
                    &mut tally,
                );
                if let Err(error) = sent.await {
                    tally.fail(format!("connection lost: {error}"));
                }
            }
            Err(error) => {
                if patience.ends().await {
                    tally.fail(format!("no connection: {error}"));
                    break;
                }
            }
        }
    }
    tally
}

async fn connect(job: &Job) -> io::Result<http::Connection<TcpStream>> {
    let tcp = TcpStream::connect(&job.authority).await?;
    tcp.set_nodelay(true)?;
    Ok(http::Connection::new(tcp))
}

async fn send_all(
    job: &Job,
    supply: &Supply,
    started: Instant,
    connection: &mut http::Connection<TcpStream>,
    next: &mut Option<u64>,
    tally: &mut Tally,
) -> io::Result<()> {
    let mut request = String::new();
    while let Some(number) = *next {
        let (before, after) = &job.form;
        let digits = format!("{number:012}");
        let length = before.len() + digits.len() + after.len();
        request.clear();
        let _ = write!(
            request,
            "{}{length}\r\n\r\n{before}{digits}{after}",
            job.head
        );
        let begun = Instant::now();
        // A number is never sent twice. If the connection breaks, the fate of the message is
        // unknown.
        *next = supply.take(started);
        connection.write(request.as_bytes()).await?;
        let answer = within(job.args.common.timeout, connection.read_message()).await?;
        let Some(answer) = answer else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if answer.first_line.split(' ').nth(1) == Some("200") {
            tally.accept(number, begun.elapsed());
        } else {
            let body = String::from_utf8_lossy(&answer.body);
            tally.fail(format!("{}: {}", answer.first_line, body.trim()));
        }
        if !answer.keep_alive {
            return Ok(());
        }
    }
    Ok(())
}

/// Percent-encodes for a form (URL Standard, application/x-www-form-urlencoded).
fn urlencode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3 / 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(urlencode("a b&c=\"\u{e9}\n"), "a+b%26c%3D%22%C3%A9%0A");
    }
}
