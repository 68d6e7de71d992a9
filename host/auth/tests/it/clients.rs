//! rsasl as the client of our mechanisms.

use rsasl::config::SASLConfig;
use rsasl::mechname::Mechname;
use rsasl::prelude::{SASLClient, State};
use waxwing_auth::{ChannelBinding, LoginMechanism, LoginStep, SCRAM_ITERATIONS, ScramExchange, ScramKeys, parse_plain};

/// Whether the client is content with a server that takes what it says and gives the next challenge; `first` is what it is asked with.
fn talk(mechanism: &str, password: &str, first: Option<&[u8]>, mut server: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> bool {
    let config = SASLConfig::with_credentials(None, "user".to_owned(), password.to_owned()).unwrap();
    let name = Mechname::parse(mechanism.as_bytes()).unwrap();
    let mut session = SASLClient::new(config).start_suggested(&[name]).unwrap();
    let mut challenge = first.map(<[u8]>::to_vec);
    loop {
        let mut said = Vec::new();
        let Ok(state) = session.step(challenge.as_deref(), &mut said) else { return false };
        let is_done = matches!(state, State::Finished(_));
        if said.is_empty() {
            return is_done;
        }
        match server(&said) {
            Some(next) => challenge = Some(next),
            None => return false,
        }
        if is_done {
            return true;
        }
    }
}

#[test]
fn scram_with_a_right_and_a_wrong_password() {
    for (password, right) in [("pencil", true), ("pen", false)] {
        let keys = ScramKeys::from_password("pencil", b"0123456789abcdef", SCRAM_ITERATIONS).unwrap();
        let mut exchange: Option<ScramExchange> = None;
        let content = talk("SCRAM-SHA-256", password, None, |said| match &mut exchange {
            None => {
                let (mut begun, who) = ScramExchange::begin(said, ChannelBinding::NotOffered, "s3rv3r").unwrap();
                assert_eq!(who.user, "user");
                let challenge = begun.challenge(keys.clone());
                exchange = Some(begun);
                Some(challenge)
            }
            Some(exchange) => exchange.finish(said).ok(),
        });
        assert_eq!(content, right, "{password}");
    }
}

#[test]
fn plain_and_login() {
    let content = talk("PLAIN", "pencil", None, |said| {
        let plain = parse_plain(said).unwrap();
        assert_eq!((plain.user.as_str(), plain.secret.as_str()), ("user", "pencil"));
        Some(Vec::new())
    });
    assert!(content);
    let mut login = LoginMechanism::default();
    let Ok(LoginStep::Prompt(first)) = login.step(None) else { panic!("LOGIN asks first") };
    let mut heard = None;
    talk("LOGIN", "pencil", Some(first), |said| match login.step(Some(said)).unwrap() {
        LoginStep::Prompt(next) => Some(next.to_vec()),
        LoginStep::Complete(plain) => {
            heard = Some((plain.user, plain.secret));
            Some(Vec::new())
        }
    });
    assert_eq!(heard, Some(("user".to_owned(), "pencil".to_owned())));
}
