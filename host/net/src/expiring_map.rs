//! A map by IP address with expiry and a maximum size.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use waxwing_types::Monotonic;

/// Values by address, each with the same lifetime from creation.
#[derive(Debug)]
pub(crate) struct ExpiringMap<V> {
    entries_max: usize,
    by_address: HashMap<IpAddr, (Monotonic, V)>,
    /// Entries in the order of creation. A recreated entry appears twice for a while; the older element has no
    /// effect.
    order: VecDeque<(Monotonic, IpAddr)>,
    /// Number of entries evicted before expiry, to limit the size.
    evicted: u64,
}

impl<V: Default> ExpiringMap<V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries_max: entries_max.max(1), by_address: HashMap::new(), order: VecDeque::new(), evicted: 0 }
    }

    /// Number of stored entries.
    pub(crate) fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Number of entries evicted before expiry.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Returns the value of an address, if younger than `age_max`.
    pub(crate) fn get(&self, address: IpAddr, now: Monotonic, age_max: Duration) -> Option<&V> {
        self.by_address.get(&address).filter(|(made, _)| now.since(*made) < age_max).map(|(_, value)| value)
    }

    /// Returns the value of an address, creating a default value if absent or expired. A full map evicts the oldest
    /// entry, independent of the value.
    pub(crate) fn entry(&mut self, address: IpAddr, now: Monotonic, age_max: Duration) -> &mut V {
        self.remove_expired(now, age_max);
        let is_fresh = self.by_address.contains_key(&address);
        if !is_fresh {
            while self.by_address.len() >= self.entries_max && self.evict_oldest() {
                self.evicted += 1;
            }
            self.order.push_back((now, address));
        }
        let (_, value) = self.by_address.entry(address).or_insert_with(|| (now, V::default()));
        value
    }

    /// Removes expired entries. Each entry is visited once, so the amortized cost is constant.
    fn remove_expired(&mut self, now: Monotonic, age_max: Duration) {
        while self.order.front().is_some_and(|(made, _)| now.since(*made) >= age_max) {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) -> bool {
        let Some((made, address)) = self.order.pop_front() else { return false };
        if self.by_address.get(&address).is_some_and(|(of, _)| *of == made) {
            self.by_address.remove(&address);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_micros(seconds * 1_000_000)
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn old_entries_go_and_new_ones_push_out_the_oldest() {
        let minute = Duration::from_secs(60);
        let mut recent: ExpiringMap<u32> = ExpiringMap::new(3);
        for n in 0..3 {
            *recent.entry(address(n), at(u64::from(n)), minute) += 10 + n;
        }
        assert_eq!(recent.get(address(0), at(59), minute), Some(&10));
        assert_eq!(recent.get(address(0), at(60), minute), None, "too old, though nobody removed it yet");
        recent.entry(address(3), at(10), minute);
        assert_eq!((recent.len(), recent.evicted()), (3, 1), "the oldest went");
        assert_eq!(recent.get(address(0), at(10), minute), None);
        assert_eq!(recent.get(address(1), at(10), minute), Some(&11));
        recent.entry(address(4), at(100), minute);
        assert_eq!((recent.len(), recent.evicted()), (1, 1), "the others were too old");
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut recent: ExpiringMap<u32> = ExpiringMap::new(100);
        for n in 0..10_000 {
            *recent.entry(address(n % 777), at(u64::from(n)), Duration::from_secs(50)) += 1;
            assert!(recent.len() <= 100 && recent.order.len() <= 101);
        }
    }
}
