//! Conversion of the changes requested by a milter at the end of a message into edits of the pipeline.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr_iter};
use waxwing_pipeline::{Changes, Context, ContextRecipient};
use waxwing_types::{Address, Edit, Parameter, ReversePath};

use crate::codec::{Actions, Response, Steps, Terms};
use crate::heads::Heads;
use crate::settings::{EDIT_BYTES_MAX, MilterSettings};
use crate::trouble::Trouble;

/// Collects the changes of a message.
pub(crate) struct Edits<'m> {
    settings: &'m MilterSettings,
    terms: &'m Terms,
    heads: Heads<'m>,
    recipients: &'m [ContextRecipient],
    /// Indexes of the recipients to remove.
    gone: Vec<u32>,
    new: Vec<(Address, Vec<Parameter>)>,
    sender: Option<(ReversePath, Vec<Parameter>)>,
    body: Option<BytesMut>,
    quarantine: Option<String>,
    count: usize,
    octets: usize,
}

impl<'m> Edits<'m> {
    pub(crate) fn new(settings: &'m MilterSettings, terms: &'m Terms, heads: Heads<'m>, context: &'m Context) -> Self {
        Self {
            settings,
            terms,
            heads,
            recipients: &context.recipients,
            gone: Vec::new(),
            new: Vec::new(),
            sender: None,
            body: None,
            quarantine: None,
            count: 0,
            octets: 0,
        }
    }

    /// Collects a change. `Some`: the response is not a change.
    pub(crate) fn take(&mut self, response: Response) -> Result<Option<Response>, Trouble> {
        let Some(needed) = needed(&response) else { return Ok(Some(response)) };
        if !needed.iter().any(|action| self.terms.actions.has(*action)) {
            return Err(Trouble::Violation(format!("{} was not negotiated", response.name())));
        }
        if !matches!(response, Response::ReplaceBody(_)) {
            self.count += 1;
            if self.count > self.settings.edits_max {
                return Err(Trouble::Limit(format!("more than {} changes of one message", self.settings.edits_max)));
            }
        }
        match response {
            Response::AddHeader(name, value) => {
                let (name, value) = self.field(&name, value)?;
                self.heads.add(name, value);
            }
            Response::InsertHeader(place, name, value) => {
                let (name, value) = self.field(&name, value)?;
                self.heads.insert(place, name, value);
            }
            Response::ChangeHeader(number, name, value) => {
                let (name, value) = self.field(&name, value)?;
                self.heads.change(number, name, value);
            }
            Response::ChangeSender(path, parameters) => {
                let text = self.text(&path, "CHGFROM")?;
                let sender = match without_brackets(&text) {
                    "" => ReversePath::Null,
                    _ => ReversePath::Of(self.address(&text, "CHGFROM")?),
                };
                self.sender = Some((sender, self.parameters(parameters, "CHGFROM")?));
            }
            Response::AddRecipient(path) => self.add_recipient(&path, None)?,
            Response::AddRecipientWithParameters(path, parameters) => self.add_recipient(&path, parameters)?,
            Response::DeleteRecipient(path) => self.delete_recipient(&path)?,
            Response::ReplaceBody(piece) => self.replace_body(&piece)?,
            Response::Quarantine(reason) => self.quarantine = Some(printable(&self.text(&reason, "QUARANTINE")?)),
            Response::Negotiated(_)
            | Response::Continue
            | Response::Accept
            | Response::Reject
            | Response::TemporaryFailure
            | Response::Discard
            | Response::Skip
            | Response::Shutdown
            | Response::ConnectionFailure
            | Response::Progress
            | Response::ReplyCode(_) => return Ok(Some(response)),
        }
        Ok(None)
    }

    /// Returns all collected changes.
    pub(crate) fn into_changes(self) -> Changes {
        let mut edits = self.heads.into_edits();
        edits.extend(self.sender.map(|(sender, parameters)| Edit::SetSender(sender, parameters)));
        edits.extend(self.gone.into_iter().map(|index| Edit::RemoveRecipient { index }));
        edits.extend(self.new.into_iter().map(|(address, parameters)| Edit::AddRecipient(address, parameters)));
        edits.extend(self.body.map(|body| Edit::ReplaceBody(with_crlf(body.freeze()))));
        Changes { edits, quarantine: self.quarantine, ..Changes::default() }
    }

    fn count_octets(&mut self, octets: usize) -> Result<(), Trouble> {
        self.octets += octets;
        match self.octets > EDIT_BYTES_MAX {
            true => Err(Trouble::Limit(format!("changes of more than {EDIT_BYTES_MAX} octets"))),
            false => Ok(()),
        }
    }

