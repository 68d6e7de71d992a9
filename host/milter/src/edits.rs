//! Conversion of the changes requested by a milter at the end of a message into edits of the pipeline.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr_iter};
use waxwing_pipeline::{Context, ContextRecipient, StagedChanges};
use waxwing_types::{Address, Edit, Parameter, ReversePath};

use crate::codec::{ActionFlags, MilterOptions, MilterResponse, ProtocolFlags};
use crate::error::MilterError;
use crate::header_editor::HeaderEditor;
use crate::settings::{EDIT_BYTES_MAX, MilterSettings};

/// Collects the changes of a message.
pub(crate) struct EditCollector<'m> {
    settings: &'m MilterSettings,
    options: &'m MilterOptions,
    header: HeaderEditor<'m>,
    recipients: &'m [ContextRecipient],
    /// Indexes of the recipients to remove.
    removed_recipients: Vec<u32>,
    added_recipients: Vec<(Address, Vec<Parameter>)>,
    sender: Option<(ReversePath, Vec<Parameter>)>,
    body: Option<BytesMut>,
    quarantine: Option<String>,
    count: usize,
    bytes: usize,
}

impl<'m> EditCollector<'m> {
    pub(crate) fn new(
        settings: &'m MilterSettings,
        terms: &'m MilterOptions,
        heads: HeaderEditor<'m>,
        context: &'m Context,
    ) -> Self {
        Self {
            settings,
            options: terms,
            header: heads,
            recipients: &context.recipients,
            removed_recipients: Vec::new(),
            added_recipients: Vec::new(),
            sender: None,
            body: None,
            quarantine: None,
            count: 0,
            bytes: 0,
        }
    }

    /// Collects a change. `Some`: the response is not a change.
    pub(crate) fn collect(&mut self, response: MilterResponse) -> Result<Option<MilterResponse>, MilterError> {
        let Some(needed) = required_actions(&response) else { return Ok(Some(response)) };
        if !needed.iter().any(|action| self.options.actions.has(*action)) {
            return Err(MilterError::Violation(format!("{} was not negotiated", response.name())));
        }
        if !matches!(response, MilterResponse::ReplaceBody(_)) {
            self.count += 1;
            if self.count > self.settings.edits_max {
                return Err(MilterError::LimitExceeded(format!("more than {} changes of one message", self.settings.edits_max)));
            }
        }
        match response {
            MilterResponse::AddHeader(name, value) => {
                let (name, value) = self.field(&name, value)?;
                self.header.add(name, value);
            }
            MilterResponse::InsertHeader(place, name, value) => {
                let (name, value) = self.field(&name, value)?;
                self.header.insert(place, name, value);
            }
            MilterResponse::ChangeHeader(number, name, value) => {
                let (name, value) = self.field(&name, value)?;
                self.header.change(number, name, value);
            }
            MilterResponse::ChangeSender(path, parameters) => {
                let text = self.text(&path, "CHGFROM")?;
                let sender = match strip_brackets(&text) {
                    "" => ReversePath::Null,
                    _ => ReversePath::Address(self.address(&text, "CHGFROM")?),
                };
                self.sender = Some((sender, self.parameters(parameters, "CHGFROM")?));
            }
            MilterResponse::AddRecipient(path) => self.add_recipient(&path, None)?,
            MilterResponse::AddRecipientWithParameters(path, parameters) => self.add_recipient(&path, parameters)?,
            MilterResponse::DeleteRecipient(path) => self.delete_recipient(&path)?,
            MilterResponse::ReplaceBody(piece) => self.replace_body(&piece)?,
            MilterResponse::Quarantine(reason) => self.quarantine = Some(printable(&self.text(&reason, "QUARANTINE")?)),
            MilterResponse::Negotiate(_)
            | MilterResponse::Continue
            | MilterResponse::Accept
            | MilterResponse::Reject
            | MilterResponse::TemporaryFailure
            | MilterResponse::Discard
            | MilterResponse::Skip
            | MilterResponse::Shutdown
            | MilterResponse::ConnectionFailure
            | MilterResponse::Progress
            | MilterResponse::ReplyCode(_) => return Ok(Some(response)),
        }
        Ok(None)
    }

    /// Returns all collected changes.
    pub(crate) fn into_changes(self) -> StagedChanges {
        let mut edits = self.header.into_edits();
        edits.extend(self.sender.map(|(sender, parameters)| Edit::SetSender(sender, parameters)));
        edits.extend(self.removed_recipients.into_iter().map(|index| Edit::RemoveRecipient { index }));
        edits.extend(self.added_recipients.into_iter().map(|(address, parameters)| Edit::AddRecipient(address, parameters)));
        edits.extend(self.body.map(|body| Edit::ReplaceBody(normalize_line_ends(body.freeze()))));
        StagedChanges { edits, quarantine: self.quarantine, ..StagedChanges::default() }
    }

    fn count_bytes(&mut self, octets: usize) -> Result<(), MilterError> {
        self.bytes += octets;
        match self.bytes > EDIT_BYTES_MAX {
            true => Err(MilterError::LimitExceeded(format!("changes of more than {EDIT_BYTES_MAX} octets"))),
            false => Ok(()),
        }
    }

