//! Admin service: handles the requests of the control socket with the live objects of the server.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use waxwing_config::{Config, Visibility};
use waxwing_control::{
    ControlError, ControlErrorKind, ControlRequest, ControlResponse, DaemonInfo, HookStatus, LastAttempt, MessageInfo,
    PluginChange, PluginStatus, QueuePage, QueueState, QueueTotals, QueuedRecipient, QueuedUnit, RECORDING_PAGE_MAX,
    SHOWN_HEADER_BYTES_MAX, TRACE_LAST_MAX,
};
use waxwing_delivery::ActiveUnits;
use waxwing_intake::GuardState;
use waxwing_pipeline::{BindingMode, BindingStatus, FaultPolicy, Pipeline, UserStore};
use waxwing_plugins::PluginManager;
use waxwing_spool::{DueKey, ListEntry, ListKey, Spool, SpoolError, Unit, UnitState};
use waxwing_state::{MetricsRegistry, RecordingPage, RecordingStore, TraceError, TraceQueryResult, TraceStore};
use waxwing_types::{Envelope, QueueId, Timestamp};

use crate::handler::{ControlHandler, ListenerCertificates, ReloadHandler, control_error};
use crate::metrics::{MetricsSources, render};

mod users;

/// Bytes of recordings in a single response, as stored; the JSON form may be several times larger.
const RECORDING_PAGE_BYTES: u64 = 2 << 20;

/// Handler of all control requests, with the objects to query.
pub struct AdminService {
    /// Version, process and host of the server.
    pub info: DaemonInfo,
    /// Configuration in service.
    pub config: Arc<ArcSwap<Config>>,
    /// Path of the configuration file.
    pub file: PathBuf,
    /// Queue of messages.
    pub spool: Arc<dyn Spool>,
    /// Traces of transactions.
    pub traces: Arc<TraceStore>,
    /// Recordings of transactions.
    pub recordings: Arc<RecordingStore>,
    /// Bound plugins with their counts.
    pub pipeline: Arc<Pipeline>,
    /// Registry of metrics.
    pub metrics: Arc<MetricsRegistry>,
    /// Versions of the plugins.
    pub plugin_manager: Arc<PluginManager>,
    /// Units with a delivery attempt in progress.
    pub active_units: ActiveUnits,
    /// Certificates of the listeners; `None` in a process without listeners.
    pub listeners: Option<Arc<dyn ListenerCertificates>>,
    /// Sessions of the server, counted for the metrics.
    pub guard_state: Arc<GuardState>,
    /// Reloads the configuration.
    pub reload_handler: Arc<dyn ReloadHandler>,
    /// Users in the store.
    pub users: Arc<dyn UserStore>,
}

#[async_trait]
impl ControlHandler for AdminService {
    async fn handle(&self, request: ControlRequest) -> ControlResponse {
        let answered = match request {
            ControlRequest::Ping => Ok(ControlResponse::Pong(self.info.clone())),
            ControlRequest::QueueList { after, limit } => {
                self.queue_list(after.as_deref(), ControlRequest::clamp_page_size(limit)).await
            }
            ControlRequest::QueueShow { id } => self.queue_show(id).await,
            ControlRequest::Trace { id } => self.trace(id).await,
            ControlRequest::TraceLast { limit } => self.trace_last(limit).await,
            ControlRequest::Recording { id } => self.recording(id).await,
            ControlRequest::RecordingLast { before, limit } => self.recording_last(before.as_deref(), limit).await,
            ControlRequest::PluginList => Ok(ControlResponse::Plugins { plugins: self.plugin_list() }),
            ControlRequest::PluginReload { name } => {
                self.plugin_manager.reload(name.as_deref()).await.map(|changes| ControlResponse::PluginChanges { changes })
            }
            ControlRequest::Metrics => Ok(ControlResponse::Metrics { text: render(&self.metrics_sources()) }),
            ControlRequest::PluginRollback { name } => plugin_change_response(self.plugin_manager.roll_back(&name).await),
            ControlRequest::PluginPromote { name } => plugin_change_response(self.plugin_manager.promote(&name).await),
            ControlRequest::Reload => self.reload_handler.reload().await.map(ControlResponse::Reloaded),
            ControlRequest::ConfigShow => Ok(ControlResponse::Config {
                file: self.file.display().to_string(),
                text: self.config.load().show_toml(Visibility::All),
            }),
            ControlRequest::UserList { after } => Ok(users::list(&*self.users, after.as_deref())),
            ControlRequest::UserShow { name } => users::show(&*self.users, &name),
            ControlRequest::UserAdd { name, records } => users::add(&*self.users, &name, &records).await,
            ControlRequest::UserPasswd { name, records } => users::set_password(&*self.users, &name, &records).await,
            ControlRequest::UserDelete { name } => users::delete(&*self.users, &name).await,
            ControlRequest::TlsShow => Ok(ControlResponse::Tls {
                certificates: self.listeners.as_ref().map(|listeners| listeners.fingerprints()).unwrap_or_default(),
            }),
        };
        answered.unwrap_or_else(ControlResponse::Error)
    }
}

