//! A DNS server on a loopback port, with signed zones and faults, for tests.

mod signing;
mod zones;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hickory_resolver::proto::{
    ProtoError,
    op::{Edns, Message, ResponseCode},
    rr::Name,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

use self::zones::Zones;
use crate::{
    Record, RecordType, UpdateError,
    hickory::{host, wire_type},
    update::{name, written},
};

/// The TTL of all records, in seconds.
const TTL: u32 = 60;
/// The size of an answer over UDP without EDNS, in bytes (RFC 1035 §4.2.1).
const UDP_MAX: u16 = 512;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server says SERVFAIL.
    ServFail,
    /// The server does not answer.
    Silent,
    /// Over UDP, the server cuts off the answer, so that it is asked for over TCP.
    Truncated,
    /// The server answers so much later.
    Delayed(Duration),
    /// The signature is missing.
    Unsigned,
    /// The time of the signature is over.
    Expired,
    /// The signature is made by a key that the zone does not have.
    OtherKey,
}

/// A server that has a signed root zone, and answers as if it had asked the servers of all zones.
/// It answers over UDP and TCP until it is dropped.
pub struct FakeServer {
    shared: Arc<Mutex<Shared>>,
    address: SocketAddr,
    /// Ends with the server.
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    zones: Zones,
    asked: Vec<String>,
}

impl FakeServer {
    /// Begins to answer.
    ///
    /// # Errors
    /// If there is no socket.
    pub async fn start() -> io::Result<Self> {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await?;
            // Somebody else may have the same port of TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr()?).await {
                break (udp, tcp);
            }
        };
        let mut shared = Shared::default();
        let root = shared.zones.add_zone(&Name::root(), true);
        root.map_err(io::Error::other)?;
        let shared = Arc::new(Mutex::new(shared));
        let address = udp.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(Arc::new(udp), Arc::clone(&shared)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&shared)));
        Ok(Self {
            shared,
            address,
            _tasks: tasks,
        })
    }

    /// The address of the server, for UDP and TCP.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key of the root zone, in the format of a zone file.
    #[must_use]
    pub fn trust_anchor(&self) -> String {
        lock(&self.shared).zones.trust_anchor()
    }

    /// Adds a zone. The zone above delegates it. Add it before its records.
    ///
    /// # Errors
    /// If the name is wrong.
    pub fn add_zone(&self, zone: &str, signed: bool) -> Result<(), UpdateError> {
        let added = lock(&self.shared).zones.add_zone(&name(zone)?, signed);
        added.map_err(|error| UpdateError::Answer(error.to_string()))
    }

    /// Adds a record to the zone that the name is in.
    ///
    /// # Errors
    /// If a name is wrong.
    pub fn add(&self, owner: &str, record: &Record) -> Result<(), UpdateError> {
        let (owner, data) = (name(owner)?, written(record)?);
        lock(&self.shared).zones.add(&owner, data);
        Ok(())
    }

    /// Removes the records of a name.
    ///
    /// # Errors
    /// If the name is wrong.
    pub fn remove(&self, owner: &str) -> Result<(), UpdateError> {
        lock(&self.shared).zones.remove(&name(owner)?);
        Ok(())
    }

    /// From now on, answers are faulty: those about the name and the type; without a type, those
    /// about the name and all names below it, also those of DNSSEC.
    ///
    /// # Errors
    /// If the name is wrong.
    pub fn add_fault(
        &self,
        owner: &str,
        record_type: Option<RecordType>,
        fault: Fault,
    ) -> Result<(), UpdateError> {
        let (owner, record_type) = (name(owner)?, record_type.map(wire_type));
        lock(&self.shared)
            .zones
            .add_fault(owner, record_type, fault);
        Ok(())
    }

    /// Ends the faults of a name.
    ///
    /// # Errors
    /// If the name is wrong.
    pub fn mend(&self, owner: &str) -> Result<(), UpdateError> {
        lock(&self.shared).zones.mend(&name(owner)?);
        Ok(())
    }

    /// The questions so far, each as `udp NAME TYPE` or `tcp NAME TYPE`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        lock(&self.shared).asked.clone()
    }
}

impl std::fmt::Debug for FakeServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Mutex<Shared>>) {
    let mut answers = JoinSet::new();
    let mut buffer = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let query = buffer.get(..length).unwrap_or_default();
        if let Ok((Some(answer), delay)) = answer(query, &shared, false) {
            let socket = Arc::clone(&socket);
            answers.spawn(async move {
                wait(delay).await;
                let _ = socket.send_to(&answer, peer).await;
            });
        }
        while answers.try_join_next().is_some() {}
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        // The client has gone.
        connections.spawn(async move { drop(serve_stream(stream, &shared).await) });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers the questions on a connection, one after the other.
async fn serve_stream(mut stream: TcpStream, shared: &Mutex<Shared>) -> io::Result<()> {
    loop {
        let mut query = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut query).await?;
        let (answer, delay) = answer(&query, shared, true).map_err(io::Error::other)?;
        wait(delay).await;
        if let Some(answer) = answer {
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let framed = [&length.to_be_bytes()[..], &answer].concat();
            stream.write_all(&framed).await?;
        }
    }
}

/// Without a delay, no timer is set: a test may have stopped the clock.
async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// The answer to a message, and how much later it is sent. None: no answer.
fn answer(
    query: &[u8],
    shared: &Mutex<Shared>,
    is_tcp: bool,
) -> Result<(Option<Vec<u8>>, Duration), ProtoError> {
    let query = Message::from_vec(query)?;
    let Some(question) = query.queries.first() else {
        return Ok((None, Duration::ZERO));
    };
    let (owner, record_type) = (question.name(), question.query_type());
    let mut shared = lock(shared);
    let way = if is_tcp { "tcp" } else { "udp" };
    shared
        .asked
        .push(format!("{way} {} {record_type}", host(owner)));
    let edns = query.edns.as_ref();
    let dnssec = edns.is_some_and(|edns| edns.flags().dnssec_ok);
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_query(question.clone());
    if edns.is_some() {
        let mut edns = Edns::new();
        edns.set_dnssec_ok(dnssec);
        answer.edns = Some(edns);
    }
    let empty = answer.clone();
    let mut delay = Duration::ZERO;
    let fault = shared.zones.fault(owner, record_type);
    match fault {
        Some(Fault::Silent) => return Ok((None, delay)),
        Some(Fault::ServFail) => answer.metadata.response_code = ResponseCode::ServFail,
        fault => {
            if let Some(Fault::Delayed(by)) = fault {
                delay = by;
            }
            shared.zones.fill(&mut answer, owner, record_type, dnssec)?;
        }
    }
    let mut bytes = answer.to_vec()?;
    let limit = edns.map_or(UDP_MAX, |edns| edns.max_payload().max(UDP_MAX));
    if !is_tcp && (fault == Some(Fault::Truncated) || bytes.len() > usize::from(limit)) {
        let mut cut = empty;
        cut.metadata.truncation = true;
        bytes = cut.to_vec()?;
    }
    Ok((Some(bytes), delay))
}
