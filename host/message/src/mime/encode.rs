//! Quoted-printable and base64 encoders for content in pieces (RFC 2045 §6.7, §6.8).

/// Maximum characters of an encoded line, without line end.
const LINE_CHARS_MAX: usize = 76;
/// Octets encoded in a full line of base64.
const BASE64_LINE_OCTETS: usize = 57;
const HEX: &[u8; 16] = b"0123456789ABCDEF";
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writer for text as quoted-printable. CRLF stays a line end; a bare CR or LF is encoded.
#[derive(Debug, Default)]
pub(crate) struct QuotedPrintableWriter {
    column: usize,
    /// Last white space or CR, held back: encoded at the end of a line, or if no LF follows the CR.
    pending: Option<u8>,
}

impl QuotedPrintableWriter {
    pub(crate) fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        for byte in octets {
            match (self.pending.take(), *byte) {
                (Some(b'\r'), b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    self.column = 0;
                    continue;
                }
                (Some(b'\r'), _) => self.write_escaped(b'\r', out),
                (Some(space), b'\r') => self.write_escaped(space, out),
                (Some(space), _) => self.write_literal(space, out),
                (None, _) => {}
            }
            match *byte {
                b' ' | b'\t' | b'\r' => self.pending = Some(*byte),
                b'=' | 0..=31 | 127..=255 => self.write_escaped(*byte, out),
                plain => self.write_literal(plain, out),
            }
        }
    }

    /// Ends the content. `open_end`: no line end follows from elsewhere, so an incomplete line gets a soft line end.
    pub(crate) fn finish(&mut self, open_end: bool, out: &mut Vec<u8>) {
        if let Some(byte) = self.pending.take() {
            self.write_escaped(byte, out);
        }
        if open_end && self.column > 0 {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
    }

    /// Reserves columns on the line; returns whether a soft line end was needed.
    fn reserve_columns(&mut self, width: usize, out: &mut Vec<u8>) -> bool {
        let breaks = self.column + width > LINE_CHARS_MAX - 1;
        if breaks {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
        self.column += width;
        breaks
    }

    /// Writes a literal octet. A hyphen after a soft line end is encoded: the line must not turn into a delimiter.
    fn write_literal(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.reserve_columns(1, out) && byte == b'-' {
            self.column = 0;
            self.write_escaped(byte, out);
        } else {
            out.push(byte);
        }
    }

    fn write_escaped(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.reserve_columns(3, out);
        let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
        out.extend_from_slice(&[b'=', digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Writer for base64 in lines of 76 characters.
#[derive(Debug, Default)]
pub(crate) struct Base64Writer {
    pending: Vec<u8>,
    lines_written: u64,
}

impl Base64Writer {
    pub(crate) fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        self.pending.extend_from_slice(octets);
        let held = std::mem::take(&mut self.pending);
        let mut lines = held.chunks_exact(BASE64_LINE_OCTETS);
        for line in &mut lines {
            self.write_line(line, out);
        }
        self.pending = lines.remainder().to_vec();
    }

    /// Ends the content. `open_end`: no line end follows from elsewhere.
    pub(crate) fn finish(&mut self, open_end: bool, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.write_line(&rest, out);
        }
        if open_end && self.lines_written > 0 {
            out.extend_from_slice(b"\r\n");
        }
    }

    fn write_line(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        if self.lines_written > 0 {
            out.extend_from_slice(b"\r\n");
        }
        self.lines_written += 1;
        for group in octets.chunks(3) {
            let at = |index: usize| group.get(index).copied().map_or(0, u32::from);
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for position in 0..4 {
                let digit = (bits >> (18 - 6 * position) & 63) as usize;
                out.push(if position > group.len() { b'=' } else { DIGITS.get(digit).copied().unwrap_or(b'=') });
            }
        }
    }
}
