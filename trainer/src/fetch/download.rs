//! Downloads of single files. They are resumed where they were interrupted, and moved to their path only if the hash is
//! correct.

use super::client::{BearerToken, Client, RequestError};
use super::partial_download::{MAX_BYTES, PartialDownload};
use super::retry::Retries;
use crate::console;
use crate::progress::Progress;
use anyhow::{Result, anyhow, bail};
use bytesize::ByteSize;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::time::Duration;
use ureq::Body;
use ureq::http::Response;
use url::Url;

/// Longest `Retry-After` that is respected. If a server asks for a longer delay, the request fails.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A file to download.
pub struct RemoteFile {
    pub url: Url,
    pub token: Option<BearerToken>,
    pub expected: ExpectedHash,
    /// Path to download to.
    pub path: PathBuf,
}

/// The expected SHA-256 of a file, as lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedHash {
    /// Its first digits, which torchvision publishes.
    Prefix(String),
    Full(String),
}

impl ExpectedHash {
    /// Returns whether a SHA-256, in lower-case hexadecimal digits, is the expected one.
    pub fn matches(&self, actual: &str) -> bool {
        match self {
            ExpectedHash::Prefix(digits) => actual.starts_with(digits.as_str()),
            ExpectedHash::Full(digits) => actual == digits,
        }
    }
}

impl fmt::Display for ExpectedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExpectedHash::Prefix(digits) => write!(f, "{digits}..."),
            ExpectedHash::Full(digits) => f.write_str(digits),
        }
    }
}

/// Downloads a file to its path, with at most `max_retries` retries in a row without progress.
///
/// # Errors
/// Returns an error if the file cannot be downloaded or written, or if its hash is wrong.
pub fn download(client: &Client, remote: &RemoteFile, max_retries: u32) -> Result<()> {
    let RemoteFile { url, expected, path, .. } = remote;
    let mut partial = PartialDownload::open(path)?;
    loop {
        download_all_bytes(client, remote, &mut partial, max_retries)?;
        let actual = partial.hash();
        if expected.matches(&actual) {
            return partial.finish();
        }
        // Bytes of an earlier process may belong to another version of the file, if the server does not send ETags.
        if !partial.is_resumed() {
            partial.delete()?;
            bail!(
                "{url}: SHA-256 of the download is {actual}, expected {expected}; the file was damaged or replaced on \
                 the way and has been deleted. Try again, or use another mirror"
            );
        }
        console::note(format_args!("partial download of {url} is stale; restarting it"));
        partial.restart(None)?;
    }
}

/// Requests the file until all bytes have arrived, whatever their hash. New bytes restore the full number of retries.
fn download_all_bytes(
    client: &Client,
    remote: &RemoteFile,
    partial: &mut PartialDownload,
    max_retries: u32,
) -> Result<()> {
    let (retries, mut furthest) = (Retries::new(max_retries), partial.length());
    let result = retries.run(|| {
        let result = request_remaining(client, remote, partial);
        if partial.length() > furthest {
            furthest = partial.length();
            retries.reset();
        }
        result
    });
    result.map_err(|failure| match (partial.length(), failure) {
        (0, failure) | (_, failure @ RequestError::Permanent(_)) => failure.into_error(),
        (length, failure) => {
            let (length, url) = (ByteSize(length).display().si(), &remote.url);
            let advice = format!("downloaded {length} of {url}; run the same command again to resume");
            failure.into_error().context(advice)
        }
    })
}

