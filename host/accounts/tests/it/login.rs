//! Logins as a session makes them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use waxwing_accounts::{LoginCache, PasswordCost, SaslAuthenticator, Users};
use waxwing_auth::{ARGON2_SALT_BYTES, ScramKeys, StoredPassword};
use waxwing_config::AuthConfig;
use waxwing_config::UserSourceConfig;
use waxwing_pipeline::{
    AuthAnswer, AuthProgress, Authenticator as _, Binding, BindingSettings, CallOutcome, Context, Event, Hook, HookAnswer,
    Pipeline,
};
use waxwing_testkit::{FakePlugin, FixedClassifier};
use waxwing_types::{Clock, ManualClock, Source, TlsSession};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const CHEAP: PasswordCost = PasswordCost { memory_kib: 64, passes: 1, lanes: 1 };

struct Site {
    authenticator: SaslAuthenticator,
    memory: Arc<LoginCache>,
    pipeline: Arc<Pipeline>,
    dir: TempDir,
}

const FAILURES: u32 = 3;

fn settings() -> AuthConfig {
    AuthConfig {
        password_argon2_memory: u64::from(CHEAP.memory_kib) * 1024,
        password_argon2_passes: CHEAP.passes,
        password_argon2_lanes: CHEAP.lanes,
        password_scram: false,
        password_rehash: false,
        smtpd_sasl_failure_delay: Duration::ZERO,
        smtpd_sasl_failure_limit: FAILURES,
        ..AuthConfig::default()
    }
}

/// `anna` with the password "right".
fn anna(scram: bool) -> String {
    let record = StoredPassword::new_argon2id("right", &[1; ARGON2_SALT_BYTES], CHEAP).unwrap().to_text();
    let keys = StoredPassword::Scram(ScramKeys::from_password("right", b"salt", 4096).unwrap()).to_text();
    let keys = if scram { format!("anna:{keys}\n") } else { String::new() };
    format!("# users\nAnna:{record}\n{keys}")
}

fn site(scram: bool) -> Site {
    site_of(&anna(scram), settings())
}

fn site_of(users: &str, settings: AuthConfig) -> Site {
    site_with(users, settings, Vec::new())
}

fn site_with(users: &str, settings: AuthConfig, bindings: Vec<Arc<Binding>>) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users");
    std::fs::write(&file, users).unwrap();
    let clock = Arc::new(ManualClock::default()) as Arc<dyn Clock>;
    let users = Users::open(&[UserSourceConfig::File(file)], None, true, &clock).unwrap();
    let pipeline = Arc::new(Pipeline::new(bindings, Arc::new(FixedClassifier::REMOTE), Arc::clone(&clock)));
    let memory = LoginCache::new(clock, [7; 32]).unwrap();
    let authenticator = SaslAuthenticator::new(users, settings, &memory, Arc::clone(&pipeline)).unwrap();
    Site { authenticator, memory, pipeline, dir }
}

impl Site {
    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("users")
    }

    fn schemes(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file()).unwrap();
        text.lines().filter_map(|line| Some(line.split_once(":{")?.1.split_once('}')?.0.to_owned())).collect()
    }

    /// Waits for what is done after a login.
    async fn until(&self, done: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it was not done");
    }

    async fn plain(&self, response: &[u8]) -> AuthProgress {
        self.plain_over("smtp", response).await
    }

    async fn plain_over(&self, protocol: &'static str, response: &[u8]) -> AuthProgress {
        let tls = TlsSession::default();
        let mut exchange = match self.authenticator.begin(protocol, "PLAIN", CLIENT, Some(&tls)) {
            Ok(exchange) => exchange,
            Err(reply) => return AuthProgress::Failed(reply),
        };
        let (mut chain, mut context) = (self.pipeline.open_session(), Context::new(Source::Api, None));
        exchange.step(&self.pipeline, &mut chain, &mut context, Some(response.to_vec())).await
    }
}

