use bytes::Bytes;
use mail_parser::{MessageParser, PartType};
use proptest::prelude::*;

use super::*;
use crate::NewPart;

fn head(text: &str) -> HeaderBlock {
    HeaderBlock::parse(Bytes::copy_from_slice(text.as_bytes()), true)
}

fn new(content_type: &str, content: &str) -> NewPart {
    NewPart { content_type: content_type.into(), filename: None, content: Bytes::copy_from_slice(content.as_bytes()) }
}

fn staged(head: &HeaderBlock, body: &Bytes) -> StagedPartEdits {
    let parts = MimeParts::parse(head, body.clone()).unwrap();
    StagedPartEdits::new(Arc::new(head.clone()), Arc::new(parts))
}

/// The message after the edits, the way the pipeline applies them.
fn applied(head: &HeaderBlock, body: &Bytes, edits: &[Edit]) -> (HeaderBlock, Bytes) {
    let mut head = head.clone();
    head.apply(edits).unwrap();
    let replaced = edits.iter().rev().find_map(|edit| if let Edit::ReplaceBody(body) = edit { Some(body.clone()) } else { None });
    (head, replaced.unwrap_or_else(|| body.clone()))
}

fn text(head: &HeaderBlock) -> String {
    String::from_utf8(head.to_bytes(false).to_vec()).unwrap()
}

#[test]
fn fields_move_into_the_part_that_the_message_becomes() {
    let head = head(
        "Content-Language: en\r\nTo: a@b\r\nContent-Type: text/html;\r\n charset=utf-8\r\ncontent-type: text/plain\r\nX: y\r\n",
    );
    let body = Bytes::from_static(b"<p>\r\n");
    let mut parts = staged(&head, &body);
    parts.push(PartEdit::Add(new("text/plain", "below"))).unwrap();
    let (new_head, new_body) = applied(&head, &body, &parts.into_edits().unwrap());
    assert_eq!(
        text(&new_head),
        "To: a@b\r\nX: y\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_waxwing_0\"\r\n\r\n"
    );
    assert!(new_body.starts_with(b"--=_waxwing_0\r\nContent-Language: en\r\nContent-Type: text/html;\r\n charset=utf-8\r\n"));
}

#[test]
fn around_eight_bits_the_multipart_says_so() {
    let head = head("Content-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0\r\n");
    let body = Bytes::from("\u{fc}\r\n");
    let mut parts = staged(&head, &body);
    parts.push(PartEdit::Add(new("text/plain", "\u{fc}"))).unwrap();
    let (head, _) = applied(&head, &body, &parts.into_edits().unwrap());
    assert_eq!(
        text(&head),
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_waxwing_0\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    );
}

#[test]
fn a_header_that_stays_is_not_edited() {
    let head = head("Content-Type: multipart/mixed; boundary=x\r\nMIME-Version: 1.0\r\n");
    let mut parts = staged(&head, &Bytes::from_static(b"--x\r\n\r\na\r\n--x\r\n\r\nb\r\n--x--\r\n"));
    parts.push(PartEdit::Drop(1)).unwrap();
    assert_eq!(parts.into_edits().unwrap(), [Edit::ReplaceBody("\r\n--x\r\n\r\nb\r\n--x--\r\n".into())]);
}

#[test]
fn what_is_signed_stays_as_it_is() {
    let head =
        head("Content-Type: multipart/signed; boundary=x; protocol=\"application/pgp-signature\"\r\nMIME-Version: 1.0\r\n");
    let signed =
        "--x\r\nContent-Type: text/plain\r\n\r\nsworn \r\n--x\r\nContent-Type: application/pgp-signature\r\n\r\nsig\r\n--x--\r\n";
    let body = Bytes::from_static(signed.as_bytes());
    let mut parts = staged(&head, &body);
    assert_eq!(parts.push(PartEdit::Drop(2)), Err(PartEditError::SignedOrEncrypted(2)));
    assert_eq!(parts.push(PartEdit::Replace(1, new("text/plain", ""))), Err(PartEditError::SignedOrEncrypted(1)));
    parts.push(PartEdit::Add(new("text/plain", "list footer"))).unwrap();
    let (head, body) = applied(&head, &body, &parts.into_edits().unwrap());
    let parts = MimeParts::parse(&head, body).unwrap();
    assert_eq!(
        parts.list().iter().map(|p| &*p.content_type).collect::<Vec<_>>(),
        ["multipart/mixed", "multipart/signed", "text/plain", "application/pgp-signature", "text/plain"]
    );
    assert_eq!(parts.content(1).unwrap(), signed, "octet by octet");
}

