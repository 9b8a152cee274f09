//! A blocking HTTP client for downloads: single requests, redirects, and the classification of errors.

use super::tls_roots;
use anyhow::{Error, anyhow};
use std::time::Duration;
use std::{fmt, io};
use ureq::http::{HeaderValue, Method, Response};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};
use url::Url;

/// Error of a request, classified by whether a retry may succeed.
#[derive(Debug)]
pub enum RequestError {
    /// The server could not be reached. A retry may succeed only if the server was reached before, as during a
    /// download.
    Unreachable(Unreachable),
    /// A retry may succeed.
    Transient {
        error: Error,
        /// Delay before a retry that the server asked for (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// A retry would fail in the same way.
    Permanent(Error),
}

/// The reason why a server could not be reached, with its name.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(String);

impl RequestError {
    /// Creates an error after which a retry may succeed.
    pub fn transient(error: Error) -> Self {
        RequestError::Transient { error, retry_after: None }
    }

    /// Creates the error of a server that could not be reached. `reason` names the server.
    pub fn unreachable(reason: impl Into<String>) -> Self {
        RequestError::Unreachable(Unreachable(reason.into()))
    }

    pub fn into_error(self) -> Error {
        match self {
            RequestError::Unreachable(unreachable) => unreachable.into(),
            RequestError::Transient { error, .. } | RequestError::Permanent(error) => error,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Unreachable(unreachable) => unreachable.fmt(f),
            RequestError::Transient { error, .. } | RequestError::Permanent(error) => fmt::Display::fmt(error, f),
        }
    }
}

/// A bearer token. It is sent to one server only, never to the target of a redirect, and never unencrypted.
#[derive(Clone)]
pub struct BearerToken {
    /// Value of the header `authorization`.
    value: HeaderValue,
    server: Url,
}

impl BearerToken {
    /// Creates a token for a server, which is identified by the origin of a URL.
    ///
    /// # Errors
    /// Returns an error if the token contains characters that a header cannot hold.
    pub fn new(token: &str, server: &Url) -> Result<Self, Error> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| anyhow!("token contains characters that are not allowed in an HTTP header"))?;
        value.set_sensitive(true);
        Ok(BearerToken { value, server: server.clone() })
    }

    /// Returns whether the URL has the server's scheme, host and port. Without TLS, only the local machine qualifies.
    fn may_be_sent_to(&self, url: &Url) -> bool {
        let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        url.origin() == self.server.origin() && (url.scheme() == "https" || is_local)
    }
}

/// A blocking HTTP client. Connecting and every single read or write have a timeout; a download as a whole has none.
pub struct Client {
    agent: Agent,
    timeout: Duration,
}

/// Maximum number of redirects that [`Client::get`] follows.
const MAX_REDIRECTS: usize = 10;

impl Client {
    /// Creates a client with this timeout for connecting and for every single read or write.
    pub fn new(timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("shortcut-trainer/", env!("CARGO_PKG_VERSION")))
            // Hashes and byte ranges refer to the uncompressed file.
            .accept_encoding("identity")
            // `get` follows redirects, because it has to withhold the token; callers interpret the status.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(tls_roots::root_certificates()).build())
            .timeout_resolve(Some(timeout))
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout))
            .timeout_per_write(Some(timeout))
            .build();
        Client { agent: config.new_agent(), timeout }
    }

    /// Sends a GET request, follows redirects, and returns the last response, whatever its status.
    ///
    /// # Errors
    /// Returns an error if a server cannot be reached, or if there are too many redirects or an invalid one.
    pub fn get(
        &self,
        url: &Url,
        headers: &[(&str, String)],
        token: Option<&BearerToken>,
    ) -> Result<Response<Body>, RequestError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(Method::GET, &url, headers, token)?;
            match redirect_target(&url, &response)? {
                Some(target) => url = target,
                None => return Ok(response),
            }
        }
        Err(RequestError::Permanent(anyhow!("{url}: more than {MAX_REDIRECTS} redirects")))
    }

    /// Sends a single request and returns its response, which may be a redirect.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached or does not respond in time.
    pub fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&str, String)],
        token: Option<&BearerToken>,
    ) -> Result<Response<Body>, RequestError> {
        let mut request = ureq::http::Request::builder().method(method).uri(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(token) = token.filter(|token| token.may_be_sent_to(url)) {
            request = request.header("authorization", &token.value);
        }
        let request = request.body(()).map_err(|error| RequestError::Permanent(anyhow!("{url}: {error}")))?;
        self.agent.run(request).map_err(|error| self.classify(url, error))
    }

    /// Classifies an error of reading a response body.
    pub fn body_error(&self, url: &Url, error: io::Error) -> RequestError {
        let host = url.host_str().unwrap_or_default();
        RequestError::transient(match ureq::Error::from(error) {
            ureq::Error::Timeout(_) => anyhow!("{host} sent no data for {} s", self.timeout.as_secs_f32()),
            ureq::Error::Io(error) => anyhow!("connection to {host} was lost: {error}"),
            error => anyhow!("connection to {host} was lost: {error}"),
        })
    }

    fn classify(&self, url: &Url, error: ureq::Error) -> RequestError {
        use io::ErrorKind as Kind;
        let host = url.host_str().unwrap_or_default();
        let seconds = self.timeout.as_secs_f32();
        match error {
            ureq::Error::HostNotFound => {
                RequestError::unreachable(format!("cannot resolve {host}; check your network connection"))
            }
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                RequestError::unreachable(format!("connecting to {host} timed out after {seconds} s"))
            }
            error @ ureq::Error::Timeout(_) => self.body_error(url, error.into_io()),
            ureq::Error::Io(error) => match error.kind() {
                Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => {
                    RequestError::unreachable(format!("cannot connect to {host}: {error}"))
                }
                // rustls rejects a certificate with this kind.
                Kind::InvalidData => untrusted_certificate(host, error),
                // The standard library has no error kind for a failed name lookup.
                _ if error.to_string().contains("lookup address") => {
                    RequestError::unreachable(format!("cannot resolve {host} ({error}); check your network connection"))
                }
                _ => self.body_error(url, error),
            },
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => untrusted_certificate(host, error),
            error @ ureq::Error::Protocol(_) => {
                RequestError::transient(anyhow!("invalid HTTP response from {host}: {error}"))
            }
            error => RequestError::Permanent(anyhow!("{url}: {error}")),
        }
    }
}

