//! Lists in the DNS (RFC 5782): of addresses and of domains. The resolver keeps answers for their time to live.

use std::net::Ipv4Addr;
use std::sync::Arc;

use waxwing_config::{DnsList, Subject};
use waxwing_net::spawn;
use waxwing_pipeline::Resolver;
use waxwing_types::ReversePath;

use super::{Case, Policy, Refusal, Ruling, made, name_of, names};

/// A (RFC 1035 §3.4.1).
const A: u16 = 1;

/// A list that does not answer lists nobody.
async fn is_listed(resolver: &dyn Resolver, key: &str, list: &DnsList) -> bool {
    let Ok(records) = resolver.records(&format!("{key}.{}", list.domain), A).await else { return false };
    let answers = records.rdata.iter().filter_map(|octets| <[u8; 4]>::try_from(octets.as_ref()).ok());
    answers.into_iter().any(|octets| list.counts(Ipv4Addr::from(octets)))
}

pub(super) async fn is_client_in(policy: &Policy, case: &Case<'_>, list: &DnsList) -> bool {
    match &case.context.client {
        Some(client) => is_listed(&*policy.resolver, &names::reversed(client.peer.ip()), list).await,
        None => false,
    }
}

pub(super) async fn client_listed(policy: &Policy, case: &Case<'_>, list: &DnsList) -> Ruling {
    match is_client_in(policy, case, list).await {
        true => Ruling::Refuse(blocked(case, Subject::Client, &list.domain)),
        false => Ruling::Dunno,
    }
}

pub(super) async fn domain_listed(policy: &Policy, case: &Case<'_>, about: Subject, list: &DnsList) -> Ruling {
    let domain = match about {
        Subject::Client => case.context.client.as_ref().and_then(|client| client.name.clone()),
        Subject::Helo => case.context.helo.as_deref().map(str::to_owned),
        Subject::Sender => case.sender.and_then(ReversePath::address).map(|address| address.domain().to_owned()),
        Subject::Recipient => case.recipient.map(|(address, _)| address.domain().to_owned()),
    };
    let Some(domain) = domain.filter(|domain| !domain.is_empty() && !domain.starts_with('[')) else { return Ruling::Dunno };
    match is_listed(&*policy.resolver, domain.trim_end_matches('.'), list).await {
        true => Ruling::Refuse(blocked(case, about, &list.domain)),
        false => Ruling::Dunno,
    }
}

fn blocked(case: &Case<'_>, about: Subject, list: &str) -> waxwing_types::Reply {
    let (class, name) = match about {
        Subject::Client => ("Client host", name_of(case, about)),
        Subject::Helo => ("Helo command", name_of(case, about)),
        Subject::Sender => ("Sender address", name_of(case, about)),
        Subject::Recipient => ("Recipient address", name_of(case, about)),
    };
    made(554, (5, 7, 1), format!("Service unavailable; {class} [{name}] blocked using {list}"))
}

/// Asks all lists with weights at once: a refusal if they come to the threshold.
pub(super) async fn score(policy: &Policy, case: &Case<'_>) -> Option<Refusal> {
    let client = case.context.client.as_ref()?;
    let key = names::reversed(client.peer.ip());
    let asked: Vec<_> = policy
        .dnsbl_sites
        .iter()
        .cloned()
        .map(|list| {
            let (resolver, key) = (Arc::clone(&policy.resolver), key.clone());
            spawn("dns list", async move { is_listed(&*resolver, &key, &list).await.then_some(list) })
        })
        .collect();
    let mut hits: Vec<DnsList> = Vec::new();
    for answer in asked {
        hits.extend(answer.await.ok().flatten());
    }
    let total = hits.iter().fold(0_i32, |sum, list| sum.saturating_add(list.weight));
    let worst = hits.iter().max_by_key(|list| list.weight)?;
    if total < policy.dnsbl_threshold {
        return None;
    }
    let name = name_of(case, Subject::Client);
    let reply = made(550, (5, 7, 1), format!("Service unavailable; client [{name}] blocked using {}", worst.domain));
    Some(Refusal { reply, rule: format!("postscreen_dnsbl_sites: score {total} of {}", policy.dnsbl_threshold) })
}