    fn text(&mut self, octets: &[u8], what: &str) -> Result<String, MilterError> {
        self.count_bytes(octets.len())?;
        match std::str::from_utf8(octets) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(_) => Err(MilterError::Violation(format!("{what} is not valid UTF-8"))),
        }
    }

    /// Converts name and value of a field to the form of an edit: a single space after the colon, no line end.
    fn field(&mut self, name: &[u8], value: Bytes) -> Result<(String, Bytes), MilterError> {
        let name = self.text(name, "the name of a header field")?;
        self.count_bytes(value.len())?;
        let end = value.len() - value.iter().rev().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
        let start = match value.first() {
            Some(b' ') if self.options.protocol.has(ProtocolFlags::HEADER_LEADING_SPACE) => 1,
            Some(_) | None => 0,
        };
        Ok((name, value.slice(start.min(end)..end)))
    }

    fn address(&self, text: &str, what: &str) -> Result<Address, MilterError> {
        let wrong = |error: &dyn std::fmt::Display| MilterError::Violation(format!("{what} with {text:?}: {error}"));
        let address = Address::parse(strip_brackets(text)).map_err(|e| wrong(&e))?;
        if address.has_no_domain() { address.with_domain(&self.settings.origin).map_err(|e| wrong(&e)) } else { Ok(address) }
    }

    /// Parses ESMTP parameters: `KEYWORD=value KEYWORD`.
    fn parameters(&mut self, octets: Option<Bytes>, what: &str) -> Result<Vec<Parameter>, MilterError> {
        let text = self.text(&octets.unwrap_or_default(), what)?;
        let one = |word: &str| match word.split_once('=') {
            Some((name, value)) => (name.to_ascii_uppercase(), Some(value.to_owned())),
            None => (word.to_ascii_uppercase(), None),
        };
        Ok(text.split_ascii_whitespace().map(one).collect())
    }

    fn add_recipient(&mut self, path: &[u8], parameters: Option<Bytes>) -> Result<(), MilterError> {
        let text = self.text(path, "ADDRCPT")?;
        let address = self.address(&text, "ADDRCPT")?;
        let parameters = self.parameters(parameters, "ADDRCPT_PAR")?;
        let is_there =
            self.recipients.iter().any(|r| r.recipient.address == address && !self.removed_recipients.contains(&r.index));
        if !is_there && !self.added_recipients.iter().any(|(new, _)| *new == address) {
            self.added_recipients.push((address, parameters));
        }
        Ok(())
    }

    /// Removes a recipient from the message; an unknown recipient is no error.
    fn delete_recipient(&mut self, path: &[u8]) -> Result<(), MilterError> {
        let text = self.text(path, "DELRCPT")?;
        let key = self.address(&text, "DELRCPT")?.lookup_key();
        self.added_recipients.retain(|(new, _)| new.lookup_key() != key);
        for recipient in self.recipients {
            if recipient.recipient.address.lookup_key() == key && !self.removed_recipients.contains(&recipient.index) {
                self.removed_recipients.push(recipient.index);
            }
        }
        Ok(())
    }

    fn replace_body(&mut self, piece: &[u8]) -> Result<(), MilterError> {
        let body = self.body.get_or_insert_default();
        if body.len() + piece.len() > self.settings.body_bytes_max {
            return Err(MilterError::LimitExceeded(format!("a new body of more than {} octets", self.settings.body_bytes_max)));
        }
        body.extend_from_slice(piece);
        Ok(())
    }
}

/// Returns the actions that permit the change, at least one of them negotiated; `None` if the response is not a
/// change.
fn required_actions(response: &MilterResponse) -> Option<&'static [ActionFlags]> {
    match response {
        MilterResponse::AddHeader(..) | MilterResponse::InsertHeader(..) => Some(&[ActionFlags::ADD_HEADERS]),
        MilterResponse::ChangeHeader(..) => Some(&[ActionFlags::CHANGE_HEADERS]),
        MilterResponse::ChangeSender(..) => Some(&[ActionFlags::CHANGE_SENDER]),
        MilterResponse::AddRecipient(_) => Some(&[ActionFlags::ADD_RECIPIENTS, ActionFlags::ADD_RECIPIENTS_WITH_PARAMETERS]),
        MilterResponse::AddRecipientWithParameters(..) => Some(&[ActionFlags::ADD_RECIPIENTS_WITH_PARAMETERS]),
        MilterResponse::DeleteRecipient(_) => Some(&[ActionFlags::DELETE_RECIPIENTS]),
        MilterResponse::ReplaceBody(_) => Some(&[ActionFlags::CHANGE_BODY]),
        MilterResponse::Quarantine(_) => Some(&[ActionFlags::QUARANTINE]),
        MilterResponse::Negotiate(_)
        | MilterResponse::Continue
        | MilterResponse::Accept
        | MilterResponse::Reject
        | MilterResponse::TemporaryFailure
        | MilterResponse::Discard
        | MilterResponse::Skip
        | MilterResponse::Shutdown
        | MilterResponse::ConnectionFailure
        | MilterResponse::Progress
        | MilterResponse::ReplyCode(_) => None,
    }
}

fn strip_brackets(text: &str) -> &str {
    text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text)
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Normalizes line ends to CR LF, because some milters send bare LF.
fn normalize_line_ends(body: Bytes) -> Bytes {
    let bare = |at: usize| at == 0 || body.get(at - 1) != Some(&b'\r');
    if memchr(b'\n', &body).is_none() || !memchr_iter(b'\n', &body).any(bare) {
        return body;
    }
    let (mut out, mut from) = (BytesMut::with_capacity(body.len() + body.len() / 16), 0);
    for at in memchr_iter(b'\n', &body).filter(|at| bare(*at)) {
        out.extend_from_slice(body.get(from..at).unwrap_or_default());
        out.extend_from_slice(b"\r\n");
        from = at + 1;
    }
    out.extend_from_slice(body.get(from..).unwrap_or_default());
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_crlf() {
        for (body, wanted) in [("", ""), ("a", "a"), ("a\r\nb\r\n", "a\r\nb\r\n"), ("\na\nb\r\n\n", "\r\na\r\nb\r\n\r\n")] {
            assert_eq!(normalize_line_ends(Bytes::from_static(body.as_bytes())), wanted.as_bytes(), "{body:?}");
        }
    }
}
