//! Changes of a zone at its primary server: DNS UPDATE (RFC 2136), signed by TSIG (RFC 8945), over
//! a stream such as TCP.
//!
//! A change names what it found before, as a prerequisite. If the zone has changed since, the
//! server refuses all changes of the message, and nothing is lost.

use std::time::Duration;

use hickory_resolver::proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record as WireRecord, RecordType as WireType, TSigner,
        rdata::{self, tsig},
    },
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    Record, RecordType,
    hickory::{host, read, wire_name, wire_type},
};

/// The difference of the clocks of both sides that is accepted (RFC 8945 §10).
const FUDGE: u16 = 300;
/// The longest string of a TXT record that is written. 255 bytes are possible, but some tools
/// handle shorter ones better.
pub const TXT_PIECE: usize = 100;

/// The algorithm of a key (RFC 8945 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

/// A key that the server of a zone knows.
#[derive(Clone, Copy)]
pub struct UpdateKey<'a> {
    /// The name.
    pub name: &'a str,
    /// The algorithm.
    pub algorithm: KeyAlgorithm,
    /// The secret.
    pub secret: &'a [u8],
}

impl UpdateKey<'_> {
    pub(crate) fn signer(self) -> Result<TSigner, UpdateError> {
        let algorithm = match self.algorithm {
            KeyAlgorithm::HmacSha256 => tsig::TsigAlgorithm::HmacSha256,
            KeyAlgorithm::HmacSha384 => tsig::TsigAlgorithm::HmacSha384,
            KeyAlgorithm::HmacSha512 => tsig::TsigAlgorithm::HmacSha512,
        };
        let signer = TSigner::new(self.secret.to_vec(), algorithm, name(self.name)?, FUDGE);
        signer.map_err(|error| UpdateError::Answer(error.to_string()))
    }
}

/// Why the server did not answer or change anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// A name is not a name of DNS.
    #[error("{0:?} is not a DNS name")]
    Name(String),
    /// The connection failed.
    #[error("talking to the server failed: {0}")]
    Io(String),
    /// The answer is no DNS message, has a wrong signature, or does not fit the question.
    #[error("the server's answer can't be used: {0}")]
    Answer(String),
    /// The server does not accept the key.
    #[error("{0}")]
    Key(&'static str),
    /// The server refuses this key's question or change.
    #[error("the server refuses; allow the key to read and to update the zone")]
    Refused,
    /// The server does not have the zone with this name.
    #[error("the server is not the primary server of a zone with {0}")]
    NotAuthoritative(String),
    /// Records have changed since they were read. Nothing was changed.
    #[error("the zone was changed by somebody else at the same time; nothing was written")]
    Changed,
    /// Another failure of the server.
    #[error("the server answers {0}")]
    Server(String),
}

/// A record, as the server of its zone has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRecord {
    /// What it says.
    pub record: Record,
    /// Its TTL in seconds.
    pub ttl: u32,
    /// Its bytes. A TXT record may be cut into strings in many ways.
    raw: RData,
}

impl ZoneRecord {
    /// A record as a server would have it that was given it by us.
    ///
    /// # Errors
    /// If a name in the record is not a name of DNS.
    pub fn new(record: Record, ttl: u32) -> Result<Self, UpdateError> {
        let raw = written(&record)?;
        Ok(Self { record, ttl, raw })
    }
}

/// The records of a name and type at the server of the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rrset {
    /// These records, perhaps none.
    Records(Vec<ZoneRecord>),
    /// The name is an alias of this name, so it can't have other records.
    Alias(String),
}

/// A change of the records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name.
    pub name: String,
    /// The type of the records.
    pub record_type: RecordType,
    /// All records of this name and type that were found.
    pub found: Vec<ZoneRecord>,
    /// Those of `found` that go.
    pub remove: Vec<ZoneRecord>,
    /// New records.
    pub add: Vec<Record>,
    /// The TTL of new records in seconds.
    pub ttl: u32,
}

