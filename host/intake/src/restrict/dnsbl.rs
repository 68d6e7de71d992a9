//! DNS lists of addresses and domains (RFC 5782). The resolver caches answers for the record TTL.

use std::net::Ipv4Addr;
use std::sync::Arc;

use waxwing_config::{DnsList, Subject};
use waxwing_net::spawn;
use waxwing_pipeline::Resolver;
use waxwing_types::ReversePath;

use super::{Case, Policy, Refusal, Ruling, made, name_of, names};

/// DNS record type A (RFC 1035 §3.4.1).
const A: u16 = 1;

/// Queries a DNS list; a list without an answer counts as not listing the key.
async fn is_listed(resolver: &dyn Resolver, key: &str, list: &DnsList) -> bool {
    let Ok(records) = resolver.records(&format!("{key}.{}", list.domain), A).await else { return false };
    let answers = records.rdata.iter().filter_map(|octets| <[u8; 4]>::try_from(octets.as_ref()).ok());
    answers.into_iter().any(|octets| list.counts(Ipv4Addr::from(octets)))
}

pub(super) async fn is_client_in(policy: &Policy, request: &Case<'_>, list: &DnsList) -> bool {
    match &request.context.client {
        Some(client) => is_listed(&*policy.resolver, &names::reversed(client.peer.ip()), list).await,
        None => false,
    }
}

pub(super) async fn client_listed(policy: &Policy, request: &Case<'_>, list: &DnsList) -> Ruling {
    match is_client_in(policy, request, list).await {
        true => Ruling::Refuse(blocked(request, Subject::Client, &list.domain)),
        false => Ruling::Dunno,
    }
}

pub(super) async fn domain_listed(policy: &Policy, request: &Case<'_>, about: Subject, list: &DnsList) -> Ruling {
    let domain = match about {
        Subject::Client => request.context.client.as_ref().and_then(|client| client.name.clone()),
        Subject::Helo => request.context.helo.as_deref().map(str::to_owned),
        Subject::Sender => request.sender.and_then(ReversePath::address).map(|address| address.domain().to_owned()),
        Subject::Recipient => request.recipient.map(|(address, _)| address.domain().to_owned()),
    };
    let Some(domain) = domain.filter(|domain| !domain.is_empty() && !domain.starts_with('[')) else { return Ruling::Dunno };
    match is_listed(&*policy.resolver, domain.trim_end_matches('.'), list).await {
        true => Ruling::Refuse(blocked(request, about, &list.domain)),
        false => Ruling::Dunno,
    }
}

fn blocked(request: &Case<'_>, about: Subject, list: &str) -> waxwing_types::Reply {
    let (class, name) = match about {
        Subject::Client => ("Client host", name_of(request, about)),
        Subject::Helo => ("Helo command", name_of(request, about)),
        Subject::Sender => ("Sender address", name_of(request, about)),
        Subject::Recipient => ("Recipient address", name_of(request, about)),
    };
    made(554, (5, 7, 1), format!("Service unavailable; {class} [{name}] blocked using {list}"))
}

/// Queries all weighted lists in parallel; a refusal if the total weight reaches the threshold.
pub(super) async fn score(policy: &Policy, request: &Case<'_>) -> Option<Refusal> {
    let client = request.context.client.as_ref()?;
    let key = names::reversed(client.peer.ip());
    let queries: Vec<_> = policy
        .dnsbl_sites
        .iter()
        .cloned()
        .map(|list| {
            let (resolver, key) = (Arc::clone(&policy.resolver), key.clone());
            spawn("dns list", async move { is_listed(&*resolver, &key, &list).await.then_some(list) })
        })
        .collect();
    let mut hits: Vec<DnsList> = Vec::new();
    for answer in queries {
        hits.extend(answer.await.ok().flatten());
    }
    let total = hits.iter().fold(0_i32, |sum, list| sum.saturating_add(list.weight));
    let worst = hits.iter().max_by_key(|list| list.weight)?;
    if total < policy.dnsbl_threshold {
        return None;
    }
    let name = name_of(request, Subject::Client);
    let reply = made(550, (5, 7, 1), format!("Service unavailable; client [{name}] blocked using {}", worst.domain));
    Some(Refusal { reply, rule: format!("postscreen_dnsbl_sites: score {total} of {}", policy.dnsbl_threshold) })
}
