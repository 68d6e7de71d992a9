//! How the answers of several plugins fold into one, after the commit.

use std::sync::Arc;

use waxwing_types::{Disposition, EnhancedCode, NextHop, Reply, Status, Verdict};

use crate::fold::passed_over;
use crate::pipeline::{Ended, Step};
use crate::{Answer, Chain, Context, ContextRecipient, Event, Failure, Hook, NextTry, Pipeline, ReplyClass};

impl Pipeline {
    /// Where a recipient goes, if a plugin says so: the first that does has the word.
    pub async fn route(
        &self,
        chain: &mut Chain,
        context: &mut Context,
        recipient: &ContextRecipient,
    ) -> Result<Option<NextHop>, Ended> {
        let event = Event::Route(recipient.clone());
        let mut found = None;
        chain.shadows.clear();
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnRoute) {
            match self.ask(at, chain, context, &event).await {
                Some(Step::Faulted(consequence)) => passed_over(context, consequence)?,
                Some(Step::Returned(Answer::Route(Some(hop)))) => {
                    found = Some(hop);
                    break;
                }
                Some(Step::Returned(_)) | None => {}
            }
        }
        self.compare(chain, context, &event, &Answer::Route(found.clone())).await;
        Ok(found)
    }

    /// The last look at a message before it is sent there; each plugin may edit the header that the ones before left. A fault defers,
    /// whatever its consequence is elsewhere: what should have been signed must not go unsigned.
    pub async fn outgoing(&self, chain: &mut Chain, context: &mut Context, destination: &str) -> Verdict {
        let event = Event::Send(destination.to_owned());
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnSend) {
            match self.ask(at, chain, context, &event).await {
                Some(Step::Faulted(_)) => {
                    return Verdict::Defer(Reply::fixed(
                        451,
                        (4, 3, 0),
                        "A plugin of this server failed at the outgoing message",
                    ));
                }
                Some(Step::Returned(Answer::Verdict(Verdict::Continue))) => {}
                Some(Step::Returned(Answer::Verdict(verdict))) => return verdict,
                Some(Step::Returned(_)) | None => {}
            }
        }
        Verdict::Continue
    }

    /// How to take a remote server's reply: the first plugin that does not leave it as it is has the word.
    pub async fn class_of_reply(
        &self,
        chain: &mut Chain,
        context: &mut Context,
        destination: &str,
        code: u16,
        text: &str,
    ) -> ReplyClass {
        let event = Event::Reply { destination: destination.to_owned(), code, text: text.to_owned() };
        let mut said = ReplyClass::AsIs;
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnReply) {
            if let Some(Step::Returned(Answer::Class(class))) = self.ask(at, chain, context, &event).await {
                said = class;
            }
            if said != ReplyClass::AsIs {
                break;
            }
        }
        self.compare(chain, context, &event, &Answer::Class(said)).await;
        said
    }

    /// When a deferred message is tried again: the first plugin that has another plan has the word.
    pub async fn next_try(&self, chain: &mut Chain, context: &mut Context, failure: Failure) -> NextTry {
        let event = Event::Retry(failure);
        let mut said = NextTry::AsPlanned;
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnRetry) {
            if let Some(Step::Returned(Answer::NextTry(next))) = self.ask(at, chain, context, &event).await {
                said = next;
            }
            if said != NextTry::AsPlanned {
                break;
            }
        }
        self.compare(chain, context, &event, &Answer::NextTry(said.clone())).await;
        said
    }

    /// A report is about to be sent: whether it is. Each plugin may edit what the ones before left; the first that suppresses it ends it.
    pub async fn report(&self, chain: &mut Chain, context: &mut Context, kind: &str) -> bool {
        let event = Event::Dsn(kind.to_owned());
        let mut is_sent = true;
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnDsn) {
            if let Some(Step::Returned(Answer::Report(false))) = self.ask(at, chain, context, &event).await {
                is_sent = false;
                break;
            }
        }
        self.compare(chain, context, &event, &Answer::Report(is_sent)).await;
        is_sent
    }

    /// Hands a message to the one plugin that is this transport. A fault defers all recipients, or holds the message: then
    /// `context.hold` says why.
    pub async fn deliver(
        &self,
        plugin: &str,
        chain: &mut Chain,
        context: &mut Context,
        hop: NextHop,
        recipients: Vec<ContextRecipient>,
    ) -> Vec<(u32, Disposition)> {
        let deferred = |text: String| {
            let status = Status::local(EnhancedCode::new(4, 3, 0), text);
            Disposition::Deferred { status, not_before: None }
        };
        let all: Vec<u32> = recipients.iter().map(|r| r.index).collect();
        let everyone = |text: &str| all.iter().map(|i| (*i, deferred(text.to_owned()))).collect();
        let Some(at) = chain.bound.place(plugin) else {
            return everyone("the plugin of this transport is not loaded");
        };
        match self.ask(at, chain, context, &Event::Deliver { hop, recipients }).await {
            Some(Step::Returned(Answer::Dispositions(list))) => all
                .iter()
                .map(|index| match list.iter().find(|(i, _)| i == index) {
                    Some(found) => found.clone(),
                    None => (*index, deferred("the transport plugin said nothing about this recipient".to_owned())),
                })
                .collect(),
            Some(Step::Faulted(consequence)) => {
                if let Verdict::Hold { reason } = consequence {
                    context.hold.get_or_insert(reason);
                }
                everyone("the transport plugin failed")
            }
            Some(Step::Returned(_)) | None => everyone("the transport plugin does not take this message"),
        }
    }
}