impl AdminService {
    fn metrics_sources(&self) -> MetricsSources<'_> {
        MetricsSources { spool: &*self.spool, guard_state: &self.guard_state, pipeline: &self.pipeline, registry: &self.metrics }
    }

    async fn queue_list(&self, after: Option<&str>, limit: usize) -> Result<ControlResponse, ControlError> {
        let bad = || control_error(ControlErrorKind::BadRequest, "no page of the queue begins there");
        let after = after.map(|text| parse_page_key(text).ok_or_else(bad)).transpose()?;
        let page = self.spool.list(after, limit).await.map_err(spool_error)?;
        let stats = self.spool.stats();
        Ok(ControlResponse::Queue(QueuePage {
            units: page.entries.into_iter().map(|entry| unit_from_entry(entry, &self.active_units)).collect(),
            next: page.next.map(format_page_key),
            totals: QueueTotals { incoming: stats.incoming, deferred: stats.deferred, hold: stats.hold, corrupt: stats.corrupt },
        }))
    }

    async fn queue_show(&self, id: QueueId) -> Result<ControlResponse, ControlError> {
        let shown = self.spool.show(id).await.map_err(spool_error)?;
        let head = self.spool.load(id).await.ok().map(|message| {
            let head = message.header.get(..SHOWN_HEADER_BYTES_MAX).unwrap_or(&message.header);
            String::from_utf8_lossy(head).into_owned()
        });
        let envelope = shown.envelope.as_ref();
        let units = shown.units.into_iter().enumerate();
        let units = units
            .map(|(at, (unit, state))| unit_from_message(id, at, unit, state, envelope, shown.size, &self.active_units))
            .collect();
        let origin = envelope.map(|e| &e.origin);
        Ok(ControlResponse::Message(Box::new(MessageInfo {
            id,
            units,
            source: origin.map(|o| o.source.as_str().to_owned()),
            peer: origin.and_then(|o| o.peer).map(|peer| peer.to_string()),
            helo: origin.and_then(|o| o.helo.clone()),
            user: origin.and_then(|o| o.user.clone()),
            eight_bit: envelope.is_some_and(|e| e.body_type == waxwing_types::BodyType::EightBitMime),
            tags: shown.tags.into_iter().collect(),
            header: head,
            size: shown.size,
        })))
    }

    fn plugin_list(&self) -> Vec<PluginStatus> {
        let with_last_change = |status: BindingStatus| match status.canary {
            Some(_) => plugin_status(status, (None, None)),
            None => {
                let last_change = self.plugin_manager.last_change(&status.name);
                plugin_status(status, last_change)
            }
        };
        self.pipeline.status().into_iter().map(with_last_change).collect()
    }

    async fn trace(&self, id: QueueId) -> Result<ControlResponse, ControlError> {
        let found = self.read_traces(move |traces| traces.get(id)).await?;
        if found == TraceQueryResult::default() {
            return Err(control_error(
                ControlErrorKind::NotFound,
                format!("nothing is known of {id}: it is too old, or it never was"),
            ));
        }
        trace_response(&found)
    }

    async fn trace_last(&self, limit: u32) -> Result<ControlResponse, ControlError> {
        let limit = limit.min(TRACE_LAST_MAX) as usize;
        trace_response(&self.read_traces(move |traces| traces.last(limit)).await?)
    }

    async fn recording(&self, id: QueueId) -> Result<ControlResponse, ControlError> {
        let page = self.read_recordings(move |recordings| recordings.get(id)).await?;
        if page == RecordingPage::default() {
            let why = match self.config.load().recording.enabled {
                true => "it is too old, or it never was",
                false => "recording is not enabled; [recording] enabled = true records from then on",
            };
            return Err(control_error(ControlErrorKind::NotFound, format!("no recording of {id}: {why}")));
        }
        recordings_response(&page)
    }

    async fn recording_last(&self, before: Option<&str>, limit: u32) -> Result<ControlResponse, ControlError> {
        let bad = |_| control_error(ControlErrorKind::BadRequest, "no page of the recordings ends there");
        let before = before.map(str::parse::<QueueId>).transpose().map_err(bad)?;
        let limit = limit.min(RECORDING_PAGE_MAX) as usize;
        recordings_response(&self.read_recordings(move |recordings| recordings.last(before, limit, RECORDING_PAGE_BYTES)).await?)
    }

    async fn read_recordings<F>(&self, read: F) -> Result<RecordingPage, ControlError>
    where
        F: FnOnce(&RecordingStore) -> Result<RecordingPage, TraceError> + Send + 'static,
    {
        self.recordings.flush().await.map_err(|error| store_error(&error))?;
        read_blocking(&self.recordings, read).await
    }

    async fn read_traces<F>(&self, read: F) -> Result<TraceQueryResult, ControlError>
    where
        F: FnOnce(&TraceStore) -> Result<TraceQueryResult, TraceError> + Send + 'static,
    {
        // A trace written just before the request must be found: flush first.
        self.traces.flush().await.map_err(|error| store_error(&error))?;
        read_blocking(&self.traces, read).await
    }
}

