//! Queue ids as JSON: as text, since a number of 64 bits loses digits in most readers of JSON.

use serde::{Deserialize, Deserializer, Serializer, de};
use waxwing_types::QueueId;

pub(crate) fn serialize<S: Serializer>(id: &QueueId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<QueueId, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

/// The same for an id that may be absent.
pub(crate) mod option {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use waxwing_types::QueueId;

    pub(crate) fn serialize<S: Serializer>(id: &Option<QueueId>, serializer: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<QueueId>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|t| t.parse().map_err(de::Error::custom)).transpose()
    }
}
