//! A DNS server on a loopback port that answers from a table.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
    serialize::binary::{BinDecodable, BinEncodable},
};
use tokio::net::UdpSocket;

/// A zone: records by name. All other names do not exist.
#[derive(Debug, Default)]
pub struct Zone(HashMap<String, Vec<RData>>);

/// A zone that can be changed while a server answers from it.
#[derive(Debug)]
pub struct ServedZone {
    /// The address of the server.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl ServedZone {
    /// Changes the zone.
    pub fn change(&self, change: impl FnOnce(Zone) -> Zone) {
        let mut zone = self.zone.lock().unwrap();
        *zone = change(std::mem::take(&mut zone));
    }
}

impl Zone {
    /// Adds an MX record.
    pub fn mx(mut self, name: &str, preference: u16, host: &str) -> Self {
        let host = Name::from_ascii(format!("{host}.")).unwrap();
        self.0
            .entry(name.to_owned())
            .or_default()
            .push(RData::MX(rdata::MX::new(preference, host)));
        self
    }

    /// Adds an address record.
    pub fn address(mut self, name: &str, address: IpAddr) -> Self {
        let record = match address {
            IpAddr::V4(address) => RData::A(rdata::A(address)),
            IpAddr::V6(address) => RData::AAAA(rdata::AAAA(address)),
        };
        self.0.entry(name.to_owned()).or_default().push(record);
        self
    }

    /// Adds the name of an address, and the address of that name.
    pub fn host(mut self, name: &str, address: IpAddr) -> Self {
        let host = Name::from_ascii(format!("{name}.")).unwrap();
        let reverse = Name::from(address).to_ascii();
        let reverse = reverse.trim_end_matches('.').to_ascii_lowercase();
        let record = RData::PTR(rdata::PTR(host));
        self.0.entry(reverse).or_default().push(record);
        self.address(name, address)
    }

    /// Adds a TXT record.
    pub fn txt(mut self, name: &str, text: &str) -> Self {
        // A string of a record has at most 255 bytes.
        let pieces = text.as_bytes().chunks(255);
        let pieces = pieces.map(|piece| String::from_utf8(piece.to_vec()).unwrap());
        let record = RData::TXT(rdata::TXT::new(pieces.collect()));
        self.0.entry(name.to_owned()).or_default().push(record);
        self
    }

    /// Serves the zone until the test ends. Returns the address of the server.
    pub async fn serve(self) -> SocketAddr {
        self.serve_changing().await.address
    }

    /// Serves the zone until the test ends. It can be changed meanwhile.
    pub async fn serve_changing(self) -> ServedZone {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(self));
        let served = Arc::clone(&zone);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let answer = served.lock().unwrap().answer(&buffer[..length]);
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, peer).await;
                }
            }
        });
        ServedZone { address, zone }
    }

    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_bytes(query).ok()?;
        let question = query.queries.first()?.clone();
        let name = question
            .name()
            .to_ascii()
            .trim_end_matches('.')
            .to_ascii_lowercase();
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        match self.0.get(&name) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(records) => {
                for data in records
                    .iter()
                    .filter(|data| matches(data, question.query_type()))
                {
                    answer.add_answer(Record::from_rdata(
                        question.name().clone(),
                        60,
                        data.clone(),
                    ));
                }
            }
        }
        answer.add_query(question);
        answer.to_bytes().ok()
    }
}

fn matches(data: &RData, wanted: RecordType) -> bool {
    data.record_type() == wanted
}
