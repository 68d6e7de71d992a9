//! Conversion of a milter's header changes into edits.
//!
//! The positions follow Sendmail and Postfix: milters do not see the Received field added by this server. Changes
//! count the fields of a name among the visible fields, from 1. Insertions count all fields from 0, including the
//! Received field and earlier insertions: 0 is above the Received field and 1 is just below.

use bytes::Bytes;
use waxwing_message::{Field, HeaderBlock};
use waxwing_types::{Edit, QueueId};

/// A header with the changes of a milter.
pub(crate) struct HeaderEditor<'h> {
    fields: &'h [Field],
    /// Index of the Received field added by this server.
    own_received: Option<usize>,
    slots: Vec<HeaderSlot>,
}

/// An original field with a pending change, or a new field.
enum HeaderSlot {
    Original(usize, FieldChange),
    Added(String, Bytes),
}

enum FieldChange {
    Unchanged,
    Replaced(String, Bytes),
    Removed,
}

impl<'h> HeaderEditor<'h> {
    /// Creates an editor; `id` identifies the Received field added by this server.
    pub(crate) fn new(head: &'h HeaderBlock, id: Option<QueueId>) -> Self {
        let fields = head.fields();
        let slots = (0..fields.len()).map(|at| HeaderSlot::Original(at, FieldChange::Unchanged)).collect();
        Self { fields, own_received: id.and_then(|id| find_own_received(fields, id)), slots }
    }

    /// Returns the fields visible to milters, in order.
    pub(crate) fn visible_fields(&self) -> impl Iterator<Item = &'h Field> + use<'h> {
        let own = self.own_received;
        self.fields.iter().enumerate().filter(move |(at, _)| Some(*at) != own).map(|(_, field)| field)
    }

    /// Appends a field (ADDHEADER).
    pub(crate) fn add(&mut self, name: String, value: Bytes) {
        self.slots.push(HeaderSlot::Added(name, value));
    }

    /// Inserts a field (INSHEADER).
    pub(crate) fn insert(&mut self, place: u32, name: String, value: Bytes) {
        let is_there = |slot: &HeaderSlot| !matches!(slot, HeaderSlot::Original(_, FieldChange::Removed));
        let mut there = self.slots.iter().enumerate().filter(|(_, slot)| is_there(slot)).map(|(at, _)| at);
        let at = there.nth(usize::try_from(place).unwrap_or(usize::MAX)).unwrap_or(self.slots.len());
        self.slots.insert(at, HeaderSlot::Added(name, value));
    }

    /// Changes a field (CHGHEADER): an empty value removes the field, a number beyond the last field adds a field.
    pub(crate) fn change(&mut self, number: u32, name: String, value: Bytes) {
        let own = self.own_received;
        let nth = usize::try_from(number.max(1) - 1).unwrap_or(usize::MAX);
        let shown = self.fields.iter().enumerate().filter(|(at, field)| Some(*at) != own && field.has_name(&name));
        let Some(index) = shown.map(|(at, _)| at).nth(nth) else {
            if !value.is_empty() {
                self.add(name, value);
            }
            return;
        };
        for slot in &mut self.slots {
            if let HeaderSlot::Original(at, fate) = slot
                && *at == index
            {
                *fate = if value.is_empty() { FieldChange::Removed } else { FieldChange::Replaced(name, value) };
                return;
            }
        }
    }

