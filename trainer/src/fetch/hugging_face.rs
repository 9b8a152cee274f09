//! Weights on Hugging Face: a safetensors file of a repository, its hash, and the `config.json` next to it.
//!
//! The crate `hf-hub` was considered and rejected: neither 0.5 nor 1.0 compares a download with its hash (0.5 uses the
//! hash as a file name only), and 1.0 adds an asynchronous runtime, a second HTTP client and a storage protocol. Two
//! requests are all that is needed.

use super::client::{BearerToken, Client, RequestError, redirect_target};
use super::download::{ExpectedHash, RemoteFile, download_text, header, status_error};
use super::endpoints::{HUGGING_FACE_URL, env_var};
use super::fetcher::Fetcher;
use super::retry::retry;
use super::timm::TimmConfig;
use super::weights_name::{Repository, WeightsName};
use crate::console;
use anyhow::{Context, Result, anyhow};
use model::checkpoint::{Checkpoint, Metadata, write_atomically};
use serde::{Deserialize, Serialize};
use std::path::Path;
use ureq::http::Method;
use url::Url;

/// Environment variable with the access token. Hugging Face's own tools read it, too.
const TOKEN_VARIABLE: &str = "HF_TOKEN";

/// Commit that a revision referred to when the server was last asked, and the contents of that commit. It is cached, so
/// that fetching again needs no network.
#[derive(Debug, Serialize, Deserialize)]
struct ResolvedRevision {
    commit: String,
    /// SHA-256 of the weights, as hexadecimal digits.
    sha256: String,
    /// `config.json` of the commit, if it has one.
    config: Option<String>,
}

/// Downloads the file if necessary, and imports it with the labels and the preprocessing of its `config.json`.
///
/// # Errors
/// Returns an error if the file cannot be downloaded or verified, or if it is not a supported ResNet.
pub fn checkpoint(repository: &Repository, fetcher: &Fetcher) -> Result<Checkpoint> {
    let token =
        env_var(TOKEN_VARIABLE).map(|value| BearerToken::new(value.trim(), fetcher.endpoints.hugging_face.url()));
    let token = token.transpose().context(TOKEN_VARIABLE)?;
    let path = fetcher.cache.download(&format!("{}.json", WeightsName::HuggingFace(repository.clone()).stem()));
    let resolved = match read_resolved(&path).filter(|_| !fetcher.update) {
        Some(resolved) => resolved,
        None => {
            let resolved = resolve_revision(repository, fetcher, token.as_ref())?;
            // Unsupported networks are rejected before their weights are downloaded.
            resolved.config(repository)?.architecture().with_context(|| repository.to_string())?;
            let json = serde_json::to_string_pretty(&resolved)?;
            write_atomically(&path, json.as_bytes()).with_context(|| path.display().to_string())?;
            resolved
        }
    };
    let Repository { owner, name, file, .. } = repository;
    let remote = RemoteFile {
        url: file_url(fetcher, repository, &resolved.commit, file),
        token,
        expected: ExpectedHash::Full(resolved.sha256.clone()),
        path: fetcher.cache.download(&format!("{}.safetensors", resolved.sha256)),
    };
    fetcher.ensure_downloaded(&remote)?;

    let checkpoint = Checkpoint::from_path(&remote.path)
        .with_context(|| format!("{repository}: not a ResNet with torchvision's or timm's tensor names"))?;
    let config = resolved.config(repository)?;
    let checkpoint = match config.architecture()? {
        Some(architecture) => checkpoint.with_architecture(architecture).with_context(|| repository.to_string())?,
        None => checkpoint,
    };
    if let Some(assumption) = checkpoint.assumption() {
        console::note(assumption);
    }
    let mut metadata = checkpoint.metadata().clone();
    // A checkpoint of this project has metadata already.
    if metadata == Metadata::new(metadata.architecture) {
        config.apply_to(&mut metadata).with_context(|| format!("{repository}: config.json"))?;
        let license = config.license().map(|license| format!(", {license}")).unwrap_or_default();
        metadata.provenance =
            Some(format!("{HUGGING_FACE_URL}/{owner}/{name}, {file} at {}{license}", resolved.commit));
    }
    Ok(checkpoint.with_metadata(metadata)?)
}

