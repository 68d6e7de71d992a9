//! `edit`: changes to message and envelope, staged until the call returns.

use wasmtime::Result;
use waxwing_bindings::imports::edit::{Address, EditError, Host, ReversePath};
use waxwing_types::{Edit, Parameter};

use crate::answer;
use crate::rules::Act;
use crate::state::State;

type Edited = Result<std::result::Result<(), EditError>>;

/// ESMTP parameters of one address that a guest may give.
const PARAMETERS_MAX: usize = 20;

impl State {
    /// Stages an edit that is well formed and allowed here.
    fn stage(&mut self, act: Act, octets: usize, make: impl FnOnce(&Self) -> std::result::Result<Edit, EditError>) -> Edited {
        if let Err(refusal) = self.may_edit(act, octets) {
            return Ok(Err(refusal));
        }
        Ok(make(self).map(|edit| self.call.changes.edits.push(edit)))
    }

    fn may_edit(&mut self, act: Act, octets: usize) -> std::result::Result<(), EditError> {
        if !self.shared.grants.edit {
            return Err(EditError::NotGranted);
        }
        if !self.call.allows(act) {
            let hook = self.call.hook.map_or("on-load", waxwing_pipeline::Hook::as_str);
            return Err(EditError::NotHere(format!("not possible at {hook}")));
        }
        if self.may_stage(octets) { Ok(()) } else { Err(EditError::TooLarge(self.shared.limits.edit_bytes_max as u64)) }
    }
}

fn malformed(error: impl ToString) -> EditError {
    EditError::Malformed(error.to_string())
}

fn well_formed(name: &str, value: &[u8]) -> std::result::Result<(), EditError> {
    waxwing_message::Field::new(name, value).map(drop).map_err(malformed)
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
    answer::address(address).map_err(EditError::Malformed)
}

impl Host for State {
    fn add_header(&mut self, name: String, value: Vec<u8>) -> Edited {
        self.stage(Act::EditHeader, name.len() + value.len(), |_| {
            well_formed(&name, &value)?;
            Ok(Edit::AddHeader { name, value: value.into() })
        })
    }

    fn insert_header(&mut self, at: u32, name: String, value: Vec<u8>) -> Edited {
        self.stage(Act::EditHeader, name.len() + value.len(), |_| {
            well_formed(&name, &value)?;
            Ok(Edit::InsertHeader { at, name, value: value.into() })
        })
    }

    fn replace_header(&mut self, name: String, nth: u32, value: Vec<u8>) -> Edited {
        self.stage(Act::EditHeader, name.len() + value.len(), |state| {
            well_formed(&name, &value)?;
            state.field_exists(&name, nth)?;
            Ok(Edit::ReplaceHeader { name, nth, value: value.into() })
        })
    }

    fn remove_header(&mut self, name: String, nth: u32) -> Edited {
        self.stage(Act::EditHeader, name.len(), |state| {
            state.field_exists(&name, nth)?;
            Ok(Edit::RemoveHeader { name, nth })
        })
    }

    fn set_sender(&mut self, sender: ReversePath, list: Vec<(String, Option<String>)>) -> Edited {
        self.stage(Act::SetSender, 256, |_| {
            let sender = match sender {
                None => waxwing_types::ReversePath::Null,
                Some(sender) => waxwing_types::ReversePath::Of(address(sender)?),
            };
            Ok(Edit::SetSender(sender, parameters(list)?))
        })
    }

    fn add_recipient(&mut self, recipient: Address, list: Vec<(String, Option<String>)>) -> Edited {
        self.stage(Act::EditRecipients, 256, |_| Ok(Edit::AddRecipient(address(recipient)?, parameters(list)?)))
    }

    fn change_recipient(&mut self, index: u32, to: Address) -> Edited {
        self.stage(Act::EditRecipients, 256, |state| {
            state.recipient_exists(index)?;
            Ok(Edit::ChangeRecipient { index, to: address(to)? })
        })
    }

    fn remove_recipient(&mut self, index: u32) -> Edited {
        self.stage(Act::EditRecipients, 8, |state| {
            state.recipient_exists(index)?;
            Ok(Edit::RemoveRecipient { index })
        })
    }

    fn drop_part(&mut self, _index: u32) -> Edited {
        Ok(Err(EditError::NotHere("parts cannot be edited in this version of the server".to_owned())))
    }

    fn replace_part(&mut self, _index: u32, _content_type: String, _content: Vec<u8>) -> Edited {
        Ok(Err(EditError::NotHere("parts cannot be edited in this version of the server".to_owned())))
    }

    fn add_part(&mut self, _content_type: String, _filename: Option<String>, _content: Vec<u8>) -> Edited {
        Ok(Err(EditError::NotHere("parts cannot be edited in this version of the server".to_owned())))
    }

    fn write_body(&mut self, chunk: Vec<u8>) -> Edited {
        if let Err(refusal) = self.may_edit(Act::EditBody, 0) {
            return Ok(Err(refusal));
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

impl State {
    fn field_exists(&self, name: &str, nth: u32) -> std::result::Result<(), EditError> {
        let count = self.call.context.head.as_ref().map_or(0, |head| head.count(name));
        if (nth as usize) < count { Ok(()) } else { Err(malformed(format!("there is no field {name}[{nth}]"))) }
    }

    fn recipient_exists(&self, index: u32) -> std::result::Result<(), EditError> {
        let found = self.call.context.recipients.iter().any(|r| r.index == index);
        if found { Ok(()) } else { Err(malformed(format!("there is no recipient {index}"))) }
    }
}
