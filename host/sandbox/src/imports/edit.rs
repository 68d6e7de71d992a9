//! Interface `edit`: changes of message and envelope, staged until the call returns.

use wasmtime::Result;
use waxwing_bindings::imports::edit::{Address, EditError, Host, ReversePath};
use waxwing_message::{NewPart, PartEdit, PartEditError, StagedPartEdits, is_content_field_name};
use waxwing_types::{Edit, Parameter};

use crate::from_wit;
use crate::imports::content::PartsUnavailable;
use crate::permissions::Operation;
use crate::state::InstanceState;

type StagedEdit = Result<std::result::Result<(), EditError>>;

/// Maximum number of ESMTP parameters of one address.
const PARAMETERS_MAX: usize = 20;

impl InstanceState {
    /// Stages an edit that is well formed and allowed at this hook.
    fn stage_edit(
        &mut self,
        act: Operation,
        octets: usize,
        make: impl FnOnce(&Self) -> std::result::Result<Edit, EditError>,
    ) -> StagedEdit {
        if let Err(refusal) = self.may_edit(act, octets) {
            return Ok(Err(refusal));
        }
        Ok(make(self).map(|edit| self.call.changes.edits.push(edit)))
    }

    fn may_edit(&mut self, act: Operation, octets: usize) -> std::result::Result<(), EditError> {
        if !self.shared.grants.edit {
            return Err(EditError::NotGranted);
        }
        if !self.call.allows(act) {
            let hook = self.call.hook.map_or("on-load", waxwing_pipeline::Hook::as_str);
            return Err(EditError::NotHere(format!("not possible at {hook}")));
        }
        if self.count_staged(octets) { Ok(()) } else { Err(EditError::TooLarge(self.shared.limits.edit_bytes_max as u64)) }
    }
}

fn malformed(error: impl ToString) -> EditError {
    EditError::Malformed(error.to_string())
}

fn check_field(name: &str, value: &[u8]) -> std::result::Result<(), EditError> {
    waxwing_message::Field::new(name, value).map(drop).map_err(malformed)
}

/// Returns the field name of a header edit.
fn edited_field(edit: &Edit) -> Option<&str> {
    match edit {
        Edit::AddHeader { name, .. }
        | Edit::InsertHeader { name, .. }
        | Edit::ReplaceHeader { name, .. }
        | Edit::RemoveHeader { name, .. } => Some(name),
        Edit::SetSender(..)
        | Edit::AddRecipient(..)
        | Edit::ChangeRecipient { .. }
        | Edit::RemoveRecipient { .. }
        | Edit::ReplaceBody(_)
        | Edit::Tag { .. } => None,
    }
}

impl From<PartsUnavailable> for EditError {
    fn from(why: PartsUnavailable) -> Self {
        match why {
            PartsUnavailable::NotHere => Self::NotHere("the message is not complete".to_owned()),
            PartsUnavailable::TooLarge(max) => Self::TooLarge(max),
            PartsUnavailable::TooManyParts(error) => Self::Malformed(error.to_string()),
        }
    }
}

fn part_error(error: PartEditError) -> EditError {
    let text = error.to_string();
    match error {
        PartEditError::RootPart | PartEditError::EnclosedMessage(_) | PartEditError::SignedOrEncrypted(_) => {
            EditError::NotHere(text)
        }
        PartEditError::NoSuchPart(_)
        | PartEditError::BadContentType
        | PartEditError::HeaderTooLong
        | PartEditError::Field(_)
        | PartEditError::TooManyParts(_) => EditError::Malformed(text),
    }
}

fn parameters(list: Vec<(String, Option<String>)>) -> std::result::Result<Vec<Parameter>, EditError> {
    let keyword = |k: &str| !k.is_empty() && k.len() <= 64 && k.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let value = |v: &str| v.len() <= 1000 && v.bytes().all(|b| b.is_ascii_graphic() && b != b'=');
    let ok = list.len() <= PARAMETERS_MAX && list.iter().all(|(k, v)| keyword(k) && v.as_deref().is_none_or(value));
    if !ok {
        return Err(malformed("an ESMTP parameter is a keyword, and a value without spaces and ="));
    }
    Ok(list.into_iter().map(|(k, v)| (k.to_ascii_uppercase(), v)).collect())
}

