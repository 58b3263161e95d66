//! The zones of a server, and the answers that follow from them (RFC 1034 §4.3.2, RFC 4035 §3.1).

use std::collections::{BTreeMap, BTreeSet};

use hickory_resolver::proto::{
    ProtoError,
    dnssec::rdata::{DNSSECRData, NSEC},
    op::{Message, ResponseCode},
    rr::{Name, RData, Record as WireRecord, RecordType as WireType, rdata},
};

use super::{Fault, TTL, signing::ZoneKey};

/// A zone, by the names and types of its records.
struct Zone {
    origin: Name,
    /// None: it is not signed.
    key: Option<ZoneKey>,
    records: BTreeMap<Name, BTreeMap<WireType, Vec<RData>>>,
}

/// Where a fault is.
struct Place {
    name: Name,
    /// None: with all types, and at all names below.
    record_type: Option<WireType>,
    fault: Fault,
}

#[derive(Default)]
pub(super) struct Zones {
    zones: Vec<Zone>,
    faults: Vec<Place>,
}

impl Zones {
    /// Adds a zone, and delegates it from the zone above.
    pub(super) fn add_zone(&mut self, origin: &Name, signed: bool) -> Result<(), ProtoError> {
        let key = match signed {
            true => Some(ZoneKey::new()?),
            false => None,
        };
        let server = Name::from_ascii("ns.")?.append_domain(origin)?;
        let ns = RData::NS(rdata::NS(server.clone()));
        if let Some(above) = self.of(origin) {
            above.add(origin, ns.clone());
            if let Some(key) = &key {
                above.add(origin, key.ds(origin)?);
            }
        }
        let mut zone = Zone {
            origin: origin.clone(),
            key,
            records: BTreeMap::new(),
        };
        let soa = rdata::SOA::new(server, Name::root(), 1, 3600, 600, 86400, TTL);
        zone.add(origin, RData::SOA(soa));
        zone.add(origin, ns);
        if let Some(key) = &zone.key {
            let key = key.dnskey();
            zone.add(origin, key);
        }
        self.zones.push(zone);
        Ok(())
    }

    /// Adds a record to the zone that the name is in.
    pub(super) fn add(&mut self, name: &Name, data: RData) {
        if let Some(zone) = self.of(name) {
            zone.add(name, data);
        }
    }

    pub(super) fn remove(&mut self, name: &Name) {
        if let Some(zone) = self.of(name) {
            zone.records.remove(name);
        }
    }

    pub(super) fn add_fault(&mut self, name: Name, record_type: Option<WireType>, fault: Fault) {
        self.faults.push(Place {
            name,
            record_type,
            fault,
        });
    }

    pub(super) fn mend(&mut self, name: &Name) {
        self.faults.retain(|place| place.name != *name);
    }

    /// The key of the root as a line of a zone file.
    pub(super) fn trust_anchor(&self) -> String {
        let root = self.zones.iter().find(|zone| zone.origin.is_root());
        let key = root.and_then(|zone| zone.key.as_ref());
        key.map_or_else(String::new, |key| {
            format!(". {TTL} IN DNSKEY {}\n", key.dnskey())
        })
    }

    /// The fault of the answer about a name and type.
    pub(super) fn fault(&self, name: &Name, record_type: WireType) -> Option<Fault> {
        let is_there = |place: &&Place| match place.record_type {
            Some(at) => at == record_type && place.name == *name,
            None => place.name.zone_of(name),
        };
        let places = self.faults.iter().rev();
        places.filter(is_there).map(|place| place.fault).next()
    }

    /// The lowest zone that a name is in.
    fn of(&mut self, name: &Name) -> Option<&mut Zone> {
        let zones = self.zones.iter_mut();
        zones
            .filter(|zone| zone.origin.zone_of(name))
            .max_by_key(|zone| zone.origin.num_labels())
    }

    /// The zone that answers a question. The zone above has the DS of a zone.
    fn answering(&self, name: &Name, record_type: WireType) -> Option<&Zone> {
        let above = record_type == WireType::DS && !name.is_root();
        let zones = self.zones.iter();
        zones
            .filter(|zone| zone.origin.zone_of(name) && !(above && zone.origin == *name))
            .max_by_key(|zone| zone.origin.num_labels())
    }