    /// Returns edits with the same effect on the header.
    pub(crate) fn into_edits(self) -> Vec<Edit> {
        let (mut edits, mut top, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for slot in self.slots {
            match slot {
                HeaderSlot::Added(name, value) => waiting.push((name, value)),
                HeaderSlot::Original(0, fate) => {
                    // Each edit at index 0 goes above all fields, so the last insertion comes first.
                    top = std::mem::take(&mut waiting);
                    edits.extend(edit_for(self.fields, 0, fate));
                }
                HeaderSlot::Original(index, fate) => {
                    let at = u32::try_from(index).unwrap_or(u32::MAX);
                    edits.extend(waiting.drain(..).map(|(name, value)| Edit::InsertHeader { at, name, value }));
                    edits.extend(edit_for(self.fields, index, fate));
                }
            }
        }
        edits.extend(top.into_iter().rev().map(|(name, value)| Edit::InsertHeader { at: 0, name, value }));
        edits.extend(waiting.into_iter().map(|(name, value)| Edit::AddHeader { name, value }));
        edits
    }
}

fn edit_for(fields: &[Field], index: usize, fate: FieldChange) -> Option<Edit> {
    let old = fields.get(index)?;
    let before = fields.iter().take(index).filter(|field| field.has_name(old.name())).count();
    let nth = u32::try_from(before).unwrap_or(u32::MAX);
    match fate {
        FieldChange::Unchanged => None,
        FieldChange::Replaced(name, value) => Some(Edit::ReplaceHeader { name, nth, value }),
        FieldChange::Removed => Some(Edit::RemoveHeader { name: old.name().to_owned(), nth }),
    }
}

/// Returns the index of the Received field of this server, not necessarily the first field: a plugin may have
/// inserted fields above.
fn find_own_received(fields: &[Field], id: QueueId) -> Option<usize> {
    let mark = format!(" id {id}");
    fields.iter().position(|field| {
        field.has_name("Received")
            && field
                .unfolded()
                .split_once(&mark)
                .is_some_and(|(_, after)| after.starts_with([';', '\t', ' ']) || after.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u64 = 77;

    fn block(rest: &str) -> HeaderBlock {
        let own = format!(
            "Received: from a (b [192.0.2.1])\r\n\tby h (Waxwing) with ESMTP id {}\r\n\tfor <x@y.example>;\r\n\tnow\r\n",
            QueueId::from_u64(ID)
        );
        HeaderBlock::parse(Bytes::from(format!("{own}{rest}")), true)
    }

    /// The header after the changes, one word for each field: our own Received is `OWN`.
    fn after(head: &HeaderBlock, change: impl FnOnce(&mut HeaderEditor<'_>)) -> String {
        let mut heads = HeaderEditor::new(head, Some(QueueId::from_u64(ID)));
        change(&mut heads);
        let edits = heads.into_edits();
        let mut new = head.clone();
        new.apply(&edits).unwrap();
        let own = format!("id {}", QueueId::from_u64(ID));
        let word = |field: &Field| match field.unfolded() {
            value if value.contains(&own) => "OWN".to_owned(),
            value => format!("{}={value}", field.name()),
        };
        new.fields().iter().map(word).collect::<Vec<_>>().join(" ")
    }

    fn insert(heads: &mut HeaderEditor<'_>, place: u32, name: &str) {
        heads.insert(place, name.to_owned(), Bytes::from_static(b"n"));
    }

    fn change(heads: &mut HeaderEditor<'_>, number: u32, name: &str, value: &'static str) {
        heads.change(number, name.to_owned(), Bytes::from_static(value.as_bytes()));
    }

    #[test]
    fn our_own_received_is_not_shown() {
        let head = block("Received: other id X\r\nA: 1\r\n");
        let names = |head: &HeaderBlock| {
            let heads = HeaderEditor::new(head, Some(QueueId::from_u64(ID)));
            heads.visible_fields().map(|f| format!("{}={}", f.name(), f.unfolded())).collect::<Vec<_>>()
        };
        assert_eq!(names(&head), ["Received=other id X", "A=1"]);
        let mut below = block("A: 1\r\n");
        below.prepend(Field::new("Above", b"1").unwrap());
        assert_eq!(names(&below), ["Above=1", "A=1"], "wherever it stands");
    }

    #[test]
    fn insertions_count_our_received_field() {
        let head = block("A: 1\r\nB: 1\r\n");
        for (place, wanted) in [
            (0, "I=n OWN A=1 B=1"),
            (1, "OWN I=n A=1 B=1"),
            (2, "OWN A=1 I=n B=1"),
            (3, "OWN A=1 B=1 I=n"),
            (u32::MAX, "OWN A=1 B=1 I=n"),
        ] {
            assert_eq!(after(&head, |h| insert(h, place, "I")), wanted, "{place}");
        }
    }

    #[test]
    fn insertions_see_those_before_them() {
        let head = block("A: 1\r\n");
        let twice = |place| {
            after(&head, |h| {
                insert(h, place, "I");
                insert(h, place, "J");
            })
        };
        assert_eq!(twice(0), "J=n I=n OWN A=1");
        assert_eq!(twice(1), "OWN J=n I=n A=1");
        assert_eq!(twice(2), "OWN A=1 J=n I=n");
        let mixed = after(&head, |h| {
            insert(h, 1, "I");
            insert(h, 2, "J");
            h.add("Z".to_owned(), Bytes::from_static(b"z"));
            insert(h, 9, "K");
        });
        assert_eq!(mixed, "OWN I=n J=n A=1 Z=z K=n");
    }

    #[test]
    fn changes_count_the_fields_that_were_shown() {
        let head = block("Received: old\r\nA: 1\r\nB: 1\r\na: 2\r\nA: 3\r\n");
        assert_eq!(after(&head, |h| change(h, 1, "Received", "new")), "OWN Received=new A=1 B=1 a=2 A=3");
        assert_eq!(after(&head, |h| change(h, 2, "A", "two")), "OWN Received=old A=1 B=1 A=two A=3");
        assert_eq!(after(&head, |h| change(h, 3, "A", "")), "OWN Received=old A=1 B=1 a=2");
        assert_eq!(after(&head, |h| change(h, 4, "A", "four")), "OWN Received=old A=1 B=1 a=2 A=3 A=four");
        assert_eq!(after(&head, |h| change(h, 4, "A", "")), "OWN Received=old A=1 B=1 a=2 A=3");
        assert_eq!(after(&head, |h| change(h, 0, "A", "")), "OWN Received=old B=1 a=2 A=3");
        let all = after(&head, |h| (1..=3).for_each(|n| change(h, n, "A", "")));
        assert_eq!(all, "OWN Received=old B=1", "numbers stay as they were shown");
        let last_first = after(&head, |h| (1..=3).rev().for_each(|n| change(h, n, "A", "")));
        assert_eq!(last_first, "OWN Received=old B=1");
    }

    #[test]
    fn what_goes_does_not_count_for_insertions() {
        let head = block("A: 1\r\nB: 1\r\n");
        let done = after(&head, |h| {
            change(h, 1, "A", "");
            insert(h, 1, "I");
            insert(h, 3, "J");
        });
        assert_eq!(done, "OWN I=n B=1 J=n");
    }
}
