//! The hooks that a component exports, and how each is called.

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};
use waxwing_bindings::exports::{
    on_abort, on_cleanup, on_connect, on_data, on_decide, on_deliver, on_helo, on_load, on_mail, on_message, on_rcpt,
    on_recipient_message, on_refuse, on_resolve, on_rewrite_address, on_score, on_tick,
};
use waxwing_pipeline::{Answer, Event, Hook, HookSet};

use crate::answer::{self, Checked};
use crate::state::State;
use crate::words;

macro_rules! hooks {
    ($($field:ident $module:ident $hook:ident;)*) => {
        /// Where each exported hook is found in an instance.
        #[derive(Clone)]
        pub(crate) struct Exports {
            pub(crate) load: Option<on_load::GuestIndices>,
            $($field: Option<$module::GuestIndices>,)*
        }

        impl Exports {
            /// Finds the hooks in a component; their types are checked by [`Exports::check`].
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

        /// The hooks of one instance, each looked up when it is first called.
        #[derive(Default)]
        pub(crate) struct Found {
            $($field: Option<$module::Guest>,)*
        }

        impl Found {
            $(fn $field(&mut self, exports: &Exports, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<&$module::Guest> {
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
    data on_data OnData;
    refuse on_refuse OnRefuse;
    message on_message OnMessage;
    score on_score OnScore;
    decide on_decide OnDecide;
    recipient_message on_recipient_message OnRecipientMessage;
    abort on_abort OnAbort;
    tick on_tick OnTick;
    cleanup on_cleanup OnCleanup;
    rewrite on_rewrite_address OnRewriteAddress;
    resolve on_resolve OnResolve;
    deliver on_deliver OnDeliver;
}

fn missing(hook: Hook) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the plugin does not export {hook}"))
}

/// A component's instance: what is needed to call into it.
pub(crate) struct Callee<'a> {
    pub(crate) exports: &'a Exports,
    pub(crate) found: &'a mut Found,
    pub(crate) instance: Instance,
}

impl Callee<'_> {
    /// Calls the hook of an event. The outer error is the engine's, the inner one says what is wrong with the answer.
    pub(crate) async fn call(&mut self, store: &mut Store<State>, event: &Event) -> wasmtime::Result<Checked<Answer>> {
        let (exports, instance) = (self.exports, &self.instance);
        let verdict = match event {
            Event::Connect => self.found.connect(exports, store, instance)?.call_connect(&mut *store).await?,
            Event::Helo(name) => self.found.helo(exports, store, instance)?.call_helo(&mut *store, name).await?,
            Event::Mail(sender) => {
                let sender = words::reverse_path(sender);
                self.found.mail(exports, store, instance)?.call_mail(&mut *store, &sender).await?
            }
            Event::Rcpt(recipient) => {
                let recipient = words::recipient(recipient);
                self.found.rcpt(exports, store, instance)?.call_rcpt(&mut *store, &recipient).await?
            }
            Event::Data => self.found.data(exports, store, instance)?.call_data(&mut *store).await?,
            Event::Refuse { stage, by, reply } => {
                let guest = self.found.refuse(exports, store, instance)?;
                guest.call_refuse(&mut *store, stage.as_str(), by, &words::reply(reply)).await?
            }
            Event::Message => self.found.message(exports, store, instance)?.call_message(&mut *store).await?,
            Event::Cleanup => self.found.cleanup(exports, store, instance)?.call_cleanup(&mut *store).await?,
            Event::RewriteAddress(address, role) => {
                let (address, role) = (words::address(address), words::role(*role));
                let guest = self.found.rewrite(exports, store, instance)?;
                let rewritten = guest.call_rewrite_address(&mut *store, &address, role).await?;
                return Ok(rewritten.map(answer::address).transpose().map(Answer::Rewritten));
            }
            Event::Resolve { recipient, verify } => {
                let address = words::address(recipient);
                let guest = self.found.resolve(exports, store, instance)?;
                let resolution = guest.call_resolve(&mut *store, &address, *verify).await?;
                return Ok(answer::resolution(resolution, *verify, &store.data().shared.limits));
            }
            Event::Deliver { hop, recipients } => {
                let said: Vec<_> = recipients.iter().map(words::recipient).collect();
                let guest = self.found.deliver(exports, store, instance)?;
                let list = guest.call_deliver(&mut *store, &hop.to_string(), &said).await?;
                let shared = &store.data().shared;
                return Ok(answer::dispositions(list, recipients, &*shared.clock, &shared.limits));
            }
            Event::Decide(symbols) => {
                let symbols: Vec<_> = symbols.iter().map(words::symbol).collect();
                self.found.decide(exports, store, instance)?.call_decide(&mut *store, &symbols).await?
            }
            Event::RecipientMessage(recipient) => {
                let recipient = words::recipient(recipient);
                let guest = self.found.recipient_message(exports, store, instance)?;
                guest.call_recipient_message(&mut *store, &recipient).await?
            }
            Event::Score => {
                let symbols = self.found.score(exports, store, instance)?.call_score(&mut *store).await?;
                return Ok(answer::symbols(symbols, &store.data().shared.limits));
            }
            Event::Abort => {
                self.found.abort(exports, store, instance)?.call_abort(&mut *store).await?;
                return Ok(Ok(Answer::Done));
            }
            Event::Tick => {
                self.found.tick(exports, store, instance)?.call_tick(&mut *store).await?;
                return Ok(Ok(Answer::Done));
            }
        };
        Ok(answer::verdict(verdict, event.hook(), &store.data().shared.limits))
    }
}
