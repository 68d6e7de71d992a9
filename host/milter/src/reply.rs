//! Interpretation of milter replies.

use waxwing_types::{EnhancedCode, Reply, Verdict};

use crate::codec::{MilterResponse, ProtocolFlags};
use crate::error::MilterError;
use crate::step::ProtocolStep;

/// Maximum length of an SMTP reply in bytes.
const REPLY_BYTES_MAX: usize = 4096;

/// Meaning of a reply that ends a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MilterReply {
    /// Continue with the next step.
    Continue,
    /// Continue without further packets of this step.
    Skip,
    /// Accept the message or the session without further steps.
    Accept,
    /// Verdict on the message or the session.
    Verdict(Verdict),
}

/// Returns the meaning of a response at a step, or a protocol violation.
pub(crate) fn interpret(response: &MilterResponse, step: ProtocolStep, steps: ProtocolFlags) -> Result<MilterReply, MilterError> {
    let violation = |text: &str| MilterError::Violation(format!("{} {} {text}", response.name(), step.name()));
    let fixed = |code, enhanced, text| Reply::fixed(code, enhanced, text);
    let verdict = match response {
        MilterResponse::Continue => return Ok(MilterReply::Continue),
        MilterResponse::Accept => return Ok(MilterReply::Accept),
        MilterResponse::Skip if !steps.has(ProtocolFlags::SKIP) => return Err(violation("was not negotiated")),
        MilterResponse::Skip if matches!(step, ProtocolStep::Header | ProtocolStep::Body) => return Ok(MilterReply::Skip),
        MilterResponse::Discard if step.is_session_step() => return Err(violation("is not allowed before a message")),
        MilterResponse::Reject => Verdict::Reject(fixed(550, (5, 7, 1), "Command rejected")),
        MilterResponse::TemporaryFailure => Verdict::Defer(fixed(451, (4, 7, 1), "Service unavailable - try again later")),
        MilterResponse::Discard => Verdict::Discard { reason: "a milter discards it".to_owned() },
        MilterResponse::Shutdown | MilterResponse::ConnectionFailure => {
            Verdict::Disconnect(fixed(421, (4, 7, 0), "Server closing connection"))
        }
        MilterResponse::ReplyCode(text) => parse_reply_code(text)?,
        MilterResponse::Skip
        | MilterResponse::Negotiate(_)
        | MilterResponse::Progress
        | MilterResponse::AddHeader(..)
        | MilterResponse::InsertHeader(..)
        | MilterResponse::ChangeHeader(..)
        | MilterResponse::ChangeSender(..)
        | MilterResponse::AddRecipient(_)
        | MilterResponse::AddRecipientWithParameters(..)
        | MilterResponse::DeleteRecipient(_)
        | MilterResponse::ReplaceBody(_)
        | MilterResponse::Quarantine(_) => return Err(violation("is not allowed")),
    };
    Ok(MilterReply::Verdict(verdict))
}

/// Parses `550 5.7.1 text`, and several lines `550-5.7.1 text` CR LF `550 5.7.1 text`.
fn parse_reply_code(octets: &[u8]) -> Result<Verdict, MilterError> {
    let shown: String = String::from_utf8_lossy(octets).chars().take(80).collect();
    let wrong = |why: &str| MilterError::Violation(format!("the reply {shown:?} {why}"));
    if octets.len() > REPLY_BYTES_MAX {
        return Err(MilterError::LimitExceeded(format!("a reply of {} octets", octets.len())));
    }
    let text = std::str::from_utf8(octets).map_err(|_| wrong("is not UTF-8"))?;
    let digits = text.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let digits = digits.ok_or_else(|| wrong("has no code 4yz or 5yz"))?;
    let code =
        digits.parse::<u16>().ok().filter(|code| (400..600).contains(code)).ok_or_else(|| wrong("has no code 4yz or 5yz"))?;
    let (mut enhanced, mut words) = (None, Vec::new());
    for (number, line) in text.trim_end_matches(['\r', '\n']).split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let rest = line.strip_prefix(digits).ok_or_else(|| wrong("has lines of several codes"))?;
        let rest = match rest.as_bytes().first() {
            None => "",
            Some(b' ' | b'-') => rest.get(1..).unwrap_or_default(),
            Some(_) => return Err(wrong("has no space after the code")),
        };
        let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let found = first.parse::<EnhancedCode>().ok();
        if number == 0 {
            enhanced = found;
        }
        words.push(if found.is_some() && found == enhanced { after } else { rest });
    }
    // Milters double each per cent sign for libmilter, because Sendmail once printed these texts with printf.
    let words = words.join("\n").replace("%%", "%");
    let reply = Reply::new(code, enhanced, words).map_err(|error| wrong(&format!("cannot be sent: {error}")))?;
    Ok(match code {
        421 => Verdict::Disconnect(reply),
        ..500 => Verdict::Defer(reply),
        _ => Verdict::Reject(reply),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_code_is_read_with_its_lines() {
        for (text, wanted) in [
            ("550 5.7.1 no", "reject 550 5.7.1 no"),
            ("451 later", "defer 451 later"),
            ("421 4.3.0 bye", "disconnect 421 4.3.0 bye"),
            ("554-5.7.1 one\r\n554 5.7.1 100%% two\r\n", "reject 554 5.7.1 one / 100% two"),
            ("550", "reject 550 "),
        ] {
            let verdict = parse_reply_code(text.as_bytes()).unwrap();
            let (Verdict::Reject(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply)) = &verdict else {
                panic!("{text}")
            };
            assert_eq!(format!("{} {reply}", verdict.as_str()), wanted);
        }
    }

    #[test]
    fn a_reply_code_that_could_break_the_session_is_refused() {
        for text in
            ["250 fine", "55", "5500 x", "550_x", "550 a\r\n551 b", "550 a\x07", "550 4.1.1 a", "abc", "", "é50 x", "350 go on"]
        {
            assert!(parse_reply_code(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse_reply_code(&[b'5'; 5000]).is_err());
        assert!(parse_reply_code(b"550 \xff").is_err());
    }
}