    fn text(&mut self, octets: &[u8], what: &str) -> Result<String, Trouble> {
        self.count_octets(octets.len())?;
        match std::str::from_utf8(octets) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(_) => Err(Trouble::Violation(format!("{what} is not valid UTF-8"))),
        }
    }

    /// Converts name and value of a field to the form of an edit: a single space after the colon, no line end.
    fn field(&mut self, name: &[u8], value: Bytes) -> Result<(String, Bytes), Trouble> {
        let name = self.text(name, "the name of a header field")?;
        self.count_octets(value.len())?;
        let end = value.len() - value.iter().rev().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
        let start = match value.first() {
            Some(b' ') if self.terms.steps.has(Steps::HEADER_LEADING_SPACE) => 1,
            Some(_) | None => 0,
        };
        Ok((name, value.slice(start.min(end)..end)))
    }

    fn address(&self, text: &str, what: &str) -> Result<Address, Trouble> {
        let wrong = |error: &dyn std::fmt::Display| Trouble::Violation(format!("{what} with {text:?}: {error}"));
        let address = Address::parse(without_brackets(text)).map_err(|e| wrong(&e))?;
        if address.is_bare() { address.with_domain(&self.settings.origin).map_err(|e| wrong(&e)) } else { Ok(address) }
    }

    /// Parses ESMTP parameters: `KEYWORD=value KEYWORD`.
    fn parameters(&mut self, octets: Option<Bytes>, what: &str) -> Result<Vec<Parameter>, Trouble> {
        let text = self.text(&octets.unwrap_or_default(), what)?;
        let one = |word: &str| match word.split_once('=') {
            Some((name, value)) => (name.to_ascii_uppercase(), Some(value.to_owned())),
            None => (word.to_ascii_uppercase(), None),
        };
        Ok(text.split_ascii_whitespace().map(one).collect())
    }

    fn add_recipient(&mut self, path: &[u8], parameters: Option<Bytes>) -> Result<(), Trouble> {
        let text = self.text(path, "ADDRCPT")?;
        let address = self.address(&text, "ADDRCPT")?;
        let parameters = self.parameters(parameters, "ADDRCPT_PAR")?;
        let is_there = self.recipients.iter().any(|r| r.recipient.address == address && !self.gone.contains(&r.index));
        if !is_there && !self.new.iter().any(|(new, _)| *new == address) {
            self.new.push((address, parameters));
        }
        Ok(())
    }

    /// Removes a recipient from the message; an unknown recipient is no error.
    fn delete_recipient(&mut self, path: &[u8]) -> Result<(), Trouble> {
        let text = self.text(path, "DELRCPT")?;
        let key = self.address(&text, "DELRCPT")?.lookup_key();
        self.new.retain(|(new, _)| new.lookup_key() != key);
        for recipient in self.recipients {
            if recipient.recipient.address.lookup_key() == key && !self.gone.contains(&recipient.index) {
                self.gone.push(recipient.index);
            }
        }
        Ok(())
    }

    fn replace_body(&mut self, piece: &[u8]) -> Result<(), Trouble> {
        let body = self.body.get_or_insert_default();
        if body.len() + piece.len() > self.settings.body_bytes_max {
            return Err(Trouble::Limit(format!("a new body of more than {} octets", self.settings.body_bytes_max)));
        }
        body.extend_from_slice(piece);
        Ok(())
    }
}

/// Returns the actions that permit the change, at least one of them negotiated; `None` if the response is not a
/// change.
fn needed(response: &Response) -> Option<&'static [Actions]> {
    match response {
        Response::AddHeader(..) | Response::InsertHeader(..) => Some(&[Actions::ADD_HEADERS]),
        Response::ChangeHeader(..) => Some(&[Actions::CHANGE_HEADERS]),
        Response::ChangeSender(..) => Some(&[Actions::CHANGE_SENDER]),
        Response::AddRecipient(_) => Some(&[Actions::ADD_RECIPIENTS, Actions::ADD_RECIPIENTS_WITH_PARAMETERS]),
        Response::AddRecipientWithParameters(..) => Some(&[Actions::ADD_RECIPIENTS_WITH_PARAMETERS]),
        Response::DeleteRecipient(_) => Some(&[Actions::DELETE_RECIPIENTS]),
        Response::ReplaceBody(_) => Some(&[Actions::CHANGE_BODY]),
        Response::Quarantine(_) => Some(&[Actions::QUARANTINE]),
        Response::Negotiated(_)
        | Response::Continue
        | Response::Accept
        | Response::Reject
        | Response::TemporaryFailure
        | Response::Discard
        | Response::Skip
        | Response::Shutdown
        | Response::ConnectionFailure
        | Response::Progress
        | Response::ReplyCode(_) => None,
    }
}

fn without_brackets(text: &str) -> &str {
    text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text)
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Normalizes line ends to CR LF, because some milters send bare LF.
fn with_crlf(body: Bytes) -> Bytes {
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
            assert_eq!(with_crlf(Bytes::from_static(body.as_bytes())), wanted.as_bytes(), "{body:?}");
        }
    }
}
