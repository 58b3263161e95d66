//! Whether this server is set up rightly, beside DNS: ports, certificates, disk, clock, files.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::future;
use postrider_config::Listener;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};

use super::{Operation, Sink};
use crate::{AdminError, Context};

/// How long a port of ours may take to answer.
const PORT_TIME: Duration = Duration::from_secs(2);
/// A certificate that ends before this time should have been renewed.
const CERTIFICATE_LEFT: i64 = 14 * 24 * 60 * 60;
/// systemd-timesyncd makes this file when it has set the clock.
const CLOCK_IS_SET: &str = "/run/systemd/timesync/synchronized";

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is right.
    Ok,
    /// It works, and needs a look.
    Warning,
    /// It is wrong.
    Wrong,
    /// It can't be found out from here.
    Unknown,
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupItem {
    /// `port`, `certificate`, `disk`, `clock`, `deliveries` or `configuration`.
    pub subject: String,
    /// The thing.
    pub name: String,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty: nothing.
    pub advice: String,
}

impl SetupItem {
    fn new(subject: &str, name: impl Into<String>, state: State, found: impl Into<String>) -> Self {
        Self {
            subject: subject.to_owned(),
            name: name.into(),
            state,
            found: found.into(),
            advice: String::new(),
        }
    }

    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

/// Looks whether the server is set up rightly. DNS is looked at for each domain by `dns.check`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {}

impl Operation for Check {
    type Item = SetupItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<SetupItem>,
    ) -> Result<(), AdminError> {
        let mut found = ports(context).await;
        found.extend(certificates(context).await?);
        found.push(disk(context).await?);
        found.push(clock(context));
        found.extend(stops(context).await?);
        let config = context.config.load_full();
        let warning =
            |text: &String| SetupItem::new("configuration", "domains.conf", State::Warning, text);
        found.extend(config.warnings().iter().map(warning));
        items.send(found).await
    }
}

/// The services of a listener that run, with their ports.
fn services(listener: &Listener) -> Vec<(&'static str, u16)> {
    let mail = [
        ("smtp", listener.smtp.enabled, listener.smtp.port),
        (
            "submission",
            listener.submission.enabled,
            listener.submission.port,
        ),
        (
            "submissions",
            listener.submissions.enabled,
            listener.submissions.port,
        ),
    ];
    let web = listener.http_services();
    let web = web.map(|(name, service)| (name, service.enabled, service.port));
    let all = mail.into_iter().chain(web);
    all.filter_map(|(name, enabled, port)| enabled.then_some((name, port)))
        .collect()
}

/// Looks whether each port takes connections.
async fn ports(context: &Context) -> Vec<SetupItem> {
    let mut ports: BTreeMap<SocketAddr, Vec<&str>> = BTreeMap::new();
    for listener in context.statics.listeners.values() {
        for (service, port) in services(listener) {
            for ip in &listener.ips {
                ports
                    .entry(SocketAddr::new(*ip, port))
                    .or_default()
                    .push(service);
            }
        }
    }
    let takes_mail = ports
        .iter()
        .any(|(address, services)| address.port() == 25 && services.contains(&"smtp"));
    let looks = ports
        .into_iter()
        .map(|(address, services)| port(address, services));
    let mut items = future::join_all(looks).await;
    if !takes_mail {
        let found = "no listener takes mail at port 25";
        let advice = "Other servers deliver to port 25 only. Enable smtp of a listener, unless \
            another server takes the mail.";
        items.push(SetupItem::new("port", "25", State::Warning, found).advice(advice));
    }
    items
}

async fn port(address: SocketAddr, mut services: Vec<&str>) -> SetupItem {
    services.dedup();
    let name = format!("{address}, {}", services.join(", "));
    if address.port() == 0 {
        return SetupItem::new("port", name, State::Unknown, "the system chooses the port");
    }
    // This machine reaches a listener of all addresses at its own one.
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let connected = timeout(PORT_TIME, TcpStream::connect((ip, address.port()))).await;
    match connected {
        Ok(Ok(_)) => SetupItem::new("port", name, State::Ok, "it takes connections"),
        Ok(Err(error)) => SetupItem::new("port", name, State::Wrong, error.to_string())
            .advice("Look into the log for the listener, and start the server again."),
        Err(_) => SetupItem::new("port", name, State::Wrong, "no connection within 2 s")
            .advice("Look whether a firewall drops connections of this machine."),
    }
}

