//! Part edits that wait for the end of a call: checked one by one, then turned into edits of header and body.

use std::sync::Arc;

use waxwing_types::Edit;

use crate::mime::walker::ENTITIES_MAX;
use crate::part_edit::{check, edit_known_parts, is_content_field};
use crate::{HeaderBlock, PartEdit, PartEditError, Parts, TooManyParts};

/// Edits of the parts of one message, in order. Indexes mean the parts as they were before all of them.
#[derive(Debug)]
pub struct StagedParts {
    head: Arc<HeaderBlock>,
    parts: Arc<Parts>,
    edits: Vec<PartEdit>,
    added: usize,
}

/// A field of this name says what the body is. What edits parts may write such a field too, so nobody else can in the same call.
#[must_use]
pub fn is_content_field_name(name: &str) -> bool {
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("Content-")) || name.eq_ignore_ascii_case("MIME-Version")
}

impl StagedParts {
    /// None yet. `parts` are those of the message with this header.
    #[must_use]
    pub fn new(head: Arc<HeaderBlock>, parts: Arc<Parts>) -> Self {
        Self { head, parts, edits: Vec::new(), added: 0 }
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Takes one more edit; one that is an error is not taken.
    pub fn push(&mut self, edit: PartEdit) -> Result<(), PartEditError> {
        check(&self.head, &self.parts, &edit)?;
        if matches!(edit, PartEdit::Add(_)) {
            if self.parts.list().len() + self.added + 1 >= ENTITIES_MAX as usize {
                return Err(TooManyParts.into());
            }
            self.added += 1;
        }
        self.edits.push(edit);
        Ok(())
    }

    /// What all of them come to: fields that go and come, and the body.
    pub fn into_edits(self) -> Result<Vec<Edit>, PartEditError> {
        let (head, body) = edit_known_parts(&self.head, &self.parts, &self.edits)?;
        let mut edits = if head == *self.head { Vec::new() } else { header_edits(&self.head, &head) };
        edits.push(Edit::ReplaceBody(body));
        Ok(edits)
    }
}

/// The edits that make one header of the other: the new one has all fields of the old in order, but for its Content-… fields, and
/// what is new below them.
fn header_edits(old: &HeaderBlock, new: &HeaderBlock) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (at, field) in old.fields().iter().enumerate().filter(|(_, field)| is_content_field(field)) {
        let before = old.fields().iter().take(at).filter(|other| other.is(field.name())).count();
        edits.push(Edit::RemoveHeader { name: field.name().to_owned(), nth: u32::try_from(before).unwrap_or(u32::MAX) });
    }
    for field in new.fields().iter().skip(old.fields().len() - edits.len()) {
        edits.push(Edit::AddHeader { name: field.name().to_owned(), value: field.raw().slice_ref(field.value()) });
    }
    edits
}

#[cfg(test)]
mod tests;