/// A conversation with the primary server of a zone.
pub struct ZoneClient<S> {
    stream: S,
    zone: Name,
    signer: TSigner,
    /// The time as seconds since 1970.
    now: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ZoneClient<S> {
    /// Talks over `stream` about `zone`. `now` is the time since 1970.
    ///
    /// # Errors
    /// If a name is wrong, or the key can't be used.
    pub fn new(
        stream: S,
        zone: &str,
        key: UpdateKey<'_>,
        now: Duration,
    ) -> Result<Self, UpdateError> {
        Ok(Self {
            stream,
            zone: name(zone)?,
            signer: key.signer()?,
            now: now.as_secs(),
        })
    }

    /// The records of a name and type. A name without records has none of any type.
    ///
    /// # Errors
    /// If the server does not answer, refuses, or does not have the name.
    pub async fn read(
        &mut self,
        owner: &str,
        record_type: RecordType,
    ) -> Result<Rrset, UpdateError> {
        let wanted = name(owner)?;
        let mut message = Message::query();
        message.metadata.recursion_desired = false;
        let query = Query::query(wanted.clone(), wire_type(record_type));
        message.queries.push(query);
        let answer = self.exchange(message).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Err(self.failure(code, owner)),
        }
        if !answer.metadata.authoritative {
            return Err(UpdateError::NotAuthoritative(owner.to_owned()));
        }
        let mut records = Vec::new();
        for found in answer.answers.into_iter().filter(|r| r.name == wanted) {
            match (&found.data, read(&found.data)) {
                (RData::CNAME(alias), _) if record_type != RecordType::Cname => {
                    return Ok(Rrset::Alias(host(&alias.0)));
                }
                (_, Some(record)) if record.record_type() == record_type => {
                    records.push(ZoneRecord {
                        record,
                        ttl: found.ttl,
                        raw: found.data,
                    });
                }
                _ => {}
            }
        }
        Ok(Rrset::Records(records))
    }

    /// Makes all changes, or none.
    ///
    /// # Errors
    /// [`UpdateError::Changed`] if a record has changed since it was read. Other errors if the
    /// server does not answer or refuses.
    pub async fn update(&mut self, changes: &[Change]) -> Result<(), UpdateError> {
        let mut message = Message::query();
        message.metadata.op_code = OpCode::Update;
        message.metadata.recursion_desired = false;
        let zone = Query::query(self.zone.clone(), WireType::SOA);
        message.queries.push(zone);
        for change in changes {
            add_change(&mut message, change)?;
        }
        let answer = self.exchange(message).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            ResponseCode::YXDomain
            | ResponseCode::YXRRSet
            | ResponseCode::NXDomain
            | ResponseCode::NXRRSet => Err(UpdateError::Changed),
            code => Err(self.failure(code, &host(&self.zone))),
        }
    }

    fn failure(&self, code: ResponseCode, name: &str) -> UpdateError {
        match code {
            ResponseCode::Refused => UpdateError::Refused,
            ResponseCode::NotAuth | ResponseCode::NotZone => {
                UpdateError::NotAuthoritative(name.to_owned())
            }
            code => UpdateError::Server(code.to_str().to_owned()),
        }
    }

    /// Sends a message, and reads its answer. Both are signed.
    async fn exchange(&mut self, mut message: Message) -> Result<Message, UpdateError> {
        let io = |error: std::io::Error| UpdateError::Io(error.to_string());
        let unusable = |text: String| UpdateError::Answer(text);
        let signed = self.signer.sign_message(&message, self.now);
        let (signature, verifier) = signed.map_err(|error| unusable(error.to_string()))?;
        message.set_signature(signature);
        let bytes = message.to_vec();
        let bytes = bytes.map_err(|error| unusable(error.to_string()))?;
        let length = u16::try_from(bytes.len())
            .map_err(|_| unusable("the changes do not fit into one message".to_owned()))?;
        let framed = [&length.to_be_bytes()[..], &bytes].concat();
        self.stream.write_all(&framed).await.map_err(io)?;
        let length = self.stream.read_u16().await.map_err(io)?;
        let mut bytes = vec![0; usize::from(length)];
        self.stream.read_exact(&mut bytes).await.map_err(io)?;
        let answer = Message::from_vec(&bytes).map_err(|error| unusable(error.to_string()))?;
        if answer.metadata.id != message.metadata.id {
            return Err(unusable("it belongs to another question".to_owned()));
        }
        // A server that does not accept the key can't sign its answer with it (RFC 8945 §5.2).
        let signature = answer.signature.as_ref();
        if let Some(error) = signature.and_then(|signature| signature.data.error) {
            return Err(match error {
                tsig::TsigError::BadKey => {
                    UpdateError::Key("the server does not know the key: check key_name")
                }
                tsig::TsigError::BadTime => UpdateError::Key(
                    "the clocks of the server and of this machine differ by more than 5 minutes",
                ),
                _ => UpdateError::Key(
                    "the server has another secret for the key: check key_file and algorithm",
                ),
            });
        }
        if signature.is_none() && answer.metadata.response_code != ResponseCode::NoError {
            // It only says that nothing was done. Nobody can gain by it.
            return Err(self.failure(answer.metadata.response_code, &host(&self.zone)));
        }
        let mut verifier = verifier.ok_or_else(|| unusable("nothing was signed".to_owned()))?;
        verifier
            .verify(&bytes)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(answer)
    }
}

