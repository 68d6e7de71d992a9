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

/// A TOML table with a fixed set of keys.
pub(crate) trait Section: Sized {
    /// Documentation of the keys, in the order of the reference.
    const KEYS: &'static [KeyInfo];
    /// Names of the keys.
    const NAMES: &'static [&'static str];
    /// Reads a table; invalid keys are reported and take the default.
    fn read(table: &TableReader<'_>, reader: &mut ConfigReader<'_>) -> Self;
    /// Returns the values in the order of [`Self::KEYS`]; `None` for a key without a value.
    fn values(&self) -> Vec<Option<toml::Value>>;
}

/// Declares sections. The doc comment of a field describes the key: `key: type [value type] = default;`, with
/// `derived "text";` for a computed default.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $Name:ident ($table:ident, $reader:ident) {
            $(
                $(#[doc = $doc:literal])+
                $key:ident : $ty:ty [ $kind:ty ] = $default:expr $(, derived $derived:literal)? ;
            )*
        }
        $( extra { $( $(#[doc = $xdoc:literal])+ $xvis:vis $extra:ident : $xty:ty, )* } )?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        #[allow(non_snake_case, reason = "the keys are written as Postfix writes them")]
        pub struct $Name {
            $( $(#[doc = $doc])+ pub $key: $ty, )*
            $( $( $(#[doc = $xdoc])+ $xvis $extra: $xty, )* )?
        }

        impl $crate::section::Section for $Name {
            const KEYS: &'static [$crate::section::KeyInfo] = &[ $(
                $crate::section::KeyInfo {
                    name: stringify!($key),
                    form: <$kind as $crate::value::ValueType>::FORM,
                    meaning: concat!($($doc),+),
                    derived: $crate::section::first(&[$($derived)?]),
                },
            )* ];
            const NAMES: &'static [&'static str] = &[ $( stringify!($key), )* ];

            #[allow(clippy::too_many_lines, non_snake_case, reason = "one line for each key, written as Postfix writes it")]
            fn read($table: &$crate::reader::TableReader<'_>, $reader: &mut $crate::reader::ConfigReader<'_>) -> Self {
                $(
                    let $key: $ty = match $table.key::<$kind>(stringify!($key), $reader) {
                        Some(given) => given,
                        None => $default,
                    };
                )*
                Self { $( $key, )* $( $( $extra: Default::default(), )* )? }
            }

            fn values(&self) -> Vec<Option<toml::Value>> {
                vec![ $( <$kind as $crate::value::ValueType>::show(&self.$key), )* ]
            }
        }
    };
}
pub(crate) use section;

pub(crate) const fn first(words: &[&'static str]) -> Option<&'static str> {
    match words {
        [word, ..] => Some(word),
        [] => None,
    }
}
