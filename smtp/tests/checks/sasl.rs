//! The responses of a client against the mechanisms of SASL:
//!
//! - No responses make an exchange panic or go on for ever.
//! - A refusal is a reply of class 4 or 5, and a challenge of SCRAM has no control characters.
//! - Nobody logs in whom the policy refuses.
//!
//! The first byte chooses the mechanism and the terms. The responses have the byte `|` between
//! them.

use postrider_smtp::{
    Reply,
    sasl::{
        ChannelBindings, Exchange, Mechanism, ScramKeys, ScramOffer, Step, Terms, TlsProof,
        wrong_credentials,
    },
};

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some((options, rest)) = data.split_first() else {
        return;
    };
    let proof = TlsProof {
        bindings: (options & 0x10 != 0).then_some(ChannelBindings {
            exporter: [7; 32],
            end_point: (options & 0x20 != 0).then(|| vec![8; 32]),
        }),
        client_key: (options & 0x40 != 0).then(|| "key".to_owned()),
    };
    let terms = Terms {
        scram: true,
        oauth_scope: Some("mail"),
        tls: Some(&proof),
    };
    let place = usize::from(options & 0x0f) % Mechanism::ALL.len();
    let Some(mechanism) = Mechanism::ALL.into_iter().nth(place) else {
        return;
    };
    let accepts = options & 0x80 != 0;
    let mut responses = rest.split(|byte| *byte == b'|');
    let mut exchange = Exchange::new(mechanism);
    // No mechanism has more than three responses, the last of which is an acknowledgement.
    for turn in 0.. {
        assert!(turn < 4, "the exchange does not end");
        let Some(response) = responses.next() else {
            return;
        };
        match run(exchange.respond(response, terms), accepts) {
            Ok(next) => exchange = next,
            Err(None) => {
                assert!(accepts, "a refused login is taken");
                return;
            }
            Err(Some(reply)) => {
                let code = reply.code();
                assert!(code.is_transient() || code.is_permanent(), "{reply}");
                return;
            }
        }
    }
}

/// Answers the questions of an exchange until it waits for a response or ends.
fn run(mut step: Step, accepts: bool) -> Result<Exchange, Option<Reply>> {
    loop {
        step = match step {
            Step::Challenge(exchange, challenge) => {
                assert!(challenge.iter().all(|byte| (b' '..=b'~').contains(byte)));
                return Ok(exchange);
            }
            Step::Keys(start) => {
                assert!(!start.request().user.is_empty());
                start.keys(ScramOffer {
                    salt: b"salt".to_vec(),
                    rounds: 4096,
                    keys: vec![ScramKeys {
                        stored_key: vec![1; 32],
                        server_key: vec![2; 32],
                    }],
                    nonce: "server".to_owned(),
                })
            }
            Step::Decide(pending) => {
                let user = pending.login().user.clone();
                pending.verdict(match accepts {
                    true => Ok(user),
                    false => Err(wrong_credentials()),
                })
            }
            Step::Done(_) => return Err(None),
            Step::Refused { reply, .. } => return Err(Some(reply)),
        };
    }
}
