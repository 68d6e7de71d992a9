//! Interface `transaction`: session, envelope and tags.

use std::sync::Arc;

use wasmtime::Result;
use waxwing_bindings::imports::transaction::{Client, Host, Recipient, ReversePath, Source, TlsSession};
use waxwing_pipeline::{FaultKind, HOST_TAG_PREFIX};
use waxwing_types::{Edit, Parameter};

use crate::permissions::Operation;
use crate::state::InstanceState;
use crate::to_wit;

/// Maximum length of a tag name in bytes.
const TAG_NAME_BYTES_MAX: usize = 64;
/// Maximum length of a tag value in bytes.
const TAG_VALUE_BYTES_MAX: usize = 1024;

impl Host for InstanceState {
    fn id(&mut self) -> Result<String> {
        self.called("transaction.id");
        Ok(self.call.context.id.map(|id| id.to_string()).unwrap_or_default())
    }

    /// The queue id is assigned at the start of the transaction and contains the time.
    fn received_at_ms(&mut self) -> Result<u64> {
        self.called("transaction.received-at-ms");
        let began = self.call.context.id.map(waxwing_types::QueueId::created_at);
        Ok(began.unwrap_or_else(|| self.shared.clock.now()).as_millis())
    }

    fn origin(&mut self) -> Result<Source> {
        self.called("transaction.origin");
        Ok(to_wit::source(self.call.context.source))
    }

    fn peer(&mut self) -> Result<Option<Client>> {
        self.called("transaction.peer");
        Ok(self.call.context.client.as_ref().map(|client| Client {
            ip: client.peer.ip().to_string(),
            port: client.peer.port(),
            name: client.name.clone(),
            listener: client.listener.to_string(),
        }))
    }

    fn tls(&mut self) -> Result<Option<TlsSession>> {
        self.called("transaction.tls");
        Ok(self.call.context.tls.as_deref().map(|tls| TlsSession {
            version: tls.version.clone(),
            cipher: tls.cipher.clone(),
            server_name: tls.server_name.clone(),
            client_fingerprint: tls.client_fingerprint.clone(),
        }))
    }

    fn helo(&mut self) -> Result<Option<String>> {
        self.called("transaction.helo");
        Ok(self.call.context.helo.as_ref().map(|helo| helo.to_string()))
    }

    fn user(&mut self) -> Result<Option<(String, String)>> {
        self.called("transaction.user");
        Ok(self.call.context.user.as_deref().cloned())
    }

    fn sender(&mut self) -> Result<Option<ReversePath>> {
        self.called("transaction.sender");
        Ok(self.call.context.sender.as_deref().map(to_wit::reverse_path))
    }

    fn recipients(&mut self) -> Result<Vec<Recipient>> {
        self.called("transaction.recipients");
        Ok(self.call.context.recipients.iter().map(to_wit::recipient).collect())
    }

    fn mail_parameter(&mut self, name: String) -> Result<Option<String>> {
        self.called("transaction.mail-parameter");
        Ok(parameter(&self.call.context.mail_parameters, &name))
    }

    fn recipient_parameter(&mut self, index: u32, name: String) -> Result<Option<String>> {
        self.called("transaction.recipient-parameter");
        let recipients = Arc::clone(&self.call.context.recipients);
        Ok(recipients.iter().find(|r| r.index == index).and_then(|r| parameter(&r.parameters, &name)))
    }

    fn tag(&mut self, name: String) -> Result<Option<String>> {
        self.called("transaction.tag");
        Ok(self.call.context.tags.get(&name).cloned())
    }

    fn tags(&mut self) -> Result<Vec<(String, String)>> {
        self.called("transaction.tags");
        Ok(self.call.context.tags.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn set_tag(&mut self, name: String, value: String) -> Result<()> {
        self.called("transaction.set-tag");
        let name_ok = (1..=TAG_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !name_ok || value.len() > TAG_VALUE_BYTES_MAX || value.contains(char::is_control) {
            return Err(self.abort_call(
                FaultKind::BadAnswer,
                format!("set-tag: {name:?} is no tag, or its value is too long or has control characters"),
            ));
        }
        if name.get(..HOST_TAG_PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(HOST_TAG_PREFIX)) {
            return Err(self.abort_call(
                FaultKind::BadAnswer,
                format!("set-tag: tags that begin with {HOST_TAG_PREFIX} are the server's own"),
            ));
        }
        if !self.call.allows(Operation::SetTag) {
            return Err(self.abort_call(FaultKind::BadAnswer, "set-tag is not possible at this hook"));
        }
        if !self.count_staged(name.len() + value.len()) {
            return Err(self.abort_call(FaultKind::BadAnswer, "set-tag: too many changes in one call"));
        }
        self.call.changes.edits.push(Edit::Tag { name, value });
        Ok(())
    }

    fn time_left_ms(&mut self) -> Result<u32> {
        self.called("transaction.time-left-ms");
        let left = self.call.deadline.since(self.shared.clock.monotonic());
        Ok(u32::try_from(left.as_millis()).unwrap_or(u32::MAX))
    }
}

/// Returns the value of a parameter; an empty string for a parameter without a value.
fn parameter(list: &[Parameter], name: &str) -> Option<String> {
    list.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone().unwrap_or_default())
}
