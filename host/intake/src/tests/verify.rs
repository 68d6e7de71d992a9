//! Addresses that other servers are asked about.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Semaphore;
use waxwing_pipeline::{AddressProbe, KvEntry, KvError, KvStore};
use waxwing_types::{Disposition, EnhancedCode, Status};

use super::policy::{Dns, heard, policy_and_config};
use super::*;
use crate::Verifier;

/// Another server: what it says is in the local part. It answers as often as it has been let.
struct Server {
    asked: Mutex<Vec<String>>,
    says: Mutex<HashMap<String, u16>>,
    turns: Semaphore,
}

impl Server {
    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl AddressProbe for Server {
    async fn probe(&self, sender: &ReversePath, recipient: &Address) -> Disposition {
        self.asked.lock().unwrap().push(format!("<{sender}> <{recipient}>"));
        self.turns.acquire().await.unwrap().forget();
        let says = self.says.lock().unwrap().get(recipient.local()).copied().unwrap_or(550);
        let status = |class, text: &str| Status {
            code: Some(says),
            enhanced: EnhancedCode::new(class, 1, 1),
            remote: Some("mx.relay.example[192.0.2.25]:25".into()),
            text: text.into(),
        };
        match says {
            250 => Disposition::Delivered(status(2, "ok")),
            550 => Disposition::Failed(status(5, "5.1.1 no such user")),
            _ => Disposition::Deferred { status: status(4, "4.2.0 later"), not_before: None },
        }
    }
}

/// Pairs in memory, each weighing one; `room` of them at most.
#[derive(Default)]
struct Pairs {
    pairs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    room: Mutex<Option<usize>>,
}

#[async_trait]
impl KvStore for Pairs {
    async fn get(&self, _: &str, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.pairs.lock().unwrap().get(key).cloned())
    }
    async fn set(&self, _: &str, _: u64, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), KvError> {
        assert!(ttl.is_some_and(|ttl| !ttl.is_zero()), "every answer has its time");
        let mut pairs = self.pairs.lock().unwrap();
        if !pairs.contains_key(key) && self.room.lock().unwrap().is_some_and(|room| pairs.len() >= room) {
            return Err(KvError::Full);
        }
        pairs.insert(key.to_vec(), value.to_vec());
        Ok(())
    }
    async fn delete(&self, _: &str, key: &[u8]) -> Result<(), KvError> {
        self.pairs.lock().unwrap().remove(key);
        Ok(())
    }
    async fn add(&self, _: &str, _: u64, _: &[u8], _: i64, _: Option<Duration>) -> Result<i64, KvError> {
        panic!("nothing is counted")
    }
    async fn scan(&self, _: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KvEntry>, KvError> {
        assert!(prefix.is_empty());
        let pairs = self.pairs.lock().unwrap();
        let behind = pairs.iter().filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after));
        Ok(behind.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

struct Verifying {
    house: House,
    server: Arc<Server>,
    pairs: Arc<Pairs>,
    clock: Arc<ManualClock>,
}

const STRANGER: [u8; 4] = [192, 0, 2, 1];
const RECIPIENTS: &str = "smtpd_recipient_restrictions = [\"reject_unverified_recipient\"]\n";
const SENDERS: &str = "smtpd_sender_restrictions = [\"reject_unverified_sender\"]\n";

/// The other server knows `good`, is not sure about `later`, and knows no others.
async fn verifying(text: &str, plugins: Vec<(Arc<FakePlugin>, FaultPolicy)>) -> Verifying {
    let says = Mutex::new(HashMap::from([("good".to_owned(), 250), ("later".to_owned(), 450)]));
    let server = Arc::new(Server { asked: Mutex::default(), says, turns: Semaphore::new(1000) });
    let (pairs, clock) = (Arc::new(Pairs::default()), Arc::new(ManualClock::default()));
    let (policy, config) = policy_and_config(text, &[], Dns::default());
    let verifier =
        Verifier::new(config.verify.clone(), config.smtp.smtp_helo_name.clone(), server.clone(), pairs.clone(), clock.clone());
    let house = house_with(plugins, policy.with_verifier(verifier)).await;
    Verifying { house, server, pairs, clock }
}

impl Verifying {
    async fn to(&self, recipient: &str) -> (u16, String) {
        heard(&self.house, STRANGER, "a.example", "x@far.example", recipient).await
    }

    async fn from(&self, sender: &str) -> (u16, String) {
        heard(&self.house, STRANGER, "a.example", sender, "demo@box.example").await
    }

    /// Lets probes that go on in the background come to their end.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn recipients_of_relayed_domains_are_asked_about_once() {
    let v = verifying(RECIPIENTS, Vec::new()).await;
    let rule = "smtpd_recipient_restrictions: reject_unverified_recipient";
    for _ in 0..2 {
        assert_eq!(v.to("good@relay.example").await.0, 0);
        assert_eq!(v.to("bad@relay.example").await, (450, rule.to_owned()));
        assert_eq!(v.to("later@relay.example").await, (450, rule.to_owned()));
        assert_eq!(v.to("demo@box.example").await.0, 0);
        assert_eq!(v.to("gone@box.example").await, (550, "reject_unlisted_recipient".to_owned()));
        assert_eq!(v.to("x@elsewhere.example").await, (554, "reject_unauth_destination".to_owned()), "no probe for a stranger");
    }
    let asked = v.server.asked.lock().unwrap().clone();
    assert_eq!(asked, ["<> <good@relay.example>", "<> <bad@relay.example>", "<> <later@relay.example>"]);
}

#[tokio::test]
async fn the_reply_says_what_the_other_server_said() {
    let text = format!("{RECIPIENTS}unverified_recipient_reject_code = 550\nunverified_recipient_defer_code = 451\n");
    let v = verifying(&text, Vec::new()).await;
    let mut host = v.house.session(STRANGER);
    mail(&mut host).await;
    let mut said = Vec::new();
    for to in ["bad@relay.example", "later@relay.example"] {
        let ServerAnswer::Step(StepAnswer::Reply(reply)) = rcpt(&mut host, to).await else { panic!("{to}") };
        said.push(reply.to_string());
    }
    assert_eq!(
        said,
        [
            "550 5.1.1 <bad@relay.example>: Recipient address rejected: undeliverable address: \
             host mx.relay.example[192.0.2.25]:25 said: 550 5.1.1 no such user",
            "451 4.1.1 <later@relay.example>: Recipient address rejected: unverified address: \
             host mx.relay.example[192.0.2.25]:25 said: 450 4.2.0 later",
        ]
    );
}

#[tokio::test]
async fn senders_are_asked_about_but_not_ours_and_not_the_null_sender() {
    let v = verifying(&format!("{SENDERS}address_verify_sender = \"probe@far.example\"\n"), Vec::new()).await;
    let rule = "smtpd_sender_restrictions: reject_unverified_sender";
    for (sender, code) in
        [("good@far.example", 0), ("bad@far.example", 450), ("", 0), ("probe@far.example", 0), ("demo@box.example", 0)]
    {
        let (found, step) = v.from(sender).await;
        assert_eq!(found, code, "{sender}");
        assert!(code == 0 || step == rule, "{step}");
    }
    assert_eq!(v.from("gone@box.example").await, (450, rule.to_owned()), "our own users are looked up");
    let asked = v.server.asked.lock().unwrap().clone();
    assert_eq!(asked, ["<probe@far.example> <good@far.example>", "<probe@far.example> <bad@far.example>"]);
}

#[tokio::test]
async fn an_alias_in_a_relayed_domain_needs_no_probe() {
    let plugins = vec![(aliases(&[("bad@relay.example", &["ann@box.example"])]), FaultPolicy::Defer)];
    let v = verifying(RECIPIENTS, plugins).await;
    assert_eq!((v.to("bad@relay.example").await.0, v.server.count()), (0, 0));
    assert_eq!((v.to("worse@relay.example").await.0, v.server.count()), (450, 1));
}

#[tokio::test]
async fn who_does_not_hear_in_time_comes_again_and_all_wait_for_one_probe() {
    let v = verifying(&format!("{RECIPIENTS}address_verify_poll_time = \"50ms\"\n"), Vec::new()).await;
    v.server.turns.forget_permits(1000);
    let (first, second) = tokio::join!(v.to("good@relay.example"), v.to("Good@relay.example"));
    assert_eq!(((first.0, second.0), v.server.count()), ((450, 450), 1), "the probe goes on");
    let back = heard(&v.house, STRANGER, "mx.test", "", "good@relay.example").await;
    assert_eq!((back.0, v.server.count()), (450, 1), "our own probe came back");
    v.server.turns.add_permits(1);
    v.settle().await;
    assert_eq!((v.to("good@relay.example").await.0, v.server.count()), (0, 1));
    let back = heard(&v.house, STRANGER, "mx.test", "", "good@relay.example").await;
    assert_eq!(back.0, 0, "there is none under way");
}

#[tokio::test]
async fn old_answers_serve_while_they_are_asked_for_again() {
    let v = verifying(RECIPIENTS, Vec::new()).await;
    let says = |local: &str, code| {
        v.server.says.lock().unwrap().insert(local.to_owned(), code);
    };
    let days = |days: u64| v.clock.advance(Duration::from_secs(days * 86_400));
    assert_eq!(v.to("good@relay.example").await.0, 0);
    days(8);
    // For now it can't be said: what was known stays.
    says("good", 450);
    assert_eq!(v.to("good@relay.example").await.0, 0);
    v.settle().await;
    assert_eq!((v.to("good@relay.example").await.0, v.server.count()), (0, 2), "and is not asked for again at once");
    days(1);
    says("good", 550);
    assert_eq!(v.to("good@relay.example").await.0, 0);
    v.settle().await;
    assert_eq!((v.to("good@relay.example").await.0, v.server.count()), (450, 3), "the address is gone");
    v.clock.advance(Duration::from_secs(4 * 3_600));
    says("good", 250);
    assert_eq!(v.to("good@relay.example").await.0, 450);
    v.settle().await;
    assert_eq!((v.to("good@relay.example").await.0, v.server.count()), (0, 4), "and is back");
    days(32);
    says("good", 450);
    assert_eq!((v.to("good@relay.example").await.0, v.server.count()), (450, 5), "too old to count");
}

#[tokio::test]
async fn what_can_not_be_said_now_can_be_let_in() {
    let v = verifying(&format!("{RECIPIENTS}unverified_recipient_tempfail_action = \"permit\"\n"), Vec::new()).await;
    assert_eq!((v.to("later@relay.example").await.0, v.to("bad@relay.example").await.0), (0, 450));
    // A refusal for now leaves the word to what refuses for good.
    let text = "smtpd_recipient_restrictions = [\"reject_unverified_recipient\", \"reject\"]\n";
    let v = verifying(text, Vec::new()).await;
    assert_eq!(v.to("later@relay.example").await.0, 554);
    let v = verifying(&format!("{text}unverified_recipient_tempfail_action = \"defer\"\n"), Vec::new()).await;
    assert_eq!(v.to("later@relay.example").await.0, 450);
    let v = verifying("smtpd_recipient_restrictions = [\"warn_if_reject reject_unverified_recipient\"]\n", Vec::new()).await;
    assert_eq!((v.to("later@relay.example").await.0, v.to("bad@relay.example").await.0), (0, 0));
}

#[tokio::test]
async fn a_full_cache_forgets_the_oldest_and_a_broken_row_is_none() {
    let v = verifying(RECIPIENTS, Vec::new()).await;
    *v.pairs.room.lock().unwrap() = Some(20);
    for number in 0..40 {
        v.clock.advance(Duration::from_millis(10));
        assert_eq!(v.to(&format!("n{number}@relay.example")).await.0, 450);
    }
    let kept =
        v.pairs.pairs.lock().unwrap().keys().map(|key| String::from_utf8_lossy(&key[4..]).into_owned()).collect::<Vec<_>>();
    assert!((10..=20).contains(&kept.len()) && kept.contains(&"n39@relay.example".to_owned()), "{kept:?}");
    assert!(!kept.contains(&"n0@relay.example".to_owned()), "{kept:?}");
    for value in v.pairs.pairs.lock().unwrap().values_mut() {
        value[0] = 9;
    }
    assert_eq!((v.to("n39@relay.example").await.0, v.server.count()), (450, 41));
}

#[tokio::test]
async fn probes_are_bounded_and_senders_do_not_stand_in_the_way_of_recipients() {
    let text = format!("{RECIPIENTS}{SENDERS}address_verify_poll_time = \"20ms\"\n");
    let v = verifying(&text, Vec::new()).await;
    v.server.turns.forget_permits(1000);
    for number in 0..60 {
        assert_eq!(v.from(&format!("s{number}@far.example")).await.0, 450);
    }
    assert_eq!(v.server.count(), 50);
    assert_eq!(heard(&v.house, STRANGER, "a.example", "", "good@relay.example").await.0, 450);
    assert_eq!(v.server.count(), 51);
}
