//! DSNs: from the builder through the hooks of received mail and on-dsn.

use std::sync::Arc;

use waxwing_message::{DsnBuilder, HeaderBlock};
use waxwing_pipeline::{
    Context, Hook, InternalMessage, Pipeline, PreparedMessage, SUBMITTED_BY_TAG, Submission, Submit, SubmitError, TraceEntry,
};
use waxwing_types::{MemoryBody, Source, Tags};

/// Builds a DSN and runs the hooks of received mail. `tags` are the tags of the message reported on: the DSN inherits the plugins whose
/// submissions led to the message, so that plugins do not see mail caused by their own submissions.
pub async fn prepare_dsn(
    submit: &dyn Submit,
    builder: &DsnBuilder<'_>,
    require_tls: bool,
    tags: &Tags,
) -> Result<PreparedMessage, SubmitError> {
    let dsn = builder.build();
    let envelope = dsn.envelope(builder.recipient.clone(), require_tls, builder.created_at);
    let authors = tags.get(SUBMITTED_BY_TAG).map(|authors| (SUBMITTED_BY_TAG.to_owned(), authors.clone()));
    let mail = InternalMessage {
        id: builder.dsn_queue_id,
        envelope,
        content: dsn.content,
        cause: Some(builder.original_queue_id),
        tags: authors.into_iter().collect(),
    };
    submit.prepare(mail).await
}

/// Result of on-dsn.
pub struct OnDsnResult {
    /// DSN as edited; none if a plugin suppressed the DSN.
    pub dsn: Option<PreparedMessage>,
    /// Messages submitted by plugins in on-dsn.
    pub submissions: Vec<Submission>,
    /// Trace entries of on-dsn.
    pub trace: Vec<TraceEntry>,
}

/// Runs on-dsn. `kind` is the name of the kind of DSN in the plugin contract.
pub async fn run_on_dsn(pipeline: &Pipeline, mut prepared: PreparedMessage, kind: &str) -> OnDsnResult {
    let mut hooks = pipeline.open_session();
    if !hooks.has_hook(Hook::OnDsn) {
        return OnDsnResult { dsn: Some(prepared), submissions: Vec::new(), trace: Vec::new() };
    }
    let before = Arc::new(HeaderBlock::split(prepared.header.clone()).0);
    let mut context = dsn_context(pipeline, &prepared, Arc::clone(&before));
    let is_sent = pipeline.should_send_dsn(&mut hooks, &mut context, kind).await;
    hooks.release();
    if let Some(after) = context.header.filter(|after| !Arc::ptr_eq(&before, after)) {
        prepared.header = after.to_bytes(prepared.body.is_empty());
    }
    let submissions = Arc::unwrap_or_clone(context.submissions);
    OnDsnResult { dsn: is_sent.then_some(prepared), submissions, trace: hooks.trace }
}

fn dsn_context(pipeline: &Pipeline, prepared: &PreparedMessage, header: Arc<HeaderBlock>) -> Context {
    let mut context = Context::new(Source::Dsn, None);
    context.id = Some(prepared.id);
    context.sender = Some(Arc::new(prepared.envelope.sender.clone()));
    context.tags = Arc::new(prepared.tags.clone());
    context.header = Some(header);
    context.body = Some(Arc::new(MemoryBody::new(prepared.body.clone())));
    for recipient in &prepared.envelope.recipients {
        let class = pipeline.class_of(&recipient.address);
        context.push_recipient(recipient.clone(), class, Vec::new());
    }
    context
}
