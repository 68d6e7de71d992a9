//! Queue ids as JSON: as text, since a number of 64 bits loses digits in most readers of JSON.

use serde::{Deserialize, Deserializer, Serializer, de};
use waxwing_types::QueueId;

pub(crate) fn serialize<S: Serializer>(id: &QueueId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<QueueId, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}
