//! Conversion from 8bit to 7bit, for next hops without 8BITMIME (RFC 6152 §3): part by part, with unchanged structure.
//!
//! A [`SevenBitScan`] reads the body once and makes a [`ConversionPlan`]; a [`SevenBitWriter`] reads the body again and
//! writes the converted body. Neither holds the body. Octets above 127 in header fields are not covered by 8BITMIME and
//! stay, as in Postfix.

use bytes::Bytes;

use crate::mime::parser::{Entity, EntityKind, MimeParser, MimeVisitor};
use crate::mime::{Base64Writer, QuotedPrintableWriter, TransferEncoding};
use crate::{Field, HeaderBlock};

/// Reason for the failure of a conversion: the message must be returned to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConversionError {
    /// Octets above 127 within multipart/signed or multipart/encrypted (RFC 1847 §2.1).
    #[error("8-bit content is signed or encrypted")]
    SignedOrEncrypted,
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
enum EntityConversion {
    Unchanged,
    /// Content is 7bit already, or after conversion of the parts: only the label is corrected.
    Relabel,
    QuotedPrintable,
    Base64,
}

/// Conversions of all entities of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversionPlan {
    conversions: Vec<EntityConversion>,
    needs_conversion: bool,
}

impl ConversionPlan {
    /// Returns whether some content must be encoded. Otherwise the message can be sent unchanged.
    #[must_use]
    pub fn needs_conversion(&self) -> bool {
        self.needs_conversion
    }

    fn conversion(&self, index: u32) -> EntityConversion {
        self.conversions.get(index as usize).copied().unwrap_or(EntityConversion::Unchanged)
    }
}

/// Scans a body for content to be encoded.
pub struct SevenBitScan {
    parser: MimeParser,
    results: ScanResults,
}

#[derive(Default)]
struct ScanResults {
    entities: Vec<EntityStats>,
    eight_bit_frame: bool,
    /// Whether content needing BINARYMIME is searched for, too.
    binary: bool,
    last_octet: u8,
    /// Octets of the current line so far.
    line_octets: usize,
}

struct EntityStats {
    entity: Entity,
    octets: u64,
    eight_bit: u64,
    /// Octets written by quoted-printable as three.
    escaped: u64,
    /// Has lines impossible in SMTP without BINARYMIME.
    binary: bool,
}

impl MimeVisitor for ScanResults {
    fn header(&mut self, entity: &Entity, _raw: &[u8], _separator: &[u8]) {
        self.entities.push(EntityStats { entity: entity.clone(), octets: 0, eight_bit: 0, escaped: 0, binary: false });
        (self.last_octet, self.line_octets) = (b'\n', 0);
    }

