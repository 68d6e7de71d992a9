//! Sources of lookup tables.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use toml::Value;
use toml::de::DeValue;

use crate::reader::{ConfigReader, ValueNode};
use crate::value::{MapOf, TextValue, ValueType};

/// Source of a lookup table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableSpec {
    /// `texthash:/path`: lines of a key, white space and a value (postmap(1)).
    Texthash(PathBuf),
    /// `aliases:/path`: lines of a name, a colon and a list (aliases(5)).
    Aliases(PathBuf),
    /// Inline keys and values in the configuration file.
    Inline(BTreeMap<String, String>),
}

impl fmt::Display for TableSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Texthash(path) => write!(f, "texthash:{}", path.display()),
            Self::Aliases(path) => write!(f, "aliases:{}", path.display()),
            Self::Inline(_) => f.write_str("inline"),
        }
    }
}

/// A table, or an array of tables searched in order.
pub(crate) struct TableSpecList;

impl ValueType for TableSpecList {
    type Value = Vec<TableSpec>;
    const FORM: &'static str = "table: \"texthash:/path\", \"aliases:/path\" or { key = \"value\" }; or an array of them";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<Vec<TableSpec>> {
        let DeValue::Array(array) = node.value else {
            return parse_table(node, reader).map(|table| vec![table]);
        };
        let mut list = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let path = format!("{}[{index}]", node.path);
            reader.record_span(&path, item.span(), item.span());
            list.extend(parse_table(&ValueNode { path, value: item.get_ref(), span: item.span() }, reader));
        }
        Some(list)
    }

    fn show(value: &Vec<TableSpec>) -> Option<Value> {
        let show = |table: &TableSpec| match table {
            TableSpec::Inline(map) => MapOf::<TextValue>::show(map),
            TableSpec::Texthash(_) | TableSpec::Aliases(_) => Some(Value::String(table.to_string())),
        };
        match value.as_slice() {
            [only] => show(only),
            all => Some(Value::Array(all.iter().filter_map(show).collect())),
        }
    }
}

fn parse_table(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<TableSpec> {
    let text = match node.value {
        DeValue::Table(_) => return MapOf::<TextValue>::read(node, reader).map(TableSpec::Inline),
        DeValue::String(text) => text,
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) => {
            reader.type_error(node, "\"texthash:/path\", or a table { key = \"value\" }");
            return None;
        }
    };
    let (kind, path) = text.split_once(':').unwrap_or(("", text));
    let advice = match kind {
        "texthash" if !path.is_empty() => return parse_file_table(node, reader, path, TableSpec::Texthash),
        "aliases" if !path.is_empty() => return parse_file_table(node, reader, path, TableSpec::Aliases),
        "hash" | "btree" | "lmdb" | "cdb" | "dbm" => {
            format!("the text file is read directly: write \"texthash:{path}\", or \"aliases:{path}\" for an aliases file")
        }
        "" => format!("name the kind of table: \"texthash:{path}\" or \"aliases:{path}\""),
        _ => "the kinds of table are texthash and aliases, or a table in the file itself".to_owned(),
    };
    reader.error(node.span.clone(), format!("\"{text}\" is not a table"), advice);
    None
}

fn parse_file_table(
    node: &ValueNode<'_>,
    reader: &mut ConfigReader<'_>,
    path: &str,
    make: fn(PathBuf) -> TableSpec,
) -> Option<TableSpec> {
    let path = reader.resolve_path(path);
    if !(reader.environment.path_exists)(&path) {
        let message = format!("the table \"{}\" does not exist", path.display());
        reader.error(node.span.clone(), message, "create the file, or correct the path".to_owned());
        return None;
    }
    Some(make(path))
}
