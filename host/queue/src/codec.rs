//! Binary encoding shared by all records: variable-length numbers and length-prefixed octets.

/// Error for bytes that do not form a valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct MalformedRecord(pub(crate) &'static str);

/// Octets of the record header: version, then CRC.
pub(crate) const RECORD_HEADER_BYTES: usize = 5;

/// Appends fields to a record.
#[derive(Default)]
pub(crate) struct RecordWriter(pub(crate) Vec<u8>);

impl RecordWriter {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Starts a record: the version, and space for the CRC filled in by [`RecordWriter::seal`].
    pub(crate) fn new_record(version: u8, bytes: usize) -> Self {
        let mut writer = Self::with_capacity(RECORD_HEADER_BYTES + bytes);
        writer.0.extend_from_slice(&[version, 0, 0, 0, 0]);
        writer
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Appends a number, seven bits per octet, lowest bits first.
    pub(crate) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// Appends 0, or 1 followed by the text.
    pub(crate) fn optional(&mut self, value: Option<&str>) {
        match value {
            None => self.u8(0),
            Some(text) => {
                self.u8(1);
                self.text(text);
            }
        }
    }

    /// Finishes a record: the CRC covers the key and everything behind the CRC.
    pub(crate) fn seal(mut self, key: &[u8]) -> Vec<u8> {
        seal_record(&mut self.0, key);
        self.0
    }
}

/// Fills in the CRC of a record that starts with a version and space for the CRC.
pub(crate) fn seal_record(record: &mut [u8], key: &[u8]) {
    if let Some((header, payload)) = record.split_at_mut_checked(RECORD_HEADER_BYTES) {
        let sum = checksum(key, payload).to_le_bytes();
        if let Some(space) = header.get_mut(1..) {
            space.copy_from_slice(&sum);
        }
    }
}

/// Checks version and CRC; returns the payload behind the header.
pub(crate) fn open_record<'a>(record: &'a [u8], key: &[u8], version: u8) -> Result<&'a [u8], MalformedRecord> {
    let (header, payload) =
        record.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or(MalformedRecord("the record is too short"))?;
    let [found_version, sum @ ..] = *header;
    if found_version != version {
        return Err(MalformedRecord("the record has a version that this program does not know"));
    }
    if u32::from_le_bytes(sum) != checksum(key, payload) {
        return Err(MalformedRecord("the record does not have its CRC"));
    }
    Ok(payload)
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

/// Reads fields from the front of a record.
pub(crate) struct RecordReader<'a>(pub(crate) &'a [u8]);

impl<'a> RecordReader<'a> {
    pub(crate) fn u8(&mut self) -> Result<u8, MalformedRecord> {
        let (first, rest) = self.0.split_first().ok_or(MalformedRecord("the record ends early"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn number(&mut self) -> Result<u64, MalformedRecord> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let octet = self.u8()?;
            let bits = u64::from(octet & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MalformedRecord("a number is too large"))
    }

    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, MalformedRecord> {
        T::try_from(self.number()?).map_err(|_| MalformedRecord("a number is too large"))
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], MalformedRecord> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(MalformedRecord("the record ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedRecord> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(MalformedRecord("the record ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], MalformedRecord> {
        let length = self.narrow()?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, MalformedRecord> {
        std::str::from_utf8(self.bytes()?).map_err(|_| MalformedRecord("a text is not UTF-8"))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, MalformedRecord> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(MalformedRecord("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn optional(&mut self) -> Result<Option<String>, MalformedRecord> {
        Ok(if self.flag()? { Some(self.text()?.to_owned()) } else { None })
    }

    /// Reads a count of elements of at least an octet each, so that a corrupt count cannot cause a large allocation.
    pub(crate) fn count(&mut self) -> Result<usize, MalformedRecord> {
        let count = self.narrow::<usize>()?;
        if count > self.0.len() { Err(MalformedRecord("a count is larger than the record")) } else { Ok(count) }
    }

    pub(crate) fn end(self) -> Result<(), MalformedRecord> {
        if self.0.is_empty() { Ok(()) } else { Err(MalformedRecord("the record is longer than its fields")) }
    }
}
