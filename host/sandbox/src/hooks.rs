//! Hooks exported by a component, and the call of each hook.

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};
use waxwing_bindings::exports::{
    on_abort, on_auth, on_cleanup, on_command, on_connect, on_credentials, on_data, on_decide, on_deliver, on_disconnect, on_dsn,
    on_enqueue, on_event, on_headers, on_helo, on_load, on_mail, on_message, on_outcome, on_rcpt, on_rcpt_resolved,
    on_recipient_message, on_refuse, on_reply, on_resolve, on_retry, on_rewrite_address, on_route, on_scan, on_score, on_send,
    on_table, on_tick, on_tls,
};
use waxwing_bindings::imports::types::Verdict;
use waxwing_pipeline::{Event, Hook, HookAnswer, HookSet};

use crate::from_wit::{self, Converted};
use crate::from_wit_other;
use crate::state::InstanceState;
use crate::to_wit;

macro_rules! hooks {
    ($($field:ident $module:ident $hook:ident;)*) => {
        /// Export indices of each exported hook, resolved once per component.
        #[derive(Clone)]
        pub(crate) struct HookExports {
            pub(crate) load: Option<on_load::GuestIndices>,
            $($field: Option<$module::GuestIndices>,)*
        }

        impl HookExports {
            /// Resolves the hooks of a component; types are checked by [`HookExports::check`].
            pub(crate) fn find(pre: &InstancePre<InstanceState>, hooks: HookSet, load: bool) -> wasmtime::Result<Self> {
                Ok(Self {
                    load: load.then(|| on_load::GuestIndices::new(pre)).transpose()?,
                    $($field: hooks.contains(Hook::$hook).then(|| $module::GuestIndices::new(pre)).transpose()?,)*
                })
            }

            /// Compares the types of all exported hooks with the contract.
            pub(crate) fn check(&self, store: &mut Store<InstanceState>, instance: &Instance) -> wasmtime::Result<()> {
                if let Some(load) = &self.load {
                    load.load(&mut *store, instance)?;
                }
                $(if let Some(indices) = &self.$field {
                    indices.load(&mut *store, instance)?;
                })*
                Ok(())
            }
        }

        /// Hook functions of one instance, each resolved at the first call.
        #[derive(Default)]
        pub(crate) struct ResolvedExports {
            $($field: Option<$module::Guest>,)*
        }

        impl ResolvedExports {
            $(fn $field(&mut self, exports: &HookExports, store: &mut Store<InstanceState>, instance: &Instance) -> wasmtime::Result<&$module::Guest> {
                if self.$field.is_none() {
                    let indices = exports.$field.as_ref().ok_or_else(|| missing_export(Hook::$hook))?;
                    self.$field = Some(indices.load(&mut *store, instance)?);
                }
                self.$field.as_ref().ok_or_else(|| missing_export(Hook::$hook))
            })*
        }
    };
}

hooks! {
    connect on_connect OnConnect;
    helo on_helo OnHelo;
    mail on_mail OnMail;
    rcpt on_rcpt OnRcpt;
    message on_message OnMessage;
    cleanup on_cleanup OnCleanup;
    rewrite on_rewrite_address OnRewriteAddress;
    resolve on_resolve OnResolve;
    deliver on_deliver OnDeliver;
    tls on_tls OnTls;
    credentials on_credentials OnCredentials;
    auth on_auth OnAuth;
    command on_command OnCommand;
    rcpt_resolved on_rcpt_resolved OnRcptResolved;
    data on_data OnData;
    refuse on_refuse OnRefuse;
    headers on_headers OnHeaders;
    score on_score OnScore;
    decide on_decide OnDecide;
    recipient_message on_recipient_message OnRecipientMessage;
    enqueue on_enqueue OnEnqueue;
    scan on_scan OnScan;
    route on_route OnRoute;
    send on_send OnSend;
    reply on_reply OnReply;
    retry on_retry OnRetry;
    outcome on_outcome OnOutcome;
    dsn on_dsn OnDsn;
    abort on_abort OnAbort;
    disconnect on_disconnect OnDisconnect;
    event on_event OnEvent;
    tick on_tick OnTick;
    table on_table OnTable;
}

fn missing_export(hook: Hook) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the plugin does not export {hook}"))
}

