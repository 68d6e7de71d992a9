//! Target `proxy_header`: the first octets of a connection from a proxy.

use waxwing_net::proxy_protocol::{ProxyHeader, ProxyParseResult, V1_BYTES_MAX, V2_VARIABLE_BYTES_MAX, parse};

/// Maximum size of a header of either version, in octets.
const HEADER_MAX: usize = V1_BYTES_MAX + 16 + V2_VARIABLE_BYTES_MAX;

/// Law for every prefix of the input: a complete header stays the same and lies within the prefix, an invalid start never becomes a header, and
/// no header is complete before the announced number of octets.
pub fn proxy_header(input: &[u8]) {
    let input = input.get(..HEADER_MAX + 16).unwrap_or(input);
    let mut done: Option<ProxyHeader> = None;
    let mut failed = false;
    let mut needed = 0;
    for length in 0..=input.len() {
        match parse(input.get(..length).unwrap_or(input)) {
            Ok(ProxyParseResult::NeedMore(more)) => {
                assert!(more > 0 && !failed && done.is_none(), "a header of {length} octets that goes back");
                assert!(length + more <= HEADER_MAX, "a header without end");
                needed = needed.max(length + more);
            }
            Ok(ProxyParseResult::Complete(header)) => {
                assert!(!failed && header.length <= length, "{header:?} in {length} octets");
                assert!(done.is_some() || needed <= length, "whole at {length}, and {needed} were needed");
                assert_eq!(*done.get_or_insert(header), header, "another header with more octets");
            }
            Err(_) => {
                assert!(done.is_none(), "no header any more at {length}");
                failed = true;
            }
        }
    }
}