/// Reads a store on a blocking thread, since the read would stall the reactor.
async fn read_blocking<S, T, F>(store: &Arc<S>, read: F) -> Result<T, ControlError>
where
    S: Send + Sync + 'static,
    T: Send + 'static,
    F: FnOnce(&S) -> Result<T, TraceError> + Send + 'static,
{
    let store = Arc::clone(store);
    let result = tokio::task::spawn_blocking(move || read(&store)).await.map_err(|error| store_error(&error))?;
    result.map_err(|error| store_error(&error))
}

fn store_error(error: &dyn std::fmt::Display) -> ControlError {
    control_error(ControlErrorKind::Failed, error.to_string())
}

fn recordings_response(page: &RecordingPage) -> Result<ControlResponse, ControlError> {
    if page.recordings.is_empty() && page.unreadable > 0 {
        return Err(control_error(ControlErrorKind::Failed, "the recording was written by another version, or is damaged"));
    }
    let recordings = page.recordings.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    let recordings = recordings.map_err(|error| control_error(ControlErrorKind::Failed, error.to_string()))?;
    Ok(ControlResponse::Recordings { recordings, next: page.next.map(|id| id.to_string()) })
}

fn spool_error(error: SpoolError) -> ControlError {
    match error {
        SpoolError::NotFound => control_error(ControlErrorKind::NotFound, "no message in the queue has this id"),
        SpoolError::Full { .. }
        | SpoolError::Corrupt(_)
        | SpoolError::Fenced
        | SpoolError::Conflict
        | SpoolError::Invalid(_)
        | SpoolError::Unavailable { .. }
        | SpoolError::Io(_) => control_error(ControlErrorKind::Failed, error.to_string()),
    }
}

fn trace_response(found: &TraceQueryResult) -> Result<ControlResponse, ControlError> {
    let records = found.records.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    match records {
        Ok(records) if records.is_empty() && found.unreadable > 0 => {
            Err(control_error(ControlErrorKind::Failed, "the trace was written by another version, or is damaged"))
        }
        Ok(records) => Ok(ControlResponse::Trace { records }),
        Err(error) => Err(control_error(ControlErrorKind::Failed, error.to_string())),
    }
}

/// Maps a unit's state; `active` is true during a delivery attempt, known to the queue manager but not to the spool.
fn queue_state(state: UnitState, active: bool) -> (QueueState, Option<String>) {
    match state {
        UnitState::Incoming | UnitState::Deferred if active => (QueueState::Active, None),
        UnitState::Incoming => (QueueState::Incoming, None),
        UnitState::Deferred => (QueueState::Deferred, None),
        UnitState::Hold(reason) => (QueueState::Hold, Some(reason)),
        UnitState::Corrupt(reason) => (QueueState::Corrupt, Some(reason)),
    }
}

