//! SCRAM (RFC 5802, RFC 7677): client and server prove to each other that they know a password,
//! which neither of them sends.
//!
//! The server gives the salt away before it knows which of an account's passwords the client has.
//! So all passwords of an account have one salt, and the proof is tried on the keys of each.

use std::{fmt, num::NonZeroU32};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac, pbkdf2};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    Evidence, Exchange, Login, Mechanism, Pending, State, Step, Terms, Then, last, malformed,
    wrong_credentials,
};

/// The error that the client gets whose proof is wrong (RFC 5802 §7).
pub(super) const INVALID_PROOF: &str = "e=invalid-proof";

/// The longest nonce of a client.
const NONCE_MAX: usize = 256;

/// The hash function of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// SHA-1 (RFC 5802).
    Sha1,
    /// SHA-256 (RFC 7677).
    Sha256,
}

impl ScramHash {
    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        };
        let key = hmac::Key::new(algorithm, key);
        hmac::sign(&key, data).as_ref().to_vec()
    }

    pub(super) fn digest(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    /// SaltedPassword (RFC 5802 §3), which is PBKDF2.
    pub(super) fn salted(self, password: &[u8], salt: &[u8], rounds: NonZeroU32) -> Vec<u8> {
        let (algorithm, length) = match self {
            Self::Sha1 => (pbkdf2::PBKDF2_HMAC_SHA1, 20),
            Self::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
        };
        let mut out = vec![0; length];
        pbkdf2::derive(algorithm, rounds, salt, password, &mut out);
        out
    }

    const fn mechanism(self, plus: bool) -> Mechanism {
        match plus {
            true => Mechanism::ScramPlus(self),
            false => Mechanism::Scram(self),
        }
    }
}

/// The keys that prove a password, without the password (RFC 5802 §3). Who has them can't log in
/// with them.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// StoredKey: the hash of the key that the client proves to have.
    pub stored_key: Vec<u8>,
    /// ServerKey: with it the server proves itself.
    pub server_key: Vec<u8>,
}

impl ScramKeys {
    /// The keys of a password in its normal form.
    #[must_use]
    pub fn derive(hash: ScramHash, password: &[u8], salt: &[u8], rounds: NonZeroU32) -> Self {
        let salted = hash.salted(password, salt, rounds);
        Self {
            stored_key: hash.digest(&hash.hmac(&salted, b"Client Key")),
            server_key: hash.hmac(&salted, b"Server Key"),
        }
    }

    /// Keys of no password.
    fn nobody(hash: ScramHash) -> Self {
        Self {
            stored_key: hash.digest(b""),
            server_key: hash.digest(b""),
        }
    }
}

/// Hides the keys.
impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys").finish_non_exhaustive()
    }
}

/// A question for the keys of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramRequest {
    /// The user that logs in.
    pub user: String,
    /// The hash function of the keys.
    pub hash: ScramHash,
}

/// The answer to a [`ScramRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramOffer {
    /// The salt of all passwords of the user. An unknown user has one, too.
    pub salt: Vec<u8>,
    /// The rounds of the hash function.
    pub rounds: u32,
    /// The keys of each password. Without any, no proof is right.
    pub keys: Vec<ScramKeys>,
    /// A random text for this exchange, of printable ASCII without commas.
    pub nonce: String,
}

/// The first message of a client: `p=tls-exporter,a=AUTHORIZATION,n=USER,r=NONCE`.
struct ClientFirst<'a> {
    flag: Flag<'a>,
    authorization: String,
    user: String,
    nonce: &'a str,
    /// The message up to its own part, which is bound with the channel.
    header: &'a str,
    /// The message's own part.
    bare: &'a str,
}

/// The client's word on channel binding.
enum Flag<'a> {
    /// `n`: it knows none.
    Unknown,
    /// `y`: it knows some, and thinks that the server knows none.
    Unoffered,
    /// `p=NAME`: it uses this one.
    Uses(&'a str),
}