fn untrusted_certificate(host: &str, error: impl fmt::Display) -> RequestError {
    RequestError::Permanent(anyhow!(
        "TLS certificate of {host} is not trusted: {error}. If a proxy inspects the connections of your network, set {} \
         to a PEM file with its certificate",
        tls_roots::VARIABLE
    ))
}

/// Returns the target of a redirect, or `None` if the response is not a redirect.
///
/// # Errors
/// Returns an error if the target is missing or invalid, or if it would leave HTTPS.
pub fn redirect_target(url: &Url, response: &Response<Body>) -> Result<Option<Url>, RequestError> {
    if ![301, 302, 303, 307, 308].contains(&response.status().as_u16()) {
        return Ok(None);
    }
    let location = response.headers().get("location").and_then(|location| location.to_str().ok());
    let target = location.and_then(|location| url.join(location).ok());
    let target =
        target.ok_or_else(|| RequestError::Permanent(anyhow!("{url}: redirect to an invalid URL: {location:?}")))?;
    let is_allowed = target.scheme() == "https" || (target.scheme() == "http" && url.scheme() == "http");
    match is_allowed {
        true => Ok(Some(target)),
        false => Err(RequestError::Permanent(anyhow!("{url}: insecure redirect to {target} is not followed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn token_is_sent_to_its_server_only() {
        let token = |server: &str| BearerToken::new("hf_secret", &url(server)).unwrap();
        let hub = token("https://huggingface.co");
        assert!(hub.may_be_sent_to(&url("https://huggingface.co/me/birds?x")));
        for other in
            ["http://huggingface.co/", "https://huggingface.co:444/", "https://cdn.huggingface.co/", "https://evil/"]
        {
            assert!(!hub.may_be_sent_to(&url(other)), "{other}");
        }
        assert!(token("http://127.0.0.1:81").may_be_sent_to(&url("http://127.0.0.1:81/me/birds")));
        assert!(!token("http://mirror").may_be_sent_to(&url("http://mirror/me/birds")), "unencrypted");
        assert!(BearerToken::new("two\nlines", &url("https://huggingface.co")).is_err());
    }

    #[test]
    fn redirects_never_leave_https() {
        let to = |status: u16, from: &str, location: Option<&str>| {
            let response = Response::builder().status(status);
            let response = location.into_iter().fold(response, |response, to| response.header("location", to));
            redirect_target(&url(from), &response.body(Body::builder().data("")).unwrap())
        };
        let from = "https://host/one/two?three";
        for (location, expected) in [
            ("https://other/file", "https://other/file"),
            ("/file", "https://host/file"),
            ("file?x", "https://host/one/file?x"),
            ("//other/file", "https://other/file"),
        ] {
            assert_eq!(to(302, from, Some(location)).unwrap(), Some(url(expected)));
        }
        assert_eq!(to(200, from, Some("/file")).unwrap(), None);
        assert_eq!(to(307, "http://host/", Some("http://other/")).unwrap(), Some(url("http://other/")));
        for location in [None, Some("http://host/file"), Some("ftp://host/file"), Some("https://")] {
            assert!(matches!(to(302, from, location), Err(RequestError::Permanent(_))), "{location:?}");
        }
    }
}
