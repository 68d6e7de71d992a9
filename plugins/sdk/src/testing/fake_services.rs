//! Fake services beyond the message (kv, DNS, HTTP, submit, clock, random), served from the state of a test. The ttl of kv entries is
//! ignored: no time passes.

use std::collections::BTreeMap;

use super::{CURRENT, Change, FakeState};

#[derive(Clone, Debug, Default)]
pub(super) struct FakeServices {
    pub(super) kv_entries: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) dns_records: BTreeMap<(String, u16), Vec<Vec<u8>>>,
    pub(super) http_responses: BTreeMap<String, (u16, Vec<u8>)>,
}

#[allow(clippy::panic, reason = "a plugin's test that calls the host without one is wrong, and must be told")]
fn with_state<T>(answer: impl FnOnce(&mut FakeState) -> T) -> T {
    CURRENT.with_borrow_mut(|current| match current {
        Some(state) => answer(state),
        None => panic!("a host function was called outside testing::Host::run"),
    })
}

/// Entries of the plugin's kv store.
pub mod kv {
    use super::with_state;

    pub use crate::generated::waxwing::mail::kv::KvError;

    /// Returns the value of a key.
    pub fn get(key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(with_state(|s| s.services.kv_entries.get(key).cloned()))
    }

    /// Sets the value of a key.
    pub fn set(key: &[u8], value: &[u8], _ttl_seconds: u32) -> Result<(), KvError> {
        with_state(|s| s.services.kv_entries.insert(key.to_vec(), value.to_vec()));
        Ok(())
    }

    /// Removes a key.
    pub fn delete(key: &[u8]) -> Result<(), KvError> {
        with_state(|s| s.services.kv_entries.remove(key));
        Ok(())
    }

    /// Adds to a number, stored as eight big-endian bytes; returns the sum.
    pub fn add(key: &[u8], delta: i64, _ttl_seconds: u32) -> Result<i64, KvError> {
        Ok(with_state(|s| {
            let number =
                s.services.kv_entries.get(key).and_then(|value| <[u8; 8]>::try_from(&value[..]).ok()).map(i64::from_be_bytes);
            let sum = number.unwrap_or_default().saturating_add(delta);
            s.services.kv_entries.insert(key.to_vec(), sum.to_be_bytes().to_vec());
            sum
        }))
    }

    type Entries = Vec<(Vec<u8>, Vec<u8>)>;

    /// Returns the entries of a prefix in the order of keys.
    pub fn scan(prefix: &[u8], after: Option<&[u8]>, limit: u32) -> Result<Entries, KvError> {
        let fits = |key: &[u8]| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        Ok(with_state(|s| {
            let pairs = s.services.kv_entries.iter().filter(|(key, _)| fits(key));
            pairs.take(limit as usize).map(|(key, value)| (key.clone(), value.clone())).collect()
        }))
    }
}

/// DNS queries, answered by the test.
pub mod dns {
    pub use crate::generated::waxwing::mail::dns::{Answer, DnsError};

    /// Returns the records given by the test.
    pub fn lookup(name: &str, rrtype: u16) -> Result<Answer, DnsError> {
        let found = super::with_state(|s| s.services.dns_records.get(&(name.to_owned(), rrtype)).cloned());
        found.map(|rdata| Answer { rdata, ttl_seconds: 300, authentic: false }).ok_or(DnsError::NoSuchName)
    }
}

/// HTTP requests, answered by the test.
pub mod http {
    pub use crate::generated::waxwing::mail::http::{HttpError, Request, Response};

    /// Returns the response given by the test.
    pub fn fetch(request: &Request) -> Result<Response, HttpError> {
        let found = super::with_state(|s| s.services.http_responses.get(&request.url).cloned());
        found.map(|(status, body)| Response { status, headers: Vec::new(), body }).ok_or(HttpError::NotGranted)
    }
}

/// Submission of new mail.
pub mod submit {
    use super::{Change, with_state};
    use crate::{Address, Payload, ReversePath};

    pub use crate::generated::waxwing::mail::submit::SubmitError;

    /// Stages the submission and returns a constant id.
    pub fn send(sender: &ReversePath, recipients: &[Address], message: &Payload) -> Result<String, SubmitError> {
        let octets = match message {
            Payload::Bytes(octets) => octets.clone(),
            Payload::Message | Payload::Part(_) => Vec::new(),
        };
        with_state(|s| s.changes.push(Change::Submit(sender.clone(), recipients.to_vec(), octets)));
        Ok("0000000000001".to_owned())
    }
}

/// Time of day.
pub mod clock {
    /// Returns the start time of the transaction, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms() -> u64 {
        super::with_state(|s| s.received_at_ms)
    }
}

/// Random bytes, deterministic in tests.
pub mod random {
    /// Returns the same bytes at every call, so that tests can compare.
    #[must_use]
    pub fn bytes(length: u32) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8).collect()
    }
}
