//! Errors of TLS.

/// Failure of a handshake, or of loading keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Handshake requested on a connection without TLS.
    #[error("TLS is not configured here")]
    NotConfigured,
    /// Handshake not completed within the time.
    #[error("handshake timeout")]
    Timeout,
    /// Handshake aborted by the shutdown of the server.
    #[error("the server is shutting down")]
    Shutdown,
    /// Error of rustls or the socket.
    #[error("{0}")]
    Handshake(#[from] std::io::Error),
    /// Configuration rejected by rustls.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// Certificates or keys that cannot be used, with the reason.
    #[error("{0}")]
    Unusable(String),
}
