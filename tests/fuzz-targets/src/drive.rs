//! Drives a session as the loop in `net` does, and checks what holds for every session.

use waxwing_types::{Action, Input, Monotonic, Session, TlsSession};

/// What a session did, neighbours of one kind joined: how the input was cut must not show in it.
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
    /// No [`Event::Sent`] may come before the next input of the peer.
    silent: bool,
}

impl<S, F> Driver<S, F>
where
    S: Session,
    S::Question: Clone + std::fmt::Debug,
    F: FnMut(&S::Question) -> S::Answer,
{
    pub(crate) fn start(session: S, answer: F) -> Self {
        let mut driver = Self { session, answer, events: Vec::new(), closed: false, secured: false, silent: false };
        driver.give(Input::Start);
        driver
    }

    /// Gives one input and answers what it opens.
    pub(crate) fn give(&mut self, input: Input<'_, S::Answer>) {
        self.silent = false;
        let tls = TlsSession { version: "TLSv1.3".to_owned(), exporter: vec![7; 32], ..TlsSession::default() };
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut actions = Vec::new();
            self.session.step(Monotonic::from_micros(1), input, &mut actions);
            let (mut question, mut handshake) = (None, false);
            for action in actions {
                assert!(!self.closed, "an action after Close: {action:?}");
                assert!(!handshake, "an action behind StartTls: {action:?}");
                match action {
                    Action::Send(octets) => {
                        // CVE-2011-0411: what came in plain text behind STARTTLS is answered over TLS.
                        assert!(!self.silent, "plain text was taken into the encrypted session: {octets:?}");
                        self.sent(&octets);
                    }
                    Action::Body(octets) => self.body(&octets),
                    Action::StartTls => {
                        assert!(!self.secured, "a second handshake");
                        self.events.push(Event::Handshake);
                        handshake = true;
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
            assert!(question.is_none() || !handshake, "a question and a handshake at once");
            next = question.map(|asked| Input::Answer((self.answer)(&asked)));
            if handshake {
                (self.secured, self.silent) = (true, true);
                next = Some(Input::Secured(&tls));
            }
        }
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
