//! Target `auth_exchange`: a line of flags, a line of sizes, then a client's lines in a session with AUTH.
//!
//! Text behind `~` in a client's line is sent as base64, so that a fuzzer changes the message of the mechanism and not its encoding;
//! `,p=!` at the end stands for the SCRAM proof. The session starts behind EHLO. Flags: `S` offers AUTH only over TLS,
//! `H` leaves EHLO to the client, `Y` offers no -PLUS.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use waxwing_auth::{
    ChannelBinding, LoginMechanism, LoginStep, PlainResponse, SaslError, ScramExchange, ScramKeys, parse_oauthbearer,
    parse_plain, parse_xoauth2,
};
use waxwing_smtp::server::{AuthStep, AuthStepAnswer, DropAnswer, MessageAnswer, ServerAnswer, ServerQuestion, StepAnswer};
use waxwing_smtp::{ReplyReader, ServerSession, ServerSettings};
use waxwing_types::{Input, Reply};

use crate::drive::{Driver, Event};
use crate::layout::{bounded, chop, split_line};
use crate::server::FLIGHT;

/// Name and password of the only user.
const USER: &str = "ann";
const PASSWORD: &str = "pencil";
const TOKEN: &str = "t0ken";
const SALT: &[u8] = b"0123456789abcdef";
/// Number of PBKDF2 rounds, small for the speed of the fuzzer.
const ROUNDS: u32 = 1;
const NONCE: &str = "3rfcNHYJY1ZVvWVs7j";
const LINE_BYTES_MAX: usize = 2048;
const MECHANISMS: [&str; 5] = ["PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256"];
const PLUS: &str = "SCRAM-SHA-256-PLUS";

static KEYS: LazyLock<ScramKeys> = LazyLock::new(|| ScramKeys::from_password(PASSWORD, SALT, ROUNDS).expect("keys"));

/// Any division of the input gives the same; memory is bounded; a mechanism's input was on the wire as base64; each mechanism agrees with a plain
/// second implementation of its RFC; only a client with the secret is authenticated, and 235 is sent exactly then.
pub fn auth_exchange(input: &[u8]) {
    let (letters, rest) = split_line(bounded(input));
    let (sizes, text) = split_line(rest);
    let flights: Vec<Vec<u8>> = text.split(|octet| *octet == FLIGHT).map(spoken).collect();
    let whole = run(letters, &flights, |flight| vec![flight]);
    assert_eq!(run(letters, &flights, |flight| chop(flight, sizes)), whole, "cut by {sizes:?}");
    assert_eq!(run(letters, &flights, |flight| chop(flight, b"")), whole, "octet by octet");
}

