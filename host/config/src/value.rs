//! Types of configuration values: parsing, printing and documentation.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;
use toml::de::DeValue;
use waxwing_types::{Endpoint, EndpointError};

use crate::reader::{ConfigReader, ValueNode, last_key};
use crate::section::Section;
use crate::suggestion::closest_match;

/// A type of configuration values.
pub(crate) trait ValueType {
    /// Rust type of the parsed value.
    type Value;
    /// Description of the syntax in the reference, with the unit.
    const FORM: &'static str;
    /// Parses a value; `None` after an error was reported.
    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Self::Value>;
    /// Formats a value so that [`ValueType::read`] returns an equal value; `None` for an absent value.
    fn show(value: &Self::Value) -> Option<Value>;
}

/// Returns a TOML string, or reports a type error.
pub(crate) fn expect_string<'n>(node: &ValueNode<'n>, reader: &mut ConfigReader<'_>, wanted: &str) -> Option<&'n str> {
    let found = node.value.as_str();
    if found.is_none() {
        reader.type_error(node, wanted);
    }
    found
}

/// Returns a TOML integer within the range of `i64`; `None` for other values, reported by the caller.
fn as_i64(node: &ValueNode<'_>) -> Option<i64> {
    let integer = node.value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The values `true` and `false`.
pub(crate) struct BoolValue;

impl ValueType for BoolValue {
    type Value = bool;
    const FORM: &'static str = "true or false";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<bool> {
        let found = node.value.as_bool();
        if found.is_none() {
            reader.type_error(node, "true or false, without quotes");
        }
        found
    }

    fn show(value: &bool) -> Option<Value> {
        Some(Value::Boolean(*value))
    }
}

/// Integer types usable with [`IntegerValue`].
pub(crate) trait Integer: Copy + TryFrom<i64> {
    fn to_i64(self) -> i64;
}

macro_rules! impl_integer {
    ($($t:ty),*) => { $( impl Integer for $t { fn to_i64(self) -> i64 { i64::try_from(self).unwrap_or(i64::MAX) } } )* };
}
impl_integer!(i32, u16, u32, usize);

/// An integer between `MIN` and `MAX`.
pub(crate) struct IntegerValue<T, const MIN: i64, const MAX: i64>(PhantomData<T>);

impl<T: Integer, const MIN: i64, const MAX: i64> ValueType for IntegerValue<T, MIN, MAX> {
    type Value = T;
    const FORM: &'static str = "number";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<T> {
        let Some(number) = as_i64(node) else {
            reader.type_error(node, "a whole number, without quotes");
            return None;
        };
        let fits = (MIN..=MAX).contains(&number).then(|| T::try_from(number).ok()).flatten();
        if fits.is_none() {
            let message = format!("{} is {number}", last_key(&node.path));
            reader.error(node.span.clone(), message, format!("it must be between {MIN} and {MAX}"));
        }
        fits
    }

    fn show(value: &T) -> Option<Value> {
        Some(Value::Integer(value.to_i64()))
    }
}

/// A size of at least `MIN` bytes.
pub(crate) struct ByteSize<const MIN: u64>;

const SIZE_UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("kB", 1000),
    ("B", 1),
];

impl<const MIN: u64> ValueType for ByteSize<MIN> {
    type Value = u64;
    const FORM: &'static str = "octets: a number, or text with a unit, \"64KiB\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<u64> {
        let size = match node.value {
            DeValue::String(text) => parse_with_unit(text, SIZE_UNITS),
            DeValue::Integer(_) => as_i64(node).and_then(|n| u64::try_from(n).ok()),
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                reader.type_error(node, "a size, such as \"64KiB\"");
                return None;
            }
        };
        match size {
            Some(size) if size > i64::MAX as u64 => report_invalid_size(node, reader),
            Some(size) if size < MIN => {
                let message = format!("{} is {size} octets", last_key(&node.path));
                reader.error(node.span.clone(), message, format!("it must be at least {}", format_size(MIN)));
                None
            }
            Some(size) => Some(size),
            None => report_invalid_size(node, reader),
        }
    }

    fn show(value: &u64) -> Option<Value> {
        Some(Value::String(format_size(*value)))
    }
}

