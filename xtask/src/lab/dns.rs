//! The part of DNS that a test zone needs (RFC 1035): one question per message over UDP, and four
//! types of record.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use tokio::net::UdpSocket;

/// The data of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    /// Preference and host. The empty host is the root, which makes a null MX (RFC 7505 §3).
    Mx(u16, String),
    Txt(String),
}

const A: u16 = 1;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const NOTIMP: u8 = 4;

impl Record {
    fn kind(&self) -> u16 {
        match self {
            Self::A(_) => A,
            Self::Aaaa(_) => AAAA,
            Self::Mx(..) => MX,
            Self::Txt(_) => TXT,
        }
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Self::A(ip) => ip.octets().to_vec(),
            Self::Aaaa(ip) => ip.octets().to_vec(),
            Self::Mx(preference, host) => {
                let mut data = preference.to_be_bytes().to_vec();
                push_name(&mut data, host);
                data
            }
            Self::Txt(text) => text
                .as_bytes()
                .chunks(255)
                .flat_map(|chunk| [&[chunk.len() as u8], chunk].concat())
                .collect(),
        }
    }
}

/// The zone of the server. Names are in lower case, without the last dot.
#[derive(Default)]
pub(crate) struct Zone {
    records: BTreeMap<String, Vec<Record>>,
    failing: BTreeSet<String>,
}

impl Zone {
    pub(crate) fn add(&mut self, name: &str, record: Record) {
        self.records
            .entry(name.to_lowercase())
            .or_default()
            .push(record);
    }

    /// Makes every question for this name, or for a name below it, fail with SERVFAIL.
    pub(super) fn fail(&mut self, name: &str) {
        self.failing.insert(name.to_lowercase());
    }

    /// The records of this type, or the response code of the error. NODATA is an empty list.
    fn lookup(&self, name: &str, kind: u16) -> Result<Vec<&Record>, u8> {
        let below = |parent: &str| {
            name.strip_suffix(parent)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if self.failing.iter().any(|failing| below(failing)) {
            return Err(SERVFAIL);
        }
        match self.records.get(name) {
            Some(records) => Ok(records
                .iter()
                .filter(|record| record.kind() == kind)
                .collect()),
            // A name with names below it exists, and has no records (RFC 8020 §2).
            None if self.records.keys().any(|known| {
                known
                    .strip_suffix(name)
                    .is_some_and(|rest| rest.ends_with('.'))
            }) =>
            {
                Ok(Vec::new())
            }
            None => Err(NXDOMAIN),
        }
    }

    /// The answer to a message. None if the message is no question.
    fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let (name, kind, question) = parse_question(message)?;
        let found = match message.get(2).map(|flags| flags >> 3 & 0xf) {
            Some(0) => self.lookup(&name, kind),
            _ => Err(NOTIMP),
        };
        let (code, records) = match found {
            Ok(records) => (0, records),
            Err(code) => (code, Vec::new()),
        };
        let mut answer = message.get(..2)?.to_vec();
        // Flags: a response, authoritative, recursion available. The opcode and "recursion desired"
        // are those of the question.
        answer.push(0x84 | message.get(2)? & 0x79);
        answer.push(0x80 | code);
        for count in [1, records.len() as u16, 0, 0] {
            answer.extend_from_slice(&count.to_be_bytes());
        }
        answer.extend_from_slice(question);
        for record in records {
            // A pointer to the name of the question at byte 12 (RFC 1035 §4.1.4).
            answer.extend_from_slice(&[0xc0, 12]);
            answer.extend_from_slice(&record.kind().to_be_bytes());
            answer.extend_from_slice(&1u16.to_be_bytes());
            answer.extend_from_slice(&60u32.to_be_bytes());
            let data = record.data();
            answer.extend_from_slice(&(data.len() as u16).to_be_bytes());
            answer.extend_from_slice(&data);
        }
        Some(answer)
    }
}

/// The name, the type, and the bytes of the question.
fn parse_question(message: &[u8]) -> Option<(String, u16, &[u8])> {
    let is_response = message.get(2)? & 0x80 != 0;
    if is_response || message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut name = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => {
                if !name.is_empty() {
                    name.push(b'.');
                }
                name.extend_from_slice(message.get(at..at + length)?);
                at += length;
            }
            _ => return None,
        }
    }
    let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    let question = message.get(12..at + 4)?;
    let name = String::from_utf8(name).ok()?.to_lowercase();
    Some((name, kind, question))
}

