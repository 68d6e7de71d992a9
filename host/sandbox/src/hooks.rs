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
use waxwing_pipeline::{Answer, Event, Hook, HookSet};

use crate::answer::{self, Checked};
use crate::more;
use crate::state::State;
use crate::words;

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
            pub(crate) fn find(pre: &InstancePre<State>, hooks: HookSet, load: bool) -> wasmtime::Result<Self> {
                Ok(Self {
                    load: load.then(|| on_load::GuestIndices::new(pre)).transpose()?,
                    $($field: hooks.contains(Hook::$hook).then(|| $module::GuestIndices::new(pre)).transpose()?,)*
                })
            }

            /// Compares the types of all exported hooks with the contract.
            pub(crate) fn check(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<()> {
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
            $(fn $field(&mut self, exports: &HookExports, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<&$module::Guest> {
                if self.$field.is_none() {
                    let indices = exports.$field.as_ref().ok_or_else(|| missing(Hook::$hook))?;
                    self.$field = Some(indices.load(&mut *store, instance)?);
                }
                self.$field.as_ref().ok_or_else(|| missing(Hook::$hook))
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

fn missing(hook: Hook) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the plugin does not export {hook}"))
}

/// Exports and instance needed for a hook call.
pub(crate) struct Callee<'a> {
    pub(crate) exports: &'a HookExports,
    pub(crate) found: &'a mut ResolvedExports,
    pub(crate) instance: Instance,
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "each function has its share of the hooks; one that none has is an error of the call"
)]
impl Callee<'_> {
    /// Calls the hook of an event. The outer error comes from the engine; the inner error describes an invalid answer.
    pub(crate) async fn call(&mut self, store: &mut Store<State>, event: &Event) -> wasmtime::Result<Checked<Answer>> {
        if let Some(verdict) = self.session(store, event).await? {
            return Ok(answer::verdict(verdict, event.hook(), &store.data().shared.limits));
        }
        if let Some(verdict) = self.content(store, event).await? {
            return Ok(answer::verdict(verdict, event.hook(), &store.data().shared.limits));
        }
        if self.hears(store, event).await? {
            return Ok(Ok(Answer::Done));
        }
        if let Some(answer) = self.asked(store, event).await? {
            return Ok(answer);
        }
        self.queue(store, event).await?.ok_or_else(|| missing(event.hook()))
    }

    /// Calls hooks with a verdict before the message is complete.
    async fn session(&mut self, store: &mut Store<State>, event: &Event) -> wasmtime::Result<Option<Verdict>> {
        let (exports, instance) = (self.exports, &self.instance);
        Ok(Some(match event {
            Event::Connect => self.found.connect(exports, store, instance)?.call_connect(&mut *store).await?,
            Event::Tls => self.found.tls(exports, store, instance)?.call_tls(&mut *store).await?,
            Event::Helo(name) => self.found.helo(exports, store, instance)?.call_helo(&mut *store, name).await?,
            Event::Mail(sender) => {
                let sender = words::reverse_path(sender);
                self.found.mail(exports, store, instance)?.call_mail(&mut *store, &sender).await?
            }
            Event::Rcpt(recipient) => {
                let recipient = words::recipient(recipient);
                self.found.rcpt(exports, store, instance)?.call_rcpt(&mut *store, &recipient).await?
            }
            Event::RcptResolved { recipient, targets } => {
                let recipient = words::recipient(recipient);
                let targets: Vec<_> = targets.iter().map(words::address).collect();
                let guest = self.found.rcpt_resolved(exports, store, instance)?;
                guest.call_rcpt_resolved(&mut *store, &recipient, &targets).await?
            }
            Event::Data => self.found.data(exports, store, instance)?.call_data(&mut *store).await?,
            Event::Refuse { stage, by, reply } => {
                let reply = words::reply(reply);
                self.found.refuse(exports, store, instance)?.call_refuse(&mut *store, stage.as_str(), by, &reply).await?
            }
            _ => return Ok(None),
        }))
    }

    /// Calls hooks with a verdict on a message.
    async fn content(&mut self, store: &mut Store<State>, event: &Event) -> wasmtime::Result<Option<Verdict>> {
        let (exports, instance) = (self.exports, &self.instance);
        Ok(Some(match event {
            Event::Headers => self.found.headers(exports, store, instance)?.call_headers(&mut *store).await?,
            Event::Message => self.found.message(exports, store, instance)?.call_message(&mut *store).await?,
            Event::Decide(symbols) => {
                let symbols: Vec<_> = symbols.iter().map(words::symbol).collect();
                self.found.decide(exports, store, instance)?.call_decide(&mut *store, &symbols).await?
            }
            Event::RecipientMessage(recipient) => {
                let recipient = words::recipient(recipient);
                let guest = self.found.recipient_message(exports, store, instance)?;
                guest.call_recipient_message(&mut *store, &recipient).await?
            }
            Event::Cleanup => self.found.cleanup(exports, store, instance)?.call_cleanup(&mut *store).await?,
            Event::Scan => self.found.scan(exports, store, instance)?.call_scan(&mut *store).await?,
            Event::Send(destination) => self.found.send(exports, store, instance)?.call_send(&mut *store, destination).await?,
            _ => return Ok(None),
        }))
    }

    /// Calls notification hooks; returns false for any other event.
    async fn hears(&mut self, store: &mut Store<State>, event: &Event) -> wasmtime::Result<bool> {
        let (exports, instance) = (self.exports, &self.instance);
        match event {
            Event::Outcome(o) => {
                let recipient = words::recipient(&o.recipient);
                let guest = self.found.outcome(exports, store, instance)?;
                let fate = words::fate(o.fate);
                guest.call_outcome(&mut *store, &recipient, fate, &o.destination, &o.status, &o.text).await?;
            }
            Event::Abort => self.found.abort(exports, store, instance)?.call_abort(&mut *store).await?,
            Event::Disconnect(why) => self.found.disconnect(exports, store, instance)?.call_disconnect(&mut *store, why).await?,
            Event::Observe { name, json } => {
                self.found.event(exports, store, instance)?.call_event(&mut *store, name, json).await?;
            }
            Event::Tick => self.found.tick(exports, store, instance)?.call_tick(&mut *store).await?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Calls lookup and content hooks whose answer is not a verdict: users, commands, tables, scores, addresses.
    async fn asked(&mut self, store: &mut Store<State>, event: &Event) -> wasmtime::Result<Option<Checked<Answer>>> {
        let (exports, instance) = (self.exports, &self.instance);
        Ok(Some(match event {
            Event::Credentials(user) => {
                let stored = self.found.credentials(exports, store, instance)?.call_find(&mut *store, user).await?;
                more::stored(stored, &store.data().shared.limits)
            }
            Event::Auth { protocol, user, secret } => {
                let secret = words::secret(secret);
                let guest = self.found.auth(exports, store, instance)?;
                let auth = guest.call_auth(&mut *store, protocol, user, &secret).await?;
                more::auth(auth, &store.data().shared.limits)
            }
            Event::Command { verb, argument } => {
                let guest = self.found.command(exports, store, instance)?;
                more::command(guest.call_command(&mut *store, verb, argument).await?)
            }
            Event::Table(key) => {
                let lookup = self.found.table(exports, store, instance)?.call_get(&mut *store, key).await?;
                more::found(lookup, &store.data().shared.limits)
            }
            Event::Score => {
                let symbols = self.found.score(exports, store, instance)?.call_score(&mut *store).await?;
                answer::symbols(symbols, &store.data().shared.limits)
            }
            Event::RewriteAddress(address, role) => {
                let (address, role) = (words::address(address), words::role(*role));
                let guest = self.found.rewrite(exports, store, instance)?;
                let rewritten = guest.call_rewrite_address(&mut *store, &address, role).await?;
                rewritten.map(answer::address).transpose().map(Answer::Rewritten)
            }
            Event::Resolve { recipient, verify } => {
                let address = words::address(recipient);
                let guest = self.found.resolve(exports, store, instance)?;
                let resolution = guest.call_resolve(&mut *store, &address, *verify).await?;
                answer::resolution(resolution, *verify, &store.data().shared.limits)
            }
            _ => return Ok(None),
        }))
    }

    /// Calls hooks of the queue and of delivery.
    async fn queue(&mut self, store: &mut Store<State>, event: &Event) -> wasmtime::Result<Option<Checked<Answer>>> {
        let (exports, instance) = (self.exports, &self.instance);
        Ok(Some(match event {
            Event::Enqueue => {
                let placement = self.found.enqueue(exports, store, instance)?.call_enqueue(&mut *store).await?;
                more::placement(placement, &store.data().shared.limits)
            }
            Event::Route(recipient) => {
                let recipient = words::recipient(recipient);
                more::route(self.found.route(exports, store, instance)?.call_route(&mut *store, &recipient).await?)
            }
            Event::Reply { destination, code, text } => {
                let guest = self.found.reply(exports, store, instance)?;
                Ok(Answer::Class(more::class(guest.call_reply(&mut *store, destination, *code, text).await?)))
            }
            Event::Retry(failure) => {
                let failure = words::failure(failure);
                let next = self.found.retry(exports, store, instance)?.call_retry(&mut *store, &failure).await?;
                Ok(Answer::NextTry(more::next_try(next)))
            }
            Event::Dsn(kind) => Ok(Answer::Report(self.found.dsn(exports, store, instance)?.call_dsn(&mut *store, kind).await?)),
            Event::Deliver { hop, recipients } => {
                let wit_recipients: Vec<_> = recipients.iter().map(words::recipient).collect();
                let guest = self.found.deliver(exports, store, instance)?;
                let list = guest.call_deliver(&mut *store, &hop.to_string(), &wit_recipients).await?;
                let shared = &store.data().shared;
                answer::dispositions(list, recipients, &*shared.clock, &shared.limits)
            }
            _ => return Ok(None),
        }))
    }
}
