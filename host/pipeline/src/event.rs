//! Events: the argument of each hook.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waxwing_types::{Address, NextHop, Reply, ReversePath};

use crate::{ContextRecipient, DeferralInfo, Hook, RecipientOutcome, Secret, Symbol};

/// Position of an address in on-rewrite-address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AddressRole {
    /// Address of MAIL FROM.
    EnvelopeSender,
    /// Address of RCPT TO.
    EnvelopeRecipient,
    /// Address in From, Sender, Reply-To or a Resent form of these fields.
    HeaderSender,
    /// Address in To, Cc, Bcc or a Resent form of these fields.
    HeaderRecipient,
}

/// Argument of one hook call.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Client connected. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Connect,
    /// TLS handshake completed. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Tls,
    /// HELO or EHLO, with the name given by the client. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Helo(String),
    /// Lookup of a user's record, by name. Answered with [`HookAnswer::StoredCredential`](crate::HookAnswer::StoredCredential).
    Credentials(String),
    /// Check of a name and a secret. Answered with [`HookAnswer::Auth`](crate::HookAnswer::Auth). Traced without the secret,
    /// never recorded.
    Auth {
        /// Protocol of the session: `smtp`, `imap` or `pop3`.
        protocol: String,
        /// User name given by the client.
        user: String,
        /// Secret given by the client.
        secret: Secret,
    },
    /// SMTP command left to policy. Answered with [`HookAnswer::Reply`](crate::HookAnswer::Reply).
    Command {
        /// Command verb in upper case.
        verb: String,
        /// Remainder of the command line after the verb.
        argument: Bytes,
    },
    /// MAIL, with the envelope sender. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Mail(ReversePath),
    /// RCPT, with the recipient. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Rcpt(ContextRecipient),
    /// RCPT, after alias expansion. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    RcptResolved {
        /// Recipient as given by the client.
        recipient: ContextRecipient,
        /// Addresses after expansion.
        targets: Vec<Address>,
    },
    /// DATA, before the 354 reply. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Data,
    /// Refusal by a plugin. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict);
    /// [`Verdict::Next`](waxwing_types::Verdict) confirms the refusal.
    Refuse {
        /// Hook of the refusal.
        stage: Hook,
        /// Name of the refusing plugin.
        plugin: String,
        /// Reply of the refusal.
        reply: Reply,
    },
    /// Header block complete. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Headers,
    /// Message complete. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Message,
    /// Scoring of a complete message. Answered with [`HookAnswer::Symbols`](crate::HookAnswer::Symbols).
    Score,
    /// Decision on the symbols of all plugins. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Decide(Arc<Vec<Symbol>>),
    /// Complete message for one recipient. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    RecipientMessage(ContextRecipient),
    /// Cleanup of a complete message. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Cleanup,
    /// Rewriting of an address. Answered with [`HookAnswer::Rewritten`](crate::HookAnswer::Rewritten).
    RewriteAddress(Address, AddressRole),
    /// Alias expansion of a recipient. Answered with [`HookAnswer::Resolution`](crate::HookAnswer::Resolution).
    Resolve {
        /// Recipient to expand.
        recipient: Address,
        /// Verification at RCPT without delivery: an answer without targets is sufficient.
        verify: bool,
    },
    /// Commit of a message. Answered with [`HookAnswer::Placement`](crate::HookAnswer::Placement).
    Enqueue,
    /// Scan after the commit. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Scan,
    /// Choice of the next hop for a recipient. Answered with [`HookAnswer::Route`](crate::HookAnswer::Route).
    Route(ContextRecipient),
    /// Start of an attempt, with the destination. Answered with [`HookAnswer::Verdict`](crate::HookAnswer::Verdict).
    Send(String),
    /// Delivery by a plugin transport. Answered with [`HookAnswer::Dispositions`](crate::HookAnswer::Dispositions).
    Deliver {
        /// Next hop of the attempt.
        hop: NextHop,
        /// Recipients of the attempt.
        recipients: Vec<ContextRecipient>,
    },
    /// Reply of a remote server. Answered with [`HookAnswer::ReplyClass`](crate::HookAnswer::ReplyClass).
    Reply {
        /// Destination that replied.
        destination: String,
        /// Code of the reply.
        code: u16,
        /// Text of the reply, including the enhanced status code.
        text: String,
    },
    /// Deferred attempt. Answered with [`HookAnswer::NextTry`](crate::HookAnswer::NextTry).
    Retry(DeferralInfo),
    /// Result for a recipient. Answered with [`HookAnswer::Done`](crate::HookAnswer::Done).
    Outcome(RecipientOutcome),
    /// DSN about to be sent; kind `failure`, `delay` or `success`. Answered with
    /// [`HookAnswer::SendDsn`](crate::HookAnswer::SendDsn).
    Dsn(String),
    /// Transaction aborted. Answered with [`HookAnswer::Done`](crate::HookAnswer::Done).
    Abort,
    /// Session ended, with the reason. Answered with [`HookAnswer::Done`](crate::HookAnswer::Done).
    Disconnect(String),
    /// Accounting event. Answered with [`HookAnswer::Done`](crate::HookAnswer::Done).
    Accounting {
        /// Name of the event.
        name: String,
        /// Details of the event as a JSON object.
        json: String,
    },
    /// Periodic tick. Answered with [`HookAnswer::Done`](crate::HookAnswer::Done).
    Tick,
    /// Table lookup of a key. Answered with [`HookAnswer::TableLookup`](crate::HookAnswer::TableLookup).
    Table(String),
}

impl Event {
    /// Returns the hook that receives the event.
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
            Self::Accounting { .. } => Hook::OnEvent,
            Self::Tick => Hook::OnTick,
            Self::Table(_) => Hook::OnTable,
        }
    }

    /// Returns the subject of the call for the trace: an address, a name or an empty string.
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
            | Self::Accounting { name: text, .. }
            | Self::Table(text) => text.clone(),
            Self::Mail(sender) => format!("<{sender}>"),
            Self::Rcpt(recipient)
            | Self::RcptResolved { recipient, .. }
            | Self::RecipientMessage(recipient)
            | Self::Route(recipient) => String::from(&recipient.recipient.address),
            Self::Refuse { plugin: by, reply, .. } => format!("{by}: {reply}"),
            Self::RewriteAddress(address, _) | Self::Resolve { recipient: address, .. } => String::from(address),
            Self::Deliver { hop, .. } => hop.to_string(),
            Self::Reply { destination, code, .. } => format!("{destination}: {code}"),
            Self::Retry(failure) => failure.destination.clone(),
            Self::Outcome(outcome) => outcome.recipient.recipient.address.to_string(),
        }
    }
}