impl ResolvedRevision {
    fn config(&self, repository: &Repository) -> Result<TimmConfig> {
        let config = self.config.as_deref().map(TimmConfig::parse).transpose();
        Ok(config.with_context(|| format!("{repository}: config.json"))?.unwrap_or_default())
    }
}

/// Reads the cached answer of the server. An unreadable file counts as absent.
fn read_resolved(path: &Path) -> Option<ResolvedRevision> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn file_url(fetcher: &Fetcher, Repository { owner, name, .. }: &Repository, revision: &str, file: &str) -> Url {
    fetcher.endpoints.hugging_face.join(&format!("{owner}/{name}/resolve/{revision}/{file}"))
}

/// Asks the server which commit the revision refers to.
fn resolve_revision(
    repository: &Repository,
    fetcher: &Fetcher,
    token: Option<&BearerToken>,
) -> Result<ResolvedRevision> {
    let Repository { revision, file, .. } = repository;
    let url = file_url(fetcher, repository, revision, file);
    let client = &fetcher.client;
    let (commit, sha256) = retry(fetcher.retries, || commit_and_hash(client, repository, &url, token))?;
    let url = file_url(fetcher, repository, &commit, "config.json");
    let config = retry(fetcher.retries, || download_text(client, &url, token))?;
    if config.is_none() {
        console::note("the repository has no config.json; assuming torchvision's preprocessing");
    }
    Ok(ResolvedRevision { commit, sha256, config })
}

/// Returns the commit and the SHA-256. Hugging Face sends them in the response that redirects to the storage of large
/// files.
fn commit_and_hash(
    client: &Client,
    repository: &Repository,
    url: &Url,
    token: Option<&BearerToken>,
) -> Result<(String, String), RequestError> {
    let mut url = url.clone();
    // A renamed repository first redirects to its new name.
    for _ in 0..4 {
        let response = client.send(Method::HEAD, &url, &[], token)?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let error = status_error(&url, &response);
            return Err(explain_refusal(repository, token.is_some(), header(&response, "x-error-code"), error));
        }
        let hash = header(&response, "x-linked-etag").map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        if let Some(hash) = hash {
            let sha256 = hash.to_ascii_lowercase();
            let commit = header(&response, "x-repo-commit").unwrap_or(&repository.revision).to_owned();
            let is_hexadecimal = |text: &str| text.chars().all(|digit| digit.is_ascii_hexdigit());
            if sha256.len() != 64 || !is_hexadecimal(&sha256) {
                return Err(RequestError::Permanent(anyhow!("{url}: x-linked-etag is {hash:?}, expected a SHA-256")));
            }
            if commit != repository.revision && !is_hexadecimal(&commit) {
                return Err(RequestError::Permanent(anyhow!("{url}: x-repo-commit is {commit:?}, expected a commit")));
            }
            return Ok((commit, sha256));
        }
        match redirect_target(&url, &response)?.filter(|target| target.origin() == url.origin()) {
            Some(target) => url = target,
            None => break,
        }
    }
    Err(RequestError::Permanent(anyhow!(
        "{url}: server did not send the file's SHA-256 (x-linked-etag), which is required to verify the download"
    )))
}

/// Adds an explanation of Hugging Face's error code, and advice, to an error.
fn explain_refusal(repository: &Repository, has_token: bool, code: Option<&str>, error: RequestError) -> RequestError {
    let Repository { owner, name, revision, file } = repository;
    let advice = match (code, has_token) {
        (Some("EntryNotFound"), _) => {
            format!(
                "{owner}/{name} has no {file} at {revision}; to fetch another file, use \
                 hf://{owner}/{name}/FILE.safetensors"
            )
        }
        (Some("RevisionNotFound"), _) => format!("{owner}/{name} has no revision {revision}"),
        (Some("GatedRepo"), true) => {
            format!(
                "{owner}/{name} is gated; request access for the token in {TOKEN_VARIABLE} on the repository's page"
            )
        }
        (Some("RepoNotFound"), true) => {
            format!("{owner}/{name} does not exist, or the token in {TOKEN_VARIABLE} has no access to it")
        }
        (Some("GatedRepo" | "RepoNotFound"), false) => {
            format!("{owner}/{name} does not exist, or is private or gated; set {TOKEN_VARIABLE} to an access token")
        }
        _ => return error,
    };
    RequestError::Permanent(error.into_error().context(advice))
}
