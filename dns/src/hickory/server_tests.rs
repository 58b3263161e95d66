//! Questions to a server on a loopback port, over UDP and TCP.

use std::sync::{
    Mutex as Lock,
    atomic::{AtomicU64, Ordering},
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record as WireRecord, rdata},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    sync::Barrier,
};

use super::*;
use crate::{CacheLimits, CachingResolver, places::ASKED_MAX};

/// How a server answers: by the question, and whether it came over TCP. None: not at all.
type Answers = fn(&Message, bool) -> Option<Message>;

/// A server that runs until the test ends.
struct Server {
    address: SocketAddr,
    /// The questions, each as `udp NAME TYPE`, and the connections, each as `connection`.
    asked: Arc<Lock<Vec<String>>>,
}

impl Server {
    async fn new(answers: Answers) -> Self {
        Self::waiting(1, answers).await
    }

    /// Over TCP, it answers no question but that for `first.test` before so many others have come.
    async fn waiting(number: usize, answers: Answers) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // Somebody else may have the same port of TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let server = Self {
            address: udp.local_addr().unwrap(),
            asked: Arc::default(),
        };
        let asked = Arc::clone(&server.asked);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
                if let Some(answer) = answer_to(&buffer[..length], &asked, answers, false) {
                    udp.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        let asked = Arc::clone(&server.asked);
        let all_came = Arc::new(Barrier::new(number));
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                asked.lock().unwrap().push("connection".to_owned());
                let (asked, all_came) = (Arc::clone(&asked), Arc::clone(&all_came));
                tokio::spawn(async move {
                    let (mut read, write) = stream.into_split();
                    let write = Arc::new(Mutex::new(write));
                    while let Ok(length) = read.read_u16().await {
                        let mut query = vec![0; length.into()];
                        read.read_exact(&mut query).await.unwrap();
                        let answer = answer_to(&query, &asked, answers, true).unwrap();
                        let is_first = query.windows(5).any(|bytes| bytes == b"first");
                        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                        let answer = [&length[..], &answer].concat();
                        let (write, all_came) = (Arc::clone(&write), Arc::clone(&all_came));
                        tokio::spawn(async move {
                            if !is_first {
                                all_came.wait().await;
                            }
                            write.lock().await.write_all(&answer).await.unwrap();
                        });
                    }
                });
            }
        });
        server
    }

    fn resolver(&self, timeout: Duration) -> HickoryResolver {
        let settings = HickorySettings {
            metrics: Arc::default(),
            servers: &[self.address],
            timeout,
            validate: false,
            trust_anchors: TrustAnchors::default(),
            now: Arc::new(Duration::default),
        };
        HickoryResolver::new(&settings).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer_to(
    query: &[u8],
    asked: &Lock<Vec<String>>,
    answers: Answers,
    is_tcp: bool,
) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).unwrap();
    let question = &query.queries[0];
    let way = if is_tcp { "tcp" } else { "udp" };
    asked.lock().unwrap().push(format!(
        "{way} {} {}",
        host(question.name()),
        question.query_type()
    ));
    Some(answers(&query, is_tcp)?.to_vec().unwrap())
}

/// A response without records.
fn response(query: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.add_query(query.queries[0].clone());
    response
}

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_answer_that_is_cut_off_is_asked_for_over_tcp() {
    let server = Server::new(|query, is_tcp| {
        let mut response = response(query, ResponseCode::NoError);
        response.metadata.truncation = !is_tcp;
        if is_tcp {
            let name = query.queries[0].name();
            for number in 0..40 {
                let text = rdata::TXT::new(vec![format!("{number:-200}")]);
                response.add_answer(WireRecord::from_rdata(name.clone(), 60, RData::TXT(text)));
            }
        }
        Some(response)
    })
    .await;
    let answer = server.resolver(LIMIT).txt("large.test").await.unwrap();
    assert_eq!(answer.records.len(), 40);
    assert_eq!(
        server.asked(),
        ["udp large.test TXT", "connection", "tcp large.test TXT"]
    );
}

