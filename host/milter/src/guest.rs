//! A plugin session with a milter, and the choice of the connection.
//!
//! An SMTP session has a single milter connection for all transactions, as milters expect. Between calls the
//! connection is stored in the slot of the SMTP session; a plugin session without an SMTP session has a connection of
//! its own.

use std::sync::Arc;

use async_trait::async_trait;
use waxwing_pipeline::{Answer, Context, Event, Fault, Guest, Outcome};

use crate::plugin::{Milter, Owner, Seat};
use crate::talk::Talk;
use crate::trouble::Trouble;

/// A plugin session with a milter.
pub(crate) struct Conversation {
    milter: Arc<Milter>,
    owner: Option<Owner>,
    own: Option<Talk>,
}

impl Conversation {
    pub(crate) fn new(milter: Arc<Milter>) -> Self {
        Self { milter, owner: None, own: None }
    }

    fn seat(&mut self, event: &Event, context: &Context) -> Option<Arc<Seat>> {
        let client = context.client.as_ref()?;
        if self.owner.is_none() && matches!(event, Event::Connect | Event::Helo(_)) {
            self.owner = Some(self.milter.sit(client));
        }
        self.milter.seat(client)
    }

    /// Calls the milter over the existing connection or a new connection. The call is repeated once if the milter
    /// closed the connection since the last call, for example after a restart; the earlier steps had no result.
    async fn ask(&self, talk: Option<Talk>, event: &Event, context: &Context) -> Result<(Talk, Outcome), Trouble> {
        let settings = &self.milter.settings;
        if let Some(mut talk) = talk {
            match talk.ask(settings, event, context).await {
                Ok(outcome) => return Ok((talk, outcome)),
                Err(Trouble::Closed(_)) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let mut talk = Talk::open(settings).await?;
        let outcome = talk.ask(settings, event, context).await?;
        Ok((talk, outcome))
    }
}

#[async_trait]
impl Guest for Conversation {
    async fn call(&mut self, event: &Event, context: &Context) -> Result<Outcome, Fault> {
        let seat = self.seat(event, context);
        let talk = match &seat {
            Some(seat) => seat.talk.lock().take(),
            None => self.own.take(),
        };
        let settings = &self.milter.settings;
        let (talk, result) = if matches!(event, Event::Abort) {
            (aborted(talk, settings.command_time).await, Ok(Outcome::of(Answer::Done)))
        } else {
            match self.ask(talk, event, context).await {
                Ok((talk, outcome)) => (Some(talk), Ok(outcome)),
                Err(trouble) => (None, Err(trouble.into_fault(&settings.endpoint))),
            }
        };
        match &seat {
            Some(seat) => *seat.talk.lock() = talk,
            None => self.own = talk,
        }
        result
    }
}

/// Ends the transaction of a session; a failed connection is dropped, which has the same effect.
async fn aborted(talk: Option<Talk>, time: std::time::Duration) -> Option<Talk> {
    let mut talk = talk?;
    talk.abort(time).await.is_ok().then_some(talk)
}
