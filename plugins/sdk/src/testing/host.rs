//! The host functions of the contract, answered from the state of a test.

use super::{CURRENT, Change, State};

#[allow(clippy::panic, reason = "a plugin's test that calls the host without one is wrong, and must be told")]
fn with<T>(answer: impl FnOnce(&mut State) -> T) -> T {
    CURRENT.with_borrow_mut(|current| match current {
        Some(state) => answer(state),
        None => panic!("a host function was called outside testing::Host::run"),
    })
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn well_formed(octets: &[u8]) -> bool {
    !octets.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// One line in the server's log.
pub mod log {
    pub use crate::generated::waxwing::mail::log::Level;

    /// Writes it.
    pub fn write(level: Level, text: &str) {
        super::CURRENT.with_borrow_mut(|current| match current {
            Some(state) => state.log.push(format!("{}: {text}", word(level))),
            None => eprintln!("{}: {text}", word(level)),
        });
    }

    fn word(level: Level) -> &'static str {
        match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// The plugin's own table of the configuration.
pub mod config {
    /// The value as JSON.
    #[must_use]
    pub fn get(key: &str) -> Option<String> {
        super::with(|s| s.config.get(key).cloned())
    }
}

/// The current transaction.
pub mod transaction {
    use super::{Change, with};
    use crate::{Recipient, ReversePath, Source};

    pub use crate::generated::waxwing::mail::transaction::{Client, TlsSession};

    /// The transaction's id.
    #[must_use]
    pub fn id() -> String {
        with(|s| s.id.clone())
    }

    /// When it began.
    #[must_use]
    pub fn received_at_ms() -> u64 {
        with(|s| s.received_at_ms)
    }

    /// By which door it came.
    #[must_use]
    pub fn origin() -> Source {
        with(|s| s.source.unwrap_or(Source::Smtp))
    }

    /// The client of the session.
    #[must_use]
    pub fn peer() -> Option<Client> {
        with(|s| s.peer.clone())
    }

    /// The encrypted session.
    #[must_use]
    pub fn tls() -> Option<TlsSession> {
        with(|s| s.tls.clone())
    }

    /// What the client called itself.
    #[must_use]
    pub fn helo() -> Option<String> {
        with(|s| s.helo.clone())
    }

    /// The authenticated user and the mechanism.
    #[must_use]
    pub fn user() -> Option<(String, String)> {
        with(|s| s.user.clone())
    }

    /// The envelope sender.
    #[must_use]
    pub fn sender() -> Option<ReversePath> {
        with(|s| s.sender.clone())
    }

    /// The envelope recipients.
    #[must_use]
    pub fn recipients() -> Vec<Recipient> {
        with(|s| s.recipients.clone())
    }

    /// A parameter of MAIL, by its name in upper case.
    #[must_use]
    pub fn mail_parameter(name: &str) -> Option<String> {
        with(|s| s.parameters.get(name).cloned())
    }

    /// No parameters, here.
    #[must_use]
    pub fn recipient_parameter(_index: u32, _name: &str) -> Option<String> {
        None
    }

    /// A tag that was there when the call began.
    #[must_use]
    pub fn tag(name: &str) -> Option<String> {
        with(|s| s.tags.get(name).cloned())
    }

    /// All of them.
    #[must_use]
    pub fn tags() -> Vec<(String, String)> {
        with(|s| s.tags.clone().into_iter().collect())
    }

    /// Stages a tag.
    pub fn set_tag(name: &str, value: &str) {
        with(|s| s.changes.push(Change::Tag(name.into(), value.into())));
    }

    /// A second, here.
    #[must_use]
    pub fn time_left_ms() -> u32 {
        1000
    }
}

/// The header of the current message.
pub mod message {
    use super::{text, with};

    pub use crate::generated::waxwing::mail::message::{AuthResults, Check, Field};

    /// Octets of the whole message.
    #[must_use]
    pub fn size() -> u64 {
        with(|s| (s.headers.iter().map(|f| f.name.len() + f.value.len() + 4).sum::<usize>() + 2 + s.body.len()) as u64)
    }

    /// Number of fields.
    #[must_use]
    pub fn header_count() -> u32 {
        with(|s| u32::try_from(s.headers.len()).unwrap_or(u32::MAX))
    }

    /// One of them.
    #[must_use]
    pub fn header_at(index: u32) -> Option<Field> {
        with(|s| s.headers.get(index as usize).cloned())
    }

    /// The first of that name; unfolded, but encoded words are left.
    #[must_use]
    pub fn header_text(name: &str) -> Option<String> {
        let field = with(|s| s.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name)).cloned())?;
        Some(text(&field.value).replace(['\r', '\n'], ""))
    }

    /// All of them.
    #[must_use]
    pub fn headers() -> Vec<Field> {
        with(|s| s.headers.clone())
    }

    /// Nothing was checked, here.
    #[must_use]
    pub fn authentication() -> AuthResults {
        AuthResults { spf: Check::None, dmarc: Check::None, dkim: Vec::new(), arc: Check::None }
    }
}

/// Body and parts.
pub mod content {
    pub use crate::generated::waxwing::mail::content::{MimePart, ReadError};

    /// One part, the body as it is.
    pub fn parts() -> Result<Vec<MimePart>, ReadError> {
        let size = super::with(|s| s.body.len() as u64);
        Ok(vec![MimePart {
            index: 0,
            parent: None,
            content_type: "text/plain".into(),
            charset: None,
            filename: None,
            inline: true,
            size,
        }])
    }

    /// A piece of it.
    pub fn read_part(index: u32, offset: u64, length: u32) -> Result<Vec<u8>, ReadError> {
        if index == 0 { Ok(piece(&super::with(|s| s.body.clone()), offset, length)) } else { Err(ReadError::NoSuchPart) }
    }

    /// A piece of the whole message.
    pub fn read_raw(offset: u64, length: u32) -> Result<Vec<u8>, ReadError> {
        let whole = super::with(|s| {
            let mut all = Vec::new();
            for field in &s.headers {
                all.extend_from_slice(&[field.name.as_bytes(), b": ", &field.value, b"\r\n"].concat());
            }
            all.extend_from_slice(b"\r\n");
            all.extend_from_slice(&s.body);
            all
        });
        Ok(piece(&whole, offset, length))
    }

    fn piece(octets: &[u8], offset: u64, length: u32) -> Vec<u8> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(octets.len());
        let end = start.saturating_add(length as usize).min(octets.len());
        octets.get(start..end).unwrap_or_default().to_vec()
    }
}

