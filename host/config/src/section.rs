//! The macro `section!`, which generates a struct, the reader, the printer and the reference entries from a list of
//! keys.

use crate::reader::{ConfigReader, TableReader};

/// Documentation of a key, for the reference and `config show`.
pub(crate) struct KeyInfo {
    pub(crate) name: &'static str,
    /// Syntax of the value, with the unit.
    pub(crate) form: &'static str,
    /// Description in a single line, from the documentation of the field.
    pub(crate) meaning: &'static str,
    /// Description of a default computed from other keys or the system.
    pub(crate) derived: Option<&'static str>,
}

/// Keys of a struct made by [`section!`].
pub(crate) trait Keys {
    /// Documentation of the keys, in the order of the reference.
    const KEYS: &'static [KeyInfo];
    /// Names of the keys.
    const NAMES: &'static [&'static str];
    /// Returns the values in the order of [`Self::KEYS`]; `None` for a key without a value.
    fn values(&self) -> Vec<Option<toml::Value>>;
}

/// A TOML table with a fixed set of keys, readable without other keys.
pub(crate) trait Section: Keys + Sized {
    /// Reads a table; invalid keys are reported and take the default.
    fn read_table(table: &TableReader<'_>, reader: &mut ConfigReader<'_>) -> Self;
}

/// Declares a struct with a key for each field: `key: type [value type] = default;`, with `derived "text";` for a
/// computed default. The doc comment of a field describes the key.
///
/// `pub struct Name (table, reader)` is a TOML table. `pub struct Name (table, reader, general: &GeneralConfig)` is a
/// group of top-level keys with defaults taken from another group. `extra { pub name: Type = expression; }` adds
/// fields read before the keys.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $Name:ident ($table:ident, $reader:ident $(, $other:ident : &$Other:ty)* ) {
            $(
                $(#[doc = $doc:literal])+
                $key:ident : $ty:ty [ $kind:ty ] = $default:expr $(, derived $derived:literal)? ;
            )*
        }
        $( extra { $( $(#[doc = $gdoc:literal])+ $gvis:vis $group:ident : $gty:ty = $read:expr; )* } )?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        #[allow(non_snake_case, reason = "the keys are written as Postfix writes them")]
        pub struct $Name {
            $( $( $(#[doc = $gdoc])+ $gvis $group: $gty, )* )?
            $( $(#[doc = $doc])+ pub $key: $ty, )*
        }

        impl $crate::section::Keys for $Name {
            const KEYS: &'static [$crate::section::KeyInfo] = &[ $(
                $crate::section::KeyInfo {
                    name: stringify!($key),
                    form: <$kind as $crate::value::ValueType>::FORM,
                    meaning: concat!($($doc),+),
                    derived: $crate::section::first(&[$($derived)?]),
                },
            )* ];
            const NAMES: &'static [&'static str] = &[ $( stringify!($key), )* ];

            fn values(&self) -> Vec<Option<toml::Value>> {
                vec![ $( <$kind as $crate::value::ValueType>::show(&self.$key), )* ]
            }
        }

        impl $Name {
            #[allow(clippy::too_many_lines, non_snake_case, reason = "one line for each key, written as Postfix writes it")]
            pub(crate) fn read(
                $table: &$crate::reader::TableReader<'_>,
                $reader: &mut $crate::reader::ConfigReader<'_>,
                $( $other: &$Other, )*
            ) -> Self {
                $( $( let $group: $gty = $read; )* )?
                $(
                    let $key: $ty = match $table.key::<$kind>(stringify!($key), $reader) {
                        Some(given) => given,
                        None => $default,
                    };
                )*
                Self { $( $( $group, )* )? $( $key, )* }
            }
        }

        section!(@table $Name $($other)*);
    };
    (@table $Name:ident) => {
        impl $crate::section::Section for $Name {
            fn read_table(table: &$crate::reader::TableReader<'_>, reader: &mut $crate::reader::ConfigReader<'_>) -> Self {
                Self::read(table, reader)
            }
        }
    };
    (@table $Name:ident $($other:ident)+) => {};
}
pub(crate) use section;

pub(crate) const fn first(words: &[&'static str]) -> Option<&'static str> {
    match words {
        [word, ..] => Some(word),
        [] => None,
    }
}
