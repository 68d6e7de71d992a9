//! Conversion from 8bit to 7bit, for next hops without 8BITMIME (RFC 6152 §3): part by part, with unchanged structure.
//!
//! A [`SevenBitScan`] reads the body once and makes a [`ConversionPlan`]; a [`SevenBitWriter`] reads the body again and
//! writes the converted body. Neither holds the body. Octets above 127 in header fields are not covered by 8BITMIME and
//! stay, as in Postfix.

use bytes::Bytes;

use crate::mime::walker::{Entity, Shape, Sink, Walker};
use crate::mime::{Base64Writer, QuotedPrintableWriter, TransferEncoding};
use crate::{Field, HeaderBlock};

/// Reason for the failure of a conversion: the message must be returned to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConversionError {
    /// Octets above 127 within multipart/signed or multipart/encrypted (RFC 1847 §2.1).
    #[error("8-bit content is signed or encrypted")]
    Sealed,
    /// Octets above 127 in a part labelled as encoded.
    #[error("an encoded part has 8-bit octets")]
    BrokenEncoding,
    /// Media type not allowed to be encoded (RFC 2046 §5.2), or a multipart without a usable boundary.
    #[error("a part of this type can't be encoded")]
    NotEncodable,
    /// More than 1000 parts.
    #[error("the message has too many parts")]
    TooManyParts,
}

/// Maximum octets of a line, CR included but not LF (RFC 5321 §4.5.3.1.6).
const LINE_BYTES_MAX: usize = 999;

/// Conversion of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    Keep,
    /// Content is 7bit already, or after conversion of the parts: only the label is corrected.
    Label,
    QuotedPrintable,
    Base64,
}

/// Conversions of all entities of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    treatments: Vec<Treatment>,
    converts: bool,
}

impl Plan {
    /// Returns whether some content must be encoded. Otherwise the message can be sent unchanged.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.converts
    }

    fn of(&self, index: u32) -> Treatment {
        self.treatments.get(index as usize).copied().unwrap_or(Treatment::Keep)
    }
}

/// Scans a body for content to be encoded.
pub struct Survey {
    walker: Walker,
    notes: Notes,
}

#[derive(Default)]
struct Notes {
    entities: Vec<Note>,
    eight_bit_frame: bool,
    /// Whether content needing BINARYMIME is searched for, too.
    binary: bool,
    last: u8,
    /// Octets of the current line so far.
    line: usize,
}

struct Note {
    entity: Entity,
    octets: u64,
    eight_bit: u64,
    /// Octets written by quoted-printable as three.
    escaped: u64,
    /// Has lines impossible in SMTP without BINARYMIME.
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
    /// Creates a scan, starting after the header.
    #[must_use]
    pub fn new(header: &HeaderBlock) -> Self {
        let mut notes = Notes::default();
        Self { walker: Walker::new(header, &mut notes), notes }
    }

    /// Enables encoding of parts with bare CR or LF, NUL or long lines, for a message declared BINARYMIME (RFC 3030
    /// §3).
    #[must_use]
    pub fn binary(mut self) -> Self {
        self.notes.binary = true;
        self
    }

    /// Scans the next octets of the body.
    pub fn push(&mut self, octets: &[u8]) {
        self.walker.push(octets, &mut self.notes);
    }

    /// Ends the body and returns the plan.
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
    // In encoded content, line ends belong to the transport only.
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
        // Quoted-printable for readability, unless much longer than base64.
        "text" if note.octets + 2 * note.escaped <= note.octets.saturating_mul(4) / 3 + 3 * note.octets / 20 + 64 => {
            Ok(Treatment::QuotedPrintable)
        }
        _ => Ok(Treatment::Base64),
    }
}

