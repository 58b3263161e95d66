//! A lab on loopback: a DNS server with a zone of its own, and remote SMTP servers with scripts. A
//! person can try `postrider serve` without the internet, and see each kind of remote server at
//! work.
//!
//! Each remote has a domain under `.test`, an address of its own in 127.0.1.0/24, and a script. The
//! DNS server knows these domains, some domains with broken DNS, and the records from the command
//! line. No other name exists.

pub(crate) mod dns;
mod remote;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args as ClapArgs;
use tokio::net::{TcpListener, UdpSocket};

use dns::{Record, Zone};
use remote::{Remote, Script};

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The address of the DNS server
    #[arg(long, default_value = "127.0.0.1:5353")]
    dns: SocketAddr,
    /// The port of the remotes; 25 needs root
    #[arg(long, default_value_t = 25)]
    port: u16,
    /// Another remote, as DOMAIN=SCRIPT: accept, later:TIMES, refuse:CODE, refuse-data:CODE,
    /// drop:TIMES, slow:DURATION, garbage, tls, broken-tls, dead
    #[arg(long, value_name = "DOMAIN=SCRIPT")]
    remote: Vec<String>,
    /// Another record, as "NAME TYPE VALUE" with A, AAAA, MX ("10 mx.x.test") or TXT
    #[arg(long)]
    record: Vec<String>,
    /// Keep each accepted message as a file in this folder
    #[arg(long)]
    save: Option<PathBuf>,
}

/// The remotes that are always there: the domain, the script, and a text for the user.
const REMOTES: &[(&str, &str, &str)] = &[
    ("ok.test", "accept", "accepts"),
    (
        "later.test",
        "later:1",
        "451 to each recipient's first attempt, then 250",
    ),
    ("refuse.test", "refuse:550", "550 to each recipient"),
    (
        "refuse-data.test",
        "refuse-data:554",
        "554 at the end of the data",
    ),
    (
        "full.test",
        "refuse-data:452",
        "452 at the end of the data, always",
    ),
    (
        "drop.test",
        "drop:1",
        "drops the connection after the data, once per recipient, then 250",
    ),
    ("slow.test", "slow:10s", "answers each command after 10 s"),
    ("garbage.test", "garbage", "greets with what is not SMTP"),
    (
        "tls.test",
        "tls",
        "accepts, with STARTTLS and a certificate of its own",
    ),
    (
        "broken-tls.test",
        "broken-tls",
        "offers STARTTLS and then does not speak TLS; accepts without",
    ),
    ("dead.test", "dead", "nothing listens there"),
];

/// Domains that show a case of DNS.
const DNS_CASES: &[(&str, &str)] = &[
    (
        "nomx.test",
        "no MX, but an address, at which ok.test's server accepts",
    ),
    ("backup.test", "its first MX is dead, its second accepts"),
    ("null-mx.test", "a null MX: takes no mail (RFC 7505)"),
    ("servfail.test", "its DNS fails"),
    ("absent.test", "does not exist"),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: &Args) -> Result<()> {
    let mut remotes: BTreeMap<String, (Script, String)> = BTreeMap::new();
    for (domain, script, shows) in REMOTES {
        remotes.insert((*domain).to_owned(), (parse(script)?, (*shows).to_owned()));
    }
    for given in &args.remote {
        let (domain, script) = given
            .split_once('=')
            .with_context(|| format!("{given:?} is not DOMAIN=SCRIPT"))?;
        remotes.insert(domain.to_lowercase(), (parse(script)?, script.to_owned()));
    }
    if let Some(folder) = &args.save {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {folder:?}"))?;
    }

    let mut zone = Zone::default();
    // The first address is that of ok.test: other domains refer to it.
    let ok = Ipv4Addr::new(127, 0, 1, 1);
    let mut next = 2;
    for (domain, (script, shows)) in remotes {
        let ip = if domain == "ok.test" {
            ok
        } else {
            ensure!(next < 255, "more remotes than addresses");
            next += 1;
            Ipv4Addr::new(127, 0, 1, next - 1)
        };
        let mx = format!("mx.{domain}");
        zone.add(&domain, Record::Mx(10, mx.clone()));
        zone.add(&mx, Record::A(ip));
        println!("{domain:20} {ip}:{:<5} {shows}", args.port);
        if script != Script::Dead {
            start(args, &domain, ip.into(), script).await?;
        }
        if script == Script::Dead && domain == "dead.test" {
            zone.add("backup.test", Record::Mx(10, mx));
        }
    }
    zone.add("backup.test", Record::Mx(20, "mx.ok.test".to_owned()));
    zone.add("nomx.test", Record::A(ok));
    zone.add("null-mx.test", Record::Mx(0, String::new()));
    zone.fail("servfail.test");
    for (domain, shows) in DNS_CASES {
        println!("{domain:20} {:15} {shows}", "");
    }
    for record in &args.record {
        let (name, record) = dns::parse_record(record)?;
        zone.add(&name, record);
    }
    let socket = UdpSocket::bind(args.dns)
        .await
        .with_context(|| format!("failed to listen on {}", args.dns))?;
    println!("\nIn postrider.conf:\n");
    println!(
        "[resolver]\nservers = [\"{}\"]\ndnssec = false\n",
        socket.local_addr()?
    );
    tokio::select! {
        result = dns::serve(&socket, &zone) => result,
        result = tokio::signal::ctrl_c() => Ok(result?),
    }
}

async fn start(args: &Args, domain: &str, ip: IpAddr, script: Script) -> Result<()> {
    let listener = TcpListener::bind((ip, args.port)).await.with_context(|| {
        format!(
            "failed to listen on {ip}:{} (ports below 1024 need root; see --port)",
            args.port
        )
    })?;
    let remote = Arc::new(Remote::new(domain, script, args.save.clone())?);
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let remote = Arc::clone(&remote);
            tokio::spawn(async move { remote.serve(stream, peer).await });
        }
    });
    Ok(())
}

fn parse(script: &str) -> Result<Script> {
    let (name, value) = script.split_once(':').unwrap_or((script, ""));
    let number = |default: u32| -> Result<u32> {
        if value.is_empty() {
            return Ok(default);
        }
        value
            .parse()
            .with_context(|| format!("{script:?}: {value:?} is no number"))
    };
    Ok(match name {
        "accept" => Script::Accept,
        "later" => Script::Later(number(1)?),
        "refuse" => Script::Refuse(code(number(550)?)?),
        "refuse-data" => Script::RefuseData(code(number(554)?)?),
        "drop" => Script::Drop(number(1)?),
        "slow" => Script::Slow(
            crate::duration::parse_duration(value).map_err(|why| anyhow::anyhow!(why))?,
        ),
        "garbage" => Script::Garbage,
        "tls" => Script::Tls,
        "broken-tls" => Script::BrokenTls,
        "dead" => Script::Dead,
        _ => bail!("there is no script {name:?}"),
    })
}

fn code(number: u32) -> Result<u16> {
    ensure!(
        (400..600).contains(&number),
        "{number} refuses nothing: 400 to 599 do"
    );
    Ok(u16::try_from(number)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_scripts_parse() {
        for (_, script, _) in REMOTES {
            parse(script).unwrap();
        }
        assert_eq!(parse("later:3").unwrap(), Script::Later(3));
        assert_eq!(parse("refuse").unwrap(), Script::Refuse(550));
        for wrong in ["", "refuse:250", "later:x", "slow", "other"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
