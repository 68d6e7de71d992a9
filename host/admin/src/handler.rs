//! Interfaces between the control socket, the admin service and the running server.

use async_trait::async_trait;
use waxwing_control::{ControlError, ControlErrorKind, ControlRequest, ControlResponse, ReloadReport};

/// Handler of control requests.
#[async_trait]
pub trait ControlHandler: Send + Sync {
    /// Handles a single request and returns the response.
    async fn handle(&self, request: ControlRequest) -> ControlResponse;
}

/// Reloads the configuration of the running server.
#[async_trait]
pub trait ReloadHandler: Send + Sync {
    /// Reloads the whole configuration; on error nothing changes.
    async fn reload(&self) -> Result<ReloadReport, ControlError>;
}

/// Certificates of the listeners in service.
pub trait ListenerCertificates: Send + Sync {
    /// Returns the SHA-256 fingerprints of the certificates in use, the default certificate first.
    fn fingerprints(&self) -> Vec<String>;
}

/// Builds the error of a request.
pub(crate) fn control_error(kind: ControlErrorKind, text: impl Into<String>) -> ControlError {
    ControlError { kind, text: text.into() }
}
