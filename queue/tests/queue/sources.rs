//! Where connections come from: addresses of ours, and proxies.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use postrider_store::Event;

use crate::{
    remote::{Act, Point, Remote},
    socks_server::SocksServer,
    support::{Message, Setup, World},
};

/// Two addresses of this machine, one that is not its own, and a pool of each kind.
const POOLS: &str = "[sources.one]\nip = \"127.0.0.11\"\nehlo = \"one.example.org\"\n\
                     [sources.two]\nip = \"127.0.0.12\"\nehlo = \"two.example.org\"\n\
                     [sources.gone]\nip = \"192.0.2.77\"\nehlo = \"gone.example.org\"\n\
                     [pools.both.sources]\none = 1\ntwo = 1\n\
                     [pools.half.sources]\ngone = 1000\ntwo = 1\n\
                     [pools.none.sources]\ngone = 1\n";

type Names = Arc<Mutex<Vec<String>>>;

/// A remote that notes the names in EHLO.
async fn listening() -> (Remote, Names) {
    let names = Names::default();
    let noted = Arc::clone(&names);
    let remote = Remote::start(move |point, _| {
        if let Point::Command(line) = point
            && let Some(name) = line.strip_prefix("EHLO ")
        {
            noted.lock().unwrap().push(name.to_owned());
        }
        None
    });
    (remote.await, names)
}

#[tokio::test]
async fn the_mail_of_an_account_to_a_site_comes_from_one_address() {
    let statics = format!("[queue.per_destination]\nmessages_per_connection = 1\n{POOLS}");
    let world = World::start(Setup {
        statics: &statics,
        account: "source_pool = \"both\"\n",
        ..Setup::default()
    });
    let mut heard = Vec::new();
    for number in 0..6 {
        let (remote, names) = listening().await;
        let (domain, host) = (format!("d{number}.test"), format!("mx{number}.test"));
        let ip = format!("192.0.2.{number}");
        world.mx(&domain, &[(10, &host)]);
        world.host(&host, &ip);
        world.lead(&ip, &remote);
        for _ in 0..2 {
            let to = format!("x@{domain}");
            world.submit(Message::to(&[&to])).await;
        }
        heard.push((remote, names));
    }
    let mut all = Vec::new();
    for (remote, names) in &heard {
        remote.wait_for(2).await;
        let names = names.lock().unwrap().clone();
        assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
        all.push(names[0].clone());
    }
    all.sort();
    all.dedup();
    assert_eq!(all, ["one.example.org", "two.example.org"]);
    world.stop().await;
}

#[tokio::test]
async fn another_source_stands_in_for_one_that_can_not_be_used() {
    let (remote, names) = listening().await;
    let statics = format!("[delivery]\nsource_pool = \"half\"\n{POOLS}");
    let world = World::start(Setup {
        statics: &statics,
        ..Setup::default()
    });
    world.mx("a.test", &[(10, "mx.a.test")]);
    world.host("mx.a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    assert_eq!(*names.lock().unwrap(), ["two.example.org"]);
    world.stop().await;
}

#[tokio::test]
async fn without_a_source_that_can_be_used_the_mail_waits_and_no_attempt_counts() {
    let (remote, names) = listening().await;
    let statics = format!("[transports.t.direct]\nsource_pool = \"none\"\n{POOLS}");
    let world = World::start(Setup {
        statics: &statics,
        dynamics: "[[routes]]\ntransport = \"t\"\n",
        // The transport comes first.
        account: "source_pool = \"both\"\n",
        ..Setup::default()
    });
    world.mx("a.test", &[(10, "mx.a.test")]);
    world.host("mx.a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let start = world.now();
    world.submit(Message::to(&["x@a.test"])).await;
    for minutes in [0, 2, 4] {
        world.clock.advance(Duration::from_secs(minutes * 60));
        let now = world.now();
        let waiting = world
            .queued_until(|queued| queued[0].next_attempt > now)
            .await;
        assert_eq!(waiting[0].attempts, 0);
    }
    assert!(world.now() > start);
    assert!(names.lock().unwrap().is_empty());
    world.stop().await;
}

/// A world whose mail goes through a proxy that leads 192.0.2.1 to a remote, and answers for other
/// addresses with this code.
async fn behind_proxy(remote: &Remote, code: u8) -> (World, SocksServer) {
    let to = remote.address;
    let proxy = SocksServer::start(move |address| match address.ip().to_string().as_str() {
        "192.0.2.1" => Ok(to),
        _ => Err(code),
    })
    .await;
    let world = World::start(Setup {
        statics: "[transports.out.socks]\naddress = \"proxy.test:1080\"\n\
                  remote_ips = [\"198.51.100.9\"]\nremote_hostname = \"out.example.net\"\n",
        dynamics: "[[routes]]\ntransport = \"out\"\n",
        ..Setup::default()
    });
    world.host("proxy.test", "127.0.0.1");
    world.lead_to("127.0.0.1", proxy.address);
    world.mx("a.test", &[(10, "mx.a.test")]);
    world.host("mx.a.test", "192.0.2.1");
    // The proxy has no IPv6.
    world.host("mx.a.test", "2001:db8::1");
    world.mx("b.test", &[(10, "mx.b.test")]);
    world.host("mx.b.test", "192.0.2.2");
    (world, proxy)
}

#[tokio::test]
async fn mail_goes_through_a_proxy_under_its_name() {
    let (remote, names) = listening().await;
    let (world, proxy) = behind_proxy(&remote, 5).await;
    let [id] = world.add(Message::to(&["x@a.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Delivered)]);
    assert_eq!(*names.lock().unwrap(), ["out.example.net"]);
    let asked: Vec<String> = proxy.asked().iter().map(ToString::to_string).collect();
    assert_eq!(asked, ["192.0.2.1:25"]);
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert_eq!(retired.message.results[0].remote, "mx.a.test [192.0.2.1]");
    world.stop().await;
}

#[tokio::test]
async fn a_fault_of_the_proxy_is_no_attempt_and_one_of_the_host_is() {
    for (code, attempts, said) in [
        (5, 1, "the host refuses the proxy's connection"),
        (1, 0, ""),
    ] {
        let remote = Remote::start(|_, _| Some(Act::Drop)).await;
        let (world, _proxy) = behind_proxy(&remote, code).await;
        let start = world.now();
        world.submit(Message::to(&["x@b.test"])).await;
        let waiting = world
            .queued_until(|queued| queued[0].next_attempt > start)
            .await;
        assert_eq!(waiting[0].attempts, attempts, "code {code}");
        let mut results = waiting[0].results.iter();
        assert!(results.all(|result| result.error.contains(said)), "{code}");
        world.stop().await;
    }
    let remote = Remote::start(|_, _| None).await;
    let (world, _proxy) = behind_proxy(&remote, 5).await;
    // Nobody listens there.
    world.break_way("127.0.0.1", 111);
    let start = world.now();
    world.submit(Message::to(&["x@a.test"])).await;
    let waiting = world
        .queued_until(|queued| queued[0].next_attempt > start)
        .await;
    assert_eq!(waiting[0].attempts, 0);
    world.stop().await;
}
