//! HTTP as far as files need it: one request, with the way through its redirects, and what went wrong with it.

use super::roots;
use anyhow::{Error, anyhow};
use std::time::Duration;
use std::{fmt, io};
use ureq::http::{HeaderValue, Method, Response};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};
use url::Url;

/// Why a request did not end well.
#[derive(Debug)]
pub enum Failure {
    /// Without any network it is in vain to try again; in the middle of a download it is not.
    Unreachable(Unreachable),
    /// It may go better next time.
    Transient {
        error: Error,
        /// The delay before the next try that the server asked for (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// It will go the same way next time.
    Permanent(Error),
}

/// Why nobody answered; with the name of the one that was to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(String);

impl Failure {
    pub fn into_error(self) -> Error {
        match self {
            Failure::Unreachable(unreachable) => unreachable.into(),
            Failure::Transient { error, .. } | Failure::Permanent(error) => error,
        }
    }

    pub fn transient(error: Error) -> Self {
        Failure::Transient { error, retry_after: None }
    }

    pub fn unreachable(why: impl Into<String>) -> Self {
        Failure::Unreachable(Unreachable(why.into()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(unreachable) => unreachable.fmt(f),
            Failure::Transient { error, .. } | Failure::Permanent(error) => fmt::Display::fmt(error, f),
        }
    }
}

/// Proves who asks. It goes to one server only: no redirect takes it anywhere else, nor does it travel unencrypted.
#[derive(Clone)]
pub struct Token {
    /// Of the header `authorization`.
    value: HeaderValue,
    server: Url,
}

impl Token {
    /// # Errors
    /// If the text is none that a header can hold.
    pub fn new(text: &str, server: &Url) -> Result<Self, Error> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| anyhow!("it holds more than a token"))?;
        value.set_sensitive(true);
        Ok(Token { value, server: server.clone() })
    }

    /// Scheme, host and port are the server's. A machine may talk to itself in the clear.
    fn belongs_to(&self, address: &Url) -> bool {
        let is_local = matches!(address.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        address.origin() == self.server.origin() && (address.scheme() == "https" || is_local)
    }
}

/// Blocking. Connecting, and any single wait for bytes, have a limit; a download as a whole has none.
pub struct Client {
    agent: Agent,
    patience: Duration,
}

/// More would be a circle.
const MAX_REDIRECTS: usize = 10;

impl Client {
    pub fn new(patience: Duration) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("shortcut-trainer/", env!("CARGO_PKG_VERSION")))
            // Hashes and ranges are of the file as it is.
            .accept_encoding("identity")
            // Redirects are followed here, where the token is watched; a status is judged by who asked.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(roots::trusted()).build())
            .timeout_resolve(Some(patience))
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience))
            .build();
        Client { agent: config.new_agent(), patience }
    }

    /// The answer of the last server in a chain of redirects.
    pub fn get(
        &self,
        address: &Url,
        headers: &[(&str, String)],
        token: Option<&Token>,
    ) -> Result<Response<Body>, Failure> {
        let mut address = address.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.once(Method::GET, &address, headers, token)?;
            match redirect(&address, &response)? {
                Some(next) => address = next,
                None => return Ok(response),
            }
        }
        Err(Failure::Permanent(anyhow!("{address}: more than {MAX_REDIRECTS} redirects")))
    }

    /// The answer to a single request, be it a redirect.
    pub fn once(
        &self,
        method: Method,
        address: &Url,
        headers: &[(&str, String)],
        token: Option<&Token>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = ureq::http::Request::builder().method(method).uri(address.as_str());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(token) = token.filter(|token| token.belongs_to(address)) {
            request = request.header("authorization", &token.value);
        }
        let request = request.body(()).map_err(|error| Failure::Permanent(anyhow!("{address}: {error}")))?;
        self.agent.run(request).map_err(|error| self.explained(address, error))
    }

    /// Why a body ended before it was whole; `error` is its reader's.
    pub fn broken(&self, address: &Url, error: io::Error) -> Failure {
        let host = address.host_str().unwrap_or_default();
        Failure::transient(match ureq::Error::from(error) {
            ureq::Error::Timeout(_) => anyhow!("{host} sent nothing for {} s", self.patience.as_secs_f32()),
            ureq::Error::Io(error) => anyhow!("the connection to {host} broke: {error}"),
            error => anyhow!("the connection to {host} broke: {error}"),
        })
    }

    fn explained(&self, address: &Url, error: ureq::Error) -> Failure {
        use io::ErrorKind as Kind;
        let host = address.host_str().unwrap_or_default();
        let seconds = self.patience.as_secs_f32();
        match error {
            ureq::Error::HostNotFound => Failure::unreachable(format!("{host} cannot be found: is there a network?")),
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Failure::unreachable(format!("{host} did not answer within {seconds} s"))
            }
            error @ ureq::Error::Timeout(_) => self.broken(address, error.into_io()),
            ureq::Error::Io(error) => match error.kind() {
                Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => {
                    Failure::unreachable(format!("{host} cannot be reached: {error}"))
                }
                // rustls has refused the server's certificate.
                Kind::InvalidData => distrusted(host, error),
                // The standard library has no kind of error for a name that cannot be looked up.
                _ if error.to_string().contains("lookup address") => {
                    Failure::unreachable(format!("{host} cannot be found ({error}): is there a network?"))
                }
                _ => self.broken(address, error),
            },
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => distrusted(host, error),
            error @ ureq::Error::Protocol(_) => Failure::transient(anyhow!("{host} does not speak HTTP: {error}")),
            error => Failure::Permanent(anyhow!("{address}: {error}")),
        }
    }
}

