//! Logins as a session makes them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tempfile::NamedTempFile;
use waxwing_accounts::{FAILURES_MAX, LoginDesk, PasswordCost, Users};
use waxwing_auth::{ARGON2_SALT_BYTES, Record, ScramKeys};
use waxwing_config::UserPlace;
use waxwing_pipeline::{AuthProgress, Authenticator as _, ClassOf, Context, Pipeline};
use waxwing_types::{Address, AddressClass, Clock, ManualClock, TlsSession, Via};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const CHEAP: PasswordCost = PasswordCost { memory_kib: 64, passes: 1, lanes: 1 };

struct Nowhere;

impl ClassOf for Nowhere {
    fn class_of(&self, _: &Address) -> AddressClass {
        AddressClass::Default
    }
}

struct Site {
    desk: LoginDesk,
    pipeline: Arc<Pipeline>,
    file: NamedTempFile,
}

fn site(scram: bool) -> Site {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "# users\nAnna:{}", Record::make("right", &[1; ARGON2_SALT_BYTES], CHEAP).unwrap().to_text()).unwrap();
    if scram {
        writeln!(file, "anna:{}", Record::Scram(ScramKeys::of("right", b"salt", 4096).unwrap()).to_text()).unwrap();
    }
    let clock = Arc::new(ManualClock::default()) as Arc<dyn Clock>;
    let users = Users::open(&[UserPlace::File(file.path().to_owned())], false, &clock).unwrap();
    let pipeline = Arc::new(Pipeline::new(Vec::new(), Arc::new(Nowhere), Arc::clone(&clock)));
    let desk = LoginDesk::new(users, Vec::new(), CHEAP, Arc::clone(&pipeline), clock).unwrap();
    Site { desk, pipeline, file }
}

impl Site {
    async fn plain(&self, response: &[u8]) -> AuthProgress {
        let tls = TlsSession::default();
        let mut exchange = match self.desk.begin("PLAIN", CLIENT, Some(&tls)) {
            Ok(exchange) => exchange,
            Err(reply) => return AuthProgress::Failed(reply),
        };
        let (mut chain, mut context) = (self.pipeline.chain(), Context::new(Via::Api, None));
        exchange.step(&self.pipeline, &mut chain, &mut context, Some(response.to_vec())).await
    }
}

fn code(progress: &AuthProgress) -> u16 {
    match progress {
        AuthProgress::Failed(reply) => reply.code(),
        AuthProgress::Done { .. } => 235,
        AuthProgress::Challenge(_) => 334,
    }
}

#[tokio::test]
async fn the_right_password_is_computed_once_and_remembered() {
    let site = site(false);
    for _ in 0..3 {
        assert_eq!(site.plain(b"\0ANNA\0right").await, AuthProgress::Done { user: "anna".to_owned() });
    }
    assert_eq!(site.desk.computed(), 1);
}

#[tokio::test]
async fn unknown_users_and_wrong_passwords_cost_the_same_and_hear_the_same() {
    let site = site(false);
    let mut answers = Vec::new();
    for (done, response) in [&b"\0anna\0wrong"[..], b"\0nobody\0wrong", b"boss\0anna\0right"].into_iter().enumerate() {
        answers.push(site.plain(response).await);
        assert_eq!(site.desk.computed(), done as u64 + 1);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0] && code(answer) == 535), "{answers:?}");
}

#[tokio::test]
async fn what_is_offered_depends_on_tls_and_on_the_records() {
    let (with, without) = (site(true), site(false));
    assert_eq!(with.desk.mechanisms(CLIENT, true), ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]);
    assert!(with.desk.mechanisms(CLIENT, false).is_empty());
    assert_eq!(without.desk.mechanisms(CLIENT, true), ["PLAIN", "LOGIN"]);
    assert!(without.desk.begin("PLAIN", CLIENT, None).is_err_and(|reply| reply.code() == 504));
}

#[tokio::test]
async fn an_address_that_fails_often_is_refused() {
    let site = Arc::new(site(false));
    let tries = (0..FAILURES_MAX).map(|_| {
        let site = Arc::clone(&site);
        async move { site.plain(b"\0anna\0wrong").await }
    });
    // Together, because each waits two seconds.
    let mut waiting: Vec<_> = tries.map(Box::pin).collect();
    for attempt in &mut waiting {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), attempt).await;
    }
    assert_eq!(code(&site.plain(b"\0anna\0right").await), 454);
}

#[tokio::test]
async fn a_changed_password_counts_at_once_and_the_old_one_no_more() {
    let site = site(false);
    assert_eq!(code(&site.plain(b"\0anna\0right").await), 235);
    std::fs::write(
        site.file.path(),
        format!("anna:{}\n", Record::make("new", &[2; ARGON2_SALT_BYTES], CHEAP).unwrap().to_text()),
    )
    .unwrap();
    assert_eq!(code(&site.plain(b"\0anna\0new").await), 235);
    assert_eq!(code(&site.plain(b"\0anna\0right").await), 535, "although it was remembered");
}
