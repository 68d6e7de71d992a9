//! Address rewriting: completion with `myorigin`, and masquerading of host names.

use waxwing_sdk::Address;
use waxwing_sdk::hooks::on_rewrite_address::Role;

use crate::CleanupSettings;

/// Returns the rewritten address, or `None` if unchanged.
#[must_use]
pub fn rewrite_address(settings: &CleanupSettings, address: &Address, role: Role) -> Option<Address> {
    let bare = address.domain.is_empty() && !settings.myorigin.is_empty();
    let domain = if bare { &settings.myorigin } else { &address.domain };
    // As Postfix's `masquerade_classes`: an envelope recipient must reach the named host.
    let hidden = match role {
        Role::EnvelopeRecipient => None,
        Role::EnvelopeSender | Role::HeaderSender | Role::HeaderRecipient => masquerade(settings, &address.local, domain),
    };
    let domain = hidden.unwrap_or(domain);
    (*domain != address.domain).then(|| Address::new(address.local.clone(), domain))
}

/// Returns the replacement domain: the first match in `masquerade_domains`, by equality or as a parent domain.
fn masquerade<'s>(settings: &'s CleanupSettings, local: &str, domain: &str) -> Option<&'s String> {
    if settings.masquerade_domains.is_empty() || settings.masquerade_exceptions.iter().any(|e| e.eq_ignore_ascii_case(local)) {
        return None;
    }
    let below = |parent: &str| domain.strip_suffix(parent).is_some_and(|host| host.is_empty() || host.ends_with('.'));
    let first = settings.masquerade_domains.iter().find(|d| below(d.trim_start_matches('!')))?;
    (!first.starts_with('!')).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> CleanupSettings {
        CleanupSettings {
            myorigin: "example.com".into(),
            masquerade_domains: vec!["!lab.example.com".into(), "example.com".into()],
            masquerade_exceptions: vec!["root".into()],
            ..CleanupSettings::default()
        }
    }

    #[test]
    fn completes_and_hides() {
        let all = [Role::EnvelopeSender, Role::EnvelopeRecipient, Role::HeaderSender, Role::HeaderRecipient];
        for role in all {
            assert_eq!(rewrite_address(&settings(), &Address::new("ann", ""), role), Some(Address::new("ann", "example.com")));
            assert_eq!(rewrite_address(&settings(), &Address::new("ann", "example.com"), role), None);
            assert_eq!(rewrite_address(&settings(), &Address::new("ann", "notexample.com"), role), None);
            assert_eq!(rewrite_address(&settings(), &Address::new("Root", "host.example.com"), role), None);
            assert_eq!(rewrite_address(&settings(), &Address::new("ann", "host.lab.example.com"), role), None);
        }
        let host = Address::new("ann", "host.example.com");
        assert_eq!(rewrite_address(&settings(), &host, Role::HeaderSender), Some(Address::new("ann", "example.com")));
        assert_eq!(rewrite_address(&settings(), &host, Role::EnvelopeRecipient), None);
    }

    #[test]
    fn does_nothing_unless_told() {
        for domain in ["", "host.example.com"] {
            assert_eq!(rewrite_address(&CleanupSettings::default(), &Address::new("ann", domain), Role::HeaderSender), None);
        }
    }
}