/// Octets on the wire for the text of a flight.
fn spoken(text: &[u8]) -> Vec<u8> {
    let (mut out, mut first) = (Vec::new(), Vec::new());
    let mut lines = text.split(|octet| *octet == b'\n').peekable();
    while let Some(line) = lines.next() {
        if lines.peek().is_none() && line.is_empty() {
            break;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.iter().position(|octet| *octet == b'~') {
            Some(at) => {
                let (before, payload) = (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default());
                let said = with_proof(payload, &first);
                if !before.is_empty() || first.is_empty() {
                    first = said.clone();
                }
                out.extend_from_slice(before);
                out.extend_from_slice(BASE64.encode(said).as_bytes());
            }
            None => out.extend_from_slice(line),
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Replaces `!` by the proof, for an exchange with the client-first message `first`.
fn with_proof(payload: &[u8], first: &[u8]) -> Vec<u8> {
    let begun = std::str::from_utf8(first).ok().and_then(|first| first.splitn(3, ',').nth(2));
    match (payload.strip_suffix(b",p=!"), begun) {
        (Some(without), Some(bare)) => [without, b",p=", BASE64.encode(proof(bare, without)).as_bytes()].concat(),
        _ => payload.to_vec(),
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// Server-first message in reply to a client-first message.
fn server_first(bare: &str) -> Option<String> {
    let theirs = bare.split(',').nth(1)?.strip_prefix("r=")?;
    Some(format!("r={theirs}{NONCE},s={},i={ROUNDS}", BASE64.encode(SALT)))
}

/// ClientProof of RFC 5802 §3, without code of `waxwing_auth`.
fn proof(bare: &str, without: &[u8]) -> Vec<u8> {
    static CLIENT_KEY: LazyLock<Vec<u8>> = LazyLock::new(|| {
        // Hi() with one round is one HMAC.
        let salted = mac(PASSWORD.as_bytes(), &[SALT, &[0, 0, 0, 1]].concat());
        mac(&salted, b"Client Key")
    });
    let said = [bare.as_bytes(), b",", server_first(bare).unwrap_or_default().as_bytes(), b",", without].concat();
    let signature = mac(&Sha256::digest(CLIENT_KEY.as_slice()), &said);
    CLIENT_KEY.iter().zip(signature).map(|(key, sign)| key ^ sign).collect()
}

fn settings(letters: &[u8]) -> ServerSettings {
    let mut settings = ServerSettings::new("mx.example");
    settings.auth_line_bytes_max = LINE_BYTES_MAX;
    settings.errors_max = 12;
    settings.junk_commands_max = 12;
    settings.starttls = true;
    let plus = if letters.contains(&b'Y') { None } else { Some(PLUS) };
    settings.auth = MECHANISMS.into_iter().chain(plus).map(str::to_owned).collect();
    settings.auth_plaintext = if letters.contains(&b'S') { Vec::new() } else { MECHANISMS.map(str::to_owned).to_vec() };
    settings
}

fn run<'w>(letters: &[u8], flights: &'w [Vec<u8>], cut: impl Fn(&'w [u8]) -> Vec<&'w [u8]>) -> Vec<Event<ServerQuestion>> {
    let mut host = Host { wire: flights, offers_plus: !letters.contains(&b'Y'), tls: false, state: State::Nothing, let_in: 0 };
    let session = ServerSession::new(Arc::new(settings(letters)));
    let mut driver = Driver::start(session, |question: &ServerQuestion| host.answer(question));
    if !letters.contains(&b'H') {
        driver.give(Input::Bytes(b"EHLO client.example\r\n"));
    }
    for flight in flights {
        for piece in cut(flight).into_iter().filter(|piece| !piece.is_empty()) {
            driver.give(Input::Bytes(piece));
            let held = driver.session.held_bytes();
            assert!(held <= LINE_BYTES_MAX + piece.len(), "{held} octets held");
        }
        if driver.handshake {
            driver.shake_hands();
            if !letters.contains(&b'H') {
                driver.give(Input::Bytes(b"EHLO client.example\r\n"));
            }
        }
    }
    driver.give(Input::Eof);
    let events = driver.events;
    let said: usize = events.iter().map(|event| if let Event::Sent(octets) = event { successes(octets) } else { 0 }).sum();
    assert_eq!(said, host.let_in, "235 where the host let in nobody, or the other way round");
    events
}

/// Number of 235 replies in the output.
fn successes(octets: &[u8]) -> usize {
    let (mut reader, mut input, mut found) = (ReplyReader::new(8192, 100), octets, 0);
    while let Some(reply) = reader.next(&mut input) {
        found += usize::from(reply.expect("what the server sends is a reply").code() == 235);
    }
    found
}

enum State {
    Nothing,
    Plain,
    Login(LoginMechanism, Vec<Vec<u8>>),
    Bearer { xoauth2: bool },
    Scram { plus: bool },
    Challenged { scram: Box<ScramExchange>, first: Vec<u8>, known: bool, plus: bool },
    Acknowledge,
}

/// Host that runs the mechanisms like `accounts`, with one user, and checks each against a second implementation.
struct Host<'a> {
    wire: &'a [Vec<u8>],
    offers_plus: bool,
    tls: bool,
    state: State,
    let_in: usize,
}

impl Host<'_> {
    fn answer(&mut self, question: &ServerQuestion) -> ServerAnswer {
        match question {
            ServerQuestion::Auth(AuthStep::Begin(mechanism, initial)) => {
                self.state = self.begin(mechanism);
                self.step(initial.as_deref())
            }
            ServerQuestion::Auth(AuthStep::Response(response)) => self.step(Some(response)),
            ServerQuestion::Auth(AuthStep::Cancel) => {
                assert!(!matches!(self.state, State::Nothing), "a cancelled exchange that had not begun");
                self.state = State::Nothing;
                ServerAnswer::Drop(DropAnswer::Done)
            }
            ServerQuestion::Secured(_) => {
                self.tls = true;
                ServerAnswer::Step(StepAnswer::Ok)
            }
            ServerQuestion::Reset => ServerAnswer::Drop(DropAnswer::Done),
            ServerQuestion::EndOfData => ServerAnswer::Message(MessageAnswer::Committed(Reply::fixed(250, (2, 0, 0), "queued"))),
            ServerQuestion::Connect
            | ServerQuestion::Helo { .. }
            | ServerQuestion::Mail { .. }
            | ServerQuestion::Rcpt { .. }
            | ServerQuestion::Xclient(_)
            | ServerQuestion::Command { .. }
            | ServerQuestion::Data => ServerAnswer::Step(StepAnswer::Ok),
        }
    }

    fn begin(&self, mechanism: &str) -> State {
        assert!(matches!(self.state, State::Nothing), "an exchange within an exchange");
        match mechanism {
            "PLAIN" => State::Plain,
            "LOGIN" => State::Login(LoginMechanism::default(), Vec::new()),
            "OAUTHBEARER" => State::Bearer { xoauth2: false },
            "XOAUTH2" => State::Bearer { xoauth2: true },
            "SCRAM-SHA-256" => State::Scram { plus: false },
            PLUS => {
                assert!(self.tls && self.offers_plus, "{PLUS} was not offered");
                State::Scram { plus: true }
            }
            other => panic!("{other} was not offered"),
        }
    }

    fn step(&mut self, response: Option<&[u8]>) -> ServerAnswer {
        if let Some(response) = response.filter(|response| !response.is_empty()) {
            let encoded = BASE64.encode(response);
            let is_said = |flight: &Vec<u8>| flight.windows(encoded.len()).any(|part| part == encoded.as_bytes());
            assert!(self.wire.iter().any(is_said), "what was never said: {response:?}");
        }
        match (std::mem::replace(&mut self.state, State::Nothing), response) {
            (State::Nothing, _) => panic!("a response to nothing"),
            (State::Login(mut login, mut heard), response) => {
                heard.extend(response.map(<[u8]>::to_vec));
                match login.step(response) {
                    Ok(LoginStep::Prompt(words)) => {
                        self.state = State::Login(login, heard);
                        ServerAnswer::Auth(AuthStepAnswer::Challenge(words.to_vec()))
                    }
                    Ok(LoginStep::Complete(said)) => {
                        assert!(heard == [said.user.as_bytes(), said.secret.as_bytes()], "LOGIN heard otherwise");
                        self.decide(&said)
                    }
                    Err(_) => refused(),
                }
            }
            (State::Acknowledge, Some(b"")) => self.welcome(),
            (State::Acknowledge, _) => refused(),
            (state, None) => {
                self.state = state;
                ServerAnswer::Auth(AuthStepAnswer::Challenge(Vec::new()))
            }
            (State::Plain, Some(response)) => self.plain(response),
            (State::Bearer { xoauth2 }, Some(response)) => self.bearer(response, xoauth2),
            (State::Scram { plus }, Some(first)) => self.scram(first, plus),
            (State::Challenged { mut scram, first, known, plus }, Some(last)) => {
                let done = scram.finish(last);
                self.finished(&done, &first, last, known, plus)
            }
        }
    }

    fn plain(&mut self, response: &[u8]) -> ServerAnswer {
        let parts: Vec<&[u8]> = response.split(|octet| *octet == 0).collect();
        match (parse_plain(response), parts.as_slice()) {
            (Ok(said), [authzid, user, secret]) => {
                let heard = [said.authzid.as_bytes(), said.user.as_bytes(), said.secret.as_bytes()];
                assert!(heard == [*authzid, *user, *secret] && !user.is_empty() && !secret.is_empty(), "PLAIN heard otherwise");
                self.decide(&said)
            }
            (Ok(_), parts) => panic!("PLAIN of {} parts", parts.len()),
            (Err(_), _) => refused(),
        }
    }

    fn bearer(&mut self, response: &[u8], xoauth2: bool) -> ServerAnswer {
        let Some(said) = (if xoauth2 { parse_xoauth2(response) } else { parse_oauthbearer(response) }) else { return refused() };
        assert!(response.ends_with(b"\x01\x01") && !said.user.is_empty(), "a bearer without an end or a name");
        let token = said.token.as_bytes();
        assert!(
            token.iter().all(u8::is_ascii_graphic) && response.windows(token.len()).any(|part| part == token),
            "another token"
        );
        match said.user == USER && said.token == TOKEN {
            true => self.welcome(),
            false => refused(),
        }
    }

    fn scram(&mut self, first: &[u8], plus: bool) -> ServerAnswer {
        let exporter = [7; 32]; // as the driver's handshake has it
        let binding = match (plus, self.tls && self.offers_plus) {
            (true, _) => ChannelBinding::TlsExporter(&exporter),
            (false, true) => ChannelBinding::PlusOffered,
            (false, false) => ChannelBinding::NotOffered,
        };
        let Ok((mut scram, who)) = ScramExchange::begin(first, binding, NONCE) else { return refused() };
        let known = who.user == USER && (who.authzid.is_empty() || who.authzid == USER);
        let challenge = scram.challenge(if known { KEYS.clone() } else { ScramKeys::dummy(&[9; 32], &who.user) });
        self.state = State::Challenged { scram: Box::new(scram), first: first.to_vec(), known, plus };
        ServerAnswer::Auth(AuthStepAnswer::Challenge(challenge))
    }

    /// An authenticated client has sent the proof, the binding of this channel and the nonce of this exchange.
    fn finished(
        &mut self,
        done: &Result<Vec<u8>, SaslError>,
        first: &[u8],
        last: &[u8],
        known: bool,
        plus: bool,
    ) -> ServerAnswer {
        let Ok(verifier) = done else { return refused() };
        assert!(known, "nobody's proof");
        let (first, last) = (std::str::from_utf8(first).expect("UTF-8"), std::str::from_utf8(last).expect("UTF-8"));
        let bare = first.splitn(3, ',').nth(2).expect("three parts");
        let header = first.get(..first.len() - bare.len()).expect("a header");
        let (without, sent) = last.rsplit_once(",p=").expect("a proof");
        assert_eq!(sent, BASE64.encode(proof(bare, without.as_bytes())), "another proof");
        let bound = [header.as_bytes(), if plus { &[7; 32] } else { b"" }].concat();
        let nonce = server_first(bare).expect("a nonce");
        let nonce = nonce.split(',').next().expect("a nonce");
        let start = format!("c={},{nonce}", BASE64.encode(bound));
        assert!(without == start || without.starts_with(&format!("{start},")), "{without}, and not {start}");
        self.state = State::Acknowledge;
        ServerAnswer::Auth(AuthStepAnswer::Challenge(verifier.clone()))
    }

    fn decide(&mut self, said: &PlainResponse) -> ServerAnswer {
        let own = said.authzid.is_empty() || said.authzid == said.user;
        match own && said.user == USER && said.secret == PASSWORD {
            true => self.welcome(),
            false => refused(),
        }
    }

    fn welcome(&mut self) -> ServerAnswer {
        self.let_in += 1;
        ServerAnswer::Auth(AuthStepAnswer::Authenticated)
    }
}

fn refused() -> ServerAnswer {
    ServerAnswer::Auth(AuthStepAnswer::Reject(Reply::fixed(535, (5, 7, 8), "no")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of successful logins by these lines.
    fn let_in(letters: &str, text: &str) -> usize {
        auth_exchange(format!("{letters}\n\x06\n{text}").as_bytes());
        let flights: Vec<Vec<u8>> = text.as_bytes().split(|octet| *octet == FLIGHT).map(spoken).collect();
        let events = run(letters.as_bytes(), &flights, |flight| vec![flight]);
        events.iter().map(|event| if let Event::Sent(octets) = event { successes(octets) } else { 0 }).sum()
    }

    #[test]
    fn who_knows_the_secret_reaches_the_end_of_each_mechanism() {
        let nonce = format!("r=abc{NONCE}");
        let tls = "STARTTLS\n\x16";
        let bound = BASE64.encode([b"p=tls-exporter,,".as_slice(), &[7; 32]].concat());
        for text in [
            "AUTH PLAIN ~\0ann\0pencil\n",
            "AUTH PLAIN\n~ann\0ann\0pencil\n",
            "AUTH LOGIN\n~ann\n~pencil\n",
            "AUTH LOGIN ~ann\n~pencil\n",
            "AUTH OAUTHBEARER ~n,a=ann,\x01host=x\x01auth=Bearer t0ken\x01\x01\n",
            "AUTH XOAUTH2 ~user=ann\x01auth=Bearer t0ken\x01\x01\n",
            &format!("AUTH SCRAM-SHA-256 ~n,,n=ann,r=abc\n~c=biws,{nonce},p=!\n\n"),
            &format!("AUTH SCRAM-SHA-256 ~y,,n=ann,r=abc\n~c=eSws,{nonce},p=!\n\n"),
            &format!("{tls}AUTH {PLUS} ~p=tls-exporter,,n=ann,r=abc\n~c={bound},{nonce},p=!\n\n"),
        ] {
            assert_eq!(let_in("", text), 1, "{text:?}");
        }
        for text in [
            "AUTH PLAIN ~\0ann\0pen\n",
            "AUTH PLAIN ~ben\0ann\0pencil\n",
            "AUTH LOGIN ~ann\n*\n",
            "AUTH SCRAM-SHA-256 ~n,,n=ben,r=abc\n~c=biws,r=abc,p=!\n\n",
            &format!("AUTH SCRAM-SHA-256 ~n,,n=ann,r=abc\n~c=eSws,{nonce},p=!\n\n"),
            &format!("{tls}AUTH SCRAM-SHA-256 ~y,,n=ann,r=abc\n~c=eSws,{nonce},p=!\n\n"),
        ] {
            assert_eq!(let_in("", text), 0, "{text:?}");
        }
        assert_eq!(let_in("S", "AUTH PLAIN ~\0ann\0pencil\n"), 0);
        assert_eq!(let_in("S", &format!("{tls}AUTH PLAIN ~\0ann\0pencil\n")), 1);
    }
}
