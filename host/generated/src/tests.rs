//! Submissions and DSNs with hooks in native code.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_message::DsnBuilder;
use waxwing_pipeline::{
    Binding, BindingSettings, CallOutcome, Fault, FaultKind, Hook, HookAnswer, InternalMessage, Pipeline, Placement,
    PreparedMessage, SUBMISSIONS_MAX, SUBMITTED_BY_TAG, StagedChanges, Submission, Submit, SubmitError,
};
use waxwing_testkit::{FakePlugin, FixedClassifier};
use waxwing_types::{Address, Edit, ManualClock, QueueId, ReversePath, Tags, Timestamp};

use crate::{SubmissionBatch, SubmissionCause, SubmissionError, prepare_dsn, run_on_dsn};

/// Hooks that accept everything and leave the message alone.
struct Accepts;

#[async_trait]
impl Submit for Accepts {
    async fn prepare(&self, mail: InternalMessage) -> Result<PreparedMessage, SubmitError> {
        let InternalMessage { id, envelope, content, tags, cause: _ } = mail;
        let end = content.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap() + 4;
        Ok(PreparedMessage {
            id,
            envelope,
            header: content.slice(..end),
            body: content.slice(end..),
            tags,
            placement: Placement::default(),
            attached: Vec::new(),
        })
    }
}

fn submission() -> Submission {
    Submission {
        id: QueueId::from_u64(1),
        sender: ReversePath::Null,
        recipients: vec![Address::parse("to@example.org").unwrap()],
        content: Bytes::from_static(b"Subject: x\r\n\r\nbody\r\n"),
        submitter: "author".into(),
    }
}

fn tagged(authors: &str) -> Tags {
    Tags::from([(SUBMITTED_BY_TAG.to_owned(), authors.to_owned()), ("other".to_owned(), "1".to_owned())])
}

#[tokio::test]
async fn a_batch_has_limits_on_number_and_depth() {
    let clock = ManualClock::default();
    let tags = tagged("a,b");
    let batch = |tags| SubmissionBatch {
        submit: &Accepts,
        clock: &clock,
        cause: SubmissionCause { id: None, tags },
        scope: "in one settlement",
    };
    let prepared = batch(&tags).prepare(SUBMISSIONS_MAX - 1, &submission()).await.map_err(|error| error.to_string()).unwrap();
    assert_eq!(prepared.tags, Tags::from([(SUBMITTED_BY_TAG.to_owned(), "a,b,author".to_owned())]));
    let error = batch(&tags).prepare(SUBMISSIONS_MAX, &submission()).await.err().unwrap();
    assert_eq!(error.to_string(), "more than 100 submissions in one settlement");
    assert_eq!(SubmitError::from(error).to_string(), "refused: more than 100 submissions in one settlement");
    let deep = tagged("a,b,c,d,e");
    let error = batch(&deep).prepare(0, &submission()).await.err().unwrap();
    assert!(matches!(error, SubmissionError::Submit(SubmitError::Refused(_))), "{error}");
}

async fn dsn() -> PreparedMessage {
    let builder = DsnBuilder {
        reporting_mta: "mx.example.org",
        recipient: &Address::parse("sender@example.org").unwrap(),
        dsn_queue_id: QueueId::from_u64(2),
        created_at: Timestamp::from_millis(2000),
        original_queue_id: QueueId::from_u64(1),
        arrived_at: Timestamp::from_millis(1000),
        envid: None,
        recipients: &[],
        ret: None,
        smtputf8: false,
        header: b"Subject: x\r\n\r\n",
        body: None,
    };
    prepare_dsn(&Accepts, &builder, false, &tagged("a")).await.map_err(|error| error.to_string()).unwrap()
}

fn pipeline(is_sent: bool) -> Pipeline {
    let plugin = FakePlugin::new(&[Hook::OnDsn], move |_, context| {
        if context.sender.as_deref() != Some(&ReversePath::Null) || context.recipients.len() != 1 {
            return Err(Fault::new(FaultKind::Trap, "context of the DSN"));
        }
        let mut changes = StagedChanges::default();
        changes.edits.push(Edit::AddHeader { name: "X-Added".to_owned(), value: Bytes::from_static(b"1") });
        changes.submissions.push(submission());
        Ok(CallOutcome { changes, ..CallOutcome::from_answer(HookAnswer::SendDsn(is_sent)) })
    });
    let binding = Binding::new("p", plugin, BindingSettings::default());
    Pipeline::new(vec![binding], Arc::new(FixedClassifier::REMOTE), Arc::new(ManualClock::default()))
}

#[tokio::test]
async fn a_dsn_inherits_the_authors_and_passes_on_dsn() {
    let prepared = dsn().await;
    assert_eq!(prepared.tags, Tags::from([(SUBMITTED_BY_TAG.to_owned(), "a".to_owned())]));
    let result = run_on_dsn(&pipeline(true), prepared, "failure").await;
    assert!(result.dsn.unwrap().header.ends_with(b"X-Added: 1\r\n\r\n"));
    assert_eq!((result.submissions.len(), result.trace.len()), (1, 1));
}

#[tokio::test]
async fn a_suppressed_dsn_keeps_the_submissions() {
    let result = run_on_dsn(&pipeline(false), dsn().await, "success").await;
    assert!(result.dsn.is_none());
    assert_eq!(result.submissions.len(), 1);
}
