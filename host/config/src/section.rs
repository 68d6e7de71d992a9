//! Turns a list of keys into a struct, its reader, its printer and its part of the reference.

use crate::reader::{Reader, TableReader};

/// One key, as the reference and `config show` describe it.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// How a value is written, with its unit.
    pub(crate) form: &'static str,
    /// One line, from the field's documentation.
    pub(crate) meaning: &'static str,
    /// Words in place of a default that is taken from other keys or the system.
    pub(crate) derived: Option<&'static str>,
}

/// A table of the file with a fixed set of keys.
pub(crate) trait Section: Sized {
    /// Its keys, in the order of the reference.
    const KEYS: &'static [Key];
    /// Their names.
    const NAMES: &'static [&'static str];
    /// Reads it; mistaken keys are noted and take their defaults.
    fn read(table: &TableReader<'_>, reader: &mut Reader<'_>) -> Self;
    /// The values in the order of [`Self::KEYS`]; `None` is a key without a value.
    fn values(&self) -> Vec<Option<toml::Value>>;
}

/// Declares sections. A field's doc comment is the meaning of its key: `key: type [kind] = default;`, with
/// `derived "words";` where the default is computed.
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
            const KEYS: &'static [$crate::section::Key] = &[ $(
                $crate::section::Key {
                    name: stringify!($key),
                    form: <$kind as $crate::kind::Kind>::FORM,
                    meaning: concat!($($doc),+),
                    derived: $crate::section::first(&[$($derived)?]),
                },
            )* ];
            const NAMES: &'static [&'static str] = &[ $( stringify!($key), )* ];

            #[allow(clippy::too_many_lines, non_snake_case, reason = "one line for each key, written as Postfix writes it")]
            fn read($table: &$crate::reader::TableReader<'_>, $reader: &mut $crate::reader::Reader<'_>) -> Self {
                $(
                    let $key: $ty = match $table.key::<$kind>(stringify!($key), $reader) {
                        Some(given) => given,
                        None => $default,
                    };
                )*
                Self { $( $key, )* $( $( $extra: Default::default(), )* )? }
            }

            fn values(&self) -> Vec<Option<toml::Value>> {
                vec![ $( <$kind as $crate::kind::Kind>::show(&self.$key), )* ]
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
