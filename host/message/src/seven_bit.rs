//! From 8bit to 7bit, for next hops without 8BITMIME (RFC 6152 §3): part by part, the structure kept.
//!
//! A [`Survey`] reads the body once and makes a [`Plan`]; a [`SevenBitWriter`] reads it again and writes the other. Neither
//! holds the body. Octets above 127 in header fields are no matter of 8BITMIME and stay, as Postfix leaves them.

use bytes::Bytes;

use crate::mime::walker::{Entity, Shape, Sink, Walker};
use crate::mime::{Base64Writer, QuotedPrintableWriter, TransferEncoding};
use crate::{Field, HeaderBlock};

/// Why a message can't be converted: it must be returned to its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConversionError {
    /// Octets above 127 lie within multipart/signed or multipart/encrypted (RFC 1847 §2.1).
    #[error("8-bit content is signed or encrypted")]
    Sealed,
    /// A part says that it is encoded, and has octets above 127 all the same.
    #[error("an encoded part has 8-bit octets")]
    BrokenEncoding,
    /// A type that must not be encoded (RFC 2046 §5.2), or a multipart that can't be cut.
    #[error("a part of this type can't be encoded")]
    NotEncodable,
    /// More than 1000 parts.
    #[error("the message has too many parts")]
    TooManyParts,
}

/// Octets of a line, without its end but with a CR before it (RFC 5321 §4.5.3.1.6).
const LINE_BYTES_MAX: usize = 999;

/// What is done to an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    Keep,
    /// All is 7bit already, or will be: only the label is corrected.
    Label,
    QuotedPrintable,
    Base64,
}

/// What is done to each entity of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    treatments: Vec<Treatment>,
    converts: bool,
}

impl Plan {
    /// Something has to be encoded. Without it the message can go as it is.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.converts
    }

    fn of(&self, index: u32) -> Treatment {
        self.treatments.get(index as usize).copied().unwrap_or(Treatment::Keep)
    }
}

/// Reads a body and finds what has to be encoded.
pub struct Survey {
    walker: Walker,
    notes: Notes,
}

#[derive(Default)]
struct Notes {
    entities: Vec<Note>,
    eight_bit_frame: bool,
    /// What only BINARYMIME carries is looked for, too.
    binary: bool,
    last: u8,
    /// Octets of the line so far.
    line: usize,
}

struct Note {
    entity: Entity,
    octets: u64,
    eight_bit: u64,
    /// Octets that quoted-printable writes in three.
    escaped: u64,
    /// It has lines that SMTP without BINARYMIME can't carry as they are.
    binary: bool,
}

impl Sink for Notes {
    fn head(&mut self, entity: &Entity, _raw: &[u8], _separator: &[u8]) {
        self.entities.push(Note { entity: entity.clone(), octets: 0, eight_bit: 0, escaped: 0, binary: false });
        (self.last, self.line) = (b'\n', 0);
    }

    fn content(&mut self, octets: &[u8]) {
        let Some(note) = self.entities.last_mut() else { return };
        note.octets += octets.len() as u64;
        for byte in octets {
            if self.binary {
                let broken = (*byte == b'\n') != (self.last == b'\r') && (*byte == b'\n' || self.last == b'\r');
                self.line = if *byte == b'\n' { 0 } else { self.line + 1 };
                note.binary |= broken || *byte == 0 || self.line > LINE_BYTES_MAX;
                self.last = *byte;
            }
            note.eight_bit += u64::from(*byte > 127);
            note.escaped += u64::from(*byte > 126 || *byte == b'=' || (*byte < 32 && !matches!(byte, b'\r' | b'\n' | b'\t')));
        }
    }

    fn leaf_end(&mut self, _at_end: bool) {}

    fn delimiter(&mut self, _multipart: u32, _closes: bool) {}

    fn frame(&mut self, octets: &[u8]) {
        self.eight_bit_frame |= !octets.is_ascii();
    }
}

impl Survey {
    /// Begins behind the header.
    #[must_use]
    pub fn new(head: &HeaderBlock) -> Self {
        let mut notes = Notes::default();
        Self { walker: Walker::new(head, &mut notes), notes }
    }