fn address(address: Address) -> std::result::Result<waxwing_types::Address, EditError> {
    from_wit::address(address).map_err(EditError::Malformed)
}

impl Host for InstanceState {
    fn add_header(&mut self, name: String, value: Vec<u8>) -> StagedEdit {
        self.called("edit.add-header");
        self.stage_edit(Operation::EditHeader, name.len() + value.len(), |state| {
            state.may_edit_field(&name)?;
            check_field(&name, &value)?;
            Ok(Edit::AddHeader { name, value: value.into() })
        })
    }

    fn insert_header(&mut self, at: u32, name: String, value: Vec<u8>) -> StagedEdit {
        self.called("edit.insert-header");
        self.stage_edit(Operation::EditHeader, name.len() + value.len(), |state| {
            state.may_edit_field(&name)?;
            check_field(&name, &value)?;
            Ok(Edit::InsertHeader { at, name, value: value.into() })
        })
    }

    fn replace_header(&mut self, name: String, nth: u32, value: Vec<u8>) -> StagedEdit {
        self.called("edit.replace-header");
        self.stage_edit(Operation::EditHeader, name.len() + value.len(), |state| {
            state.may_edit_field(&name)?;
            check_field(&name, &value)?;
            state.field_exists(&name, nth)?;
            Ok(Edit::ReplaceHeader { name, nth, value: value.into() })
        })
    }

    fn remove_header(&mut self, name: String, nth: u32) -> StagedEdit {
        self.called("edit.remove-header");
        self.stage_edit(Operation::EditHeader, name.len(), |state| {
            state.may_edit_field(&name)?;
            state.field_exists(&name, nth)?;
            Ok(Edit::RemoveHeader { name, nth })
        })
    }

    fn set_sender(&mut self, sender: ReversePath, list: Vec<(String, Option<String>)>) -> StagedEdit {
        self.called("edit.set-sender");
        self.stage_edit(Operation::SetSender, 256, |_| {
            let sender = match sender {
                None => waxwing_types::ReversePath::Null,
                Some(sender) => waxwing_types::ReversePath::Address(address(sender)?),
            };
            Ok(Edit::SetSender(sender, parameters(list)?))
        })
    }

    fn add_recipient(&mut self, recipient: Address, list: Vec<(String, Option<String>)>) -> StagedEdit {
        self.called("edit.add-recipient");
        self.stage_edit(Operation::EditRecipients, 256, |_| Ok(Edit::AddRecipient(address(recipient)?, parameters(list)?)))
    }

    fn change_recipient(&mut self, index: u32, to: Address) -> StagedEdit {
        self.called("edit.change-recipient");
        self.stage_edit(Operation::EditRecipients, 256, |state| {
            state.recipient_exists(index)?;
            Ok(Edit::ChangeRecipient { index, to: address(to)? })
        })
    }

    fn remove_recipient(&mut self, index: u32) -> StagedEdit {
        self.called("edit.remove-recipient");
        self.stage_edit(Operation::EditRecipients, 8, |state| {
            state.recipient_exists(index)?;
            Ok(Edit::RemoveRecipient { index })
        })
    }

    async fn drop_part(&mut self, index: u32) -> StagedEdit {
        self.called("edit.drop-part");
        self.stage_part_edit(0, 0, PartEdit::Drop(index)).await
    }

    async fn replace_part(&mut self, index: u32, content_type: String, content: Vec<u8>) -> StagedEdit {
        self.called("edit.replace-part");
        let part = NewPart { content_type, filename: None, content: content.into() };
        self.stage_part_edit(part.content_type.len(), part.content.len(), PartEdit::Replace(index, part)).await
    }

