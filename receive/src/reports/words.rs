//! Enums whose variants have words in reports.

/// Declares such enums. The last variant stands for all other words.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $($word:literal)|+,)*
    } else {
        $(#[$other_doc:meta])* $other:ident
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            $(#[$other_doc])*
            #[default]
            $other,
        }

        impl $name {
            /// The meaning of a word, in any case.
            fn named(word: &str) -> Self {
                match word.to_ascii_lowercase().as_str() {
                    $($($word)|+ => Self::$variant,)*
                    _ => Self::$other,
                }
            }
        }
    )*};
}
