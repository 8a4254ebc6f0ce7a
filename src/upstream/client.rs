//! One HTTP client for every endpoint.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};

use crate::domain::{EndpointId, Fault, FaultClass, Task};

/// The largest answer to anything but a call for inference.
const MOST_CONTROL_BYTES: usize = 64 << 20;

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TCP connection.
    pub connect: Duration,
    /// From sending a request to its first event; covers a load and a long prompt.
    pub first_event: Duration,
    /// The least silence that is suspicious; an unload is given up after three of them.
    pub silence: Duration,
    /// Between two events of a stream.
    pub idle: Duration,
    /// For an answer that is not streamed, whole.
    pub whole: Duration,
    /// For `/api/tags`, `/api/ps`, `/api/show` and `/api/version`.
    pub control: Duration,
}

/// One upstream Ollama as configured.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Position in the list.
    pub id: EndpointId,
    /// The name policies and people use.
    pub name: String,
    /// Base URL without a trailing slash, for example `http://127.0.0.1:11434`.
    pub base: String,
    /// Slots per runner (`OLLAMA_NUM_PARALLEL` of that server).
    pub num_parallel: u32,
}

/// The shared client; clones are handles.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// The configured endpoints, by id.
    pub endpoints: Arc<[Endpoint]>,
    /// The time limits.
    pub timeouts: Timeouts,
    /// Where each endpoint takes each task: parsing a URL for every call would cost as much as the rest of a send.
    calls: Arc<[[Url; Task::ALL.len()]]>,
}

impl Client {
    /// A client for these endpoints.
    ///
    /// # Errors
    /// A sentence when the TLS set-up cannot be made.
    pub fn new(endpoints: Vec<Endpoint>, timeouts: Timeouts) -> Result<Self, String> {
        let calls = endpoints.iter().map(calls).collect::<Result<Vec<_>, _>>()?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls()?)
            .connect_timeout(timeouts.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http1_only()
            .default_headers(headers)
            .build()
            .map_err(|error| format!("the upstream HTTP client cannot be made: {error}"))?;
        Ok(Self { http, endpoints: endpoints.into(), timeouts, calls: calls.into() })
    }

    /// The endpoint with this id.
    pub(super) fn endpoint(&self, id: EndpointId) -> Result<&Endpoint, Fault> {
        self.endpoints.get(usize::from(id.0)).ok_or_else(gone)
    }

    /// A call for inference: `POST` with a JSON body. Waits for the response's head only.
    ///
    /// # Errors
    /// `Internal` for an endpoint that is not configured; else what `failed` makes of the client's error.
    pub(super) async fn call(
        &self,
        id: EndpointId,
        task: Task,
        body: Vec<u8>,
        failed: impl FnOnce(reqwest::Error) -> Fault,
    ) -> Result<reqwest::Response, Fault> {
        let endpoint = self.endpoint(id)?;
        let url = self.calls.get(usize::from(id.0)).map(|calls| calls[task as usize].clone()).ok_or_else(gone)?;
        let request = self.http.post(url).body(body);
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        local_host(request, endpoint).send().await.map_err(failed)
    }

    /// `GET path`, whole, within the control time limit.
    pub(super) async fn get(&self, endpoint: &Endpoint, path: &'static str) -> Result<bytes::Bytes, String> {
        let request = self.http.get(format!("{}{path}", endpoint.base)).timeout(self.timeouts.control);
        let response = local_host(request, endpoint).send().await.map_err(|error| reason(&error))?;
        if !response.status().is_success() {
            return Err(format!("{path} answered {}", response.status()));
        }
        small(response).await
    }

    /// `POST path`, whole, within the control time limit: status and body.
    pub(super) async fn ask(
        &self,
        endpoint: &Endpoint,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<(u16, bytes::Bytes), String> {
        self.ask_within(endpoint, path, body, self.timeouts.control).await
    }

    /// `POST path`, whole, within `patience`: status and body.
    pub(super) async fn ask_within(
        &self,
        endpoint: &Endpoint,
        path: &'static str,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<(u16, bytes::Bytes), String> {
        let request = self.http.post(format!("{}{path}", endpoint.base)).timeout(patience).body(body);
        let response = local_host(request, endpoint).send().await.map_err(|error| reason(&error))?;
        let status = response.status().as_u16();
        Ok((status, small(response).await?))
    }
}

/// A whole body, of at most [`MOST_CONTROL_BYTES`].
async fn small(mut response: reqwest::Response) -> Result<bytes::Bytes, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
        if body.len() + chunk.len() > MOST_CONTROL_BYTES {
            return Err(format!("its answer is larger than {} MiB", MOST_CONTROL_BYTES >> 20));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

fn gone() -> Fault {
    Fault::new(FaultClass::Internal, "the endpoint is no longer configured")
}

fn calls(endpoint: &Endpoint) -> Result<[Url; Task::ALL.len()], String> {
    let base = Url::parse(&endpoint.base).map_err(|error| format!("{} is not a URL: {error}", endpoint.base))?;
    let root = base.path().trim_end_matches('/').to_owned();
    Ok(Task::ALL.map(|task| {
        let mut url = base.clone();
        url.set_path(&format!("{root}{}", task.path()));
        url
    }))
}

/// A server bound to loopback refuses foreign `Host` headers, for example through a port forward under another name
/// (`ollama-facts` 6); this one is always allowed.
fn local_host(request: reqwest::RequestBuilder, endpoint: &Endpoint) -> reqwest::RequestBuilder {
    if endpoint.base.starts_with("http://") {
        request.header(HOST, HeaderValue::from_static("localhost:11434"))
    } else {
        request
    }
}

/// The root cause in a few words, without the URL.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_connect() {
        format!("cannot connect: {cause}")
    } else if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        cause.to_string()
    }
}

/// `https` upstreams verify against the machine's CA bundle; a machine without one (a scratch image) still starts.
fn tls() -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // one odd certificate in the bundle must not keep the others out
        let _ = roots.add(certificate);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn calls_go_to_the_tasks_route_under_the_endpoints_own_path() {
        let urls = |base: &str| {
            let endpoint = Endpoint { id: EndpointId(0), name: "x".into(), base: base.into(), num_parallel: 1 };
            Task::ALL.map(|task| calls(&endpoint).unwrap()[task as usize].to_string())
        };
        assert_eq!(
            urls("http://127.0.0.1:11434"),
            Task::ALL.map(|task| format!("http://127.0.0.1:11434{}", task.path()))
        );
        assert_eq!(urls("https://gpu/ollama"), Task::ALL.map(|task| format!("https://gpu/ollama{}", task.path())));
    }
}
