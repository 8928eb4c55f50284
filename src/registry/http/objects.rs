//! The HTTP client of object stores: the same TLS, certificates and proxies as for registries.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use object_store::{
    ClientConfigKey, ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
        HttpService,
    },
};
use reqwest::Client;

/// Longest time of one request, including its body. TOCs of large layers have some MB.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Creates clients for object stores.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(super) client: Client,
}

#[derive(Debug)]
struct Service {
    client: Client,
    /// Whether requests may go without TLS.
    is_plain: bool,
}

/// The store's settings demand TLS.
#[derive(Debug, thiserror::Error)]
#[error("plain HTTP is not allowed for this store")]
struct PlainHttp;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let is_plain =
            options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|value| value == "true");
        Ok(HttpClient::new(Service { client: self.client.clone(), is_plain }))
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !self.is_plain && request.uri().scheme_str() != Some("https") {
            return Err(HttpError::new(HttpErrorKind::Unknown, PlainHttp));
        }
        let request = request.map(reqwest::Body::wrap);
        let mut request = reqwest::Request::try_from(request).map_err(failed)?;
        *request.timeout_mut() = Some(TIMEOUT);
        let response = self.client.execute(request).await.map_err(failed)?;
        let response = http::Response::<reqwest::Body>::from(response);
        Ok(response.map(|body| HttpResponseBody::new(body.map_err(failed))))
    }
}

fn failed(error: reqwest::Error) -> HttpError {
    let kind = match &error {
        error if error.is_timeout() => HttpErrorKind::Timeout,
        error if error.is_connect() => HttpErrorKind::Connect,
        error if error.is_decode() => HttpErrorKind::Decode,
        error if error.is_request() || error.is_body() => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    // URLs may contain signatures.
    HttpError::new(kind, error.without_url())
}
