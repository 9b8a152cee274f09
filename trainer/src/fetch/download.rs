//! One file from the network to the disk: resumed where it broke off, and given its name only when its hash is right.

use super::client::{Client, Failure, Token};
use super::part::{MAX_BYTES, Part};
use super::retry::Retries;
use crate::console;
use crate::progress::Progress;
use anyhow::{Result, anyhow, bail};
use bytesize::ByteSize;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::time::Duration;
use ureq::Body;
use ureq::http::Response;
use url::Url;

/// What is to be downloaded, and how it is known again.
pub struct Source {
    pub address: Url,
    pub token: Option<Token>,
    pub expected: Expected,
    pub path: PathBuf,
}

/// Of a file's SHA-256, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Its first digits, as many as torchvision publishes.
    Beginning(String),
    Whole(String),
}

impl Expected {
    pub fn is_met_by(&self, found: &str) -> bool {
        match self {
            Expected::Beginning(digits) => found.starts_with(digits.as_str()),
            Expected::Whole(digits) => found == digits,
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expected::Beginning(digits) => write!(f, "{digits}..."),
            Expected::Whole(digits) => f.write_str(digits),
        }
    }
}

/// Downloads `source` to its path. `retries` is how often in a row it may come no further.
pub fn download(client: &Client, source: &Source, retries: u32) -> Result<()> {
    let Source { address, expected, path, .. } = source;
    let mut part = Part::open(path)?;
    loop {
        fill(client, source, &mut part, retries)?;
        let found = part.hash();
        if expected.is_met_by(&found) {
            return part.finish();
        }
        // What is older than this process may be of another version, on a server that has no word for versions.
        if !part.is_inherited() {
            part.delete()?;
            bail!(
                "{address}: the file has the SHA-256 {found}, but {expected} is right. It was damaged or exchanged on \
                 its way, and has been deleted; try again, or another mirror"
            );
        }
        console::note("what lay here of an earlier download does not go with the rest: everything is downloaded anew");
        part.restart(None)?;
    }
}

/// Tries until all bytes are there, whatever they are. Who comes further than ever may try as often as it takes.
fn fill(client: &Client, source: &Source, part: &mut Part, retries: u32) -> Result<()> {
    let (retries, mut furthest) = (Retries::new(retries), part.length());
    let result = retries.run(|| {
        let result = advance(client, source, part);
        if part.length() > furthest {
            furthest = part.length();
            retries.reset();
        }
        result
    });
    result.map_err(|failure| match (part.length(), failure) {
        (0, failure) | (_, failure @ Failure::Permanent(_)) => failure.into_error(),
        (length, failure) => {
            let (length, address) = (ByteSize(length).display().si(), &source.address);
            let kept = format!("{length} of {address} are here, and the same command goes on from there");
            failure.into_error().context(kept)
        }
    })
}

/// One request, and what comes of it.
fn advance(client: &Client, source: &Source, part: &mut Part) -> Result<(), Failure> {
    let Source { address, token, .. } = source;
    let mut headers = Vec::new();
    if part.length() > 0 {
        headers.push(("range", format!("bytes={}-", part.length())));
        // A weak one does not vouch for bytes, and must not be sent (RFC 9110, 13.1.5).
        if let Some(version) = part.version().filter(|version| !version.starts_with("W/")) {
            headers.push(("if-range", version.to_owned()));
        }
    }
    let mut response = client.get(address, &headers, token.as_ref())?;
    let version = header(&response, "etag").map(str::to_owned);
    let total = match response.status().as_u16() {
        200 => {
            if part.length() > 0 {
                console::note("the server begins anew: it has another file by now, or does not send parts");
            }
            part.restart(version).map_err(Failure::Permanent)?;
            header(&response, "content-length").and_then(|length| length.parse().ok())
        }
        206 | 416 => {
            let range = content_range(&response);
            let is_other = version.is_some() && part.version().is_some() && version.as_deref() != part.version();
            match range {
                // Everything was there already.
                Some((None, total)) if total == part.length() && !is_other => return Ok(()),
                Some((Some(start), total)) if start == part.length() && !is_other => Some(total),
                // No part was asked for.
                _ if part.length() == 0 => return Err(refused(address, &response)),
                _ => {
                    console::note("the server has another file by now: everything is downloaded anew");
                    part.restart(None).map_err(Failure::Permanent)?;
                    return advance(client, source, part);
                }
            }
        }
        _ => return Err(refused(address, &response)),
    };
    if let Some(total) = total.filter(|total| *total > MAX_BYTES) {
        return Err(Failure::Permanent(anyhow!("{address} has {total} bytes; at most {MAX_BYTES} are downloaded")));
    }
    announce(address, total, part.length());
    let progress = Progress::of_bytes(total);
    progress.start_at(part.length());
    let (mut reader, mut buffer) = (response.body_mut().as_reader(), vec![0; 1 << 16]);
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(client.broken(address, error)),
        };
        if count == 0 {
            break;
        }
        part.append(&buffer[..count]).map_err(Failure::Permanent)?;
        progress.advance(count);
    }
    match total {
        Some(total) if total != part.length() => {
            let length = part.length();
            Err(Failure::transient(anyhow!("{address} ended at byte {length}, but {total} were announced")))
        }
        _ => Ok(()),
    }
}

fn announce(address: &Url, total: Option<u64>, done: u64) {
    let total = total.map_or("of unknown size".to_owned(), |total| ByteSize(total).display().si().to_string());
    match done {
        0 => console::status(format_args!("downloading {address}, {total}")),
        done => {
            let done = ByteSize(done).display().si();
            console::status(format_args!("downloading the rest of {address}, {total}, from {done} on"));
        }
    }
}

/// A status that brings no file.
pub fn refused(address: &Url, response: &Response<Body>) -> Failure {
    let status = response.status();
    let error = anyhow!("{address}: the server answers {status}");
    match status.as_u16() {
        408 | 425 | 429 | 500.. => Failure::Transient { error, retry_after: retry_after(response) },
        401 | 403 => Failure::Permanent(error.context("the server does not give this file to everybody")),
        404 | 410 => Failure::Permanent(error.context("there is no such file")),
        _ => Failure::Permanent(error),
    }
}

/// `Retry-After` in seconds. A date is ignored: it is not worth a parser.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    header(response, "retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

pub fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// The first byte, if there are any, and how many the whole file has: `bytes 100-199/200`, `bytes */200`.
fn content_range(response: &Response<Body>) -> Option<(Option<u64>, u64)> {
    let (range, total) = header(response, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let start = match range {
        "*" => None,
        _ => Some(range.split_once('-')?.0.parse().ok()?),
    };
    Some((start, total.parse().ok()?))
}

/// A small text, in memory; `None` if there is no such file.
pub fn text(client: &Client, address: &Url, token: Option<&Token>) -> Result<Option<String>, Failure> {
    /// timm's descriptions have a kilobyte, and with the names of many classes a few hundred.
    const MAX_TEXT: u64 = 8_000_000;
    let mut response = client.get(address, &[], token)?;
    match response.status().as_u16() {
        404 => Ok(None),
        200 => {
            let mut text = String::new();
            match response.body_mut().as_reader().take(MAX_TEXT).read_to_string(&mut text) {
                Ok(_) => Ok(Some(text)),
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    Err(Failure::Permanent(anyhow!("{address} is no text: {error}")))
                }
                Err(error) => Err(client.broken(address, error)),
            }
        }
        _ => Err(refused(address, &response)),
    }
}