    async fn add_part(&mut self, content_type: String, filename: Option<String>, content: Vec<u8>) -> StagedEdit {
        self.called("edit.add-part");
        let part = NewPart { content_type, filename, content: content.into() };
        let description_bytes = part.content_type.len() + part.filename.as_ref().map_or(0, String::len);
        self.stage_part_edit(description_bytes, part.content.len(), PartEdit::Add(part)).await
    }

    fn write_body(&mut self, chunk: Vec<u8>) -> StagedEdit {
        self.called("edit.write-body");
        if let Err(refusal) = self.may_edit(Operation::EditBody, 0) {
            return Ok(Err(refusal));
        }
        if self.call.part_edits.is_some() {
            return Ok(Err(EditError::NotHere("parts were edited in this call".to_owned())));
        }
        let max = self.shared.limits.body_bytes_max;
        let body = self.call.body.get_or_insert_default();
        if body.len().saturating_add(chunk.len()) > max {
            return Ok(Err(EditError::TooLarge(max as u64)));
        }
        body.extend_from_slice(&chunk);
        Ok(Ok(()))
    }
}

impl InstanceState {
    /// Stages an edit of parts, parsing the message first if necessary. `description_bytes` and `content_bytes`: size in bytes
    /// of the part's description and of the part's content.
    async fn stage_part_edit(&mut self, description_bytes: usize, content_bytes: usize, edit: PartEdit) -> StagedEdit {
        let refusal = self.may_edit(Operation::EditBody, description_bytes).and_then(|()| self.may_edit_parts(content_bytes));
        if let Err(refusal) = refusal {
            return Ok(Err(refusal));
        }
        let parts = match self.parse_parts().await? {
            Ok(parts) => parts,
            Err(why) => return Ok(Err(why.into())),
        };
        let Some(head) = self.call.context.header.clone() else { return Ok(Err(PartsUnavailable::NotHere.into())) };
        let mut staged = self.call.part_edits.take().unwrap_or_else(|| StagedPartEdits::new(head, parts));
        let pushed = staged.push(edit);
        if pushed.is_ok() {
            self.call.part_bytes += content_bytes;
        }
        self.call.part_edits = Some(staged).filter(|staged| !staged.is_empty());
        Ok(pushed.map_err(part_error))
    }

    /// Checks that a call either replaces the body or edits parts, and that a call that edits parts leaves the MIME header
    /// fields unchanged.
    fn may_edit_parts(&self, content_bytes: usize) -> std::result::Result<(), EditError> {
        let max = self.shared.limits.body_bytes_max;
        if self.call.body.is_some() {
            return Err(EditError::NotHere("write-body was called in this call".to_owned()));
        }
        if self.call.changes.edits.iter().any(|edit| edited_field(edit).is_some_and(is_content_field_name)) {
            return Err(EditError::NotHere("a Content-... or MIME-Version field was edited in this call".to_owned()));
        }
        if self.call.part_bytes.saturating_add(content_bytes) > max { Err(EditError::TooLarge(max as u64)) } else { Ok(()) }
    }

    fn may_edit_field(&self, name: &str) -> std::result::Result<(), EditError> {
        match self.call.part_edits {
            Some(_) if is_content_field_name(name) => Err(EditError::NotHere("parts were edited in this call".to_owned())),
            Some(_) | None => Ok(()),
        }
    }

    fn field_exists(&self, name: &str, nth: u32) -> std::result::Result<(), EditError> {
        let count = self.call.context.header.as_ref().map_or(0, |head| head.count(name));
        if (nth as usize) < count { Ok(()) } else { Err(malformed(format!("there is no field {name}[{nth}]"))) }
    }

    fn recipient_exists(&self, index: u32) -> std::result::Result<(), EditError> {
        let exists = self.call.context.recipients.iter().any(|r| r.index == index);
        if exists { Ok(()) } else { Err(malformed(format!("there is no recipient {index}"))) }
    }
}
