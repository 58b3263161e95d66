//! From the name of a question along its CNAMEs to the records: a value without I/O. It takes the
//! responses of servers one after the other, and each says which name is asked about next.
//!
//! The crate follows CNAMEs too. But it loses those before a denial, takes a loop for a denial, and
//! takes a proven denial behind a CNAME for a bogus one. So it is asked about one name at a time.

use std::{io::ErrorKind, time::Duration};

use hickory_resolver::{
    net::{DnsError as NetDnsError, NetError},
    proto::{
        dnssec::{Proof, rdata::DNSSECRData},
        op::{DnsResponse, ResponseCode},
        rr::{Name, RData, Record as WireRecord, RecordType as WireType},
    },
};

use postrider_observe::metrics::DnsResult;

use super::wire::{host, read, wire_type};
use crate::{ALIASES_MAX, Alias, Answer, DnsError, Negative, Record, RecordType};

/// The TTL of a negative answer of which the server does not say how long it holds: one without the
/// SOA (RFC 2308 §5). The checks of a message ask mostly for what is not there.
const NEGATIVE_TTL: u32 = 60;

/// What a server says to a question about one name.
#[derive(Debug)]
pub(super) struct Response {
    code: ResponseCode,
    /// With their proofs.
    answers: Vec<WireRecord>,
    /// The denial of what is not in `answers` is there, and all of it is secure.
    denial_secure: bool,
    /// How long a denial holds, in seconds.
    negative_ttl: u32,
}

impl Response {
    /// What the response says, for the metrics.
    pub(super) fn result(&self) -> DnsResult {
        match self.code {
            ResponseCode::NoError if self.answers.is_empty() => DnsResult::NoData,
            code => result_of(code),
        }
    }

    /// The response to a question about `name`.
    ///
    /// # Errors
    /// If there is no answer, or DNSSEC proves it wrong.
    pub(super) fn read(
        name: &Name,
        result: Result<DnsResponse, NetError>,
    ) -> Result<Self, DnsError> {
        match result {
            Ok(response) => Ok(Self::of_message(&response)),
            Err(NetError::Dns(NetDnsError::NoRecordsFound(none))) => Ok(Self {
                code: none.response_code,
                answers: Vec::new(),
                denial_secure: is_secure(none.authorities.iter().flat_map(|it| it.iter())),
                negative_ttl: none.negative_ttl.unwrap_or(NEGATIVE_TTL),
            }),
            Err(NetError::Dns(NetDnsError::Nsec {
                response, proof, ..
            })) => Self::unproven(name, &response, proof),
            Err(NetError::Dns(NetDnsError::DnssecBogus)) => {
                Err(DnsError::Bogus { name: host(name) })
            }
            Err(NetError::Io(error)) => Err(match error.raw_os_error() {
                Some(errno) => DnsError::System {
                    errno,
                    text: error.to_string(),
                },
                None => DnsError::Temporary(error.to_string()),
            }),
            Err(error) => Err(DnsError::Temporary(error.to_string())),
        }
    }

    /// The response whose denial has this proof, or what it should deny for a wildcard.
    fn unproven(name: &Name, response: &DnsResponse, proof: Proof) -> Result<Self, DnsError> {
        // An unsigned zone has no proof, and needs none.
        if proof == Proof::Insecure {
            let mut read = Self::of_message(response);
            read.denial_secure = false;
            for record in &mut read.answers {
                record.proof = record.proof.min(Proof::Insecure);
            }
            return Ok(read);
        }
        // The crate takes the denial for one of `name`. If `name` has a CNAME, it is one of the
        // name that the CNAME leads to, which is asked about next.
        let alias = alias_of(name, &response.answers);
        match alias.map(|alias| (alias, alias.proof)) {
            Some((alias, Proof::Insecure)) => Ok(Self::of_alias(alias)),
            Some((alias, Proof::Secure)) if !is_wildcard(name, &response.answers) => {
                Ok(Self::of_alias(alias))
            }
            _ => Err(DnsError::Bogus { name: host(name) }),
        }
    }

    fn of_alias(alias: &WireRecord) -> Self {
        Self {
            code: ResponseCode::NoError,
            answers: vec![alias.clone()],
            denial_secure: false,
            negative_ttl: NEGATIVE_TTL,
        }
    }

    /// Whether the records of this name and type are there, and secure.
    pub(super) fn has_secure(&self, name: &Name, record_type: WireType) -> bool {
        let records = self.answers.iter();
        is_secure(records.filter(|it| it.name == *name && it.record_type() == record_type))
    }

    fn of_message(response: &DnsResponse) -> Self {
        Self {
            code: response.response_code,
            answers: response.answers.clone(),
            denial_secure: is_secure(response.authorities.iter()),
            negative_ttl: response.negative_ttl().unwrap_or(NEGATIVE_TTL),
        }
    }
}

/// What a response with this code and with records says, for the metrics.
const fn result_of(code: ResponseCode) -> DnsResult {
    match code {
        ResponseCode::NoError => DnsResult::Ok,
        ResponseCode::NXDomain => DnsResult::NxDomain,
        ResponseCode::Refused => DnsResult::Refused,
        _ => DnsResult::ServFail,
    }
}