/// An exchange that waits for the keys of its user.
#[derive(Debug)]
pub struct ScramStart {
    request: ScramRequest,
    plus: bool,
    authorization: String,
    nonce: String,
    bare: String,
    /// What the client has to send as its channel binding.
    binding: Vec<u8>,
}

/// An exchange that waits for the proof of the client.
#[derive(Debug)]
pub(super) struct Final {
    start: ScramStart,
    offer: ScramOffer,
    server_first: String,
}

/// Ends the exchange with an error that only SCRAM knows, and then the usual refusal.
fn refuse(user: String, error: &str) -> Step {
    let reply = wrong_credentials();
    last(error, Step::Refused { user, reply })
}

const fn not_scram() -> Step {
    malformed("not a message of SCRAM")
}

/// The first message.
pub(super) fn first(hash: ScramHash, plus: bool, response: &[u8], terms: Terms<'_>) -> Step {
    let text = std::str::from_utf8(response).ok();
    let Some(message) = text.and_then(ClientFirst::parse) else {
        return not_scram();
    };
    let bindings = terms.bindings();
    let refuse = |error| refuse(message.user.clone(), error);
    let data = match (message.flag, bindings) {
        // Somebody has hidden our offer from the client (RFC 5802 §6).
        (Flag::Unoffered, Some(_)) => return refuse("e=server-does-support-channel-binding"),
        (Flag::Unknown | Flag::Unoffered, _) if plus => {
            return refuse("e=channel-bindings-dont-match");
        }
        (Flag::Unknown | Flag::Unoffered, _) => &[],
        // Cyrus SASL binds the channel under the name without -PLUS, too.
        (Flag::Uses("tls-exporter"), Some(bindings)) => bindings.exporter.as_slice(),
        (Flag::Uses("tls-server-end-point"), Some(bindings)) => match &bindings.end_point {
            Some(end_point) => end_point.as_slice(),
            None => return refuse("e=unsupported-channel-binding-type"),
        },
        (Flag::Uses(_), _) => return refuse("e=unsupported-channel-binding-type"),
    };
    Step::Keys(Box::new(ScramStart {
        binding: [message.header.as_bytes(), data].concat(),
        plus,
        authorization: message.authorization,
        nonce: message.nonce.to_owned(),
        bare: message.bare.to_owned(),
        request: ScramRequest {
            user: message.user,
            hash,
        },
    }))
}

impl<'a> ClientFirst<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (flag, rest) = text.split_once(',')?;
        let (authorization, bare) = rest.split_once(',')?;
        let header = text.strip_suffix(bare)?;
        let flag = match flag {
            "n" => Flag::Unknown,
            "y" => Flag::Unoffered,
            flag => Flag::Uses(flag.strip_prefix("p=")?),
        };
        let authorization = match authorization {
            "" => String::new(),
            name => decode_name(name.strip_prefix("a=")?)?,
        };
        // A message that begins with `m=` needs an extension, and there are none.
        let mut parts = bare.split(',');
        let user = decode_name(parts.next()?.strip_prefix("n=")?)?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        let is_nonce = |nonce: &str| {
            !nonce.is_empty()
                && nonce.len() <= NONCE_MAX
                && nonce.bytes().all(|byte| byte.is_ascii_graphic())
        };
        (is_nonce(nonce) && !user.is_empty()).then_some(Self {
            flag,
            authorization,
            user,
            nonce,
            header,
            bare,
        })
    }
}

