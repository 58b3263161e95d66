//! The names of the values of an event.
//!
//! No event has `due`, `limit` or `nextDsn` yet. They belong to the set that clients hold.

macro_rules! keys {
    ($($number:literal $variant:ident $name:literal $doc:literal,)*) => {
        /// The name of a value of an event. Clients of Stalwart hold these names as a closed set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Key {
            $(
                #[doc = concat!("`", $name, "`: ", $doc, ".")]
                $variant = $number,
            )*
        }

        impl Key {
            /// All keys, by number.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in the management API.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The key with a number. None: a newer program wrote it.
            pub(super) const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

keys! {
    1 AccountName "accountName" "the account",
    2 Code "code" "a reply code of SMTP, or a status of HTTP",
    3 Contents "contents" "what was sent or received",
    4 Details "details" "more about it, for people",
    5 Domain "domain" "a domain",
    6 Due "due" "when something is to happen",
    7 Elapsed "elapsed" "how long it took, in milliseconds",
    8 Expires "expires" "when a message is given up",
    9 From "from" "the sender",
    10 Hostname "hostname" "the name of a host",
    11 Id "id" "an id, such as that of a hook",
    12 Limit "limit" "a limit",
    13 ListenerId "listenerId" "the listener",
    14 LocalIp "localIp" "our address",
    15 LocalPort "localPort" "our port",
    16 MessageId "messageId" "the Message-ID",
    17 NextDsn "nextDsn" "when the sender is told of a delay",
    18 NextRetry "nextRetry" "when the next attempt is",
    19 Policy "policy" "a policy, such as that of DMARC",
    20 QueueId "queueId" "the id of the queued message",
    21 QueueName "queueName" "the transport",
    22 Reason "reason" "why",
    23 RemoteIp "remoteIp" "the address of the other side",
    24 RemotePort "remotePort" "the port of the other side",
    25 Result "result" "what came out",
    26 Size "size" "a size in bytes",
    27 Source "source" "where something comes from",
    28 SpanId "spanId" "the number of the trace",
    29 Strict "strict" "whether it is strict",
    30 Tls "tls" "whether TLS is in use",
    31 To "to" "the recipient, or an array of them",
    32 Total "total" "a number of things",
    33 Type "type" "a kind",
    34 Url "url" "an address of HTTP, without its query",
    35 Value "value" "a value",
    36 Version "version" "a version, such as that of TLS",
    // Ours. They stand beside `data`.
    128 Session "session" "the name of the session, with the number of the transaction",
    129 Attempt "attempt" "which attempt of the message this is",
    130 Class "class" "the class of a reply",
    131 Rule "rule" "the rule that decided",
}

impl Key {
    /// Whether Stalwart does not have it, so that it stands beside `data`.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        self.number() >= 128
    }

    /// The number in files.
    pub(super) const fn number(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The closed set that clients hold.
    const CLOSED: &str = "accountName code contents details domain due elapsed expires from \
        hostname id limit listenerId localIp localPort messageId nextDsn nextRetry policy queueId \
        queueName reason remoteIp remotePort result size source spanId strict tls to total type \
        url value version";

    #[test]
    fn the_keys_of_data_are_the_closed_set() {
        let of_data = Key::ALL.iter().filter(|key| !key.is_ours());
        let names: Vec<_> = of_data.map(|key| key.name()).collect();
        assert_eq!(names.join(" "), CLOSED);
    }

    #[test]
    fn numbers_lead_back() {
        for key in Key::ALL {
            assert_eq!(Key::from_number(key.number()), Some(*key));
        }
        assert_eq!(Key::from_number(0), None);
    }
}
