//! Drives a session as the loop in `net` does, and writes down what it wanted done.

use waxwing_types::{Action, Input, Monotonic, Session, TlsSession};

/// What a session did, neighbours of one kind joined: how the input was cut must not show in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event<Q> {
    Sent(Vec<u8>),
    Body(Vec<u8>),
    Asked(Q),
    Closed,
    Handshake,
}

pub(crate) struct Driver<S: Session, F> {
    pub(crate) session: S,
    answer: F,
    pub(crate) events: Vec<Event<S::Question>>,
    pub(crate) closed: bool,
    /// Octets sent, whatever was between them.
    pub(crate) sent: Vec<u8>,
    actions: Vec<Action<S::Question>>,
    /// The session waits for a handshake.
    pub(crate) handshake: bool,
}

impl<S, F> Driver<S, F>
where
    S: Session,
    S::Question: Clone + std::fmt::Debug + PartialEq,
    F: FnMut(&S::Question) -> S::Answer,
{
    pub(crate) fn start(session: S, answer: F) -> Self {
        let mut driver =
            Self { session, answer, events: Vec::new(), closed: false, sent: Vec::new(), actions: Vec::new(), handshake: false };
        driver.give(Input::Start);
        driver
    }

    /// Shakes hands, if the session waits for it.
    pub(crate) fn shake_hands(&mut self) {
        if std::mem::take(&mut self.handshake) {
            self.events.push(Event::Handshake);
            self.give(Input::Secured(&TlsSession::default()));
        }
    }

    /// Gives one input and answers what it opens. Octets in place of a handshake are a failed one.
    pub(crate) fn give(&mut self, input: Input<'_, S::Answer>) {
        let failed = std::mem::take(&mut self.handshake) && matches!(input, Input::Bytes(_));
        let input = if failed { Input::Eof } else { input };
        let mut next = Some(input);
        while let Some(input) = next.take() {
            self.session.step(Monotonic::from_micros(1), input, &mut self.actions);
            let mut question = None;
            for action in self.actions.drain(..) {
                assert!(!self.closed, "an action after Close: {action:?}");
                assert!(!self.handshake, "an action after StartTls: {action:?}");
                let event = match action {
                    Action::Send(octets) => {
                        self.sent.extend_from_slice(&octets);
                        Event::Sent(octets.to_vec())
                    }
                    Action::Body(octets) => Event::Body(octets.to_vec()),
                    // An event once the hands are shaken: octets that came at once or a little later are the same.
                    Action::StartTls => {
                        self.handshake = true;
                        continue;
                    }
                    Action::Close => {
                        self.closed = true;
                        Event::Closed
                    }
                    Action::WakeAt(_) => continue,
                    Action::Ask(asked) => {
                        assert!(question.is_none(), "two questions open");
                        question = Some(asked.clone());
                        Event::Asked(asked)
                    }
                };
                match (self.events.last_mut(), event) {
                    (Some(Event::Sent(all)), Event::Sent(more)) | (Some(Event::Body(all)), Event::Body(more)) => all.extend(more),
                    (_, event) => self.events.push(event),
                }
            }
            next = question.map(|asked| Input::Answer((self.answer)(&asked)));
        }
    }
}

/// Cuts `octets` into pieces of these sizes, over and over.
pub(crate) fn chop<'a>(octets: &'a [u8], sizes: &'a [usize]) -> Vec<&'a [u8]> {
    let mut rest = octets;
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, left) = rest.split_at((*size).clamp(1, rest.len()));
        pieces.push(piece);
        rest = left;
    }
    pieces
}
