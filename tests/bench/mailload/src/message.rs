//! Test messages, each with a unique Message-ID and an incompressible body.

/// Characters of a body, 64 of them: 6 bits of noise in each.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Characters of a line of the body, without its CRLF.
const LINE_BYTES: usize = 76;

/// The Message-ID of message `number` of a run, without angle brackets.
pub(crate) fn id(run: &str, number: usize) -> String {
    format!("{run}.{number}@load.example.test")
}

/// A message of about `bytes` octets with CRLF line ends, ready to be sent: no line begins with a dot.
pub(crate) fn text(id: &str, recipient: &str, bytes: usize) -> Vec<u8> {
    let mut message = format!(
        "From: Load <load@example.test>\r\nTo: <{recipient}>\r\nSubject: load {id}\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <{id}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    )
    .into_bytes();
    message.reserve(bytes + LINE_BYTES);
    let mut noise = Noise::seeded(id);
    while message.len() < bytes {
        for _ in 0..LINE_BYTES {
            message.push(noise.character());
        }
        message.extend_from_slice(b"\r\n");
    }
    message
}

/// Message-ID of a header line, if present.
pub(crate) fn id_in(line: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"message-id:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let value = value.trim_ascii();
    value.strip_prefix(b"<").and_then(|value| value.strip_suffix(b">")).or(Some(value))
}

/// Xorshift generator with the same sequence in every run of the same name.
struct Noise {
    state: u64,
    word: u64,
    left: u32,
}

impl Noise {
    fn seeded(seed: &str) -> Self {
        let fnv =
            seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { state: fnv | 1, word: 0, left: 0 }
    }

    fn character(&mut self) -> u8 {
        if self.left == 0 {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.word = self.state;
            self.left = 10;
        }
        self.left -= 1;
        let index = (self.word & 63) as usize;
        self.word >>= 6;
        ALPHABET.get(index).copied().unwrap_or(b'A')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_differ_and_have_their_size() {
        let (a, b) = (text(&id("r", 1), "u@x.test", 4096), text(&id("r", 2), "u@x.test", 4096));
        assert!(a.len() >= 4096 && a.len() < 4096 + 2 * LINE_BYTES);
        let same = a.iter().zip(&b).skip(400).filter(|(x, y)| x == y).count();
        assert!(same < a.len() / 10, "{same} characters in common");
        assert!(!a.split(|&byte| byte == b'\n').any(|line| line.starts_with(b".")));
    }

    #[test]
    fn the_id_is_read_back() {
        let message = text("r.7@load.example.test", "u@x.test", 100);
        let found: Vec<&[u8]> = message.split(|&byte| byte == b'\n').filter_map(id_in).collect();
        assert_eq!(found, [b"r.7@load.example.test"]);
        assert_eq!(id_in(b"Message-IDs: <a>"), None);
        assert_eq!(id_in(b"MESSAGE-ID: a@b\r\n"), Some(&b"a@b"[..]));
    }
}
