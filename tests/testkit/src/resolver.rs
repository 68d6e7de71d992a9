//! DNS resolver.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use waxwing_pipeline::{DnsError, DnsRecords, MxHost, Resolver};

/// Resolver with fixed answers. Several answers to one query are given one after the other, the last of them for ever. A query
/// without an answer of its own gets the default answer of its kind, else [`DnsError::NoSuchName`].
#[derive(Debug, Default)]
pub struct FakeResolver {
    mx: Answers<Vec<MxHost>>,
    addresses: Answers<Vec<IpAddr>>,
    records: Answers<DnsRecords>,
    queries: AtomicUsize,
}

impl FakeResolver {
    /// Adds an answer to the query for the MX hosts of a domain.
    #[must_use]
    pub fn with_mx(mut self, domain: &str, answer: Result<Vec<MxHost>, DnsError>) -> Self {
        self.mx.add(domain, answer);
        self
    }

    /// Adds an answer to the query for the addresses of a host.
    #[must_use]
    pub fn with_addresses(mut self, host: &str, answer: Result<Vec<IpAddr>, DnsError>) -> Self {
        self.addresses.add(host, answer);
        self
    }

    /// Adds an answer to queries for the addresses of each other host.
    #[must_use]
    pub fn with_default_addresses(mut self, answer: Result<Vec<IpAddr>, DnsError>) -> Self {
        self.addresses.add(DEFAULT, answer);
        self
    }

    /// Adds an answer to the query for the records of a type (RFC 1035 §3.2.2).
    #[must_use]
    pub fn with_records(mut self, name: &str, rrtype: u16, answer: Result<DnsRecords, DnsError>) -> Self {
        self.records.add(&record_key(name, rrtype), answer);
        self
    }

    /// Adds an answer to queries for each other name and type.
    #[must_use]
    pub fn with_default_records(mut self, answer: Result<DnsRecords, DnsError>) -> Self {
        self.records.add(DEFAULT, answer);
        self
    }

    /// Returns the number of queries so far.
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Resolver for FakeResolver {
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, DnsError> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.mx.next(domain)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.addresses.next(host)
    }

    async fn records(&self, name: &str, rrtype: u16) -> Result<DnsRecords, DnsError> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.records.next(&record_key(name, rrtype))
    }
}

/// Key of the default answer: no name of the DNS.
const DEFAULT: &str = "";

fn record_key(name: &str, rrtype: u16) -> String {
    format!("{rrtype} {name}")
}

/// Answers of one kind: query to the answers that remain.
#[derive(Debug)]
struct Answers<T>(HashMap<String, Mutex<VecDeque<Result<T, DnsError>>>>);

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> Answers<T> {
    fn add(&mut self, query: &str, answer: Result<T, DnsError>) {
        let answers = self.0.entry(query.to_owned()).or_default();
        answers.get_mut().unwrap_or_else(PoisonError::into_inner).push_back(answer);
    }

    fn next(&self, query: &str) -> Result<T, DnsError> {
        let answers = self.0.get(query).or_else(|| self.0.get(DEFAULT)).ok_or(DnsError::NoSuchName)?;
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        let last = answers.len() <= 1;
        let answer = if last { answers.front().cloned() } else { answers.pop_front() };
        answer.unwrap_or(Err(DnsError::NoSuchName))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_given_in_order_and_the_last_stays() {
        let first = IpAddr::from([192, 0, 2, 1]);
        let resolver = FakeResolver::default()
            .with_addresses("a.test", Ok(vec![first]))
            .with_addresses("a.test", Err(DnsError::NoData))
            .with_default_records(Err(DnsError::NullMx));
        assert_eq!(resolver.addresses("a.test").await, Ok(vec![first]));
        assert_eq!(resolver.addresses("a.test").await, Err(DnsError::NoData));
        assert_eq!(resolver.addresses("a.test").await, Err(DnsError::NoData));
        assert_eq!(resolver.addresses("b.test").await, Err(DnsError::NoSuchName));
        assert_eq!(resolver.mx("a.test").await, Err(DnsError::NoSuchName));
        assert_eq!(resolver.records("a.test", 16).await, Err(DnsError::NullMx));
        assert_eq!(resolver.queries(), 6);
    }
}