    /// The message was declared BINARYMIME: parts with lone CR or LF, NUL or long lines are encoded, too (RFC 3030 §3).
    #[must_use]
    pub fn binary(mut self) -> Self {
        self.notes.binary = true;
        self
    }

    /// Takes the next octets of the body.
    pub fn push(&mut self, octets: &[u8]) {
        self.walker.push(octets, &mut self.notes);
    }

    /// The body has ended.
    pub fn finish(mut self) -> Result<Plan, ConversionError> {
        let overflowed = self.walker.overflowed();
        self.walker.finish(&mut self.notes);
        let treatments = self.notes.entities.iter().map(treatment).collect::<Result<Vec<_>, _>>()?;
        let encodes = |t: &Treatment| matches!(t, Treatment::QuotedPrintable | Treatment::Base64);
        let converts = self.notes.eight_bit_frame || treatments.iter().any(encodes);
        if overflowed && converts { Err(ConversionError::TooManyParts) } else { Ok(Plan { treatments, converts }) }
    }
}

fn treatment(note: &Note) -> Result<Treatment, ConversionError> {
    let entity = &note.entity;
    // What is encoded already has its line ends for the transport only.
    let binary = note.binary && entity.encoding == TransferEncoding::Identity;
    if note.eight_bit == 0 && !binary {
        let labelled = entity.encoding == TransferEncoding::Identity && !entity.sealed;
        return Ok(if labelled { Treatment::Label } else { Treatment::Keep });
    }
    if entity.sealed || matches!(entity.content_type.subtype.as_str(), "signed" | "encrypted") {
        return Err(ConversionError::Sealed);
    }
    if entity.encoding != TransferEncoding::Identity {
        return Err(ConversionError::BrokenEncoding);
    }
    match entity.content_type.kind.as_str() {
        "multipart" | "message" => Err(ConversionError::NotEncodable),
        _ if binary => Ok(Treatment::Base64),
        // Readable where that is not much longer than base64.
        "text" if note.octets + 2 * note.escaped <= note.octets.saturating_mul(4) / 3 + 3 * note.octets / 20 + 64 => {
            Ok(Treatment::QuotedPrintable)
        }
        _ => Ok(Treatment::Base64),
    }
}

/// Writes the converted message.
pub struct SevenBitWriter {
    walker: Walker,
    output: Output,
    head: HeaderBlock,
}

enum Encoder {
    None,
    QuotedPrintable(QuotedPrintableWriter),
    Base64(Base64Writer),
}

struct Output {
    plan: Plan,
    encoder: Encoder,
    out: Vec<u8>,
}

impl Sink for Output {
    fn head(&mut self, entity: &Entity, raw: &[u8], separator: &[u8]) {
        let treatment = self.plan.of(entity.index);
        self.encoder = match (entity.shape, treatment) {
            (Shape::Leaf, Treatment::QuotedPrintable) => Encoder::QuotedPrintable(QuotedPrintableWriter::default()),
            (Shape::Leaf, Treatment::Base64) => Encoder::Base64(Base64Writer::default()),
            (Shape::Leaf | Shape::Multipart | Shape::Message, _) => Encoder::None,
        };
        if entity.index == 0 {
            return;
        }
        let mut head = HeaderBlock::parse(Bytes::copy_from_slice(raw), false);
        let changed = label(&mut head, treatment);
        if changed {
            for field in head.fields() {
                self.out.extend_from_slice(field.raw());
            }
        } else {
            self.out.extend_from_slice(raw);
        }
        // A header without an empty line behind it needs one now, so that its new field, or a new field of the message
        // within, stays where it belongs.
        let needed = separator.is_empty() && (changed || entity.shape == Shape::Message);
        self.out.extend_from_slice(if needed { b"\r\n" } else { separator });
    }

    fn content(&mut self, octets: &[u8]) {
        match &mut self.encoder {
            Encoder::None => self.out.extend_from_slice(octets),
            Encoder::QuotedPrintable(writer) => writer.push(octets, &mut self.out),
            Encoder::Base64(writer) => writer.push(octets, &mut self.out),
        }
    }