/// The server's first message of SCRAM, without its nonce.
async fn challenge(site: &Site, user: &str) -> String {
    let tls = TlsSession::default();
    let mut exchange = site.authenticator.begin("smtp", "SCRAM-SHA-256", CLIENT, Some(&tls)).ok().unwrap();
    let (mut chain, mut context) = (site.pipeline.open_session(), Context::new(Source::Api, None));
    let first = format!("n,,n={user},r=abc").into_bytes();
    let AuthProgress::Challenge(said) = exchange.step(&site.pipeline, &mut chain, &mut context, Some(first)).await else {
        panic!("no challenge")
    };
    String::from_utf8(said).unwrap().split_once(',').unwrap().1.to_owned()
}

#[tokio::test]
async fn who_is_not_there_has_the_same_salt_after_a_start() {
    let (one, two) = (site(true), site(true));
    assert_eq!(challenge(&one, "nobody").await, challenge(&two, "NOBODY").await);
    assert_ne!(challenge(&one, "nobody").await, challenge(&one, "nobody2").await);
    assert_eq!(challenge(&one, "anna").await, challenge(&two, "anna").await);
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
    assert_eq!(site.memory.hashes_computed(), 1);
}

#[tokio::test]
async fn unknown_users_and_wrong_passwords_cost_the_same_and_hear_the_same() {
    let site = site(false);
    let mut answers = Vec::new();
    for (done, response) in [&b"\0anna\0wrong"[..], b"\0nobody\0wrong", b"boss\0anna\0right"].into_iter().enumerate() {
        answers.push(site.plain(response).await);
        assert_eq!(site.memory.hashes_computed(), done as u64 + 1);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0] && code(answer) == 535), "{answers:?}");
}

#[tokio::test]
async fn what_is_offered_depends_on_tls_and_on_the_records() {
    let (with, without) = (site(true), site(false));
    assert_eq!(with.authenticator.mechanisms(CLIENT, true), ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]);
    assert!(with.authenticator.mechanisms(CLIENT, false).is_empty());
    assert_eq!(without.authenticator.mechanisms(CLIENT, true), ["PLAIN", "LOGIN"]);
    assert!(without.authenticator.begin("smtp", "PLAIN", CLIENT, None).is_err_and(|reply| reply.code() == 504));
}

#[tokio::test]
async fn on_auth_receives_the_protocol_of_the_session() {
    let plugin = FakePlugin::new(&[Hook::OnAuth], |event, _| {
        let Event::Auth { protocol, .. } = event else { panic!("another hook") };
        Ok(CallOutcome::from_answer(HookAnswer::Auth(AuthAnswer::Allow(format!("user of {protocol}")))))
    });
    let site = site_with(&anna(false), settings(), vec![Binding::new("directory", plugin, BindingSettings::default())]);
    for protocol in ["smtp", "imap"] {
        let AuthProgress::Done { user } = site.plain_over(protocol, b"\0anna\0secret").await else { panic!("{protocol}") };
        assert_eq!(user, format!("user of {protocol}"));
    }
}

#[tokio::test]
async fn an_address_that_fails_often_is_refused_by_the_next_configuration_too() {
    let site = site(false);
    for _ in 0..FAILURES {
        assert_eq!(code(&site.plain(b"\0anna\0wrong").await), 535);
    }
    assert_eq!(code(&site.plain(b"\0anna\0right").await), 454);
    let other = site_of(&anna(false), settings());
    assert_eq!(code(&other.plain(b"\0anna\0right").await), 235);
    let clock = Arc::new(ManualClock::default()) as Arc<dyn Clock>;
    let users = || Users::open(&[UserSourceConfig::File(site.file())], None, false, &clock).unwrap();
    let authenticator = |settings| SaslAuthenticator::new(users(), settings, &site.memory, Arc::clone(&site.pipeline)).unwrap();
    let tls = TlsSession::default();
    assert!(authenticator(settings()).begin("smtp", "PLAIN", CLIENT, Some(&tls)).is_err_and(|reply| reply.code() == 454));
    assert!(
        authenticator(AuthConfig { smtpd_sasl_failure_limit: 0, ..settings() })
            .begin("smtp", "PLAIN", CLIENT, Some(&tls))
            .is_ok(),
        "no limit"
    );
}

