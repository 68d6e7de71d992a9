//! Who is who, other commands, and tables: hooks beside a message's way.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_types::{Reply, Via};

use crate::pipeline::Step;
use crate::{Answer, AuthAnswer, Chain, Context, Event, Found, Hook, Pipeline, Secret, Stored};

impl Pipeline {
    /// What the plugins that store users know of one: the first that knows it has the word. A fault is `Unavailable`.
    pub async fn credentials(&self, chain: &mut Chain, context: &mut Context, user: &str) -> Stored {
        let event = Event::Credentials(user.to_owned());
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnCredentials) {
            match self.ask(at, chain, context, &event).await {
                Some(Step::Returned(Answer::Stored(Stored::Absent))) | None => {}
                Some(Step::Returned(Answer::Stored(known))) => return known,
                Some(_) => return Stored::Unavailable("a plugin failed".to_owned()),
            }
        }
        Stored::Absent
    }

    /// Whose name and secret these are: the first plugin that does not say `NotMine` has the word. A fault is `Unavailable`.
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

    /// What to reply to a command that the server leaves to policy, or does not know: the first plugin with a reply has the word.
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

    /// What the table of this plugin has under a key.
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
