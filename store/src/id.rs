//! Numbers by which records are known. Each kind is one increasing sequence, below 2^53 so that
//! JSON clients can hold it.

/// Declares kinds of numbers. Each is a type of its own, a key of tables, and what an operation may
/// give back.
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
        )]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl $crate::table::key::Key for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }

            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                <u64 as $crate::table::key::Key>::decode(bytes).map(Self)
            }
        }

        impl $crate::subject::Output for $name {
            fn from_applied(applied: $crate::subject::Applied) -> Option<Self> {
                match applied {
                    $crate::subject::Applied::Number(number) => Some(Self(number)),
                    _ => None,
                }
            }

            fn into_applied(self) -> $crate::subject::Applied {
                $crate::subject::Applied::Number(self.0)
            }
        }
    )*};
}
pub(crate) use ids;
