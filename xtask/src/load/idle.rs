//! Idle connections: the memory that each one costs the server.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{proxy_header, stats::mebibytes};
use crate::http;
use crate::process::Processes;

#[derive(Args, Clone)]
pub(crate) struct IdleArgs {
    /// The server's address
    #[arg(long, default_value = "127.0.0.1")]
    ip: IpAddr,
    /// The server's port
    #[arg(long)]
    port: u16,
    /// How many connections to open and keep
    #[arg(long, default_value_t = 10_000)]
    connections: u64,
    /// Ask for a page over HTTP on each connection, instead of saying EHLO over SMTP
    #[arg(long)]
    http: bool,
    /// Begin each connection as a proxy does (PROXY protocol), for a client with an address of its
    /// own
    #[arg(long, conflicts_with = "http")]
    proxy: bool,
    /// Processes whose memory is measured, with all their descendants
    #[arg(long, num_args = 1.., value_delimiter = ',', required = true)]
    pid: Vec<u32>,
}

pub(crate) fn run(args: &IdleArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(hold(args))
}

async fn hold(args: &IdleArgs) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = args.connections + 50;
    ensure!(
        needed <= hard,
        "{} connections need {needed} file descriptors, and the limit is {hard}",
        args.connections
    );
    setrlimit(Resource::RLIMIT_NOFILE, needed.max(soft), hard)?;

    let server = Processes::new(args.pid.clone());
    let before = server.memory();
    let mut connections = Vec::new();
    for index in 1..=args.connections {
        let server = SocketAddr::new(args.ip, args.port);
        let connection = if args.http {
            open_http(server).await
        } else {
            let index = u32::try_from(index).context("too many connections")?;
            open(server, args.proxy.then_some(index)).await
        };
        let connection = connection.with_context(|| format!("connection {index} failed"))?;
        connections.push(connection);
    }
    let after = server.memory();
    println!(
        "{} connections: PSS {:.1} MiB before, {:.1} MiB after, {:.0} bytes each",
        connections.len(),
        mebibytes(before.pss),
        mebibytes(after.pss),
        after.pss.saturating_sub(before.pss) as f64 / args.connections.max(1) as f64
    );
    Ok(())
}

/// A connection after EHLO. The server then holds everything that it keeps for an idle client. With
/// a number it is that of a proxy, for the client with this number.
async fn open(server: SocketAddr, client: Option<u32>) -> Result<TcpStream> {
    let mut stream = BufReader::with_capacity(1024, TcpStream::connect(server).await?);
    if let Some(number) = client {
        stream.write_all(proxy_header(number).as_bytes()).await?;
    }
    expect(&mut stream, "220").await?;
    stream.write_all(b"EHLO load.example\r\n").await?;
    expect(&mut stream, "250").await?;
    Ok(stream.into_inner())
}

/// A connection that got a page and stays open for another.
async fn open_http(server: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server).await?;
    let mut connection = http::Connection::new(&mut stream);
    let request = format!("GET /webapi/v0/ HTTP/1.1\r\nHost: {server}\r\n\r\n");
    connection.write(request.as_bytes()).await?;
    let answer = connection.read_message().await?;
    let answer = answer.context("the server closed the connection")?;
    ensure!(
        answer.first_line.contains(" 200 ") && answer.keep_alive,
        "the server said {:?}",
        answer.first_line
    );
    Ok(stream)
}

async fn expect(stream: &mut BufReader<TcpStream>, code: &str) -> Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        ensure!(
            line.starts_with(code),
            "the server said {:?}",
            line.trim_end()
        );
        if line.get(3..4) != Some("-") {
            return Ok(());
        }
    }
}
