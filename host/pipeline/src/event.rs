//! What each hook is asked.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waxwing_types::{Address, NextHop, Reply, ReversePath};

use crate::{ContextRecipient, Hook, Symbol};

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
    /// The name that the client gave. Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Helo(String),
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Mail(ReversePath),
    /// Answered with [`Answer::Verdict`](crate::Answer::Verdict).
    Rcpt(ContextRecipient),
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
    /// Answered with [`Answer::Dispositions`](crate::Answer::Dispositions).
    Deliver {
        /// Where to.
        hop: NextHop,
        /// Which recipients.
        recipients: Vec<ContextRecipient>,
    },
    /// Answered with [`Answer::Done`](crate::Answer::Done).
    Abort,
    /// Answered with [`Answer::Done`](crate::Answer::Done).
    Tick,
}

impl Event {
    /// The hook that hears of it.
    #[must_use]
    pub fn hook(&self) -> Hook {
        match self {
            Self::Connect => Hook::OnConnect,
            Self::Helo(_) => Hook::OnHelo,
            Self::Mail(_) => Hook::OnMail,
            Self::Rcpt(_) => Hook::OnRcpt,
            Self::Data => Hook::OnData,
            Self::Refuse { .. } => Hook::OnRefuse,
            Self::Message => Hook::OnMessage,
            Self::Score => Hook::OnScore,
            Self::Decide(_) => Hook::OnDecide,
            Self::RecipientMessage(_) => Hook::OnRecipientMessage,
            Self::Cleanup => Hook::OnCleanup,
            Self::RewriteAddress(..) => Hook::OnRewriteAddress,
            Self::Resolve { .. } => Hook::OnResolve,
            Self::Deliver { .. } => Hook::OnDeliver,
            Self::Abort => Hook::OnAbort,
            Self::Tick => Hook::OnTick,
        }
    }

    /// What the call is about, for the trace: an address, a name, or nothing.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Connect | Self::Data | Self::Message | Self::Score | Self::Cleanup | Self::Abort | Self::Tick => String::new(),
            Self::Helo(name) => name.clone(),
            Self::Mail(sender) => format!("<{sender}>"),
            Self::Rcpt(recipient) | Self::RecipientMessage(recipient) => recipient.recipient.address.to_string(),
            Self::Refuse { by, reply, .. } => format!("{by}: {reply}"),
            Self::Decide(symbols) => format!("{} symbols", symbols.len()),
            Self::RewriteAddress(address, _) | Self::Resolve { recipient: address, .. } => address.to_string(),
            Self::Deliver { hop, .. } => hop.to_string(),
        }
    }
}
