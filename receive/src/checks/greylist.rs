//! The greylist: a doubtful stranger has to try again, which programs that only send junk do not
//! do.
//!
//! | part | what it has |
//! |---|---|
//! | [`is_doubtful`] | who has to try again |
//! | [`Greylist`] | who did so, in the store |

use std::net::IpAddr;

use hmac::{Hmac, Mac};
use postrider_store::{GreyAttempt, Greyness, Store, StoreError, Time};
use sha2::Sha256;
use tokio::sync::OnceCell;

use super::{
    iprev::{IprevOutcome, IprevResult},
    spf::{SpfOutcome, SpfResult},
};
use crate::network;

/// The most senders and networks that are remembered.
const MAX_ROWS: u64 = 1_000_000;

/// Whether a stranger has to try again: SPF does not pass, and the names of its address or its
/// connection do not look like those of a mail server. A check without a result by now has not
/// passed.
#[must_use]
pub fn is_doubtful(
    iprev: Option<&IprevResult>,
    spf: Option<&SpfResult>,
    client: IpAddr,
    has_tls: bool,
) -> bool {
    if spf.is_some_and(|spf| spf.outcome == SpfOutcome::Pass) {
        return false;
    }
    let iprev = iprev.filter(|iprev| iprev.outcome == IprevOutcome::Pass);
    let name = iprev.and_then(|iprev| iprev.name.as_deref());
    !has_tls || name.is_none_or(|name| is_address_within(name, client))
}

/// Whether a name was made out of an address, as providers name the lines of their customers. The
/// numbers of the address stand in it in their order or in reverse.
fn is_address_within(name: &str, address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let octets = address.octets();
            let mut reverse = octets;
            reverse.reverse();
            let runs = name.split(|c: char| !c.is_ascii_digit());
            let numbers: Vec<_> = runs.filter(|run| !run.is_empty()).collect();
            let as_numbers = |wanted: [u8; 4]| {
                numbers.windows(4).any(|window| {
                    let mut pairs = window.iter().zip(wanted);
                    pairs.all(|(found, wanted)| found.parse() == Ok(wanted))
                })
            };
            let lower = name.to_ascii_lowercase();
            [octets, reverse].into_iter().any(|octets| {
                let padded: String = octets.iter().map(|octet| format!("{octet:03}")).collect();
                let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
                as_numbers(octets) || lower.contains(&padded) || lower.contains(&hex)
            })
        }
        IpAddr::V6(address) => {
            let digits: String = name
                .chars()
                .filter(char::is_ascii_hexdigit)
                .map(|c| c.to_ascii_lowercase())
                .collect();
            let all = format!("{:032x}", address.to_bits());
            // The part for the line and the host. Providers leave out their own prefix.
            let line = all.get(12..).unwrap_or(&all);
            let reverse: String = line.chars().rev().collect();
            digits.contains(line) || digits.contains(&reverse)
        }
    }
}

/// The senders that came before. Only keyed hashes of them are kept.
#[derive(Debug, Default)]
pub struct Greylist {
    /// The key of the hashes, once it was read.
    secret: OnceCell<[u8; 16]>,
}

impl Greylist {
    /// Whether a sender passes, since it or its network came before, and why. The attempt is
    /// remembered.
    /// `from` is the domain of the reverse-path, and `rcpt` the recipient in the form that all
    /// spellings of the address have in common.
    ///
    /// # Errors
    /// If the store can't be read or changed.
    pub async fn attempt(
        &self,
        store: &Store,
        client: IpAddr,
        from: &str,
        rcpt: &str,
        now: Time,
    ) -> Result<Greyness, StoreError> {
        let read = || store.greylist_secret(rand::random());
        let secret = self.secret.get_or_try_init(read).await?;
        let network = network_of(client).to_string();
        let from = from.to_ascii_lowercase();
        let attempt = GreyAttempt {
            sender: hash(secret, &["sender", &network, &from, rcpt]),
            network: hash(secret, &["network", &network]),
            now,
            max_rows: MAX_ROWS,
        };
        store.try_greylist(attempt).await
    }
}

/// The first address of the /24 or /64 around an address. Mail servers try again from another
/// address of it.
fn network_of(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    let prefix = if address.is_ipv4() { 24 } else { 64 };
    network::first(address, prefix)
}

