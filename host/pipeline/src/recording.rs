//! Recordings of transactions: the input of a client and the result, sufficient for a replay with other plugins.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waxwing_types::{Parameter, Source, Tags, Timestamp};

use crate::TraceEntry;

/// Placeholder of a redacted value.
pub const REDACTED: &str = "(redacted)";

/// Record of one transaction, from MAIL to the end: the input of the client and the decisions of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Queue id of the transaction.
    pub id: String,
    /// Start time of the transaction.
    pub at: Timestamp,
    /// IP address and port of the client.
    pub peer: Option<SocketAddr>,
    /// Host name of the client by reverse lookup.
    pub client_name: Option<String>,
    /// Name of the listener.
    pub listener: String,
    /// Source of the mail.
    #[serde(rename = "via")]
    pub source: Source,
    /// Argument of HELO or EHLO.
    pub helo: String,
    /// Whether the client sent EHLO.
    pub esmtp: bool,
    /// Envelope sender (MAIL FROM); empty for `<>`.
    pub sender: String,
    /// ESMTP parameters of MAIL.
    pub mail_parameters: Vec<Parameter>,
    /// All recipients, refused ones included, with the parameters of RCPT.
    pub recipients: Vec<(String, Vec<Parameter>)>,
    /// Header block as received, including the empty line; none without a message.
    #[serde(rename = "head", with = "octets::maybe")]
    pub header: Option<Bytes>,
    /// Body as received.
    pub body: RecordedBody,
    /// Names of header fields whose values are [`REDACTED`].
    pub redacted_headers: Vec<String>,
    /// Tags at the end of the transaction.
    pub tags: Tags,
    /// Final verdict: `accept`, `reject`, `defer`, `disconnect`, `discard` or `hold`; `open` if the client left before any
    /// refusal.
    #[serde(rename = "ending")]
    pub final_verdict: String,
    /// Final reply; empty if the client ended the transaction.
    pub reply: String,
    /// Trace of all hooks.
    pub entries: Vec<TraceEntry>,
}

/// Body of a recorded message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedBody {
    /// No message received.
    None,
    /// Body as received.
    #[serde(rename = "whole")]
    Complete(#[serde(with = "octets")] Bytes),
    /// Recording of bodies disabled by the configuration.
    Redacted {
        /// Size in bytes.
        size: u64,
    },
    /// Body not in memory: larger than 256 KiB.
    TooLarge {
        /// Size in bytes.
        size: u64,
    },
}

/// Store of recordings. Never blocks.
pub trait Recorder: Send + Sync {
    /// Stores a recording, or drops the recording when the queue is full.
    fn record(&self, recording: Recording);
}

/// Serde representation of byte strings: bytes in binary formats; in JSON a string with one character per byte.
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
        octets.map(Bytes::from).map_err(|_| D::Error::custom("character out of the byte range"))
    }

    /// Serde representation of an optional byte string.
    pub(super) mod maybe {
        use super::{Bytes, Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct SerdeBytes(#[serde(with = "super")] Bytes);

        pub(in super::super) fn serialize<S: Serializer>(octets: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
            octets.clone().map(SerdeBytes).serialize(serializer)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
            Ok(Option::<SerdeBytes>::deserialize(deserializer)?.map(|octets| octets.0))
        }
    }
}
