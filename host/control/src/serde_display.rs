//! Serde helpers for queue ids as JSON strings, since most JSON parsers lose digits of 64-bit numbers.

use serde::{Deserialize, Deserializer, Serializer, de};
use waxwing_types::QueueId;

pub(crate) fn serialize<S: Serializer>(id: &QueueId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<QueueId, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}