#[tokio::test]
async fn each_result_in_the_metrics_has_its_own_cause() {
    use postrider_observe::metrics::{DnsResult, DnsType, Label};
    let cases: [(Answers, Duration, DnsResult); 6] = [
        (
            |query, _| Some(response(query, ResponseCode::NoError)),
            LIMIT,
            DnsResult::NoData,
        ),
        (
            |query, _| Some(response(query, ResponseCode::NXDomain)),
            LIMIT,
            DnsResult::NxDomain,
        ),
        (
            |query, _| Some(response(query, ResponseCode::Refused)),
            LIMIT,
            DnsResult::Refused,
        ),
        (
            |query, _| Some(response(query, ResponseCode::ServFail)),
            LIMIT,
            DnsResult::ServFail,
        ),
        (
            |query, _| Some(response(query, ResponseCode::FormErr)),
            LIMIT,
            DnsResult::ServFail,
        ),
        (|_, _| None, Duration::from_millis(20), DnsResult::Timeout),
    ];
    for (answers, limit, expected) in cases {
        let resolver = Server::new(answers).await.resolver(limit);
        resolver.txt("a.test").await.unwrap_err();
        let counts = &resolver.inner.metrics.dns_questions_total;
        let is_given = |it: &&DnsResult| counts.with((DnsType::Txt, **it)).get() > 0;
        let given: Vec<_> = DnsResult::ALL.iter().filter(is_given).collect();
        assert_eq!(given, [&expected]);
    }
}

/// All questions that may be open at once fit into one TCP connection.
#[tokio::test]
async fn as_many_questions_as_there_are_places_go_over_tcp_at_once() {
    let server = Server::waiting(ASKED_MAX, |query, is_tcp| {
        let mut response = response(query, ResponseCode::NoError);
        response.metadata.truncation = !is_tcp;
        let address = RData::A(rdata::A::new(192, 0, 2, 1));
        let name = query.queries[0].name().clone();
        response.add_answer(WireRecord::from_rdata(name, 60, address));
        Some(response)
    })
    .await;
    let resolver = server.resolver(LIMIT);
    // From here on there is a connection.
    resolver.a("first.test").await.unwrap();
    let mut lookups = tokio::task::JoinSet::new();
    for number in 0..ASKED_MAX {
        lookups.spawn(resolver.a(&format!("{number}.test")));
    }
    while let Some(answer) = lookups.join_next().await {
        assert_eq!(answer.unwrap().unwrap().records.len(), 1);
    }
    let asked = server.asked();
    let connections = asked.iter().filter(|asked| *asked == "connection");
    assert_eq!(connections.count(), 1);
}

/// The clock goes to the next timer at once when there is nothing else to do.
#[tokio::test(start_paused = true)]
async fn a_silent_server_costs_the_time_limit_of_one_look_up() {
    let server = Server::new(|_, _| None).await;
    let resolver = server.resolver(LIMIT);
    let start = tokio::time::Instant::now();
    let failed = resolver.mx("silent.test").await;
    assert!(matches!(failed, Err(DnsError::Temporary(_))));
    assert_eq!(start.elapsed(), LIMIT);
}

/// The checks of a message ask mostly for what is not there, and are not to ask again.
#[tokio::test]
async fn a_name_that_is_not_there_is_asked_for_once_in_the_ttl_of_its_denial() {
    let server = Server::new(|query, _| {
        let mut response = response(query, ResponseCode::NXDomain);
        if host(query.queries[0].name()) == "soa.test" {
            let name = |text| Name::from_ascii(text).unwrap();
            let (server, mailbox) = (name("ns.test."), name("root.test."));
            let soa = rdata::SOA::new(server, mailbox, 1, 3600, 600, 86400, 90);
            response.add_authority(WireRecord::from_rdata(name("test."), 600, RData::SOA(soa)));
        }
        Some(response)
    })
    .await;
    let seconds = Arc::new(AtomicU64::new(0));
    let time = Arc::clone(&seconds);
    let now: Now = Arc::new(move || Duration::from_secs(time.load(Ordering::Relaxed)));
    let limits = CacheLimits::default();
    let resolver = CachingResolver::new(server.resolver(LIMIT), limits, LIMIT, now);
    for (second, asked) in [(0, 2), (59, 2), (60, 3), (89, 3), (90, 4)] {
        seconds.store(second, Ordering::Relaxed);
        for name in ["soa.test", "bare.test"] {
            let denial = resolver.txt(name).await;
            assert!(matches!(denial, Err(DnsError::NoName(_))), "{denial:?}");
        }
        assert_eq!(server.asked().len(), asked, "{second}");
    }
}
