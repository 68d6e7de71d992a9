//! Fake host functions of the contract, served from the state of a test.

use super::{CURRENT, Change, FakeState};

#[allow(clippy::panic, reason = "a plugin's test that calls the host without one is wrong, and must be told")]
fn with_state<T>(answer: impl FnOnce(&mut FakeState) -> T) -> T {
    CURRENT.with_borrow_mut(|current| match current {
        Some(state) => answer(state),
        None => panic!("a host function was called outside testing::Host::run"),
    })
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn is_header_safe(octets: &[u8]) -> bool {
    !octets.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// Log of the server.
pub mod log {
    pub use crate::generated::waxwing::mail::log::Level;

    /// Writes a line to the log.
    pub fn write(level: Level, text: &str) {
        super::CURRENT.with_borrow_mut(|current| match current {
            Some(state) => state.log.push(format!("{}: {text}", level_name(level))),
            None => eprintln!("{}: {text}", level_name(level)),
        });
    }

    fn level_name(level: Level) -> &'static str {
        match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// Configuration table of the plugin.
pub mod config {
    /// Returns the value of a key as JSON.
    #[must_use]
    pub fn get(key: &str) -> Option<String> {
        super::with_state(|s| s.config.get(key).cloned())
    }
}

/// Data of the current transaction.
pub mod transaction {
    use super::{Change, with_state};
    use crate::{Recipient, ReversePath, Source};

    pub use crate::generated::waxwing::mail::transaction::{Client, TlsSession};

    /// Returns the id of the transaction.
    #[must_use]
    pub fn id() -> String {
        with_state(|s| s.id.clone())
    }

    /// Returns the start of the transaction, in milliseconds since 1970.
    #[must_use]
    pub fn received_at_ms() -> u64 {
        with_state(|s| s.received_at_ms)
    }

    /// Returns the source of the message; SMTP by default.
    #[must_use]
    pub fn origin() -> Source {
        with_state(|s| s.source.unwrap_or(Source::Smtp))
    }

    /// Returns the client of the session.
    #[must_use]
    pub fn peer() -> Option<Client> {
        with_state(|s| s.peer.clone())
    }

    /// Returns the TLS session, if encrypted.
    #[must_use]
    pub fn tls() -> Option<TlsSession> {
        with_state(|s| s.tls.clone())
    }

    /// Returns the argument of HELO or EHLO.
    #[must_use]
    pub fn helo() -> Option<String> {
        with_state(|s| s.helo.clone())
    }

    /// Returns the authenticated user and the SASL mechanism.
    #[must_use]
    pub fn user() -> Option<(String, String)> {
        with_state(|s| s.user.clone())
    }

    /// Returns the envelope sender.
    #[must_use]
    pub fn sender() -> Option<ReversePath> {
        with_state(|s| s.sender.clone())
    }

    /// Returns the envelope recipients.
    #[must_use]
    pub fn recipients() -> Vec<Recipient> {
        with_state(|s| s.recipients.clone())
    }

    /// Returns a parameter of MAIL, by its name in upper case.
    #[must_use]
    pub fn mail_parameter(name: &str) -> Option<String> {
        with_state(|s| s.parameters.get(name).cloned())
    }

    /// Returns `None`: recipient parameters are not simulated.
    #[must_use]
    pub fn recipient_parameter(_index: u32, _name: &str) -> Option<String> {
        None
    }

    /// Returns a tag present at the start of the call.
    #[must_use]
    pub fn tag(name: &str) -> Option<String> {
        with_state(|s| s.tags.get(name).cloned())
    }

    /// Returns all tags present at the start of the call.
    #[must_use]
    pub fn tags() -> Vec<(String, String)> {
        with_state(|s| s.tags.clone().into_iter().collect())
    }

    /// Stages the change of a tag.
    pub fn set_tag(name: &str, value: &str) {
        with_state(|s| s.changes.push(Change::Tag(name.into(), value.into())));
    }

    /// Returns a constant 1000 milliseconds.
    #[must_use]
    pub fn time_left_ms() -> u32 {
        1000
    }
}

/// Header of the current message.
pub mod message {
    use super::{text, with_state};

    pub use crate::generated::waxwing::mail::message::{AuthResults, Check, Field};

    /// Returns the size of the whole message in bytes.
    #[must_use]
    pub fn size() -> u64 {
        with_state(|s| (s.headers.iter().map(|f| f.name.len() + f.value.len() + 4).sum::<usize>() + 2 + s.body.len()) as u64)
    }

    /// Returns the number of header fields.
    #[must_use]
    pub fn header_count() -> u32 {
        with_state(|s| u32::try_from(s.headers.len()).unwrap_or(u32::MAX))
    }

    /// Returns the header field at an index.
    #[must_use]
    pub fn header_at(index: u32) -> Option<Field> {
        with_state(|s| s.headers.get(index as usize).cloned())
    }

    /// Returns the first field of a name, unfolded; encoded words are not decoded.
    #[must_use]
    pub fn header_text(name: &str) -> Option<String> {
        let field = with_state(|s| s.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name)).cloned())?;
        Some(text(&field.value).replace(['\r', '\n'], ""))
    }

    /// Returns all header fields.
    #[must_use]
    pub fn headers() -> Vec<Field> {
        with_state(|s| s.headers.clone())
    }

    /// Returns empty results: authentication is not simulated.
    #[must_use]
    pub fn authentication() -> AuthResults {
        AuthResults { spf: Check::None, dmarc: Check::None, dkim: Vec::new(), arc: Check::None }
    }
}

/// Body and MIME parts of the current message.
pub mod content {
    pub use crate::generated::waxwing::mail::content::{MimePart, ReadError};

    /// Returns the body as the only part.
    pub fn parts() -> Result<Vec<MimePart>, ReadError> {
        let size = super::with_state(|s| s.body.len() as u64);
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

    /// Reads a range of a part, in bytes.
    pub fn read_part(index: u32, offset: u64, length: u32) -> Result<Vec<u8>, ReadError> {
        if index == 0 { Ok(piece(&super::with_state(|s| s.body.clone()), offset, length)) } else { Err(ReadError::NoSuchPart) }
    }

    /// Reads a range of the whole message, in bytes.
    pub fn read_raw(offset: u64, length: u32) -> Result<Vec<u8>, ReadError> {
        let whole = super::with_state(|s| {
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

/// Edits of the message and the envelope.
pub mod edit {
    use super::{Change, is_header_safe, text, with_state};
    use crate::{Address, ReversePath};

    pub use crate::generated::waxwing::mail::edit::EditError;

    type EditResult = Result<(), EditError>;

    fn stage(change: Change) -> EditResult {
        with_state(|s| s.changes.push(change));
        Ok(())
    }

    fn checked(value: &[u8], change: Change) -> EditResult {
        // Folded values are accepted, as by the real host.
        let unfolded = text(value).replace("\r\n ", " ").replace("\r\n\t", " ").replace("\n ", " ").replace("\n\t", " ");
        if is_header_safe(unfolded.as_bytes()) { stage(change) } else { Err(EditError::Malformed("a control character".into())) }
    }

    /// Appends a field below all others.
    pub fn add_header(name: &str, value: &[u8]) -> EditResult {
        checked(value, Change::AddHeader(name.into(), text(value)))
    }

    /// Inserts a field above the field at index `at`.
    pub fn insert_header(at: u32, name: &str, value: &[u8]) -> EditResult {
        checked(value, Change::InsertHeader(at, name.into(), text(value)))
    }

    /// Replaces the value of the `nth` field of a name.
    pub fn replace_header(name: &str, nth: u32, value: &[u8]) -> EditResult {
        checked(value, Change::ReplaceHeader(name.into(), nth, text(value)))
    }

    /// Removes the `nth` field of a name.
    pub fn remove_header(name: &str, nth: u32) -> EditResult {
        stage(Change::RemoveHeader(name.into(), nth))
    }

    /// Replaces the envelope sender.
    pub fn set_sender(sender: Option<&Address>, _parameters: &[(String, Option<String>)]) -> EditResult {
        let sender: ReversePath = sender.cloned();
        stage(Change::SetSender(sender))
    }

    /// Adds a recipient to the envelope.
    pub fn add_recipient(recipient: &Address, _parameters: &[(String, Option<String>)]) -> EditResult {
        stage(Change::AddRecipient(recipient.clone()))
    }

    /// Replaces the address of a recipient.
    pub fn change_recipient(index: u32, to: &Address) -> EditResult {
        stage(Change::ChangeRecipient(index, to.clone()))
    }

    /// Removes a recipient from the envelope.
    pub fn remove_recipient(index: u32) -> EditResult {
        stage(Change::RemoveRecipient(index))
    }

    /// Removes a MIME part.
    pub fn drop_part(index: u32) -> EditResult {
        stage(Change::DropPart(index))
    }

    /// Replaces a MIME part.
    pub fn replace_part(index: u32, content_type: &str, content: &[u8]) -> EditResult {
        stage(Change::ReplacePart(index, content_type.into(), content.to_vec()))
    }

    /// Appends a MIME part.
    pub fn add_part(content_type: &str, filename: Option<&str>, content: &[u8]) -> EditResult {
        stage(Change::AddPart(content_type.into(), filename.map(Into::into), content.to_vec()))
    }

    /// Appends a chunk to the new body.
    pub fn write_body(chunk: &[u8]) -> EditResult {
        stage(Change::WriteBody(text(chunk)))
    }
}

/// Actions in addition to the verdict.
pub mod action {
    use super::{Change, with_state};
    use crate::Address;

    pub use crate::generated::waxwing::mail::action::ActionError;

    type ActionResult = Result<(), ActionError>;

    fn stage(change: Change) -> ActionResult {
        with_state(|s| s.changes.push(change));
        Ok(())
    }

    /// Skips the later hooks of this plugin for the message.
    pub fn skip_rest() -> ActionResult {
        stage(Change::SkipRest)
    }

    /// Quarantines the message: delivers to the junk mailbox, or holds.
    pub fn quarantine(reason: &str) -> ActionResult {
        stage(Change::Quarantine(reason.into()))
    }

    /// Replaces all recipients by a single address.
    pub fn redirect(to: &Address) -> ActionResult {
        stage(Change::Redirect(to.clone()))
    }

    /// Delays the reply, in milliseconds.
    pub fn delay_reply(milliseconds: u32) -> ActionResult {
        stage(Change::DelayReply(milliseconds))
    }

    /// Removes a capability from the EHLO reply.
    pub fn hide_capability(keyword: &str) -> ActionResult {
        stage(Change::HideCapability(keyword.into()))
    }

    /// Accepts a recipient with 250 and discards the copy.
    pub fn discard_recipient(index: u32, reason: &str) -> ActionResult {
        stage(Change::DiscardRecipient(index, reason.into()))
    }
}

/// Lookup tables of the server.
pub mod lookup {
    pub use crate::generated::waxwing::mail::lookup::LookupError;

    /// Returns the value of a key.
    pub fn get(table: &str, key: &str) -> Result<Option<String>, LookupError> {
        super::with_state(|s| match s.tables.get(table) {
            _ if s.broken_tables.iter().any(|t| t == table) => Err(LookupError::Unavailable("cannot be read".into())),
            Some(entries) => Ok(entries.get(key).cloned()),
            None => Err(LookupError::NotGranted),
        })
    }
}

/// Metrics of the plugin, ignored by the fake host.
pub mod metrics {
    /// Adds to a counter.
    pub fn count(_name: &str, _delta: u64) {}

    /// Records an observation.
    pub fn observe(_name: &str, _value: f64) {}
}
