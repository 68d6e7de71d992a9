//! A milter in the place of a plugin.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use waxwing_pipeline::{Client, Guest, Hook, HookSet, Plugin};

use crate::guest::Conversation;
use crate::settings::MilterSettings;
use crate::talk::Talk;

/// The hooks at which a milter is asked. Which of them it wants to hear of, it says only when it is connected.
const HOOKS: [Hook; 7] =
    [Hook::OnConnect, Hook::OnHelo, Hook::OnMail, Hook::OnRcpt, Hook::OnData, Hook::OnMessage, Hook::OnAbort];

/// A milter's version is its own affair: lists and traces say that it is one.
const VERSION: &str = "milter";

/// A milter. It is connected to when it is first asked: once for each session, or for each message that is made here.
pub struct Milter {
    pub(crate) settings: MilterSettings,
    sessions: Mutex<HashMap<usize, Arc<Seat>>>,
}

/// The connection of one session, between its questions.
pub(crate) struct Seat {
    /// Held so that no other client can have its place in memory, which is the key.
    _client: Arc<Client>,
    pub(crate) talk: Mutex<Option<Talk>>,
}

/// Ends a session's seat; a transaction that still goes on keeps it to its own end.
pub(crate) struct Owner {
    milter: Arc<Milter>,
    key: usize,
}

impl Milter {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(settings: MilterSettings) -> Arc<Self> {
        Arc::new(Self { settings, sessions: Mutex::default() })
    }

    /// The seat of a session, if its client was asked about.
    pub(crate) fn seat(&self, client: &Arc<Client>) -> Option<Arc<Seat>> {
        self.sessions.lock().get(&key_of(client)).map(Arc::clone)
    }

    /// Makes the seat of a session.
    pub(crate) fn sit(self: &Arc<Self>, client: &Arc<Client>) -> Owner {
        let seat = Arc::new(Seat { _client: Arc::clone(client), talk: Mutex::default() });
        let key = key_of(client);
        self.sessions.lock().insert(key, seat);
        Owner { milter: Arc::clone(self), key }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let seat = self.milter.sessions.lock().remove(&self.key);
        // Outside of the lock: the connection says QUIT here.
        drop(seat);
    }
}

/// A session's contexts share one client.
fn key_of(client: &Arc<Client>) -> usize {
    Arc::as_ptr(client).addr()
}

impl Plugin for Milter {
    fn version(&self) -> &str {
        VERSION
    }

    fn exports(&self) -> HookSet {
        HOOKS.into_iter().collect()
    }

    fn open(self: Arc<Self>) -> Box<dyn Guest> {
        Box::new(Conversation::new(self))
    }
}
