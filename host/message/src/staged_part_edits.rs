//! Staged edits of MIME parts: checked singly during a hook call, then converted to edits of header and body at the
//! end.

use std::sync::Arc;

use waxwing_types::Edit;

use crate::mime::parser::ENTITIES_MAX;
use crate::part_edit::{check_edit, edit_parsed_parts, is_content_field};
use crate::{HeaderBlock, MimeParts, PartEdit, PartEditError, TooManyParts};

/// Edits of the parts of one message, in order. Indexes refer to the parts before all edits.
#[derive(Debug)]
pub struct StagedPartEdits {
    header: Arc<HeaderBlock>,
    parts: Arc<MimeParts>,
    edits: Vec<PartEdit>,
    added_count: usize,
}

/// Returns whether a field describes the content of the body. Part edits may write such a field, so other edits of the
/// field are not allowed in the same call.
#[must_use]
pub fn is_content_field_name(name: &str) -> bool {
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("Content-")) || name.eq_ignore_ascii_case("MIME-Version")
}

impl StagedPartEdits {
    /// Creates an empty list; `parts` must belong to the message with the header `head`.
    #[must_use]
    pub fn new(head: Arc<HeaderBlock>, parts: Arc<MimeParts>) -> Self {
        Self { header: head, parts, edits: Vec::new(), added_count: 0 }
    }

    /// Returns whether no edit is staged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Stages an edit; a faulty edit is refused.
    pub fn push(&mut self, edit: PartEdit) -> Result<(), PartEditError> {
        check_edit(&self.header, &self.parts, &edit)?;
        if matches!(edit, PartEdit::Add(_)) {
            if self.parts.list().len() + self.added_count + 1 >= ENTITIES_MAX as usize {
                return Err(TooManyParts.into());
            }
            self.added_count += 1;
        }
        self.edits.push(edit);
        Ok(())
    }

    /// Converts all edits to edits of header fields and of the body.
    pub fn into_edits(self) -> Result<Vec<Edit>, PartEditError> {
        let (header, body) = edit_parsed_parts(&self.header, &self.parts, &self.edits)?;
        let mut edits = if header == *self.header { Vec::new() } else { diff_headers(&self.header, &header) };
        edits.push(Edit::ReplaceBody(body));
        Ok(edits)
    }
}

/// Edits leading from the old header to the new one. The new header has all old fields in order except the Content-…
/// fields, and new fields below.
fn diff_headers(old: &HeaderBlock, new: &HeaderBlock) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (at, field) in old.fields().iter().enumerate().filter(|(_, field)| is_content_field(field)) {
        let before = old.fields().iter().take(at).filter(|other| other.has_name(field.name())).count();
        edits.push(Edit::RemoveHeader { name: field.name().to_owned(), nth: u32::try_from(before).unwrap_or(u32::MAX) });
    }
    for field in new.fields().iter().skip(old.fields().len() - edits.len()) {
        edits.push(Edit::AddHeader { name: field.name().to_owned(), value: field.raw().slice_ref(field.value()) });
    }
    edits
}

#[cfg(test)]
mod tests;
