//! Sender login checks (`smtpd_sender_login_maps`).

use waxwing_config::RestrictionSubject;
use waxwing_message::{HeaderBlock, find_addresses};
use waxwing_pipeline::{Context, Table, TableError};
use waxwing_types::{Address, ReversePath, Source};

use super::evaluate::LOGIN_RULE;
use super::{Policy, RestrictionDecision, RestrictionEvaluator, RestrictionRefusal, rejection_reply, reply_with_text};
use crate::{Intake, replies};

/// User names permitted to send as an address; `None` for an address missing from the table.
pub(crate) async fn sender_owners(maps: &dyn Table, address: &Address) -> Result<Option<Vec<String>>, TableError> {
    for key in [address.lookup_key(), format!("@{}", address.domain())] {
        if let Some(value) = maps.get(&key).await? {
            let users = value.split([',', ' ', '\t']).filter(|user| !user.is_empty()).map(str::to_lowercase).collect();
            return Ok(Some(users));
        }
    }
    Ok(None)
}

impl Policy {
    /// Returns whether the sender login check applies implicitly: authenticated user on a submission listener with
    /// `smtpd_sender_login_maps`.
    pub(super) fn enforces_sender_login(&self, context: &Context) -> bool {
        self.login_maps.is_some() && context.source == Source::Submission && context.user.is_some()
    }
}

impl Intake {
    /// Checks on submission that addresses in From and Sender belong to the authenticated user.
    pub(crate) async fn check_header_sender(&self, context: &Context, head: &HeaderBlock) -> Result<(), RestrictionRefusal> {
        let policy = &self.services.policy;
        let (Some(maps), Some(user)) = (&policy.login_maps, context.user.as_deref()) else { return Ok(()) };
        if !policy.enforces_sender_login(context) {
            return Ok(());
        }
        let by = |reply| RestrictionRefusal { reply, rule: LOGIN_RULE.to_owned() };
        let is_sender = |name: &str| name.eq_ignore_ascii_case("From") || name.eq_ignore_ascii_case("Sender");
        for field in head.fields().iter().filter(|field| is_sender(field.name())) {
            for mention in find_addresses(field.value()) {
                let address = match mention.address.has_no_domain() {
                    true => {
                        mention.address.with_domain(&self.services.settings.myorigin).map_err(|_| by(replies::BAD_ADDRESS))?
                    }
                    false => mention.address,
                };
                let owners = sender_owners(&**maps, &address).await.map_err(|error| {
                    tracing::error!(target: "intake", "{error}");
                    by(replies::LOOKUP_FAILED)
                })?;
                if !owners.is_some_and(|owners| owners.contains(&user.0.to_lowercase())) {
                    let text = format!("<{address}>: {} address rejected: not owned by user {}", field.name(), user.0);
                    return Err(by(reply_with_text(553, (5, 7, 1), text)));
                }
            }
        }
        Ok(())
    }
}

impl RestrictionEvaluator<'_> {
    /// Compares the sender address with the login. `authenticated`: authenticated users may send only from owned addresses.
    /// `unauthenticated`: clients without authentication must not use an owned address.
    pub(super) async fn check_sender_login(&mut self, authenticated: bool, unauthenticated: bool) -> RestrictionDecision {
        let (Some(maps), Some(ReversePath::Address(sender))) = (&self.policy.login_maps, self.request.sender()) else {
            return RestrictionDecision::Dunno;
        };
        let owners = match sender_owners(&**maps, sender).await {
            Ok(owners) => owners,
            Err(error) => {
                tracing::error!(target: "intake", "{error}");
                return RestrictionDecision::Refuse(replies::LOOKUP_FAILED);
            }
        };
        let reject = |why: &str| {
            RestrictionDecision::Refuse(rejection_reply(self.request, RestrictionSubject::Sender, (553, (5, 7, 1)), why))
        };
        match (&self.request.context.user, owners) {
            (Some(user), owners) if authenticated => match owners.is_some_and(|owners| owners.contains(&user.0.to_lowercase())) {
                true => RestrictionDecision::Dunno,
                false => reject(&format!("not owned by user {}", user.0)),
            },
            (None, Some(_)) if unauthenticated => reject("not logged in"),
            (Some(_) | None, _) => RestrictionDecision::Dunno,
        }
    }
}