    /// Fills in the answer to a question, with signatures if they are wanted.
    pub(super) fn fill(
        &self,
        answer: &mut Message,
        name: &Name,
        record_type: WireType,
        dnssec: bool,
    ) -> Result<(), ProtoError> {
        let mut name = name.clone();
        let mut seen = BTreeSet::new();
        // A loop of CNAMEs is in the answer once.
        while seen.insert(name.clone()) {
            let Some(zone) = self.answering(&name, record_type) else {
                answer.metadata.response_code = ResponseCode::Refused;
                return Ok(());
            };
            let alias = zone.alias(&name).filter(|_| record_type != WireType::CNAME);
            if let Some(target) = alias {
                answer.add_answers(self.records(zone, &name, WireType::CNAME, dnssec)?);
                name = target;
                continue;
            }
            let records = self.records(zone, &name, record_type, dnssec)?;
            if !records.is_empty() {
                answer.add_answers(records);
                return Ok(());
            }
            if !zone.has(&name) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let apex = &zone.origin;
            answer.add_authorities(self.records(zone, apex, WireType::SOA, dnssec)?);
            if dnssec && zone.key.is_some() {
                for owner in zone.denying(&name) {
                    answer.add_authorities(self.records(zone, &owner, WireType::NSEC, true)?);
                }
            }
            return Ok(());
        }
        Ok(())
    }

    /// The records of a name and type, and their signature.
    fn records(
        &self,
        zone: &Zone,
        owner: &Name,
        record_type: WireType,
        dnssec: bool,
    ) -> Result<Vec<WireRecord>, ProtoError> {
        let data = match record_type {
            WireType::NSEC => vec![zone.nsec(owner)],
            _ => zone.data(owner, record_type).cloned().unwrap_or_default(),
        };
        let record = |data| WireRecord::from_rdata(owner.clone(), TTL, data);
        let mut records: Vec<WireRecord> = data.into_iter().map(record).collect();
        // The records of a delegation are not those of the zone above, but for the DS.
        let is_own = record_type != WireType::NS || *owner == zone.origin;
        let fault = self.fault(owner, record_type);
        if let Some(key) = &zone.key
            && dnssec
            && is_own
            && !records.is_empty()
            && fault != Some(Fault::Unsigned)
        {
            records.push(key.signature(&zone.origin, &records, owner, fault)?);
        }
        Ok(records)
    }
}

impl Zone {
    fn add(&mut self, name: &Name, data: RData) {
        let types = self.records.entry(name.clone()).or_default();
        types.entry(data.record_type()).or_default().push(data);
    }

    fn data(&self, owner: &Name, record_type: WireType) -> Option<&Vec<RData>> {
        self.records.get(owner)?.get(&record_type)
    }

    fn alias(&self, owner: &Name) -> Option<Name> {
        match self.data(owner, WireType::CNAME)?.first()? {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        }
    }

    /// The name, or one below it, has records.
    fn has(&self, name: &Name) -> bool {
        self.records.keys().any(|owner| name.zone_of(owner))
    }

    /// The owners of the NSECs that deny a name, or a type of it (RFC 4035 §3.1.3).
    fn denying(&self, name: &Name) -> BTreeSet<Name> {
        let mut denying = BTreeSet::from([self.covering(name)]);
        if !self.has(name) {
            let mut encloser = name.base_name();
            while !self.has(&encloser) {
                encloser = encloser.base_name();
            }
            if let Ok(wildcard) = encloser.prepend_label("*") {
                denying.insert(self.covering(&wildcard));
            }
        }
        denying
    }

    /// The owner at the name, or the last before it.
    fn covering(&self, name: &Name) -> Name {
        let before = self.records.range(..=name.clone()).next_back();
        before.map_or_else(|| self.origin.clone(), |(owner, _)| owner.clone())
    }

    /// The NSEC of an owner: the types that it has, and the next owner (RFC 4034 §4).
    fn nsec(&self, owner: &Name) -> RData {
        let mut owners = self.records.keys();
        let next = owners.find(|next| *next > owner).unwrap_or(&self.origin);
        let types = self.records.get(owner).into_iter();
        let types = types.flat_map(|types| types.keys().copied());
        let nsec = NSEC::new_cover_self(next.clone(), types);
        RData::DNSSEC(DNSSECRData::NSEC(nsec))
    }
}