fn report_invalid_size(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<u64> {
    let message = format!("{} is not a size", last_key(&node.path));
    reader.error(node.span.clone(), message, "write a number of octets or a unit of B, KB, MB, GB, KiB, MiB, GiB".to_owned());
    None
}

/// Formats a size with the largest binary unit that divides the size without remainder.
pub(crate) fn format_size(size: u64) -> String {
    let whole = |unit: u64| size >= unit && size.is_multiple_of(unit);
    match SIZE_UNITS.iter().take(3).find(|(_, unit)| whole(*unit)) {
        Some((name, unit)) => format!("{}{name}", size / unit),
        None => format!("{size}B"),
    }
}

/// Parses a number with a unit: `12 KiB` -> 12 * 1024.
fn parse_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A duration of at least `MIN` milliseconds.
pub(crate) struct DurationValue<const MIN: u64>;

const DURATION_UNITS: &[(&str, u64)] =
    &[("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl<const MIN: u64> ValueType for DurationValue<MIN> {
    type Value = Duration;
    const FORM: &'static str = "duration: text with a unit of ms, s, m, h, d, w, or a number of seconds";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Duration> {
        let millis = match node.value {
            DeValue::String(text) => parse_with_unit(text, DURATION_UNITS),
            DeValue::Integer(_) => as_i64(node).and_then(|n| u64::try_from(n).ok()?.checked_mul(1000)),
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                reader.type_error(node, "a duration, such as \"300s\"");
                return None;
            }
        };
        match millis {
            Some(millis) if millis < MIN => {
                let least = format_duration(Duration::from_millis(MIN));
                let message = format!("{} is too short", last_key(&node.path));
                reader.error(node.span.clone(), message, format!("it must be at least \"{least}\""));
                None
            }
            Some(millis) => Some(Duration::from_millis(millis)),
            None => {
                let message = format!("{} is not a duration", last_key(&node.path));
                let advice = "write a number with one unit of ms, s, m, h, d, w, such as \"5d\"";
                reader.error(node.span.clone(), message, advice.to_owned());
                None
            }
        }
    }

    fn show(value: &Duration) -> Option<Value> {
        Some(Value::String(format_duration(*value)))
    }
}

/// Formats a duration with the largest unit that divides the duration without remainder. Weeks and minutes are not
/// used, as in Postfix.
pub(crate) fn format_duration(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let unit =
        |name: &str, size: u64| (millis >= size && millis.is_multiple_of(size)).then(|| format!("{}{name}", millis / size));
    unit("d", 86_400_000).or_else(|| unit("h", 3_600_000)).or_else(|| unit("s", 1000)).unwrap_or_else(|| format!("{millis}ms"))
}

/// A single line of text.
pub(crate) struct TextValue;

impl ValueType for TextValue {
    type Value = String;
    const FORM: &'static str = "text";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<String> {
        let text = expect_string(node, reader, "text in quotes")?;
        if text.chars().any(char::is_control) {
            let message = format!("{} has a control character", last_key(&node.path));
            reader.error(node.span.clone(), message, "write one line of printable text".to_owned());
            return None;
        }
        Some(text.to_owned())
    }

    fn show(value: &String) -> Option<Value> {
        Some(Value::String(value.clone()))
    }
}

/// A host or domain name, or an address in brackets; `$myhostname` and `$mydomain` are expanded later.
pub(crate) struct DomainValue;

impl ValueType for DomainValue {
    type Value = String;
    const FORM: &'static str = "domain name";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<String> {
        let text = expect_string(node, reader, "a domain name in quotes")?;
        if text.contains('$') {
            return Some(text.to_owned());
        }
        match waxwing_types::Address::new("x", text) {
            Ok(address) if !address.has_no_domain() => Some(address.domain().to_owned()),
            _ => {
                let message = format!("\"{text}\" is not a domain name");
                let advice = match text.strip_prefix('@').or_else(|| text.strip_suffix('.')) {
                    Some(rest) if !rest.is_empty() => format!("did you mean \"{rest}\"?"),
                    _ => "a domain name has letters, digits, dots and inner hyphens".to_owned(),
                };
                reader.error(node.span.clone(), message, advice);
                None
            }
        }
    }

    fn show(value: &String) -> Option<Value> {
        Some(Value::String(value.clone()))
    }
}

/// A path; relative paths start at the directory of the configuration file.
pub(crate) struct PathValue;

impl ValueType for PathValue {
    type Value = PathBuf;
    const FORM: &'static str = "path";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<PathBuf> {
        let text = expect_string(node, reader, "a path in quotes")?;
        if text.is_empty() || text.contains('\0') {
            reader.error(node.span.clone(), format!("{} is not a path", last_key(&node.path)), None);
            return None;
        }
        Some(reader.resolve_path(text))
    }

    fn show(value: &PathBuf) -> Option<Value> {
        Some(Value::String(value.display().to_string()))
    }
}

/// The address of a milter.
pub(crate) struct MilterEndpoint;

impl ValueType for MilterEndpoint {
    type Value = Endpoint;
    const FORM: &'static str = "\"inet:PORT@HOST\" or \"unix:/path/of/socket\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Endpoint> {
        let text = expect_string(node, reader, "\"inet:PORT@HOST\" or \"unix:/path/of/socket\"")?;
        match text.parse() {
            Ok(endpoint) => Some(endpoint),
            Err(EndpointError) => {
                let message = format!("\"{text}\" is not the address of a milter");
                reader.error(node.span.clone(), message, EndpointError.to_string());
                None
            }
        }
    }

    fn show(value: &Endpoint) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// An IP address and port.
pub(crate) struct SocketAddrValue;