async fn certificates(context: &Context) -> Result<Vec<SetupItem>, AdminError> {
    let files = Arc::clone(&context.certificates);
    let read = tokio::task::spawn_blocking(move || (files.read(true), files.ends())).await;
    let (read, ends) = read.map_err(AdminError::internal)?;
    let now = context.clock.now().0.div_euclid(1_000_000);
    let of_name = ends
        .into_iter()
        .map(|(name, end)| certificate(name, end, now));
    let errors = read.errors.into_iter().map(|(key, text)| {
        SetupItem::new("certificate", key, State::Wrong, text)
            .advice("The server goes on with what it has. Mend the file; it is read again.")
    });
    let warnings = read.warnings.into_iter();
    let warnings =
        warnings.map(|(key, text)| SetupItem::new("certificate", key, State::Warning, text));
    Ok(of_name.chain(errors).chain(warnings).collect())
}

fn certificate(name: String, end: i64, now: i64) -> SetupItem {
    let days = (end - now) / (24 * 60 * 60);
    match end - now {
        _ if end == 0 => SetupItem::new("certificate", name, State::Wrong, "there is none yet")
            .advice("Look into the log for acme. The CA has to reach this host by the name."),
        ..=0 => SetupItem::new("certificate", name, State::Wrong, "it has ended")
            .advice("Get a new one. Clients refuse this one."),
        1..CERTIFICATE_LEFT => {
            let found = format!("it ends in {days} days");
            SetupItem::new("certificate", name, State::Warning, found)
                .advice("It should have been renewed. Look into the log.")
        }
        _ => SetupItem::new(
            "certificate",
            name,
            State::Ok,
            format!("it ends in {days} days"),
        ),
    }
}

async fn disk(context: &Context) -> Result<SetupItem, AdminError> {
    let disk = context
        .store
        .disk_use()
        .await
        .map_err(AdminError::internal)?;
    let megabytes = |bytes: u64| bytes / 1_000_000;
    let found = format!(
        "{} MB are free; below {} MB new mail is refused",
        megabytes(disk.free),
        megabytes(disk.reserve)
    );
    let name = context.statics.data_dir.display().to_string();
    Ok(if disk.free <= disk.reserve {
        SetupItem::new("disk", name, State::Wrong, found).advice("Make room, or add a disk.")
    } else if disk.free < disk.reserve.saturating_mul(2) {
        SetupItem::new("disk", name, State::Warning, found).advice("Make room soon.")
    } else {
        SetupItem::new("disk", name, State::Ok, found)
    })
}

fn clock(context: &Context) -> SetupItem {
    let now = context.clock.now().timestamp();
    let now = now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    match Path::new(CLOCK_IS_SET).exists() {
        true => {
            let found = format!("systemd-timesyncd has set it: {now}");
            SetupItem::new("clock", "clock", State::Ok, found)
        }
        false => SetupItem::new("clock", "clock", State::Unknown, now).advice(
            "Compare it with a clock that you trust, and let a service such as chrony set it. \
            Signatures, certificates and one-time codes need the right time.",
        ),
    }
}

async fn stops(context: &Context) -> Result<Vec<SetupItem>, AdminError> {
    let stops = context.store.stops().await?;
    let stopped = [
        ("deliveries", stops.deliveries),
        ("calls of webhooks", stops.webhooks),
    ];
    let item = |(name, since): (&str, Option<postrider_store::Time>)| {
        let found = format!("stopped since {}", since?);
        let item = SetupItem::new("deliveries", name, State::Wrong, found);
        Some(item.advice("Start them again when the reason is gone."))
    };
    Ok(stopped.into_iter().filter_map(item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_in_time() {
        let day = 24 * 60 * 60;
        let now = 1000 * day;
        for (end, state, found) in [
            (0, State::Wrong, "there is none yet"),
            (now, State::Wrong, "it has ended"),
            (now + 3 * day, State::Warning, "it ends in 3 days"),
            (now + 14 * day, State::Ok, "it ends in 14 days"),
        ] {
            let item = certificate("a.test".to_owned(), end, now);
            assert_eq!((item.state, item.found.as_str()), (state, found));
        }
    }

    #[tokio::test]
    async fn a_port_is_open_or_not() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = open.local_addr().unwrap();
        let found = port(address, vec!["smtp"]).await;
        assert_eq!(
            (found.state, found.name),
            (State::Ok, format!("{address}, smtp"))
        );
        drop(open);
        assert_eq!(port(address, vec!["smtp"]).await.state, State::Wrong);
        let chosen = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_eq!(port(chosen, vec!["smtp"]).await.state, State::Unknown);
    }
}
