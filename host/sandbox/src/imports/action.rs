//! Interface `action`: consequences besides the verdict, staged until the call returns.

use std::time::Duration;

use wasmtime::Result;
use waxwing_bindings::imports::action::{ActionError, Address, Host};

use crate::from_wit;
use crate::permissions::Operation;
use crate::state::{InstanceState, one_line};

type StagedAction = Result<std::result::Result<(), ActionError>>;

/// Maximum delay of a reply.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// Maximum number of hidden EHLO keywords.
const HIDDEN_MAX: usize = 32;

impl InstanceState {
    fn stage_action(
        &mut self,
        act: Operation,
        change: impl FnOnce(&mut Self) -> std::result::Result<(), ActionError>,
    ) -> StagedAction {
        if !self.call.allows(act) {
            let hook = self.call.hook.map_or("on-load", waxwing_pipeline::Hook::as_str);
            return Ok(Err(ActionError::NotHere(format!("not possible at {hook}"))));
        }
        if !self.count_staged(0) {
            return Ok(Err(ActionError::TooMany));
        }
        Ok(change(self))
    }
}

impl Host for InstanceState {
    fn skip_rest(&mut self) -> StagedAction {
        self.called("action.skip-rest");
        self.stage_action(Operation::SkipRest, |state| {
            state.call.changes.skip_rest = true;
            Ok(())
        })
    }

    fn quarantine(&mut self, reason: String) -> StagedAction {
        self.called("action.quarantine");
        self.stage_action(Operation::Quarantine, |state| {
            state.call.changes.quarantine = Some(one_line(&reason, state.shared.limits.reason_bytes_max));
            Ok(())
        })
    }

    fn redirect(&mut self, to: Address) -> StagedAction {
        self.called("action.redirect");
        if !self.shared.grants.edit {
            return Ok(Err(ActionError::NotHere("needs the grant edit = true".to_owned())));
        }
        self.stage_action(Operation::Redirect, |state| {
            state.call.changes.redirect = Some(from_wit::address(to).map_err(ActionError::Malformed)?);
            Ok(())
        })
    }

    fn delay_reply(&mut self, milliseconds: u32) -> StagedAction {
        self.called("action.delay-reply");
        self.stage_action(Operation::DelayReply, |state| {
            state.call.changes.delay_reply = Duration::from_millis(u64::from(milliseconds)).min(DELAY_MAX);
            Ok(())
        })
    }

    fn hide_capability(&mut self, keyword: String) -> StagedAction {
        self.called("action.hide-capability");
        self.stage_action(Operation::HideCapability, |state| {
            let well_formed =
                !keyword.is_empty() && keyword.len() <= 64 && keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let hidden = &mut state.call.changes.hide_capabilities;
            match (well_formed, hidden.len() < HIDDEN_MAX) {
                (false, _) => Err(ActionError::Malformed("an EHLO keyword is letters, digits and hyphens".to_owned())),
                (true, false) => Err(ActionError::TooMany),
                (true, true) => {
                    hidden.push(keyword.to_ascii_uppercase());
                    Ok(())
                }
            }
        })
    }

    fn discard_recipient(&mut self, index: u32, reason: String) -> StagedAction {
        self.called("action.discard-recipient");
        self.stage_action(Operation::DiscardRecipient, |state| {
            if !state.call.context.recipients.iter().any(|r| r.index == index) {
                return Err(ActionError::Malformed(format!("there is no recipient {index}")));
            }
            let reason = one_line(&reason, state.shared.limits.reason_bytes_max);
            state.call.changes.discard_recipients.push((index, reason));
            Ok(())
        })
    }
}
