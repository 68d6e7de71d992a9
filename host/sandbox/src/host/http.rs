//! Interface `http`: one request at a time to granted URLs.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Result;
use waxwing_bindings::imports::http::{Host, HttpError, Request, Response};
use waxwing_pipeline::{HttpError as PortError, HttpRequest};

use crate::host::payload::PayloadError;
use crate::state::State;

/// Maximum number of header fields of a request.
const HEADERS_MAX: usize = 64;
/// Maximum total size in bytes of field names, field values and the URL.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Time reserved from the call's limit after a request, for the guest to return an answer.
const TIME_LEFT_AFTER: Duration = Duration::from_millis(5);

type Fetched = std::result::Result<Response, HttpError>;

impl State {
    fn http_refused(&mut self, reason: &'static str, error: HttpError) -> Fetched {
        self.refused("http.fetch", reason);
        Err(error)
    }
}

impl Host for State {
    async fn fetch(&mut self, request: Request) -> Result<Fetched> {
        self.called("http.fetch");
        let failed = |why: String| HttpError::Failed(why);
        let Request { method, url, headers, body, timeout_ms } = request;
        let octets: usize = url.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if headers.len() > HEADERS_MAX || octets > HEADER_BYTES_MAX {
            return Ok(self.http_refused("malformed", failed("the header or the URL is too large".to_owned())));
        }
        let (requests_max, body_max) = (self.shared.limits.http_requests_max, self.shared.limits.http_request_bytes_max);
        self.call.used.http_requests += 1;
        if self.call.used.http_requests > requests_max {
            return Ok(self.http_refused("too-many", failed(format!("more than {requests_max} requests in one call"))));
        }
        let body = match self.payload(body, body_max).await? {
            Ok(body) => body,
            Err(PayloadError::NotGranted) => return Ok(self.http_refused("not-granted", HttpError::NotGranted)),
            Err(PayloadError::TooLarge) => return Ok(self.http_refused("too-large", HttpError::TooLarge)),
            Err(PayloadError::NotHere(why)) => return Ok(self.http_refused("malformed", failed(why))),
        };
        let Some(web) = self.shared.ports.web.as_ref().map(Arc::clone) else {
            return Ok(self.http_refused("unavailable", failed("this server has no HTTP client".to_owned())));
        };
        let left = self.call.deadline.since(self.shared.clock.monotonic()).saturating_sub(TIME_LEFT_AFTER);
        let wanted = Duration::from_millis(u64::from(timeout_ms));
        let timeout = if wanted.is_zero() { left } else { wanted.min(left) };
        let response_bytes_max = self.shared.limits.http_response_bytes_max;
        let request = HttpRequest { method, url, headers, body, timeout, response_bytes_max };
        let shared = Arc::clone(&self.shared);
        Ok(match web.fetch(&shared.grants.http, request).await {
            Ok(response) => Ok(Response { status: response.status, headers: response.headers, body: response.body.to_vec() }),
            Err(PortError::NotGranted(why)) => {
                self.host_line(&format!("http.fetch: {why}"));
                self.http_refused("not-granted", HttpError::NotGranted)
            }
            Err(PortError::Timeout) => self.http_refused("timeout", HttpError::Timeout),
            Err(PortError::TooLarge) => self.http_refused("too-large", HttpError::TooLarge),
            Err(PortError::Failed(why)) => self.http_refused("failed", failed(why)),
        })
    }
}
