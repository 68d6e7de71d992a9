//! Interface `submit`: new messages, staged and committed together with the message that caused them.

use std::sync::Arc;

use wasmtime::Result;
use waxwing_bindings::imports::submit::{Address, Host, Payload, ReversePath, SubmitError};
use waxwing_pipeline::{SUBMISSION_DEPTH_MAX, Submission};

use crate::from_wit;
use crate::imports::payload::PayloadError;
use crate::permissions::Operation;
use crate::state::{InstanceState, with_crlf};

type SubmitResult = std::result::Result<String, SubmitError>;

impl InstanceState {
    fn submit_denied(&mut self, reason: &'static str, error: SubmitError) -> SubmitResult {
        self.record_denial("submit.send", reason);
        Err(error)
    }

    /// Returns the reason for refusing another submission.
    fn may_submit(&mut self) -> std::result::Result<(), (&'static str, SubmitError)> {
        let unavailable = |why: String| SubmitError::Unavailable(why);
        if !self.call.allows(Operation::Submit) {
            let hook = self.call.hook.map_or("on-load", waxwing_pipeline::Hook::as_str);
            return Err(("not-here", unavailable(format!("not possible at {hook}"))));
        }
        // Each submission passes the hooks again, so a plugin that answers its own mail would loop for ever.
        if self.call.context.submitters().count() >= SUBMISSION_DEPTH_MAX {
            return Err(("too-many", unavailable(format!("{SUBMISSION_DEPTH_MAX} submissions led to this message already"))));
        }
        let max = self.shared.limits.submissions_max;
        self.call.usage.submissions += 1;
        if self.call.usage.submissions > max || !self.count_staged(0) {
            return Err(("too-many", unavailable(format!("more than {max} messages in one call"))));
        }
        Ok(())
    }

    fn submit_envelope(
        &self,
        sender: ReversePath,
        recipients: Vec<Address>,
    ) -> std::result::Result<(waxwing_types::ReversePath, Vec<waxwing_types::Address>), String> {
        let max = self.shared.limits.submission_recipients_max;
        if recipients.is_empty() || recipients.len() > max {
            return Err(format!("{} recipients, where 1 to {max} are possible", recipients.len()));
        }
        let sender = match sender {
            None => waxwing_types::ReversePath::Null,
            Some(sender) => waxwing_types::ReversePath::Address(from_wit::address(sender)?),
        };
        Ok((sender, recipients.into_iter().map(from_wit::address).collect::<std::result::Result<_, _>>()?))
    }
}

impl Host for InstanceState {
    async fn send(&mut self, sender: ReversePath, recipients: Vec<Address>, message: Payload) -> Result<SubmitResult> {
        self.called("submit.send");
        if let Err((reason, error)) = self.may_submit() {
            return Ok(self.submit_denied(reason, error));
        }
        let (sender, recipients) = match self.submit_envelope(sender, recipients) {
            Ok(envelope) => envelope,
            Err(why) => return Ok(self.submit_denied("malformed", SubmitError::Unavailable(why))),
        };
        let remaining = self.shared.limits.submission_bytes_max.saturating_sub(self.call.usage.submitted_bytes);
        let content = match self.payload(message, remaining).await? {
            Ok(content) => content,
            Err(PayloadError::NotGranted) => return Ok(self.submit_denied("not-granted", SubmitError::NotGranted)),
            Err(PayloadError::TooLarge) => return Ok(self.submit_denied("too-large", SubmitError::TooLarge)),
            Err(PayloadError::NotHere(why)) => return Ok(self.submit_denied("malformed", SubmitError::Unavailable(why))),
        };
        let Some(new_id) = self.shared.services.new_id.as_ref().map(Arc::clone) else {
            return Ok(self
                .submit_denied("unavailable", SubmitError::Unavailable("this server accepts no mail from plugins".to_owned())));
        };
        let content = with_crlf(content);
        self.call.usage.submitted_bytes += content.len();
        let id = new_id();
        let author = Arc::clone(&self.shared.name);
        self.call.changes.submissions.push(Submission { id, sender, recipients, content, submitter: author });
        Ok(Ok(id.to_string()))
    }
}
