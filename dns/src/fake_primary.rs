//! The primary server of a zone in memory, for tests of changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_resolver::proto::{
    ProtoError,
    op::{Message, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record as WireRecord, RecordType as WireType, TSigResponseContext,
        TSigner, rdata::tsig::TsigError,
    },
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    Record, RecordType, UpdateError, UpdateKey,
    hickory::{read, wire_type},
    update::{name, written},
};

/// The primary server of a zone, with one key. It answers questions about the zone, and takes
/// changes (RFC 2136). Clones share the zone.
#[derive(Clone)]
pub struct FakePrimary {
    zone: Arc<Mutex<Zone>>,
    signer: TSigner,
    /// The time as seconds since 1970.
    now: u64,
}

struct Zone {
    origin: Name,
    records: Vec<WireRecord>,
    /// The number of messages that changed the zone.
    updates: usize,
}

impl FakePrimary {
    /// The server of an empty zone. `now` is the time in seconds since 1970.
    ///
    /// # Errors
    /// If a name is wrong, or the key can't be used.
    pub fn new(zone: &str, key: UpdateKey<'_>, now: u64) -> Result<Self, UpdateError> {
        let zone = Zone {
            origin: name(zone)?,
            records: Vec::new(),
            updates: 0,
        };
        Ok(Self {
            zone: Arc::new(Mutex::new(zone)),
            signer: key.signer()?,
            now,
        })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// If a name is wrong.
    pub fn add(&self, owner: &str, record: &Record) -> Result<(), UpdateError> {
        let record = WireRecord::from_rdata(name(owner)?, 3600, written(record)?);
        self.zone().records.push(record);
        Ok(())
    }

    /// The records of a name and type.
    #[must_use]
    pub fn records(&self, owner: &str, record_type: RecordType) -> Vec<Record> {
        let Ok(owner) = name(owner) else {
            return Vec::new();
        };
        let zone = self.zone();
        let records = zone.of(&owner, wire_type(record_type));
        records.filter_map(|record| read(&record.data)).collect()
    }

    /// The number of messages that changed the zone.
    #[must_use]
    pub fn updates(&self) -> usize {
        self.zone().updates
    }

    /// Answers the messages on a stream until the client closes it.
    ///
    /// # Errors
    /// If the stream fails.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
    ) -> std::io::Result<()> {
        loop {
            let length = match stream.read_u16().await {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut message = vec![0; usize::from(length)];
            stream.read_exact(&mut message).await?;
            let answer = self.answer(&message).map_err(std::io::Error::other)?;
            let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
            let framed = [&length.to_be_bytes()[..], &answer].concat();
            stream.write_all(&framed).await?;
        }
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, bytes: &[u8]) -> Result<Vec<u8>, ProtoError> {
        let message = Message::from_vec(bytes)?;
        let id = message.metadata.id;
        let mut answer = Message::response(id, message.metadata.op_code);
        let known = message
            .signature()
            .is_some_and(|signature| signature.name == *self.signer.signer_name());
        let verified = self.signer.verify_message_byte(bytes, None, true);
        let context = match verified {
            Ok((mac, time, _)) if time.abs_diff(self.now) <= u64::from(self.signer.fudge()) => {
                let code = match message.metadata.op_code {
                    OpCode::Update => self.zone().update(&message),
                    _ => self.zone().question(&message, &mut answer),
                };
                answer.metadata.response_code = code;
                TSigResponseContext::new(id, self.now, self.signer.clone(), mac, None)
            }
            Ok((mac, ..)) => {
                answer.metadata.response_code = ResponseCode::NotAuth;
                let (signer, error) = (self.signer.clone(), Some(TsigError::BadTime));
                TSigResponseContext::new(id, self.now, signer, mac, error)
            }
            Err(_) => {
                answer.metadata.response_code = ResponseCode::NotAuth;
                match known {
                    true => TSigResponseContext::bad_signature(id, self.now, self.signer.clone()),
                    false => {
                        let name = self.signer.signer_name().clone();
                        TSigResponseContext::unknown_key(id, self.now, name)
                    }
                }
            }
        };
        let signature = context.sign(&answer.to_vec()?)?;
        answer.set_signature(signature);
        answer.to_vec()
    }
}

impl Zone {
    fn of(&self, owner: &Name, wire: WireType) -> impl Iterator<Item = &WireRecord> {
        let of_owner = self.records.iter().filter(move |it| it.name == *owner);
        of_owner.filter(move |it| wire == WireType::ANY || it.record_type() == wire)
    }

    fn question(&self, message: &Message, answer: &mut Message) -> ResponseCode {
        let Some(query) = message.queries.first() else {
            return ResponseCode::FormErr;
        };
        if !self.origin.zone_of(query.name()) {
            return ResponseCode::Refused;
        }
        answer.metadata.authoritative = true;
        answer.queries.push(query.clone());
        let Some(owner) = self.owner(query.name()) else {
            return ResponseCode::NXDomain;
        };
        let alias = self.of(&owner, WireType::CNAME);
        let found = self.of(&owner, query.query_type());
        for record in alias.chain(found) {
            let mut record = record.clone();
            record.name = query.name().clone();
            if !answer.answers.contains(&record) {
                answer.answers.push(record);
            }
        }
        ResponseCode::NoError
    }

    /// The name with the records of a name: itself, or a wildcard above it (RFC 4592).
    fn owner(&self, name: &Name) -> Option<Name> {
        let exists = |name: &Name| self.of(name, WireType::ANY).next().is_some();
        if exists(name) {
            return Some(name.clone());
        }
        let mut above = name.base_name();
        while self.origin.zone_of(&above) && !above.is_root() {
            let wildcard = Name::from_ascii("*").ok()?.append_domain(&above).ok()?;
            if exists(&wildcard) {
                return Some(wildcard);
            }
            above = above.base_name();
        }
        None
    }

    /// Makes all changes, if the prerequisites are true (RFC 2136 §3.2, §3.4).
    fn update(&mut self, message: &Message) -> ResponseCode {
        let zone = message.queries.first().map(|query| query.name());
        if zone != Some(&self.origin) {
            return ResponseCode::NotAuth;
        }
        for wanted in &message.answers {
            let there = self.of(&wanted.name, wanted.record_type()).count();
            match wanted.dns_class {
                DNSClass::NONE if there == 0 => {}
                DNSClass::NONE => return ResponseCode::YXRRSet,
                _ => {
                    // The whole set is named, record by record.
                    let named = message.answers.iter().filter(|it| {
                        it.dns_class == DNSClass::IN
                            && (&it.name, it.record_type()) == (&wanted.name, wanted.record_type())
                    });
                    let same = self
                        .of(&wanted.name, wanted.record_type())
                        .any(|it| it.data == wanted.data);
                    if !same || named.count() != there {
                        return ResponseCode::NXRRSet;
                    }
                }
            }
        }
        for change in &message.authorities {
            match change.dns_class {
                DNSClass::NONE => self.records.retain(|it| {
                    (&it.name, &it.data) != (&change.name, &change.data)
                        || matches!(it.data, RData::SOA(_))
                }),
                // All records of a name and type have one TTL (RFC 2181 §5.2). A real server then
                // changes that of the others.
                _ if self
                    .of(&change.name, change.record_type())
                    .any(|it| it.ttl != change.ttl) =>
                {
                    return ResponseCode::FormErr;
                }
                _ => self.records.push(change.clone()),
            }
        }
        self.updates += 1;
        ResponseCode::NoError
    }
}

impl std::fmt::Debug for FakePrimary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakePrimary").finish_non_exhaustive()
    }
}
