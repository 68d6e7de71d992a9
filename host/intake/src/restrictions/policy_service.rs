//! Policy services: request attributes and actions (Postfix SMTPD_POLICY_README).

use std::fmt::Write as _;

use waxwing_config::Restriction;
use waxwing_types::ReversePath;

use super::{RestrictionDecision, RestrictionEvaluator, RestrictionRequest, RestrictionStage, rule_label};

impl RestrictionEvaluator<'_> {
    pub(super) async fn check_policy_service(&mut self, endpoint: &str, rule: &Restriction, depth: usize) -> RestrictionDecision {
        let action = match self.policy.policy_services.get(endpoint) {
            Some(service) => match service.query(request_attributes(self.request).as_bytes()).await {
                Ok(answer) => answer.iter().find_map(|line| line.strip_prefix("action=")).map(str::to_owned),
                Err(error) => {
                    tracing::warn!(target: "intake", "{}: {error}", rule_label(self.list, rule));
                    None
                }
            },
            // Service named only by an access table: no client exists for such a service.
            None => None,
        };
        let action = action.unwrap_or_else(|| self.policy.policy_default_action.clone());
        self.apply_service_action(action.trim(), rule, depth).await
    }
}

/// Request attributes of a policy query. Unknown attributes are sent empty, as in Postfix.
fn request_attributes(request: &RestrictionRequest<'_>) -> String {
    let context = request.context;
    let client = context.client.as_deref();
    let sender = match request.sender() {
        Some(ReversePath::Address(address)) => address.to_string(),
        Some(ReversePath::Null) | None => String::new(),
    };
    let tls = context.tls.as_deref();
    let user = context.user.as_deref();
    let name = client.and_then(|client| client.name.as_deref()).unwrap_or("unknown");
    let id = context.id.map(|id| id.to_string()).unwrap_or_default();
    let is_complete = matches!(request.stage, RestrictionStage::Data | RestrictionStage::EndOfData);
    let mut text = String::with_capacity(700);
    for (key, value) in [
        ("request", "smtpd_access_policy".to_owned()),
        ("protocol_state", protocol_state(request.stage).to_owned()),
        ("protocol_name", if request.context.esmtp { "ESMTP" } else { "SMTP" }.to_owned()),
        ("client_address", client.map(|c| c.peer.ip().to_canonical().to_string()).unwrap_or_default()),
        ("client_name", name.to_owned()),
        ("client_port", client.map(|c| c.peer.port().to_string()).unwrap_or_default()),
        ("reverse_client_name", name.to_owned()),
        ("server_address", String::new()),
        ("server_port", String::new()),
        ("helo_name", context.helo.as_deref().unwrap_or_default().to_owned()),
        ("sender", sender),
        ("recipient", request.recipient.map(|(address, _)| address.to_string()).unwrap_or_default()),
        // Final recipient count, known from DATA on.
        ("recipient_count", if is_complete { context.recipients.len().to_string() } else { "0".to_owned() }),
        ("queue_id", if is_complete { id.clone() } else { String::new() }),
        ("instance", id),
        ("size", request.size.to_string()),
        ("etrn_domain", String::new()),
        ("stress", String::new()),
        ("sasl_method", user.map(|user| user.1.clone()).unwrap_or_default()),
        ("sasl_username", user.map(|user| user.0.clone()).unwrap_or_default()),
        ("sasl_sender", String::new()),
        ("ccert_subject", String::new()),
        ("ccert_issuer", String::new()),
        ("ccert_fingerprint", tls.and_then(|tls| tls.client_fingerprint.clone()).unwrap_or_default()),
        ("ccert_pubkey_fingerprint", String::new()),
        ("encryption_protocol", tls.map(|tls| tls.version.clone()).unwrap_or_default()),
        ("encryption_cipher", tls.map(|tls| tls.cipher.clone()).unwrap_or_default()),
        ("encryption_keysize", if tls.is_some() { String::new() } else { "0".to_owned() }),
        ("policy_context", String::new()),
    ] {
        // A line end in a value would start a new attribute.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        _ = writeln!(text, "{key}={value}");
    }
    text.push('\n');
    text
}

fn protocol_state(stage: RestrictionStage) -> &'static str {
    match stage {
        RestrictionStage::Connect => "CONNECT",
        RestrictionStage::Helo => "EHLO",
        RestrictionStage::Mail => "MAIL",
        RestrictionStage::Rcpt => "RCPT",
        RestrictionStage::Data => "DATA",
        RestrictionStage::EndOfData => "END-OF-MESSAGE",
    }
}
