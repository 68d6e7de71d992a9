//! Interface `http`: one request at a time to granted URLs.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Result;
use waxwing_bindings::imports::http::{Host, HttpError, Request, Response};
use waxwing_pipeline::{HttpError as PortError, HttpRequest};

use crate::imports::payload::PayloadError;
use crate::state::InstanceState;

/// Maximum number of header fields of a request.
const HEADERS_MAX: usize = 64;
/// Maximum total size in bytes of field names, field values and the URL.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Time reserved from the call's limit after a request, for the guest to return an answer.
const TIME_RESERVED: Duration = Duration::from_millis(5);

type FetchResult = std::result::Result<Response, HttpError>;

impl InstanceState {
    fn http_denied(&mut self, reason: &'static str, error: HttpError) -> FetchResult {
        self.record_denial("http.fetch", reason);
        Err(error)
    }
}

impl Host for InstanceState {
    async fn fetch(&mut self, request: Request) -> Result<FetchResult> {
        self.called("http.fetch");
        let failed = |why: String| HttpError::Failed(why);
        let Request { method, url, headers, body, timeout_ms } = request;
        let octets: usize = url.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if headers.len() > HEADERS_MAX || octets > HEADER_BYTES_MAX {
            return Ok(self.http_denied("malformed", failed("the header or the URL is too large".to_owned())));
        }
        let (requests_max, body_max) = (self.shared.limits.http_requests_max, self.shared.limits.http_request_bytes_max);
        self.call.usage.http_requests += 1;
        if self.call.usage.http_requests > requests_max {
            return Ok(self.http_denied("too-many", failed(format!("more than {requests_max} requests in one call"))));
        }
        let body = match self.payload(body, body_max).await? {
            Ok(body) => body,
            Err(PayloadError::NotGranted) => return Ok(self.http_denied("not-granted", HttpError::NotGranted)),
            Err(PayloadError::TooLarge) => return Ok(self.http_denied("too-large", HttpError::TooLarge)),
            Err(PayloadError::NotHere(why)) => return Ok(self.http_denied("malformed", failed(why))),
        };
        let Some(web) = self.shared.services.http_client.as_ref().map(Arc::clone) else {
            return Ok(self.http_denied("unavailable", failed("this server has no HTTP client".to_owned())));
        };
        let left = self.call.deadline.since(self.shared.clock.monotonic()).saturating_sub(TIME_RESERVED);
        let wanted = Duration::from_millis(u64::from(timeout_ms));
        let timeout = if wanted.is_zero() { left } else { wanted.min(left) };
        let response_bytes_max = self.shared.limits.http_response_bytes_max;
        let request = HttpRequest { method, url, headers, body, timeout, response_bytes_max };
        let shared = Arc::clone(&self.shared);
        Ok(match web.fetch(&shared.grants.http, request).await {
            Ok(response) => Ok(Response { status: response.status, headers: response.headers, body: response.body.to_vec() }),
            Err(PortError::NotGranted(why)) => {
                self.log_host(&format!("http.fetch: {why}"));
                self.http_denied("not-granted", HttpError::NotGranted)
            }
            Err(PortError::Timeout) => self.http_denied("timeout", HttpError::Timeout),
            Err(PortError::TooLarge) => self.http_denied("too-large", HttpError::TooLarge),
            Err(PortError::Failed(why)) => self.http_denied("failed", failed(why)),
        })
    }
}
