//! What a client said in one transaction and how it ended: enough to play it again with other plugins.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waxwing_types::{Parameter, Tags, Timestamp, Via};

use crate::TraceEntry;

/// In the place of what was redacted.
pub const REDACTED: &str = "(redacted)";

/// One transaction, from MAIL to its end, as the client made it, and what the server made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Its queue id.
    pub id: String,
    /// When it began.
    pub at: Timestamp,
    /// The client.
    pub peer: Option<SocketAddr>,
    /// The client's name by reverse lookup.
    pub client_name: Option<String>,
    /// The listener that it came to.
    pub listener: String,
    /// By which door.
    pub via: Via,
    /// What it said after HELO or EHLO.
    pub helo: String,
    /// It said EHLO.
    pub esmtp: bool,
    /// MAIL FROM; empty for `<>`.
    pub sender: String,
    /// Parameters of MAIL.
    pub mail_parameters: Vec<Parameter>,
    /// All recipients that it named, refused ones too, with the parameters of RCPT.
    pub recipients: Vec<(String, Vec<Parameter>)>,
    /// The header as it came, with the empty line; none if no message came.
    #[serde(with = "octets::maybe")]
    pub head: Option<Bytes>,
    /// The body as it came.
    pub body: RecordedBody,
    /// Names of header fields whose values are [`REDACTED`].
    pub redacted_headers: Vec<String>,
    /// The tags at the end.
    pub tags: Tags,
    /// How it ended: `accept`, `reject`, `defer`, `disconnect`, `discard` or `hold`; `open` if the client left while nothing had been
    /// refused.
    pub ending: String,
    /// The reply that said so; empty if the client ended it.
    pub reply: String,
    /// What every hook did.
    pub entries: Vec<TraceEntry>,
}

/// The body of a recorded message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedBody {
    /// No message came.
    None,
    /// As it came.
    Whole(#[serde(with = "octets")] Bytes),
    /// The configuration says that bodies are not recorded.
    Redacted {
        /// Octets.
        size: u64,
    },
    /// It was not in memory, as bodies of more than 256 KiB are not.
    TooLarge {
        /// Octets.
        size: u64,
    },
}

/// Keeps recordings; never waits.
pub trait Recorder: Send + Sync {
    /// Takes a recording, or drops it when too much waits.
    fn record(&self, recording: Recording);
}

/// Octets: as they are in a store, and in JSON as a text whose characters are the octets.
mod octets {
    use bytes::Bytes;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(octets: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(&octets.iter().map(|octet| char::from(*octet)).collect::<String>()),
            false => serializer.serialize_bytes(octets),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        if !deserializer.is_human_readable() {
            return Vec::<u8>::deserialize(deserializer).map(Bytes::from);
        }
        let text = String::deserialize(deserializer)?;
        let octets: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        octets.map(Bytes::from).map_err(|_| D::Error::custom("a character is no octet"))
    }

    /// The same where there may be none.
    pub(super) mod maybe {
        use super::{Bytes, Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct Octets(#[serde(with = "super")] Bytes);

        pub(in super::super) fn serialize<S: Serializer>(octets: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
            octets.clone().map(Octets).serialize(serializer)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
            Ok(Option::<Octets>::deserialize(deserializer)?.map(|octets| octets.0))
        }
    }
}