fn unit_from_entry(entry: ListEntry, active: &ActiveUnits) -> QueuedUnit {
    let (state, reason) = queue_state(entry.state, active.contains(entry.id, entry.number));
    let unit = entry.unit.as_ref();
    let addresses = entry.message.as_ref().map(|m| m.recipients.as_slice()).unwrap_or_default();
    let last = |at: usize| unit.and_then(|u| u.recipients.get(at)?.last_status.as_ref()).map(LastAttempt::from);
    let recipients = addresses.iter().enumerate();
    QueuedUnit {
        id: entry.id,
        unit: entry.number,
        state,
        reason,
        arrived_at: entry.message.as_ref().map(|m| m.received_at),
        size: entry.message.as_ref().map(|m| m.size),
        sender: entry.message.as_ref().map(|m| m.sender.to_string()),
        attempts: unit.map_or(0, |u| u.attempts),
        next_at: unit.and_then(|u| next_at(u, state)),
        recipients: recipients.map(|(at, address)| QueuedRecipient { address: address.clone(), last: last(at) }).collect(),
    }
}

fn unit_from_message(
    id: QueueId,
    at: usize,
    unit: Option<Unit>,
    state: UnitState,
    envelope: Option<&Envelope>,
    size: u64,
    active: &ActiveUnits,
) -> QueuedUnit {
    let number = unit.as_ref().map_or(u16::try_from(at).unwrap_or(u16::MAX), |u| u.number);
    let (state, reason) = queue_state(state, active.contains(id, number));
    let address = |index: u32| envelope.and_then(|e| e.recipients.get(index as usize)).map(|r| r.address.to_string());
    let recipients = unit.iter().flat_map(|u| &u.recipients).map(|recipient| QueuedRecipient {
        address: address(recipient.index).unwrap_or_else(|| format!("recipient {}", recipient.index)),
        last: recipient.last_status.as_ref().map(LastAttempt::from),
    });
    QueuedUnit {
        id,
        unit: number,
        state,
        reason,
        arrived_at: envelope.map(|e| e.origin.received_at),
        size: Some(size),
        sender: envelope.map(|e| e.sender.to_string()),
        attempts: unit.as_ref().map_or(0, |u| u.attempts),
        next_at: unit.as_ref().and_then(|u| next_at(u, state)),
        recipients: recipients.collect(),
    }
}

fn next_at(unit: &Unit, state: QueueState) -> Option<Timestamp> {
    match state {
        QueueState::Incoming | QueueState::Active | QueueState::Deferred => Some(unit.next_at),
        QueueState::Hold | QueueState::Corrupt => None,
    }
}

/// Formats a page key: `parked.ID.NUMBER` or `due.MILLISECONDS.ID.NUMBER`.
fn format_page_key(key: ListKey) -> String {
    match key {
        ListKey::Suspended(id, number) => format!("parked.{id}.{number}"),
        ListKey::Due(DueKey { next_at, id, number }) => format!("due.{}.{id}.{number}", next_at.as_millis()),
    }
}

fn parse_page_key(text: &str) -> Option<ListKey> {
    let parts: Vec<&str> = text.split('.').collect();
    match parts.as_slice() {
        ["parked", id, number] => Some(ListKey::Suspended(id.parse().ok()?, number.parse().ok()?)),
        ["due", millis, id, number] => Some(ListKey::Due(DueKey {
            next_at: Timestamp::from_millis(millis.parse().ok()?),
            id: id.parse().ok()?,
            number: number.parse().ok()?,
        })),
        _ => None,
    }
}

fn plugin_change_response(change: Result<PluginChange, ControlError>) -> Result<ControlResponse, ControlError> {
    change.map(|change| ControlResponse::PluginChanges { changes: vec![change] })
}

fn plugin_status(status: BindingStatus, (previous, last_error): (Option<String>, Option<String>)) -> PluginStatus {
    let hooks = status.hooks.into_iter().map(|count| HookStatus {
        hook: count.hook.to_string(),
        calls: count.calls,
        faults: count.faults,
        micros: count.micros,
        agreed: count.agreed,
        differed: count.differed,
    });
    let mode = match status.mode {
        BindingMode::Enforce => "enforce",
        BindingMode::Shadow => "shadow",
        BindingMode::Off => "off",
    };
    let on_fault = match status.on_fault {
        FaultPolicy::Defer => "defer",
        FaultPolicy::Skip => "skip",
        FaultPolicy::Reject => "reject",
        FaultPolicy::Hold => "hold",
    };
    PluginStatus {
        name: status.name,
        version: status.version,
        loaded_at: status.loaded_at,
        canary: status.canary,
        previous,
        last_error,
        instances: status.instances,
        mode: mode.to_owned(),
        on_fault: on_fault.to_owned(),
        breaker: status.breaker.as_str().to_owned(),
        hooks: hooks.collect(),
    }
}

#[cfg(test)]
mod tests;
