//! Header block of a message: fields in order, in received form, and the edits made by hooks.

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use waxwing_types::Edit;

use crate::{Field, FieldError};

/// All header fields of a message, and whether an empty line follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderBlock {
    fields: Vec<Field>,
    separator: bool,
}

/// Reason for refusing a header edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderEditError {
    /// The new field is malformed.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// No such field at the start of the call, or the field was removed by an earlier edit.
    #[error("there is no such header field")]
    NoSuchField,
}

impl HeaderBlock {
    /// Splits octets found by [`crate::HeaderSplitter`] into fields. `separator`: an empty line followed.
    #[must_use]
    pub fn parse(raw: Bytes, separator: bool) -> Self {
        let mut fields = Vec::with_capacity(16);
        let mut start = 0;
        let mut at = 0;
        while let Some(length) = raw.get(at..).and_then(|rest| memchr(b'\n', rest)) {
            at += length + 1;
            if !matches!(raw.get(at), Some(b' ' | b'\t')) {
                fields.extend(Field::from_raw(raw.slice(start..at)));
                start = at;
            }
        }
        if start < raw.len() {
            fields.extend(Field::from_raw(raw.slice(start..)));
        }
        Self { fields, separator }
    }

    /// Returns the fields in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Returns the first field with the given name, ignoring case.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.has_name(name))
    }

    /// Number of fields with the given name.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|f| f.has_name(name)).count()
    }

    /// Size of all fields in octets, without the empty line.
    #[must_use]
    pub fn size(&self) -> usize {
        self.fields.iter().map(|f| f.raw().len()).sum()
    }

    /// Inserts a field above all others.
    pub fn prepend(&mut self, field: Field) {
        self.fields.insert(0, field);
    }

    /// Adds a field below all others.
    pub fn append(&mut self, field: Field) {
        self.fields.push(field);
    }

    /// Replaces the field at `index`; no effect if out of range.
    pub fn set(&mut self, index: usize, field: Field) {
        if let Some(position) = self.fields.get_mut(index) {
            *position = field;
        }
    }

    /// Returns the octets as stored and delivered: fields and the empty line. The empty line is left out only if the
    /// message had none and has no body to separate from the fields.
    #[must_use]
    pub fn to_bytes(&self, body_is_empty: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size() + 2);
        for field in &self.fields {
            out.extend_from_slice(field.raw());
        }
        if self.separator || !body_is_empty {
            out.extend_from_slice(b"\r\n");
        }
        out.freeze()
    }

    /// Applies the header edits among `edits` in order; indexes refer to the present header block. Nothing is changed
    /// on error.
    pub fn apply<'e>(&mut self, edits: impl IntoIterator<Item = &'e Edit>) -> Result<(), HeaderEditError> {
        let mut slots: Vec<(Option<usize>, Field)> = self.fields.iter().cloned().enumerate().map(|(i, f)| (Some(i), f)).collect();
        for edit in edits {
            match edit {
                Edit::AddHeader { name, value } => slots.push((None, Field::new(name, value)?)),
                Edit::InsertHeader { at, name, value } => {
                    let field = Field::new(name, value)?;
                    let below = slots.iter().position(|(i, _)| i.is_some_and(|i| i >= *at as usize));
                    let position = if *at == 0 { 0 } else { below.unwrap_or(slots.len()) };
                    slots.insert(position, (None, field));
                }
                Edit::ReplaceHeader { name, nth, value } => {
                    let position = self.slot_position(&slots, name, *nth)?;
                    if let Some(slot) = slots.get_mut(position) {
                        slot.1 = Field::new(name, value)?;
                    }
                }
                Edit::RemoveHeader { name, nth } => {
                    let position = self.slot_position(&slots, name, *nth)?;
                    slots.remove(position);
                }
                Edit::SetSender(..)
                | Edit::AddRecipient(..)
                | Edit::ChangeRecipient { .. }
                | Edit::RemoveRecipient { .. }
                | Edit::ReplaceBody(_)
                | Edit::Tag { .. } => {}
            }
        }
        self.fields = slots.into_iter().map(|(_, field)| field).collect();
        Ok(())
    }

    /// Position among the slots of the `nth` field with the given name, counted in the header block before the edits.
    fn slot_position(&self, slots: &[(Option<usize>, Field)], name: &str, nth: u32) -> Result<usize, HeaderEditError> {
        let field = self.fields.iter().enumerate().filter(|(_, f)| f.has_name(name)).nth(nth as usize);
        let (index, _) = field.ok_or(HeaderEditError::NoSuchField)?;
        slots.iter().position(|(i, _)| *i == Some(index)).ok_or(HeaderEditError::NoSuchField)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &'static str) -> HeaderBlock {
        HeaderBlock::parse(Bytes::from_static(text.as_bytes()), true)
    }

    fn text(block: &HeaderBlock) -> String {
        String::from_utf8(block.to_bytes(false).to_vec()).unwrap()
    }

    #[test]
    fn keeps_octets_as_they_came() {
        let source = "Subject:  odd\r\n\tspacing \r\nX-Y:z\r\n";
        let b = block(source);
        assert_eq!(text(&b), format!("{source}\r\n"));
        assert_eq!(b.fields()[0].unfolded(), "odd\tspacing");
        assert_eq!((b.fields()[1].name(), b.fields()[1].value()), ("X-Y", &b"z"[..]));
    }

    #[test]
    fn indexes_mean_what_the_call_found() {
        let mut b = block("A: 0\r\nB: 0\r\nA: 1\r\n");
        b.apply(&[
            Edit::RemoveHeader { name: "a".into(), nth: 0 },
            Edit::ReplaceHeader { name: "A".into(), nth: 1, value: "one".into() },
            Edit::InsertHeader { at: 1, name: "I".into(), value: "i".into() },
            Edit::InsertHeader { at: 0, name: "Top".into(), value: "t".into() },
            Edit::AddHeader { name: "Z".into(), value: Bytes::from_static(b"folded\n here") },
        ])
        .unwrap();
        assert_eq!(text(&b), "Top: t\r\nI: i\r\nB: 0\r\nA: one\r\nZ: folded\r\n here\r\n\r\n");
    }

    #[test]
    fn a_bad_edit_changes_nothing() {
        let mut b = block("A: 0\r\n");
        let before = b.clone();
        let good = Edit::AddHeader { name: "B".into(), value: Bytes::from_static(b"1") };
        for bad in [
            Edit::AddHeader { name: "X".into(), value: Bytes::from_static(b"a\r\nBcc: evil") },
            Edit::AddHeader { name: "X:".into(), value: Bytes::new() },
            Edit::AddHeader { name: "X".into(), value: Bytes::from_static(b"a\0") },
            Edit::RemoveHeader { name: "Q".into(), nth: 0 },
        ] {
            assert!(b.apply(&[good.clone(), bad]).is_err());
            assert_eq!(b, before);
        }
    }
}
