//! The key of a zone, and the signatures that it makes.

use hickory_resolver::proto::{
    ProtoError,
    dnssec::{
        Algorithm, DigestType, SigningKey, TBS,
        crypto::Ed25519SigningKey,
        rdata::{DNSKEY, DNSSECRData, DS, RRSIG, SigInput},
    },
    rr::{DNSClass, Name, RData, Record as WireRecord, RecordType as WireType, SerialNumber},
};

use super::{Fault, TTL};

/// When signatures begin and end, in seconds since 1970: at the starts of 2020 and 2080.
const VALID: (u32, u32) = (1_577_836_800, 3_471_292_800);
/// In 2019.
const EXPIRED: (u32, u32) = (1_546_300_800, 1_577_836_800);

/// A key that signs a zone.
pub(super) struct ZoneKey {
    key: Ed25519SigningKey,
    /// Signs in the place of `key`, and is not in the zone.
    other: Ed25519SigningKey,
    dnskey: DNSKEY,
}

impl ZoneKey {
    pub(super) fn new() -> Result<Self, ProtoError> {
        let (key, other) = (generate()?, generate()?);
        let dnskey = DNSKEY::from_key(&key.to_public_key().map_err(failed)?);
        Ok(Self { key, other, dnskey })
    }

    /// The key as a record of its zone.
    pub(super) fn dnskey(&self) -> RData {
        RData::DNSSEC(DNSSECRData::DNSKEY(self.dnskey.clone()))
    }

    /// The key as a record of the zone above, which makes it trusted.
    pub(super) fn ds(&self, zone: &Name) -> Result<RData, ProtoError> {
        let key = self.key.to_public_key().map_err(failed)?;
        let ds = DS::from_key(&key, zone, DigestType::SHA256).map_err(failed)?;
        Ok(RData::DNSSEC(DNSSECRData::DS(ds)))
    }

    /// The signature of the records of one name and type.
    pub(super) fn signature(
        &self,
        zone: &Name,
        records: &[WireRecord],
        owner: &Name,
        fault: Option<Fault>,
    ) -> Result<WireRecord, ProtoError> {
        let (inception, expiration) = match fault {
            Some(Fault::Expired) => EXPIRED,
            _ => VALID,
        };
        let covered = records.first().map(WireRecord::record_type);
        let input = SigInput {
            type_covered: covered.unwrap_or(WireType::ZERO),
            algorithm: Algorithm::ED25519,
            num_labels: owner.num_labels(),
            original_ttl: TTL,
            sig_expiration: SerialNumber::new(expiration),
            sig_inception: SerialNumber::new(inception),
            key_tag: self.dnskey.calculate_key_tag()?,
            signer_name: zone.clone(),
        };
        let signed = TBS::from_input(owner, DNSClass::IN, &input, records.iter())?;
        let key = match fault {
            Some(Fault::OtherKey) => &self.other,
            _ => &self.key,
        };
        let signature = RRSIG::from_sig(input, key.sign(&signed).map_err(failed)?);
        let data = RData::DNSSEC(DNSSECRData::RRSIG(signature));
        Ok(WireRecord::from_rdata(owner.clone(), TTL, data))
    }
}

fn generate() -> Result<Ed25519SigningKey, ProtoError> {
    let key = Ed25519SigningKey::generate_pkcs8().map_err(failed)?;
    Ed25519SigningKey::from_pkcs8(&key).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> ProtoError {
    ProtoError::from(error.to_string())
}