#[test]
fn a_boundary_in_a_field_is_not_taken_again() {
    // Its boundary does not occur in the body: a multipart without any part.
    let head = head("Content-Type: multipart/alternative; boundary=\"=_waxwing_0\"\r\n");
    let body = Bytes::from_static(b"nothing\r\n");
    let mut parts = staged(&head, &body);
    parts.push(PartEdit::Add(new("text/plain", "added"))).unwrap();
    let (head, body) = applied(&head, &body, &parts.into_edits().unwrap());
    let parts = MimeParts::parse(&head, body).unwrap();
    assert_eq!(parts.list().iter().map(|p| p.parent).collect::<Vec<_>>(), [None, Some(0), Some(0)]);
    assert_eq!(parts.text(2).as_deref(), Some("added"));
}

#[test]
fn boundaries_that_are_taken_are_passed_over() {
    let plain = head("Subject: s\r\n");
    let taken: String = (0..50_000).rev().map(|n| format!("=_waxwing_{n}\r\n")).collect();
    let body = Bytes::from(taken);
    let mut parts = staged(&plain, &body);
    parts.push(PartEdit::Add(new("text/plain", "=_waxwing_500007 and =_waxwing_50001x"))).unwrap();
    let (head, _) = applied(&plain, &body, &parts.into_edits().unwrap());
    assert_eq!(head.first("Content-Type").unwrap().value(), b"multipart/mixed; boundary=\"=_waxwing_50002\"");
}

#[test]
fn bounds() {
    let plain = head("Subject: s\r\n");
    let body = Bytes::from_static(b"x\r\n");
    let mut parts = staged(&plain, &body);
    let mut added = 0;
    let refused = loop {
        match parts.push(PartEdit::Add(new("text/plain", "x"))) {
            Ok(()) => added += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((added, refused), (998, PartEditError::TooManyParts(TooManyParts)));
    let (new_head, new_body) = applied(&plain, &body, &parts.into_edits().unwrap());
    assert_eq!(MimeParts::parse(&new_head, new_body).unwrap().list().len(), 1000);

    let mut named = new("text/plain", "x");
    named.filename = Some("n".repeat(1000));
    assert_eq!(staged(&plain, &body).push(PartEdit::Add(named)), Err(PartEditError::BadContentType));
    let long = head(&format!("Content-X: {}\r\n", "y\r\n ".repeat(30_000)));
    assert_eq!(staged(&long, &body).push(PartEdit::Add(new("text/plain", "x"))), Err(PartEditError::HeaderTooLong));
}

/// A message as a tree, to say what edits should make of it.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Leaf(String),
    Multipart(Vec<Node>),
    Enclosed(Box<Node>),
}

fn tree() -> impl Strategy<Value = Node> {
    let leaf = "([a-z\u{e4}-][a-z =-]{0,9}(\r\n-{0,3}[a-z])?)?".prop_map(Node::Leaf);
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            3 => proptest::collection::vec(inner.clone(), 1..4).prop_map(Node::Multipart),
            1 => inner.prop_map(|node| Node::Enclosed(Box::new(node))),
        ]
    })
}

/// Header and body; each multipart has a boundary of its own.
fn written(node: &Node, boundaries: &mut u32) -> (String, String) {
    match node {
        Node::Leaf(text) => {
            ("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n".into(), text.clone())
        }
        Node::Multipart(children) => {
            *boundaries += 1;
            let boundary = format!("b{boundaries}");
            let part = |child| {
                let (head, body) = written(child, boundaries);
                format!("--{boundary}\r\n{head}\r\n{body}\r\n")
            };
            let parts: String = children.iter().map(part).collect();
            (format!("Content-Type: multipart/mixed; boundary={boundary}\r\n"), format!("{parts}--{boundary}--"))
        }
        Node::Enclosed(inner) => {
            let (head, body) = written(inner, boundaries);
            ("Content-Type: message/rfc822\r\n".into(), format!("Subject: inner\r\n{head}\r\n{body}"))
        }
    }
}

/// Every entity in the order of the message: its depth, and its text if it is a leaf.
fn flattened(node: &Node, depth: usize, out: &mut Vec<(usize, Option<String>)>) {
    match node {
        Node::Leaf(text) => out.push((depth, Some(text.clone()))),
        Node::Multipart(children) => {
            out.push((depth, None));
            children.iter().for_each(|child| flattened(child, depth + 1, out));
        }
        Node::Enclosed(inner) => {
            out.push((depth, None));
            flattened(inner, depth + 1, out);
        }
    }
}

