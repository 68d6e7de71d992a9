//! Parser for the parameters of MAIL and RCPT, limited to offered extensions.

use waxwing_types::{Address, BodyType, DsnReturn, Notify, Parameter};

use super::{MailOptions, RcptOptions, ServerSettings};
use crate::xtext;

/// Maximum length of ENVID in octets (RFC 3461 §4.4).
const ENVID_BYTES_MAX: usize = 100;
/// Maximum length of ORCPT in octets (RFC 3461 §4.2).
const ORCPT_BYTES_MAX: usize = 500;
/// Maximum length of the AUTH parameter of MAIL in octets (RFC 4954 §3).
const AUTH_BYTES_MAX: usize = 500;

/// Reason for refusing a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParameterError {
    /// Parameter of an extension not offered.
    Unsupported,
    /// Invalid value of an offered parameter.
    BadValue,
    /// REQUIRETLS before TLS; offered only on an encrypted connection.
    NeedsTls,
}

/// State of the connection on which offers depend, beyond the settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParameterContext {
    pub(super) tls: bool,
    pub(super) auth_offered: bool,
    pub(super) authenticated: bool,
}

/// Parses the parameters behind MAIL FROM; returns SIZE (RFC 1870) separately.
pub(super) fn parse_mail(
    parameters: &[Parameter],
    settings: &ServerSettings,
    context: ParameterContext,
) -> Result<(Option<u64>, MailOptions), ParameterError> {
    use ParameterError::{BadValue, NeedsTls, Unsupported};
    let (mut size, mut options) = (None, MailOptions::default());
    let flag = |value: &Option<String>| if value.is_none() { Ok(true) } else { Err(BadValue) };
    for (keyword, value) in parameters {
        let text = value.as_deref().unwrap_or_default();
        match keyword.as_str() {
            "SIZE" => size = Some(parse_size(text).ok_or(BadValue)?),
            "BODY" => options.body = parse_body(text, settings.chunking).ok_or(BadValue)?,
            "SMTPUTF8" if settings.smtputf8 => options.smtputf8 = flag(value)?,
            "REQUIRETLS" if settings.requiretls && context.tls => options.require_tls = flag(value)?,
            "REQUIRETLS" if settings.requiretls && settings.starttls => return Err(NeedsTls),
            "RET" if settings.dsn => options.ret = Some(parse_ret(text).ok_or(BadValue)?),
            "ENVID" if settings.dsn => options.envid = Some(parse_envid(text).ok_or(BadValue)?),
            "AUTH" if context.auth_offered || context.authenticated => {
                let auth = parse_auth(text).ok_or(BadValue)?;
                // RFC 4954 §5: an unauthenticated client must not assert an identity.
                options.auth = Some(if context.authenticated { auth } else { "<>".to_owned() });
            }
            "PRDR" if settings.prdr => options.prdr = flag(value)?,
            _ => return Err(Unsupported),
        }
    }
    Ok((size, options))
}

/// Parses the parameters behind RCPT TO.
pub(super) fn parse_rcpt(parameters: &[Parameter], settings: &ServerSettings) -> Result<RcptOptions, ParameterError> {
    let mut options = RcptOptions::default();
    for (keyword, value) in parameters {
        let text = value.as_deref().unwrap_or_default();
        match keyword.as_str() {
            "NOTIFY" if settings.dsn => options.notify = parse_notify(text).ok_or(ParameterError::BadValue)?,
            "ORCPT" if settings.dsn => options.orcpt = Some(parse_orcpt(text).ok_or(ParameterError::BadValue)?),
            _ => return Err(ParameterError::Unsupported),
        }
    }
    Ok(options)
}

/// Parses one to twenty digits (RFC 1870 §4); a number beyond 64 bits exceeds every limit.
fn parse_size(value: &str) -> Option<u64> {
    let ok = (1..=20).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| value.parse().unwrap_or(u64::MAX))
}

fn parse_body(value: &str, chunking: bool) -> Option<BodyType> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Some(BodyType::SevenBit),
        "8BITMIME" => Some(BodyType::EightBitMime),
        "BINARYMIME" if chunking => Some(BodyType::BinaryMime),
        _ => None,
    }
}

fn parse_ret(value: &str) -> Option<DsnReturn> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Some(DsnReturn::Full),
        "HDRS" => Some(DsnReturn::Headers),
        _ => None,
    }
}

/// Parses ENVID. DSNs repeat the value, so the decoded form must be printable too.
fn parse_envid(value: &str) -> Option<String> {
    let ok = (1..=ENVID_BYTES_MAX).contains(&value.len()) && is_printable(&xtext::decode(value)?);
    ok.then(|| value.to_owned())
}

fn is_printable(octets: &[u8]) -> bool {
    octets.iter().all(|b| (b' '..=b'~').contains(b))
}

/// Parses `NEVER`, alone, or a list of conditions (RFC 3461 §4.1).
fn parse_notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => success = true,
            "FAILURE" => failure = true,
            "DELAY" => delay = true,
            _ => return None,
        }
    }
    Some(Notify::On { success, failure, delay })
}

/// Parses `type;xtext` (RFC 3461 §4.2); the address type is an atom. The xtext may decode to UTF-8 for any type:
/// Postfix sends a recipient with SMTPUTF8 as `rfc822;gr+C3+BC...`, and a refusal would lose the mail. DSNs show the
/// value as sent.
fn parse_orcpt(value: &str) -> Option<String> {
    let (kind, address) = value.split_once(';')?;
    let kind_ok = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b));
    let decoded = String::from_utf8(xtext::decode(address)?).ok()?;
    let address_ok = !decoded.is_empty() && !decoded.chars().any(char::is_control);
    (kind_ok && address_ok && value.len() <= ORCPT_BYTES_MAX).then(|| value.to_owned())
}