/// Sends one request for the bytes that are missing, and appends its response.
fn request_remaining(client: &Client, remote: &RemoteFile, partial: &mut PartialDownload) -> Result<(), RequestError> {
    let RemoteFile { url, token, .. } = remote;
    let mut headers = Vec::new();
    if partial.length() > 0 {
        headers.push(("range", format!("bytes={}-", partial.length())));
        // A weak ETag does not guarantee equal bytes and must not be sent in If-Range (RFC 9110, section 13.1.5).
        if let Some(etag) = partial.etag().filter(|etag| !etag.starts_with("W/")) {
            headers.push(("if-range", etag.to_owned()));
        }
    }
    let mut response = client.get(url, &headers, token.as_ref())?;
    let etag = header(&response, "etag").map(str::to_owned);
    let total = match response.status().as_u16() {
        200 => {
            if partial.length() > 0 {
                console::note(
                    "restarting the download: the file has changed, or the server does not support byte ranges",
                );
            }
            partial.restart(etag).map_err(RequestError::Permanent)?;
            header(&response, "content-length").and_then(|length| length.parse().ok())
        }
        206 | 416 => {
            let has_changed = etag.is_some() && partial.etag().is_some() && etag.as_deref() != partial.etag();
            match content_range(&response) {
                // The partial download is complete.
                Some((None, total)) if total == partial.length() && !has_changed => return Ok(()),
                Some((Some(start), total)) if start == partial.length() && !has_changed => Some(total),
                // The request had no range.
                _ if partial.length() == 0 => return Err(status_error(url, &response)),
                _ => {
                    console::note("restarting the download: the file has changed on the server");
                    partial.restart(None).map_err(RequestError::Permanent)?;
                    return request_remaining(client, remote, partial);
                }
            }
        }
        _ => return Err(status_error(url, &response)),
    };
    if let Some(total) = total.filter(|total| *total > MAX_BYTES) {
        return Err(RequestError::Permanent(anyhow!(
            "{url}: file has {total} bytes, more than the limit of {MAX_BYTES} bytes"
        )));
    }
    announce(url, total, partial.length());
    let progress = Progress::of_bytes(total);
    progress.start_at(partial.length());
    let (mut reader, mut buffer) = (response.body_mut().as_reader(), vec![0; 1 << 16]);
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(client.body_error(url, error)),
        };
        if count == 0 {
            break;
        }
        partial.append(&buffer[..count]).map_err(RequestError::Permanent)?;
        progress.advance(count);
    }
    match total {
        Some(total) if total != partial.length() => {
            let length = partial.length();
            Err(RequestError::transient(anyhow!("{url}: response ended after {length} of {total} bytes")))
        }
        _ => Ok(()),
    }
}

fn announce(url: &Url, total: Option<u64>, done: u64) {
    let total = total.map_or("unknown size".to_owned(), |total| ByteSize(total).display().si().to_string());
    match done {
        0 => console::status(format_args!("downloading {url} ({total})")),
        done => console::status(format_args!("resuming {url} at {} ({total})", ByteSize(done).display().si())),
    }
}

/// Returns the error of a response whose status is not a success.
pub fn status_error(url: &Url, response: &Response<Body>) -> RequestError {
    let status = response.status();
    let error = anyhow!("{url}: server responded with {status}");
    match status.as_u16() {
        408 | 425 | 429 | 500.. => match retry_after(response) {
            Some(delay) if delay > MAX_RETRY_AFTER => {
                RequestError::Permanent(anyhow!("{error:#}; it asks to retry in {} s", delay.as_secs()))
            }
            retry_after => RequestError::Transient { error, retry_after },
        },
        401 | 403 => RequestError::Permanent(error.context("access denied")),
        404 | 410 => RequestError::Permanent(error.context("file not found")),
        _ => RequestError::Permanent(error),
    }
}

/// Returns the delay of the header `Retry-After`, if it is given in seconds; dates are ignored.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    header(response, "retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

/// Returns the value of a header, if it is present and consists of printable ASCII.
pub fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Parses the header `Content-Range` (`bytes 100-199/200`, `bytes */200`) into the first byte, if any, and the file's
/// size.
fn content_range(response: &Response<Body>) -> Option<(Option<u64>, u64)> {
    let (range, total) = header(response, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let start = match range {
        "*" => None,
        _ => Some(range.split_once('-')?.0.parse().ok()?),
    };
    Some((start, total.parse().ok()?))
}

/// Downloads a small text file into memory. Returns `None` if the file does not exist.
///
/// # Errors
/// Returns an error if the request fails, or if the file is not UTF-8.
pub fn download_text(client: &Client, url: &Url, token: Option<&BearerToken>) -> Result<Option<String>, RequestError> {
    /// timm's configurations have about 1 kB, and a few hundred kB if they name many classes.
    const MAX_TEXT_BYTES: u64 = 8_000_000;
    let mut response = client.get(url, &[], token)?;
    match response.status().as_u16() {
        404 => Ok(None),
        200 => {
            let mut text = String::new();
            match response.body_mut().as_reader().take(MAX_TEXT_BYTES).read_to_string(&mut text) {
                Ok(_) => Ok(Some(text)),
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    Err(RequestError::Permanent(anyhow!("{url}: response is not text: {error}")))
                }
                Err(error) => Err(client.body_error(url, error)),
            }
        }
        _ => Err(status_error(url, &response)),
    }
}