#[tokio::test]
async fn a_failure_waits_and_a_success_does_not() {
    let site = site_of(&anna(false), AuthConfig { smtpd_sasl_failure_delay: Duration::from_millis(300), ..settings() });
    let wrong = tokio::time::timeout(Duration::from_millis(200), site.plain(b"\0anna\0wrong")).await;
    assert!(wrong.is_err());
    assert_eq!(code(&site.plain(b"\0anna\0wrong").await), 535);
    assert_eq!(code(&site.plain(b"\0anna\0right").await), 235);
}

#[tokio::test]
async fn old_records_are_renewed_at_a_login_and_keys_are_added() {
    let rehash = AuthConfig { password_rehash: true, password_scram: true, ..settings() };
    let dear =
        StoredPassword::new_argon2id("right", &[1; ARGON2_SALT_BYTES], PasswordCost { passes: 2, ..CHEAP }).unwrap().to_text();
    let up_to_date = StoredPassword::new_argon2id("right", &[1; ARGON2_SALT_BYTES], CHEAP).unwrap().to_text();
    for old in ["{PLAIN}right", &dear, &up_to_date] {
        let site = site_of(&format!("# mine\nanna:{old}:1:2\nbob:{{PLAIN}}b\n"), rehash.clone());
        assert_eq!(site.authenticator.mechanisms(CLIENT, true), ["PLAIN", "LOGIN"]);
        assert_eq!(code(&site.plain(b"\0anna\0wrong").await), 535);
        assert_eq!(code(&site.plain(b"\0anna\0right").await), 235);
        site.until(|site| site.schemes() == ["ARGON2ID", "SCRAM-SHA-256", "PLAIN"]).await;
        let text = std::fs::read_to_string(site.file()).unwrap();
        assert!(text.starts_with("# mine\nanna:{ARGON2ID}$argon2id$v=19$m=64,t=1,p=1$") && text.contains(":1:2\n"), "{text}");
        // It stays remembered.
        assert_eq!(code(&site.plain(b"\0anna\0right").await), 235);
        assert_eq!((site.memory.hashes_computed(), code(&site.plain(b"\0anna\0wrong").await)), (2, 535));
        assert_eq!(code(&site.plain(b"\0bob\0b").await), 235);
        site.until(|site| site.schemes().len() == 4).await;
        assert_eq!(code(&site.plain(b"\0nobody\0b").await), 535);
        assert!(site.authenticator.mechanisms(CLIENT, true).contains(&"SCRAM-SHA-256".to_owned()), "all have keys by now");
    }
}

#[tokio::test]
async fn without_rehash_and_without_need_the_file_stays() {
    for (users, rehash) in [("anna:{PLAIN}right\n", false), (anna(true).as_str(), true)] {
        let site = site_of(users, AuthConfig { password_rehash: rehash, password_scram: true, ..settings() });
        assert_eq!(code(&site.plain(b"\0anna\0right").await), 235);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(std::fs::read_to_string(site.file()).unwrap(), users);
    }
}

#[tokio::test]
async fn that_a_record_cannot_be_renewed_does_not_matter_to_the_login() {
    let site = site_of("anna:{PLAIN}right\n", AuthConfig { password_rehash: true, ..settings() });
    std::fs::remove_file(site.file()).unwrap();
    std::fs::create_dir(site.file()).unwrap();
    for _ in 0..3 {
        assert_eq!(code(&site.plain(b"\0anna\0right").await), 235);
    }
}

#[tokio::test]
async fn a_changed_password_counts_at_once_and_the_old_one_no_more() {
    let site = site(false);
    assert_eq!(code(&site.plain(b"\0anna\0right").await), 235);
    std::fs::write(
        site.file(),
        format!("anna:{}\n", StoredPassword::new_argon2id("new", &[2; ARGON2_SALT_BYTES], CHEAP).unwrap().to_text()),
    )
    .unwrap();
    assert_eq!(code(&site.plain(b"\0anna\0new").await), 235);
    assert_eq!(code(&site.plain(b"\0anna\0right").await), 535, "although it was remembered");
}
