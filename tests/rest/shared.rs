//! What the trials share: one server, started by the first that asks for it, and one client.

use anyhow::{Context, Result, anyhow, ensure};
use reqwest::blocking::multipart::{Form, Part};
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;
use std::sync::OnceLock;
use tests::server::Server;
use tests::workspace;

#[derive(Default)]
pub struct Shared {
    server: OnceLock<Result<Server>>,
    client: OnceLock<Client>,
}

/// An answer, read to its end.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Shared {
    pub fn url(&self) -> Result<&str> {
        let server = self.server.get_or_init(Server::start).as_ref();
        Ok(server.map_err(|error| anyhow!("{error:#}"))?.url())
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(Client::new)
    }

    pub fn get(&self, path: &str) -> Result<RequestBuilder> {
        Ok(self.client().get(format!("{}{path}", self.url()?)))
    }

    pub fn head(&self, path: &str) -> Result<RequestBuilder> {
        Ok(self.client().head(format!("{}{path}", self.url()?)))
    }

    pub fn post(&self, path: &str) -> Result<RequestBuilder> {
        Ok(self.client().post(format!("{}{path}", self.url()?)))
    }

    /// The prediction for the bytes of a photo.
    pub fn predict(&self, path: &str, photo: Vec<u8>) -> Result<Value> {
        answer(self.post(path)?.body(photo))?.json(200)
    }
}

/// A form with these contents in the field `file`.
pub fn form(photos: impl IntoIterator<Item = Vec<u8>>) -> Form {
    let part = |photo| Part::bytes(photo).file_name("photo");
    photos.into_iter().fold(Form::new(), |form, photo| form.part("file", part(photo)))
}

pub fn photo(name: &str) -> Result<Vec<u8>> {
    let path = workspace::sample(name);
    std::fs::read(&path).with_context(|| path.display().to_string())
}

pub fn answer(request: RequestBuilder) -> Result<Answer> {
    let response = request.send()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, body: response.bytes()?.to_vec() })
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: impl reqwest::header::AsHeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// JSON with this status.
    pub fn json(&self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.text());
        ensure!(self.header(CONTENT_TYPE) == "application/json", "{:?}", self.headers);
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// An error with this status and code, and a sentence.
    pub fn failure(&self, status: u16, code: &str) -> Result<()> {
        let failure = self.json(status)?;
        ensure!(failure["error"]["code"] == code, "not {code}: {failure}");
        ensure!(failure["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{failure}");
        Ok(())
    }
}
