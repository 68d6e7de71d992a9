//! The known forms of open relaying, said to a real session by a stranger: none brings mail to another domain than ours.

use waxwing_smtp::{ServerSession, ServerSettings};
use waxwing_types::{Action, Input, Monotonic, Session};

use super::*;

const STRANGER: [u8; 4] = [192, 0, 2, 1];

/// Says a line to the session and returns the code of its reply.
async fn say(session: &mut ServerSession, host: &mut SmtpSessionHandler, line: &[u8]) -> u16 {
    let now = Monotonic::default();
    let mut actions = Vec::new();
    if line.is_empty() {
        session.step(now, Input::Start, &mut actions);
    } else {
        session.step(now, Input::Bytes(&[line, b"\r\n"].concat()), &mut actions);
    }
    let mut said = Vec::new();
    while !actions.is_empty() {
        for action in std::mem::take(&mut actions) {
            match action {
                Action::Send(octets) => said.extend_from_slice(&octets),
                Action::Ask(question) => {
                    let answer = host.answer(question).await;
                    session.step(now, Input::Answer(answer), &mut actions);
                }
                Action::Body(piece) => host.body(piece).await,
                Action::WakeAt(_) | Action::StartTls | Action::Close => {}
            }
        }
    }
    String::from_utf8_lossy(&said).get(..3).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Recipients that are somebody elsewhere in one reading or another. `box.example` and `relay.example` are ours.
const FOREIGN: &[&str] = &[
    "<x@far.example>",
    "<X@FAR.EXAMPLE>",
    "x@far.example",
    "<x@far.example.>",
    "<x%far.example@box.example>",
    "<x%far.example@relay.example>",
    "<x%far.example@[127.0.0.1]>",
    "<x%far.example@[192.0.2.9]>",
    "<x%far.example>",
    "<far.example!x@box.example>",
    "<far.example!x@relay.example>",
    "<far.example!x>",
    "<relay.example!far.example!x@relay.example>",
    "<\"x@far.example\"@box.example>",
    "<\"x@far.example\"@relay.example>",
    "<\"x@far.example\">",
    "<\"x%far.example\"@box.example>",
    "<\"x\\@far.example\"@relay.example>",
    "<\"\\\"x@far.example\\\"\"@relay.example>",
    "<\"far.example!x\"@relay.example>",
    "<@box.example:x@far.example>",
    "<@relay.example:x@far.example>",
    "<@box.example,@relay.example:x@far.example>",
    "<@[127.0.0.1]:x@far.example>",
    "<x@far.example@box.example>",
    "<x@box.example@far.example>",
    "<x@[127.0.0.1]>",
    "<x@[192.0.2.9]>",
    "<x@[IPv6:::1]>",
    "<x@127.0.0.1>",
    "<x@localhost>",
    "<demo@box.example.far.example>",
    "<demo@farbox.example>",
    "<demo@box\u{ff0e}example>",
    "<demo@b\u{43e}x.example>",
    "<demo@box\u{3002}example>",
    "<postmaster@far.example>",
    "<postmaster%far.example@box.example>",
    "<\"postmaster@far.example\"@box.example>",
    "<@box.example:postmaster@far.example>",
    "<postmaster@[192.0.2.9]>",
    "<x@>",
    "<@far.example>",
    "<>",
    "<x@far.example> NOTIFY=NEVER",
    "<x\0@far.example>",
    "<demo@box.example>,<x@far.example>",
    "<demo@box.example x@far.example>",
    "<demo@box.example>x@far.example",
];

/// Senders that a careless server takes for one of its own.
const SENDERS: &[&str] = &["<>", "<x@far.example>", "<demo@box.example>", "<postmaster>", "<x@localhost>", "<x@[127.0.0.1]>"];

#[tokio::test]
async fn no_known_form_relays() {
    let house = house(Vec::new()).await;
    for sender in SENDERS {
        for recipient in FOREIGN {
            let mut session = ServerSession::new(Arc::new(ServerSettings::new("mx.test")));
            let mut host = house.session(STRANGER);
            assert_eq!(say(&mut session, &mut host, b"").await, 220);
            assert_eq!(say(&mut session, &mut host, b"EHLO box.example").await, 250);
            let code = say(&mut session, &mut host, format!("MAIL FROM:{sender}").as_bytes()).await;
            if code != 250 {
                continue;
            }
            let code = say(&mut session, &mut host, format!("RCPT TO:{recipient}").as_bytes()).await;
            assert!((400..600).contains(&code), "MAIL FROM:{sender} RCPT TO:{recipient}: {code}");
        }
    }
    assert!(house.queued().await.is_empty());
}

#[tokio::test]
async fn what_is_ours_is_taken_in_every_spelling() {
    let house = house(Vec::new()).await;
    for recipient in [
        "<demo@box.example>",
        "<demo@BOX.Example>",
        "<\"demo\"@box.example>",
        "<postmaster>",
        "<PostMaster@box.example>",
        "<@a.example:demo@box.example>",
    ] {
        let mut session = ServerSession::new(Arc::new(ServerSettings::new("mx.test")));
        let mut host = house.session(STRANGER);
        say(&mut session, &mut host, b"").await;
        say(&mut session, &mut host, b"EHLO far.example").await;
        assert_eq!(say(&mut session, &mut host, b"MAIL FROM:<>").await, 250);
        let code = say(&mut session, &mut host, format!("RCPT TO:{recipient}").as_bytes()).await;
        assert_eq!(code, 250, "{recipient}");
    }
}

/// The questions themselves, as a client with SMTPUTF8 gets them asked.
#[tokio::test]
async fn look_alikes_of_our_domains_are_strangers() {
    let house = house(Vec::new()).await;
    let mut host = house.session(STRANGER);
    mail(&mut host).await;
    for domain in ["b\u{43e}x.example", "box.ex\u{e0}mple", "\u{ff42}ox.example", "box\u{ff0e}example", "xn--bx-jmc.example"] {
        let Ok(recipient) = Address::new("demo", domain) else { continue };
        let question = ServerQuestion::Rcpt { recipient, parameters: Vec::new(), options: RcptOptions::default() };
        assert_eq!(code(&host.answer(question).await), 554, "{domain}");
    }
}

#[tokio::test]
async fn a_message_that_goes_round_is_refused() {
    let house = house(Vec::new()).await;
    let hop = "Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n";
    for (hops, expected) in [(2, 250), (3, 554)] {
        let message = format!("{}Subject: x\r\n\r\n", hop.repeat(hops));
        assert_eq!(code(&send(&house, &["demo@box.example"], &message).await), expected);
    }
}