    fn content(&mut self, octets: &[u8]) {
        let Some(note) = self.entities.last_mut() else { return };
        note.octets += octets.len() as u64;
        for byte in octets {
            if self.binary {
                let broken = (*byte == b'\n') != (self.last_octet == b'\r') && (*byte == b'\n' || self.last_octet == b'\r');
                self.line_octets = if *byte == b'\n' { 0 } else { self.line_octets + 1 };
                note.binary |= broken || *byte == 0 || self.line_octets > LINE_BYTES_MAX;
                self.last_octet = *byte;
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

impl SevenBitScan {
    /// Creates a scan, starting after the header.
    #[must_use]
    pub fn new(header: &HeaderBlock) -> Self {
        let mut notes = ScanResults::default();
        Self { parser: MimeParser::new(header, &mut notes), results: notes }
    }

    /// Enables encoding of parts with bare CR or LF, NUL or long lines, for a message declared BINARYMIME (RFC 3030
    /// §3).
    #[must_use]
    pub fn with_binary(mut self) -> Self {
        self.results.binary = true;
        self
    }

    /// Scans the next octets of the body.
    pub fn push(&mut self, octets: &[u8]) {
        self.parser.push(octets, &mut self.results);
    }

    /// Ends the body and returns the plan.
    pub fn finish(mut self) -> Result<ConversionPlan, ConversionError> {
        let overflowed = self.parser.overflowed();
        self.parser.finish(&mut self.results);
        let treatments = self.results.entities.iter().map(choose_conversion).collect::<Result<Vec<_>, _>>()?;
        let encodes = |t: &EntityConversion| matches!(t, EntityConversion::QuotedPrintable | EntityConversion::Base64);
        let converts = self.results.eight_bit_frame || treatments.iter().any(encodes);
        if overflowed && converts {
            Err(ConversionError::TooManyParts)
        } else {
            Ok(ConversionPlan { conversions: treatments, needs_conversion: converts })
        }
    }
}

fn choose_conversion(note: &EntityStats) -> Result<EntityConversion, ConversionError> {
    let entity = &note.entity;
    // In encoded content, line ends belong to the transport only.
    let binary = note.binary && entity.encoding == TransferEncoding::Identity;
    if note.eight_bit == 0 && !binary {
        let labelled = entity.encoding == TransferEncoding::Identity && !entity.signed_or_encrypted;
        return Ok(if labelled { EntityConversion::Relabel } else { EntityConversion::Unchanged });
    }
    if entity.signed_or_encrypted || matches!(entity.content_type.subtype.as_str(), "signed" | "encrypted") {
        return Err(ConversionError::SignedOrEncrypted);
    }
    if entity.encoding != TransferEncoding::Identity {
        return Err(ConversionError::BrokenEncoding);
    }
    match entity.content_type.top_level_type.as_str() {
        "multipart" | "message" => Err(ConversionError::NotEncodable),
        _ if binary => Ok(EntityConversion::Base64),
        // Quoted-printable for readability, unless much longer than base64.
        "text" if note.octets + 2 * note.escaped <= note.octets.saturating_mul(4) / 3 + 3 * note.octets / 20 + 64 => {
            Ok(EntityConversion::QuotedPrintable)
        }
        _ => Ok(EntityConversion::Base64),
    }
}

/// Writer of the converted message.
pub struct SevenBitWriter {
    parser: MimeParser,
    output: SevenBitOutput,
    header: HeaderBlock,
}

enum Encoder {
    None,
    QuotedPrintable(QuotedPrintableWriter),
    Base64(Base64Writer),
}

struct SevenBitOutput {
    plan: ConversionPlan,
    encoder: Encoder,
    out: Vec<u8>,
}

impl MimeVisitor for SevenBitOutput {
    fn header(&mut self, entity: &Entity, raw: &[u8], separator: &[u8]) {
        let treatment = self.plan.conversion(entity.index);
        self.encoder = match (entity.kind, treatment) {
            (EntityKind::Leaf, EntityConversion::QuotedPrintable) => Encoder::QuotedPrintable(QuotedPrintableWriter::default()),
            (EntityKind::Leaf, EntityConversion::Base64) => Encoder::Base64(Base64Writer::default()),
            (EntityKind::Leaf | EntityKind::Multipart | EntityKind::Message, _) => Encoder::None,
        };
        if entity.index == 0 {
            return;
        }
        let mut header = HeaderBlock::parse(Bytes::copy_from_slice(raw), false);
        let changed = relabel(&mut header, treatment);
        if changed {
            for field in header.fields() {
                self.out.extend_from_slice(field.raw());
            }
        } else {
            self.out.extend_from_slice(raw);
        }
        // A header without an empty line needs one now, so that a new field, or a new field of the enclosed message,
        // stays in place.
        let needed = separator.is_empty() && (changed || entity.kind == EntityKind::Message);
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
    pub fn new(plan: ConversionPlan, header: &HeaderBlock) -> Self {
        let mut converted = header.clone();
        if plan.needs_conversion && relabel(&mut converted, plan.conversion(0)) && converted.first("MIME-Version").is_none() {
            converted.append(static_field("MIME-Version", "1.0"));
        }
        let mut output = SevenBitOutput { plan, encoder: Encoder::None, out: Vec::new() };
        let walker = MimeParser::new(header, &mut output);
        Self { parser: walker, output, header: converted }
    }

    /// Returns the header of the converted message.
    #[must_use]
    pub fn header(&self) -> &HeaderBlock {
        &self.header
    }

    /// Converts the next octets of the body; returns the converted octets.
    #[must_use]
    pub fn push(&mut self, octets: &[u8]) -> Vec<u8> {
        self.parser.push(octets, &mut self.output);
        std::mem::take(&mut self.output.out)
    }

    /// Ends the body; returns the last converted octets.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.parser.finish(&mut self.output);
        self.output.out
    }
}

/// Corrects the transfer encoding in a header, and adds the charset unknown-8bit (RFC 1428 §3) to text without a type.
/// Returns whether the header changed.
fn relabel(header: &mut HeaderBlock, treatment: EntityConversion) -> bool {
    let old = header.fields().iter().position(|f| f.has_name("Content-Transfer-Encoding"));
    let encoding = match treatment {
        EntityConversion::Unchanged => return false,
        EntityConversion::Relabel => {
            let says = old.and_then(|at| header.fields().get(at)).map(|f| f.unfolded().trim().to_ascii_lowercase());
            match says.as_deref() {
                Some("8bit" | "binary") => "7bit",
                Some(_) | None => return false,
            }
        }
        EntityConversion::QuotedPrintable => "quoted-printable",
        EntityConversion::Base64 => "base64",
    };
    if encoding != "7bit" && header.first("Content-Type").is_none() {
        header.append(static_field("Content-Type", "text/plain; charset=unknown-8bit"));
    }
    match old {
        Some(at) => header.set(at, static_field("Content-Transfer-Encoding", encoding)),
        None => header.append(static_field("Content-Transfer-Encoding", encoding)),
    }
    true
}

/// Creates a field from a constant name and value of the file.
fn static_field(name: &str, value: &str) -> Field {
    match Field::new(name, value.as_bytes()) {
        Ok(field) => field,
        Err(_) => unreachable!("constant names and values are well-formed"),
    }
}

/// Converts a message in memory; `None` if no conversion is needed.
pub fn to_seven_bit(header: &HeaderBlock, body: &[u8]) -> Result<Option<(HeaderBlock, Bytes)>, ConversionError> {
    convert(SevenBitScan::new(header), header, body)
}

/// Converts a message declared BINARYMIME; `None` if no conversion is needed.
pub fn binary_to_seven_bit(header: &HeaderBlock, body: &[u8]) -> Result<Option<(HeaderBlock, Bytes)>, ConversionError> {
    convert(SevenBitScan::new(header).with_binary(), header, body)
}

fn convert(mut survey: SevenBitScan, header: &HeaderBlock, body: &[u8]) -> Result<Option<(HeaderBlock, Bytes)>, ConversionError> {
    survey.push(body);
    let plan = survey.finish()?;
    if !plan.needs_conversion() {
        return Ok(None);
    }
    let mut writer = SevenBitWriter::new(plan, header);
    let header = writer.header().clone();
    let mut out = writer.push(body);
    out.extend_from_slice(&writer.finish());
    Ok(Some((header, out.into())))
}

#[cfg(test)]
mod tests;