    fn leaf_end(&mut self, at_end: bool) {
        match std::mem::replace(&mut self.encoder, Encoder::None) {
            Encoder::None => {}
            Encoder::QuotedPrintable(mut writer) => writer.finish(at_end, &mut self.out),
            Encoder::Base64(mut writer) => writer.finish(at_end, &mut self.out),
        }
    }

    fn delimiter(&mut self, _multipart: u32, _closes: bool) {}

    /// Preambles and epilogues are for nobody (RFC 2046 §5.1.1); their odd octets are replaced.
    fn frame(&mut self, octets: &[u8]) {
        self.out.extend(octets.iter().map(|byte| if *byte > 127 { b'?' } else { *byte }));
    }
}

impl SevenBitWriter {
    /// Begins behind the header; the plan must be that of this message.
    #[must_use]
    pub fn new(plan: Plan, head: &HeaderBlock) -> Self {
        let mut converted = head.clone();
        if plan.converts && label(&mut converted, plan.of(0)) && converted.first("MIME-Version").is_none() {
            converted.append(field("MIME-Version", "1.0"));
        }
        let mut output = Output { plan, encoder: Encoder::None, out: Vec::new() };
        let walker = Walker::new(head, &mut output);
        Self { walker, output, head: converted }
    }

    /// The header of the converted message.
    #[must_use]
    pub fn head(&self) -> &HeaderBlock {
        &self.head
    }

    /// Takes the next octets of the body; returns those of the converted one.
    #[must_use]
    pub fn push(&mut self, octets: &[u8]) -> Vec<u8> {
        self.walker.push(octets, &mut self.output);
        std::mem::take(&mut self.output.out)
    }

    /// The body has ended; returns the last octets of the converted one.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.walker.finish(&mut self.output);
        self.output.out
    }
}

/// Corrects the transfer encoding of a header, and names a charset that nobody knows (RFC 1428 §3) where text has no type.
/// True if it changed.
fn label(head: &mut HeaderBlock, treatment: Treatment) -> bool {
    let old = head.fields().iter().position(|f| f.is("Content-Transfer-Encoding"));
    let encoding = match treatment {
        Treatment::Keep => return false,
        Treatment::Label => {
            let says = old.and_then(|at| head.fields().get(at)).map(|f| f.unfolded().trim().to_ascii_lowercase());
            match says.as_deref() {
                Some("8bit" | "binary") => "7bit",
                Some(_) | None => return false,
            }
        }
        Treatment::QuotedPrintable => "quoted-printable",
        Treatment::Base64 => "base64",
    };
    if encoding != "7bit" && head.first("Content-Type").is_none() {
        head.append(field("Content-Type", "text/plain; charset=unknown-8bit"));
    }
    match old {
        Some(at) => head.set(at, field("Content-Transfer-Encoding", encoding)),
        None => head.append(field("Content-Transfer-Encoding", encoding)),
    }
    true
}

/// A field whose name and value are written in this file.
fn field(name: &str, value: &str) -> Field {
    match Field::new(name, value.as_bytes()) {
        Ok(field) => field,
        Err(_) => unreachable!("names and values of our own are well-formed"),
    }
}

/// Converts a message that is in memory; `None` if it needs no conversion.
pub fn to_seven_bit(head: &HeaderBlock, body: &[u8]) -> Result<Option<(HeaderBlock, Bytes)>, ConversionError> {
    convert(Survey::new(head), head, body)
}

/// The same for a message that was declared BINARYMIME.
pub fn binary_to_seven_bit(head: &HeaderBlock, body: &[u8]) -> Result<Option<(HeaderBlock, Bytes)>, ConversionError> {
    convert(Survey::new(head).binary(), head, body)
}

fn convert(mut survey: Survey, head: &HeaderBlock, body: &[u8]) -> Result<Option<(HeaderBlock, Bytes)>, ConversionError> {
    survey.push(body);
    let plan = survey.finish()?;
    if !plan.converts() {
        return Ok(None);
    }
    let mut writer = SevenBitWriter::new(plan, head);
    let head = writer.head().clone();
    let mut out = writer.push(body);
    out.extend_from_slice(&writer.finish());
    Ok(Some((head, out.into())))
}

#[cfg(test)]
mod tests;
