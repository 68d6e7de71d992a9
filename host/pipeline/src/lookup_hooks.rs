//! Lookup hooks beside the path of a message: user records, authentication, policy commands and lookup tables.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_types::{Reply, Source};

use crate::pipeline::CallResult;
use crate::{AuthAnswer, Context, Event, Hook, HookAnswer, HookSession, Pipeline, Secret, StoredCredential, TableLookup};

impl Pipeline {
    /// Returns the record that plugins store for a user (on-credentials). The first plugin with an answer other than `Absent`
    /// decides. A fault counts as `Unavailable`.
    pub async fn stored_credential(&self, chain: &mut HookSession, context: &mut Context, user: &str) -> StoredCredential {
        let event = Event::Credentials(user.to_owned());
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnCredentials) {
            match self.call_plugin(at, chain, context, &event).await {
                Some(CallResult::Returned(HookAnswer::StoredCredential(StoredCredential::Absent))) | None => {}
                Some(CallResult::Returned(HookAnswer::StoredCredential(stored))) => return stored,
                Some(_) => return StoredCredential::Unavailable("a plugin failed".to_owned()),
            }
        }
        StoredCredential::Absent
    }

    /// Asks plugins to verify a name and a secret (on-auth). The first plugin that answers anything but `NotMine` decides. A
    /// fault counts as `Unavailable`.
    pub async fn authenticate(
        &self,
        chain: &mut HookSession,
        context: &mut Context,
        protocol: &str,
        user: &str,
        secret: Secret,
    ) -> AuthAnswer {
        let event = Event::Auth { protocol: protocol.to_owned(), user: user.to_owned(), secret };
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnAuth) {
            match self.call_plugin(at, chain, context, &event).await {
                Some(CallResult::Returned(HookAnswer::Auth(AuthAnswer::NotMine))) | None => {}
                Some(CallResult::Returned(HookAnswer::Auth(answer))) => return answer,
                Some(_) => return AuthAnswer::Unavailable("a plugin failed".to_owned()),
            }
        }
        AuthAnswer::NotMine
    }

    /// Returns the reply to an SMTP command that the server leaves to policy or does not implement (on-command). The first
    /// plugin with a reply decides.
    pub async fn command_reply(
        &self,
        chain: &mut HookSession,
        context: &mut Context,
        verb: &str,
        argument: &Bytes,
    ) -> Option<Reply> {
        let event = Event::Command { verb: verb.to_owned(), argument: argument.clone() };
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnCommand) {
            if let Some(CallResult::Returned(HookAnswer::Reply(Some(reply)))) = self.call_plugin(at, chain, context, &event).await
            {
                return Some(reply);
            }
        }
        None
    }

    /// Looks up a key in the table that the named plugin serves (on-table).
    pub async fn table_lookup(&self, plugin: &str, key: &str) -> TableLookup {
        let mut chain = self.open_session();
        let Some(at) = chain.table.index_of(plugin) else {
            return TableLookup::Unavailable(format!("the plugin {plugin} is not loaded"));
        };
        let mut context = Context::new(Source::Api, None);
        match self.call_plugin(at, &mut chain, &mut context, &Event::Table(key.to_owned())).await {
            Some(CallResult::Returned(HookAnswer::TableLookup(found))) => found,
            Some(_) => TableLookup::Unavailable(format!("the plugin {plugin} failed")),
            None => TableLookup::Unavailable(format!("the plugin {plugin} is no table")),
        }
    }
}
