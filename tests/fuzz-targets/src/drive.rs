//! Drives a session like the loop in `net`, and checks the laws of all sessions.

use waxwing_types::{Action, Input, Monotonic, Session, TlsSession};

/// Action of a session, adjacent ones of one kind joined, so that the division of the input does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event<Q> {
    Sent(Vec<u8>),
    Body(Vec<u8>),
    Asked(Q),
    Handshake,
    Closed,
}

pub(crate) struct Driver<S: Session, F> {
    pub(crate) session: S,
    answer: F,
    pub(crate) events: Vec<Event<S::Question>>,
    pub(crate) closed: bool,
    secured: bool,
    /// The session waits for a handshake.
    pub(crate) handshake: bool,
}

impl<S, F> Driver<S, F>
where
    S: Session,
    S::Question: Clone + std::fmt::Debug,
    F: FnMut(&S::Question) -> S::Answer,
{
    pub(crate) fn start(session: S, answer: F) -> Self {
        let mut driver = Self { session, answer, events: Vec::new(), closed: false, secured: false, handshake: false };
        driver.give(Input::Start);
        driver
    }

    /// Completes the TLS handshake if the session waits for it.
    pub(crate) fn shake_hands(&mut self) {
        if std::mem::take(&mut self.handshake) {
            self.secured = true;
            self.events.push(Event::Handshake);
            self.give(Input::Secured(&TlsSession {
                version: "TLSv1.3".to_owned(),
                exporter: vec![7; 32],
                ..TlsSession::default()
            }));
        }
    }

    /// Passes one input and answers its questions. Octets instead of a handshake make it fail.
    pub(crate) fn give(&mut self, input: Input<'_, S::Answer>) {
        let failed = self.handshake && matches!(input, Input::Bytes(_));
        self.handshake &= !failed;
        let mut next = Some(if failed { Input::Eof } else { input });
        while let Some(input) = next.take() {
            let mut actions = Vec::new();
            self.session.step(Monotonic::from_micros(1), input, &mut actions);
            next = self.act(actions).map(|asked| Input::Answer((self.answer)(&asked)));
        }
    }

    /// Records the actions; returns the question.
    fn act(&mut self, actions: Vec<Action<S::Question>>) -> Option<S::Question> {
        let mut question = None;
        for action in actions {
            assert!(!self.closed, "an action after Close: {action:?}");
            assert!(!self.handshake, "an action behind StartTls: {action:?}");
            match action {
                Action::Send(octets) => self.sent(&octets),
                Action::Body(octets) => self.body(&octets),
                // Recorded after the handshake, so that octets before and after a short delay compare as equal.
                Action::StartTls => {
                    assert!(!self.secured && question.is_none(), "a second handshake, or one with a question open");
                    self.handshake = true;
                }
                Action::Close => {
                    self.closed = true;
                    self.events.push(Event::Closed);
                }
                Action::WakeAt(_) => {}
                Action::Ask(asked) => {
                    assert!(question.is_none(), "two questions open");
                    self.events.push(Event::Asked(asked.clone()));
                    question = Some(asked);
                }
            }
        }
        question
    }

    fn sent(&mut self, octets: &[u8]) {
        match self.events.last_mut() {
            Some(Event::Sent(all)) => all.extend_from_slice(octets),
            Some(_) | None => self.events.push(Event::Sent(octets.to_vec())),
        }
    }

    fn body(&mut self, octets: &[u8]) {
        match self.events.last_mut() {
            Some(Event::Body(all)) => all.extend_from_slice(octets),
            Some(_) | None => self.events.push(Event::Body(octets.to_vec())),
        }
    }
}