/// Adds the prerequisites (RFC 2136 §2.4) and the changes (§2.5) of a name and type.
fn add_change(message: &mut Message, change: &Change) -> Result<(), UpdateError> {
    let owner = name(&change.name)?;
    let of = |class: DNSClass, ttl: u32, data: RData| {
        let mut record = WireRecord::from_rdata(owner.clone(), ttl, data);
        record.dns_class = class;
        record
    };
    if change.found.is_empty() {
        // An alias must be alone at its name. Other records must not exist beside an alias, which
        // a server would keep without a word.
        let absent = match change.record_type {
            RecordType::Cname => vec![WireType::ANY],
            other => vec![wire_type(other), WireType::CNAME],
        };
        for wire in absent {
            let mut none = WireRecord::update0(owner.clone(), 0, wire);
            none.dns_class = DNSClass::NONE;
            message.answers.push(none);
        }
    }
    for found in &change.found {
        let there = of(DNSClass::IN, 0, found.raw.clone());
        message.answers.push(there);
    }
    for gone in &change.remove {
        let gone = of(DNSClass::NONE, 0, gone.raw.clone());
        message.authorities.push(gone);
    }
    for new in &change.add {
        let new = of(DNSClass::IN, change.ttl, written(new)?);
        message.authorities.push(new);
    }
    Ok(())
}

pub(crate) fn name(text: &str) -> Result<Name, UpdateError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    wire_name(text).map_err(|_| UpdateError::Name(text.to_owned()))
}

