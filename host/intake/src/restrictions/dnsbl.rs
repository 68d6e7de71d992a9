//! DNS lists of addresses and domains (RFC 5782). The resolver caches answers for the record TTL.

use std::net::Ipv4Addr;
use std::sync::Arc;

use waxwing_config::{DnsList, RestrictionSubject};
use waxwing_net::spawn;
use waxwing_pipeline::Resolver;
use waxwing_types::ReversePath;

use super::{Policy, RestrictionDecision, RestrictionRefusal, RestrictionRequest, host_names, reply_with_text, subject_value};

/// DNS record type A (RFC 1035 §3.4.1).
const TYPE_A: u16 = 1;

/// Queries a DNS list; a list without an answer counts as not listing the key.
async fn is_listed(resolver: &dyn Resolver, key: &str, list: &DnsList) -> bool {
    let Ok(records) = resolver.records(&format!("{key}.{}", list.domain), TYPE_A).await else { return false };
    let answers = records.rdata.iter().filter_map(|octets| <[u8; 4]>::try_from(octets.as_ref()).ok());
    answers.into_iter().any(|octets| list.matches(Ipv4Addr::from(octets)))
}

pub(super) async fn is_client_listed(policy: &Policy, request: &RestrictionRequest<'_>, list: &DnsList) -> bool {
    match &request.context.client {
        Some(client) => is_listed(&*policy.resolver, &host_names::reversed_labels(client.peer.ip()), list).await,
        None => false,
    }
}

pub(super) async fn reject_rbl(policy: &Policy, request: &RestrictionRequest<'_>, list: &DnsList) -> RestrictionDecision {
    match is_client_listed(policy, request, list).await {
        true => RestrictionDecision::Refuse(blocked_reply(request, RestrictionSubject::Client, &list.domain)),
        false => RestrictionDecision::Dunno,
    }
}

pub(super) async fn reject_rhsbl(
    policy: &Policy,
    request: &RestrictionRequest<'_>,
    about: RestrictionSubject,
    list: &DnsList,
) -> RestrictionDecision {
    let domain = match about {
        RestrictionSubject::Client => request.context.client.as_ref().and_then(|client| client.name.clone()),
        RestrictionSubject::Helo => request.context.helo.as_deref().map(str::to_owned),
        RestrictionSubject::Sender => request.sender().and_then(ReversePath::address).map(|address| address.domain().to_owned()),
        RestrictionSubject::Recipient => request.recipient.map(|(address, _)| address.domain().to_owned()),
    };
    let Some(domain) = domain.filter(|domain| !domain.is_empty() && !domain.starts_with('[')) else {
        return RestrictionDecision::Dunno;
    };
    match is_listed(&*policy.resolver, domain.trim_end_matches('.'), list).await {
        true => RestrictionDecision::Refuse(blocked_reply(request, about, &list.domain)),
        false => RestrictionDecision::Dunno,
    }
}

fn blocked_reply(request: &RestrictionRequest<'_>, about: RestrictionSubject, list: &str) -> waxwing_types::Reply {
    let (class, name) = match about {
        RestrictionSubject::Client => ("Client host", subject_value(request, about)),
        RestrictionSubject::Helo => ("Helo command", subject_value(request, about)),
        RestrictionSubject::Sender => ("Sender address", subject_value(request, about)),
        RestrictionSubject::Recipient => ("Recipient address", subject_value(request, about)),
    };
    reply_with_text(554, (5, 7, 1), format!("Service unavailable; {class} [{name}] blocked using {list}"))
}

/// Queries all weighted lists in parallel; a refusal if the total weight reaches the threshold.
pub(super) async fn dnsbl_score(policy: &Policy, request: &RestrictionRequest<'_>) -> Option<RestrictionRefusal> {
    let client = request.context.client.as_ref()?;
    let key = host_names::reversed_labels(client.peer.ip());
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
    let name = subject_value(request, RestrictionSubject::Client);
    let reply = reply_with_text(550, (5, 7, 1), format!("Service unavailable; client [{name}] blocked using {}", worst.domain));
    Some(RestrictionRefusal { reply, rule: format!("postscreen_dnsbl_sites: score {total} of {}", policy.dnsbl_threshold) })
}