/// Changes to message and envelope.
pub mod edit {
    use super::{Change, text, well_formed, with};
    use crate::{Address, ReversePath};

    pub use crate::generated::waxwing::mail::edit::EditError;

    type Edited = Result<(), EditError>;

    fn stage(change: Change) -> Edited {
        with(|s| s.changes.push(change));
        Ok(())
    }

    fn checked(value: &[u8], change: Change) -> Edited {
        // Folded values are let through, as the host lets them.
        let unfolded = text(value).replace("\r\n ", " ").replace("\r\n\t", " ").replace("\n ", " ").replace("\n\t", " ");
        if well_formed(unfolded.as_bytes()) { stage(change) } else { Err(EditError::Malformed("a control character".into())) }
    }

    /// Below all others.
    pub fn add_header(name: &str, value: &[u8]) -> Edited {
        checked(value, Change::AddHeader(name.into(), text(value)))
    }

    /// Above the field at `at`.
    pub fn insert_header(at: u32, name: &str, value: &[u8]) -> Edited {
        checked(value, Change::InsertHeader(at, name.into(), text(value)))
    }

    /// Another value for the `nth` of that name.
    pub fn replace_header(name: &str, nth: u32, value: &[u8]) -> Edited {
        checked(value, Change::ReplaceHeader(name.into(), nth, text(value)))
    }

    /// Away with the `nth` of that name.
    pub fn remove_header(name: &str, nth: u32) -> Edited {
        stage(Change::RemoveHeader(name.into(), nth))
    }

    /// Another envelope sender.
    pub fn set_sender(sender: Option<&Address>, _parameters: &[(String, Option<String>)]) -> Edited {
        let sender: ReversePath = sender.cloned();
        stage(Change::SetSender(sender))
    }

    /// One more recipient.
    pub fn add_recipient(recipient: &Address, _parameters: &[(String, Option<String>)]) -> Edited {
        stage(Change::AddRecipient(recipient.clone()))
    }

    /// Another address for a recipient.
    pub fn change_recipient(index: u32, to: &Address) -> Edited {
        stage(Change::ChangeRecipient(index, to.clone()))
    }

    /// A recipient away.
    pub fn remove_recipient(index: u32) -> Edited {
        stage(Change::RemoveRecipient(index))
    }

    /// A part away.
    pub fn drop_part(index: u32) -> Edited {
        stage(Change::DropPart(index))
    }

    /// Another in the place of a part.
    pub fn replace_part(index: u32, content_type: &str, content: &[u8]) -> Edited {
        stage(Change::ReplacePart(index, content_type.into(), content.to_vec()))
    }

    /// One more part.
    pub fn add_part(content_type: &str, filename: Option<&str>, content: &[u8]) -> Edited {
        stage(Change::AddPart(content_type.into(), filename.map(Into::into), content.to_vec()))
    }

    /// A new body, piece by piece.
    pub fn write_body(chunk: &[u8]) -> Edited {
        stage(Change::WriteBody(text(chunk)))
    }
}

/// Consequences beside the verdict.
pub mod action {
    use super::{Change, with};
    use crate::Address;

    pub use crate::generated::waxwing::mail::action::ActionError;

    type Acted = Result<(), ActionError>;

    fn stage(change: Change) -> Acted {
        with(|s| s.changes.push(change));
        Ok(())
    }

    /// No later hook of this plugin for this message.
    pub fn skip_rest() -> Acted {
        stage(Change::SkipRest)
    }

    /// As junk, or held.
    pub fn quarantine(reason: &str) -> Acted {
        stage(Change::Quarantine(reason.into()))
    }

    /// All recipients become this one.
    pub fn redirect(to: &Address) -> Acted {
        stage(Change::Redirect(to.clone()))
    }

    /// Later.
    pub fn delay_reply(milliseconds: u32) -> Acted {
        stage(Change::DelayReply(milliseconds))
    }

    /// Not in the EHLO answer.
    pub fn hide_capability(keyword: &str) -> Acted {
        stage(Change::HideCapability(keyword.into()))
    }

    /// 250 to this one, and dropped.
    pub fn discard_recipient(index: u32, reason: &str) -> Acted {
        stage(Change::DiscardRecipient(index, reason.into()))
    }
}

/// The server's tables.
pub mod lookup {
    pub use crate::generated::waxwing::mail::lookup::LookupError;

    /// The value of a key.
    pub fn get(table: &str, key: &str) -> Result<Option<String>, LookupError> {
        super::with(|s| match s.tables.get(table) {
            _ if s.broken_tables.iter().any(|t| t == table) => Err(LookupError::Unavailable("cannot be read".into())),
            Some(entries) => Ok(entries.get(key).cloned()),
            None => Err(LookupError::NotGranted),
        })
    }
}

/// Counters, which nobody reads here.
pub mod metrics {
    /// Adds.
    pub fn count(_name: &str, _delta: u64) {}

    /// Observes.
    pub fn observe(_name: &str, _value: f64) {}
}