fn push_name(bytes: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len().min(63) as u8);
        bytes.extend(label.bytes().take(63));
    }
    bytes.push(0);
}

/// Reads `NAME TYPE VALUE`.
pub(super) fn parse_record(text: &str) -> Result<(String, Record)> {
    let mut parts = text.splitn(3, ' ');
    let (Some(name), Some(kind), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("{text:?} is not NAME TYPE VALUE");
    };
    let record = match kind.to_ascii_uppercase().as_str() {
        "A" => Record::A(value.parse().with_context(|| format!("{text:?}"))?),
        "AAAA" => Record::Aaaa(value.parse().with_context(|| format!("{text:?}"))?),
        "TXT" => Record::Txt(value.trim_matches('"').to_owned()),
        "MX" => {
            let Some((preference, host)) = value.split_once(' ') else {
                bail!("{text:?}: an MX is a preference and a host");
            };
            let preference = preference.parse().with_context(|| format!("{text:?}"))?;
            Record::Mx(preference, host.trim_end_matches('.').to_owned())
        }
        _ => bail!("{text:?}: the type is none of A, AAAA, MX, TXT"),
    };
    Ok((name.trim_end_matches('.').to_owned(), record))
}

pub(crate) async fn serve(socket: &UdpSocket, zone: &Zone) -> Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        if let Some(answer) = zone.answer(buffer.get(..length).unwrap_or_default()) {
            socket.send_to(&answer, peer).await?;
        }
    }
}

/// Serves a zone at this address in a thread of its own, as long as this process lives. Gives the
/// address with its port.
pub(crate) fn serve_aside(address: SocketAddr, zone: Zone) -> Result<SocketAddr> {
    let socket = std::net::UdpSocket::bind(address)
        .with_context(|| format!("the DNS server can't have {address}"))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            if let Ok(socket) = UdpSocket::from_std(socket) {
                let _ = serve(&socket, &zone).await;
            }
        });
    });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        let mut zone = Zone::default();
        for text in [
            "a.test MX 10 mx.a.test",
            "mx.a.test A 127.0.1.1",
            "mx.a.test AAAA ::1",
            "a.test TXT \"v=spf1 -all\"",
            "null.test MX 0 .",
        ] {
            let (name, record) = parse_record(text).unwrap();
            zone.add(&name, record);
        }
        zone.fail("bad.test");
        zone
    }

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut message = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        push_name(&mut message, name);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message
    }

    /// Response code and number of answers.
    fn check(name: &str, kind: u16, expected: (u8, u8)) {
        let answer = zone().answer(&ask(name, kind)).unwrap();
        assert_eq!(answer[..3], [0x12, 0x34, 0x85], "{name}");
        assert_eq!((answer[3] & 0xf, answer[7]), expected, "{name} {kind}");
    }

    #[test]
    fn answers() {
        check("a.test", MX, (0, 1));
        check("A.Test", MX, (0, 1));
        check("mx.a.test", A, (0, 1));
        check("mx.a.test", AAAA, (0, 1));
        check("a.test", A, (0, 0));
        check("test", A, (0, 0));
        check("other.test", A, (NXDOMAIN, 0));
        check("xa.test", A, (NXDOMAIN, 0));
        check("mx.bad.test", A, (SERVFAIL, 0));
    }

    #[test]
    fn the_data_of_a_record() {
        let answer = zone().answer(&ask("a.test", MX)).unwrap();
        assert!(answer.ends_with(b"\x00\x0d\x00\x0a\x02mx\x01a\x04test\x00"));
        let answer = zone().answer(&ask("null.test", MX)).unwrap();
        assert!(answer.ends_with(b"\x00\x03\x00\x00\x00"));
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let question = ask("a.test", MX);
        for cut in 0..question.len() {
            assert_eq!(zone().answer(&question[..cut]), None, "{cut}");
        }
        let response = zone().answer(&question).unwrap();
        assert_eq!(zone().answer(&response), None);
        for wrong in ["a.test", "a.test PTR x", "a.test A x", "a.test MX mx"] {
            assert!(parse_record(wrong).is_err(), "{wrong}");
        }
    }
}