/// A name, in which `=2C` stands for a comma and `=3D` for an equals sign (RFC 5802 §5.1). None if
/// it is not of this form.
pub(super) fn decode_name(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (byte, rest) = part.split_at_checked(2)?;
        name.push(match byte {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    (!name.contains('\0')).then_some(name)
}

impl ScramStart {
    /// The question for keys.
    #[must_use]
    pub const fn request(&self) -> &ScramRequest {
        &self.request
    }

    /// Goes on with the keys of the user.
    #[must_use]
    pub fn keys(self, offer: ScramOffer) -> Step {
        let salt = BASE64_STANDARD.encode(&offer.salt);
        let (nonce, rounds) = (&self.nonce, offer.rounds);
        let server_first = format!("r={nonce}{},s={salt},i={rounds}", offer.nonce);
        let challenge = server_first.clone().into_bytes();
        let state = Final {
            start: self,
            offer,
            server_first,
        };
        Step::Challenge(Exchange(State::ScramFinal(Box::new(state))), challenge)
    }
}

impl Final {
    /// The last message of the client: `c=BINDING,r=NONCE,p=PROOF`.
    pub(super) fn respond(self, response: &[u8]) -> Step {
        let text = std::str::from_utf8(response).ok();
        let parsed = text.and_then(|text| {
            let (unproven, proof) = text.rsplit_once(",p=")?;
            let mut parts = unproven.split(',');
            let binding = parts.next()?.strip_prefix("c=")?;
            let nonce = parts.next()?.strip_prefix("r=")?;
            let binding = BASE64_STANDARD.decode(binding).ok()?;
            let proof = BASE64_STANDARD.decode(proof).ok()?;
            Some((unproven, binding, nonce, proof))
        });
        let Some((unproven, binding, nonce, proof)) = parsed else {
            return not_scram();
        };
        if binding != self.start.binding {
            return refuse(self.start.request.user, "e=channel-bindings-dont-match");
        }
        if nonce.strip_prefix(self.start.nonce.as_str()) != Some(self.offer.nonce.as_str()) {
            return refuse(self.start.request.user, "e=other-error");
        }
        let message = [self.start.bare.as_str(), &self.server_first, unproven].join(",");
        let matched = self.matching(message.as_bytes(), &proof);
        let hash = self.start.request.hash;
        let server_key = matched.and_then(|place| self.offer.keys.get(place));
        let signature = server_key.map(|keys| hash.hmac(&keys.server_key, message.as_bytes()));
        let signature = BASE64_STANDARD.encode(signature.unwrap_or_default());
        let login = Login {
            mechanism: hash.mechanism(self.start.plus),
            authorization: self.start.authorization,
            user: self.start.request.user,
            evidence: Evidence::Scram(matched),
        };
        Pending::step(login, Then::ScramFinal(format!("v={signature}")))
    }

    /// The place of the keys that the proof is for. All keys are tried, so the time does not tell
    /// which ones match.
    fn matching(&self, message: &[u8], proof: &[u8]) -> Option<usize> {
        let hash = self.start.request.hash;
        if self.offer.keys.is_empty() {
            is_proof(hash, &ScramKeys::nobody(hash), message, proof);
            return None;
        }
        let mut found = None;
        for (place, keys) in self.offer.keys.iter().enumerate() {
            if is_proof(hash, keys, message, proof) && found.is_none() {
                found = Some(place);
            }
        }
        found
    }
}

/// The proof is ClientKey XOR ClientSignature, and StoredKey is the hash of ClientKey (RFC 5802
/// §3).
fn is_proof(hash: ScramHash, keys: &ScramKeys, message: &[u8], proof: &[u8]) -> bool {
    let signature = hash.hmac(&keys.stored_key, message);
    let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    let is_whole = proof.len() == signature.len();
    let computed = hash.digest(&client_key);
    verify_slices_are_equal(&computed, &keys.stored_key).is_ok() && is_whole
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The client's side of an exchange.
    pub(crate) struct ScramClient<'a> {
        pub(crate) hash: ScramHash,
        pub(crate) header: &'a str,
        pub(crate) binding: &'a [u8],
        pub(crate) user: &'a str,
        pub(crate) password: &'a str,
        pub(crate) nonce: &'a str,
    }

    impl ScramClient<'_> {
        fn bare(&self) -> String {
            format!("n={},r={}", self.user, self.nonce)
        }

        pub(crate) fn first(&self) -> String {
            self.header.to_owned() + &self.bare()
        }

        /// The last message, and the proof that the server has to send.
        pub(crate) fn last(&self, server_first: &str) -> (String, String) {
            let fields: Vec<&str> = server_first.split(',').map(|it| &it[2..]).collect();
            let [nonce, salt, rounds] = fields[..] else {
                panic!("{server_first}");
            };
            let (salt, rounds) = (
                BASE64_STANDARD.decode(salt).unwrap(),
                rounds.parse().unwrap(),
            );
            let hash = self.hash;
            let salted = hash.salted(self.password.as_bytes(), &salt, rounds);
            let bound = [self.header.as_bytes(), self.binding].concat();
            let unproven = format!("c={},r={nonce}", BASE64_STANDARD.encode(bound));
            let message = format!("{},{server_first},{unproven}", self.bare());
            let client_key = hash.hmac(&salted, b"Client Key");
            let signature = hash.hmac(&hash.digest(&client_key), message.as_bytes());
            let proof: Vec<u8> = client_key
                .iter()
                .zip(&signature)
                .map(|(a, b)| a ^ b)
                .collect();
            let server_key = hash.hmac(&salted, b"Server Key");
            let expected = hash.hmac(&server_key, message.as_bytes());
            (
                format!("{unproven},p={}", BASE64_STANDARD.encode(proof)),
                format!("v={}", BASE64_STANDARD.encode(expected)),
            )
        }
    }

    fn challenge(step: Step) -> (Exchange, String) {
        match step {
            Step::Challenge(exchange, challenge) => {
                (exchange, String::from_utf8(challenge).unwrap())
            }
            step => panic!("{step:?}"),
        }
    }

    /// Plays the messages of an RFC.
    fn vector(hash: ScramHash, client_first: &str, server_first: &str, rest: [&str; 2]) {
        let fields: Vec<&str> = server_first.split(',').map(|it| &it[2..]).collect();
        let salt = BASE64_STANDARD.decode(fields[1]).unwrap();
        let rounds: NonZeroU32 = fields[2].parse().unwrap();
        let start = match first(hash, false, client_first.as_bytes(), Terms::default()) {
            Step::Keys(start) => start,
            step => panic!("{step:?}"),
        };
        assert_eq!(start.request().user, "user");
        let other = ScramKeys::derive(hash, b"another", &salt, rounds);
        let offer = ScramOffer {
            keys: vec![other, ScramKeys::derive(hash, b"pencil", &salt, rounds)],
            nonce: fields[0].strip_prefix(&start.nonce).unwrap().to_owned(),
            rounds: rounds.get(),
            salt,
        };
        let (exchange, sent) = challenge(start.keys(offer));
        assert_eq!(sent, server_first);
        let [client_final, server_final] = rest;
        let pending = match exchange.respond(client_final.as_bytes(), Terms::default()) {
            Step::Decide(pending) => pending,
            step => panic!("{step:?}"),
        };
        assert!(matches!(pending.login().evidence, Evidence::Scram(Some(1))));
        let (exchange, sent) = challenge(pending.verdict(Ok("user".to_owned())));
        assert_eq!(sent, server_final);
        let end = exchange.respond(b"", Terms::default());
        assert!(matches!(end, Step::Done(user) if user == "user"));
    }

    #[test]
    fn the_exchange_of_rfc_5802() {
        vector(
            ScramHash::Sha1,
            "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            [
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ],
        );
    }

    #[test]
    fn the_exchange_of_rfc_7677() {
        vector(
            ScramHash::Sha256,
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            [
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ],
        );
    }

    #[test]
    fn names_are_decoded() {
        assert_eq!(decode_name("a=2Cb=3Dc").as_deref(), Some("a,b=c"));
        assert_eq!(decode_name("\u{fc}").as_deref(), Some("\u{fc}"));
        for bad in ["a=", "a=2c", "=", "a=2", "a=3Db=\u{fc}"] {
            assert_eq!(decode_name(bad), None, "{bad}");
        }
    }
}