/// Parses `<>`, or a mailbox as xtext (RFC 4954 §5).
fn parse_auth(value: &str) -> Option<String> {
    let decoded = String::from_utf8(xtext::decode(value)?).ok()?;
    let ok = value.len() <= AUTH_BYTES_MAX && (decoded == "<>" || Address::parse(&decoded).is_ok());
    ok.then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::parse_parameters;

    const PLAIN: ParameterContext = ParameterContext { tls: false, auth_offered: false, authenticated: false };

    fn read(
        text: &str,
        settings: &ServerSettings,
        accepted: ParameterContext,
    ) -> Result<(Option<u64>, MailOptions), ParameterError> {
        parse_mail(&parse_parameters(text).unwrap(), settings, accepted)
    }

    #[test]
    fn nothing_is_taken_that_is_not_offered() {
        let bare = ServerSettings {
            smtputf8: false,
            chunking: false,
            dsn: false,
            requiretls: false,
            prdr: false,
            ..ServerSettings::new("h.example")
        };
        for text in [" SMTPUTF8", " RET=FULL", " ENVID=x", " AUTH=<>", " PRDR", " REQUIRETLS", " FOO"] {
            assert_eq!(read(text, &bare, PLAIN), Err(ParameterError::Unsupported), "{text}");
        }
        assert_eq!(read(" BODY=BINARYMIME", &bare, PLAIN), Err(ParameterError::BadValue));
        let with_tls = ServerSettings { requiretls: true, starttls: true, ..bare.clone() };
        assert_eq!(read(" REQUIRETLS", &with_tls, PLAIN), Err(ParameterError::NeedsTls));
        assert!(read(" REQUIRETLS", &with_tls, ParameterContext { tls: true, ..PLAIN }).unwrap().1.require_tls);
        assert_eq!(parse_rcpt(&parse_parameters(" NOTIFY=NEVER").unwrap(), &bare), Err(ParameterError::Unsupported));
    }

    #[test]
    fn reads_size_and_body() {
        let settings = ServerSettings::new("h.example");
        let found = read(" SIZE=5 body=8bitmime", &settings, PLAIN).unwrap();
        assert_eq!((found.0, found.1.body), (Some(5), BodyType::EightBitMime));
        assert_eq!(read(" SIZE=99999999999999999999", &settings, PLAIN).unwrap().0, Some(u64::MAX));
        for text in [" SIZE", " SIZE=-1", " BODY=9BIT", " BODY"] {
            assert_eq!(read(text, &settings, PLAIN), Err(ParameterError::BadValue), "{text}");
        }
    }

    #[test]
    fn reads_the_parameters_of_reports() {
        let settings = ServerSettings { dsn: true, ..ServerSettings::new("h.example") };
        let found = read(" RET=hdrs ENVID=QQ+20x", &settings, PLAIN).unwrap().1;
        assert_eq!((found.ret, found.envid.as_deref()), (Some(DsnReturn::Headers), Some("QQ+20x")));
        let long = format!(" ENVID={}", "x".repeat(ENVID_BYTES_MAX + 1));
        for text in [" RET=ALL", " RET", " ENVID=a+0Ab", " ENVID=a+2", " ENVID", &long] {
            assert_eq!(read(text, &settings, PLAIN), Err(ParameterError::BadValue), "{text}");
        }
        let rcpt = |text: &str| parse_rcpt(&parse_parameters(text).unwrap(), &settings);
        assert_eq!(rcpt(" NOTIFY=never").unwrap().notify, Notify::Never);
        let on = Notify::On { success: true, failure: false, delay: true };
        assert_eq!(rcpt(" NOTIFY=SUCCESS,delay").unwrap().notify, on);
        assert_eq!(rcpt(" ORCPT=rfc822;a+2Bb@c.example").unwrap().orcpt.as_deref(), Some("rfc822;a+2Bb@c.example"));
        assert_eq!(rcpt(" ORCPT=rfc822;gr+C3+BCn@c.example").unwrap().orcpt.as_deref(), Some("rfc822;gr+C3+BCn@c.example"));
        let long = format!(" ORCPT=rfc822;{}", "x".repeat(ORCPT_BYTES_MAX));
        for text in [
            " NOTIFY",
            " NOTIFY=NEVER,SUCCESS",
            " NOTIFY=SUCCESS,",
            " NOTIFY=now",
            " ORCPT=a@b",
            " ORCPT=;a",
            " ORCPT=rfc822;",
            " ORCPT=rfc822;a+00",
            " ORCPT=rfc822;a+C3",
            " ORCPT=rfc822;a+C2+85",
            &long,
        ] {
            assert_eq!(rcpt(text), Err(ParameterError::BadValue), "{text}");
        }
    }

    #[test]
    fn only_who_is_somebody_says_who_somebody_was() {
        let settings = ServerSettings::new("h.example");
        let offered = ParameterContext { auth_offered: true, ..PLAIN };
        let user = ParameterContext { authenticated: true, ..PLAIN };
        assert_eq!(read(" AUTH=a+2Bb@c.example", &settings, user).unwrap().1.auth.as_deref(), Some("a+b@c.example"));
        assert_eq!(read(" AUTH=a@c.example", &settings, offered).unwrap().1.auth.as_deref(), Some("<>"));
        for text in [" AUTH", " AUTH=a@@b", " AUTH=a+2"] {
            assert_eq!(read(text, &settings, user), Err(ParameterError::BadValue), "{text}");
        }
    }
}
