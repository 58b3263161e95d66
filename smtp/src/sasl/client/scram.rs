//! The client's side of SCRAM (RFC 5802, RFC 7677).

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{ClientError, Mechanism};
use crate::sasl::scram::ScramHash;

/// The fewest rounds of the hash function: with fewer, a server could try passwords on the proof
/// (RFC 7677 §4).
pub(super) const ROUNDS_MIN: u32 = 4096;
/// The most rounds. They take some tens of milliseconds.
pub(super) const ROUNDS_MAX: u32 = 200_000;

/// The longest salt, in bytes.
const SALT_MAX: usize = 1024;

/// The client's word on channel binding (RFC 5802 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// The login is bound to the connection with this tls-exporter value.
    Exporter([u8; 32]),
    /// We could bind it, and the server offers no mechanism for that.
    Unoffered,
    /// It is not bound.
    None,
}

impl Binding {
    pub(super) fn of(
        is_plus: bool,
        offered: &[String],
        allowed: &[Mechanism],
        channel: Option<[u8; 32]>,
    ) -> Self {
        let is_wanted = allowed.is_empty()
            || allowed
                .iter()
                .any(|mechanism| matches!(mechanism, Mechanism::ScramPlus(_)));
        match channel {
            Some(exporter) if is_plus => Self::Exporter(exporter),
            Some(_) if is_wanted && !offered.iter().any(|name| name.ends_with("-PLUS")) => {
                Self::Unoffered
            }
            _ => Self::None,
        }
    }

    /// The header of GS2, which stands before the first message.
    const fn header(self) -> &'static str {
        match self {
            Self::Exporter(_) => "p=tls-exporter,,",
            Self::Unoffered => "y,,",
            Self::None => "n,,",
        }
    }

    fn bound(self) -> Vec<u8> {
        let mut bound = self.header().as_bytes().to_vec();
        if let Self::Exporter(exporter) = self {
            bound.extend_from_slice(&exporter);
        }
        bound
    }
}

/// A login under way.
#[derive(Clone)]
pub(super) struct ScramClient {
    hash: ScramHash,
    binding: Binding,
    password: Zeroizing<String>,
    nonce: String,
    bare: String,
    state: State,
}

/// What the client waits for.
#[derive(Clone)]
enum State {
    /// Nonce, salt and rounds.
    First,
    /// This proof of the server.
    Proof(Vec<u8>),
    /// The reply: the server has proven itself.
    Proven,
}

/// Hides the password and the proofs.
impl std::fmt::Debug for ScramClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramClient")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl ScramClient {
    pub(super) fn new(
        hash: ScramHash,
        binding: Binding,
        user: &str,
        password: &str,
        nonce: &str,
    ) -> Self {
        Self {
            hash,
            binding,
            password: prepared(password).into(),
            nonce: nonce.to_owned(),
            bare: format!("n={},r={nonce}", encode_name(&prepared(user))),
            state: State::First,
        }
    }

    /// The first message.
    pub(super) fn first(&self) -> String {
        self.binding.header().to_owned() + &self.bare
    }

    pub(super) const fn is_proven(&self) -> bool {
        matches!(self.state, State::Proven)
    }

    /// The response to a message of the server. `mechanism` is the name for errors.
    pub(super) fn respond(
        &mut self,
        challenge: &[u8],
        mechanism: &'static str,
    ) -> Result<Vec<u8>, ClientError> {
        let malformed = ClientError::Malformed(mechanism);
        match &self.state {
            State::First => {
                let text = std::str::from_utf8(challenge).ok();
                let server_first = text.ok_or_else(|| malformed.clone())?;
                let (nonce, salt, rounds) = parse(server_first).ok_or(malformed)?;
                if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
                    return Err(ClientError::Nonce);
                }
                let allowed = u32::try_from(rounds)
                    .ok()
                    .filter(|rounds| (ROUNDS_MIN..=ROUNDS_MAX).contains(rounds))
                    .and_then(NonZeroU32::new)
                    .ok_or(ClientError::Rounds(rounds))?;
                let (message, proof) = self.prove(server_first, nonce, &salt, allowed);
                self.state = State::Proof(proof);
                Ok(message.into_bytes())
            }
            State::Proof(expected) => {
                let proof = challenge.strip_prefix(b"v=").ok_or(malformed)?;
                // Extensions may follow.
                let proof = proof.split(|byte| *byte == b',').next();
                let proof = BASE64_STANDARD.decode(proof.unwrap_or_default());
                let is_right =
                    proof.is_ok_and(|proof| verify_slices_are_equal(&proof, expected).is_ok());
                if !is_right {
                    return Err(ClientError::Unproven);
                }
                self.state = State::Proven;
                Ok(Vec::new())
            }
            State::Proven => Err(malformed),
        }
    }

    /// The last message with the client's proof, and the proof that the server has to send
    /// (RFC 5802 §3).
    fn prove(
        &self,
        server_first: &str,
        nonce: &str,
        salt: &[u8],
        rounds: NonZeroU32,
    ) -> (String, Vec<u8>) {
        let hash = self.hash;
        let salted = Zeroizing::new(hash.salted(self.password.as_bytes(), salt, rounds));
        let bound = BASE64_STANDARD.encode(self.binding.bound());
        let unproven = format!("c={bound},r={nonce}");
        let message = [self.bare.as_str(), server_first, &unproven].join(",");
        let client_key = Zeroizing::new(hash.hmac(&salted, b"Client Key"));
        let signature = hash.hmac(&hash.digest(&client_key), message.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(a, b)| a ^ b)
            .collect();
        let server_key = hash.hmac(&salted, b"Server Key");
        (
            format!("{unproven},p={}", BASE64_STANDARD.encode(proof)),
            hash.hmac(&server_key, message.as_bytes()),
        )
    }
}

/// The fields of the server's first message: nonce, salt and rounds. Extensions may follow. A
/// message that begins with `m=` needs one, and there are none.
fn parse(text: &str) -> Option<(&str, Vec<u8>, u64)> {
    let mut parts = text.split(',');
    let nonce = parts.next()?.strip_prefix("r=")?;
    let salt = BASE64_STANDARD
        .decode(parts.next()?.strip_prefix("s=")?)
        .ok()?;
    let rounds = parts.next()?.strip_prefix("i=")?.parse().ok()?;
    let is_nonce = nonce.bytes().all(|byte| byte.is_ascii_graphic());
    (is_nonce && !salt.is_empty() && salt.len() <= SALT_MAX).then_some((nonce, salt, rounds))
}

/// A name with `=2C` for a comma and `=3D` for an equals sign (RFC 5802 §5.1).
pub(super) fn encode_name(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// A text in the form of SASLprep (RFC 4013). What SASLprep refuses stays as it is.
fn prepared(text: &str) -> String {
    stringprep::saslprep(text).map_or_else(|_| text.to_owned(), Into::into)
}