/// A keyed hash of words, none of which has a zero byte in it.
fn hash(secret: &[u8; 16], words: &[&str]) -> u64 {
    // A shorter key stands for the one with zeros behind it (RFC 2104 §2).
    let mut key = [0; 64];
    for (byte, secret) in key.iter_mut().zip(secret) {
        *byte = *secret;
    }
    let mut hmac = Hmac::<Sha256>::new(&key.into());
    for word in words {
        hmac.update(word.as_bytes());
        hmac.update(&[0]);
    }
    let bytes = hmac.finalize().into_bytes();
    let first = bytes.first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::spf::SpfIdentity;

    #[test]
    fn names_that_were_made_out_of_the_address_are_seen() {
        for (name, address, expected) in [
            ("192-0-2-7.dyn.test", "192.0.2.7", true),
            ("host7.2.0.192.test", "192.0.2.7", true),
            ("192000002007.dsl.test", "192.0.2.7", true),
            ("c0000207.line.test", "192.0.2.7", true),
            ("x192-0-2-71.dyn.test", "192.0.2.7", false),
            ("mail.test", "192.0.2.7", false),
            ("mx7.test", "192.0.2.7", false),
            ("192-0-2.test", "192.0.2.7", false),
            ("99999999999999.2.0.7.test", "192.0.2.7", false),
            ("192-0-2-7.dyn.test", "::ffff:192.0.2.7", true),
            (
                "2001-db8-1-2-0000-0000-0000-0007.v6.test",
                "2001:db8:1:2::7",
                false,
            ),
            (
                "2001-0db8-0001-0002-0000-0000-0000-0007.v6.test",
                "2001:db8:1:2::7",
                true,
            ),
            ("mail.test", "2001:db8:1:2::7", false),
        ] {
            let found = is_address_within(name, address.parse().unwrap());
            assert_eq!(found, expected, "{name} {address}");
        }
    }

    #[test]
    fn a_stranger_is_doubtful_without_spf_and_one_sign_of_a_mail_server() {
        let client: IpAddr = "192.0.2.7".parse().unwrap();
        let iprev = |outcome, name: &str| IprevResult {
            outcome,
            address: client,
            name: Some(name.to_owned()),
            names: Vec::new(),
            reason: None,
        };
        let good = iprev(IprevOutcome::Pass, "mail.test");
        let line = iprev(IprevOutcome::Pass, "192-0-2-7.test");
        let bad = iprev(IprevOutcome::Fail, "mail.test");
        let spf = |outcome| SpfResult::plain(outcome, SpfIdentity::MailFrom, None, "");
        let (pass, none) = (spf(SpfOutcome::Pass), spf(SpfOutcome::None));
        for (iprev, spf, has_tls, expected) in [
            (Some(&good), Some(&none), true, false),
            (Some(&good), Some(&none), false, true),
            (Some(&line), Some(&none), true, true),
            (Some(&bad), Some(&none), true, true),
            (None, Some(&none), true, true),
            (None, None, true, true),
            (Some(&good), None, true, false),
            (Some(&bad), Some(&pass), false, false),
            (None, Some(&pass), false, false),
        ] {
            let found = is_doubtful(iprev, spf, client, has_tls);
            assert_eq!(found, expected, "{iprev:?} {spf:?} {has_tls}");
        }
    }

    #[tokio::test]
    async fn a_sender_is_known_by_network_domain_and_recipient() {
        let store = Store::memory();
        let greylist = Greylist::default();
        let minute = 60_000_000;
        let passes = async |client: &str, from, rcpt: &str, minutes: i64| {
            let (client, now) = (client.parse().unwrap(), Time(minutes * minute));
            let greyness = greylist.attempt(&store, client, from, rcpt, now).await;
            greyness.unwrap() != Greyness::Waits
        };
        assert!(!passes("192.0.2.7", "a.test", "ann@example.org", 0).await);
        for (client, from, rcpt, expected) in [
            ("192.0.2.8", "A.test", "ann@example.org", true),
            ("::ffff:192.0.2.9", "a.test", "ann@example.org", true),
            ("192.0.3.7", "a.test", "ann@example.org", false),
            ("192.0.2.7", "b.test", "ann@example.org", false),
            ("192.0.2.7", "a.test", "bob@example.org", false),
        ] {
            assert_eq!(
                passes(client, from, rcpt, 1).await,
                expected,
                "{client} {from} {rcpt}"
            );
        }
        // After a restart the key is the same.
        let later = Greylist::default();
        let client = "192.0.2.7".parse().unwrap();
        let found = later
            .attempt(&store, client, "a.test", "ann@example.org", Time(minute))
            .await;
        assert_eq!(found.unwrap(), Greyness::Known);
        // A second sender makes the network known.
        assert!(passes("192.0.2.7", "b.test", "ann@example.org", 2).await);
        assert!(passes("192.0.2.200", "c.test", "eve@example.org", 2).await);
    }
}