/// Writer of the converted message.
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
        let mut header = HeaderBlock::parse(Bytes::copy_from_slice(raw), false);
        let changed = label(&mut header, treatment);
        if changed {
            for field in header.fields() {
                self.out.extend_from_slice(field.raw());
            }
        } else {
            self.out.extend_from_slice(raw);
        }
        // A header without an empty line needs one now, so that a new field, or a new field of the enclosed message,
        // stays in place.
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

    /// Preambles and epilogues are not shown to users (RFC 2046 §5.1.1); octets above 127 are replaced.
    fn frame(&mut self, octets: &[u8]) {
        self.out.extend(octets.iter().map(|byte| if *byte > 127 { b'?' } else { *byte }));
    }
}

impl SevenBitWriter {
    /// Creates a writer, starting after the header; the plan must belong to the same message.
    #[must_use]
    pub fn new(plan: Plan, header: &HeaderBlock) -> Self {
        let mut converted = header.clone();
        if plan.converts && label(&mut converted, plan.of(0)) && converted.first("MIME-Version").is_none() {
            converted.append(field("MIME-Version", "1.0"));
        }
        let mut output = Output { plan, encoder: Encoder::None, out: Vec::new() };
        let walker = Walker::new(header, &mut output);
        Self { walker, output, head: converted }
    }

    /// Returns the header of the converted message.
    #[must_use]
    pub fn head(&self) -> &HeaderBlock {
        &self.head
    }

    /// Converts the next octets of the body; returns the converted octets.
    #[must_use]
    pub fn push(&mut self, octets: &[u8]) -> Vec<u8> {
        self.walker.push(octets, &mut self.output);
        std::mem::take(&mut self.output.out)
    }

    /// Ends the body; returns the last converted octets.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.walker.finish(&mut self.output);
        self.output.out
    }
}

/// Corrects the transfer encoding in a header, and adds the charset unknown-8bit (RFC 1428 §3) to text without a type.
/// Returns whether the header changed.
fn label(header: &mut HeaderBlock, treatment: Treatment) -> bool {
    let old = header.fields().iter().position(|f| f.is("Content-Transfer-Encoding"));
    let encoding = match treatment {
        Treatment::Keep => return false,
        Treatment::Label => {
            let says = old.and_then(|at| header.fields().get(at)).map(|f| f.unfolded().trim().to_ascii_lowercase());
            match says.as_deref() {
                Some("8bit" | "binary") => "7bit",
                Some(_) | None => return false,
            }
        }
        Treatment::QuotedPrintable => "quoted-printable",
        Treatment::Base64 => "base64",
    };
    if encoding != "7bit" && header.first("Content-Type").is_none() {
        header.append(field("Content-Type", "text/plain; charset=unknown-8bit"));
    }
    match old {
        Some(at) => header.set(at, field("Content-Transfer-Encoding", encoding)),
        None => header.append(field("Content-Transfer-Encoding", encoding)),
    }
    true
}

/// Creates a field from a constant name and value of the file.
fn field(name: &str, value: &str) -> Field {
    match Field::new(name, value.as_bytes()) {
        Ok(field) => field,
        Err(_) => unreachable!("constant names and values are well-formed"),
    }
}

/// Converts a message in memory; `None` if no conversion is needed.
pub fn to_seven_bit(header: &HeaderBlock, body: &[u8]) -> Result<Option<(HeaderBlock, Bytes)>, ConversionError> {
    convert(Survey::new(header), header, body)
}

/// Converts a message declared BINARYMIME; `None` if no conversion is needed.
pub fn binary_to_seven_bit(header: &HeaderBlock, body: &[u8]) -> Result<Option<(HeaderBlock, Bytes)>, ConversionError> {
    convert(Survey::new(header).binary(), header, body)
}

fn convert(mut survey: Survey, header: &HeaderBlock, body: &[u8]) -> Result<Option<(HeaderBlock, Bytes)>, ConversionError> {
    survey.push(body);
    let plan = survey.finish()?;
    if !plan.converts() {
        return Ok(None);
    }
    let mut writer = SevenBitWriter::new(plan, header);
    let header = writer.head().clone();
    let mut out = writer.push(body);
    out.extend_from_slice(&writer.finish());
    Ok(Some((header, out.into())))
}

#[cfg(test)]
mod tests;