fn read(parts: &MimeParts) -> Vec<(usize, Option<String>)> {
    let mut out: Vec<(usize, Option<String>)> = Vec::new();
    for part in parts.list() {
        let depth = part.parent.map_or(0, |parent| out[parent as usize].0 + 1);
        out.push((depth, parts.is_leaf(part.index).then(|| parts.text(part.index).unwrap())));
    }
    out
}

/// What edits make of a tree: `None` instead of a node that is dropped.
fn edited(node: &Node, index: &mut u32, edits: &[PartEdit]) -> Option<Node> {
    let own = *index;
    *index += 1;
    let inner = match node {
        Node::Leaf(_) => node.clone(),
        Node::Multipart(children) => {
            let mut children: Vec<Node> = children.iter().filter_map(|child| edited(child, index, edits)).collect();
            if children.is_empty() {
                children.push(Node::Leaf(String::new()));
            }
            Node::Multipart(children)
        }
        // Its content can't be dropped alone.
        Node::Enclosed(inner) => Node::Enclosed(Box::new(edited(inner, index, edits)?)),
    };
    let last = edits.iter().rev().find(|edit| matches!(edit, PartEdit::Drop(i) | PartEdit::Replace(i, _) if *i == own));
    match last {
        Some(PartEdit::Drop(_)) => None,
        Some(PartEdit::Replace(_, new)) => Some(Node::Leaf(String::from_utf8(new.content.to_vec()).unwrap())),
        Some(PartEdit::Add(_)) | None => Some(inner),
    }
}

/// The other reader asserts that this does not happen.
fn encloses_an_enclosed(node: &Node) -> bool {
    match node {
        Node::Leaf(_) => false,
        Node::Multipart(children) => children.iter().any(encloses_an_enclosed),
        Node::Enclosed(inner) => matches!(**inner, Node::Enclosed(_)) || encloses_an_enclosed(inner),
    }
}

/// Leaves that another reader finds.
fn leaves_elsewhere(message: &mail_parser::Message<'_>) -> usize {
    let leaves = |part: &mail_parser::MessagePart<'_>| match &part.body {
        PartType::Multipart(_) => 0,
        PartType::Message(inner) => leaves_elsewhere(inner),
        PartType::Text(_) | PartType::Html(_) | PartType::Binary(_) | PartType::InlineBinary(_) => 1,
    };
    message.parts.iter().map(leaves).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the edits are, the message is what they should make of it, for us and for another reader.
    #[test]
    fn the_result_is_the_message_that_was_meant(
        tree in tree(),
        wanted in proptest::collection::vec((0_u32..12, 0_u8..3), 0..6),
    ) {
        let (fields, body) = written(&tree, &mut 0);
        let head = head(&format!("Subject: x\r\n{fields}MIME-Version: 1.0\r\nX: y\r\n"));
        let body = Bytes::from(body);
        let mut staged = staged(&head, &body);
        let mut edits = Vec::new();
        for (number, (index, kind)) in wanted.into_iter().enumerate() {
            let new = new("text/plain; charset=utf-8", &format!("new {number} \u{fc}\r\n--b1\r\n--b1--\r\n"));
            let edit = match kind {
                0 => PartEdit::Drop(index),
                1 => PartEdit::Replace(index, new),
                _ => PartEdit::Add(new),
            };
            if staged.push(edit.clone()).is_ok() {
                edits.push(edit);
            }
        }
        let mut meant = edited(&tree, &mut 0, &edits).unwrap();
        for edit in &edits {
            if let PartEdit::Add(new) = edit {
                let leaf = Node::Leaf(String::from_utf8(new.content.to_vec()).unwrap());
                meant = match meant {
                    Node::Multipart(mut children) => {
                        children.push(leaf);
                        Node::Multipart(children)
                    }
                    other @ (Node::Leaf(_) | Node::Enclosed(_)) => Node::Multipart(vec![other, leaf]),
                };
            }
        }
        let mut expected = Vec::new();
        flattened(&meant, 0, &mut expected);

        let (head, body) = applied(&head, &body, &staged.into_edits().unwrap());
        prop_assert_eq!(read(&MimeParts::parse(&head, body.clone()).unwrap()), expected.clone());
        prop_assert!(text(&head).starts_with("Subject: x\r\n") && head.count("X") == 1 && head.count("MIME-Version") == 1);
        prop_assert_eq!(head.count("Content-Type"), 1);

        if encloses_an_enclosed(&meant) {
            return Ok(());
        }
        let raw = [head.to_bytes(false), body].concat();
        let elsewhere = MessageParser::default().parse(&raw).unwrap();
        prop_assert_eq!(leaves_elsewhere(&elsewhere), expected.iter().filter(|(_, leaf)| leaf.is_some()).count());
    }
}