/// Why there is no response, for the metrics.
pub(super) fn failure(error: &NetError) -> DnsResult {
    match error {
        NetError::Dns(NetDnsError::ResponseCode(code)) => result_of(*code),
        NetError::Dns(NetDnsError::DnssecBogus) => DnsResult::Bogus,
        NetError::Timeout => DnsResult::Timeout,
        NetError::Io(error) if error.kind() == ErrorKind::TimedOut => DnsResult::Timeout,
        _ => DnsResult::Error,
    }
}

/// All of the records are secure, and there are some. Signatures have no proof of their own.
fn is_secure<'a>(records: impl Iterator<Item = &'a WireRecord>) -> bool {
    let records = records.filter(|record| record.record_type() != WireType::RRSIG);
    records.map(|record| record.proof).min() == Some(Proof::Secure)
}

/// The CNAME of a name.
fn alias_of<'a>(name: &Name, answers: &'a [WireRecord]) -> Option<&'a WireRecord> {
    let is_alias = |record: &&WireRecord| matches!(record.data, RData::CNAME(_));
    answers
        .iter()
        .filter(is_alias)
        .find(|record| record.name == *name)
}

/// The CNAME of a name was made from a wildcard, as the labels of its signature say (RFC 4035
/// §5.3.4): it needs the proof that the name itself does not exist.
fn is_wildcard(name: &Name, answers: &[WireRecord]) -> bool {
    answers.iter().any(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => {
            record.name == *name && signature.input().num_labels < name.num_labels()
        }
        _ => false,
    })
}

/// The way from a name to its records, as far as it is known.
#[derive(Debug)]
pub(super) struct Chain {
    /// The name that is asked about now.
    name: Name,
    record_type: RecordType,
    aliases: Vec<Alias>,
    /// The smallest TTL of the CNAMEs, in seconds.
    ttl: u32,
}

impl Chain {
    pub(super) const fn new(name: Name, record_type: RecordType) -> Self {
        Self {
            name,
            record_type,
            aliases: Vec::new(),
            ttl: u32::MAX,
        }
    }

    /// The name to ask about.
    pub(super) const fn name(&self) -> &Name {
        &self.name
    }

    /// Takes the response about the name. None if another name has to be asked about.
    ///
    /// # Errors
    /// If there are no records, DNSSEC proves a step wrong, or the CNAMEs do not end.
    pub(super) fn step(&mut self, response: &Response) -> Result<Option<Answer<Record>>, DnsError> {
        let before = self.aliases.len();
        if self.record_type != RecordType::Cname {
            while let Some(alias) = alias_of(&self.name, &response.answers) {
                self.follow(alias)?;
            }
        }
        let wanted = wire_type(self.record_type);
        let found = response.answers.iter();
        let found: Vec<&WireRecord> = found
            .filter(|record| record.record_type() == wanted && record.name == self.name)
            .collect();
        if found.is_empty() && self.aliases.len() > before {
            return Ok(None);
        }
        let ttls = found.iter().map(|record| record.ttl);
        let ttl = match ttls.min() {
            Some(ttl) => ttl,
            None => response.negative_ttl,
        };
        let ttl = Duration::from_secs(ttl.min(self.ttl).into());
        let aliases_secure = self.aliases.iter().all(|alias| alias.authentic);
        if found.is_empty() {
            let negative = Negative {
                authentic: response.denial_secure && aliases_secure,
                ttl,
            };
            return Err(match response.code {
                ResponseCode::NXDomain => DnsError::NoName(negative),
                _ => DnsError::NoRecords(negative),
            });
        }
        let proof = found.iter().map(|record| record.proof).min();
        let secure = self.judge(proof)?;
        Ok(Some(Answer {
            records: found.iter().filter_map(|it| read(&it.data)).collect(),
            aliases: std::mem::take(&mut self.aliases),
            authentic: secure && aliases_secure,
            ttl,
        }))
    }

    fn follow(&mut self, record: &WireRecord) -> Result<(), DnsError> {
        let RData::CNAME(target) = &record.data else {
            return Ok(());
        };
        let authentic = self.judge(Some(record.proof))?;
        if self.aliases.len() == ALIASES_MAX {
            let text = format!(
                "{:?} is a loop of CNAMEs, or more than {ALIASES_MAX} of them",
                host(&self.name)
            );
            return Err(DnsError::Temporary(text));
        }
        self.aliases.push(Alias {
            target: host(&target.0),
            authentic,
        });
        self.ttl = self.ttl.min(record.ttl);
        self.name = target.0.clone();
        Ok(())
    }

    /// Whether records with this lowest proof are secure.
    fn judge(&self, proof: Option<Proof>) -> Result<bool, DnsError> {
        match proof {
            Some(Proof::Bogus) => Err(DnsError::Bogus {
                name: host(&self.name),
            }),
            proof => Ok(proof == Some(Proof::Secure)),
        }
    }
}

#[cfg(test)]
mod tests;