impl ValueType for SocketAddrValue {
    type Value = SocketAddr;
    const FORM: &'static str = "address and port, \"127.0.0.1:25\" or \"[::1]:25\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<SocketAddr> {
        let text = expect_string(node, reader, "an address and a port in quotes, such as \"127.0.0.1:2525\"")?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let advice = match text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
                Some(port) => format!("for every address write \"0.0.0.0:{port}\" or \"[::]:{port}\""),
                None if text.parse::<std::net::IpAddr>().is_ok() => "a port is missing: \"127.0.0.1:2525\"".to_owned(),
                None => "write it as \"127.0.0.1:2525\" or \"[::1]:2525\"; names are not looked up here".to_owned(),
            };
            reader.error(node.span.clone(), format!("\"{text}\" is not an address with a port"), advice);
        }
        parsed
    }

    fn show(value: &SocketAddr) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// Enumerations written as strings.
pub(crate) trait StringEnum: Sized + Copy + PartialEq + 'static {
    const FORM: &'static str;
    const VARIANTS: &'static [(&'static str, Self)];
}

/// A string from a fixed set.
pub(crate) struct EnumValue<W>(PhantomData<W>);

impl<W: StringEnum> ValueType for EnumValue<W> {
    type Value = W;
    const FORM: &'static str = W::FORM;

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<W> {
        let text = expect_string(node, reader, W::FORM)?;
        let found = W::VARIANTS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let advice = match closest_match(text, W::VARIANTS.iter().map(|(word, _)| *word)) {
                Some(near) => format!("did you mean \"{near}\"? It is one of {}", W::FORM),
                None => format!("it is one of {}", W::FORM),
            };
            reader.error(node.span.clone(), format!("{} is \"{text}\"", last_key(&node.path)), advice);
        }
        found
    }

    fn show(value: &W) -> Option<Value> {
        W::VARIANTS.iter().find(|(_, v)| v == value).map(|(word, _)| Value::String((*word).to_owned()))
    }
}

/// A key without a required value.
pub(crate) struct OptionalValue<K>(PhantomData<K>);

impl<K: ValueType> ValueType for OptionalValue<K> {
    type Value = Option<K::Value>;
    const FORM: &'static str = K::FORM;

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Self::Value> {
        K::read(node, reader).map(Some)
    }

    fn show(value: &Self::Value) -> Option<Value> {
        K::show(value.as_ref()?)
    }
}

/// A TOML array.
pub(crate) struct ListOf<K>(PhantomData<K>);

impl<K: ValueType> ValueType for ListOf<K> {
    type Value = Vec<K::Value>;
    const FORM: &'static str = K::FORM;

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Self::Value> {
        let Some(array) = node.value.as_array() else {
            reader.type_error(node, "an array: [...]");
            return None;
        };
        let mut list = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let path = format!("{}[{index}]", node.path);
            reader.record_span(&path, item.span(), item.span());
            list.extend(K::read(&ValueNode { path, value: item.get_ref(), span: item.span() }, reader));
        }
        Some(list)
    }

    fn show(value: &Self::Value) -> Option<Value> {
        Some(Value::Array(value.iter().filter_map(K::show).collect()))
    }
}

/// A table with keys chosen by the user.
pub(crate) struct MapOf<K>(PhantomData<K>);

impl<K: ValueType> ValueType for MapOf<K> {
    type Value = BTreeMap<String, K::Value>;
    const FORM: &'static str = K::FORM;

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Self::Value> {
        let Some(table) = node.value.as_table() else {
            reader.type_error(node, "a table: { key = value }");
            return None;
        };
        let names: Vec<&str> = table.keys().map(|key| key.get_ref().as_ref()).collect();
        reader.open_table(&node.path, table, &names);
        let mut map = BTreeMap::new();
        for (key, value) in table {
            let path = crate::reader::join_path(&node.path, key.get_ref());
            if let Some(read) = K::read(&ValueNode { path, value: value.get_ref(), span: value.span() }, reader) {
                map.insert(key.get_ref().to_string(), read);
            }
        }
        Some(map)
    }

    fn show(value: &Self::Value) -> Option<Value> {
        Some(Value::Table(value.iter().filter_map(|(key, v)| Some((key.clone(), K::show(v)?))).collect()))
    }
}

/// A table with fixed keys.
pub(crate) struct TableValue<S>(PhantomData<S>);

impl<S: Section> ValueType for TableValue<S> {
    type Value = S;
    const FORM: &'static str = "table";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<S> {
        let Some(table) = node.value.as_table() else {
            reader.type_error(node, "a table");
            return None;
        };
        let open = reader.open_table(&node.path, table, S::NAMES);
        Some(S::read_table(&open, reader))
    }

    fn show(value: &S) -> Option<Value> {
        let names = S::NAMES.iter().map(|name| (*name).to_owned());
        Some(Value::Table(names.zip(value.values()).filter_map(|(name, v)| Some((name, v?))).collect()))
    }
}

/// Returns the defaults of a section, equal to the values of an empty table.
pub(crate) fn default_section<S: Section>(path: &str, reader: &mut ConfigReader<'_>) -> S {
    let empty = toml::de::DeTable::new();
    let open = reader.open_table(path, &empty, S::NAMES);
    S::read_table(&open, reader)
}