/// The data of a record, as it is sent.
pub(crate) fn written(record: &Record) -> Result<RData, UpdateError> {
    Ok(match record {
        Record::A(address) => RData::A((*address).into()),
        Record::Aaaa(address) => RData::AAAA((*address).into()),
        Record::Caa(caa) => {
            // The library has no other way to make one with any value.
            let mut data = rdata::CAA::new_issue(caa.critical, None, Vec::new());
            data.tag = caa.tag.clone();
            data.value = caa.value.clone();
            RData::CAA(data)
        }
        Record::Cname(target) => RData::CNAME(rdata::CNAME(name(target)?)),
        Record::Mx(mx) => RData::MX(rdata::MX::new(mx.preference, name(&mx.host)?)),
        Record::Ns(server) => RData::NS(rdata::NS(name(server)?)),
        Record::Ptr(name) => RData::PTR(rdata::PTR(self::name(name)?)),
        Record::Srv(srv) => RData::SRV(rdata::SRV::new(
            srv.priority,
            srv.weight,
            srv.port,
            name(&srv.target)?,
        )),
        Record::Tlsa(tlsa) => RData::TLSA(rdata::TLSA::new(
            tlsa.usage.into(),
            tlsa.selector.into(),
            tlsa.matching.into(),
            tlsa.data.clone(),
        )),
        Record::Txt(text) => {
            let pieces = match text.as_slice() {
                [] => vec![&[][..]],
                text => text.chunks(TXT_PIECE).collect(),
            };
            RData::TXT(rdata::TXT::from_bytes(pieces))
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;
    use crate::{FakePrimary, Mx};

    const NOW: u64 = 1_800_000_000;
    const KEY: UpdateKey<'_> = UpdateKey {
        name: "key_1",
        algorithm: KeyAlgorithm::HmacSha256,
        secret: b"a secret",
    };

    fn primary() -> FakePrimary {
        FakePrimary::new("example.org", KEY, NOW).unwrap()
    }

    /// A client of a server, with this key and time.
    fn client(server: &FakePrimary, key: UpdateKey<'_>, now: u64) -> ZoneClient<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let server = server.clone();
        tokio::spawn(async move { server.serve(theirs).await });
        ZoneClient::new(ours, "example.org", key, Duration::from_secs(now)).unwrap()
    }

    fn text(text: &str) -> Record {
        Record::Txt(text.as_bytes().to_vec())
    }

    fn mx(host: &str) -> Record {
        Record::Mx(Mx {
            preference: 10,
            host: host.to_owned(),
        })
    }

    fn change(name: &str, found: Rrset, remove: &[usize], add: &[Record]) -> Change {
        let Rrset::Records(found) = found else {
            panic!("{found:?}");
        };
        Change {
            name: name.to_owned(),
            record_type: add[0].record_type(),
            remove: remove.iter().map(|at| found[*at].clone()).collect(),
            ttl: found.first().map_or(300, |found| found.ttl),
            found,
            add: add.to_vec(),
        }
    }

    #[tokio::test]
    async fn records_are_read_and_changed_in_one_step() {
        let server = primary();
        let long = "x".repeat(400);
        server.add("example.org", &text("other")).unwrap();
        server.add("example.org", &text("v=spf1 -all")).unwrap();
        let mut client = client(&server, KEY, NOW);
        let texts = client.read("Example.org", RecordType::Txt).await.unwrap();
        let none = client.read("a.example.org", RecordType::Mx).await.unwrap();
        assert_eq!(none, Rrset::Records(Vec::new()));
        let changes = [
            change("example.org", texts, &[1], &[text(&long)]),
            change("a.example.org", none, &[], &[mx("b.example.org")]),
        ];
        client.update(&changes).await.unwrap();
        let texts = server.records("example.org", RecordType::Txt);
        assert_eq!(texts, [text("other"), text(&long)]);
        let mxs = server.records("a.example.org", RecordType::Mx);
        assert_eq!(mxs, [mx("b.example.org")]);
        assert_eq!(server.updates(), 1);
        // What was found is not there any more.
        assert_eq!(client.update(&changes).await, Err(UpdateError::Changed));
        assert_eq!(server.updates(), 1);
    }

    #[tokio::test]
    async fn an_alias_is_told_and_never_gets_other_records() {
        let server = primary();
        let alias = Record::Cname("host.example.net".into());
        server.add("www.example.org", &alias).unwrap();
        let mut client = client(&server, KEY, NOW);
        for record_type in [RecordType::A, RecordType::Txt] {
            let found = client.read("www.example.org", record_type).await;
            assert_eq!(found, Ok(Rrset::Alias("host.example.net".into())));
        }
        let found = client.read("www.example.org", RecordType::Cname).await;
        let expected = ZoneRecord::new(alias.clone(), 3600).unwrap();
        assert_eq!(found, Ok(Rrset::Records(vec![expected])));
        // It came after the question.
        let none = || Rrset::Records(Vec::new());
        let beside = change("www.example.org", none(), &[], &[text("x")]);
        assert_eq!(client.update(&[beside]).await, Err(UpdateError::Changed));
        server.add("a.example.org", &text("x")).unwrap();
        let over = change("a.example.org", none(), &[], &[alias]);
        assert_eq!(client.update(&[over]).await, Err(UpdateError::Changed));
        assert_eq!(server.updates(), 0);
    }

    #[tokio::test]
    async fn refusals_say_what_to_look_at() {
        let server = primary();
        let other_name = UpdateKey {
            name: "key_2",
            ..KEY
        };
        let other_secret = UpdateKey {
            secret: b"another",
            ..KEY
        };
        for (key, now, part) in [
            (other_name, NOW, "does not know the key"),
            (other_secret, NOW, "has another secret"),
            (KEY, NOW + 600, "clocks"),
        ] {
            let mut client = client(&server, key, now);
            let error = client
                .read("example.org", RecordType::Mx)
                .await
                .unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let mut client = client(&server, KEY, NOW);
        let error = client.read("example.net", RecordType::Mx).await;
        assert_eq!(error, Err(UpdateError::Refused));
        let error = client.read("a..b", RecordType::Mx).await;
        assert_eq!(error, Err(UpdateError::Name("a..b".into())));
    }

    #[tokio::test]
    async fn hostile_answers_are_errors() {
        for answer in [
            &b""[..],
            b"\0",
            b"\0\x0cshort",
            b"\0\x0c123456789012",
            b"\0\x02ab",
        ] {
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            theirs.write_all(answer).await.unwrap();
            theirs.shutdown().await.unwrap();
            let now = Duration::from_secs(NOW);
            let mut client = ZoneClient::new(ours, "example.org", KEY, now).unwrap();
            let result = client.read("example.org", RecordType::Mx).await;
            assert!(result.is_err(), "{answer:?}");
        }
        // A signed answer that somebody changed.
        let server = primary();
        server.add("example.org", &text("a")).unwrap();
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let task = tokio::spawn(async move {
            let length = theirs.read_u16().await.unwrap();
            let mut question = vec![0; usize::from(length)];
            theirs.read_exact(&mut question).await.unwrap();
            let (mut to_server, at_server) = tokio::io::duplex(1 << 16);
            tokio::spawn(async move { server.serve(at_server).await });
            to_server.write_u16(length).await.unwrap();
            to_server.write_all(&question).await.unwrap();
            let length = to_server.read_u16().await.unwrap();
            let mut answer = vec![0; usize::from(length)];
            to_server.read_exact(&mut answer).await.unwrap();
            let at = answer.windows(2).position(|it| it == b"\x01a").unwrap();
            answer[at + 1] = b'b';
            theirs.write_u16(length).await.unwrap();
            theirs.write_all(&answer).await.unwrap();
        });
        let now = Duration::from_secs(NOW);
        let mut client = ZoneClient::new(ours, "example.org", KEY, now).unwrap();
        let result = client.read("example.org", RecordType::Txt).await;
        assert!(matches!(result, Err(UpdateError::Answer(_))), "{result:?}");
        task.await.unwrap();
    }
}