fn distrusted(host: &str, error: impl fmt::Display) -> Failure {
    Failure::Permanent(anyhow!(
        "whoever answers in the name of {host} cannot be trusted: {error}. If your network looks into connections, its \
         certificates are taken from the file that {} names",
        roots::VARIABLE
    ))
}

/// Where a redirect leads, if it is one.
///
/// # Errors
/// If it leads nowhere, or out of HTTPS.
pub fn redirect(address: &Url, response: &Response<Body>) -> Result<Option<Url>, Failure> {
    if ![301, 302, 303, 307, 308].contains(&response.status().as_u16()) {
        return Ok(None);
    }
    let location = response.headers().get("location").and_then(|location| location.to_str().ok());
    let next = location.and_then(|location| address.join(location).ok());
    let next = next.ok_or_else(|| Failure::Permanent(anyhow!("{address}: a redirect to nowhere: {location:?}")))?;
    let is_kept = next.scheme() == "https" || (next.scheme() == "http" && address.scheme() == "http");
    match is_kept {
        true => Ok(Some(next)),
        false => Err(Failure::Permanent(anyhow!("{address}: a redirect out of HTTPS, to {next}, is not followed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_token_stays_with_its_server() {
        let token = |server: &str| Token::new("hf_secret", &url(server)).unwrap();
        let hub = token("https://huggingface.co");
        assert!(hub.belongs_to(&url("https://huggingface.co/me/birds?x")));
        for other in
            ["http://huggingface.co/", "https://huggingface.co:444/", "https://cdn.huggingface.co/", "https://evil/"]
        {
            assert!(!hub.belongs_to(&url(other)), "{other}");
        }
        assert!(token("http://127.0.0.1:81").belongs_to(&url("http://127.0.0.1:81/me/birds")));
        assert!(!token("http://mirror").belongs_to(&url("http://mirror/me/birds")), "in the clear");
        assert!(Token::new("two\nlines", &url("https://huggingface.co")).is_err());
    }

    #[test]
    fn redirects_stay_within_https() {
        let to = |status: u16, from: &str, location: Option<&str>| {
            let response = Response::builder().status(status);
            let response = location.into_iter().fold(response, |response, to| response.header("location", to));
            redirect(&url(from), &response.body(Body::builder().data("")).unwrap())
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
            assert!(matches!(to(302, from, location), Err(Failure::Permanent(_))), "{location:?}");
        }
    }
}
