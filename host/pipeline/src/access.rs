//! Lookup hooks beside the path of a message: user records, authentication, policy commands and lookup tables.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_types::{Reply, Via};

use crate::pipeline::Step;
use crate::{Answer, AuthAnswer, Chain, Context, Event, Found, Hook, Pipeline, Secret, Stored};

impl Pipeline {
    /// Returns the record that plugins store for a user (on-credentials). The first plugin with an answer other than `Absent`
    /// decides. A fault counts as `Unavailable`.
    pub async fn credentials(&self, chain: &mut Chain, context: &mut Context, user: &str) -> Stored {
        let event = Event::Credentials(user.to_owned());
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnCredentials) {
            match self.ask(at, chain, context, &event).await {
                Some(Step::Returned(Answer::Stored(Stored::Absent))) | None => {}
                Some(Step::Returned(Answer::Stored(stored))) => return stored,
                Some(_) => return Stored::Unavailable("a plugin failed".to_owned()),
            }
        }
        Stored::Absent
    }

    /// Asks plugins to verify a name and a secret (on-auth). The first plugin that answers anything but `NotMine` decides. A
    /// fault counts as `Unavailable`.
    pub async fn authenticate(
        &self,
        chain: &mut Chain,
        context: &mut Context,
        protocol: &str,
        user: &str,
        secret: Secret,
    ) -> AuthAnswer {
        let event = Event::Auth { protocol: protocol.to_owned(), user: user.to_owned(), secret };
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnAuth) {
            match self.ask(at, chain, context, &event).await {
                Some(Step::Returned(Answer::Auth(AuthAnswer::NotMine))) | None => {}
                Some(Step::Returned(Answer::Auth(answer))) => return answer,
                Some(_) => return AuthAnswer::Unavailable("a plugin failed".to_owned()),
            }
        }
        AuthAnswer::NotMine
    }

    /// Returns the reply to an SMTP command that the server leaves to policy or does not implement (on-command). The first
    /// plugin with a reply decides.
    pub async fn command(&self, chain: &mut Chain, context: &mut Context, verb: &str, argument: &Bytes) -> Option<Reply> {
        let event = Event::Command { verb: verb.to_owned(), argument: argument.clone() };
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnCommand) {
            if let Some(Step::Returned(Answer::Reply(Some(reply)))) = self.ask(at, chain, context, &event).await {
                return Some(reply);
            }
        }
        None
    }

    /// Looks up a key in the table that the named plugin serves (on-table).
    pub async fn table(&self, plugin: &str, key: &str) -> Found {
        let mut chain = self.chain();
        let Some(at) = chain.bound.place(plugin) else {
            return Found::Unavailable(format!("the plugin {plugin} is not loaded"));
        };
        let mut context = Context::new(Via::Api, None);
        match self.ask(at, &mut chain, &mut context, &Event::Table(key.to_owned())).await {
            Some(Step::Returned(Answer::Found(found))) => found,
            Some(_) => Found::Unavailable(format!("the plugin {plugin} failed")),
            None => Found::Unavailable(format!("the plugin {plugin} is no table")),
        }
    }
}