/// Exports and instance needed for a hook call.
pub(crate) struct HookCaller<'a> {
    pub(crate) exports: &'a HookExports,
    pub(crate) resolved: &'a mut ResolvedExports,
    pub(crate) instance: Instance,
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "each function has its share of the hooks; one that none has is an error of the call"
)]
impl HookCaller<'_> {
    /// Calls the hook of an event. The outer error comes from the engine; the inner error describes an invalid answer.
    pub(crate) async fn call(
        &mut self,
        store: &mut Store<InstanceState>,
        event: &Event,
    ) -> wasmtime::Result<Converted<HookAnswer>> {
        if let Some(verdict) = self.call_session_hook(store, event).await? {
            return Ok(from_wit::verdict(verdict, event.hook(), &store.data().shared.limits));
        }
        if let Some(verdict) = self.call_message_hook(store, event).await? {
            return Ok(from_wit::verdict(verdict, event.hook(), &store.data().shared.limits));
        }
        if self.call_notification_hook(store, event).await? {
            return Ok(Ok(HookAnswer::Done));
        }
        if let Some(answer) = self.call_lookup_hook(store, event).await? {
            return Ok(answer);
        }
        self.call_delivery_hook(store, event).await?.ok_or_else(|| missing_export(event.hook()))
    }

    /// Calls hooks with a verdict before the message is complete.
    async fn call_session_hook(&mut self, store: &mut Store<InstanceState>, event: &Event) -> wasmtime::Result<Option<Verdict>> {
        let (exports, instance) = (self.exports, &self.instance);
        Ok(Some(match event {
            Event::Connect => self.resolved.connect(exports, store, instance)?.call_connect(&mut *store).await?,
            Event::Tls => self.resolved.tls(exports, store, instance)?.call_tls(&mut *store).await?,
            Event::Helo(name) => self.resolved.helo(exports, store, instance)?.call_helo(&mut *store, name).await?,
            Event::Mail(sender) => {
                let sender = to_wit::reverse_path(sender);
                self.resolved.mail(exports, store, instance)?.call_mail(&mut *store, &sender).await?
            }
            Event::Rcpt(recipient) => {
                let recipient = to_wit::recipient(recipient);
                self.resolved.rcpt(exports, store, instance)?.call_rcpt(&mut *store, &recipient).await?
            }
            Event::RcptResolved { recipient, targets } => {
                let recipient = to_wit::recipient(recipient);
                let targets: Vec<_> = targets.iter().map(to_wit::address).collect();
                let guest = self.resolved.rcpt_resolved(exports, store, instance)?;
                guest.call_rcpt_resolved(&mut *store, &recipient, &targets).await?
            }
            Event::Data => self.resolved.data(exports, store, instance)?.call_data(&mut *store).await?,
            Event::Refuse { stage, plugin: by, reply } => {
                let reply = to_wit::reply(reply);
                self.resolved.refuse(exports, store, instance)?.call_refuse(&mut *store, stage.as_str(), by, &reply).await?
            }
            _ => return Ok(None),
        }))
    }

    /// Calls hooks with a verdict on a message.
    async fn call_message_hook(&mut self, store: &mut Store<InstanceState>, event: &Event) -> wasmtime::Result<Option<Verdict>> {
        let (exports, instance) = (self.exports, &self.instance);
        Ok(Some(match event {
            Event::Headers => self.resolved.headers(exports, store, instance)?.call_headers(&mut *store).await?,
            Event::Message => self.resolved.message(exports, store, instance)?.call_message(&mut *store).await?,
            Event::Decide(symbols) => {
                let symbols: Vec<_> = symbols.iter().map(to_wit::symbol).collect();
                self.resolved.decide(exports, store, instance)?.call_decide(&mut *store, &symbols).await?
            }
            Event::RecipientMessage(recipient) => {
                let recipient = to_wit::recipient(recipient);
                let guest = self.resolved.recipient_message(exports, store, instance)?;
                guest.call_recipient_message(&mut *store, &recipient).await?
            }
            Event::Cleanup => self.resolved.cleanup(exports, store, instance)?.call_cleanup(&mut *store).await?,
            Event::Scan => self.resolved.scan(exports, store, instance)?.call_scan(&mut *store).await?,
            Event::Send(destination) => self.resolved.send(exports, store, instance)?.call_send(&mut *store, destination).await?,
            _ => return Ok(None),
        }))
    }

    /// Calls notification hooks; returns false for any other event.
    async fn call_notification_hook(&mut self, store: &mut Store<InstanceState>, event: &Event) -> wasmtime::Result<bool> {
        let (exports, instance) = (self.exports, &self.instance);
        match event {
            Event::Outcome(o) => {
                let recipient = to_wit::recipient(&o.recipient);
                let guest = self.resolved.outcome(exports, store, instance)?;
                let fate = to_wit::fate(o.fate);
                guest.call_outcome(&mut *store, &recipient, fate, &o.destination, &o.status, &o.text).await?;
            }
            Event::Abort => self.resolved.abort(exports, store, instance)?.call_abort(&mut *store).await?,
            Event::Disconnect(why) => {
                self.resolved.disconnect(exports, store, instance)?.call_disconnect(&mut *store, why).await?
            }
            Event::Accounting { name, json } => {
                self.resolved.event(exports, store, instance)?.call_event(&mut *store, name, json).await?;
            }
            Event::Tick => self.resolved.tick(exports, store, instance)?.call_tick(&mut *store).await?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Calls lookup and content hooks whose answer is not a verdict: users, commands, tables, scores, addresses.
    async fn call_lookup_hook(
        &mut self,
        store: &mut Store<InstanceState>,
        event: &Event,
    ) -> wasmtime::Result<Option<Converted<HookAnswer>>> {
        let (exports, instance) = (self.exports, &self.instance);
        Ok(Some(match event {
            Event::Credentials(user) => {
                let stored = self.resolved.credentials(exports, store, instance)?.call_find(&mut *store, user).await?;
                from_wit_other::stored_credential(stored, &store.data().shared.limits)
            }
            Event::Auth { protocol, user, secret } => {
                let secret = to_wit::secret(secret);
                let guest = self.resolved.auth(exports, store, instance)?;
                let auth = guest.call_auth(&mut *store, protocol, user, &secret).await?;
                from_wit_other::auth_answer(auth, &store.data().shared.limits)
            }
            Event::Command { verb, argument } => {
                let guest = self.resolved.command(exports, store, instance)?;
                from_wit_other::command_reply(guest.call_command(&mut *store, verb, argument).await?)
            }
            Event::Table(key) => {
                let lookup = self.resolved.table(exports, store, instance)?.call_get(&mut *store, key).await?;
                from_wit_other::table_lookup(lookup, &store.data().shared.limits)
            }
            Event::Score => {
                let symbols = self.resolved.score(exports, store, instance)?.call_score(&mut *store).await?;
                from_wit::symbols(symbols, &store.data().shared.limits)
            }
            Event::RewriteAddress(address, role) => {
                let (address, role) = (to_wit::address(address), to_wit::role(*role));
                let guest = self.resolved.rewrite(exports, store, instance)?;
                let rewritten = guest.call_rewrite_address(&mut *store, &address, role).await?;
                rewritten.map(from_wit::address).transpose().map(HookAnswer::Rewritten)
            }
            Event::Resolve { recipient, verify } => {
                let address = to_wit::address(recipient);
                let guest = self.resolved.resolve(exports, store, instance)?;
                let resolution = guest.call_resolve(&mut *store, &address, *verify).await?;
                from_wit::resolution(resolution, *verify, &store.data().shared.limits)
            }
            _ => return Ok(None),
        }))
    }

    /// Calls hooks of the queue and of delivery.
    async fn call_delivery_hook(
        &mut self,
        store: &mut Store<InstanceState>,
        event: &Event,
    ) -> wasmtime::Result<Option<Converted<HookAnswer>>> {
        let (exports, instance) = (self.exports, &self.instance);
        Ok(Some(match event {
            Event::Enqueue => {
                let placement = self.resolved.enqueue(exports, store, instance)?.call_enqueue(&mut *store).await?;
                from_wit_other::placement(placement, &store.data().shared.limits)
            }
            Event::Route(recipient) => {
                let recipient = to_wit::recipient(recipient);
                from_wit_other::route(self.resolved.route(exports, store, instance)?.call_route(&mut *store, &recipient).await?)
            }
            Event::Reply { destination, code, text } => {
                let guest = self.resolved.reply(exports, store, instance)?;
                Ok(HookAnswer::ReplyClass(from_wit_other::reply_class(
                    guest.call_reply(&mut *store, destination, *code, text).await?,
                )))
            }
            Event::Retry(failure) => {
                let failure = to_wit::deferral_info(failure);
                let next = self.resolved.retry(exports, store, instance)?.call_retry(&mut *store, &failure).await?;
                Ok(HookAnswer::NextTry(from_wit_other::next_try(next)))
            }
            Event::Dsn(kind) => {
                Ok(HookAnswer::SendDsn(self.resolved.dsn(exports, store, instance)?.call_dsn(&mut *store, kind).await?))
            }
            Event::Deliver { hop, recipients } => {
                let wit_recipients: Vec<_> = recipients.iter().map(to_wit::recipient).collect();
                let guest = self.resolved.deliver(exports, store, instance)?;
                let list = guest.call_deliver(&mut *store, &hop.to_string(), &wit_recipients).await?;
                let shared = &store.data().shared;
                from_wit::dispositions(list, recipients, &*shared.clock, &shared.limits)
            }
            _ => return Ok(None),
        }))
    }
}
