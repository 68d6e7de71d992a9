//! A plugin session with a milter, and the choice of the connection.
//!
//! An SMTP session has a single milter connection for all transactions, as milters expect. Between calls the
//! connection is stored in the slot of the SMTP session; a plugin session without an SMTP session has a connection of
//! its own.

use std::sync::Arc;

use async_trait::async_trait;
use waxwing_pipeline::{CallOutcome, Context, Event, Fault, HookAnswer, PluginSession};

use crate::error::MilterError;
use crate::plugin::{Milter, SessionSlot, SlotGuard};
use crate::session::MilterSession;

/// A plugin session with a milter.
pub(crate) struct MilterPluginSession {
    milter: Arc<Milter>,
    slot_guard: Option<SlotGuard>,
    own_session: Option<MilterSession>,
}

impl MilterPluginSession {
    pub(crate) fn new(milter: Arc<Milter>) -> Self {
        Self { milter, slot_guard: None, own_session: None }
    }

    fn slot(&mut self, event: &Event, context: &Context) -> Option<Arc<SessionSlot>> {
        let client = context.client.as_ref()?;
        if self.slot_guard.is_none() && matches!(event, Event::Connect | Event::Helo(_)) {
            self.slot_guard = Some(self.milter.open_slot(client));
        }
        self.milter.slot(client)
    }

    /// Calls the milter over the existing connection or a new connection. The call is repeated once if the milter
    /// closed the connection since the last call, for example after a restart; the earlier steps had no result.
    async fn query(
        &self,
        session: Option<MilterSession>,
        event: &Event,
        context: &Context,
    ) -> Result<(MilterSession, CallOutcome), MilterError> {
        let settings = &self.milter.settings;
        if let Some(mut session) = session {
            match session.query(settings, event, context).await {
                Ok(outcome) => return Ok((session, outcome)),
                Err(MilterError::Closed(_)) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let mut session = MilterSession::open(settings).await?;
        let outcome = session.query(settings, event, context).await?;
        Ok((session, outcome))
    }
}

#[async_trait]
impl PluginSession for MilterPluginSession {
    async fn call(&mut self, event: &Event, context: &Context) -> Result<CallOutcome, Fault> {
        let slot = self.slot(event, context);
        let session = match &slot {
            Some(slot) => slot.session.lock().take(),
            None => self.own_session.take(),
        };
        let settings = &self.milter.settings;
        let (session, result) = if matches!(event, Event::Abort) {
            (abort_session(session, settings.command_timeout).await, Ok(CallOutcome::from_answer(HookAnswer::Done)))
        } else {
            match self.query(session, event, context).await {
                Ok((session, outcome)) => (Some(session), Ok(outcome)),
                Err(trouble) => (None, Err(trouble.into_fault(&settings.endpoint))),
            }
        };
        match &slot {
            Some(slot) => *slot.session.lock() = session,
            None => self.own_session = session,
        }
        result
    }
}

/// Ends the transaction of a session; a failed connection is dropped, which has the same effect.
async fn abort_session(session: Option<MilterSession>, time: std::time::Duration) -> Option<MilterSession> {
    let mut session = session?;
    session.abort(time).await.is_ok().then_some(session)
}
