//! The HTTP client of the tests, and the server that most of them share.

use anyhow::{Context, Result, ensure};
use reqwest::blocking::multipart::{Form, Part};
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;
use tests::server::Server;
use tests::shared::Shared;
use tests::workspace;

/// A server with the bundled models, started on first use, and a client.
pub struct SharedServer {
    server: Shared<Server>,
    client: Client,
}

/// A response whose body was read to its end.
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl SharedServer {
    pub fn new() -> Self {
        SharedServer { server: Shared::new(Server::start), client: Client::new() }
    }

    pub fn url(&self) -> Result<&str> {
        Ok(self.server.get()?.url())
    }

    pub fn get(&self, path: &str) -> Result<RequestBuilder> {
        Ok(self.client.get(format!("{}{path}", self.url()?)))
    }

    pub fn head(&self, path: &str) -> Result<RequestBuilder> {
        Ok(self.client.head(format!("{}{path}", self.url()?)))
    }

    pub fn post(&self, path: &str) -> Result<RequestBuilder> {
        Ok(self.client.post(format!("{}{path}", self.url()?)))
    }

    /// Posts a photo and returns the prediction.
    pub fn predict(&self, path: &str, photo: Vec<u8>) -> Result<Value> {
        send(self.post(path)?.body(photo))?.json(200)
    }
}

/// Creates a form with these photos in the field `file`.
pub fn form(photos: impl IntoIterator<Item = Vec<u8>>) -> Form {
    let part = |photo| Part::bytes(photo).file_name("photo");
    photos.into_iter().fold(Form::new(), |form, photo| form.part("file", part(photo)))
}

/// Reads a bundled sample photo.
pub fn photo(name: &str) -> Result<Vec<u8>> {
    let path = workspace::sample(name);
    std::fs::read(&path).with_context(|| path.display().to_string())
}

/// Sends a request and reads the response to its end.
pub fn send(request: RequestBuilder) -> Result<Response> {
    let response = request.send()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Response { status, headers, body: response.bytes()?.to_vec() })
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the value of a header, or an empty string if it is absent.
    pub fn header(&self, name: impl reqwest::header::AsHeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Returns the JSON body, if the response has this status.
    pub fn json(&self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "expected status {status}, got {}: {}", self.status, self.text());
        ensure!(self.header(CONTENT_TYPE) == "application/json", "{:?}", self.headers);
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Checks that the response is an error with this status and code, and with a message.
    pub fn expect_error(&self, status: u16, code: &str) -> Result<()> {
        let failure = self.json(status)?;
        ensure!(failure["error"]["code"] == code, "expected code {code}: {failure}");
        ensure!(failure["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{failure}");
        Ok(())
    }

    /// Checks that the response is 503 `overloaded` with `Retry-After`.
    pub fn expect_overloaded(&self) -> Result<()> {
        self.expect_error(503, "overloaded")?;
        ensure!(self.header("retry-after") == "1", "{:?}", self.headers);
        Ok(())
    }
}
