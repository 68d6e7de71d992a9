//! What each hook is asked.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waxwing_types::{Address, NextHop, Reply, ReversePath};

use crate::{ContextRecipient, Failure, Hook, RecipientOutcome, Secret, Symbol};

/// Where an address stands that may be rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// MAIL FROM.
    EnvelopeSender,
    /// RCPT TO.
    EnvelopeRecipient,
    /// From, Sender, Reply-To and their Resent forms.
    HeaderSender,
    /// To, Cc, Bcc and their Resent forms.
    HeaderRecipient,
}

/// One call of a hook.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Connect,
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Tls,
    /// The name that the client gave. Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Helo(String),
    /// The user's name. Answered with [`Answer::Stored`](crate::Answer::Stored).
    Credentials(String),
    /// Answered with [`Answer::Auth`](crate::Answer::Auth). Never traced with its secret, never recorded.
    Auth {
        /// `smtp`, `imap`, `pop3`.
        protocol: String,
        /// The name that the client gave.
        user: String,
        /// What it gave as proof.
        secret: Secret,
    },
    /// Answered with [`Answer::Reply`](crate::Answer::Reply).
    Command {
        /// In upper case.
        verb: String,
        /// What follows it on the line.
        argument: Bytes,
    },
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Mail(ReversePath),
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Rcpt(ContextRecipient),
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    RcptResolved {
        /// As the client gave it.
        recipient: ContextRecipient,
        /// What it becomes.
        targets: Vec<Address>,
    },
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Data,
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict), where [`Verdict::Continue`](waxwing_types::Verdict) lets the refusal stand.
    Refuse {
        /// The hook at which it happens.
        stage: Hook,
        /// The plugin that refuses.
        by: String,
        /// The reply that is due.
        reply: Reply,
    },
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Headers,
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Message,
    /// Answered with [`Answer::Symbols`](crate::Answer::Symbols).
    Score,
    /// All symbols. Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Decide(Arc<Vec<Symbol>>),
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    RecipientMessage(ContextRecipient),
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Cleanup,
    /// Answered with [`Answer::Rewritten`](crate::Answer::Rewritten).
    RewriteAddress(Address, Role),
    /// Answered with [`Answer::Resolution`](crate::Answer::Resolution).
    Resolve {
        /// The recipient.
        recipient: Address,
        /// At RCPT: nothing will be delivered, an answer without targets is enough.
        verify: bool,
    },
    /// Answered with [`Answer::Placement`](crate::Answer::Placement).
    Enqueue,
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Scan,
    /// Answered with [`Answer::Route`](crate::Answer::Route).
    Route(ContextRecipient),
    /// The destination. Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Send(String),
    /// Answered with [`Answer::Dispositions`](crate::Answer::Dispositions).
    Deliver {
        /// Where to.
        hop: NextHop,
        /// Which recipients.
        recipients: Vec<ContextRecipient>,
    },
    /// Answered with [`Answer::Class`](crate::Answer::Class).
    Reply {
        /// Who replied.
        destination: String,
        /// Its code.
        code: u16,
        /// Its text, enhanced code included.
        text: String,
    },
    /// Answered with [`Answer::NextTry`](crate::Answer::NextTry).
    Retry(Failure),
    /// Answered with [`Answer::Done`](crate::Answer::Done).
    Outcome(RecipientOutcome),
    /// The kind of report: `failure`, `delay`, `success`. Answered with [`Answer::Report`](crate::Answer::Report).
    Dsn(String),
    /// Answered with [`Answer::Done`](crate::Answer::Done).
    Abort,
    /// Why. Answered with [`Answer::Done`](crate::Answer::Done).
    Disconnect(String),
    /// Answered with [`Answer::Done`](crate::Answer::Done).
    Observe {
        /// Which event.
        name: String,
        /// What is known of it, as a JSON object.
        json: String,
    },
    /// Answered with [`Answer::Done`](crate::Answer::Done).
    Tick,
    /// The key. Answered with [`Answer::Found`](crate::Answer::Found).
    Table(String),
}

impl Event {
    /// The hook that hears of it.
    #[must_use]
    pub fn hook(&self) -> Hook {
        match self {
            Self::Connect => Hook::OnConnect,
            Self::Tls => Hook::OnTls,
            Self::Helo(_) => Hook::OnHelo,
            Self::Credentials(_) => Hook::OnCredentials,
            Self::Auth { .. } => Hook::OnAuth,
            Self::Command { .. } => Hook::OnCommand,
            Self::Mail(_) => Hook::OnMail,
            Self::Rcpt(_) => Hook::OnRcpt,
            Self::RcptResolved { .. } => Hook::OnRcptResolved,
            Self::Data => Hook::OnData,
            Self::Refuse { .. } => Hook::OnRefuse,
            Self::Headers => Hook::OnHeaders,
            Self::Message => Hook::OnMessage,
            Self::Score => Hook::OnScore,
            Self::Decide(_) => Hook::OnDecide,
            Self::RecipientMessage(_) => Hook::OnRecipientMessage,
            Self::Cleanup => Hook::OnCleanup,
            Self::RewriteAddress(..) => Hook::OnRewriteAddress,
            Self::Resolve { .. } => Hook::OnResolve,
            Self::Enqueue => Hook::OnEnqueue,
            Self::Scan => Hook::OnScan,
            Self::Route(_) => Hook::OnRoute,
            Self::Send(_) => Hook::OnSend,
            Self::Deliver { .. } => Hook::OnDeliver,
            Self::Reply { .. } => Hook::OnReply,
            Self::Retry(_) => Hook::OnRetry,
            Self::Outcome(_) => Hook::OnOutcome,
            Self::Dsn(_) => Hook::OnDsn,
            Self::Abort => Hook::OnAbort,
            Self::Disconnect(_) => Hook::OnDisconnect,
            Self::Observe { .. } => Hook::OnEvent,
            Self::Tick => Hook::OnTick,
            Self::Table(_) => Hook::OnTable,
        }
    }

    /// What the call is about, for the trace: an address, a name, or nothing.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Connect
            | Self::Tls
            | Self::Data
            | Self::Headers
            | Self::Message
            | Self::Score
            | Self::Cleanup
            | Self::Enqueue
            | Self::Scan
            | Self::Abort
            | Self::Tick => String::new(),
            Self::Decide(symbols) => format!("{} symbols", symbols.len()),
            Self::Helo(name) | Self::Credentials(name) | Self::Auth { user: name, .. } => name.clone(),
            Self::Command { verb: text, .. }
            | Self::Send(text)
            | Self::Dsn(text)
            | Self::Disconnect(text)
            | Self::Observe { name: text, .. }
            | Self::Table(text) => text.clone(),
            Self::Mail(sender) => format!("<{sender}>"),
            Self::Rcpt(recipient)
            | Self::RcptResolved { recipient, .. }
            | Self::RecipientMessage(recipient)
            | Self::Route(recipient) => String::from(&recipient.recipient.address),
            Self::Refuse { by, reply, .. } => format!("{by}: {reply}"),
            Self::RewriteAddress(address, _) | Self::Resolve { recipient: address, .. } => String::from(address),
            Self::Deliver { hop, .. } => hop.to_string(),
            Self::Reply { destination, code, .. } => format!("{destination}: {code}"),
            Self::Retry(failure) => failure.destination.clone(),
            Self::Outcome(outcome) => outcome.recipient.recipient.address.to_string(),
        }
    }
}
